"""Strategies on the untouched span: equity curves, rollouts, headline table."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.agents.policy import Policy, Rollout, play
from hftlib.compute import map_parallel
from hftlib.data.panel import BarPanel
from hftlib.envs.trading_rules import TradingRules
from hftlib.evaluation.statistics import Estimate, compare_strategies
from hftlib.portfolio import measures
from hftlib.schema import EQUITY, ROLLOUTS, UTC, validate

BENCHMARK = "buy_and_hold"


def play_members(
    policies: Sequence[Policy], panel: BarPanel, rules: TradingRules, n_copies: int = 1
) -> list[Rollout]:
    """One rollout a policy, each of `n_copies` copies."""
    return [play(policy, panel, rules, n_copies) for policy in policies]


def play_teams(
    teams: Mapping[str, Sequence[Policy]], panel: BarPanel, rules: TradingRules
) -> dict[str, list[Rollout]]:
    """One rollout for every policy of each team, in parallel."""
    members = [(name, policy) for name, policies in teams.items() for policy in policies]
    played = map_parallel(
        partial(play, panel=panel, rules=rules), [policy for _, policy in members], "rollouts"
    )
    found: dict[str, list[Rollout]] = {name: [] for name in teams}
    for (name, _), rollout in zip(members, played, strict=True):
        found[name].append(rollout)
    return found


def book_returns(rollouts: Sequence[Rollout]) -> npt.NDArray[np.float64]:
    """Simple returns of capital split over members, copies and symbols, shape (n_bars - 1,)."""
    curves = np.concatenate([rollout.total_equity for rollout in rollouts], axis=1)
    returns: npt.NDArray[np.float64] = measures.simple_returns(curves.mean(axis=1))
    return returns


def average(rollouts: Sequence[Rollout], periods_per_year: float) -> dict[str, float | None]:
    """Means over members and copies: annual_return, sharpe, max_drawdown, turnover_per_year.

    Rates are shares of equity a year; the ratio is None where nobody traded.
    """
    curves = np.concatenate([rollout.total_equity for rollout in rollouts], axis=1)
    returns = measures.simple_returns(curves)
    ratios = measures.sharpe(returns, periods_per_year)
    return {
        "annual_return": float(np.mean(measures.annual_return(returns, periods_per_year))),
        "sharpe": float(np.nanmean(ratios)) if np.isfinite(ratios).any() else None,
        "max_drawdown": float(np.mean(measures.max_drawdown(curves))),
        "turnover_per_year": _per_year(rollouts, "traded", periods_per_year),
    }


def to_records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows for JSON, which has no nan: None in its place."""
    plain = table.astype(object)
    records: list[dict[str, Any]] = plain.where(plain.notna(), None).to_dict("records")
    return records


def turnover_per_bar(rollouts: Sequence[Rollout]) -> float:
    """Traded notional over equity, mean over bars, members, copies and symbols."""
    return float(np.mean([rollout.turnover for rollout in rollouts]))


def equity_table(strategies: Mapping[str, Sequence[Rollout]], panel: BarPanel) -> pd.DataFrame:
    """Equity curves as `schema.EQUITY`, summed over symbols, 1 at the start.

    Raises
    ------
    PanelError
        If symbols of the panel do not share one clock.
    """
    some = next(iter(strategies.values()))[0]
    clock = pd.to_datetime(panel.common_clock()[-len(some.row) :], utc=True).astype(UTC)
    parts = []
    for strategy, rollouts in strategies.items():
        curves = np.concatenate([rollout.total_equity for rollout in rollouts], axis=1)
        for member in range(curves.shape[1]):
            parts.append(
                pd.DataFrame(
                    {
                        "strategy": strategy,
                        "member": np.int64(member),
                        "ts": clock,
                        "equity": curves[:, member],
                    }
                )
            )
    table = pd.concat(parts, ignore_index=True)
    table["strategy"] = table["strategy"].astype("str")
    return validate(table, EQUITY)


def rollout_table(strategies: Mapping[str, Sequence[Rollout]], panel: BarPanel) -> pd.DataFrame:
    """Every bar of every account as `schema.ROLLOUTS`."""
    parts = []
    for strategy, rollouts in strategies.items():
        member = 0
        for rollout in rollouts:
            for copy in range(rollout.row.shape[1]):
                for k, symbol in enumerate(rollout.symbols):
                    rows = rollout.row[:, copy, k]
                    alive = rows >= 0
                    parts.append(
                        pd.DataFrame(
                            {
                                "strategy": strategy,
                                "member": np.int64(member),
                                "symbol": symbol,
                                "ts": pd.to_datetime(panel.ts[rows[alive]], utc=True),
                                "position": rollout.position[alive, copy, k].astype("int8"),
                                "exposure": rollout.exposure[alive, copy, k],
                                "equity": rollout.equity[alive, copy, k],
                                "traded": rollout.traded[alive, copy, k],
                                "paid": rollout.paid[alive, copy, k],
                            }
                        )
                    )
                member += 1
    table = pd.concat(parts, ignore_index=True)
    table[["strategy", "symbol"]] = table[["strategy", "symbol"]].astype("str")
    return validate(table.astype({"ts": UTC}), ROLLOUTS)


