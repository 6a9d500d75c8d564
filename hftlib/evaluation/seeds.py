"""Comparing learning algorithms over few training seeds and several tasks.

A score is what one training run is worth on one task (a symbol, a market, a fold), on
one scale for all tasks; runs are axis -2 and tasks axis -1, and further axes in
front give a value each. Means are moved by one lucky seed and medians ignore half
the runs, so the interquartile mean leads. Intervals resample runs within each task.

With few runs these percentile intervals are somewhat short: of normal scores, 95 %
intervals of the interquartile mean cover it in 89 % of cases with 5 runs of one task,
94 % with 10, and 91 % with 5 runs of 6 tasks (simulated, give or take 1 %).
`paired.mean_estimate` has intervals of the mean that are stretched for few seeds.

Source: Agarwal, Schwarzer, Castro, Courville & Bellemare (2021), Deep reinforcement
learning at the edge of the statistical precipice, NeurIPS 34.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from hftlib.evaluation.samples import FloatArray, TooFewError, UndefinedError
from hftlib.evaluation.statistics import Estimate


def interquartile_mean(scores: npt.ArrayLike) -> FloatArray:
    """Mean of the middle half of all runs on all tasks, shape (..., n_runs, n_tasks) to (...).

    A quarter of the runs is dropped at each end, rounded down: of 5 runs on one task, 1 and 1.

    Raises
    ------
    TooFewError, UndefinedError
        If there is no score, or one is not finite.
    """
    values = _check(scores)
    pooled = np.sort(values.reshape(*values.shape[:-2], -1), axis=-1)
    cut = pooled.shape[-1] // 4
    return pooled[..., cut : pooled.shape[-1] - cut].mean(axis=-1)


def performance_profile(scores: npt.ArrayLike, thresholds: npt.ArrayLike) -> FloatArray:
    """Share of runs that score above each threshold, mean over tasks.

    Parameters
    ----------
    scores : array of shape (..., n_runs, n_tasks)
    thresholds : array of shape (n_thresholds,)

    Returns
    -------
    array of shape (..., n_thresholds)
        One curve lies above another at all thresholds if its algorithm dominates stochastically.

    Raises
    ------
    TooFewError, UndefinedError
        If there is no score, or one is not finite.
    """
    levels = np.asarray(thresholds, dtype=np.float64)
    return (_check(scores)[..., None] > levels).mean(axis=(-3, -2))


def probability_of_improvement(first: npt.ArrayLike, second: npt.ArrayLike) -> FloatArray:
    """Chance that a run of the first scores above one of the second on a task drawn at random.

    Ties count half: Mann and Whitney's U over the number of pairs, mean over tasks.

    Parameters
    ----------
    first, second : arrays of shape (..., n_runs, n_tasks) and (..., n_other_runs, n_tasks)

    Raises
    ------
    TooFewError, UndefinedError
        If there is no score, or one is not finite.
    ValueError
        If they differ in their tasks.
    """
    a, b = _check(first), _check(second)
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(
            f"the first has {a.shape[-1]} tasks and the second {b.shape[-1]}; give both the same"
        )
    gap = a[..., :, None, :] - b[..., None, :, :]
    return ((gap > 0) + 0.5 * (gap == 0)).mean(axis=(-3, -2, -1))


def seed_interval(
    statistic: Callable[..., FloatArray],
    *scores: npt.ArrayLike,
    n_bootstrap: int,
    seed: int,
    confidence: float = 0.95,
) -> Estimate | list[Estimate]:
    """A statistic of scores with its stratified bootstrap interval.

    Parameters
    ----------
    statistic : function
        One of the above, or of the same kind: of arrays of shape (..., n_runs, n_tasks) to (...)
        or, as a profile, (..., k).
    *scores : arrays of shape (n_runs, n_tasks)
        One for each argument of `statistic`. Runs are drawn with replacement within each task,
        independently of the other tasks and of the other arrays; tasks are not drawn.

    Returns
    -------
    Estimate, or a list of k

    Raises
    ------
    TooFewError, UndefinedError
        If there are fewer than 2 runs, or a score is not finite.
    """
    rng = np.random.default_rng(seed)
    tables = [_check(values) for values in scores]
    for table in tables:
        if table.shape[0] < 2:
            raise TooFewError(f"seed interval: {table.shape[0]} run; train at least 2 seeds")
    samples = statistic(
        *(
            np.take_along_axis(
                table[None], rng.integers(len(table), size=(n_bootstrap, *table.shape)), axis=1
            )
            for table in tables
        )
    )
    point = np.asarray(statistic(*tables))
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(samples, (tail, 1.0 - tail), axis=0)
    if point.ndim == 0:
        return Estimate(float(point), float(low), float(high))
    return [Estimate(*map(float, v)) for v in zip(point, low, high, strict=True)]


def _check(scores: npt.ArrayLike) -> FloatArray:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim < 2:
        raise ValueError(
            f"scores have shape {values.shape}; expected (n_runs, n_tasks): one task is a column"
        )
    if not values.size:
        raise TooFewError(f"scores have shape {values.shape}; expected a run and a task at least")
    if not np.isfinite(values).all():
        place = tuple(int(k) for k in np.argwhere(~np.isfinite(values))[0])
        raise UndefinedError(
            f"the score at {place} (run, task) is {values[place]}; a run that failed needs a "
            "score, such as the worst possible, or its seed is left out by name"
        )
    return values
