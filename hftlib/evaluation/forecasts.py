"""Are forecasts good, better than others, and right about their own errors?

Intervals come from the stationary bootstrap of days, since errors of
neighbouring days are alike. Comparisons are of losses on the same days.

Source: Diebold & Mariano (1995), J. Business & Economic Statistics 13(3); Harvey,
Leybourne & Newbold (1997), Int. J. Forecasting 13(2), for small samples; Newey & West
(1987), Econometrica 55(3), for the weights of the lags, and (1994), Review of Economic
Studies 61(4), for their number; Politis & Romano (1994), JASA 89(428), through `arch`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from arch.bootstrap import StationaryBootstrap
from scipy import stats

from hftlib.evaluation.statistics import Estimate, block_length

FloatArray = npt.NDArray[np.float64]
REPORTED = {"": "forecaster", "har_": "har", "har_leverage_": "har_leverage", "linear_": "linear"}


class Comparison(NamedTuple):
    """Diebold and Mariano's test; a negative statistic says that the first has smaller losses."""

    statistic: float
    p_value: float  # two-sided
    difference: float  # mean loss of the first less that of the second


def compare_losses(
    first: npt.ArrayLike, second: npt.ArrayLike, horizon: int = 1, n_lags: int | None = None
) -> Comparison:
    """Test whether two forecasts have the same expected loss.

    Parameters
    ----------
    first, second : arrays of shape (n_days,)
        Losses of the same days in time order, such as squared errors.
    horizon : int
        Bars ahead; differences up to `horizon` - 1 bars apart are dependent even if both forecasts
        are as good as can be.
    n_lags : int, optional
        Differences up to so many bars apart count as dependent, with Bartlett's weights. By
        default 4 (n_days / 100)^(2/9) rounded down, at least `horizon` - 1: forecasts that are
        not as good as can be err alike on neighbouring days. 0 is the variance of independent days.

    Returns
    -------
    Comparison
        With Harvey, Leybourne and Newbold's correction, and Student's t with n_days - 1 degrees.
        Statistic 0 and p 1 where the losses are equal on all days.

    Raises
    ------
    ValueError
        If the shapes differ, a loss is not finite, there are at most 2 `horizon` days, or not
        0 <= `n_lags` < n_days.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"losses have shapes {a.shape} and {b.shape}; give the same days of both")
    gaps, n = a - b, len(a)
    if horizon < 1 or n <= 2 * horizon:
        raise ValueError(f"{n} days at horizon {horizon}; expected more than twice the horizon")
    if not np.isfinite(gaps).all():
        raise ValueError("a loss is not finite; leave out days without a forecast or an outcome")
    if n_lags is None:
        n_lags = max(int(4 * (n / 100) ** (2 / 9)), horizon - 1)
    if not 0 <= n_lags < n:
        raise ValueError(f"n_lags={n_lags} of {n} days; expected at least 0 and fewer than days")
    mean = float(gaps.mean())
    if not gaps.any():
        return Comparison(0.0, 1.0, 0.0)
    centred = gaps - mean
    products = [float(centred[k:] @ centred[: n - k]) / n for k in range(n_lags + 1)]
    weighted = [(1 - k / (n_lags + 1)) * products[k] for k in range(1, n_lags + 1)]
    long_run = products[0] + 2 * sum(weighted)
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

    With the outcomes' mean as rival it is R². nan where the rival makes no error.
    """
    own, other = (
        float(np.square(np.subtract(values, outcome)).mean()) for values in (forecast, rival)
    )
    return 1.0 - own / other if other > 0 else float("nan")


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
        Samples in which the statistic is not finite are left out; nan bounds where it never is.
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


def find_ranks(mean: npt.ArrayLike, sd: npt.ArrayLike, outcome: npt.ArrayLike) -> FloatArray:
    """Probability integral transform under normal forecasts, shape (n_days,): uniform if right."""
    return np.asarray(stats.norm.cdf(np.subtract(outcome, mean) / np.asarray(sd)), dtype=np.float64)


def normal_margin(coverage: float) -> float:
    """Half the width, in standard deviations, of a normal's central interval."""
    return float(stats.norm.ppf((1 + coverage) / 2))


