"""Value at risk and expected shortfall one bar ahead, each from returns before that bar only.

Every model looks at the last `window_bars` returns and estimates its parameters anew every
`refit_bars` bars:

| model | tail of the next return |
|---|---|
| historical | the window's own, `measures.value_at_risk` |
| normal | of a normal variable of the window's mean and deviation |
| cornish_fisher | the same, its quantile corrected for skewness and excess kurtosis |
| filtered | tomorrow's GJR-GARCH deviation times the tail of the window's standardised residuals |

The first three use the window before the refit; the filtered one updates variance and
residuals with every return and keeps only its parameters between refits.

Source: Cornish & Fisher (1938), Revue de l'Institut International de Statistique 5(4);
Maillard (2012), SSRN 1997178, for where the expansion is valid; Glosten, Jagannathan &
Runkle (1993), Journal of Finance 48(5); Barone-Adesi, Giannopoulos & Vosper (1999), Journal
of Futures Markets 19(5), for filtered historical simulation; fits through `arch`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from arch import arch_model
from numpy.lib.stride_tricks import sliding_window_view
from scipy import stats

from hftlib.compute import compile_kernel
from hftlib.portfolio import measures

FloatArray = npt.NDArray[np.float64]
PERCENT = 100.0  # `arch` wants returns near one
FARTHEST = -4.0  # deviations; a normal variable is below in 3 of 100,000 cases
MAX_CELLS = 2**21  # of windows that are laid out at once: 16 MiB
MIN_WINDOW = 100  # bars; below, a tail of 1 % holds no return and GARCH does not converge


class VarError(ValueError):
    """Returns or settings that no value at risk can be forecast from."""


class VarForecast(NamedTuple):
    """Losses as shares, positive; arrays of shape (n_bars, n_levels), nan without a forecast."""

    value_at_risk: FloatArray
    expected_shortfall: FloatArray


class Garch(NamedTuple):
    """Parameters of a GJR-GARCH(1, 1, 1) with a constant mean, of returns in percent."""

    mean: float
    omega: float
    alpha: float
    gamma: float  # added to alpha after a return below the mean
    beta: float


def forecast_var(
    returns: npt.ArrayLike,
    model: str,
    levels: Sequence[float],
    *,
    window_bars: int,
    refit_bars: int = 1,
) -> VarForecast:
    """Forecast the tail of every bar from the bars before it.

    Parameters
    ----------
    returns : array of shape (n_bars,)
        Simple returns of one bar, in time order.
    model : str
        A key of `MODELS`.
    levels : sequence of float
        Confidence levels, (0.5, 1); 0.99 leaves one bar in a hundred beyond.
    window_bars : int
        Returns that a forecast looks at, at least `MIN_WINDOW`.
    refit_bars : int
        Bars between two estimates; the filtered model takes some 50 ms for each.

    Returns
    -------
    VarForecast
        Row t is the forecast for bar t and uses returns before t only: compare it with return t.
        nan in the first `window_bars` rows; for "cornish_fisher" also where the expansion is not
        increasing over the tail; for "filtered" also where the window does not vary or no fit has
        converged yet. A fit that does not converge leaves the parameters of the one before.

    Raises
    ------
    VarError
        If the model is unknown, a setting out of range, a return not finite, or there are no
        more returns than `window_bars`.
    """
    values = np.asarray(returns, dtype=np.float64)
    _check(values, model, levels, window_bars, refit_bars)
    shape = (len(values), len(levels))
    out = VarForecast(np.full(shape, np.nan), np.full(shape, np.nan))
    if model == "filtered":
        _forecast_filtered(values, levels, window_bars, refit_bars, out)
        return out
    refits = np.arange(window_bars, len(values), refit_bars)
    windows = sliding_window_view(values, window_bars)
    for part in np.array_split(refits, 1 + len(refits) * window_bars // MAX_CELLS):
        columns = np.ascontiguousarray(windows[part - window_bars].T)
        for k, level in enumerate(levels):
            for whole, tail in zip(out, TAILS[model](columns, level), strict=True):
                whole[part, k] = tail
    for whole in out:
        whole[window_bars:] = np.repeat(whole[refits], refit_bars, axis=0)[
            : len(values) - window_bars
        ]
    return out


def historical_tail(returns: FloatArray, level: float) -> tuple[FloatArray, FloatArray]:
    """Value at risk and expected shortfall of each column of `returns`, its own tail."""
    return measures.value_at_risk(returns, level), measures.expected_shortfall(returns, level)


def normal_tail(returns: FloatArray, level: float) -> tuple[FloatArray, FloatArray]:
    """The same of a normal variable of each column's mean and standard deviation (ddof 1)."""
    mean, deviation = returns.mean(axis=0), returns.std(axis=0, ddof=1)
    z = stats.norm.ppf(1.0 - level)
    return -mean - deviation * z, -mean + deviation * stats.norm.pdf(z) / (1.0 - level)


