"""Rolling kernels against numpy, window by window, and their exactness on equal values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import skew

from hftlib.features import rolling


def rank_of_last(window):
    before, last = window[:-1], window[-1]
    return ((before < last).sum() + (before == last).sum() / 2) / len(before)


def autocorrelation(window):
    centred = window - window.mean()
    return (centred[1:] * centred[:-1]).sum() / (centred**2).sum()


REFERENCES = {
    "rolling_sum": np.sum,
    "rolling_mean": np.mean,
    "rolling_deviation": lambda w: w.std(ddof=1),
    "rolling_mean_deviation": lambda w: np.abs(w - w.mean()).mean(),
    "rolling_weighted_mean": lambda w: np.average(w, weights=np.arange(1, len(w) + 1)),
    "rolling_maximum": np.max,
    "rolling_minimum": np.min,
    "age_of_maximum": lambda w: len(w) - 1 - np.argmax(w),
    "rolling_rank": rank_of_last,
    "rolling_skewness": skew,
    "rolling_autocorrelation": autocorrelation,
    "time_correlation": lambda w: np.corrcoef(w, np.arange(len(w)))[0, 1],
}


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("window", [6, 20])
def test_kernel_computes_each_window_as_numpy_does(name, window):
    x = np.random.default_rng(0).normal(size=200).round(1)  # with ties
    windows = np.lib.stride_tricks.sliding_window_view(x, window)
    found = getattr(rolling, name)(x, window)
    assert np.isnan(found[: window - 1]).all()
    expected = [REFERENCES[name](part) for part in windows]
    np.testing.assert_allclose(found[window - 1 :], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in REFERENCES if name != "age_of_maximum"])
def test_nan_lasts_as_long_as_a_window_holds_it(name):
    x = np.random.default_rng(1).normal(size=60)
    x[30] = np.nan
    found = getattr(rolling, name)(x, 10)
    assert np.flatnonzero(np.isnan(found[9:])).tolist() == list(range(21, 31))


@pytest.mark.parametrize("name", REFERENCES)
def test_history_shorter_than_the_window_has_no_value(name):
    assert np.isnan(getattr(rolling, name)(np.arange(9.0), 10)).all()


@given(value=st.floats(1e-6, 1e9), window=st.integers(2, 30))
def test_equal_values_deviate_by_exactly_nothing(value, window):
    x = np.full(40, value)
    for name in ("rolling_deviation", "rolling_mean_deviation"):
        assert (getattr(rolling, name)(x, window)[window - 1 :] == 0).all()
    for name in ("rolling_mean", "rolling_weighted_mean", "rolling_maximum", "rolling_minimum"):
        assert (getattr(rolling, name)(x, window)[window - 1 :] == value).all()


@given(x=arrays(np.float64, 60, elements=st.floats(-1e6, 1e6)), start=st.integers(0, 30))
def test_value_depends_on_its_window_alone(x, start):
    for name in REFERENCES:
        kernel = getattr(rolling, name)
        np.testing.assert_array_equal(kernel(x, 10)[start + 9 :], kernel(x[start:], 10)[9:])


def test_wilders_mean_starts_with_a_mean_and_then_takes_one_part_of_each_value():
    x = np.array([np.nan, 2.0, 4.0, 6.0, 12.0, 0.0])
    expected = [np.nan, np.nan, np.nan, 4.0, (4 * 2 + 12) / 3, ((4 * 2 + 12) / 3 * 2) / 3]
    np.testing.assert_allclose(rolling.wilder_mean(x, 3), expected, rtol=1e-15)
