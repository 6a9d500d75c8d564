"""Small networks of the learners: perceptrons, a recurrent one, and heads that give actions.

Both networks have `step` (one decision) and `unroll` (a stretch of time), so
that a learner need not know which it holds: the memory of a perceptron has
width 0. Weights come from an explicit generator. All about a network is in its
state dict: `rebuild_network` needs nothing else.

Source: orthogonal weights and small last gain, Yu et al. (2022), The surprising
effectiveness of PPO in cooperative multi-agent games, arXiv 2103.01955.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn.functional import pad, softplus

Activation = Literal["tanh", "relu"]


class MLP(nn.Sequential):
    """Linear layers with an activation between them; `make_mlp` builds one."""

    hidden_size = 0
    relu: Tensor  # 1 or 0, so that saved weights tell the activation

    def step(self, inputs: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs of inputs of shape (n, n_inputs), and the memory, of shape (n, 0)."""
        return self(inputs), hidden

    def unroll(self, inputs: Tensor, starts: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """As `RecurrentNetwork.unroll`; every step for itself."""
        return self(inputs), inputs.new_empty((*inputs.shape[:-1], 0))


class RecurrentNetwork(nn.Module):
    """A perceptron, a GRU over time and a linear output."""

    def __init__(self, body: MLP, gru: nn.GRU, head: nn.Linear) -> None:
        super().__init__()
        self.body, self.gru, self.head = body, gru, head
        self.hidden_size = gru.hidden_size

    def step(self, inputs: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs of inputs of shape (n, n_inputs), and the next memory (n, hidden_size)."""
        features, _ = self.gru(self.body(inputs)[None], hidden[None].contiguous())
        return self.head(features[0]), features[0]

    def unroll(self, inputs: Tensor, starts: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Walk through time.

        Parameters
        ----------
        inputs : tensor of shape (n_steps, n, n_inputs)
        starts : bool tensor of shape (n_steps, n)
            Whether an episode starts with this step: the memory is emptied before it.
        hidden : tensor of shape (n, hidden_size)
            Memory before the first step.

        Returns
        -------
        outputs of shape (n_steps, n, n_outputs), memory after every step (n_steps, n, hidden_size)
        """
        features = self.body(inputs)
        # One call of the GRU for each stretch without a start, rather than one for each step.
        edges = starts[1:].any(dim=1).nonzero()[:, 0].add(1).tolist()
        memories = []
        for first, last in zip([0, *edges], [*edges, len(inputs)], strict=True):
            hidden = torch.where(starts[first, :, None], 0.0, hidden)
            memory, _ = self.gru(features[first:last], hidden[None].contiguous())
            memories.append(memory)
            hidden = memory[-1]
        memory = torch.cat(memories)
        return self.head(memory), memory


Network = MLP | RecurrentNetwork


def make_mlp(
    sizes: Sequence[int],
    gain_last: float,
    generator: torch.Generator,
    *,
    activation: Activation = "tanh",
    is_body: bool = False,
) -> MLP:
    """A perceptron with orthogonal weights and zero biases.

    Parameters
    ----------
    sizes : inputs, hidden layers, outputs
    gain_last : scale of the last layer's weights; .01 lets a policy start near its middle
    is_body : whether an activation follows the last layer too, of the gain of the others
    """
    if len(sizes) < 2:
        raise ValueError(f"sizes is {list(sizes)}; expected inputs and outputs at least")
    gain = nn.init.calculate_gain(activation)
    layers: list[nn.Module] = []
    for k, (n_in, n_out) in enumerate(pairwise(sizes)):
        is_last = k == len(sizes) - 2 and not is_body
        layers.append(_make_linear(n_in, n_out, gain_last if is_last else gain, generator))
        if not is_last:
            layers.append(_find_activation(activation)())
    network = MLP(*layers)
    network.register_buffer("relu", torch.tensor(float(activation == "relu")))
    return network


def make_recurrent(
    sizes: Sequence[int],
    gain_last: float,
    generator: torch.Generator,
    *,
    activation: Activation = "tanh",
) -> RecurrentNetwork:
    """As `make_mlp`, with a GRU after the last hidden layer and as wide as it."""
    if len(sizes) < 3:
        raise ValueError(f"sizes is {list(sizes)}; a recurrent network needs a hidden layer")
    body = make_mlp(sizes[:-1], 1.0, generator, activation=activation, is_body=True)
    gru = nn.GRU(sizes[-2], sizes[-2], device="meta").to_empty(device="cpu")  # draws nothing
    for name, values in gru.named_parameters():
        if name.startswith("weight"):
            for gate in values.data.chunk(3):
                nn.init.orthogonal_(gate, generator=generator)
        else:
            nn.init.zeros_(values)
    return RecurrentNetwork(body, gru, _make_linear(sizes[-2], sizes[-1], gain_last, generator))


def rebuild_network(weights: Mapping[str, Any]) -> Network:
    """The network whose state dict, as arrays or tensors, this is."""
    tensors = {name: torch.tensor(np.asarray(values)) for name, values in weights.items()}
    is_recurrent = "gru.weight_hh_l0" in tensors
    prefix = "body." if is_recurrent else ""
    layers = [
        values.shape
        for name, values in tensors.items()
        if name.endswith(".weight") and name.removeprefix(prefix)[0].isdigit()
    ]
    if not layers or f"{prefix}relu" not in tensors:
        raise ValueError(
            f"expected the whole state dict of a network (0.weight, ..., relu); "
            f"got {', '.join(sorted(tensors)) or 'nothing'}; save net.state_dict()"
        )
    sizes = [layers[0][1], *(shape[0] for shape in layers)]
    activation: Activation = "relu" if tensors[f"{prefix}relu"] else "tanh"
    network: Network
    if is_recurrent:
        sizes.append(len(tensors["head.bias"]))
        network = make_recurrent(sizes, 1.0, torch.Generator(), activation=activation)
    else:
        network = make_mlp(sizes, 1.0, torch.Generator(), activation=activation)
    network.load_state_dict(tensors)
    return network


class SquashedGaussian(nn.Module):
    """A box: tanh of a normal variable, stretched to the bounds.

    Outputs of the network are the means; the log standard deviations are
    parameters of their own, the same for every observation. What is stored of an
    action is the normal variable ("raw"): its tanh cannot be inverted near the bounds.
    """

    low: Tensor
    half_range: Tensor

    def __init__(self, space: spaces.Box) -> None:
        super().__init__()
        if len(space.shape) != 1 or not (np.isfinite(space.low) & np.isfinite(space.high)).all():
            raise ValueError(f"expected a one-dimensional Box with finite bounds, got {space}")
        self.n_outputs = self.n_actions = space.shape[0]
        self.raw_type = torch.float32
        self.log_std = nn.Parameter(torch.zeros(self.n_outputs))
        low = torch.as_tensor(space.low, dtype=torch.float32)
        self.register_buffer("low", low)
        self.register_buffer("half_range", (torch.as_tensor(space.high) - low) / 2)

    def sample(self, outputs: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Raw actions, shape (n, n_actions), and their log-probabilities, shape (n,)."""
        raw = outputs + self.log_std.exp() * _draw_normal(outputs, generator)
        return raw, self.log_prob(outputs, raw)

    def log_prob(self, outputs: Tensor, raw: Tensor) -> Tensor:
        """Log-density of the stretched actions, exact, shape (n,)."""
        z = (raw - outputs) * (-self.log_std).exp()
        constant = self.log_std + (math.log(2 * math.pi) / 2 + self.half_range.log())
        return -(z * z / 2 + log_derivative_of_tanh(raw) + constant).sum(dim=1)

    def entropy(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Entropy, with gradients, shape (n,); one draw estimates the part that tanh has in it."""
        raw = outputs + self.log_std.exp() * _draw_normal(outputs, generator)
        normal = self.log_std + (math.log(2 * math.pi * math.e) / 2 + self.half_range.log())
        return (normal + log_derivative_of_tanh(raw)).sum(dim=1)

    def mode(self, outputs: Tensor) -> Tensor:
        """Raw actions without noise."""
        return outputs

    def to_actions(self, raw: Tensor) -> Tensor:
        """What the environment takes, float32."""
        return self.low + (raw.tanh() + 1) * self.half_range


class Categoricals(nn.Module):
    """Independent choices: one of a Discrete space, several of a MultiDiscrete one.

    Outputs of the network are the logits, those of the first choice first.
    """

    slots: Tensor

    def __init__(self, space: spaces.Discrete | spaces.MultiDiscrete) -> None:
        super().__init__()
        self.is_single = isinstance(space, spaces.Discrete)
        counts = np.array([space.n]) if isinstance(space, spaces.Discrete) else space.nvec
        if counts.ndim != 1 or np.any(space.start != 0):
            raise ValueError(f"expected choices in a row that count from 0, got {space}")
        self.n_outputs, self.n_actions = int(counts.sum()), len(counts)
        self.raw_type = torch.int64
        self.is_even = bool((counts == counts[0]).all())
        column = np.arange(counts.max())
        slots = np.where(
            column < counts[:, None], (counts.cumsum() - counts)[:, None] + column, self.n_outputs
        )
        self.register_buffer("slots", torch.as_tensor(slots))  # n_outputs: no such choice

    def sample(self, outputs: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Raw actions, shape (n, n_actions), and their log-probabilities, shape (n,)."""
        logits = self._log_softmax(outputs)
        noise = torch.empty_like(logits).exponential_(generator=generator)
        raw = (logits.exp() / noise).argmax(dim=2)
        return raw, logits.gather(2, raw[:, :, None]).sum(dim=(1, 2))

    def log_prob(self, outputs: Tensor, raw: Tensor) -> Tensor:
        """Log-probability of the choices together, shape (n,)."""
        return self._log_softmax(outputs).gather(2, raw[:, :, None]).sum(dim=(1, 2))

    def entropy(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Exact; nothing is drawn. Shape (n,)."""
        logits = self._log_softmax(outputs)
        return -(logits.exp() * logits).sum(dim=(1, 2))

    def mode(self, outputs: Tensor) -> Tensor:
        """Most probable choices."""
        return self._log_softmax(outputs).argmax(dim=2)

    def to_actions(self, raw: Tensor) -> Tensor:
        """What the environment takes, int64."""
        return raw[:, 0] if self.is_single else raw

    def _log_softmax(self, outputs: Tensor) -> Tensor:
        """Shape (n, n_actions, n_choices); -1e9 where a choice does not exist."""
        if self.is_even:
            logits = outputs.view(len(outputs), *self.slots.shape)
        else:
            logits = pad(outputs, (0, 1), value=-1e9)[:, self.slots]
        return logits.log_softmax(dim=2)


Head = SquashedGaussian | Categoricals


def make_head(space: spaces.Space[Any]) -> Head:
    """The head for an action space."""
    if isinstance(space, spaces.Box):
        return SquashedGaussian(space)
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return Categoricals(space)
    raise ValueError(f"expected a Box, Discrete or MultiDiscrete action space, got {space}")


def log_derivative_of_tanh(values: Tensor) -> Tensor:
    """log(1 - tanh(x)^2), without loss of digits far from 0."""
    return 2 * (math.log(2) - values - softplus(-2 * values))


def _draw_normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.empty_like(like).normal_(generator=generator)


def _make_linear(n_in: int, n_out: int, gain: float, generator: torch.Generator) -> nn.Linear:
    layer = nn.utils.skip_init(nn.Linear, n_in, n_out)
    nn.init.orthogonal_(layer.weight, gain, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


def _find_activation(name: str) -> type[nn.Module]:
    kinds: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU}
    if name not in kinds:
        raise ValueError(f"activation is {name!r}; expected one of {', '.join(kinds)}")
    return kinds[name]
