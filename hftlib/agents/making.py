"""Quoting rules with a closed form.

Distances are in ticks from the mid, time in seconds, inventory in units of the
size quoted on each side. The pure functions take any consistent units; with the
paper's own they run in `envs.arrivals`.

Sources: Avellaneda and Stoikov (2008), High-frequency trading in a limit order
book, Quantitative Finance 8(3); Guéant, Lehalle and Fernandez-Tapia (2013),
Dealing with the inventory risk, Mathematics and Financial Economics 7(4).
"""

from dataclasses import dataclass

import numpy as np

from hftlib.agents.orders import (
    Actions,
    FloatArray,
    Observations,
    observed_position,
    quote_action,
    read,
)
from hftlib.envs.roles import TICKS, Maker


def avellaneda_stoikov_quotes(
    inventory: FloatArray,
    time_left: FloatArray | float,
    *,
    risk_aversion: float,
    sigma: FloatArray | float,
    decay: float,
) -> tuple[FloatArray, FloatArray]:
    """Distances of bid and ask from the mid.

    The reservation price lies inventory * gamma * sigma^2 * time_left below the
    mid; the quotes stand around it, gamma * sigma^2 * time_left +
    (2 / gamma) * ln(1 + gamma / k) apart.

    Parameters
    ----------
    inventory : array of shape (n,)
        Units.
    time_left, sigma : array of shape (n,) or number
        Until the horizon; price over the square root of time.
    risk_aversion, decay : float
        gamma and k, one over price.

    Returns
    -------
    two arrays of shape (n,)
        Negative where the quote lies beyond the mid.
    """
    risk = risk_aversion * sigma**2 * time_left
    half_spread = risk / 2 + np.log1p(risk_aversion / decay) / risk_aversion
    shift = inventory * risk
    return half_spread + shift, half_spread - shift


def glft_quotes(
    inventory: FloatArray,
    *,
    risk_aversion: float,
    sigma: FloatArray | float,
    decay: float,
    intensity: float,
    max_units: float = np.inf,
) -> tuple[FloatArray, FloatArray]:
    """Distances of bid and ask from the mid far from the horizon.

    The closed-form approximation of section 4 of the paper, for fills at the
    rate intensity * exp(-decay * distance).

    Parameters
    ----------
    inventory, sigma, risk_aversion, decay
        As of `avellaneda_stoikov_quotes`.
    intensity : float
        A, fills over time.
    max_units : float
        No bid at an inventory of this or more, no ask at minus this or less.

    Returns
    -------
    two arrays of shape (n,)
        inf where there is no quote.
    """
    ratio = risk_aversion / decay
    base = np.log1p(ratio) / risk_aversion
    power = (1 + ratio) ** (1 + 1 / ratio)
    slope = sigma * np.sqrt(risk_aversion / (2 * decay * intensity) * power)
    bid = np.where(inventory < max_units, base + (inventory + 0.5) * slope, np.inf)
    ask = np.where(inventory > -max_units, base - (inventory - 0.5) * slope, np.inf)
    return bid, ask


@dataclass(frozen=True, kw_only=True)
class _Model:
    """What both models are told; `decision_s` turns the observed volatility into one a second."""

    role: Maker
    risk_aversion: float
    decay: float
    size: int
    max_inventory: int
    decision_s: float
    sigma: float | None = None

    def __post_init__(self) -> None:
        limits = {
            "risk_aversion": self.risk_aversion > 0,
            "decay": self.decay > 0,
            "size": 1 <= self.size <= min(self.role.max_size, self.max_inventory),
            "decision_s": self.decision_s > 0,
            "sigma": self.sigma is None or self.sigma >= 0,
        }
        for name, holds in limits.items():
            if not holds:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; see {type(self).__name__} for its range"
                )

    def _units(self, observations: Observations) -> FloatArray:
        (inventory,) = read(self.role, observations, "inventory")
        return observed_position(inventory, self.max_inventory) / self.size

    def _sigma(self, observations: Observations) -> FloatArray | float:
        if self.sigma is not None:
            return self.sigma
        (volatility,) = read(self.role, observations, "volatility")
        return volatility * TICKS / np.sqrt(self.decision_s)


@dataclass(frozen=True, kw_only=True)
class AvellanedaStoikov(_Model):
    """Quotes around a reservation price that falls with the inventory, less so near the end.

    Attributes
    ----------
    role : Maker
    risk_aversion, decay : float
        gamma and k, one over ticks; above 0.
    size : int
        Lots of a quote, and of a unit of inventory; up to role.max_size and max_inventory.
    max_inventory : int
        Lots, as in the environment's rules: the scale of the observation.
    decision_s : float
        Decision interval, seconds.
    sigma : float or None
        Ticks over the square root of a second; None reads the observed volatility.
    horizon_s : float
        Length of the episode, seconds.
    """

    horizon_s: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.horizon_s > 0:
            raise ValueError(f"horizon_s is {self.horizon_s}; expected seconds above 0")

    def act(self, observations: Observations) -> Actions:
        """Quotes of shape (n, 5)."""
        (time_left,) = read(self.role, observations, "time_left")
        bid, ask = avellaneda_stoikov_quotes(
            self._units(observations),
            time_left * self.horizon_s,
            risk_aversion=self.risk_aversion,
            sigma=self._sigma(observations),
            decay=self.decay,
        )
        return quote_action(self.role, bid, ask, self.size, self.size)


@dataclass(frozen=True, kw_only=True)
class GLFT(_Model):
    """Guéant, Lehalle and Fernandez-Tapia: as if there were no end, within inventory bounds.

    Near a bound a quote is cut to the lots that reach it.

    Attributes
    ----------
    role, risk_aversion, decay, size, max_inventory, decision_s, sigma
        As of `AvellanedaStoikov`.
    intensity : float
        A: fills a second of a quote at the mid.
    bound : int or None
        Lots: no bid at this inventory, no ask at minus it; None is max_inventory.
    """

    intensity: float
    bound: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bound is not None and not 1 <= self.bound <= self.max_inventory:
            raise ValueError(
                f"bound is {self.bound}; expected lots, 1 to max_inventory={self.max_inventory}"
            )
        if not self.intensity > 0:
            raise ValueError(f"intensity is {self.intensity}; expected fills a second above 0")

    def act(self, observations: Observations) -> Actions:
        """Quotes of shape (n, 5)."""
        units = self._units(observations)
        bound = (self.max_inventory if self.bound is None else self.bound) / self.size
        bid, ask = glft_quotes(
            units,
            risk_aversion=self.risk_aversion,
            sigma=self._sigma(observations),
            decay=self.decay,
            intensity=self.intensity,
            max_units=bound,
        )
        bid_lots = self.size * np.clip(bound - units, 0, 1)
        ask_lots = self.size * np.clip(bound + units, 0, 1)
        return quote_action(self.role, bid, ask, bid_lots, ask_lots)


class FixedSpread:
    """Quotes `size` lots on each side at the same distance from the mid, ticks."""

    def __init__(self, role: Maker, *, half_spread_ticks: float, size: int) -> None:
        if not half_spread_ticks > 0:
            raise ValueError(f"half_spread_ticks is {half_spread_ticks}; expected above 0")
        if not 1 <= size <= role.max_size:
            raise ValueError(f"size is {size}; expected lots, 1 to {role.max_size} of the role")
        self.role, self.half_spread_ticks, self.size = role, half_spread_ticks, size

    def act(self, observations: Observations) -> Actions:
        """Quotes of shape (n, 5)."""
        distance = np.full(len(observations), self.half_spread_ticks)
        return quote_action(self.role, distance, distance, self.size, self.size)
