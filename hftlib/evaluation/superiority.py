"""Is any strategy better than a benchmark, which ones cannot be told from the best, by how much?

Returns are tables with the days as the index: everything is resampled in blocks
of days, all strategies on the same ones (stationary bootstrap through `arch`).
P-values are (1 + exceedances) / (1 + replications), never 0.

`arch` 8.0 leaves the differences in the test of superior predictive ability as
they are (its `studentize` changes no p-value), which makes its upper bound White's
reality check. Hansen's test divides each strategy's difference by its standard
error; here the differences are divided before `arch` sees them, so a strategy
of high variance cannot drown the others.

Source: White (2000), Econometrica 68(5); Hansen (2005), Journal of Business &
Economic Statistics 23(4); Hansen, Lunde & Nason (2011), Econometrica 79(2); Politis
& Romano (1994), JASA 89(428); Holm (1979), Scandinavian Journal of Statistics 6(2);
Benjamini & Hochberg (1995), JRSS B 57(1), through `statsmodels`.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from arch.bootstrap import MCS, SPA, StationaryBootstrap
from statsmodels.stats.multitest import multipletests

from hftlib.evaluation.samples import (
    ConstantError,
    FloatArray,
    TooFewError,
    UndefinedError,
    check_dates,
    check_finite,
    check_returns,
    varies,
)
from hftlib.evaluation.statistics import Estimate, block_length

LEAST_BARS = 30  # blocks of days are too few in less
METHODS = {"holm": "holm", "benjamini_hochberg": "fdr_bh"}


@dataclass(frozen=True)
class Superiority:
    """Tests of the hypothesis that no strategy has a higher mean return than the benchmark.

    Attributes
    ----------
    reality_check : float
        White's p-value; the least favourable, and moved by strategies of high variance.
    spa, spa_lower, spa_upper : float
        Hansen's p-value, consistent, and its bounds.
    best : str
        The strategy of the largest difference over its standard error.
    better : tuple of str
        Strategies that beat the benchmark at `level` by Hansen's test, family-wise.
    level : float
    block : int
        Mean block of the bootstrap, bars.
    """

    reality_check: float
    spa: float
    spa_lower: float
    spa_upper: float
    best: str
    better: tuple[str, ...]
    level: float
    block: int

    def to_dict(self) -> dict[str, Any]:
        """By name, `better` as a list."""
        return {**asdict(self), "better": list(self.better)}


def beat_benchmark(
    returns: pd.DataFrame,
    benchmark: pd.Series,
    *,
    n_bootstrap: int,
    seed: int,
    level: float = 0.05,
) -> Superiority:
    """White's reality check and Hansen's test of superior predictive ability.

    Parameters
    ----------
    returns : frame with dates as index and strategies as columns
        **All** strategies that were tried.
    benchmark : series on the same dates
    n_bootstrap : int
        Replications of each of the two tests.

    Raises
    ------
    DatesDifferError
        If the benchmark is of other dates.
    TooFewError, UndefinedError, ConstantError
        If there are fewer than 30 bars, a return is not finite, or a strategy's excess over the
        benchmark does not vary, as that of the benchmark itself.
    """
    test = "superiority over a benchmark"
    check_dates(returns.index, benchmark.index, test=test)
    excess = check_returns(
        returns.sub(benchmark, axis=0), n_least=LEAST_BARS, test=test, names=list(returns)
    )
    block = max(block_length(column) for column in excess.T)
    scaled = excess / _long_run_deviation(excess, block)
    found = []
    for differences in (excess, scaled):
        # losses: the benchmark's are 0, a strategy's are minus its excess
        spa = SPA(np.zeros(len(excess)), -differences, block, n_bootstrap, seed=seed)
        spa.compute()
        found.append(spa)
    white, hansen = ((n_bootstrap * t.pvalues + 1) / (n_bootstrap + 1) for t in found)
    names = [str(name) for name in returns]
    better = tuple(names[k] for k in found[1].better_models(pvalue=level))
    return Superiority(
        float(white["upper"]),
        float(hansen["consistent"]),
        float(hansen["lower"]),
        float(hansen["upper"]),
        names[int(scaled.mean(axis=0).argmax())],
        better if hansen["consistent"] <= level else (),
        level,
        block,
    )


def confidence_set(
    returns: pd.DataFrame, *, n_bootstrap: int, seed: int, level: float = 0.05
) -> pd.DataFrame:
    """Strategies that cannot be told from the one of the highest mean return.

    Parameters
    ----------
    returns : frame with dates as index and strategies as columns, at least 2
    level : float
        The best one is in the set with probability 1 - `level`, asymptotically.

    Returns
    -------
    frame with columns strategy, mean (per bar), p, is_included; the highest p first

    Raises
    ------
    TooFewError, UndefinedError
        If there are fewer than 30 bars or 2 strategies, or a return is not finite.
    ConstantError
        If the difference of two strategies does not vary: keep one of them.
    """
    test = "model confidence set"
    values = np.asarray(returns, dtype=np.float64)
    if values.shape[1] < 2:
        raise TooFewError(f"{test}: {values.shape[1]} strategy; it compares at least 2")
    names = list(returns)
    gaps = _check_distinct(values, test, names)
    block = max(block_length(column) for column in gaps.T)
    mcs = MCS(-values, level, n_bootstrap, block, seed=seed)
    mcs.compute()
    p = (n_bootstrap * mcs.pvalues["Pvalue"].sort_index().to_numpy() + 1) / (n_bootstrap + 1)
    table = pd.DataFrame({"strategy": names, "mean": values.mean(axis=0), "p": p})
    table["is_included"] = table["p"] > level
    order = ["p", "mean"]
    return table.sort_values(order, ascending=False, kind="stable", ignore_index=True)


class Correction(NamedTuple):
    """P-values corrected for their number, and which are below the level; nan and False for nan."""

    p_values: FloatArray
    is_rejected: npt.NDArray[np.bool_]


def correct_p_values(
    p_values: npt.ArrayLike,
    method: Literal["holm", "benjamini_hochberg"] = "holm",
    level: float = 0.05,
) -> Correction:
    """Correct p-values of shape (n_tests,) for their number.

    Parameters
    ----------
    method : "holm" or "benjamini_hochberg"
        Holm bounds the chance of any false discovery, whatever the tests' dependence; Benjamini and
        Hochberg the expected share of false ones among the discoveries, for tests that are
        independent or positively dependent.

    Raises
    ------
    ValueError
        If the method is another, or a p-value is outside [0, 1]. nan is a test that was not made:
        it is not counted.
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; expected one of {', '.join(METHODS)}")
    values = np.asarray(p_values, dtype=np.float64)
    is_made = ~np.isnan(values)
    if ((values[is_made] < 0) | (values[is_made] > 1)).any():
        raise ValueError(f"p-values lie between {np.nanmin(values)} and {np.nanmax(values)}")
    corrected = np.full(values.shape, np.nan)
    is_rejected = np.zeros(values.shape, dtype=np.bool_)
    if is_made.any():
        found = multipletests(values[is_made], alpha=level, method=METHODS[method])
        is_rejected[is_made], corrected[is_made] = found[0], found[1]
    return Correction(corrected, is_rejected)


