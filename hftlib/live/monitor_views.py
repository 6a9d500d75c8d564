"""What a monitor shows of the account, its limits and its venues now: plain values for JSON."""

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from hftlib.live.broker import BrokerError
from hftlib.live.desk import Desk
from hftlib.live.standing import mark
from hftlib.portfolio.positions import Position
from hftlib.portfolio.risk import portfolio_var
from hftlib.portfolio.risk_state import NO_SECTOR, RiskError, RiskState, build_state

N_LEVELS = 10  # of each side of a book


def to_plain(value: Any) -> Any:
    """A value as JSON has it: a number that is none becomes None, at any depth."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {str(name): to_plain(part) for name, part in value.items()}
    return [to_plain(part) for part in value]


def view_standing(desk: Desk) -> dict[str, Any]:
    """Equity at the marks, and what has been gained, lost and traded."""
    standing = mark(desk.standing, desk.standing.ts_ns, float(desk.equity))
    return {
        "equity": standing.equity,
        "cash": float(desk.account.cash),
        "peak_equity": standing.peak_equity,
        "day_equity": standing.day_equity,
        "drawdown": standing.drawdown,
        "daily_loss": standing.daily_loss,
        "volume_today": standing.volume_today,
        "trades_today": len(standing.traded_ids),
        "initial_cash": float(desk.rules.cash),
    }


def view_positions(desk: Desk) -> list[dict[str, Any]]:
    """Each symbol of the account; without an average cost where it is flat."""
    shown, equity = [], float(desk.equity)
    for symbol in desk.rules.symbols:
        position = desk.account.positions.get(symbol, Position())
        price = desk.marks.get(symbol, math.nan)
        units, cost = float(position.units), position.average_cost
        value = units * price if units else 0.0
        shown.append(
            {
                "symbol": symbol,
                "units": units,
                "average_cost": math.nan if cost is None else float(cost),
                "price": price,
                "value": value,
                "weight": value / equity if equity > 0 else math.nan,
                "unrealised": float(position.unrealised(price)) if units else 0.0,
            }
        )
    return shown


def view_books(desk: Desk) -> dict[str, Any]:
    """Levels of each symbol's books, best first; a venue that does not answer is left out."""
    books: dict[str, Any] = {}
    for symbol in desk.rules.symbols:
        books[symbol] = {}
        for name, broker in desk.brokers.items():
            try:
                sides = [broker.quotes(symbol, side).levels[:N_LEVELS] for side in (-1, 1)]
            except BrokerError:
                continue
            bids, asks = ([[float(p), float(q)] for p, q in levels] for levels in sides)
            books[symbol][name] = {"bids": bids, "asks": asks}
    return books


def measure_limits(desk: Desk) -> list[dict[str, Any]]:
    """Each limit, and what the account uses of it; nan where that is not known.

    Orders that are still open are not counted. `stop_loss` and `take_profit` are the largest
    loss and gain of a position since its entry.
    """
    limits = {k: v for k, v in vars(desk.rules.limits).items() if k != "var_level"}
    used = dict.fromkeys(limits, math.nan)
    with suppress(RiskError):  # an account worth nothing has no shares of it
        used |= _measure(_build(desk), desk.rules.limits.var_level)
    return [{"name": k, "used": used[k], "limit": limit} for k, limit in limits.items()]


def _build(desk: Desk) -> RiskState:
    standing, marks = desk.standing, desk.marks
    held = {symbol: desk.account.positions.get(symbol, Position()) for symbol in marks}
    covariance = desk.covariance
    if covariance is not None and len(covariance) != len(marks):
        covariance = None
    return build_state(
        prices=marks,
        units={symbol: float(position.units) for symbol, position in held.items()},
        entry_prices={s: float(p.average_cost) for s, p in held.items() if p.average_cost},
        equity=standing.equity,
        peak_equity=standing.peak_equity,
        day_equity=standing.day_equity,
        trades_today=len(standing.traded_ids),
        volume_today=standing.volume_today,
        sectors={s: name for s, name in desk.rules.sectors.items() if s in marks},
        covariance=covariance,
    )


def _measure(state: RiskState, var_level: float) -> dict[str, float]:
    sizes = np.abs(state.weights)
    sectors = {name for name in state.sectors if name != NO_SECTOR}
    totals = [sizes[[s == name for s in state.sectors]].sum() for name in sectors]
    changes = np.sign(state.units) * (state.prices / state.entry_prices - 1.0)
    changes = changes[np.isfinite(changes)]
    return {
        "max_drawdown": state.drawdown,
        "max_daily_loss": state.daily_loss,
        "max_leverage": float(sizes.sum()),
        "max_position": float(sizes.max(initial=0.0)),
        "max_sector": float(max(totals, default=0.0)),
        "max_var": math.nan if state.covariance is None else portfolio_var(state, var_level),
        "max_daily_trades": float(state.trades_today),
        "max_daily_volume": state.volume_today / state.day_equity,
        "stop_loss": float(-changes.min(initial=0.0)),
        "take_profit": float(changes.max(initial=0.0)),
    }
