"""Presses of the recorded players' buttons, as columns.

Every builder of observations merges them with the wire's events by time, and
transitions take their actions from them. The presses of a store are in memory
all at once, about 100 bytes each: a person presses far less often than the
server ticks. Their texts (sessions, games, files) are numbered while they are
read, so that no press holds an object.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Annotated, Any, Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from hftlib.sessions.event_rows import parse_times
from hftlib.sessions.reader import EventBatch, EventReader
from hftlib.sessions.vocabulary import (
    ACTION_BUTTONS,
    BET_BUTTONS,
    BUTTON_EVENT,
    COOLDOWN,
    RUGGED,
    SHARE_BUTTONS,
    SHARES,
)

IntArray = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float64]
Column = npt.NDArray[Any]

BUTTONS: Final = (*ACTION_BUTTONS, *BET_BUTTONS, *SHARE_BUTTONS)
FIRST_BET: Final = len(ACTION_BUTTONS)
FIRST_SHARE: Final = FIRST_BET + len(BET_BUTTONS)
NEVER: Final = np.iinfo(np.int64).max  # time of an answer that did not come
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
TICK_END: Final = 2**24  # the first tick that float32 cannot tell from its neighbour
COLUMNS: Final = ("seq", "ts", "session_id", "game_id", "tick", "button_id", "raw_json")
# what is read of the JSON
PAYLOAD: Final = {
    "phase": np.int8,
    "bet_amount": np.float64,
    "server_ns": np.int64,
    "execution_tick": np.int32,
    "execution_price": np.float64,
    "latency_ms": np.float64,
}
ROW: Final = np.dtype(
    [
        ("seq", np.int64),
        ("session", np.int32),  # numbers of texts, as are game and file
        ("game", np.int32),
        ("file", np.int32),
        ("row", np.int64),
        ("ts_ns", np.int64),
        ("button", np.int8),
        ("tick", np.int32),
        *PAYLOAD.items(),
    ]
)


class RefusedRow(NamedTuple):
    """A row that cannot be used: its file, its number in the file from 0, and why."""

    file: str
    row: int
    reason: str


class _Payload(BaseModel):
    """What is read of a ButtonEvent's JSON; its other fields may be anything."""

    model_config = ConfigDict(strict=True, frozen=True)

    game_phase: Annotated[int, Field(ge=COOLDOWN, le=RUGGED)]
    bet_amount: Annotated[FiniteFloat, Field(ge=0)]
    server_ts: AwareDatetime | None = None
    execution_tick: Annotated[int, Field(ge=0, lt=TICK_END)] | None = None
    execution_price: FiniteFloat | None = None
    latency_ms: FiniteFloat | None = None

    def values(self) -> tuple[int, float, int, int, float, float]:
        """The fields in the order of `PAYLOAD`."""
        answered, tick, price = self.server_ts, self.execution_tick, self.execution_price
        if (tick is None) != (price is None) or (tick is not None and answered is None):
            raise ValueError("execution without tick, price or answer")
        answered_us = 0 if answered is None else (answered - EPOCH) // timedelta(microseconds=1)
        if abs(answered_us) >= NEVER // 1000:
            raise ValueError("server_ts: beyond what 64 bits of nanoseconds hold")
        return (
            self.game_phase,
            self.bet_amount,
            NEVER if answered is None else answered_us * 1000,
            -1 if tick is None else tick,
            np.nan if price is None else price,
            np.nan if self.latency_ms is None else self.latency_ms,
        )


