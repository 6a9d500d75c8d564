import importlib

import numpy as np
import pytest
from arch import arch_model
from scipy import stats

from hftlib.portfolio import measures
from hftlib.portfolio.var_models import (
    MODELS,
    Garch,
    VarError,
    cornish_fisher_tail,
    filter_variance,
    fit_garch,
    forecast_var,
    normal_tail,
)
from hftlib.portfolio.var_tests import backtest_var, find_exceptions

LEVELS = (0.95, 0.99)


def simulate_garch(n: int, garch: Garch, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    persistence = garch.alpha + garch.gamma / 2 + garch.beta
    variance, returns = garch.omega / (1 - persistence), np.empty(n)
    for t in range(n):
        returns[t] = np.sqrt(variance) * rng.standard_normal()
        weight = garch.alpha + (garch.gamma if returns[t] < 0 else 0.0)
        variance = garch.omega + weight * returns[t] ** 2 + garch.beta * variance
    return (returns + garch.mean) / 100


GARCH = Garch(mean=0.03, omega=0.03, alpha=0.03, gamma=0.15, beta=0.87)
GARCH_RETURNS = simulate_garch(900, GARCH, seed=1)


def test_normal_tail_of_known_moments():
    # mean .01, standard deviation .02 (ddof 1)
    returns = 0.01 + 0.02 * np.sqrt(0.5) * np.array([[-1.0], [1.0]])
    loss, shortfall = normal_tail(returns, 0.99)
    assert loss[0] == pytest.approx(-0.01 + 0.02 * 2.3263478740)
    assert shortfall[0] == pytest.approx(-0.01 + 0.02 * 2.6652142203)  # pdf(2.326) / .01


def test_cornish_fisher_without_skewness_and_excess_is_normal():
    # three values with weights 1/6, 2/3, 1/6 at ±sqrt(3) have the normal variable's four moments
    values = np.sqrt(3.0) * np.array([-1.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    returns = np.tile(0.01 * values, 20_000)[:, None]
    for mine, normal in zip(
        cornish_fisher_tail(returns, 0.99), normal_tail(returns, 0.99), strict=True
    ):
        np.testing.assert_allclose(mine, normal, rtol=1e-3)  # ddof 1 in the moments: 3e-5 of each


def test_cornish_fisher_shortfall_is_the_mean_of_its_quantiles_over_the_tail():
    returns = np.random.default_rng(0).standard_t(12, (5_000, 1)) * 0.01
    returns -= 0.1 * (returns < -0.02) * 0.01
    _, shortfall = cornish_fisher_tail(returns, 0.95)
    tails = (np.arange(400) + 0.5) / 400 * 0.05
    quantiles = [cornish_fisher_tail(returns, 1 - p)[0][0] for p in tails]
    assert shortfall[0] == pytest.approx(np.mean(quantiles), rel=1e-3)  # midpoint rule at the end


def test_cornish_fisher_with_a_fat_left_tail_is_above_normal_and_undefined_where_it_turns_back():
    rng = np.random.default_rng(1)
    skewed = np.where(rng.random((2_000, 1)) < 0.05, -0.03, 0.0) + 0.01 * rng.normal(
        size=(2_000, 1)
    )
    assert cornish_fisher_tail(skewed, 0.99)[0] > normal_tail(skewed, 0.99)[0]
    # one crash in 200 days: skewness -14, and the corrected quantile falls with z
    crash = np.where(np.arange(200) == 7, -1.0, 0.001)[:, None]
    for value in cornish_fisher_tail(crash, 0.99):
        assert np.isnan(value[0])


def test_filtered_variance_is_that_of_arch():
    model = arch_model(100 * GARCH_RETURNS, mean="Constant", p=1, o=1, q=1, rescale=False)
    fixed = model.fix(np.array(GARCH))
    # `arch` starts from the residuals of the sample's mean
    start = model.volatility.backcast(100 * (GARCH_RETURNS - GARCH_RETURNS.mean()))
    mine = filter_variance(GARCH_RETURNS, GARCH, start)
    np.testing.assert_allclose(mine, fixed.conditional_volatility**2, rtol=1e-10)


def test_a_fit_finds_the_parameters_of_a_long_simulation():
    found = fit_garch(simulate_garch(20_000, GARCH, seed=2))
    assert found is not None
    # standard errors of such a fit are some .01
    np.testing.assert_allclose(found, GARCH, atol=0.04)


def test_filtered_forecasts_follow_the_true_deviation():
    filtered = forecast_var(GARCH_RETURNS, "filtered", [0.95], window_bars=500, refit_bars=100)
    start = GARCH.omega / (1 - GARCH.alpha - GARCH.gamma / 2 - GARCH.beta)
    truth = np.sqrt(filter_variance(GARCH_RETURNS, GARCH, start))[500:]
    assert np.corrcoef(filtered.value_at_risk[500:, 0], truth)[0, 1] > 0.97
    flat = forecast_var(GARCH_RETURNS, "historical", [0.95], window_bars=500)
    assert np.corrcoef(flat.value_at_risk[500:, 0], truth)[0, 1] < 0.5


def test_historical_forecast_is_the_measure_of_the_window_before():
    forecast = forecast_var(GARCH_RETURNS, "historical", LEVELS, window_bars=250)
    for t in (250, 611, 899):
        for k, level in enumerate(LEVELS):
            window = GARCH_RETURNS[t - 250 : t]
            assert forecast.value_at_risk[t, k] == measures.value_at_risk(window, level)
            assert forecast.expected_shortfall[t, k] == pytest.approx(
                measures.expected_shortfall(window, level), rel=1e-12
            )


@pytest.mark.parametrize("model", MODELS)
def test_forecasts_do_not_know_the_future(model):
    settings = {"window_bars": 300, "refit_bars": 90}
    before = forecast_var(GARCH_RETURNS, model, LEVELS, **settings)
    scrambled = GARCH_RETURNS.copy()
    scrambled[520:] = 7 * scrambled[:519:-1]
    after = forecast_var(scrambled, model, LEVELS, **settings)
    for mine, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(mine[:521], other[:521])
        assert not np.array_equal(mine[521:], other[521:], equal_nan=True)


@pytest.mark.parametrize("model", MODELS)
def test_the_first_window_has_no_forecast_and_the_shortfall_is_never_below(model):
    forecast = forecast_var(GARCH_RETURNS, model, LEVELS, window_bars=400, refit_bars=200)
    loss, shortfall = forecast
    assert np.isnan(loss[:400]).all()
    assert np.isfinite(loss[400:]).all()
    assert (shortfall[400:] >= loss[400:]).all()
    assert (loss[400:, 1] > loss[400:, 0]).all()


@pytest.mark.parametrize("model", MODELS)
def test_forecasts_scale_with_the_returns(model):
    settings = {"window_bars": 400, "refit_bars": 250}
    one = forecast_var(GARCH_RETURNS, model, [0.99], **settings)
    two = forecast_var(2 * GARCH_RETURNS, model, [0.99], **settings)
    # the optimiser of GARCH stops within some 1e-4 of the optimum
    tolerance = 1e-3 if model == "filtered" else 1e-12
    np.testing.assert_allclose(two.value_at_risk, 2 * one.value_at_risk, rtol=tolerance)


def test_between_refits_the_simple_models_stand_still():
    forecast = forecast_var(GARCH_RETURNS, "normal", [0.95], window_bars=300, refit_bars=50)
    column = forecast.value_at_risk[300:, 0]
    assert len(np.unique(column)) == 12
    assert (np.flatnonzero(np.diff(column)) % 50 == 49).all()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("model", MODELS)
def test_geometric_brownian_motion_exceeds_its_forecasts_as_often_as_promised(model, level):
    n_bars = 8_000 if model == "filtered" else 40_000
    returns = np.expm1(np.random.default_rng(3).normal(0.0002, 0.01, n_bars))
    refit_bars = 500 if model == "filtered" else 20
    forecast = forecast_var(returns, model, [level], window_bars=2_000, refit_bars=refit_bars)
    # minus the quantile and the tail's mean of a lognormal variable
    z = stats.norm.ppf(1 - level)
    loss = -np.expm1(0.0002 + 0.01 * z)
    growth = np.exp(0.0002 + 0.01**2 / 2) * stats.norm.cdf(z - 0.01) / (1 - level)
    # errors of estimated quantiles: 1 % at most on average over these windows; twice for GARCH
    tolerance = 0.04 if model == "filtered" else 0.02
    assert forecast.value_at_risk[2_000:].mean() == pytest.approx(loss, rel=tolerance)
    assert forecast.expected_shortfall[2_000:].mean() == pytest.approx(1 - growth, rel=tolerance)
    hits = find_exceptions(returns, forecast.value_at_risk[:, 0])
    # as much from the estimate, which has seen as many bars, as from the count
    error = np.sqrt(2 * level * (1 - level) / len(hits))
    assert abs(hits.mean() - (1 - level)) < 3 * error


def test_a_window_that_does_not_vary_has_no_filtered_forecast():
    flat = np.concatenate([np.zeros(150), GARCH_RETURNS[:200]])
    forecast = forecast_var(flat, "filtered", [0.95], window_bars=150, refit_bars=100)
    assert np.isnan(forecast.value_at_risk[:250]).all()
    assert np.isfinite(forecast.value_at_risk[250:]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "oracle"}, "'oracle' is not known"),
        ({"levels": [0.95, 95.0]}, "level is 95"),
        ({"window_bars": 50}, "window_bars is 50"),
        ({"refit_bars": 0}, "refit_bars 0"),
        ({"window_bars": 900}, "more than window_bars=900"),
        ({"returns": GARCH_RETURNS[:, None]}, "one dimension"),
        ({"returns": np.append(GARCH_RETURNS, np.nan)}, "not finite, the first in row 900"),
    ],
)
def test_bad_settings_are_named(change, message):
    asked = {
        "returns": GARCH_RETURNS,
        "model": "normal",
        "levels": LEVELS,
        "window_bars": 300,
        "refit_bars": 1,
    }
    with pytest.raises(VarError, match=message):
        forecast_var(**(asked | change))


@pytest.mark.slow
@pytest.mark.parametrize("index", ["sp500", "nasdaq"])
def test_the_filtered_model_is_not_rejected_on_real_bars_and_the_normal_one_is(index):
    prices = importlib.import_module(f"arch.data.{index}").load()["Adj Close"]
    returns = prices.pct_change().dropna()
    recent = returns.index >= "2009"
    values = returns.to_numpy()
    start = len(values) - recent.sum() - 1_000  # a window before 2009
    kept = values[start:]
    filtered = forecast_var(kept, "filtered", LEVELS, window_bars=1_000, refit_bars=20)
    normal = forecast_var(kept, "normal", LEVELS, window_bars=1_000)
    for k, level in enumerate(LEVELS):
        good = backtest_var(kept, filtered.value_at_risk[:, k], level)
        assert good.n_bars == recent.sum() == 2_516
        for test in (good.unconditional, good.independence, good.conditional):
            assert test.p_value > 0.05
        bad = backtest_var(kept, normal.value_at_risk[:, k], level)
        assert bad.conditional.p_value < 0.01
