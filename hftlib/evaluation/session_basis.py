"""Features of actions in the crash game, for the linear fit of `offpolicy.estimate_fitted`.

A reward is the position's value times the next tick's return, or what a side bet pays. So a
choice has coefficients of its own for what sets the exposure to come: the position's value, the
cash, the bet, and whether a side bet is open; an adjustment of the bet has one. Returns that
depend on more, such as the price, count with their mean over the recorded ticks. Each further
coefficient is fitted to the luck of the recorded games: with one for each feature of the
observation, intervals were a hundred times wider.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from hftlib.agents.offline_policy import POSITION_QTY
from hftlib.sessions.observation import FEATURE_NAMES
from hftlib.sessions.vocabulary import CHOICES, N_ADJUSTMENTS

Observations = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]

PRICE, BALANCE, BET = map(FEATURE_NAMES.index, ("price", "balance", "bet_amount"))


@dataclass(frozen=True)
class SessionBasis:
    """Linear in the chances of the actions.

    Attributes
    ----------
    units : tuple of float
        Of the position's value, the cash and the bet, SOL: their spreads.
    """

    units: tuple[float, ...]

    @classmethod
    def fit(cls, observations: Observations) -> Self:
        """Units of rows of shape (n, 36), such as those of the recorded games."""
        spreads = _find_amounts(observations).std(axis=0)
        return cls(tuple(np.where(spreads > 0, spreads, 1.0).tolist()))

    def __call__(
        self,
        observations: Observations,
        stake_open: npt.NDArray[np.bool_],
        chances: FloatArray,
    ) -> FloatArray:
        """Features of an action drawn with these chances.

        Parameters
        ----------
        observations : array of shape (n, 36)
        stake_open : array of shape (n,)
            Whether a side bet is open, which the observation does not say.
        chances : array of shape (n, 36)

        Returns
        -------
        array of shape (n, 28)
            For each choice 1, value, cash, bet, open side bet; then 8 adjustments.
        """
        amounts = _find_amounts(observations) / self.units
        state = np.column_stack([np.ones(len(amounts)), amounts, stake_open])
        by_choice = chances.reshape(-1, len(CHOICES), N_ADJUSTMENTS)
        mixed = by_choice.sum(axis=2)[:, :, None] * state[:, None, :]
        return np.hstack([mixed.reshape(len(state), -1), by_choice.sum(axis=1)[:, 1:]])


def _find_amounts(observations: Observations) -> FloatArray:
    """Value of the position, cash and bet, SOL, shape (n, 3)."""
    seen = observations.astype(np.float64)
    return np.column_stack([seen[:, POSITION_QTY] * seen[:, PRICE], seen[:, BALANCE], seen[:, BET]])
