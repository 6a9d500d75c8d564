from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest

from hftlib.portfolio.risk_measures import (
    BenchmarkError,
    beta,
    herfindahl,
    normal_contributions,
    summarise_correlations,
    tracking_error,
)
from hftlib.portfolio.var_models import normal_tail

DAYS = pd.date_range("2015-01-01", periods=500, tz="UTC")
RNG = np.random.default_rng(0)
MARKET = pd.Series(RNG.normal(0.0005, 0.01, 500), index=DAYS)
NOISE = pd.Series(RNG.normal(0, 0.005, 500), index=DAYS)
ASSETS = pd.DataFrame(
    {"A": MARKET, "B": 0.5 * MARKET + NOISE, "C": -MARKET + 2 * NOISE.shift(1, fill_value=0)}
)
WEIGHTS = pd.Series({"A": 0.5, "B": 0.3, "C": -0.2})


def test_beta_of_a_levered_benchmark_is_its_leverage():
    assert beta(1.7 * MARKET + 0.001, MARKET) == pytest.approx(1.7)
    assert beta(-MARKET, MARKET) == pytest.approx(-1.0)
    slope = np.polyfit(MARKET, ASSETS["B"], 1)[0]
    assert beta(ASSETS["B"], MARKET) == pytest.approx(slope)


def test_beta_against_a_constant_is_undefined():
    assert np.isnan(beta(MARKET, MARKET * 0))


def test_tracking_error_is_the_volatility_of_the_difference():
    other = MARKET + NOISE
    assert tracking_error(other, MARKET, 252) == pytest.approx(NOISE.std() * 252**0.5)
    assert tracking_error(MARKET + 0.001, MARKET, 252) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    "benchmark", [MARKET.iloc[1:], MARKET.shift(1, freq="D"), MARKET.iloc[::-1], MARKET.iloc[:0]]
)
def test_a_benchmark_of_other_dates_is_refused(benchmark):
    for call in (
        lambda: beta(MARKET, benchmark),
        lambda: tracking_error(MARKET, benchmark, 252),
    ):
        with pytest.raises(BenchmarkError, match="select the ones that both have"):
            call()


def test_peers_find_the_same():
    i = np.arange(250)
    market = pd.Series(0.01 * np.sin(i * i * 0.7) + 0.0004)
    mine = 0.6 * market + 0.006 * np.cos(i**1.5 * 1.3)
    # empyrical-reloaded and quantstats: beta, value_at_risk (normal)
    assert beta(mine, market) == pytest.approx(0.6484176948811566, rel=1e-12)
    loss, _ = normal_tail(mine.to_numpy()[:, None], 0.95)
    assert loss[0] == pytest.approx(0.010169700975189126, rel=1e-12)


def test_correlations_of_known_columns():
    found = summarise_correlations(pd.DataFrame({"A": MARKET, "B": 3 * MARKET, "C": -MARKET}))
    assert found.mean == pytest.approx(-1 / 3)
    assert (found.highest, found.highest_pair) == (pytest.approx(1.0), ("A", "B"))
    assert (found.lowest, found.first_share) == (pytest.approx(-1.0), pytest.approx(1.0))
    assert "C" in found.lowest_pair


def test_correlations_need_columns_that_vary():
    with pytest.raises(ValueError, match=r"nan: \['B'\]"):
        summarise_correlations(pd.DataFrame({"A": MARKET, "B": 0.0, "C": MARKET}))
    with pytest.raises(ValueError, match="1 columns"):
        summarise_correlations(ASSETS[["A"]])


def test_concentration_runs_from_one_over_n_to_one():
    assert herfindahl([0.1] * 4) == pytest.approx(0.25)
    assert herfindahl([0.0, -0.3]) == 1.0
    assert herfindahl([0.5, -0.5]) == 0.5
    assert np.isnan(herfindahl([0.0, 0.0]))


def normal_var(weights, level):
    mean, deviation = (ASSETS @ weights).mean(), (ASSETS @ weights).std()
    return -mean + deviation * z_of(level)


def z_of(level):
    return NormalDist().inv_cdf(level)


@pytest.mark.parametrize("level", [0.9, 0.99])
def test_normal_components_sum_to_the_value_at_risk_and_marginals_are_its_slope(level):
    table = normal_contributions(WEIGHTS, ASSETS.mean(), ASSETS.cov(), level)
    assert table["component"].sum() == pytest.approx(normal_var(WEIGHTS, level))
    assert table["share"].sum() == pytest.approx(1.0)
    for asset in WEIGHTS.index:
        step = pd.Series(1e-6, index=[asset]).reindex(WEIGHTS.index, fill_value=0.0)
        slope = (normal_var(WEIGHTS + step, level) - normal_var(WEIGHTS - step, level)) / 2e-6
        assert table.loc[asset, "marginal"] == pytest.approx(slope, rel=1e-6)


def test_a_portfolio_without_positions_contributes_nothing():
    nothing = WEIGHTS * 0
    assert normal_contributions(nothing, ASSETS.mean(), ASSETS.cov(), 0.95)["share"].isna().all()


def test_contributions_of_other_assets_are_refused():
    with pytest.raises(BenchmarkError, match="assets of covariance"):
        normal_contributions(WEIGHTS, ASSETS.mean(), ASSETS[["A", "B"]].cov(), 0.95)
    with pytest.raises(BenchmarkError, match="assets of mean"):
        normal_contributions(WEIGHTS, ASSETS.mean()[::-1], ASSETS.cov(), 0.95)


def test_levels_that_are_no_shares_are_refused():
    with pytest.raises(ValueError, match=r"such as \.95"):
        normal_contributions(WEIGHTS, ASSETS.mean(), ASSETS.cov(), 95)
