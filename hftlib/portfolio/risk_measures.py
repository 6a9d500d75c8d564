"""Risk against a benchmark and within a portfolio.

Returns are simple returns of one bar. Drawdown, volatility, historical value at risk and
shortfall of one series: `measures`.

Source: Grinold & Kahn (1999), Active Portfolio Management, for tracking error; Litterman (1996),
Hot Spots and Hedges, Goldman Sachs, and Tasche (1999), Risk contributions and performance
measurement, TU Munich, for contributions that add up.
"""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.portfolio import measures

FloatArray = npt.NDArray[np.float64]
CONTRIBUTION_COLUMNS = ("weight", "marginal", "component", "share")


class BenchmarkError(ValueError):
    """A series and a benchmark that are not of the same bars."""


class CorrelationSummary(NamedTuple):
    """How alike the assets move; pairs are named by their columns."""

    mean: float  # of all pairs
    lowest: float
    lowest_pair: tuple[str, str]
    highest: float
    highest_pair: tuple[str, str]
    first_share: float  # of the variance of the standardised returns, on its main direction


def beta(returns: pd.Series, benchmark: pd.Series) -> float:
    """Covariance with the benchmark over its variance; nan where it does not vary or holds a nan.

    Raises
    ------
    BenchmarkError
        If the two are not indexed by the same bars.
    """
    mine, other = _same_bars(returns, benchmark)
    centred = other - other.mean()
    square = float(centred @ centred)
    return float(centred @ mine) / square if square > 0 else np.nan


def tracking_error(returns: pd.Series, benchmark: pd.Series, periods_per_year: float) -> float:
    """Annualised standard deviation (ddof 1) of the difference; errors as `beta`."""
    mine, other = _same_bars(returns, benchmark)
    return float(measures.volatility(mine - other, periods_per_year))


def summarise_correlations(returns: pd.DataFrame) -> CorrelationSummary:
    """Sum up the correlation matrix of the columns.

    Raises
    ------
    ValueError
        If there are fewer than two columns, or one holds a nan or does not vary.
    """
    values = returns.to_numpy(dtype=np.float64)
    flat = [name for name, sd in zip(returns, values.std(axis=0), strict=True) if not sd > 0]
    if returns.shape[1] < 2 or flat:
        raise ValueError(
            f"{returns.shape[1]} columns, without variance or with nan: {flat}; expected two and "
            "more that vary: drop the others"
        )
    correlation = np.corrcoef(values, rowvar=False)
    rows, columns = np.triu_indices(len(correlation), 1)
    pairs = correlation[rows, columns]
    low, high = int(pairs.argmin()), int(pairs.argmax())
    names = [str(name) for name in returns]
    return CorrelationSummary(
        mean=float(pairs.mean()),
        lowest=float(pairs[low]),
        lowest_pair=(names[rows[low]], names[columns[low]]),
        highest=float(pairs[high]),
        highest_pair=(names[rows[high]], names[columns[high]]),
        first_share=float(np.linalg.eigvalsh(correlation)[-1] / len(correlation)),
    )


def herfindahl(weights: npt.ArrayLike) -> float:
    """Concentration: sum of the squared shares of long plus short, from 1 / n to 1.

    Its inverse is the number of equal positions that are as concentrated. nan without positions.
    """
    sizes = np.abs(np.asarray(weights, dtype=np.float64))
    total = sizes.sum()
    return float(np.sum((sizes / total) ** 2)) if total > 0 else np.nan


def normal_contributions(
    weights: pd.Series, mean: pd.Series, covariance: pd.DataFrame, level: float
) -> pd.DataFrame:
    """What each position adds to the value at risk of normal returns.

    Parameters
    ----------
    weights, mean : series of shape (n_assets,)
        Shares of equity, signed; mean returns of one bar.
    covariance : frame of shape (n_assets, n_assets)
        Of one bar's returns.
    level : float
        Confidence, (0, 1).

    Returns
    -------
    frame indexed by asset
        weight; marginal, the growth of the value at risk with the weight; component, their
        product, which sums to the value at risk of the portfolio; share of that sum. The last
        three are nan for a portfolio without variance.

    Raises
    ------
    BenchmarkError
        If mean or covariance are not of the same assets in the same order.
    ValueError
        If `level` is not between 0 and 1.
    """
    _check_level(level)
    for name, index in (
        ("mean", mean.index),
        ("covariance", covariance.index),
        ("covariance", covariance.columns),
    ):
        _check_index(weights.index, index, f"assets of {name}")
    held = weights.to_numpy(dtype=np.float64)
    exposure = covariance.to_numpy(dtype=np.float64) @ held
    deviation = np.sqrt(max(float(held @ exposure), 0.0))
    z = NormalDist().inv_cdf(level)
    drift = mean.to_numpy(dtype=np.float64)
    marginal = z * exposure / (deviation if deviation > 0 else np.nan) - drift
    return _contributions(weights, marginal)


def _contributions(weights: pd.Series, marginal: FloatArray) -> pd.DataFrame:
    held = weights.to_numpy(dtype=np.float64)
    component = held * marginal
    total = component.sum()
    columns = (held, marginal, component, component / (total if total != 0 else np.nan))
    return pd.DataFrame(dict(zip(CONTRIBUTION_COLUMNS, columns, strict=True)), index=weights.index)


def _same_bars(returns: pd.Series, benchmark: pd.Series) -> tuple[FloatArray, FloatArray]:
    _check_index(returns.index, benchmark.index, "bars of the benchmark")
    return returns.to_numpy(dtype=np.float64), benchmark.to_numpy(dtype=np.float64)


def _check_index(expected: pd.Index, received: pd.Index, what: str) -> None:
    if not expected.equals(received):
        ends = [
            f"{len(index)} from {index[0]} to {index[-1]}" if len(index) else "none"
            for index in (received, expected)
        ]
        raise BenchmarkError(
            f"{what}: {ends[0]}; expected {ends[1]}, the same in the same order: "
            "select the ones that both have"
        )


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; expected a share between 0 and 1, such as .95")
