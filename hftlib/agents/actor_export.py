"""One agent of several trained teams as an ONNX file: the mean of the seeds, and their spread.

The graph takes observations of the agent's role and gives actions in [-1, 1], as
`LearntActor` does: a box of numbers, of which a mean is an action too. Choices and actors with
a memory are refused. onnxruntime needs no torch to run it.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from torch import Tensor, nn

from hftlib.agents.learnt import NOT_OF_THE_NETWORK, LearntActor, Weights
from hftlib.agents.policy_export import write_graph
from hftlib.agents.teams import SCENE
from hftlib.envs.roles import Role
from hftlib.envs.settlement import LIMIT
from hftlib.models.networks import MLP, SquashedGaussian, rebuild_network


class _Actor(nn.Module):
    """A network and the mode of its head."""

    def __init__(self, network: MLP, head: SquashedGaussian) -> None:
        super().__init__()
        self.network, self.head = network, head

    def forward(self, observations: Tensor) -> Tensor:
        """Shape (n, n_inputs) to (n, n_actions)."""
        return self.head.to_actions(self.head.mode(self.network(observations)))


class _Mean(nn.Module):
    """Mean of actors, and their standard deviation around it."""

    def __init__(self, actors: Sequence[_Actor]) -> None:
        super().__init__()
        self.actors = nn.ModuleList(actors)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Shape (n, n_inputs) to two of (n, n_actions)."""
        each = torch.stack([actor(observations) for actor in self.actors])
        mean = each.mean(dim=0)
        # rounding of the sum may step over a bound
        return mean.clamp(-1.0, 1.0), (each - mean).square().mean(dim=0).sqrt()


class MeanOfSeeds:
    """The policy of the exported graph, by the actors that the training gave."""

    def __init__(self, seeds: Sequence[Weights], name: str, role: Role) -> None:
        seen = spaces.Box(-LIMIT, LIMIT, (len(role.observation_names),), np.float32)
        taken = spaces.Box(-1.0, 1.0, (len(role.action_names),), np.float32)
        self._actors = [LearntActor.from_weights(own, name, seen, taken) for own in seeds]

    def act(self, observations: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Mean action of the seeds, shape (n, n_inputs) to (n, n_actions)."""
        each = np.stack([actor.act(observations) for actor in self._actors])
        return each.mean(axis=0, dtype=np.float64).astype(np.float32)


def export_actors(path: Path, seeds: Sequence[Weights], name: str, role: Role) -> None:
    """Write an ONNX file; equal weights give equal bytes.

    Input `observation`, float32 of shape (n, n_inputs); outputs `action` and `spread`, float32 of
    shape (n, n_actions): mean over the seeds, and standard deviation around it.

    Parameters
    ----------
    path : file to write
    seeds : sequence of weights
        Of the teams that `train_team` gave or `read_team` reads, one a seed.
    name : of the agent in the teams
    role : of the agent

    Raises
    ------
    ValueError
        If there is no seed, no actor of that name, or one that does not fit the role or has a
        memory.
    """
    if not seeds:
        raise ValueError(f"no seeds of {name!r}; pass the weights of at least one")
    n_inputs, n_actions = len(role.observation_names), len(role.action_names)
    actors = [_read_actor(weights, name, n_inputs, n_actions) for weights in seeds]
    write_graph(path, _Mean(actors), n_inputs)


def read_team(path: Path) -> tuple[Weights, dict[str, Any]]:
    """Weights that `save_team` wrote, and its description of roles, market and limits.

    Raises
    ------
    ValueError
        If the file does not say what the team was trained in.
    """
    with np.load(path, allow_pickle=False) as data:
        if SCENE not in data.files:
            raise ValueError(f"{path} does not say what it was trained in; write it by save_team()")
        weights = {name: data[name] for name in data.files if name != SCENE}
        return weights, json.loads(str(data[SCENE]))


def _read_actor(weights: Mapping[str, Any], name: str, n_inputs: int, n_actions: int) -> _Actor:
    prefix = f"{name}/actor/"
    own = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    own = {k: v for k, v in own.items() if k not in NOT_OF_THE_NETWORK}
    if not own:
        names = sorted({k.split("/")[0] for k in weights})
        raise ValueError(f"no actor {name!r} in the weights; they have {', '.join(names)}")
    network = rebuild_network(own)
    if not isinstance(network, MLP):
        raise ValueError(
            f"the actor {name!r} remembers what it saw; a served one is asked for one observation "
            "at a time: train it with is_recurrent: false"
        )
    linear = [layer for layer in network if isinstance(layer, nn.Linear)]
    has = linear[0].in_features, linear[-1].out_features
    if has != (n_inputs, n_actions):
        raise ValueError(
            f"the actor {name!r} has {has[0]} inputs and {has[1]} outputs, its role asks for "
            f"{n_inputs} and {n_actions}; pass the role it was trained in"
        )
    return _Actor(network, SquashedGaussian(spaces.Box(-1.0, 1.0, (n_actions,))))
