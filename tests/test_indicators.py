"""The catalogue: complete, documented, free of look-ahead on real bars; and `ta` as a peer."""

import gzip
import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ta.momentum import KAMAIndicator, RSIIndicator
from ta.trend import ADXIndicator, AroonIndicator, CCIIndicator, PSARIndicator, WMAIndicator
from ta.volatility import AverageTrueRange, UlcerIndex
from ta.volume import MFIIndicator

from hftlib.features.feature import FAMILIES, BarSeries, FeatureError
from hftlib.features.indicators import (
    CATALOGUE,
    FEATURE_NAMES,
    FEATURES,
    compute_columns,
    compute_features,
    describe_features,
    find_features,
)
from hftlib.features.markov import RegimeModel
from hftlib.features.prefix import check_prefixes, same_bits
from tests.conftest import make_bars

PRICES = ["open", "high", "low", "close"]
MODEL = RegimeModel((0.0005, -0.001), (0.6e-4, 4e-4), ((0.98, 0.02), (0.04, 0.96)), 1_000)


def read_package(package: str, file: str) -> Path:
    return Path(importlib.util.find_spec(package).origin).parent / file


def real_bars(symbol: str, n_bars: int) -> pd.DataFrame:
    """Daily bars of an index, or hourly ones of a currency, from the installed packages."""
    if symbol == "SP500":
        with gzip.open(read_package("arch", "data/sp500/sp500.csv.gz")) as file:
            raw = pd.read_csv(file)
        stamps = pd.to_datetime(raw["Date"], format="mixed", utc=True)
    else:
        file = read_package("gym_anytrading", "datasets/data/FOREX_EURUSD_1H_ASK.csv")
        raw = pd.read_csv(file)
        stamps = pd.to_datetime(raw["Time"], format="%d.%m.%Y %H:%M:%S.%f", utc=True)
    table = pd.DataFrame({name: raw[name.title()].astype(float) for name in [*PRICES, "volume"]})
    table.insert(0, "symbol", symbol)
    table.insert(1, "source", "test")
    table.insert(2, "ts", stamps.dt.as_unit("ns"))
    return table[:n_bars]


def scores(bars: pd.DataFrame) -> pd.DataFrame:
    """A score every third bar, published halfway between two bars."""
    ts = bars["ts"].iloc[2::3] + pd.Timedelta(minutes=30)
    rng = np.random.default_rng(0)
    values = rng.normal(size=len(ts))
    return pd.DataFrame({"symbol": bars["symbol"].iloc[0], "ts": ts, "score": values})


