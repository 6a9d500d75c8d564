"""Speed and memory of the way from a store of captured play to transitions, on one core.

Simulated sessions of all players are recorded first, which is not measured.
Each size runs in a process of its own: a first conversion loads the compiled
code, the median of the next counts, and so does the process's largest resident
memory, Python and its libraries included.

    python -m benchmarks.session_pipeline --events 1000000
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.timing import N_REPEATS, Result, time_call
from hftlib.sessions.conversion import TransitionReport, write_transitions

SIZES = (100_000, 300_000)  # wire events
EVENTS_PER_GAME = 615  # about, of a mean round with its cooldown
GAMES_PER_SESSION = 50
EVENTS_PER_S = 200_000
PEAK_MB = 500


def record_store(root: Path, n_events: int) -> None:
    """Sessions of all players in turn, about `n_events` wire events in all."""
    # The process that is measured does without the simulator.
    from hftlib.sessions.players import PLAYERS
    from hftlib.sessions.recording import record_sessions

    n_games = max(n_events // EVENTS_PER_GAME, GAMES_PER_SESSION)
    record_sessions(
        root,
        n_sessions=n_games // GAMES_PER_SESSION,
        games_per_session=GAMES_PER_SESSION,
        players=list(PLAYERS),
        seed=0,
        fee=0.01,
    )


def convert_store(root: Path, n_repeats: int) -> dict[str, float]:
    """Convert it a few times: wire events, median seconds, largest resident memory in MB."""
    reports: list[TransitionReport] = []

    def convert() -> None:
        with tempfile.TemporaryDirectory() as folder:
            reports.append(write_transitions(root, Path(folder) / "transitions"))

    convert()
    seconds = statistics.median(time_call(convert) for _ in range(n_repeats))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    events = reports[0].events.n_taken + reports[0].button_events.n_taken
    return {"events": events, "seconds": seconds, "peak_mb": peak / 1024}


def measure_store(n_events: int, n_repeats: int = N_REPEATS) -> list[Result]:
    """Record a store and convert it in another process."""
    with tempfile.TemporaryDirectory() as folder:
        record_store(Path(folder), n_events)
        command = [sys.executable, "-m", "benchmarks.session_pipeline", "--store", folder]
        command += ["--repeats", str(n_repeats)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    name = f"session_pipeline_{round(n_events / 1000)}k"
    return [
        Result(name, found["events"] / found["seconds"], "events/s", target=EVENTS_PER_S),
        Result(f"{name}_peak", found["peak_mb"], "MB", ceiling=PEAK_MB),
    ]


def measure_session_pipeline() -> list[Result]:
    """Events of the wire and presses a second, and memory, at each of `SIZES`."""
    return [result for n_events in SIZES for result in measure_store(n_events)]


def main() -> None:
    """Measure other sizes, or one store in this process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.session_pipeline")
    parser.add_argument("--events", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--repeats", type=int, default=N_REPEATS)
    parser.add_argument("--store", type=Path, help="root of a recorded store")
    given = parser.parse_args()
    if given.store is not None:
        print(json.dumps(convert_store(given.store, given.repeats)))
        return
    for n_events in given.events:
        for result in measure_store(n_events, given.repeats):
            print(f"{result.name}: {result.value:,.0f} {result.unit}", flush=True)


if __name__ == "__main__":
    main()
