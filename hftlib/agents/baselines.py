"""Strategies without learning: what any learnt one has to beat, in one place.

Those that trade bars are written here: `DoNothing`, `BuyAndHold`, `RandomTrader`.
Those of the order book live with their formulas:

- `agents.making`: Avellaneda and Stoikov, GLFT, a fixed spread;
- `agents.execution`: TWAP, VWAP, Almgren and Chriss and all at once, trajectories for a
  `ScheduledExecutor`; POV, the `ParticipationExecutor`;
- `agents.taking`: momentum, mean reversion, SMA cross, RSI;
- `agents.orders`: nothing and random orders, for every role.

`agents.catalogue` makes them with settings that fit a scene.
"""

import numpy as np
import numpy.typing as npt

from hftlib.agents.execution import (
    ParticipationExecutor,
    ScheduledExecutor,
    almgren_chriss_trajectory,
    immediate_trajectory,
    twap_trajectory,
    vwap_trajectory,
)
from hftlib.agents.making import GLFT, AvellanedaStoikov, FixedSpread
from hftlib.agents.orders import NoOrders, RandomOrders
from hftlib.agents.taking import RSI, MeanReversion, Momentum, SMACross
from hftlib.envs.trading import BUY, HOLD, POSITION_INDEX, SELL

__all__ = [
    "GLFT",
    "RSI",
    "AvellanedaStoikov",
    "BuyAndHold",
    "DoNothing",
    "FixedSpread",
    "MeanReversion",
    "Momentum",
    "NoOrders",
    "ParticipationExecutor",
    "RandomOrders",
    "RandomTrader",
    "SMACross",
    "ScheduledExecutor",
    "almgren_chriss_trajectory",
    "immediate_trajectory",
    "twap_trajectory",
    "vwap_trajectory",
]


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
