"""How much a feature says about a later return: rank information coefficients."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from arch.bootstrap import StationaryBootstrap

from hftlib.features.feature import FloatArray


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
        `low` and `high` bound the central 95 %; nan for a feature that does
        not vary. Rows with nan are left out.

    Raises
    ------
    ValueError
        If no row is complete, as where a feature has no values at all.
    """
    rows = []
    for horizon in horizons_bars:
        ranks = _rank_with_label(features, close, names, horizon)
        bootstrap = StationaryBootstrap(max(20, 2 * horizon), ranks, seed=seed)
        samples = bootstrap.apply(_correlate_with_last, n_bootstrap)
        low, high = np.quantile(samples, [0.025, 0.975], axis=0)
        for i, value in enumerate(_correlate_with_last(ranks)):
            rows.append((names[i], horizon, value, low[i], high[i]))
    return pd.DataFrame(rows, columns=["feature", "horizon_bars", "ic", "low", "high"])


def information_coefficients(
    features: pd.DataFrame, close: pd.Series, names: Sequence[str], horizon_bars: int
) -> pd.Series:
    """The `ic` of `information_table` at one horizon, without intervals, by feature."""
    ranks = _rank_with_label(features, close, names, horizon_bars)
    return pd.Series(_correlate_with_last(ranks), index=list(names))


def _rank_with_label(
    features: pd.DataFrame, close: pd.Series, names: Sequence[str], horizon_bars: int
) -> FloatArray:
    """Ranks of the features and, last, of the return ahead, over the complete rows."""
    label = forward_return(close, horizon_bars).rename("label")
    table = pd.concat([features[list(names)], label], axis=1)
    complete = table.dropna()
    if complete.empty:
        without = table.columns[table.isna().all()].tolist()
        raise ValueError(
            f"none of {len(table)} rows has every feature and a return {horizon_bars} bars ahead; "
            f"without any value: {', '.join(without) or 'none'}; leave those out"
        )
    return complete.rank().to_numpy()


def _correlate_with_last(x: FloatArray) -> FloatArray:
    """Correlation of each column but the last with the last; nan where one does not vary."""
    centred = x - x.mean(axis=0)
    norms = np.sqrt((centred**2).sum(axis=0))
    products = norms[:-1] * norms[-1]
    out = np.full(len(products), np.nan)
    shared = (centred[:, :-1] * centred[:, -1:]).sum(axis=0)
    return np.divide(shared, products, out=out, where=products > 0)
