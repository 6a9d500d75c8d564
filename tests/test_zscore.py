import numpy as np
import pytest

from hftlib.features.zscore import COLUMNS, rolling_zscores
from tests.conftest import make_bars


def test_a_score_is_the_distance_from_the_mean_in_deviations():
    bars = make_bars(4)
    bars["close"] = [1.0, 2.0, 3.0, 7.0]
    # of (1, 2, 3): mean 2, deviation sqrt(2/3); of (2, 3, 7): mean 4, deviation sqrt(14/3)
    expected = [np.nan, np.nan, 1 / np.sqrt(2 / 3), 3 / np.sqrt(14 / 3)]
    np.testing.assert_allclose(rolling_zscores(bars, 3)["close_z"], expected, rtol=1e-14)


def test_scores_equal_those_of_pandas():
    bars = make_bars(200, ("AAA", "BBB"))
    ours = rolling_zscores(bars, 20)
    for name in COLUMNS:
        rolling = bars.groupby("symbol")[name].rolling(20)
        theirs = (bars[name] - rolling.mean().to_numpy()) / rolling.std(ddof=0).to_numpy()
        np.testing.assert_allclose(ours[f"{name}_z"], theirs, rtol=1e-7)  # they use running sums


@pytest.mark.parametrize("n", [30, 71, 199])
def test_the_first_bars_alone_give_the_same_scores(n):
    bars = make_bars(200)
    whole, part = rolling_zscores(bars, 20), rolling_zscores(bars.iloc[:n], 20)
    np.testing.assert_array_equal(whole.iloc[:n], part)


def test_a_column_that_does_not_move_scores_zero_and_a_nan_stays_in_its_windows():
    bars = make_bars(30)
    bars["volume"] = 7.1
    bars.loc[12, "close"] = np.nan
    scores = rolling_zscores(bars, 5)
    assert (scores["volume_z"].iloc[4:] == 0.0).all()
    assert np.flatnonzero(scores["close_z"].isna()).tolist() == [0, 1, 2, 3, 12, 13, 14, 15, 16]


def test_a_window_of_one_bar_is_refused():
    with pytest.raises(ValueError, match="window_bars is 1"):
        rolling_zscores(make_bars(5), 1)
