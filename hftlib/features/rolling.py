"""Statistics over the last `window` bars, and Wilder's mean.

Each window is computed afresh, oldest bar first: a value depends on the bars
in its window alone, to the last bit, and equal prices give exact zeros where a
running sum would leave a rest. Results have shape (n_bars,) and are nan until
the first full window; a nan inside a window makes its value nan.
"""

import math
from collections.abc import Callable

import numpy as np

from hftlib.compute import compile_kernel
from hftlib.features.feature import FloatArray

Kernel = Callable[[FloatArray, int, FloatArray], None]


@compile_kernel
def _sum(x: FloatArray, window: int, out: FloatArray) -> None:
    for t in range(window - 1, len(x)):
        total = 0.0
        for k in range(t - window + 1, t + 1):
            total += x[k]
        out[t] = total


@compile_kernel
def _mean_at(x: FloatArray, window: int, t: int) -> float:
    """Mean of the window that ends at t; of equal values it is that value."""
    first, total = x[t - window + 1], 0.0
    for k in range(t - window + 1, t + 1):
        total += x[k] - first
    return first + total / window


@compile_kernel
def _mean(x: FloatArray, window: int, out: FloatArray) -> None:
    for t in range(window - 1, len(x)):
        out[t] = _mean_at(x, window, t)


@compile_kernel
def _deviation(x: FloatArray, window: int, out: FloatArray) -> None:
    for t in range(window - 1, len(x)):
        mean, total = _mean_at(x, window, t), 0.0
        for k in range(t - window + 1, t + 1):
            total += (x[k] - mean) ** 2
        out[t] = math.sqrt(total / (window - 1))


@compile_kernel
def _mean_deviation(x: FloatArray, window: int, out: FloatArray) -> None:
    for t in range(window - 1, len(x)):
        mean, total = _mean_at(x, window, t), 0.0
        for k in range(t - window + 1, t + 1):
            total += abs(x[k] - mean)
        out[t] = total / window


@compile_kernel
def _weighted_mean(x: FloatArray, window: int, out: FloatArray) -> None:
    for t in range(window - 1, len(x)):
        first, total = x[t - window + 1], 0.0
        for k in range(1, window + 1):
            total += k * (x[t - window + k] - first)
        out[t] = first + 2 * total / (window * (window + 1))


@compile_kernel
def _age_of_maximum(x: FloatArray, window: int, out: FloatArray) -> None:
    for t in range(window - 1, len(x)):
        top = t - window + 1
        for k in range(top + 1, t + 1):
            if x[k] > x[top]:
                top = k
        out[t] = t - top


@compile_kernel
def _maximum(x: FloatArray, window: int, out: FloatArray) -> None:
    for t in range(window - 1, len(x)):
        top = x[t - window + 1]
        for k in range(t - window + 2, t + 1):
            if x[k] > top or x[k] != x[k]:
                top = x[k]
        out[t] = top


@compile_kernel
def _rank(x: FloatArray, window: int, out: FloatArray) -> None:
    for t in range(window - 1, len(x)):
        below, equal, unknown = 0, -1, 0  # the newest equals itself
        for k in range(t - window + 1, t + 1):
            below += x[k] < x[t]
            equal += x[k] == x[t]
            unknown += x[k] != x[k]
        out[t] = (below + 0.5 * equal) / (window - 1) if unknown == 0 else math.nan


@compile_kernel
def _skewness(x: FloatArray, window: int, out: FloatArray) -> None:
    for t in range(window - 1, len(x)):
        mean, second, third = _mean_at(x, window, t), 0.0, 0.0
        for k in range(t - window + 1, t + 1):
            second += (x[k] - mean) ** 2
            third += (x[k] - mean) ** 3
        power = (second / window) ** 1.5
        out[t] = third / window / power if power > 0 else math.nan


