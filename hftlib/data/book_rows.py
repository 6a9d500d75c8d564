"""Rows of book tables: integers and back, the first fault of each, what is said twice.

A table of one session is an int64 matrix here, one column for each column of
its schema that is not text, since symbol, source and session are the same in
every row. `data.books` decides which tables belong together.

Of messages, two equal ones are a repeat only where an order cannot do a thing
twice: come, or leave. Equal executions of one nanosecond are two executions;
a day of LOBSTER's has dozens.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.data.lobster_rows import HALT_CODES, Rows
from hftlib.market.tape import ADD, DELETE, EVENT_NAMES, HALT, REDUCE
from hftlib.schema import Column, Schema, validate

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

NAMES = ("symbol", "source", "session")
REFUSED = Schema(
    "refused rows",
    (
        Column("symbol", "str", "instrument"),
        Column("source", "str", "simulator or venue it came from"),
        Column("session", "str", "trading day, YYYY-MM-DD"),
        Column("table", "str", "snapshots or messages"),
        Column("origin", "str", "file or run that the table came from"),
        Column("row", "int64", "row in that table, the first being 0"),
        Column("reason", "str", "the first check that failed"),
        Column("text", "str", "the row's numbers in the schema's order"),
    ),
)


class BooksError(ValueError):
    """A session, or a set of them, that cannot be used at all."""


def to_values(frame: pd.DataFrame, schema: Schema) -> IntArray:
    """Numbers of a table, shape (n_rows, n_number_columns).

    Raises
    ------
    SchemaError
        If the table departs from the schema.
    """
    values: IntArray = validate(frame, schema)[_number_names(schema)].to_numpy(np.int64)
    return values


def to_frame(
    values: IntArray, schema: Schema, symbol: str, source: str, session: str
) -> pd.DataFrame:
    """Table of one session; the inverse of `to_values`.

    Raises
    ------
    BooksError
        If a number does not fit its column.
    """
    names = {"symbol": symbol, "source": source, "session": session}
    columns: dict[str, object] = dict(names)
    for column, numbers in zip(_number_columns(schema), values.T, strict=True):
        limits = np.iinfo(column.dtype)
        if numbers.size and not (limits.min <= numbers.min() <= numbers.max() <= limits.max):
            raise BooksError(
                f"{symbol} {session}: a {column.name} of {np.abs(numbers).max()} does not fit "
                f"{column.dtype}; take a coarser unit or a shorter interval"
            )
        columns[column.name] = numbers.astype(column.dtype)
    frame = pd.DataFrame(columns, index=range(len(values)))
    return validate(frame.astype(dict.fromkeys(names, "str"))[schema.names], schema)


def check_times(rows: Rows, day_ns: tuple[int, int], as_of_ns: int) -> None:
    """Refuse rows outside [day_ns[0], day_ns[1]) or later than `as_of_ns`, nanoseconds UTC."""
    ts = rows.values[:, 0]
    rows.refuse((ts < day_ns[0]) | (ts >= day_ns[1]), "time is outside the session's day")
    rows.refuse(ts > as_of_ns, "time is in the future")


def check_snapshots(rows: Rows) -> None:
    """Give each snapshot that cannot be a book its reason.

    An empty level has price 0 and size 0 and stands behind the others; prices
    step away from the best; the best bid is below the best ask where both are.
    """
    values = rows.values
    best = []
    for side, sign in ((0, 1), (1, -1)):
        price, size = (
            np.concatenate([values[:, [first + side]], values[:, deeper + 2 * side : -2 : 4]], 1)
            for first, deeper in ((1, 5), (3, 6))
        )
        rows.refuse(price < 0, "price is negative")
        rows.refuse(size < 0, "size is negative")
        rows.refuse((price == 0) & (size > 0), "size at an empty level")
        rows.refuse((price > 0) & (size == 0), "level without size")
        before, after = price[:, :-1], price[:, 1:]
        is_behind = (before > 0) & (sign * after < sign * before)
        rows.refuse((after > 0) & ~is_behind, "levels are out of order")
        best.append(price[:, 0])
    bid, ask = best
    rows.refuse((bid > ask) & (ask > 0), "book is crossed")
    rows.refuse((bid == ask) & (ask > 0), "book is locked")
    rows.refuse(values[:, -2] < 0, "last price is negative")
    rows.refuse(values[:, -1] < 0, "traded quantity is negative")


def check_messages(rows: Rows) -> None:
    """Give each message that cannot be one its reason; a halt's price is its code."""
    _, kind, order_id, size, price, direction = rows.values.T
    is_halt = kind == HALT
    rows.refuse(~np.isin(kind, list(EVENT_NAMES)), "unknown event type")
    rows.refuse((size < 0) | ((size == 0) & ~is_halt), "size is not positive")
    rows.refuse(is_halt & ~np.isin(price, HALT_CODES), "halt code is not -1, 0 or 1")
    rows.refuse(~is_halt & (price <= 0), "price is not positive")
    rows.refuse(np.abs(direction) != 1, "direction is neither 1 nor -1")
    rows.refuse(order_id < 0, "order id is negative")
    rows.refuse(np.isin(kind, (ADD, REDUCE, DELETE)) & (order_id == 0), "order id is missing")


def order_by_time(values: IntArray) -> tuple[IntArray, int]:
    """Rows in time order, equal times as they stood, and how many stood behind a later one."""
    ts = values[:, 0]
    n_late = int((ts < np.maximum.accumulate(ts)).sum())
    return (values[np.argsort(ts, kind="stable")] if n_late else values), n_late


def find_superseded(values: IntArray) -> tuple[BoolArray, BoolArray]:
    """Which snapshots, in time order, are followed by one of the same time.

    Returns
    -------
    two masks of shape (n_rows,)
        Those equal to the last of their time, and those that differ from it.
    """
    ts = values[:, 0]
    is_followed = np.append(ts[1:] == ts[:-1], False)[: len(ts)]
    is_equal = np.zeros(len(ts), dtype=bool)
    at = np.flatnonzero(is_followed)
    last = np.searchsorted(ts, ts[at], side="right") - 1
    is_equal[at] = (values[at] == values[last]).all(axis=1)
    return is_equal, is_followed & ~is_equal


def find_repeats(values: IntArray) -> BoolArray:
    """Which messages, in time order, repeat that order's message before: it came or left twice."""
    is_repeat = np.zeros(len(values), dtype=bool)
    at = np.flatnonzero(values[:, 2] > 0)
    at = at[np.argsort(values[at, 2], kind="stable")]
    at_once = np.flatnonzero((np.diff(values[at, 2]) == 0) & (np.diff(values[at, 0]) == 0))
    before, here = at[at_once], at[at_once + 1]  # few, so that few rows are compared whole
    is_equal = (values[here] == values[before]).all(axis=1)
    is_repeat[here] = is_equal & np.isin(values[here, 1], (ADD, DELETE))
    return is_repeat


def _number_columns(schema: Schema) -> list[Column]:
    return [column for column in schema.columns if column.dtype != "str"]


def _number_names(schema: Schema) -> list[str]:
    return [column.name for column in _number_columns(schema)]
