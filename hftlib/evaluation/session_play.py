"""Policies of the crash game in games that none of them has seen.

A chain is a player's run of games, as in a recording: the board shows what came before. All
policies play the same chains, whose prices do not depend on what is done, so differences are
paired by game. Policies decide on what they see now; they have no memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.agents.offline_policy import (
    POSITION_QTY,
    draw_actions,
    split_actions,
    valid_actions,
)
from hftlib.agents.policy import Policy
from hftlib.envs.session import SessionVecEnv
from hftlib.envs.session_rules import SessionRules
from hftlib.evaluation.paired import mean_estimate, paired_difference
from hftlib.sessions.observation import FEATURE_NAMES
from hftlib.sessions.vocabulary import BUY, N_ADJUSTMENTS, SELL, SIDEBET, WAIT

Observations = npt.NDArray[np.float32]
Actions = npt.NDArray[np.int64]
IntArray = npt.NDArray[np.int64]

TIME_IN_POSITION = FEATURE_NAMES.index("time_in_position")
TOTAL_INVESTED = FEATURE_NAMES.index("total_invested")
COUNTS = ("tick", "n_executed", "n_invalid", "n_refused")


class SessionPlay(NamedTuple):
    """What a policy did in each game, arrays of shape (n_chains, n_games).

    profit : SOL, all positions and side bets settled, discounted if that was asked for
    n_ticks : length of the game
    n_executed, n_invalid, n_refused : orders, choices not valid, orders refused later
    """

    profit: npt.NDArray[np.float64]
    n_ticks: IntArray
    n_executed: IntArray
    n_invalid: IntArray
    n_refused: IntArray


class WaitAlways:
    """Does nothing."""

    def act(self, observations: Observations) -> Actions:
        """Rows (choice, adjustment) of shape (n, 2)."""
        return _choose(np.full(len(observations), WAIT))


@dataclass(frozen=True)
class RandomActions:
    """Any action that the observation allows, each as likely as another."""

    rng: np.random.Generator

    def act(self, observations: Observations) -> Actions:
        """Rows (choice, adjustment) of shape (n, 2)."""
        return split_actions(draw_actions(valid_actions(observations).astype(float), self.rng))


@dataclass(frozen=True)
class BuyOnce:
    """Buys at the start of each game for the bet as it stands, and sells `n_ticks` later."""

    n_ticks: int

    def act(self, observations: Observations) -> Actions:
        """Rows (choice, adjustment) of shape (n, 2)."""
        has_tokens = observations[:, POSITION_QTY] > 0
        is_due = observations[:, TIME_IN_POSITION] >= self.n_ticks
        choice = np.where(observations[:, TOTAL_INVESTED] == 0, BUY, WAIT)
        return _choose(np.where(has_tokens, np.where(is_due, SELL, WAIT), choice), observations)


class SidebetAlways:
    """Places a side bet of the bet as it stands whenever it may; refused while one is open."""

    def act(self, observations: Observations) -> Actions:
        """Rows (choice, adjustment) of shape (n, 2)."""
        return _choose(np.full(len(observations), SIDEBET), observations)


def play_policy(
    policy: Policy,
    seed: int,
    *,
    n_chains: int,
    n_games: int,
    rules: SessionRules | None = None,
    gamma: float = 1.0,
) -> SessionPlay:
    """Play `n_games` games in each of `n_chains` chains, those of the seeds from `seed` on.

    Parameters
    ----------
    gamma : float
        Discount of the profit, a tick of its game.

    Raises
    ------
    ValueError
        If there are no chains or games.
    """
    if n_chains < 1 or n_games < 1:
        raise ValueError(f"n_chains={n_chains}, n_games={n_games}; expected at least 1 of both")
    env = SessionVecEnv(n_chains, rules)
    observations, _ = env.reset(seed=seed)
    profit = np.zeros((n_chains, n_games + 1))  # the last column is of games not asked for
    counts = np.zeros((len(COUNTS), n_chains, n_games), dtype=np.int64)
    chains, game = np.arange(n_chains), np.zeros(n_chains, dtype=np.int64)
    discount = np.ones(n_chains)
    actions = np.zeros((n_chains, 2), dtype=np.int64)
    while (running := game < n_games).any():
        actions[running] = policy.act(observations[running])
        observations, rewards, terminated, truncated, info = env.step(actions)
        profit[chains, game] += discount * rewards
        discount = np.where(terminated | truncated, 1.0, gamma * discount)
        ended = np.flatnonzero(running & (terminated | truncated))
        for k, name in enumerate(COUNTS):
            counts[k, ended, game[ended]] = info[name][ended]
        game[ended] += 1
    return SessionPlay(profit[:, :-1], *counts)


def compare_policies(
    policies: Mapping[str, Sequence[Policy]],
    baseline: str,
    seed: int,
    *,
    n_chains: int,
    n_games: int,
    rules: SessionRules | None = None,
    n_bootstrap: int = 2000,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Mean profit of a game of each policy, and its difference to a baseline in the same games.

    Parameters
    ----------
    policies : mapping of name to policies, one a training seed
    baseline : str
        A key of `policies`.
    seed : int
        First of the chains' seeds, `n_chains` in a row; none that was trained on.

    Returns
    -------
    frame with columns policy, seeds, games, value, low, high, difference, difference_low,
    difference_high
        SOL a game; intervals over games and training seeds.

    Raises
    ------
    ValueError
        If the baseline is unknown.
    """
    if baseline not in policies:
        raise ValueError(f"baseline {baseline!r} is not among {', '.join(policies)}")
    profits = {
        name: np.stack(
            [
                play_policy(
                    policy, seed, n_chains=n_chains, n_games=n_games, rules=rules
                ).profit.ravel()
                for policy in members
            ]
        )
        for name, members in policies.items()
    }
    rows = []
    for name, values in profits.items():
        own = mean_estimate(values, n_bootstrap=n_bootstrap, confidence=confidence)
        gap = paired_difference(
            values, profits[baseline], n_bootstrap=n_bootstrap, confidence=confidence
        )
        differences = (0.0, 0.0, 0.0) if name == baseline else tuple(vars(gap).values())
        rows.append((name, *values.shape, *vars(own).values(), *differences))
    names = ["policy", "seeds", "games", "value", "low", "high"]
    names += ["difference", "difference_low", "difference_high"]
    return pd.DataFrame(rows, columns=names)


def _choose(choice: npt.NDArray[np.int64], observations: Observations | None = None) -> Actions:
    """Rows (choice, no adjustment); WAIT where the observation does not allow the choice."""
    if observations is not None:
        valid = valid_actions(observations)[np.arange(len(choice)), choice * N_ADJUSTMENTS]
        choice = np.where(valid, choice, WAIT)
    return np.stack([choice, np.zeros_like(choice)], axis=1)
