"""Measures of forecasts: tests of equal accuracy, skill, coverage, calibration."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.tools import add_constant

from hftlib.evaluation import forecasts as judge
from hftlib.evaluation.statistics import Estimate, block_length
from hftlib.models.volatility import DECAY, forecast_rivals
from tests.forecast_cases import make_examples, make_folds

BOOTSTRAP = {"n_bootstrap": 200, "confidence": 0.9, "seed": 0}


def test_the_test_of_equal_losses_by_hand():
    # differences 1, 2, 3, 4: mean 2.5, variance 1.25, so DM = 2.5 / sqrt(1.25 / 4)
    found = judge.compare_losses([2.0, 3, 4, 5], [1.0, 1, 1, 1], n_lags=0)
    statistic = 2.5 / np.sqrt(1.25 / 4) * np.sqrt(3 / 4)
    assert found.statistic == pytest.approx(statistic)
    assert found.p_value == pytest.approx(2 * stats.t.sf(statistic, 3))
    assert found.difference == 2.5


def test_the_test_two_steps_ahead_by_hand():
    gaps = np.array([1.0, 3, -2, 0, 4, 1, -1, 2])
    centred = gaps - 1
    zero, one = (centred**2).sum() / 8, (centred[1:] * centred[:-1]).sum() / 8
    statistic = 1 / np.sqrt((zero + one) / 8) * np.sqrt((8 + 1 - 4 + 2 / 8) / 8)  # Bartlett: 1/2
    assert judge.compare_losses(gaps, np.zeros(8), 2, 1).statistic == pytest.approx(statistic)


@pytest.mark.parametrize(("n_days", "horizon", "n_lags"), [(100, 1, 4), (1_489, 1, 7), (30, 9, 8)])
def test_lags_and_their_weights_are_newey_and_west_s(n_days, horizon, n_lags):
    gaps = np.random.default_rng(0).normal(0.1, 1, n_days).cumsum() / 5
    fit = OLS(gaps, np.ones(n_days)).fit(
        cov_type="HAC", cov_kwds={"maxlags": n_lags, "use_correction": False}
    )
    correction = (n_days + 1 - 2 * horizon + horizon * (horizon - 1) / n_days) / n_days
    found = judge.compare_losses(gaps, np.zeros(n_days), horizon)
    assert found.statistic == pytest.approx(fit.tvalues[0] * np.sqrt(correction))


def test_losses_that_persist_are_told_apart_in_few_samples_only_with_lags():
    rng, rejected = np.random.default_rng(0), {0: 0, None: 0}
    for _ in range(1_000):
        shocks = rng.normal(size=1_001)
        gaps = shocks[1:] + shocks[:-1]  # autocorrelation .5 at lag 1
        for n_lags in rejected:
            found = judge.compare_losses(gaps, np.zeros(1_000), n_lags=n_lags)
            rejected[n_lags] += found.p_value < 0.05
    assert rejected[0] > 130  # expected 166
    assert rejected[None] < 85


def test_one_step_ahead_without_lags_it_is_student_s_t_of_the_differences():
    gaps = np.random.default_rng(0).normal(0.1, 1, 60)
    found, known = judge.compare_losses(gaps, np.zeros(60), n_lags=0), stats.ttest_1samp(gaps, 0)
    assert found.statistic == pytest.approx(known.statistic)
    assert found.p_value == pytest.approx(known.pvalue)


@pytest.mark.parametrize("horizon", [1, 3])
def test_swapping_the_forecasts_turns_the_sign_and_keeps_the_p_value(horizon):
    first, second = np.random.default_rng(0).exponential(size=(2, 50))
    one, other = (
        judge.compare_losses(a, b, horizon) for a, b in ((first, second), (second, first))
    )
    assert one.statistic == -other.statistic
    assert one.p_value == other.p_value


@pytest.mark.parametrize(("horizon", "n_days"), [(1, 30), (1, 300), (4, 300)])
def test_equally_good_forecasts_are_told_apart_in_one_sample_of_twenty(horizon, n_days):
    """Errors of overlapping forecasts are moving averages of `horizon` shocks."""
    rng = np.random.default_rng(1)
    shocks = rng.normal(size=(2, 2_000, n_days + horizon - 1))
    errors = sum(shocks[:, :, k : k + n_days] for k in range(horizon))
    rejected = [
        judge.compare_losses(a, b, horizon).p_value < 0.05
        for a, b in zip(*(errors**2), strict=True)
    ]
    # standard error .005; squared errors have heavy tails, and estimated
    # lags reject a bit more in short samples and at long horizons
    assert 0.03 < np.mean(rejected) < 0.08 + 0.01 * (horizon - 1)


def test_a_forecast_that_is_better_by_half_is_told_apart():
    errors = np.random.default_rng(0).normal(size=(2, 300)) * [[1.0], [1.5]]
    found = judge.compare_losses(*errors**2)
    assert found.statistic < 0
    assert found.p_value < 0.001


def test_equal_losses_and_constant_differences_need_no_variance():
    assert judge.compare_losses([1.0] * 5, [1.0] * 5) == (0.0, 1.0, 0.0)
    assert judge.compare_losses([1.0] * 5, [2.0] * 5) == (-np.inf, 0.0, -1.0)


@pytest.mark.parametrize(
    ("first", "second", "horizon", "words"),
    [
        ([1.0] * 5, [1.0] * 4, 1, r"shapes \(5,\) and \(4,\)"),
        ([1.0] * 6, [2.0] * 6, 3, "6 days at horizon 3"),
        ([1.0, np.nan, 1, 1], [1.0] * 4, 1, "not finite"),
    ],
)
def test_losses_that_cannot_be_compared_are_refused(first, second, horizon, words):
    with pytest.raises(ValueError, match=words):
        judge.compare_losses(first, second, horizon)


@pytest.mark.parametrize("n_lags", [-1, 5])
def test_lags_that_the_days_do_not_have_are_refused(n_lags):
    with pytest.raises(ValueError, match=f"n_lags={n_lags} of 5 days"):
        judge.compare_losses([1.0, 2, 3, 4, 5], [1.0] * 5, n_lags=n_lags)


def test_correlation_is_that_of_numpy_and_undefined_for_a_constant():
    x, y = np.random.default_rng(0).normal(size=(2, 40))
    assert judge.correlate(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-12)
    assert np.isnan(judge.correlate(np.ones(40), y))


def test_skill_is_the_share_of_squared_error_saved():
    outcome = np.array([0.0, 2.0])
    assert judge.find_skill([0.0, 1.0], outcome, [1.0, 1.0]) == 0.5
    assert judge.find_skill(outcome, outcome, [5.0, 5.0]) == 1
    assert np.isnan(judge.find_skill([1.0, 1.0], outcome, outcome))


def test_constant_data_have_a_block_of_one_and_degenerate_or_nan_bounds():
    ones, varied = np.ones(40), np.random.default_rng(0).normal(size=40)
    assert block_length(ones) == 1
    assert tuple(vars(judge.estimate(np.mean, ones, **BOOTSTRAP)).values()) == (1, 1, 1)
    for days in ((ones, ones), (ones, varied)):
        found = judge.estimate(judge.correlate, *days, **BOOTSTRAP)
        assert np.isnan([found.value, found.low, found.high]).all()


def test_bootstrap_intervals_hold_the_correlation_as_often_as_they_say():
    rng, hits = np.random.default_rng(0), []
    for seed in range(120):
        x, noise = rng.normal(size=(2, 150))
        found = judge.estimate(
            judge.correlate, x, x + noise, n_bootstrap=100, confidence=0.9, seed=seed
        )
        hits.append(found.low <= 0.5**0.5 <= found.high)
    assert 0.8 < np.mean(hits) < 0.97  # standard error .027


def test_ranks_of_a_right_forecast_are_uniform_and_its_calibration_the_diagonal():
    rng = np.random.default_rng(0)
    mean, sd = rng.normal(size=4_000), rng.uniform(0.5, 2, 4_000)
    ranks = judge.find_ranks(mean, sd, mean + sd * rng.normal(size=4_000))
    assert stats.kstest(ranks, "uniform").pvalue > 0.01
    levels = np.array([0.1, 0.5, 0.9])
    np.testing.assert_allclose(judge.calibration_curve(ranks, levels), levels, atol=0.025)
    assert judge.calibration_curve([0.2, 0.4, 0.6], [0.0, 0.4, 1.0]).tolist() == [0, 2 / 3, 1]


def test_the_margin_of_a_normal_is_its_quantile():
    assert judge.normal_margin(0.9) == pytest.approx(1.6448536, abs=1e-7)


def make_scores() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    outcome = rng.normal(size=300)
    forecasts = {"forecaster": outcome + rng.normal(size=300), "har": np.zeros(300)}
    forecasts["har"] += outcome + 2 * rng.normal(size=300)
    forecasts |= {"har_leverage": np.ones(300), "linear": outcome + rng.normal(size=300)}
    return judge.score_forecasts(forecasts, outcome, "har", **BOOTSTRAP)


def test_scores_of_a_model_are_its_own_measures_and_the_baseline_has_no_skill():
    scores = make_scores().set_index(["model", "measure"])
    assert scores.loc[("forecaster", "skill"), "value"] > 0.6
    assert scores.loc[("forecaster", "skill"), "p"] < 1e-6
    own = scores.loc[("har", "skill")]
    assert (own["value"], own["low"], own["high"], own["p"]) == (0, 0, 0, 1)
    varied = scores.drop(("har_leverage", "correlation"))  # that of a constant
    assert (varied["low"] <= varied["value"]).all()
    assert (varied["value"] <= varied["high"]).all()


def test_scores_refuse_an_unknown_baseline_and_missing_forecasts():
    values = np.arange(30.0)
    with pytest.raises(ValueError, match="baseline 'x' is not among a"):
        judge.score_forecasts({"a": values}, values, "x", **BOOTSTRAP)
    with pytest.raises(ValueError, match="a: a forecast or an outcome is not finite"):
        judge.score_forecasts({"a": values * np.nan}, values, "a", **BOOTSTRAP)


def test_the_summary_has_the_contract_s_names_and_no_nan():
    scores = make_scores().assign(symbol="AAA")
    nothing = Estimate(float("nan"), -0.1, 0.1)
    shares, none = {"AAA": float("nan")}, {"AAA": nothing}
    found = judge.summarise_forecasts(scores, shares, none, none, 0.9)["AAA"]
    assert set(found) == {"log_variance", "coverage_90", "next_return", "shuffled"}
    rivals = {"har_correlation", "har_leverage_correlation", "linear_correlation"}
    assert set(found["log_variance"]) == {"correlation", "dm_p", *rivals}
    assert found["log_variance"]["har_leverage_correlation"] is None
    assert found["log_variance"]["correlation"] > found["log_variance"]["har_correlation"]
    assert found["coverage_90"] is None
    assert found["shuffled"] == {"correlation": None, "low": -0.1, "high": 0.1}
    json.dumps(found, allow_nan=False)


def test_har_is_the_least_squares_fit_of_statsmodels():
    examples, folds = make_examples(), make_folds()
    found = forecast_rivals(examples, folds)
    for number in (0, 1):
        train, rows = (
            some[examples.symbol[some] == number]
            for some in (
                examples.between(folds[0].known, is_known=True),
                examples.between(folds[0].test, is_known=False),
            )
        )
        for name, n_terms in (("har", 3), ("har_leverage", 6)):
            known, asked = (add_constant(examples.terms[some, :n_terms]) for some in (train, rows))
            fit = OLS(examples.outcomes[train, 0], known).fit()
            np.testing.assert_allclose(found[name][rows], fit.predict(asked), rtol=1e-8)


def test_last_and_ewma_are_what_they_are_called():
    examples = make_examples()
    found = forecast_rivals(examples, make_folds())
    rows = np.flatnonzero(np.isfinite(found["last"]))
    np.testing.assert_array_equal(found["last"][rows], examples.terms[rows, 0])
    np.testing.assert_allclose(
        found["ewma"][rows[1]],
        DECAY * found["ewma"][rows[0]] + (1 - DECAY) * examples.terms[rows[1], 0],
    )


def test_rivals_refuse_a_symbol_with_fewer_windows_than_channels():
    folds = [fold._replace(train=(0, 30), validation=(30, 32)) for fold in make_folds()]
    with pytest.raises(ValueError, match="AAA has 2 windows before the test span of fold 0"):
        forecast_rivals(make_examples(), folds)
