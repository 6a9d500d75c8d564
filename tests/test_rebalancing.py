"""Walks over prices: accounting, timing, causality, recorded failures."""

import time
from functools import partial

import numpy as np
import pandas as pd
import pytest

from hftlib.portfolio import measures
from hftlib.portfolio.allocation import (
    equal_weight,
    hierarchical_risk_parity,
    maximum_sharpe,
    minimum_variance,
)
from hftlib.portfolio.asset_frames import AllocationError, MissingDataError, PriceError
from hftlib.portfolio.constraints import Constraints
from hftlib.portfolio.costs import Costs
from hftlib.portfolio.optimisation import Allocation
from hftlib.portfolio.rebalancing import Drift, EveryBars, MonthEnds, net_returns, rebalance
from tests.asset_cases import factor_returns, stock_prices, to_prices

PRICES = to_prices(factor_returns(149, 5))
RULES = (EveryBars(10), MonthEnds(), Drift(0.02))


def equal(returns, previous):
    return equal_weight(returns)


def least_variance(returns, previous):
    return minimum_variance(returns)


def trending(returns, previous):
    """Different at every bar: what moved most yesterday gets most."""
    score = np.exp(20 * returns.iloc[-1])
    return Allocation(score / score.sum())


def test_two_assets_by_hand():
    prices = pd.DataFrame(
        {"a": [100.0, 100, 100, 100, 120, 120], "b": [100.0, 100, 100, 100, 100, 50]},
        index=pd.date_range("2020-01-01", periods=6, tz="UTC"),
    )
    walk = rebalance(prices, equal, EveryBars(2), lookback_bars=2)
    # decided at bar 2, traded at bar 3; b's fall at 5 is borne by weights drifted at 4;
    # decided anew at 4, traded at 5
    np.testing.assert_allclose(walk.held["a"], [0, 0, 0, 0.5, 0.6 / 1.1, 0.5])
    np.testing.assert_allclose(walk.returns, [0, 0, 0, 0, 0.1, -0.25 / 1.1])
    moved = 0.6 / 0.85 - 0.5
    np.testing.assert_allclose(walk.turnover, [0, 0, 0, 1, 0, 2 * moved])
    assert list(walk.targets.index) == [prices.index[2], prices.index[4]]
    assert walk.events.empty


def test_returns_are_those_of_units_held():
    walk = rebalance(PRICES, trending, EveryBars(7), lookback_bars=20)
    # the same account in units and cash
    cash, units, equity = 1.0, np.zeros(5), []
    for s, price in enumerate(PRICES.to_numpy()):
        value = cash + units @ price
        if walk.turnover.iloc[s] > 0:
            units = walk.held.iloc[s].to_numpy() * value / price
            cash = value - units @ price
        equity.append(value)
    np.testing.assert_allclose(np.cumprod(1 + walk.returns), equity, rtol=1e-12)


def test_weights_that_sum_to_less_leave_cash_that_earns_nothing():
    half = partial(equal_weight, constraints=Constraints(budget=0.5))
    walk = rebalance(PRICES, lambda r, p: half(r), EveryBars(1), lookback_bars=5)
    full = rebalance(PRICES, equal, EveryBars(1), lookback_bars=5)
    np.testing.assert_allclose(walk.returns, 0.5 * full.returns, atol=1e-15)


def test_net_returns_pay_for_what_is_traded():
    walk = rebalance(PRICES, equal, EveryBars(10), lookback_bars=20)
    net = net_returns(walk, Costs(fee_bps=5.0, spread_bps=8.0, slippage_bps=1.0))
    growth = measures.total_return(net) + 1
    free = measures.total_return(walk.returns) + 1
    assert growth == pytest.approx(free * np.prod(1 - 10e-4 * walk.turnover))
    free_of_cost = net_returns(walk, Costs(0.0, 0.0, 0.0))
    np.testing.assert_allclose(free_of_cost, walk.returns, atol=1e-15)
    with pytest.raises(ValueError, match="impact_bps is 1"):
        net_returns(walk, Costs(0.0, 0.0, 0.0, 1.0))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("allocator", [trending, least_variance])
