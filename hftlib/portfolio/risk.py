"""Limits of an account and the check that every order passes before it is sent.

One engine for environment, backtest and paper trading. An order is accepted, shrunk to the
largest quantity that keeps all limits, or rejected. The part of an order that brings a position
towards zero is always accepted, whatever has been breached and even if it hedged another: it
must be possible to close. What goes beyond, opening or adding, must leave every limit kept. Only
in the value at risk may an order leave more than the limit, if it was above before and the order
lowers it.

Orders are valued at the mark and before costs: spread and fees lower the equity, so that an
account sent to a limit exactly may end slightly beyond; leave room for them in the limits.
The arithmetic is that of `risk_kernel`, which `weight_limits` applies to whole tables of target
weights and `envs.bar_risk` to the orders of the environment and of the backtest.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Literal, NamedTuple, cast

import numpy as np

from hftlib.portfolio.risk_kernel import (
    EXITS,
    LIMITS,
    N_LIMITS,
    NO_REASON,
    ROUNDING,
    Bounds,
    Exposure,
    Standing,
    allow_order,
    expose_asset,
    find_exit,
    weigh,
)
from hftlib.portfolio.risk_state import NO_SECTOR, FloatArray, RiskError, RiskState

__all__ = [
    "ROUNDING",
    "Breach",
    "Decision",
    "Exit",
    "Order",
    "RiskLimits",
    "check_order",
    "find_breaches",
    "pack_limits",
    "portfolio_var",
    "propose_exits",
]

Action = Literal["accept", "shrink", "reject"]
ExitReason = Literal["stop_loss", "take_profit"]


@dataclass(frozen=True)
class RiskLimits:
    """How far an account may go; infinity is no limit.

    Attributes
    ----------
    max_var : float
        Value at risk of one bar for normal returns without drift, share of equity; needs the
        state's covariance.
    var_level : float
        Its confidence, (.5, 1).
    max_drawdown : float
        Fall from the highest equity beyond which nothing is opened, share.
    max_leverage : float
        Long plus short, multiple of equity.
    max_position : float
        One symbol, share of equity.
    max_sector : float
        Long plus short in one sector, share of equity.
    stop_loss, take_profit : float
        Move against and in favour of a position since its entry at which an exit is proposed,
        share of the entry price.
    max_daily_trades : int or infinity
    max_daily_volume : float
        Traded notional of a day, multiple of the equity at its start.
    max_daily_loss : float
        Fall since the start of the day beyond which nothing is opened, share.
    """

    max_var: float = 0.02
    var_level: float = 0.95
    max_drawdown: float = 0.10
    max_leverage: float = 1.0
    max_position: float = 0.10
    max_sector: float = 0.30
    stop_loss: float = 0.05
    take_profit: float = 0.15
    max_daily_trades: float = 100
    max_daily_volume: float = 2.0
    max_daily_loss: float = 0.03

    def __post_init__(self) -> None:
        if not 0.5 < self.var_level < 1:
            raise RiskError(f"var_level is {self.var_level}; expected above .5 and below 1")
        for name, value in vars(self).items():
            if not value > 0:
                raise RiskError(f"{name} is {value}; expected above 0, math.inf for no limit")


class Order(NamedTuple):
    """A market order of signed `quantity` units."""

    symbol: str
    quantity: float


class Breach(NamedTuple):
    """A limit that an account breaks or would break; `place` is a symbol, sector or "account"."""

    limit: str  # a field of RiskLimits, or "halt"
    place: str
    value: float
    allowed: float

    def __str__(self) -> str:
        if self.limit == "halt":
            return "a circuit breaker is open: only orders that reduce are accepted"
        return f"{self.limit} of {self.place}: {self.value:.6g}, allowed {self.allowed:.6g}"


class Decision(NamedTuple):
    """What may be sent: `quantity` is signed, 0 if rejected; `breaches` say what stood against it.

    They are those of the order as it was asked for, empty if it is accepted.
    """

    action: Action
    quantity: float
    breaches: tuple[Breach, ...]


class Exit(NamedTuple):
    """An order that closes a position, because of `reason` at `change` since the entry."""

    order: Order
    reason: ExitReason
    change: float  # profit as a share of the entry price


@lru_cache(maxsize=32)
def pack_limits(limits: RiskLimits) -> Bounds:
    """The limits as the kernels take them."""
    values = {name: float(value) for name, value in vars(limits).items()}
    factor = NormalDist().inv_cdf(values.pop("var_level"))
    return Bounds(var_factor=factor, **values)


def check_order(order: Order, state: RiskState, limits: RiskLimits) -> Decision:
    """Accept, shrink or reject one order.

    A shrunk quantity is a whole number of lots, or just closes the position; one lot more would
    break a limit. Without lots it reaches the limit. Checked again in the same state it is
    accepted.

    Raises
    ------
    RiskError
        If the symbol is unknown, the quantity not finite, or the value at risk is limited and
        the state has no covariance.
    """
    k = state.row(order.symbol)
    quantity = float(order.quantity)
    if not math.isfinite(quantity):
        raise RiskError(f"quantity of {order.symbol} is {order.quantity}; expected a finite number")
    allowed, limit = allow_order(
        pack_limits(limits),
        _stand(state),
        _expose(state, k, limits),
        quantity,
        float(state.prices[k]),
        float(state.units[k]),
        0.0 if state.lot_size is None else state.lot_size,
    )
    if limit == NO_REASON:
        return Decision("accept", order.quantity, ())
    breaches = find_breaches(order, state, limits)
    return Decision("reject" if allowed == 0 else "shrink", allowed, breaches)


def find_breaches(order: Order, state: RiskState, limits: RiskLimits) -> tuple[Breach, ...]:
    """Limits that stand against an order which opens or adds, all of them."""
    k = state.row(order.symbol)
    places = dict.fromkeys(LIMITS, "account")
    places |= {"max_position": order.symbol, "max_sector": state.sectors[k]}
    measured = weigh(
        pack_limits(limits),
        _stand(state),
        _expose(state, k, limits),
        float(order.quantity),
        float(state.prices[k]),
    )
    return tuple(
        Breach(name, place, value, allowed)
        for (name, place), value, allowed in zip(places.items(), *measured, strict=True)
        if value > allowed * (1 + ROUNDING)
    )


def propose_exits(state: RiskState, limits: RiskLimits) -> tuple[Exit, ...]:
    """Orders that close each position beyond its stop loss or take profit, in order of symbols."""
    exits = []
    bounds = pack_limits(limits)
    for symbol, units, price, entry in zip(
        state.symbols, state.units, state.prices, state.entry_prices, strict=True
    ):
        if units == 0:
            continue
        change, reason = find_exit(bounds, float(units), float(price), float(entry))
        if reason != NO_REASON:
            name = cast(ExitReason, EXITS[reason - N_LIMITS])
            exits.append(Exit(Order(symbol, -float(units)), name, change))
    return tuple(exits)


def portfolio_var(state: RiskState, level: float) -> float:
    """Value at risk of one bar for normal returns without drift, share of equity.

    Raises
    ------
    RiskError
        If the state has no covariance.
    """
    values = state.values
    square = max(float(values @ _covariance(state) @ values), 0.0)
    return NormalDist().inv_cdf(level) * math.sqrt(square) / state.equity


def _stand(state: RiskState) -> Standing:
    return Standing(
        state.equity,
        state.peak_equity,
        state.day_equity,
        float(state.trades_today),
        state.volume_today,
        state.is_halted,
    )


def _expose(state: RiskState, k: int, limits: RiskLimits) -> Exposure:
    covariance = _covariance(state) if math.isfinite(limits.max_var) else np.empty((0, 0))
    names = state.sectors
    numbers = [-1 if name == NO_SECTOR else names.index(name) for name in names]
    return expose_asset(state.values, k, np.array(numbers, dtype=np.int64), covariance)


def _covariance(state: RiskState) -> FloatArray:
    if state.covariance is None:
        raise RiskError(
            "the state has no covariance, which a value at risk needs; give one to build_state, "
            "or set max_var=math.inf"
        )
    return state.covariance
