"""Running mean and standard deviation, for values and for observations.

Source: van Hasselt et al. (2016), Learning values across many orders of
magnitude, arXiv 1602.07714 (Pop-Art); without its bias towards the start.
"""

import torch
from torch import Tensor, nn


class RunningNorm(nn.Module):
    """Exponentially weighted mean and spread of the rows that `update` has seen.

    The weight of an update falls by `decay` with each that follows. Before the first, mean 0 and
    standard deviation 1: nothing is changed. A column that is constant keeps standard deviation 1.
    """

    mean: Tensor
    sd: Tensor
    moments: Tensor
    weight: Tensor

    def __init__(self, size: int, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("sd", torch.ones(size))
        self.register_buffer("moments", torch.zeros(2, size, dtype=torch.float64))
        self.register_buffer("weight", torch.zeros((), dtype=torch.float64))

    def update(self, rows: Tensor) -> None:
        """Take in rows of shape (n, size), n > 0."""
        variance, mean = torch.var_mean(rows.double(), dim=0, correction=0)
        batch = torch.stack([mean, variance + mean**2])
        self.moments.lerp_(batch, 1 - self.decay)
        self.weight.lerp_(torch.ones_like(self.weight), 1 - self.decay)
        first, second = self.moments / self.weight
        self.mean.copy_(first)
        variance = second - first**2
        self.sd.copy_(torch.where(variance > 1e-10, variance, 1.0).sqrt())

    def normalise(self, values: Tensor) -> Tensor:
        """Values of shape (..., size) in standard deviations from the mean."""
        return (values - self.mean) / self.sd

    def denormalise(self, values: Tensor) -> Tensor:
        """Inverse of `normalise`."""
        return values * self.sd + self.mean

    def update_and_keep(self, rows: Tensor, layer: nn.Linear) -> None:
        """`update`, and change the layer so that its denormalised outputs stay what they were."""
        mean, sd = self.mean.clone(), self.sd.clone()
        self.update(rows)
        with torch.no_grad():
            layer.weight *= (sd / self.sd)[:, None]
            layer.bias.copy_((layer.bias * sd + mean - self.mean) / self.sd)
