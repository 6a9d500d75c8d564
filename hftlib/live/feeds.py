"""Where moments come from: recorded bars, recorded or simulated books.

A feed says when it is worth asking again, and what has become known by then. A recording can be
asked from its beginning again, which is how a restarted process shows the past to its strategy.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pandas as pd

from hftlib.live.clock import Clock
from hftlib.live.paper import PaperEngine
from hftlib.live.protocols import Bar
from hftlib.live.ticks import FeedError, Levels, Moment, Tick
from hftlib.schema import BARS, snapshots, validate


class Feed(Protocol):
    """A source of moments."""

    def next_ns(self) -> int | None:
        """When to ask next; None at the end."""

    def poll(self, now_ns: int) -> Sequence[Moment]:
        """Moments that have become known since the last call, none if there are none.

        Raises
        ------
        FeedError
            If the source is dead; `next_ns` says when to try again.
        """


class Recording:
    """Moments that are all there, each at its time."""

    def __init__(self, moments: Sequence[Moment]) -> None:
        self._moments, self._next = list(moments), 0

    def next_ns(self) -> int | None:
        """Time of the next moment."""
        return self._moments[self._next].ts_ns if self._next < len(self._moments) else None

    def poll(self, now_ns: int) -> list[Moment]:
        """The next moment, if its time has come."""
        if self._next == len(self._moments) or self._moments[self._next].ts_ns > now_ns:
            return []
        self._next += 1
        return [self._moments[self._next - 1]]


def read_bars(bars: pd.DataFrame, bar_ns: int | None = None) -> list[Moment]:
    """Two moments a bar: its open, and its close a nanosecond before the next can begin.

    The tick of a close carries the whole bar, that of an open only its price.

    Parameters
    ----------
    bars : frame as `schema.BARS`
        Of one or more symbols; a moment has all symbols that have a bar then.
    bar_ns : int, optional
        Length of a bar; by default the shortest distance between two.

    Raises
    ------
    FeedError
        If there are fewer than two bars, or two of a symbol at one time.
    """
    table = validate(bars, BARS)
    if table.duplicated(["ts", "symbol"]).any() or table["ts"].nunique() < 2:
        raise FeedError(f"{len(table)} bars; expected two or more times, each symbol once at each")
    stamps = pd.DatetimeIndex(table["ts"]).asi8
    length = int(np.diff(np.unique(stamps)).min()) if bar_ns is None else bar_ns
    moments: list[Moment] = []
    for ts_ns, found in group_bars(table).items():
        opens = tuple(Tick(symbol, bar.open) for symbol, bar in found)
        closes = tuple(Tick(symbol, bar.close, bar.volume, bar=bar) for symbol, bar in found)
        moments += [Moment(ts_ns, "open", opens), Moment(ts_ns + length - 1, "close", closes)]
    return sorted(moments)


def read_quotes(
    table: pd.DataFrame, *, levels: int, tick_size: float, lot_size: float
) -> list[Moment]:
    """One quote a snapshot, of a book recorded or simulated.

    Parameters
    ----------
    table : frame as `schema.snapshots(levels)`
        Ticks and lots; a snapshot without both best prices is left out.
    """
    validate(table, snapshots(levels))
    names = {
        side: [
            (f"best_{side}" if k == 1 else f"{side}_px_{k}", f"{side}_qty_{k}")
            for k in range(1, levels + 1)
        ]
        for side in ("bid", "ask")
    }
    moments: dict[int, list[Tick]] = {}
    for row in table.sort_values("ts", kind="stable").to_dict("records"):
        if min(row["best_bid"], row["best_ask"]) <= 0:
            continue
        sides: dict[str, Levels] = {
            side: tuple(
                (row[px] * tick_size, row[qty] * lot_size) for px, qty in pairs if row[qty] > 0
            )
            for side, pairs in names.items()
        }
        mid = 0.5 * (row["best_bid"] + row["best_ask"]) * tick_size
        volume = row["traded_qty"] * lot_size
        tick = Tick(row["symbol"], mid, volume, sides["bid"], sides["ask"])
        moments.setdefault(int(row["ts"]), []).append(tick)
    return [Moment(ts_ns, "quote", tuple(ticks)) for ts_ns, ticks in moments.items()]


def group_bars(table: pd.DataFrame) -> dict[int, list[tuple[str, Bar]]]:
    """Symbols and bars by the time at which they start, in order."""
    table = table.sort_values(["ts", "symbol"], kind="stable")
    columns = [table[name].tolist() for name in ("open", "high", "low", "close", "volume")]
    stamps = pd.DatetimeIndex(table["ts"]).asi8.tolist()
    found: dict[int, list[tuple[str, Bar]]] = {}
    for symbol, *bar in zip(table["symbol"], stamps, *columns, strict=True):
        found.setdefault(bar[0], []).append((symbol, Bar(*bar)))
    return found


def run_paper(
    engine: PaperEngine,
    feed: Feed,
    clock: Clock,
    *,
    start_ns: int = 0,
    stops_at_halt: bool = True,
) -> None:
    """Trade a feed to its end, or until trading is halted.

    Moments up to the engine's cursor, or before `start_ns`, are the past: they are shown to the
    strategy and not traded. What other threads ask of the engine is done within a second.

    Parameters
    ----------
    stops_at_halt : bool
        If not, moments go on while trading is halted: fills are booked, positions marked and
        closed if that was asked for, nothing is opened; `engine.ask_resume` ends the halt.
    """
    past_ns = max(engine.cursor_ns, start_ns - 1)
    while (due_ns := feed.next_ns()) is not None:
        clock.wait_until(due_ns, lambda: engine.is_asked)
        engine.obey(clock.now_ns())
        if engine.halted and stops_at_halt:
            return
        if clock.now_ns() < due_ns:
            continue
        try:
            moments = feed.poll(clock.now_ns())
        except FeedError as error:
            engine.halt(f"feed: {error}")
            continue
        for moment in moments:
            if moment.kind == "late":
                engine.observe_late(moment)
            elif moment.ts_ns <= past_ns and not engine.has_traded:
                engine.observe(moment)
            else:
                engine.step(moment, clock.now_ns())
        if not moments:
            engine.beat(clock.now_ns())
    engine.obey(clock.now_ns())
    engine.on_change(True)
