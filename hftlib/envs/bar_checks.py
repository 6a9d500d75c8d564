"""What the bar-trading environment must keep, measured on random play; see `envs.checks`."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.data.panel import BarPanel
from hftlib.envs.trading import TradingEnv, TradingVecEnv
from hftlib.envs.trading_rules import TradingRules

FloatArray = npt.NDArray[np.float64]


def check_trading(panel: BarPanel, rules: TradingRules, seed: int) -> pd.DataFrame:
    """Run every check on the first symbol of a panel.

    Returns
    -------
    frame with index check and columns expected (text), measured
    """
    length = int(panel.segments[0, 1] - panel.segments[0, 0])
    n_steps = min(200, length - rules.window_bars)
    half = n_steps // 2
    actions = np.random.default_rng(seed).integers(3, size=n_steps)
    one, two = (_play(TradingEnv(panel, rules), actions) for _ in range(2))
    batch = _play_batch(TradingVecEnv(panel, rules, 3), actions)
    first_unseen = int(panel.segments[0, 0]) + rules.window_bars + half
    other = _play(TradingEnv(_scramble(panel, first_unseen, seed), rules), actions)
    growth = np.log(one[:, 1] / np.concatenate([[rules.initial_cash], one[:-1, 1]]))
    rows = [
        ("two runs, difference", "0", _most(one - two)),
        ("a copy alone and in the batch, difference", "0", _most(one - batch)),
        ("steps before the prices are scrambled, difference", "0", _most((one - other)[:half])),
        ("steps after it, difference", "not 0", _most((one - other)[half:])),
        ("rewards less log growth of the equity", "0", _most(one[:, 0] - growth)),
    ]
    return pd.DataFrame(rows, columns=["check", "expected", "measured"]).set_index("check")


def _scramble(panel: BarPanel, first: int, seed: int) -> BarPanel:
    """The panel with other prices and features from row `first` on."""
    rng = np.random.default_rng(seed)
    later = np.arange(len(panel.ts)) >= first
    factor = np.where(later, np.exp(rng.normal(0, 0.01, len(later))), 1.0)
    return replace(
        panel,
        open=panel.open * factor,
        close=panel.close * np.roll(factor, 1) ** later,
        features=np.where(later[:, None], rng.permutation(panel.features), panel.features),
    )


def _play(env: TradingEnv, actions: npt.NDArray[np.int64]) -> FloatArray:
    """Reward, equity and observation of each step, through the first symbol."""
    env.reset(seed=0, options={"segment": 0})
    rows = []
    for action in actions:
        seen, reward, terminated, _, info = env.step(action)
        rows.append([reward, info["equity"], *seen])
        if terminated:
            break
    return np.array(rows)


def _play_batch(env: TradingVecEnv, actions: npt.NDArray[np.int64]) -> FloatArray:
    """The last copy of a batch in which all do the same."""
    env.reset(seed=0, options={"segments": (0,) * env.num_envs})
    rows = []
    for action in actions:
        seen, reward, terminated, _, info = env.step(np.full(env.num_envs, action))
        seen = info.get("final_obs", seen)
        rows.append([reward[-1], info["equity"][-1], *seen[-1]])
        if terminated[-1]:
            break
    return np.array(rows)


def _most(values: FloatArray) -> float:
    return float(np.abs(values).max())
