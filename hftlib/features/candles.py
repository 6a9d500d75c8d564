"""The shapes of one, two and three candles.

Patterns are written out as inequalities: 1 where the bullish form stands, -1
the bearish one, 0 elsewhere. A bar of equal high and low has no shape: 0.
"""

from collections.abc import Callable

import numpy as np

from hftlib.features.feature import BarSeries, Feature, FloatArray, lagged

P = "price_action"


def _height(bars: BarSeries) -> FloatArray:
    return bars.high - bars.low


def _body(bars: BarSeries) -> FloatArray:
    return bars.close - bars.open


def _upper(bars: BarSeries) -> FloatArray:
    return bars.high - np.maximum(bars.open, bars.close)


def _lower(bars: BarSeries) -> FloatArray:
    return np.minimum(bars.open, bars.close) - bars.low


def _of_height(part: Callable[[BarSeries], FloatArray]) -> Callable[[BarSeries], FloatArray]:
    return lambda bars: part(bars) / bars.shared(_height)


def _doji(bars: BarSeries) -> FloatArray:
    height = bars.shared(_height)
    return ((np.abs(_body(bars)) <= 0.1 * height) & (height > 0)).astype(np.float64)


def _hammer(bars: BarSeries) -> FloatArray:
    body, upper, lower = np.abs(_body(bars)), _upper(bars), _lower(bars)
    hangs = (lower >= 2 * body) & (upper <= body) & (body > 0)
    stands = (upper >= 2 * body) & (lower <= body) & (body > 0)
    return hangs.astype(np.float64) - stands


def _engulfing(bars: BarSeries) -> FloatArray:
    body, before = _body(bars), lagged(_body(bars), 1)
    turns = (body * before < 0) & (np.abs(body) > np.abs(before))
    starts = (bars.open - lagged(bars.close, 1)) * np.sign(body) <= 0
    ends = (bars.close - lagged(bars.open, 1)) * np.sign(body) >= 0
    return np.where(turns & starts & ends, np.sign(body), 0.0)


def _inside(bars: BarSeries) -> FloatArray:
    inside = (bars.high <= lagged(bars.high, 1)) & (bars.low >= lagged(bars.low, 1))
    inside &= bars.shared(_height) > 0
    outside = (bars.high > lagged(bars.high, 1)) & (bars.low < lagged(bars.low, 1))
    return inside.astype(np.float64) - outside


def _star(bars: BarSeries) -> FloatArray:
    body, height = _body(bars), bars.shared(_height)
    first, pause = lagged(body, 2), np.abs(lagged(body, 1)) <= 0.3 * lagged(height, 1)
    strong = (np.abs(first) > 0.5 * lagged(height, 2)) & (np.abs(body) > 0.5 * np.abs(first))
    return np.where(pause & strong & (first * body < 0), np.sign(body), 0.0)


def _soldiers(bars: BarSeries) -> FloatArray:
    body, sign = _body(bars), np.sign(_body(bars))
    rows = (sign == lagged(sign, 1)) & (sign == lagged(sign, 2))
    moves = (bars.step * sign > 0) & (lagged(bars.step, 1) * sign > 0)
    solid = np.abs(body) > 0.5 * bars.shared(_height)
    return np.where(rows & moves & solid, sign, 0.0)


FEATURES = (
    Feature(
        "close_location",
        P,
        "(2 close - high - low) / (high - low)",
        "-",
        "[-1, 1]",
        0,
        _of_height(lambda b: 2 * b.close - b.high - b.low),
    ),
    Feature("body_share", P, "(close - open) / (high - low)", "-", "[-1, 1]", 0, _of_height(_body)),
    Feature(
        "upper_shadow",
        P,
        "(high - larger of open, close) / (high - low)",
        "-",
        "[0, 1]",
        0,
        _of_height(_upper),
    ),
    Feature(
        "lower_shadow",
        P,
        "(smaller of open, close - low) / (high - low)",
        "-",
        "[0, 1]",
        0,
        _of_height(_lower),
    ),
    Feature("doji", P, "1 if |close - open| <= .1 (high - low)", "-", "flag", 0, _doji),
    Feature(
        "hammer",
        P,
        "1: one shadow >= 2 bodies, below, the other <= 1; -1: above",
        "-",
        "sign",
        0,
        _hammer,
    ),
    Feature(
        "engulfing",
        P,
        "sign of a body that turns round and covers the one before",
        "2",
        "sign",
        1,
        _engulfing,
    ),
    Feature(
        "inside_bar",
        P,
        "1 within the range of the bar before, -1 beyond it on both sides",
        "2",
        "sign",
        1,
        _inside,
    ),
    Feature(
        "star",
        P,
        "sign of a body after a small one after a large opposite one",
        "3",
        "sign",
        2,
        _star,
    ),
    Feature(
        "soldiers",
        P,
        "sign of three bodies and two closes in a row, the last one solid",
        "3",
        "sign",
        2,
        _soldiers,
    ),
)
