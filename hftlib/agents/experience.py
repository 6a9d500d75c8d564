"""What the agents of one learner saw, did and got in one rollout.

A lane is one agent in one copy of the environment: lane m * n_envs + i is agent
`members[m]` in copy i. Everything is written in place, step by step.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hftlib.agents.multiagent import BoolArray, MultiAgentEnv, Observations, Outcome


class Situation(NamedTuple):
    """Where the copies stand between two steps.

    observations, state : as in `Outcome`
    alive : bool array of shape (n_envs, n_agents)
        Whether the agent takes part; once terminated, it does not until its copy starts anew.
    starts : bool array of shape (n_envs,)
        Whether an episode starts here.
    """

    observations: Observations
    state: npt.NDArray[np.float32]
    alive: BoolArray
    starts: BoolArray


def begin(env: MultiAgentEnv, seed: int) -> Situation:
    """Reset every copy."""
    observations, state = env.reset(seed=seed)
    alive = np.ones((env.n_envs, len(env.agents)), dtype=bool)
    return Situation(observations, state, alive, np.ones(env.n_envs, dtype=bool))


def follow(transition: Outcome) -> Situation:
    """Where a step leads to."""
    starts = transition.truncated | transition.terminated.all(axis=1)
    alive = starts[:, None] | ~transition.terminated
    return Situation(transition.observations, transition.state, alive, starts)


class Experience:
    """A rollout of T steps and N lanes.

    Attributes
    ----------
    inputs : float32 tensor of shape (T + 1, N, n_columns)
        The agent's observation, which member it is (one column a member, if there are several)
        and, for a central critic, the state. Observations of dead agents are zeros.
    n_seen : int
        Columns that an actor sees, the first ones.
    alive, starts : bool tensors of shape (T + 1, N)
        Whether the agent takes part in this step; whether its episode starts with it.
    raw_actions : tensor of shape (T, N, n_actions), see `hftlib.models.networks`
    log_probs, rewards : float32 tensors of shape (T, N)
    terminated, ended : bool tensors of shape (T, N)
        Whether the agent has no future after the step; whether its episode is over.
    """

    def __init__(
        self,
        env: MultiAgentEnv,
        members: Sequence[int],
        n_steps: int,
        n_actions: int,
        action_type: torch.dtype,
        *,
        has_state: bool,
        device: torch.device,
    ) -> None:
        self.members, self.n_envs, self.device = list(members), env.n_envs, device
        self.n_lanes = len(members) * env.n_envs
        self.n_observed = env.observation_spaces[members[0]].shape[0]
        marks = torch.eye(len(members)) if len(members) > 1 else torch.zeros(1, 0)
        self.marks = marks.numpy()
        self.n_seen = self.n_observed + marks.shape[1]
        n_columns = self.n_seen + (env.state_size if has_state else 0)
        self.has_state = has_state

        def allocate(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        lanes = (n_steps, self.n_lanes)
        self.inputs = allocate(n_steps + 1, self.n_lanes, n_columns)
        self._by_member = self.inputs.view(n_steps + 1, len(members), env.n_envs, n_columns)
        self._by_member[..., self.n_observed : self.n_seen] = marks[:, None].to(device)
        self.alive = allocate(n_steps + 1, self.n_lanes, dtype=torch.bool)
        self.starts = allocate(n_steps + 1, self.n_lanes, dtype=torch.bool)
        self.raw_actions = allocate(*lanes, n_actions, dtype=action_type)
        self.log_probs, self.rewards = allocate(*lanes), allocate(*lanes)
        self.terminated = allocate(*lanes, dtype=torch.bool)
        self.ended = allocate(*lanes, dtype=torch.bool)
        self._final: list[tuple[int, npt.NDArray[np.int64], npt.NDArray[np.float32]]] = []

    def clear(self) -> None:
        """Begin a rollout: forget the last states of the one before."""
        self._final = []

    def observe(self, t: int, now: Situation) -> None:
        """Write what the agents see before step `t`; after the last step, t = T."""
        self.alive[t] = self._spread(now.alive)
        self.starts[t] = torch.from_numpy(now.starts).repeat(len(self.members))
        rows = self._by_member[t]
        for m, k in enumerate(self.members):
            rows[m, :, : self.n_observed] = torch.as_tensor(now.observations[k])
        dead = ~self.alive[t].view(len(self.members), self.n_envs, 1)
        rows[..., : self.n_observed].masked_fill_(dead, 0.0)
        if self.has_state:
            rows[..., self.n_seen :] = torch.as_tensor(now.state).to(self.device)

    def store(self, t: int, transition: Outcome, reward_scale: float) -> None:
        """Write what step `t` brought, and the last states of the copies that the clock ended."""
        self.rewards[t] = self._spread(transition.rewards * reward_scale)
        self.terminated[t] = self._spread(transition.terminated)
        over = transition.truncated | transition.terminated.all(axis=1)
        self.ended[t] = torch.from_numpy(over).repeat(len(self.members))
        if not transition.truncated.any():
            return
        for m, k in enumerate(self.members):
            copies = np.flatnonzero(transition.truncated & ~transition.terminated[:, k])
            parts = [transition.final_observations[k][copies]]
            parts.append(np.repeat(self.marks[m : m + 1], len(copies), axis=0))
            if self.has_state:
                parts.append(transition.final_state[copies])
            self._final.append((t, m * self.n_envs + copies, np.hstack(parts)))

    def final(self) -> tuple[Tensor, Tensor, Tensor]:
        """Steps (n,), lanes (n,) and inputs (n, n_columns) of the last states where truncated."""
        steps = [np.full(len(lanes), t) for t, lanes, _ in self._final]
        empty = np.empty(0, dtype=np.int64), np.empty((0, self.inputs.shape[2]), dtype=np.float32)
        return (
            torch.as_tensor(np.concatenate([empty[0], *steps]), device=self.device),
            torch.as_tensor(np.concatenate([empty[0], *(x[1] for x in self._final)])).to(
                self.device
            ),
            torch.as_tensor(np.concatenate([empty[1], *(x[2] for x in self._final)])).to(
                self.device
            ),
        )

    def _spread(self, values: npt.NDArray[np.generic]) -> Tensor:
        """An array of shape (n_envs, n_agents) by lanes, shape (N,)."""
        return torch.as_tensor(values[:, self.members].T.reshape(-1))