def test_scrambled_prices_of_the_future_leave_the_past_bit_identical(rule, allocator):
    cut = 90
    scrambled = PRICES.copy()
    noise = np.random.default_rng(7).uniform(0.2, 5.0, scrambled.iloc[cut:].shape)
    scrambled.iloc[cut:] *= noise
    one = rebalance(PRICES, allocator, rule, lookback_bars=30)
    other = rebalance(scrambled, allocator, rule, lookback_bars=30)
    assert len(one.targets.loc[: PRICES.index[cut - 1]]) >= 1
    for before, after in zip(one[:4], other[:4], strict=True):
        past, same = (f.loc[: PRICES.index[cut - 1]].to_numpy() for f in (before, after))
        assert past.tobytes() == same.tobytes()
    assert not one.held.iloc[cut:].equals(other.held.iloc[cut:])


@pytest.mark.parametrize("rule", RULES)
def test_a_decision_never_changes_what_is_held_on_its_own_bar(rule):
    # the last bar before the cut moves: targets of that bar may change, weights drift only
    cut = 90
    longer = rebalance(PRICES, trending, rule, lookback_bars=30)
    shorter = rebalance(PRICES.iloc[: cut + 1], trending, rule, lookback_bars=30)
    assert longer.held.iloc[: cut + 1].equals(shorter.held)
    assert longer.returns.iloc[: cut + 1].equals(shorter.returns)


def test_the_allocator_sees_the_window_up_to_the_decision_and_the_weights_then():
    seen = []

    def record(returns, previous):
        seen.append((returns.index[0], returns.index[-1], len(returns), previous))
        return trending(returns, previous)

    walk = rebalance(PRICES, record, EveryBars(40), lookback_bars=30)
    assert [last for _, last, _, _ in seen] == list(PRICES.index[[30, 70, 110]])
    assert {n for _, _, n, _ in seen} == {30}
    assert seen[0][0] == PRICES.index[1]
    assert seen[0][3] is None
    pd.testing.assert_series_equal(seen[1][3], walk.held.iloc[70], check_names=False)


def test_month_ends_are_the_last_bars_of_months():
    walk = rebalance(PRICES, equal, MonthEnds(), lookback_bars=40)
    # 2020-01-01 on, daily: bar 40 is 10 February; the frame ends in May
    assert [str(ts.date()) for ts in walk.targets.index] == [
        "2020-02-29", "2020-03-31", "2020-04-30",
    ]  # fmt: skip
    assert walk.turnover.ne(0).sum() == 3


def test_the_drift_rule_waits_until_a_weight_is_too_far_off():
    walk = rebalance(PRICES, equal, Drift(0.02), lookback_bars=10)
    gap = (walk.held - 0.2).abs().max(axis=1)
    assert len(walk.targets) > 2
    for ts in walk.targets.index[1:]:
        assert gap[ts] > 0.02
    quiet = gap.iloc[11:].drop(walk.targets.index, errors="ignore")
    assert quiet.max() <= 0.02


def test_a_failure_is_recorded_and_positions_are_kept():
    def fail_in_march(returns, previous):
        if returns.index[-1].month == 3:
            raise AllocationError("no forecast")
        return trending(returns, previous)

    walk = rebalance(PRICES, fail_in_march, MonthEnds(), lookback_bars=20)
    assert walk.events.to_dict("records") == [
        {"ts": pd.Timestamp("2020-03-31", tz="UTC"), "kind": "kept",
         "reason": "AllocationError: no forecast"}
    ]  # fmt: skip
    assert walk.turnover[pd.Timestamp("2020-04-01", tz="UTC")] == 0.0
    assert (
        len(walk.targets) == len(rebalance(PRICES, trending, MonthEnds(), lookback_bars=20)[1]) - 1
    )


def test_a_fallback_is_used_and_recorded_and_may_fail_as_well():
    falling = to_prices(-factor_returns(99, 4).abs() - 1e-4)

    def best(returns, previous):
        return maximum_sharpe(returns)

    def refuse(returns, previous):
        raise AllocationError("nor this")

    walk = rebalance(falling, best, EveryBars(30), lookback_bars=30, fallback=equal)
    assert walk.events["kind"].tolist() == ["fallback"] * 3
    assert walk.events["reason"].str.startswith("NoExcessReturnError: the best mean").all()
    np.testing.assert_allclose(walk.targets, 0.25)
    worse = rebalance(falling, best, EveryBars(30), lookback_bars=30, fallback=refuse)
    assert worse.events["kind"].tolist() == ["kept"] * 3
    assert worse.events["reason"].str.endswith("then AllocationError: nor this").all()
    assert (worse.held == 0).all(axis=None)
    assert worse.targets.shape == (0, 4)


def test_an_error_of_the_program_is_not_taken_for_a_failed_allocation():
    def broken(returns, previous):
        return {}["weights"]

    with pytest.raises(KeyError):
        rebalance(PRICES, broken, EveryBars(10), lookback_bars=20, fallback=equal)


