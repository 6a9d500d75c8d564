"""CSCV against a brute-force walk through all splits, on noise and on a dominant strategy."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from hftlib.evaluation.overfitting import cross_validate
from hftlib.evaluation.samples import ConstantError, TooFewError, UndefinedError


def noise(n_bars, n_strategies, seed=0):
    return np.random.default_rng(seed).normal(0, 0.01, (n_bars, n_strategies))


def walk_splits(returns, n_blocks):
    """Logit, and ratios of the chosen in both halves, split by split, by the definitions."""
    blocks = np.split(returns, n_blocks)
    rows = []
    for inside in combinations(range(n_blocks), n_blocks // 2):
        outside = [k for k in range(n_blocks) if k not in inside]
        first, second = (np.concatenate([blocks[k] for k in part]) for part in (inside, outside))
        ratio, judged = (part.mean(axis=0) / part.std(axis=0, ddof=1) for part in (first, second))
        best = int(np.argmax(ratio))
        share = stats.rankdata(judged)[best] / (returns.shape[1] + 1)
        rows.append((np.log(share / (1 - share)), ratio[best], judged[best], best))
    return np.array(rows).T


@pytest.mark.parametrize(("n_blocks", "n_strategies"), [(4, 2), (8, 7), (10, 12)])
def test_every_split_is_that_of_a_walk_by_the_definitions(n_blocks, n_strategies):
    returns = noise(40 * n_blocks, n_strategies, seed=n_blocks) + 0.003
    logits, inside, outside, chosen = walk_splits(returns, n_blocks)
    found = cross_validate(returns, n_blocks)
    np.testing.assert_allclose(found.logits, logits, atol=1e-12)
    np.testing.assert_allclose(found.in_sample, inside, atol=1e-12)
    np.testing.assert_allclose(found.out_of_sample, outside, atol=1e-12)
    np.testing.assert_array_equal(found.chosen, chosen)
    assert found.probability == np.mean(logits <= 0)
    assert found.probability_of_loss == np.mean(outside < 0)
    assert found.slope == pytest.approx(np.polyfit(inside, outside, 1)[0])


def test_sixteen_blocks_have_12870_splits():
    found = cross_validate(noise(330, 5))
    assert found.to_dict()["splits"] == 12_870
    assert found.n_left_out == 330 - 16 * 20


def test_the_choice_among_worthless_strategies_is_as_often_wrong_as_right():
    shares = [cross_validate(noise(160, 20, seed), 8).probability for seed in range(300)]
    # the mean of 300 is known to .012
    assert np.mean(shares) == pytest.approx(0.5, abs=0.04)


def test_a_dominant_strategy_is_found_whatever_the_split():
    returns = noise(800, 20)
    returns[:, 7] += 0.01
    found = cross_validate(returns)
    assert found.probability == 0 and found.probability_of_loss == 0
    assert (found.chosen == 7).all()


def test_a_strategy_that_is_best_in_one_half_and_worst_in_the_other_is_overfitted():
    returns = noise(800, 2, seed=1) * 0.01
    trend = np.where(np.arange(800) < 400, 0.01, -0.01)
    returns += np.stack([trend, -trend], axis=1)
    found = cross_validate(returns, 2)
    assert found.probability == 1 and found.probability_of_loss == 1


def test_order_and_leverage_of_strategies_do_not_matter():
    returns = noise(320, 6, seed=2)
    plain = cross_validate(returns, 8)
    moved = cross_validate(returns[:, ::-1] * np.arange(1.0, 7.0), 8)
    np.testing.assert_allclose(moved.logits, plain.logits, atol=1e-12)
    np.testing.assert_array_equal(5 - moved.chosen, plain.chosen)


def test_a_strategy_that_rests_for_half_the_span_has_ratio_0_there():
    returns = noise(400, 3, seed=3) - 0.02
    returns[:200, 1] = 0.0
    returns[200:, 1] = np.abs(returns[200:, 1])
    found = cross_validate(returns, 2)
    # chosen in the first half for its 0, where the others lose
    assert found.chosen[0] == 1 and found.in_sample[0] == 0
    assert found.out_of_sample[0] > 0


def test_unfit_returns_are_refused_by_name():
    good = noise(200, 3)
    with pytest.raises(TooFewError, match="31 observations; it needs at least 32"):
        cross_validate(good[:31])
    with pytest.raises(TooFewError, match="one strategy"):
        cross_validate(good[:, :1])
    with pytest.raises(UndefinedError, match="'b' at bar 9 is inf"):
        cross_validate(np.where(good == good[9, 1], np.inf, good), names=["a", "b", "c"])
    with pytest.raises(ConstantError, match="'cash' do not vary"):
        cross_validate(good * [1, 1, 0], names=["a", "b", "cash"])
    for n_blocks in (7, 0, 22):
        with pytest.raises(ValueError, match=f"n_blocks is {n_blocks}"):
            cross_validate(good, n_blocks)
