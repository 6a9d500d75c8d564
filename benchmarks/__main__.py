"""`python -m benchmarks [--peers PYTHON]`: measure speed, write `reports/benchmarks.json`.

Everything runs on one core, as `timing` says, but the batch of books and the
preparation of data, which use all. Bars are synthetic,
actions are uniform and drawn beforehand: the time is the environment's alone,
its resets included.
"""

import argparse
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.engine import measure_engine
from benchmarks.forecaster import measure_forecaster
from benchmarks.market import measure_batch, measure_preparation, measure_session
from benchmarks.replay import measure_replay
from benchmarks.timing import Result, compare_speeds, median_seconds, time_call
from hftlib.agents.online import PPOSettings, train_ppo
from hftlib.config import load
from hftlib.data.panel import BarPanel
from hftlib.envs import TradingEnv, TradingRules, TradingVecEnv
from hftlib.evaluation.statistics import compare_strategies
from hftlib.features.indicators import compute_features
from hftlib.paths import project_root, write_json
from hftlib.portfolio.costs import Costs

N_BARS = 10_000
N_FEATURES = 10
N_COPIES = 1_024
WINDOW_BARS = 60
FEE_BPS = 1.0


def make_bars(n_bars: int, rng: np.random.Generator) -> pd.DataFrame:
    """A martingale of one-minute bars as `schema.BARS`."""
    close = 100 * np.exp(np.cumsum(rng.normal(0, 1e-3, n_bars)))
    open_ = np.concatenate([[100.0], close[:-1]])
    reach = np.exp(np.abs(rng.normal(0, 5e-4, (2, n_bars))))
    return pd.DataFrame(
        {
            "symbol": "SYNTHETIC",
            "source": "benchmarks",
            "ts": pd.date_range("2020-01-01", periods=n_bars, freq="min", tz="UTC", unit="ns"),
            "open": open_,
            "high": np.maximum(open_, close) * reach[0],
            "low": np.minimum(open_, close) / reach[1],
            "close": close,
            "volume": rng.lognormal(8, 1, n_bars),
        }
    )


def make_panel(n_bars: int, rng: np.random.Generator) -> BarPanel:
    """The same bars with `N_FEATURES` columns of noise: speed does not depend on their values."""
    features = np.clip(rng.normal(size=(n_bars, N_FEATURES)), -5, 5).astype(np.float32)
    names = [f"feature_{k}" for k in range(N_FEATURES)]
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


def measure_ppo() -> Result:
    """A whole training with the defaults of `params.yaml`, its learning curve included."""
    params = load()
    rng = np.random.default_rng(2)
    train, validation = make_panel(N_BARS, rng), make_panel(2_000, rng)
    rules = TradingRules(Costs(**params.costs.model_dump()), **params.trading.model_dump())
    fields = PPOSettings.__dataclass_fields__
    settings = PPOSettings(**{key: getattr(params.single_agent, key) for key in fields})
    n_steps = train_ppo(train, validation, rules, settings, seed=0).curve[-1].step
    seconds = median_seconds(lambda: train_ppo(train, validation, rules, settings, seed=0))
    return Result("train_ppo", n_steps / seconds, "env-steps/s")


def measure_features() -> Result:
    """All indicators of one symbol."""
    bars = make_bars(100_000, np.random.default_rng(3))
    return Result("features", len(bars) / median_seconds(lambda: compute_features(bars)), "bars/s")


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
        lambda: [measure_ppo()],
        lambda: [measure_features()],
        lambda: [measure_bootstrap()],
        measure_forecaster,
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