def calibration_curve(ranks: npt.ArrayLike, levels: npt.ArrayLike) -> FloatArray:
    """Share of ranks at or below each level, shape (n_levels,); the diagonal if calibrated."""
    ordered = np.sort(np.asarray(ranks, dtype=np.float64))
    return np.searchsorted(ordered, np.asarray(levels), side="right") / len(ordered)


def score_forecasts(
    forecasts: Mapping[str, FloatArray],
    outcome: FloatArray,
    baseline: str,
    *,
    n_bootstrap: int,
    confidence: float,
    seed: int,
) -> pd.DataFrame:
    """Every model's measures on the same days.

    Parameters
    ----------
    forecasts : mapping of name to array of shape (n_days,)
        Finite, one step ahead.
    outcome : array of shape (n_days,)
    baseline : str
        A key of `forecasts`; the skill is over it, and the test against it.

    Returns
    -------
    frame with columns model, measure, value, low, high, p
        Measures are correlation, r_squared (over the outcomes' own mean) and skill; p is that of
        `compare_losses` on squared errors, beside the skill, and nan elsewhere.

    Raises
    ------
    ValueError
        If the baseline is unknown, or a forecast or outcome is not finite.
    """
    if baseline not in forecasts:
        raise ValueError(f"baseline {baseline!r} is not among {', '.join(forecasts)}")
    settings: dict[str, Any] = {"n_bootstrap": n_bootstrap, "confidence": confidence, "seed": seed}
    rows = []
    for name, values in forecasts.items():
        if not (np.isfinite(values) & np.isfinite(outcome)).all():
            raise ValueError(f"{name}: a forecast or an outcome is not finite; leave out such days")
        rival = forecasts[baseline]
        p = compare_losses((values - outcome) ** 2, (rival - outcome) ** 2).p_value
        for measure, found, chance in (
            ("correlation", estimate(correlate, values, outcome, **settings), np.nan),
            ("r_squared", estimate(_r_squared, values, outcome, **settings), np.nan),
            ("skill", estimate(find_skill, values, outcome, rival, **settings), p),
        ):
            rows.append((name, measure, found.value, found.low, found.high, chance))
    return pd.DataFrame(rows, columns=["model", "measure", "value", "low", "high", "p"])


def summarise_forecasts(
    scores: pd.DataFrame,
    coverage: Mapping[str, float],
    returns: Mapping[str, Estimate],
    shuffled: Mapping[str, Estimate],
    level: float,
) -> dict[str, Any]:
    """What `reports/metrics/forecaster.json` holds, by symbol; None where a number is nan.

    Parameters
    ----------
    scores : frame as from `score_forecasts`, with a column symbol
        Of log variance, against "har"; ours is "forecaster". "har_leverage" and "linear", which
        are stronger rivals, are reported beside it.
    coverage : mapping of symbol to the share of log variances inside their intervals
    returns, shuffled : mapping of symbol to correlation
        With the next return; of a forecaster of shuffled outcomes with these.
    level : float
        Coverage asked for; names the entry, as in `coverage_90`.
    """
    found = scores.set_index(["symbol", "model", "measure"])
    summary: dict[str, Any] = {}
    for symbol in coverage:
        reported = {
            f"{prefix}correlation": found.loc[(symbol, model, "correlation"), "value"]
            for prefix, model in REPORTED.items()
        }
        reported["dm_p"] = found.loc[(symbol, "forecaster", "skill"), "p"]
        summary[symbol] = {
            "log_variance": {key: _drop_nan(value) for key, value in reported.items()},
            f"coverage_{100 * level:.0f}": _drop_nan(coverage[symbol]),
            "next_return": _name_correlation(returns[symbol]),
            "shuffled": _name_correlation(shuffled[symbol]),
        }
    return summary


def _name_correlation(found: Estimate) -> dict[str, float | None]:
    entries = found.to_dict()
    return {"correlation": entries["value"], "low": entries["low"], "high": entries["high"]}


def _drop_nan(value: float) -> float | None:
    """JSON has no nan."""
    return float(value) if np.isfinite(value) else None


def _r_squared(forecast: FloatArray, outcome: FloatArray) -> float:
    return find_skill(forecast, outcome, np.full(len(outcome), outcome.mean()))
