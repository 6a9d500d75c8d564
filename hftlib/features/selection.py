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
        would leak. Rows with nan are left out.
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
        In order of falling |ic|, the mean over symbols; features that do not
        vary for one of them are left out. `nearest` is the feature, among those
        chosen before, of largest correlation, which is beside it; none and nan
        for the first, and once enough are chosen.

    Raises
    ------
    ValueError
        If no row of a symbol is complete; names the features without values.
    """
    coefficients, correlations = [], []
    for symbol, part in rows.groupby("symbol", sort=False):
        try:
            ic = information_coefficients(part, part["close"], names, horizon_bars)
        except ValueError as fault:
            raise ValueError(f"{symbol}: {fault}") from None
        coefficients.append(ic.to_numpy())
        correlations.append(_rank_correlations(part[list(names)].dropna()))
    ic = np.mean(coefficients, axis=0)
    alike = np.abs(np.mean(correlations, axis=0))
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
        Correlations are means over symbols; rows with nan are left out.
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
    parts = [part[list(names)].dropna() for _, part in rows.groupby("symbol", sort=False)]
    alike = np.abs(np.mean([_rank_correlations(part) for part in parts], axis=0))
    distance = np.clip(1 - alike, 0.0, 1.0)
    tree = linkage(distance[np.triu_indices(len(names), 1)], "average", optimal_ordering=True)
    order = leaves_list(tree)
    groups = fcluster(tree, 1 - max_correlation, "distance")[order]
    return pd.Series(pd.factorize(groups)[0], pd.Index(np.array(names)[order]), name="cluster")


def _rank_correlations(table: pd.DataFrame) -> FloatArray:
    """Spearman's correlation of all pairs of columns; nan where one does not vary."""
    ranks = table.rank().to_numpy()
    ranks = ranks - ranks.mean(axis=0)
    length = np.sqrt((ranks**2).sum(axis=0))
    product = np.outer(length, length)
    out = np.full(product.shape, np.nan)
    return np.divide(ranks.T @ ranks, product, out=out, where=product > 0)
