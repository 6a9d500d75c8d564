"""Panels with forecasts: what was expected at a bar, as columns beside its features.

Forecasts are out of fold, so a row knows nothing of its own future; there are
none before the first fold's test span. The columns are then 0, and
`forecast_known` tells that from a forecast that is average.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from hftlib.data.manifest import verify_manifest
from hftlib.data.panel import BarPanel, PanelError
from hftlib.features.scaling import RobustScaler
from hftlib.schema import UTC

COLUMNS = (
    "log_variance_mean",
    "log_variance_sd",
    "next_return_mean",
    "next_return_sd",
    "up_probability",
)
NAMES = tuple(f"forecast_{name.removesuffix('_mean')}" for name in COLUMNS)
KNOWN = "forecast_known"


def load_advised(folder: Path, split: str, forecasts: pd.DataFrame) -> BarPanel:
    """A split of a dataset of bars, with forecasts scaled by those of its training rows.

    Raises
    ------
    ManifestError
        If a file of the folder is not the one that its manifest names.
    PanelError
        If no training row has a forecast.
    """
    verify_manifest(folder)
    train = BarPanel.load(folder / "train.npz")
    panel = train if split == "train" else BarPanel.load(folder / f"{split}.npz")
    return add_forecasts(panel, forecasts, fit_forecasts(train, forecasts))


def fit_forecasts(train: BarPanel, forecasts: pd.DataFrame) -> RobustScaler:
    """The scaler of the forecasts of training rows.

    Raises
    ------
    PanelError
        If no training row has a forecast.
    """
    values = _align(train, forecasts)
    values = values[~np.isnan(values).any(axis=1)]
    if not len(values):
        raise PanelError(
            f"none of {len(train.ts)} training rows has a forecast; begin with forecasts earlier "
            "(forecaster.first_test_day)"
        )
    return RobustScaler.fit(values, NAMES, allow_ties=True)


def add_forecasts(panel: BarPanel, forecasts: pd.DataFrame, scaler: RobustScaler) -> BarPanel:
    """A panel with more features, and `forecast` and `uncertainty` of the next return.

    Parameters
    ----------
    panel : BarPanel
    forecasts : frame as `schema.FORECASTS`
        Of any bars; those of the panel are taken.
    scaler : RobustScaler
        As from `fit_forecasts`, so fitted on training rows.
    """
    values = _align(panel, forecasts)
    known = ~np.isnan(values).any(axis=1)
    scaled = np.where(known[:, None], scaler.transform(values), 0.0)
    added = np.column_stack([scaled, known]).astype(np.float32)
    return replace(
        panel,
        features=np.concatenate([panel.features, added], axis=1),
        feature_names=(*panel.feature_names, *NAMES, KNOWN),
        forecast=values[:, COLUMNS.index("next_return_mean")],
        uncertainty=values[:, COLUMNS.index("next_return_sd")],
    )


def _align(panel: BarPanel, forecasts: pd.DataFrame) -> np.ndarray:
    """Forecasts of each row of the panel, float64 (n_rows, 5); nan where there is none."""
    lengths = panel.segments[:, 1] - panel.segments[:, 0]
    symbols = np.repeat(np.array(panel.symbols, dtype=object), lengths)
    rows = pd.MultiIndex.from_arrays([symbols, pd.to_datetime(panel.ts, utc=True)])
    known = forecasts.assign(ts=forecasts["ts"].astype(UTC)).set_index(["symbol", "ts"])
    values: np.ndarray = known[[*COLUMNS]].reindex(rows).to_numpy(dtype=np.float64)
    return values
