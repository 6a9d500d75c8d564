"""The compiled walk of one account over bars: target positions in, fills and equity out.

Orders are sized, priced and booked by the functions that the trading environment
calls (`envs.bar_orders`, `portfolio.costs`, `portfolio.ledger`).
"""

from typing import NamedTuple

import numpy as np

from hftlib.compute import compile_kernel, inline_kernel
from hftlib.envs.bar_orders import left_by_closing, plan_orders, size_order
from hftlib.envs.bar_risk import (
    book_order,
    close_bar,
    is_rounding,
    must_close,
    open_bar,
    pass_order,
)
from hftlib.envs.bar_state import CLOSE, OPEN, VOLUME, YEARS
from hftlib.portfolio.costs import BPS, fee, fill_price, impact
from hftlib.portfolio.ledger import Ledger, book_fill

# One fill: `quantity` signed units, `price` paid, `mid` the open; `fee`, `slippage` (half the
# spread and slippage) and `impact` are what it cost against the mid, currency.
FILL = np.dtype(
    [
        ("strategy", "i8"),
        ("row", "i8"),
        ("asset", "i8"),
        ("quantity", "f8"),
        ("price", "f8"),
        ("mid", "f8"),
        ("fee", "f8"),
        ("slippage", "f8"),
        ("impact", "f8"),
    ]
)
# One order that the limits judged: signed units `asked` and `allowed`; `reason` is an index of
# `risk_kernel.REASONS`, -1 for an order that was accepted.
EVENT = np.dtype(
    [
        ("strategy", "i8"),
        ("row", "i8"),
        ("asset", "i8"),
        ("asked", "f8"),
        ("allowed", "f8"),
        ("reason", "i8"),
    ]
)


class Sizing(NamedTuple):
    """Settings of a walk; the first five are what `bar_orders.plan_orders` reads."""

    is_continuous: bool
    lowest: int
    max_weight: float
    min_trade_weight: float
    max_leverage: float
    in_units: bool  # targets are units, not weights
    ruin: float  # equity, currency
    borrow: float  # shares a year
    interest: float


class Walk(NamedTuple):
    """What a walk writes, each of shape (n_bars,), units of (n_bars, n_assets)."""

    equity: np.ndarray
    cash: np.ndarray
    traded: np.ndarray
    paid: np.ndarray
    financing: np.ndarray
    units: np.ndarray


@inline_kernel
def _accrue(sizing, bars, t, offsets, units, cash):  # type: ignore[no-untyped-def]
    """Borrowing and interest between the opens of t - 1 and t, currency."""
    short = 0.0
    for a in range(len(offsets)):
        short += max(-units[t - 1, a], 0.0) * bars[t - 1 + offsets[a], CLOSE]
    rate = sizing.borrow * short + sizing.interest * max(-cash, 0.0)
    return rate * bars[t + offsets[0], YEARS]


@inline_kernel
def _value(bars, row, offsets, units, t, column):  # type: ignore[no-untyped-def]
    """Units of row t at the prices of `row`, currency."""
    total = 0.0
    for a in range(len(offsets)):
        total += units[t, a] * bars[row + offsets[a], column]
    return total


@compile_kernel
def walk(  # type: ignore[no-untyped-def]
    sizing, costs, bars, offsets, asked, targets, cash, strategy, out, fills, guard, events
):
    """Walk one account from row 0 to the last; the numbers of fills and of events written.

    Parameters
    ----------
    bars : array of shape (n_assets * n_bars, 4), by `bar_state`'s columns
        Row t of asset a is `t + offsets[a]`.
    asked : array of shape (n_bars, n_assets)
        Targets that arrive at the open of each row; nan leaves a position as it is.
    targets : array of shape (n_assets,)
        Scratch.
    fills : FILL records of shape (n_bars * n_assets,)
    guard : bar_risk.Guard or None
        Limits on its account 0.
    events : EVENT records of shape (n_bars * n_assets,)
        Written only with a guard.
    """
    n_bars, n_assets = asked.shape
    units = out.units
    ledger = Ledger(cash, 0.0, 0.0)
    called = False
    n_fills = n_events = 0
    fixed = (0.5 * costs.spread_bps + costs.slippage_bps) * BPS
    out.equity[0] = out.cash[0] = cash
    for t in range(1, n_bars):
        row = t - 1
        charged = _accrue(sizing, bars, t, offsets, units, ledger.cash)
        ledger = Ledger(ledger.cash - charged, 0.0, ledger.fees)
        for a in range(n_assets):
            units[t, a] = units[row, a]
        worth = ledger.cash + _value(bars, t, offsets, units, t, OPEN)
        open_bar(guard, 0, bars, row, offsets, units, t, worth)
        left = 1.0
        if sizing.in_units:
            for a in range(n_assets):
                targets[a] = 0.0 if must_close(guard, called, a) else asked[t, a]
        else:
            solvent = max(worth, 0.0)
            _, opened = plan_orders(
                sizing, bars, row, offsets, units, t, asked, solvent, called, targets, guard
            )
            if opened > 0.0:
                left = left_by_closing(costs, bars, row, offsets, units, t, worth, targets)
        traded = paid = 0.0
        for a in range(n_assets):
            if np.isnan(targets[a]):
                continue
            mid = bars[t + offsets[a], OPEN]
            volume = bars[row + offsets[a], VOLUME]
            held = units[t, a]
            if sizing.in_units:
                quantity = targets[a] - held
            else:
                quantity = size_order(costs, mid, volume, held, targets[a] * left)
            if quantity == 0.0:
                continue
            if guard is not None:
                if is_rounding(guard, 0, targets[a], quantity, mid):
                    continue
                event = events[n_events]
                event.strategy = strategy
                event.row = t
                event.asset = a
                event.asked = quantity
                quantity, reason = pass_order(guard, 0, bars, row, offsets, units, t, a, quantity)
                event.allowed = quantity
                event.reason = reason
                n_events += 1
                if quantity == 0.0:
                    continue
            moved = impact(costs, quantity, volume)
            price = fill_price(costs, mid, quantity, moved)
            charge = fee(costs, quantity * price)
            ledger = book_fill(Ledger(ledger.cash, held, ledger.fees), quantity, price, charge)
            units[t, a] = ledger.units
            book_order(guard, 0, a, held, quantity, mid, price, charge)
            notional = abs(quantity) * mid
            traded += notional
            paid += charge + notional * (fixed + moved)
            fill = fills[n_fills]
            fill.strategy = strategy
            fill.row = t
            fill.asset = a
            fill.quantity = quantity
            fill.price = price
            fill.mid = mid
            fill.fee = charge
            fill.slippage = notional * fixed
            fill.impact = notional * moved
            n_fills += 1
        equity = ledger.cash + _value(bars, t, offsets, units, t, CLOSE)
        close_bar(guard, 0, equity)
        out.equity[t] = equity
        out.cash[t] = ledger.cash
        out.traded[t] = traded
        out.paid[t] = paid
        out.financing[t] = charged
        called = called or equity <= sizing.ruin
    return n_fills, n_events
