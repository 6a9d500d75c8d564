"""Methods of allocation compared on one walk-forward span, after costs.

Each walk decides with `portfolio.rebalancing.rebalance`, so from the past alone; walks run
side by side. What is compared begins at the first bar at which all of them hold something.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hftlib.compute import map_parallel
from hftlib.evaluation.forecasts import correlate, estimate
from hftlib.evaluation.statistics import Estimate, compare_strategies
from hftlib.portfolio import measures
from hftlib.portfolio.allocation import (
    Allocator,
    equal_weight,
    hierarchical_risk_parity,
    maximum_sharpe,
    mean_cvar,
    minimum_variance,
    risk_parity,
)
from hftlib.portfolio.constraints import Constraints
from hftlib.portfolio.costs import Costs
from hftlib.portfolio.kelly import kelly
from hftlib.portfolio.optimisation import Allocation
from hftlib.portfolio.rebalancing import Rule, Walk, net_returns, rebalance
from hftlib.portfolio.risk import RiskLimits
from hftlib.portfolio.risk_measures import beta, herfindahl, tracking_error
from hftlib.portfolio.views import black_litterman, take_views
from hftlib.portfolio.weight_limits import clip_weights
from hftlib.schema import WEIGHTS, validate

FALLBACK = "fallback"  # the key of `bind_methods` for equal weight without a limit on turnover
METHODS: dict[str, Callable[..., Allocation]] = {
    "equal_weight": equal_weight,
    "minimum_variance": minimum_variance,
    "maximum_sharpe": maximum_sharpe,
    "mean_cvar": mean_cvar,
    "risk_parity": risk_parity,
    "hierarchical_risk_parity": hierarchical_risk_parity,
    "kelly": kelly,
}


class Plan(NamedTuple):
    """One walk: who decides on which prices, when, and who steps in where that fails."""

    prices: pd.DataFrame
    allocator: Allocator
    rule: Rule
    fallback: Allocator | None = None


def bind(method: Callable[..., Allocation], constraints: Constraints, **settings: Any) -> Allocator:
    """A method of allocation with its constraints and settings, ready for `rebalance`."""
    return partial(_apply, method, constraints, settings)


def bind_methods(
    bounds: Constraints, *, cvar_level: float, cvar_aversion: float, kelly_fraction: float
) -> dict[str, Allocator]:
    """All of `METHODS` within the same bounds, and equal weight for where they fail.

    Kelly's weights may sum to less than the budget: the rest is cash.
    """
    kept = replace(bounds, budget=None, leverage=bounds.budget)
    found = {name: bind(method, bounds) for name, method in METHODS.items()}
    found["mean_cvar"] = bind(mean_cvar, bounds, level=cvar_level, aversion=cvar_aversion)
    found["kelly"] = bind(kelly, kept, fraction=kelly_fraction)
    return found | {FALLBACK: bind(equal_weight, replace(bounds, turnover=None))}


def bind_views(forecasts: pd.DataFrame, constraints: Constraints, sd_scale: float) -> Allocator:
    """Black-Litterman on the forecasts made at the bar of the decision; see `take_views`."""
    return partial(_view, forecasts, constraints, sd_scale)


def bind_clipped(
    targets: pd.DataFrame, sectors: "np.typing.NDArray[np.int64]", limits: RiskLimits
) -> Allocator:
    """What another walk decided, cut to the limits; what is cut off is cash.

    `targets` are a walk's, shape (n_decisions, n_assets); only its bars can be decided at.
    """
    clipped = clip_weights(targets.to_numpy(), sectors, limits)
    return partial(_repeat, pd.DataFrame(clipped, targets.index, targets.columns))


def walk_plans(plans: Mapping[str, Plan], lookback_bars: int) -> dict[str, Walk]:
    """The walk of each plan, in the order of `plans`, whatever the number of processes."""
    walk = partial(_walk, lookback_bars=lookback_bars)
    return dict(zip(plans, map_parallel(walk, [*plans.values()], "walks"), strict=True))


def cut_returns(walks: Mapping[str, Walk], costs: Costs) -> pd.DataFrame:
    """Returns after costs of shape (n_bars, n_walks), from the bar after all have traded.

    Raises
    ------
    ValueError
        If a walk never trades, or as `net_returns`.
    """
    idle = [name for name, walk in walks.items() if not (walk.turnover > 0).any()]
    if idle:
        raise ValueError(
            f"{', '.join(idle)} never traded; expected a first decision within the span: give "
            "more bars or a shorter lookback"
        )
    started = max(walk.turnover.gt(0).idxmax() for walk in walks.values())
    table = pd.DataFrame({name: net_returns(walk, costs) for name, walk in walks.items()})
    return table[table.index > started]


def compare_walks(
    walks: Mapping[str, Walk],
    costs: Costs,
    *,
    benchmark: str,
    n_bootstrap: int,
    confidence: float,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Measures of each walk on the common span.

    Returns
    -------
    dict
        `{name: {annual_return, sharpe, excess_return, excess_sharpe}}` as `Estimate.to_dict`
        gives them, the excess over `benchmark`; and as numbers volatility, max_drawdown,
        turnover_per_year (sum of |weight traded|), herfindahl (mean over bars), beta and
        tracking_error against the benchmark, n_decisions, n_notes, n_fallbacks, n_kept.
    """
    returns = cut_returns(walks, costs)
    per_year = measures.periods_per_year(pd.DatetimeIndex(returns.index).as_unit("ns").asi8)
    estimates = compare_strategies(
        {name: returns[[name]].to_numpy() for name in walks},
        benchmark=benchmark,
        periods_per_year=per_year,
        n_bootstrap=n_bootstrap,
        confidence=confidence,
        seed=seed,
    )
    found: dict[str, dict[str, Any]] = {}
    for name, walk in walks.items():
        mine = returns[name]
        kinds = walk.events["kind"].value_counts()
        found[name] = {
            **{key: estimate.to_dict() for key, estimate in estimates[name].items()},
            "volatility": float(measures.volatility(mine, per_year)),
            "max_drawdown": float(measures.evaluate_returns(mine, per_year)["max_drawdown"]),
            "turnover_per_year": float(walk.turnover[returns.index].mean() * per_year),
            "herfindahl": float(
                np.mean([herfindahl(row) for row in walk.held.loc[returns.index].to_numpy()])
            ),
            "beta": beta(mine, returns[benchmark]),
            "tracking_error": tracking_error(mine, returns[benchmark], per_year),
            "n_decisions": len(walk.targets),
            **{f"n_{kind}": int(kinds.get(kind, 0)) for kind in ("note", "fallback", "kept")},
        }
    return found


