"""Rows of the event store: their columns, decimal text and time stamps.

A row is one wire event, button press or derived document of one recording.
Money and prices are decimal text, so that what was received can be told from
what a float makes of it; times are ISO 8601, UTC, microseconds.

Source: the origin's event-store schema 1.0.0.
"""

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hftlib.sessions.vocabulary import DIRECTIONS, DOC_TYPES, SCHEMA_VERSION, SOURCES

IntArray = npt.NDArray[np.int64]

COLUMNS: Final = {
    "seq": pa.int64(),
    "ts": pa.string(),
    "source": pa.string(),
    "doc_type": pa.string(),
    "session_id": pa.string(),
    "direction": pa.string(),
    "raw_json": pa.string(),
    "game_id": pa.string(),
    "player_id": pa.string(),
    "username": pa.string(),
    "event_name": pa.string(),
    "price": pa.string(),
    "tick": pa.int64(),
    "action_type": pa.string(),
    "cash": pa.string(),
    "position_qty": pa.string(),
    "button_id": pa.string(),
    "button_category": pa.string(),
    "sequence_id": pa.string(),
    "sequence_position": pa.int64(),
}
DECIMALS: Final = ("price", "cash", "position_qty")
WORDS: Final = {"source": SOURCES, "doc_type": DOC_TYPES, "direction": DIRECTIONS}
REQUIRED: Final = ("seq", "ts", "doc_type", "session_id")
VERSION_KEY: Final = b"schema_version"
SCHEMA: Final = pa.schema(list(COLUMNS.items()), {VERSION_KEY: SCHEMA_VERSION.encode()})

DAY_NS: Final = 86_400_000_000_000
NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}\+00:00$"
ZONE = r"(Z|[+-][0-9]{2}(:?[0-9]{2})?)$"
UTC_NS = pa.timestamp("ns", tz="UTC")


class RowError(ValueError):
    """A row that the store refuses."""


def decimal_text(value: Any) -> str | None:
    """Decimal text of a number, exact; None stays None.

    Floats are written as `repr` does, which reads back to the same float;
    numeric text is kept as it is, to the last digit.

    Raises
    ------
    ValueError
        If the value is nan, infinite, or no number.
    """
    if value is None:
        return None
    if isinstance(value, str):
        if re.fullmatch(NUMBER, value):
            return value
    elif isinstance(value, int | np.integer) and not isinstance(value, bool):
        return str(int(value))
    elif isinstance(value, float | np.floating):
        if math.isfinite(value):
            return repr(float(value))
    elif isinstance(value, Decimal) and value.is_finite():
        return str(value)
    raise ValueError(f"{value!r}: expected a finite number or its decimal text")


def decimal_texts(values: Sequence[Any] | npt.NDArray[Any] | pa.Array) -> pa.Array:
    """`decimal_text` of a whole column; a column of text is checked, not copied.

    Raises
    ------
    ValueError
        With the first value that is no finite number.
    """
    if isinstance(values, pa.Array | pa.ChunkedArray):
        if pa.types.is_string(values.type):
            wrong = pc.invert(pc.match_substring_regex(values, NUMBER))
            if (row := first_true(wrong)) is not None:
                decimal_text(values[row].as_py())
            return values
        values = values.to_pylist()
    elif isinstance(values, np.ndarray):
        values = values.tolist()
    return pa.array([decimal_text(value) for value in values], pa.string())


def first_true(claims: pa.Array) -> int | None:
    """Index of the first true; None if there is none. Null counts as false."""
    row = pc.index(claims, True).as_py()
    return None if row < 0 else row