@dataclass(frozen=True)
class Presses:
    """n presses by session and, within a session, in the order of recording.

    session_ids, game_ids, files : tuple of str
    starts : int64 (len(session_ids) + 1,), first press of each session, and n
    session, game, file : int32 (n,), positions in those tuples
    row : int64 (n,), number of the row in its file
    ts_ns : int64 (n,), when it was pressed, ns since the epoch on the client's clock; never
        falls within a session, since a clock set back must not reorder what was recorded
    server_ns : int64 (n,), when the answer arrived at the client; `NEVER` if none did
    button : int8 (n,), position in `BUTTONS`
    phase : int8 (n,), of the round on the client's screen
    tick : int32 (n,), on the client's screen
    bet_amount : float64 (n,), after the press, SOL
    share : float64 (n,), of the position that a SELL would sell then
    execution_tick : int32 (n,), -1 if not executed
    execution_price, latency_ms : float64 (n,), nan if not executed
    set_back : int64, positions of presses whose own time lay before that of an earlier one
    refused : tuple of RefusedRow, rows that are no press
    """

    session_ids: tuple[str, ...]
    game_ids: tuple[str, ...]
    files: tuple[str, ...]
    starts: IntArray
    session: Int32Array
    game: Int32Array
    file: Int32Array
    row: IntArray
    ts_ns: IntArray
    server_ns: IntArray
    button: npt.NDArray[np.int8]
    phase: npt.NDArray[np.int8]
    tick: Int32Array
    bet_amount: FloatArray
    share: FloatArray
    execution_tick: Int32Array
    execution_price: FloatArray
    latency_ms: FloatArray
    set_back: IntArray
    refused: tuple[RefusedRow, ...]

    def __len__(self) -> int:
        return len(self.button)

    def count_refused(self) -> dict[str, int]:
        """Refused rows by reason."""
        return dict(Counter(row.reason for row in self.refused))

    @classmethod
    def from_rows(
        cls,
        rows: Column,
        session_ids: Sequence[str],
        game_ids: Sequence[str],
        files: Sequence[str],
        refused: Iterable[RefusedRow],
    ) -> Self:
        """Put good rows, of type `ROW`, in order; what was recorded twice is refused."""
        by_name = sorted(range(len(session_ids)), key=session_ids.__getitem__)
        rank = np.argsort(np.array(by_name, np.int32)).astype(np.int32)
        session = rank[rows["session"]]
        order = np.lexsort((rows["seq"], session))
        rows, session = rows[order], session[order]
        is_twice = _repeats(session, rows["ts_ns"], rows["button"])
        twice = rows[["file", "row"]][is_twice].tolist()
        refused = [
            *refused,
            *(RefusedRow(files[file], row, "recorded twice") for file, row in twice),
        ]
        if is_twice.any():
            rows, session = rows[~is_twice], session[~is_twice]
        starts = np.searchsorted(session, np.arange(len(session_ids) + 1))
        latest = np.empty(len(rows), np.int64)
        for start, end in pairwise(starts.tolist()):
            np.maximum.accumulate(rows["ts_ns"][start:end], out=latest[start:end])
        names = ("game", "file", "row", "button", "tick", *PAYLOAD)
        return cls(
            session_ids=tuple(session_ids[number] for number in by_name),
            game_ids=tuple(game_ids),
            files=tuple(files),
            starts=starts,
            session=session,
            ts_ns=latest,
            share=_shares_in_force(rows["button"], starts[session]),
            set_back=np.flatnonzero(rows["ts_ns"] < latest),
            refused=tuple(refused),
            **{name: np.ascontiguousarray(rows[name]) for name in names},
        )


def _repeats(session: Int32Array, ts_ns: IntArray, button: npt.NDArray[np.int8]) -> Column:
    """Rows that are, in session, time and button, as one before them."""
    order = np.lexsort((button, ts_ns, session))
    is_same = np.ones(max(len(order) - 1, 0), bool)
    for values in (session, ts_ns, button):
        is_same &= np.diff(values[order]) == 0
    repeats = np.zeros(len(order), bool)
    repeats[order[1:][is_same]] = True
    return repeats


def _shares_in_force(button: npt.NDArray[np.int8], start: IntArray) -> FloatArray:
    """Share chosen by the last percentage button of the session; all of it before the first.

    start : int64 (n,), first press of each one's session
    """
    shares = np.array([SHARES.get(name, np.nan) for name in BUTTONS])[button]
    last = np.maximum.accumulate(np.where(np.isnan(shares), -1, np.arange(len(shares))))
    return np.where(last >= start, shares[last], 1.0)


