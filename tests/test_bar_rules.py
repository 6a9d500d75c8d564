"""Rules on bars: known answers, weights that know the past alone."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from ta.momentum import RSIIndicator

from hftlib.agents import bar_rules
from hftlib.agents.bar_rules import (
    break_out,
    change_only,
    cross_averages,
    follow_momentum,
    hold_from_start,
    relative_strength,
    revert_rsi,
    target_volatility,
)

RULES = {
    "cross_averages": partial(cross_averages, fast_bars=3, slow_bars=10),
    "follow_momentum": partial(follow_momentum, lookback_bars=7),
    "break_out": partial(break_out, window_bars=8),
    "revert_rsi": partial(revert_rsi, window_bars=5),
    "target_volatility": partial(
        target_volatility, window_bars=10, volatility=0.1, periods_per_year=252
    ),
    "hold_from_start": hold_from_start,
}
SHORTING = ("cross_averages", "follow_momentum", "break_out", "revert_rsi")


def make_close(n_bars=120, n_assets=2, seed=0):
    rng = np.random.default_rng(seed)
    return 50 * np.exp(np.cumsum(rng.normal(0, 0.02, (n_bars, n_assets)), axis=0))


def column(*values):
    return np.array(values, dtype=float)[:, None]


# Known answers


def test_averages_cross_where_the_short_one_passes_the_long_one():
    close = column(3, 3, 4, 5, 2, 1, 1)
    # two-bar less three-bar means from row 2: 1/6, 1/2, -1/6, -7/6, -1/3
    assert cross_averages(close, 2, 3)[:, 0].tolist() == [0, 0, 1, 1, 0, 0, 0]
    shorting = cross_averages(close, 2, 3, allow_short=True)
    assert shorting[:, 0].tolist() == [0, 0, 1, 1, -1, -1, -1]


def test_momentum_is_the_sign_of_the_change():
    close = column(3, 4, 5, 4, 4, 4)
    weights = follow_momentum(close, 2, allow_short=True)
    assert weights[:, 0].tolist() == [0, 0, 1, 0, -1, 0]


def test_a_breakout_is_kept_until_the_other_side_breaks():
    close = column(5, 5, 5, 6, 6, 5.5, 5, 5.2, 7)
    assert break_out(close, 3)[:, 0].tolist() == [0, 0, 0, 1, 1, 0, 0, 0, 1]
    shorting = break_out(close, 3, allow_short=True)[:, 0]
    assert shorting.tolist() == [0, 0, 0, 1, 1, -1, -1, -1, 1]


def test_the_index_of_wilder_is_that_of_ta():
    close = make_close()[:, 0]
    theirs = RSIIndicator(pd.Series(close), 14).rsi().to_numpy()
    ours = relative_strength(close, 14)
    assert np.isnan(ours[:14]).all()
    # `ta` starts its exponential mean at the first bar, Wilder's at the mean of 14: the
    # difference fades with 13/14 a bar
    assert np.abs(ours - theirs)[100:].max() < 0.1
    assert relative_strength(np.arange(1.0, 9.0), 3)[3:].tolist() == [100.0] * 5
    assert np.isnan(relative_strength(np.ones(9), 3)).all()


def test_mean_reversion_buys_low_and_leaves_at_the_middle():
    close = column(10, 11, 10, 9, 8, 7, 7.5, 9, 10, 11, 12)
    rsi = relative_strength(close[:, 0], 2)
    weights = revert_rsi(close, 2, lower=30, upper=70)[:, 0]
    held = 0.0
    for t, value in enumerate(rsi):
        held = 1.0 if value < 30 else 0.0 if value > 50 else held
        assert weights[t] == held
    assert set(weights) == {0.0, 1.0}
    assert revert_rsi(close, 2, allow_short=True)[-1, 0] == -1.0


def test_the_volatility_target_is_met_by_its_weight():
    rng = np.random.default_rng(0)
    close = 100 * np.cumprod(1 + rng.normal(0, 0.01, (400, 1)), axis=0)
    weights = target_volatility(close, 60, 0.08, 252)
    recent = np.diff(close[-61:, 0]) / close[-61:-1, 0]
    assert weights[-1, 0] * recent.std(ddof=1) * 252**0.5 == pytest.approx(0.08)
    assert (weights[:60] == 0).all()
    capped = target_volatility(close, 60, 0.5, 252, max_weight=1.5)
    assert capped.max() == 1.5
    assert target_volatility(np.ones((9, 1)), 3, 0.1, 252)[-1, 0] == 1.0  # nothing moved


def test_holding_asks_once():
    weights = hold_from_start(make_close())
    assert weights[0].tolist() == [0.5, 0.5]
    assert np.isnan(weights[1:]).all()


def test_unchanged_targets_are_left_alone():
    weights = column(0, 1, 1, 0, 0.5)
    np.testing.assert_array_equal(change_only(weights), column(0, 1, np.nan, 0, 0.5))


# Symmetry and causality


@pytest.mark.parametrize("name", RULES)
def test_assets_share_the_equity_and_do_not_see_each_other(name):
    close = make_close(n_assets=3)
    together = RULES[name](close)
    for k in range(3):
        alone = RULES[name](close[:, [k]])
        np.testing.assert_allclose(3 * together[:, [k]], alone, rtol=1e-15)  # a third, thrice
    assert np.nansum(np.abs(together)) > 0


@pytest.mark.parametrize("name", [name for name in RULES if name != "hold_from_start"])
@pytest.mark.parametrize("now", [5, 40, 90])
def test_scrambling_the_future_changes_no_weight_of_the_past(name, now):
    rng = np.random.default_rng(now)
    options = [{}, {"allow_short": True}] if name in SHORTING else [{}]
    for option in options:
        rule = partial(RULES[name], **option)
        close = make_close()
        before = rule(close)
        close[now + 1 :] = rng.permutation(close[now + 1 :]) * rng.uniform(0.2, 5)
        after = rule(close)
        np.testing.assert_array_equal(before[: now + 1], after[: now + 1])
        assert not np.array_equal(before, after)


@pytest.mark.parametrize("name", SHORTING)
def test_without_short_sales_the_weights_are_not_negative(name):
    close = make_close()
    assert RULES[name](close).min() == 0.0
    assert RULES[name](close, allow_short=True).min() == -0.5


# Errors


@pytest.mark.parametrize(
    ("rule", "arguments", "words"),
    [
        ("cross_averages", (10, 10), "fast_bars is 10, slow_bars 10"),
        ("follow_momentum", (0,), "lookback_bars is 0; expected at least 1"),
        ("break_out", (1,), "window_bars is 1; expected at least 2"),
        ("revert_rsi", (0,), "window_bars is 0"),
        ("target_volatility", (1, 0.1, 252), "window_bars is 1"),
        ("target_volatility", (10, 0.0, 252), "volatility is 0.0; expected above 0"),
    ],
)
def test_impossible_settings_are_named(rule, arguments, words):
    with pytest.raises(ValueError, match=words):
        getattr(bar_rules, rule)(make_close(), *arguments)


def test_thresholds_of_the_index_stand_on_both_sides_of_the_middle():
    with pytest.raises(ValueError, match="lower is 60, upper 70"):
        revert_rsi(make_close(), 5, lower=60, upper=70)
