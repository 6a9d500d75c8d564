"""The market of Avellaneda and Stoikov: a Brownian mid and Poisson fills, without a book.

It shows what a quoting rule does where its theory holds, and replicates the
published tables. The mid starts at `initial_price` and moves by +sigma*sqrt(dt)
or -sigma*sqrt(dt) with even odds. In a step a quote at distance delta from the
mid trades one unit with probability A*exp(-k*delta)*dt, each side on its own,
at most once. Quotes are set from the clock and the inventory before the step;
the mid moves after the fills.

This reading matches the published numbers. Mean and standard deviation of the
profit, the latter also of the final inventory; 100,000 paths here, 1,000 there:

| gamma | quotes | spread | profit, here | published | inventory, here | published |
|---|---|---|---|---|---|---|
| .1 | inventory | 1.49 | 64.9 (6.6) | 65.0 (6.6) | 2.9 | 2.9 |
| .1 | symmetric | 1.49 | 68.2 (13.4) | 68.4 (12.7) | 8.4 | 8.4 |
| .01 | inventory | 1.35 | 68.4 (9.0) | 68.8 (8.7) | 5.2 | 5.1 |

Symmetric quotes stand around the mid at half the mean over time of the
inventory strategy's spread, gamma*sigma^2*(T - t) + (2/gamma)*ln(1 + gamma/k).
What the published numbers exclude: with probability 1 - exp(-A*exp(-k*delta)*dt)
the profits at gamma = .1 are 57.2 (6.4) and 61.0 (12.9). What they cannot tell
apart: Gaussian moves, or a mid that moves before the fills (64.9 (6.5) and
64.9 (6.6)).

Source: Avellaneda and Stoikov (2008), High-frequency trading in a limit order
book, Quantitative Finance 8(3).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Quotes = Callable[[float, FloatArray], tuple[FloatArray, FloatArray]]


@dataclass(frozen=True)
class ArrivalParams:
    """The market, with the values of the paper.

    Attributes
    ----------
    initial_price : float
        Currency.
    horizon, dt : float
        Length of a path and of a step, in the unit of time.
    sigma : float
        Currency over the square root of the unit of time.
    intensity, decay : float
        A, fills per unit of time at the mid, and k, per currency.
    initial_inventory : int
        Units.
    """

    initial_price: float = 100.0
    horizon: float = 1.0
    dt: float = 0.005
    sigma: float = 2.0
    intensity: float = 140.0
    decay: float = 1.5
    initial_inventory: int = 0

    def __post_init__(self) -> None:
        for name in ("horizon", "dt", "intensity", "decay"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a number above 0")
        if not self.sigma >= 0:
            raise ValueError(f"sigma is {self.sigma}; expected at least 0")
        if abs(self.n_steps * self.dt - self.horizon) > 1e-9 * self.horizon:
            raise ValueError(
                f"horizon {self.horizon} is no whole number of steps of dt={self.dt}; "
                "choose dt = horizon / n_steps"
            )

    @property
    def n_steps(self) -> int:
        """Steps of a path."""
        return round(self.horizon / self.dt)


class ArrivalPaths(NamedTuple):
    """One number a path, each array of shape (n_paths,).

    profit : cash and inventory at the last mid, less the same at the start
    inventory : at the end, units
    spread : mean over the steps of the distance between the quotes, currency;
        inf where a side was once not quoted
    n_bought, n_sold : fills, int64
    price : mid at the end
    """

    profit: FloatArray
    inventory: FloatArray
    spread: FloatArray
    n_bought: npt.NDArray[np.int64]
    n_sold: npt.NDArray[np.int64]
    price: FloatArray


def simulate_arrivals(
    quotes: Quotes, params: ArrivalParams, n_paths: int, rng: np.random.Generator
) -> ArrivalPaths:
    """Run a quoting rule through independent paths.

    Parameters
    ----------
    quotes : callable
        From the time and the inventory of shape (n_paths,) to the distances of
        bid and ask from the mid, each of that shape; inf for no quote. Negative
        distances lie beyond the mid; probabilities above 1 count as 1.

    Raises
    ------
    ValueError
        If a distance is nan.
    """
    p = params
    price = np.full(n_paths, p.initial_price)
    inventory = np.full(n_paths, float(p.initial_inventory))
    cash, spread = np.zeros(n_paths), np.zeros(n_paths)
    n_bought, n_sold = np.zeros((2, n_paths), dtype=np.int64)
    tick = p.sigma * np.sqrt(p.dt)
    for step in range(p.n_steps):
        bid, ask = quotes(step * p.dt, inventory)
        if np.isnan(bid).any() or np.isnan(ask).any():
            raise ValueError(
                f"quotes are nan at t={step * p.dt:g}; expected distances, inf for none"
            )
        spread += bid + ask
        # An underflow to 0 or an overflow to inf is the right limit of a probability.
        with np.errstate(over="ignore", under="ignore"):
            buys = rng.random(n_paths) < p.intensity * p.dt * np.exp(-p.decay * bid)
            sells = rng.random(n_paths) < p.intensity * p.dt * np.exp(-p.decay * ask)
        cash += np.where(sells, price + ask, 0.0) - np.where(buys, price - bid, 0.0)
        inventory = inventory + buys - sells
        n_bought += buys
        n_sold += sells
        price += tick * (2 * rng.integers(2, size=n_paths) - 1)
    profit = cash + inventory * price - p.initial_inventory * p.initial_price
    return ArrivalPaths(profit, inventory, spread / p.n_steps, n_bought, n_sold, price)
