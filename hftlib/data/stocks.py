"""Daily prices of twenty US stocks that came with the install, and their sectors.

Closes of `skfolio` (BSD-3), 1990 to 2022, adjusted for splits and dividends, on days of
New York, stamped 00:00 UTC. They are rounded to 0.001, which is up to 0.2 % of the lowest
early prices. All twenty were members of the S&P 500 at the end: who chose them knew who
would survive, so that their returns are better than anyone could have had.

Sectors are those of the Global Industry Classification Standard.
"""

from datetime import date

import numpy as np
import pandas as pd

from hftlib.data.bars import SourceError

SECTORS = {
    "AAPL": "Information Technology",
    "AMD": "Information Technology",
    "BAC": "Financials",
    "BBY": "Consumer Discretionary",
    "CVX": "Energy",
    "GE": "Industrials",
    "HD": "Consumer Discretionary",
    "JNJ": "Health Care",
    "JPM": "Financials",
    "KO": "Consumer Staples",
    "LLY": "Health Care",
    "MRK": "Health Care",
    "MSFT": "Information Technology",
    "PEP": "Consumer Staples",
    "PFE": "Health Care",
    "PG": "Consumer Staples",
    "RRC": "Energy",
    "UNH": "Health Care",
    "WMT": "Consumer Staples",
    "XOM": "Energy",
}
ROUNDING = 1e-3  # of the prices, currency


def read_stocks(first: date, last: date) -> pd.DataFrame:
    """Adjusted closes of shape (n_days, 20) from `first` to `last`, both included.

    Returns
    -------
    frame indexed by ts (UTC), one column a symbol of `SECTORS`, float64

    Raises
    ------
    SourceError
        If the span holds fewer than two days, or as `check_stocks`.
    """
    from skfolio.datasets import load_sp500_dataset  # slow to import, needed here only

    prices = check_stocks(load_sp500_dataset())
    part = prices.loc[pd.Timestamp(first, tz="UTC") : pd.Timestamp(last, tz="UTC")]
    if len(part) < 2:
        raise SourceError(
            f"{len(part)} days of stocks from {first} to {last}; expected 2 and more, the data "
            f"run from {prices.index[0].date()} to {prices.index[-1].date()}"
        )
    return part


def check_stocks(raw: pd.DataFrame) -> pd.DataFrame:
    """The packaged table on UTC days, columns in the order of `SECTORS`.

    Raises
    ------
    SourceError
        If a symbol is missing or surplus, days do not increase, or a price is not finite and
        above 0.
    """
    odd = set(raw.columns) ^ set(SECTORS)
    if odd:
        raise SourceError(
            f"stocks: {', '.join(sorted(map(str, odd)))} missing or surplus; expected the symbols "
            "of hftlib.data.stocks.SECTORS: install the skfolio of requirements.lock"
        )
    index = pd.DatetimeIndex(raw.index).as_unit("ns")
    if index.tz is not None or not (index.is_monotonic_increasing and index.is_unique):
        raise SourceError("stocks: expected one row a day, increasing, without a time zone")
    prices = raw[[*SECTORS]].astype("float64").set_axis(index.tz_localize("UTC").rename("ts"))
    wrong = np.argwhere(~((prices > 0) & np.isfinite(prices)).to_numpy())
    if len(wrong):
        row, column = wrong[0]
        raise SourceError(
            f"stocks: {prices.columns[column]} on {index[row].date()} is "
            f"{prices.iat[row, column]}, one of {len(wrong)} such prices; expected a finite "
            "number above 0"
        )
    return prices
