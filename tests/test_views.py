"""Black-Litterman: limits of certainty, the closed posterior, faulty views."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftlib.portfolio.asset_frames import AllocationError
from hftlib.portfolio.constraints import Constraints, UnknownAssetError, WeightError
from hftlib.portfolio.optimisation import NoExcessReturnError
from hftlib.portfolio.views import ViewError, black_litterman, black_litterman_posterior, take_views
from tests.asset_cases import factor_returns, with_moments

RETURNS = factor_returns(250, 5).set_axis(list("abcde"), axis=1)
COVARIANCE = np.cov(RETURNS.T)
MARKET = pd.Series([0.4, 0.1, 0.2, 0.2, 0.1], index=RETURNS.columns)
TAU, AVERSION = 0.05, 2.5
PRIOR = AVERSION * COVARIANCE @ MARKET.to_numpy()


def views(**by_asset):
    return pd.DataFrame(by_asset, index=["mean", "sd"], dtype="float64").T


def posterior(held, returns=RETURNS):
    return black_litterman_posterior(
        returns, held, market_weights=MARKET, tau=TAU, covariance="sample"
    )


def test_equilibrium_returns_are_those_of_the_published_example():
    # He & Litterman (1999), The intuition behind Black-Litterman model portfolios, tables 1, 2:
    # yearly figures of Australia, Canada, France, Germany, Japan, the UK and the USA
    correlation = np.eye(7)
    correlation[np.tril_indices(7, -1)] = [
        0.488,
        0.478, 0.664,
        0.515, 0.655, 0.861,
        0.439, 0.310, 0.355, 0.354,
        0.512, 0.608, 0.783, 0.777, 0.405,
        0.491, 0.779, 0.668, 0.653, 0.306, 0.652,
    ]  # fmt: skip
    correlation = np.tril(correlation) + np.tril(correlation, -1).T
    sd = np.array([0.160, 0.203, 0.248, 0.271, 0.210, 0.200, 0.187]) / 252**0.5
    market = np.array([0.016, 0.022, 0.052, 0.055, 0.116, 0.124, 0.615])
    returns = with_moments(np.zeros(7), np.outer(sd, sd) * correlation, names="acfgjku")
    found = black_litterman_posterior(
        returns,
        views(),
        market_weights=pd.Series(market, index=returns.columns),
        risk_aversion=2.5,
        covariance="sample",
    )
    published = [0.039, 0.069, 0.084, 0.090, 0.043, 0.068, 0.076]
    np.testing.assert_allclose(found.mean * 252, published, atol=0.0006)  # printed to 0.1 %


def test_without_views_the_prior_makes_the_market_s_weights_optimal():
    found = black_litterman(RETURNS, views(), market_weights=MARKET, covariance="sample")
    np.testing.assert_allclose(found.weights, MARKET, atol=1e-5)
    np.testing.assert_allclose(posterior(views()).mean, PRIOR, rtol=1e-12)


def test_infinitely_uncertain_views_give_the_prior():
    held = views(a=(0.5, np.inf), d=(-0.5, np.inf))
    np.testing.assert_allclose(posterior(held).mean, PRIOR, rtol=1e-12)
    almost = posterior(views(a=(0.5, 1e6), d=(-0.5, 1e6)))
    np.testing.assert_allclose(almost.mean, PRIOR, rtol=1e-6)


def test_certain_views_are_the_posterior_means():
    found = posterior(views(a=(0.002, 0.0), d=(-0.001, 0.0)))
    np.testing.assert_allclose(found.mean[["a", "d"]], [0.002, -0.001], rtol=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-0.01, 0.01), min_size=5, max_size=5), st.floats(1e-5, 1.0))
def test_the_posterior_is_the_precision_weighted_mean(means, sd):
    held = views(
        **{name: (m, sd * (k + 1)) for k, (name, m) in enumerate(zip("abcde", means, strict=True))}
    )
    # Bayes' rule written with inverses, not as the library solves it
    prior_precision = np.linalg.inv(TAU * COVARIANCE)
    view_precision = np.diag(1 / held["sd"].to_numpy() ** 2)
    spread = np.linalg.inv(prior_precision + view_precision)
    mean = spread @ (prior_precision @ PRIOR + view_precision @ np.array(means))
    found = posterior(held)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(found.covariance, COVARIANCE + spread, rtol=1e-6, atol=1e-12)


def test_a_view_on_uncorrelated_assets_moves_its_own_asset_only():
    sd = np.array([0.01, 0.02, 0.03])
    returns = with_moments(np.zeros(3), np.diag(sd**2))
    held = views(b=(0.01, TAU**0.5 * sd[1]))  # as certain as the prior: half-way
    found = black_litterman_posterior(returns, held, tau=TAU, covariance="sample")
    prior = AVERSION * sd**2 / 3
    np.testing.assert_allclose(found.mean, [prior[0], (prior[1] + 0.01) / 2, prior[2]], rtol=1e-9)


def test_more_certainty_moves_the_weight_further():
    weights = [
        black_litterman(RETURNS, views(c=(0.002, sd)), market_weights=MARKET).weights["c"]
        for sd in (1.0, 0.01, 0.003, 0.001)
    ]
    assert np.all(np.diff(weights) > 0)


def test_the_order_of_assets_and_views_does_not_change_a_bit():
    held = views(b=(0.001, 0.002), e=(-0.001, 0.001))
    one = black_litterman(RETURNS, held).weights
    other = black_litterman(RETURNS[list("ecadb")], held.iloc[::-1]).weights
    assert one.to_numpy().tobytes() == other.reindex(one.index).to_numpy().tobytes()


def test_names_with_operators_are_names():
    returns = RETURNS.set_axis(["BTC/USD", "A - B", "x == 1", "2*c", "d"], axis=1)
    found = black_litterman_posterior(returns, views(**{"A - B": (0.01, 0.0)}))
    assert found.mean["A - B"] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("held", "error", "message"),
    [
        (views(a=(0.1, 0.1), zz=(0.1, 0.1)), UnknownAssetError, "views name zz,"),
        (views(a=(np.nan, 0.1)), ViewError, "view on a is nan"),
        (views(a=(np.inf, 0.1)), ViewError, "view on a is inf"),
        (views(a=(0.1, -0.1)), ViewError, "with sd -0.1"),
        (views(a=(0.1, np.nan)), ViewError, "with sd nan"),
        (pd.concat([views(a=(0.1, 0.1))] * 2), ViewError, "a has several views"),
        (views(a=(0.1, 0.1)).drop(columns="sd"), ViewError, "expected mean and sd"),
    ],
)
def test_faulty_views_are_refused_by_asset(held, error, message):
    with pytest.raises(error, match=message):
        black_litterman(RETURNS, held)


def test_certain_losses_of_all_leave_no_sharpe_ratio():
    held = views(**{name: (-0.01, 0.0) for name in "abcde"})
    with pytest.raises(NoExcessReturnError):
        black_litterman(RETURNS, held)


def test_prior_arguments_out_of_range_are_refused():
    for wrong in ({"tau": 0.0}, {"risk_aversion": -1.0}):
        with pytest.raises(AllocationError, match=next(iter(wrong))):
            black_litterman(RETURNS, views(), **wrong)
    with pytest.raises(UnknownAssetError, match="of 4 assets; expected the 5"):
        black_litterman(RETURNS, views(), market_weights=MARKET.iloc[:4])
    with pytest.raises(UnknownAssetError, match="among them z"):
        black_litterman(RETURNS, views(), market_weights=MARKET.rename({"a": "z"}))
    with pytest.raises(WeightError, match="sum to 2"):
        black_litterman(RETURNS, views(), Constraints(), market_weights=2 * MARKET)


def forecast_rows():
    clock = pd.date_range("2020-01-01", periods=3, tz="UTC")
    return pd.DataFrame(
        {
            "symbol": ["A"] * 3 + ["B"] * 3,
            "ts": [*clock, *clock],
            "next_return_mean": [0.01, 0.02, 0.03, -0.01, -0.02, -0.03],
            "next_return_sd": [0.1, 0.2, 0.3, 0.1, 0.2, 0.3],
        }
    )


def test_views_of_log_returns_have_the_mean_of_a_lognormal_price():
    views = take_views(forecast_rows(), pd.Timestamp("2020-01-02", tz="UTC"), 0.5)
    assert views.to_dict("index") == {
        "A": {"mean": pytest.approx(np.exp(0.02 + 0.02) - 1), "sd": 0.1},
        "B": {"mean": pytest.approx(np.exp(-0.02 + 0.02) - 1, abs=1e-15), "sd": 0.1},
    }


def test_a_bar_without_a_forecast_has_no_views():
    assert len(take_views(forecast_rows(), pd.Timestamp("2020-01-05", tz="UTC"))) == 0


@pytest.mark.parametrize("scale", [0.0, -1.0, np.inf, np.nan])
def test_a_scale_of_the_views_is_a_finite_factor(scale):
    with pytest.raises(ViewError, match="sd_scale is"):
        take_views(forecast_rows(), pd.Timestamp("2020-01-02", tz="UTC"), scale)
