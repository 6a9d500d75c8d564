"""Time as trading sees it: that of the wall, or that of a recording, as fast as asked for."""

import time
from collections.abc import Callable
from typing import Protocol

PIECE_S = 1.0  # of ours, after which a sleeper looks whether it is woken


def never() -> bool:
    """Nobody wakes."""
    return False


class Clock(Protocol):
    """Nanoseconds UTC that never go back."""

    def now_ns(self) -> int:
        """The time."""

    def wait_until(self, ts_ns: int, is_woken: Callable[[], bool] = never) -> None:
        """Return at `ts_ns` or later, or within a second of ours after `is_woken`."""


class RealClock:
    """The machine's clock; a step back of it is held until it has caught up."""

    def __init__(self) -> None:
        self._last_ns = 0

    def now_ns(self) -> int:
        """The time."""
        self._last_ns = max(self._last_ns, time.time_ns())
        return self._last_ns

    def wait_until(self, ts_ns: int, is_woken: Callable[[], bool] = never) -> None:
        """Sleep."""
        while (left_ns := ts_ns - self.now_ns()) > 0 and not is_woken():
            time.sleep(min(left_ns / 1e9, PIECE_S))


class AcceleratedClock:
    """A recording's clock: jumps to what is waited for.

    Parameters
    ----------
    start_ns : int
    speed : float
        Seconds of the recording in one of ours, above 0; by default as fast as can be.

    Raises
    ------
    ValueError
        If the speed is not above 0.
    """

    def __init__(self, start_ns: int = 0, speed: float = float("inf")) -> None:
        if not speed > 0:
            raise ValueError(f"speed is {speed}; expected above 0, infinity for no pause")
        self._now_ns, self._speed = start_ns, speed

    def now_ns(self) -> int:
        """The time that was last waited for."""
        return self._now_ns

    def wait_until(self, ts_ns: int, is_woken: Callable[[], bool] = never) -> None:
        """Jump there, after a pause if the speed is finite."""
        while (left_s := (ts_ns - self._now_ns) / 1e9 / self._speed) > PIECE_S:
            if is_woken():
                return
            time.sleep(PIECE_S)
            self._now_ns += int(PIECE_S * 1e9 * self._speed)
        if ts_ns > self._now_ns:
            time.sleep(left_s)
            self._now_ns = ts_ns
