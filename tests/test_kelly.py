"""Kelly stakes: closed forms, growth found by search, fractions and caps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from hftlib.portfolio.asset_frames import AllocationError
from hftlib.portfolio.constraints import Constraints
from hftlib.portfolio.kelly import NO_BORROWING, kelly, kelly_of_bet, kelly_of_normal
from tests.asset_cases import factor_returns, with_moments

WIDE = Constraints(lower=-1000.0, upper=1000.0, budget=None)
COVARIANCE = np.array([[4e-4, 1e-4], [1e-4, 1e-4]])


def growth(stake, p, odds):
    return p * np.log1p(stake * odds) + (1 - p) * np.log1p(-stake)


@pytest.mark.parametrize(
    ("p", "odds", "stake"),
    [(0.6, 1.0, 0.2), (0.5, 1.0, 0.0), (0.4, 1.0, 0.0), (0.5, 2.0, 0.25), (1.0, 0.1, 1.0)],
)
def test_kelly_of_an_even_and_an_uneven_bet(p, odds, stake):
    assert kelly_of_bet(p, odds) == pytest.approx(stake)


@given(st.floats(0.05, 0.95), st.floats(0.1, 10.0))
def test_no_stake_grows_faster_than_kelly_of_the_bet(p, odds):
    best = minimize_scalar(
        lambda stake: -growth(stake, p, odds), bounds=(0.0, 1 - 1e-9), method="bounded"
    )
    assert growth(kelly_of_bet(p, odds), p, odds) >= -best.fun - 1e-9


def test_twice_kelly_of_an_even_bet_has_hardly_any_growth_and_half_has_three_quarters():
    p = 0.51
    full = kelly_of_bet(p, 1.0)
    assert growth(2 * full, p, 1.0) == pytest.approx(0, abs=0.01 * growth(full, p, 1.0))
    half = growth(kelly_of_bet(p, 1.0, fraction=0.5), p, 1.0)
    assert half / growth(full, p, 1.0) == pytest.approx(0.75, abs=0.001)


def test_kelly_of_normal_returns_is_mean_over_variance():
    assert kelly_of_normal(0.001, 0.02) == pytest.approx(2.5)
    assert kelly_of_normal(-0.001, 0.02, fraction=0.5) == pytest.approx(-1.25)
    assert kelly_of_normal(-0.001, 0.02, cap=0.8) == -0.8


def test_kelly_of_one_asset_agrees_with_the_closed_form():
    returns = with_moments([0.001], [[4e-4]])
    found = kelly(returns, WIDE, covariance="sample").weights
    np.testing.assert_allclose(found, [kelly_of_normal(0.001, 0.02)], rtol=1e-6)


@pytest.mark.parametrize("fraction", [1.0, 0.5, 0.25])
def test_kelly_of_many_is_a_fraction_of_the_inverse_covariance_times_means(fraction):
    means = np.array([0.001, -0.0002])
    returns = with_moments(means, COVARIANCE)
    found = kelly(returns, WIDE, fraction=fraction, covariance="sample").weights
    np.testing.assert_allclose(found, fraction * np.linalg.solve(COVARIANCE, means), rtol=1e-5)


def test_caps_bind_and_cash_takes_the_rest():
    returns = with_moments([0.001, 0.0001], COVARIANCE)
    free = kelly(returns, WIDE, covariance="sample").weights
    assert free.abs().sum() > 3
    within = kelly(returns, NO_BORROWING, covariance="sample").weights
    assert within.min() >= 0
    assert within.sum() == pytest.approx(1.0, abs=1e-6)
    small = with_moments([0.0001, 0.00005], COVARIANCE)
    assert 0.05 < kelly(small, covariance="sample").weights.sum() < 0.95


def test_without_an_edge_nothing_is_bought():
    found = kelly(with_moments([-0.001, -0.0001], COVARIANCE)).weights
    np.testing.assert_allclose(found, 0.0, atol=1e-6)


def test_turnover_limits_kelly_too():
    returns = with_moments([0.001, 0.0001], COVARIANCE)
    previous = kelly(returns).weights * 0
    limited = Constraints(budget=None, turnover=0.3)
    assert kelly(returns, limited, previous).weights.abs().sum() == pytest.approx(0.3, abs=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kelly_of_bet(1.1, 1.0), "win_probability is 1.1"),
        (lambda: kelly_of_bet(0.5, 0.0), "odds are 0"),
        (lambda: kelly_of_bet(0.5, 1.0, fraction=1.5), "fraction is 1.5"),
        (lambda: kelly_of_bet(0.5, 1.0, cap=2.0), "cap is 2"),
        (lambda: kelly_of_normal(0.1, 0.0), "sd 0"),
        (lambda: kelly_of_normal(np.nan, 0.1), "mean nan"),
        (lambda: kelly_of_normal(0.1, 0.1, cap=-1.0), "cap is -1"),
        (lambda: kelly(factor_returns(50, 2), fraction=0.0), "fraction is 0"),
    ],
)
def test_stakes_out_of_range_are_refused(call, message):
    with pytest.raises(AllocationError, match=message):
        call()
