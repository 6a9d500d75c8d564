"""Speed of MAPPO's whole training on simulated books, and where its time goes."""

import functools
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.exchange import make_scene
from benchmarks.timing import Result, compare_speeds, median_seconds, time_call
from hftlib.agents.mappo import MAPPOSettings, train_mappo
from hftlib.agents.mappo_learner import Learner
from hftlib.envs import MarketVecEnv
from hftlib.paths import write_json

TARGET = 20_000
TARGET_OVER_PEER = 5
# 64 copies for our own speed; the peer steps its copies one after the other, so fewer there
SETTINGS = MAPPOSettings(
    total_steps=8 * 64 * 200, n_steps=200, n_epochs=4, n_minibatches=8, n_evaluations=1
)
N_COPIES = 64
SHARED: dict[str, Any] = {
    "n_copies": 32,
    "n_steps": 32,
    "n_epochs": 10,
    "n_minibatches": 1,
    "hidden": [64, 64],
}
N_ROLLOUTS = 4
PARTS = {
    "environment": [(MarketVecEnv, "step")],
    "acting": [(Learner, "act")],
    "learning": [(Learner, name) for name in ("estimate", "fit_critic", "fit_actor")],
}


@contextmanager
def clock(parts: dict[str, list[tuple[type, str]]]) -> Iterator[dict[str, float]]:
    """Seconds spent in the methods of each part while the context is open."""
    seconds = dict.fromkeys(parts, 0.0)
    originals = [
        (owner, name, getattr(owner, name)) for all_of in parts.values() for owner, name in all_of
    ]

    def timed(part: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*arguments: Any) -> Any:
            start = time.perf_counter()
            try:
                return method(*arguments)
            finally:
                seconds[part] += time.perf_counter() - start

        return call

    for part, methods in parts.items():
        for owner, name in methods:
            setattr(owner, name, timed(part, getattr(owner, name)))
    try:
        yield seconds
    finally:
        for owner, name, method in originals:
            setattr(owner, name, method)


def measure_speed() -> list[Result]:
    """Steps a second end to end on all cores; then shares of its time on one thread.

    What is left of the shares is storing experience and the loop itself.
    """
    env = make_scene().build(N_COPIES)
    idle = [np.full((N_COPIES, *space.shape), -1.0, np.float32) for space in env.action_spaces]
    steps = SETTINGS.total_steps

    def play() -> None:
        env.reset(0)
        for _ in range(steps // N_COPIES):
            env.step(idle)

    raw = steps / median_seconds(play)
    whole = steps / median_seconds(lambda: train_mappo(env, SETTINGS, 0, device="cpu"))
    with clock(PARTS) as seconds:
        total = time_call(lambda: train_mappo(env, SETTINGS, 0, device="cpu", n_threads=1))
    return [
        Result("market_env_raw", raw, "env-steps/s"),
        Result("market_mappo", whole, "env-steps/s", target=TARGET),
        Result("market_mappo_one_thread", steps / total, "env-steps/s"),
        *(
            Result(f"market_mappo_share_{part}", 100 * spent / total, "% of time")
            for part, spent in seconds.items()
        ),
    ]


def measure_against_peer(peers: str | None) -> list[Result]:
    """Both with the same networks and passes on one thread; theirs on the PettingZoo view."""
    settings = MAPPOSettings(
        total_steps=N_ROLLOUTS * SHARED["n_copies"] * SHARED["n_steps"],
        n_steps=SHARED["n_steps"],
        n_epochs=SHARED["n_epochs"],
        n_minibatches=SHARED["n_minibatches"],
        hidden=tuple(SHARED["hidden"]),
        n_evaluations=1,
    )
    env = make_scene().build(SHARED["n_copies"])

    def run(total_steps: int) -> None:
        train_mappo(env, replace(settings, total_steps=total_steps), 0, device="cpu", n_threads=1)

    run(1)  # compiles
    with tempfile.TemporaryDirectory() as folder:
        task = Path(folder) / "order.json"
        write_json(task, SHARED | {"task": "market", "n_rollouts": N_ROLLOUTS})
        compared = compare_speeds(
            lambda: settings.total_steps / time_call(lambda: run(settings.total_steps)),
            "benchmarl",
            peers,
            task,
        )
    peer, one = compared.peer, None if compared.peer is None else 1.0
    name = "market_mappo_shared"
    return [
        Result(name, compared.value, "env-steps/s", peer, compared.peer_value),
        Result(f"{name}_over_peer", compared.ratio, "times", peer, one, TARGET_OVER_PEER),
    ]


def measure_market(peers: str | None) -> list[Result]:
    """Both."""
    return measure_speed() + measure_against_peer(peers)
