"""Chronological splits with purge and embargo.

Training comes first, then validation, then test. Rows whose label would reach
over a boundary are purged before it; rows just after it are embargoed.

Source: López de Prado (2018), Advances in Financial Machine Learning, ch. 7.
"""

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

SPLITS = ("train", "validation", "test")


class SplitError(ValueError):
    """A split that would hold no rows."""


def split_by_date(
    ts: pd.Series,
    *,
    train_end: date,
    validation_end: date,
    purge_bars: int,
    embargo_bars: int,
) -> dict[str, npt.NDArray[np.int64]]:
    """Row numbers of each split of one symbol.

    Parameters
    ----------
    ts : series of shape (n_bars,), timezone-aware, increasing
        Bar times.
    train_end, validation_end : date
        Last day (UTC) of training and of validation.
    purge_bars : int
        Rows dropped at the end of training and of validation; at least the
        label horizon, or labels look across the boundary.
    embargo_bars : int
        Rows dropped at the start of validation and of test.

    Returns
    -------
    dict of arrays
        Keys `train`, `validation`, `test`; ascending positions in `ts`.

    Raises
    ------
    SplitError
        If a split is empty; the message names the dates that the data has.
    """
    days: npt.NDArray[Any] = ts.dt.date.to_numpy()
    n_bars = len(days)
    first = int((days <= train_end).sum())
    second = int((days <= validation_end).sum())
    bounds = {
        "train": (0, first - purge_bars),
        "validation": (first + embargo_bars, second - purge_bars),
        "test": (second + embargo_bars, n_bars),
    }
    for name, (start, stop) in bounds.items():
        if stop <= start:
            raise SplitError(
                f"split {name} is empty: train_end={train_end}, validation_end={validation_end}, "
                f"purge_bars={purge_bars}, embargo_bars={embargo_bars}, but the {n_bars} bars run "
                f"from {days[0]} to {days[-1]}; move the dates inside that range"
                if n_bars
                else f"split {name} is empty: there are no bars"
            )
    return {name: np.arange(start, stop) for name, (start, stop) in bounds.items()}


def split_frame(
    table: pd.DataFrame, symbols: Sequence[str], **boundaries: Any
) -> dict[str, pd.DataFrame]:
    """Cut rows of several symbols, each by `split_by_date`.

    Parameters
    ----------
    table : frame with columns symbol, ts and any others
        Each symbol in time order.
    symbols : sequence of str
        Which to keep, and their order.
    **boundaries
        The keyword arguments of `split_by_date`.

    Returns
    -------
    dict of frames
        Keys `train`, `validation`, `test`; rows of one symbol lie together.

    Raises
    ------
    SplitError
        If a symbol is unknown, or one of its splits is empty.
    """
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in SPLITS}
    for symbol in symbols:
        rows = table[table["symbol"] == symbol]
        if rows.empty:
            known = ", ".join(sorted(table["symbol"].unique()))
            raise SplitError(f"symbol {symbol} is not in the data; known: {known}")
        try:
            cut = split_by_date(rows["ts"], **boundaries)
        except SplitError as error:
            raise SplitError(f"{symbol}: {error}") from None
        for name, positions in cut.items():
            parts[name].append(rows.iloc[positions])
    return {name: pd.concat(frames, ignore_index=True) for name, frames in parts.items()}