@dataclass(frozen=True)
class PairComparison:
    """One strategy less another, bar by bar.

    Attributes
    ----------
    n, n_differing : int
        Bars, and those on which the two earn different returns.
    difference : Estimate
        Mean difference per bar, with the bootstrap's central interval.
    effect_size : float
        Cohen's d of the paired differences: mean over standard deviation (ddof 1), per bar.
    p_value : float
        Two-sided, of an expected difference of 0.
    """

    n: int
    n_differing: int
    difference: Estimate
    effect_size: float
    p_value: float

    def to_dict(self) -> dict[str, Any]:
        """By name, the estimate as value, low and high."""
        return {**vars(self), "difference": self.difference.to_dict()}


def compare_pair(
    first: pd.Series,
    second: pd.Series,
    *,
    n_bootstrap: int,
    seed: int,
    confidence: float = 0.95,
    n_least: int = LEAST_BARS,
) -> PairComparison:
    """Paired comparison of two strategies on the same dates, or in the same trades.

    Parameters
    ----------
    first, second : series with the same index
        Returns, profits or losses; the index names days or trades, in time order.
    n_least : int
        Observations on which the two must differ; days on which both hold the same position say
        nothing about which is better, however many they are.

    Raises
    ------
    DatesDifferError
        If the indices differ.
    TooFewError
        If they differ on fewer than `n_least` observations.
    UndefinedError, ConstantError
        If a value is not finite, or the difference is the same everywhere.
    """
    test = "paired comparison"
    check_dates(first.index, second.index, test=test)
    gaps = first.to_numpy(dtype=np.float64) - second.to_numpy(dtype=np.float64)
    if not np.isfinite(gaps).all():
        k = int(np.argmin(np.isfinite(gaps)))
        raise UndefinedError(
            f"{test}: the difference at {first.index[k]} is {gaps[k]}; leave out what not both have"
        )
    n_differing = int((gaps != 0).sum())
    if n_differing < n_least:
        raise TooFewError(
            f"{test}: the two differ in {n_differing} of {len(gaps)} observations; it needs at "
            f"least {n_least}: compare over a longer span"
        )
    check_returns(gaps, n_least=2, test=test)
    mean = float(gaps.mean())
    bootstrap = StationaryBootstrap(block_length(gaps), gaps, seed=np.random.default_rng(seed))
    means = np.array([data[0][0].mean() for data in bootstrap.bootstrap(n_bootstrap)])
    exceed = int((np.abs(means - mean) >= abs(mean)).sum())
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    return PairComparison(
        len(gaps),
        n_differing,
        Estimate(mean, float(low), float(high)),
        mean / float(gaps.std(ddof=1)),
        (1 + exceed) / (1 + n_bootstrap),
    )


def _check_distinct(values: FloatArray, test: str, names: list[Any]) -> FloatArray:
    """Differences of the strategies from their mean; cash may be one of them, but no twins."""
    check_finite(values, names, test=test)
    for a in range(values.shape[1] - 1):
        gap = values[:, a + 1 :] - values[:, [a]]
        for b in np.flatnonzero(~varies(gap)):
            raise ConstantError(
                f"{test}: {names[a]!r} and {names[a + 1 + b]!r} differ by the same on all bars; "
                "keep one of them"
            )
    return check_returns(
        values - values.mean(axis=1, keepdims=True), n_least=LEAST_BARS, test=test, names=names
    )


def _long_run_deviation(values: FloatArray, block: int) -> FloatArray:
    """Standard deviation of sqrt(n) times the bootstrap mean, shape (k,), of shape (n, k).

    The exact variance of the stationary bootstrap (Politis & Romano, lemma 1): autocovariances
    weighted by how often two bars stay that far apart. They come from a Fourier transform.
    """
    n = len(values)
    centred = values - values.mean(axis=0)
    spectrum = np.abs(np.fft.rfft(centred, 2 * n, axis=0)) ** 2
    covariance = np.fft.irfft(spectrum, 2 * n, axis=0)[:n] / n
    lag = np.arange(1, n)
    stay = 1.0 - 1.0 / block
    weight = (1 - lag / n) * stay**lag + lag / n * stay ** (n - lag)
    variance = covariance[0] + 2.0 * weight @ covariance[1:]
    return np.sqrt(np.maximum(variance, 1e-12 * covariance[0]))
