"""Sessions out of each source of order books: LOBSTER days, simulations, depth captures.

Each gives the two tables of `schema`: snapshots on a clock, in which the row
at time t is the last state at or before t, and messages. `data.books` checks
and merges them. Tables hold prices in ticks and sizes in lots and say no more
about either, so that all captures of a symbol from one source share theirs.
"""

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.data.book_rows import BooksError, IntArray, to_frame
from hftlib.data.books import BookSession
from hftlib.data.depth import DepthCapture, DepthReport, read_depth
from hftlib.data.lobster import SOURCE, LobsterDay
from hftlib.data.replay import rebuild, to_messages
from hftlib.market.tape import EXECUTE, EXECUTE_HIDDEN, Recording
from hftlib.schema import MESSAGES, empty, snapshots

CAPTURE = "SYMBOL_TICK_LOT[_NOTE].jsonl[.gz]"
EXAMPLE = "BTCUSDT_0.01_0.00001_2024-08-08.jsonl.gz"
CAPTURE_NAME = re.compile(
    r"(?P<symbol>[^_]+)_(?P<tick>\d+(\.\d+)?)_(?P<lot>\d+(\.\d+)?)(_.*)?\.jsonl(\.gz)?", re.ASCII
)


class CaptureFile(NamedTuple):
    """A depth capture and what its name says; `tick` and `lot` are decimal text."""

    path: Path
    symbol: str
    source: str
    tick: str
    lot: str


