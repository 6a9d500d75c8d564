"""How several agents of one market do together.

Returns are profits in currency of the same periods, such as episodes; ratios
are those of one period, not annualised.
"""

import numpy as np
import numpy.typing as npt

from hftlib.evaluation.paired import seed_estimate
from hftlib.evaluation.statistics import Estimate
from hftlib.portfolio.measures import sharpe

FloatArray = npt.NDArray[np.float64]
MEASURES = ("efficiency", "diversity", "competition")


def efficiency(profits: FloatArray) -> float:
    """Sharpe ratio of the agents' sum over the mean of their own, profits of shape (n, A).

    1 for agents that always earn the same, sqrt(A) for independent ones of equal means and
    deviations. Agents whose profits do not vary have no ratio and are left out of the mean. nan
    without any left, and where their mean ratio is not above 0: a ratio of losses would call the
    larger loss the better.
    """
    single = sharpe(profits, 1.0)
    if not (np.isfinite(single).any() and np.nanmean(single) > 0):
        return float("nan")
    return float(sharpe(profits.sum(axis=1), 1.0) / np.nanmean(single))


def diversity(profits: FloatArray) -> float:
    """1 less the mean correlation of two agents' profits, profits of shape (n, A).

    0 for agents that move together, 1 for independent ones, up to 2 for two that move oppositely.
    Agents whose profits do not vary are left out; nan with fewer than two others.
    """
    varying = profits[:, np.isfinite(sharpe(profits, 1.0))]
    n = varying.shape[1]
    if n < 2:
        return float("nan")
    total = np.corrcoef(varying, rowvar=False).sum()
    return float(1.0 - (total - n) / (n * (n - 1)))


def competition(profits: FloatArray) -> float:
    """Variance of the agents' mean profits over the square of their mean, profits of shape (n, A).

    0 for equal agents; it grows without bound where the gains of some are the losses of others;
    nan where their mean is 0.
    """
    means = profits.mean(axis=0)
    level = means.mean()
    return float(means.var() / level**2) if abs(level) > 1e-12 * np.abs(means).max() else np.nan


def coordination(
    profits: npt.ArrayLike, *, n_bootstrap: int = 1000, confidence: float = 0.95, seed: int = 0
) -> dict[str, Estimate]:
    """`efficiency`, `diversity` and `competition` with intervals over episodes and seeds.

    Parameters
    ----------
    profits : array of shape (n_episodes, n_agents) or (n_seeds, n_episodes, n_agents)
        The measures are taken within a seed; the value is their mean over seeds.

    Raises
    ------
    ValueError
        If there are fewer than two agents.
    """
    values = np.asarray(profits, dtype=np.float64)
    if values.ndim not in (2, 3) or values.shape[-1] < 2:
        raise ValueError(
            f"profits have shape {values.shape}; expected (n_episodes, n_agents) or "
            "(n_seeds, n_episodes, n_agents) with two agents or more"
        )
    estimates = seed_estimate(
        lambda part: np.array([efficiency(part), diversity(part), competition(part)]),
        values if values.ndim == 3 else values[None],
        n_bootstrap=n_bootstrap,
        confidence=confidence,
        seed=seed,
    )
    return dict(zip(MEASURES, estimates, strict=True))
