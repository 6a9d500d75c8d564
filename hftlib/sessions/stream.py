"""Events of an event store to transitions, batch by batch, in bounded memory.

Kept ticks wait until their game leaves, since the rows of a game lie together. A
game is over when it has rugged, or a later one of its session has, or the
recording ends; it leaves with the settlement of that rug. So as much waits as
the games that run have ticks, and what is read without a single rug waits to
the end. The sizes of the batches make no difference to the transitions.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.sessions.layout import GAME_COLUMNS, NO_TRANSITIONS, Transitions
from hftlib.sessions.matching import Decisions, Fate, match_presses
from hftlib.sessions.observe import ObservationStream, ObservedTicks, Settlement
from hftlib.sessions.presses import Presses, RefusedRow
from hftlib.sessions.reader import EventBatch

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

FLUSH_ROWS: Final = 32_768  # kept ticks that wait before games leave
NEVER: Final = np.iinfo(np.int64).max
UNMATCHED: Final = {
    Fate.NO_GAME: "no tick of its game was recorded",
    Fate.NO_TICK: "no recorded tick near",
}


class _Ticks(NamedTuple):
    """m kept ticks that wait."""

    observations: npt.NDArray[np.float32]  # (m, 36)
    game: IntArray
    tick: IntArray
    equity: npt.NDArray[np.float64]
    stake_open: BoolArray
    is_rug: BoolArray

    def take(self, rows: IntArray | BoolArray) -> "_Ticks":
        return _Ticks._make(values[rows] for values in self)


@dataclass
class TransitionCounts:
    """What became of the kept ticks.

    n_ticks : kept ticks; each is an observation, late, or the only one of its game
    n_late : ticks of games that were over
    n_short : games of a single tick, which have no transition
    n_games : games with transitions, each of them terminated or truncated
    n_observations : one more than transitions in each game
    n_inexact : transitions of which the action does not say all that was pressed
    n_partial : sales of a part of the position
    n_gaps : transitions over more than one tick
    n_unconfirmed : games whose player held something at the rug and was not updated after it
    """

    n_ticks: int = 0
    n_late: int = 0
    n_short: int = 0
    n_games: int = 0
    n_terminated: int = 0
    n_truncated: int = 0
    n_observations: int = 0
    n_transitions: int = 0
    n_inexact: int = 0
    n_partial: int = 0
    n_gaps: int = 0
    n_unconfirmed: int = 0


class TransitionStream:
    """Batches of wire events in, transitions of finished games out.

    Parameters
    ----------
    presses : Presses
        Those of the sessions that are read; every other tick is a WAIT.

    Attributes
    ----------
    observed : ObservationStream, with its counts
    counts : TransitionCounts
    fates : int8 (len(presses),), `Fate` of each press so far
    """

    def __init__(self, presses: Presses) -> None:
        self.observed = ObservationStream(presses)
        self.counts = TransitionCounts()
        self.fates = np.full(len(presses), Fate.NO_GAME, dtype=np.int8)
        self._presses = presses
        self._press_order, self._press_spans = _group_presses(presses)
        self._waiting: list[_Ticks] = []
        self._n_waiting = 0
        self._flush_at = FLUSH_ROWS
        self._n_started = 0
        self._running: dict[int, list[int]] = {}  # games by session, in order
        self._rugged: set[int] = set()  # of these
        self._over: dict[int, int] = {}  # unrugged: place among all ticks of a later game's rug
        self._leaving: list[int] = []
        self._settled: dict[int, float] = {}  # equity after the rug
        self._games: list[pd.DataFrame] = []

    def push(self, batch: EventBatch) -> Transitions:
        """Take in the rows of a batch, as `ObservationStream.push`."""
        ticks = self.observed.push(batch)
        place = self.counts.n_ticks + np.arange(len(ticks))
        self.counts.n_ticks += len(ticks)
        self._find_ends(ticks, place)
        self._keep(ticks, place)
        self._settle(ticks.settlement)
        return self._flush() if self._n_waiting >= self._flush_at else NO_TRANSITIONS

    def finish(self) -> Transitions:
        """End the recording: the games that have not rugged are truncated."""
        self._settle(self.observed.close())
        self._leaving += sorted(game for running in self._running.values() for game in running)
        self._running = {}
        return self._flush()

    def list_games(self) -> pd.DataFrame:
        """The table of games so far, columns as `layout.GAME_COLUMNS`."""
        empty = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in GAME_COLUMNS.items()})
        return pd.concat([empty, *self._games], ignore_index=True).astype(GAME_COLUMNS)

    def count_presses(self) -> dict[str, int]:
        """Presses by fate."""
        counts = np.bincount(self.fates, minlength=len(Fate))
        return {fate.name.lower(): int(counts[fate]) for fate in Fate}

    def list_unmatched(self) -> list[RefusedRow]:
        """Presses without a tick, by file and row."""
        presses = self._presses
        return [
            RefusedRow(
                presses.files[presses.file[k]],
                int(presses.row[k]),
                UNMATCHED[Fate(self.fates[k])],
            )
            for k in np.flatnonzero(np.isin(self.fates, list(UNMATCHED)))
        ]

    def _find_ends(self, ticks: ObservedTicks, place: IntArray) -> None:
        """Note the games that begin with these ticks, and those that a later one's rug ends."""
        games, first = np.unique(ticks.game, return_index=True)
        starts = set(first[games >= self._n_started].tolist())
        self._n_started += len(starts)
        for row in sorted(starts | set(np.flatnonzero(ticks.is_rug).tolist())):
            game, running = int(ticks.game[row]), self._running_of(int(ticks.session[row]))
            if row in starts:
                running.append(game)
            if ticks.is_rug[row] and game not in self._over:
                self._rugged.add(game)
                older = running[: running.index(game)]
                unrugged = [other for other in older if other not in self._rugged]
                self._over |= dict.fromkeys(unrugged, int(place[row]))

    def _settle(self, settlement: Settlement) -> None:
        """Let settled games leave, and the games before them in their sessions."""
        self.counts.n_unconfirmed += int((~settlement.is_confirmed).sum())
        for game, equity in zip(settlement.game.tolist(), settlement.equity.tolist(), strict=True):
            if game in self._over:
                continue
            self._settled[game] = equity
            running = self._running_of(self.observed.games[game].session)
            n_leaving = running.index(game) + 1
            self._leaving += running[:n_leaving]
            self._rugged.difference_update(running[:n_leaving])
            del running[:n_leaving]

    def _running_of(self, session: int) -> list[int]:
        return self._running.setdefault(session, [])

    def _keep(self, ticks: ObservedTicks, place: IntArray) -> None:
        """Let ticks wait, but for those of games that were over."""
        games, which = np.unique(ticks.game, return_inverse=True)
        ends = np.array([self._over.get(game, NEVER) for game in games.tolist()], np.int64)
        is_late = place > ends[which]
        self.counts.n_late += int(is_late.sum())
        kept = _Ticks(
            observations=ticks.observations,
            game=ticks.game,
            tick=ticks.tick,
            equity=ticks.balance + ticks.position_qty * ticks.price,
            stake_open=ticks.stake_open,
            is_rug=ticks.is_rug,
        )
        self._waiting.append(kept.take(~is_late))
        self._n_waiting += len(self._waiting[-1].tick)

    def _flush(self) -> Transitions:
        """Transitions of the games that leave."""
        if not self._leaving:
            return NO_TRANSITIONS
        ticks = _Ticks._make(map(np.concatenate, zip(*self._waiting, strict=True)))
        games, which = np.unique(ticks.game, return_inverse=True)
        places = {game: k for k, game in enumerate(self._leaving)}
        place = np.array([places.get(game, -1) for game in games.tolist()])[which]
        self._waiting = [ticks.take(place < 0)]
        self._n_waiting = len(self._waiting[0].tick)
        # Each tick is copied a bounded number of times, however many games run side by side.
        self._flush_at = max(FLUSH_ROWS, 2 * self._n_waiting)
        rows = np.flatnonzero(place >= 0)
        rows = rows[np.argsort(place[rows], kind="stable")]
        leaving, self._leaving = self._leaving, []
        return self._convert(ticks.take(rows), place[rows], leaving)

    def _convert(self, ticks: _Ticks, place: IntArray, leaving: list[int]) -> Transitions:
        """Transitions of whole games; `place` is the position in `leaving` of each tick's game."""
        counts = self.counts
        is_last = np.diff(place, append=-1) != 0
        first, last = np.flatnonzero(np.diff(place, prepend=-1)), np.flatnonzero(is_last)
        decisions = self._decide(ticks, place, is_last, leaving)
        n_ticks = last - first + 1
        is_long = n_ticks > 1
        number = counts.n_games + np.cumsum(is_long) - 1
        row = counts.n_observations + np.cumsum(is_long[place]) - 1
        settled = np.array([self._settled.pop(game, np.nan) for game in leaving])
        equity = ticks.equity.copy()
        equity[last] = np.where(np.isnan(settled), equity[last], settled)

        leaves = np.flatnonzero(~is_last)  # ticks that a transition leaves
        is_end = is_last[leaves + 1]
        part = Transitions(
            observations=ticks.observations[is_long[place]],
            row=row[leaves],
            choice=decisions.choice[leaves],
            adjustment=decisions.adjustment[leaves],
            rewards=equity[leaves + 1] - ticks.equity[leaves],
            terminated=is_end & ticks.is_rug[leaves + 1],
            truncated=is_end & ~ticks.is_rug[leaves + 1],
            is_exact=decisions.is_exact[leaves],
            stake_open=ticks.stake_open[leaves],
            game=number[place[leaves]],
        )
        seen = [self.observed.games[game] for game in leaving]
        games = pd.DataFrame(
            {
                "game_id": [game.game_id for game in seen],
                "session_id": [self.observed.session_ids[game.session] for game in seen],
                "first_row": row[first],
                "n_ticks": n_ticks,
                "first_tick": ticks.tick[first],
                "last_tick": ticks.tick[last],
                "is_terminated": ticks.is_rug[last],
                "first_equity": ticks.equity[first],
                "last_equity": equity[last],
            }
        )
        self._games.append(games[is_long])
        counts.n_short += int((~is_long).sum())
        counts.n_games += int(is_long.sum())
        counts.n_terminated += int(part.terminated.sum())
        counts.n_truncated += int(part.truncated.sum())
        counts.n_observations += len(part.observations)
        counts.n_transitions += len(part.row)
        counts.n_inexact += int((~part.is_exact).sum())
        counts.n_partial += int(decisions.is_partial[leaves].sum())
        counts.n_gaps += int((ticks.tick[leaves + 1] - ticks.tick[leaves] > 1).sum())
        return part

    def _decide(
        self, ticks: _Ticks, place: IntArray, is_last: BoolArray, leaving: list[int]
    ) -> Decisions:
        spans = []
        for game in leaving:
            session, game_id = self.observed.games[game]
            span = self._press_spans.get((self.observed.session_ids[session], game_id), (0, 0))
            spans.append(self._press_order[slice(*span)])
        which = np.concatenate(spans)
        press_place = np.repeat(np.arange(len(leaving)), [len(span) for span in spans])
        decisions = match_presses(place, ticks.tick, is_last, self._presses, which, press_place)
        self.fates[which] = decisions.fate
        return decisions


def _group_presses(
    presses: Presses,
) -> tuple[IntArray, dict[tuple[str, str], tuple[int, int]]]:
    """Presses by session and game, in the order of pressing, and the span of each pair."""
    n_games = len(presses.game_ids)
    code = presses.session.astype(np.int64) * n_games + presses.game
    order = np.argsort(code, kind="stable")
    codes, starts = np.unique(code[order], return_index=True)
    stops = np.append(starts, len(code))[1:]
    spans = {
        (presses.session_ids[pair // n_games], presses.game_ids[pair % n_games]): (start, stop)
        for pair, start, stop in zip(codes.tolist(), starts.tolist(), stops.tolist(), strict=True)
    }
    return order, spans
