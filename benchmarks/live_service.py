"""Latency and throughput of the service under load, from a second process on loopback.

    python -m benchmarks.live_service [seconds of each part]
    python -m benchmarks.live_service --soak 300
    python -m benchmarks.live_service --artefact data/served

Serves a small model that costs nothing, so that what is measured is the service:
reading, checking, the queue, the model's thread, the answer. `--soak` is load for long, overload
and recovery (`live_soak`). `--artefact` serves a real model of a folder, alone and with a copy of
itself as challenger. `--address` takes a running service in the place of its own.
"""

import argparse
import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
import orjson
import psutil

from benchmarks.live_load import (
    TOKEN,
    Client,
    closed_loop,
    make_bar,
    open_loop,
    quantile,
    report,
)
from benchmarks.live_soak import soak
from hftlib.live.processes import RunningService, start_service
from hftlib.paths import read_json, write_json

Json = dict[str, object]
ROOT = Path(__file__).parents[1]
N_SYMBOLS = 60  # of the small model, and items of a batch
N_HISTORY = 5  # bars, what the small model needs and a few
N_REAL_HISTORY = 3000
N_NEW = 1000  # bars of each symbol, at most
OPEN_WIDE = {"HFTLIB_REQUESTS_PER_S": "100000", "HFTLIB_BURST": "100000", "HFTLIB_TOKEN": TOKEN}


def cpu_seconds(process: psutil.Process | None) -> float:
    """What a process has used; unlike a latency it hardly depends on who else is busy."""
    return sum(process.cpu_times()[:2]) if process else float("nan")


async def begin(client: Client, n_history: int) -> tuple[list[str], list[list[Json]]]:
    """Symbols of the service, and bars of each that are now on its stream."""
    known = orjson.loads((await client.ask("/symbols"))[1])["symbols"]
    symbols = [one["symbol"] for one in known][:N_SYMBOLS]
    history = [walk(number, n_history) for number, _ in enumerate(symbols)]
    for symbol, bars in zip(symbols, history, strict=True):
        body = orjson.dumps({"symbol": symbol, "bars": bars})
        status, said = await client.ask("/predict", body)
        if status != 200:
            raise SystemExit(f"the stream of {symbol} did not begin: {said.decode()}")
    return symbols, history


def walk(seed: int, n_bars: int) -> list[Json]:
    """Daily bars of a random walk, the same at every call."""
    rng = np.random.default_rng(seed)
    return [
        make_bar(k, float(close), float(volume))
        for k, (close, volume) in enumerate(
            zip(
                100 * np.exp(np.cumsum(rng.normal(0, 0.01, n_bars))),
                rng.integers(1_000, 9_000, n_bars),
                strict=True,
            )
        )
    ]