@compile_kernel
def _autocorrelation(x: FloatArray, window: int, out: FloatArray) -> None:
    for t in range(window - 1, len(x)):
        start = t - window + 1
        mean = _mean_at(x, window, t)
        total, shared = (x[start] - mean) ** 2, 0.0
        for k in range(start + 1, t + 1):
            total += (x[k] - mean) ** 2
            shared += (x[k] - mean) * (x[k - 1] - mean)
        out[t] = shared / total if total > 0 else math.nan


@compile_kernel
def _time_correlation(x: FloatArray, window: int, out: FloatArray) -> None:
    centre = (window - 1) / 2
    length = (window**2 - 1) * window / 12  # sum of squared distances from the centre
    for t in range(window - 1, len(x)):
        start = t - window + 1
        mean = _mean_at(x, window, t)
        total, shared = 0.0, 0.0
        for k in range(window):
            total += (x[start + k] - mean) ** 2
            shared += (x[start + k] - mean) * (k - centre)
        product = math.sqrt(total * length)
        out[t] = shared / product if product > 0 else math.nan


@compile_kernel
def _wilder(x: FloatArray, window: int, out: FloatArray) -> None:
    total, count = 0.0, 0
    for t in range(len(x)):
        if count < window:
            if x[t] == x[t]:
                total, count = total + x[t], count + 1
                if count == window:
                    out[t] = total / window
        else:
            out[t] = (out[t - 1] * (window - 1) + x[t]) / window


def _over(kernel: Kernel, x: FloatArray, window: int) -> FloatArray:
    out = np.full(len(x), np.nan)
    kernel(np.ascontiguousarray(x), window, out)
    return out


def rolling_sum(x: FloatArray, window: int) -> FloatArray:
    """Sum."""
    return _over(_sum, x, window)


def rolling_mean(x: FloatArray, window: int) -> FloatArray:
    """Arithmetic mean."""
    return _over(_mean, x, window)


def rolling_deviation(x: FloatArray, window: int) -> FloatArray:
    """Sample standard deviation."""
    return _over(_deviation, x, window)


def rolling_mean_deviation(x: FloatArray, window: int) -> FloatArray:
    """Mean absolute distance from the mean."""
    return _over(_mean_deviation, x, window)


def rolling_weighted_mean(x: FloatArray, window: int) -> FloatArray:
    """Mean with weights 1, 2, … `window`, the newest bar's being the largest."""
    return _over(_weighted_mean, x, window)


def rolling_maximum(x: FloatArray, window: int) -> FloatArray:
    """Largest value."""
    return _over(_maximum, x, window)


def rolling_minimum(x: FloatArray, window: int) -> FloatArray:
    """Smallest value."""
    return -_over(_maximum, -x, window)


def age_of_maximum(x: FloatArray, window: int) -> FloatArray:
    """Bars since the largest value, the earliest of equal ones; `x` finite."""
    return _over(_age_of_maximum, x, window)


def rolling_rank(x: FloatArray, window: int) -> FloatArray:
    """Share of the bars before the newest that lie below it, equal ones counted half."""
    return _over(_rank, x, window)


def rolling_skewness(x: FloatArray, window: int) -> FloatArray:
    """Third standardised moment, not corrected for bias; nan where nothing varies."""
    return _over(_skewness, x, window)


def rolling_autocorrelation(x: FloatArray, window: int) -> FloatArray:
    """Correlation with the bar before, in [-1, 1]; nan where nothing varies."""
    return _over(_autocorrelation, x, window)


def time_correlation(x: FloatArray, window: int) -> FloatArray:
    """Correlation with the bar's number, in [-1, 1]; nan where nothing varies."""
    return _over(_time_correlation, x, window)


def wilder_mean(x: FloatArray, window: int) -> FloatArray:
    """Wilder's mean: that of the first `window` values, then 1 / `window` of each new one.

    nan before the first value are passed over.
    """
    return _over(_wilder, x, window)
