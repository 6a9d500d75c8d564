"""Small markets whose volatility clusters, and settings of networks that train in a second."""

from dataclasses import replace

import numpy as np
import pandas as pd

from hftlib.data.folds import Fold, walk_forward
from hftlib.models.examples import Examples
from hftlib.models.forecast_training import ForecasterSettings

SYMBOLS = ("AAA", "BBB")
WINDOW = 9
SETTINGS = ForecasterSettings(
    filters=(4, 5),
    n_hidden=6,
    dropout=0.3,
    learning_rate=1e-3,
    batch_size=64,
    max_epochs=3,
    patience=3,
)


def make_bars(n_bars: int = 400, seed: int = 0) -> pd.DataFrame:
    """Two symbols as `schema.BARS`; log volatility is an AR(1) and falls after gains."""
    rng = np.random.default_rng(seed)
    parts = []
    for k, symbol in enumerate(SYMBOLS):
        level, shocks = np.zeros(n_bars), rng.normal(size=n_bars)
        for t in range(1, n_bars):
            level[t] = 0.95 * level[t - 1] + 0.15 * rng.normal() - 0.05 * shocks[t - 1]
        change = 0.01 * np.exp(level) * shocks
        close = 100 * (k + 1) * np.exp(np.cumsum(change))
        open_ = np.append(close[0], close[:-1])
        reach = 0.01 * np.exp(level) * np.abs(rng.normal(size=(2, n_bars)))
        parts.append(
            pd.DataFrame(
                {
                    "symbol": symbol,
                    "source": "test",
                    "ts": pd.date_range("2020-01-01", periods=n_bars, freq="D", tz="UTC"),
                    "open": open_,
                    "high": np.maximum(open_, close) * np.exp(reach[0]),
                    "low": np.minimum(open_, close) * np.exp(-reach[1]),
                    "close": close,
                    "volume": rng.lognormal(8, 1, n_bars),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def make_features(bars: pd.DataFrame) -> pd.DataFrame:
    """Two columns in the shape of `compute_features`."""
    change = np.log(bars["close"]).groupby(bars["symbol"]).diff()
    return bars[["symbol", "ts"]].assign(
        change=change,
        mean_5=change.groupby(bars["symbol"]).transform(lambda x: x.rolling(5).mean()),
    )


def make_examples(bars: pd.DataFrame | None = None) -> Examples:
    bars = make_bars() if bars is None else bars
    return Examples.from_frames(bars, make_features(bars), SYMBOLS, WINDOW)


def make_folds(n_times: int = 400, n_folds: int = 2) -> list[Fold]:
    return walk_forward(
        n_times, n_folds, first_test=240, validation_bars=60, purge_bars=1, embargo_bars=5
    )


def scramble_after(bars: pd.DataFrame, time: int) -> pd.DataFrame:
    """The same bars up to position `time` of each symbol, other prices from there on."""
    other, again = bars.copy(), make_bars(int((bars["symbol"] == SYMBOLS[0]).sum()), seed=99)
    later = bars.groupby("symbol").cumcount() > time
    prices = ["open", "high", "low", "close", "volume"]
    other.loc[later, prices] = again.loc[later, prices] * 1.7
    return other


TINY = replace(SETTINGS, max_epochs=1)
