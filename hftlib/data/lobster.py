"""LOBSTER files: one symbol's trading day as messages and the book after each.

A day is a message file and, perhaps, a row-aligned order-book file, named
`SYMBOL_YYYY-MM-DD_startms_endms_{message,orderbook}_LEVELS.csv[.gz]`. Prices
leave as integer ticks, times as nanoseconds UTC. A line that fails a check
goes to the quarantine, and its partner in the other file with it, so that
message i always stands by book row i.

What a replay must know: after a quarantined message the next book row already
contains its effect, so a replay that compares itself with the book restarts
from that row. A hidden execution (half-cent midpoint trades are the usual
quarantine, "price off the tick") leaves the book as it was and costs nothing.
A file of k levels holds only the events that touch its k best levels.

Times are New York's clock of the file's date, read as seconds elapsed since
midnight; the session is that date. Source: LOBSTER, Data structure,
lobsterdata.com; "Output update", 27 January 2013 (halts).
"""

import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.data.lobster_rows import (
    NS,
    LobsterError,
    Rows,
    book_from_ticks,
    book_to_ticks,
    check_book,
    check_messages,
    format_rows,
    parse_book,
    parse_messages,
)
from hftlib.data.replay import ReplayReport, replay
from hftlib.market.tape import EXECUTE_HIDDEN, HALT, Tape
from hftlib.paths import replace_file
from hftlib.schema import MESSAGES, validate

SOURCE = "lobster"
CENT = 100  # prices are dollars x 10,000
NEW_YORK = ZoneInfo("America/New_York")
CONVENTION = "SYMBOL_YYYY-MM-DD_startms_endms_{message,orderbook}_LEVELS.csv[.gz]"
FILE_NAME = re.compile(
    r"(?P<symbol>[^_]+)_(?P<session>\d{4}-\d\d-\d\d)_(?P<start>\d+)_(?P<end>\d+)"
    r"_(?P<kind>message|orderbook)_(?P<levels>[1-9]\d*)\.csv(\.gz)?",
    re.ASCII,
)


class DayName(NamedTuple):
    """What the names of a day's files say; milliseconds are after midnight, New York."""

    symbol: str
    session: str
    start_ms: int
    end_ms: int
    levels: int

    def file_name(self, kind: str, suffix: str) -> str:
        """Name of the `message` or `orderbook` file."""
        span = f"{self.start_ms}_{self.end_ms}"
        return f"{self.symbol}_{self.session}_{span}_{kind}_{self.levels}{suffix}"

    @property
    def midnight_ns(self) -> int:
        """The session's first instant, nanoseconds UTC."""
        midnight = datetime.combine(date.fromisoformat(self.session), datetime.min.time(), NEW_YORK)
        return int(midnight.timestamp()) * NS

    @property
    def span_ns(self) -> tuple[int, int]:
        """First and last nanosecond after midnight."""
        return self.start_ms * 1_000_000, self.end_ms * 1_000_000


class DayFiles(NamedTuple):
    """The files of one day; `book` is None where there are messages only."""

    name: DayName
    messages: Path
    book: Path | None


