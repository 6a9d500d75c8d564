"""What today's positions would earn if a bad time came back, or in a shock that we choose.

Positions are values in currency, negative if short, held unchanged through the scenario.
Profits are in currency and as a share of equity, negative for a loss.

Source: Committee on the Global Financial System (2005), Stress testing at major financial
institutions, BIS, for the distinction of historical and hypothetical scenarios.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

# First and last day of the fall, by the closes of US stocks.
NAMED_SPANS = {
    "technology bust": ("2000-03-24", "2002-10-09"),
    "September 2001": ("2001-09-10", "2001-09-21"),
    "Lehman": ("2008-09-12", "2008-11-20"),
    "financial crisis": ("2007-10-09", "2009-03-09"),
    "flash crash": ("2010-05-05", "2010-05-07"),
    "US downgrade": ("2011-07-22", "2011-08-08"),
    "China devaluation": ("2015-08-17", "2015-08-25"),
    "February 2018": ("2018-01-26", "2018-02-08"),
    "end of 2018": ("2018-09-20", "2018-12-24"),
    "pandemic": ("2020-02-19", "2020-03-23"),
}


class StressError(ValueError):
    """A scenario that does not fit the positions or the data."""


class Window(NamedTuple):
    """A span of bars, both ends included: labels of its first and last return."""

    first: pd.Timestamp
    last: pd.Timestamp


def find_worst_window(returns: pd.Series, n_bars: int) -> Window:
    """The `n_bars` bars in a row with the lowest compounded return; the first of equals.

    Raises
    ------
    StressError
        If there are fewer bars, or a return is nan or -1 and less.
    """
    values = returns.to_numpy(dtype=np.float64)
    if not 1 <= n_bars <= len(values):
        raise StressError(f"n_bars is {n_bars}; expected 1 to {len(values)}, the returns given")
    if not (values > -1).all():
        raise StressError("a return is nan or a loss of all; expected numbers above -1")
    path = np.concatenate([[0.0], np.cumsum(np.log1p(values))])
    start = int(np.argmin(path[n_bars:] - path[:-n_bars]))
    return Window(returns.index[start], returns.index[start + n_bars - 1])


def find_named_windows(
    index: pd.DatetimeIndex, spans: Mapping[str, tuple[str, str]] = NAMED_SPANS
) -> dict[str, Window]:
    """Those of the spans that the data cover from the day before the first to the last day.

    Parameters
    ----------
    index : DatetimeIndex
        Times of the returns, increasing.
    spans : mapping of name to the dates of the highest and the lowest close
        The first return of a window is that of the bar after the first date.

    Raises
    ------
    StressError
        If the index does not increase.
    """
    if not index.is_monotonic_increasing:
        raise StressError("the index is not sorted in time; sort the returns first")
    days = pd.DatetimeIndex(index).tz_localize(None).normalize()
    found = {}
    for name, (high, low) in spans.items():
        start, stop = pd.Timestamp(high), pd.Timestamp(low)
        inside = (days > start) & (days <= stop)
        is_covered = len(days) > 0 and days[0] <= start and days[-1] >= stop
        if is_covered and inside.any():
            rows = np.flatnonzero(inside)
            found[name] = Window(index[rows[0]], index[rows[-1]])
    return found


def replay_windows(
    values: pd.Series, returns: pd.DataFrame, windows: Mapping[str, Window], equity: float
) -> pd.DataFrame:
    """Profit of today's positions if the returns of each window came again.

    Parameters
    ----------
    values : series of shape (n_assets,)
        Positions in currency, signed.
    returns : frame of shape (n_bars, n_assets)
        Simple returns; its columns hold all assets of `values`.
    windows : mapping of scenario to Window
    equity : float
        Currency, above 0; what `share` is a share of.

    Returns
    -------
    frame indexed by scenario
        first, last, n_bars, profit (currency), share (of equity), and the asset with the largest
        loss, `worst_asset`. nan where an asset has no return in the window: the profit is not
        known.

    Raises
    ------
    StressError
        If an asset has no column, a window lies outside the data, or equity is not above 0.
    """
    _check_equity(equity)
    missing = [str(name) for name in values.index if name not in returns]
    if missing:
        raise StressError(
            f"returns have no column {', '.join(missing)}; expected one for every position"
        )
    rows = {}
    for name, (first, last) in windows.items():
        part = returns.loc[first:last, list(values.index)]
        if not len(part):
            raise StressError(f"window {name!r}, {first} to {last}, holds none of the returns")
        growth = (1.0 + part).prod(axis=0, skipna=False) - 1.0
        profit = values * growth
        total = profit.sum(skipna=False)
        worst = str(profit.idxmin()) if profit.notna().all() and len(profit) else ""
        rows[name] = (first, last, len(part), total, total / equity, worst)
    columns = ["first", "last", "n_bars", "profit", "share", "worst_asset"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    return table.rename_axis("scenario")


def shock_assets(values: pd.Series, shocks: Mapping[str, float], equity: float) -> pd.DataFrame:
    """Profit by asset if prices change by `shocks` (-0.1 is a fall of 10 %), others by nothing.

    Returns
    -------
    frame indexed by asset
        value (currency), shock, profit (currency), share (of equity).

    Raises
    ------
    StressError
        If a shock names no position, is not finite or below -1, or equity is not above 0.
    """
    _check_names(shocks, set(values.index), "position")
    return _table(values, pd.Series(shocks, dtype=np.float64).reindex(values.index), equity)


def shock_sectors(
    values: pd.Series, sectors: Mapping[str, str], shocks: Mapping[str, float], equity: float
) -> pd.DataFrame:
    """`shock_assets` with one shock for all assets of a sector.

    Raises
    ------
    StressError
        If a position has no sector, a shock names none of them, is not finite or below -1, or
        equity is not above 0.
    """
    lost = [str(name) for name in values.index if name not in sectors]
    if lost:
        raise StressError(f"no sector is given for {', '.join(lost)}; expected one a position")
    own = pd.Series([sectors[name] for name in values.index], index=values.index)
    _check_names(shocks, set(own), "sector")
    return _table(values, own.map(dict(shocks)).astype(np.float64), equity)


def shock_factors(
    values: pd.Series, betas: pd.DataFrame, shocks: Mapping[str, float], equity: float
) -> pd.DataFrame:
    """`shock_assets` with the shocks that factors pass on: sum of beta times factor shock.

    Parameters
    ----------
    betas : frame of shape (n_assets, n_factors)
        Rows hold all assets of `values`; columns that are not shocked count as 0. A price falls
        by all of itself at most.

    Raises
    ------
    StressError
        If an asset has no betas or a nan, a shock names no factor, is not finite or below -1, or
        equity is not above 0.
    """
    lost = [str(name) for name in values.index if name not in betas.index]
    if lost:
        raise StressError(f"no betas are given for {', '.join(lost)}; expected a row a position")
    _check_names(shocks, set(betas.columns), "factor")
    loads = betas.loc[list(values.index), list(shocks)].to_numpy(dtype=np.float64)
    if np.isnan(loads).any():
        raise StressError("a beta is nan; expected a number for every position and shocked factor")
    passed = loads @ np.array(list(shocks.values()), dtype=np.float64)
    return _table(values, pd.Series(np.maximum(passed, -1.0), index=values.index), equity)


def _table(values: pd.Series, shocks: pd.Series, equity: float) -> pd.DataFrame:
    _check_equity(equity)
    shocks = shocks.fillna(0.0)
    profit = values * shocks
    columns = {"value": values, "shock": shocks, "profit": profit, "share": profit / equity}
    return pd.DataFrame(columns).rename_axis("asset")


def _check_names(shocks: Mapping[str, float], known: set[str], what: str) -> None:
    for name, shock in shocks.items():
        if name not in known:
            raise StressError(
                f"{name!r} is no {what}; expected one of {', '.join(sorted(map(str, known)))}"
            )
        if not -1 <= shock < float("inf"):
            raise StressError(f"the shock of {name!r} is {shock}; expected a share, at least -1")


def _check_equity(equity: float) -> None:
    if not 0 < equity < float("inf"):
        raise StressError(f"equity is {equity}; expected a positive amount of currency")
