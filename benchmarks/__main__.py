"""`python -m benchmarks [--peers PYTHON]`: measure speed, write `reports/benchmarks.json`.

Everything runs on one core, as `timing` says, but the batch of books and the
preparation of data, which use all. Bars are synthetic,
actions are uniform and drawn beforehand: the time is the environment's alone,
its resets included.
"""

import argparse
import os
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.backtest import measure_backtest
from benchmarks.engine import measure_engine
from benchmarks.features import make_bars, measure_features
from benchmarks.forecaster import measure_forecaster
from benchmarks.market import measure_batch, measure_preparation, measure_session
from benchmarks.online import measure_online
from benchmarks.replay import measure_replay
from benchmarks.session_env import measure_session_env
from benchmarks.session_game import measure_session_game
from benchmarks.session_pipeline import measure_session_pipeline
from benchmarks.session_recording import measure_session_recording
from benchmarks.statistical_tests import measure_statistical_tests
from benchmarks.timing import Result, compare_speeds, median_seconds, time_call
from hftlib.data.panel import BarPanel
from hftlib.envs import TradingEnv, TradingRules, TradingVecEnv
from hftlib.evaluation.statistics import compare_strategies
from hftlib.paths import project_root, write_json
from hftlib.portfolio.costs import Costs

N_BARS = 10_000
N_FEATURES = 10
N_TRAINING_FEATURES = 27  # as in the default dataset: selected, z-scores and forecasts
N_COPIES = 1_024
N_ASSETS = 50
WINDOW_BARS = 60
FEE_BPS = 1.0


def make_panel(n_bars: int, rng: np.random.Generator, n_features: int = N_FEATURES) -> BarPanel:
    """The same bars with columns of noise: speed does not depend on their values."""
    features = np.clip(rng.normal(size=(n_bars, n_features)), -5, 5).astype(np.float32)
    names = [f"feature_{k}" for k in range(n_features)]
    return BarPanel.from_frame(make_bars(n_bars, rng), features, names)


def make_rules(window_bars: int, episode_bars: int) -> TradingRules:
    """Fees only, as the peers have them; long, flat and short."""
    costs = Costs(FEE_BPS, 0.0, 0.0)
    return TradingRules(costs, window_bars, episode_bars, allow_short=True)


def walk_single(env: TradingEnv, actions: list[int]) -> None:
    """Step one environment through `actions`."""
    env.reset(seed=0)
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()


def measure_single(peers: str | None) -> list[Result]:
    """One copy against the peer, on the same bars and the same sequence of actions.

    An action is a move of the position here and a target position there.
    """
    rng = np.random.default_rng(0)
    panel = make_panel(N_BARS, rng)
    env = TradingEnv(panel, make_rules(WINDOW_BARS, episode_bars=N_BARS))
    actions = rng.integers(3, size=3 * N_BARS).tolist()
    walk_single(env, actions[:500])
    with tempfile.TemporaryDirectory() as folder:
        task = Path(folder) / "task.npz"
        arrays = {"open": panel.open, "close": panel.close, "features": panel.features}
        np.savez(task, actions=actions, window_bars=WINDOW_BARS, fee_bps=FEE_BPS, **arrays)
        compared = compare_speeds(
            lambda: len(actions) / time_call(lambda: walk_single(env, actions)),
            "gym_trading_env",
            peers,
            task,
        )
    peer, peer_value = compared.peer, compared.peer_value
    one = None if peer is None else 1.0
    return [
        Result("trading_env_window_60x10", compared.value, "steps/s", peer, peer_value, 100_000),
        Result("trading_env_over_peer", compared.ratio, "times", peer, one, 3),
    ]


def measure_vector(name: str, window_bars: int, target: float) -> Result:
    """`N_COPIES` copies, episodes of 252 bars."""
    rng = np.random.default_rng(1)
    env = TradingVecEnv(make_panel(N_BARS, rng), make_rules(window_bars, 252), N_COPIES)
    actions = rng.integers(3, size=(1_000, N_COPIES))
    env.reset(seed=0)

    def walk() -> None:
        for move in actions:
            env.step(move)

    return Result(name, actions.size / median_seconds(walk), "env-steps/s", target=target)


def measure_weights() -> Result:
    """`N_COPIES` copies with target weights, episodes of 252 bars."""
    rng = np.random.default_rng(5)
    rules = replace(make_rules(WINDOW_BARS, 252), action_kind="continuous")
    env = TradingVecEnv(make_panel(N_BARS, rng), rules, N_COPIES)
    actions = rng.uniform(-1, 1, (300, N_COPIES, 1)).astype(np.float32)
    return _measure_steps("trading_vec_env_weights_60x10", env, actions)


