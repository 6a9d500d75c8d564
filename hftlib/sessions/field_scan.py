"""Compiled scan of wire events for the fields that observations need.

Finds in each text `{"event": ..., "data": {...}}` the fields of `payloads`, and
checks the whole text against the grammar of JSON on its way. It gives up on a
text that it is not sure of, because of a syntax error, a wrong type, a field
said twice, an escape in a name, no payload: such a text is for the parser that
reads one at a time. Of numbers the digits are collected, to be converted all
at once by a correctly rounding parser. It takes a third of the time of Arrow's
JSON reader, which has a cell to fill for each field that an event lacks.
"""

from bisect import bisect_left
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hftlib.compute import compile_kernel, inline_kernel
from hftlib.sessions.json_tokens import (
    CLOSE_ARRAY,
    CLOSE_OBJECT,
    COLON,
    COMMA,
    FALSE,
    MINUS,
    NINE,
    NULL,
    OPEN_ARRAY,
    OPEN_OBJECT,
    QUOTE,
    TRUE,
    UNSURE,
    ZERO,
    Bytes,
    is_whole,
    skip_name,
    skip_number,
    skip_space,
    skip_string,
    starts_with,
)
from hftlib.sessions.payloads import (
    FIELDS,
    FLOAT32_MAX,
    N_VALUES,
    TICK,
    TICK_END,
    GamePayload,
    PlayerPayload,
    RugpoolPayload,
    Values,
)

IntArray = npt.NDArray[np.int64]

MAX_DEPTH = 60  # one bit each in an int64
MAX_DIGITS = 60  # characters of a number
LONGEST = max(len(field.name) for fields in FIELDS.values() for field in fields)
UNKNOWN = -1  # name of a field that is not read
DATA = 0  # number of that name

# objects whose names are looked up
TOP, PAYLOAD, RUGPOOL, ELSEWHERE = range(4)
# what a field must be
NUMBER, INTEGER, TRUTH, RECORD, LIST, OPENS_PAYLOAD, OPENS_RUGPOOL = range(7)
# what may come next
VALUE, NAME, AFTER = range(3)


class Names(NamedTuple):
    """Names to look up, sorted by the object that they stand in and their length.

    text : uint8 (n_names, LONGEST), each filled up with zeros
    firsts : int64 (3, LONGEST + 2), names firsts[scope, length] to firsts[scope, length + 1]
        are those of this length in that object
    types, columns : int64 (n_names,), what the value must be and where it goes
    """

    text: Bytes
    firsts: IntArray
    types: IntArray
    columns: IntArray


def list_names() -> Names:
    """The fields of the payload models, and the two names that lead to them."""
    types = {
        GamePayload.model_fields["price"].annotation: NUMBER,
        GamePayload.model_fields["tick"].annotation: INTEGER,
        GamePayload.model_fields["is_active"].annotation: TRUTH,
        PlayerPayload.model_fields["side_bet"].annotation: RECORD,
        PlayerPayload.model_fields["side_bets"].annotation: LIST,
    }
    entries = [
        (TOP, "data", OPENS_PAYLOAD, N_VALUES),
        (PAYLOAD, "rugpool", OPENS_RUGPOOL, N_VALUES),
    ]
    for model, fields in FIELDS.items():
        scope = RUGPOOL if model is RugpoolPayload else PAYLOAD
        entries += [(scope, field.name, types[field.type], field.column) for field in fields]
    entries.sort(key=lambda entry: (entry[0], len(entry[1])))
    keys = [(scope, len(name)) for scope, name, _, _ in entries]
    return Names(
        text=np.array(
            [list(name.encode().ljust(LONGEST, b"\0")) for _, name, _, _ in entries], np.uint8
        ),
        firsts=np.array(
            [
                [bisect_left(keys, (scope, length)) for length in range(LONGEST + 2)]
                for scope in (TOP, PAYLOAD, RUGPOOL)
            ]
        ),
        types=np.array([kind for _, _, kind, _ in entries]),
        columns=np.array([column for *_, column in entries]),
    )


