"""`python -m benchmarks.marl [--peers PYTHON]`: MAPPO and MADDPG against BenchMARL's.

`spread`: both train on the same number of steps of the same task from `SEEDS`,
and both final policies, without exploration, play the same episodes. Each
training is a process of one thread. What it gave stays in `.cache/marl`, named
after its settings and its code, so that a run that was stopped goes on.
`market`: the speed of both MAPPO on our market environment (`training.py`).
The figures of a part replace its former ones in `reports/benchmarks.json`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from benchmarks.__main__ import print_table
from benchmarks.spread import evaluate, make_spread
from benchmarks.timing import Result
from benchmarks.training import measure_market
from hftlib.agents.learnt import LearntActor
from hftlib.agents.maddpg import MADDPGSettings, train_maddpg
from hftlib.agents.mappo import MAPPOSettings, train_mappo
from hftlib.agents.parallel_adapter import ParallelCopies
from hftlib.compute import DETERMINISTIC_ENVIRONMENT
from hftlib.paths import project_root, read_json, write_json

Numbers = npt.NDArray[np.float64]

N_STEPS = 200_000  # 8,000 episodes
SEEDS = range(5)  # settings were chosen on seeds 100, 101: 25 trials of ours, 7 of the peer's
CONFIDENCE = 0.95
N_PROCESSES = int(os.environ.get("MARL_PROCESSES", 2))
# Copies stepped side by side, and settings.
SETTINGS: dict[str, tuple[int, Any]] = {
    "mappo": (
        80,
        MAPPOSettings(
            total_steps=N_STEPS,
            n_steps=25,
            n_minibatches=5,
            actor_learning_rate=7e-4,
            critic_learning_rate=1e-3,
            gamma=0.95,
            gae_lambda=0.9,
            value_clip_range=10.0,
            hidden=(128, 128),
            shares_parameters=True,
            n_evaluations=1,
        ),
    ),
    "maddpg": (
        50,
        MADDPGSettings(
            total_steps=N_STEPS,
            actor_learning_rate=1e-3,
            critic_learning_rate=1e-3,
            gamma=0.95,
            tau=0.01,
            updates_per_step=4,
            has_twin_critics=False,
            policy_delay=1,
            target_noise=0.0,
            noise_scale=0.5,
            noise_decay=0.9993,
            noise_floor=0.02,
            priority_alpha=0.0,
            hidden=(128, 128),
            n_evaluations=1,
        ),
    ),
}


def train(algorithm: str, seed: int) -> dict[str, Any]:
    """Train ours once and evaluate it."""
    n_copies, settings = SETTINGS[algorithm]
    copies = ParallelCopies(make_spread, n_copies)
    start = time.perf_counter()
    if algorithm == "mappo":
        trained = train_mappo(copies, settings, seed, device="cpu", n_threads=1)
    else:
        trained = train_maddpg(copies, settings, seed, device="cpu")
    seconds = time.perf_counter() - start
    spaces = zip(copies.agents, copies.observation_spaces, copies.action_spaces, strict=True)
    actors = [LearntActor.from_weights(trained.weights, *own) for own in spaces]

    def act(observations: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        pairs = zip(actors, observations, strict=True)
        return np.stack([actor.act(own[None])[0] for actor, own in pairs])

    return {"return": evaluate(act).mean(), "speed": settings.total_steps / seconds}


def find_sources(side: str) -> list[Path]:
    """Files that decide what a training gives."""
    here = Path(__file__).parent
    if side == "peer":
        return [here / name for name in ("spread.py", "peer_benchmarl.py", "peers_marl.txt")]
    learners = [
        Path(str(module.__file__))
        for name, module in sys.modules.items()
        if name.startswith(("hftlib.agents.", "hftlib.models.")) or name == "hftlib.compute"
    ]
    return [here / "marl.py", here / "spread.py", *sorted(learners)]


def run_training(side: str, algorithm: str, seed: int, python: str) -> dict[str, Any]:
    """Answer of one training, of a former run if nothing has changed since."""
    order = {"algorithm": algorithm, "seed": seed, "n_steps": N_STEPS}
    digest = zlib.crc32(repr((order, side == "ours" and SETTINGS[algorithm])).encode())
    for file in find_sources(side):
        digest = zlib.crc32(file.read_bytes(), digest)
    path = project_root() / f".cache/marl/{side}_{algorithm}_{seed}_{digest:08x}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        script = ["-m", "benchmarks.marl", "--order"]
        if side == "peer":
            script = [str(Path(__file__).with_name("peer_benchmarl.py"))]
        with tempfile.TemporaryDirectory() as folder:
            task = Path(folder) / "order.json"
            write_json(task, order)
            done = subprocess.run(
                [python, *script, str(task)],
                capture_output=True,
                text=True,
                env=os.environ | DETERMINISTIC_ENVIRONMENT,
            )
        if done.returncode != 0:
            raise RuntimeError(f"{side} {algorithm} seed {seed} failed:\n{done.stderr[-2_000:]}")
        write_json(path, json.loads(done.stdout.splitlines()[-1]))
    answer: dict[str, Any] = read_json(path)
    print(f"{side} {algorithm} seed {seed}: return {answer['return']:.2f}", flush=True)
    return answer


def estimate_mean(returns: Numbers) -> str:
    """Mean over seeds, and its t interval."""
    low, high = stats.t.interval(CONFIDENCE, len(returns) - 1, returns.mean(), stats.sem(returns))
    return f"{returns.mean():.2f} [{low:.2f}, {high:.2f}]"


def compare_returns(algorithm: str, ours: Numbers, peer: str, theirs: Numbers) -> list[Result]:
    """Mean returns, their difference and its Welch interval over seeds."""
    interval = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(CONFIDENCE)
    print(f"{algorithm}: ours {estimate_mean(ours)}, {peer} {estimate_mean(theirs)}")
    name = f"spread_{algorithm}"
    return [
        Result(name, float(ours.mean()), "return", peer, float(theirs.mean())),
        Result(f"{name}_less_peer", float(ours.mean() - theirs.mean()), "return", peer, 0.0, 0.0),
        Result(f"{name}_less_peer_low", float(interval.low), "return"),
        Result(f"{name}_less_peer_high", float(interval.high), "return"),
    ]


def measure_spread(peers: str | None) -> list[Result]:
    """Returns of both on `spread`, after the same number of steps."""
    if peers is not None and subprocess.run([peers, "-c", "import benchmarl"]).returncode != 0:
        print(f"BenchMARL cannot be imported with {peers}; its figures are missing")
        peers = None
    pythons = {"ours": sys.executable} | ({} if peers is None else {"peer": peers})
    tasks = [(side, algo, seed) for side in pythons for algo in SETTINGS for seed in SEEDS]
    with ThreadPoolExecutor(N_PROCESSES) as pool:
        answered = pool.map(lambda task: run_training(*task, pythons[task[0]]), tasks)
        answers = dict(zip(tasks, answered, strict=True))
    results = []
    for algorithm in SETTINGS:
        returns = {
            side: np.array([answers[side, algorithm, seed]["return"] for seed in SEEDS])
            for side in pythons
        }
        if peers is None:
            results.append(Result(f"spread_{algorithm}", returns["ours"].mean(), "return"))
        else:
            package = answers["peer", algorithm, 0]["peer"]
            results += compare_returns(algorithm, returns["ours"], package, returns["peer"])
    return results


PARTS = {"spread": measure_spread, "market": measure_market}
# How the names of a part's figures begin; no figure of `python -m benchmarks` begins so.
PREFIXES = {"spread": ("spread_",), "market": ("market_env_raw", "market_mappo")}


def merge_figures(
    figures: list[dict[str, Any]], part: str, results: list[Result]
) -> list[dict[str, Any]]:
    """The figures with those of a part replaced, the ones that it no longer has included."""
    others = [figure for figure in figures if not figure["name"].startswith(PREFIXES[part])]
    return others + [asdict(result) for result in results]


def main() -> None:
    """Measure the parts asked for, put their figures among the others, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.marl", description=__doc__)
    parser.add_argument("--peers", metavar="PYTHON", help="interpreter with peers_marl.txt")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--order", metavar="FILE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.order is not None:
        order = read_json(Path(options.order))
        print(json.dumps(train(order["algorithm"], order["seed"])))
        return
    path = project_root() / "reports/benchmarks.json"
    for part in options.parts:
        results = PARTS[part](options.peers)
        figures = read_json(path) if path.exists() else []
        write_json(path, merge_figures(figures, part, results))
        print_table(results)


if __name__ == "__main__":
    main()
