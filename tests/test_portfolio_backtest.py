"""Portfolios in the engine: the walk that decided them, and errors for weights without prices."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from hftlib.envs.trading_rules import Financing
from hftlib.evaluation.portfolio_backtest import (
    compare_portfolios,
    count_orders,
    describe_portfolios,
    order_table,
    portfolio_frame,
    trade_weights,
)
from hftlib.portfolio.costs import Costs
from hftlib.portfolio.optimisation import Allocation
from hftlib.portfolio.rebalancing import EveryBars, net_returns, rebalance
from hftlib.portfolio.risk import RiskLimits

COSTS, NONE = Costs(1.0, 2.0, 1.0), Financing()


def make_closes(n_bars=300, n_assets=4):
    rng = np.random.default_rng(0)
    index = pd.date_range("2020-01-01", periods=n_bars, tz="UTC", unit="ns", name="ts")
    moves = rng.normal(0.0005, 0.015, (n_bars, n_assets))
    return pd.DataFrame(
        100 * np.exp(np.cumsum(moves, axis=0)), index, [f"S{k}" for k in range(n_assets)]
    )


def lean(share, returns, previous):
    """Most to what rose most lately."""
    best = returns.tail(20).mean().rank()
    return Allocation(share * best / best.sum())


def tabulate(walks):
    parts = [
        walk.targets.rename_axis(index="ts", columns="symbol")
        .stack()
        .rename("weight")
        .reset_index()
        .assign(strategy=name, rule="monthly")
        for name, walk in walks.items()
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture
def closes():
    return make_closes()


def test_the_engine_earns_what_the_walk_earned(closes):
    walks = {
        name: rebalance(closes, partial(lean, share), EveryBars(20), lookback_bars=60)
        for name, share in {"whole": 1.0, "half": 0.5}.items()
    }
    result = trade_weights(tabulate(walks), closes, COSTS, NONE, 1e6)
    assert result.strategies == ("whole", "half")
    for k, walk in enumerate(walks.values()):
        net = net_returns(walk, COSTS).loc[result.prices.clock[1:]]
        # the engine pays costs out of what it buys, the walk after it: costs of costs
        np.testing.assert_allclose(result.returns[:, k], net, atol=1e-5)


def test_who_decides_early_waits_for_the_others_with_the_last_decision(closes):
    first = rebalance(closes, partial(lean, 1.0), EveryBars(20), lookback_bars=60)
    late = rebalance(closes, partial(lean, 1.0), EveryBars(20), lookback_bars=150)
    result = trade_weights(tabulate({"first": first, "late": late}), closes, COSTS, NONE, 1e6)
    start = late.targets.index[0]
    assert result.prices.clock[0] == start
    held = result.units[1, 0] * result.prices.close[1] / result.equity[1, 0]
    asked = first.targets[first.targets.index <= start].iloc[-1]
    np.testing.assert_allclose(held, asked, atol=1e-3)


def test_a_portfolio_is_told_from_its_benchmark_only_by_its_whole_interval(closes):
    walks = {
        name: rebalance(closes, partial(lean, share), EveryBars(20), lookback_bars=60)
        for name, share in {"whole": 1.0, "half": 0.5}.items()
    }
    result = trade_weights(tabulate(walks), closes, COSTS, NONE, 1e6)
    settings = {"n_bootstrap": 50, "confidence": 0.9, "seed": 1}
    found = compare_portfolios(result, "whole", **settings)
    assert found["whole"]["excess_sharpe"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert found["half"]["max_drawdown"] < found["whole"]["max_drawdown"]
    assert found["whole"]["trades"] > 10
    table = portfolio_frame(found, "whole")
    assert table.loc["whole", "less whole's"] == "-"
    better = {"value": 0.5, "low": 0.1, "high": 0.9}
    told = describe_portfolios({**found, "mean_cvar": {"excess_sharpe": better}}, "whole")
    assert "better than whole by the whole interval: mean cvar" in told
    with pytest.raises(ValueError, match="benchmark 'third' is not among"):
        compare_portfolios(result, "third", **settings)


def test_limits_cut_orders_and_are_counted_by_strategy(closes):
    walks = {
        name: rebalance(closes, partial(lean, share), EveryBars(20), lookback_bars=60)
        for name, share in {"whole": 1.0, "small": 0.05}.items()
    }
    limits = RiskLimits(
        max_var=np.inf,
        max_drawdown=np.inf,
        max_daily_loss=np.inf,
        max_position=0.2,
        stop_loss=np.inf,
        take_profit=np.inf,
    )
    result = trade_weights(tabulate(walks), closes, COSTS, NONE, 1e6, risk=limits)
    held = result.units[1:] * result.prices.close[1:, None] / result.equity[1:, :, None]
    assert held[:, 0].max() < 0.25  # drifts between decisions
    counts = count_orders(order_table(result), [*result.strategies, "idle"])
    assert list(counts.index) == ["whole", "small", "idle"]
    assert counts.loc["idle"].tolist() == [0, 0, 0, 0, "none"]
    assert counts.loc["whole", "shrink"] + counts.loc["whole", "reject"] > 5
    assert counts.loc["whole", "limit"].startswith("position, ")
    assert counts.loc["small"].tolist()[1:] == [0, 0, 0, "none"]


def test_weights_without_prices_are_refused(closes):
    walk = rebalance(closes, partial(lean, 1.0), EveryBars(20), lookback_bars=60)
    table = tabulate({"whole": walk})
    with pytest.raises(ValueError, match="S3 is among the weights or the closes alone"):
        trade_weights(table, closes.drop(columns="S3"), COSTS, NONE, 1e6)
    with pytest.raises(ValueError, match="give the closes that they were made on"):
        trade_weights(table, closes.drop(index=table["ts"].iloc[0]), COSTS, NONE, 1e6)
    mixed = pd.concat([table, table.assign(rule="drift")])
    with pytest.raises(ValueError, match="monthly, drift; expected one rule"):
        trade_weights(mixed, closes, COSTS, NONE, 1e6)
