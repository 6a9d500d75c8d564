"""Small rows, forecasts and trainings for the tests of folds."""

from dataclasses import replace

import numpy as np
import pandas as pd

from hftlib.agents.online_settings import PPOSettings, SACSettings
from hftlib.data.folds import walk_forward
from hftlib.envs import TradingRules
from hftlib.evaluation.agent_folds import AgentTask
from hftlib.portfolio.costs import Costs
from hftlib.schema import FORECASTS
from tests.conftest import make_bars

N_BARS = 160
NAMES = ("f0", "f1")
RULES = TradingRules(
    Costs(1.0, 2.0, 1.0),
    window_bars=4,
    episode_bars=30,
    allow_short=True,
    action_kind="continuous",
)
COMMON = {"gamma": 0.9, "reward_scale": 100.0, "hidden": (8,), "learning_rate": 1e-3}
PPO = PPOSettings(
    **COMMON,
    total_steps=128,
    n_envs=4,
    n_steps=16,
    batch_size=32,
    n_epochs=1,
    gae_lambda=0.9,
    clip_range=0.2,
    entropy_weight=0.0,
    n_evaluations=2,
)
SAC = SACSettings(
    **COMMON,
    total_steps=64,
    n_envs=4,
    batch_size=16,
    tau=0.01,
    buffer_size=64,
    n_warmup_steps=16,
    steps_per_update=4,
    n_evaluations=2,
)
FOLDS = walk_forward(
    N_BARS, 2, first_test=80, validation_bars=0, purge_bars=1, embargo_bars=3, train_bars=None
)


def make_rows(seed: int = 0) -> pd.DataFrame:
    """Two symbols on one clock, with features on scales of their own."""
    bars = make_bars(N_BARS, ("AAA", "BBB"), seed)
    rng = np.random.default_rng(seed)
    drawn = {"f0": rng.normal(5, 3, len(bars)), "f1": rng.exponential(2, len(bars))}
    return bars[["symbol", "ts", "open", "close", "volume"]].assign(**drawn)


def make_forecasts(rows: pd.DataFrame, seed: int = 0, first: int = 20) -> pd.DataFrame:
    """Forecasts for all rows from bar `first` on."""
    rng = np.random.default_rng(seed)
    table = rows[["symbol", "ts"]].copy()
    for column in FORECASTS.columns[2:]:
        table[column.name] = rng.uniform(0.1, 0.9, len(rows)).astype(column.dtype)
    return table[rows.groupby("symbol").cumcount() >= first]


def make_task(settings=PPO, n_seeds: int = 1, **changes) -> AgentTask:
    """A task on the rows above, which `changes` may replace."""
    rows = make_rows()
    task = AgentTask(rows, NAMES, make_forecasts(rows), RULES, settings, 3, n_seeds)
    return replace(task, **changes)


def scramble(task: AgentTask, first: int) -> AgentTask:
    """The same up to bar `first` - 1; all that comes later is drawn anew."""
    other = make_rows(seed=9)
    fresh = make_forecasts(other, seed=9, first=0)
    is_later = task.rows.groupby("symbol").cumcount() >= first
    rows = task.rows.where(~is_later, other)
    rows = rows.astype(task.rows.dtypes)
    at = rows["ts"][first]
    early = task.forecasts[task.forecasts["ts"] < at]
    return replace(task, rows=rows, forecasts=pd.concat([early, fresh[fresh["ts"] >= at]]))
