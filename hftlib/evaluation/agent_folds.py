"""Agents trained anew in every fold, and what they would hold in its test span.

The scalers of features and forecasts and all networks see the training rows of a fold
alone. Each agent then walks through the test span from its first bar, on paper and from cash,
and what it would hold is written down. `fold_accounts` puts the spans together, and one account
trades the whole, so that changing from one fold's agents to the next is paid for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from hftlib.agents.online import LearntPolicy, Trained, train_agent
from hftlib.agents.online_settings import OnlineSettings
from hftlib.agents.policy import Policy, play
from hftlib.compute import derive_seed
from hftlib.data.folds import Fold
from hftlib.data.panel import BarPanel
from hftlib.envs.trading_rules import TradingRules
from hftlib.evaluation.fold_runs import FoldRuns, hash_inputs, run_folds
from hftlib.features.advice import add_forecasts, fit_forecasts
from hftlib.features.scaling import RobustScaler

FloatArray = npt.NDArray[np.float64]
WATCHED = 3  # windows at the end of the training span, for the learning curve that nobody reads


@dataclass(frozen=True)
class AgentTask:
    """All that the agents of a fold depend on, but the fold.

    Attributes
    ----------
    rows : frame with columns symbol, ts, open, close and `names`
        One symbol after the other, all on one clock, whose positions folds are made of; features
        not scaled. Volume is taken if there is one.
    names : tuple of str
        Features, without nan.
    forecasts : frame as `schema.FORECASTS`
        Out of fold themselves.
    rules : TradingRules
        With continuous actions.
    settings : OnlineSettings
        Their class is the algorithm.
    seed, n_seeds : int
        Training k of fold f has `derive_seed(seed, algo, f, k)`.

    Raises
    ------
    ValueError
        If `settings.patience` is set, actions are discrete, or `n_seeds` is below 1.
    """

    rows: pd.DataFrame
    names: tuple[str, ...]
    forecasts: pd.DataFrame
    rules: TradingRules
    settings: OnlineSettings
    seed: int
    n_seeds: int

    def __post_init__(self) -> None:
        if self.settings.patience is not None:
            raise ValueError(
                f"patience is {self.settings.patience}, but a fold has no validation span to "
                "choose weights on; set it to None"
            )
        if self.rules.action_kind != "continuous":
            raise ValueError(
                f"action_kind is {self.rules.action_kind!r}; expected 'continuous': what an "
                "account wants to hold is a weight"
            )
        if self.n_seeds < 1:
            raise ValueError(f"n_seeds is {self.n_seeds}; expected at least 1")


class Scalers(NamedTuple):
    """Of features and of forecasts, both fitted on the training rows of one fold."""

    features: RobustScaler
    forecasts: RobustScaler


def run_agents(
    task: AgentTask, folds: Sequence[Fold], folder: Path, label: str, clock: pd.DatetimeIndex
) -> FoldRuns:
    """`train_fold` for each fold; arguments as of `run_folds`."""
    inputs = hash_inputs(task, torch.__version__)
    return run_folds(partial(train_fold, task), folds, folder, inputs, label, clock)


def train_fold(task: AgentTask, fold: Fold) -> dict[str, FloatArray]:
    """Train all seeds on the fold, and let each walk through both of its spans.

    Returns
    -------
    dict
        `train`, `test`: target weights of shape (n_rows, n_seeds, n_assets), shares of the equity
        of one account that holds all assets, decided at the close of the row. Training targets are
        0 until the first window is full; the last row of the clock has none, nan.
    """
    scalers = fit_scalers(task, fold)
    n_before = task.rules.window_bars - 1  # bars of the first window before its last
    n_times = len(task.rows) // task.rows["symbol"].nunique()
    spans = {"train": fold.train, "test": fold.test}
    found: dict[str, list[FloatArray]] = {name: [] for name in spans}
    for trained in train_members(task, fold, scalers):
        policy = LearntPolicy(trained.weights, trained.design)
        for name, (start, stop) in spans.items():
            first = max(start - n_before, 0)
            # one bar more, in which the decision of the last row would be filled
            panel = cut_panel(task, scalers, first, min(stop + 1, n_times))
            targets = play_targets(policy, panel, task.rules)
            whole = np.full((stop - start, targets.shape[1]), np.nan)
            at = first + n_before - start  # of the first decision
            whole[:at] = 0.0
            whole[at : at + len(targets)] = targets[: stop - start - at]
            found[name].append(whole)
    return {name: np.stack(parts, axis=1) for name, parts in found.items()}


def train_members(task: AgentTask, fold: Fold, scalers: Scalers) -> list[Trained]:
    """One training a seed, on the training rows of the fold."""
    start, stop = fold.train
    train = cut_panel(task, scalers, start, stop)
    watched = max(start, stop - WATCHED * task.rules.window_bars)
    last = cut_panel(task, scalers, watched, stop)
    algo = task.settings.algo
    seeds = [derive_seed(task.seed, algo, fold.number, k) for k in range(task.n_seeds)]
    return [train_agent(train, last, task.rules, task.settings, seed) for seed in seeds]


def fit_scalers(task: AgentTask, fold: Fold) -> Scalers:
    """Both scalers, of the training rows of the fold.

    Raises
    ------
    PanelError
        If none of them has a forecast.
    """
    rows, names = _cut_rows(task, *fold.train), [*task.names]
    scaler = RobustScaler.fit(rows[names], names, allow_ties=True)
    panel = BarPanel.from_frame(rows, scaler.transform(rows[names]), names)
    return Scalers(scaler, fit_forecasts(panel, task.forecasts))


def cut_panel(task: AgentTask, scalers: Scalers, start: int, stop: int) -> BarPanel:
    """Times `start` to `stop` - 1 of all symbols, scaled, with their forecasts."""
    rows, names = _cut_rows(task, start, stop), [*task.names]
    panel = BarPanel.from_frame(rows, scalers.features.transform(rows[names]), names)
    return add_forecasts(panel, task.forecasts, scalers.forecasts)


def _cut_rows(task: AgentTask, start: int, stop: int) -> pd.DataFrame:
    position = task.rows.groupby("symbol", sort=False).cumcount()
    return task.rows[(position >= start) & (position < stop)]


def play_targets(policy: Policy, panel: BarPanel, rules: TradingRules) -> FloatArray:
    """What a policy wants to hold while it walks through a panel on paper.

    Returns
    -------
    array of shape (n_decisions, n_assets)
        Shares of the equity of one account that is split equally over the symbols; 0 after
        a ruin. The first decision is at the last bar of the first window, the last one at the
        last bar but one.
    """
    listener = _Listener(policy)
    rollout = play(listener, panel, rules)
    wanted = np.stack(listener.actions).reshape(len(listener.actions), -1)
    is_alive = rollout.row[1:, 0] >= 0
    shares = wanted.astype(np.float64) * rules.max_weight / len(rollout.symbols)
    return np.where(is_alive, shares, 0.0)


class _Listener:
    """A policy that keeps what it said."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.actions: list[npt.NDArray[Any]] = []

    def act(self, observations: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        self.actions.append(self.policy.act(observations))
        return self.actions[-1]
