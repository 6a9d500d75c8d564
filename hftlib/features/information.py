"""How much a feature says about a later return: rank information coefficients."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from arch.bootstrap import StationaryBootstrap


def forward_return(close: pd.Series, horizon_bars: int) -> pd.Series:
    """Log return from the close of t to the close of t + horizon; a label, never a feature."""
    return np.log(close.shift(-horizon_bars) / close)


def information_table(
    features: pd.DataFrame,
    close: pd.Series,
    *,
    names: Sequence[str],
    horizons_bars: Sequence[int],
    n_bootstrap: int,
    seed: int,
) -> pd.DataFrame:
    """Spearman correlation of each feature with the return ahead, one symbol.

    Parameters
    ----------
    features : frame of shape (n_bars, ...)
        Holds the columns `names`.
    close : series of shape (n_bars,)
        On the same index.
    n_bootstrap : int
        Stationary-bootstrap samples; mean block of twice the horizon, at least 20 bars.

    Returns
    -------
    frame with columns feature, horizon_bars, ic, low, high
        `low` and `high` bound the central 95 %. Rows with nan are left out.
    """
    rows = []
    for horizon in horizons_bars:
        label = forward_return(close, horizon).rename("label")
        table = pd.concat([features[list(names)], label], axis=1).dropna()
        ranks = table.rank().to_numpy()
        bootstrap = StationaryBootstrap(max(20, 2 * horizon), ranks, seed=seed)
        samples = bootstrap.apply(_correlate_with_last, n_bootstrap)
        low, high = np.quantile(samples, [0.025, 0.975], axis=0)
        for i, value in enumerate(_correlate_with_last(ranks)):
            rows.append((names[i], horizon, value, low[i], high[i]))
    return pd.DataFrame(rows, columns=["feature", "horizon_bars", "ic", "low", "high"])


def _correlate_with_last(x: np.ndarray) -> np.ndarray:
    """Correlation of each column but the last with the last, shape (n_columns - 1,)."""
    centred = x - x.mean(axis=0)
    norms = np.sqrt((centred**2).sum(axis=0))
    return (centred[:, :-1] * centred[:, -1:]).sum(axis=0) / (norms[:-1] * norms[-1])
