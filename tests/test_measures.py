import numpy as np
import pytest

from hftlib.portfolio import measures

RETURNS = np.array([0.02, -0.01, 0.03, 0.0])


def test_simple_returns_and_total_return_undo_each_other():
    equity = np.array([100.0, 110.0, 99.0])
    returns = measures.simple_returns(equity)
    np.testing.assert_allclose(returns, [0.1, -0.1], atol=1e-15)
    assert measures.total_return(returns) == pytest.approx(-0.01)


def test_sharpe_is_mean_over_sample_deviation():
    # mean .01, squared deviations 1 + 4 + 4 + 1 = 10 (1e-4), ddof 1: sd = sqrt(10 / 3) * 1e-2
    assert measures.sharpe(RETURNS, 1.0) == pytest.approx(0.01 / (np.sqrt(10 / 3) * 0.01))
    assert measures.sharpe(RETURNS, 252) == pytest.approx(measures.sharpe(RETURNS, 1) * 252**0.5)


def test_sharpe_subtracts_the_riskless_rate():
    assert measures.sharpe(RETURNS, 1.0, risk_free=0.01) == pytest.approx(0.0, abs=1e-15)


def test_sharpe_of_returns_that_do_not_vary_is_undefined():
    assert np.isnan(measures.sharpe(np.zeros(10), 252))


def test_sharpe_of_mirrored_returns_is_mirrored():
    assert measures.sharpe(-RETURNS, 12) == -measures.sharpe(RETURNS, 12)


def test_drawdown_of_a_known_path():
    equity = np.array([1.0, 2.0, 1.0, 1.5, 3.0, 2.4])
    np.testing.assert_allclose(measures.drawdown(equity), [0, 0, 0.5, 0.25, 0, 0.2])
    assert measures.max_drawdown(equity) == 0.5


def test_annual_return_compounds():
    assert measures.annual_return(np.full(24, 0.01), 12) == pytest.approx(1.01**12 - 1)
    assert measures.annual_return(np.array([0.1, -1.0]), 12) == -1.0


def test_columns_are_measured_one_by_one():
    table = np.stack([RETURNS, 2 * RETURNS[::-1]], axis=1)
    for measure in (measures.sharpe, measures.annual_return):
        each = [measure(table[:, k], 252) for k in range(2)]
        np.testing.assert_allclose(measure(table, 252), each, rtol=1e-12)


def test_daily_bars_have_as_many_periods_as_days_in_a_year():
    ts = np.arange(1000) * 86_400_000_000_000
    assert measures.periods_per_year(ts) == pytest.approx(365.25)


def test_sharpe_of_a_constant_profit_is_undefined_whatever_its_size():
    # in floats the sum of 0.1s is not exact: the deviation is 1e-17, not 0
    assert np.isnan(measures.sharpe(np.full(10, 0.1), 1.0))
    assert np.isnan(measures.sharpe(np.full(10, 1e5 / 3), 1.0))


def test_sortino_counts_shortfalls_over_all_periods():
    # one of four periods falls short, by .01: the downside deviation is .01 / sqrt(4)
    assert measures.sortino(RETURNS, 1.0) == pytest.approx(0.01 / 0.005)
    assert measures.sortino(RETURNS, 252) == pytest.approx(2 * 252**0.5)
    # against .01 the mean excess is 0
    assert measures.sortino(RETURNS, 1.0, target=0.01) == pytest.approx(0.0, abs=1e-12)
    assert np.isnan(measures.sortino(np.array([0.0, 0.01]), 1.0))


def test_calmar_is_annual_return_over_the_largest_drawdown_from_the_start_on():
    returns = np.array([-0.2, 0.5, 0.1])
    growth = 0.8 * 1.5 * 1.1
    assert measures.calmar(returns, 3.0) == pytest.approx((growth - 1) / 0.2)
    assert np.isnan(measures.calmar(np.array([0.1, 0.0]), 12))


def test_profit_calmar_is_mean_profit_over_the_largest_fall_in_currency():
    profits = np.array([-3.0, 5.0, -1.0, -1.0, 4.0])
    assert measures.profit_calmar(profits, 1.0) == pytest.approx(4 / 5 / 3)
    assert measures.profit_calmar(10 * profits, 1.0) == pytest.approx(4 / 5 / 3)
    assert np.isnan(measures.profit_calmar(np.array([1.0, 0.0]), 1.0))


def test_max_loss_is_the_largest_fall_from_a_peak_in_the_units_of_the_account():
    assert measures.max_loss(np.array([0.0, 5.0, -2.0, 4.0, -1.0])) == 7.0
    assert measures.max_loss(np.arange(4)) == 0.0


LADDER = np.random.default_rng(0).permutation(np.arange(1, 101)) - 51.0  # -50 … 49


