"""Do features and predictions still follow the law that a policy was trained on?

A reference span, as a rule the training rows, against the newest rows. The population
stability index says how large a change is; Kolmogorov-Smirnov's distance, column by
column, and the maximum mean discrepancy, of all columns together, decide whether it is one, each
at half the level. All p-values are from blocks of rows (`drift_tests`).

The level holds while the dependence is short beside the current rows: of 250 rows at 5 %,
`drift_controls` finds some 4, 5, 6 and 7 % false alarms at an autocorrelation of 0, .5, .9 and .95
(Smirnov's independent test: 8, 45, 97 and 100 %), and of columns alone 18 % at .98: take
differences of what hardly moves. A change is seen well once it fills the current rows.

A test that is repeated on every bar finds something in the end: ask once in a span, or use
`monitors`, whose level is that of a whole horizon.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hftlib.evaluation.drift_tests import (
    draw_labels,
    judge,
    kolmogorov_distance,
    mean_discrepancy,
    stability,
)
from hftlib.evaluation.samples import (
    ConstantError,
    FloatArray,
    SampleError,
    TooFewError,
    UndefinedError,
    varies,
)

BLOCKS = 3  # of the current rows: few and long, so that dependence up to a tenth of them survives
LEAST_CURRENT = 30
LEAST_RATIO = 3  # reference rows to current ones: fewer leave too few other places for a label


class ColumnsDifferError(SampleError):
    """Reference and current rows of different columns."""


@dataclass(frozen=True)
class DriftReport:
    """What changed between a reference and the current rows.

    Attributes
    ----------
    columns : frame indexed by column, with psi, psi_p, ks, ks_p
        PSI in natural logarithms, Kolmogorov-Smirnov's distance in [0, 1]; p-values corrected
        for the number of columns, family-wise.
    mmd, mmd_p : float
        Squared maximum mean discrepancy of all columns together, and its p-value.
    n_reference, n_current, block : int
        Rows, and those of a block.
    level : float
        Chance that `is_drift` is said of rows without drift.
    """

    columns: pd.DataFrame
    mmd: float
    mmd_p: float
    n_reference: int
    n_current: int
    block: int
    level: float

    @property
    def changed(self) -> tuple[str, ...]:
        """Columns whose law changed, by Kolmogorov-Smirnov at half the level, largest p last."""
        found = self.columns[self.columns["ks_p"] <= self.level / 2]
        return tuple(str(name) for name in found.sort_values("ks_p", kind="stable").index)

    @property
    def is_drift(self) -> bool:
        """Whether any column changed, or all together did."""
        return bool(self.changed) or self.mmd_p <= self.level / 2

    def to_dict(self) -> dict[str, Any]:
        """For JSON: plain numbers by name, the table as one entry a column."""
        return {
            **{k: v for k, v in vars(self).items() if k != "columns"},
            "columns": {str(k): v for k, v in self.columns.to_dict("index").items()},
            "changed": list(self.changed),
            "is_drift": self.is_drift,
        }


def detect_drift(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    *,
    seed: int,
    n_permutations: int = 999,
    level: float = 0.05,
    n_bins: int = 10,
) -> DriftReport:
    """Compare the newest rows of features, or of predictions, with a reference.

    Parameters
    ----------
    reference, current : frames of shape (n, k) and (m, k), one row a bar
        The same columns, finite, in time order, one symbol (symbols of one clock side by
        side). m is at least 30, n at least 3 m.
    n_permutations : int
        Draws of the labels; no p-value is below 1 / (1 + n_permutations).
    n_bins : int
        Of the PSI.

    Raises
    ------
    ColumnsDifferError
        If the columns are not the same, in the same order.
    TooFewError
        If there are fewer rows, or too few permutations for half the level.
    UndefinedError
        If a value is nan or infinite.
    ConstantError
        If a column of the reference does not vary. One that varied and stopped is drift.
    """
    names = [str(name) for name in reference]
    if list(reference.columns) != list(current.columns):
        differ = sorted(set(names) ^ {str(name) for name in current}) or ["their order"]
        raise ColumnsDifferError(
            f"drift: reference and current differ in {', '.join(differ)}; give both the columns "
            "that the policy was trained on"
        )
    n, m = len(reference), len(current)
    if m < LEAST_CURRENT or n < LEAST_RATIO * m or not names:
        raise TooFewError(
            f"drift: {n} reference rows, {m} current ones, {len(names)} columns; expected at least "
            f"{LEAST_CURRENT} current rows, {LEAST_RATIO} times as many of the reference, and a "
            "column"
        )
    if 1.0 / (1 + n_permutations) > level / 2:
        raise TooFewError(
            f"drift: {n_permutations} permutations cannot show a p-value of {level / 2}; use at "
            f"least {round(2 / level)}"
        )
    old, new = _check(reference, "reference"), _check(current, "current")
    flat = [names[k] for k in np.flatnonzero(~varies(old))]
    if flat:
        raise ConstantError(f"drift: {', '.join(flat)} of the reference do not vary; leave out")
    pooled = np.concatenate([old, new])
    block = -(-m // BLOCKS)
    labels = draw_labels(n, m, block, n_permutations, np.random.default_rng(seed))
    psi = judge(stability(pooled, labels, n_bins))
    ks = judge(kolmogorov_distance(pooled, labels))
    mmd = judge(mean_discrepancy(pooled, labels))
    table = {"psi": psi.value, "psi_p": psi.corrected, "ks": ks.value, "ks_p": ks.corrected}
    frame = pd.DataFrame(table, index=pd.Index(names, name="column"))
    return DriftReport(frame, float(mmd.value[0]), float(mmd.p_value[0]), n, m, block, level)


def _check(rows: pd.DataFrame, side: str) -> FloatArray:
    values = rows.to_numpy(dtype=np.float64)
    finite = np.isfinite(values)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise UndefinedError(
            f"drift: {rows.columns[column]} of the {side} is {values[row, column]} in row {row}; "
            "drop the warm-up, or the rows without a value"
        )
    return values