def load_presses(reader: EventReader) -> Presses:
    """Read all presses of a store; a row that cannot be used leaves with file, row and reason.

    A press whose clock was set back is used; the reader's report has its file and row.
    """
    parts, refused = [np.zeros(0, ROW)], list[RefusedRow]()
    sessions, games, files = _Numbers(), _Numbers(), _Numbers()
    for batch in reader.batches(doc_type=BUTTON_EVENT, columns=COLUMNS):
        rows, is_good, bad = _read_batch(batch)
        for name, numbers in (("session", sessions), ("game", games)):
            rows[name] = numbers.number(batch.table[f"{name}_id"].filter(pa.array(is_good)))
        rows["file"] = files.setdefault(batch.file, len(files)) if len(rows) else -1
        parts.append(rows)
        refused += bad
    rows = np.concatenate(parts)
    del parts
    presses = Presses.from_rows(rows, list(sessions), list(games), list(files), refused)
    for k in presses.set_back:
        file, row = presses.files[presses.file[k]], int(presses.row[k])
        reader.report.note(file, "clock set back", 1, row)
    return presses


def no_presses() -> Presses:
    """For sessions in which nothing was pressed."""
    return Presses.from_rows(np.zeros(0, ROW), [], [], [], [])


class _Numbers(dict[str, int]):
    """Numbers of texts, in the order in which they are first met."""

    def number(self, column: pa.Array) -> Int32Array:
        """Number of each text of a column without nulls."""
        encoded = column.dictionary_encode()
        found = [self.setdefault(text, len(self)) for text in encoded.dictionary.to_pylist()]
        return np.array(found, np.int32)[encoded.indices.to_numpy()]


def _read_batch(batch: EventBatch) -> tuple[Column, npt.NDArray[np.bool_], list[RefusedRow]]:
    """Good rows as `ROW`, without the numbers of texts; which they are; and the others."""
    table = batch.table
    tick = pc.fill_null(table["tick"], -1).to_numpy()
    button = pc.fill_null(pc.index_in(table["button_id"], pa.array(BUTTONS)), -1).to_numpy()
    number = batch.first_row + np.arange(len(table)) if batch.rows is None else batch.rows
    payloads, reasons = _read_payloads(table["raw_json"].to_pylist())
    reasons[(tick < 0) | (tick >= TICK_END)] = "tick is no count"
    reasons[np.asarray(pc.fill_null(pc.equal(table["game_id"], ""), True))] = "without game"
    reasons[button < 0] = "unknown button"
    is_good = (reasons == "").astype(bool)
    bad = zip(number[~is_good].tolist(), reasons[~is_good], strict=True)
    rows = np.zeros(int(is_good.sum()), ROW)
    rows["seq"], rows["ts_ns"] = table["seq"].to_numpy()[is_good], parse_times(table["ts"])[is_good]
    rows["row"], rows["button"], rows["tick"] = number[is_good], button[is_good], tick[is_good]
    found = np.array(payloads, list(PAYLOAD.items()))[is_good]
    for name in PAYLOAD:
        rows[name] = found[name]
    return rows, is_good, [RefusedRow(batch.file, row, reason) for row, reason in bad]


def _read_payloads(
    texts: Sequence[str],
) -> tuple[list[tuple[float, ...]], Column]:
    """Values of each text, and why it has none ("" if it has)."""
    values: list[tuple[float, ...]] = []
    reasons = np.full(len(texts), "", dtype=object)
    for k, text in enumerate(texts):
        try:
            values.append(_Payload.model_validate_json(text).values())
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            field = ".".join(map(str, fault["loc"]))
            reasons[k] = f"{field}: {fault['msg']}" if field else "cut or malformed JSON"
        except ValueError as error:
            reasons[k] = str(error)
        if reasons[k]:
            values.append((0, np.nan, NEVER, -1, np.nan, np.nan))
    return values, reasons