def cornish_fisher_tail(returns: FloatArray, level: float) -> tuple[FloatArray, FloatArray]:
    """The same with Cornish and Fisher's quantile; the shortfall is its mean over the tail.

    With z the normal quantile, S skewness and K excess kurtosis, the quantile is
    z + (z² - 1) S / 6 + (z³ - 3 z) K / 24 - (2 z³ - 5 z) S² / 36. nan where this does not
    increase from `FARTHEST` to z: then it is the quantile of nothing.
    """
    mean, deviation = returns.mean(axis=0), returns.std(axis=0, ddof=1)
    varies = deviation > 1e-12 * np.abs(returns).max(axis=0)
    safe = np.where(varies, deviation, 1.0)
    shape = (returns - mean) / safe
    skew = np.where(varies, np.mean(shape**3, axis=0), 0.0)
    excess = np.where(varies, np.mean(shape**4, axis=0) - 3.0, 0.0)
    z = stats.norm.ppf(1.0 - level)
    quantile = (
        z + (z**2 - 1) * skew / 6 + (z**3 - 3 * z) * excess / 24 - (2 * z**3 - 5 * z) * skew**2 / 36
    )
    # the means of z, z² - 1, z³ - 3 z and 2 z³ - 5 z over the tail, over that of z
    beyond = 1 + z * skew / 6 + (z**2 - 1) * excess / 24 - (2 * z**2 - 1) * skew**2 / 36
    shortfall = stats.norm.pdf(z) / (1.0 - level) * beyond
    valid = _increases_below(z, skew, excess)
    quantile, shortfall = (np.where(valid, x, np.nan) for x in (quantile, shortfall))
    return -mean - deviation * quantile, -mean + deviation * shortfall


TAILS: dict[str, Callable[[FloatArray, float], tuple[FloatArray, FloatArray]]] = {
    "historical": historical_tail,
    "normal": normal_tail,
    "cornish_fisher": cornish_fisher_tail,
}
MODELS = (*TAILS, "filtered")


def fit_garch(returns: FloatArray) -> Garch | None:
    """Quasi-maximum likelihood on returns (shares); None where it does not converge."""
    model = arch_model(PERCENT * returns, mean="Constant", p=1, o=1, q=1, rescale=False)
    fitted = model.fit(disp="off", show_warning=False)
    garch = Garch(*(float(value) for value in fitted.params))
    is_usable = fitted.convergence_flag == 0 and np.isfinite(garch).all()
    return garch if is_usable else None


def filter_variance(returns: FloatArray, garch: Garch, start: float) -> FloatArray:
    """Variance of each bar given the returns before it.

    Parameters
    ----------
    returns : array of shape (n_bars,)
        Shares.
    start : float
        Stands for the variance and the squared residual before the first bar, percent².

    Returns
    -------
    array of shape (n_bars,)
        Percent², as `arch` computes it but without its bounds, which know the whole sample.
    """
    variance = np.empty(len(returns))
    _recurse(PERCENT * returns - garch.mean, garch, start, variance)
    return variance


@compile_kernel
def _recurse(residuals: FloatArray, garch: Garch, start: float, variance: FloatArray) -> None:
    square, before = start * (garch.alpha + 0.5 * garch.gamma), start
    for t in range(len(residuals)):
        variance[t] = garch.omega + square + garch.beta * before
        weight = garch.alpha + (garch.gamma if residuals[t] < 0 else 0.0)
        square, before = weight * residuals[t] ** 2, variance[t]


def _forecast_filtered(
    returns: FloatArray,
    levels: Sequence[float],
    window_bars: int,
    refit_bars: int,
    out: VarForecast,
) -> None:
    garch = None
    for refit in range(window_bars, len(returns), refit_bars):
        stop = min(refit + refit_bars, len(returns))
        window = returns[refit - window_bars : refit]
        if np.std(window) <= 1e-12 * np.abs(window).max():
            continue
        garch = fit_garch(window) or garch
        if garch is None:
            continue
        block = returns[refit - window_bars : stop]
        deviation = np.sqrt(filter_variance(block, garch, float(np.var(PERCENT * window))))
        residuals = (PERCENT * block - garch.mean) / deviation
        windows = sliding_window_view(residuals[:-1], window_bars).T  # column: before each bar
        ahead = deviation[window_bars:]
        for k, level in enumerate(levels):
            for whole, tail in zip(out, historical_tail(windows, level), strict=True):
                whole[refit:stop, k] = (ahead * tail - garch.mean) / PERCENT


def _increases_below(z: float, skew: FloatArray, excess: FloatArray) -> npt.NDArray[np.bool_]:
    """Whether the expansion's slope a x² + b x + c is above zero for x from `FARTHEST` to `z`."""
    a = excess / 8 - skew**2 / 6
    b = skew / 3
    c = 1 - excess / 8 + 5 * skew**2 / 36
    vertex = np.where(a > 0, -b / np.where(a > 0, 2 * a, 1.0), z)
    points = (np.clip(vertex, FARTHEST, z), np.full_like(a, FARTHEST), np.full_like(a, z))
    return np.all([a * x**2 + b * x + c > 0 for x in points], axis=0)


def _check(
    returns: FloatArray, model: str, levels: Sequence[float], window_bars: int, refit_bars: int
) -> None:
    if model not in MODELS:
        raise VarError(f"model {model!r} is not known; expected one of {', '.join(MODELS)}")
    for level in levels:
        if not 0.5 < level < 1:
            raise VarError(f"level is {level}; expected above .5 and below 1, such as .95")
    if window_bars < MIN_WINDOW or refit_bars < 1:
        raise VarError(
            f"window_bars is {window_bars} and refit_bars {refit_bars}; "
            f"expected at least {MIN_WINDOW} and 1"
        )
    if returns.ndim != 1 or len(returns) <= window_bars:
        raise VarError(
            f"returns have the shape {returns.shape}; expected one dimension with more than "
            f"window_bars={window_bars} rows: shorten the window or give an earlier start"
        )
    bad = np.flatnonzero(~np.isfinite(returns))
    if len(bad):
        raise VarError(
            f"{len(bad)} returns are not finite, the first in row {bad[0]}; drop or fill them"
        )
