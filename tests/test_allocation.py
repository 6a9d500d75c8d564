"""Weights from a window of returns: closed forms, symmetry, limits, faults."""

import time
from functools import partial

import numpy as np
import pandas as pd
import pytest

from hftlib.portfolio import allocation, measures
from hftlib.portfolio.asset_frames import AllocationError, ConstantAssetError, MissingDataError
from hftlib.portfolio.constraints import Constraints
from hftlib.portfolio.kelly import kelly
from hftlib.portfolio.limits import InfeasibleConstraintsError, SolverFailedError
from hftlib.portfolio.moments import SingularCovarianceError
from hftlib.portfolio.optimisation import NoExcessReturnError
from hftlib.portfolio.views import black_litterman
from tests.asset_cases import days, factor_returns, stock_prices, with_moments

SD = np.array([0.01, 0.02, 0.005, 0.03])
MEANS = np.array([0.0005, 0.001, 0.0001, 0.0002])
UNCORRELATED = with_moments(MEANS, np.diag(SD**2))
SOLVED = 1e-6  # of a weight: the solver's gap is 1e-10 of an objective near 1, quadratic in it
NO_VIEWS = pd.DataFrame({"mean": [], "sd": []})
METHODS = {
    "equal_weight": allocation.equal_weight,
    "minimum_variance": allocation.minimum_variance,
    "maximum_sharpe": allocation.maximum_sharpe,
    "mean_cvar": allocation.mean_cvar,
    "risk_parity": allocation.risk_parity,
    "hierarchical_risk_parity": allocation.hierarchical_risk_parity,
    "black_litterman": lambda r, *rest: black_litterman(r, NO_VIEWS, *rest),
    "kelly": kelly,
}
SHARED = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def shares(values):
    return values / np.sum(values)


def test_minimum_variance_of_uncorrelated_assets_is_inverse_variance():
    found = allocation.minimum_variance(UNCORRELATED, covariance="sample").weights
    np.testing.assert_allclose(found, shares(1 / SD**2), atol=SOLVED)


def test_risk_parity_of_uncorrelated_assets_is_inverse_volatility():
    found = allocation.risk_parity(UNCORRELATED, covariance="sample").weights
    np.testing.assert_allclose(found, shares(1 / SD), atol=SOLVED)


def test_hierarchical_risk_parity_of_uncorrelated_assets_is_inverse_variance():
    # a cluster's variance is 1 / sum(1 / v): each bisection splits by the sums of 1 / v
    found = allocation.hierarchical_risk_parity(UNCORRELATED, covariance="sample").weights
    np.testing.assert_allclose(found, shares(1 / SD**2), atol=1e-12)


@pytest.mark.parametrize("correlation", [-0.5, 0.0, 0.3, 0.6])
def test_maximum_sharpe_of_two_assets_in_closed_form(correlation):
    means, sd = np.array([0.001, 0.0008]), np.array([0.02, 0.01])
    covariance = np.outer(sd, sd) * [[1, correlation], [correlation, 1]]
    found = allocation.maximum_sharpe(with_moments(means, covariance), covariance="sample").weights
    # Σ⁻¹ μ written out for two assets
    first = means[0] * sd[1] ** 2 - means[1] * correlation * sd[0] * sd[1]
    second = means[1] * sd[0] ** 2 - means[0] * correlation * sd[0] * sd[1]
    np.testing.assert_allclose(found, shares(np.array([first, second])), atol=SOLVED)


@pytest.mark.parametrize("budget", [1.0, 0.5])
def test_the_riskless_rate_is_taken_off_the_mean_of_the_whole_portfolio(budget):
    rate = 4e-5
    limits = Constraints(budget=budget)
    found = allocation.maximum_sharpe(
        UNCORRELATED, limits, risk_free=rate, covariance="sample"
    ).weights
    expected = budget * shares((MEANS - rate / budget) / SD**2).clip(0)
    np.testing.assert_allclose(found, budget * shares(expected), atol=SOLVED)


def test_least_cvar_agrees_with_a_search_over_all_weights_of_two_assets():
    draws = np.random.default_rng(3).standard_t(4, (200, 2)) * [0.02, 0.01]
    returns = pd.DataFrame(draws, index=days(200), columns=["a", "b"])
    found = allocation.mean_cvar(returns, level=0.9, aversion=1e6).weights
    grid = np.linspace(0, 1, 10_001)
    shortfall = measures.expected_shortfall(draws @ np.stack([grid, 1 - grid]), 0.9)
    mine = measures.expected_shortfall(draws @ found.to_numpy(), 0.9)
    assert mine <= shortfall.min() + 1e-9


def test_cvar_without_aversion_buys_the_largest_mean():
    found = allocation.mean_cvar(UNCORRELATED, aversion=0.0).weights
    np.testing.assert_allclose(found, [0, 1, 0, 0], atol=SOLVED)


