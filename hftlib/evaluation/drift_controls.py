"""How often does the test of drift cry wolf, and how soon does it see a planted change?

On drawn rows whose law is known: without a change, alarms are false and should come as often as
the level says; with one, the share found is the power. Beside it Smirnov's test for independent
rows (`scipy`, Bonferroni over columns), which is how drift is mostly tested.
"""

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from scipy import stats
from scipy.signal import lfilter

from hftlib.compute import derive_rng, derive_seed
from hftlib.evaluation.drift import detect_drift
from hftlib.evaluation.samples import FloatArray, TooFewError

WARM_UP = 500


@dataclass(frozen=True)
class DriftControl:
    """Share of samples in which drift of features was reported.

    Attributes
    ----------
    autocorrelation : float
        Of each of the columns from one bar to the next.
    n_reference, n_current, n_columns, n_samples : int
    level : float
    independent : float
        False alarms of Kolmogorov-Smirnov's test for independent rows, Bonferroni over columns.
    blocks : float
        False alarms of `detect_drift`.
    found : float
        Alarms of `detect_drift` where the mean of one column moved by `shift` of its
        deviations in the last `n_moved` of the current rows.
    shift : float
    n_moved : int
    error : float
        Monte Carlo standard error of a share whose true value is `level`.
    """

    autocorrelation: float
    n_reference: int
    n_current: int
    n_columns: int
    n_samples: int
    level: float
    independent: float
    blocks: float
    found: float
    shift: float
    n_moved: int
    error: float

    def to_dict(self) -> dict[str, float]:
        """Plain numbers by name."""
        return asdict(self)


def draw_autocorrelated(
    autocorrelation: float, shape: tuple[int, int], rng: np.random.Generator
) -> FloatArray:
    """Stationary normal columns of variance 1, each an AR(1) of its own, shape (n_bars, k).

    Raises
    ------
    ValueError
        If the autocorrelation is not between -1 and 1.
    """
    if not -1 < autocorrelation < 1:
        raise ValueError(f"autocorrelation={autocorrelation}; expected between -1 and 1")
    noise = rng.standard_normal((WARM_UP + shape[0], shape[1]))
    drawn = lfilter([1.0], [1.0, -autocorrelation], noise, axis=0)[WARM_UP:]
    return np.asarray(drawn * (1.0 - autocorrelation**2) ** 0.5)


def control_drift(
    *,
    autocorrelation: float,
    n_samples: int,
    seed: int,
    n_reference: int = 750,
    n_current: int = 250,
    n_columns: int = 4,
    shift: float = 1.0,
    n_moved: int | None = None,
    level: float = 0.05,
    n_permutations: int = 199,
) -> DriftControl:
    """Run `detect_drift` on samples without drift, and on the same with one column moved.

    Parameters
    ----------
    n_moved : int, optional
        Bars since the change, all current rows by default: the share found by it is the delay.

    Raises
    ------
    TooFewError
        If there is no sample; or as `detect_drift`.
    ValueError
        If `n_moved` is not between 1 and `n_current`.
    """
    check_samples(n_samples)
    n_moved = n_current if n_moved is None else n_moved
    if not 1 <= n_moved <= n_current:
        raise ValueError(f"n_moved={n_moved}; expected 1 to the {n_current} current rows")
    rng = derive_rng(seed, "control_drift")
    names = [f"x{k}" for k in range(n_columns)]
    independent = blocks = found = 0
    for sample in range(n_samples):
        rows = draw_autocorrelated(autocorrelation, (n_reference + n_current, n_columns), rng)
        old, new = rows[:n_reference], rows[n_reference:]
        p = [stats.ks_2samp(a, b).pvalue for a, b in zip(old.T, new.T, strict=True)]
        independent += min(p) * n_columns <= level
        moved = new.copy()
        moved[-n_moved:, 0] += shift
        reports = [
            detect_drift(
                pd.DataFrame(old, columns=names),
                pd.DataFrame(rows_now, columns=names),
                seed=derive_seed(seed, "labels", sample),
                n_permutations=n_permutations,
                level=level,
            ).is_drift
            for rows_now in (new, moved)
        ]
        blocks, found = blocks + reports[0], found + reports[1]
    return DriftControl(
        autocorrelation,
        n_reference,
        n_current,
        n_columns,
        n_samples,
        level,
        independent / n_samples,
        blocks / n_samples,
        found / n_samples,
        shift,
        n_moved,
        (level * (1 - level) / n_samples) ** 0.5,
    )


def check_samples(n_samples: int) -> None:
    """Refuse a control without a sample.

    Raises
    ------
    TooFewError
        If there is none.
    """
    if n_samples < 1:
        raise TooFewError(f"control: {n_samples} samples; expected at least 1, as a rule 200")
