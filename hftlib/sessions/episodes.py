"""Games of a recording, event by event, for looking at and for small tests.

An episode is what one session saw of one game. Events are grouped by session
and game, never by runs: events of the next game may come before the last of the
one before. A tick that names no game is refused: two games may run side by side,
and a guess would give one the other's prices. Bulk conversion to transitions is
in `sessions.stream`.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

from hftlib.sessions.columns import NO_GAME
from hftlib.sessions.presses import RefusedRow
from hftlib.sessions.reader import EventReader
from hftlib.sessions.vocabulary import WS_EVENT
from hftlib.sessions.wire import unwrap

Event = Mapping[str, Any]

COLUMNS: Final = ("session_id", "ts", "event_name", "game_id", "raw_json")


@dataclass(frozen=True)
class Episode:
    """One game as one session saw it.

    events : tuple of mappings, in the order of recording; those without a game and without
        a tick belong to the game that last ticked in their session
    ticks : tuple of int, distinct, ascending, the rug's the last; what follows the rug does
        not count
    terminal_tick : int, of the first rugged event; None if the capture ends before
    session_id : str, None if the events name no session
    """

    game_id: str
    session_id: str | None
    events: tuple[Event, ...]
    ticks: tuple[int, ...]
    terminal_tick: int | None

    @property
    def n_ticks(self) -> int:
        """Distinct ticks."""
        return len(self.ticks)

    @property
    def is_terminal(self) -> bool:
        """Whether the rug was seen."""
        return self.terminal_tick is not None

    @property
    def is_complete(self) -> bool:
        """Whether both tick 0 and the rug were seen."""
        return self.is_terminal and 0 in self.ticks


@dataclass
class _Open:
    """An episode that is still being read."""

    events: list[Event] = field(default_factory=list)
    ticks: set[int] = field(default_factory=set)
    terminal_tick: int | None = None


class EpisodeSegmenter:
    """Groups events into episodes.

    Parameters
    ----------
    min_ticks : int
        Episodes with fewer distinct ticks are left out.
    only_complete : bool
        Leave out episodes of which the start or the rug is missing.

    Attributes
    ----------
    counts : Counter
        Of the last call: events, malformed (of these), without_game (of these),
        games, and of these too_short, incomplete and kept.
    refused : list of RefusedRow
        Of the last call: ticks without a game, which count as `without_game`. Events that
        were not read from files have no file, and are numbered from 0.
    """

    def __init__(self, min_ticks: int = 1, *, only_complete: bool = False) -> None:
        if min_ticks < 1:
            raise ValueError(f"min_ticks={min_ticks}: expected at least 1")
        self.min_ticks = min_ticks
        self.only_complete = only_complete
        self.counts: Counter[str] = Counter()
        self.refused: list[RefusedRow] = []

    def segment(self, events: Iterable[Event]) -> list[Episode]:
        """Episodes in the order of their first events.

        Parameters
        ----------
        events : iterable of mappings
            Flat, `{game_id, tick, price, rugged}`, or wrapped, `{event_name, data}`
            with the payload as on the wire; either may carry session_id.
        """
        self._start()
        return self._segment(("", row, event) for row, event in enumerate(events))

    def from_parquet(self, source: Path | str, limit: int | None = None) -> list[Episode]:
        """Episodes of the first `limit` wire events of an event store.

        Parameters
        ----------
        source : Path or str
            Root of a store, or a glob of its files.
        """
        self._start()
        return self._segment(islice(self._read_rows(source), limit))

    def _start(self) -> None:
        self.counts = Counter(events=0, malformed=0, without_game=0)
        self.refused = []

    def _segment(self, events: Iterable[tuple[str, int, Event]]) -> list[Episode]:
        """Episodes of events with their files and rows."""
        games: dict[tuple[str | None, str], _Open] = {}
        ticking: dict[str | None, str] = {}  # the game that last ticked, by session
        for file, row, event in events:
            self.counts["events"] += 1
            payload = unwrap(event["data"]).payload or {} if "data" in event else event
            session_id = event.get("session_id")
            tick = payload.get("tickCount", payload.get("tick"))
            game_id = payload.get("gameId") or event.get("game_id")
            if not game_id and isinstance(tick, int):
                self.refused.append(RefusedRow(file, row, NO_GAME))
            elif not game_id:
                game_id = ticking.get(session_id)
            if not isinstance(game_id, str) or not game_id:
                self.counts["without_game"] += 1
                continue
            game = games.setdefault((session_id, game_id), _Open())
            game.events.append(event)
            if isinstance(tick, int) and game.terminal_tick is None:
                ticking[session_id] = game_id
                game.ticks.add(tick)
                if payload.get("rugged") is True:
                    game.terminal_tick = tick
        episodes = [
            Episode(game_id, session_id, tuple(g.events), tuple(sorted(g.ticks)), g.terminal_tick)
            for (session_id, game_id), g in games.items()
        ]
        self.counts["games"] = len(episodes)
        return [episode for episode in episodes if self._keeps(episode)]

    def _keeps(self, episode: Episode) -> bool:
        if episode.n_ticks < self.min_ticks:
            fate = "too_short"
        elif self.only_complete and not episode.is_complete:
            fate = "incomplete"
        else:
            fate = "kept"
        self.counts[fate] += 1
        return fate == "kept"

    def _read_rows(self, source: Path | str) -> Iterator[tuple[str, int, Event]]:
        for batch in EventReader(source).batches(doc_type=WS_EVENT, columns=COLUMNS):
            for index, row in enumerate(batch.table.to_pylist()):
                try:
                    content = json.loads(row.pop("raw_json"))
                    row["data"] = content["data"]
                except (ValueError, LookupError, TypeError):
                    self.counts["malformed"] += 1
                    row["data"] = None
                yield batch.file, batch.row_number(index), row
