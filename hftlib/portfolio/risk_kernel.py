"""Arithmetic of the limits on an account: what is measured, what is allowed, what room is left.

The only place where it is written. `risk` calls it for one order of a `RiskState`,
`weight_limits` for tables of weights, `envs.bar_risk` for the orders of the bar-trading
environment and of the backtest engine. Amounts are currency; what the limits mean is
said by `risk.RiskLimits`.
"""

import math
from typing import NamedTuple

import numpy as np

from hftlib.compute import compile_kernel, inline_kernel

ROUNDING = 1e-9  # share of a limit; a value above it by less is rounding
# What may stand against an order, in the order in which it is told; "halt" is a circuit breaker.
LIMITS = (
    "halt",
    "max_drawdown",
    "max_daily_loss",
    "max_daily_trades",
    "max_daily_volume",
    "max_position",
    "max_leverage",
    "max_sector",
    "max_var",
)
N_LIMITS = len(LIMITS)
N_SIZELESS = 4  # the first, which a smaller order breaks as well
VOLUME, POSITION, LEVERAGE, SECTOR, VAR = range(N_SIZELESS, N_LIMITS)
# Reasons to close a position, numbered after the limits.
EXITS = ("stop_loss", "take_profit")
STOP_LOSS, TAKE_PROFIT = range(N_LIMITS, N_LIMITS + len(EXITS))
REASONS = (*LIMITS, *EXITS)
NO_REASON = -1


class Bounds(NamedTuple):
    """`risk.RiskLimits` as numbers; `var_factor` is the VaR of a deviation of 1."""

    max_var: float
    var_factor: float
    max_drawdown: float
    max_leverage: float
    max_position: float
    max_sector: float
    stop_loss: float
    take_profit: float
    max_daily_trades: float
    max_daily_volume: float
    max_daily_loss: float


class Exposure(NamedTuple):
    """An account as seen by an order in one asset.

    Buying y of the asset makes the variance of the account's profit in one bar
    `square` + 2 `slope` y + `curve` y²; all are nan while it is not known.
    """

    value: float  # of the position, signed
    gross_rest: float  # long plus short, all other assets
    sector_rest: float  # of which in the same sector
    has_sector: bool
    square: float
    slope: float
    curve: float


class Standing(NamedTuple):
    """What an account has gained, lost and traded; `is_halted` is an open circuit breaker."""

    equity: float
    peak_equity: float
    day_equity: float
    trades_today: float
    volume_today: float
    is_halted: bool


@inline_kernel
def expose(values, k, sector_of, covariance):  # type: ignore[no-untyped-def]
    """`Exposure` of asset k; `values` and `sector_of` (-1 is none) of shape (n_assets,).

    `covariance` of shape (n_assets, n_assets), or (0, 0) where the VaR is not limited.
    """
    gross_rest = sector_rest = square = slope = curve = 0.0
    for b in range(len(values)):
        if b != k:
            gross_rest += abs(values[b])
            if sector_of[b] == sector_of[k]:
                sector_rest += abs(values[b])
    if covariance.shape[0] > 0:
        for b in range(len(values)):
            row = 0.0
            for c in range(len(values)):
                row += covariance[b, c] * values[c]
            square += row * values[b]
            if b == k:
                slope = row
        # rounding may leave less than 0, and a comparison with nan is false
        square = 0.0 if square < 0.0 else square
        curve = 0.0 if covariance[k, k] < 0.0 else covariance[k, k]
    return Exposure(values[k], gross_rest, sector_rest, sector_of[k] >= 0, square, slope, curve)


@compile_kernel
def expose_asset(values, k, sector_of, covariance):  # type: ignore[no-untyped-def]
    """`expose` for callers in Python."""
    return expose(values, k, sector_of, covariance)


@compile_kernel
def _tail(bounds: Bounds, square: float, equity: float) -> float:
    """Value at risk of a variance of profit, share of equity."""
    return bounds.var_factor * math.sqrt(max(square, 0.0)) / equity


@compile_kernel
def weigh(bounds, standing, exposure, quantity, price):  # type: ignore[no-untyped-def]
    """What each of `LIMITS` measures after an order, and what each allows: two tuples."""
    equity = standing.equity
    step = quantity * price
    position = abs(exposure.value + step)
    share = leverage = sector = np.inf  # of no equity
    if equity > 0.0:
        share = position / equity
        leverage = (exposure.gross_rest + position) / equity
        sector = (exposure.sector_rest + position) / equity
    loss = np.inf
    if standing.day_equity > 0.0:
        loss = max(0.0, 1.0 - equity / standing.day_equity)
    var, max_var = 0.0, np.inf
    if bounds.max_var < np.inf:
        var, max_var = np.inf, bounds.max_var
        if equity > 0.0 and not np.isnan(exposure.curve):
            then = exposure.square + 2.0 * exposure.slope * step + exposure.curve * step**2
            var = _tail(bounds, then, equity)
            max_var = max(max_var, _tail(bounds, exposure.square, equity))
    values = (
        1.0 if standing.is_halted else 0.0,
        1.0 - equity / standing.peak_equity,
        loss,
        standing.trades_today + 1.0,
        standing.volume_today + abs(quantity) * price,
        share,
        leverage,
        sector if exposure.has_sector else 0.0,
        var,
    )
    allowed = (
        0.0,
        bounds.max_drawdown,
        bounds.max_daily_loss,
        bounds.max_daily_trades,
        bounds.max_daily_volume * standing.day_equity,
        bounds.max_position,
        bounds.max_leverage,
        bounds.max_sector,
        max_var,
    )
    return values, allowed


