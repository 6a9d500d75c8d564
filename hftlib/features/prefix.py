"""The prefix test: does the past of a feature stay as it was when bars are added?

Features on the first n bars must equal those on all bars, bit for bit. A
feature that looks ahead, or that depends on the length of the data, fails.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from hftlib.features.feature import FloatArray

KEYS = ("symbol", "ts")


def check_prefixes(
    compute: Callable[[pd.DataFrame], pd.DataFrame], bars: pd.DataFrame, lengths: Sequence[int]
) -> pd.DataFrame:
    """Compute features on the first n bars, for each n, and compare with those on all.

    Parameters
    ----------
    compute : callable
        From bars to a frame of the same rows with columns symbol, ts and the
        features; a fitted model must be held fixed in it.
    bars : frame as `schema.BARS`
        Of one symbol, in time order.
    lengths : sequence of int
        Each from 1 to the number of bars.

    Returns
    -------
    frame with columns feature, is_causal, n_values, first_bar
        `n_values` is the number of finite values compared, over all lengths: a
        feature without any proves nothing. `first_bar` is the first that
        changes, -1 where none does.

    Raises
    ------
    ValueError
        If a length is out of range, or the rows are not those of the bars.
    """
    wrong = [n for n in lengths if not 1 <= n <= len(bars)]
    if wrong or not lengths:
        raise ValueError(f"lengths {list(lengths)}: expected some from 1 to {len(bars)}")
    whole = compute(bars)
    names = [name for name in whole.columns if name not in KEYS]
    first = dict.fromkeys(names, len(bars))
    compared = dict.fromkeys(names, 0)
    for n in lengths:
        short = compute(bars.iloc[:n])
        if len(short) != n or len(whole) != len(bars):
            raise ValueError(f"{len(short)} rows of features for {n} bars; expected one a bar")
        for name in names:
            before = short[name].to_numpy(dtype=np.float64)
            after = whole[name].to_numpy(dtype=np.float64)[:n]
            changed = np.flatnonzero(~same_bits(before, after))
            if len(changed):
                first[name] = min(first[name], int(changed[0]))
            compared[name] += int(np.isfinite(before).sum())
    rows = [(x, first[x] == len(bars), compared[x], first[x] % len(bars)) for x in names]
    table = pd.DataFrame(rows, columns=["feature", "is_causal", "n_values", "first_bar"])
    table["first_bar"] = table["first_bar"].where(~table["is_causal"], -1)
    return table


def same_bits(a: FloatArray, b: FloatArray) -> np.ndarray:
    """Where two arrays of one shape agree to the last bit; any nan equals any nan."""
    bits = [np.ascontiguousarray(x, dtype=np.float64).view(np.int64) for x in (a, b)]
    return (bits[0] == bits[1]) | (np.isnan(a) & np.isnan(b))
