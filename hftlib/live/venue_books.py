"""The order books of a simulated exchange: others' orders from the feed, and ours among them.

Others are owner 0 of a book and ours owner 1. From one quote to the next others' levels change by
the difference: lots that vanish are the youngest of their level, lots that come are at its end,
so that an order of ours keeps its place and moves up only when those before it trade. A quote
that crosses an order of ours trades with it. What we take comes back with the next quote: the
recording knows nothing of us.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hftlib.live.ticks import Tick
from hftlib.live.venue_rules import DEPTH, VenueRules, lots_by_price
from hftlib.market import ladder
from hftlib.market.book import STATUSES, OrderBook
from hftlib.market.matching import TRADE

OURS, OTHERS = 1, 0
WINDOW = CAPACITY = 256


class Part(NamedTuple):
    """Our part in a trade; `lots` are signed, `number` is None for the order that just came.

    Where `is_refused`, an order of ours would have met another of ours, and was taken out.
    """

    number: int | None
    lots: int
    ticks: int
    is_over: bool = False
    is_refused: bool = False


class Entry(NamedTuple):
    """What became of an order that came: its handle if it rests, else 0, and why it was refused."""

    parts: list[Part]
    filled: int
    handle: int
    refusal: str


class VenueBooks:
    """One book a symbol, as `dump` gave them, or empty."""

    def __init__(self, symbols: Sequence[str], rules: VenueRules) -> None:
        self._rules = rules
        self._books = {s: OrderBook(window=WINDOW, capacity=CAPACITY) for s in symbols}
        self._others: dict[str, dict[str, list[int]]] = {symbol: {} for symbol in symbols}

    def __contains__(self, symbol: str) -> bool:
        return symbol in self._books

    def load(self, symbol: str, state: bytes, others: str) -> None:
        """A book as it was."""
        self._books[symbol].state[:] = np.frombuffer(state, dtype=np.int32)
        self._others[symbol] = json.loads(others)

    def dump(self, symbol: str) -> tuple[bytes, str]:
        """The book's state, and others' orders by level."""
        return self._books[symbol].state.tobytes(), json.dumps(self._others[symbol])

    def depth(self, symbol: str, side: int) -> list[tuple[int, int]]:
        """Price in ticks and lots of each level, best first: bids (side 1) or asks (-1)."""
        table = np.zeros((2, DEPTH), dtype=np.int32)
        ladder.read_depth(self._books[symbol].state, side, table[0], table[1])
        return [(price, lots) for price, lots in table.T.tolist() if lots > 0]

    def enter(
        self, symbol: str, kind: str, *, side: int, ticks: int, lots: int, number: int
    ) -> Entry:
        """An order of ours meets the book; `ticks` are those of its limit."""
        book = self._books[symbol]
        fills, ack = book.send(kind, owner=OURS, side=side, price=ticks, qty=lots, tag=number)
        parts = list(self._parts(book, fills, is_ours=True))
        handle = int(ack["handle"]) if ack["resting"] > 0 else 0
        is_refused = ack["status"] != 0 and ack["filled"] == 0
        refusal = STATUSES[ack["status"]] if is_refused else ""
        return Entry(parts, int(ack["filled"]), handle, refusal)

    def cancel(self, symbol: str, handle: int) -> None:
        """Take an order of ours out."""
        self._books[symbol].send("cancel", owner=OURS, handle=handle)

    def show(self, tick: Tick) -> list[Part]:
        """Change others' orders to what the feed shows; what of ours traded."""
        book, others = self._books[tick.symbol], self._others[tick.symbol]
        wanted = {
            f"{side}:{price}": lots
            for side in (1, -1)
            for price, lots in lots_by_price(tick, side, self._rules).items()
        }
        added = []
        for level in sorted({*others, *wanted}):
            handles = others.get(level, [])
            sizes = [_lots_of(book, handle) for handle in handles]
            change = wanted.get(level, 0) - sum(sizes)
            for handle, lots in zip(reversed(handles), reversed(sizes), strict=True):
                cut = min(lots, max(-change, 0))
                if cut > 0:
                    book.send("reduce", owner=OTHERS, handle=handle, qty=cut)
                    change += cut
            others[level] = [handle for handle in handles if _lots_of(book, handle) > 0]
            if change > 0:
                added.append((level, change))
        parts: list[Part] = []
        for level, lots in added:
            side, price = map(int, level.split(":"))
            fills, ack = book.send("limit", side=side, price=price, qty=lots, owner=OTHERS)
            parts += self._parts(book, fills, is_ours=False)
            if ack["handle"]:
                others[level].append(int(ack["handle"]))
        self._others[tick.symbol] = {level: rows for level, rows in others.items() if rows}
        return parts

    def _parts(self, book: OrderBook, fills: npt.NDArray[Any], *, is_ours: bool) -> Iterator[Part]:
        """Our part of fills: as maker, as taker, or both apart."""
        for fill in fills:
            lots, price, side = int(fill["qty"]), int(fill["price"]), int(fill["taker_side"])
            if fill["maker_owner"] == OURS:
                number = int(fill["maker_tag"])
                if fill["cause"] != TRADE:
                    yield Part(number, 0, price, is_over=True, is_refused=True)
                    continue
                is_over = _lots_of(book, int(fill["maker"])) == 0
                yield Part(number, -side * lots, price, is_over=is_over)
            if is_ours:
                yield Part(None, side * lots, price)


def _lots_of(book: OrderBook, handle: int) -> int:
    order = ladder.find(book.state, handle)
    return 0 if order == ladder.NONE else int(book.state[order + ladder.QTY])
