"""What a risk check has to know of an account: positions, prices, equity, counters of the day.

One state for environment, backtest and paper trading, built from plain values. Changes make a
new state: `mark_to_market` when prices move, `record_fill` after a trade. A caller that keeps
its own books may as well build a new state for each check.

Positions are valued at the mark; days are those of UTC.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hftlib.portfolio.risk_kernel import average_entry

FloatArray = npt.NDArray[np.float64]
DAY_NS = 86_400 * 10**9
NO_SECTOR = ""


class RiskError(ValueError):
    """An account, order or clock that cannot be checked."""


@dataclass(frozen=True, eq=False)
class RiskState:
    """An account at one moment; build it with `build_state`.

    Attributes
    ----------
    symbols : tuple of str, length n_assets
    units, prices, entry_prices : arrays of shape (n_assets,)
        Signed units; mark; average price paid for the open position, nan where flat.
    equity, peak_equity, day_equity : float
        Now, the highest so far, and at the start of the day; currency.
    trades_today : int
    volume_today : float
        Long plus short notional traded since the start of the day, currency.
    sectors : tuple of str, length n_assets
        "" is none: not limited.
    covariance : array of shape (n_assets, n_assets) or None
        Of one bar's simple returns.
    lot_size : float or None
        Units that orders are cut to multiples of; None if any quantity can be traded.
    is_halted : bool
        Whether a circuit breaker is open: only orders that reduce are accepted.
    ts_ns : int
        Nanoseconds UTC.
    """

    symbols: tuple[str, ...]
    units: FloatArray
    prices: FloatArray
    entry_prices: FloatArray
    equity: float
    peak_equity: float
    day_equity: float
    trades_today: int
    volume_today: float
    sectors: tuple[str, ...]
    covariance: FloatArray | None
    lot_size: float | None
    is_halted: bool
    ts_ns: int

    @property
    def values(self) -> FloatArray:
        """Currency, signed, shape (n_assets,)."""
        return self.units * self.prices

    @property
    def weights(self) -> FloatArray:
        """Shares of equity, signed, shape (n_assets,)."""
        return self.values / self.equity

    @property
    def drawdown(self) -> float:
        """Fall from the highest equity, share of it."""
        return 1.0 - self.equity / self.peak_equity

    @property
    def daily_loss(self) -> float:
        """Fall since the start of the day, share of the equity then; 0 after a gain."""
        return max(0.0, 1.0 - self.equity / self.day_equity)

    def row(self, symbol: str) -> int:
        """Place of a symbol.

        Raises
        ------
        RiskError
            If the account does not know it.
        """
        if symbol not in self.symbols:
            raise RiskError(
                f"symbol {symbol!r} is not known; expected one of {', '.join(self.symbols)}: "
                "give its price to build_state"
            )
        return self.symbols.index(symbol)


def build_state(
    *,
    prices: Mapping[str, float],
    units: Mapping[str, float],
    equity: float,
    peak_equity: float | None = None,
    day_equity: float | None = None,
    entry_prices: Mapping[str, float] | None = None,
    trades_today: int = 0,
    volume_today: float = 0.0,
    sectors: Mapping[str, str] | None = None,
    covariance: Sequence[Sequence[float]] | FloatArray | None = None,
    lot_size: float | None = 1.0,
    is_halted: bool = False,
    ts_ns: int = 0,
) -> RiskState:
    """A state from plain values.

    Parameters
    ----------
    prices : mapping of symbol to float
        Mark of every symbol that may be traded; their order is that of all arrays.
    units : mapping of symbol to float
        Signed; a symbol left out is flat.
    equity, peak_equity, day_equity : float
        Currency; by default the highest and the day's first equity are `equity`.
    entry_prices : mapping of symbol to float
        By default a position was opened at its mark.
    sectors : mapping of symbol to str
        A symbol left out has no sector limit.
    covariance : array of shape (n_assets, n_assets)
        In the order of `prices`; needed where the limits bound the value at risk.

    Raises
    ------
    RiskError
        If a price is not above 0 and finite, units not finite, an equity not above 0, the peak
        below the equity, a counter negative, a symbol without a price, the covariance of another
        shape, not finite or with a negative variance, or the lot not above 0.
    """
    symbols = tuple(prices)
    marks = _take(prices, symbols, 0.0, "price")
    held = _take(units, symbols, 0.0, "units")
    paid_prices = entry_prices or {}
    paid = _take(paid_prices, symbols, np.nan, "entry price")
    peak = equity if peak_equity is None else peak_equity
    opening = equity if day_equity is None else day_equity
    _check_prices(symbols, marks)
    _check_prices(tuple(paid_prices), paid_prices.values())
    for name, amount in (("equity", equity), ("peak_equity", peak), ("day_equity", opening)):
        _check_amount(name, amount)
    if peak < equity:
        raise RiskError(f"peak_equity {peak} is below equity {equity}; expected the highest so far")
    if trades_today < 0 or not 0 <= volume_today < np.inf:
        raise RiskError(
            f"trades_today is {trades_today} and volume_today {volume_today}; expected 0 and more"
        )
    if lot_size is not None and not 0 < lot_size < np.inf:
        raise RiskError(f"lot_size is {lot_size}; expected a positive number of units, or None")
    for name in sectors or {}:
        if name not in symbols:
            raise RiskError(f"the sector of {name!r} is given, but no price; give both")
    return RiskState(
        symbols=symbols,
        units=held,
        prices=marks,
        entry_prices=np.where(held == 0, np.nan, np.where(np.isnan(paid), marks, paid)),
        equity=float(equity),
        peak_equity=float(peak),
        day_equity=float(opening),
        trades_today=int(trades_today),
        volume_today=float(volume_today),
        sectors=tuple((sectors or {}).get(name, NO_SECTOR) for name in symbols),
        covariance=_check_covariance(covariance, len(symbols)),
        lot_size=None if lot_size is None else float(lot_size),
        is_halted=bool(is_halted),
        ts_ns=int(ts_ns),
    )


def mark_to_market(
    state: RiskState, *, ts_ns: int, prices: Mapping[str, float], equity: float
) -> RiskState:
    """The state at new prices; a new UTC day starts its counters from zero.

    The day's loss counts from the last equity of the day before. Symbols without a new price
    keep the old one.

    Raises
    ------
    RiskError
        If the clock goes back, a price is not above 0 or of an unknown symbol, or equity is not
        above 0.
    """
    if ts_ns < state.ts_ns:
        raise RiskError(
            f"ts_ns {ts_ns} is before {state.ts_ns}, that of the last mark; sort events by time"
        )
    _check_amount("equity", equity)
    marks = state.prices.copy()
    for symbol, price in prices.items():
        marks[state.row(symbol)] = price
    _check_prices(state.symbols, marks)
    moved = replace(
        state,
        ts_ns=ts_ns,
        prices=marks,
        equity=float(equity),
        peak_equity=max(state.peak_equity, float(equity)),
    )
    if ts_ns // DAY_NS == state.ts_ns // DAY_NS:
        return moved
    return replace(moved, day_equity=state.equity, trades_today=0, volume_today=0.0)


def record_fill(
    state: RiskState, symbol: str, quantity: float, price: float, paid: float = 0.0
) -> RiskState:
    """The state after a fill of signed `quantity`; 0 changes nothing.

    `paid` is the fee, currency. Equity falls by it and by the distance of `price` from the mark.

    Raises
    ------
    RiskError
        If the symbol is unknown, quantity or fee are not finite, the price is not above 0, or
        the fill leaves no equity.
    """
    k = state.row(symbol)
    if not (np.isfinite(quantity) and np.isfinite(paid) and 0 < price < np.inf):
        raise RiskError(
            f"fill of {quantity} {symbol} at {price} for a fee of {paid}; expected finite numbers "
            "and a price above 0"
        )
    if quantity == 0:
        return state
    before = float(state.units[k])
    after = before + quantity
    entry = average_entry(before, float(state.entry_prices[k]), float(quantity), float(price))
    units, entries = state.units.copy(), state.entry_prices.copy()
    units[k], entries[k] = after, entry
    equity = state.equity + quantity * (state.prices[k] - price) - paid
    _check_amount("equity after the fill", equity)
    return replace(
        state,
        units=units,
        entry_prices=entries,
        equity=float(equity),
        peak_equity=max(state.peak_equity, float(equity)),
        trades_today=state.trades_today + 1,
        volume_today=state.volume_today + abs(quantity) * price,
    )


def _take(
    values: Mapping[str, float], symbols: tuple[str, ...], default: float, what: str
) -> FloatArray:
    for name, value in values.items():
        if name not in symbols:
            raise RiskError(f"{what} of {name!r} is given, but no price; give both")
        if not np.isfinite(value):
            raise RiskError(f"{what} of {name!r} is {value}; expected a finite number")
    return np.array([values.get(name, default) for name in symbols], dtype=np.float64)


def _check_prices(symbols: tuple[str, ...], prices: Iterable[float]) -> None:
    for name, price in zip(symbols, prices, strict=True):
        if not 0 < price < np.inf:
            raise RiskError(f"price of {name!r} is {price}; expected a number above 0")


def _check_amount(name: str, amount: float) -> None:
    if not 0 < amount < np.inf:
        raise RiskError(f"{name} is {amount}; expected a positive amount of currency")


def _check_covariance(
    covariance: Sequence[Sequence[float]] | FloatArray | None, n_assets: int
) -> FloatArray | None:
    if covariance is None:
        return None
    matrix = np.asarray(covariance, dtype=np.float64)
    if matrix.shape != (n_assets, n_assets):
        raise RiskError(
            f"covariance has the shape {matrix.shape}; expected {(n_assets, n_assets)}, one row "
            "a price"
        )
    scale = np.abs(matrix).max(initial=0.0)
    if (
        not np.isfinite(matrix).all()
        or np.abs(matrix - matrix.T).max(initial=0.0) > 1e-9 * scale
        or np.linalg.eigvalsh(matrix).min(initial=0.0) < -1e-9 * scale
    ):
        raise RiskError("covariance is no covariance: not finite, not symmetric or not positive")
    return matrix
