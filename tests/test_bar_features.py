"""Families of bar features by closed forms: candles, volatility, volume, calendar, regimes."""

import numpy as np
import pandas as pd
import pytest

from hftlib.features.indicators import compute_features
from tests.conftest import make_bars

PRICES = ["open", "high", "low", "close"]


def compute(bars: pd.DataFrame) -> pd.DataFrame:
    return compute_features(bars)


def flat_bars(close: np.ndarray) -> pd.DataFrame:
    """Bars whose four prices are one."""
    bars = make_bars(len(close))
    for name in PRICES:
        bars[name] = close
    return bars


def draw(*candles: tuple[float, float, float, float]) -> pd.Series:
    """Features of the last of some candles (open, high, low, close)."""
    bars = make_bars(len(candles))
    bars[PRICES] = np.array(candles)
    return compute(bars).iloc[-1]


def mirror(*candles: tuple[float, float, float, float]) -> list[tuple[float, ...]]:
    """The same candles upside down around 100."""
    return [(200 - o, 200 - low, 200 - high, 200 - c) for o, high, low, c in candles]


PATTERNS = {
    "hammer": [(100, 101.5, 95, 101)],
    "engulfing": [(102, 103, 99, 100), (99.5, 104, 99, 103)],
    "star": [(104, 104.5, 99.5, 100), (99.9, 100.5, 99, 100.1), (100, 104, 100, 103.5)],
    "soldiers": [(100, 101.2, 99.9, 101), (100.5, 102.2, 100.4, 102), (101.5, 103.2, 101.4, 103)],
}


@pytest.mark.parametrize("name", PATTERNS)
def test_bullish_candles_are_plus_one_and_their_mirror_minus_one(name):
    assert draw(*PATTERNS[name])[name] == 1
    assert draw(*mirror(*PATTERNS[name]))[name] == -1


@pytest.mark.parametrize(
    ("name", "candles"),
    [
        ("hammer", [(100, 103, 95, 101)]),  # the upper shadow is longer than the body
        ("engulfing", [(102, 103, 99, 100), (100.5, 102, 99, 101.5)]),  # does not reach the open
        ("engulfing", [(10, 10, 9, 9), (8, 9.5, 8, 9.5)]),  # larger, but closes below the open
        ("star", [(104, 104.5, 99.5, 100), (100, 103, 98, 103), (100, 104, 100, 103.5)]),
        ("soldiers", [(100, 102, 99, 101), (100.5, 102, 100, 102), (103, 103.2, 101.4, 102)]),
    ],
)
def test_candles_that_miss_one_condition_are_no_pattern(name, candles):
    assert draw(*candles)[name] == 0


def test_shares_of_a_candle_follow_from_its_four_prices():
    row = draw((101, 105, 100, 104))
    expected = {
        "body_share": 0.6,
        "upper_shadow": 0.2,
        "lower_shadow": 0.2,
        "close_location": 0.6,
        "doji": 0,
    }
    assert row[list(expected)].to_dict() == pytest.approx(expected, abs=1e-12)
    assert draw((102.4, 105, 100, 102.6))["doji"] == 1


def test_bar_inside_the_one_before_is_plus_one_and_around_it_minus_one():
    outer, inner = (100, 104, 96, 101), (100, 103, 97, 101)
    assert draw(outer, inner)["inside_bar"] == 1
    assert draw(inner, outer)["inside_bar"] == -1
    assert draw(inner, (100, 104, 97, 101))["inside_bar"] == 0


def test_run_counts_closes_in_one_direction():
    bars = flat_bars(np.array([10, 11, 12, 13, 12, 11, 11, 12.0]))
    expected = [np.nan, 1, 2, 3, -1, -2, 0, 1]
    np.testing.assert_array_equal(compute(bars)["run_length"], expected)


@pytest.fixture(scope="module")
def bars():
    return make_bars(300)


@pytest.fixture(scope="module")
def table(bars):
    return compute(bars)


def windows(x, n_bars: int):
    return np.lib.stride_tricks.sliding_window_view(np.asarray(x), n_bars)


def test_range_volatilities_of_equal_bars_are_their_formulas():
    bars = make_bars(60)
    bars["open"] = bars["close"] = 100.0
    bars["high"], bars["low"] = 100 * np.exp(0.02), 100 * np.exp(-0.01)
    row, height = compute(bars).iloc[-1], 0.03
    expected = {
        "range_1": height,
        "parkinson_20": height / (2 * np.log(2) ** 0.5),
        "garman_klass_1": height / 2**0.5,
        "garman_klass_22": height / 2**0.5,
        "rogers_satchell_20": (0.02**2 + 0.01**2) ** 0.5,
    }
    assert row[list(expected)].to_dict() == pytest.approx(expected, rel=1e-9)


def test_range_volatilities_of_a_diffusion_find_its_volatility():
    rng = np.random.default_rng(0)
    path = np.cumsum(rng.normal(0, 0.02 / 500**0.5, (300, 500)).ravel()).reshape(300, 500)
    bars = make_bars(300)
    start = np.concatenate([[0.0], path[:-1, -1]])
    bars["open"], bars["close"] = 100 * np.exp(start), 100 * np.exp(path[:, -1])
    bars["high"] = 100 * np.exp(np.maximum(start, path.max(axis=1)))
    bars["low"] = 100 * np.exp(np.minimum(start, path.min(axis=1)))
    means = compute(bars)[["parkinson_20", "garman_klass_22", "rogers_satchell_20"]][30:].mean()
    # the path has 500 steps, so the range is some 4 % short; 300 bars have an error of 2 %
    np.testing.assert_allclose(means, 0.02, rtol=0.08)


