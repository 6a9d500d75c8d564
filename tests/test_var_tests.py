import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hftlib.portfolio.var_tests import (
    Transitions,
    VarTestError,
    backtest_var,
    conditional_test,
    count_transitions,
    find_exceptions,
    independence_test,
    kupiec_test,
)

# Kupiec (1995), as Jorion (2007), Value at Risk, table 6-2 prints it: numbers of exceptions N
# that do not reject at 5 %, low < N < high, for 255, 510 and 1,000 days.
REGIONS = {
    0.99: ((None, 7), (1, 11), (4, 17)),
    0.975: ((2, 12), (6, 21), (15, 36)),
    0.95: ((6, 21), (16, 36), (37, 65)),
    0.925: ((11, 28), (27, 51), (59, 92)),
    0.90: ((16, 36), (38, 65), (81, 120)),
}


@pytest.mark.parametrize("level", REGIONS)
def test_non_rejection_regions_are_those_of_kupiec(level):
    for n_bars, (low, high) in zip((255, 510, 1000), REGIONS[level], strict=True):
        # the table gives no lower end where that would be no exception at all
        kept = [n for n in range(1, 200) if kupiec_test(n, n_bars, level).p_value > 0.05]
        assert kept == list(range((low or 0) + 1, high))


def test_jorions_bank_of_1998():
    # Jorion (2007), ch. 6: J.P. Morgan, 20 exceptions in 252 days at 95 %, 6 of them in a row
    assert kupiec_test(20, 252, 0.95).statistic == pytest.approx(3.91, abs=0.005)
    pairs = Transitions(n00=218, n01=14, n10=14, n11=6)
    assert independence_test(pairs).statistic == pytest.approx(9.53, abs=0.005)
    assert conditional_test(pairs, 0.95).statistic == pytest.approx(3.91 + 9.53, abs=0.01)
    assert conditional_test(pairs, 0.95).p_value == pytest.approx(np.exp(-13.44 / 2), rel=0.01)


def test_an_example_of_another_implementation():
    # MATLAB's documentation of varbacktest, model Normal95: pof and cci
    found = kupiec_test(57, 1043, 0.95)
    assert found.statistic == pytest.approx(0.46147, abs=5e-6)
    assert found.p_value == pytest.approx(0.49694, abs=5e-6)
    found = independence_test(Transitions(n00=932, n01=53, n10=53, n11=4))
    assert found.statistic == pytest.approx(0.25866, abs=5e-6)
    assert found.p_value == pytest.approx(0.61104, abs=5e-6)


def test_no_exception_and_exceptions_only_have_a_coverage_but_no_independence():
    assert kupiec_test(0, 100, 0.95).statistic == pytest.approx(-200 * np.log(0.95))
    assert kupiec_test(100, 100, 0.95).statistic == pytest.approx(-200 * np.log(0.05))
    for constant, reason in ((0.0, "follows an exception"), (-1.0, "every bar follows")):
        found = backtest_var(np.full(100, constant), np.full(100, 0.5), 0.95)
        assert found.unconditional.p_value < 0.002
        for test in (found.independence, found.conditional):
            assert np.isnan([test.statistic, test.p_value]).all()
            assert reason in test.reason


def test_an_exception_on_the_last_bar_alone_has_no_successor():
    hits = np.zeros(50)
    hits[-1] = -1.0
    found = backtest_var(hits, np.full(50, 0.5), 0.95)
    assert (found.n_exceptions, found.transitions) == (1, (48, 1, 0, 0))
    assert found.independence.reason == "no bar follows an exception"


def test_exceptions_exactly_as_often_as_promised_have_ratio_zero():
    assert kupiec_test(5, 100, 0.95).statistic == pytest.approx(0.0, abs=1e-12)
    assert independence_test(Transitions(81, 9, 9, 1)).statistic == pytest.approx(0.0, abs=1e-12)


def test_a_loss_equal_to_the_forecast_is_no_exception_and_bars_without_one_are_left_out():
    returns = np.array([np.nan, -0.03, -0.02, -0.0200001, 0.5])
    forecast = np.array([np.nan, np.nan, 0.02, 0.02, 0.02])
    assert find_exceptions(returns, forecast).tolist() == [False, True, False]


@given(st.lists(st.booleans(), min_size=2, max_size=60))
def test_transitions_count_every_pair_once(hits):
    pairs = count_transitions(hits)
    assert sum(pairs) == len(hits) - 1
    assert pairs.n01 + pairs.n11 == sum(hits[1:])
    assert pairs.n10 + pairs.n11 == sum(hits[:-1])
    assert abs(pairs.n01 - pairs.n10) <= 1


@given(st.lists(st.booleans(), min_size=2, max_size=60))
def test_exceptions_read_backwards_are_as_independent(hits):
    forwards, backwards = (
        independence_test(count_transitions(order)) for order in (hits, hits[::-1])
    )
    if not forwards.reason and not backwards.reason and hits[0] == hits[-1]:
        assert forwards.statistic == pytest.approx(backwards.statistic, abs=1e-9)


def test_true_models_are_rejected_about_as_often_as_promised():
    rng = np.random.default_rng(0)
    p_values = np.array(
        [
            [
                conditional_test(count_transitions(hits), 0.95).p_value,
                kupiec_test(int(hits.sum()), 1000, 0.95).p_value,
            ]
            for hits in rng.random((2_000, 1000)) < 0.05
        ]
    )
    # 2,000 trials: standard error .005; the ratios are chi-squared only in the limit
    np.testing.assert_allclose((p_values < 0.05).mean(axis=0), 0.05, atol=0.02)


def test_clustered_exceptions_are_rejected_by_independence_alone():
    returns = np.zeros(1000)
    returns[::200] = -1.0
    for k in range(10):
        returns[k::200] = -1.0
    found = backtest_var(returns, np.full(1000, 0.5), 0.95)
    assert found.n_exceptions == 50 == pytest.approx(found.n_expected)
    assert found.unconditional.p_value == pytest.approx(1.0)
    assert found.independence.p_value < 1e-20
    assert found.conditional.statistic > stats.chi2.ppf(0.999, 2)


def test_a_result_is_written_as_json():
    found = backtest_var(np.zeros(100), np.full(100, 0.5), 0.95)
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["independence"]["p_value"] is None
    assert plain["unconditional"]["p_value"] == found.unconditional.p_value
    assert plain["transitions"]["n00"] == 99


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kupiec_test(3, 2, 0.95), "3 exceptions in 2 bars"),
        (lambda: kupiec_test(0, 0, 0.95), "0 exceptions in 0 bars"),
        (lambda: kupiec_test(1, 10, 95), "level is 95"),
        (lambda: backtest_var([0.1], [0.2], 0.95), "1 bars have a forecast"),
        (lambda: backtest_var([0.1, 0.1], [np.nan, np.nan], 0.95), "0 bars have a forecast"),
        (lambda: find_exceptions([0.1], [0.2, 0.2]), "same length"),
        (lambda: find_exceptions([0.1, np.nan], [0.2, 0.2]), "return of row 1"),
    ],
)
def test_what_cannot_be_tested_is_named(call, message):
    with pytest.raises(VarTestError, match=message):
        call()
