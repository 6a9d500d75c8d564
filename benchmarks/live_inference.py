"""Latency of a served policy: the graph alone, and from a raw bar to an action.

`python -m benchmarks.live_inference` prints milliseconds for 15 policies of the published
size (PPO, SAC and TD3, five seeds each) with random weights, a random forecaster of the published
size and 3,000 bars of history. Stages of a new bar are timed one by one on the same history.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.features import make_bars
from hftlib.agents.online_policy import POLICIES, Design
from hftlib.agents.policy_export import export_policies
from hftlib.envs import TradingRules
from hftlib.features.advice import KNOWN, NAMES
from hftlib.features.indicators import FEATURE_NAMES, compute_features
from hftlib.features.scaling import RobustScaler
from hftlib.features.zscore import rolling_zscores
from hftlib.live.artefact import ServedForecaster, write_artefact
from hftlib.live.manifest import ZSCORES
from hftlib.live.predictor import Predictor
from hftlib.live.protocols import Bar
from hftlib.models.examples import TERMS, Examples
from hftlib.models.export import export_forecaster
from hftlib.models.forecaster import Ensemble, make_forecaster
from hftlib.portfolio.costs import Costs

N_BARS, N_NEW, N_CALLS = 3_000, 40, 2_000
WINDOW, ZSCORE_BARS, FORECAST_WINDOW = 10, 60, 32
CHOSEN = (
    "close_location", "variance_ratio_60", "run_length", "turn_of_month", "hammer", "soldiers",
    "inside_bar", "weekday_sin", "dpo_20", "upper_shadow", "stochastic_rsi", "macd_signal",
    "lower_shadow", "volume_histogram", "ultimate_oscillator", "overnight_return",
)  # fmt: skip
ALGOS = ("ppo", "sac", "td3")


def time_calls(call: Callable[[], object], n: int) -> str:
    """Median and 99th percentile of `n` calls after a warm-up, in milliseconds."""
    for _ in range(3):
        call()
    seconds = []
    for _ in range(n):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    median, high = 1_000 * np.percentile(seconds, [50, 99])
    return f"p50 {median:8.3f}   p99 {high:8.3f} ms"


def build_predictor(folder: Path, is_advised: bool) -> Predictor:
    """A served model with random weights, with or without a forecaster."""
    names = CHOSEN + ZSCORES
    shown = names + ((*NAMES, KNOWN) if is_advised else ())
    design = Design(
        "ppo", "mlp", 32, (64, 64), False, WINDOW, shown, 1, 2, "Box", (), (-1.0,), (1.0,)
    )  # fmt: skip
    members = {}
    for algo in ALGOS:
        own = replace(design, algo=algo)
        members[algo] = []
        for seed in range(5):
            torch.manual_seed(seed)
            spaces = own.observation_space, own.action_space
            policy = POLICIES[algo](*spaces, lambda _: 0.0, **own.policy_options())
            weights = {name: value.numpy() for name, value in policy.state_dict().items()}
            members[algo].append((weights, own))
    graph = export_policies(folder / "policy.onnx", members)
    forecaster = None
    if is_advised:
        channels = (*TERMS, *FEATURE_NAMES)
        generator = torch.Generator().manual_seed(0)
        networks = [make_forecaster(len(channels), (64, 128, 256), 128, generator) for _ in "abc"]
        export_forecaster(folder / "f.onnx", Ensemble(networks), FORECAST_WINDOW)
        scaler = RobustScaler(NAMES, (0.0,) * len(NAMES), (1.0,) * len(NAMES))
        forecaster = ServedForecaster(folder / "f.onnx", channels, FORECAST_WINDOW, scaler)
    rules = TradingRules(
        Costs(1.0, 2.0, 1.0), window_bars=WINDOW, allow_short=True, action_kind="continuous"
    )
    artefact = write_artefact(
        folder / "served",
        "benchmark",
        version="1",
        policy=folder / "policy.onnx",
        graph=graph,
        scaler=RobustScaler(names, (0.0,) * len(names), (1.0,) * len(names)),
        rules=rules,
        symbols=("SYNTHETIC",),
        git_revision="",
        forecaster=forecaster,
        zscore_bars=ZSCORE_BARS,
    )
    return Predictor(artefact)


def measure_policy(predictor: Predictor, rng: np.random.Generator) -> None:
    """From observations to actions."""
    for n in (1, 64):
        shape = (n, predictor.manifest.n_inputs)
        observations = rng.normal(size=shape).astype(np.float32)
        took = time_calls(lambda x=observations: predictor.predict(x), N_CALLS)
        print(f"  predict, batch of {n:2}              {took}")


def measure_bar(predictor: Predictor, bars: pd.DataFrame) -> None:
    """From a new bar to an action."""
    state = predictor.open_state("SYNTHETIC")
    state.history.extend(bars[:N_BARS])
    state.observe(1.0, 0.5)
    columns = ["open", "high", "low", "close", "volume"]
    new = iter([Bar(row.ts.value, *row[columns]) for _, row in bars[N_BARS:].iterrows()])
    pushed = time_calls(lambda: state.push(next(new)), N_NEW - 3)
    print(f"  push                              {pushed}")
    history = state.history
    for n_last in (1, WINDOW):
        took = time_calls(lambda n=n_last: predictor.build_panel(history, n), N_NEW)
        print(f"  refresh, {n_last:2} new bars             {took}")
    state.observe(1.0, 0.5)
    known = time_calls(lambda: state.observe(1.0, 0.5), N_CALLS)
    print(f"  observe, bar already known        {known}")
    whole = time_calls(lambda: predictor.predict(state.observe(1.0, 0.5)[None]), N_CALLS)
    print(f"  observe + predict, bar known      {whole}")


def measure_stages(bars: pd.DataFrame) -> None:
    """Where the time of a new bar goes."""
    bars = bars[:N_BARS]
    chosen = time_calls(lambda: compute_features(bars, CHOSEN), N_NEW)
    print(f"  the policy's {len(CHOSEN)} features          {chosen}")
    every = time_calls(lambda: compute_features(bars, FEATURE_NAMES), N_NEW)
    print(f"  the forecaster's {len(FEATURE_NAMES)} features     {every}")
    recent = bars[-600:].reset_index(drop=True)
    short = time_calls(lambda: compute_features(recent, FEATURE_NAMES), N_NEW)
    print(f"  the same of 600 bars              {short}")
    scores = time_calls(lambda: rolling_zscores(bars, ZSCORE_BARS), N_NEW)
    print(f"  z-scores                          {scores}")
    features = compute_features(bars, FEATURE_NAMES)
    symbols = ["SYNTHETIC"]
    made = time_calls(lambda: Examples.from_frames(bars, features, symbols, FORECAST_WINDOW), N_NEW)
    print(f"  the forecaster's windows          {made}")


def main() -> None:
    """Print the figures."""
    bars = make_bars(N_BARS + N_NEW, np.random.default_rng(1))
    rng = np.random.default_rng(2)
    for is_advised in (True, False):
        with tempfile.TemporaryDirectory() as folder:
            predictor = build_predictor(Path(folder), is_advised)
        print(f"15 policies, {'with' if is_advised else 'without'} forecaster")
        measure_policy(predictor, rng)
        measure_bar(predictor, bars)
    print(f"stages, {N_BARS:,} bars")
    measure_stages(bars)


if __name__ == "__main__":
    main()
