"""A Gaussian hidden Markov model of log returns: which volatility state is the market in?

Fitted on training rows only (`features.markov_fit`); used with filtered
probabilities, which look back, never with smoothed ones, which look ahead.
States are ordered by variance, so that state 0 is the calm one in every fit.

Source: Hamilton (1989), Econometrica 57(2).
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Self

import numpy as np

from hftlib.compute import compile_kernel
from hftlib.features.feature import FloatArray


class RegimeError(ValueError):
    """Returns that no regime model can be fitted to, or a file that holds none."""


class States(NamedTuple):
    """What the returns up to each bar say; nan where there is no return yet.

    Attributes
    ----------
    filtered : array of shape (n_bars, n_states)
        Probability of each state at the bar.
    predicted : array of shape (n_bars, n_states)
        Of each state at the bar after.
    log_density : array of shape (n_bars,)
        Of the bar's return, given those before.
    """

    filtered: FloatArray
    predicted: FloatArray
    log_density: FloatArray


@dataclass(frozen=True)
class RegimeModel:
    """Means and variances of a bar's log return in each state, and how states follow.

    Attributes
    ----------
    means, variances : of length n_states, variances ascending.
    transition : row i holds the probabilities of the states that follow i.
    n_returns : training returns behind it.
    """

    means: tuple[float, ...]
    variances: tuple[float, ...]
    transition: tuple[tuple[float, ...], ...]
    n_returns: int

    def stationary(self) -> FloatArray:
        """Long-run share of each state, shape (n_states,): where the filter starts."""
        n_states = len(self.means)
        balance = np.vstack([np.array(self.transition).T - np.eye(n_states), np.ones(n_states)])
        share = np.linalg.lstsq(balance, np.append(np.zeros(n_states), 1.0), rcond=None)[0]
        return np.clip(share, 0.0, 1.0)

    def filter(self, returns: FloatArray) -> States:
        """Probabilities from the returns of shape (n_bars,) up to each bar; nan are passed over."""
        n_bars, n_states = len(returns), len(self.means)
        states = States(
            np.full((n_bars, n_states), np.nan),
            np.full((n_bars, n_states), np.nan),
            np.full(n_bars, np.nan),
        )
        transition = np.array(self.transition)
        means, variances = np.array(self.means), np.array(self.variances)
        prior = self.stationary()
        _filter(returns, means, variances, transition, prior, *states)
        return states

    def to_dict(self) -> dict[str, Any]:
        """For a JSON file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """What `to_dict` gave, after JSON.

        Raises
        ------
        RegimeError
            If a part is missing, or the numbers make no such model.
        """
        try:
            model = cls(
                tuple(float(x) for x in stored["means"]),
                tuple(float(x) for x in stored["variances"]),
                tuple(tuple(float(x) for x in row) for row in stored["transition"]),
                int(stored["n_returns"]),
            )
        except (KeyError, TypeError, ValueError) as fault:
            raise RegimeError(
                f"no regime model: {fault!r}; expected means, variances, transition, n_returns"
            ) from None
        n_states, rows = len(model.means), np.array(model.transition)
        is_sound = (
            n_states > 1
            and len(model.variances) == n_states
            and rows.shape == (n_states, n_states)
            and bool((np.diff(model.variances) >= 0).all() and model.variances[0] > 0)
            and bool((rows >= 0).all() and np.allclose(rows.sum(axis=1), 1.0, atol=1e-8))
        )
        if not is_sound:
            raise RegimeError(
                f"no regime model: {model}; expected ascending variances above 0 and a square "
                "transition whose rows sum to 1"
            )
        return model


@compile_kernel
def _filter(
    returns: FloatArray,
    means: FloatArray,
    variances: FloatArray,
    transition: FloatArray,
    prior: FloatArray,
    filtered: FloatArray,
    predicted: FloatArray,
    log_density: FloatArray,
) -> None:
    n_states = len(means)
    for t in range(len(returns)):
        x = returns[t]
        if x != x:
            continue
        top = -math.inf
        for j in range(n_states):
            part = math.log(2 * math.pi * variances[j]) + (x - means[j]) ** 2 / variances[j]
            filtered[t, j] = math.log(max(prior[j], 1e-300)) - 0.5 * part
            top = max(top, filtered[t, j])
        total = 0.0
        for j in range(n_states):
            filtered[t, j] = math.exp(filtered[t, j] - top)
            total += filtered[t, j]
        log_density[t] = top + math.log(total)
        for j in range(n_states):
            filtered[t, j] /= total
        for j in range(n_states):
            predicted[t, j] = 0.0
            for i in range(n_states):
                predicted[t, j] += filtered[t, i] * transition[i, j]
        prior = predicted[t]
