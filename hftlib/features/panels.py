"""From bars and features to the panels of a dataset: split, scale on training rows, align."""

from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

import pandas as pd

from hftlib.data.panel import BarPanel
from hftlib.data.splits import split_frame
from hftlib.features.indicators import FEATURE_NAMES
from hftlib.features.scaling import RobustScaler


class Datasets(NamedTuple):
    """Keyed by split: `rows` before scaling, `panels` after it; the scaler saw training rows."""

    rows: dict[str, pd.DataFrame]
    panels: dict[str, BarPanel]
    scaler: RobustScaler


def build_datasets(
    bars: pd.DataFrame,
    features: pd.DataFrame,
    symbols: Sequence[str],
    *,
    train_end: date,
    validation_end: date,
    purge_bars: int,
    embargo_bars: int,
) -> Datasets:
    """Cut into train, validation and test, scale and align.

    Parameters
    ----------
    bars : frame as `schema.BARS`
    features : frame as from `compute_features(bars)`
        Row by row that of `bars`; rows with nan (warm-up) are dropped.
    symbols : sequence of str
        Which to keep; they must share one clock.
    train_end, validation_end : date
        Last day (UTC) of training and of validation; the test split follows.
    purge_bars, embargo_bars : int
        Rows dropped before and after each boundary; purge at least the label
        horizon.

    Raises
    ------
    SplitError
        If a symbol is unknown, or one of its splits is empty.
    PanelError
        If two symbols have bars at different times.
    """
    names = list(FEATURE_NAMES)
    table = pd.concat([bars, features[names]], axis=1).dropna(subset=names)
    ends = {"train": train_end, "validation": validation_end}
    rows = split_frame(table, symbols, ends, purge_bars=purge_bars, embargo_bars=embargo_bars)
    scaler = RobustScaler.fit(rows["train"][names], names)
    panels = {
        split: BarPanel.from_frame(part, scaler.transform(part[names]), names)
        for split, part in rows.items()
    }
    for panel in panels.values():
        panel.common_clock()
    return Datasets(rows, panels, scaler)
