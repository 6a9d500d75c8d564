"""Actions of the multi-agent market: their spaces, and how a step reads them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from hftlib.envs.desk import N_ACTIONS
from hftlib.envs.roles import MarketError, Role


class ActionReader:
    """Checks the actions of all copies and agents, and turns bins into numbers in [-1, 1].

    Parameters
    ----------
    roles : mapping of name to Maker, Executor or Taker
    n_envs : int
    n_bins : int, optional
        Of discrete actions.

    Attributes
    ----------
    spaces : tuple of spaces, one an agent
    values : float64 array of shape (n_envs, n_agents, N_ACTIONS)
        The last actions, as the kernels take them.
    """

    def __init__(self, roles: Mapping[str, Role], n_envs: int, n_bins: int | None) -> None:
        if n_bins is not None and n_bins < 2:
            raise MarketError(f"n_bins is {n_bins}; expected 2 or more, or None for continuous")
        self._roles, self._n_envs, self._n_bins = roles, n_envs, n_bins
        self._bins = np.linspace(-1.0, 1.0, 1 if n_bins is None else n_bins)
        self.spaces: tuple[spaces.Space[Any], ...] = tuple(
            spaces.Box(-1.0, 1.0, (len(role.action_names),), np.float32)
            if n_bins is None
            else spaces.MultiDiscrete([n_bins] * len(role.action_names))
            for role in roles.values()
        )
        self.values = np.zeros((n_envs, len(roles), N_ACTIONS))

    def read(self, actions: Sequence[npt.NDArray[Any]], is_alive: npt.NDArray[np.bool_]) -> None:
        """Fill `values`.

        Parameters
        ----------
        actions : one array an agent
            Of shape (n_envs, n_actions): floats in [-1, 1], or bins.
        is_alive : bool array of shape (n_envs, n_agents)
            Actions of the others may be any numbers.

        Raises
        ------
        MarketError
            If an action is of a wrong shape, nan or out of bounds: names the agent.
        """
        if len(actions) != len(self._roles):
            raise MarketError(
                f"received actions of {len(actions)} agents; expected one array for each of "
                f"{', '.join(self._roles)}"
            )
        for a, (name, role) in enumerate(self._roles.items()):
            action, n = np.asarray(actions[a]), len(role.action_names)
            if action.shape != (self._n_envs, n):
                raise MarketError(
                    f"actions of {name!r} have shape {action.shape}; expected "
                    f"({self._n_envs}, {n}): {', '.join(role.action_names)}"
                )
            self.values[:, a, :n] = self._read_one(name, action, is_alive[:, a])

    def _read_one(
        self, name: str, action: npt.NDArray[Any], is_alive: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.float64]:
        kinds, low, high = ("f", -1, 1) if self._n_bins is None else ("iu", 0, self._n_bins - 1)
        if action.dtype.kind not in kinds:
            raise MarketError(
                f"actions of {name!r} are {action.dtype}; expected "
                f"{'floats' if self._n_bins is None else 'whole numbers'}"
            )
        good = ((action >= low) & (action <= high)).all(axis=1) | ~is_alive
        if not good.all():
            b = int(np.argmin(good))
            raise MarketError(
                f"action of {name!r} in copy {b} is {action[b].tolist()}; expected "
                f"{action.shape[1]} numbers from {low} to {high}: clip it, and look for nan in "
                "the policy"
            )
        action = np.where(is_alive[:, None], action, 0)
        return action if self._n_bins is None else self._bins[action]
