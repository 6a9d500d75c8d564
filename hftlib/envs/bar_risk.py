"""Limits of an account on bars: every order passes the check of `portfolio.risk` where it fills.

The environment and the backtest engine call these between sizing and booking an order. Orders
pass at the open at which they fill, asset by asset in the order of the symbols, each in the state
that the fills before it have left; marks are that open. They are accepted, shrunk or rejected.
Units are continuous, without lots. A position that a close has taken beyond its stop loss or take
profit is closed at the next open whatever is asked for; it may be opened again a bar later.

An account is marked at opens and closes and keeps what `risk_state.mark_to_market` and
`record_fill` would: days are those of UTC by the start of a bar, a day's loss counts from the
last close of the day before, its trades and volume from its first open.

The value at risk is that of the covariance known at the last close before the open
(`risk_covariance`). Until that has seen enough returns, of the segment or since the first close
given, nothing may be opened: a limit that cannot be measured cannot be kept.

All functions take None for `guard` where nothing is limited; the compiler then leaves them out.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hftlib.compute import inline_kernel
from hftlib.envs.bar_state import CLOSE, DUST, OPEN
from hftlib.portfolio.risk import RiskLimits, pack_limits
from hftlib.portfolio.risk_covariance import check_decay, decayed_covariances
from hftlib.portfolio.risk_kernel import (
    NO_REASON,
    Bounds,
    Standing,
    allow_order,
    average_entry,
    expose,
    find_exit,
)
from hftlib.portfolio.risk_state import DAY_NS
from hftlib.portfolio.weight_limits import number_sectors

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# What the limits need to know of one account; money in currency. The last three are of the last
# step: orders shrunk or rejected, their notional at mid that was not traded, positions closed.
TALLY = np.dtype(
    [
        ("equity", "f8"),
        ("peak", "f8"),
        ("day_equity", "f8"),
        ("volume", "f8"),
        ("trades", "i8"),
        ("first_asset", "i8"),  # symbol of the account's first asset
        ("n_cut", "i8"),
        ("refused", "f8"),
        ("n_exits", "i8"),
    ]
)


class Guard(NamedTuple):
    """Limits and what they watch.

    Attributes
    ----------
    bounds : Bounds
    sector_of : int64 array of shape (n_symbols,)
        -1 is none.
    days : int64 array of shape (n_rows,)
        UTC day of each bar.
    covariances : array of shape (n_rows, n_assets, n_assets)
        nan where not known; (n_rows, 0, 0) where the value at risk is not limited.
    tallies : TALLY records of shape (n_accounts,)
    entries : array of shape (n_accounts, n_assets)
        Average price paid for a position; anything where there is none.
    exits : int64 array of shape (n_assets,)
        Scratch: reason to close each position of the account in hand, `NO_REASON` for none.
    values : array of shape (n_assets,)
        Scratch.
    """

    bounds: Bounds
    sector_of: IntArray
    days: IntArray
    covariances: FloatArray
    tallies: npt.NDArray[np.void]
    entries: FloatArray
    exits: IntArray
    values: FloatArray


def build_guard(
    limits: RiskLimits,
    *,
    symbols: Sequence[str],
    sectors: Mapping[str, str],
    ts: IntArray,
    closes: Sequence[FloatArray],
    var_decay: float,
    n_accounts: int,
    earlier: FloatArray | None = None,
) -> Guard:
    """Limits over bars.

    Parameters
    ----------
    sectors : mapping of symbol to str
        A symbol left out has no sector limit.
    ts : int64 array of shape (n_rows,)
        Start of each bar, nanoseconds UTC.
    closes : arrays of shape (n_bars, n_assets)
        One after the other they have n_rows; no return is taken from one to the next.
    var_decay : float
        As of `risk_covariance.decayed_covariances`.
    earlier : array of shape (n_earlier, n_assets), optional
        Closes before the first row, for its covariance; only with one part of `closes`.

    Raises
    ------
    RiskError
        If a sector is given for a symbol that is not among `symbols`, or the decay is out of range.
    """
    check_decay(var_decay)
    n_assets = closes[0].shape[1]
    if math.isfinite(limits.max_var):
        known = closes if earlier is None else [np.concatenate([earlier, closes[0]])]
        parts = [decayed_covariances(close, var_decay) for close in known]
        covariances = np.concatenate(parts)[-len(ts) :]
    else:
        covariances = np.empty((len(ts), 0, 0))
    return Guard(
        bounds=pack_limits(limits),
        sector_of=number_sectors(symbols, sectors)[0],
        days=ts // DAY_NS,
        covariances=covariances,
        tallies=np.zeros(n_accounts, dtype=TALLY),
        entries=np.zeros((n_accounts, n_assets)),
        exits=np.full(n_assets, NO_REASON, dtype=np.int64),
        values=np.zeros(n_assets),
    )


def open_tallies(
    guard: Guard, which: Sequence[int] | IntArray, cash: float, first_asset: IntArray | int = 0
) -> None:
    """Begin some accounts anew with `cash`."""
    fresh = np.zeros(len(which), dtype=TALLY)
    for name in ("equity", "peak", "day_equity"):
        fresh[name] = cash
    fresh["first_asset"] = first_asset
    guard.tallies[which] = fresh


def copy_refusals(guard: Guard) -> dict[str, npt.NDArray[Any]]:
    """What the limits did in the last step, arrays of shape (n_accounts,) by name."""
    return {name: guard.tallies[name].copy() for name in ("n_cut", "refused", "n_exits")}


@inline_kernel
def open_bar(guard, j, bars, row, offsets, units, i, worth):  # type: ignore[no-untyped-def]
    """Mark account j at the open after `row`, and write which positions must be closed there."""
    if guard is None:
        return
    tally = guard.tallies[j]
    if guard.days[row + 1] != guard.days[row]:
        tally.day_equity = tally.equity
        tally.trades = 0
        tally.volume = 0.0
    tally.equity = worth
    tally.peak = max(tally.peak, worth)
    tally.n_cut = tally.n_exits = 0
    tally.refused = 0.0
    for a in range(len(offsets)):
        reason = NO_REASON
        if units[i, a] != 0.0:
            close = bars[row + offsets[a], CLOSE]
            _, reason = find_exit(guard.bounds, units[i, a], close, guard.entries[j, a])
        guard.exits[a] = reason


@inline_kernel
def must_close(guard, is_called, a):  # type: ignore[no-untyped-def]
    """Whether the position in asset a is closed whatever is asked for."""
    if guard is None:
        return is_called
    return is_called or guard.exits[a] != NO_REASON


@inline_kernel
def is_rounding(guard, j, target, quantity, mid):  # type: ignore[no-untyped-def]
    """Whether an order is no decision but what rounding left; limits then send and count none."""
    if guard is None:
        return False
    return target != 0.0 and abs(quantity) * mid <= DUST * guard.tallies[j].equity


@inline_kernel
def pass_order(guard, j, bars, row, offsets, units, i, a, quantity):  # type: ignore[no-untyped-def]
    """What may be sent of an order at the open after `row`, and its index of `REASONS` if any."""
    if guard is None or quantity == 0.0:
        return quantity, NO_REASON
    tally = guard.tallies[j]
    if guard.exits[a] != NO_REASON:
        tally.n_exits += 1
        return quantity, guard.exits[a]
    for b in range(len(offsets)):
        guard.values[b] = units[i, b] * bars[row + 1 + offsets[b], OPEN]
    sector_of = guard.sector_of[tally.first_asset :]
    exposure = expose(guard.values, a, sector_of, guard.covariances[row])
    standing = Standing(
        tally.equity, tally.peak, tally.day_equity, float(tally.trades), tally.volume, False
    )
    mid = bars[row + 1 + offsets[a], OPEN]
    allowed, limit = allow_order(guard.bounds, standing, exposure, quantity, mid, units[i, a], 0.0)
    if limit != NO_REASON:
        tally.n_cut += 1
        tally.refused += abs(quantity - allowed) * mid
    return allowed, limit


@inline_kernel
def book_order(guard, j, a, held, quantity, mid, price, charge):  # type: ignore[no-untyped-def]
    """Note a fill of `quantity` units at `price` for the fee `charge`."""
    if guard is None or quantity == 0.0:
        return
    tally = guard.tallies[j]
    guard.entries[j, a] = average_entry(held, guard.entries[j, a], quantity, price)
    tally.equity += quantity * (mid - price) - charge
    tally.peak = max(tally.peak, tally.equity)
    tally.trades += 1
    tally.volume += abs(quantity) * price


@inline_kernel
def close_bar(guard, j, equity):  # type: ignore[no-untyped-def]
    """Mark account j at a close."""
    if guard is None:
        return
    tally = guard.tallies[j]
    tally.equity = equity
    tally.peak = max(tally.peak, equity)
