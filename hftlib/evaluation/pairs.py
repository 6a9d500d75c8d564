"""All pairs of a set of strategies, corrected for their number.

Feeds on `superiority.compare_pair`. What cannot be compared is said, not dropped: two
strategies that hold the same position nearly always have no p-value, and do not count
as a test.
"""

from itertools import combinations

import numpy as np
import pandas as pd

from hftlib.evaluation.samples import ConstantError, TooFewError, varies
from hftlib.evaluation.superiority import compare_pair, correct_p_values


def keep_distinct(returns: pd.DataFrame) -> pd.DataFrame:
    """Leave out strategies that never trade, and those that only repeat an earlier column.

    Tests of a whole set divide by the spread of a strategy, or of the difference of two.

    Parameters
    ----------
    returns : frame of shape (n_bars, n_strategies)
        Finite.

    Returns
    -------
    frame of the columns that vary and differ from each other by more than a constant
    """
    values = returns.to_numpy(dtype=np.float64)
    kept: list[int] = []
    for k in range(values.shape[1]):
        others = np.concatenate([values[:, [k]], values[:, [k]] - values[:, kept]], axis=1)
        if varies(others).all():
            kept.append(k)
    return returns.iloc[:, kept]


def compare_all(
    returns: pd.DataFrame, *, n_bootstrap: int, seed: int, level: float = 0.05
) -> pd.DataFrame:
    """Paired difference of each strategy and each later one, with corrected p-values.

    Parameters
    ----------
    returns : frame with dates as index and strategies as columns
    n_bootstrap : int
        No p-value is below 1 / (1 + n_bootstrap): with n pairs, fewer than n / level replications
        let nothing pass Holm's correction.
    level : float
        Of the corrections; intervals of single differences have confidence 1 - level.

    Returns
    -------
    frame with columns first, second, difference, low, high (per bar), effect_size (per bar), p,
    holm, benjamini_hochberg (corrected p-values)
        nan where the two differ on too few bars, or by the same on all.

    Raises
    ------
    UndefinedError
        If a return is not finite.
    """
    rows = []
    for first, second in combinations(returns, 2):
        row = {"first": first, "second": second}
        try:
            found = compare_pair(
                returns[first],
                returns[second],
                n_bootstrap=n_bootstrap,
                seed=seed,
                confidence=1 - level,
            )
        except (TooFewError, ConstantError):
            rows.append(row | {"p": np.nan})
            continue
        gap = found.difference
        row |= {"difference": gap.value, "low": gap.low, "high": gap.high}
        rows.append(row | {"effect_size": found.effect_size, "p": found.p_value})
    columns = ["first", "second", "difference", "low", "high", "effect_size", "p"]
    table = pd.DataFrame(rows, columns=columns)
    table["holm"] = correct_p_values(table["p"], "holm", level).p_values
    table["benjamini_hochberg"] = correct_p_values(table["p"], "benjamini_hochberg", level).p_values
    return table


def square(table: pd.DataFrame, column: str, names: list[str]) -> pd.DataFrame:
    """A column of `compare_all` as a matrix: row less column; a difference changes its sign.

    P-values are the same both ways. The diagonal is nan.
    """
    sign = 1.0 if column in ("p", "holm", "benjamini_hochberg") else -1.0
    matrix = pd.DataFrame(np.nan, index=names, columns=names)
    for row in table.to_dict("records"):
        matrix.loc[row["first"], row["second"]] = row[column]
        matrix.loc[row["second"], row["first"]] = sign * row[column]
    return matrix
