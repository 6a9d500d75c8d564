"""Vectorised environments as Stable-Baselines3 wants them.

Its learners also take the single environments, which they put into their own
`DummyVecEnv`, one call a copy; this is the fast way.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.vector import VectorEnv
from stable_baselines3.common.vec_env import VecEnv


class StableVecEnv(VecEnv):
    """A Gymnasium `VectorEnv` that resets copies in the step that ends them.

    Parameters
    ----------
    env : VectorEnv
        With autoreset mode SAME_STEP and `final_obs` an array, as of
        `TradingVecEnv`, `SessionVecEnv` and `views.SoleAgentVecEnv`.
    reward_scale : float
        By which rewards are multiplied.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], reward_scale: float = 1.0) -> None:
        self.env = env  # before super(), which asks it for its render mode
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self._reward_scale = reward_scale
        self._actions: npt.NDArray[Any] = np.zeros(0)

    def reset(self) -> npt.NDArray[np.float32]:
        """First observations; seeded by the last call of `seed`."""
        seed = self._seeds[0]
        self._reset_seeds()
        return self.env.reset(seed=seed)[0]

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Note the actions of the next step."""
        self._actions = actions

    def step_wait(self) -> Any:
        """Take the step: observations, rewards, whether copies have ended, infos."""
        observations, rewards, terminated, truncated, info = self.env.step(self._actions)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(terminated | truncated):
            infos[i] = {
                "terminal_observation": info["final_obs"][i],
                "TimeLimit.truncated": bool(truncated[i]),
            }
        scaled = (rewards * self._reward_scale).astype(np.float32)
        return observations, scaled, terminated | truncated, infos

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The attribute of the whole, once a copy."""
        return [getattr(self.env, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refused.

        Raises
        ------
        AttributeError
        """
        raise AttributeError(f"{attr_name}: the copies share one state and have no attributes")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> Any:
        """`action_masks`, a row a copy, as learners that mask actions ask for it; else refused.

        Raises
        ------
        AttributeError
        """
        if method_name != "action_masks":
            raise AttributeError(
                f"{method_name}: the copies share one state and have no methods but action_masks"
            )
        masks = getattr(self.env, method_name)()
        return [masks[i] for i in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """No copy is wrapped."""
        return [False] * len(list(self._get_indices(indices)))
