"""The task on which multi-agent learners are compared: three agents cover three landmarks.

Imported by our interpreter and by the peers', so that both learn and are
evaluated on the same environment; needs mpe2 and numpy alone. The return of an
episode is the sum over its steps of the mean reward over its agents: uniformly
random actions get about -26.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from mpe2 import simple_spread_v3
from pettingzoo import ParallelEnv

N_EPISODES = 200
FIRST_SEED = 1_000_000  # of the evaluation


def make_spread() -> ParallelEnv:
    """One copy: actions are Box(0, 1, (5,)), an episode is 25 steps and never terminates."""
    return simple_spread_v3.parallel_env(
        N=3, local_ratio=0.5, max_cycles=25, continuous_actions=True
    )


def evaluate(
    act: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]],
) -> npt.NDArray[np.float64]:
    """Returns of `N_EPISODES` episodes, always the same starts.

    Parameters
    ----------
    act : function
        From observations of shape (n_agents, n_inputs) to actions of shape
        (n_agents, n_actions), both in the order of `env.possible_agents`.

    Returns
    -------
    array of shape (N_EPISODES,)
    """
    env = make_spread()
    returns = np.zeros(N_EPISODES)
    for episode in range(N_EPISODES):
        seen, _ = env.reset(seed=FIRST_SEED + episode)
        while env.agents:
            actions = act(np.stack([seen[name] for name in env.possible_agents]))
            seen, rewards, *_ = env.step(dict(zip(env.possible_agents, actions, strict=True)))
            returns[episode] += np.mean(list(rewards.values()))
    return returns
