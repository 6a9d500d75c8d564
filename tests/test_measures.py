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
