"""Directional strategies: each wants a position while its signal lasts, and none after.

Source of the RSI: Wilder (1978), New concepts in technical trading systems.
"""

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from hftlib.agents.orders import (
    Actions,
    FloatArray,
    Observations,
    check_begun,
    observed_position,
    read,
    trade_action,
)
from hftlib.envs.roles import TICKS, Taker


class _Directional(ABC):
    """Trades towards `size` lots times a signal in {-1, 0, 1}.

    Parameters
    ----------
    size : int
        Lots of the position wanted.
    max_inventory : int
        Lots, as in the environment's rules: the scale of the observation.
    """

    def __init__(self, role: Taker, *, size: int, max_inventory: int) -> None:
        if not 1 <= size <= max_inventory:
            raise ValueError(f"size is {size}; expected lots, 1 to max_inventory={max_inventory}")
        self.role, self.size, self.max_inventory = role, size, max_inventory

    @abstractmethod
    def _signal(self, observations: Observations) -> FloatArray:
        """Direction wanted, -1, 0 or 1; shape (n,)."""

    def _position(self, observations: Observations) -> FloatArray:
        (inventory,) = read(self.role, observations, "inventory")
        return observed_position(inventory, self.max_inventory)

    def act(self, observations: Observations) -> Actions:
        """Trades of shape (n, 1): the way to the wanted position, or as much as the role allows."""
        wanted = self.size * self._signal(observations)
        return trade_action(self.role, wanted - self._position(observations))


class Momentum(_Directional):
    """Long while the mid stands more than `threshold_ticks` above its running mean; short below."""

    def __init__(
        self, role: Taker, *, threshold_ticks: float, size: int, max_inventory: int
    ) -> None:
        super().__init__(role, size=size, max_inventory=max_inventory)
        if not threshold_ticks >= 0:
            raise ValueError(f"threshold_ticks is {threshold_ticks}; expected at least 0")
        self.threshold_ticks = threshold_ticks

    def _signal(self, observations: Observations) -> FloatArray:
        (trend,) = read(self.role, observations, "trend")
        return np.sign(trend) * (np.abs(trend) * TICKS > self.threshold_ticks)


class MeanReversion(Momentum):
    """The other side of `Momentum`: bets on the return to the running mean."""

    def _signal(self, observations: Observations) -> FloatArray:
        return -super()._signal(observations)


class _OnPath(_Directional):
    """Follows the mid, a whole number of half ticks; steps beyond 100 ticks count as 100."""

    def begin(self, n: int) -> None:
        """Forget the path of the last episode."""
        self._mid = np.zeros(n)
        self._n_seen = 0

    def _follow(self, observations: Observations) -> FloatArray:
        """Change of the mid since the last decision, ticks, 0 at the first; shape (n,)."""
        check_begun(len(self._mid), observations)
        (change,) = read(self.role, observations, "last_return")
        change = np.rint(change * TICKS * 2) / 2 if self._n_seen else np.zeros(len(change))
        self._mid = self._mid + change
        self._n_seen += 1
        return change


class SMACross(_OnPath):
    """Long while the fast simple moving average of the mid is above the slow one; short below.

    Parameters
    ----------
    fast, slow : int
        Decisions in each average, the present one included. Flat until there
        are `slow` of them.
    """

    def __init__(self, role: Taker, *, fast: int, slow: int, size: int, max_inventory: int) -> None:
        super().__init__(role, size=size, max_inventory=max_inventory)
        if not 1 <= fast < slow:
            raise ValueError(f"fast is {fast}, slow {slow}; expected 1 <= fast < slow")
        self.fast, self.slow = fast, slow
        self.begin(0)

    def begin(self, n: int) -> None:
        """Forget the path of the last episode."""
        super().begin(n)
        self._path: npt.NDArray[np.float64] = np.zeros((self.slow, n))

    def _signal(self, observations: Observations) -> FloatArray:
        self._follow(observations)
        self._path = np.concatenate([self._path[1:], self._mid[None]])
        if self._n_seen < self.slow:
            return np.zeros(len(self._mid))
        gap = self._path[-self.fast :].mean(axis=0) - self._path.mean(axis=0)
        return np.sign(gap)  # sums of half ticks are exact: equal averages differ by 0


class RSI(_OnPath):
    """Long while the relative strength index of the mid is below `low`, short above `high`.

    Averages start at 0 and decay by 1 / window a decision (Wilder; as in `ta`).
    Without any change the index is 50.

    Parameters
    ----------
    window : int
        Decisions; flat until there are as many.
    low, high : float
        0 to 100.
    """

    def __init__(
        self,
        role: Taker,
        *,
        size: int,
        max_inventory: int,
        window: int = 14,
        low: float = 30.0,
        high: float = 70.0,
    ) -> None:
        super().__init__(role, size=size, max_inventory=max_inventory)
        if not (window >= 1 and 0 <= low < high <= 100):
            raise ValueError(
                f"window is {window}, low {low}, high {high}; "
                "expected at least 1 and 0 <= low < high <= 100"
            )
        self.window, self.low, self.high = window, low, high
        self.begin(0)

    def begin(self, n: int) -> None:
        """Forget the path of the last episode."""
        super().begin(n)
        self._rise, self._fall = np.zeros((2, n))

    def index(self, observations: Observations) -> FloatArray:
        """Take in the next decision; the index of shape (n,), nan before `window` of them."""
        change = self._follow(observations)
        self._rise = self._rise + (np.maximum(change, 0) - self._rise) / self.window
        self._fall = self._fall + (np.maximum(-change, 0) - self._fall) / self.window
        if self._n_seen < self.window:
            return np.full(len(change), np.nan)
        moved = self._rise + self._fall
        return 100 * np.divide(self._rise, moved, out=np.full(len(moved), 0.5), where=moved > 0)

    def _signal(self, observations: Observations) -> FloatArray:
        index = self.index(observations)
        return (index < self.low).astype(np.float64) - (index > self.high)
