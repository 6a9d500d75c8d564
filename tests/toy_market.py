"""A market of conventions: an agent earns 1 less its distance to the others' mean action a step.

Policies are constants, so every pairing has a known profit. The world adds luck
that is the same whatever the agents do. A lost equity of `limits` ends an
agent; its copy waits for the clock, as in `MarketVecEnv`.
"""

from dataclasses import dataclass

import numpy as np
from gymnasium import spaces

from hftlib.agents.rollout import MarketRollout
from hftlib.envs.desk import PROFIT
from hftlib.envs.roles import Executor, Maker
from hftlib.envs.rules import MarketSettings
from hftlib.envs.transition import MarketTransition


class ToyMarket:
    def __init__(self, n_envs=4, length=5, luck=10.0, limits=(np.inf, np.inf)):
        self.n_envs, self.luck, self.limits = n_envs, luck, np.array(limits)
        self.roles = {"maker": Maker(), "executor": Executor()}
        self.agents = tuple(self.roles)
        self.market = MarketSettings(episode_steps=length)
        self.observation_spaces = tuple(spaces.Box(-10, 10, (2,), np.float32) for _ in self.roles)
        self.action_spaces = tuple(spaces.Box(-1, 1, (1,), np.float32) for _ in self.roles)
        self.state_size, self.auto_reset = 2, True
        self.episode = -1
        self.t = 0

    def _seen(self):
        seen = np.stack([np.full(self.n_envs, 1 - self.t / 5), np.arange(self.n_envs)], axis=1)
        return tuple(seen.astype(np.float32) for _ in self.agents)

    def reset(self, seed=None):
        if seed is not None:
            self.seed, self.episode = seed, -1
        self.episode, self.t = self.episode + 1, 0
        worlds = self.seed + np.arange(self.n_envs)
        rng = [np.random.default_rng([self.episode, w]) for w in worlds]
        self.shocks = np.array(
            [r.normal(0, self.luck, (self.market.episode_steps, 2)) for r in rng]
        )
        self.equity = np.zeros((self.n_envs, 2))
        self.ended = np.zeros((self.n_envs, 2), dtype=bool)
        self.final = None
        return self._seen(), self._seen()[0]

    def step(self, actions):
        a = np.hstack(actions).astype(float)
        assert a.shape == (self.n_envs, 2)
        terms = np.zeros((self.n_envs, 2, 5))
        profit = 1 - np.abs(a - a[:, ::-1]) + self.shocks[:, self.t]
        terms[..., PROFIT] = np.where(self.ended, 0, profit)
        self.equity = self.equity + terms[..., PROFIT]
        self.ended = self.ended | (self.equity < -self.limits)
        ended = self.ended.copy()
        self.t += 1
        is_over = self.t == self.market.episode_steps
        final = self._seen()
        if is_over:
            accounts = self.accounts()
            self.reset()
            self.final = accounts
        return MarketTransition(
            self._seen(),
            self._seen()[0],
            terms.sum(axis=2),
            ended,
            np.full(self.n_envs, is_over),
            final,
            final[0],
            terms,
        )

    def accounts(self):
        if self.final is not None:
            return self.final
        zero = np.zeros((self.n_envs, 2), dtype=np.int64)
        whole = ("position", "made", "took", "lots", "quoted", "parent")
        money = {
            "mid": zero + 100.0,
            "cash": self.equity,
            "equity": self.equity,
            "fees": 0.0 * zero,
        }
        return {**money, **dict.fromkeys(whole, zero), "is_alive": ~self.ended}

    def save_state(self):
        names = ("seed", "episode", "t", "shocks", "equity", "ended", "final")
        return {name: getattr(self, name) for name in names}

    def load_state(self, saved):
        for name, value in saved.items():
            setattr(self, name, value)


@dataclass
class Constant:
    """The same action always."""

    action: float

    def act(self, observations):
        return np.full((len(observations), 1), self.action, dtype=np.float32)


class Counter:
    """Remembers how often it has acted in this episode, and in how many copies it began."""

    def __init__(self):
        self.begun = []

    def begin(self, n):
        self.begun.append(n)
        self.n_acts = 0

    def act(self, observations):
        self.n_acts += 1
        return np.full((len(observations), 1), self.n_acts / 10, dtype=np.float32)


def make_rollout(mid, position, cash=0.0, fees=0.0, *, role="maker", closing=0.0, **changes):
    """A rollout of one agent whose equity follows from the others; arrays of shape (T + 1, B).

    `closing` is charged to the equity from the step on in which `is_alive` turns false, or at the
    end. One tick of one lot is worth .5.
    """
    mid, position, cash, fees = (
        np.array(x)[..., None]
        for x in np.broadcast_arrays(np.asarray(mid, dtype=float), position, cash, fees)
    )
    n, n_episodes = mid.shape[0] - 1, mid.shape[1]
    alive = np.array(changes.pop("is_alive", np.ones(mid.shape, dtype=bool)))
    alive = alive.reshape(mid.shape)
    equity = cash + position * mid * 0.5
    equity = equity - equity[0]
    for t in range(1, n + 1):
        ends = alive[t - 1] & ~alive[t]
        equity[t:] = np.where(ends, equity[t] - closing, equity[t:])
        equity[t:] = np.where(alive[t - 1], equity[t:], equity[t - 1])
    if role == "executor":
        equity[n] -= closing
    zero = np.zeros(mid.shape, dtype=np.int64)
    fields = {
        "agents": ("a",),
        "kinds": (role,),
        "tick_size": 0.01,
        "lot_size": 50.0,
        "decision_s": 0.5,
        "worlds": np.arange(n_episodes),
        "parent": -position[0] if role == "executor" else zero[0],
        "mid": mid,
        "position": position,
        "cash": cash,
        "equity": equity,
        "fees": fees,
        "is_alive": alive,
        "rewards": np.zeros((n, n_episodes, 1)),
        "terms": np.zeros((n, n_episodes, 1, 5)),
        "observations": (np.zeros((n, n_episodes, 1), dtype=np.float32),),
        "actions": (np.zeros((n, n_episodes, 1), dtype=np.float32),),
        **dict.fromkeys(("made", "took", "lots", "quoted"), zero),
    }
    return MarketRollout(**{**fields, **changes})
