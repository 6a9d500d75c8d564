"""Speed of the simulated markets, and of the way from a simulation to tensors."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.timing import Result, median_seconds
from hftlib.data.books import BookSession, ingest_books
from hftlib.data.feeds import recording_frames
from hftlib.data.partitions import Partitions
from hftlib.features.tensors import build_book_datasets
from hftlib.market.batch import BatchMarket
from hftlib.market.book import KINDS, MESSAGE_FIELDS
from hftlib.market.ladder import BEST_ASK, BEST_BID, MAX_PRICE
from hftlib.market.lane import N_MESSAGES
from hftlib.market.presets import (
    ABIDES_AGENTS,
    ABIDES_FLOW,
    ABIDES_VALUE,
    JAXLOB_FLOW,
    JAXLOB_VALUE,
    record_abides,
    record_jaxlob,
    trading_days,
)
from hftlib.market.simulator import Simulator

HALF_HOUR_STEPS = 18_000  # of 100 ms
N_BOOKS = 4_000
# RMSC04 from 09:30 to 10:00: a thousand noise, 102 value, 12 momentum agents and two makers
ABIDES_EVENTS_PER_S = 1_000
# JaxMARL-HFT, arXiv 2511.02136, table 1: one agent a type on one L40S GPU
JAXMARL_STEPS_PER_S = {100: 21_969, 1: 351_119}
# sessions and their minutes, ten snapshots a second: from the seeds' 20,000 to ten million
PREPARED = ((8, 5), (8, 40), (20, 160), (52, 330))


def measure_session() -> list[Result]:
    """Events a second of the agent-based market, its first half-hour, every event recorded."""
    events = []

    def run() -> None:
        market = Simulator(
            flow=ABIDES_FLOW, value=ABIDES_VALUE, population=ABIDES_AGENTS, seed=1, warm_up_s=0
        )
        events.append(len(market.record(HALF_HOUR_STEPS, snapshot_every=10).tape))

    seconds = median_seconds(run)
    value = events[-1] / seconds
    return [
        Result("abides_session", value, "events/s", target=100_000),
        Result("abides_session_over_abides", value / ABIDES_EVENTS_PER_S, "times", target=100),
    ]


def measure_batch(n_messages: int, target: float) -> list[Result]:
    """Environment steps a second: observe, cancel and replace a bid and an ask, background.

    The step is as long as the flow needs, on average, for `n_messages`.
    """
    probe = BatchMarket(64, flow=JAXLOB_FLOW, value=JAXLOB_VALUE, seed=2, step_ms=60_000)
    warm_up = probe.lanes.counters[:, N_MESSAGES].mean()
    probe.step()
    rate = (probe.lanes.counters[:, N_MESSAGES].mean() - warm_up) / probe.session.step_s
    market = BatchMarket(
        N_BOOKS,
        flow=JAXLOB_FLOW,
        value=JAXLOB_VALUE,
        seed=3,
        step_ms=1000 * n_messages / rate,
        n_threads=os.cpu_count() or 1,
    )
    messages = np.zeros((N_BOOKS, 4, len(MESSAGE_FIELDS)), dtype=np.int32)
    kind, side, price, qty, owner, handle, _ = np.moveaxis(messages, 2, 0)
    kind[:, :2], kind[:, 2:] = KINDS["cancel"], KINDS["limit"]
    side[:, 2:], qty[:, 2:], owner[:] = (1, -1), 10, 1
    n_steps = max(10, 400 // n_messages)
    sent, best = (
        market.lanes.counters[:, N_MESSAGES],
        market.lanes.state[:, BEST_BID : BEST_ASK + 1],
    )
    before, n_timed = sent.sum(), 0

    def run() -> None:
        nonlocal n_timed
        for _ in range(n_steps):
            observation = market.observe(owner=1)
            price[:, 2] = np.maximum(best[:, 0] - 1, 1)
            price[:, 3] = np.minimum(best[:, 1], MAX_PRICE - 1) + 1
            handle[:, :2] = market.step(messages)[:, 2:, 1]
        assert observation.shape == (N_BOOKS, 16)
        n_timed += n_steps

    value = N_BOOKS * n_steps / median_seconds(run)
    mean = (sent.sum() - before) / (N_BOOKS * n_timed)
    if market.n_lost:
        raise RuntimeError(f"{market.n_lost} orders were lost; the figure would flatter")
    name = f"batch_4000_books_{n_messages}_messages"
    peer = f"JaxMARL-HFT on an L40S (published), {mean:.0f} messages a step here"
    return [Result(name, value, "env-steps/s", peer, JAXMARL_STEPS_PER_S[n_messages], target)]


def measure_preparation() -> list[Result]:
    """Simulation to tensors, each size in a process of its own, warm.

    Memory is the peak above what the process held before, imports and
    compiled kernels included.
    """
    results = []
    for n_sessions, minutes in PREPARED:
        command = [sys.executable, "-m", "benchmarks.market", str(n_sessions), str(minutes)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        answer = json.loads(done.stdout.splitlines()[-1])
        name = f"prepare_{600 * n_sessions * minutes}_snapshots"
        is_seeds = (n_sessions, minutes) == PREPARED[0]
        limits = (1.5, 200) if is_seeds else (None, None)
        results.append(Result(name, answer["seconds"], "s", ceiling=limits[0]))
        results.append(Result(f"{name}_memory", answer["megabytes"], "MB", ceiling=limits[1]))
    return results


def prepare(n_sessions: int, minutes: int, folder: Path) -> None:
    """Simulate with both simulators, check and write sessions, cut them into tensors."""
    half = n_sessions // 2
    days = trading_days(date(2024, 1, 2), half)
    shape = {"minutes": minutes, "snapshot_ms": 100, "levels": 10}

    def sessions() -> Iterator[BookSession]:
        for source, record in (("abides", record_abides), ("jaxlob", record_jaxlob)):
            for day, recording in zip(days, record(days, range(half), **shape), strict=True):
                names = {"symbol": source.upper(), "source": source, "session": str(day)}
                book, messages = recording_frames(recording, **names)
                yield BookSession(*names.values(), book, messages, source)

    as_of = pd.Timestamp("2100-01-01", tz="UTC")
    ingest_books(sessions(), folder / "book", levels=10, as_of=as_of, max_gap_rows=5)
    build_book_datasets(
        Partitions(folder / "book/snapshots"),
        folder / "datasets",
        train_end=days[-4],
        dev_end=days[-3],
        val_end=days[-2],
        purge_rows=10,
        embargo_rows=10,
        window=20,
        horizon=10,
    )


def _resident_mb(field: str) -> float:
    """A line of /proc/self/status, MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise KeyError(field)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        prepare(*PREPARED[0], Path(folder))  # compiles
        held = _resident_mb("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        start = time.perf_counter()
        prepare(int(sys.argv[1]), int(sys.argv[2]), Path(folder))
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "megabytes": _resident_mb("VmHWM") - held}))
