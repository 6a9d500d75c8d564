"""Choose few features that say much and do not repeat each other, on training rows.

Features are taken by the size of their information coefficient, the largest
first; one that follows a feature already taken too closely is passed over. The
coefficient of the best of many is flattered by luck: it ranks, and is no
estimate of what the feature will be worth.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage

from hftlib.features.feature import FloatArray
from hftlib.features.information import information_coefficients


def select_features(
    rows: pd.DataFrame,
    names: Sequence[str],
    *,
    horizon_bars: int,
    n_features: int,
    max_correlation: float,
) -> pd.DataFrame:
    """Rank features by their coefficients and mark the chosen ones.

    Parameters
    ----------
    rows : frame with columns symbol, close and `names`
        *Training* rows of one or more symbols, each in time order; later ones
        would leak. A coefficient or correlation is of the rows that have its values.
    names : sequence of str
        Candidates; of equal ones the first is preferred.
    horizon_bars : int
        Of the return ahead; no label looks beyond the rows.
    n_features : int
        How many to choose; fewer where the bound leaves no more.
    max_correlation : float
        Bound on the absolute rank correlation with every feature chosen before.

    Returns
    -------
    frame with columns feature, ic, nearest, correlation, is_chosen
        In order of falling |ic|, the mean over symbols; features without values
        for one of them, or that do not vary there, are left out. `nearest` is
        the feature, among those chosen before, of largest correlation, which is
        beside it; none and nan for the first, and once enough are chosen.

    Raises
    ------
    ValueError
        If no feature is left; names the symbols that have none.
    """
    coefficients = {
        symbol: information_coefficients(part, part["close"], names, horizon_bars).to_numpy()
        for symbol, part in rows.groupby("symbol", sort=False)
    }
    ic = np.mean(list(coefficients.values()), axis=0)
    if not np.isfinite(ic).any():
        bare = [str(name) for name, values in coefficients.items() if not np.isfinite(values).any()]
        raise ValueError(
            f"none of {len(names)} features varies on every symbol beside a return {horizon_bars} "
            f"bars ahead; symbols without any: {', '.join(bare) or 'none'}; leave those out, or "
            "move train_end"
        )
    alike = _likeness(rows, names)
    order = [k for k in np.argsort(-np.abs(ic), kind="stable") if np.isfinite(ic[k])]
    chosen: list[int] = []
    table = []
    for k in order:
        is_open = len(chosen) < n_features
        nearest = max(chosen, key=lambda j: alike[k, j]) if chosen and is_open else None
        is_chosen = is_open and (nearest is None or alike[k, nearest] < max_correlation)
        near = (None, np.nan) if nearest is None else (names[nearest], alike[k, nearest])
        table.append((names[k], ic[k], *near, is_chosen))
        if is_chosen:
            chosen.append(int(k))
    return pd.DataFrame(table, columns=["feature", "ic", "nearest", "correlation", "is_chosen"])


def cluster_features(rows: pd.DataFrame, names: Sequence[str], max_correlation: float) -> pd.Series:
    """Groups of features that repeat each other, by average linkage of 1 - |rank correlation|.

    Parameters
    ----------
    rows : frame with columns symbol and `names`
        Correlations are means over symbols, of the rows that have both values.
    names : sequence of str
        Each varies within each symbol.
    max_correlation : float
        Groups whose mean absolute correlation exceeds it are merged.

    Returns
    -------
    series of int, named cluster, indexed by feature
        Ordered so that like features lie together; clusters count from 0 in
        that order.
    """
    distance = np.clip(1 - _likeness(rows, names), 0.0, 1.0)
    tree = linkage(distance[np.triu_indices(len(names), 1)], "average", optimal_ordering=True)
    order = leaves_list(tree)
    groups = fcluster(tree, 1 - max_correlation, "distance")[order]
    return pd.Series(pd.factorize(groups)[0], pd.Index(np.array(names)[order]), name="cluster")


def _likeness(rows: pd.DataFrame, names: Sequence[str]) -> FloatArray:
    """Absolute rank correlation of all pairs, the mean over symbols first.

    0 where one does not vary, or no row of some symbol has both.
    """
    groups = rows.groupby("symbol", sort=False)
    each = [part[list(names)].corr(method="spearman").to_numpy() for _, part in groups]
    mean: FloatArray = np.mean(each, axis=0)
    return np.nan_to_num(np.abs(mean))
