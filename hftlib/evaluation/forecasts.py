"""Are forecasts good, better than others, and right about their own errors?

Intervals come from the stationary bootstrap of days, since errors of
neighbouring days are alike. Comparisons are of losses on the same days.

Source: Diebold & Mariano (1995), J. Business & Economic Statistics 13(3); Harvey,
Leybourne & Newbold (1997), Int. J. Forecasting 13(2), for small samples; Politis &
Romano (1994), JASA 89(428), through `arch`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from arch.bootstrap import StationaryBootstrap
from scipy import stats

from hftlib.evaluation.statistics import Estimate, block_length

FloatArray = npt.NDArray[np.float64]


class Comparison(NamedTuple):
    """Diebold and Mariano's test; a negative statistic says that the first has smaller losses."""

    statistic: float
    p_value: float  # two-sided
    difference: float  # mean loss of the first less that of the second


def compare_losses(first: npt.ArrayLike, second: npt.ArrayLike, horizon: int = 1) -> Comparison:
    """Test whether two forecasts have the same expected loss.

    Parameters
    ----------
    first, second : arrays of shape (n_days,)
        Losses of the same days in time order, such as squared errors.
    horizon : int
        Bars ahead; differences up to `horizon` - 1 bars apart are taken as dependent.

    Returns
    -------
    Comparison
        With Harvey, Leybourne and Newbold's correction, and Student's t with n_days - 1 degrees.
        Statistic 0 and p 1 where the losses are equal on all days.

    Raises
    ------
    ValueError
        If the shapes differ, a loss is not finite, or there are at most 2 `horizon` days.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"losses have shapes {a.shape} and {b.shape}; give the same days of both")
    gaps, n = a - b, len(a)
    if horizon < 1 or n <= 2 * horizon:
        raise ValueError(f"{n} days at horizon {horizon}; expected more than twice the horizon")
    if not np.isfinite(gaps).all():
        raise ValueError("a loss is not finite; leave out days without a forecast or an outcome")
    mean = float(gaps.mean())
    if not gaps.any():
        return Comparison(0.0, 1.0, 0.0)
    centred = gaps - mean
    products = [float(centred[k:] @ centred[: n - k]) / n for k in range(horizon)]
    long_run = products[0] + 2 * sum(products[1:])
    if long_run <= 0:  # the sum of few products may fall below 0: Bartlett's weights never do
        long_run = products[0] + 2 * sum((1 - k / horizon) * products[k] for k in range(1, horizon))
    if long_run <= 0:  # the same difference on all days
        return Comparison(float(np.copysign(np.inf, mean)), 0.0, mean)
    correction = (n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n
    statistic = mean / np.sqrt(long_run / n) * np.sqrt(correction)
    return Comparison(float(statistic), float(2 * stats.t.sf(abs(statistic), n - 1)), mean)


def correlate(forecast: npt.ArrayLike, outcome: npt.ArrayLike) -> float:
    """Pearson's correlation; nan where one of them does not vary."""
    x, y = np.asarray(forecast, dtype=np.float64), np.asarray(outcome, dtype=np.float64)
    dx, dy = x - x.mean(), y - y.mean()
    norm = np.sqrt((dx @ dx) * (dy @ dy))
    return float(dx @ dy / norm) if norm > 0 else float("nan")


def find_skill(forecast: npt.ArrayLike, outcome: npt.ArrayLike, rival: npt.ArrayLike) -> float:
    """Share of the rival's mean squared error that the forecast saves; 1 is perfect.

    With the outcomes' mean as rival it is R².
    """
    own, other = (
        float(np.square(np.subtract(values, outcome)).mean()) for values in (forecast, rival)
    )
    return 1.0 - own / other


def estimate(
    statistic: Callable[..., float],
    *days: npt.ArrayLike,
    n_bootstrap: int,
    confidence: float,
    seed: int,
) -> Estimate:
    """A statistic of daily arrays and the bootstrap's central interval.

    Parameters
    ----------
    statistic : function of arrays of shape (n_days,) to a number
    *days : arrays of shape (n_days,)
        In time order and resampled together. The block suits the product of the first two, which
        is what a correlation averages, or the first if it is alone.
    confidence : float
        Mass of the interval, (0, 1).

    Returns
    -------
    Estimate
        Samples in which the statistic is nan are left out; nan bounds where it always is.
    """
    columns = [np.asarray(values, dtype=np.float64) for values in days]
    centred = [values - values.mean() for values in columns[:2]]
    block = block_length(np.prod(centred, axis=0))
    point = float(statistic(*columns))
    bootstrap = StationaryBootstrap(block, *columns, seed=np.random.default_rng(seed))
    samples = np.array([statistic(*sample[0]) for sample in bootstrap.bootstrap(n_bootstrap)])
    samples = samples[np.isfinite(samples)]
    if not len(samples):
        return Estimate(point, float("nan"), float("nan"))
    tail = (1 - confidence) / 2
    low, high = np.quantile(samples, (tail, 1 - tail))
    return Estimate(point, float(low), float(high))


def find_coverage(low: FloatArray, high: FloatArray, outcome: FloatArray) -> float:
    """Share of the outcomes inside their intervals, bounds included."""
    return float(((low <= outcome) & (outcome <= high)).mean())


def find_ranks(mean: npt.ArrayLike, sd: npt.ArrayLike, outcome: npt.ArrayLike) -> FloatArray:
    """Probability integral transform under normal forecasts, shape (n_days,): uniform if right."""
    return np.asarray(
        stats.norm.cdf(np.subtract(outcome, mean) / np.asarray(sd)), dtype=np.float64
    )


def calibration_curve(ranks: npt.ArrayLike, levels: npt.ArrayLike) -> FloatArray:
    """Share of ranks at or below each level, shape (n_levels,); the diagonal if calibrated."""
    ordered = np.sort(np.asarray(ranks, dtype=np.float64))
    return np.searchsorted(ordered, np.asarray(levels), side="right") / len(ordered)
