"""What the bar-trading environment must keep, measured on random play; see `envs.checks`."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.data.panel import BarPanel
from hftlib.envs.rewards import KINDS, RewardSettings
from hftlib.envs.trading import TradingEnv, TradingVecEnv
from hftlib.envs.trading_rules import TradingRules

FloatArray = npt.NDArray[np.float64]


def check_trading(panel: BarPanel, rules: TradingRules, seed: int) -> pd.DataFrame:
    """Run every check on the first symbol of a panel, or on its portfolio.

    Drawdown limit, margin call and ruin are switched off: what random play loses must not end the
    episode before there is something to compare.

    Returns
    -------
    frame with index check and columns expected (text), measured
    """
    rules = replace(
        rules,
        ruin_fraction=0.0,
        limits=replace(rules.limits, maintenance_fraction=0.0, max_drawdown=1.0),
    )
    length = int(panel.segments[0, 1] - panel.segments[0, 0])
    n_steps = min(200, length - rules.window_bars)
    half = n_steps // 2
    actions = _draw_actions(panel, rules, seed, n_steps)
    one, two = (_play(TradingEnv(panel, rules), actions) for _ in range(2))
    batch = _play_batch(TradingVecEnv(panel, rules, 3), actions)
    first_unseen = rules.window_bars + half
    other = _play(TradingEnv(_scramble(panel, first_unseen, seed), rules), actions)
    growth = np.log(one[:, 1] / np.concatenate([[rules.initial_cash], one[:-1, 1]]))
    before, after = _compare(one[:half], other[:half]), _compare(one[half:], other[half:])
    rows = [
        ("two runs, difference", "0", _compare(one, two)),
        ("a copy alone and in the batch, difference", "0", _compare(one, batch)),
        ("steps before the prices are scrambled, difference", "0", before),
        ("steps after it, difference", "not 0", after),
        ("rewards less the sum of their terms", "0", _most(one[:, 0] - one[:, 2])),
    ]
    if rules.reward.kind == "simple":
        rows.append(("rewards less log growth of the equity", "0", _most(one[:, 0] - growth)))
    return pd.DataFrame(rows, columns=["check", "expected", "measured"]).set_index("check")


def tabulate_rewards(panel: BarPanel, rules: TradingRules, seed: int) -> pd.DataFrame:
    """The terms of each kind of reward on the same random play through the first symbol.

    Parameters
    ----------
    panel : BarPanel
        With forecasts.
    rules : TradingRules
        Their reward is replaced by one of each kind.

    Returns
    -------
    frame with index (reward, term) and columns mean, sd (over bars), gap
        `gap` is the largest difference of the reward from the sum of its terms.
    """
    n_steps = int(panel.segments[0, 1] - panel.segments[0, 0]) - rules.window_bars
    actions = _draw_actions(panel, rules, seed, n_steps)
    rows = []
    for kind in KINDS:
        # terms of one to ten basis points a bar, as the growth is: every one shows
        settings = RewardSettings(
            kind=kind,
            volatility_weight=0.1,
            drawdown_weight=0.01,
            accuracy_weight=0.001,
            sizing_weight=0.001,
        )
        env = TradingEnv(panel, replace(rules, reward=settings))
        env.reset(options={"segment": 0})
        steps = []
        for action in actions:
            _, reward, terminated, _, info = env.step(action)
            steps.append([reward, *info["reward_terms"].values()])
            if terminated:
                break
        values = np.array(steps)
        gap = _most(values[:, 0] - values[:, 1:].sum(axis=1))
        for k, term in enumerate(info["reward_terms"], start=1):
            rows.append((kind, term, values[:, k].mean(), values[:, k].std(), gap))
    frame = pd.DataFrame(rows, columns=["reward", "term", "mean", "sd", "gap"])
    return frame.set_index(["reward", "term"])


def _draw_actions(panel: BarPanel, rules: TradingRules, seed: int, n: int) -> npt.NDArray[Any]:
    """Actions of one account, shape (n, ...)."""
    space = TradingEnv(panel, rules).action_space
    space.seed(seed)
    return np.array([space.sample() for _ in range(n)])


def _scramble(panel: BarPanel, first: int, seed: int) -> BarPanel:
    """The panel with other prices and features from bar `first` of each symbol on."""
    rng = np.random.default_rng(seed)
    lengths = panel.segments[:, 1] - panel.segments[:, 0]
    later = np.concatenate([np.arange(n) for n in lengths]) >= first
    factor = np.where(later, np.exp(rng.normal(0, 0.01, len(later))), 1.0)
    return replace(
        panel,
        open=panel.open * factor,
        close=panel.close * np.roll(factor, 1) ** later,
        features=np.where(later[:, None], rng.permutation(panel.features), panel.features),
    )


def _play(env: TradingEnv, actions: npt.NDArray[Any]) -> FloatArray:
    """Reward, equity, sum of the terms and observation of each step, through the first symbol."""
    env.reset(seed=0, options={"segment": 0})
    rows = []
    for action in actions:
        seen, reward, terminated, _, info = env.step(action)
        rows.append([reward, info["equity"], sum(info["reward_terms"].values()), *seen])
        if terminated:
            break
    return np.array(rows)


def _play_batch(env: TradingVecEnv, actions: npt.NDArray[Any]) -> FloatArray:
    """The last copy of a batch in which all do the same."""
    env.reset(seed=0, options={"segments": (0,) * env.num_envs})
    rows = []
    for action in actions:
        seen, reward, terminated, _, info = env.step(np.stack([action] * env.num_envs))
        seen = info.get("final_obs", seen)
        terms = sum(term[-1] for term in info["reward_terms"].values())
        rows.append([reward[-1], info["equity"][-1], terms, *seen[-1]])
        if terminated[-1]:
            break
    return np.array(rows)


def _compare(one: FloatArray, two: FloatArray) -> float:
    """Largest difference of two runs; infinite if one is longer."""
    return _most(one - two) if len(one) == len(two) else float("inf")


def _most(values: FloatArray) -> float:
    return float(np.abs(values).max(initial=0.0))
