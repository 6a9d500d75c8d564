"""Prices and returns of many assets: what a frame must be before weights come of it.

A frame has one row a bar, on a strictly increasing tz-aware UTC index, and one
column an asset, float64. Nothing is filled in and no asset is dropped here: a gap
is an error that names the asset and its dates, and what to do about it (a shorter
span, fewer assets, a fill that the reader can see) is the caller's choice.
"""

import numpy as np
import pandas as pd

MAX_NAMED = 5  # dates or assets that a message spells out


class AllocationError(ValueError):
    """No weights can be given. Its subclasses say why."""


class FrameError(AllocationError):
    """A frame of the wrong shape, index, columns or type."""


class MissingDataError(AllocationError):
    """An asset without a value on some bar."""


class PriceError(AllocationError):
    """A price that is zero, negative or infinite."""


class ConstantAssetError(AllocationError):
    """An asset whose returns do not vary, so that it has no risk to allocate by."""


def check_prices(prices: pd.DataFrame) -> pd.DataFrame:
    """Return `prices` of shape (n_bars, n_assets) if every price is finite and positive.

    Raises
    ------
    FrameError
        If the index is not increasing UTC time or the columns are not distinct names.
    MissingDataError
        If a price is nan; the message names the asset and the dates.
    PriceError
        If a price is zero, negative or infinite; the message names asset, date and price.
    """
    values = _checked_values(prices, "prices")
    wrong = np.argwhere(~((values > 0) & np.isfinite(values)))
    if len(wrong):
        row, column = wrong[0]
        raise PriceError(
            f"price of {prices.columns[column]} at {prices.index[row]} is {values[row, column]}, "
            f"one of {len(wrong)} such; expected a finite price above 0: correct the source or "
            "leave the asset out"
        )
    return prices


def price_returns(prices: pd.DataFrame) -> pd.DataFrame:
    """Simple returns of shape (n_bars - 1, n_assets), each at the later of its two bars.

    Raises
    ------
    FrameError, MissingDataError, PriceError
        As `check_prices`.
    """
    values = check_prices(prices).to_numpy()
    return pd.DataFrame(
        values[1:] / values[:-1] - 1.0, index=prices.index[1:], columns=prices.columns
    )


def check_returns(returns: pd.DataFrame, must_vary: bool = True) -> pd.DataFrame:
    """Return simple `returns` of shape (n_bars, n_assets) if weights can be drawn from them.

    `must_vary` refuses an asset with no variance.

    Raises
    ------
    FrameError
        If the index or columns are wrong, there are fewer than two rows, or a return is
        infinite or below -1.
    MissingDataError
        If a return is nan; the message names the asset and the dates.
    ConstantAssetError
        If an asset does not vary and must.
    """
    values = _checked_values(returns, "returns")
    wrong = np.argwhere(~((values >= -1) & np.isfinite(values)))
    if len(wrong):
        row, column = wrong[0]
        raise FrameError(
            f"return of {returns.columns[column]} at {returns.index[row]} is "
            f"{values[row, column]}; expected a simple return of at least -1, 0.01 being 1 %"
        )
    if len(values) < 2:
        raise FrameError(f"returns have {len(values)} rows; expected at least 2")
    # rounding lets a constant series vary by some 1e-16 of its size
    limit = np.maximum(1e-15, 1e-12 * np.abs(values).max(axis=0))
    constant = returns.columns[np.std(values, axis=0) <= limit]
    if must_vary and len(constant):
        raise ConstantAssetError(
            f"{name_some(constant)}: the return is the same in all {len(values)} rows, variance 0; "
            "leave it out and hold it as cash"
        )
    return returns


def name_some(items: pd.Index | list[str]) -> str:
    """The first few items, and how many there are in all."""
    named = ", ".join(str(item) for item in items[:MAX_NAMED])
    return named if len(items) <= MAX_NAMED else f"{named}, … ({len(items)} in all)"


def _checked_values(frame: pd.DataFrame, what: str) -> np.ndarray:
    if not isinstance(frame.index, pd.DatetimeIndex) or str(frame.index.tz) != "UTC":
        kind = getattr(frame.index, "dtype", type(frame.index).__name__)
        raise FrameError(f"index of {what} is {kind}; expected tz-aware UTC: tz_localize('UTC')")
    if not (frame.index.is_monotonic_increasing and frame.index.is_unique):
        raise FrameError(f"index of {what} is not strictly increasing; sort it, drop duplicates")
    columns = list(frame.columns)
    if (
        not columns
        or not all(isinstance(c, str) for c in columns)
        or len(set(columns)) < len(columns)
    ):
        raise FrameError(
            f"columns of {what} are {name_some(columns)}; expected distinct asset names"
        )
    if not all(dtype == "float64" for dtype in frame.dtypes):
        raise FrameError(
            f"{what} have types {sorted({str(d) for d in frame.dtypes})}; expected float64"
        )
    values = frame.to_numpy()
    missing = np.isnan(values)
    if missing.any():
        column = int(missing.any(axis=0).argmax())
        days = [str(ts) for ts in frame.index[missing[:, column]]]
        others = int(missing.any(axis=0).sum()) - 1
        raise MissingDataError(
            f"{what} of {columns[column]} are missing at {name_some(days)}"
            f"{f'; {others} more assets have gaps' if others else ''}; nothing is filled in: "
            "leave out the asset or the dates, or fill them where a reader sees it"
        )
    return values
