"""What a multi-agent learner needs of an environment, and an adapter for PettingZoo's.

Copies run side by side and agents may differ in their spaces. An agent that
has ended stays silent until its copy is reset: its rewards are 0 and its
actions are not read.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

Observations = tuple[npt.NDArray[np.float32], ...]  # one of shape (n_envs, n_inputs) an agent
FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


class Outcome(Protocol):
    """One step of every copy: a `Transition`, or a tuple that has more in it."""

    @property
    def observations(self) -> Observations:
        """The next ones, or the first of the next episode where the copy has ended."""

    @property
    def state(self) -> FloatArray:
        """As the observations, shape (n_envs, state_size)."""

    @property
    def rewards(self) -> npt.NDArray[np.float64]:
        """Shape (n_envs, n_agents)."""

    @property
    def terminated(self) -> BoolArray:
        """Whether the agent is at an end of its own, now or before, shape (n_envs, n_agents)."""

    @property
    def truncated(self) -> BoolArray:
        """Whether the clock has ended the episode of the copy, shape (n_envs,)."""

    @property
    def final_observations(self) -> Observations:
        """The last ones of the copies that ended; elsewhere equal to `observations`."""

    @property
    def final_state(self) -> FloatArray:
        """As the final observations."""


class Transition(NamedTuple):
    """An `Outcome`, which tells what its parts are."""

    observations: Observations
    state: FloatArray
    rewards: npt.NDArray[np.float64]
    terminated: BoolArray
    truncated: BoolArray
    final_observations: Observations
    final_state: FloatArray


class MultiAgentEnv(Protocol):
    """Copies of one environment, stepped together."""

    n_envs: int
    agents: tuple[str, ...]
    observation_spaces: tuple[spaces.Box, ...]
    action_spaces: tuple[spaces.Space[Any], ...]  # Box, Discrete or MultiDiscrete
    state_size: int

    def reset(self, seed: int | None = None) -> tuple[Observations, FloatArray]:
        """Start every copy; without a seed, the next episodes of the same course."""

    def step(self, actions: Sequence[npt.NDArray[Any]]) -> Outcome:
        """Take one action an agent: shape (n_envs, n) of a Box or MultiDiscrete, (n_envs,) else.

        A copy whose agents have all ended, or that the clock has ended, is reset in the same step.
        """

    def save_state(self) -> dict[str, Any]:
        """All that `load_state` needs to go on bit for bit."""

    def load_state(self, saved: dict[str, Any]) -> None:
        """Go on from `save_state`."""
