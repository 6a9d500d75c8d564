"""Technical indicators of range: bands, channels and their widths.

Through `ta`, but for the average true range and the ulcer index, which loop in
Python there.
"""

import numpy as np
import pandas as pd
from ta.trend import (
    EMAIndicator,
    MassIndex,
)
from ta.volatility import BollingerBands, DonchianChannel

from hftlib.features.feature import BarSeries, Feature, FloatArray, lagged
from hftlib.features.recursions import (
    average_true_range,
)
from hftlib.features.rolling import (
    rolling_maximum,
    rolling_mean,
)

T = "technical"
SHARE = "share of the price"


def ema(x: pd.Series, window: int) -> FloatArray:
    """Exponential mean, begun at the first value; nan for the first `window - 1` bars."""
    return EMAIndicator(x, window).ema_indicator().to_numpy()


def _bollinger(bars: BarSeries) -> BollingerBands:
    return BollingerBands(bars.table["close"], 20, 2)


def _donchian(bars: BarSeries) -> DonchianChannel:
    return DonchianChannel(*bars.hlc, 20)


def _atr_14(bars: BarSeries) -> FloatArray:
    return average_true_range(bars, 14)


def _ema_20(bars: BarSeries) -> FloatArray:
    return ema(bars.table["close"], 20)


def _ulcer(bars: BarSeries) -> FloatArray:
    fall = bars.close / rolling_maximum(bars.close, 14) - 1
    return np.sqrt(rolling_mean(fall**2, 14))


def _chaikin_volatility(bars: BarSeries) -> FloatArray:
    width = ema(bars.table["high"] - bars.table["low"], 10)
    return width / lagged(width, 10) - 1


def _keltner_position(bars: BarSeries) -> FloatArray:
    return (bars.close - bars.shared(_ema_20)) / (2 * bars.shared(_atr_14))


def _bollinger_position(bars: BarSeries) -> FloatArray:
    bands = bars.shared(_bollinger)
    return 2 * bands.bollinger_pband().to_numpy() - 1


def _mass(bars: BarSeries) -> FloatArray:
    high, low, _ = bars.hlc
    return MassIndex(high, low).mass_index().to_numpy() / 25 - 1


FEATURES = (
    Feature(
        "mass_index",
        T,
        "25-bar mean of EMA9 / EMA9 of EMA9 of high - low, - 1",
        "9, 25",
        "ratio - 1",
        40,
        _mass,
    ),
    Feature(
        "bollinger_position",
        T,
        "(close - mean20) / (2 sd20)",
        "20",
        "score",
        19,
        _bollinger_position,
    ),
    Feature(
        "bollinger_width",
        T,
        "4 sd20 / mean20",
        "20",
        SHARE,
        19,
        lambda b: b.shared(_bollinger).bollinger_wband().to_numpy() / 100,
    ),
    Feature(
        "keltner_position",
        T,
        "(close - EMA20) / (2 ATR14)",
        "20, 14",
        "score",
        19,
        _keltner_position,
    ),
    Feature(
        "donchian_position",
        T,
        "place of the close in the 20-bar range",
        "20",
        "[-1, 1]",
        19,
        lambda b: 2 * b.shared(_donchian).donchian_channel_pband().to_numpy() - 1,
    ),
    Feature(
        "donchian_width",
        T,
        "20-bar range / SMA20",
        "20",
        SHARE,
        19,
        lambda b: b.shared(_donchian).donchian_channel_wband().to_numpy() / 100,
    ),
    Feature(
        "atr_14",
        T,
        "Wilder's average true range / close",
        "14",
        SHARE,
        14,
        lambda b: b.shared(_atr_14) / b.close,
    ),
    Feature(
        "ulcer_14",
        T,
        "root mean square fall from the 14-bar highest close",
        "14",
        SHARE,
        26,
        _ulcer,
    ),
    Feature(
        "chaikin_volatility",
        T,
        "EMA10 of high - low / the same 10 bars before - 1",
        "10, 10",
        "ratio - 1",
        19,
        _chaikin_volatility,
    ),
)
