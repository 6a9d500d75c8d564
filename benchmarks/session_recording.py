"""Speed of recording simulated sessions into the event store.

Play, JSON, Parquet and the flush to the disk are all in the time; one process,
whose Parquet writer and fsync wait for the disk.
"""

import tempfile
from pathlib import Path

from benchmarks.timing import Result, median_seconds
from hftlib.sessions.players import PLAYERS
from hftlib.sessions.recording import RecordingReport, record_sessions

N_SESSIONS = 10
GAMES_PER_SESSION = 20
TARGET = 50_000  # events a second


def measure_session_recording() -> list[Result]:
    """One session of each player."""
    with tempfile.TemporaryDirectory() as folder:

        def record() -> RecordingReport:
            return record_sessions(
                Path(folder),
                n_sessions=N_SESSIONS,
                games_per_session=GAMES_PER_SESSION,
                players=list(PLAYERS),
                seed=1,
            )

        n_events = record().n_events
        speed = n_events / median_seconds(record)
    return [Result("session_recording", speed, "events/s", target=TARGET)]