def sample_book(day: LobsterDay, *, interval_ns: int, levels: int) -> pd.DataFrame:
    """The book of a LOBSTER day on a clock.

    Parameters
    ----------
    day : LobsterDay
        Without an order-book file the book is what the messages make of it:
        orders from before the first message are missing, see `replay.rebuild`.
    interval_ns : int
        The clock's step; rows stand at its multiples since the epoch, from the
        first event to the last.
    levels : int
        Price levels a side; those that the file lacks are 0.

    Returns
    -------
    table as `schema.snapshots(levels)`
        `traded_qty` counts visible and hidden executions since the row before,
        in the first row since the first event; `last_px` is the price of the
        last of them. Empty if the day is shorter than the interval.

    Raises
    ------
    BooksError
        If `interval_ns` or `levels` is less than 1, the lots traded in an
        interval exceed 32 bits, or a book to be rebuilt has too many orders.
    """
    for name, value in (("levels", levels), ("interval_ns", interval_ns)):
        if value < 1:
            raise BooksError(f"{name} is {value}; expected at least 1")
    after = day.book if day.book is not None else _rebuild_book(day, levels)
    events = {name: day.messages[name].to_numpy() for name in ("ts", "type", "size", "price")}
    ts = events["ts"]
    clock = np.arange(-(-ts[0] // interval_ns) * interval_ns, ts[-1] + 1, interval_ns)
    at = np.searchsorted(ts, clock, side="right") - 1
    is_trade = np.isin(events["type"], (EXECUTE, EXECUTE_HIDDEN))
    traded = np.cumsum(np.where(is_trade, events["size"], 0))[at]
    last = np.maximum.accumulate(np.where(is_trade, np.arange(len(ts)), -1))[at]
    book = after.reshape(len(ts), -1, 4)[at, :levels]
    rows = np.zeros((len(at), 3 + 4 * levels), dtype=np.int64)
    rows[:, 0] = clock
    for field, column in enumerate((2, 3, 0, 1)):  # bids first
        rows[:, 1 + field : 1 + 4 * book.shape[1] : 4] = book[:, :, column]
    rows[:, -2] = np.where(last >= 0, events["price"][last], 0)
    rows[:, -1] = np.diff(traded, prepend=0)
    return _to_snapshots(rows, day.name.symbol, SOURCE, day.name.session)


def lobster_session(day: LobsterDay, *, interval_ns: int, levels: int) -> BookSession:
    """A LOBSTER day, its book sampled by `sample_book`."""
    name = day.name
    book = sample_book(day, interval_ns=interval_ns, levels=levels)
    return BookSession(
        symbol=name.symbol,
        source=SOURCE,
        session=name.session,
        snapshots=book,
        messages=day.messages,
        origin=name.file_name("message", ""),
        refused_lines=len(day.quarantine),
    )


def recording_frames(
    recording: Recording, *, symbol: str, source: str, session: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables of a simulated session.

    Returns
    -------
    tables as `schema.snapshots(levels)` and `schema.MESSAGES`
        With the levels, the clock and every event of the recording.

    Raises
    ------
    BooksError
        If a number does not fit its column.
    """
    return (
        _to_snapshots(recording.snapshots, symbol, source, session),
        to_messages(recording.tape, symbol=symbol, source=source, session=session),
    )


def find_captures(folder: Path) -> list[CaptureFile]:
    """Captures below `folder` in the order of their names.

    A capture is named `SYMBOL_TICK_LOT[_NOTE].jsonl[.gz]`, with the symbol as
    in its lines. Its source is the name of the folder that it lies in. Files
    that are neither .jsonl nor .jsonl.gz are left alone.

    Raises
    ------
    BooksError
        If a name departs from the convention, or captures of one symbol and
        source differ in tick or lot.
    """
    found: dict[tuple[str, str], CaptureFile] = {}
    files = []
    for path in sorted(f for f in folder.rglob("*") if f.name.endswith((".jsonl", ".jsonl.gz"))):
        name = CAPTURE_NAME.fullmatch(path.name)
        if not name or not Fraction(name["tick"]) or not Fraction(name["lot"]):
            raise BooksError(
                f"{path.name}: not the name of a depth capture; expected {CAPTURE} with the steps "
                f"of price and quantity in decimals, such as {EXAMPLE}"
            )
        file = CaptureFile(path, name["symbol"], path.parent.name, name["tick"], name["lot"])
        first = found.setdefault((file.source, file.symbol), file)
        for unit in ("tick", "lot"):
            before, here = getattr(first, unit), getattr(file, unit)
            if Fraction(before) != Fraction(here):
                raise BooksError(
                    f"{path.name}: {unit} {here}, but {first.path.name} of the same symbol and "
                    f"source has {before}; name both alike, or put one into a folder of its own"
                )
        files.append(file)
    return files


def read_capture(
    file: CaptureFile, *, interval_ns: int, levels: int
) -> tuple[list[BookSession], DepthReport]:
    """Sessions of a capture, cut at midnight UTC, and what it held; see `depth.read_depth`.

    Lines that were refused are counted with the first session.
    """
    capture = read_depth(
        file.path,
        symbol=file.symbol,
        source=file.source,
        tick=file.tick,
        lot=file.lot,
        levels=levels,
        interval_ns=interval_ns,
    )
    return list(_split_days(capture, file, levels)), capture.report


def read_depth_folder(folder: Path, *, interval_ns: int, levels: int) -> Iterator[BookSession]:
    """Sessions of every capture below `folder`, one capture in memory at a time.

    Names are checked before the first capture is read; see `find_captures`
    and `read_capture`.
    """
    files = find_captures(folder)
    return (
        session
        for file in files
        for session in read_capture(file, interval_ns=interval_ns, levels=levels)[0]
    )


def _rebuild_book(day: LobsterDay, levels: int) -> npt.NDArray[np.int32]:
    rebuilt = rebuild(day.messages, levels=levels)
    if rebuilt.n_refused:
        raise BooksError(
            f"{day.name.symbol} {day.name.session}: {rebuilt.n_refused} orders found no room in "
            "the book rebuilt from the messages; fetch the order-book file"
        )
    return rebuilt.book


def _split_days(capture: DepthCapture, file: CaptureFile, levels: int) -> Iterator[BookSession]:
    days = [dict(list(table.groupby("session"))) for table in (capture.snapshots, capture.trades)]
    n_refused = capture.report.quarantined.total()
    for session in sorted(set().union(*days)):
        book = days[0].get(session, empty(snapshots(levels)))
        trades = days[1].get(session, empty(MESSAGES))
        if len(book):  # trades before midnight belong to the day before
            is_before = trades["ts"] <= book["ts"].iloc[0]
            book = book.assign(
                traded_qty=np.append(
                    trades.loc[is_before, "size"].sum(), book["traded_qty"].to_numpy()[1:]
                ).astype(np.int32)
            )
        yield BookSession(
            symbol=file.symbol,
            source=file.source,
            session=session,
            snapshots=book.reset_index(drop=True),
            messages=trades.reset_index(drop=True),
            origin=file.path.name,
            refused_lines=n_refused,
        )
        n_refused = 0


def _to_snapshots(
    rows: npt.NDArray[np.int64], symbol: str, source: str, session: str
) -> pd.DataFrame:
    """Table from rows of ts; bid price, bid lots, ask price, ask lots of each level; the trades."""
    n_levels = (rows.shape[1] - 3) // 4
    values: IntArray = rows.copy()
    values[:, [2, 3]] = rows[:, [3, 2]]  # the schema's level 1 has both prices first
    return to_frame(values, snapshots(n_levels), symbol, source, session)
