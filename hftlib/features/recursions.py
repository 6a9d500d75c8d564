"""Indicators whose state runs from bar to bar: `ta` has them as loops in Python.

Values are those of `ta` where both have one; ours are nan before the first
that is more than a start value.

Sources: Wilder (1978), New Concepts in Technical Trading Systems; Kaufman
(1995), Smarter Trading.
"""

import math
from typing import NamedTuple

import numpy as np

from hftlib.compute import compile_kernel
from hftlib.features.feature import BarSeries, FloatArray, lagged, lagged_difference
from hftlib.features.rolling import rolling_sum, wilder_mean

PSAR_STEP = 0.02
PSAR_LIMIT = 0.2


class Directions(NamedTuple):
    """Wilder's directional indicators and their mean difference, shape (n_bars,), in [0, 1]."""

    plus: FloatArray
    minus: FloatArray
    adx: FloatArray


class Psar(NamedTuple):
    """Stop price of a bar, and 1.0 where it stands below the price, -1.0 above; (n_bars,)."""

    stop: FloatArray
    trend: FloatArray


def true_range(bars: BarSeries) -> FloatArray:
    """Height of a bar with the close before it; the first bar's own height."""
    before = lagged(bars.close, 1)
    return np.fmax(bars.high, before) - np.fmin(bars.low, before)


def average_true_range(bars: BarSeries, window: int) -> FloatArray:
    """Wilder's mean of the true range, in prices."""
    return wilder_mean(true_range(bars), window)


def directions(bars: BarSeries, window: int) -> Directions:
    """Wilder's directional movement; 0 where neither direction, or no price, has moved."""
    up, down = lagged_difference(bars.high, 1), -lagged_difference(bars.low, 1)
    heights = true_range(bars)
    heights[0] = np.nan  # a move needs a bar before it
    unknown = np.isnan(up)
    plus = np.where(unknown, np.nan, np.where((up > down) & (up > 0), up, 0.0))
    minus = np.where(unknown, np.nan, np.where((down > up) & (down > 0), down, 0.0))
    height, plus, minus = (wilder_mean(x, window) for x in (heights, plus, minus))
    plus, minus = _share(plus, height), _share(minus, height)
    return Directions(plus, minus, wilder_mean(_share(np.abs(plus - minus), plus + minus), window))


def _share(part: FloatArray, whole: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole == 0, 0.0, part / whole)


def kaufman_mean(close: FloatArray, window: int) -> FloatArray:
    """Adaptive moving average, for speeds between 2 and 30 bars.

    Starts from the close of bar `window` - 1.
    """
    path = rolling_sum(np.abs(lagged_difference(close, 1)), window)
    efficiency = _share(np.abs(lagged_difference(close, window)), path)
    out = np.full(len(close), np.nan)
    _kaufman(close, (efficiency * (2 / 3 - 2 / 31) + 2 / 31) ** 2, window, out)
    return out


@compile_kernel
def _kaufman(close: FloatArray, speed: FloatArray, window: int, out: FloatArray) -> None:
    if len(close) >= window:
        out[window - 1] = close[window - 1]
    for t in range(window, len(close)):
        out[t] = out[t - 1] + speed[t] * (close[t] - out[t - 1])


def parabolic_stop(bars: BarSeries) -> Psar:
    """Wilder's parabolic stop and reverse; begins as a rise, from the close of bar 1."""
    stop, trend = np.full(len(bars), np.nan), np.full(len(bars), np.nan)
    _parabolic(bars.high, bars.low, bars.close, stop, trend)
    return Psar(stop, trend)


@compile_kernel
def _parabolic(
    high: FloatArray, low: FloatArray, close: FloatArray, stop: FloatArray, trend: FloatArray
) -> None:
    is_up, speed = True, PSAR_STEP
    top, bottom = high[0], low[0]
    last = close[1] if len(close) > 1 else math.nan
    for t in range(2, len(close)):
        extreme = top if is_up else bottom
        value = last + speed * (extreme - last)
        if is_up and low[t] < value:
            is_up, value, bottom, speed = False, top, low[t], PSAR_STEP
        elif not is_up and high[t] > value:
            is_up, value, top, speed = True, bottom, high[t], PSAR_STEP
        elif is_up:
            if high[t] > top:
                top, speed = high[t], min(speed + PSAR_STEP, PSAR_LIMIT)
            if low[t - 2] < value:
                value = low[t - 2]
            elif low[t - 1] < value:
                value = low[t - 1]
        else:
            if low[t] < bottom:
                bottom, speed = low[t], min(speed + PSAR_STEP, PSAR_LIMIT)
            if high[t - 2] > value:
                value = high[t - 2]
            elif high[t - 1] > value:
                value = high[t - 1]
        stop[t], trend[t], last = value, 1.0 if is_up else -1.0, value
