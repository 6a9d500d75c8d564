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

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

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


ONE_CHOICE: spaces.Space[Any] = spaces.Discrete(3)  # discrete actions, one symbol an episode


class DoNothing:
    """Stays in cash, in any action space of `TradingEnv`."""

    def __init__(self, action_space: spaces.Space[Any] = ONE_CHOICE) -> None:
        self._space = action_space

    def act(self, observations: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """Hold, or a weight of 0: one action an observation."""
        return _repeat(HOLD, self._space, len(observations))


class BuyAndHold:
    """Buys at the first open and never sells, in any action space of `TradingEnv`.

    With target weights it asks for 1 in every asset at every bar: it holds a single asset
    at `max_weight` 1 untouched, and otherwise trades back what the weights have drifted.
    """

    def __init__(self, action_space: spaces.Space[Any] = ONE_CHOICE) -> None:
        self._space = action_space

    def act(self, observations: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """Buy, or a weight of 1: one action an observation; once long, it changes nothing."""
        return _repeat(BUY, self._space, len(observations))


class RandomTrader:
    """Trades at a chosen pace, to a random reachable position: turnover without information.

    For one symbol an episode. With target weights it moves between -1, 0 and 1.
    """

    def __init__(
        self,
        trades_per_bar: float,
        allow_short: bool,
        rng: np.random.Generator,
        action_space: spaces.Space[Any] = ONE_CHOICE,
    ) -> None:
        if not 0 <= trades_per_bar <= 1:
            raise ValueError(f"trades_per_bar is {trades_per_bar}; expected a share, 0 to 1")
        if action_space.shape not in ((), (1,)):
            raise ValueError(
                f"action_space is {action_space}; expected that of one symbol an episode"
            )
        self._trades_per_bar = trades_per_bar
        self._allow_short = allow_short
        self._rng = rng
        self._space = action_space

    def act(self, observations: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """With probability `trades_per_bar` a move that changes the position, shape (n,).

        As a target weight it has shape (n, 1).
        """
        position = observations[:, POSITION_INDEX]
        n = len(observations)
        toss = np.where(self._rng.random(n) < 0.5, BUY, SELL) if self._allow_short else BUY
        moves = np.where(position > 0, SELL, np.where(position < 0, BUY, toss))
        moves = np.where(self._rng.random(n) < self._trades_per_bar, moves, HOLD)
        if not isinstance(self._space, spaces.Box):
            return moves
        step = np.where(moves == BUY, 1, np.where(moves == SELL, -1, 0))
        return (position + step).astype(self._space.dtype)[:, None]


def _repeat(value: int, space: spaces.Space[Any], n: int) -> npt.NDArray[Any]:
    """One number as the action of n accounts, in every asset."""
    return np.full((n, *(space.shape or ())), value, dtype=space.dtype)
