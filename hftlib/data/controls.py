"""Panels with a known answer: what a learner must find, and what it must not.

A pipeline that shows an edge on `shuffle_returns` fools itself; one that shows
none on `plant_oracle` cannot learn.
"""

from dataclasses import replace

import numpy as np

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


def shuffle_returns(panel: BarPanel, rng: np.random.Generator) -> BarPanel:
    """Permute bar returns in time and remove their mean: a negative control.

    Each segment keeps its features, its first close and the distribution of
    its returns; what the features say about the future is gone, and so is the
    drift, so before costs every strategy is worth nothing.
    """
    open_, close = panel.open.copy(), panel.close.copy()
    for start, stop in panel.segments:
        night = np.log(panel.open[start + 1 : stop] / panel.close[start : stop - 1])
        day = np.log(panel.close[start + 1 : stop] / panel.open[start + 1 : stop])
        order = rng.permutation(len(day))
        night, day = night[order] - night.mean(), day[order] - day.mean()
        # Simple returns of a bar should average zero, not log returns: subtract half the variance.
        night, day = night - night.var() / 2, day - day.var() / 2
        log_close = np.log(panel.close[start]) + np.cumsum(night + day)
        close[start + 1 : stop] = np.exp(log_close)
        open_[start + 1 : stop] = np.exp(log_close - day)
    return replace(panel, open=open_, close=close)
