"""Parent orders: how much of each is due, by TWAP, VWAP or POV, or at once.

The trajectories are those of `agents.execution`: the share still to trade after each slice. What
is due is counted in time, not in calls, so that a parent that was left alone for a while, or
whose process was killed, catches up and trades nothing twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal
from typing import Literal

import numpy as np

from hftlib.agents.execution import twap_trajectory, vwap_trajectory

Algorithm = Literal["now", "twap", "vwap", "pov"]
Purpose = Literal["target", "exit", "flatten", "parent"]
LOT_TOLERANCE = Decimal("1e-6")  # of a lot


@dataclass(frozen=True)
class Parent:
    """An order that is worked in parts; build it with the functions below.

    Attributes
    ----------
    parent_id, symbol : str
    quantity : Decimal
        Units, signed.
    algorithm : {"now", "twap", "vwap", "pov"}
    purpose : {"target", "exit", "flatten", "parent"}
        Who wants it: the strategy, a stop loss or take profit, the kill switch, a person.
    start_ns, end_ns : int
        Nanoseconds UTC; at the end all that is left is due.
    trajectory : tuple of float, length n_slices + 1
        Share left at the start of each slice and at the end, from 1 to 0.
    rate : float
        POV: own units over the volume of others.
    volume : float
        POV: others' units traded since the start.
    """

    parent_id: str
    symbol: str
    quantity: Decimal
    algorithm: Algorithm
    purpose: Purpose
    start_ns: int
    end_ns: int
    trajectory: tuple[float, ...] = (1.0, 0.0)
    rate: float = 0.0
    volume: float = 0.0

    def __post_init__(self) -> None:
        fine = {
            "quantity": self.quantity.is_finite() and self.quantity != 0,
            "end_ns": self.end_ns > self.start_ns or self.algorithm == "now",
            "rate": self.rate > 0 or self.algorithm != "pov",
        }
        for name, is_fine in fine.items():
            if not is_fine:
                raise ValueError(
                    f"{name} of parent {self.parent_id} is {getattr(self, name)}; expected a "
                    "quantity other than 0, an end after the start, and for POV a rate above 0"
                )

    def due(self, now_ns: int) -> Decimal:
        """Signed units that should have been sent by the end of the slice in which `now_ns` is."""
        if self.algorithm == "now" or now_ns >= self.end_ns:
            return self.quantity
        if self.algorithm == "pov":
            called = min(Decimal(str(self.rate * self.volume)), abs(self.quantity))
            return called if self.quantity > 0 else -called
        passed = (now_ns - self.start_ns) / (self.end_ns - self.start_ns)
        n_slices = len(self.trajectory) - 1
        slice_ = min(int(np.clip(passed, 0.0, 1.0) * n_slices), n_slices - 1)
        return self.quantity * (1 - Decimal(str(self.trajectory[slice_ + 1])))


def twap(
    parent_id: str, symbol: str, quantity: Decimal, *, start_ns: int, end_ns: int, n_slices: int
) -> Parent:
    """The same share in each slice."""
    shares = tuple(twap_trajectory(n_slices).tolist())
    return Parent(
        parent_id, symbol, quantity, "twap", "parent", start_ns, end_ns, trajectory=shares
    )


def vwap(
    parent_id: str,
    symbol: str,
    quantity: Decimal,
    *,
    start_ns: int,
    end_ns: int,
    volume_curve: Sequence[float],
) -> Parent:
    """In proportion to the volume expected in each slice."""
    shares = tuple(vwap_trajectory(volume_curve).tolist())
    return Parent(
        parent_id, symbol, quantity, "vwap", "parent", start_ns, end_ns, trajectory=shares
    )


def pov(
    parent_id: str, symbol: str, quantity: Decimal, *, start_ns: int, end_ns: int, rate: float
) -> Parent:
    """In proportion to the volume that others trade from the start on."""
    return Parent(parent_id, symbol, quantity, "pov", "parent", start_ns, end_ns, rate=rate)


def cut_to_lots(quantity: Decimal, lot: Decimal) -> Decimal:
    """A signed quantity as a multiple of `lot`, towards 0; a rounding error below is none."""
    lots = quantity / lot
    nearest = lots.to_integral_value(ROUND_HALF_EVEN)
    is_whole = abs(nearest - lots) <= LOT_TOLERANCE
    return (nearest if is_whole else lots.to_integral_value(ROUND_DOWN)) * lot
