"""An event store, or a part of it, converted to transitions: the run, its report, its folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from hftlib.paths import replace_folder, write_json
from hftlib.sessions.layout import (
    COLUMNS,
    FORMAT,
    GAMES,
    MANIFEST,
    OBSERVATIONS,
    QUARANTINE,
    Transitions,
)
from hftlib.sessions.observation import FEATURE_NAMES, ObservationCounts
from hftlib.sessions.presses import RefusedRow, load_presses
from hftlib.sessions.reader import EventBatch, EventReader, ReadReport
from hftlib.sessions.shards import ColumnWriter
from hftlib.sessions.stream import TransitionCounts, TransitionStream
from hftlib.sessions.vocabulary import OBSERVED_EVENTS, WS_EVENT

BATCH_ROWS: Final = 4_096  # larger batches are no faster, and take more memory
EVENT_COLUMNS: Final = ("session_id", "ts", "event_name", "game_id", "raw_json", "username")


@dataclass(frozen=True)
class TransitionReport:
    """What was read, and what became of it.

    events, button_events : of the reader of each
    observations : of the wire's events
    transitions : of the kept ticks
    presses : n_presses, n_clock_set_back, and by `matching.Fate` how many
    refused_presses : rows by reason
    unmatched : presses without a tick, by file and row
    """

    events: ReadReport
    button_events: ReadReport
    observations: ObservationCounts
    transitions: TransitionCounts
    presses: dict[str, int]
    refused_presses: dict[str, int]
    unmatched: list[RefusedRow]

    def to_json(self) -> dict[str, Any]:
        """The counts, for a file; faults as lines of text."""
        seen = self.observations
        return {
            "events": _describe(self.events),
            "button_events": _describe(self.button_events),
            "observations": {
                **vars(seen),
                "events": {str(name): n for name, n in seen.events.items()},
                "examples": [fault._asdict() for fault in seen.examples],
            },
            "transitions": asdict(self.transitions),
            "presses": self.presses,
            "refused_presses": self.refused_presses,
        }


def _describe(report: ReadReport) -> dict[str, Any]:
    return {
        "n_files": report.n_files,
        "n_taken": report.n_taken,
        "unknown_events": dict(report.unknown_events),
        "faults": report.describe(),
    }


class Conversion:
    """One run over a store's events and presses."""

    def __init__(self, source: Path | str, press_source: Path | str, limit: int | None) -> None:
        self.events, self.button_events = EventReader(source), EventReader(press_source)
        self.presses = load_presses(self.button_events)
        self.stream = TransitionStream(self.presses)
        self._limit = limit
        self._players: dict[str, str] = {}

    def run(self) -> Iterator[Transitions]:
        """Transitions in portions, games whole."""
        for batch in read_events(self.events, self._limit):
            self._note_players(batch.table)
            yield self.stream.push(batch)
        yield self.stream.finish()

    def list_games(self) -> pd.DataFrame:
        """The stream's table of games, with the username of the player, empty if no row says it."""
        games = self.stream.list_games()
        players = [self._players.get(session_id, "") for session_id in games["session_id"]]
        return games.assign(username=pd.Series(players, games.index, dtype="str"))

    def _note_players(self, table: pa.RecordBatch) -> None:
        """Keep the first name that the rows of a session say."""
        named = table.select(["session_id", "username"])
        named = named.filter(pc.is_valid(named["username"]))
        for session_id in pc.unique(named["session_id"]).to_pylist():
            if session_id not in self._players:
                row = pc.index(named["session_id"], session_id).as_py()
                self._players[session_id] = named["username"][row].as_py()

    def report(self) -> TransitionReport:
        """What was met, once `run` is through."""
        return TransitionReport(
            events=self.events.report,
            button_events=self.button_events.report,
            observations=self.stream.observed.counts,
            transitions=self.stream.counts,
            presses={
                "n_presses": len(self.presses),
                "n_clock_set_back": len(self.presses.set_back),
                **self.stream.count_presses(),
            },
            refused_presses=self.presses.count_refused(),
            unmatched=self.stream.list_unmatched(),
        )


def read_events(reader: EventReader, limit: int | None = None) -> Iterator[EventBatch]:
    """The first `limit` wire events that observations are made of."""
    left = limit
    for batch in reader.batches(
        doc_type=WS_EVENT,
        event_names=OBSERVED_EVENTS,
        columns=EVENT_COLUMNS,
        batch_rows=BATCH_ROWS,
    ):
        if left is not None:
            if left <= 0:
                return
            rows = None if batch.rows is None else batch.rows[:left]
            batch = EventBatch(batch.table[:left], batch.file, batch.first_row, rows)
            left -= len(batch.table)
        yield batch


@contextmanager
def _frugal_arrow() -> Iterator[None]:
    """Let Arrow take its memory from the C library, which gives it back; its own pool does not."""
    pool = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(pool)


def write_transitions(
    source: Path | str,
    folder: Path,
    *,
    press_source: Path | str | None = None,
    limit: int | None = None,
) -> TransitionReport:
    """Convert an event store to a folder for `TransitionDataset.open`, whole or not at all.

    Beside the dataset the folder holds `quarantine.parquet`: file, row and reason
    of every press that was refused or has no tick. The report is in the manifest.

    Parameters
    ----------
    source : Path or str
        Root of a store, or a glob of its files.
    press_source : Path or str, optional
        Where the button events are, if elsewhere.
    limit : int, optional
        Wire events to read; default: all.

    Raises
    ------
    FileNotFoundError
        If a source has no Parquet file.
    """
    with _frugal_arrow():
        conversion = Conversion(source, source if press_source is None else press_source, limit)
        with replace_folder(folder) as temporary:
            with ColumnWriter(temporary, {"observations": OBSERVATIONS, **COLUMNS}) as writer:
                for part in conversion.run():
                    for name, rows in part._asdict().items():
                        writer.append(name, rows)
            report = conversion.report()
            conversion.list_games().to_parquet(temporary / GAMES)
            bad = [*conversion.presses.refused, *report.unmatched]
            pd.DataFrame(bad, columns=RefusedRow._fields).to_parquet(temporary / QUARANTINE)
            manifest = {
                "format": FORMAT,
                "feature_names": list(FEATURE_NAMES),
                "n_observations": report.transitions.n_observations,
                "n_transitions": report.transitions.n_transitions,
                "n_games": report.transitions.n_games,
                "report": report.to_json(),
            }
            write_json(temporary / MANIFEST, manifest)
    return report
