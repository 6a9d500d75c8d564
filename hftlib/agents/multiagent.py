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


class Transition(NamedTuple):
    """One step of every copy.

    observations, state : the next ones, or the first of the next episode where
        the copy has ended; state has shape (n_envs, state_size), float32.
    rewards : float64 array of shape (n_envs, n_agents)
    terminated : bool array of shape (n_envs, n_agents)
        Whether the agent is at an end of its own, now or since an earlier step.
    truncated : bool array of shape (n_envs,)
        Whether the clock has ended the episode of the copy.
    final_observations, final_state : as `observations` and `state`
        The last ones of the copies that ended; elsewhere equal to those.
    """

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

    def step(self, actions: Sequence[npt.NDArray[Any]]) -> Transition:
        """Take one action an agent: shape (n_envs, n) of a Box or MultiDiscrete, (n_envs,) else.

        A copy whose agents have all ended, or that the clock has ended, is reset in the same step.
        """

    def save_state(self) -> dict[str, Any]:
        """All that `load_state` needs to go on bit for bit."""

    def load_state(self, saved: dict[str, Any]) -> None:
        """Go on from `save_state`."""
