"""Martingales are martingales, rules see no future, tests find what there is to find."""

import numpy as np
import pytest
from scipy import stats

from hftlib.evaluation import plain_rules
from hftlib.evaluation.controls import (
    VOLATILITY,
    draw_martingale,
    negative_control,
    positive_control,
    reject_holm,
)
from hftlib.evaluation.samples import TooFewError
from hftlib.evaluation.superiority import correct_p_values

N_BARS = 300


def rng(seed=0):
    return np.random.default_rng(seed)


def column(name):
    return plain_rules.NAMES.index(name)


@pytest.mark.parametrize("law", ["gbm", "garch"])
def test_prices_have_no_drift_and_the_volatility_that_is_said(law):
    returns = draw_martingale(law, 500, 2000, rng())
    error = returns.std() / returns.size**0.5
    assert abs(returns.mean()) < 4 * error
    assert returns.std() == pytest.approx(VOLATILITY, rel=0.05)
    assert (returns > -1).all()
    # nor do past returns say anything: one correlation of a million pairs
    assert abs(np.corrcoef(returns[1:].ravel(), returns[:-1].ravel())[0, 1]) < 0.01


def test_garch_returns_are_fat_tailed_and_clustered_those_of_gbm_are_not():
    fat, plain = (draw_martingale(law, 500, 500, rng()) for law in ("garch", "gbm"))
    assert stats.kurtosis(fat, axis=None) > 3 > 0.1 > abs(stats.kurtosis(plain, axis=None))

    def cluster(returns):
        size = np.abs(returns)
        return np.corrcoef(size[1:].ravel(), size[:-1].ravel())[0, 1]

    assert cluster(fat) > 0.15 > 0.02 > abs(cluster(plain))


def test_rules_on_a_steady_rise_by_hand():
    moves = np.full((N_BARS, 1), 0.01)
    positions = plain_rules.decide_positions(moves, rng())[plain_rules.WARM_UP :, 0]
    for family, side in (("crossing", 1), ("momentum", 1), ("breakout", 1), ("reversal", -1)):
        rows = [k for k, name in enumerate(plain_rules.NAMES) if name.startswith(f"{family} ")]
        assert (positions[:, rows] == side).all()
    assert positions[:, column("volatility 10")] == pytest.approx(1.0)


def test_breakout_is_that_of_a_walk_by_the_definition():
    moves = draw_martingale("gbm", N_BARS, 3, rng())
    close = np.cumprod(1 + moves, axis=0)
    held = np.zeros(3)
    expected = []
    for t in range(N_BARS):
        if t >= 20:
            held = np.where(close[t] > close[t - 20 : t].max(axis=0), 1, held)
            held = np.where(close[t] < close[t - 20 : t].min(axis=0), -1, held)
        expected.append(held)
    found = plain_rules.decide_positions(moves, rng())[:, :, column("breakout 20")]
    np.testing.assert_array_equal(found, expected)


def test_the_future_changes_no_position():
    moves = draw_martingale("garch", N_BARS, 4, rng())
    other = moves.copy()
    other[200:] = rng(1).permuted(moves[200:], axis=0) * 0.5
    rows = [k for k, name in enumerate(plain_rules.NAMES) if not name.startswith("random")]
    first, second = (plain_rules.decide_positions(m, rng())[:200, :, rows] for m in (moves, other))
    np.testing.assert_array_equal(first, second)


def test_a_position_earns_the_bar_after_it():
    moves = draw_martingale("gbm", N_BARS, 2, rng())
    positions, earned = (
        f(moves, rng()) for f in (plain_rules.decide_positions, plain_rules.play_rules)
    )
    t = 200
    np.testing.assert_allclose(
        earned[t - plain_rules.WARM_UP], positions[t - 1] * moves[t][:, None], atol=1e-15
    )
    assert len(earned) == N_BARS - plain_rules.WARM_UP


