"""Data with a known answer: what a learner must find, and what it must not.

A pipeline that shows an edge on `martingale_bars` fools itself; one that shows
none on `plant_oracle` cannot learn.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from hftlib.data.panel import BarPanel


def plant_oracle(panel: BarPanel, horizon_bars: int) -> BarPanel:
    """Overwrite the last feature with the coming return: a positive control, deliberate look-ahead.

    The feature at t is ln(close_{t+h} / open_{t+1}) over its standard
    deviation, clipped to [-10, 10]; 0 in the last h bars of a segment.
    """
    features = panel.features.copy()
    for start, stop in panel.segments:
        ahead = np.zeros(stop - start)
        future = np.log(panel.close[start + horizon_bars : stop])
        ahead[:-horizon_bars] = future - np.log(panel.open[start + 1 : stop - horizon_bars + 1])
        features[start:stop, -1] = np.clip(ahead / ahead.std(), -10, 10)
    names = (*panel.feature_names[:-1], "oracle")
    return replace(panel, features=features, feature_names=names)


def martingale_bars(bars: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Bars drawn with replacement and centred: a negative control for the whole pipeline.

    Each symbol keeps its clock and the shapes of its bars (gap, body, wicks,
    volume), in a random order; gaps and bodies are divided by their means. From
    one open to the next the price is then a martingale: whatever a feature
    computed from these bars says, before costs every strategy is worth nothing.
    A feature that peeks at later bars still peeks, and would be caught. The rows
    are flagged as synthetic; `split_frame(..., is_control=True)` takes them.

    Parameters
    ----------
    bars : frame as `schema.BARS`
        Each symbol in time order.
    """
    parts = []
    for _, group in bars.groupby("symbol", sort=False):
        old = group.reset_index(drop=True)
        gap = (old["open"] / old["close"].shift()).to_numpy()[1:]
        body, top, bottom = (
            (old[name] / old["open"]).to_numpy()[1:] for name in ("close", "high", "low")
        )
        gap, body = gap / gap.mean(), body / body.mean()
        draw = rng.integers(len(gap), size=len(gap))
        close = old["close"].iloc[0] * np.cumprod(gap[draw] * body[draw])
        open_ = close / body[draw]
        new = old.copy()
        new.loc[1:, "open"], new.loc[1:, "close"] = open_, close
        new.loc[1:, "high"] = np.maximum(open_ * top[draw], np.maximum(open_, close))
        new.loc[1:, "low"] = np.minimum(open_ * bottom[draw], np.minimum(open_, close))
        new.loc[1:, "volume"] = old["volume"].to_numpy()[1:][draw]
        new["is_synthetic"] = True
        parts.append(new)
    return pd.concat(parts, ignore_index=True)
