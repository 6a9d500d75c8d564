"""How much book features say about the mid's next move: rank and mutual information.

Rank correlations are measured session by session; their spread over sessions
is the honest error, since rows of one session depend on each other. Mutual
information is that with the direction of the move, on rows so far apart that
no two moves overlap: near rows share feature and move, which an estimate by
nearest neighbours would take for information.

Source: Ross (2014), Mutual information between discrete and continuous data
sets, PLoS ONE 9(2) (through scikit-learn).
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import rankdata
from scipy.stats import t as student
from sklearn.feature_selection import mutual_info_classif

from hftlib.features.information import correlate_with_last
from hftlib.features.microstructure import feature_matrix

MI_ROWS = 4_000  # rows behind a mutual information at most, over all sessions
CONFIDENCE = 0.95


def measure_information(
    sessions: Iterable[pd.DataFrame],
    names: Sequence[str],
    horizons: Sequence[int],
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Information of each feature about the mid some snapshots ahead.

    Parameters
    ----------
    sessions : iterable of frames as `schema.snapshots(levels)`
        Each one session of the same kind of market.
    horizons : sequence of int
        How far ahead the mid is looked up, in snapshots.
    rng : generator
        Breaks ties of the nearest neighbours and shuffles the floor.

    Returns
    -------
    frame with columns feature, horizon, ic, low, high, sessions, mi, floor
        `ic` is the mean over sessions of Spearman's correlation with the
        simple return of the mid, low and high its 95 % interval by Student's
        t (nan for a single session); nan where a feature does not vary. `mi`
        is in nats; `floor` is what the same estimate says of shuffled moves.
    """
    ranks: list[pd.DataFrame] = []
    kept: dict[int, list[npt.NDArray[np.float64]]] = {horizon: [] for horizon in horizons}
    for frame in sessions:
        x = feature_matrix(frame, [*names, "mid_price"])
        x, mid = x[:, :-1], x[:, -1]
        for horizon in horizons:
            ahead = np.full(len(mid), np.nan)
            ahead[:-horizon] = mid[horizon:] / mid[:-horizon] - 1
            known = np.isfinite(ahead) & np.isfinite(x).all(axis=1)
            ranked = rankdata(np.column_stack([x[known], ahead[known]]), axis=0)
            ic = correlate_with_last(ranked)
            ranks.append(pd.DataFrame({"feature": list(names), "horizon": horizon, "ic": ic}))
            apart = np.flatnonzero(known)[::horizon]
            kept[horizon].append(np.column_stack([x[apart], np.sign(ahead[apart])]))
    groups = pd.concat(ranks).groupby(["feature", "horizon"], sort=False)["ic"]
    table = groups.agg(ic="mean", sd="std", sessions="count").reset_index()
    freedom = (table["sessions"] - 1).clip(lower=1)
    reach = student.ppf(0.5 + CONFIDENCE / 2, freedom) * table["sd"] / np.sqrt(table["sessions"])
    table["low"], table["high"] = table["ic"] - reach, table["ic"] + reach
    mutual = pd.concat([_mutual(kept[h], names, rng).assign(horizon=h) for h in horizons])
    return table.drop(columns="sd").merge(mutual, on=["feature", "horizon"])


def _mutual(
    parts: list[npt.NDArray[np.float64]], names: Sequence[str], rng: np.random.Generator
) -> pd.DataFrame:
    """Mutual information of features with the move in the last column, and of shuffled moves."""
    rows = np.concatenate(parts)
    rows = rows[:: -(-len(rows) // MI_ROWS)]
    x, move = rows[:, :-1], rows[:, -1].astype(np.int64)
    seed = int(rng.integers(2**31))
    return pd.DataFrame(
        {
            "feature": list(names),
            "mi": mutual_info_classif(x, move, random_state=seed),
            "floor": mutual_info_classif(x, rng.permutation(move), random_state=seed),
        }
    )