def measure_portfolio() -> Result:
    """64 accounts in `N_ASSETS` symbols at once, all rebalanced at every bar."""
    rng = np.random.default_rng(6)
    one = make_panel(N_BARS // 10, rng)
    n_bars = len(one.ts)
    edges = np.arange(N_ASSETS + 1) * n_bars
    panel = replace(
        one,
        symbols=tuple(f"SYNTHETIC_{k}" for k in range(N_ASSETS)),
        segments=np.stack([edges[:-1], edges[1:]], axis=1),
        ts=np.tile(one.ts, N_ASSETS),
        open=np.tile(one.open, N_ASSETS),
        close=np.tile(one.close, N_ASSETS),
        features=np.tile(one.features, (N_ASSETS, 1)),
        volume=None,
    )
    rules = replace(make_rules(1, 252), action_kind="continuous", is_portfolio=True)
    env = TradingVecEnv(panel, rules, 64)
    actions = rng.uniform(-1, 1, (300, 64, N_ASSETS)).astype(np.float32)
    return _measure_steps("trading_vec_env_50_assets_1x10", env, actions)


def _measure_steps(name: str, env: TradingVecEnv, actions: npt.NDArray[np.float32]) -> Result:
    """Actions of shape (n_steps, n_envs, n_assets)."""
    env.reset(seed=0)

    def walk() -> None:
        for move in actions:
            env.step(move)

    n_steps = actions.shape[0] * actions.shape[1]
    return Result(name, n_steps / median_seconds(walk), "env-steps/s")


def measure_training() -> list[Result]:
    """PPO, SAC and TD3 on spans as long and as wide as the default ones."""
    rng = np.random.default_rng(2)
    train, validation = (make_panel(n, rng, N_TRAINING_FEATURES) for n in (3_000, 500))
    return measure_online(train, validation)


def measure_bootstrap() -> Result:
    """1,000 samples of 1,000 bars: 5 strategies of 10 members each."""
    rng = np.random.default_rng(4)
    returns: dict[str, npt.NDArray[np.float64]] = {
        f"strategy_{k}": rng.normal(0, 0.01, (1_000, 10)) for k in range(5)
    }
    seconds = median_seconds(
        lambda: compare_strategies(
            returns,
            benchmark="strategy_0",
            periods_per_year=252,
            n_bootstrap=1_000,
            confidence=0.95,
            seed=0,
        )
    )
    return Result("compare_strategies_1000x50", seconds, "s")


def format_number(value: float | None) -> str:
    """Thousands without decimals, small numbers with two."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:,.2f}"


def print_table(results: list[Result]) -> None:
    """One line a figure, and how it compares with its target."""
    row = "{:<30}{:>14} {:<12}{:>14}  {}"
    print(row.format("benchmark", "value", "unit", "peer", "target"))
    for result in results:
        verdict = ""
        for limit, sign in ((result.target, 1), (result.ceiling, -1)):
            if limit is None:
                continue
            goal, value = format_number(limit), format_number(result.value)
            if result.value is None:
                verdict = f"not measured, target {goal}"
            elif sign * result.value >= sign * limit:
                verdict = f"met: {value} {'>=' if sign > 0 else '<='} {goal}"
            else:
                verdict = f"not met: {value} {'<' if sign > 0 else '>'} {goal}"
        value, peer = format_number(result.value), format_number(result.peer_value)
        print(row.format(result.name, value, result.unit, peer, verdict).rstrip())


def stay_on_one_core() -> list[Result]:
    """Pin this process, and those it starts, to one core; measures nothing."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    return []


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--peers", metavar="PYTHON", help="interpreter with benchmarks/peers.txt")
    peers = parser.parse_args().peers
    if peers is None:
        print("no --peers given: the figures of peers are null")
    results = []
    for measure in (
        lambda: measure_batch(100, 60_000),
        lambda: measure_batch(1, 300_000),
        measure_preparation,
        stay_on_one_core,
        measure_session,
        measure_replay,
        lambda: measure_engine(peers),
        lambda: measure_single(peers),
        lambda: [measure_vector("trading_vec_env_window_60x10", WINDOW_BARS, 1_000_000)],
        lambda: [measure_vector("trading_vec_env_window_1x10", 1, 10_000_000)],
        lambda: [measure_weights()],
        lambda: [measure_portfolio()],
        measure_backtest,
        measure_training,
        measure_features,
        lambda: [measure_bootstrap()],
        measure_statistical_tests,
        measure_forecaster,
        measure_session_game,
        measure_session_recording,
        measure_session_pipeline,
        measure_session_env,
    ):
        results += measure()
        print(f"measured {results[-1].name}", flush=True)
    path = project_root() / "reports/benchmarks.json"
    write_json(path, [asdict(result) for result in results])
    print()
    print_table(results)
    print(f"\nWritten: {path}")


if __name__ == "__main__":
    main()
