"""Lines of LOBSTER files: text to integers, and the first fault of each line.

`data.lobster` decides which files belong together; here a file is a block of
text whose every line becomes a row of int64 or gets a reason. Values stay in
the file's units (prices x 10,000) except the time, which becomes nanoseconds.
A clean file takes the CSV parser's fast path; only a file with a malformed
line is looked at line by line.

Source: LOBSTER, Data structure, lobsterdata.com.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from hftlib.data.ingest import longest_rise
from hftlib.market.tape import ADD, EVENT_NAMES, EXECUTE, HALT
from hftlib.schema import Column, Schema

MESSAGE_FIELDS = ("time", "type", "order id", "size", "price", "direction")
NO_ASK, NO_BID = 9_999_999_999, -9_999_999_999  # prices of a level that nobody occupies
HALT_CODES = (-1, 0, 1)  # halted, quoting resumes, trading resumes; in the price column
INT32_MAX = 2**31 - 1
NS = 1_000_000_000
# A time printed from a double carries digits beyond the ninth; twelve tell noise from a fault.
TIME_TYPE, TIME_TEXT = pa.decimal128(20, 12), r"^[0-9]{1,6}(\.[0-9]{1,12})?$"
WHOLE_TEXT = re.compile(rb"-?[0-9]{1,19}")
CHARACTERS = b"0123456789.,-\r\n"

REFUSED = Schema(
    "refused lines",
    (
        Column("file", "str", "name of the file"),
        Column("line", "int64", "line in the file, the first being 1"),
        Column("reason", "str", "the first check that failed"),
        Column("text", "str", "the line as it stands"),
    ),
)


class LobsterError(ValueError):
    """A file, or a pair of them, that cannot be used at all."""


@dataclass(frozen=True)
class Rows:
    """Lines of one file.

    values : int64 array of shape (n_lines, n_columns); zeros where malformed
    reason : object array of shape (n_lines,); "" where no check failed yet
    """

    file: str
    text: bytes
    values: npt.NDArray[np.int64]
    reason: npt.NDArray[np.object_]

    def refuse(self, faulty: npt.NDArray[np.bool_], why: str) -> None:
        """Give lines a reason unless they have one.

        Parameters
        ----------
        faulty : array of shape (n_lines,) or (n_lines, n_cells)
            A line is at fault if one of its cells is.
        """
        if faulty.any():
            at_fault = faulty.reshape(len(self.reason), -1).any(axis=1)
            self.reason[at_fault & (self.reason == "")] = why

    @property
    def is_good(self) -> npt.NDArray[np.bool_]:
        """Mask of lines without a fault."""
        return np.asarray(self.reason == "", dtype=np.bool_)

    def refused(self) -> pd.DataFrame:
        """Lines with a fault, as `REFUSED`."""
        at = np.flatnonzero(~self.is_good)
        lines = self.text.splitlines() if len(at) else []
        table = {
            "file": [self.file] * len(at),
            "line": at + 1,
            "reason": self.reason[at].tolist(),
            "text": [lines[i].decode("utf-8", "replace") for i in at],
        }
        return pd.DataFrame(table).astype({c.name: c.dtype for c in REFUSED.columns})


def parse_messages(file: str, text: bytes) -> Rows:
    """Rows of six columns; the time in nanoseconds after midnight.

    Decimals are read as decimals: up to nine are exact, digits beyond, which a
    printed double leaves, are rounded to the nearest nanosecond.
    """
    return _parse(file, text, MESSAGE_FIELDS)


def parse_book(file: str, text: bytes, levels: int) -> Rows:
    """Rows of ask price, ask size, bid price, bid size for each level."""
    names = ("ask price", "ask size", "bid price", "bid size")
    return _parse(file, text, [f"{name} {k}" for k in range(1, levels + 1) for name in names])


def check_messages(rows: Rows, span_ns: tuple[int, int], tick: int) -> None:
    """Give each message that cannot be one its reason.

    Parameters
    ----------
    rows : Rows
        As `parse_messages` returns them.
    span_ns : (int, int)
        First and last nanosecond after midnight that the file's name allows.
    tick : int
        Price step in the file's unit; 100 is a cent.

    Raises
    ------
    LobsterError
        If more than half of the lines break the time order: then the file is
        shuffled, and which half is right cannot be told.
    """
    time, kind, order_id, size, price, direction = rows.values.T
    is_halt = kind == HALT
    rows.refuse(~np.isin(kind, list(EVENT_NAMES)), "unknown event type")
    rows.refuse((time < span_ns[0]) | (time > span_ns[1]), "time is outside the span of the name")
    rows.refuse((size < 0) | ((size == 0) & ~is_halt), "size is not positive")
    rows.refuse(size > INT32_MAX, "size is too large")
    rows.refuse(is_halt & ~np.isin(price, HALT_CODES), "halt code is not -1, 0 or 1")
    rows.refuse(~is_halt & (price <= 0), "price is not positive")
    rows.refuse(~is_halt & (price % tick != 0), "price off the tick")
    rows.refuse(price // tick > INT32_MAX, "price is too large")
    rows.refuse(np.abs(direction) != 1, "direction is neither 1 nor -1")
    rows.refuse((kind >= ADD) & (kind <= EXECUTE) & (order_id <= 0), "order id is not positive")

    at = np.flatnonzero(rows.is_good)
    if (np.diff(time[at]) >= 0).all():
        return
    late = at[~longest_rise(time[at].tolist())]
    if 2 * len(late) > len(at):
        raise LobsterError(
            f"{rows.file}: {len(late)} of {len(at)} rows are out of time order; "
            "the file is shuffled: fetch it again, with its order book"
        )
    rows.refuse(np.isin(np.arange(len(time)), late), "time is out of order")


def check_book(rows: Rows, tick: int) -> None:
    """Give each row that cannot be a book its reason.

    Prices step away from the best on each side, empty levels come last, every
    other level has a positive price on the tick and a positive size.
    """
    ask, ask_size, bid, bid_size = (rows.values[:, k::4] for k in range(4))
    for price, size, empty in ((ask, ask_size, NO_ASK), (bid, bid_size, NO_BID)):
        is_empty = price == empty
        rows.refuse(is_empty & (size != 0), "size at an empty level")
        rows.refuse(~is_empty & (size <= 0), "size is not positive")
        rows.refuse(size > INT32_MAX, "size is too large")
        rows.refuse(~is_empty & (price <= 0), "price is not positive")
        rows.refuse(~is_empty & (price % tick != 0), "price off the tick")
        rows.refuse(~is_empty & (price // tick > INT32_MAX), "price is too large")
        steps = np.diff(price, axis=1) * np.sign(empty)
        rows.refuse((steps <= 0) & ~is_empty[:, 1:], "levels are out of order")
    rows.refuse(bid[:, 0] >= ask[:, 0], "book is crossed")


def book_to_ticks(values: npt.NDArray[np.int64], tick: int) -> npt.NDArray[np.int32]:
    """Checked rows in ticks and lots; an empty level becomes 0 and 0."""
    book = values.copy()
    for side, empty in ((0, NO_ASK), (2, NO_BID)):
        price = values[:, side::4]
        book[:, side::4] = np.where(price == empty, 0, price // tick)
    return book.astype(np.int32)


def book_from_ticks(book: npt.NDArray[np.int32], tick: int) -> npt.NDArray[np.int64]:
    """The inverse of `book_to_ticks`."""
    values = book.astype(np.int64)
    for side, empty in ((0, NO_ASK), (2, NO_BID)):
        price = values[:, side::4]
        values[:, side::4] = np.where(price == 0, empty, price * tick)
    return values


def format_rows(values: npt.NDArray[np.int64], *, has_time: bool) -> bytes:
    """Text of the rows, as `parse_messages` (`has_time`) and `parse_book` read it."""
    columns = [pa.array(column) for column in values.T]
    if has_time:
        seconds, rest = np.divmod(values[:, 0], NS)
        digits = pc.utf8_lpad(pa.array(rest).cast(pa.string()), 9, "0")
        text = pc.binary_join_element_wise(pa.array(seconds).cast(pa.string()), digits, ".")
        columns[0] = pc.utf8_rtrim(pc.utf8_rtrim(text, "0"), ".")
    sink = pa.BufferOutputStream()
    table = pa.table(columns, names=[str(k) for k in range(len(columns))])
    csv.write_csv(table, sink, csv.WriteOptions(include_header=False, quoting_style="none"))
    return bytes(sink.getvalue())


def _parse(file: str, text: bytes, fields: Iterable[str]) -> Rows:
    fields = tuple(fields)
    if not text.strip():
        raise LobsterError(f"{file}: the file is empty; fetch it again")
    n_lines = text.count(b"\n") + (not text.endswith(b"\n"))
    try:
        values = _to_integers(text, fields)
        if len(values) != n_lines:
            raise pa.ArrowInvalid("lone carriage returns")
        reason = np.full(n_lines, "", dtype=object)
    except pa.ArrowInvalid:
        lines = text.splitlines()
        reason = np.array([_fault(line, fields) for line in lines], dtype=object)
        values = np.zeros((len(lines), len(fields)), dtype=np.int64)
        whole = [line for line, why in zip(lines, reason, strict=True) if not why]
        if whole:
            values[reason == ""] = _to_integers(b"\n".join(whole), fields)
    rows = Rows(file, text, values, reason)
    if not text.endswith((b"\n", b"\r")):
        # A number cut short is still a number: only the missing end tells.
        rows.refuse(np.arange(len(values)) == len(values) - 1, "line has no end; the file was cut")
    return rows


def _to_integers(text: bytes, fields: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """Values of shape (n_lines, n_fields), or ArrowInvalid if a line is malformed."""
    if text.translate(None, CHARACTERS):
        raise pa.ArrowInvalid("characters of no number")
    types = {name: pa.string() if name == "time" else pa.int64() for name in fields}
    table = csv.read_csv(
        pa.BufferReader(text),
        read_options=csv.ReadOptions(column_names=fields),
        parse_options=csv.ParseOptions(ignore_empty_lines=False),
        convert_options=csv.ConvertOptions(column_types=types),
    )
    values = np.empty((len(table), len(fields)), dtype=np.int64)
    for k, column in enumerate(table.columns):
        if column.null_count:
            raise pa.ArrowInvalid("empty fields")
        if fields[k] == "time":
            if not pc.all(pc.match_substring_regex(column, TIME_TEXT)).as_py():
                raise pa.ArrowInvalid("times that are no seconds")
            column = pc.round(pc.multiply(column.cast(TIME_TYPE), pa.scalar(Decimal(NS))))
            column = column.cast(pa.int64())
        values[:, k] = column.to_numpy()
    return values


def _fault(line: bytes, fields: tuple[str, ...]) -> str:
    """What makes a line malformed; "" if nothing does."""
    words = line.split(b",")
    if len(words) != len(fields):
        return f"expected {len(fields)} fields, received {len(words)}"
    for name, word in zip(fields, words, strict=True):
        if name == "time" and not re.fullmatch(TIME_TEXT.encode(), word):
            return "time is not seconds with at most 12 decimals"
        if name != "time" and not (WHOLE_TEXT.fullmatch(word) and abs(int(word)) < 2**63):
            return f"{name} is not a whole number"
    return ""
