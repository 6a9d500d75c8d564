"""Walking a frame of prices with an allocator: when to decide, what is held, what it earns.

A decision at bar t sees returns of bars <= t and is traded at the price of bar t + 1.
Row s of `held` are the weights after the trades of bar s; between trades they drift
with prices. The return of bar s + 1 therefore belongs to row s: `Walk.returns` has it
so, and nothing else should be multiplied with `held`.
"""

from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.portfolio.allocation import Allocator
from hftlib.portfolio.asset_frames import AllocationError, name_some, price_returns
from hftlib.portfolio.constraints import WeightError
from hftlib.portfolio.costs import BPS, Costs, check_costs
from hftlib.portfolio.optimisation import Allocation
from hftlib.schema import UTC

FloatArray = npt.NDArray[np.float64]


class EveryBars(NamedTuple):
    """Decide on every `n_bars`-th bar from the first full window on."""

    n_bars: int


class MonthEnds(NamedTuple):
    """Decide on the last bar of each month (UTC); the index is taken as the known calendar."""


class Drift(NamedTuple):
    """Decide when a weight is further than `threshold` from its last target."""

    threshold: float


Rule = EveryBars | MonthEnds | Drift


class Walk(NamedTuple):
    """What `rebalance` did.

    Attributes
    ----------
    held : frame of shape (n_bars, n_assets)
        Weights after the trades of each bar; zero before the first. Cash is 1 - their sum.
    targets : frame of shape (n_decisions, n_assets)
        Weights decided, at the bar of the decision; traded one bar later.
    returns : series of shape (n_bars,)
        Return of equity in each bar before costs; cash earns nothing. 0 in the first.
    turnover : series of shape (n_bars,)
        Sum of |weight traded| at each bar, share of equity.
    events : frame with columns ts, kind, reason
        What did not go by the allocator alone: kind "note" (one of the allocation's),
        "fallback" (the other allocator decided), "kept" (no one did, positions were left
        as they were) or "ruined" (equity reached 0).
    """

    held: pd.DataFrame
    targets: pd.DataFrame
    returns: pd.Series
    turnover: pd.Series
    events: pd.DataFrame


def rebalance(
    prices: pd.DataFrame,
    allocator: Allocator,
    rule: Rule,
    *,
    lookback_bars: int,
    fallback: Allocator | None = None,
) -> Walk:
    """Hold what `allocator` decides whenever `rule` says.

    Parameters
    ----------
    prices : frame of shape (n_bars, n_assets)
        At which positions are valued and traded.
    allocator : function of (returns, previous)
        Gets the last `lookback_bars` returns up to the decision, and the weights held
        then (drifted), None before the first trade; gives an `Allocation`. One that does not
        have a finite weight for each asset counts as a `WeightError`.
    lookback_bars : int
        Rows of returns that a decision sees, at least 2; the first decision is made at
        bar `lookback_bars`.
    fallback : function of (returns, previous), optional
        Decides where `allocator` raises an `AllocationError`. Without one, or where it
        raises too, positions are left as they are. Both are recorded in the events.

    Raises
    ------
    FrameError, MissingDataError, PriceError
        As `check_prices`.
    AllocationError
        If the rule or the lookback is out of range.
    """
    returns = price_returns(prices)
    _check_rule(rule, lookback_bars)
    moves = np.vstack([np.zeros(prices.shape[1]), returns.to_numpy()])
    n_bars, n_assets = moves.shape
    held = np.zeros((n_bars, n_assets))
    earned, traded = np.zeros(n_bars), np.zeros(n_bars)
    targets: dict[Hashable, FloatArray] = {}
    events: list[tuple[Any, str, str]] = []
    calendar = _decision_bars(prices.index, rule, lookback_bars)
    target: FloatArray | None = None  # the last one decided
    pending, started = False, False
    for s in range(n_bars):
        now = held[s]
        if s:
            earned[s] = held[s - 1] @ moves[s]
            if earned[s] <= -1.0:
                earned[s] = -1.0
                events.append((prices.index[s], "ruined", "losses reached all of equity"))
                break
            now[:] = held[s - 1] * (1.0 + moves[s]) / (1.0 + earned[s])
        if pending and target is not None:
            traded[s] = np.abs(target - now).sum()
            now[:] = target
            pending, started = False, True
        if s < lookback_bars:
            continue
        if isinstance(rule, Drift):
            due = target is None or bool(np.abs(now - target).max() > rule.threshold)
        else:
            due = bool(calendar[s])
        if due:
            window = returns.iloc[s - lookback_bars : s]
            previous = pd.Series(now.copy(), index=prices.columns) if started else None
            found, happened = _decide(allocator, fallback, window, previous)
            events += [(prices.index[s], kind, reason) for kind, reason in happened]
            if found is not None:
                target = found.weights.to_numpy(dtype=np.float64)
                targets[prices.index[s]] = target
                pending = True
    rows = np.array(list(targets.values())).reshape(len(targets), n_assets)
    return Walk(
        pd.DataFrame(held, index=prices.index, columns=prices.columns),
        pd.DataFrame(rows, index=prices.index[:0].append(pd.DatetimeIndex(list(targets), tz="UTC")),
                     columns=prices.columns),
        pd.Series(earned, index=prices.index, name="return"),
        pd.Series(traded, index=prices.index, name="turnover"),
        pd.DataFrame(events, columns=["ts", "kind", "reason"]).astype(
            {"ts": UTC, "kind": "str", "reason": "str"}
        ),
    )  # fmt: skip