NAMES: Final = list_names()


@inline_kernel
def find_name(text: Bytes, at: int, length: int, scope: int, names: Names) -> int:
    """Number of a name among those of an object, else UNKNOWN."""
    if scope == ELSEWHERE or length > LONGEST:
        return UNKNOWN
    for k in range(names.firsts[scope, length], names.firsts[scope, length + 1]):
        same = 0
        while same < length and text[at + same] == names.text[k, same]:
            same += 1
        if same == length:
            return k
    return UNKNOWN


@inline_kernel
def scan_text(
    text: Bytes,
    at: int,
    end: int,
    names: Names,
    row: int,
    values: Values,
    digits: Bytes,
    ends: IntArray,
    targets: IntArray,
    n_numbers: int,
) -> int:
    """Read text[at:end] into values[row]; see `scan_texts`. Returns the new `n_numbers`."""
    depth = arrays = seen = 0
    payload_depth = rugpool_depth = -1  # of what is inside those objects
    name = UNKNOWN
    expected, is_fresh = VALUE, False  # fresh: nothing yet in the innermost object or array
    while True:
        at = skip_space(text, at, end)
        if at >= end:
            is_done = depth == 0 and expected == AFTER and (seen >> DATA) & 1
            return n_numbers if is_done else UNSURE
        c = text[at]
        in_array = (arrays >> depth) & 1

        if expected != VALUE or (is_fresh and in_array):
            if depth == 0:
                return UNSURE
            if c == (CLOSE_ARRAY if in_array else CLOSE_OBJECT) and (expected == AFTER or is_fresh):
                if depth == payload_depth:
                    payload_depth = -1
                elif depth == rugpool_depth:
                    rugpool_depth = -1
                depth -= 1
                at += 1
                expected, is_fresh = AFTER, False
                continue

        if expected == AFTER:
            if c != COMMA:
                return UNSURE
            at += 1
            expected, name = VALUE if in_array else NAME, UNKNOWN

        elif expected == NAME:
            stop = skip_name(text, at + 1, end) if c == QUOTE else UNSURE
            if stop == UNSURE:
                return UNSURE
            scope = ELSEWHERE
            if depth == 1:
                scope = TOP
            elif depth == payload_depth:
                scope = PAYLOAD
            elif depth == rugpool_depth:
                scope = RUGPOOL
            name = find_name(text, at + 1, stop - at - 2, scope, names)
            if name != UNKNOWN:
                if (seen >> name) & 1:
                    return UNSURE
                seen |= 1 << name
            at = skip_space(text, stop, end)
            if at >= end or text[at] != COLON:
                return UNSURE
            at += 1
            expected, is_fresh = VALUE, False

        elif c in (OPEN_OBJECT, OPEN_ARRAY):
            if name != UNKNOWN:
                kind = names.types[name]
                if c == OPEN_ARRAY:
                    if kind != LIST:
                        return UNSURE
                    inside = skip_space(text, at + 1, end)
                    is_empty = inside < end and text[inside] == CLOSE_ARRAY
                    values[row, names.columns[name]] = 0.0 if is_empty else 1.0
                elif kind == RECORD:
                    values[row, names.columns[name]] = 1.0
                elif kind == OPENS_PAYLOAD:
                    payload_depth = depth + 1
                elif kind == OPENS_RUGPOOL:
                    rugpool_depth = depth + 1
                else:
                    return UNSURE
            depth += 1
            if depth > MAX_DEPTH or (depth == 1 and c == OPEN_ARRAY):
                return UNSURE
            arrays &= ~(1 << depth)
            at += 1
            name, is_fresh = UNKNOWN, True
            if c == OPEN_ARRAY:
                arrays |= 1 << depth
                expected = VALUE
            else:
                expected = NAME

        elif depth == 0:
            return UNSURE

        else:
            if c == QUOTE:
                if name != UNKNOWN:
                    return UNSURE
                stop = skip_string(text, at + 1, end)
            elif c == MINUS or ZERO <= c <= NINE:
                stop = skip_number(text, at, end)
                if stop == UNSURE or stop - at > MAX_DIGITS:
                    return UNSURE
                if name != UNKNOWN:
                    kind = names.types[name]
                    if kind > INTEGER or (kind == INTEGER and not is_whole(text, at, stop)):
                        return UNSURE
                    start = ends[n_numbers]
                    for k in range(stop - at):
                        digits[start + k] = text[at + k]
                    targets[n_numbers] = row * N_VALUES + names.columns[name]
                    n_numbers += 1
                    ends[n_numbers] = start + stop - at
            elif starts_with(text, at, end, NULL):
                if name == DATA:
                    return UNSURE
                stop = at + 4
            else:
                is_true = starts_with(text, at, end, TRUE)
                if not is_true and not starts_with(text, at, end, FALSE):
                    return UNSURE
                if name != UNKNOWN:
                    if names.types[name] != TRUTH:
                        return UNSURE
                    values[row, names.columns[name]] = 1.0 if is_true else 0.0
                stop = at + 4 if is_true else at + 5
            if stop == UNSURE:
                return UNSURE
            at = stop
            expected, is_fresh = AFTER, False


