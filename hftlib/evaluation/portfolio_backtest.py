"""Target weights of portfolios traded by the backtest engine, for their fills and trades.

Stocks come with closes alone. A target decided at a close is traded at the next one, so that
what the engine takes for the open of a bar is that bar's close.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hftlib.envs.trading_rules import Financing
from hftlib.evaluation.asset_walks import interval
from hftlib.evaluation.engine import Backtest, Prices, run_backtest
from hftlib.evaluation.statistics import compare_strategies
from hftlib.evaluation.trades import summarise_trades
from hftlib.portfolio import measures
from hftlib.portfolio.costs import Costs
from hftlib.portfolio.risk import RiskLimits
from hftlib.schema import ORDERS, UTC, validate


def prices_of_closes(closes: pd.DataFrame) -> Prices:
    """Closes of shape (n_bars, n_assets), indexed by ts, as bars that are traded at the close."""
    values = closes.to_numpy(dtype=np.float64)
    ts = closes.index.as_unit("ns").astype("int64").to_numpy()
    return Prices(tuple(closes.columns), ts, values, values)


def trade_weights(
    weights: pd.DataFrame,
    closes: pd.DataFrame,
    costs: Costs,
    financing: Financing,
    initial_cash: float,
    *,
    risk: RiskLimits | None = None,
    sectors: Mapping[str, str] | None = None,
) -> Backtest:
    """One account a strategy, from the bar at which the last of them decides first.

    Parameters
    ----------
    weights : frame as `schema.WEIGHTS`
        Of one rule of rebalancing. A strategy that decided before the common start takes its
        last decision over to it.
    closes : frame of shape (n_bars, n_assets)
    risk, sectors
        Limits that each order passes, as for `run_backtest`.

    Raises
    ------
    ValueError
        If a decision is at a time without a close, the symbols differ, or the rules are several.
    """
    if weights["rule"].nunique() != 1:
        raise ValueError(
            f"weights of {', '.join(weights['rule'].unique()) or 'no rule'}; expected one rule"
        )
    lost = set(weights["ts"]) - set(closes.index) or set(weights["symbol"]) ^ set(closes.columns)
    if lost:
        raise ValueError(
            f"{min(lost)} is among the weights or the closes alone; give the closes that they "
            "were made on"
        )
    start = weights.groupby("strategy")["ts"].min().max()
    span = closes[closes.index >= start]
    names = list(weights["strategy"].unique())
    targets = np.empty((len(span), len(names), closes.shape[1]))
    for k, name in enumerate(names):
        own = weights[weights["strategy"] == name]
        decided = own.pivot(index="ts", columns="symbol", values="weight")[[*closes.columns]]
        last = decided[decided.index <= start].iloc[-1]
        targets[:, k] = decided.reindex(span.index).to_numpy()
        targets[0, k] = last.to_numpy()
    return run_backtest(
        prices_of_closes(span),
        targets,
        costs,
        financing=financing,
        initial_cash=initial_cash,
        strategies=names,
        risk=risk,
        sectors=sectors,
        earlier=closes[closes.index < start].to_numpy(),
    )


def compare_portfolios(
    result: Backtest, benchmark: str, *, n_bootstrap: int, confidence: float, seed: int
) -> dict[str, dict[str, Any]]:
    """Each portfolio's measures after costs, and those of its round trips.

    Returns
    -------
    dict
        `{strategy: {annual_return, sharpe, excess_return, excess_sharpe, max_drawdown,
        trades, win_rate, profit_factor, bars_held, turnover_per_year}}`; the first four are
        `{value, low, high}`, the excess is over `benchmark`. A measure of trades is None where
        there are too few of them.

    Raises
    ------
    ValueError
        If the benchmark is no strategy of the backtest.
    """
    per_year = measures.periods_per_year(result.prices.ts)
    estimates = compare_strategies(
        {name: result.returns[:, [k]] for k, name in enumerate(result.strategies)},
        benchmark=benchmark,
        periods_per_year=per_year,
        n_bootstrap=n_bootstrap,
        confidence=confidence,
        seed=seed,
    )
    trips = summarise_trades(result, per_year)
    found = {}
    for k, name in enumerate(result.strategies):
        row = trips.loc[name]
        known = {
            key: float(row[key]) if np.isfinite(row[key]) else None
            for key in ("win_rate", "profit_factor", "bars_held", "turnover_per_year")
        }
        found[name] = {
            **{key: estimate.to_dict() for key, estimate in estimates[name].items()},
            "max_drawdown": float(measures.max_drawdown(result.equity[:, [k]])[0]),
            "trades": int(row["n_trades"]),
            **known,
        }
    return found


def portfolio_frame(results: Mapping[str, Mapping[str, Any]], benchmark: str) -> pd.DataFrame:
    """`compare_portfolios` as text cells, one row a portfolio, for a reader."""

    def form(value: float | None, spec: str) -> str:
        return "-" if value is None else format(value, spec)

    rows = {
        name.replace("_", " "): {
            "return a year": interval(row["annual_return"], ".1%"),
            "Sharpe ratio": interval(row["sharpe"], ".2f"),
            f"less {benchmark.replace('_', ' ')}'s": (
                interval(row["excess_sharpe"], "+.2f") if name != benchmark else "-"
            ),
            "turnover": form(row["turnover_per_year"], ".1f"),
            "trades": f"{row['trades']:,}",
            "won": form(row["win_rate"], ".0%"),
            "bars held": form(row["bars_held"], ".0f"),
        }
        for name, row in results.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("portfolio")


def describe_portfolios(results: Mapping[str, Mapping[str, Any]], benchmark: str) -> str:
    """Which portfolios differ from the benchmark by their whole interval, in words."""
    gaps = {name: row["excess_sharpe"] for name, row in results.items() if name != benchmark}
    known = {name: gap for name, gap in gaps.items() if gap["low"] is not None}
    sides = {
        "better": [name for name, gap in known.items() if gap["low"] > 0],
        "worse": [name for name, gap in known.items() if gap["high"] < 0],
    }
    told = (
        f"{side} than {benchmark} by the whole interval: {', '.join(names) or 'none'}"
        for side, names in sides.items()
    )
    return f"Portfolios of stocks {'; '.join(told)}.".replace("_", " ")


def order_table(result: Backtest) -> pd.DataFrame:
    """What limits made of every order, as `schema.ORDERS`."""
    return validate(result.event_table().astype({"ts": UTC}), ORDERS)


def count_orders(orders: pd.DataFrame, strategies: Sequence[str]) -> pd.DataFrame:
    """What limits made of the orders of each strategy.

    Parameters
    ----------
    orders : frame as `schema.ORDERS`
    strategies : sequence of str
        Rows of the result; one that sent no order has zeros.

    Returns
    -------
    frame indexed by strategy
        accept, shrink, reject, exit: counts; limit: what bound or closed most often, with its
        count, "none" if nothing did.
    """
    kinds = ["accept", "shrink", "reject", "exit"]
    counts = pd.crosstab(orders["strategy"], orders["action"])
    counts = counts.reindex(index=[*strategies], columns=kinds, fill_value=0)
    counts = counts.rename_axis(index="strategy", columns=None)
    bound = orders[orders["limit"] != ""].groupby("strategy")["limit"].value_counts()
    most = {
        name: f"{own.index[0].removeprefix('max_').replace('_', ' ')}, {own.iloc[0]:,}"
        for name, own in ((name, bound.xs(name)) for name in bound.index.unique(0))
    }
    return counts.assign(limit=[most.get(name, "none") for name in counts.index])