@pytest.mark.parametrize("weights", [{"a": 1.0}, {"a": np.nan, "b": 1}, {"a": 0, "b": 0, "c": 1}])
def test_weights_that_do_not_fit_the_frame_are_not_held(weights):
    prices = PRICES.iloc[:, :2].set_axis(["a", "b"], axis=1)
    wrong = Allocation(pd.Series(weights, dtype="float64"))
    walk = rebalance(prices, lambda r, p: wrong, EveryBars(100), lookback_bars=20, fallback=equal)
    assert walk.events["kind"].tolist() == ["fallback", "fallback"]
    assert walk.events["reason"].str.startswith("WeightError: the allocator's weights").all()
    np.testing.assert_allclose(walk.targets, 0.5)


def test_notes_of_an_allocation_become_events():
    limits = Constraints(upper={name: 0.1 if k == 0 else 1.0 for k, name in enumerate(PRICES)})
    walk = rebalance(PRICES, lambda r, p: equal_weight(r, limits), EveryBars(50), lookback_bars=50)
    assert walk.events["kind"].tolist() == ["note", "note"]
    assert walk.events["reason"].str.contains("above its upper bound").all()


def test_losses_beyond_equity_end_the_walk():
    prices = pd.DataFrame(
        {"a": [100.0, 101, 100, 101, 40, 80], "b": [100.0, 100, 100, 100, 100, 100]},
        index=PRICES.index[:6],
    )
    twice = pd.Series({"a": 2.0, "b": 0.0})
    walk = rebalance(prices, lambda r, p: Allocation(twice), EveryBars(1), lookback_bars=2)
    assert walk.returns.tolist() == [0, 0, 0, 0, -1.0, 0]
    assert (walk.held.iloc[4:] == 0).all(axis=None)
    assert walk.events["kind"].tolist() == ["ruined"]


def test_the_same_walk_has_the_same_bytes():
    walks = [rebalance(PRICES, least_variance, EveryBars(10), lookback_bars=40) for _ in range(2)]
    for one, other in zip(walks[0][:4], walks[1][:4], strict=True):
        assert one.to_numpy().tobytes() == other.to_numpy().tobytes()


def test_sixty_assets_within_turnover():
    prices = to_prices(factor_returns(399, 60))
    limits = Constraints(upper=0.1, turnover=0.2)

    def allocator(returns, previous):
        return minimum_variance(returns, limits, previous)

    start = time.perf_counter()
    walk = rebalance(prices, allocator, EveryBars(20), lookback_bars=100)
    assert time.perf_counter() - start < 20  # 15 decisions, about 1 s when idle
    assert len(walk.targets) == 15
    assert walk.events.empty
    # weights drift in the bar between decision and trade, so the cap is met but for that
    assert walk.turnover.iloc[102:].max() < 0.2 + 0.02
    assert walk.held.iloc[101:].sum(axis=1).sub(1).abs().max() < 1e-6


def test_ten_years_of_real_stocks():
    prices = stock_prices().loc["2013":]
    walk = rebalance(
        prices, lambda r, p: hierarchical_risk_parity(r), EveryBars(126), lookback_bars=252
    )
    held = rebalance(prices, equal, EveryBars(126), lookback_bars=252)
    assert walk.events.empty
    assert walk.returns.std() < held.returns.std()  # a fact of these stocks


@pytest.mark.parametrize(
    ("rule", "lookback_bars", "message"),
    [
        (EveryBars(0), 10, "n_bars is 0"),
        (Drift(-0.1), 10, "threshold is -0.1"),
        (Drift(np.nan), 10, "threshold is nan"),
        (EveryBars(1), 1, "lookback_bars is 1"),
    ],
)
def test_rules_out_of_range_are_refused(rule, lookback_bars, message):
    with pytest.raises(AllocationError, match=message):
        rebalance(PRICES, equal, rule, lookback_bars=lookback_bars)


def test_faulty_prices_stop_the_walk_before_it_starts():
    zero, gap = PRICES.copy(), PRICES.copy()
    zero.iloc[120, 2] = 0.0
    gap.iloc[120, 2] = np.nan
    with pytest.raises(PriceError, match="ASSET-02/USD at 2020-04-30"):
        rebalance(zero, equal, EveryBars(10), lookback_bars=20)
    with pytest.raises(MissingDataError, match="ASSET-02/USD are missing at 2020-04-30"):
        rebalance(gap, equal, EveryBars(10), lookback_bars=20)
