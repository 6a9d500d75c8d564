"""Exploration noise of continuous actions: white, or correlated in time.

Both kinds are one stationary process, x' = rho x + sqrt(1 - rho^2) eps with
standard normal eps: rho = 0 is white noise, rho = exp(-theta) is an
Ornstein-Uhlenbeck process looked at once a step, exact and without a step size.
Its standard deviation is 1 for either, so that a scale means the same.

Source: Uhlenbeck and Ornstein (1930), On the theory of the Brownian motion,
Physical Review 36; as exploration, Lillicrap et al. (2016), Continuous control
with deep reinforcement learning, arXiv 1509.02971.
"""

import math
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

NoiseKind = Literal["gaussian", "ou"]


class ActionNoise:
    """Noise of mean 0 and standard deviation 1 for copies of an environment, side by side.

    Parameters
    ----------
    kind : "gaussian" (a new draw every step) or "ou" (autocorrelation exp(-theta k) at lag k)
    shape : (n_envs, n_actions)
    rng : draws everything; it is this object's own from here on
    theta : speed of mean reversion of "ou", per step
    """

    def __init__(
        self, kind: NoiseKind, shape: tuple[int, int], rng: np.random.Generator, theta: float = 0.15
    ) -> None:
        if kind not in get_args(NoiseKind):
            raise ValueError(f"noise is {kind!r}; expected one of {', '.join(get_args(NoiseKind))}")
        if theta <= 0:
            raise ValueError(f"theta is {theta}; expected more than 0, or else it never reverts")
        self.correlation = math.exp(-theta) if kind == "ou" else 0.0
        self.rng = rng
        self.values = self._draw(shape)

    def step(self) -> npt.NDArray[np.float32]:
        """Noise of the next step, shape (n_envs, n_actions)."""
        innovation = math.sqrt(1 - self.correlation**2)
        self.values = self.correlation * self.values + innovation * self._draw(self.values.shape)
        return self.values

    def restart(self, copies: npt.NDArray[np.bool_]) -> None:
        """Forget the past of some copies, bool array of shape (n_envs,): new episodes start."""
        fresh = self._draw((int(copies.sum()), self.values.shape[1]))
        self.values = self.values.copy()  # what `step` gave away stays as it was
        self.values[copies] = fresh

    def save_state(self) -> dict[str, Any]:
        """All that `load_state` needs to go on bit for bit."""
        return {"values": self.values.copy(), "rng": self.rng.bit_generator.state}

    def load_state(self, saved: dict[str, Any]) -> None:
        """Go on from `save_state`."""
        self.values = saved["values"].copy()
        self.rng.bit_generator.state = saved["rng"]

    def _draw(self, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        return self.rng.standard_normal(shape, dtype=np.float32)


def decay_scale(scale: float, decay: float, floor: float, n: int) -> float:
    """The scale after `n` decays: it shrinks by the factor `decay` each time, down to `floor`."""
    return max(scale * decay**n, floor)
