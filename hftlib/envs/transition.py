"""What one step of all copies of the multi-agent market brings."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Observations = tuple[npt.NDArray[np.float32], ...]


class MarketTransition(NamedTuple):
    """One step of every copy, an `agents.multiagent.Outcome`.

    observations, final_observations : one array of shape (n_envs, n_inputs) an agent
    state, final_state : float32 of shape (n_envs, state_size)
    rewards : float64 of shape (n_envs, n_agents), currency
    terminated : bool of shape (n_envs, n_agents), ended by a limit, now or before
    truncated : bool of shape (n_envs,), the clock; the same for all copies
    terms : float64 of shape (n_envs, n_agents, 5), the rewards by `desk.TERMS`
    """

    observations: Observations
    state: npt.NDArray[np.float32]
    rewards: npt.NDArray[np.float64]
    terminated: npt.NDArray[np.bool_]
    truncated: npt.NDArray[np.bool_]
    final_observations: Observations
    final_state: npt.NDArray[np.float32]
    terms: npt.NDArray[np.float64]


def put_rows(
    rows: npt.NDArray[np.float32], where: npt.NDArray[np.bool_], new: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """A copy of the rows with new ones in the place of some."""
    rows = rows.copy()
    rows[where] = new
    return rows
