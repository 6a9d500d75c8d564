"""What a leaking split does to a forecast: the same model, cut two ways."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import RandomForestRegressor


class LeakagePair(NamedTuple):
    """Out-of-sample correlation of forecast and outcome."""

    shuffled: float
    purged: float


def measure_leakage(
    features: npt.NDArray[np.float64],
    label: npt.NDArray[np.float64],
    *,
    horizon_bars: int,
    test_share: float,
    seed: int,
) -> LeakagePair:
    """Fit a random forest on overlapping labels, split at random and by time.

    Labels that span `horizon_bars` overlap, so a shuffled split puts near
    copies of test rows into training. The chronological split trains on the
    first rows only and purges the `horizon_bars` before the test rows.

    Parameters
    ----------
    features : array of shape (n_rows, n_features)
        In time order, finite.
    label : array of shape (n_rows,)
        Return over the next `horizon_bars`.
    test_share : float
        Share of rows in the test set, the same for both splits.
    """
    n_rows = len(label)
    n_test = int(test_share * n_rows)
    shuffled = np.random.default_rng(seed).permutation(n_rows)
    ordered = np.arange(n_rows)
    scores = []
    for order, purge in ((shuffled, 0), (ordered, horizon_bars)):
        train, test = order[: n_rows - n_test - purge], order[n_rows - n_test :]
        forest = RandomForestRegressor(60, min_samples_leaf=3, random_state=seed)
        forecast = forest.fit(features[train], label[train]).predict(features[test])
        scores.append(float(np.corrcoef(forecast, label[test])[0, 1]))
    return LeakagePair(*scores)
