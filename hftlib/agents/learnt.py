"""Policies of trained weights: what a learner hands to an evaluation.

Weights are one flat dict of float32 arrays; the actor of agent "maker" is the
state dict of its network under names like "maker/actor/0.weight". The network
is rebuilt from them alone.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces

from hftlib.models.networks import Head, Network, make_head, rebuild_network

Weights = dict[str, npt.NDArray[np.float32]]
NOT_OF_THE_NETWORK = ("log_std",)  # of the exploration, see `SquashedGaussian`


class Trained(NamedTuple):
    """What a training of several agents gives.

    curve : points (step, measure, value) in the order of the training
    """

    seed: int
    weights: Weights
    curve: list[tuple[int, str, float]]


class LearntActor:
    """The policy of one agent without exploration: the same observations, the same actions.

    A box gets tanh of the outputs stretched to its bounds, a discrete space the
    choices of the largest outputs. With a memory (a recurrent network), `begin`
    comes before the first `act` of an episode.
    """

    def __init__(self, network: Network, head: Head) -> None:
        self._network, self._head = network, head
        self._hidden = torch.zeros(0, network.hidden_size)

    @classmethod
    def from_weights(
        cls,
        weights: Mapping[str, npt.NDArray[Any]],
        name: str,
        observation_space: spaces.Box,
        action_space: spaces.Space[Any],
    ) -> "LearntActor":
        """The actor of the agent `name`.

        Raises
        ------
        ValueError
            If there is none of that name, or it does not fit the spaces.
        """
        prefix = f"{name}/actor/"
        own = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        if not own:
            names = sorted({k.split("/")[0] for k in weights})
            raise ValueError(f"no actor {name!r} in the weights; they have {', '.join(names)}")
        network = rebuild_network({k: v for k, v in own.items() if k not in NOT_OF_THE_NETWORK})
        head = make_head(action_space)
        linear = [m for m in network.modules() if isinstance(m, torch.nn.Linear)]
        has = (linear[0].in_features, linear[-1].out_features)
        wants = (observation_space.shape[0], head.n_outputs)
        if has != wants:
            raise ValueError(
                f"the actor {name!r} has {has[0]} inputs and {has[1]} outputs, its spaces ask for "
                f"{wants[0]} and {wants[1]}; train it on this environment or load its own"
            )
        return cls(network.requires_grad_(False).eval(), head.requires_grad_(False))

    def begin(self, n: int) -> None:
        """Forget all; `n` episodes start, side by side."""
        self._hidden = torch.zeros(n, self._network.hidden_size)

    def begin_some(self, episodes: npt.NDArray[np.bool_]) -> None:
        """Forget those episodes, an array of shape (n,) after `begin(n)`; the others go on."""
        self._hidden = torch.where(torch.as_tensor(episodes)[:, None], 0.0, self._hidden)

    def act(self, observations: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """Actions of `n` episodes.

        Parameters
        ----------
        observations : array of shape (n, n_inputs)

        Returns
        -------
        float32 array of shape (n, n_actions) within the bounds of a Box, int64 of shape (n,) for
        a Discrete space, (n, n_actions) for a MultiDiscrete one

        Raises
        ------
        RuntimeError
            If the actor has a memory and `begin` has not been called for `n` episodes.
        """
        n = len(observations)
        if self._network.hidden_size and len(self._hidden) != n:
            raise RuntimeError(
                f"the actor remembers {len(self._hidden)} episodes and got {n} observations; "
                "call begin(n) at the start of an episode"
            )
        inputs = torch.as_tensor(np.asarray(observations, dtype=np.float32))
        with torch.no_grad():
            outputs, self._hidden = self._network.step(inputs, self._hidden)
            actions = self._head.to_actions(self._head.mode(outputs))
        return actions.numpy()
