"""Policies as one ONNX file: all seeds of all algorithms, and how much they differ.

The graph takes observations and gives the action of an `Ensemble` with
`FixedWeights`: each algorithm's seeds have one vote each, the algorithms fixed
weights. Beside it stands `spread`, the standard deviation of the policies around
that action, by the same weights. onnxruntime needs no torch to run it.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from hftlib.agents.ensemble import FixedWeights
from hftlib.agents.online_policy import Design, LearntPolicy, Weights, read_policy
from hftlib.models.extractors import WindowAttention, WindowLSTM
from hftlib.paths import read_json, replace_file

INPUT = "observation"
OUTPUTS = ("action", "spread")
SAME = ("window_bars", "feature_names", "n_assets", "n_account", "action_kind", "low", "high")

Trained = tuple[Weights, Design]


class PolicyGraph(NamedTuple):
    """What an exported graph expects and answers."""

    algos: tuple[str, ...]
    shares: tuple[float, ...]  # of each algorithm in the action; they sum to 1
    n_seeds: tuple[int, ...]  # of each algorithm
    feature_names: tuple[str, ...]
    window_bars: int
    n_assets: int
    n_account: int
    low: tuple[float, ...]
    high: tuple[float, ...]


class _Windows(nn.Module):
    """`WindowLSTM` or `WindowAttention`, for any number of observations once traced."""

    def __init__(self, extractor: WindowLSTM | WindowAttention) -> None:
        super().__init__()
        self.extractor = extractor

    def forward(self, observations: Tensor) -> Tensor:
        """As the extractor's own, whose `len(observations)` a trace takes for a constant."""
        own = self.extractor
        before, account = observations[:, : own.n_before], observations[:, own.n_before :]
        windows = before.reshape(-1, own.window_bars, own.n_features)
        read = own.read(windows).reshape(-1, own.features_dim - account.shape[1])
        return torch.cat([read, account], dim=1)


class _Greedy(nn.Module):
    """A policy's action within its bounds, as `LearntPolicy.act`."""

    low: Tensor
    high: Tensor

    def __init__(self, policy: LearntPolicy) -> None:
        super().__init__()
        design = policy.design
        layers = list(policy.network)
        if isinstance(layers[0], WindowLSTM | WindowAttention):
            layers[0] = _Windows(layers[0])
        self.network = nn.Sequential(*layers)
        self.is_unbounded = design.algo == "ppo"
        self.register_buffer("low", torch.tensor(design.low))
        self.register_buffer("high", torch.tensor(design.high))

    def forward(self, observations: Tensor) -> Tensor:
        """Shape (n, n_inputs) to (n, n_assets)."""
        outputs: Tensor = self.network(observations)
        if self.is_unbounded:
            return torch.maximum(torch.minimum(outputs, self.high), self.low)
        return self.low + (outputs + 1) * ((self.high - self.low) / 2)


class _Mixture(nn.Module):
    """Weighted mean of policies, and their standard deviation around it."""

    votes: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, policies: Sequence[_Greedy], votes: Sequence[float]) -> None:
        super().__init__()
        self.policies = nn.ModuleList(policies)
        self.register_buffer("votes", torch.tensor(votes)[:, None, None])
        self.register_buffer("low", policies[0].low.clone())
        self.register_buffer("high", policies[0].high.clone())

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Shape (n, n_inputs) to two of (n, n_assets)."""
        each = torch.stack([policy(observations) for policy in self.policies])
        action = (self.votes * each).sum(dim=0)
        spread = (self.votes * (each - action).square()).sum(dim=0).sqrt()
        # rounding of the sum may step over a bound
        return torch.maximum(torch.minimum(action, self.high), self.low), spread


def read_trained(folder: Path) -> list[Trained]:
    """Weights and design of every seed that stage 41 left in a folder, in the seeds' order.

    Raises
    ------
    FileNotFoundError
        If the manifest or a seed's file is not there.
    """
    n_seeds = len(read_json(folder / "manifest.json")["seeds"])
    return [read_policy(folder / f"seed_{k}.npz") for k in range(n_seeds)]


def export_policies(
    path: Path,
    members: Mapping[str, Sequence[Trained]],
    weights: Mapping[str, float] | None = None,
) -> PolicyGraph:
    """Write an ONNX file; equal members and weights give equal bytes.

    Input `observation`, float32 of shape (n, n_inputs); outputs `action` and `spread`, float32 of
    shape (n, n_assets). Bounds of the action are those of the action space; `spread` is in the
    same unit and 0 of a single policy.

    Parameters
    ----------
    path : file to write
    members : mapping of algorithm to the weights and designs of its seeds
        All of one task: they must agree in what they observe and in their bounds.
    weights : mapping of algorithm to number, optional
        As of `FixedWeights`: none negative, scaled to sum to 1. Equal by default.

    Raises
    ------
    ValueError
        If there is no member or no seed, a weight is missing or surplus, actions are choices
        instead of target weights, or two designs differ; names the algorithm and the field.
    """
    sizes = {algo: len(seeds) for algo, seeds in members.items()}
    if not sizes or not all(sizes.values()):
        raise ValueError(f"members are {sizes}; expected at least one, with at least one seed")
    given = dict.fromkeys(members, 1.0) if weights is None else dict(weights)
    if given.keys() != members.keys():
        raise ValueError(
            f"weights are of {sorted(given)}, members of {sorted(members)}; pass one each"
        )
    shares = FixedWeights([given[algo] for algo in members]).weights.tolist()
    design = next(iter(members.values()))[0][1]
    for algo, seeds in members.items():
        for k, (_, own) in enumerate(seeds):
            _check_design(own, design, f"seed {k} of {algo}")
    policies = [_Greedy(LearntPolicy(*each)) for seeds in members.values() for each in seeds]
    votes = np.repeat(
        [w / sizes[algo] for w, algo in zip(shares, members, strict=True)], [*sizes.values()]
    )
    write_graph(path, _Mixture(policies, votes.tolist()), design.n_inputs)
    return PolicyGraph(
        tuple(members),
        tuple(shares),
        tuple(sizes.values()),
        design.feature_names,
        design.window_bars,
        design.n_assets,
        design.n_account,
        design.low,
        design.high,
    )


def _check_design(own: Design, first: Design, where: str) -> None:
    if own.action_kind != "Box":
        raise ValueError(
            f"{where} chooses among {own.choices}; a served policy gives target weights: train it "
            'with action_kind="continuous"'
        )
    for name in SAME:
        mine, theirs = getattr(own, name), getattr(first, name)
        if mine != theirs:
            raise ValueError(
                f"{name} of {where} is {mine}, of the first policy {theirs}; export policies of "
                "one task"
            )


def write_graph(path: Path, network: nn.Module, n_inputs: int) -> None:
    """Write a network that gives `action` and `spread` for observations of shape (n, n_inputs)."""
    names = (INPUT, *OUTPUTS)
    # the older exporter, as for the forecaster: equal weights give equal bytes
    with warnings.catch_warnings(), replace_file(path) as temporary:
        warnings.simplefilter("ignore")  # deprecation, and sizes that are constants here
        torch.onnx.export(
            network.eval(),
            (torch.zeros(2, n_inputs),),
            temporary,
            input_names=(INPUT,),
            output_names=OUTPUTS,
            dynamic_axes={name: {0: "n"} for name in names},
            external_data=False,
            dynamo=False,
        )
