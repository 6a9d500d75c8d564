"""What a forecaster forecasts, tomorrow's log variance and return, and the terms of HAR.

A row is one bar. Targets of row t are of bar t + 1, so they are known one bar
later; everything else uses bars up to and including t.

Source: Garman & Klass (1980), Journal of Business 53(1); Corsi (2009), A simple
approximate long-memory model of realized volatility, J. Financial Econometrics 7(2);
Corsi & Renò (2012), J. Business & Economic Statistics 30(3), for leverage.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

FloatArray = npt.NDArray[np.float64]
HAR_DAYS = (1, 5, 22)
MAX_SHOCK = 5.0  # in standard deviations; bounds what one jump after a quiet month can do


def garman_klass(
    open_: FloatArray, high: FloatArray, low: FloatArray, close: FloatArray
) -> FloatArray:
    """Garman and Klass's variance of each bar, shape (n_bars,), from open to close.

    At least 0; only a bar whose open or close lies outside its range would fall below.
    """
    height, body = np.log(high / low), np.log(close / open_)
    return np.maximum(height**2 / 2 - (2 * np.log(2) - 1) * body**2, 0.0)


def log_variance(bars: pd.DataFrame) -> FloatArray:
    """Logarithm of Garman and Klass's variance of each bar, shape (n_bars,).

    Per bar, not annual; of the span from open to close, so a gap overnight is not in it.
    nan for a bar whose high is its low: its variance is 0.
    """
    variance = garman_klass(*(bars[name].to_numpy() for name in ("open", "high", "low", "close")))
    return np.log(np.where(variance > 0, variance, np.nan))


def har_terms(values: FloatArray) -> FloatArray:
    """Means over the last `HAR_DAYS` values, shape (n_bars, 3); nan where one of them is."""
    series = pd.Series(values)
    return np.stack([series.rolling(n).mean().to_numpy() for n in HAR_DAYS], axis=1)


def leverage_terms(returns: FloatArray, variances: FloatArray) -> FloatArray:
    """Returns over `HAR_DAYS`, shape (n_bars, 3), in standard deviations of the last 22 bars.

    Parameters
    ----------
    returns : array of shape (n_bars,)
        Log returns from close to close; the first is nan.
    variances : array of shape (n_bars,)
        As from `log_variance`; their 22-bar mean is the yardstick.

    Returns
    -------
    array of shape (n_bars, 3)
        Divided by the root of the number of bars too, clipped to [-`MAX_SHOCK`, `MAX_SHOCK`];
        nan where a return or variance of the span is missing.
    """
    yardstick = np.exp(-har_terms(variances)[:, -1] / 2)
    sums = har_terms(returns) * np.sqrt(HAR_DAYS)
    return np.clip(sums * yardstick[:, None], -MAX_SHOCK, MAX_SHOCK)


def next_value(values: FloatArray) -> FloatArray:
    """The value one bar later, shape (n_bars,); nan at the last bar."""
    return np.append(values[1:], np.nan)
