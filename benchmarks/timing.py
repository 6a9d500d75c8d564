"""How a speed is measured, and the shape of a figure.

A value is the median of `N_REPEATS` timings of wall time after a warm-up that
compiles the kernels. A peer runs in an interpreter of its own and its timings
alternate with ours, so that a drift of the machine touches both.
"""

import json
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

N_REPEATS = 7
PEER_TIMEOUT_S = 120


@dataclass(frozen=True)
class Result:
    """One figure; `peer_value` is in the same unit, `target` is a floor, `ceiling` a limit."""

    name: str
    value: float | None
    unit: str
    peer: str | None = None
    peer_value: float | None = None
    target: float | None = None
    ceiling: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Medians of our speed and the peer's; `ratio` is the median over neighbouring runs.

    The ratio is hence not exactly the quotient of the two medians.
    """

    value: float
    peer: str | None
    peer_value: float | None
    ratio: float | None


def time_call(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def median_seconds(call: Callable[[], object]) -> float:
    """Median of `N_REPEATS` calls after one that does not count."""
    call()
    return statistics.median(time_call(call) for _ in range(N_REPEATS))


def run_peer(name: str, python: str, task: Path) -> tuple[str, float] | None:
    """Package and speed of `peer_<name>.py`; None, and why on the screen, if it fails."""
    script = Path(__file__).with_name(f"peer_{name}.py")
    try:
        done = subprocess.run(
            [python, script, task], capture_output=True, text=True, timeout=PEER_TIMEOUT_S
        )
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise RuntimeError(f"exit status {done.returncode}, {reason}")
        answer = json.loads(done.stdout.splitlines()[-1])
        return answer["peer"], answer["speed"]
    except (OSError, subprocess.TimeoutExpired, RuntimeError, ValueError, LookupError) as fault:
        print(f"peer {name} could not be measured with {python}: {fault}; its figures are null")
        return None


def compare_speeds(
    ours: Callable[[], float], peer: str, python: str | None, task: Path
) -> Comparison:
    """Measure both in turns; without an interpreter, or if the peer fails, ours alone."""
    ours_seen: list[float] = []
    theirs_seen: list[float] = []
    package = None
    for _ in range(N_REPEATS):
        ours_seen.append(ours())
        answer = None if python is None else run_peer(peer, python, task)
        if answer is None:
            python = None  # do not fail again
        else:
            package, speed = answer
            theirs_seen.append(speed)
    value = statistics.median(ours_seen)
    if len(theirs_seen) < N_REPEATS:
        return Comparison(value, None, None, None)
    ratio = statistics.median(a / b for a, b in zip(ours_seen, theirs_seen, strict=True))
    return Comparison(value, package, statistics.median(theirs_seen), ratio)
