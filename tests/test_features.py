"""Features: closed forms, exact warm-up, no look-ahead; and what they are worth."""

import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from hftlib.features.indicators import FEATURE_NAMES, FEATURES, compute_features
from hftlib.features.information import forward_return, information_table
from hftlib.features.leakage import measure_leakage
from hftlib.features.scaling import CLIP, RobustScaler
from tests.conftest import make_bars

PRICES = ["open", "high", "low", "close"]
NAMES = list(FEATURE_NAMES)


@pytest.fixture(scope="module")
def bars():
    return make_bars(300)


@pytest.fixture(scope="module")
def features(bars):
    return compute_features(bars)


def make_line(step: float, n_bars: int = 100) -> pd.DataFrame:
    """Closes on a straight line, each bar one unit high around its close."""
    close = 500 + step * np.arange(n_bars)
    table = make_bars(n_bars)
    return table.assign(open=close, high=close + 0.5, low=close - 0.5, close=close)


def moving_average(x: np.ndarray, span: int) -> np.ndarray:
    """Exponential average that starts at the first value."""
    y = x.copy()
    for t in range(1, len(x)):
        y[t] = y[t - 1] + 2 / (span + 1) * (x[t] - y[t - 1])
    return y


@pytest.mark.parametrize("n_bars", [1, 5, 20])
def test_return_is_the_log_of_the_price_ratio(bars, features, n_bars):
    close = bars["close"].to_numpy()
    expected = np.log(close[n_bars:] / close[:-n_bars])
    # The difference of two logs near 4 rounds at 1e-15.
    np.testing.assert_allclose(features[f"return_{n_bars}"][n_bars:], expected, atol=1e-14)


def test_volatility_is_the_sample_deviation_of_twenty_returns(bars, features):
    steps = np.diff(np.log(bars["close"].to_numpy()))
    expected = [steps[t - 20 : t].std(ddof=1) for t in range(20, 300)]
    # A running variance updates instead of recomputing.
    np.testing.assert_allclose(features["volatility_20"][20:], expected, rtol=1e-9)


def test_bollinger_position_follows_its_formula(bars, features):
    close = bars["close"].to_numpy()
    windows = np.lib.stride_tricks.sliding_window_view(close, 20)
    expected = (close[19:] - windows.mean(axis=1)) / (2 * windows.std(axis=1))
    np.testing.assert_allclose(features["bollinger_position"][19:], expected, atol=1e-9)


def test_macd_histogram_follows_its_formula(bars, features):
    close = bars["close"].to_numpy()
    line = (moving_average(close, 12) - moving_average(close, 26))[25:]
    expected = ((line - moving_average(line, 9)) / close[25:])[8:]
    np.testing.assert_allclose(features["macd_histogram"][33:], expected, atol=1e-13)


