"""The overfitting gap: closed forms, coverage of its interval, errors."""

import numpy as np
import pytest

from hftlib.evaluation.gap import MEASURES, measure_gap
from hftlib.portfolio import measures

RNG = np.random.default_rng(0)
TRAIN, TEST = RNG.normal(1e-3, 0.01, 500), RNG.normal(0, 0.01, 300)


def test_each_span_has_its_own_measures():
    table = measure_gap({"mine": TRAIN}, {"mine": TEST}, 252, n_bootstrap=50)
    assert list(table.loc["mine"].index) == list(MEASURES)
    row = table.loc[("mine", "sharpe")]
    assert row["train"] == pytest.approx(measures.sharpe(TRAIN, 252))
    assert row["test"] == pytest.approx(measures.sharpe(TEST, 252))
    assert row["gap"] == row["train"] - row["test"]
    assert row["low"] < row["gap"] < row["high"]


def test_swapping_the_spans_turns_the_sign():
    one = measure_gap({"a": TRAIN}, {"a": TEST}, 252, n_bootstrap=20)["gap"]
    two = measure_gap({"a": TEST}, {"a": TRAIN}, 252, n_bootstrap=20)["gap"]
    np.testing.assert_array_equal(one, -two)


def test_intervals_cover_a_gap_of_zero_as_often_as_they_say():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(60):
        train, test = rng.normal(5e-4, 0.01, (2, 250))
        row = measure_gap({"a": train}, {"a": test}, 252, n_bootstrap=200, confidence=0.9)
        low, high = row.loc[("a", "sharpe"), ["low", "high"]]
        covered += low <= 0 <= high
    # 90 % nominal, 60 draws: standard error .04
    assert covered / 60 >= 0.78


def test_a_seed_gives_one_interval_whatever_the_other_strategies():
    train, test = {"a": TRAIN, "b": TEST}, {"a": TEST, "b": TRAIN}
    both = measure_gap(train, test, 252, n_bootstrap=20, seed=3)
    alone = measure_gap({"b": TEST}, {"b": TRAIN}, 252, n_bootstrap=20, seed=3)
    assert both.loc[["b"]].equals(alone)
    other = measure_gap({"b": TEST}, {"b": TRAIN}, 252, n_bootstrap=20, seed=4)
    assert not alone.equals(other)


def test_an_idle_strategy_has_no_ratio():
    table = measure_gap({"idle": np.zeros(50)}, {"idle": np.zeros(40)}, 252, n_bootstrap=10)
    assert table.loc[("idle", "sharpe")].isna().all()
    assert table.loc[("idle", "annual_return"), "gap"] == 0.0


def test_other_strategies_and_short_spans_are_refused():
    with pytest.raises(ValueError, match="train has a, test has b; give both the same"):
        measure_gap({"a": TRAIN}, {"b": TEST}, 252)
    with pytest.raises(ValueError, match=r"test of a has shape \(2,\)"):
        measure_gap({"a": TRAIN}, {"a": TEST[:2]}, 252)
