"""Has a policy's performance fallen? CUSUM and Page-Hinkley, bar by bar.

Both add up how far each value lies below a mean, less an allowance, and start again at 0 when
the sum is negative; they alarm when it passes a threshold. CUSUM measures from the reference's
mean; Page-Hinkley from the mean of all values so far, which follows a slow decline and so
misses part of it, but needs no exact reference.

Textbook thresholds hold for independent normal values with a known mean. Here the threshold is
the quantile of the largest sum that the reference itself, drawn anew in blocks, shows over a
horizon: the chance of any false alarm within the horizon is what was asked for. The mean is
estimated anew in each draw, since its error adds up over the horizon like a decline.
Where volatility wanders for longer than a block the chance is about twice what was asked
(`monitor_controls`: .09 to .11 for .05 on GARCH returns). Divided by the volatility that an
exponential mean of squares forecasts, with weight .06 for the newest, they give .05 and .055.

Source: Page (1954), Biometrika 41(1/2); Hinkley (1971), Biometrika 58(3); Montgomery (2012),
Statistical Quality Control, 7th ed., ch. 9, for the run lengths; Politis & Romano (1994), JASA
89(428), for the stationary bootstrap.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from hftlib.evaluation.samples import FloatArray, TooFewError, UndefinedError, check_returns
from hftlib.evaluation.statistics import block_length

Kind = Literal["cusum", "page_hinkley"]
KINDS = ("cusum", "page_hinkley")
LEAST_REFERENCE = 100


@dataclass(frozen=True)
class Monitor:
    """A rule that watches one series of performance, such as returns after costs, for a fall.

    Attributes
    ----------
    kind : "cusum" or "page_hinkley"
    mean, deviation : float
        Of the reference (ddof 1); sums are in deviations.
    n_reference : int
        Values behind the mean.
    allowance : float
        A fall of the mean by less than this many deviations is not looked for; the quickest
        rule for a fall by d has d / 2.
    threshold : float
        Sum above which it alarms.
    """

    kind: Kind
    mean: float
    deviation: float
    n_reference: int
    allowance: float
    threshold: float

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}; expected one of {', '.join(KINDS)}")
        if not (self.deviation > 0 and self.allowance >= 0 and self.threshold > 0):
            raise ValueError(
                f"deviation={self.deviation}, allowance={self.allowance}, "
                f"threshold={self.threshold}; expected above 0, at least 0, above 0"
            )


def follow(monitor: Monitor, values: npt.ArrayLike) -> FloatArray:
    """Sums after each value.

    Parameters
    ----------
    values : array of shape (n_bars,) or (n_bars, n_paths)

    Returns
    -------
    array of the same shape

    Raises
    ------
    UndefinedError
        If a value is nan or infinite.
    """
    series = np.asarray(values, dtype=np.float64)
    if not np.isfinite(series).all():
        bar = int(np.argwhere(~np.isfinite(series))[0][0])
        raise UndefinedError(f"monitor: the value at bar {bar} is not finite; leave the bar out")
    m = monitor
    return _follow(m.kind, m.allowance, m.mean, m.deviation, m.n_reference, series)


def first_alarm(monitor: Monitor, values: npt.ArrayLike) -> int | None:
    """Bar of the first alarm in values of shape (n_bars,), from 0; None if there is none."""
    above = np.flatnonzero(follow(monitor, values) > monitor.threshold)
    return int(above[0]) if len(above) else None


def fit_monitor(
    reference: npt.ArrayLike,
    *,
    kind: Kind,
    horizon_bars: int,
    seed: int,
    false_alarm: float = 0.05,
    allowance: float = 0.1,
    block: float | None = None,
    n_bootstrap: int = 999,
) -> Monitor:
    """A monitor that alarms within the horizon with a given chance if nothing changes.

    Parameters
    ----------
    reference : array of shape (n,)
        Performance bar by bar on a span without decline that the policy did not learn from; at
        least 100.
    horizon_bars : int
        After which the monitor is fitted anew; no longer than the reference.
    false_alarm : float
        Chance of any alarm within the horizon, (0, 1).
    allowance : float
        In deviations a bar.
    block : float, optional
        Mean length of blocks; by default the optimal one of the values or of their squares,
        the larger. 1 takes bars as independent.

    Raises
    ------
    TooFewError, UndefinedError, ConstantError
        If the reference is short, not finite or does not vary.
    ValueError
        If another argument is out of range.
    """
    name = "performance monitor"
    values = check_returns(reference, n_least=LEAST_REFERENCE, test=name)
    if values.ndim != 1:
        raise ValueError(f"{name}: reference has shape {values.shape}; give one series")
    if not 1 <= horizon_bars <= len(values):
        raise ValueError(
            f"horizon_bars={horizon_bars}; expected 1 to the {len(values)} bars of the reference"
        )
    if not 0 < false_alarm < 1:
        raise ValueError(f"false_alarm={false_alarm}; expected between 0 and 1, such as .05")
    if n_bootstrap * false_alarm < 5:
        raise TooFewError(
            f"{name}: {n_bootstrap} draws for a quantile of {false_alarm}; use at least "
            f"{round(5 / false_alarm)}"
        )
    if block is None:
        block = max(block_length(values), block_length((values - values.mean()) ** 2))
    if not 1 <= block <= len(values):
        raise ValueError(f"block={block}; expected 1 to {len(values)} bars")
    n = len(values)
    drawn = _draw_paths(values, n + horizon_bars, block, n_bootstrap, np.random.default_rng(seed))
    mean, deviation = drawn[:n].mean(axis=0), drawn[:n].std(axis=0, ddof=1)
    sums = _follow(kind, allowance, mean, deviation, n, drawn[n:])
    threshold = float(np.quantile(sums.max(axis=0), 1 - false_alarm, method="higher"))
    return Monitor(kind, float(values.mean()), float(values.std(ddof=1)), n, allowance, threshold)


def _follow(
    kind: Kind,
    allowance: float,
    mean: float | FloatArray,
    deviation: float | FloatArray,
    n_reference: int,
    values: FloatArray,
) -> FloatArray:
    """Sums after each row of values; the mean of a reference of so many values is given."""
    sums = np.empty_like(values)
    total, so_far = np.zeros(values.shape[1:]), mean
    for t, value in enumerate(values):
        so_far = so_far + (value - so_far) / (n_reference + t + 1)
        centre = mean if kind == "cusum" else so_far
        sums[t] = total = np.maximum(0.0, total + (centre - value) / deviation - allowance)
    return sums


def _draw_paths(
    values: FloatArray, n_bars: int, block: float, n_draws: int, rng: np.random.Generator
) -> FloatArray:
    """Stationary bootstrap of any length, shape (n_bars, n_draws)."""
    rows = np.empty((n_bars, n_draws), dtype=np.int64)
    rows[0] = rng.integers(len(values), size=n_draws)
    fresh = rng.random((n_bars, n_draws)) < 1.0 / block
    jump = rng.integers(len(values), size=(n_bars, n_draws))
    for t in range(1, n_bars):
        rows[t] = np.where(fresh[t], jump[t], (rows[t - 1] + 1) % len(values))
    return values[rows]