def test_overnight_and_intraday_returns_add_up_to_the_return(table):
    total = table["overnight_return"] + table["intraday_return"]
    np.testing.assert_allclose(total[1:], table["return_1"][1:], atol=1e-14)


def test_downside_share_is_one_for_falls_and_minus_one_for_rises():
    for sign in (1, -1):
        bars = flat_bars(100 * np.exp(sign * 0.01 * np.arange(40)))
        assert compute(bars)["downside_share_20"].iloc[-1] == pytest.approx(-sign, abs=1e-12)


def test_one_jump_takes_most_of_the_variance():
    rng = np.random.default_rng(1)
    step = rng.normal(0, 0.001, 100)
    step[90] = 0.05
    bars = flat_bars(100 * np.exp(np.cumsum(step)))
    jumps = compute(bars)["jump_share_20"]
    assert jumps[89] < 0.5 < 0.8 < jumps[90]


def test_volume_features_follow_their_formulas(bars, table):
    close, volume = bars["close"].to_numpy(), bars["volume"].to_numpy()
    step = np.diff(np.log(close))
    signed = windows(np.sign(step) * volume[1:], 20).sum(axis=1)
    total = windows(volume[1:], 20).sum(axis=1)
    np.testing.assert_allclose(table["volume_balance_20"][20:], signed / total, atol=1e-12)
    trend = windows(step * volume[1:], 20).sum(axis=1) / total
    np.testing.assert_allclose(table["volume_trend_20"][20:], trend, atol=1e-12)
    typical = bars[["high", "low", "close"]].mean(axis=1).to_numpy()
    mean = windows(typical * volume, 14).sum(axis=1) / windows(volume, 14).sum(axis=1)
    np.testing.assert_allclose(table["vwap_distance_14"][13:], close[13:] / mean - 1, atol=1e-9)


def test_clock_and_calendar_are_those_of_the_stamp():
    bars = make_bars(4)
    bars["ts"] = pd.to_datetime(
        ["2023-12-31T18:00Z", "2024-01-01T00:00Z", "2024-01-04T06:00Z", "2024-02-15T12:00Z"]
    ).as_unit("ns")
    table = compute(bars)
    np.testing.assert_allclose(table["hour_sin"], [-1, 0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(table["hour_cos"], [0, 1, 0, -1], atol=1e-12)
    angle = 2 * np.pi * np.array([6, 0, 3, 3]) / 7  # Sunday, Monday, Thursday, Thursday
    np.testing.assert_allclose(table["weekday_sin"], np.sin(angle), atol=1e-12)
    angle = 2 * np.pi * np.array([30 / 31, 0, 3 / 31, 14 / 29])
    np.testing.assert_allclose(table["month_day_cos"], np.cos(angle), atol=1e-12)
    assert table["year_day_cos"][1] == 1
    assert table["turn_of_month"].tolist() == [1, 1, 0, 0]


def test_weekend_is_a_gap_of_three_days():
    bars = make_bars(40)
    bars["ts"] = pd.bdate_range("2024-01-01", periods=40, tz="UTC").as_unit("ns")
    gap = compute(bars)["time_gap"][20:]
    monday = bars["ts"][20:].dt.day_of_week == 0
    np.testing.assert_allclose(gap, np.where(monday, np.log(3), 0), atol=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
def test_steady_trend_is_a_regime_of_its_sign(sign):
    step = sign * 0.01 + np.random.default_rng(0).normal(0, 1e-3, 200)
    bars = flat_bars(100 * np.exp(np.cumsum(step)))
    row = compute(bars).iloc[-1]
    assert row["trend_regime"] == row["momentum_regime"] == row["psar_trend"] == sign
    assert row["trend_efficiency_20"] == pytest.approx(sign, abs=1e-12)
    assert row["trend_line_60"] == pytest.approx(sign, abs=1e-3)
    assert row["momentum_score_60"] * sign > 50


def test_volatility_regime_is_the_third_that_the_last_volatility_falls_in():
    rng = np.random.default_rng(0)
    spread = np.concatenate([np.full(150, 0.01), np.full(30, 0.05), np.full(120, 0.002)])
    bars = flat_bars(100 * np.exp(np.cumsum(rng.normal(0, spread))))
    table = compute(bars)
    assert table["volatility_regime"][175] == 1
    assert table["volatility_regime"][215] == -1
    assert table["volatility_ratio"][155] > 0 > table["volatility_ratio"][190]


def test_variance_ratio_tells_reversal_from_persistence():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.01, 400)
    for step, sign in ((noise[1:] - 0.7 * noise[:-1], -1), (noise[1:] + 0.7 * noise[:-1], 1)):
        bars = flat_bars(100 * np.exp(np.cumsum(step)))
        table = compute(bars)
        assert table["variance_ratio_60"].mean() * sign > 0.2
        assert table["autocorrelation_60"].mean() * sign > 0.2
