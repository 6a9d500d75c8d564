"""Features of actions in the crash game, for the linear fit of `offpolicy.estimate_fitted`.

A choice has coefficients of its own for every feature of the observation that varies and for
the value of the position, to which the next gain or loss is proportional; an adjustment of
the bet has one.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from hftlib.agents.offline_policy import GAME_ID, POSITION_QTY, scale_observations
from hftlib.features.scaling import RobustScaler
from hftlib.sessions.observation import FEATURE_NAMES
from hftlib.sessions.vocabulary import CHOICES, N_ADJUSTMENTS

Observations = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]

PRICE = FEATURE_NAMES.index("price")


@dataclass(frozen=True)
class SessionBasis:
    """Linear in the chances of the actions, as `offpolicy.Basis`.

    Attributes
    ----------
    scaler : RobustScaler
        Of the features.
    is_used : tuple of bool, length 36
        Whether a feature varies.
    value_spread : float
        Unit of the position's value, SOL.
    """

    scaler: RobustScaler
    is_used: tuple[bool, ...]
    value_spread: float

    @classmethod
    def fit(cls, observations: Observations) -> Self:
        """Scale by rows of shape (n, 36), such as those of the recorded games."""
        seen = observations.copy()
        seen[:, GAME_ID] = 0.0
        value = _position_value(seen)
        spread = float(value.std())
        return cls(
            RobustScaler.fit(seen, FEATURE_NAMES, allow_ties=True),
            tuple((seen.max(axis=0) > seen.min(axis=0)).tolist()),
            spread if spread > 0 else 1.0,
        )

    def __call__(self, observations: Observations, chances: FloatArray) -> FloatArray:
        """Features of an action drawn with these chances.

        Parameters
        ----------
        observations : array of shape (n, 36)
        chances : array of shape (n, 36)

        Returns
        -------
        array of shape (n, 4 * (2 + number of features that vary) + 8)
        """
        scaled = scale_observations(self.scaler, observations)[:, np.array(self.is_used)]
        value = _position_value(observations) / self.value_spread
        state = np.column_stack([np.ones(len(scaled)), value, scaled])
        by_choice = chances.reshape(-1, len(CHOICES), N_ADJUSTMENTS)
        mixed = by_choice.sum(axis=2)[:, :, None] * state[:, None, :]
        return np.hstack([mixed.reshape(len(state), -1), by_choice.sum(axis=1)[:, 1:]])


def _position_value(observations: Observations) -> FloatArray:
    """Tokens times price, SOL, shape (n,)."""
    tokens = observations[:, POSITION_QTY].astype(np.float64)
    return tokens * observations[:, PRICE]
