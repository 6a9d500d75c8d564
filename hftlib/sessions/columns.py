"""A batch of stored wire events as columns of numbers.

The compiled scan reads nearly all of them; the texts it is not sure of are
parsed one at a time, checked by the payload models, and every fault is kept
with its file and row.
"""

import json
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hftlib.sessions.event_rows import IntArray, parse_times
from hftlib.sessions.field_scan import scan_fields
from hftlib.sessions.payloads import GAME_UPDATE, KINDS, Values, find_missing, read_payload
from hftlib.sessions.presses import RefusedRow
from hftlib.sessions.reader import EventBatch
from hftlib.sessions.wire import unwrap

MALFORMED, LOST, NO_OBJECT = "malformed JSON", "lost payload", "payload is no object"
NO_GAME = "no gameId"


class EventColumns(NamedTuple):
    """Events that observations are made of, n of them, in the order of the batch.

    rows : int64 (n,), numbers in the file
    kinds : int8 (n,), as in `payloads`
    session_ids, sessions : the sessions of the batch; int32 (n,), positions there
    game_ids, games : the games of the batch; int32 (n,), positions there, -1 if there is none
    ts_ns : int64 (n,), ns since the epoch
    values : float64 (n, N_VALUES)
    names : how often each event name occurs in the batch, those left out included
    refused : the reason is "malformed JSON", "lost payload", "payload is no object", the name
        of a field that was left out, or "no " and the name of one that should be there
    """

    rows: IntArray
    kinds: npt.NDArray[np.int8]
    session_ids: list[str]
    sessions: npt.NDArray[np.int32]
    game_ids: list[str]
    games: npt.NDArray[np.int32]
    ts_ns: IntArray
    values: Values
    names: dict[str | None, int]
    refused: list[RefusedRow]


def read_columns(batch: EventBatch) -> EventColumns:
    """Columns of a batch with session_id, ts, event_name, raw_json and game_id.

    Raises
    ------
    ValueError
        If a session is null or a time stamp none; batches of an `EventReader` have no such rows.
    """
    table = batch.table
    encoded = table["event_name"].dictionary_encode()
    kind_of = [KINDS.get(name, -1) for name in encoded.dictionary.to_pylist()]
    kinds = np.array([*kind_of, -1], np.int8)[encode(encoded)]
    counts = pc.value_counts(table["event_name"]).to_pylist()
    names = {count["values"]: count["counts"] for count in counts}

    rows = np.flatnonzero(kinds >= 0)
    texts = table["raw_json"]
    values, is_read = scan_fields(texts if len(rows) == len(texts) else texts.take(pa.array(rows)))
    refused = []
    is_lost = np.zeros(len(rows), np.bool_)
    for k in np.flatnonzero(~is_read):
        row = int(rows[k])
        reasons, found = read_text(texts[row], int(kinds[row]))
        refused += [RefusedRow(batch.file, batch.row_number(row), reason) for reason in reasons]
        if found is None:
            is_lost[k] = True
        else:
            values[k] = found
    if is_lost.any():
        rows, values = rows[~is_lost], values[~is_lost]

    if len(rows) < len(table):
        table = table.take(pa.array(rows))
    if table["session_id"].null_count:
        raise ValueError(f"{batch.file}: session_id is null; read the rows with an EventReader")
    sessions = table["session_id"].dictionary_encode()
    games = table["game_id"].dictionary_encode()
    game_ids, codes = games.dictionary.to_pylist(), encode(games)
    numbers = batch.first_row + rows if batch.rows is None else batch.rows[rows]
    is_nameless = np.array([not game_id for game_id in [*game_ids, None]])[codes]
    is_nameless &= kinds[rows] == GAME_UPDATE
    known = {(fault.row, fault.reason) for fault in refused}
    refused += [RefusedRow(batch.file, row, NO_GAME) for row in numbers[is_nameless].tolist()]
    for place, name in find_missing(kinds[rows], values):
        if (int(numbers[place]), name) not in known:
            refused.append(RefusedRow(batch.file, int(numbers[place]), f"no {name}"))
    return EventColumns(
        rows=numbers,
        kinds=kinds[rows],
        session_ids=sessions.dictionary.to_pylist(),
        sessions=encode(sessions),
        game_ids=game_ids,
        games=codes,
        ts_ns=parse_times(table["ts"]),
        values=values,
        names=names,
        refused=refused,
    )


def encode(column: pa.DictionaryArray) -> npt.NDArray[np.int32]:
    """Positions in the dictionary, -1 for null."""
    return pc.fill_null(column.indices, -1).to_numpy()


def read_text(text: pa.StringScalar, kind: int) -> tuple[list[str], Values | None]:
    """What is refused of one event, and its values; None if it says nothing."""
    try:
        event = json.loads(text.as_py())
    except (TypeError, ValueError, RecursionError):
        return [MALFORMED], None
    if not isinstance(event, dict):
        return [NO_OBJECT], None
    payload, is_lost = unwrap(event.get("data"))
    if payload is None:
        return [LOST if is_lost else NO_OBJECT], None
    values, refused = read_payload(kind, payload)
    return list(refused), values
