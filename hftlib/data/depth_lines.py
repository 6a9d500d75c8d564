"""Lines of a depth capture: text to events in integer ticks and lots.

A line is a local receipt time (nanoseconds since the epoch), a blank and a
JSON object: a depth difference, a best-quote ticker, a trade, each perhaps
inside `{"stream": ..., "data": ...}`, or the reply of the REST depth endpoint.
Prices and quantities are decimal text and are converted exactly.

Source: Binance spot API, Diff. depth stream, Individual symbol book ticker,
Trade streams, Order book.
"""

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from hftlib.data.ingest import longest_rise

DECIMAL = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?")
TIME = re.compile(rb"[0-9]{19}")  # nanoseconds have 19 digits from 2001 to 2286
INT32_MAX = 2**31 - 1
CHUNK, LOOKAHEAD = 4096, 256  # lines judged together, and lines after them that have a say

Levels = list[tuple[int, int]]  # (price in ticks, quantity in lots)


class LineError(ValueError):
    """Why a line is refused."""


class Diff(NamedTuple):
    """New quantities of price levels; updates `first` to `last` of the sequence."""

    first: int
    last: int
    bids: Levels
    asks: Levels


class Snapshot(NamedTuple):
    """Whole book after update `last`."""

    last: int
    bids: Levels
    asks: Levels


class Ticker(NamedTuple):
    """Best prices and their quantities after update `last`."""

    last: int
    best_bid: int
    bid_qty: int
    best_ask: int
    ask_qty: int


class Trade(NamedTuple):
    """One trade; direction is that of the resting order."""

    trade_id: int
    price: int
    size: int
    direction: int


Event = Diff | Snapshot | Ticker | Trade


class Line(NamedTuple):
    """A good line: its number in the file, receipt time (ns) and event."""

    number: int
    ts: int
    event: Event


Refuse = Callable[[int, str], None]  # line number, reason


class Units:
    """Conversion of decimal text to multiples of a step, in integers throughout.

    Prices are exact. Of a quantity the whole lots count: exchanges keep resting
    orders older than the present lot, and what is below one lot cannot trade.

    n_quantities, n_dust : int, quantities converted, and those with a remainder
    """

    def __init__(self, tick: str, lot: str) -> None:
        self.tick, self.lot = Fraction(tick), Fraction(lot)
        self.n_quantities = self.n_dust = 0

    def ticks(self, text: Any) -> int:
        """Price in ticks; 0 stands for an empty side."""
        count, rest = _divide(text, self.tick, "price")
        if rest:
            raise LineError("price off the tick")
        return count

    def lots(self, text: Any) -> int:
        """Quantity in whole lots."""
        count, rest = _divide(text, self.lot, "quantity")
        self.n_quantities += 1
        self.n_dust += rest > 0
        return count

    def levels(self, pairs: Any) -> Levels:
        """Price levels; each price is positive."""
        levels = [(self.ticks(price), self.lots(quantity)) for price, quantity in pairs]
        if any(price == 0 for price, _ in levels):
            raise LineError("price is not positive")
        return levels


def _divide(text: Any, step: Fraction, what: str) -> tuple[int, int]:
    """Whole steps in a decimal, and whether something is left over (in no unit)."""
    if not isinstance(text, str) or not DECIMAL.fullmatch(text):
        is_negative = isinstance(text, str) and text[:1] == "-" and DECIMAL.fullmatch(text[1:])
        raise LineError(f"{what} is {'negative' if is_negative else 'not decimal text'}")
    whole, _, part = text.partition(".")
    count, rest = divmod(int(whole + part) * step.denominator, step.numerator * 10 ** len(part))
    if count > INT32_MAX:
        raise LineError(f"{what} is too large for 32 bits")
    return count, rest


