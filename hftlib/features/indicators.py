"""Ten causal bar features, the technical ones through `ta`.

A feature at bar t uses bars up to and including t. All are dimensionless, so
that one scaler and one policy serve symbols of any price level. Rows before
`warmup` are nan; no filler is ever used (`fillna` of `ta` peeks).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from ta.momentum import RSIIndicator
from ta.trend import MACD, ADXIndicator
from ta.volatility import AverageTrueRange, BollingerBands

MIN_BARS = 60  # the longest warm-up with room for a first value


@dataclass(frozen=True)
class Feature:
    """One column: `compute` maps bars with a plain range index to a series."""

    name: str
    formula: str
    warmup: int
    compute: Callable[[pd.DataFrame], pd.Series]


def _log_return(bars: pd.DataFrame, n_bars: int) -> pd.Series:
    return np.log(bars["close"]).diff(n_bars)


def _bollinger_position(bars: pd.DataFrame) -> pd.Series:
    bands = BollingerBands(bars["close"], 20, 2)
    varies = bands.bollinger_hband() > bands.bollinger_lband()
    return (2 * bands.bollinger_pband() - 1).where(varies, 0.0)


def _true_range_share(bars: pd.DataFrame) -> pd.Series:
    atr = AverageTrueRange(bars["high"], bars["low"], bars["close"], 14).average_true_range()
    return atr / bars["close"]


def _adx(bars: pd.DataFrame) -> pd.Series:
    return ADXIndicator(bars["high"], bars["low"], bars["close"], 14).adx() / 100


def _volume_ratio(bars: pd.DataFrame) -> pd.Series:
    """A logarithm would be infinite at volume 0."""
    mean = bars["volume"].rolling(20).mean()
    return (bars["volume"] / mean - 1).where(mean > 0, 0.0)


FEATURES = (
    Feature("return_1", "ln(close_t / close_t-1)", 1, lambda bars: _log_return(bars, 1)),
    Feature("return_5", "ln(close_t / close_t-5)", 5, lambda bars: _log_return(bars, 5)),
    Feature("return_20", "ln(close_t / close_t-20)", 20, lambda bars: _log_return(bars, 20)),
    Feature(
        "volatility_20",
        "standard deviation of the last 20 one-bar log returns",
        20,
        lambda bars: _log_return(bars, 1).rolling(20).std(),
    ),
    Feature(
        "rsi_14",
        "Wilder's relative strength index over 14 bars, rescaled to [-1, 1]",
        14,
        lambda bars: RSIIndicator(bars["close"], 14).rsi() / 50 - 1,
    ),
    Feature(
        "macd_histogram",
        "(EMA12 - EMA26 less its EMA9) / close",
        33,
        lambda bars: MACD(bars["close"]).macd_diff() / bars["close"],
    ),
    Feature(
        "bollinger_position",
        "(close - mean20) / (2 sd20)",
        19,
        _bollinger_position,
    ),
    Feature("atr_14", "Wilder's average true range over 14 bars / close", 14, _true_range_share),
    Feature("adx_14", "Wilder's directional index over 14 bars / 100", 27, _adx),
    Feature("volume_ratio", "volume / its 20-bar mean - 1; 0 without volume", 19, _volume_ratio),
)
FEATURE_NAMES = tuple(feature.name for feature in FEATURES)


def compute_features(bars: pd.DataFrame) -> pd.DataFrame:
    """Features of every symbol in `bars`.

    Parameters
    ----------
    bars : frame as `schema.BARS`
        Any number of symbols, each in time order; index without duplicates.

    Returns
    -------
    frame of shape (n_bars, 2 + n_features)
        `symbol`, `ts` and `FEATURE_NAMES` as float64, in the order of `bars`;
        nan during the warm-up of each symbol, and throughout one with fewer
        than `MIN_BARS` bars.
    """
    parts = []
    for _, group in bars.groupby("symbol", sort=False):
        plain = group.reset_index(drop=True)  # `ta` miscounts on a datetime index
        columns = {
            feature.name: feature.compute(plain).where(plain.index >= feature.warmup)
            if len(plain) >= MIN_BARS
            else np.nan
            for feature in FEATURES
        }
        table = pd.DataFrame({"symbol": plain["symbol"], "ts": plain["ts"], **columns})
        parts.append(table.set_index(group.index))
    return pd.concat(parts).loc[bars.index].reset_index(drop=True)
