"""How much a feature says about a later return: rank information coefficients."""

from collections.abc import Iterator, Sequence

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
        `low` and `high` bound the central 95 %. Of each feature the rows count
        that have its value and a return ahead; nan for one that does not vary
        on them or has no value.
    """
    rows = []
    for horizon in horizons_bars:
        found: dict[str, tuple[float, float, float]] = {}
        for group, ranks in _rank_with_label(features, close, names, horizon):
            bootstrap = StationaryBootstrap(max(20, 2 * horizon), ranks, seed=seed)
            samples = bootstrap.apply(correlate_with_last, n_bootstrap)
            bounds = np.quantile(samples, [0.025, 0.975], axis=0)
            triples = zip(correlate_with_last(ranks), *bounds, strict=True)
            found |= zip(group, triples, strict=True)
        rows += [(name, horizon, *found.get(name, (np.nan,) * 3)) for name in names]
    return pd.DataFrame(rows, columns=["feature", "horizon_bars", "ic", "low", "high"])


def information_coefficients(
    features: pd.DataFrame, close: pd.Series, names: Sequence[str], horizon_bars: int
) -> pd.Series:
    """The `ic` of `information_table` at one horizon, without intervals, by feature."""
    found = pd.Series(np.nan, index=list(names))
    for group, ranks in _rank_with_label(features, close, names, horizon_bars):
        found[group] = correlate_with_last(ranks)
    return found


def _rank_with_label(
    features: pd.DataFrame, close: pd.Series, names: Sequence[str], horizon_bars: int
) -> Iterator[tuple[list[str], FloatArray]]:
    """Ranks of features and, last, of the return ahead, over the rows that have both.

    Features that are known on the same rows come together; those on none do not come.
    """
    label = forward_return(close, horizon_bars)
    known = features[list(names)].notna() & label.notna().to_numpy()[:, None]
    groups: dict[bytes, list[str]] = {}
    for name in names:
        groups.setdefault(known[name].to_numpy().tobytes(), []).append(name)
    for group in groups.values():
        is_known = known[group[0]]
        if is_known.any():
            ranks = features.loc[is_known, group].rank()
            yield group, np.column_stack([ranks, label[is_known].rank()])


def correlate_with_last(x: FloatArray) -> FloatArray:
    """Correlation of each column but the last with the last; nan where one does not vary.

    Of ranks, it is Spearman's.
    """
    centred = x - x.mean(axis=0)
    norms = np.sqrt((centred**2).sum(axis=0))
    products = norms[:-1] * norms[-1]
    out = np.full(len(products), np.nan)
    shared = (centred[:, :-1] * centred[:, -1:]).sum(axis=0)
    return np.divide(shared, products, out=out, where=products > 0)