def iso_times(ns: IntArray) -> pa.Array:
    """Time stamps, ISO 8601 UTC, of nanoseconds since the epoch, cut to microseconds.

    Parameters
    ----------
    ns : int64 array of shape (n,)
    """
    text = pa.array(np.asarray(ns, np.int64) // 1000).cast(pa.timestamp("us")).cast(pa.string())
    return pc.binary_join_element_wise(pc.binary_replace_slice(text, 10, 11, "T"), "+00:00", "")


def iso_time(ns: int) -> str:
    """Time stamp of one moment; see `iso_times`."""
    return str(iso_times(np.array([ns]))[0])


def parse_times(texts: pa.Array | pa.ChunkedArray) -> IntArray:
    """Nanoseconds since the epoch of ISO 8601 times; one without a zone is taken as UTC.

    Raises
    ------
    ValueError
        If a text is null or no time; names the row.
    """
    try:
        stamps = texts.cast(UTC_NS)
    except pa.ArrowInvalid:
        stamps = None
    if stamps is not None and not stamps.null_count:
        return np.asarray(stamps.cast(pa.int64()), dtype=np.int64)
    # Somewhere a zone or a time is missing: slower, and says where.
    return np.array([_parse_row(row, text) for row, text in enumerate(texts.to_pylist())], np.int64)


def parse_time(text: str) -> int:
    """Nanoseconds since the epoch of one time; see `parse_times`."""
    try:
        stamp = pa.scalar(text if has_zone(text) else f"{text}+00:00", pa.string()).cast(UTC_NS)
    except pa.ArrowInvalid:
        raise ValueError(
            f"{text!r} is no time; expected ISO 8601 such as 2026-01-02T03:04:05.678901Z"
        ) from None
    return int(stamp.value)


def has_zone(text: str) -> bool:
    """Whether a time says its zone; without one it is naive."""
    return re.search(ZONE, text) is not None


def is_time(text: str | None) -> bool:
    """Whether `parse_time` reads this."""
    try:
        return text is not None and parse_time(text) is not None
    except ValueError:
        return False


def _parse_row(row: int, text: str | None) -> int:
    try:
        return parse_time("" if text is None else text)
    except ValueError as error:
        raise ValueError(f"row {row}: {error}") from None


def check_row(row: Mapping[str, Any], session_id: str) -> dict[str, Any]:
    """The row without its nulls, numbers of decimal columns as text.

    Raises
    ------
    RowError
        If a column is unknown, missing, of a wrong type or another session's,
        `ts` is not as `iso_time` writes it, or a word is not in the vocabulary.
    """
    good = {}
    for name, value in row.items():
        if name not in COLUMNS:
            raise RowError(_unknown_column(name))
        if value is not None:
            good[name] = _check_value(name, value)
    for name in REQUIRED:
        if name not in good:
            raise RowError(f"{name} is missing; every row needs {', '.join(REQUIRED)}")
    for name, words in WORDS.items():
        if good.get(name, words[0]) not in words:
            raise RowError(_not_a_word(name, good[name]))
    if good["session_id"] != session_id:
        raise RowError(_other_session(good["session_id"], session_id))
    if not re.fullmatch(TIME, good["ts"]):
        raise RowError(_not_a_stamp(good["ts"]))
    try:
        parse_time(good["ts"])
    except ValueError as error:
        raise RowError(f"ts: {error}") from None
    return good


def check_columns(columns: Mapping[str, Sequence[Any] | pa.Array], session_id: str) -> pa.Table:
    """A table of `SCHEMA` of n rows; columns not given are null.

    Raises
    ------
    RowError
        As `check_row`, with the row's number; or if the lengths differ.
    """
    arrays = {name: _to_arrow(name, values) for name, values in columns.items()}
    lengths = {name: len(array) for name, array in arrays.items()}
    n = max(lengths.values(), default=0)
    if any(length != n for length in lengths.values()):
        raise RowError(f"columns of different lengths: {lengths}; give one value a row")
    for name in REQUIRED:
        if name not in arrays:
            raise RowError(f"{name} is missing; every row needs {', '.join(REQUIRED)}")
        if (row := first_true(arrays[name].is_null())) is not None:
            raise RowError(f"row {row}: {name} is missing")
    for name, words in WORDS.items():
        if name in arrays:
            values = arrays[name]
            unknown = pc.and_(values.is_valid(), pc.invert(pc.is_in(values, pa.array(words))))
            if (row := first_true(unknown)) is not None:
                raise RowError(f"row {row}: {_not_a_word(name, values[row])}")
    sessions, stamps = arrays["session_id"], arrays["ts"]
    if (row := first_true(pc.not_equal(sessions, session_id))) is not None:
        raise RowError(f"row {row}: {_other_session(str(sessions[row]), session_id)}")
    if (row := first_true(pc.invert(pc.match_substring_regex(stamps, TIME)))) is not None:
        raise RowError(f"row {row}: {_not_a_stamp(str(stamps[row]))}")
    try:
        parse_times(stamps)
    except ValueError as error:
        raise RowError(f"ts: {error}") from None
    return pa.table(
        [arrays.get(name, pa.nulls(n, kind)) for name, kind in COLUMNS.items()], schema=SCHEMA
    )


def _check_value(name: str, value: Any) -> Any:
    if name in DECIMALS:
        try:
            return decimal_text(value)
        except ValueError as error:
            raise RowError(f"{name}: {error}") from None
    if COLUMNS[name] == pa.int64():
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise RowError(f"{name}: {value!r}: expected a whole number")
        if not -(2**63) <= value < 2**63:
            raise RowError(f"{name}: {value}: expected a whole number of 64 bits")
        return int(value)
    if not isinstance(value, str):
        raise RowError(f"{name}: {value!r}: expected text; write it as str or JSON")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise RowError(f"{name}: {value!r}: expected Unicode without lone surrogates") from None
    return value


def _to_arrow(name: str, values: Sequence[Any] | pa.Array) -> pa.Array:
    if name not in COLUMNS:
        raise RowError(_unknown_column(name))
    kind = COLUMNS[name]
    try:
        if name in DECIMALS:
            return decimal_texts(values)
        is_arrow = isinstance(values, pa.Array | pa.ChunkedArray)
        array: Any = values if is_arrow else pa.array(values)
        if not holds(kind, array.type):
            raise TypeError(f"received {array.type}, first {array[0]}")
        return array.cast(kind)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise RowError(f"{name}: {error}; expected values of type {kind}") from None


def holds(wanted: pa.DataType, received: pa.DataType) -> bool:
    """Whether values of one type are, without a guess, values of the wanted one: text or int64."""
    if pa.types.is_dictionary(received):
        received = received.value_type
    if pa.types.is_null(received):
        return True
    if wanted == pa.int64():
        return bool(pa.types.is_integer(received))
    return bool(pa.types.is_string(received) or pa.types.is_large_string(received))


def _unknown_column(name: str) -> str:
    close = difflib.get_close_matches(name, COLUMNS, n=1)
    hint = f"did you mean {close[0]}?" if close else f"columns are {', '.join(COLUMNS)}"
    return f"{name} is no column of the store; {hint}"


def _not_a_word(name: str, value: Any) -> str:
    return f"{name}: {str(value)!r}: expected one of {', '.join(WORDS[name])}"


def _other_session(value: str, session_id: str) -> str:
    return f"session_id: {value!r}: this writer is of {session_id!r}; one writer a session"


def _not_a_stamp(text: str) -> str:
    return f"ts: {text!r}: expected 2026-01-02T03:04:05.678901+00:00; event_rows.iso_time writes it"
