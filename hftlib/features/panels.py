"""From bars and features to the panels of a dataset: split, scale on training rows, align."""

import difflib
from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

import numpy as np
import pandas as pd

from hftlib.data.mixing import mix_rows
from hftlib.data.panel import BarPanel
from hftlib.data.splits import SplitError, split_frame
from hftlib.features.feature import FeatureError
from hftlib.features.scaling import RobustScaler
from hftlib.features.zscore import rolling_zscores


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
    names: Sequence[str] | None = None,
    train_end: date,
    validation_end: date,
    purge_bars: int,
    embargo_bars: int,
    synthetic_share: float = 0.0,
    zscore_bars: int | None = None,
    is_control: bool = False,
) -> Datasets:
    """Cut into train, validation and test, scale and align.

    Parameters
    ----------
    bars : frame as `schema.BARS`
    features : frame as from `compute_features(bars)`
        Row by row that of `bars`, whatever the index of either; rows with nan
        (warm-up) are dropped.
    symbols : sequence of str
        Which to keep, all real; they must share one clock.
    names : sequence of str, optional
        Features to use; all columns of `features` by default.
    train_end, validation_end : date
        Last day (UTC) of training and of validation; the test split follows.
    purge_bars, embargo_bars : int
        Rows dropped before and after each boundary; purge at least the label
        horizon.
    synthetic_share : float in [0, 1)
        Share of the training rows that the synthetic symbols of `bars` make.
    zscore_bars : int, optional
        Adds the columns of `zscore.rolling_zscores` over so many bars, but for the volume
        where a symbol that is used has none.
    is_control : bool
        `bars` are a control with a known answer, cut as if they were real.

    Raises
    ------
    FeatureError
        If `features` are not those of `bars`, a name is no column of them, or
        a symbol has no bar with a value of each; names those without any.
    SplitError
        If a symbol is unknown or synthetic, or one of its splits is empty.
    MixError
        If the synthetic symbols have too few rows for the share.
    PanelError
        If two symbols have bars at different times.
    """
    columns = [name for name in features.columns if name not in ("symbol", "ts")]
    names = columns if names is None else list(names)
    for name in names:
        if name not in columns:
            close = difflib.get_close_matches(name, columns, n=1)
            remedy = f"did you mean {close[0]}?" if close else f"there are {', '.join(columns)}"
            raise FeatureError(f"{name} is not among the features; {remedy}")
    bars, features = bars.reset_index(drop=True), features.reset_index(drop=True)
    _check_rows(bars, features)
    drawn = [] if is_control else list(bars.loc[bars["is_synthetic"], "symbol"].unique())
    every = [*symbols, *drawn] if synthetic_share > 0 else symbols
    table = pd.concat([bars, features[names]], axis=1)
    if zscore_bars is not None:
        scores = rolling_zscores(bars, zscore_bars)
        counts = scores["volume_z"].groupby(bars["symbol"]).count()
        if (counts[counts.index.isin(every)] == 0).any():
            scores = scores.drop(columns="volume_z")
        table, names = pd.concat([table, scores], axis=1), [*names, *scores]
    for symbol in symbols:
        _check_values(table[table["symbol"] == symbol], symbol, names)
    table = table.dropna(subset=names)
    ends = {"train": train_end, "validation": validation_end}
    for symbol in symbols:
        if symbol in drawn:
            raise SplitError(
                f"{symbol} is synthetic; name real symbols, and let synthetic_share add others"
            )
    margins = {"purge_bars": purge_bars, "embargo_bars": embargo_bars}
    rows = split_frame(table, every, ends, is_control=is_control, **margins)
    real = dict(rows)
    if synthetic_share > 0:
        rows["train"] = mix_rows(rows["train"], synthetic_share)
        real["train"] = rows["train"][~rows["train"]["is_synthetic"]]
    scaler = RobustScaler.fit(real["train"][names], names, allow_ties=True)
    panels = {
        split: BarPanel.from_frame(part, scaler.transform(part[names]), names)
        for split, part in rows.items()
    }
    for part in real.values():
        BarPanel.from_frame(part, np.empty((len(part), 0), np.float32), []).common_clock()
    return Datasets(rows, panels, scaler)


def _check_rows(bars: pd.DataFrame, features: pd.DataFrame) -> None:
    """Refuse features of other bars: they would be taken for those of the row beside them."""
    remedy = "compute the features of these bars, or filter both alike"
    if len(features) != len(bars):
        raise FeatureError(f"{len(features)} rows of features for {len(bars)} bars; {remedy}")
    differs = (features["symbol"] != bars["symbol"]) | (features["ts"] != bars["ts"])
    if differs.any():
        row = int(np.argmax(differs))
        theirs, ours = (f"{x['symbol'][row]} at {x['ts'][row]}" for x in (features, bars))
        raise FeatureError(f"row {row} of the features is {theirs}, of the bars {ours}; {remedy}")


def _check_values(rows: pd.DataFrame, symbol: str, names: Sequence[str]) -> None:
    """Refuse a symbol that would lose all its rows to features without values."""
    known = rows[names].notna()
    if len(rows) and not known.all(axis=1).any():
        without = [name for name in names if not known[name].any()]
        listed = ", ".join(without) or "none, but never all of them at once"
        raise FeatureError(
            f"{symbol}: none of {len(rows)} bars has every feature; without any value: {listed}; "
            "a warm-up may be longer than the history, or volume, scores or a regime model be "
            "missing: leave the features or the symbol out"
        )
