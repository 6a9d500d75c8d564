"""What a feed says at one moment, and whether it may be believed.

A bar is two moments: its open, at which orders are traded, and its close, at which targets
are decided and which is the last nanosecond before the next bar. A quote is both at once. What
comes after its moment is late: it is shown to the strategy and trades nothing.
"""

import math
from typing import Literal, NamedTuple

from hftlib.live.protocols import Bar

MomentKind = Literal["open", "close", "quote", "late"]
Levels = tuple[tuple[float, float], ...]  # price and units of each level, best first


class FeedError(RuntimeError):
    """A feed that died, or said what cannot be."""


class Tick(NamedTuple):
    """One symbol at one moment; prices in quote currency, sizes in units.

    `price` is the open, the close or the mid. `volume` was traded since the moment before: at
    a close, in the bar. `bids` and `asks` are empty where the feed has no book, `bar` is None
    where no bar has ended.
    """

    symbol: str
    price: float
    volume: float = 0.0
    bids: Levels = ()
    asks: Levels = ()
    bar: Bar | None = None


class Moment(NamedTuple):
    """All that becomes known at `ts_ns`, nanoseconds UTC."""

    ts_ns: int
    kind: MomentKind
    ticks: tuple[Tick, ...]

    @property
    def trades(self) -> bool:
        """Whether orders may be sent."""
        return self.kind in ("open", "quote")

    @property
    def decides(self) -> bool:
        """Whether targets are decided."""
        return self.kind in ("close", "quote")


def find_fault(
    moment: Moment, *, last_ns: int, now_ns: int, symbols: tuple[str, ...], tolerance_ns: int
) -> str:
    """Why a moment cannot be used, with the remedy; "" if it can.

    Parameters
    ----------
    last_ns : int
        Time of the moment before.
    now_ns : int
        The clock.
    tolerance_ns : int
        How far the feed's clock may run ahead of ours.
    """
    if moment.ts_ns <= last_ns:
        return (
            f"out of order: {moment.kind} at {moment.ts_ns} after one at {last_ns}; expected a "
            "later one: sort the feed by time and drop duplicates"
        )
    if moment.ts_ns > now_ns + tolerance_ns:
        ahead = (moment.ts_ns - now_ns) / 1e9
        return (
            f"from the future: {moment.kind} at {moment.ts_ns} is {ahead:g} s ahead of the clock; "
            "set the clock, or look at the feed's time zone"
        )
    names = [tick.symbol for tick in moment.ticks]
    if not names or len(set(names)) < len(names):
        return f"ticks of {names}; expected each symbol at most once, and one at least"
    for tick in moment.ticks:
        if tick.symbol not in symbols:
            return f"symbol {tick.symbol!r} is not known; expected one of {', '.join(symbols)}"
        fault = _find_number(tick)
        if fault:
            return f"{tick.symbol}: {fault}; drop the tick at the feed"
    return ""


def _find_number(tick: Tick) -> str:
    if not 0 < tick.price < math.inf:
        return f"price is {tick.price}, expected a finite number above 0"
    if not 0 <= tick.volume < math.inf and not math.isnan(tick.volume):
        return f"volume is {tick.volume}, expected at least 0, or nan where there is none"
    for price, size in (*tick.bids, *tick.asks):
        if not (0 < price < math.inf and 0 < size < math.inf):
            return f"a level of {size} at {price}, expected finite numbers above 0"
    if tick.bids and tick.asks and tick.bids[0][0] >= tick.asks[0][0]:
        return f"bid {tick.bids[0][0]} is not below ask {tick.asks[0][0]}"
    return ""
