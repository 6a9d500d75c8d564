"""Panels refuse arrays that do not fit; controls have the answer they promise."""

from dataclasses import fields, replace
from datetime import date

import numpy as np
import pandas as pd
import pytest

from hftlib.agents.policy import play
from hftlib.data.controls import martingale_bars, plant_oracle
from hftlib.data.panel import BarPanel, PanelError
from hftlib.envs import TradingRules
from hftlib.envs.trading import BUY, SELL
from hftlib.features.feature import FeatureError
from hftlib.features.indicators import compute_features
from hftlib.features.panels import build_datasets
from hftlib.features.zscore import rolling_zscores
from hftlib.portfolio.costs import Costs
from hftlib.portfolio.measures import sharpe, simple_returns
from hftlib.schema import BARS, validate
from tests.conftest import make_bars, make_panel


def changed(array: np.ndarray, value: float, row: int = 3) -> np.ndarray:
    copy = array.copy()
    copy[row] = value
    return copy


def assert_equal(first: BarPanel, second: BarPanel) -> None:
    for field in fields(BarPanel):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name))


@pytest.mark.parametrize("name", ["open", "close", "features"])
def test_array_of_another_length_is_refused(panel, name):
    with pytest.raises(PanelError, match=f"{name} has 799 rows, ts has 800"):
        replace(panel, **{name: getattr(panel, name)[:-1]})


def test_feature_without_a_name_is_refused(panel):
    with pytest.raises(PanelError, match="3 feature columns, 2 names"):
        replace(panel, feature_names=("a", "b"))


@pytest.mark.parametrize(
    "segments",
    [
        [[0, 400], [400, 799]],
        [[0, 400], [401, 800]],
        [[1, 400], [400, 800]],
        [[0, 400], [300, 800]],
        [[0, 800]],
        [[0, 200], [200, 400], [400, 800]],
        [[0, 800], [800, 800]],
        [[0, 900], [900, 800]],
    ],
    ids=["end", "hole", "start", "overlap", "too few", "too many", "no rows", "backwards"],
)
def test_segments_must_tile_the_rows_one_for_each_symbol(panel, segments):
    with pytest.raises(PanelError, match=r"must tile rows 0 to 800, one for each of 2 symbols"):
        replace(panel, segments=np.array(segments))


@pytest.mark.parametrize("name", ["open", "close"])
@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_impossible_price_is_refused_with_its_row(panel, name, value):
    with pytest.raises(PanelError, match=rf"{name}\[3\] is {value}; prices must be"):
        replace(panel, **{name: changed(getattr(panel, name), value)})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_feature_that_is_not_finite_is_refused_with_its_row(panel, value):
    with pytest.raises(PanelError, match=rf"feature f0 is {value} in row 3; drop the warm-up"):
        replace(panel, features=changed(panel.features, value))


def test_panel_comes_back_from_disk_as_it_was(panel, tmp_path):
    panel.save(tmp_path / "train.npz")
    loaded = BarPanel.load(tmp_path / "train.npz")
    assert_equal(loaded, panel)
    assert loaded.features.dtype == np.float32
    assert (loaded.symbols, loaded.feature_names) == (panel.symbols, panel.feature_names)


def test_optional_columns_come_back_from_disk(panel, tmp_path):
    n = len(panel.ts)
    forecast = np.where(np.arange(n) % 7 == 0, np.nan, 0.01)
    rich = replace(panel, volume=np.ones(n), forecast=forecast, uncertainty=np.abs(forecast))
    rich.save(tmp_path / "train.npz")
    loaded = BarPanel.load(tmp_path / "train.npz")
    for name in ("volume", "forecast", "uncertainty"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(rich, name))


@pytest.mark.parametrize(
    ("name", "value"),
    [("volume", -1.0), ("volume", np.nan), ("forecast", np.inf), ("uncertainty", -0.1)],
)
def test_impossible_optional_column_is_refused_with_its_row(panel, name, value):
    n = len(panel.ts)
    columns = {"volume": np.ones(n), "forecast": np.zeros(n), "uncertainty": np.ones(n)}
    columns[name] = changed(columns[name], value, row=11)
    with pytest.raises(PanelError, match=rf"{name}\[11\] is {value}"):
        replace(panel, **columns)


