"""Prices and volumes in deviations from their own recent mean: raw bars for a network.

Every value depends on the bars of its window alone, itself the last of them.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.compute import compile_kernel

COLUMNS = ("open", "high", "low", "close", "volume")
FloatArray = npt.NDArray[np.float64]


def rolling_zscores(bars: pd.DataFrame, window_bars: int) -> pd.DataFrame:
    """Open, high, low, close and volume as rolling z-scores, symbol by symbol.

    Parameters
    ----------
    bars : frame as `schema.BARS`
    window_bars : int
        Bars that mean and deviation (ddof 0) are taken over, at least 2; the bar itself is
        the last.

    Returns
    -------
    frame with the index of `bars` and columns open_z … volume_z
        nan in the first `window_bars - 1` bars of a symbol and where the window has a
        nan; 0 where the column does not move.

    Raises
    ------
    ValueError
        If `window_bars` is below 2.
    """
    if window_bars < 2:
        raise ValueError(f"window_bars is {window_bars}; expected at least 2")
    scores = pd.DataFrame(np.nan, bars.index, [f"{name}_z" for name in COLUMNS])
    for rows in bars.groupby("symbol").indices.values():
        for k, name in enumerate(COLUMNS):
            values = bars[name].to_numpy(dtype=np.float64)[rows]
            out = np.full(len(values), np.nan)
            _zscore(values, window_bars, out)
            scores.iloc[rows, k] = out
    return scores


@compile_kernel
def _zscore(x: FloatArray, window: int, out: FloatArray) -> None:
    """Two passes over each window: a running sum would leave rests of bars long gone."""
    for t in range(window - 1, len(x)):
        first, total, squares = x[t - window + 1], 0.0, 0.0
        for k in range(t - window + 1, t + 1):
            total += x[k] - first
        mean = first + total / window
        for k in range(t - window + 1, t + 1):
            squares += (x[k] - mean) ** 2
        if squares > 0.0:
            out[t] = (x[t] - mean) / np.sqrt(squares / window)
        elif squares == 0.0:
            out[t] = 0.0
