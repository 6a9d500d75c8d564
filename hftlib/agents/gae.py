"""Advantages of a rollout, with the two ways an episode can end kept apart.

A terminated agent has no future: nothing is added for it. A truncated episode
would have gone on: its last step is completed by the value of its last state.

Source: Schulman et al. (2016), High-dimensional continuous control using
generalized advantage estimation, arXiv 1506.02438.
"""

import torch
from torch import Tensor


def estimate_advantages(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    ended: Tensor,
    gamma: float,
    gae_lambda: float,
) -> Tensor:
    """Generalized advantage estimates; add `values` for the targets of the critic.

    Parameters
    ----------
    rewards, values : tensors of shape (n_steps, n)
    next_values : tensor of shape (n_steps, n)
        Value of the state that each step led to: at a truncation that of the last state, not of
        the first of the next episode. Not read where `terminated`.
    terminated : bool tensor of shape (n_steps, n)
        Whether there is no future after this step.
    ended : bool tensor of shape (n_steps, n)
        Whether the next step, if there is one, belongs to another episode.

    Returns
    -------
    tensor of shape (n_steps, n)
        Steps of one episode never depend on those of another, be they nan.
    """
    errors = rewards + gamma * next_values.masked_fill(terminated, 0.0) - values
    advantages = torch.empty_like(errors)
    following = torch.zeros_like(errors[0])
    cut = terminated | ended
    for t in range(len(errors) - 1, -1, -1):
        following = errors[t] + gamma * gae_lambda * following.masked_fill(cut[t], 0.0)
        advantages[t] = following
    return advantages
