"""Intervals that carry both kinds of luck: the market's path and the training seed.

Days are resampled in blocks (stationary bootstrap), strategies' members
(seeds, random copies) with replacement, both in the same sample.

Source: Politis & Romano (1994), JASA 89(428); Patton, Politis & White (2009)
for the block length; both through `arch`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from arch.bootstrap import StationaryBootstrap, optimal_block_length

from hftlib.portfolio import measures


@dataclass(frozen=True)
class Estimate:
    """A value and the bounds of its central interval."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | None]:
        """JSON has no nan: where nothing was traded the entries are null."""
        finite = {k: v if np.isfinite(v) else None for k, v in vars(self).items()}
        return finite


def block_length(returns: npt.NDArray[np.float64]) -> int:
    """Optimal mean block of the stationary bootstrap for shape (n,), bars; at least 1.

    1 where `arch` finds no finite length, as for a series that does not vary.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        best = float(optimal_block_length(returns)["stationary"].iloc[0])
    return max(1, round(best)) if np.isfinite(best) else 1


def format_p(value: float) -> str:
    """A p-value for a reader: three digits, "< 0.001" below them, "-" for nan."""
    if np.isnan(value):
        return "-"
    return "< 0.001" if value < 5e-4 else f"{value:.3f}"


def compare_strategies(
    returns: Mapping[str, npt.NDArray[np.float64]],
    *,
    benchmark: str,
    periods_per_year: float,
    n_bootstrap: int,
    confidence: float,
    seed: int,
) -> dict[str, dict[str, Estimate]]:
    """Annual return and Sharpe ratio of each strategy, and their excess over the benchmark.

    Parameters
    ----------
    returns : mapping of name to array of shape (n_bars, n_members)
        Simple returns after costs on one common clock. A strategy's value is
        the mean of the measure over its members.
    benchmark : str
        A key of `returns`; resampled on the same days, so differences are paired.
    confidence : float
        Mass of the central interval, (0, 1).

    Returns
    -------
    dict
        `{name: {annual_return, sharpe, excess_return, excess_sharpe}}`. The Sharpe
        ratio of returns that do not vary is undefined: such members and samples
        are left out of it, and it is nan where none is left.

    Raises
    ------
    ValueError
        If the benchmark is unknown or the clocks differ in length.
    """
    if benchmark not in returns:
        raise ValueError(f"benchmark {benchmark!r} is not among {', '.join(returns)}")
    lengths = {name: len(values) for name, values in returns.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"strategies have different numbers of bars: {lengths}")
    names = list(returns)
    rng = np.random.default_rng(seed)
    columns = np.concatenate([returns[name] for name in names], axis=1)
    sizes = [returns[name].shape[1] for name in names]
    edges = np.cumsum([0, *sizes])
    first = names.index(benchmark)

    def measure(sample: npt.NDArray[np.float64], resample: bool = True) -> npt.NDArray[np.float64]:
        by_column = np.stack(
            [
                measures.annual_return(sample, periods_per_year),
                measures.sharpe(sample, periods_per_year),
            ]
        )
        means = np.empty((2, len(names)))
        for k, size in enumerate(sizes):
            members = rng.integers(size, size=size) if resample else np.arange(size)
            means[:, k] = _mean_defined(by_column[:, edges[k] + members])
        return np.concatenate([means, means - means[:, [first]]])

    point = measure(columns, resample=False)
    block = block_length(columns[:, edges[first] : edges[first + 1]].mean(axis=1))
    bootstrap = StationaryBootstrap(block, columns, seed=rng)
    samples = np.stack([measure(data[0][0]) for data in bootstrap.bootstrap(n_bootstrap)])
    tail = (1 - confidence) / 2
    low, high = np.apply_along_axis(_quantiles_defined, 0, samples, (tail, 1 - tail))
    keys = ("annual_return", "sharpe", "excess_return", "excess_sharpe")
    return {
        name: {
            key: Estimate(float(point[j, k]), float(low[j, k]), float(high[j, k]))
            for j, key in enumerate(keys)
        }
        for k, name in enumerate(names)
    }


def _mean_defined(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mean of each row's defined entries; nan where it has none."""
    defined = np.isfinite(values)
    total = np.where(defined, values, 0.0).sum(axis=1)
    return np.where(defined.any(axis=1), total / np.maximum(defined.sum(axis=1), 1), np.nan)


def _quantiles_defined(
    values: npt.NDArray[np.float64], levels: tuple[float, float]
) -> npt.NDArray[np.float64]:
    """Quantiles of the defined entries; nan where there are none."""
    values = values[np.isfinite(values)]
    return np.quantile(values, levels) if len(values) else np.full(2, np.nan)
