"""Measures over training seeds: cases by hand, a slow walk by the definitions, the bootstrap."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from hftlib.evaluation.samples import TooFewError, UndefinedError
from hftlib.evaluation.seeds import (
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
    seed_interval,
)

WHOLE = st.integers(-3, 3)
SCORES = arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 4)), elements=WHOLE)
QUICK = {"n_bootstrap": 2000, "seed": 0}


def test_interquartile_mean_by_hand():
    # 8 scores: 2 dropped at each end, (3 + 4 + 5 + 6) / 4 remain
    assert interquartile_mean([[1, 8], [2, 7], [3, 6], [4, 5]]) == 4.5
    assert interquartile_mean([[0.0], [1.0], [2.0], [3.0], [100.0]]) == 2.0
    assert interquartile_mean([[5.0]]) == 5.0


def test_one_lucky_seed_moves_the_mean_and_not_the_interquartile_mean():
    scores = np.arange(8.0).reshape(8, 1)
    lucky = np.where(scores == 7, 700.0, scores)
    assert interquartile_mean(lucky) == interquartile_mean(scores)


def test_performance_profile_by_hand():
    scores = [[0.0, 1.0], [0.5, 1.0]]
    np.testing.assert_array_equal(performance_profile(scores, [-1, 0, 0.5, 1]), [1, 0.75, 0.5, 0])


def test_probability_of_improvement_by_hand():
    # task 1: 3 of 4 pairs won; task 2: all tie
    assert probability_of_improvement([[1, 0], [3, 0]], [[0, 0], [2, 0]]) == (0.75 + 0.5) / 2


@given(SCORES, st.data())
def test_measures_are_those_of_a_slow_walk_by_the_definitions(scores, data):
    n, m = scores.shape
    shape = (data.draw(st.integers(1, 5)), m)
    other = data.draw(arrays(np.float64, shape, elements=WHOLE))
    pooled = sorted(float(scores[i, j]) for i in range(n) for j in range(m))
    cut = int(0.25 * len(pooled))
    middle = pooled[cut : len(pooled) - cut]
    assert interquartile_mean(scores) == pytest.approx(sum(middle) / len(middle))
    assert interquartile_mean(scores) == pytest.approx(stats.trim_mean(scores, 0.25, axis=None))
    for level in (-1.0, 0.5):
        shares = [sum(scores[i, j] > level for i in range(n)) / n for j in range(m)]
        assert performance_profile(scores, [level])[0] == pytest.approx(sum(shares) / m)
    wins = [
        stats.mannwhitneyu(scores[:, j], other[:, j]).statistic / (n * len(other)) for j in range(m)
    ]
    assert probability_of_improvement(scores, other) == pytest.approx(sum(wins) / m)
    swapped = probability_of_improvement(other, scores)
    assert probability_of_improvement(scores, other) + swapped == pytest.approx(1.0)


@given(SCORES)
def test_area_under_the_profile_is_the_mean(scores):
    # scores are whole numbers from -3 to 3, so the profile is a staircase
    steps = performance_profile(scores, np.arange(-3.5, 3.0) + 0.5 - 1e-9)
    assert -4 + steps.sum() == pytest.approx(scores.mean() - 0.0)


def test_stacked_samples_have_a_value_each():
    stacked = np.random.default_rng(0).normal(size=(7, 5, 3))
    each = [interquartile_mean(part) for part in stacked]
    np.testing.assert_allclose(interquartile_mean(stacked), each)
    levels = [0.0, 1.0]
    each = [performance_profile(part, levels) for part in stacked]
    np.testing.assert_allclose(performance_profile(stacked, levels), each)


def test_runs_are_drawn_within_their_task():
    # tasks of very different levels: a draw across tasks would move the mean by some 40
    scores = np.array([0.0, 100.0]) + np.array([[0.0], [1.0], [2.0]])

    def mean(values):
        return np.asarray(values).mean(axis=(-2, -1))

    found = seed_interval(mean, scores, **QUICK)
    assert 50 <= found.low < found.value < found.high <= 52
    # the mean of 2 task means of 3 draws of 0, 1, 2: variance 2/3 / 3 / 2
    expected = 2 * 1.96 * (2 / 3 / 3 / 2) ** 0.5
    assert found.high - found.low == pytest.approx(expected, rel=0.15)


def test_interval_of_a_profile_and_of_an_improvement():
    rng = np.random.default_rng(1)
    first, second = rng.normal(2, 1, (10, 4)), rng.normal(0, 1, (10, 4))
    found = seed_interval(lambda x: performance_profile(x, [0.0, 2.0, 9.0]), first, **QUICK)
    assert [f.low <= f.value <= f.high for f in found] == [True] * 3
    assert found[2].high == 0
    better = seed_interval(probability_of_improvement, first, second, **QUICK)
    assert better.low > 0.5 and better.high <= 1
    assert seed_interval(probability_of_improvement, first, second, **QUICK) == better


def test_unfit_scores_are_refused_by_name():
    with pytest.raises(TooFewError, match="1 run; train at least 2"):
        seed_interval(interquartile_mean, [[1.0, 2.0]], **QUICK)
    with pytest.raises(TooFewError, match="expected a run and a task"):
        interquartile_mean(np.empty((0, 3)))
    with pytest.raises(UndefinedError, match=r"\(1, 0\) .*is nan"):
        interquartile_mean([[1.0], [np.nan]])
    with pytest.raises(ValueError, match="one task is a column"):
        interquartile_mean([1.0, 2.0])
    with pytest.raises(ValueError, match="2 tasks and the second 1"):
        probability_of_improvement([[1.0, 2.0]], [[1.0]])