@compile_kernel
def scan_texts(
    text: Bytes,
    bounds: IntArray,
    names: Names,
    values: Values,
    is_read: npt.NDArray[np.bool_],
    digits: Bytes,
    ends: IntArray,
    targets: IntArray,
) -> int:
    """Read text k, which is text[bounds[k] : bounds[k + 1]], into values[k], for all k.

    values : float64 (n, N_VALUES), nan; truths are written, numbers left to the caller
    is_read : bool (n,), set where the scan is sure of the text
    digits, ends, targets : the numbers found, as text, and their places in values.ravel()

    Returns how many numbers there are.
    """
    n_numbers = 0
    for row in range(len(bounds) - 1):
        after = scan_text(
            text, bounds[row], bounds[row + 1], names, row, values, digits, ends, targets, n_numbers
        )
        is_read[row] = after != UNSURE
        if after == UNSURE:
            values[row] = np.nan
        else:
            n_numbers = after
    return n_numbers


def scan_fields(texts: pa.StringArray) -> tuple[Values, npt.NDArray[np.bool_]]:
    """Values of the texts that the scan is sure of.

    Returns
    -------
    values : float64 (n_texts, N_VALUES), as `payloads.read_payload` gives them
    is_read : bool (n_texts,), False where the row of values says nothing
    """
    n = len(texts)
    values = np.full((n, N_VALUES), np.nan)
    is_read = np.zeros(n, np.bool_)
    if n == 0:
        return values, is_read
    width = np.int64 if pa.types.is_large_string(texts.type) else np.int32
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, width)[texts.offset : texts.offset + n + 1].astype(np.int64)
    text = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    n_bytes = bounds[-1] - bounds[0]
    digits = np.empty(n_bytes, np.uint8)
    # a name, a colon and a digit are at least five bytes
    ends = np.empty(n_bytes // 5 + 2, np.int64)
    ends[0] = 0
    targets = np.empty(n_bytes // 5 + 1, np.int64)
    n_numbers = scan_texts(text, bounds, NAMES, values, is_read, digits, ends, targets)
    numbers = pa.Array.from_buffers(
        pa.large_string(), n_numbers, [None, pa.py_buffer(ends), pa.py_buffer(digits)]
    ).cast(pa.float64())
    values.ravel()[targets[:n_numbers]] = np.asarray(numbers) + 0.0  # makes -0.0 an ordinary zero
    is_odd = ~(np.abs(values) <= FLOAT32_MAX) & ~np.isnan(values)
    is_odd[:, TICK] |= (values[:, TICK] < 0) | (values[:, TICK] >= TICK_END)
    return values, is_read & ~is_odd.any(axis=1)
