"""How far a Sharpe ratio can be trusted: standard errors, and what the number of trials takes off.

All ratios are per period, as `measures.sharpe(returns, 1.0)` gives them: these
formulas count periods, and an annualised ratio makes any strategy significant.
Divide by the root of the periods a year first, and a variance of annualised
ratios by the periods. Kurtosis is 3 for a normal, never in excess. The
probabilistic ratios take the returns of one strategy as independent; where they are
not, `SharpeEstimate.error_lags` says by how much the error grows.

Source: Lo (2002), Financial Analysts Journal 58(4), for the errors; Mertens (2002),
Comments on variance of the IID estimator in Lo; Bailey & López de Prado (2012), Journal of
Risk 15(2), for the probabilistic ratio and the track record; (2014), Journal of Portfolio
Management 40(5), for the deflated one; Newey & West (1987, 1994) for the lags.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from hftlib.evaluation.samples import FloatArray, check_returns

LEAST = 10  # observations below which no moment of third or fourth order is worth a formula


@dataclass(frozen=True)
class SharpeEstimate:
    """A Sharpe ratio per period and three standard errors of it.

    Attributes
    ----------
    sharpe, n, skew, kurtosis
        Ratio (ddof 1), observations, and moments of the returns; 3 is a normal's kurtosis.
    error_normal : float
        Lo, independent normal returns.
    error_moments : float
        Mertens, independent returns of any law.
    error_lags : float
        Lo, returns that depend on each other up to `n_lags` bars apart; with 0 lags
        it is `error_moments`.
    n_lags : int
    """

    sharpe: float
    n: int
    skew: float
    kurtosis: float
    error_normal: float
    error_moments: float
    error_lags: float
    n_lags: int

    def to_dict(self) -> dict[str, float]:
        """Plain numbers by name."""
        return asdict(self)


def estimate_sharpe(returns: npt.ArrayLike, n_lags: int | None = None) -> SharpeEstimate:
    """Sharpe ratio per period of returns of shape (n,) with its standard errors.

    Parameters
    ----------
    n_lags : int, optional
        Of Bartlett's weights in `error_lags`; by default 4 (n / 100)^(2/9) rounded down.

    Raises
    ------
    TooFewError, UndefinedError, ConstantError
        If there are fewer than 10 returns, one is not finite, or they do not vary.
    ValueError
        If the shape is another, or not 0 <= `n_lags` < n.
    """
    values = check_returns(returns, n_least=LEAST, test="standard error of a Sharpe ratio")
    if values.ndim != 1:
        raise ValueError(f"returns have shape {values.shape}; give one strategy, shape (n,)")
    n = len(values)
    if n_lags is None:
        n_lags = int(4 * (n / 100) ** (2 / 9))
    if not 0 <= n_lags < n:
        raise ValueError(f"n_lags={n_lags} of {n} returns; expected at least 0 and fewer than n")
    standard = (values - values.mean()) / values.std()
    sharpe = float(values.mean() / values.std(ddof=1))
    skew, kurtosis = float(np.mean(standard**3)), float(np.mean(standard**4))
    # what each return adds to the estimate, to first order: its long-run variance is Lo's V
    influence = standard - 0.5 * sharpe * (standard**2 - 1.0)
    spectrum = [float(influence[k:] @ influence[: n - k]) / n for k in range(n_lags + 1)]
    weights = 1.0 - np.arange(1, n_lags + 1) / (n_lags + 1)
    long_run = spectrum[0] + 2.0 * float(weights @ np.array(spectrum[1:]))
    return SharpeEstimate(
        sharpe,
        n,
        skew,
        kurtosis,
        float(sharpe_error(sharpe, n)),
        float(sharpe_error(sharpe, n, skew, kurtosis)),
        float(np.sqrt(long_run / n)),
        n_lags,
    )


def moments(returns: npt.ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Sharpe ratio per period, skew and kurtosis of many strategies at once.

    Parameters
    ----------
    returns : array of shape (n_bars, ...)

    Returns
    -------
    three arrays of shape (...)
        nan where returns do not vary or one of them is nan.
    """
    values = np.asarray(returns, dtype=np.float64)
    mean = values.mean(axis=0)
    centred = values - mean
    square = centred * centred
    variance = square.mean(axis=0)
    size = np.max(np.abs(values), axis=0)
    variance = np.where(variance > np.maximum(1e-15, 1e-12 * size) ** 2, variance, np.nan)
    skew = np.mean(square * centred, axis=0) / variance**1.5
    kurtosis = np.mean(square * square, axis=0) / variance**2
    n = len(values)
    return mean / np.sqrt(variance * n / (n - 1)), skew, kurtosis


