"""From bars and features to the panels of a dataset: split, scale on training rows, align."""

from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

import numpy as np
import pandas as pd

from hftlib.data.mixing import mix_rows
from hftlib.data.panel import BarPanel
from hftlib.data.splits import SplitError, split_frame
from hftlib.features.indicators import FEATURE_NAMES
from hftlib.features.scaling import RobustScaler


class Datasets(NamedTuple):
    """Keyed by split: `rows` before scaling, `panels` after it; the scaler saw real training
    rows.
    """

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
    synthetic_share: float = 0.0,
    is_control: bool = False,
) -> Datasets:
    """Cut into train, validation and test, scale and align.

    Parameters
    ----------
    bars : frame as `schema.BARS`
    features : frame as from `compute_features(bars)`
        Row by row that of `bars`; rows with nan (warm-up) are dropped.
    symbols : sequence of str
        Which to keep, all real; they must share one clock.
    train_end, validation_end : date
        Last day (UTC) of training and of validation; the test split follows.
    purge_bars, embargo_bars : int
        Rows dropped before and after each boundary; purge at least the label
        horizon.
    synthetic_share : float in [0, 1)
        Share of the training rows that the synthetic symbols of `bars` make.
    is_control : bool
        `bars` are a control with a known answer, cut as if they were real.

    Raises
    ------
    SplitError
        If a symbol is unknown or synthetic, or one of its splits is empty.
    MixError
        If the synthetic symbols have too few rows for the share.
    PanelError
        If two symbols have bars at different times.
    """
    names = list(FEATURE_NAMES)
    table = pd.concat([bars, features[names]], axis=1).dropna(subset=names)
    ends = {"train": train_end, "validation": validation_end}
    drawn = [] if is_control else list(bars.loc[bars["is_synthetic"], "symbol"].unique())
    for symbol in symbols:
        if symbol in drawn:
            raise SplitError(
                f"{symbol} is synthetic; name real symbols, and let synthetic_share add others"
            )
    every = [*symbols, *drawn] if synthetic_share > 0 else symbols
    margins = {"purge_bars": purge_bars, "embargo_bars": embargo_bars}
    rows = split_frame(table, every, ends, is_control=is_control, **margins)
    real = dict(rows)
    if synthetic_share > 0:
        rows["train"] = mix_rows(rows["train"], synthetic_share)
        real["train"] = rows["train"][~rows["train"]["is_synthetic"]]
    scaler = RobustScaler.fit(real["train"][names], names)
    panels = {
        split: BarPanel.from_frame(part, scaler.transform(part[names]), names)
        for split, part in rows.items()
    }
    for part in real.values():
        BarPanel.from_frame(part, np.empty((len(part), 0), np.float32), []).common_clock()
    return Datasets(rows, panels, scaler)
