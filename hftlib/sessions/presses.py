"""Presses of the recorded players' buttons, as columns.

Every builder of observations merges them with the wire's events by time, and
transitions take their actions from them. The presses of a store are in memory
all at once, about 100 bytes each: a person presses far less often than the
server ticks.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
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
FloatArray = npt.NDArray[np.float64]
Column = npt.NDArray[Any]

BUTTONS: Final = (*ACTION_BUTTONS, *BET_BUTTONS, *SHARE_BUTTONS)
FIRST_BET: Final = len(ACTION_BUTTONS)
FIRST_SHARE: Final = FIRST_BET + len(BET_BUTTONS)
NEVER: Final = np.iinfo(np.int64).max  # time of an answer that did not come
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
TICK_END: Final = 2**24  # the first tick that float32 cannot tell from its neighbour
COLUMNS: Final = ("seq", "ts", "session_id", "game_id", "tick", "button_id", "raw_json")
DTYPES: Final = {
    "seq": "int64",
    "session": "object",
    "game": "object",
    "file": "object",
    "row": "int64",
    "ts_ns": "int64",
    "button": "int8",
    "tick": "int64",
    "phase": "int8",
    "bet_amount": "float64",
    "server_ns": "int64",
    "execution_tick": "int64",
    "execution_price": "float64",
    "latency_ms": "float64",
}


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
    execution_tick: Annotated[int, Field(ge=0)] | None = None
    execution_price: FiniteFloat | None = None
    latency_ms: FiniteFloat | None = None

    def values(self) -> tuple[int, float, int, int, float, float]:
        """The fields as `Presses` has them, in the order of `DTYPES`."""
        answered, tick, price = self.server_ts, self.execution_tick, self.execution_price
        if (tick is None) != (price is None) or (tick is not None and answered is None):
            raise ValueError("execution without tick, price or answer")
        return (
            self.game_phase,
            self.bet_amount,
            NEVER if answered is None else (answered - EPOCH) // timedelta(microseconds=1) * 1000,
            -1 if tick is None else tick,
            np.nan if price is None else price,
            np.nan if self.latency_ms is None else self.latency_ms,
        )


@dataclass(frozen=True)
class Presses:
    """n presses by session and, within a session, in the order of recording.

    session_ids, game_ids, files : tuple of str
    starts : int64 (len(session_ids) + 1,), first press of each session, and n
    session, game, file : int64 (n,), positions in those tuples
    row : int64 (n,), number of the row in its file
    ts_ns : int64 (n,), when it was pressed, ns since the epoch on the client's clock; never
        falls within a session, since a clock set back must not reorder what was recorded
    server_ns : int64 (n,), when the answer arrived at the client; `NEVER` if none did
    button : int8 (n,), position in `BUTTONS`
    phase : int8 (n,), of the round on the client's screen
    tick : int64 (n,), on the client's screen
    bet_amount : float64 (n,), after the press, SOL
    share : float64 (n,), of the position that a SELL would sell then
    execution_tick : int64 (n,), -1 if not executed
    execution_price, latency_ms : float64 (n,), nan if not executed
    n_clock_set_back : int, presses whose own time lay before that of an earlier one
    refused : tuple of RefusedRow, rows that are no press
    """

    session_ids: tuple[str, ...]
    game_ids: tuple[str, ...]
    files: tuple[str, ...]
    starts: IntArray
    session: IntArray
    game: IntArray
    file: IntArray
    row: IntArray
    ts_ns: IntArray
    server_ns: IntArray
    button: npt.NDArray[np.int8]
    phase: npt.NDArray[np.int8]
    tick: IntArray
    bet_amount: FloatArray
    share: FloatArray
    execution_tick: IntArray
    execution_price: FloatArray
    latency_ms: FloatArray
    n_clock_set_back: int
    refused: tuple[RefusedRow, ...]

    def __len__(self) -> int:
        return len(self.button)

    def count_refused(self) -> dict[str, int]:
        """Refused rows by reason."""
        return dict(Counter(row.reason for row in self.refused))

    @classmethod
    def from_frame(cls, table: pd.DataFrame, refused: Iterable[RefusedRow]) -> Self:
        """Put good rows, columns as `DTYPES`, in order; what was recorded twice is refused."""
        table = table.sort_values(["session", "seq"], kind="stable", ignore_index=True)
        again = table.duplicated(["session", "ts_ns", "button"])
        twice = zip(table["file"][again], table["row"][again], strict=True)
        refused = [*refused, *(RefusedRow(file, row, "recorded twice") for file, row in twice)]
        table = table[~again]
        (session, session_ids), (game, game_ids), (file, files) = (
            pd.factorize(table[column]) for column in ("session", "game", "file")
        )
        stamps = table["ts_ns"].to_numpy()
        latest = table.groupby("session", sort=False)["ts_ns"].cummax().to_numpy()
        columns = {name: table[name].to_numpy() for name in list(DTYPES)[4:] if name != "ts_ns"}
        return cls(
            session_ids=tuple(session_ids),
            game_ids=tuple(game_ids),
            files=tuple(files),
            starts=np.searchsorted(session, np.arange(len(session_ids) + 1)),
            session=session,
            game=game,
            file=file,
            ts_ns=latest,
            share=_shares_in_force(columns["button"], session),
            n_clock_set_back=int((stamps < latest).sum()),
            refused=tuple(refused),
            **columns,
        )


def _shares_in_force(button: npt.NDArray[np.int8], session: IntArray) -> FloatArray:
    """Share chosen by the last percentage button of the session; all of it before the first."""
    shares = np.array([SHARES.get(name, np.nan) for name in BUTTONS])[button]
    return pd.Series(shares).groupby(session).ffill().fillna(1.0).to_numpy()


def load_presses(reader: EventReader) -> Presses:
    """Read all presses of a store; a row that cannot be used leaves with file, row and reason."""
    parts: dict[str, list[Column]] = {name: [] for name in DTYPES}
    refused: list[RefusedRow] = []
    for batch in reader.batches(doc_type=BUTTON_EVENT, columns=COLUMNS):
        good, bad = _read_batch(batch)
        for name, part in parts.items():
            part.append(good[name])
        refused += bad
    return Presses.from_frame(_join(parts), refused)


def no_presses() -> Presses:
    """For sessions in which nothing was pressed."""
    return Presses.from_frame(_join({name: [] for name in DTYPES}), [])


def _join(parts: dict[str, list[Column]]) -> pd.DataFrame:
    """One frame of all parts, which are let go one by one; text as categories, to be small."""
    columns: dict[str, Any] = {}
    for name, dtype in DTYPES.items():
        columns[name] = np.concatenate([np.empty(0, dtype), *parts.pop(name)])
        if dtype == "object":
            columns[name] = pd.Categorical(columns[name])
    return pd.DataFrame(columns, copy=False)


def _read_batch(batch: EventBatch) -> tuple[dict[str, Column], list[RefusedRow]]:
    """Good rows, as `DTYPES` says, and the others."""
    given = {name: batch.table.column(name) for name in COLUMNS}
    n = len(batch.table)
    raw: dict[str, Any] = {
        "seq": given["seq"],
        "session": _share_texts(given["session_id"]),
        "game": _share_texts(given["game_id"]),
        "file": [batch.file] * n,
        "row": batch.first_row + np.arange(n) if batch.rows is None else batch.rows,
        "ts_ns": parse_times(given["ts"]),
        "button": pc.fill_null(pc.index_in(given["button_id"], pa.array(BUTTONS)), -1),
        "tick": pc.fill_null(given["tick"], -1),
    }
    payloads, reasons = _read_payloads(given["raw_json"].to_pylist())
    raw |= zip(list(DTYPES)[-6:], zip(*payloads, strict=True), strict=True)
    columns = {name: np.array(raw[name], dtype) for name, dtype in DTYPES.items()}
    reasons[(columns["tick"] < 0) | (columns["tick"] >= TICK_END)] = "tick is no count"
    reasons[~columns["game"].astype(bool)] = "without game"
    reasons[columns["button"] < 0] = "unknown button"
    is_good = reasons == ""
    bad = zip(columns["row"][~is_good].tolist(), reasons[~is_good], strict=True)
    refused = [RefusedRow(batch.file, row, reason) for row, reason in bad]
    return {name: values[is_good] for name, values in columns.items()}, refused


def _share_texts(column: pa.Array) -> Column:
    """Texts of a column, equal ones one object; None where there is none."""
    encoded = column.dictionary_encode()
    texts = np.array([*encoded.dictionary.to_pylist(), None], dtype=object)
    return texts[pc.fill_null(encoded.indices, -1).to_numpy()]


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