def test_risk_parity_gives_every_asset_the_same_share_of_the_variance():
    returns = factor_returns(400, 8)
    weights = allocation.risk_parity(returns, covariance="sample").weights.to_numpy()
    risk = weights * (np.cov(returns.T) @ weights)
    np.testing.assert_allclose(shares(risk), 1 / 8, atol=1e-5)


def test_shrinkage_is_that_of_scikit_learn():
    from sklearn.covariance import LedoitWolf

    returns = factor_returns(100, 12)
    free = Constraints(lower=-10, upper=10)
    found = allocation.minimum_variance(returns, free).weights
    inverse = np.linalg.inv(LedoitWolf().fit(returns.to_numpy()).covariance_)
    np.testing.assert_allclose(found, shares(inverse.sum(axis=1)), atol=1e-5)


@SHARED
def test_the_order_of_the_columns_does_not_change_a_bit(method):
    returns = stock_prices().pct_change().iloc[-250:]
    shuffled = returns[np.random.default_rng(0).permutation(returns.columns)]
    one, other = method(returns).weights, method(shuffled).weights
    assert list(other.index) == list(shuffled.columns)
    assert one.to_numpy().tobytes() == other.reindex(one.index).to_numpy().tobytes()


def test_renaming_assets_leaves_their_weights():
    # the names set the internal order: reversed names reverse what the solver sees
    returns = factor_returns(120, 7)
    renamed = returns.set_axis(list("gfedcba"), axis=1)
    for name, method in METHODS.items():
        one, other = method(returns).weights, method(renamed).weights
        np.testing.assert_allclose(one, other, atol=1e-5, err_msg=name)


@SHARED
def test_the_same_input_gives_the_same_bytes(method):
    returns = factor_returns(100, 20)
    assert (
        method(returns).weights.to_numpy().tobytes()
        == method(returns.copy()).weights.to_numpy().tobytes()
    )


@pytest.mark.parametrize("unit", [1e-2, 1e2])
def test_the_unit_of_returns_does_not_matter(unit):
    # minute bars and monthly bars: variances 1e-4 and 1e4 times as large
    returns = factor_returns(200, 6) * unit * 0.1
    for name in ("minimum_variance", "maximum_sharpe", "mean_cvar", "risk_parity"):
        found = METHODS[name](returns).weights
        np.testing.assert_allclose(
            found, METHODS[name](returns / unit).weights, atol=1e-4, err_msg=name
        )


@SHARED
def test_sixty_assets_over_a_hundred_rows(method):
    returns = factor_returns(100, 60)
    start = time.perf_counter()
    found = method(returns)
    assert time.perf_counter() - start < 5.0  # 0.1 s when idle
    assert found.weights.index.equals(returns.columns)
    assert found.weights.min() >= 0
    assert found.weights.sum() == pytest.approx(1.0, abs=1e-6)


LIMITS = Constraints(
    lower=0.0,
    upper=0.2,
    sectors={name: "odd" if k % 2 else "even" for k, name in enumerate("abcdefgh")},
    sector_caps={"odd": 0.45},
    leverage=0.9,
    budget=0.9,
    turnover=0.6,
)


@SHARED
def test_every_method_obeys_all_limits_at_once(method):
    returns = factor_returns(150, 8).set_axis(list("abcdefgh"), axis=1)
    previous = pd.Series(0.9 * shares(np.arange(8.0)), index=returns.columns).clip(upper=0.2)
    weights = method(returns, LIMITS, previous).weights
    assert weights.between(-1e-9, 0.2 + 1e-6).all()
    assert weights.sum() == pytest.approx(0.9, abs=1e-6)
    assert weights[list("bdfh")].sum() <= 0.45 + 1e-6
    assert (weights - previous).abs().sum() <= 0.6 + 1e-6


@pytest.mark.parametrize("name", ["minimum_variance", "maximum_sharpe", "mean_cvar"])
def test_leverage_caps_the_sum_of_sizes_where_shorts_are_allowed(name):
    returns = factor_returns(300, 6)
    free = METHODS[name](returns, Constraints(lower=-1, upper=1)).weights
    assert free.abs().sum() > 1.21  # so that the cap binds
    capped = METHODS[name](returns, Constraints(lower=-1, upper=1, leverage=1.2)).weights
    assert capped.abs().sum() == pytest.approx(1.2, abs=1e-5)
    assert capped.sum() == pytest.approx(1.0, abs=1e-6)


def test_a_turnover_of_zero_keeps_the_previous_weights():
    previous = pd.Series([0.1, 0.2, 0.3, 0.4], index=list("abcd"))
    for name, method in METHODS.items():
        found = method(UNCORRELATED, Constraints(turnover=0.0), previous).weights
        np.testing.assert_allclose(found, previous, atol=SOLVED, err_msg=name)