def test_a_forecast_without_its_uncertainty_is_refused(panel):
    with pytest.raises(PanelError, match="pass both or none"):
        replace(panel, forecast=np.zeros(len(panel.ts)))


def test_a_panel_of_bars_takes_their_volume_unless_some_is_missing():
    bars = make_bars(9)
    features = np.zeros((9, 1), dtype=np.float32)
    np.testing.assert_array_equal(BarPanel.from_frame(bars, features, ["x"]).volume, bars["volume"])
    bars.loc[4, "volume"] = np.nan
    assert BarPanel.from_frame(bars, features, ["x"]).volume is None


def test_equal_panels_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        make_panel().save(tmp_path / f"{name}.npz")
    make_panel(seed=1).save(tmp_path / "c.npz")
    first, second, other = ((tmp_path / f"{name}.npz").read_bytes() for name in "abc")
    assert first == second != other


def test_frame_of_two_symbols_becomes_two_segments():
    bars = make_bars(5, ("AAA", "BBB")).drop(index=9)
    features = np.arange(18, dtype=np.float32).reshape(9, 2)
    panel = BarPanel.from_frame(bars, features, ["x", "y"])
    assert panel.symbols == ("AAA", "BBB")
    assert panel.segments.tolist() == [[0, 5], [5, 9]]
    assert panel.ts[0] == bars["ts"].iloc[0].value
    np.testing.assert_array_equal(panel.open, bars["open"])
    np.testing.assert_array_equal(panel.close, bars["close"])
    assert (panel.n_features, panel.feature_names) == (2, ("x", "y"))


@pytest.mark.parametrize("horizon", [1, 4])
def test_oracle_is_the_coming_return_in_its_standard_deviations(panel, horizon):
    oracle = plant_oracle(panel, horizon)
    for start, stop in panel.segments:
        coming = np.zeros(stop - start)
        for t in range(start, stop - horizon):
            coming[t - start] = np.log(panel.close[t + horizon] / panel.open[t + 1])
        # float32 keeps seven digits
        np.testing.assert_allclose(
            oracle.features[start:stop, -1], coming / coming.std(), rtol=1e-5, atol=1e-6
        )
        assert (oracle.features[stop - horizon : stop, -1] == 0).all()


def test_oracle_is_clipped_to_the_scalers_bounds(panel):
    oracle = plant_oracle(replace(panel, close=changed(panel.close, 1e9, row=200)), 1)
    assert oracle.features[199, -1] == 10
    assert oracle.features[200, -1] >= -10


def test_oracle_changes_the_last_feature_and_nothing_else(panel):
    before = panel.features.copy()
    oracle = plant_oracle(panel, 2)
    assert oracle.feature_names == ("f0", "f1", "oracle")
    np.testing.assert_array_equal(oracle.features[:, :-1], before[:, :-1])
    np.testing.assert_array_equal(panel.features, before)
    assert oracle.open is panel.open and oracle.close is panel.close


def test_a_martingale_keeps_clock_symbols_first_bar_and_valid_bars():
    bars = make_bars(300, ("AAA", "BBB"))
    fake = martingale_bars(bars, np.random.default_rng(0))
    validate(fake, BARS)
    for name in ("symbol", "source", "ts"):
        pd.testing.assert_series_equal(fake[name], bars[name])
    np.testing.assert_array_equal(fake.loc[[0, 300], "close"], bars.loc[[0, 300], "close"])
    body = fake[["open", "close"]]
    assert (fake["high"] >= body.max(axis=1)).all()
    assert (fake["low"] <= body.min(axis=1)).all()
    assert set(fake["volume"]) <= set(bars["volume"])
    assert fake["is_synthetic"].all() and not bars["is_synthetic"].any()


