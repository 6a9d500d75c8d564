"""Covariances known at each close: closed forms, pandas, causality."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftlib.portfolio.risk_covariance import decayed_covariances
from hftlib.portfolio.risk_state import RiskError


def make_closes(seed=0, n_bars=60, n_assets=3):
    rng = np.random.default_rng(seed)
    common = rng.normal(0, 0.01, (n_bars, 1))
    return 50 * np.exp((common + rng.normal(0, 0.01, (n_bars, n_assets))).cumsum(axis=0))


def test_two_returns_are_weighed_by_the_decay():
    close = np.array([[100.0, 50.0], [110.0, 50.0], [99.0, 55.0]])  # +10 %, 0; -10 %, +10 %
    found = decayed_covariances(close, 0.5, min_returns=1)
    assert np.isnan(found[0]).all()
    np.testing.assert_allclose(found[1], [[0.01, 0.0], [0.0, 0.0]], atol=1e-17)
    weights = np.array([1 / 3, 2 / 3])
    np.testing.assert_allclose(
        found[2], [[0.01, -0.01 * weights[1]], [-0.01 * weights[1], 0.01 * weights[1]]], rtol=1e-12
    )


def test_returns_of_one_size_have_that_deviation_whatever_the_decay():
    moves = np.where(np.arange(30) % 2 == 0, 1.02, 0.98)
    close = 100 * np.concatenate([[1.0], moves.cumprod()])[:, None]
    for decay in (0.01, 0.5, 0.94, 0.999):
        found = decayed_covariances(close, decay)[10:, 0, 0]
        np.testing.assert_allclose(found, 0.02**2, rtol=1e-10)


def test_the_matrices_are_those_of_pandas():
    close = make_closes()
    returns = close[1:] / close[:-1] - 1
    found = decayed_covariances(close, 0.9)
    for a in range(3):
        for b in range(3):
            products = pd.Series(returns[:, a] * returns[:, b])
            peer = products.ewm(alpha=0.1, adjust=True, min_periods=10).mean()
            np.testing.assert_allclose(found[1:, a, b], peer, rtol=1e-11)


@given(st.integers(0, 10**6), st.integers(1, 5), st.floats(0.5, 0.999))
def test_every_known_matrix_is_a_covariance(seed, n_assets, decay):
    found = decayed_covariances(make_closes(seed, 40, n_assets), decay)
    assert np.isnan(found[:10]).all()
    known = found[10:]
    np.testing.assert_array_equal(known, known.transpose(0, 2, 1))
    assert np.linalg.eigvalsh(known).min() >= -1e-12 * known.max()


def test_a_row_knows_the_closes_up_to_its_own_only():
    close = make_closes()
    other = close.copy()
    other[30:] = make_closes(seed=1)[30:]
    one, two = decayed_covariances(close), decayed_covariances(other)
    np.testing.assert_array_equal(one[:30], two[:30])
    assert (one[30:] != two[30:]).all()


def test_too_few_bars_are_never_known():
    assert np.isnan(decayed_covariances(make_closes(n_bars=10))).all()
    assert decayed_covariances(make_closes(n_bars=1)).shape == (1, 3, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decay": 1.0}, r"decay is 1\.0; expected above 0 and below 1"),
        ({"decay": 0.0}, r"decay is 0\.0"),
        ({"decay": np.nan}, "decay is nan"),
        ({"min_returns": 0}, "min_returns is 0; expected at least 1"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(RiskError, match=message):
        decayed_covariances(make_closes(), **settings)