def judge_ranking(
    forecasts: pd.DataFrame,
    closes: pd.DataFrame,
    *,
    n_bootstrap: int,
    confidence: float,
    seed: int,
) -> Estimate:
    """Correlation of the views on which asset does better with what came, over all days.

    Both are the next log return of the first column of `closes` less the mean of the others.
    Nothing is traded, so that each day's forecast is judged, whatever the pace of a walk.

    Parameters
    ----------
    forecasts : frame as for `take_views`
    closes : frame of shape (n_bars, n_assets), index ts

    Returns
    -------
    Estimate
        nan for a single asset.
    """
    if closes.shape[1] < 2:
        return Estimate(np.nan, np.nan, np.nan)
    first, *others = closes.columns
    view = forecasts.pivot(index="ts", columns="symbol", values="next_return_mean")[[*closes]]
    came = np.log(closes).diff().shift(-1)  # of the next bar, at the bar of the forecast
    gaps = pd.DataFrame({k: t[first] - t[others].mean(axis=1) for k, t in enumerate((view, came))})
    known = gaps.dropna()
    return estimate(
        correlate,
        known[0],
        known[1],
        n_bootstrap=n_bootstrap,
        confidence=confidence,
        seed=seed,
    )


def walks_frame(results: Mapping[str, Mapping[str, Any]], benchmark: str) -> pd.DataFrame:
    """`compare_walks` as text cells, one row a walk, for a reader; rates are a year's."""
    rows = {
        name.replace("_", " "): {
            "return": f"{row['annual_return']['value']:.1%}",
            "volatility": f"{row['volatility']:.1%}",
            "Sharpe ratio": interval(row["sharpe"], ".2f"),
            f"less {benchmark.replace('_', ' ')}": (
                interval(row["excess_sharpe"], "+.2f") if name != benchmark else "-"
            ),
            "drawdown": f"{row['max_drawdown']:.1%}",
            "turnover": f"{row['turnover_per_year']:.1f}",
            "HHI": f"{row['herfindahl']:.3f}",
            "beta": f"{row['beta']:.2f}",
            "tracking": f"{row['tracking_error']:.1%}",
        }
        for name, row in results.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def interval(entry: Mapping[str, float | None], form: str) -> str:
    """An `Estimate` of `compare_walks` in words such as "0.83 [0.41, 1.26]"; "-" without one."""
    values = [entry[key] for key in ("value", "low", "high")]
    if None in values:
        return "-"
    value, low, high = (format(v, form) for v in values)
    return f"{value} [{low}, {high}]"


def events_frame(walks: Mapping[str, Walk]) -> pd.DataFrame:
    """How often each walk had each event; numbers within a reason are left out of its text."""
    rows = [
        (name, kind, part.split(" of ")[0].split(":")[0])
        for name, walk in walks.items()
        for kind, part in zip(walk.events["kind"], walk.events["reason"], strict=True)
    ]
    table = pd.DataFrame(rows, columns=["walk", "kind", "reason"])
    return table.value_counts(sort=False).rename("times").reset_index()


def weights_table(walks: Mapping[str, Walk], rule: str) -> pd.DataFrame:
    """Targets of all walks as `schema.WEIGHTS`."""
    parts = [
        walk.targets.rename_axis(index="ts", columns="symbol")
        .stack()
        .rename("weight")
        .reset_index()
        .assign(strategy=name, rule=rule)
        for name, walk in walks.items()
    ]
    table = pd.concat(parts, ignore_index=True)[WEIGHTS.names]
    return validate(table.astype({c.name: c.dtype for c in WEIGHTS.columns}), WEIGHTS)


def group_weights(held: pd.DataFrame, sectors: Mapping[str, str]) -> pd.DataFrame:
    """Weights summed by sector, sectors by name, shape (n_bars, n_sectors)."""
    return held.T.groupby(held.columns.map(dict(sectors))).sum().T


def _apply(
    method: Callable[..., Allocation],
    constraints: Constraints,
    settings: Mapping[str, Any],
    window: pd.DataFrame,
    previous: pd.Series | None,
) -> Allocation:
    return method(window, constraints, previous, **settings)


def _view(
    forecasts: pd.DataFrame,
    constraints: Constraints,
    sd_scale: float,
    window: pd.DataFrame,
    previous: pd.Series | None,
) -> Allocation:
    views = take_views(forecasts, window.index[-1], sd_scale)
    return black_litterman(window, views, constraints, previous)


def _repeat(targets: pd.DataFrame, window: pd.DataFrame, previous: pd.Series | None) -> Allocation:
    return Allocation(targets.loc[window.index[-1]])


def _walk(plan: Plan, lookback_bars: int) -> Walk:
    return rebalance(
        plan.prices,
        plan.allocator,
        plan.rule,
        lookback_bars=lookback_bars,
        fallback=plan.fallback,
    )
