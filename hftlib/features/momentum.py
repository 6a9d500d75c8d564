"""Technical indicators of momentum, through `ta`.

Left out: `kst`, which changes with the future, and Williams' %R, which is the
stochastic oscillator turned round. The mean deviation of the commodity channel
index is our own: `ta` calls Python for every bar. So is the relative strength
index, which `ta` lets be 100 where nothing moved.
"""

import pandas as pd
from ta.momentum import (
    AwesomeOscillatorIndicator,
    ROCIndicator,
    StochasticOscillator,
    StochRSIIndicator,
    TSIIndicator,
    UltimateOscillator,
)
from ta.trend import (
    MACD,
    DPOIndicator,
    STCIndicator,
    TRIXIndicator,
)

from hftlib.features.feature import BarSeries, Feature, FloatArray
from hftlib.features.rolling import (
    rolling_mean,
    rolling_mean_deviation,
)

T = "technical"
SHARE = "share of the price"


def _centred(percent: pd.Series) -> FloatArray:
    """From [0, 100] to [-1, 1]."""
    return percent.to_numpy() / 50 - 1


def _relative_strength(bars: BarSeries, window: int) -> FloatArray:
    """The index / 50 - 1, which is Wilder's mean of changes over that of their sizes."""
    change = bars.table["close"].diff().fillna(0.0)  # the first bar has none, and counts as still
    means = [x.ewm(alpha=1 / window, adjust=False).mean() for x in (change, change.abs())]
    return (means[0] / means[1]).to_numpy()


def _macd(bars: BarSeries) -> MACD:
    return MACD(bars.table["close"])


def _stochastic(bars: BarSeries) -> StochasticOscillator:
    return StochasticOscillator(*bars.hlc)


def _cci(bars: BarSeries) -> FloatArray:
    far = bars.typical - rolling_mean(bars.typical, 20)
    return far / (0.015 * rolling_mean_deviation(bars.typical, 20)) / 100


def _ultimate(bars: BarSeries) -> FloatArray:
    return _centred(UltimateOscillator(*bars.hlc).ultimate_oscillator())


def _awesome(bars: BarSeries) -> FloatArray:
    high, low, close = bars.hlc
    return (AwesomeOscillatorIndicator(high, low).awesome_oscillator() / close).to_numpy()


FEATURES = (
    Feature(
        "rsi_14",
        T,
        "Wilder's relative strength index / 50 - 1",
        "14",
        "[-1, 1]",
        14,
        lambda b: _relative_strength(b, 14),
    ),
    Feature(
        "rsi_5",
        T,
        "the same index over 5 bars / 50 - 1",
        "5",
        "[-1, 1]",
        5,
        lambda b: _relative_strength(b, 5),
    ),
    Feature(
        "stochastic_14",
        T,
        "place of the close in the 14-bar range",
        "14",
        "[-1, 1]",
        13,
        lambda b: _centred(b.shared(_stochastic).stoch()),
    ),
    Feature(
        "stochastic_signal",
        T,
        "3-bar mean of stochastic_14",
        "14, 3",
        "[-1, 1]",
        15,
        lambda b: _centred(b.shared(_stochastic).stoch_signal()),
    ),
    Feature(
        "stochastic_rsi",
        T,
        "place of rsi_14 in its own 14-bar range",
        "14, 14",
        "[0, 1]",
        26,
        lambda b: StochRSIIndicator(b.table["close"]).stochrsi().to_numpy(),
    ),
    Feature(
        "tsi",
        T,
        "true strength: smoothed change / smoothed absolute change",
        "25, 13",
        "[-1, 1]",
        37,
        lambda b: TSIIndicator(b.table["close"]).tsi().to_numpy() / 100,
    ),
    Feature(
        "ultimate_oscillator",
        T,
        "buying pressure / true range over three windows",
        "7, 14, 28",
        "[-1, 1]",
        28,
        _ultimate,
    ),
    Feature(
        "awesome_oscillator",
        T,
        "(SMA5 - SMA34 of the bar's middle) / close",
        "5, 34",
        SHARE,
        33,
        _awesome,
    ),
    Feature(
        "roc_10",
        T,
        "close / close_t-10 - 1",
        "10",
        "simple return",
        10,
        lambda b: ROCIndicator(b.table["close"], 10).roc().to_numpy() / 100,
    ),
    Feature(
        "macd_line",
        T,
        "(EMA12 - EMA26) / close",
        "12, 26",
        SHARE,
        25,
        lambda b: b.shared(_macd).macd().to_numpy() / b.close,
    ),
    Feature(
        "macd_signal",
        T,
        "EMA9 of (EMA12 - EMA26) / close",
        "12, 26, 9",
        SHARE,
        33,
        lambda b: b.shared(_macd).macd_signal().to_numpy() / b.close,
    ),
    Feature(
        "macd_histogram",
        T,
        "(EMA12 - EMA26 less its EMA9) / close",
        "12, 26, 9",
        SHARE,
        33,
        lambda b: b.shared(_macd).macd_diff().to_numpy() / b.close,
    ),
    Feature(
        "trix_15",
        T,
        "one-bar change of the triple EMA15",
        "15",
        "simple return",
        43,
        lambda b: TRIXIndicator(b.table["close"], 15).trix().to_numpy() / 100,
    ),
    Feature(
        "stc",
        T,
        "Schaff's cycle: twice the stochastic of EMA23 - EMA50",
        "23, 50, 10",
        "[-1, 1]",
        71,
        lambda b: _centred(STCIndicator(b.table["close"]).stc()),
    ),
    Feature(
        "cci_20",
        T,
        "(typical - SMA20) / (.015 mean deviation) / 100",
        "20",
        "score",
        19,
        _cci,
    ),
    Feature(
        "dpo_20",
        T,
        "(close_t-11 - SMA20) / close",
        "20",
        SHARE,
        19,
        lambda b: DPOIndicator(b.table["close"], 20).dpo().to_numpy() / b.close,
    ),
)
