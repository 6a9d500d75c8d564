"""One agent alone with the market: Gymnasium environments for single-agent learners.

`hftlib/MarketMaking-v0` has a maker and `hftlib/Execution-v0` an executor:
`MarketMakingEnv` and `ExecutionEnv`, or many copies at a time with
`gymnasium.make_vec`. Actions, observations and rewards are those of
`MarketEnv`. With `n_bins` actions are MultiDiscrete, which PPO and A2C of
Stable-Baselines3 can learn; its DQN wants Discrete and cannot. SAC and TD3
learn the continuous ones.
"""

from typing import Any, ClassVar

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from hftlib.envs.backends import Plan
from hftlib.envs.desk import TERMS
from hftlib.envs.market_batch import MarketVecEnv
from hftlib.envs.roles import Executor, Maker, MarketError, Role
from hftlib.envs.rules import MarketSettings, RewardWeights, RiskLimits
from hftlib.envs.transition import put_rows

Observation = npt.NDArray[np.float32]
Action = npt.NDArray[Any]


class SoleAgentEnv(gymnasium.Env[Observation, Action]):
    """One agent of a role and one market.

    **Action**, **Observation**, **Reward** as of `MarketEnv` and the role.

    **Start** the world of the seed, `reset(seed=…)`; without one the next episode
    of the same world.
    **Termination** the equity is `max_drawdown` below its peak.
    **Truncation** after `episode_steps`.
    **Info** `terms` of the reward by name, `equity` (currency), `position` (lots),
    `mid` (ticks, of the book without the agent's orders).

    Parameters
    ----------
    role : Maker, Executor or Taker
    market, risk, reward, books, n_bins
        As of `MarketVecEnv`.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]

    def __init__(
        self,
        role: Role,
        *,
        market: MarketSettings | None = None,
        risk: RiskLimits | None = None,
        reward: RewardWeights | None = None,
        books: Plan | None = None,
        n_bins: int | None = None,
    ) -> None:
        self._vec = SoleAgentVecEnv(
            1, role, market=market, risk=risk, reward=reward, books=books, n_bins=n_bins
        )
        self.observation_space = self._vec.single_observation_space
        self.action_space = self._vec.single_action_space
        self._has_begun = self._is_running = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode: in the world `seed`, or the next one of the same world."""
        super().reset(seed=seed)
        if seed is None and not self._has_begun:
            seed = int(self.np_random.integers(2**31))
        observations, infos = self._vec.reset(seed=seed)
        self._has_begun = self._is_running = True
        return observations[0], _first(infos)

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Send the agent's orders, and run the market for one decision interval.

        Raises
        ------
        MarketError
            If the action is of a wrong shape or type, nan or out of bounds.
        RuntimeError
            If the episode has ended or not begun.
        """
        if not self._is_running:
            raise RuntimeError("the episode has ended or not begun; call reset() first")
        action = np.asarray(action)
        if action.shape != self.action_space.shape:
            raise MarketError(
                f"action has shape {action.shape}; expected {self.action_space.shape}"
            )
        observations, rewards, terminated, truncated, infos = self._vec.advance(action[None])
        ends = bool(terminated[0]), bool(truncated[0])
        self._is_running = not any(ends)
        return observations[0], rewards.item(0), *ends, _first(infos)


class SoleAgentVecEnv(VectorEnv[Observation, Action, npt.NDArray[Any]]):
    """`num_envs` copies of `SoleAgentEnv`, stepped by compiled code.

    Copy i, reset with `seed`, follows `SoleAgentEnv` reset with `seed + i` bit for
    bit. A copy that ends is reset within the same step: the observation
    returned is the first of its next episode, and the last one of the old
    episode is `info["final_obs"][i]`, valid where `info["_final_obs"][i]`; the
    other infos are those of the step that ended it.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": [],
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }
    render_mode = None

    def __init__(
        self,
        num_envs: int,
        role: Role,
        *,
        market: MarketSettings | None = None,
        risk: RiskLimits | None = None,
        reward: RewardWeights | None = None,
        books: Plan | None = None,
        n_bins: int | None = None,
    ) -> None:
        self.num_envs = num_envs
        self._env = MarketVecEnv(
            {getattr(role, "kind", "agent"): role},
            num_envs,
            market=market,
            risk=risk,
            reward=reward,
            books=books,
            n_bins=n_bins,
            auto_reset=False,
        )
        self.single_observation_space = self._env.observation_spaces[0]
        self.single_action_space = self._env.action_spaces[0]
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start every copy: copy i in the world `seed + i`, or the next episodes of the same."""
        (observations,), _ = self._env.reset(seed)
        return observations, self._infos(np.zeros((self.num_envs, len(TERMS))))

    def step(
        self, actions: Action
    ) -> tuple[
        Observation,
        npt.NDArray[np.float64],
        npt.NDArray[np.bool_],
        npt.NDArray[np.bool_],
        dict[str, Any],
    ]:
        """Step every copy, and reset those that have ended.

        Raises
        ------
        MarketError
            If an action is of a wrong shape or type, nan or out of bounds; or
            if the copies have not begun.
        """
        observations, rewards, terminated, truncated, infos = self.advance(actions)
        ended = terminated | truncated
        if ended.any():
            infos |= {"final_obs": observations, "_final_obs": ended}
            (first,), _ = self._env.restart(ended)
            observations = put_rows(observations, ended, first)
        return observations, rewards, terminated, truncated, infos

    def advance(
        self, actions: Action
    ) -> tuple[
        Observation,
        npt.NDArray[np.float64],
        npt.NDArray[np.bool_],
        npt.NDArray[np.bool_],
        dict[str, Any],
    ]:
        """Step every copy, and leave those that have ended as they are."""
        result = self._env.step([actions])
        terminated = result.terminated[:, 0]
        truncated = result.truncated & ~terminated
        infos = self._infos(result.terms[:, 0])
        return result.observations[0], result.rewards[:, 0], terminated, truncated, infos

    def save_state(self) -> dict[str, Any]:
        """All that `load_state` needs to go on bit for bit."""
        return self._env.save_state()

    def load_state(self, saved: dict[str, Any]) -> None:
        """Go on from `save_state` of an environment with the same arguments."""
        self._env.load_state(saved)

    def _infos(self, terms: npt.NDArray[np.float64]) -> dict[str, Any]:
        accounts = self._env.accounts()
        return {
            "terms": {name: terms[:, k].copy() for k, name in enumerate(TERMS)},
            **{key: accounts[key][:, 0] for key in ("equity", "position", "mid")},
        }


def _first(infos: dict[str, Any]) -> dict[str, Any]:
    """The infos of the first copy."""
    return {
        key: _first(value) if isinstance(value, dict) else value.item(0)
        for key, value in infos.items()
    }


def register_views() -> None:
    """Make `hftlib/MarketMaking-v0` and `hftlib/Execution-v0` known to Gymnasium."""
    for name, role in (("MarketMaking", Maker()), ("Execution", Executor())):
        gymnasium.register(
            id=f"hftlib/{name}-v0",
            entry_point="hftlib.envs.views:SoleAgentEnv",
            vector_entry_point="hftlib.envs.views:SoleAgentVecEnv",
            kwargs={"role": role},
        )
