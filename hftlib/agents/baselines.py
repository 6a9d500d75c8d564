"""Strategies without learning: what any learnt one has to beat."""

import numpy as np
import numpy.typing as npt

from hftlib.envs.trading import BUY, HOLD, POSITION_INDEX, SELL


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
    """Trades at a chosen pace, to a random reachable position: turnover without information."""

    def __init__(self, trades_per_bar: float, allow_short: bool, rng: np.random.Generator) -> None:
        if not 0 <= trades_per_bar <= 1:
            raise ValueError(f"trades_per_bar is {trades_per_bar}; expected a share, 0 to 1")
        self._trades_per_bar = trades_per_bar
        self._allow_short = allow_short
        self._rng = rng

    def act(self, observations: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """With probability `trades_per_bar` a move that changes the position, shape (n,)."""
        position = observations[:, POSITION_INDEX]
        n = len(observations)
        toss = np.where(self._rng.random(n) < 0.5, BUY, SELL) if self._allow_short else BUY
        moves = np.where(position > 0, SELL, np.where(position < 0, BUY, toss))
        return np.where(self._rng.random(n) < self._trades_per_bar, moves, HOLD)
