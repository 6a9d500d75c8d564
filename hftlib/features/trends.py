"""Technical indicators of trend: directions, stops and distances from moving averages.

Through `ta` where it is fast and looks back only; the others are in
`features.recursions` and `features.rolling`. The Ichimoku lines are those of
the bar itself: the visual ones of `ta`, shifted, change with the future.
"""

from ta.trend import (
    IchimokuIndicator,
    VortexIndicator,
)

from hftlib.features.bands import ema
from hftlib.features.feature import BarSeries, Feature, FloatArray
from hftlib.features.recursions import (
    Directions,
    Psar,
    directions,
    kaufman_mean,
    parabolic_stop,
)
from hftlib.features.rolling import (
    age_of_maximum,
    rolling_mean,
    rolling_weighted_mean,
)

T = "technical"
SHARE = "share of the price"


def _distance(bars: BarSeries, mean: FloatArray) -> FloatArray:
    return bars.close / mean - 1


def _ichimoku(bars: BarSeries) -> IchimokuIndicator:
    return IchimokuIndicator(bars.table["high"], bars.table["low"])


def _directions_14(bars: BarSeries) -> Directions:
    return directions(bars, 14)


def _psar(bars: BarSeries) -> Psar:
    return parabolic_stop(bars)


def _sma_100(bars: BarSeries) -> FloatArray:
    return rolling_mean(bars.close, 100)


def _cloud(bars: BarSeries) -> FloatArray:
    """Middle of both spans as they stand at the bar, not shifted into the future."""
    lines = bars.shared(_ichimoku)
    middle = (lines.ichimoku_a() + lines.ichimoku_b()) / 2
    return _distance(bars, middle.to_numpy())


def _aroon(bars: BarSeries) -> FloatArray:
    high, low = age_of_maximum(bars.high, 26), age_of_maximum(-bars.low, 26)
    return (low - high) / 25


FEATURES = (
    Feature(
        "kama_distance_10",
        T,
        "close / Kaufman's adaptive mean - 1",
        "10, 2, 30",
        SHARE,
        10,
        lambda b: _distance(b, kaufman_mean(b.close, 10)),
    ),
    Feature(
        "adx_14",
        T,
        "Wilder's mean of |+DI - -DI| / (+DI + -DI)",
        "14",
        "[0, 1]",
        27,
        lambda b: b.shared(_directions_14).adx,
    ),
    Feature(
        "direction_14",
        T,
        "Wilder's +DI - -DI",
        "14",
        "[-1, 1]",
        14,
        lambda b: b.shared(_directions_14).plus - b.shared(_directions_14).minus,
    ),
    Feature(
        "aroon_25",
        T,
        "(bars since the low - bars since the high) / 25",
        "25",
        "[-1, 1]",
        25,
        _aroon,
    ),
    Feature(
        "vortex_14",
        T,
        "14-bar upward less downward movement / true range",
        "14",
        "ratio",
        14,
        lambda b: VortexIndicator(*b.hlc, 14).vortex_indicator_diff().to_numpy(),
    ),
    Feature(
        "psar_distance",
        T,
        "(close - parabolic stop) / close",
        "-",
        SHARE,
        2,
        lambda b: 1 - b.shared(_psar).stop / b.close,
    ),
    Feature(
        "psar_trend",
        T,
        "1 with the parabolic stop below the price, else -1",
        "-",
        "sign",
        2,
        lambda b: b.shared(_psar).trend,
    ),
    Feature(
        "ichimoku_conversion",
        T,
        "close / middle of the 9-bar range - 1",
        "9",
        SHARE,
        8,
        lambda b: _distance(b, b.shared(_ichimoku).ichimoku_conversion_line().to_numpy()),
    ),
    Feature(
        "ichimoku_base",
        T,
        "close / middle of the 26-bar range - 1",
        "26",
        SHARE,
        25,
        lambda b: _distance(b, b.shared(_ichimoku).ichimoku_base_line().to_numpy()),
    ),
    Feature(
        "ichimoku_cloud",
        T,
        "close / middle of spans A and B, unshifted, - 1",
        "9, 26, 52",
        SHARE,
        51,
        _cloud,
    ),
    Feature(
        "ema_distance_12",
        T,
        "close / EMA12 - 1",
        "12",
        SHARE,
        11,
        lambda b: _distance(b, ema(b.table["close"], 12)),
    ),
    Feature(
        "ema_distance_26",
        T,
        "close / EMA26 - 1",
        "26",
        SHARE,
        25,
        lambda b: _distance(b, ema(b.table["close"], 26)),
    ),
    Feature(
        "sma_distance_10",
        T,
        "close / SMA10 - 1",
        "10",
        SHARE,
        9,
        lambda b: _distance(b, rolling_mean(b.close, 10)),
    ),
    Feature(
        "sma_distance_50",
        T,
        "close / SMA50 - 1",
        "50",
        SHARE,
        49,
        lambda b: _distance(b, rolling_mean(b.close, 50)),
    ),
    Feature(
        "sma_distance_100",
        T,
        "close / SMA100 - 1",
        "100",
        SHARE,
        99,
        lambda b: _distance(b, b.shared(_sma_100)),
    ),
    Feature(
        "sma_cross_20_100",
        T,
        "SMA20 / SMA100 - 1",
        "20, 100",
        SHARE,
        99,
        lambda b: rolling_mean(b.close, 20) / b.shared(_sma_100) - 1,
    ),
    Feature(
        "wma_distance_9",
        T,
        "close / mean weighted 1 to 9 - 1",
        "9",
        SHARE,
        8,
        lambda b: _distance(b, rolling_weighted_mean(b.close, 9)),
    ),
)
