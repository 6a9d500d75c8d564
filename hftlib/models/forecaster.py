"""The forecaster: convolutions, an LSTM, attention over time, and heads with uncertainty.

A window of bars goes through three convolutions that halve its length and an
LSTM; attention weighs the LSTM's states. Heads give mean and standard deviation
of the next bar's log variance and log return, and the probability that it
rises. HAR's terms and those of leverage skip all of it: the network starts as
their least-squares fit and learns what that leaves. Inputs are scaled inside, so
that saved weights or an exported file are all that a forecast needs.

Source: Corsi (2009), J. Financial Econometrics 7(2), for HAR; Nix & Weigend (1994),
ICNN, for the heads; Lakshminarayanan et al. (2017), NeurIPS, for the ensemble.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from hftlib.features.scaling import CLIP
from hftlib.models.examples import TERMS
from hftlib.paths import replace_file

Weights = dict[str, npt.NDArray[np.float32]]
KERNEL = 3
STRIDE = 2
SMALLEST_CHANCE = 1e-7  # of a direction; its logarithm stays finite
LOG_SD_BOUND = 3.0  # a standard deviation stays within a factor of 20 of where it starts


class Outputs(NamedTuple):
    """Forecasts of n windows, each of shape (n,); attention (n, n_states), oldest first."""

    variance_mean: Tensor  # of the next bar's log variance
    variance_sd: Tensor
    return_mean: Tensor  # of its log return
    return_sd: Tensor
    up_probability: Tensor
    attention: Tensor


class Forecaster(nn.Module):
    """One member of the ensemble; `make_forecaster` builds one, `from_weights` rebuilds it."""

    centre: Tensor
    width: Tensor
    start: Tensor

    def __init__(self, n_channels: int, filters: Sequence[int], n_hidden: int) -> None:
        super().__init__()
        sizes = [n_channels, *filters]
        self.convolutions = nn.ModuleList(
            nn.utils.skip_init(nn.Conv1d, n_in, n_out, KERNEL, stride=STRIDE)
            for n_in, n_out in pairwise(sizes)
        )
        self.lstm = nn.LSTM(filters[-1], n_hidden, batch_first=True, device="meta").to_empty(
            device="cpu"
        )
        self.query = nn.utils.skip_init(nn.Linear, n_hidden, n_hidden)
        self.score = nn.utils.skip_init(nn.Linear, n_hidden, 1, bias=False)
        self.head = nn.utils.skip_init(nn.Linear, n_hidden, 5)
        self.skip = nn.utils.skip_init(nn.Linear, len(TERMS), 1)
        self.register_buffer("centre", torch.zeros(n_channels))
        self.register_buffer("width", torch.ones(n_channels))
        self.register_buffer("start", torch.zeros(2))  # log sd of both targets at first

    @classmethod
    def from_weights(cls, weights: Mapping[str, npt.NDArray[np.float32]]) -> Self:
        """The network whose state dict this is."""
        filters = [
            values.shape[0]
            for name, values in weights.items()
            if name.startswith("convolutions.") and name.endswith(".weight")
        ]
        if not filters or "centre" not in weights or "head.weight" not in weights:
            raise ValueError(
                f"expected the whole state dict of a forecaster (centre, convolutions.0.weight, "
                f"...); got {', '.join(sorted(weights)) or 'nothing'}"
            )
        network = cls(len(weights["centre"]), filters, weights["head.weight"].shape[1])
        network.load_state_dict({name: torch.as_tensor(v) for name, v in weights.items()})
        return network.eval()

    def forward(
        self,
        windows: Tensor,
        terms: Tensor,
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Outputs:
        """Forecast.

        Parameters
        ----------
        windows : tensor of shape (n, window, n_channels)
            Unscaled, newest row last.
        terms : tensor of shape (n, 6)
            As `TERMS`.
        dropout : float
            Share of the LSTM's inputs and of the context left out, in training.
        """
        x = ((windows - self.centre) / self.width).clamp(-CLIP, CLIP).transpose(1, 2)
        for convolution in self.convolutions:
            x = torch.relu(convolution(pad(x, (find_padding(x.shape[2]), 0))))
        states, _ = self.lstm(_drop(x.transpose(1, 2), dropout, generator))
        attention = self.score(torch.tanh(self.query(states)))[:, :, 0].softmax(dim=1)
        context = (attention[:, :, None] * states).sum(dim=1)
        raw = self.head(_drop(context, dropout, generator))
        mean = self.skip(terms)[:, 0] + raw[:, 0]
        log_sd = self.start + LOG_SD_BOUND * torch.tanh(raw[:, 1:3] / LOG_SD_BOUND)
        scale = torch.exp(mean.detach() / 2)  # returns are in units of the volatility ahead
        return Outputs(
            mean,
            log_sd[:, 0].exp(),
            scale * raw[:, 3],
            scale * log_sd[:, 1].exp(),
            raw[:, 4].sigmoid(),
            attention,
        )

    def export_weights(self) -> Weights:
        """The state dict as arrays."""
        return {name: value.numpy().copy() for name, value in self.state_dict().items()}


class Ensemble(nn.Module):
    """Members with one vote each: mean and standard deviation are those of their mixture."""

    def __init__(self, members: Sequence[Forecaster]) -> None:
        super().__init__()
        if not members:
            raise ValueError("an ensemble of no members; give at least one forecaster")
        self.members = nn.ModuleList(members)

    def forward(self, windows: Tensor, terms: Tensor) -> Outputs:
        """As `Forecaster.forward`."""
        each = [member(windows, terms) for member in self.members]
        variance_mean, variance_sd, return_mean, return_sd, up, attention = (
            torch.stack(parts) for parts in zip(*each, strict=True)
        )
        return Outputs(
            variance_mean.mean(dim=0),
            mix_deviations(variance_mean, variance_sd),
            return_mean.mean(dim=0),
            mix_deviations(return_mean, return_sd),
            up.mean(dim=0),
            attention.mean(dim=0),
        )


def make_forecaster(
    n_channels: int, filters: Sequence[int], n_hidden: int, generator: torch.Generator
) -> Forecaster:
    """A forecaster with weights from the generator; heads are 0, so that the skip acts alone."""
    network = Forecaster(n_channels, filters, n_hidden)
    for name, values in network.named_parameters():
        if values.ndim == 1 or name.startswith(("head", "skip")):
            nn.init.zeros_(values)
        elif name.startswith("convolutions"):
            nn.init.kaiming_uniform_(values, nonlinearity="relu", generator=generator)
        else:
            for gate in values.data.chunk(4 if name.startswith("lstm") else 1):
                nn.init.orthogonal_(gate, generator=generator)
    return network


def start_from_data(
    network: Forecaster,
    centre: npt.ArrayLike,
    width: npt.ArrayLike,
    terms: npt.NDArray[np.float64],
    outcomes: npt.NDArray[np.float64],
) -> None:
    """Set the scaling, and the skip's coefficients and both standard deviations by least squares.

    Parameters
    ----------
    centre, width : arrays of shape (n_channels,)
        Of training rows only.
    terms : array of shape (n, 6); outcomes : array of shape (n, 2)
        Of training windows only; finite.
    """
    design = np.column_stack([terms, np.ones(len(terms))])
    coefficients = np.linalg.lstsq(design, outcomes[:, 0])[0]
    fitted = design @ coefficients
    spread = np.stack([outcomes[:, 0] - fitted, outcomes[:, 1] * np.exp(-fitted / 2)])
    with torch.no_grad():
        network.centre.copy_(torch.as_tensor(centre))
        network.width.copy_(torch.as_tensor(width))
        network.skip.weight.copy_(torch.as_tensor(coefficients[None, :-1]))
        network.skip.bias.fill_(float(coefficients[-1]))
        network.start.copy_(torch.as_tensor(np.log(spread.std(axis=1))))


def find_loss(outputs: Outputs, outcomes: Tensor, return_weight: float) -> Tensor:
    """Mean negative log likelihood: log variance, plus a share of return and direction.

    Normal densities for log variance and return (constants left out), a coin for direction.
    """
    variance, change = outcomes[:, 0], outcomes[:, 1]
    chance = torch.where(change > 0, outputs.up_probability, 1 - outputs.up_probability)
    coin = -chance.clamp(min=SMALLEST_CHANCE).log().mean()
    price = _normal_loss(change, outputs.return_mean, outputs.return_sd) + coin
    return _normal_loss(variance, outputs.variance_mean, outputs.variance_sd) + (
        return_weight * price
    )


def find_padding(length: int) -> int:
    """Zeros before a sequence, so that the last stride of a convolution ends at its end."""
    n_out = math.ceil(length / STRIDE)
    return (n_out - 1) * STRIDE + KERNEL - length


def find_ages(window: int, n_convolutions: int) -> list[int]:
    """Bars from the newest bar that each state has read to the end of the window, oldest first."""
    step = STRIDE**n_convolutions
    return list(range(0, window, step))[::-1]


def mix_deviations(means: Tensor, deviations: Tensor) -> Tensor:
    """Standard deviation of a mixture with equal shares; the first axis is the members'."""
    variance = deviations.square().mean(dim=0) + (means - means.mean(dim=0)).square().mean(dim=0)
    return variance.sqrt()


def save_weights(path: Path, weights: Weights) -> None:
    """Write an `.npz` without pickles or clocks: equal weights give equal bytes."""
    with replace_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **weights)


def load_forecaster(path: Path) -> Forecaster:
    """The network that `save_weights` wrote."""
    with np.load(path, allow_pickle=False) as data:
        return Forecaster.from_weights({name: data[name] for name in data.files})


def _normal_loss(values: Tensor, mean: Tensor, sd: Tensor) -> Tensor:
    return (sd.log() + ((values - mean) / sd).square() / 2).mean()


def _drop(values: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
    """Dropout from an explicit generator."""
    if share == 0.0:
        return values
    kept = torch.empty_like(values).bernoulli_(1.0 - share, generator=generator)
    return values * kept / (1.0 - share)
