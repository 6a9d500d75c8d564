"""Forecasts as columns of a panel: they fall on their bars, unscaled and scaled, and never leak."""

import numpy as np
import pandas as pd
import pytest

from hftlib.data.manifest import ManifestError, write_manifest
from hftlib.data.panel import PanelError
from hftlib.features import advice
from hftlib.schema import FORECASTS
from tests.conftest import make_bars, make_panel


def make_forecasts(panel, first: int = 100, seed: int = 0) -> pd.DataFrame:
    """Random forecasts for the rows of each symbol from `first` on, in a shuffled order."""
    rng = np.random.default_rng(seed)
    parts = []
    for symbol, (start, stop) in zip(panel.symbols, panel.segments, strict=True):
        ts = pd.to_datetime(panel.ts[start + first : stop], utc=True)
        values = {name: rng.normal(size=len(ts)) for name in FORECASTS.names[3:]}
        values |= {name: np.abs(values[name]) for name in ("log_variance_sd", "next_return_sd")}
        parts.append(pd.DataFrame({"symbol": symbol, "ts": ts, "fold": 0} | values))
    return pd.concat(parts).sample(frac=1, random_state=seed)


def test_forecast_and_uncertainty_are_those_of_the_bar_in_their_own_units(panel):
    forecasts = make_forecasts(panel)
    advised = advice.add_forecasts(panel, forecasts, advice.fit_forecasts(panel, forecasts))
    start, stop = panel.segments[1]
    own = forecasts[forecasts["symbol"] == panel.symbols[1]].set_index("ts").sort_index()
    assert list(own.index) == list(pd.to_datetime(panel.ts[start + 100 : stop], utc=True))
    np.testing.assert_array_equal(advised.forecast[start + 100 : stop], own["next_return_mean"])
    np.testing.assert_array_equal(advised.uncertainty[start + 100 : stop], own["next_return_sd"])
    assert np.isnan(advised.forecast[start : start + 100]).all()


def test_features_stay_and_the_new_ones_have_median_0_and_are_0_where_unknown(panel):
    forecasts = make_forecasts(panel)
    advised = advice.add_forecasts(panel, forecasts, advice.fit_forecasts(panel, forecasts))
    n = panel.n_features
    np.testing.assert_array_equal(advised.features[:, :n], panel.features)
    assert advised.feature_names == (*panel.feature_names, *advice.NAMES, advice.KNOWN)
    known = advised.features[:, -1] == 1
    assert known.sum() == len(forecasts)
    np.testing.assert_allclose(np.median(advised.features[known, n:-1], axis=0), 0, atol=1e-6)
    assert (advised.features[~known, n:] == 0).all()


def test_a_row_does_not_change_with_forecasts_of_later_bars(panel):
    forecasts = make_forecasts(panel)
    scaler = advice.fit_forecasts(panel, forecasts)
    cut = panel.ts[250]
    later = forecasts["ts"] > pd.Timestamp(cut, tz="UTC")
    scrambled = forecasts.copy()
    scrambled.loc[later, scrambled.columns[3:]] += 1.0
    first, second = (advice.add_forecasts(panel, f, scaler) for f in (forecasts, scrambled))
    past = panel.ts <= cut
    assert first.features[past].tobytes() == second.features[past].tobytes()
    assert first.forecast[past].tobytes() == second.forecast[past].tobytes()
    assert first.features[~past].tobytes() != second.features[~past].tobytes()


def test_the_scaler_of_a_later_split_is_that_of_the_training_rows(tmp_path):
    train, test = make_panel(n_bars=200), make_panel(n_bars=120, seed=1)
    train.save(tmp_path / "train.npz")
    test.save(tmp_path / "test.npz")
    write_manifest(tmp_path, splits={}, bars=make_bars(1), inputs={}, settings={})
    forecasts = make_forecasts(train, first=50)
    scaler = advice.fit_forecasts(train, forecasts)
    for split, panel in (("train", train), ("test", test)):
        loaded = advice.load_advised(tmp_path, split, forecasts)
        assert loaded.features.tobytes() == (
            advice.add_forecasts(panel, forecasts, scaler).features.tobytes()
        )


def test_a_dataset_that_is_not_the_one_written_is_refused(tmp_path):
    train = make_panel(n_bars=200)
    train.save(tmp_path / "train.npz")
    write_manifest(tmp_path, splits={}, bars=make_bars(1), inputs={}, settings={})
    make_panel(n_bars=200, seed=1).save(tmp_path / "train.npz")
    with pytest.raises(ManifestError, match=r"train\.npz differs .*; make the dataset again"):
        advice.load_advised(tmp_path, "train", make_forecasts(train))


def test_training_rows_without_any_forecast_are_refused_with_the_remedy(panel):
    with pytest.raises(PanelError, match=r"none of 800 training rows has .*first_test_day"):
        advice.fit_forecasts(panel, make_forecasts(panel).iloc[:0])