def test_random_rules_turn_over_as_much_as_their_models():
    moves = draw_martingale("gbm", 2000, 40, rng())
    turnover = np.abs(np.diff(plain_rules.decide_positions(moves, rng()), axis=0)).mean(axis=(0, 1))
    for family, settings in plain_rules.FAMILIES[:4]:
        model = turnover[column(f"{family} {settings[0]}")]
        assert turnover[column(f"random {family}")] == pytest.approx(model, rel=0.1)


def test_corrections_row_by_row_are_those_of_the_library():
    p = rng().random((8, 8)) ** 4
    found = reject_holm(p, 0.05)
    assert 0 < found.mean() < 1
    np.testing.assert_array_equal(found, [correct_p_values(row).is_rejected for row in p])


@pytest.mark.parametrize("law", ["gbm", "garch"])
def test_no_more_paths_than_the_level_yield_a_discovery(law):
    found = negative_control(law=law, n_paths=400, n_bars=400, seed=11)
    assert found.error == pytest.approx((0.05 * 0.95 / 400) ** 0.5)
    assert found.share_significant <= 0.05 + 3 * found.error
    assert found.share_dsr <= 0.05
    # the single test is right, and without counting the trials half the paths would fool
    assert found.share_uncorrected == pytest.approx(0.05, abs=0.015)
    assert found.share_fooled > 0.35
    assert found.pbo == pytest.approx(0.5, abs=0.06)
    assert found.share_strategies <= found.share_significant
    entries = found.to_dict()
    assert {"paths", "share_significant", "share_dsr"} <= set(entries)
    assert entries["paths"] == 400 and entries["rules"] == 24


def test_a_control_that_could_not_fail_would_be_none():
    # were the rules to earn the bar that they have seen, nearly all paths would yield discoveries
    moves = draw_martingale("gbm", 400, 50, rng())
    seen = plain_rules.decide_positions(moves, rng())[plain_rules.WARM_UP :]
    earned = seen * moves[plain_rules.WARM_UP :, :, None]
    t = earned.mean(axis=0) / earned.std(axis=0) * len(earned) ** 0.5
    assert reject_holm(stats.norm.sf(t), 0.05).any(axis=1).mean() > 0.95


@pytest.mark.parametrize(("coefficient", "n_trials"), [(0.0, 1), (0.08, 1), (0.12, 20)])
def test_power_is_that_of_the_theory(coefficient, n_trials):
    found = positive_control(coefficient, n_paths=1500, n_bars=800, seed=1, n_trials=n_trials)
    # .02 is what the normal approximation is worth with 800 bars
    assert found.power == pytest.approx(found.theory, abs=3 * found.error + 0.02)
    assert found.sharpe == pytest.approx(coefficient / (1 + coefficient**2) ** 0.5)
    assert {"power", "theory"} <= set(found.to_dict())


def test_theory_has_the_size_at_no_edge_and_rises_with_it():
    sizes = {"n_paths": 1, "n_bars": 500, "seed": 0}
    theory = [positive_control(c, **sizes).theory for c in (0.0, 0.05, 0.1, 0.3)]
    assert theory[0] == pytest.approx(0.05)
    assert theory == sorted(theory) and theory[-1] > 0.999
    assert positive_control(0.1, n_trials=20, **sizes).theory < theory[2]


def test_same_seed_same_control():
    sizes = {"n_paths": 60, "n_bars": 150}
    first, again, other = (negative_control(law="gbm", seed=s, **sizes) for s in (1, 1, 2))
    assert first == again != other


def test_controls_that_are_too_small_are_refused():
    with pytest.raises(TooFewError, match="0 paths of 500 bars"):
        negative_control(law="gbm", n_paths=0, n_bars=500, seed=0)
    with pytest.raises(TooFewError, match="5 paths of 99 bars"):
        positive_control(0.1, n_paths=5, n_bars=99, seed=0)
    with pytest.raises(TooFewError, match="121 bars"):
        plain_rules.play_rules(np.zeros((plain_rules.WARM_UP, 1)), rng())
    with pytest.raises(ValueError, match="'heston'"):
        draw_martingale("heston", 10, 1, rng())
    with pytest.raises(ValueError, match=r"information_coefficient=1\.5"):
        positive_control(1.5, n_paths=5, n_bars=500, seed=0)
