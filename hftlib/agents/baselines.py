"""Strategies without learning: what any learnt one has to beat."""

import numpy as np
import numpy.typing as npt

from hftlib.envs.trading import BUY, HOLD, SELL


class DoNothing:
    """Stays in cash."""

    def act(self, observations: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Hold, shape (n,)."""
        return np.full(len(observations), HOLD, dtype=np.int64)


class BuyAndHold:
    """Buys at the first open and never sells."""

    def act(self, observations: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Buy, shape (n,): once long, it changes nothing."""
        return np.full(len(observations), BUY, dtype=np.int64)


class RandomTrader:
    """Buys or sells by a coin toss at a chosen pace: turnover without information."""

    def __init__(self, trades_per_bar: float, allow_short: bool, rng: np.random.Generator) -> None:
        # Tosses that push against the end of the position range change nothing. The walk is
        # uniform on its positions, so 2 of 3 tosses trade with shorts allowed, 1 of 2 without.
        effective = 2 / 3 if allow_short else 1 / 2
        if not 0 <= trades_per_bar <= effective:
            raise ValueError(
                f"trades_per_bar is {trades_per_bar}; expected 0 to {effective:.3f}, the most that "
                "coin tosses can trade"
            )
        self._probability = trades_per_bar / effective
        self._rng = rng

    def act(self, observations: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Random moves, shape (n,)."""
        n = len(observations)
        moves = np.where(self._rng.random(n) < 0.5, BUY, SELL)
        return np.where(self._rng.random(n) < self._probability, moves, HOLD)