@compile_kernel
def _first_broken(bounds, standing, exposure, quantity, price):  # type: ignore[no-untyped-def]
    """The first of `LIMITS` that stands against an order; `NO_REASON` if none does."""
    values, allowed = weigh(bounds, standing, exposure, quantity, price)
    for limit in range(N_LIMITS):
        if values[limit] > allowed[limit] * (1.0 + ROUNDING):
            return limit
    return NO_REASON


@inline_kernel
def find_exposure_room(bounds, equity, exposure, offset):  # type: ignore[no-untyped-def]
    """Notional that position, leverage and sector leave, and which of them leaves least.

    `offset` is the position before, negative if the order is against it.
    """
    room = bounds.max_position * equity - offset
    limit = POSITION
    other = bounds.max_leverage * equity - exposure.gross_rest - offset
    if other < room:
        room, limit = other, LEVERAGE
    if exposure.has_sector:
        other = bounds.max_sector * equity - exposure.sector_rest - offset
        if other < room:
            room, limit = other, SECTOR
    return room, limit


@compile_kernel
def _find_room(bounds, standing, exposure, quantity, price, slack):  # type: ignore[no-untyped-def]
    """Most notional that all limits on size leave to an order, and what binds it."""
    sign = math.copysign(1.0, quantity)
    offset = sign * exposure.value  # the order ends at offset + its notional, once it opens
    loose = slack * standing.equity
    room, limit = find_exposure_room(bounds, loose, exposure, offset)
    volume = bounds.max_daily_volume * slack * standing.day_equity - standing.volume_today
    if volume < room:
        room, limit = volume, VOLUME
    if bounds.max_var < np.inf:
        most = 0.0
        if standing.equity > 0.0 and not np.isnan(exposure.curve):
            now = _tail(bounds, exposure.square, standing.equity)
            deviation = max(bounds.max_var, now) * loose / bounds.var_factor
            level = exposure.square - deviation**2
            most = _last_root(exposure.curve, sign * exposure.slope, level)
        if most < room:
            room, limit = most, VAR
    return min(room, abs(quantity) * price), limit


@compile_kernel
def _last_root(curve: float, slope: float, level: float) -> float:
    """Largest y with curve y² + 2 slope y + level <= 0, for level <= 0; infinite without one."""
    if curve <= 0.0:
        return np.inf
    root = math.sqrt(max(slope**2 - curve * level, 0.0))
    # the form without a difference of near equals
    if slope <= 0.0:
        return (root - slope) / curve
    return -level / (root + slope)


@compile_kernel
def _size_lots(bounds, standing, exposure, quantity, price, lot, closing, room):  # type: ignore[no-untyped-def]
    """Most whole lots within `room` that keep all limits, units; 0 if none beyond `closing` do."""
    sign = math.copysign(1.0, quantity)
    most = np.floor(abs(quantity) / lot)
    n = min(np.floor(max(0.0, room) / price / lot), most)
    for _ in range(2):  # the division can be a lot off, upwards or downwards
        more = sign * (n + 1.0) * lot
        if n < most and _first_broken(bounds, standing, exposure, more, price) < 0:
            n += 1.0
    for _ in range(3):
        if n * lot <= closing:
            return 0.0
        if _first_broken(bounds, standing, exposure, sign * n * lot, price) < 0:
            return n * lot
        n -= 1.0
    return 0.0


@compile_kernel
def allow_order(bounds, standing, exposure, quantity, price, held, lot):  # type: ignore[no-untyped-def]
    """The part of an order that may be sent, signed units, and the limit that bound it.

    The limit is an index of `LIMITS`, `NO_REASON` for an order that is accepted. `lot` is the
    quantity that openings are cut to multiples of; 0 is none: they are cut to the limit
    itself, and openings of less than `ROUNDING` of the equity are left.
    """
    size = abs(quantity)
    # signs, not a product, which may underflow
    is_closing = held > 0.0 > quantity or held < 0.0 < quantity
    closing = min(size, abs(held)) if is_closing else 0.0
    if size <= closing:
        return quantity, NO_REASON
    limit = _first_broken(bounds, standing, exposure, quantity, price)
    if limit < 0:
        return quantity, NO_REASON
    largest = 0.0
    if limit >= N_SIZELESS and standing.equity > 0.0:
        # whole lots may end within the rounding above a limit; a cut in between aims at it
        slack = 1.0 + ROUNDING if lot > 0.0 else 1.0
        room, limit = _find_room(bounds, standing, exposure, quantity, price, slack)
        if lot > 0.0:
            largest = _size_lots(bounds, standing, exposure, quantity, price, lot, closing, room)
        elif room > closing * price + ROUNDING * standing.equity:
            size = math.copysign(room / price, quantity)
            if _first_broken(bounds, standing, exposure, size, price) < 0:
                largest = room / price
    largest = max(closing, largest)
    return (math.copysign(largest, quantity) if largest > 0.0 else 0.0), limit


@compile_kernel
def find_exit(bounds, units, price, entry):  # type: ignore[no-untyped-def]
    """Profit of a position since its entry, share of that, and an exit that it calls for.

    The exit is `STOP_LOSS`, `TAKE_PROFIT` or `NO_REASON`.
    """
    change = math.copysign(1.0, units) * (price / entry - 1.0)
    if change <= -bounds.stop_loss * (1.0 - ROUNDING):
        return change, STOP_LOSS
    if change >= bounds.take_profit * (1.0 - ROUNDING):
        return change, TAKE_PROFIT
    return change, NO_REASON


@compile_kernel
def average_entry(held: float, entry: float, quantity: float, price: float) -> float:
    """Average price paid for the position after a fill; nan if none is left."""
    after = held + quantity
    if after == 0.0:
        return np.nan
    if held * after <= 0.0:  # opened or turned round
        return price
    if abs(after) > abs(held):
        return (held * entry + quantity * price) / after
    return entry
