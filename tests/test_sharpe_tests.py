"""Closed forms, the papers' examples, skfolio, and that unfit returns are refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftlib.evaluation import sharpe_tests
from hftlib.evaluation.samples import ConstantError, TooFewError, UndefinedError
from hftlib.evaluation.sharpe_tests import (
    deflated_sharpe,
    estimate_sharpe,
    expected_max_sharpe,
    min_track_record,
    moments,
    probabilistic_sharpe,
    sharpe_error,
)
from hftlib.portfolio import measures

RETURNS = np.random.default_rng(0).standard_t(5, 600) * 0.01 + 0.0008
DAYS = 250


def deflate(n_trials, periods=DAYS):
    """Example of Bailey & López de Prado (2014): yearly ratio 2.5, variance of trials 1/2."""
    sharpe, variance = 2.5 / periods**0.5, 0.5 / periods
    return deflated_sharpe(sharpe, 1250, -3, 10, n_trials=n_trials, variance=variance)


def test_deflated_ratio_of_the_papers_example():
    assert expected_max_sharpe(100, 0.5 / DAYS) == pytest.approx(0.1132, abs=5e-5)
    assert deflate(100) == pytest.approx(0.9004, abs=5e-5)
    # with 46 independent trials it would have passed at 95 %, by the paper
    assert deflate(46) == pytest.approx(0.9505, abs=5e-5)


def test_annualised_ratios_make_the_same_strategy_certain():
    # the trap: the formula counts periods, so a yearly ratio over 1,250 "years" passes any test
    assert deflate(100, periods=1) > 0.999999


def test_ratio_per_period_against_trials_made_annual_is_no_deflation():
    rng = np.random.default_rng(3)
    sharpe, skew, kurtosis = moments(rng.normal(0, 0.01, (1000, 200)))
    k = sharpe.argmax()
    best = (sharpe[k], 1000, skew[k], kurtosis[k])
    right = deflated_sharpe(*best, n_trials=200, variance=sharpe.var(ddof=1))
    mixed = deflated_sharpe(*best, n_trials=200, variance=sharpe.var(ddof=1) / 252)
    assert right < 0.8
    assert mixed > 0.98


def test_probabilistic_ratio_of_the_papers_example():
    # Bailey & López de Prado (2012): 24 months, .458 a month, skew -2.448, kurtosis 10.164
    assert probabilistic_sharpe(0.458, 24) == pytest.approx(0.982, abs=5e-4)
    assert probabilistic_sharpe(0.458, 24, -2.448, 10.164) == pytest.approx(0.913, abs=5e-4)


@pytest.mark.parametrize(
    ("periods", "skew", "kurtosis", "years"),
    [(250, 0, 3, 2.73), (52, 0, 3, 2.83), (12, 0, 3, 3.24), (12, -0.72, 5.78, 4.99)],
)
def test_track_records_of_the_paper(periods, skew, kurtosis, years):
    # Bailey & López de Prado (2012): a yearly ratio of 2 held against 1 at 95 %
    root = periods**0.5
    need = min_track_record(2 / root, skew, kurtosis, benchmark=1 / root)
    assert need / periods == pytest.approx(years, abs=0.005)


def test_a_record_of_the_least_length_has_just_the_confidence():
    need = min_track_record(0.1, -1.0, 6.0, benchmark=0.03, confidence=0.99)
    spread = np.sqrt((1 + 0.1 + 5 / 4 * 0.01) / (need - 1))
    assert 0.07 / spread == pytest.approx(2.3263478740408408)
    assert np.isinf(min_track_record(0.03, benchmark=0.03))
    assert np.isnan(min_track_record(np.nan))


def test_expected_best_of_few_and_of_many_trials():
    # Bailey et al. (2014), Pseudo-mathematics, Notices of the AMS 61(5): 10 trials give 1.57
    assert expected_max_sharpe(10, 1.0) == pytest.approx(1.57, abs=5e-3)
    assert expected_max_sharpe(1, 1.0) == 0
    drawn = np.random.default_rng(1).standard_normal((20_000, 100)).max(axis=1).mean()
    # Monte Carlo error .003; the approximation is off by some .02 at 100
    assert expected_max_sharpe(100, 1.0) == pytest.approx(drawn, abs=0.04)


def test_errors_of_lo_and_mertens():
    # Lo (2002), table 1: a ratio of .5 over 12 months
    assert sharpe_error(0.5, 12) == pytest.approx(0.306, abs=5e-4)
    assert sharpe_error(0.5, 12, 0.0, 3.0) == sharpe_error(0.5, 12)
    found = estimate_sharpe(RETURNS)
    assert found.sharpe == pytest.approx(measures.sharpe(RETURNS, 1.0), rel=1e-12)
    assert found.error_moments == sharpe_error(found.sharpe, 600, found.skew, found.kurtosis)
    assert found.to_dict()["error_normal"] == sharpe_error(found.sharpe, 600)


@given(st.integers(0, 10_000), st.floats(-0.003, 0.003))
def test_without_lags_the_error_of_dependent_returns_is_that_of_mertens(seed, mean):
    returns = np.random.default_rng(seed).gamma(2.0, 0.01, 200) - 0.02 + mean
    found = estimate_sharpe(returns, n_lags=0)
    # ddof 1 in the ratio against 0 in the moments: the ratio differs by 1 / (2 * 200)
    assert found.error_lags == pytest.approx(found.error_moments, rel=5e-3)


def test_errors_are_the_spread_of_the_ratio_over_samples():
    rng = np.random.default_rng(5)
    skewed = 0.3 + rng.gamma(1.0, 1.0, (400, 4000)) - 1.0  # skew 2, kurtosis 9, ratio .3
    spread = moments(skewed)[0].std()
    # 4,000 samples: the standard deviation is known to 1.5 %
    assert sharpe_error(0.3, 400, 2.0, 9.0) == pytest.approx(spread, rel=0.05)
    assert abs(sharpe_error(0.3, 400) / spread - 1) > 0.2, "normal returns would be another law"


def test_error_with_lags_sees_that_neighbouring_bars_agree():
    rng = np.random.default_rng(6)
    shock = rng.standard_normal((2000, 300))
    for t in range(1, 2000):
        shock[t] += 0.3 * shock[t - 1]
    spread = (shock.mean(axis=0) / shock.std(axis=0)).std()
    found = [estimate_sharpe(column, n_lags=20) for column in shock.T[:50]]
    # 300 samples know the spread to 4 %, Bartlett's weights lose some 4 %
    assert np.mean([f.error_lags for f in found]) == pytest.approx(spread, rel=0.15)
    assert np.mean([f.error_moments for f in found]) < 0.85 * spread


def test_skfolio_has_the_same_probabilistic_and_deflated_ratios():
    skfolio_measures = pytest.importorskip("skfolio.measures")
    (sharpe,), (skew,), (kurtosis,) = moments(RETURNS[:, None])
    trials = np.random.default_rng(2).normal(0, 0.04, 30)
    ours = deflated_sharpe(sharpe, 600, skew, kurtosis, n_trials=30, variance=trials.var(ddof=1))
    assert ours == pytest.approx(skfolio_measures.deflated_sharpe_ratio(RETURNS, trials), abs=1e-9)
    assert probabilistic_sharpe(sharpe, 600, skew, kurtosis, 0.02) == pytest.approx(
        skfolio_measures.probabilistic_sharpe_ratio(RETURNS, 0.02), abs=1e-9
    )


def test_mirrored_returns_have_the_mirrored_confidence():
    one = estimate_sharpe(RETURNS)
    other = estimate_sharpe(-RETURNS)
    assert other.error_lags == pytest.approx(one.error_lags, rel=1e-12)
    both = [probabilistic_sharpe(e.sharpe, e.n, e.skew, e.kurtosis) for e in (one, other)]
    assert sum(both) == pytest.approx(1.0)


@given(st.integers(2, 10_000), st.floats(1e-6, 1.0))
def test_more_trials_never_raise_a_deflated_ratio(n_trials, variance):
    few, more = (
        deflated_sharpe(0.1, 500, 0.0, 3.0, n_trials=n, variance=variance)
        for n in (n_trials, n_trials + 1)
    )
    assert more <= few <= probabilistic_sharpe(0.1, 500)


def test_moments_of_a_constant_series_and_of_one_with_a_nan_are_undefined():
    table = np.stack([RETURNS, np.full(600, 0.1), np.where(np.arange(600) == 3, np.nan, RETURNS)])
    sharpe, skew, kurtosis = moments(table.T)
    for values in (sharpe, skew, kurtosis):
        assert np.isfinite(values).tolist() == [True, False, False]
    assert np.isnan(probabilistic_sharpe(sharpe, 600, skew, kurtosis)[1:]).all()


def test_moments_that_no_law_has_give_nan():
    assert np.isnan(probabilistic_sharpe(1.0, 100, skew=3.0, kurtosis=1.0))


def test_unfit_returns_are_refused_by_name():
    with pytest.raises(TooFewError, match="9 observations; it needs at least 10"):
        estimate_sharpe(RETURNS[:9])
    with pytest.raises(UndefinedError, match="bar 4 is nan"):
        estimate_sharpe(np.where(np.arange(600) == 4, np.nan, RETURNS))
    with pytest.raises(ConstantError, match="do not vary"):
        estimate_sharpe(np.full(100, 0.1))
    with pytest.raises(ValueError, match="give one strategy"):
        estimate_sharpe(np.stack([RETURNS, -RETURNS], axis=1))
    with pytest.raises(ValueError, match="n_lags=600"):
        estimate_sharpe(RETURNS, n_lags=600)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: probabilistic_sharpe(0.1, 1), "n is 1"),
        (lambda: expected_max_sharpe(0, 1.0), "n_trials is 0"),
        (lambda: expected_max_sharpe(5, -1.0), "variance is -1.0"),
        (lambda: min_track_record(0.1, confidence=0.4), "confidence is 0.4"),
    ],
)
def test_numbers_out_of_bounds_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_least_observations_are_what_the_message_says():
    assert estimate_sharpe(RETURNS[: sharpe_tests.LEAST]).n == 10
