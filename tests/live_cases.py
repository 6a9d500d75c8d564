"""A small model, its store, clients of the service, and the service in a process of its own."""

import asyncio
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

import httpx
import numpy as np

from hftlib.live.processes import start_service
from hftlib.live.protocols import Bar, ModelCard, ModelError, Prediction
from hftlib.live.service import create_app, run
from hftlib.live.settings import ServiceSettings
from tests.conftest import ROOT

TOKEN = "a-token-of-the-tests"
AUTH = {"Authorization": f"Bearer {TOKEN}"}
DAY_NS = 86_400 * 10**9
FIRST_NS = 1_577_836_800 * 10**9  # 2020-01-01
NOW_NS = FIRST_NS + 1000 * DAY_NS
MIN_ROWS = 3


class FakeState:
    def __init__(self):
        self.bars: list[Bar] = []

    def push(self, bar):
        if bar.close == 666:
            raise ModelError("close 666 is refused by this model; send another")
        self.bars.append(bar)

    def observe(self, position, exposure):
        if len(self.bars) < MIN_ROWS:
            return None
        closes = [bar.close for bar in self.bars[-MIN_ROWS:]]
        return np.array([closes[-1] / closes[0] - 1, position, exposure], np.float32)


class FakePredictor:
    """Follows the move of three bars; `delay_s` is how long a batch takes."""

    def __init__(self, name="alpha", symbols=("AAA", "BBB", "CCC"), delay_s=0.0, **card):
        about = {"takes": "bars", "choices": ()} | card
        self.card = ModelCard(
            name=name,
            version="1",
            kind="fake",
            symbols=tuple(symbols),
            features=("move",),
            min_rows=MIN_ROWS,
            low=-1.0,
            high=1.0,
            unit="target weight, signed share of equity",
            metrics={"sharpe": 0.1},
            **about,
        )
        self.delay_s = delay_s
        self.batches: list[int] = []
        self.frames: list[Any] = []
        self.is_broken = False

    def open_state(self, symbol):
        return FakeState()

    def observe(self, rows, position, exposure):
        self.frames.append(rows)
        if self.card.takes == "book":
            mid = (rows["best_bid"] + rows["best_ask"]) / 2
            return np.array([mid.iloc[-1] / mid.iloc[0] - 1, position, exposure], np.float32)
        state = FakeState()
        for row in rows.itertuples():
            state.push(Bar(row.ts.value, row.open, row.high, row.low, row.close, row.volume))
        return state.observe(position, exposure)

    def predict(self, observations):
        self.batches.append(len(observations))
        time.sleep(self.delay_s)
        action = np.tanh(10 * observations[:, 0]).astype(np.float64)
        if self.is_broken:
            action[:] = np.nan
        if self.card.choices:
            up = (1 + action) / 2
            return Prediction(np.sign(action), None, np.stack([1 - up, up], axis=1))
        n = len(action)
        return Prediction(action, np.full(n, 0.25), None, action / 100, np.full(n, 0.01))


class FakeStore:
    def __init__(self, *predictors):
        self.predictors = {one.card.name: one for one in predictors or (FakePredictor(),)}
        self.n_loads = 0

    def names(self):
        return [*self.predictors, "broken"]

    def load(self, name):
        self.n_loads += 1
        if name == "broken":
            raise ModelError("broken/policy.onnx is not the file that was written; export it anew")
        return self.predictors[name]


class FakePaper:
    def __init__(self):
        self.reason, self.flattens = "", False

    def snapshot(self):
        return {"equity": 100_000.0, "is_halted": bool(self.reason), "reason": self.reason}

    def halt(self, reason, flatten=False):
        self.reason, self.flattens = reason, flatten

    def resume(self, who):
        self.reason = ""


def make_bar(k: int, close: float = 100.0, **changes: Any) -> dict[str, Any]:
    """The bar of day k."""
    ts = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime((FIRST_NS + k * DAY_NS) // 10**9))
    bar = {"ts": ts, "open": close, "high": close + 1, "low": close - 1, "close": close}
    return {**bar, "volume": 1000.0, **changes}


def make_window(n: int = 5, symbol: str = "AAA", **changes: Any) -> dict[str, Any]:
    """A whole window of rising bars."""
    return {"symbol": symbol, "window": [make_bar(k, 100.0 + k) for k in range(n)], **changes}


def newest(k: int, close: float = 100.0, symbol: str = "AAA") -> dict[str, Any]:
    """The bar of day k for the symbol's stream."""
    return {"symbol": symbol, "bars": [make_bar(k, close)]}


@asynccontextmanager
async def client_of(
    store: Any = None, paper: Any = None, clock: Callable[[], int] = lambda: NOW_NS, **settings: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client in the process of the service, which has a token."""
    limits = ServiceSettings(**({"token": TOKEN} | settings))
    app = create_app(FakeStore() if store is None else store, limits, paper, clock)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1", timeout=20
        ) as client,
    ):
        client.app = app
        yield client


def with_client(test: Callable[[httpx.AsyncClient], Coroutine[Any, Any, Any]], **options: Any):
    """Run an asynchronous test against a service of its own."""

    async def go():
        async with client_of(**options) as client:
            return await test(client)

    return asyncio.run(go())


@contextmanager
def served(**environment: str) -> Iterator[tuple[str, subprocess.Popen]]:
    """Address and process of a real server of the fake model on a free port."""
    with start_service(ROOT, {"HFTLIB_TOKEN": TOKEN, **environment}, "tests.live_cases") as service:
        service.process.log = service.lines
        yield service.address, service.process


def main() -> None:
    """The service with the fake model of 60 symbols; delay and backtest from the environment."""
    symbols = tuple(f"S{k:02d}" for k in range(60))
    delay_s = float(os.environ.get("FAKE_DELAY_S", "0"))
    predictor = FakePredictor(symbols=symbols, delay_s=delay_s)
    predictor.frames, predictor.batches = deque(maxlen=1), deque(maxlen=1)  # it runs for long
    store = FakeStore(predictor)
    settings = ServiceSettings.from_environment()
    if code := os.environ.get("FAKE_BACKTEST"):
        settings = replace(settings, backtest_command=(sys.executable, "-c", code))
    run(store, settings, FakePaper())


if __name__ == "__main__":
    main()
