from datetime import date

import numpy as np
import pandas as pd
import pytest

from hftlib.data.bars import SourceError
from hftlib.data.stocks import SECTORS, check_stocks, read_stocks
from hftlib.schema import UTC


@pytest.fixture
def raw():
    days = pd.date_range("2020-01-01", periods=3, name="Date")
    values = np.arange(1.0, 61.0).reshape(3, 20)
    return pd.DataFrame(values, index=days, columns=[*SECTORS][::-1])


def test_the_packaged_stocks_span_1990_to_2022():
    prices = read_stocks(date(1980, 1, 1), date(2030, 1, 1))
    assert prices.shape == (8313, 20)
    assert [str(prices.index[k].date()) for k in (0, -1)] == ["1990-01-02", "2022-12-28"]
    assert str(prices.index.dtype) == UTC
    assert prices.loc["2022-12-28", "XOM"].item() == 106.627  # as the package prints it


def test_both_ends_of_the_span_are_included():
    prices = read_stocks(date(2015, 1, 2), date(2015, 1, 6))
    assert [str(ts.date()) for ts in prices.index] == ["2015-01-02", "2015-01-05", "2015-01-06"]


def test_sectors_are_of_the_standard():
    standard = {
        "Energy", "Materials", "Industrials", "Consumer Discretionary", "Consumer Staples",
        "Health Care", "Financials", "Information Technology", "Communication Services",
        "Utilities", "Real Estate",
    }  # fmt: skip
    assert set(SECTORS.values()) <= standard
    assert len(SECTORS) == 20


def test_columns_come_in_one_order(raw):
    checked = check_stocks(raw)
    assert list(checked) == [*SECTORS]
    np.testing.assert_array_equal(checked["XOM"], raw["XOM"])


def test_a_span_without_days_names_those_there_are():
    with pytest.raises(SourceError, match=r"0 days of stocks .* 1990-01-02 to 2022-12-28"):
        read_stocks(date(2024, 1, 1), date(2024, 6, 1))


@pytest.mark.parametrize("price", [0.0, -1.0, np.nan, np.inf])
def test_a_price_that_is_none_is_named_with_its_day(raw, price):
    raw.loc["2020-01-02", "KO"] = price
    with pytest.raises(SourceError, match="KO on 2020-01-02"):
        check_stocks(raw)


def test_other_symbols_are_refused(raw):
    with pytest.raises(SourceError, match="IBM, XOM missing or surplus"):
        check_stocks(raw.rename(columns={"XOM": "IBM"}))


def test_days_must_increase(raw):
    with pytest.raises(SourceError, match="one row a day, increasing"):
        check_stocks(raw.iloc[::-1])
    with pytest.raises(SourceError, match="without a time zone"):
        check_stocks(raw.tz_localize("UTC"))
