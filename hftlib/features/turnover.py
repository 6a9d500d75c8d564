"""Technical indicators of volume.

A window without any trade has the value 0; one with an unknown volume has none
(see `features.feature`).
"""

import numpy as np
from ta.momentum import PercentageVolumeOscillator
from ta.volume import (
    ChaikinMoneyFlowIndicator,
    ForceIndexIndicator,
    VolumeWeightedAveragePrice,
)

from hftlib.features.feature import BarSeries, Feature, FloatArray, lagged_difference
from hftlib.features.rolling import rolling_mean, rolling_sum

T = "technical"


def _mean_20(bars: BarSeries) -> FloatArray:
    return rolling_mean(bars.volume, 20)


def _volume_ratio(bars: BarSeries) -> FloatArray:
    """A logarithm would be infinite at volume 0."""
    return bars.volume / bars.shared(_mean_20) - 1


def _money_flow(bars: BarSeries) -> FloatArray:
    """The index / 50 - 1, from the flows themselves: `ta` calls Python for every bar."""
    flow = bars.typical * bars.volume
    change = lagged_difference(bars.typical, 1)
    signed = np.where(change > 0, flow, np.where(change < 0, -flow, 0.0))
    return rolling_sum(signed, 14) / rolling_sum(np.abs(signed), 14)


def _balance(bars: BarSeries) -> FloatArray:
    return rolling_sum(np.sign(bars.step) * bars.volume, 20) / rolling_sum(bars.volume, 20)


def _price_trend(bars: BarSeries) -> FloatArray:
    return rolling_sum(bars.step * bars.volume, 20) / rolling_sum(bars.volume, 20)


def _money_flow_20(bars: BarSeries) -> FloatArray:
    table = bars.table
    flow = ChaikinMoneyFlowIndicator(table["high"], table["low"], table["close"], table["volume"])
    return flow.chaikin_money_flow().to_numpy()


def _force(bars: BarSeries) -> FloatArray:
    force = ForceIndexIndicator(bars.table["close"], bars.table["volume"], 13).force_index()
    return force.to_numpy() / (bars.close * bars.shared(_mean_20))


def _vwap(bars: BarSeries) -> FloatArray:
    table = bars.table
    prices = (table["high"], table["low"], table["close"])
    mean = VolumeWeightedAveragePrice(*prices, table["volume"], 14)
    return bars.close / mean.volume_weighted_average_price().to_numpy() - 1


def _oscillator(bars: BarSeries) -> PercentageVolumeOscillator:
    return PercentageVolumeOscillator(bars.table["volume"])


FEATURES = (
    Feature(
        "volume_ratio",
        T,
        "volume / its 20-bar mean - 1",
        "20",
        "ratio - 1",
        19,
        _volume_ratio,
        uses_volume=True,
    ),
    Feature(
        "chaikin_flow_20",
        T,
        "volume weighted by the close's place in its bar, summed",
        "20",
        "[-1, 1]",
        19,
        _money_flow_20,
        uses_volume=True,
    ),
    Feature(
        "money_flow_14",
        T,
        "money flow index / 50 - 1",
        "14",
        "[-1, 1]",
        14,
        _money_flow,
        uses_volume=True,
    ),
    Feature(
        "volume_balance_20",
        T,
        "on-balance volume gained / volume, 20 bars",
        "20",
        "[-1, 1]",
        20,
        _balance,
        uses_volume=True,
    ),
    Feature(
        "volume_trend_20",
        T,
        "mean log return weighted by volume",
        "20",
        "log return",
        20,
        _price_trend,
        uses_volume=True,
    ),
    Feature(
        "force_13",
        T,
        "EMA13 of volume x change / (close x mean volume of 20 bars)",
        "13, 20",
        "simple return",
        19,
        _force,
        uses_volume=True,
    ),
    Feature(
        "vwap_distance_14",
        T,
        "close / volume-weighted mean price - 1",
        "14",
        "share of the price",
        13,
        _vwap,
        uses_volume=True,
    ),
    Feature(
        "volume_oscillator",
        T,
        "EMA12 of volume / EMA26 - 1",
        "12, 26",
        "ratio - 1",
        25,
        lambda b: b.shared(_oscillator).pvo().to_numpy() / 100,
        uses_volume=True,
    ),
    Feature(
        "volume_histogram",
        T,
        "volume_oscillator less its EMA9",
        "12, 26, 9",
        "ratio - 1",
        33,
        lambda b: b.shared(_oscillator).pvo_hist().to_numpy() / 100,
        uses_volume=True,
    ),
)
