import arch.data.sp500
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftlib.portfolio.stress import (
    NAMED_SPANS,
    StressError,
    Window,
    find_named_windows,
    find_worst_window,
    replay_windows,
    shock_assets,
    shock_factors,
    shock_sectors,
)

DAYS = pd.date_range("2020-01-01", periods=6, tz="UTC")
RETURNS = pd.DataFrame(
    {"A": [0.1, -0.2, 0.0, -0.1, 0.05, 0.0], "B": [0.0, 0.1, 0.1, -0.5, 0.0, 0.2]}, index=DAYS
)
VALUES = pd.Series({"A": 1000.0, "B": -400.0})
SECTORS = {"A": "energy", "B": "technology"}


def test_the_worst_window_is_the_one_with_the_lowest_growth():
    assert find_worst_window(RETURNS["A"], 1) == (DAYS[1], DAYS[1])
    assert find_worst_window(RETURNS["A"], 3) == (DAYS[1], DAYS[3])
    assert find_worst_window(RETURNS["A"], 6) == (DAYS[0], DAYS[5])


@given(st.lists(st.floats(-0.5, 0.5), min_size=5, max_size=30), st.integers(1, 5))
def test_no_other_window_is_worse(values, n_bars):
    returns = pd.Series(values)
    growths = [np.prod(1 + returns[k : k + n_bars]) for k in range(len(values) - n_bars + 1)]
    first, last = find_worst_window(returns, n_bars)
    assert last - first + 1 == n_bars
    assert np.prod(1 + returns[first : last + 1]) == pytest.approx(min(growths), rel=1e-12)


@pytest.mark.parametrize(
    ("returns", "n_bars", "message"),
    [
        (RETURNS["A"], 7, "n_bars is 7"),
        (RETURNS["A"], 0, "n_bars is 0"),
        (RETURNS["A"].where(RETURNS["A"] < 0.1), 2, "nan"),
        (RETURNS["A"] - 0.9, 2, "loss of all"),
    ],
)
def test_windows_that_cannot_be_found_are_named(returns, n_bars, message):
    with pytest.raises(StressError, match=message):
        find_worst_window(returns, n_bars)


def test_named_windows_on_real_bars_have_the_falls_of_the_books():
    close = arch.data.sp500.load()["Adj Close"]
    returns = close.pct_change().dropna().to_frame("sp500")
    windows = find_named_windows(returns.index)
    assert set(windows) == set(NAMED_SPANS) - {"pandemic"}
    table = replay_windows(pd.Series({"sp500": 100.0}), returns, windows, equity=100.0)
    for name, (high, low) in NAMED_SPANS.items():
        if name in windows:
            fall = close[low] / close[high] - 1
            assert table.loc[name, "share"] == pytest.approx(fall)
    # the index fell from 1565.15 to 676.53 and from 1527.46 to 776.76
    assert table.loc["financial crisis", "profit"] == pytest.approx(-56.78, abs=0.01)
    assert table.loc["technology bust", "profit"] == pytest.approx(-49.15, abs=0.01)


def test_spans_that_the_data_cover_in_part_are_left_out():
    index = pd.date_range("2008-10-01", "2009-12-31", freq="B", tz="UTC")
    assert find_named_windows(index) == {}
    assert find_named_windows(index[:0]) == {}
    with pytest.raises(StressError, match="not sorted"):
        find_named_windows(index[::-1])


def test_replayed_positions_are_held_through_the_window():
    windows = {"fall": Window(DAYS[1], DAYS[3]), "day": Window(DAYS[3], DAYS[3])}
    table = replay_windows(VALUES, RETURNS, windows, equity=2000.0)
    a, b = 0.8 * 0.9 - 1, 1.1 * 1.1 * 0.5 - 1
    assert table.loc["fall", "profit"] == pytest.approx(1000 * a - 400 * b)
    assert table.loc["fall", "share"] == pytest.approx((1000 * a - 400 * b) / 2000)
    assert table["n_bars"].tolist() == [3, 1]
    assert table["worst_asset"].tolist() == ["A", "A"]


def test_an_asset_without_a_return_leaves_the_scenario_unknown():
    holes = RETURNS.copy()
    holes.iloc[2, 1] = np.nan
    windows = {"hole": Window(DAYS[1], DAYS[3]), "after": Window(DAYS[3], DAYS[5])}
    table = replay_windows(VALUES, holes, windows, equity=1.0)
    assert table["profit"].isna().tolist() == [True, False]
    assert table.loc["hole", "worst_asset"] == ""


def test_shocks_by_asset_sector_and_factor_agree_on_the_same_moves():
    by_asset = shock_assets(VALUES, {"A": -0.1, "B": 0.2}, 2000.0)
    by_sector = shock_sectors(VALUES, SECTORS, {"energy": -0.1, "technology": 0.2}, 2000.0)
    betas = pd.DataFrame({"market": [0.5, -1.0], "oil": [9.0, 9.0]}, index=["A", "B"])
    by_factor = shock_factors(VALUES, betas, {"market": -0.2}, 2000.0)
    assert by_asset["profit"].tolist() == [-100.0, -80.0]
    assert by_asset["share"].sum() == pytest.approx(-0.09)
    for other in (by_sector, by_factor):
        pd.testing.assert_frame_equal(by_asset, other)


def test_what_is_not_shocked_does_not_move_and_prices_stay_above_zero():
    assert shock_assets(VALUES, {"B": 0.5}, 1.0)["profit"].tolist() == [0.0, -200.0]
    betas = pd.DataFrame({"market": [3.0, 1.0]}, index=["A", "B"])
    assert shock_factors(VALUES, betas, {"market": -0.5}, 1.0)["shock"].tolist() == [-1.0, -0.5]


BETAS = pd.DataFrame({"market": [1.0, np.nan]}, index=["A", "B"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: shock_assets(VALUES, {"Z": 0.1}, 1.0), "'Z' is no position"),
        (lambda: shock_assets(VALUES, {"A": -1.5}, 1.0), "at least -1"),
        (lambda: shock_assets(VALUES, {"A": np.nan}, 1.0), "at least -1"),
        (lambda: shock_assets(VALUES, {"A": 0.1}, -5.0), "equity is -5"),
        (lambda: shock_sectors(VALUES, SECTORS, {"water": 0.1}, 1.0), "'water' is no sector"),
        (lambda: shock_sectors(VALUES, {"A": "energy"}, {}, 1.0), "no sector is given for B"),
        (lambda: shock_factors(VALUES, BETAS, {"oil": 0.1}, 1.0), "'oil' is no factor"),
        (lambda: shock_factors(VALUES, BETAS, {"market": 0.1}, 1.0), "a beta is nan"),
        (lambda: shock_factors(VALUES, BETAS[:1], {"market": 0.1}, 1.0), "no betas .* for B"),
        (lambda: replay_windows(VALUES, RETURNS[["A"]], {}, 1.0), "no column B"),
        (lambda: replay_windows(VALUES, RETURNS, {}, 0.0), "equity is 0"),
        (
            lambda: replay_windows(
                VALUES, RETURNS, {"w": Window(DAYS[0] - DAYS.freq * 9, DAYS[0] - DAYS.freq)}, 1.0
            ),
            "holds none of the returns",
        ),
    ],
)
def test_scenarios_that_do_not_fit_are_named(call, message):
    with pytest.raises(StressError, match=message):
        call()