def compute_all(bars: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    return compute_features(bars, regimes={bars["symbol"].iloc[0]: MODEL}, sentiment=known)


@pytest.fixture(scope="module")
def bars():
    return make_bars(400)


@pytest.fixture(scope="module")
def series(bars):
    return BarSeries.from_frame(bars)


def test_catalogue_has_the_families_it_promises():
    counts = pd.Series([feature.family for feature in CATALOGUE]).value_counts()
    assert set(counts.index) == set(FAMILIES)
    assert counts["technical"] >= 42
    assert counts["temporal"] == 10
    assert counts["regime"] >= 8
    assert counts["price_action"] >= 15
    assert len(CATALOGUE) == len({feature.name for feature in CATALOGUE}) >= 75
    assert len(FEATURES) == len(FEATURE_NAMES) >= 75, "of bars alone"


def test_table_of_the_catalogue_leaves_nothing_blank():
    table = describe_features()
    assert table["feature"].tolist() == [feature.name for feature in CATALOGUE]
    assert (table.drop(columns="warm-up").map(len) > 0).all(axis=None)
    known = table.set_index("feature")["known at"]
    assert known[["hour_sin", "sentiment"]].eq("start of the bar").all()
    assert known["return_1"] == "close of the bar"


def test_unknown_feature_is_refused_with_the_nearest_name():
    with pytest.raises(FeatureError, match="volatilty_20 is not a feature; did you mean vola"):
        find_features(["return_1", "volatilty_20"])
    with pytest.raises(FeatureError, match=r"zzz is not a feature; indicators\.CATALOGUE lists"):
        find_features(["zzz"])
    assert [f.name for f in find_features(["rsi_14", "hmm_mean"])] == ["rsi_14", "hmm_mean"]


@pytest.mark.parametrize("feature", FEATURES, ids=lambda f: f.name)
def test_formula_itself_is_finite_after_its_warmup(series, feature):
    """The rule for a division by zero must not cover a value that is missing for another reason."""
    with np.errstate(all="ignore"):
        values = feature.compute(series)
    assert values.shape == (len(series),)
    assert np.isfinite(values[feature.warmup :]).all()


@pytest.mark.parametrize("n_bars", [1, 2, 3, 14, 30, 120])
def test_short_history_has_the_features_whose_warmup_it_outlasts(n_bars):
    table = compute_features(make_bars(n_bars))
    for feature in FEATURES:
        assert np.isfinite(table[feature.name]).sum() == max(0, n_bars - feature.warmup)


@pytest.mark.parametrize("volume", [0.0, 1_000.0])
def test_constant_prices_give_finite_features_and_no_moves(volume):
    flat = make_bars(300)
    flat[PRICES], flat["volume"] = 37.3, volume
    table = compute_features(flat)
    for feature in FEATURES:
        assert np.isfinite(table[feature.name][feature.warmup :]).all(), feature.name
    still = [
        *("return_60", "volatility_20", "garman_klass_22", "adx_14", "direction_14", "atr_14"),
        *("cci_20", "sma_distance_50", "bollinger_position", "donchian_width", "skewness_60"),
        *("close_location", "trend_regime", "momentum_score_60", "trend_efficiency_20"),
        *("drawdown_60", "ulcer_14", "run_length", "money_flow_14", "volume_balance_20"),
        *("rsi_14", "rsi_5", "stochastic_14", "doji", "inside_bar", "hammer", "engulfing"),
    ]
    assert (table[still][120:] == 0).all(axis=None)


@pytest.mark.parametrize("column", PRICES)
@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -1.0])
def test_price_that_is_none_is_refused_with_symbol_and_bar(bars, column, value):
    spoilt = bars.copy()
    spoilt.loc[7, column] = value
    with pytest.raises(FeatureError, match=f"{column} of AAA is .* at 2010-01-08.*remove the bar"):
        compute_features(spoilt)


def test_time_that_stands_still_is_refused(bars):
    spoilt = bars.copy()
    spoilt.loc[7, "ts"] = spoilt["ts"][6]
    with pytest.raises(FeatureError, match="ts of AAA does not increase at 2010-01-07"):
        compute_features(spoilt)


def test_columns_that_lack_their_ingredients_are_absent_not_constant(bars):
    assert list(compute_features(bars).columns) == ["symbol", "ts", *FEATURE_NAMES]
    whole = compute_all(bars, scores(bars))
    assert list(whole.columns[2:]) == [feature.name for feature in CATALOGUE]


def test_symbol_without_a_model_or_scores_has_none_of_their_values():
    two = make_bars(200, ("AAA", "BBB"))
    table = compute_all(two, scores(two[:200]))
    for name in ("hmm_turbulent", "sentiment"):
        known = table[name].notna().groupby(table["symbol"]).sum()
        assert known["AAA"] > 190
        assert known["BBB"] == 0


def test_features_asked_for_by_name_are_those_columns_of_all(bars):
    names = ["sentiment", "rsi_14", "hmm_turbulent", "return_1"]
    models, known = {bars["symbol"].iloc[0]: MODEL}, scores(bars)
    table = compute_features(bars, names, regimes=models, sentiment=known)
    pd.testing.assert_frame_equal(table, compute_all(bars, known)[["symbol", "ts", *names]])
    with pytest.raises(FeatureError, match=r"rsi_41 is not a feature; did you mean rsi_"):
        compute_features(bars, ["rsi_41"])
    with pytest.raises(FeatureError, match="hmm_turbulent needs regimes=, which is not given"):
        compute_features(bars, names, sentiment=known)


# No look-ahead.


@pytest.mark.parametrize("symbol", ["SP500", "EURUSD"])
def test_every_feature_passes_the_prefix_test_on_real_bars(symbol):
    real = real_bars(symbol, 1_400)
    known = scores(real)
    lengths = [130, 257, 999, 1_399]
    verdict = check_prefixes(lambda part: compute_all(part, known), real, lengths)
    assert verdict["feature"].tolist() == [feature.name for feature in CATALOGUE]
    assert verdict.loc[~verdict["is_causal"], "feature"].tolist() == []
    assert (verdict["n_values"] > 1_000).all()


