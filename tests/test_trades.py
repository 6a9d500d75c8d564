"""Round trips: closed forms, nothing lost between fills and trades, capacity."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftlib.envs.trading_rules import Financing
from hftlib.evaluation.engine import Prices, run_backtest
from hftlib.evaluation.engine_kernel import FILL
from hftlib.evaluation.trades import (
    estimate_capacity,
    list_trades,
    match_fills,
    summarise_trades,
)
from hftlib.portfolio.costs import Costs
from tests.test_engine import make_prices


def make_fills(*rows):
    """Fills of (row, quantity, price, fee)."""
    fills = np.zeros(len(rows), dtype=FILL)
    for fill, (row, quantity, price, fee) in zip(fills, rows, strict=True):
        fill["row"], fill["quantity"], fill["price"], fill["fee"] = row, quantity, price, fee
    return fills


def brief(trades):
    names = ("side", "quantity", "entry_row", "exit_row", "profit", "is_open")
    return [tuple(trade[name].item() for name in names) for trade in trades]


# Closed forms


def test_the_oldest_lot_is_closed_first_and_fees_are_shared_by_units():
    fills = make_fills((1, 10, 100.0, 10.0), (2, 10, 110.0, 20.0), (5, -15, 120.0, 15.0))
    assert brief(match_fills(fills, np.array([130.0]), 9)) == [
        (1, 10, 1, 5, 200 - 20, False),
        (1, 5, 2, 5, 50 - 15, False),
        (1, 5, 2, 9, 100 - 10, True),
    ]


def test_turning_round_closes_one_trade_and_opens_another():
    fills = make_fills((1, -4, 50.0, 0.0), (3, 6, 40.0, 6.0), (4, -2, 45.0, 0.0))
    assert brief(match_fills(fills, np.array([1.0]), 9)) == [
        (-1, 4, 1, 3, 40 - 4, False),
        (1, 2, 3, 4, 10 - 2, False),
    ]


def test_rounding_leaves_no_ghost_of_a_closed_position():
    # .1 + .2 - .3 is 5.6e-17 in floats; the ledger's position is what counts
    held = 0.1 + 0.2
    fills = make_fills((1, 0.1, 10.0, 0.0), (2, 0.2, 10.0, 0.0), (3, -held, 11.0, 0.0))
    trades = match_fills(fills, np.array([12.0]), 5)
    assert trades["quantity"].tolist() == [0.1, 0.2]
    assert not trades["is_open"].any()


def test_assets_and_strategies_are_matched_apart():
    fills = make_fills((1, 1, 10.0, 0.0), (2, -1, 11.0, 0.0), (1, 1, 20.0, 0.0), (2, -1, 25.0, 0.0))
    fills["asset"] = [0, 1, 0, 1]
    fills["strategy"] = [0, 0, 1, 1]
    trades = match_fills(fills, np.array([12.0, 13.0]), 5)
    assert trades["is_open"].all()
    assert trades["profit"].tolist() == [2.0, -2.0, -8.0, 12.0]


def test_statistics_of_known_trades():
    # +1, +1, -2, 0 after no costs, one bar each, then one left open
    close = np.array([10, 10, 11, 10, 11, 12, 10, 10, 10, 10, 10.0])[:, None]
    prices = Prices(("A",), np.arange(11) * 10**9, close, close)
    units = np.array([1, 0, 1, 0, 1, 0, 1, 0, 1, 1, 1.0])[:, None]
    result = run_backtest(prices, units, Costs(0, 0, 0), kind="units", strategies=["mine"])
    row = summarise_trades(result, 252, min_trades=4).loc["mine"]
    trades = list_trades(result)
    assert trades["profit"].tolist() == [1, 1, -2, 0, 0]
    assert (row["n_trades"], row["n_open"]) == (4, 1)
    assert row["win_rate"] == pytest.approx(2 / 3)
    assert row["profit_factor"] == 1.0
    assert row["expectancy"] == 0.0
    assert row["mean_return"] == pytest.approx((0.1 + 0.1 - 2 / 12) / 4)
    assert row["bars_held"] == 1.0
    flow = (result.traded[1:, 0] / result.equity[:-1, 0]).mean()
    assert row["turnover_per_year"] == pytest.approx(252 * flow)
    assert trades["exit_ts"].isna().tolist() == [False] * 4 + [True]
    assert row["reason"] == "capacity: no impact was charged; set impact_bps and give volumes"


def test_too_few_trades_have_no_statistics_but_a_reason():
    result = run_backtest(make_prices(n_assets=1), np.ones((60, 1)), Costs(1, 0, 0))
    row = summarise_trades(result, 252).iloc[0]
    assert (row["n_trades"], row["n_open"]) == (0, 1)
    names = ["win_rate", "profit_factor", "expectancy", "mean_return", "bars_held", "capacity"]
    assert row[names].isna().all()
    assert row["reason"].startswith("trades: 0 closed, 10 needed; capacity: no impact")


def test_without_a_loser_the_factor_alone_is_nan():
    close = np.arange(10.0, 30.0)[:, None]
    prices = Prices(("A",), np.arange(20) * 10**9, close, close)
    units = np.tile([1.0, 0.0], 10)[:, None]
    result = run_backtest(prices, units, Costs(0, 0, 0), kind="units")
    row = summarise_trades(result, 252, min_trades=9).iloc[0]
    assert row["win_rate"] == 1.0
    assert np.isnan(row["profit_factor"])
    assert "profit_factor: no trade lost" in row["reason"]


# Conservation


@settings(max_examples=60)
@given(
    n_assets=st.integers(1, 3),
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(["weights", "units"]),
    rates=st.tuples(*[st.floats(0, 100)] * 4),
)
def test_profits_of_trades_are_the_change_of_equity_before_financing(n_assets, seed, kind, rates):
    prices = make_prices(50, n_assets, seed)
    rng = np.random.default_rng(seed)
    targets = np.round(rng.normal(0, 0.4 if kind == "weights" else 9, (50, 2, n_assets)), 1)
    targets[rng.random(targets.shape) < 0.3] = np.nan
    result = run_backtest(prices, targets, Costs(*rates), kind=kind, financing=Financing(100, 300))
    trades = list_trades(result)
    assert (trades["quantity"] > 0).all()
    for k, name in enumerate(result.strategies):
        own = trades[trades["strategy"] == name]
        change = result.equity[-1, k] - result.equity[0, k] + result.financing[:, k].sum()
        turned = 1e4 + result.traded[:, k].sum()
        assert own["profit"].sum() == pytest.approx(change, abs=1e-12 * turned + 1e-9)
        fills = result.fills[result.fills["strategy"] == k]
        assert own["fees"].sum() <= fills["fee"].sum() * (1 + 1e-12)
        for a, symbol in enumerate(prices.symbols):
            open_ = own[own["is_open"] & (own["symbol"] == symbol)]
            left = (open_["quantity"] * open_["side"]).sum()
            assert left == pytest.approx(result.units[-1, k, a], abs=1e-9)


def test_all_fees_are_in_the_trades_once_all_is_closed():
    prices = make_prices(n_assets=2)
    units = np.random.default_rng(0).integers(-5, 6, (60, 2)).astype(float)
    units[-3:] = 0
    result = run_backtest(prices, units, Costs(10, 0, 0), kind="units")
    trades = list_trades(result)
    assert not trades["is_open"].any()
    assert trades["fees"].sum() == pytest.approx(result.fills["fee"].sum(), rel=1e-12)


# Capacity


# Each round trip of one unit: bought at 100, sold at 101, less fee and half the spread; and what
# impact takes of it at a size of the whole volume. An edge of q units is linear in q, impact is
# its power 1.5, so that it is eaten at q = volume * (EDGE / EATEN)^2.
VOLUME, EDGE, EATEN = 1e5, 1.0 - 201 * 2e-4, 201 * 0.01
CAPACITY = 100 * VOLUME * (EDGE / EATEN) ** 2


def trade_edge(capital, kind="units", wanted=None):
    """Holds `wanted` through each rise from 100 to 101, and nothing when the price falls back."""
    n = 2000
    close = np.where(np.arange(n) % 2 == 0, 100.0, 101.0)[:, None]
    prices = Prices(("A",), np.arange(n) * 10**9, np.roll(close, 1), close, np.full((n, 1), VOLUME))
    targets = np.where(np.arange(n) % 2 == 0, capital / 100 if wanted is None else wanted, 0.0)
    costs = Costs(1.0, 2.0, 0.0, 100.0)
    return run_backtest(prices, targets[:, None], costs, kind=kind, initial_cash=capital)


def test_at_its_capacity_a_strategy_earns_nothing_and_at_four_ninths_the_most():
    def earned(share):
        equity = trade_edge(share * CAPACITY).equity
        return (equity[-1, 0] - equity[0, 0]) / (1000 * CAPACITY / 100 * EDGE)

    # the fee is taken at the price that impact moved: 1 bp of 1 %
    assert earned(1.0) == pytest.approx(0.0, abs=1e-3)
    assert earned(4 / 9) == pytest.approx(4 / 27, abs=1e-3)
    assert earned(4 / 9) > max(earned(0.35), earned(0.55))


@pytest.mark.parametrize("capital", [10.0, 1e4, 1e7])
def test_the_estimate_does_not_depend_on_the_capital_it_is_made_with(capital):
    # a tenth of the equity at work: ten times the capital, and an equity that doubles or so
    found, reason = estimate_capacity(trade_edge(capital, "weights", 0.1))
    # what is bought pays its own impact, here up to 1 %, and is smaller by that
    assert found == pytest.approx(10 * CAPACITY, rel=0.01)
    assert reason == ""


def test_a_losing_strategy_has_no_capacity_and_an_idle_one_no_answer():
    prices = make_prices(n_assets=1)
    costs = Costs(100, 0, 0, 10)
    units = np.tile([1.0, 0.0], 30)[:, None]
    assert estimate_capacity(run_backtest(prices, units, costs, kind="units"))[0] == 0.0
    value, reason = estimate_capacity(run_backtest(prices, np.zeros((60, 1)), costs))
    assert np.isnan(value)
    assert reason == "nothing was traded"
    crash = Prices(
        prices.symbols,
        prices.ts,
        prices.open,
        np.vstack([prices.close[:-1], [[0.01]]]),
        prices.volume,
    )
    ruined = run_backtest(crash, np.full((60, 1), 2.0), costs)
    assert estimate_capacity(ruined)[1] == "the account was ruined"


@pytest.mark.parametrize("quantity", [0.0, np.nan, np.inf])
def test_a_fill_of_nothing_is_refused(quantity):
    fills = make_fills((1, 1, 10.0, 0.0), (2, quantity, 10.0, 0.0))
    with pytest.raises(ValueError, match="fill 1 has quantity"):
        match_fills(fills, np.array([1.0]), 3)
