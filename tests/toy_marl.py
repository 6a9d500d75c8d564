"""Two small multi-agent environments with known optima."""

from typing import Any

import numpy as np
from gymnasium import spaces

from hftlib.agents.multiagent import Transition


class Targets:
    """Each agent sees a point and should name it; the reward is shared.

    Agent k sees its own target and noise; its action a in [-1, 1] (continuous)
    or bin 0..4 of linspace(-1, 1, 5) (discrete) costs (a - target)^2, and all get
    the mean of these costs as their reward. The best return of an episode is 0
    (continuous). `mixed` gives the second agent two action dimensions and one
    more observation.
    """

    def __init__(
        self, n_envs: int = 16, length: int = 10, *, discrete: bool = False, mixed: bool = False
    ):
        self.n_envs, self.length, self.discrete = n_envs, length, discrete
        self.agents = ("left", "right")
        self.sizes = (1, 2) if mixed else (1, 1)
        inputs = tuple(n + 1 + (mixed and k) for k, n in enumerate(self.sizes))
        self.observation_spaces = tuple(spaces.Box(-10, 10, (n,), np.float32) for n in inputs)
        if discrete:
            self.action_spaces: Any = tuple(
                spaces.MultiDiscrete([5] * n) if n > 1 else spaces.Discrete(5) for n in self.sizes
            )
        else:
            self.action_spaces = tuple(spaces.Box(-1, 1, (n,), np.float32) for n in self.sizes)
        self.state_size = sum(inputs)
        self.rng = np.random.default_rng(0)
        self.t = 0

    def _draw(self):
        self.targets = [self.rng.integers(-2, 3, (self.n_envs, n)) / 2 * 0.9 for n in self.sizes]
        extra = [s.shape[0] - n for s, n in zip(self.observation_spaces, self.sizes, strict=True)]
        self.seen = tuple(
            np.hstack([x, self.rng.normal(size=(self.n_envs, n))]).astype(np.float32)
            for x, n in zip(self.targets, extra, strict=True)
        )

    def reset(self, seed=None):
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        self.t = 0
        self._draw()
        return self.seen, np.hstack(self.seen)

    def step(self, actions):
        costs = []
        for space, action, target in zip(self.action_spaces, actions, self.targets, strict=True):
            assert len(action) == self.n_envs
            action = np.asarray(action).reshape(target.shape)
            if not isinstance(space, spaces.Box):
                action = np.linspace(-1, 1, 5)[action]
            costs.append(((action - target) ** 2).mean(axis=1))
        rewards = np.repeat(-np.mean(costs, axis=0)[:, None], 2, axis=1)
        self.t += 1
        ended = self.t == self.length
        self._draw()
        final = self.seen
        if ended:
            self.t = 0
            self._draw()
        return Transition(
            self.seen,
            np.hstack(self.seen),
            rewards,
            np.zeros((self.n_envs, 2), dtype=bool),
            np.full(self.n_envs, ended),
            final,
            np.hstack(final),
        )

    def save_state(self):
        return {
            "rng": self.rng.bit_generator.state,
            "t": self.t,
            "targets": [x.copy() for x in self.targets],
            "seen": tuple(x.copy() for x in self.seen),
        }

    def load_state(self, saved):
        self.rng.bit_generator.state = saved["rng"]
        self.t, self.targets, self.seen = saved["t"], saved["targets"], saved["seen"]
