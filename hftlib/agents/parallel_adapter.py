"""Copies of a PettingZoo `ParallelEnv` as the multi-agent learners want them.

Every episode of every copy has a seed of its own, so that what is saved is no
more than the episode's number and its actions so far: loading plays them
again. This supports any environment that its seed and actions determine, which
PettingZoo asks of all, and costs at most one episode a copy. Pickling would
not do: many environments, those of mpe2 among them, pickle to their
constructor's arguments.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from pettingzoo import ParallelEnv

from hftlib.agents.multiagent import FloatArray, Observations, Transition


class ParallelCopies:
    """`n_envs` copies of one `ParallelEnv`, stepped one after the other.

    Observations are boxes of one dimension. Actions pass as they are, those of
    a Box within its bounds. The state is the environment's `state()` if it has
    one, else the observations of all agents in a row. An agent that has
    terminated keeps its last observation.

    Parameters
    ----------
    make : function
        Makes one copy.
    n_envs : int

    Raises
    ------
    ValueError
        If observations are of another kind; on a step, if an agent is truncated
        while others of its copy go on, for which `Outcome` has no place.
    """

    def __init__(self, make: Callable[[], ParallelEnv[str, Any, Any]], n_envs: int) -> None:
        self.n_envs = n_envs
        self.envs = [make() for _ in range(n_envs)]
        first = self.envs[0]
        self.agents: tuple[str, ...] = tuple(first.possible_agents)
        self.observation_spaces = tuple(_flat_box(first, name) for name in self.agents)
        self.action_spaces: tuple[spaces.Space[Any], ...] = tuple(
            first.action_space(name) for name in self.agents
        )
        self._seeds = np.random.SeedSequence().generate_state(1) + np.arange(n_envs)
        self._episodes = np.full(n_envs, -1)
        self._played: list[list[dict[str, Any]]] = [[] for _ in range(n_envs)]
        self._ended = np.zeros((n_envs, len(self.agents)), dtype=bool)
        sizes = [space.shape[0] for space in self.observation_spaces]
        self._seen = tuple(np.zeros((n_envs, size), dtype=np.float32) for size in sizes)
        first.reset(seed=0)
        try:
            self.state_size = int(np.size(first.state()))
            self._has_state = True
        except NotImplementedError:  # how a PettingZoo environment says that it has none
            self.state_size = sum(sizes)
            self._has_state = False

    def reset(self, seed: int | None = None) -> tuple[Observations, FloatArray]:
        """Start every copy; copy i starts with `seed + i`, later episodes with seeds drawn from it.

        Without a seed, the next episodes of the same course; of a random one at first.
        """
        if seed is not None:
            self._seeds = seed + np.arange(self.n_envs)
            self._episodes[:] = -1
        for i in range(self.n_envs):
            self._start_episode(i)
        return self._observe()

    def step(self, actions: Sequence[npt.NDArray[Any]]) -> Transition:
        """Take one action an agent; a copy whose episode is over starts its next one.

        Parameters
        ----------
        actions : sequence of one array an agent
            Shape (n_envs, n) of a Box or MultiDiscrete, (n_envs,) of a Discrete.
        """
        pairs = zip(self.action_spaces, actions, strict=True)
        fitting = [_fit(space, np.array(action)) for space, action in pairs]
        rewards = np.zeros((self.n_envs, len(self.agents)))
        truncated = np.zeros(self.n_envs, dtype=bool)
        for i, env in enumerate(self.envs):
            move = {name: fitting[k][i] for k, name in enumerate(self.agents) if name in env.agents}
            rewards[i], truncated[i] = self._step_copy(i, move)
        final, final_state = self._observe()
        terminated = self._ended.copy()
        over = truncated | terminated.all(axis=1)
        for copy in np.flatnonzero(over):
            self._start_episode(int(copy))
        following = self._observe() if over.any() else (final, final_state)
        return Transition(*following, rewards, terminated, truncated, final, final_state)

    def save_state(self) -> dict[str, Any]:
        """Seeds, numbers of the present episodes and the actions taken in them."""
        return {
            "seeds": self._seeds.copy(),
            "episodes": self._episodes.copy(),
            "played": [list(moves) for moves in self._played],
        }

    def load_state(self, saved: dict[str, Any]) -> None:
        """Play the saved episodes up to where they were."""
        self._seeds, self._episodes = saved["seeds"].copy(), saved["episodes"] - 1
        for i, moves in enumerate(saved["played"]):
            self._start_episode(i)
            for move in moves:
                self._step_copy(i, move)

    def _start_episode(self, i: int) -> None:
        self._episodes[i] += 1
        seed, episode = int(self._seeds[i]), int(self._episodes[i])
        if episode > 0:
            seed = int(np.random.SeedSequence((seed, episode)).generate_state(1)[0])
        observations, _ = self.envs[i].reset(seed=seed)
        self._played[i], self._ended[i] = [], False
        self._note(i, observations)

    def _step_copy(self, i: int, move: dict[str, Any]) -> tuple[list[float], bool]:
        """Rewards of all agents, and whether the clock has ended the episode."""
        env = self.envs[i]
        observations, rewards, terminations, truncations, _ = env.step(move)
        self._played[i].append(move)
        self._note(i, observations)
        for k, name in enumerate(self.agents):
            self._ended[i, k] |= terminations.get(name, False)
        cut = [name for name in truncations if truncations[name] and not terminations[name]]
        if cut and env.agents:
            raise ValueError(
                f"agents {cut} of copy {i} are truncated while {env.agents} go on; "
                "expected a clock that ends an episode for all, or terminations"
            )
        return [float(rewards.get(name, 0.0)) for name in self.agents], bool(cut)

    def _note(self, i: int, observations: dict[str, Any]) -> None:
        for k, name in enumerate(self.agents):
            if name in observations:
                self._seen[k][i] = observations[name]

    def _observe(self) -> tuple[Observations, FloatArray]:
        seen = tuple(array.copy() for array in self._seen)
        if not self._has_state:
            return seen, np.concatenate(seen, axis=1)
        states = [np.asarray(env.state(), np.float32).reshape(-1) for env in self.envs]
        return seen, np.stack(states)


def _flat_box(env: ParallelEnv[str, Any, Any], name: str) -> spaces.Box:
    space = env.observation_space(name)
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        raise ValueError(f"observations of {name} are {space}; expected a Box of one dimension")
    return space


def _fit(space: spaces.Space[Any], actions: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Boxes clip: a rounding may have led beyond their bounds."""
    if isinstance(space, spaces.Box):
        return np.clip(actions, space.low, space.high).astype(space.dtype)
    return actions