def test_scrambled_future_changes_no_past_value_of_any_feature():
    real, now = real_bars("SP500", 700), 450
    known = scores(real)
    spoilt, order = real.copy(), np.random.default_rng(0).permutation(np.arange(now + 1, 700))
    columns = [*PRICES, "volume"]
    spoilt.loc[now + 1 :, columns] = real.loc[order, columns].to_numpy() * 2
    heard = known.copy()
    heard.loc[heard["ts"] > real["ts"][now], "score"] *= -3
    before, after = (compute_all(*pair)[: now + 1] for pair in ((real, known), (spoilt, heard)))
    pd.testing.assert_frame_equal(after, before, check_exact=True)


def test_prefix_test_finds_features_that_look_ahead(bars):
    def peek(part):
        close = part["close"].reset_index(drop=True)
        return pd.DataFrame(
            {
                "honest": close.diff(),
                "next": close.shift(-1),
                "scaled": (close - close.mean()) / close.std(),
                "filled": close.rolling(5).mean().bfill(),
            }
        )

    verdict = check_prefixes(peek, bars, [100, 2]).set_index("feature")
    assert verdict["is_causal"].to_dict() == {
        "honest": True,
        "next": False,
        "scaled": False,
        "filled": False,
    }
    assert verdict["first_bar"].to_dict() == {"honest": -1, "next": 1, "scaled": 0, "filled": 0}
    assert verdict.loc["honest", "n_values"] == 99 + 1


@pytest.mark.parametrize("lengths", [[], [0], [401]])
def test_prefix_test_refuses_lengths_out_of_range(bars, lengths):
    with pytest.raises(ValueError, match="expected some from 1 to 400"):
        check_prefixes(compute_features, bars, lengths)


def test_bits_agree_where_both_are_nan_and_differ_by_the_sign_of_zero():
    a = np.array([1.0, np.nan, 0.0, np.nan, 0.1 + 0.2])
    b = np.array([1.0, -np.nan, -0.0, 1.0, 0.3])
    assert same_bits(a, b).tolist() == [True, True, False, False, False]


# `ta` as a peer, where ours is our own. It rounds in another order: 1e-9.


@pytest.fixture(scope="module")
def peers():
    real = real_bars("SP500", 900)
    hlc = (real["high"], real["low"], real["close"])
    adx, psar = ADXIndicator(*hlc, 14), PSARIndicator(*hlc)
    aroon = AroonIndicator(real["high"], real["low"], 25)
    money = MFIIndicator(*hlc, real["volume"], 14).money_flow_index()
    return real, {
        "rsi_14": RSIIndicator(real["close"], 14).rsi() / 50 - 1,
        "rsi_5": RSIIndicator(real["close"], 5).rsi() / 50 - 1,
        "adx_14": adx.adx() / 100,
        "direction_14": (adx.adx_pos() - adx.adx_neg()) / 100,
        "psar_distance": 1 - psar.psar() / real["close"],
        "psar_trend": psar.psar_up().notna() * 2.0 - 1,
        "wma_distance_9": real["close"] / WMAIndicator(real["close"], 9).wma() - 1,
        "cci_20": CCIIndicator(*hlc, 20).cci() / 100,
        "money_flow_14": money / 50 - 1,
        "aroon_25": aroon.aroon_indicator() / 100,
        "atr_14": AverageTrueRange(*hlc, 14).average_true_range() / real["close"],
        "ulcer_14": UlcerIndex(real["close"], 14).ulcer_index() / 100,
        "kama_distance_10": real["close"] / KAMAIndicator(real["close"], 10).kama() - 1,
    }


@pytest.mark.parametrize(
    "name",
    [
        *(
            "rsi_14",
            "rsi_5",
            "adx_14",
            "direction_14",
            "psar_distance",
            "psar_trend",
            "wma_distance_9",
            "cci_20",
        ),
        *("money_flow_14", "aroon_25", "atr_14", "ulcer_14", "kama_distance_10"),
    ],
)
def test_own_kernel_agrees_with_ta(peers, name):
    real, theirs = peers
    (feature,) = find_features([name])
    start = max(feature.warmup, 15)  # ta's first directional indicator is that of bar 15
    ours = compute_columns(BarSeries.from_frame(real))[name]
    np.testing.assert_allclose(ours[start:], theirs[name][start:], rtol=1e-9, atol=1e-9)