def net_returns(walk: Walk, costs: Costs) -> pd.Series:
    """Returns of equity after fee, half the spread and slippage on what was traded.

    Raises
    ------
    ValueError
        If a rate is out of range, or there is impact, which depends on the volume of a bar.
    """
    check_costs(costs)
    if costs.impact_bps:
        raise ValueError(f"impact_bps is {costs.impact_bps}; expected 0: weights have no volume")
    rate = BPS * (costs.fee_bps + 0.5 * costs.spread_bps + costs.slippage_bps)
    return ((1.0 + walk.returns) * (1.0 - rate * walk.turnover) - 1.0).rename("return")


def _decide(
    allocator: Allocator,
    fallback: Allocator | None,
    window: pd.DataFrame,
    previous: pd.Series | None,
) -> tuple[Allocation | None, list[tuple[str, str]]]:
    """The weights, None to leave all as it is, and what happened."""
    happened = []
    try:
        found = _complete(allocator(window, previous), window)
    except AllocationError as error:
        reason = f"{type(error).__name__}: {error}"
        if fallback is None:
            return None, [("kept", reason)]
        try:
            found = _complete(fallback(window, previous), window)
        except AllocationError as second:
            return None, [("kept", f"{reason}; then {type(second).__name__}: {second}")]
        happened.append(("fallback", reason))
    return found, [*happened, *(("note", note) for note in found.notes)]


def _complete(found: Allocation, window: pd.DataFrame) -> Allocation:
    """`found` if it has a finite weight for every asset of the frame and for no other."""
    weights = found.weights.reindex(window.columns)
    missing = list(window.columns[~np.isfinite(weights.to_numpy(dtype=np.float64))])
    surplus = [str(asset) for asset in found.weights.index if asset not in window.columns]
    if missing or surplus:
        raise WeightError(
            f"the allocator's weights lack {name_some(missing) or 'none'} and have "
            f"{name_some(surplus) or 'none'} besides; expected a finite weight for each asset"
        )
    return Allocation(weights, found.notes)


def _decision_bars(
    index: pd.DatetimeIndex, rule: Rule, lookback_bars: int
) -> npt.NDArray[np.bool_]:
    """Whether each bar is one of the calendar's, shape (n_bars,)."""
    bars = np.arange(len(index))
    if isinstance(rule, EveryBars):
        return (bars - lookback_bars) % rule.n_bars == 0
    month = index.year.to_numpy() * 12 + index.month.to_numpy()
    return np.append(month[1:] != month[:-1], False)


def _check_rule(rule: Rule, lookback_bars: int) -> None:
    if lookback_bars < 2:
        raise AllocationError(f"lookback_bars is {lookback_bars}; expected at least 2")
    if isinstance(rule, EveryBars) and rule.n_bars < 1:
        raise AllocationError(f"n_bars is {rule.n_bars}; expected at least 1")
    if isinstance(rule, Drift) and not rule.threshold >= 0:
        raise AllocationError(f"threshold is {rule.threshold}; expected a weight from 0")