def test_volume_ratio_compares_with_the_mean_of_twenty_bars(bars, features):
    volume = bars["volume"].to_numpy()
    windows = np.lib.stride_tricks.sliding_window_view(volume, 20)
    expected = volume[19:] / windows.mean(axis=1) - 1
    np.testing.assert_allclose(features["volume_ratio"][19:], expected, atol=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
def test_straight_line_has_extreme_strength_and_direction(sign):
    table = compute_features(make_line(sign * 2.0))
    np.testing.assert_allclose(table["rsi_14"][14:], sign, atol=1e-12)
    np.testing.assert_allclose(table["adx_14"][27:], 1, atol=1e-12)


def test_true_range_of_equal_bars_is_their_height():
    # A close moves by 2 and the bar reaches 0.5 beyond it: the true range is 2.5.
    line = make_line(2.0)
    expected = 2.5 / line["close"]
    feature = compute_features(line)["atr_14"]
    # Wilder's first average still holds bar 0, one unit high; its weight fades by 13/14 a bar.
    error = (expected - feature)[14:] * line["close"][14:]
    fading = 1.5 / 14 * (13 / 14) ** np.arange(1, 87)
    np.testing.assert_allclose(error, fading, atol=1e-9)


@pytest.mark.parametrize("feature", FEATURES, ids=lambda f: f.name)
def test_feature_is_nan_before_its_warmup_and_finite_from_there(features, feature):
    column = features[feature.name]
    assert column[: feature.warmup].isna().all()
    assert np.isfinite(column[feature.warmup :]).all()


def test_a_symbol_shorter_than_a_warmup_lacks_that_feature_and_spoils_no_other():
    table = pd.concat([make_bars(160), make_bars(40, ("BBB",))], ignore_index=True)
    short = compute_features(table)
    for feature in FEATURES:
        assert short.loc[160:, feature.name].notna().sum() == max(0, 40 - feature.warmup)
    pd.testing.assert_frame_equal(short[:160], compute_features(make_bars(160)))


def test_scrambled_future_leaves_the_past_bit_identical(bars, features):
    now = 180
    scrambled = bars.copy()
    columns = [*PRICES, "volume"]
    order = np.random.default_rng(0).permutation(np.arange(now + 1, 300))
    scrambled.loc[now + 1 :, columns] = bars.loc[order, columns].to_numpy() * 3
    table = compute_features(scrambled)
    pd.testing.assert_frame_equal(table[: now + 1], features[: now + 1], check_exact=True)
    moved = (table.loc[now + 1, NAMES] != features.loc[now + 1, NAMES])[NAMES]
    assert moved.mean() > 0.6, "the clock, signs and flags may stay"
    assert moved[["return_1", "rsi_14", "atr_14", "volume_ratio"]].all()


def test_symbols_do_not_touch_each_other(bars, features):
    other = make_bars(100, ("ZZZ",), seed=1)
    table = compute_features(pd.concat([other, bars], ignore_index=True))
    own = table[table["symbol"] == "AAA"].reset_index(drop=True)
    pd.testing.assert_frame_equal(own, features, check_exact=True)


def test_rows_come_in_the_order_of_the_bars():
    mixed = make_bars(80, ("AAA", "BBB")).sort_values("ts", kind="stable", ignore_index=True)
    table = compute_features(mixed)
    pd.testing.assert_frame_equal(table[["symbol", "ts"]], mixed[["symbol", "ts"]])


def test_features_do_not_depend_on_the_units_of_price_and_volume(bars, features):
    scaled = bars.assign(**{name: bars[name] * 1000 for name in PRICES}, volume=bars["volume"] * 7)
    # The logs and running sums round differently at another scale.
    pd.testing.assert_frame_equal(compute_features(scaled), features, rtol=1e-9, atol=1e-9)


def test_without_trades_features_of_volume_are_zero(bars):
    table = compute_features(bars.assign(volume=0.0))
    for feature in FEATURES:
        if feature.uses_volume:
            assert (table[feature.name][feature.warmup :] == 0).all(), feature.name


def test_without_a_volume_only_its_features_are_missing(bars):
    table = compute_features(bars.assign(volume=np.nan))
    for feature in FEATURES:
        known = table[feature.name][feature.warmup :].notna()
        assert (known != feature.uses_volume).all(), feature.name


def test_one_unknown_volume_is_missed_as_far_as_a_feature_looks_back(bars, features):
    hole = bars.copy()
    hole.loc[150, "volume"] = np.nan
    table = compute_features(hole)
    for feature in FEATURES:
        missing = np.flatnonzero(table[feature.name][feature.warmup :].isna()) + feature.warmup
        expected = np.arange(150, 150 + feature.warmup + 1) if feature.uses_volume else []
        np.testing.assert_array_equal(missing, expected, feature.name)


def test_stretch_of_zero_volume_stays_finite(bars):
    quiet = bars.copy()
    quiet.loc[100:150, "volume"] = 0.0
    column = compute_features(quiet)["volume_ratio"]
    assert np.isfinite(column[19:]).all()
    assert (column[120:150] == 0).all()


def test_stretch_of_constant_prices_stays_finite(bars):
    stale = bars.copy()
    stale.loc[100:180, PRICES] = 50.0
    table = compute_features(stale)[NAMES]
    for feature in FEATURES:
        assert np.isfinite(table[feature.name][feature.warmup :]).all(), feature.name
    zero = ["return_1", "return_5", "return_20", "volatility_20", "bollinger_position"]
    assert (table.loc[121:180, zero] == 0).all(axis=None)


# What a feature says about a later return.


def information(features: pd.DataFrame, close: pd.Series, **changes) -> pd.DataFrame:
    settings = {"names": list(features), "horizons_bars": [5], "n_bootstrap": 200, "seed": 0}
    return information_table(features, close, **{**settings, **changes})


@pytest.fixture(scope="module")
def walk():
    rng = np.random.default_rng(3)
    close = pd.Series(100 * np.exp(np.cumsum(rng.normal(0, 0.01, 600))))
    label = forward_return(close, 5)
    noise = pd.Series(rng.normal(size=600))
    mixed = label + noise * label.std()
    return pd.DataFrame({"close": close, "label": label, "noise": noise, "mixed": mixed})


def test_forward_return_is_the_log_ratio_to_a_later_close():
    label = forward_return(pd.Series([1.0, 2.0, 4.0, 2.0]), 2)
    np.testing.assert_allclose(label[:2], [np.log(4), 0], atol=1e-15)
    assert label[2:].isna().all()


def test_perfect_predictor_has_a_coefficient_of_one(walk):
    table = information(walk.assign(mirror=-(walk["label"] ** 3))[["label", "mirror"]], walk.close)
    # Ranks are exact; the sums of their products round.
    expected = np.outer([1, -1], [1, 1, 1])
    np.testing.assert_allclose(table[["ic", "low", "high"]], expected, atol=1e-12)


def test_coefficient_is_spearmans(walk):
    table = information(walk[["mixed"]], walk["close"])
    known = walk.dropna()
    assert table["ic"][0] == pytest.approx(spearmanr(known.mixed, known.label)[0], abs=1e-12)


def test_interval_of_noise_covers_zero_and_of_a_signal_does_not(walk):
    table = information(walk[["noise", "mixed"]], walk["close"]).set_index("feature")
    assert table.loc["noise", "low"] < 0 < table.loc["noise", "high"]
    assert 0 < table.loc["mixed", "low"] < table.loc["mixed", "ic"] < table.loc["mixed", "high"]


def test_table_has_a_row_for_each_horizon_and_feature(walk):
    table = information(walk[["noise", "mixed"]], walk["close"], horizons_bars=[1, 5])
    pairs = table[["horizon_bars", "feature"]].values.tolist()
    assert pairs == [[1, "noise"], [1, "mixed"], [5, "noise"], [5, "mixed"]]
    assert (table["low"] <= table["high"]).all()


def test_feature_that_does_not_vary_has_no_coefficient_and_spoils_no_other(walk):
    table = information(walk[["mixed"]].assign(flat=2.0), walk["close"]).set_index("feature")
    assert table.loc["flat", ["ic", "low", "high"]].isna().all()
    alone = information(walk[["mixed"]], walk["close"])
    assert table.loc["mixed", "ic"] == alone["ic"][0]


def test_feature_without_values_or_with_few_changes_no_other(walk):
    late = walk["noise"].where(walk.index >= 400)
    table = information(walk[["mixed"]].assign(absent=np.nan, late=late), walk["close"])
    by_name = {name: part.reset_index(drop=True) for name, part in table.groupby("feature")}
    assert by_name["absent"][["ic", "low", "high"]].isna().all(axis=None)
    alone = information(walk[["mixed"]], walk["close"])
    pd.testing.assert_frame_equal(by_name["mixed"], alone, check_exact=True)
    short = walk[400:]
    assert by_name["late"]["ic"][0] == information(short[["noise"]], short["close"])["ic"][0]


def test_seed_decides_the_interval(walk):
    first, same, other = (information(walk[["noise"]], walk.close, seed=s) for s in (1, 1, 2))
    pd.testing.assert_frame_equal(first, same, check_exact=True)
    assert first["ic"][0] == other["ic"][0]
    assert first["low"][0] != other["low"][0]


def score_walks(seed: int):
    """Forecast a random walk from two others: no skill is to be had."""
    walks = np.cumsum(np.random.default_rng(seed).normal(0, 0.01, (1020, 3)), axis=0)
    label = forward_return(pd.Series(np.exp(walks[:, 0])), 20).to_numpy()[:1000]
    return measure_leakage(walks[:1000, 1:], label, horizon_bars=20, test_share=0.3, seed=0)


def test_shuffled_split_finds_skill_in_a_random_walk_and_the_purged_one_does_not():
    shuffled, purged = np.mean([score_walks(seed) for seed in range(5)], axis=0)
    # 300 test rows hold 15 labels that do not overlap: without skill a correlation has a standard
    # error of 0.26, and the mean of five walks one of 0.12.
    assert abs(purged) < 3 * 0.12 < shuffled
    assert shuffled - purged > 0.3


def test_leakage_scores_are_decided_by_the_seed():
    assert score_walks(0) == score_walks(0)


def test_purged_score_does_not_see_the_rows_it_purges():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 2)), rng.normal(size=200)
    settings = {"horizon_bars": 10, "test_share": 0.25, "seed": 0}
    pair = measure_leakage(x, y, **settings)
    y[140:150] += 100  # the ten labels that reach into the test rows, 150 to 199
    assert measure_leakage(x, y, **settings).purged == pair.purged
    y[139] += 100
    assert measure_leakage(x, y, **settings).purged != pair.purged