@dataclass(frozen=True)
class LobsterDay:
    """One symbol's day.

    name : DayName
    tick : int, price step in dollars x 10,000
    messages : table as `schema.MESSAGES`; a halt keeps its code -1, 0, 1 as price
    book : int32 array of shape (n_messages, 4 * levels) after each message:
        ask price, ask quantity, bid price, bid quantity of each level, in
        ticks and lots, 0 and 0 where empty; None without an order-book file
    quarantine : table as `lobster_rows.REFUSED`
    """

    name: DayName
    tick: int
    messages: pd.DataFrame
    book: npt.NDArray[np.int32] | None
    quarantine: pd.DataFrame

    def __post_init__(self) -> None:
        if validate(self.messages, MESSAGES).empty:
            raise LobsterError(f"{self.name.symbol} {self.name.session}: a day without messages")
        expected = (len(self.messages), 4 * self.name.levels)
        if self.book is not None and self.book.shape != expected:
            raise LobsterError(f"expected a book of shape {expected}, received {self.book.shape}")

    @property
    def tape(self) -> Tape:
        """Messages with the best quotes after each.

        Raises
        ------
        LobsterError
            If the day has no order-book file: replay the messages instead.
        """
        if self.book is None:
            raise LobsterError(
                f"{self.name.symbol} {self.name.session}: no order-book file, so no quotes; "
                "fetch it, or replay the messages"
            )
        best_ask, ask_qty, best_bid, bid_qty = self.book[:, :4].T.copy()
        return Tape(
            ts=self.messages["ts"].to_numpy(),
            kind=self.messages["type"].to_numpy(),
            order_id=self.messages["order_id"].to_numpy(),
            size=self.messages["size"].to_numpy(),
            price=self.messages["price"].to_numpy(),
            direction=self.messages["direction"].to_numpy(),
            best_bid=best_bid,
            bid_qty=bid_qty,
            best_ask=best_ask,
            ask_qty=ask_qty,
        )

    def replay(self) -> ReplayReport:
        """Rebuild the book from the messages and compare it with the file row by row.

        Lines that the reader refused leave gaps, but those of hidden
        executions, which move no lot.

        Raises
        ------
        LobsterError
            If the day has no order-book file.
        """
        if self.book is None:
            raise LobsterError(
                f"{self.name.symbol} {self.name.session}: no order-book file to compare with"
            )
        is_message = self.quarantine["file"].str.contains("_message_", regex=False)
        refused = self.quarantine[is_message].sort_values("line")
        before = refused["line"].to_numpy() - np.arange(1, len(refused) + 1)  # rows they precede
        is_hidden = (refused["text"].str.split(",").str[1] == str(EXECUTE_HIDDEN)).to_numpy()
        gaps = np.zeros(len(self.messages) + 1, dtype=np.bool_)
        gaps[before[~is_hidden]] = True
        return replay(self.messages, self.book, self.book.shape[1] // 4, gaps=gaps[:-1])

    @property
    def summary(self) -> dict[str, object]:
        """What the day's files held, for a table with one row a day."""
        ts = pd.to_datetime(self.messages["ts"].iloc[[0, -1]], unit="ns", utc=True)
        return {
            "symbol": self.name.symbol,
            "session": self.name.session,
            "levels": self.name.levels,
            "messages": len(self.messages),
            "has_book": self.book is not None,
            "quarantined": len(self.quarantine),
            "first": ts.iloc[0],
            "last": ts.iloc[1],
        }


def parse_name(file: Path) -> tuple[DayName, str]:
    """The day that a file's name tells, and the file's kind.

    Raises
    ------
    LobsterError
        If the name departs from LOBSTER's convention.
    """
    found = FILE_NAME.fullmatch(file.name)
    if not found:
        raise LobsterError(f"{file.name}: not a LOBSTER name; expected {CONVENTION}")
    try:
        date.fromisoformat(found["session"])
    except ValueError:
        raise LobsterError(f"{file.name}: {found['session']} is no date; rename it") from None
    start, end, levels = (int(found[key]) for key in ("start", "end", "levels"))
    if start >= end:
        raise LobsterError(f"{file.name}: starts at {start} ms but ends at {end} ms; rename it")
    return DayName(found["symbol"], found["session"], start, end, levels), found["kind"]


def find_days(folder: Path) -> list[DayFiles]:
    """Message files below `folder` with their order books, by symbol and session.

    Files that are neither .csv nor .csv.gz are left alone.

    Raises
    ------
    LobsterError
        If a name departs from the convention, a symbol's day comes twice, or
        an order book has no messages.
    """
    found: dict[str, dict[DayName, Path]] = {"message": {}, "orderbook": {}}
    for file in sorted(f for f in folder.rglob("*") if f.name.endswith((".csv", ".csv.gz"))):
        name, kind = parse_name(file)
        twin = next((f for n, f in found[kind].items() if n[:2] == name[:2]), None)
        if twin:
            raise LobsterError(
                f"{file.name}: {name.symbol} {name.session} comes from {twin.name} too; keep one"
            )
        found[kind][name] = file
    for name, file in found["orderbook"].items():
        if name not in found["message"]:
            raise LobsterError(
                f"{file.name}: an order book without messages; add "
                f"{name.file_name('message', '.csv')} or remove the file"
            )
    days = found["message"].items()
    return [DayFiles(name, file, found["orderbook"].get(name)) for name, file in sorted(days)]


def read_folder(folder: Path, *, tick: int = CENT) -> Iterator[LobsterDay]:
    """Every day below `folder`, one in memory at a time; see `find_days`, `read_day`."""
    days = find_days(folder)  # names are checked before the first day is read
    return (read_day(day, tick=tick) for day in days)


def read_day(files: DayFiles, *, tick: int = CENT) -> LobsterDay:
    """Read and check one day.

    Parameters
    ----------
    files : DayFiles
    tick : int
        Price step in dollars x 10,000. A line with another price is refused.

    Raises
    ------
    LobsterError
        If a file is empty, unreadable or shuffled, a gzip stream ends early
        (how much of the day is lost cannot be told), the two files differ in
        their number of lines, or no line is good.
    """
    name = files.name
    rows = parse_messages(files.messages.name, _read_bytes(files.messages))
    check_messages(rows, name.span_ns, tick)
    parts, book = [rows], None
    if files.book is not None:
        book = parse_book(files.book.name, _read_bytes(files.book), name.levels)
        if len(book.values) != len(rows.values):
            raise LobsterError(
                f"{rows.file} has {len(rows.values)} lines, {book.file} {len(book.values)}; "
                "they belong together line by line: fetch both again"
            )
        check_book(book, tick)
        is_good = rows.is_good
        rows.refuse(~book.is_good, "the book of this line was refused")
        book.refuse(~is_good, "the message of this line was refused")
        parts.append(book)
    keep = rows.is_good
    quarantine = pd.concat([part.refused() for part in parts], ignore_index=True)
    if not keep.any():
        common = quarantine["reason"].value_counts().index[0]
        raise LobsterError(f"{rows.file}: no good line; most common reason: {common}")
    levels = None if book is None else book_to_ticks(book.values[keep], tick)
    return LobsterDay(name, tick, _to_messages(rows.values[keep], name, tick), levels, quarantine)


def write_lobster(folder: Path, day: LobsterDay, *, suffix: str = ".csv.gz") -> DayFiles:
    """Write a day as LOBSTER files; reading them gives the day back.

    Parameters
    ----------
    suffix : str
        ".csv" or ".csv.gz".

    Raises
    ------
    LobsterError
        If the reader would refuse a row; nothing is written then.
    """
    name = day.name
    fields = ("ts", "type", "order_id", "size", "price", "direction")
    values = np.stack([day.messages[field].to_numpy(np.int64) for field in fields], axis=1)
    values[:, 0] -= name.midnight_ns
    values[values[:, 1] != HALT, 4] *= day.tick
    messages = _checkable("messages", values)
    check_messages(messages, name.span_ns, day.tick)
    parts = {"message": messages}
    if day.book is not None:
        parts["orderbook"] = _checkable("book", book_from_ticks(day.book, day.tick))
        check_book(parts["orderbook"], day.tick)
    for part in parts.values():
        if not part.is_good.all():
            row = int(np.argmin(part.is_good))
            raise LobsterError(f"{part.file}: row {row}: {part.reason[row]}; correct it first")
    files = {kind: folder / name.file_name(kind, suffix) for kind in parts}
    with ExitStack() as stack:
        for kind, part in parts.items():
            text = format_rows(part.values, has_time=kind == "message")
            data = gzip.compress(text, 6, mtime=0) if suffix.endswith(".gz") else text
            stack.enter_context(replace_file(files[kind])).write_bytes(data)
    return DayFiles(name, files["message"], files.get("orderbook"))


def _read_bytes(file: Path) -> bytes:
    try:
        data = file.read_bytes()
        return gzip.decompress(data) if file.suffix == ".gz" else data
    except EOFError:
        raise LobsterError(f"{file.name}: the gzip stream ends early; fetch it again") from None
    except (OSError, zlib.error) as error:
        raise LobsterError(f"{file.name}: cannot be read ({error}); fetch it again") from None


def _to_messages(values: npt.NDArray[np.int64], name: DayName, tick: int) -> pd.DataFrame:
    time, kind, order_id, size, price, direction = values.T
    frame = pd.DataFrame(
        {
            "symbol": name.symbol,
            "source": SOURCE,
            "session": name.session,
            "ts": time + name.midnight_ns,
            "type": kind,
            "order_id": order_id,
            "size": size,
            "price": np.where(kind == HALT, price, price // tick),
            "direction": direction,
        }
    )
    return frame.astype({column.name: column.dtype for column in MESSAGES.columns})


def _checkable(what: str, values: npt.NDArray[np.int64]) -> Rows:
    return Rows(what, b"", values, np.full(len(values), "", dtype=object))
