"""Limits of an account and the check that every order passes before it is sent.

One engine for environment, backtest and paper trading. An order is accepted, shrunk to the
largest quantity that keeps all limits, or rejected. The part of an order that brings a position
towards zero is always accepted, whatever has been breached and even if it hedged another: it
must be possible to close. What goes beyond, opening or adding, must leave every limit kept. Only
in the value at risk may an order leave more than the limit, if it was above before and the order
lowers it.

Orders are valued at the mark and before costs: spread and fees lower the equity, so that an
account sent to a limit exactly may end slightly beyond; leave room for them in the limits.
`weight_limits` has the same limits for whole tables of target weights.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, NamedTuple

from hftlib.portfolio.risk_state import NO_SECTOR, FloatArray, RiskError, RiskState

Action = Literal["accept", "shrink", "reject"]
ROUNDING = 1e-9  # share of a limit; a value above it by less is rounding


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
    reason: Literal["stop_loss", "take_profit"]
    change: float  # profit as a share of the entry price


def check_order(order: Order, state: RiskState, limits: RiskLimits) -> Decision:
    """Accept, shrink or reject one order.

    A shrunk quantity is a whole number of lots, or just closes the position; one lot more would
    break a limit. Checked again in the same state it is accepted.

    Raises
    ------
    RiskError
        If the symbol is unknown, the quantity not finite, or the value at risk is limited and
        the state has no covariance.
    """
    k = state.row(order.symbol)
    if not math.isfinite(order.quantity):
        raise RiskError(f"quantity of {order.symbol} is {order.quantity}; expected a finite number")
    if math.isfinite(limits.max_var):
        _covariance(state)
    held = float(state.units[k])
    size, sign = abs(order.quantity), math.copysign(1.0, order.quantity)
    closing = min(size, abs(held)) if held * sign < 0 else 0.0
    if size <= closing:
        return Decision("accept", order.quantity, ())
    breaches = find_breaches(order, state, limits)
    if not breaches:
        return Decision("accept", order.quantity, ())
    largest = max(closing, _largest_opening(order, k, closing, state, limits))
    if largest == 0:
        return Decision("reject", 0.0, breaches)
    return Decision("shrink", sign * largest, breaches)


def find_breaches(order: Order, state: RiskState, limits: RiskLimits) -> tuple[Breach, ...]:
    """Limits that stand against an order which opens or adds, all of them."""
    k = state.row(order.symbol)
    price = float(state.prices[k])
    notional = abs(order.quantity) * price
    before, gross_rest, sector_rest = _gross(state, k)
    position = abs(before + order.quantity * price)
    volume_limit = limits.max_daily_volume * state.day_equity
    checked = [
        Breach("max_drawdown", "account", state.drawdown, limits.max_drawdown),
        Breach("max_daily_loss", "account", state.daily_loss, limits.max_daily_loss),
        Breach("max_daily_trades", "account", state.trades_today + 1, limits.max_daily_trades),
        Breach("max_daily_volume", "account", state.volume_today + notional, volume_limit),
        Breach("max_position", order.symbol, position / state.equity, limits.max_position),
        Breach(
            "max_leverage", "account", (gross_rest + position) / state.equity, limits.max_leverage
        ),
    ]
    if state.sectors[k] != NO_SECTOR:
        share = (sector_rest + position) / state.equity
        checked.append(Breach("max_sector", state.sectors[k], share, limits.max_sector))
    if math.isfinite(limits.max_var):
        square, slope, curve = _variance(state, k)
        step = order.quantity * price
        now, then = (
            _var_share(v, state, limits)
            for v in (square, square + 2 * slope * step + curve * step**2)
        )
        checked.append(Breach("max_var", "account", then, max(limits.max_var, now)))
    halt = (Breach("halt", "account", 1.0, 0.0),) if state.is_halted else ()
    return halt + tuple(b for b in checked if b.value > b.allowed * (1 + ROUNDING))


def propose_exits(state: RiskState, limits: RiskLimits) -> tuple[Exit, ...]:
    """Orders that close each position beyond its stop loss or take profit, in order of symbols."""
    exits = []
    for symbol, units, price, entry in zip(
        state.symbols, state.units, state.prices, state.entry_prices, strict=True
    ):
        if units == 0:
            continue
        change = math.copysign(1.0, units) * (float(price) / float(entry) - 1.0)
        order = Order(symbol, -float(units))
        if change <= -limits.stop_loss * (1 - ROUNDING):
            exits.append(Exit(order, "stop_loss", change))
        elif change >= limits.take_profit * (1 - ROUNDING):
            exits.append(Exit(order, "take_profit", change))
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


def _largest_opening(
    order: Order, k: int, closing: float, state: RiskState, limits: RiskLimits
) -> float:
    """Most whole lots beyond `closing` that keep all limits, units; 0 if none do."""
    price, lot = float(state.prices[k]), state.lot_size
    sign = math.copysign(1.0, order.quantity)
    before, gross_rest, sector_rest = _gross(state, k)
    offset = sign * before  # position after an order of notional y is offset + y, once opened
    loose = (1 + ROUNDING) * state.equity
    rooms = [
        abs(order.quantity) * price,
        limits.max_position * loose - offset,
        limits.max_leverage * loose - gross_rest - offset,
        limits.max_daily_volume * (1 + ROUNDING) * state.day_equity - state.volume_today,
    ]
    if state.sectors[k] != NO_SECTOR:
        rooms.append(limits.max_sector * loose - sector_rest - offset)
    if math.isfinite(limits.max_var):
        square, slope, curve = _variance(state, k)
        now = _var_share(square, state, limits)
        most = max(limits.max_var, now) * loose / NormalDist().inv_cdf(limits.var_level)
        rooms.append(_last_root(curve, sign * slope, square - most**2))
    most_lots = math.floor(abs(order.quantity) / lot)
    n = min(math.floor(max(0.0, min(rooms)) / price / lot), most_lots)

    def keeps(n_lots: int) -> bool:
        return not find_breaches(Order(order.symbol, sign * n_lots * lot), state, limits)

    for _ in range(2):  # the division can be a lot off, upwards or downwards
        if n < most_lots and keeps(n + 1):
            n += 1
    for _ in range(2):
        if n * lot > closing and not keeps(n):
            n -= 1
    return n * lot if n * lot > closing and keeps(n) else 0.0


def _gross(state: RiskState, k: int) -> tuple[float, float, float]:
    """Value of the position; long plus short of all others, and of the others in its sector."""
    values = state.values
    sizes = abs(values)
    sizes[k] = 0.0
    same = [i for i, sector in enumerate(state.sectors) if sector == state.sectors[k]]
    return float(values[k]), float(sizes.sum()), float(sizes[same].sum())


def _variance(state: RiskState, k: int) -> tuple[float, float, float]:
    """Variance of the profit is the first + 2 * second * y + third * y² after buying y of asset k.

    Currency².
    """
    covariance, values = _covariance(state), state.values
    exposure = covariance @ values
    square, own = float(values @ exposure), float(covariance[k, k])
    return max(square, 0.0), float(exposure[k]), max(own, 0.0)


def _covariance(state: RiskState) -> FloatArray:
    if state.covariance is None:
        raise RiskError(
            "the state has no covariance, which a value at risk needs; give one to build_state, "
            "or set max_var=math.inf"
        )
    return state.covariance


def _var_share(square: float, state: RiskState, limits: RiskLimits) -> float:
    deviation = math.sqrt(max(square, 0.0))
    return NormalDist().inv_cdf(limits.var_level) * deviation / state.equity


def _last_root(curve: float, slope: float, level: float) -> float:
    """Largest y with curve y² + 2 slope y + level <= 0, for level <= 0; infinite without one."""
    if curve <= 0:
        return math.inf
    root = math.sqrt(max(slope**2 - curve * level, 0.0))
    # the form without a difference of near equals
    return (root - slope) / curve if slope <= 0 else -level / (root + slope)
