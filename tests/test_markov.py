"""The hidden Markov model: statsmodels as a peer, the past only, and what it refuses."""

import json

import numpy as np
import pytest
from statsmodels.tsa.regime_switching.markov_regression import MarkovRegression

from hftlib.features.feature import BarSeries
from hftlib.features.indicators import compute_columns
from hftlib.features.markov import RegimeError, RegimeModel
from hftlib.features.markov_fit import fit_regimes
from tests.conftest import make_bars

TRUE = RegimeModel((0.001, -0.002), (0.25e-4, 4e-4), ((0.98, 0.02), (0.05, 0.95)), 0)


def simulate(model: RegimeModel, n_bars: int, seed: int):
    """Returns and the states behind them."""
    rng = np.random.default_rng(seed)
    state, states = 0, np.empty(n_bars, dtype=int)
    for t in range(n_bars):
        state = rng.choice(len(model.means), p=model.transition[state])
        states[t] = state
    deviation = np.sqrt(model.variances)[states]
    return np.array(model.means)[states] + deviation * rng.normal(size=n_bars), states


@pytest.fixture(scope="module")
def returns():
    return simulate(TRUE, 3_000, seed=1)[0]


@pytest.fixture(scope="module")
def model(returns):
    return fit_regimes(returns, 2, "AAA")


def test_fit_recovers_the_model_that_made_the_returns(model):
    assert model.variances[0] < model.variances[1]
    # standard errors with 3,000 returns: variances 3 % and 5 %, stays .005 and .012
    np.testing.assert_allclose(model.variances, TRUE.variances, rtol=0.2)
    np.testing.assert_allclose(np.diag(model.transition), [0.98, 0.95], atol=0.035)
    assert model.n_returns == 3_000


def test_filter_agrees_with_statsmodels(model, returns):
    peer = MarkovRegression(100 * returns, 2, switching_variance=True)
    stay = np.array(model.transition)
    parameters = [
        *stay[:, 0],
        *(100 * np.array(model.means)),
        *(100**2 * np.array(model.variances)),
    ]
    theirs = peer.filter(parameters)
    ours = model.filter(returns)
    # both run the same recursion in another order of rounding
    np.testing.assert_allclose(ours.filtered, theirs.filtered_marginal_probabilities, atol=1e-9)
    density = ours.log_density.sum() - len(returns) * np.log(100)  # per unit of percent
    assert density == pytest.approx(theirs.llf, abs=1e-6)


def test_filtered_probabilities_tell_the_states_apart():
    x, states = simulate(TRUE, 2_000, seed=2)
    turbulent = TRUE.filter(x).filtered[:, 1]
    assert turbulent[states == 1].mean() > 0.75
    assert turbulent[states == 0].mean() < 0.15


def test_probabilities_sum_to_one_and_do_not_look_ahead(model, returns):
    whole, short = model.filter(returns), model.filter(returns[:777])
    np.testing.assert_allclose(whole.filtered.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(whole.predicted.sum(axis=1), 1, atol=1e-12)
    for a, b in zip(whole, short, strict=True):
        np.testing.assert_array_equal(a[:777], b)


def test_filter_starts_from_the_long_run_shares(model):
    share = model.stationary()
    np.testing.assert_allclose(share @ np.array(model.transition), share, atol=1e-12)
    np.testing.assert_allclose(TRUE.stationary(), [5 / 7, 2 / 7], atol=1e-12)


def test_missing_return_is_passed_over(model, returns):
    gap = np.concatenate([[np.nan], returns[:50]])
    np.testing.assert_array_equal(model.filter(gap).filtered[1:], model.filter(returns[:50])[0])


def test_return_of_a_hundred_deviations_leaves_finite_probabilities(model):
    states = model.filter(np.array([0.0, 50.0, -50.0, 0.0]))
    assert np.isfinite(states.filtered).all()
    assert np.isfinite(states.log_density).all()


def test_three_states_come_in_order_of_variance():
    three = RegimeModel(
        (0.0, 0.0, 0.0),
        (1e-5, 1e-4, 1e-3),
        ((0.98, 0.01, 0.01), (0.01, 0.98, 0.01), (0.01, 0.01, 0.98)),
        0,
    )
    fitted = fit_regimes(simulate(three, 2_000, seed=3)[0], 3, "AAA")
    np.testing.assert_allclose(fitted.variances, three.variances, rtol=0.4)


def test_fit_depends_on_the_data_alone(returns, model):
    np.random.seed(1)  # noqa: NPY002 (what a library might draw from)
    assert fit_regimes(returns, 2, "AAA") == model


def test_model_survives_json(model):
    assert RegimeModel.from_dict(json.loads(json.dumps(model.to_dict()))) == model


@pytest.mark.parametrize(
    "change",
    [
        {"variances": [4e-4, 1e-4]},
        {"variances": [0.0, 1e-4]},
        {"transition": [[0.9, 0.2], [0.1, 0.9]]},
        {"transition": [[1.0]]},
        {"means": [0.0]},
        {"means": None},
    ],
)
def test_file_that_holds_no_model_is_refused(model, change):
    with pytest.raises(RegimeError, match="no regime model"):
        RegimeModel.from_dict({**model.to_dict(), **change})


def test_file_without_a_part_is_refused(model):
    stored = model.to_dict()
    del stored["transition"]
    with pytest.raises(RegimeError, match=r"KeyError.*expected means, variances, transition"):
        RegimeModel.from_dict(stored)


def test_too_few_returns_are_refused():
    with pytest.raises(RegimeError, match="AAA: 249 training returns, expected at least 250"):
        fit_regimes(np.append(np.random.default_rng(0).normal(size=249), np.nan), 2, "AAA")


def test_returns_that_do_not_vary_are_refused():
    with pytest.raises(RegimeError, match="AAA: training returns do not vary"):
        fit_regimes(np.zeros(1_000), 2, "AAA")


def test_features_of_the_states_follow_their_formulas():
    series = BarSeries.from_frame(make_bars(300), TRUE)
    columns, states = compute_columns(series), TRUE.filter(series.step)
    np.testing.assert_array_equal(columns["hmm_turbulent"][1:], states.filtered[1:, 1])
    np.testing.assert_array_equal(columns["hmm_shift"][2:], np.diff(states.filtered[1:, 1]))
    means, variances = np.array(TRUE.means), np.array(TRUE.variances)
    mean = states.predicted @ means
    spread = (states.predicted * (variances + means**2)).sum(axis=1) - mean**2
    np.testing.assert_allclose(columns["hmm_mean"][1:], mean[1:], atol=1e-15)
    np.testing.assert_allclose(columns["hmm_volatility"][1:], np.sqrt(spread[1:]), rtol=1e-9)
    np.testing.assert_array_equal(columns["hmm_surprise"][1:], -states.log_density[1:])
