"""Drift of what a served model sees, in the shape in which it is shown."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hftlib.data.panel import BarPanel
from hftlib.evaluation.drift import DriftReport, detect_drift

N_SHOWN = 12  # columns


def feature_frame(panels: Mapping[str, BarPanel], names: Sequence[str]) -> pd.DataFrame:
    """Scaled features of several symbols side by side, one row a bar that all of them have.

    Parameters
    ----------
    panels : mapping of symbol to a panel that has it
    names : features to keep

    Returns
    -------
    frame indexed by ts (nanoseconds UTC), columns `<symbol> <feature>`
    """
    found = []
    for symbol, panel in panels.items():
        start, stop = panel.segments[panel.symbols.index(symbol)]
        columns = [panel.feature_names.index(name) for name in names]
        values = panel.features[start:stop][:, columns].astype(np.float64)
        labels = [f"{symbol} {name}" for name in names]
        found.append(pd.DataFrame(values, pd.Index(panel.ts[start:stop], name="ts"), labels))
    return pd.concat(found, axis=1, join="inner")


def watch_drift(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    *,
    seed: int,
    n_permutations: int,
    level: float,
) -> tuple[DriftReport, dict[str, Any]]:
    """`detect_drift` without the columns that the reference never moves, and what is shown of it.

    Returns
    -------
    DriftReport
    dict
        is_drift, level, mmd_p, n_current, ts_ns of the newest row, and the columns with the
        smallest p-values of Kolmogorov-Smirnov as name, psi, ks, ks_p.
    """
    moving = [name for name in reference if reference[name].nunique() > 1]
    report = detect_drift(
        reference[moving],
        current[moving],
        seed=seed,
        n_permutations=n_permutations,
        level=level,
    )
    first = report.columns.sort_values("ks_p", kind="stable").head(N_SHOWN)
    rows = first[["psi", "ks", "ks_p"]].rename_axis("name").reset_index().to_dict("records")
    return report, {
        "is_drift": report.is_drift,
        "level": report.level,
        "mmd_p": report.mmd_p,
        "n_current": report.n_current,
        "ts_ns": int(current.index[-1]),
        "columns": rows,
    }
