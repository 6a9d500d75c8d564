"""Frames of prices and returns: what is refused, and in which words."""

import numpy as np
import pandas as pd
import pytest

from hftlib.portfolio.asset_frames import (
    FrameError,
    MissingDataError,
    PriceError,
    check_prices,
    check_returns,
    price_returns,
)
from tests.asset_cases import days, factor_returns, to_prices

PRICES = to_prices(factor_returns(9, 3)).set_axis(["a", "b", "c"], axis=1)


def edited(row, column, value):
    frame = PRICES.copy()
    frame.iloc[row, column] = value
    return frame


def test_returns_undo_prices():
    returns = factor_returns(9, 3)
    found = price_returns(to_prices(returns))
    np.testing.assert_allclose(found, returns, atol=1e-15)
    assert found.index.equals(days(10)[1:])


@pytest.mark.parametrize("price", [0.0, -1.5, np.inf])
def test_a_price_that_is_none_is_named_with_asset_and_date(price):
    with pytest.raises(PriceError, match=rf"price of b at 2020-01-05 .* is {price}"):
        price_returns(edited(4, 1, price))


def test_missing_days_of_one_asset_are_named_and_not_filled():
    gap = edited(4, 1, np.nan)
    gap.iloc[6, 1] = np.nan
    with pytest.raises(MissingDataError, match=r"prices of b .* 2020-01-05 .*, 2020-01-07 .*;"):
        check_prices(gap)
    gap.iloc[:, 2] = np.nan
    with pytest.raises(MissingDataError, match="1 more assets have gaps"):
        check_prices(gap)
    with pytest.raises(MissingDataError, match=r"… \(10 in all\)"):
        check_prices(gap[["c"]])


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (PRICES.tz_localize(None), "expected tz-aware UTC"),
        (PRICES.tz_convert("US/Eastern"), "expected tz-aware UTC"),
        (PRICES.reset_index(drop=True), "expected tz-aware UTC"),
        (PRICES.iloc[::-1], "not strictly increasing"),
        (PRICES.iloc[[0, 1, 1]], "not strictly increasing"),
        (PRICES.set_axis(["a", "b", "b"], axis=1), "expected distinct asset names"),
        (PRICES.set_axis([1, 2, 3], axis=1), "expected distinct asset names"),
        (PRICES[[]], "expected distinct asset names"),
        (PRICES.astype("float32"), "expected float64"),
    ],
)
def test_a_frame_of_the_wrong_form_is_refused(frame, message):
    with pytest.raises(FrameError, match=message):
        check_prices(frame)


def test_returns_out_of_range_or_too_few_are_refused():
    returns = price_returns(PRICES)
    assert check_returns(returns) is returns
    for wrong in (-1.01, np.inf):
        bad = returns.copy()
        bad.iloc[2, 0] = wrong
        with pytest.raises(FrameError, match=f"return of a at 2020-01-04 .* is {wrong}"):
            check_returns(bad)
    with pytest.raises(FrameError, match="have 1 rows"):
        check_returns(returns.iloc[:1])


def test_rounding_does_not_make_a_constant_asset_vary():
    returns = pd.DataFrame({"a": np.full(9, 0.1) + 1e-17, "b": np.linspace(0, 1, 9)}, index=days(9))
    with pytest.raises(ValueError, match=r"^a: "):
        check_returns(returns)
    assert check_returns(returns, must_vary=False) is returns
