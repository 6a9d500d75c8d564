"""The account as the risk check has to see it: with every order that may still trade.

An order is checked in the worst case that the orders before it leave open: all open orders of
its own side have traded and none of the other, every other symbol is as far from zero as its
open orders can take it, and each open order counts as a trade of the day. Whatever fills then,
and in whatever order, an order that passed breaks no limit. Prices move, of course: what is
certain is certain at the marks of the check.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from hftlib.live.store_tables import OpenOrder
from hftlib.portfolio.breakers import Breaker
from hftlib.portfolio.positions import Account
from hftlib.portfolio.risk import Decision
from hftlib.portfolio.risk_state import DAY_NS, FloatArray, RiskState, build_state


@dataclass(frozen=True)
class Standing:
    """What an account has gained and traded; plain values, so that it can be kept as JSON.

    `equity` is that of the last mark, `traded_ids` the orders that traded today.
    """

    ts_ns: int
    equity: float
    peak_equity: float
    day_equity: float
    volume_today: float = 0.0
    traded_ids: tuple[str, ...] = ()

    @property
    def drawdown(self) -> float:
        """Fall from the highest equity, share of it."""
        return 1.0 - self.equity / self.peak_equity

    @property
    def daily_loss(self) -> float:
        """Fall since the start of the day, share of the equity then."""
        return max(0.0, 1.0 - self.equity / self.day_equity)


def mark(standing: Standing, ts_ns: int, equity: float) -> Standing:
    """The standing at new prices; a new UTC day starts its counters from zero."""
    moved = replace(
        standing, ts_ns=ts_ns, equity=equity, peak_equity=max(standing.peak_equity, equity)
    )
    if ts_ns // DAY_NS == standing.ts_ns // DAY_NS:
        return moved
    return replace(moved, day_equity=standing.equity, volume_today=0.0, traded_ids=())


def count_fill(standing: Standing, client_id: str, notional: float, equity: float) -> Standing:
    """The standing after a fill, an order's first or a further one; `equity` at the marks."""
    ids = standing.traded_ids
    return replace(
        standing,
        equity=equity,
        peak_equity=max(standing.peak_equity, equity),
        volume_today=standing.volume_today + notional,
        traded_ids=ids if client_id in ids else (*ids, client_id),
    )


def build_worst_state(
    account: Account,
    standing: Standing,
    open_orders: Iterable[OpenOrder],
    *,
    symbol: str,
    side: int,
    marks: Mapping[str, float],
    sectors: Mapping[str, str],
    covariance: FloatArray | None,
    lot_size: float,
    is_halted: bool,
) -> RiskState:
    """What `risk.check_order` should look at for an order of `side` in `symbol`.

    Raises
    ------
    RiskError
        If the account is worth nothing, or a mark is no price.
    """
    rising, falling = dict.fromkeys(marks, 0.0), dict.fromkeys(marks, 0.0)
    volume, waiting = standing.volume_today, set()
    for order in open_orders:
        left, name = float(order.left), order.request.symbol
        limit = order.request.limit_price
        at = marks[name] if limit is None else max(marks[name], float(limit))
        (rising if left > 0 else falling)[name] += left
        volume += abs(left) * at
        waiting.add(order.request.client_id)
    units = {}
    for name in marks:
        held = float(account.units(name))
        high, low = held + rising[name], held + falling[name]
        if name == symbol:
            units[name] = high if side > 0 else low
        else:
            units[name] = high if abs(high) >= abs(low) else low
    return build_state(
        prices=marks,
        units=units,
        equity=standing.equity,
        peak_equity=standing.peak_equity,
        day_equity=standing.day_equity,
        trades_today=len(waiting.union(standing.traded_ids)),
        volume_today=volume,
        sectors=sectors,
        covariance=covariance,
        lot_size=lot_size,
        is_halted=is_halted,
        ts_ns=standing.ts_ns,
    )


def find_barrier(breaker: Breaker, *, is_stopped: bool, is_measured: bool) -> str:
    """Why only orders that reduce are accepted; "" if others may be.

    `is_stopped` is a halt, `is_measured` says whether the value at risk is known or not limited.
    """
    if is_stopped:
        return "trading is halted"
    if breaker.is_halted:
        return f"a circuit breaker is open, for {breaker.reason}"
    return "" if is_measured else "the value at risk is not known yet"


def explain(decision: Decision, barrier: str) -> str:
    """What stood against an order, with the barrier in the place of a halt's general words."""
    own = f"{barrier}: only orders that reduce are accepted"
    return "; ".join(own if b.limit == "halt" else str(b) for b in decision.breaches)
