"""An environment of one learner: the other agents follow policies that do not change.

For the training of a best response (`evaluation.crossplay.exploitability`), or
of one agent against baselines.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from hftlib.agents.multiagent import FloatArray, MultiAgentEnv, Observations, Outcome, Transition
from hftlib.agents.policy import Policy, RestartablePolicy, StatefulPolicy
from hftlib.agents.rollout import begin_all


class FixedOthers:
    """`env` seen by one agent; a `MultiAgentEnv` itself.

    The state for a central critic stays that of `env`. Where the learner has ended
    and others have not, its copy cannot start anew: the episode then goes on with
    observations and rewards of 0, and is not reported as terminated.

    Parameters
    ----------
    env : MultiAgentEnv
        Its copies must start together if one of the others has a memory, but is no
        `RestartablePolicy`.
    learner : str
        The agent whose actions come from outside.
    others : mapping of agent to policy
        One for each of the other agents. They are copied: what they remember
        here does not touch the originals.

    Attributes
    ----------
    n_steps : int
        Steps taken so far, counted in every copy: what a training has spent.

    Raises
    ------
    ValueError
        If `learner` is no agent of `env`, or `others` are not the rest of them.
    """

    def __init__(self, env: MultiAgentEnv, learner: str, others: Mapping[str, Policy]) -> None:
        if {learner, *others} != set(env.agents) or learner in others:
            raise ValueError(
                f"learner {learner!r} and policies for {', '.join(others) or 'nobody'}; together "
                f"they must be the agents {', '.join(env.agents)}, each once"
            )
        self.env = env
        self.index = env.agents.index(learner)
        self.others = {name: copy.deepcopy(policy) for name, policy in others.items()}
        self.n_envs, self.state_size = env.n_envs, env.state_size
        self.agents: tuple[str, ...] = (learner,)
        self.observation_spaces: tuple[spaces.Box, ...] = (env.observation_spaces[self.index],)
        self.action_spaces: tuple[spaces.Space[Any], ...] = (env.action_spaces[self.index],)
        self.n_steps = 0
        self._seen: Observations = ()

    def reset(self, seed: int | None = None) -> tuple[Observations, FloatArray]:
        """Start every copy; the others forget."""
        self._seen, state = self.env.reset(seed)
        begin_all(list(self.others.values()), self.n_envs)
        return (self._seen[self.index],), state

    def step(self, actions: Sequence[npt.NDArray[Any]]) -> Transition:
        """Take the learner's action, shape of a batch of its space, as the only entry.

        Raises
        ------
        ValueError
            If copies start anew at different times and one of the others has a memory that
            cannot.
        """
        chosen = [
            self.others[agent].act(seen) if agent in self.others else actions[0]
            for agent, seen in zip(self.env.agents, self._seen, strict=True)
        ]
        result = self.env.step(chosen)
        self.n_steps += self.n_envs
        self._seen = result.observations
        has_restarted = _find_restarts(result)
        self._begin(has_restarted)
        has_ended = result.terminated[:, self.index]
        return Transition(
            self._mine(result.observations, has_ended & ~has_restarted),
            result.state,
            result.rewards[:, [self.index]],
            (result.terminated.all(axis=1) & has_restarted)[:, None],
            result.truncated,
            self._mine(result.final_observations, has_ended),
            result.final_state,
        )

    def save_state(self) -> dict[str, Any]:
        """All that `load_state` needs to go on bit for bit, the others' memories included."""
        return {
            "env": self.env.save_state(),
            "others": copy.deepcopy(self.others),
            "seen": tuple(seen.copy() for seen in self._seen),
            "n_steps": self.n_steps,
        }

    def load_state(self, saved: dict[str, Any]) -> None:
        """Go on from `save_state`."""
        self.env.load_state(saved["env"])
        self.others = copy.deepcopy(saved["others"])
        self._seen = tuple(seen.copy() for seen in saved["seen"])
        self.n_steps = saved["n_steps"]

    def _mine(self, observations: Observations, is_silent: npt.NDArray[np.bool_]) -> Observations:
        mine = observations[self.index].copy()
        mine[is_silent] = 0
        return (mine,)

    def _begin(self, has_restarted: npt.NDArray[np.bool_]) -> None:
        if has_restarted.all():
            begin_all(list(self.others.values()), self.n_envs)
        elif has_restarted.any():
            for agent, policy in self.others.items():
                if isinstance(policy, RestartablePolicy):
                    policy.begin_some(has_restarted)
                elif isinstance(policy, StatefulPolicy):
                    raise ValueError(
                        f"{has_restarted.sum()} of {self.n_envs} copies started anew, and the "
                        f"policy of {agent!r}, a {type(policy).__name__}, remembers, but has no "
                        "begin_some; use one copy, or another policy"
                    )


def _find_restarts(result: Outcome) -> npt.NDArray[np.bool_]:
    """Copies that show the first observations of another episode, shape (n_envs,).

    Where all agents have ended some environments wait for the clock: then nothing differs.
    """
    has_restarted = result.truncated.copy()
    for now, last in zip(result.observations, result.final_observations, strict=True):
        has_restarted |= (now != last).any(axis=1)
    return has_restarted