def test_weights_that_a_rule_cannot_keep_are_moved_with_a_note():
    found = allocation.equal_weight(
        UNCORRELATED, Constraints(upper={**dict.fromkeys("abc", 1.0), "d": 0.1})
    )
    np.testing.assert_allclose(found.weights, [0.3, 0.3, 0.3, 0.1], atol=SOLVED)
    assert "weight of d, 0.25, is above its upper bound" in found.notes[0]
    assert allocation.equal_weight(UNCORRELATED).notes == ()


@SHARED
def test_contradicting_limits_are_named(method):
    crowded = Constraints(sectors=dict.fromkeys("abcd", "tech"), sector_caps=0.5, leverage=3.0)
    with pytest.raises(InfeasibleConstraintsError, match="relax one") as caught:
        method(UNCORRELATED, crowded)
    assert caught.value.conflict == ("sum of the weights, 1", "cap of sector tech, 0.5")


def test_a_singular_covariance_is_refused_and_shrinkage_helps():
    few = factor_returns(40, 60)
    for method in (allocation.minimum_variance, allocation.risk_parity, allocation.maximum_sharpe):
        with pytest.raises(SingularCovarianceError, match="rank 39; expected 60"):
            method(few, covariance="sample")
    assert allocation.minimum_variance(few).weights.sum() == pytest.approx(1.0)


def test_an_asset_twice_is_named_as_the_reason_of_a_singular_covariance():
    twice = UNCORRELATED.assign(z=UNCORRELATED["b"])
    with pytest.raises(SingularCovarianceError, match=r"b and z, correlation 1\.0"):
        allocation.minimum_variance(twice, covariance="sample")


def test_hierarchical_risk_parity_needs_no_inverse():
    found = allocation.hierarchical_risk_parity(factor_returns(40, 60), covariance="sample")
    assert found.weights.sum() == pytest.approx(1.0)


def test_a_single_asset_gets_all():
    one = UNCORRELATED[["b"]]
    for name in set(METHODS) - {"kelly"}:
        np.testing.assert_allclose(METHODS[name](one).weights, [1.0], atol=SOLVED, err_msg=name)


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"equal_weight"}))
def test_an_asset_without_variance_is_named(name):
    with pytest.raises(ConstantAssetError, match=r"^peg: .*variance 0"):
        METHODS[name](UNCORRELATED.assign(peg=0.0001))


def test_equal_weights_do_not_need_a_variance():
    assert allocation.equal_weight(UNCORRELATED.assign(peg=0.0)).weights["peg"] == 0.2


@SHARED
def test_a_gap_in_one_asset_is_named_with_its_dates(method):
    gap = UNCORRELATED.copy()
    gap.loc["2020-01-05":"2020-01-06", "c"] = np.nan
    with pytest.raises(MissingDataError, match=r"returns of c are missing at 2020-01-05.*01-06"):
        method(gap)


def test_no_sharpe_ratio_is_given_where_none_is_positive():
    falling = with_moments(-MEANS, np.diag(SD**2))
    with pytest.raises(NoExcessReturnError, match="choose another method"):
        allocation.maximum_sharpe(falling)
    shorts = Constraints(lower=-1.0, upper=2.0)
    assert allocation.maximum_sharpe(falling, shorts).weights.sum() == pytest.approx(1.0)


def test_a_solver_that_gives_up_is_reported_as_such(monkeypatch):
    from skfolio.exceptions import OptimizationError

    def give_up(*_, **__):
        raise OptimizationError("iteration limit")

    monkeypatch.setattr("skfolio.optimization.MeanRisk.fit", give_up)
    with pytest.raises(SolverFailedError, match="although the limits can be met: iteration limit"):
        allocation.minimum_variance(UNCORRELATED)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (partial(allocation.mean_cvar, level=95.0), "level is 95.0; expected a share"),
        (partial(allocation.mean_cvar, aversion=-1.0), "aversion is -1.0"),
        (partial(allocation.minimum_variance, covariance="oas"), "expected 'ledoit_wolf'"),
        (partial(allocation.risk_parity, constraints=Constraints(lower=-0.1)), "long weights only"),
        (partial(allocation.equal_weight, constraints=Constraints(budget=None)), "budget is None"),
        (
            partial(allocation.maximum_sharpe, constraints=Constraints(budget=None)),
            "budget is None",
        ),
    ],
)
def test_arguments_out_of_range_are_refused(call, message):
    with pytest.raises(AllocationError, match=message):
        call(UNCORRELATED)


def test_minimum_variance_of_real_stocks_beats_equal_weights_in_sample_and_after():
    returns = stock_prices().pct_change().iloc[1:]
    seen, unseen = returns.iloc[:2000], returns.iloc[2000:4000]
    weights = allocation.minimum_variance(seen).weights
    assert (seen @ weights).std() < (seen @ allocation.equal_weight(seen).weights).std()
    # a fact of these stocks: variances persist
    assert (unseen @ weights).std() < unseen.mean(axis=1).std()