def sharpe_error(
    sharpe: npt.ArrayLike, n: int, skew: npt.ArrayLike = 0.0, kurtosis: npt.ArrayLike = 3.0
) -> Any:
    """Standard error of a ratio of n independent returns; by default Lo's, of normal ones.

    With skew and kurtosis it is Mertens's. nan where these cannot be of one law.
    """
    return np.sqrt(_variance(sharpe, skew, kurtosis) / n)


def probabilistic_sharpe(
    sharpe: npt.ArrayLike,
    n: int,
    skew: npt.ArrayLike = 0.0,
    kurtosis: npt.ArrayLike = 3.0,
    benchmark: npt.ArrayLike = 0.0,
) -> Any:
    """Confidence that the true ratio is above `benchmark`; 1 less it is the one-sided p-value.

    Parameters
    ----------
    sharpe, skew, kurtosis, benchmark : numbers or arrays of one shape
        All per period; kurtosis is 3 for a normal.
    n : int
        Returns behind each ratio.

    Returns
    -------
    number or array
        nan where an entry is nan, or skew and kurtosis cannot be of one law.

    Raises
    ------
    ValueError
        If `n` is below 2.
    """
    if n < 2:
        raise ValueError(f"n is {n}; expected at least 2 returns")
    spread = np.sqrt(_variance(sharpe, skew, kurtosis) / (n - 1))
    return stats.norm.cdf((np.asarray(sharpe) - np.asarray(benchmark)) / spread)


def expected_max_sharpe(n_trials: int, variance: npt.ArrayLike) -> Any:
    """Expected best ratio of `n_trials` worthless ones whose ratios have that variance.

    0 for one trial: it has no choice in it. The approximation is of independent normal ratios;
    trials that resemble each other have a smaller variance, and so are not counted in full.

    Raises
    ------
    ValueError
        If there is no trial, or a variance is negative.
    """
    if n_trials < 1:
        raise ValueError(f"n_trials is {n_trials}; expected at least 1, the strategy itself")
    spread = np.asarray(variance, dtype=np.float64)
    if (spread < 0).any():
        raise ValueError(f"variance is {spread}; expected that of ratios per period, 0 or more")
    if n_trials == 1:
        return np.zeros_like(spread)[()]
    early, late = stats.norm.ppf([1.0 - 1.0 / n_trials, 1.0 - 1.0 / (n_trials * np.e)])
    return np.sqrt(spread) * ((1.0 - np.euler_gamma) * early + np.euler_gamma * late)


def deflated_sharpe(
    sharpe: npt.ArrayLike,
    n: int,
    skew: npt.ArrayLike,
    kurtosis: npt.ArrayLike,
    *,
    n_trials: int,
    variance: npt.ArrayLike,
) -> Any:
    """`probabilistic_sharpe` against the best that `n_trials` worthless trials would show.

    Parameters
    ----------
    sharpe, n, skew, kurtosis
        Of the strategy that was chosen, per period.
    n_trials : int
        All that were tried, the failed and forgotten included; `trial_store.read_trials`
        counts them.
    variance : number or array
        Of the trials' ratios **per period**.
    """
    hurdle = expected_max_sharpe(n_trials, variance)
    return probabilistic_sharpe(sharpe, n, skew, kurtosis, hurdle)


def min_track_record(
    sharpe: npt.ArrayLike,
    skew: npt.ArrayLike = 0.0,
    kurtosis: npt.ArrayLike = 3.0,
    *,
    benchmark: float = 0.0,
    confidence: float = 0.95,
) -> Any:
    """Returns that are needed before the ratio counts as above `benchmark`, a float.

    inf where it is not above it.

    Raises
    ------
    ValueError
        If `confidence` is not above .5 and below 1.
    """
    if not 0.5 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; expected above .5 and below 1, such as .95")
    gap = np.asarray(sharpe, dtype=np.float64) - benchmark
    with np.errstate(divide="ignore"):
        need = 1.0 + _variance(sharpe, skew, kurtosis) * (stats.norm.ppf(confidence) / gap) ** 2
    return np.where(gap > 0, need, np.where(np.isnan(gap), np.nan, np.inf))[()]


def _variance(sharpe: npt.ArrayLike, skew: npt.ArrayLike, kurtosis: npt.ArrayLike) -> FloatArray:
    """Of the ratio, times n; nan where not positive, which no law's moments make it."""
    ratio = np.asarray(sharpe, dtype=np.float64)
    factor = 1.0 - np.asarray(skew) * ratio + (np.asarray(kurtosis) - 1.0) / 4.0 * ratio**2
    return np.where(factor > 0, factor, np.nan)
