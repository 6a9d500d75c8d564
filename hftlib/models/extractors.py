"""What stands between an observation of bars and the layers of a Stable-Baselines3 policy.

An observation is, for each asset, a window of features, oldest bar first, and
then what is known of the account. `WindowLSTM` and `WindowAttention` read each
window as time, with the same weights, and hand the account on as it is;
`Perceptron` reads all at once. Weights come from
torch's global generator, which Stable-Baselines3 seeds.

Source: Hochreiter & Schmidhuber (1997), Long short-term memory, Neural
Computation 9(8); Vaswani et al. (2017), Attention is all you need, arXiv 1706.03762.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

N_HEADS = 4  # of the attention


class Perceptron(BaseFeaturesExtractor):
    """Linear layers, each with an activation after it, on the whole observation."""

    def __init__(
        self,
        observation_space: spaces.Box,
        hidden: Sequence[int],
        activation: type[nn.Module] = nn.Tanh,
    ) -> None:
        super().__init__(observation_space, hidden[-1])
        sizes = [observation_space.shape[0], *hidden]
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(sizes):
            layers += [nn.Linear(n_in, n_out), activation()]
        self.layers = nn.Sequential(*layers)

    def forward(self, observations: Tensor) -> Tensor:
        """Shape (n, n_inputs) to (n, hidden[-1])."""
        features: Tensor = self.layers(observations)
        return features


class _Window(BaseFeaturesExtractor, ABC):
    """Splits an observation into its windows and its account.

    Parameters
    ----------
    observation_space : Box of shape (n_assets * window_bars * n_features + n_account,)
    window_bars : int
        Bars of features.
    n_assets : int
        Windows side by side.
    n_account : int
        Columns after them.
    width : int
        Columns that a window is turned into.

    Raises
    ------
    ValueError
        If the columns before the account are no whole number of features a bar.
    """

    def __init__(
        self,
        observation_space: spaces.Box,
        *,
        window_bars: int,
        n_assets: int,
        n_account: int,
        width: int,
    ) -> None:
        super().__init__(observation_space, n_assets * width + n_account)
        n_inputs = observation_space.shape[0]
        self.n_before, self.window_bars = n_inputs - n_account, window_bars
        self.n_features, left = divmod(self.n_before, n_assets * window_bars)
        if self.n_features < 1 or left:
            raise ValueError(
                f"an observation has {n_inputs} columns, {n_account} of the account; the other "
                f"{self.n_before} are no whole number of features for {n_assets} assets and "
                f"window_bars={window_bars}"
            )

    def forward(self, observations: Tensor) -> Tensor:
        """Shape (n, n_inputs) to (n, n_assets * width + n_account)."""
        before, account = observations[:, : self.n_before], observations[:, self.n_before :]
        windows = before.reshape(-1, self.window_bars, self.n_features)
        return torch.cat([self.read(windows).reshape(len(observations), -1), account], dim=1)

    @abstractmethod
    def read(self, windows: Tensor) -> Tensor:
        """Shape (n, window_bars, n_features) to (n, width)."""


class WindowLSTM(_Window):
    """The last output of an LSTM that walks through the window; no memory beyond it."""

    def __init__(self, observation_space: spaces.Box, *, width: int, **shape: int) -> None:
        super().__init__(observation_space, width=width, **shape)
        self.lstm = nn.LSTM(self.n_features, width, batch_first=True)

    def read(self, windows: Tensor) -> Tensor:
        """Shape (n, window_bars, n_features) to (n, width)."""
        outputs, _ = self.lstm(windows)
        last: Tensor = outputs[:, -1]
        return last


class WindowAttention(_Window):
    """One block of self-attention over the bars of the window, read at the newest bar.

    Each bar is a linear map of its features plus the sines and cosines of its place.
    """

    positions: Tensor

    def __init__(
        self,
        observation_space: spaces.Box,
        *,
        window_bars: int,
        width: int,
        **shape: int,
    ) -> None:
        super().__init__(observation_space, window_bars=window_bars, width=width, **shape)
        if width % (2 * N_HEADS):
            raise ValueError(
                f"width is {width}; expected a multiple of twice the number of heads, {2 * N_HEADS}"
            )
        self.embed = nn.Linear(self.n_features, width)
        self.attention = nn.MultiheadAttention(width, N_HEADS, batch_first=True)
        self.after_attention = nn.LayerNorm(width)
        self.feed = nn.Sequential(
            nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )
        self.after_feed = nn.LayerNorm(width)
        self.register_buffer("positions", encode_positions(window_bars, width), persistent=False)

    def read(self, windows: Tensor) -> Tensor:
        """Shape (n, window_bars, n_features) to (n, width)."""
        bars = self.embed(windows) + self.positions
        newest = bars[:, -1:]  # the only one whose answer is read
        heard, _ = self.attention(newest, bars, bars, need_weights=False)
        state = self.after_attention(newest + heard)
        last: Tensor = self.after_feed(state + self.feed(state))
        return last[:, 0]


def encode_positions(n: int, width: int) -> Tensor:
    """Sines (even columns) and cosines (odd ones) of places 0 to n - 1, shape (n, width).

    Column 2 k and 2 k + 1 have the angular frequency 10,000 ** (-2 k / width).
    """
    place = torch.arange(n, dtype=torch.float32)[:, None]
    frequency = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angles = place * frequency
    return torch.stack([angles.sin(), angles.cos()], dim=2).reshape(n, width)
