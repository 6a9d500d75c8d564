"""Small served models: random policies, a random forecaster, real features of random bars."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from hftlib.agents.online_policy import POLICIES, Design, Weights
from hftlib.agents.policy_export import export_policies
from hftlib.data.panel import BarPanel
from hftlib.envs import TradingRules
from hftlib.features.advice import KNOWN, NAMES, add_forecasts, fit_forecasts
from hftlib.features.indicators import compute_features
from hftlib.features.markov import RegimeModel
from hftlib.features.panels import build_datasets
from hftlib.features.scaling import RobustScaler
from hftlib.live.artefact import Artefact, ServedForecaster, write_artefact
from hftlib.models.examples import Examples
from hftlib.models.export import ExportedForecaster, export_forecaster
from hftlib.models.forecaster import Ensemble, make_forecaster, start_from_data
from hftlib.portfolio.costs import Costs
from tests.conftest import make_bars

SYMBOLS = ("AAA", "BBB")
# of a bar, of all bars since the first (three), of the volume, of the clock, of a model
FEATURES = (
    "close_location",
    "psar_distance",
    "macd_signal",
    "run_length",
    "volume_histogram",
    "weekday_sin",
    "hmm_turbulent",
)
CHANNELS = ("rsi_14", "close_location", "volatility_5")
WINDOW, ZSCORE_BARS, FORECAST_WINDOW = 4, 20, 9
REGIME = RegimeModel((0.001, -0.001), (1e-4, 4e-4), ((0.95, 0.05), (0.1, 0.9)), 250)
RULES = TradingRules(
    Costs(1.0, 2.0, 1.0),
    window_bars=WINDOW,
    episode_bars=40,
    allow_short=True,
    action_kind="continuous",
)
DESIGN = Design(
    algo="ppo",
    extractor="mlp",
    extractor_width=16,
    hidden=(8, 8),
    shares_value_network=False,
    window_bars=WINDOW,
    feature_names=("f0", "f1", "f2"),
    n_assets=1,
    n_account=2,
    action_kind="Box",
    choices=(),
    low=(-1.0,),
    high=(1.0,),
)


def draw_weights(design: Design, seed: int) -> Weights:
    """A policy's state dict before any training, its last layer made louder."""
    torch.manual_seed(seed)
    policy = POLICIES[design.algo](
        design.observation_space, design.action_space, lambda _: 0.0, **design.policy_options()
    )
    weights = {name: value.numpy().copy() for name, value in policy.state_dict().items()}
    last, scale = ("action_net", 100.0) if design.algo == "ppo" else ("actor.mu", 3.0)
    for name, value in weights.items():
        if name.startswith(last):
            value *= scale
    return weights


def draw_observations(design: Design, n: int = 1000, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.clip(2 * rng.normal(size=(n, design.n_inputs)), -10, 10).astype(np.float32)


class Case(NamedTuple):
    """A served model and what the training side makes of the same bars."""

    artefact: Artefact
    root: Path
    bars: pd.DataFrame
    panel: BarPanel  # the test split, with forecasts
    seeds: list[tuple[Weights, Design]]


def build_panel(
    bars: pd.DataFrame, regimes: dict[str, RegimeModel], forecaster: Path
) -> tuple[BarPanel, RobustScaler, RobustScaler]:
    """The test split as stages 20, 21, 40 and 41 make it, and both scalers."""
    features = compute_features(bars, regimes=regimes)
    days = [bars["ts"].iloc[k].date() for k in (150, 200)]
    made = build_datasets(
        bars,
        features,
        SYMBOLS,
        names=FEATURES,
        train_end=days[0],
        validation_end=days[1],
        purge_bars=1,
        embargo_bars=5,
        zscore_bars=ZSCORE_BARS,
    )
    own = features[["symbol", "ts", *CHANNELS]]
    examples = Examples.from_frames(bars, own, SYMBOLS, FORECAST_WINDOW)
    windows, terms, _ = examples.batch(examples.ends)
    values = ExportedForecaster(forecaster).forecast(windows, terms)
    table = pd.DataFrame(
        {
            "symbol": np.array(SYMBOLS)[examples.symbol[examples.ends]],
            "ts": pd.to_datetime(examples.clock[examples.time[examples.ends]], utc=True),
            "log_variance_mean": values["variance_mean"].astype(np.float64),
            "log_variance_sd": values["variance_sd"].astype(np.float64),
            "next_return_mean": values["return_mean"].astype(np.float64),
            "next_return_sd": values["return_sd"].astype(np.float64),
            "up_probability": values["up_probability"].astype(np.float64),
        }
    )
    of_forecasts = fit_forecasts(made.panels["train"], table)
    return add_forecasts(made.panels["test"], table, of_forecasts), made.scaler, of_forecasts


def draw_forecaster(path: Path, bars: pd.DataFrame) -> None:
    """An ensemble of two that has learnt nothing, scaled by the bars."""
    own = compute_features(bars, CHANNELS)
    examples = Examples.from_frames(bars, own, SYMBOLS, FORECAST_WINDOW)
    known = examples.between((0, len(examples.clock)), is_known=True)
    members = []
    for seed in (0, 1):
        generator = torch.Generator().manual_seed(seed)
        member = make_forecaster(len(examples.channels), (4, 5), 6, generator)
        rows = examples.values[examples.ends]
        start_from_data(
            member,
            rows.mean(axis=0),
            rows.std(axis=0),
            examples.terms[known],
            examples.outcomes[known],
        )
        torch.nn.init.normal_(member.head.weight, std=0.5, generator=generator)
        members.append(member)
    export_forecaster(path, Ensemble(members), FORECAST_WINDOW)


def make_case(root: Path, name: str = "two-seeds", n_bars: int = 300) -> Case:
    """PPO with two seeds on features, z-scores and forecasts of two symbols."""
    bars = make_bars(n_bars, SYMBOLS)
    scratch = root.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    draw_forecaster(scratch / "forecaster.onnx", bars)
    regimes = dict.fromkeys(SYMBOLS, REGIME)
    panel, scaler, of_forecasts = build_panel(bars, regimes, scratch / "forecaster.onnx")
    assert panel.feature_names[-6:] == (*NAMES, KNOWN)
    design = replace(DESIGN, feature_names=panel.feature_names)
    seeds = [(draw_weights(design, seed), design) for seed in (0, 1)]
    graph = export_policies(scratch / "policy.onnx", {"ppo": seeds})
    channels = Examples.from_frames(
        bars, compute_features(bars, CHANNELS), SYMBOLS, FORECAST_WINDOW
    ).channels
    artefact = write_artefact(
        root,
        name,
        version="1.0",
        policy=scratch / "policy.onnx",
        graph=graph,
        scaler=scaler,
        rules=RULES,
        symbols=SYMBOLS,
        git_revision="0" * 40,
        forecaster=ServedForecaster(
            scratch / "forecaster.onnx", channels, FORECAST_WINDOW, of_forecasts
        ),
        zscore_bars=ZSCORE_BARS,
        regimes=regimes,
        params={"ppo": {"total_steps": 0}},
        metrics={"sharpe": [0.1, -0.2]},
    )
    return Case(artefact, root, bars, panel, seeds)