def test_a_martingale_draws_gaps_and_bodies_whose_means_are_one():
    bars = make_bars(400)
    bars[["open", "high", "low", "close"]] *= np.exp(0.002 * np.arange(400))[:, None]  # 0.2 % a bar
    fake = martingale_bars(bars, np.random.default_rng(0))
    true = bars["close"].iloc[1:].to_numpy() / bars["open"].iloc[1:].to_numpy()
    pool = true / true.mean()
    drawn = (fake["close"] / fake["open"]).to_numpy()[1:]
    distance = np.abs(drawn[:, None] - pool[None, :]).min(axis=1)
    assert distance.max() < 1e-12, "every body is one of the centred pool, whose mean is 1"
    assert pool.mean() == pytest.approx(1.0, abs=1e-14)


def test_martingales_of_different_seeds_end_at_different_prices():
    """A permutation would always end where the data do: a bridge, and predictable."""
    ends = {
        martingale_bars(make_bars(), np.random.default_rng(s))["close"].iloc[-1] for s in range(5)
    }
    assert len(ends) == 5
    again = martingale_bars(make_bars(), np.random.default_rng(0))["close"].iloc[-1]
    assert again in ends


def test_holding_a_martingale_is_worth_nothing_on_average():
    drifting = make_bars(250)
    drifting[["open", "high", "low", "close"]] *= np.exp(0.002 * np.arange(250))[:, None]
    growth = []
    for seed in range(400):
        fake = martingale_bars(drifting, np.random.default_rng(seed))
        growth.append(fake["open"].iloc[-1] / fake["open"].iloc[1] - 1)
    # with the drift it would be about 0.6; four standard errors around zero
    assert abs(np.mean(growth)) < 4 * np.std(growth) / 20


class SignTrader:
    """Trades on the sign of the newest bar's last feature, just before the two account entries."""

    def act(self, observations):
        return np.where(observations[:, -3] > 0, BUY, SELL)


def test_on_a_martingale_a_feature_that_peeks_earns_and_an_honest_one_does_not():
    bars = make_bars(900)
    cut = {
        "names": ["return_20", "volume_ratio"],
        "train_end": date(2010, 3, 31),
        "validation_end": date(2010, 5, 31),
        "purge_bars": 1,
        "embargo_bars": 0,
    }
    rules = TradingRules(Costs(0.0, 0.0, 0.0), window_bars=1, allow_short=True)
    ratios = {"honest": [], "peeking": []}
    for seed in range(20):
        fake = martingale_bars(bars, np.random.default_rng(seed))
        features = compute_features(fake)
        honest = build_datasets(fake, features, ["AAA"], **cut, is_control=True).panels["test"]
        for name, panel in (("honest", honest), ("peeking", plant_oracle(honest, 5))):
            equity = play(SignTrader(), panel, rules).total_equity[:, 0]
            ratios[name].append(sharpe(simple_returns(equity), 365.25))
    error = np.std(ratios["honest"], ddof=1) / 20**0.5
    assert abs(np.mean(ratios["honest"])) < 3 * error
    assert min(ratios["peeking"]) > 3


def test_symbols_of_different_clocks_are_told_apart_by_name_and_day(panel):
    ts = panel.ts.copy()
    ts[-1] += 1
    other = replace(panel, ts=ts)
    with pytest.raises(PanelError, match="S1 and S0 have bars at different times, first at 1971"):
        other.common_clock()
    assert len(panel.common_clock()) == 400


def test_time_that_does_not_increase_is_refused(panel):
    ts = panel.ts.copy()
    ts[7] = ts[6]
    with pytest.raises(PanelError, match="S0: ts does not increase after row 6"):
        replace(panel, ts=ts)


def test_datasets_hold_the_split_rows_and_a_scaler_of_training_rows_only():
    bars = make_bars(300, ("AAA", "BBB"))
    cut = {
        "train_end": date(2010, 6, 30),
        "validation_end": date(2010, 8, 31),
        "purge_bars": 1,
        "embargo_bars": 2,
    }
    made = build_datasets(bars, compute_features(bars), ["BBB", "AAA"], **cut)
    assert made.panels["test"].symbols == ("BBB", "AAA")
    later = bars.copy()
    after = later["ts"] > "2010-07-01"
    later.loc[after, ["open", "high", "low", "close"]] *= 3
    same = build_datasets(later, compute_features(later), ["BBB", "AAA"], **cut)
    assert same.scaler == made.scaler
    assert_equal(same.panels["train"], made.panels["train"])


