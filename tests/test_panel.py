"""Panels refuse arrays that do not fit; controls have the answer they promise."""

from dataclasses import fields, replace

import numpy as np
import pytest

from hftlib.data.controls import plant_oracle, shuffle_returns
from hftlib.data.panel import BarPanel, PanelError
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


def returns(panel: BarPanel, segment: np.ndarray) -> np.ndarray:
    """Log returns (night, day) after the first bar, shape (2, n_bars - 1)."""
    start, stop = segment
    open_, close = panel.open[start:stop], panel.close[start:stop]
    return np.log([open_[1:] / close[:-1], close[1:] / open_[1:]])


def test_shuffling_permutes_whole_bars_and_shifts_them_by_a_constant(panel):
    shuffled = shuffle_returns(panel, np.random.default_rng(0))
    for segment in panel.segments:
        before, after = returns(panel, segment), returns(shuffled, segment)
        before -= before.mean(axis=1, keepdims=True)
        after -= after.mean(axis=1, keepdims=True)
        assert not np.allclose(before, after)
        # Night and day of one bar stay together; sums of 400 logs round at 1e-13.
        order, other = before[0].argsort(), after[0].argsort()
        np.testing.assert_allclose(after[:, other], before[:, order], atol=1e-11)


def test_shuffling_keeps_the_first_bar_the_features_and_the_panel_it_was_given(panel):
    before = panel.close.copy()
    shuffled = shuffle_returns(panel, np.random.default_rng(0))
    starts = panel.segments[:, 0]
    np.testing.assert_array_equal(shuffled.close[starts], panel.close[starts])
    np.testing.assert_array_equal(shuffled.open[starts], panel.open[starts])
    np.testing.assert_array_equal(shuffled.features, panel.features)
    np.testing.assert_array_equal(panel.close, before)


def test_shuffling_leaves_no_drift_by_night_or_by_day():
    panel = make_panel(2000)
    drift = np.exp(0.002 * np.arange(len(panel.ts)))  # 0.2 % a bar
    panel = replace(panel, open=panel.open * drift, close=panel.close * drift)
    shuffled = shuffle_returns(panel, np.random.default_rng(0))
    for segment in panel.segments:
        log_returns = returns(shuffled, segment)
        # Half the variance removes the drift to second order; the third moment remains.
        tolerance = (np.abs(log_returns) ** 3).mean(axis=1)
        assert (np.abs(np.expm1(log_returns).mean(axis=1)) < tolerance).all()
        assert tolerance.max() < 0.002 / 500


def test_shuffling_is_decided_by_its_generator(panel):
    first, same, other = (shuffle_returns(panel, np.random.default_rng(s)) for s in (1, 1, 2))
    assert_equal(first, same)
    assert not np.array_equal(first.close, other.close)