def parse_line(line: bytes, symbol: str, units: Units) -> tuple[int, Event]:
    """Receipt time and event of a line.

    Raises
    ------
    LineError
        With the first fault as its reason.
    """
    head, _, body = line.partition(b" ")
    if not TIME.fullmatch(head) or int(head) >= 2**63:
        raise LineError("time is not nanoseconds since the epoch")
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        raise LineError("cut or malformed JSON") from None
    if not isinstance(message, dict):
        raise LineError("cut or malformed JSON")
    payload = message.get("data", message)
    try:
        if "lastUpdateId" not in payload and payload["s"] != symbol:
            raise LineError("another symbol")
        return int(head), _parse_event(payload, units)
    except LineError:
        raise
    except KeyError as error:
        raise LineError(f"missing field {error.args[0]}") from None
    except (TypeError, ValueError):
        raise LineError("field of a wrong type") from None


def _parse_event(payload: dict[str, Any], units: Units) -> Event:
    kind = payload.get("e")
    if "lastUpdateId" in payload:
        bids, asks = units.levels(payload["bids"]), units.levels(payload["asks"])
        return Snapshot(_count(payload, "lastUpdateId"), bids, asks)
    if kind == "depthUpdate":
        first, last = _count(payload, "U"), _count(payload, "u")
        if first > last:
            raise LineError("U is greater than u")
        return Diff(first, last, units.levels(payload["b"]), units.levels(payload["a"]))
    if kind == "trade":
        price, size = units.ticks(payload["p"]), units.lots(payload["q"])
        if not price or not size:
            raise LineError("trade without price or quantity")
        if not isinstance(payload["m"], bool):
            raise LineError("field of a wrong type")
        return Trade(_count(payload, "t"), price, size, 1 if payload["m"] else -1)
    if kind is None or kind == "bookTicker":
        bid, ask = units.ticks(payload["b"]), units.ticks(payload["a"])
        return Ticker(
            _count(payload, "u"), bid, units.lots(payload["B"]), ask, units.lots(payload["A"])
        )
    raise LineError("unknown event")


def _count(payload: dict[str, Any], field: str) -> int:
    value = payload[field]
    if type(value) is not int or not 0 <= value < 2**63:
        raise LineError(f"{field} is not a count")
    return value


def read_lines(file: Path) -> Iterator[bytes]:
    """Lines of a .jsonl or .jsonl.gz file, one in memory at a time.

    Raises
    ------
    LineError
        Where a gzip stream breaks off or is damaged, after the lines before.
    """
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
        try:
            yield from stream
        except EOFError:
            raise LineError("gzip stream ends early") from None
        except (gzip.BadGzipFile, zlib.error):
            raise LineError("gzip stream is damaged") from None


def parse_lines(file: Path, symbol: str, units: Units, refuse: Refuse) -> Iterator[Line]:
    """Good lines in the order of the file; `refuse` hears of the others."""
    number = 0
    try:
        for number, text in enumerate(read_lines(file), start=1):
            try:
                line = Line(number, *parse_line(text.rstrip(b"\r\n"), symbol, units))
            except LineError as error:
                refuse(number, str(error))
            else:
                yield line
    except LineError as error:
        refuse(number + 1, str(error))


def in_time_order(lines: Iterator[Line], refuse: Refuse) -> Iterator[Line]:
    """Lines whose times never go back.

    Of each chunk the fewest lines leave, so that one wrong stamp, early or
    late, condemns itself and not its neighbours.
    """
    waiting: list[Line] = []
    floor = 0
    while True:
        fresh = list(islice(lines, CHUNK))
        waiting += fresh
        n_ready = max(len(waiting) - LOOKAHEAD, 0) if fresh else len(waiting)
        kept = _rising([line.ts for line in waiting], floor)
        for line, keep in zip(waiting[:n_ready], kept, strict=False):
            if keep:
                floor = line.ts
                yield line
            else:
                refuse(line.number, "time goes back")
        waiting = waiting[n_ready:]
        if not fresh:
            return


def _rising(stamps: list[int], floor: int) -> list[bool]:
    kept = [stamp >= floor for stamp in stamps]
    late = [stamp for stamp in stamps if stamp >= floor]
    if all(a <= b for a, b in pairwise(late)):
        return kept
    rise = iter(longest_rise(late).tolist())
    return [keep and next(rise) for keep in kept]