async def measure(address: str, seconds: float, process: psutil.Process | None) -> None:
    """Single requests at 100 a second, then batches one after the other."""
    client = Client(address)
    symbols, history = await begin(client, N_HISTORY)
    asks = [orjson.dumps({"symbol": symbol}) for symbol in symbols]
    rows = dict(zip(symbols, history, strict=True))
    windows = [orjson.dumps({"symbol": one, "window": rows[one]}) for one in symbols]
    days = range(N_HISTORY, N_HISTORY + 1 + int(100 * seconds) // len(symbols))
    bars = [orjson.dumps({"symbol": one, "bars": [make_bar(k)]}) for k in days for one in symbols]
    for name, bodies in (("stream as it is", asks), ("one new bar", bars), ("window", windows)):
        spent = cpu_seconds(process)
        found = await open_loop(client, "/predict", bodies, 100, seconds)
        report(f"/predict, {name}, 100/s", found, seconds)
        spent = (cpu_seconds(process) - spent) / len(found)
        print(f"    {spent * 1e3:.2f} ms of a core for each request")
    await measure_batch(
        client, "streams as they are", [{"symbol": one} for one in symbols], seconds
    )
    whole: list[Json] = [{"symbol": one, "window": rows[one]} for one in symbols]
    await measure_batch(client, "windows", whole, seconds)


async def measure_batch(client: Client, name: str, items: list[Json], seconds: float) -> None:
    """`/predict/batch`, one after the other."""
    body = orjson.dumps({"items": items})
    durations = await closed_loop(client, "/predict/batch", [body] * 100_000, seconds)
    print(
        f"/predict/batch of {len(items)}, {name}: {1e3 * len(items) / np.mean(durations):.0f} "
        f"predictions/s, p50 {median(durations):.2f} ms, p99 {quantile(durations, 0.99):.2f} ms"
    )


async def measure_artefact(service: RunningService, seconds: float) -> None:
    """A real model: streams as they are, new bars, a batch in which symbols repeat."""
    client, process = Client(service.address), psutil.Process(service.process.pid)
    symbols, _ = await begin(client, N_REAL_HISTORY)
    asks = [orjson.dumps({"symbol": symbol}) for symbol in symbols]
    found = await open_loop(client, "/predict", asks, 100, seconds)
    report("/predict, stream as it is, 100/s", found, seconds)
    further = {one: walk(k, N_REAL_HISTORY + N_NEW) for k, one in enumerate(symbols)}
    bars = [
        orjson.dumps({"symbol": one, "bars": [further[one][k]]})
        for k in range(N_REAL_HISTORY, N_REAL_HISTORY + N_NEW)
        for one in symbols
    ]
    spent = cpu_seconds(process)
    durations = await closed_loop(client, "/predict", bars, seconds)
    spent = (cpu_seconds(process) - spent) / len(durations)
    print(
        f"/predict, one new bar after {N_REAL_HISTORY}, one after the other: n {len(durations)}, "
        f"p50 {median(durations):.2f} ms, p99 {quantile(durations, 0.99):.2f} ms, "
        f"{spent * 1e3:.2f} ms of a core"
    )
    items: list[Json] = [{"symbol": symbols[k % len(symbols)]} for k in range(N_SYMBOLS)]
    await measure_batch(client, f"{len(symbols)} symbols, repeated", items, seconds)


@contextlib.contextmanager
def project_of(served: Path) -> Iterator[tuple[Path, str]]:
    """A project's folder with the first model of `served`, and a copy of it, `challenger`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "dvc.yaml").touch()
        names = [path.parent.name for path in served.glob("*/manifest.json")]
        if not names:
            raise SystemExit(f"{served} has no model; run `make repro` and `make serve` first")
        model = min(names)
        for copy in (model, "challenger"):
            shutil.copytree(served / model, folder / "data/served" / copy)
        manifest = folder / "data/served/challenger/manifest.json"
        write_json(manifest, {**read_json(manifest), "name": "challenger"})
        yield folder, model


def serve_small() -> contextlib.AbstractContextManager[RunningService]:
    """The service of the tests' model."""
    return start_service(ROOT, OPEN_WIDE, "tests.live_cases")


async def soak_small(service: RunningService, seconds: float) -> None:
    """Three questions about a stream, then a window."""
    symbols, history = await begin(Client(service.address), N_HISTORY)
    bodies = []
    for number, (symbol, bars) in enumerate(zip(symbols, history, strict=True)):
        item: Json = {"symbol": symbol}
        bodies.append(orjson.dumps(item if number % 4 else {**item, "window": bars}))
    await soak(service.address, bodies, seconds, psutil.Process(service.process.pid))


def main() -> None:
    """One of the modes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("seconds", type=float, nargs="?", default=10.0)
    parser.add_argument("--address", help="of a running service")
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="load for long")
    parser.add_argument("--artefact", type=Path, metavar="ROOT", help="folder of served models")
    options = parser.parse_args()
    if options.address:
        asyncio.run(measure(options.address, options.seconds, None))
    elif options.soak:
        with serve_small() as service:
            asyncio.run(soak_small(service, options.soak))
    elif options.artefact:
        with project_of(options.artefact) as (folder, model):
            alone = {**OPEN_WIDE, "HFTLIB_MODEL": model, "HFTLIB_PREDICT_LIMIT_S": "10"}
            both = {"HFTLIB_CHALLENGER": "challenger", "HFTLIB_CHALLENGER_SHARE": "0.5"}
            for name, environment in (("alone", alone), ("with a challenger", alone | both)):
                print(f"{model} {name}")
                with start_service(folder, environment) as service:
                    asyncio.run(measure_artefact(service, options.seconds))
    else:
        with serve_small() as service:
            process = psutil.Process(service.process.pid)
            asyncio.run(measure(service.address, options.seconds, process))


if __name__ == "__main__":
    main()