def summarise(
    strategies: Mapping[str, Sequence[Rollout]],
    panel: BarPanel,
    *,
    n_bootstrap: int,
    confidence: float,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """The headline: per strategy the means over members, with intervals.

    Returns
    -------
    dict
        `{strategy: {members, annual_return, sharpe, excess_return, excess_sharpe,
        max_drawdown, turnover_per_year, cost_per_year}}`; the first four of the
        estimates are `{value, low, high}`, all rates are shares of equity a year.
    """
    some = next(iter(strategies.values()))[0]
    per_year = measures.periods_per_year(panel.common_clock()[-len(some.row) :])
    curves = {
        name: np.concatenate([rollout.total_equity for rollout in rollouts], axis=1)
        for name, rollouts in strategies.items()
    }
    estimates = compare_strategies(
        {name: measures.simple_returns(curve) for name, curve in curves.items()},
        benchmark=BENCHMARK,
        periods_per_year=per_year,
        n_bootstrap=n_bootstrap,
        confidence=confidence,
        seed=seed,
    )
    return {
        name: {
            "members": curves[name].shape[1],
            **{key: estimate.to_dict() for key, estimate in estimates[name].items()},
            "max_drawdown": float(measures.max_drawdown(curves[name]).mean()),
            "turnover_per_year": _per_year(rollouts, "traded", per_year),
            "cost_per_year": _per_year(rollouts, "paid", per_year),
        }
        for name, rollouts in strategies.items()
    }


def sweep_fees(
    strategies: Mapping[str, Sequence[Policy]],
    panel: BarPanel,
    rules: TradingRules,
    fees_bps: Sequence[float],
) -> pd.DataFrame:
    """Annual return of each member at each fee; the policies are not retrained.

    Returns
    -------
    frame with columns strategy, fee_bps, member, annual_return
    """
    sweep = partial(_price_strategies, strategies, panel, rules)
    parts = map_parallel(sweep, fees_bps, "fees")
    return pd.concat(parts, ignore_index=True).astype({"annual_return": "float64"})


def _price_strategies(
    strategies: Mapping[str, Sequence[Policy]], panel: BarPanel, rules: TradingRules, fee_bps: float
) -> pd.DataFrame:
    """Part of `sweep_fees` at one fee."""
    per_year = measures.periods_per_year(panel.common_clock())
    priced = replace(rules, costs=rules.costs._replace(fee_bps=fee_bps))
    rows = []
    for name, policies in strategies.items():
        for member, rollout in enumerate(play_members(policies, panel, priced)):
            returns = measures.simple_returns(rollout.total_equity[:, 0])
            rows.append((name, fee_bps, member, measures.annual_return(returns, per_year)))
    return pd.DataFrame(rows, columns=["strategy", "fee_bps", "member", "annual_return"])


def break_even_fee(sweep: pd.DataFrame, annual_return: float) -> float:
    """Fee (bp) at which one strategy's mean falls to `annual_return`, linear in between.

    -inf where it is not above it at the lowest fee tried, inf where it still is at the highest.
    """
    mean = sweep.groupby("fee_bps")["annual_return"].mean() - annual_return
    fees, values = mean.index.to_numpy(), mean.to_numpy()
    for i in range(len(values) - 1):
        if values[i] > 0 >= values[i + 1]:
            share = values[i] / (values[i] - values[i + 1])
            return float(fees[i] + share * (fees[i + 1] - fees[i]))
    return float("inf") if values[-1] > 0 else float("-inf")


def describe_break_even(strategy: str, fee_bps: float, reference: str) -> str:
    """`break_even_fee` in words."""
    strategy, reference = strategy.replace("_", " "), reference.replace("_", " ")
    if np.isinf(fee_bps):
        often = "every fee" if fee_bps > 0 else "no fee"
        return f"{strategy} earns more than {reference} at {often} tried."
    return f"{strategy} earns more than {reference} below a fee of {fee_bps:.1f} bp."


def shows_edge(row: Mapping[str, Any]) -> bool:
    """Whether the interval of `excess_sharpe` lies above zero; False where it is undefined."""
    low = row["excess_sharpe"]["low"]
    return low is not None and low > 0


def headline_frame(summary: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The headline as text cells, one row a strategy, for a reader."""

    def interval(entry: Mapping[str, float | None], form: str) -> str:
        estimate = Estimate(**{k: np.nan if v is None else v for k, v in entry.items()})
        if not np.isfinite(estimate.value):
            return "-"
        value, low, high = (format(v, form) for v in vars(estimate).values())
        return f"{value} [{low}, {high}]"

    rows = {
        name: {
            "runs": str(row["members"]),
            "return a year": interval(row["annual_return"], ".1%"),
            "Sharpe ratio": interval(row["sharpe"], ".2f"),
            "Sharpe less buy-and-hold's": interval(row["excess_sharpe"], ".2f"),
            "max drawdown": format(row["max_drawdown"], ".1%"),
            "turnover a year": format(row["turnover_per_year"], ".1f"),
            "cost a year": format(row["cost_per_year"], ".2%"),
        }
        for name, row in summary.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("strategy")


def _per_year(rollouts: Sequence[Rollout], field: str, per_year: float) -> float:
    shares = [(getattr(r, field)[1:] / r.equity[:-1]).mean() for r in rollouts]
    return float(np.mean(shares) * per_year)
