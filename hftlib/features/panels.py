"""From bars and features to the panels of a dataset: split, scale on training rows, align."""

from collections.abc import Sequence
from typing import Any, NamedTuple

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
    bars: pd.DataFrame, features: pd.DataFrame, symbols: Sequence[str], **boundaries: Any
) -> Datasets:
    """Cut, scale and align.

    Parameters
    ----------
    bars : frame as `schema.BARS`
    features : frame as from `compute_features(bars)`
        Row by row that of `bars`; rows with nan (warm-up) are dropped.
    symbols : sequence of str
        Which to keep; they must share one clock.
    **boundaries
        The keyword arguments of `split_by_date`.

    Raises
    ------
    SplitError
        If a symbol is unknown, or one of its splits is empty.
    PanelError
        If two symbols have bars at different times.
    """
    names = list(FEATURE_NAMES)
    table = pd.concat([bars, features[names]], axis=1).dropna(subset=names)
    rows = split_frame(table, symbols, **boundaries)
    scaler = RobustScaler.fit(rows["train"][names], names)
    panels = {
        split: BarPanel.from_frame(part, scaler.transform(part[names]), names)
        for split, part in rows.items()
    }
    for panel in panels.values():
        panel.common_clock()
    return Datasets(rows, panels, scaler)