CUT = {
    "train_end": date(2010, 6, 30),
    "validation_end": date(2010, 8, 31),
    "purge_bars": 1,
    "embargo_bars": 2,
}


def test_datasets_hold_the_features_asked_for_in_their_order():
    bars = make_bars(300)
    made = build_datasets(
        bars, compute_features(bars), ["AAA"], names=["rsi_14", "return_1"], **CUT
    )
    assert made.panels["train"].feature_names == ("rsi_14", "return_1")
    assert made.scaler.names == ("rsi_14", "return_1")


def test_prices_join_the_features_as_rolling_z_scores_and_volume_where_it_is_known():
    bars = make_bars(300)
    features = compute_features(bars)
    settings = {"names": ["rsi_14"], "zscore_bars": 20, **CUT}
    made = build_datasets(bars, features, ["AAA"], **settings)
    columns = ["open_z", "high_z", "low_z", "close_z", "volume_z"]
    assert made.scaler.names == ("rsi_14", *columns)
    rows = made.rows["test"]
    expected = rolling_zscores(bars, 20)[bars["ts"].isin(rows["ts"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(rows[columns], expected)
    without = build_datasets(bars.assign(volume=np.nan), features, ["AAA"], **settings)
    assert without.scaler.names == ("rsi_14", *columns[:4])


def test_a_short_symbol_that_is_not_used_takes_no_column_from_the_others():
    bars = pd.concat([make_bars(300), make_bars(10, ("NEW",))], ignore_index=True)
    bars.loc[bars["symbol"] == "NEW", "volume"] = np.nan
    settings = {"names": ["rsi_14"], "zscore_bars": 20, **CUT}
    made = build_datasets(bars, compute_features(bars), ["AAA"], **settings)
    assert made.scaler.names == ("rsi_14", "open_z", "high_z", "low_z", "close_z", "volume_z")
    with pytest.raises(FeatureError, match=r"NEW: none of 10 bars .*: rsi_14, open_z"):
        build_datasets(bars, compute_features(bars), ["AAA", "NEW"], **settings)


def test_bars_and_features_are_paired_by_row_and_other_bars_refused():
    bars = make_bars(600, ("AAA", "BBB"))
    features = compute_features(bars)
    settings = {"names": ["return_1"], **CUT}
    own = bars[bars["symbol"] == "BBB"]
    made = build_datasets(own, compute_features(own), ["BBB"], **settings)
    whole = build_datasets(bars, features, ["BBB"], **settings)
    assert_equal(made.panels["test"], whole.panels["test"])
    with pytest.raises(FeatureError, match="1200 rows of features for 600 bars; compute the"):
        build_datasets(own, features, ["BBB"], **settings)
    with pytest.raises(FeatureError, match=r"row 0 of the features is AAA at 2010-01-01 .* BBB at"):
        build_datasets(own, features[:600], ["BBB"], **settings)
    shifted = features.assign(ts=features["ts"] + pd.Timedelta("1D"))
    with pytest.raises(FeatureError, match="row 0 of the features is AAA at 2010-01-02 "):
        build_datasets(bars, shifted, ["AAA"], **settings)


def test_dataset_of_an_unknown_feature_is_refused_with_the_nearest_name():
    bars = make_bars(300)
    with pytest.raises(FeatureError, match="rsi_15 is not among the features; did you mean rsi_"):
        build_datasets(bars, compute_features(bars), ["AAA"], names=["rsi_15"], **CUT)


def test_symbol_without_values_of_a_feature_is_named_with_those_features():
    bars = make_bars(300, ("AAA", "BBB"))
    bars.loc[bars["symbol"] == "BBB", "volume"] = np.nan
    features = compute_features(bars)
    names = ["return_1", "volume_ratio", "money_flow_14"]
    with pytest.raises(FeatureError, match=r"BBB: none of 300 bars .* volume_ratio, money_flow"):
        build_datasets(bars, features, ["AAA", "BBB"], names=names, **CUT)
    made = build_datasets(bars, features, ["AAA", "BBB"], names=names[:1], **CUT)
    assert made.panels["train"].symbols == ("AAA", "BBB")