# Scaling.


def test_scaler_subtracts_the_median_and_divides_by_the_quartile_range():
    values = np.stack([np.arange(101.0), 1000 - 4 * np.arange(101.0)], axis=1)
    scaler = RobustScaler.fit(values, ["up", "down"])
    assert asdict(scaler) == {
        "names": ("up", "down"),
        "median": (50.0, 800.0),
        "iqr": (50.0, 200.0),
    }
    scaled = scaler.transform(values)
    assert scaled.dtype == np.float32
    np.testing.assert_array_equal(scaled[[0, 50, 75, 100]], [[-1, 1], [0, 0], [0.5, -0.5], [1, -1]])


def test_outlier_moves_neither_median_nor_range():
    values = np.arange(101.0)[:, None]
    spoilt = values.copy()
    spoilt[-1] = 1e9
    assert RobustScaler.fit(spoilt, ["x"]) == RobustScaler.fit(values, ["x"])


def test_scaled_row_depends_on_no_other_row():
    values = np.random.default_rng(0).normal(size=(100, 2))
    scaler = RobustScaler.fit(values[:60], ["a", "b"])
    together = scaler.transform(values)
    alone = np.concatenate([scaler.transform(row[None]) for row in values])
    np.testing.assert_array_equal(together, alone)


def test_scaled_values_are_clipped_and_nan_stays_nan():
    scaler = RobustScaler(("x",), (0.0,), (1.0,))
    values = [[-1e9], [-CLIP], [3.0], [np.inf], [np.nan]]
    np.testing.assert_array_equal(scaler.transform(values), [[-10], [-10], [3], [10], [np.nan]])


def test_scaler_survives_json():
    scaler = RobustScaler.fit(np.random.default_rng(0).normal(size=(50, 2)), ["a", "b"])
    stored = json.loads(json.dumps(scaler.to_dict()))
    assert RobustScaler(**{key: tuple(value) for key, value in stored.items()}) == scaler


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scaler_refuses_a_value_that_is_not_finite(value):
    values = np.random.default_rng(0).normal(size=(50, 2))
    values[7, 1] = value
    with pytest.raises(ValueError, match=f"b is {value} in row 7; drop warm-up rows"):
        RobustScaler.fit(values, ["a", "b"])


def test_scaler_sets_a_constant_column_to_zero():
    values = np.stack([np.arange(50.0), np.full(50, 7.0)], axis=1)
    assert (RobustScaler.fit(values, ["a", "b"]).transform(values)[:, 1] == 0).all()


def test_scaler_refuses_a_column_that_hardly_varies():
    values = np.stack([np.arange(50.0), np.repeat([0.0, 1.0], [45, 5])], axis=1)
    with pytest.raises(ValueError, match="interquartile range of b is 0; leave it out"):
        RobustScaler.fit(values, ["a", "b"])