def test_value_at_risk_is_a_loss_that_did_occur():
    assert measures.value_at_risk(LADDER, 0.95) == 46.0  # -50 … -46 are the worst five
    assert measures.value_at_risk(LADDER, 0.955) == 46.0  # 4.5 of 100: still the fifth
    assert measures.value_at_risk(-LADDER, 0.95) == 45.0


def test_expected_shortfall_is_the_mean_of_the_tail_the_last_in_part():
    assert measures.expected_shortfall(LADDER, 0.95) == pytest.approx(48.0)
    assert measures.expected_shortfall(LADDER, 0.985) == pytest.approx((50 + 0.5 * 49) / 1.5)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99, 0.999])
def test_the_expected_shortfall_is_never_below_the_value_at_risk(level):
    draws = np.random.default_rng(1).standard_t(3, (250, 40))
    gap = measures.expected_shortfall(draws, level) - measures.value_at_risk(draws, level)
    assert (gap >= -1e-12).all()


def test_expected_shortfall_does_not_punish_diversification():
    # subadditive (Acerbi & Tasche 2002), as the value at risk is not
    left, right = np.random.default_rng(2).standard_t(3, (2, 250, 40))
    parts = measures.expected_shortfall(left, 0.97) + measures.expected_shortfall(right, 0.97)
    assert (measures.expected_shortfall(left + right, 0.97) <= parts + 1e-12).all()


def test_tail_ratio_is_one_for_symmetric_returns_and_inverts_with_their_sign():
    assert measures.tail_ratio(np.arange(-50.0, 51.0), 0.95) == pytest.approx(1.0)
    skewed = np.random.default_rng(3).exponential(size=500) - 1
    ratio = measures.tail_ratio(skewed, 0.9)
    assert ratio == pytest.approx(1 / measures.tail_ratio(-skewed, 0.9))
    assert ratio > 1.5
    assert np.isnan(measures.tail_ratio(np.arange(5.0) + 1, 0.9))


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, np.nan])
def test_levels_that_are_no_shares_are_refused(level):
    for measure in (measures.value_at_risk, measures.expected_shortfall, measures.tail_ratio):
        with pytest.raises(ValueError, match=r"such as \.95"):
            measure(RETURNS, level)


def by_name(values):
    return {
        "sharpe": measures.sharpe(values, 12),
        "sortino": measures.sortino(values, 12),
        "calmar": measures.calmar(values, 12),
        "profit_calmar": measures.profit_calmar(values, 12),
        "value_at_risk": measures.value_at_risk(values, 0.9),
        "expected_shortfall": measures.expected_shortfall(values, 0.9),
        "tail_ratio": measures.tail_ratio(values, 0.9),
        "max_loss": measures.max_loss(values),
    }


def test_every_measure_takes_columns_and_leaves_a_series_with_a_nan_undefined():
    table = np.random.default_rng(4).normal(0.001, 0.02, (60, 3))
    table[17, 1] = np.nan
    whole = by_name(table)
    for k in range(3):
        for name, value in by_name(table[:, k]).items():
            assert np.isnan(value) == (k == 1), name
            np.testing.assert_allclose(whole[name][k], value, rtol=1e-12, err_msg=name)


def test_win_rate_leaves_out_periods_without_a_result():
    assert measures.win_rate(RETURNS) == pytest.approx(2 / 3)
    assert np.isnan(measures.win_rate(np.zeros(3)))


def test_profit_factor_is_gains_over_losses():
    assert measures.profit_factor(RETURNS) == pytest.approx(0.05 / 0.01)
    assert measures.profit_factor(-RETURNS) == pytest.approx(0.01 / 0.05)
    assert np.isnan(measures.profit_factor([0.1, 0.0]))


def test_volatility_grows_with_the_root_of_time():
    assert measures.volatility(RETURNS, 1) == pytest.approx(np.sqrt(10 / 3) * 0.01)
    assert measures.volatility(RETURNS, 4) == pytest.approx(2 * measures.volatility(RETURNS, 1))


def test_an_evaluation_agrees_with_the_single_measures():
    found = measures.evaluate_returns(RETURNS, 252)
    assert found["sharpe"] == measures.sharpe(RETURNS, 252)
    assert found["sortino"] == measures.sortino(RETURNS, 252)
    assert found["total_return"] == measures.total_return(RETURNS)
    assert measures.evaluate_returns([-0.1, 0.05], 1)["max_drawdown"] == pytest.approx(0.1)


def test_an_evaluation_of_several_columns_is_that_of_each():
    both = measures.evaluate_returns(np.stack([RETURNS, -2 * RETURNS], axis=1), 252)
    for name, value in measures.evaluate_returns(-2 * RETURNS, 252).items():
        assert both[name][1] == pytest.approx(value), name


def test_an_evaluation_of_returns_with_nan_is_nan():
    for name, value in measures.evaluate_returns([0.1, np.nan, -0.1], 252).items():
        assert np.isnan(value), name
