"""Observations of whole recordings, batch by batch.

`ObservationStream` reads batches of wire events and makes one observation of
each first update of a tick, from the round's first tick to its rug; what it
knows of the sessions goes from batch to batch, so that the batches' sizes do
not matter. `ObservationBuilder` fed with the same events yields the same bits.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hftlib.sessions.columns import EventColumns, read_columns
from hftlib.sessions.event_rows import IntArray
from hftlib.sessions.observation import N_EXAMPLES, ObservationCounts
from hftlib.sessions.presses import FIRST_BET, Presses, RefusedRow
from hftlib.sessions.reader import EventBatch
from hftlib.sessions.session_pass import N_SET_BACK, run_pass
from hftlib.sessions.session_state import KEPT_TYPES, NONE, PRESS, Records, SessionTables

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


class GameSeen(NamedTuple):
    """A game of a session of which ticks were kept."""

    session: int  # position in `ObservationStream.session_ids`
    game_id: str  # empty if its events name none


@dataclass(frozen=True)
class Settlement:
    """What players own after rugs.

    game : int64 (n,), numbers of the games
    equity : float64 (n,), SOL: cash + tokens at the rug price after the first
        playerUpdate that follows the rug, if the player held tokens or had a side
        bet open, else at the rug
    is_confirmed : bool (n,), False where that update did not come before the next game
    """

    game: IntArray
    equity: FloatArray
    is_confirmed: BoolArray


@dataclass(frozen=True)
class ObservedTicks:
    """Kept ticks of one batch in the order of reading, n of them.

    observations : float32 (n, 36)
    session : int32 (n,), position in `ObservationStream.session_ids`
    game : int64 (n,), position in `ObservationStream.games`
    tick : int64 (n,), rises within a game
    price, balance, position_qty : float64 (n,), as in the observation, not rounded
    stake_open : bool (n,), a side bet is open
    is_rug : bool (n,), the last tick of its game
    ts_ns : int64 (n,), ns since the epoch on the recorder's clock, never falls in a session
    settlement : of the games that this batch settled, in this order
    """

    observations: npt.NDArray[np.float32]
    session: npt.NDArray[np.int32]
    game: IntArray
    tick: IntArray
    price: FloatArray
    balance: FloatArray
    position_qty: FloatArray
    stake_open: BoolArray
    is_rug: BoolArray
    ts_ns: IntArray
    settlement: Settlement

    def __len__(self) -> int:
        return len(self.tick)


class ObservationStream:
    """Batches of wire events in, observations out.

    Parameters
    ----------
    presses : Presses, optional
        Presses of the sessions that are read; without them the features of the
        player's actions are as if nothing had been pressed.

    Attributes
    ----------
    session_ids : sessions in the order of appearance
    games : games in the order of their first kept ticks
    counts : what was met so far
    """

    def __init__(self, presses: Presses | None = None) -> None:
        self._counts = ObservationCounts()
        self.games: list[GameSeen] = []
        self._tables = SessionTables()
        self._recorded = presses
        self._presses, self._answers = _press_rows(presses)
        names = () if presses is None else presses.session_ids
        self._press_sessions = {name: number for number, name in enumerate(names)}
        self._session_numbers: dict[str, int] = {}

    @property
    def session_ids(self) -> list[str]:
        """Sessions in the order of appearance."""
        return self._tables.session_ids

    @property
    def counts(self) -> ObservationCounts:
        """What was met so far."""
        self._counts.defaults = self._tables.count_defaults()
        return self._counts

    def push(self, batch: EventBatch) -> ObservedTicks:
        """Take in the rows of a batch.

        Parameters
        ----------
        batch : EventBatch
            Wire events with the columns session_id, ts, event_name, raw_json and game_id;
            batches come in the order of recording.

        Raises
        ------
        ValueError
            If a row has no session or time; batches of an `EventReader` have none.
        """
        columns = read_columns(batch)
        found = [self._find_session(session_id) for session_id in columns.session_ids]
        sessions = np.array(found, np.int64)[columns.sessions]
        clocks_ns = self._tables.sessions["clock_ns"].copy()
        result = run_pass(
            self._tables,
            columns.kinds,
            sessions,
            self._find_games(columns, sessions),
            columns.ts_ns,
            columns.values,
            self._presses,
            self._answers,
            len(self.games),
        )
        for record in result.opened.tolist():
            session, game_id = self._tables.games[record]["session"], self._tables.game_ids[record]
            self.games.append(GameSeen(int(session), game_id))
        if result.counts[N_SET_BACK] and self._counts.n_set_back < N_EXAMPLES:
            rows = columns.rows[_find_set_back(columns.ts_ns, sessions, clocks_ns)].tolist()
            faults = [RefusedRow(batch.file, row, "clock set back") for row in rows]
            self._counts.examples += faults[: N_EXAMPLES - self._counts.n_set_back]
        self._count(columns, result.counts)
        kept = {name: np.ascontiguousarray(result.kept[name]) for name in KEPT_TYPES}
        return ObservedTicks(
            observations=result.observations, settlement=self._settle(result.settled), **kept
        )

    def close(self) -> Settlement:
        """Settle the games whose player's update did not come before the end of the capture."""
        sessions = self._tables.sessions[: len(self.session_ids)]
        unsettled = sessions["unsettled"][sessions["unsettled"] != NONE]
        sessions["unsettled"] = NONE
        return self._settle(unsettled)

    def _settle(self, records: IntArray) -> Settlement:
        games = self._tables.games[records]
        return Settlement(games["number"], games["equity"], games["is_confirmed"])

    def _count(self, columns: EventColumns, counts: IntArray) -> None:
        self._counts.add(counts)
        self._counts.events.update(columns.names)
        for row in columns.refused:
            self._counts.refuse(row)

    def _find_session(self, session_id: str) -> int:
        """Record of a session, with its presses where it is new."""
        number = self._session_numbers.get(session_id)
        if number is None:
            number = self._session_numbers[session_id] = self._tables.add_session(session_id)
            recorded = self._press_sessions.get(session_id)
            if self._recorded is not None and recorded is not None:
                start, end = self._recorded.starts[recorded : recorded + 2]
                games, which = np.unique(self._recorded.game[start:end], return_inverse=True)
                names = self._recorded.game_ids
                found = [self._tables.find_game(number, names[game]) for game in games]
                self._presses["game"][start:end] = np.array(found, np.int64)[which]
                session = self._tables.sessions[number]
                session["next_press"] = session["next_answer"] = start
                session["end_press"] = end
        return number

    def _find_games(self, columns: EventColumns, sessions: IntArray) -> IntArray:
        """Record of the game of each event, NONE where it names none."""
        n_codes = len(columns.game_ids) + 1
        pairs = pa.array(sessions * n_codes + columns.games + 1).dictionary_encode()
        records = []
        for pair in pairs.dictionary.to_pylist():
            session, code = divmod(pair, n_codes)
            game_id = columns.game_ids[code - 1] if code else ""
            records.append(self._tables.find_game(session, game_id) if game_id else NONE)
        return np.array(records, np.int64)[pairs.indices.to_numpy()]


def _find_set_back(ts_ns: IntArray, sessions: IntArray, clocks_ns: IntArray) -> IntArray:
    """Positions of stamps before an earlier one of their session, whose clock is given."""
    is_back = np.zeros(len(ts_ns), np.bool_)
    for session in np.unique(sessions):
        own = np.flatnonzero(sessions == session)
        stamps = ts_ns[own]
        is_back[own] = stamps < np.maximum.accumulate(np.maximum(stamps, clocks_ns[session]))
    return np.flatnonzero(is_back)


def _press_rows(presses: Presses | None) -> tuple[Records, IntArray]:
    """The presses for the pass, without their games, and the order of their answers."""
    if presses is None:
        return np.zeros(0, PRESS), np.zeros(0, np.int64)
    rows = np.zeros(len(presses), PRESS)
    rows["ts_ns"], rows["answer_ns"] = presses.ts_ns, presses.server_ns
    rows["game"], rows["tick"] = NONE, presses.tick
    rows["is_action"] = presses.button < FIRST_BET
    rows["bet_amount"] = presses.bet_amount
    for name in ("execution_tick", "execution_price", "latency_ms"):
        rows[name] = getattr(presses, name)
    return rows, np.lexsort((presses.server_ns, presses.session))
