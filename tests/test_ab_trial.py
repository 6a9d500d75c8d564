"""Routing: who serves whom, for good; and a test that may be looked at every day."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.integrate import quad
from scipy.signal import lfilter

from hftlib.live.ab_trial import (
    Routing,
    RoutingError,
    SequentialRule,
    SequentialState,
    difference_by_period,
    update_test,
    verdict,
)

KEYS = [f"client-{k}" for k in range(20_000)]


def test_shares_are_exact_in_the_long_run():
    shares = {"champion": 0.7, "challenger": 0.2, "flat": 0.1}
    routing = Routing(shares, "trial-1")
    arms = pd.Series([routing.assign(key) for key in KEYS]).value_counts()
    expected = [shares[arm] * len(KEYS) for arm in arms.index]
    assert stats.chisquare(arms, expected).pvalue > 0.001


@settings(max_examples=100)
@given(st.text(min_size=1, max_size=20), st.floats(0.01, 0.99))
def test_a_key_always_meets_the_same_arm_in_whatever_order_arms_are_named(key, share):
    one = Routing({"a": share, "b": 1 - share}, "s")
    other = Routing({"b": 1 - share, "a": share}, "s")
    assert one.assign(key) == one.assign(key) == other.assign(key)


def test_an_assignment_is_the_same_on_any_machine():
    routing = Routing({"champion": 0.5, "challenger": 0.5}, "2026-01")
    found = [routing.assign(key) for key in ("alice", "bob", "SP500", "BTC/USDT", "é")]
    assert found == ["champion", "champion", "champion", "challenger", "champion"]


def test_a_larger_share_moves_keys_to_that_arm_only():
    before = Routing({"a": 0.6, "b": 0.3, "c": 0.1}, "s")
    after = Routing({"a": 0.45, "b": 0.225, "c": 0.325}, "s")  # c takes of both alike
    moves = [(before.assign(key), after.assign(key)) for key in KEYS[:5000]]
    assert {pair for pair in moves if pair[0] != pair[1]} == {("a", "c"), ("b", "c")}


def test_another_salt_is_an_independent_assignment():
    one, other = (Routing({"a": 0.5, "b": 0.5}, salt) for salt in ("first", "second"))
    same = np.mean([one.assign(key) == other.assign(key) for key in KEYS])
    assert same == pytest.approx(0.5, abs=3 * 0.5 / len(KEYS) ** 0.5)


def test_an_arm_without_a_share_serves_nobody():
    assert {Routing({"a": 1.0, "b": 0.0}, "s").assign(key) for key in KEYS[:500]} == {"a"}


def judge_all(values, rule):
    """P-value of each path of shape (n_periods, n_paths) after each period, by `update_test`."""
    p = np.empty_like(values)
    for k, path in enumerate(values.T):
        state = SequentialState()
        for t, value in enumerate(path):
            state = update_test(rule, state, value)
            p[t, k] = state.p_value
    return p


def test_p_value_is_the_mixture_of_the_noncentral_t():
    values = np.random.default_rng(1).normal(0.3, 1, 12)
    rule, state, smallest = SequentialRule(effect_size=0.5), SequentialState(), 1.0
    for n, value in enumerate(values, start=1):
        state = update_test(rule, state, value)
        if n < 2:
            continue
        t = stats.ttest_1samp(values[:n], 0).statistic
        mixed, _ = quad(
            lambda d, n=n, t=t: stats.nct.pdf(t, n - 1, d * n**0.5) * stats.norm.pdf(d, 0, 0.5),
            -4, 4,
        )  # fmt: skip
        smallest = min(smallest, stats.t.pdf(t, n - 1) / mixed)
        assert state.p_value == pytest.approx(smallest, rel=1e-5)


def test_interval_holds_the_differences_that_would_not_be_rejected():
    rule, state = SequentialRule(effect_size=0.3), SequentialState()
    values = np.random.default_rng(2).normal(0.2, 1, 60)
    for value in values:
        state = update_test(rule, state, value)
    for edge, inwards in ((state.low, 1e-6), (state.high, -1e-6)):
        for move, is_rejected in ((inwards, False), (-inwards, True)):
            shifted = SequentialState()
            for value in values:
                shifted = update_test(rule, shifted, value - (edge + move))
            assert (shifted.p_value <= rule.level) is is_rejected


def test_units_sign_and_restart_are_immaterial():
    rule = SequentialRule()
    values = np.random.default_rng(3).normal(0.1, 1, 50)
    one = mirrored = SequentialState()
    for value in values:
        one = update_test(rule, SequentialState(*one), value)
        mirrored = update_test(rule, mirrored, -1e6 * value)
    assert mirrored.p_value == pytest.approx(one.p_value)
    assert mirrored.low == pytest.approx(-1e6 * one.high)


def test_looking_after_every_period_keeps_the_level_and_a_plain_t_test_does_not():
    values = np.random.default_rng(4).standard_normal((600, 300))
    p = judge_all(values, SequentialRule(level=0.05))
    # 300 trials: a standard error of .013; three of them above the level
    assert (p[-1] <= 0.05).mean() <= 0.05 + 3 * 0.013
    n = np.arange(1, 601)[:, None]
    mean = np.cumsum(values, axis=0) / n
    spread = np.sqrt((np.cumsum(values**2, axis=0) / n - mean**2) * n / np.maximum(n - 1, 1))
    plain = np.abs(mean[20:]) * np.sqrt(n[20:]) / spread[20:] > 1.96
    assert plain.any(axis=0).mean() > 0.3


def test_fat_tails_and_dependence_keep_it_with_blocks_and_not_without():
    rng = np.random.default_rng(5)
    fat = rng.standard_t(4, (600, 200))
    assert (judge_all(fat, SequentialRule())[-1] <= 0.05).mean() <= 0.05 + 3 * 0.0155
    linked = lfilter([1], [1, -0.5], rng.standard_normal((800, 200)), axis=0)[200:]
    assert (judge_all(linked, SequentialRule())[-1] <= 0.05).mean() > 0.2
    assert (judge_all(linked, SequentialRule(block=10))[-1] <= 0.05).mean() <= 0.05 + 3 * 0.0155


def test_a_planted_difference_is_found_with_its_sign():
    rule = SequentialRule(effect_size=0.3)
    for sign, expected in ((1, "better"), (-1, "worse")):
        state, said = SequentialState(), []
        for value in np.random.default_rng(6).normal(sign * 0.3, 1, 400):
            state = update_test(rule, state, value)
            said.append(verdict(rule, state))
        assert said[0] == "undecided" and said[-1] == expected
        assert expected in said and len(set(said)) == 2
        assert state.low < sign * 0.3 < state.high
        assert update_test(rule, state, -9.0 * sign) == state, "the trial is over"


def test_periods_are_averaged_in_whole_blocks():
    rule, state = SequentialRule(block=3), SequentialState()
    for value in (1.0, 2.0, 6.0, 5.0):
        state = update_test(rule, state, value)
    assert (state.n, state.mean, state.pending, state.pending_sum) == (1, 3.0, 1, 5.0)
    assert state.p_value == 1.0 and state.low == -np.inf


def test_differences_of_periods_by_hand():
    outcomes = pd.DataFrame(
        [("d2", "a", 5.0), ("d1", "a", 1.0), ("d1", "a", 3.0), ("d1", "b", 7.0), ("d2", "b", 4.0),
         ("d3", "a", 9.0), ("d1", "c", 0.0)],
        columns=["period", "arm", "value"],
    )  # fmt: skip
    found = difference_by_period(outcomes, "a", "b")
    assert found.to_dict() == {"d1": 5.0, "d2": -1.0}
    pd.testing.assert_series_equal(difference_by_period(outcomes, "b", "a"), -found)


def test_what_cannot_be_routed_or_compared_is_refused_by_name():
    for shares in ({}, {"a": 0.5}, {"a": 1.5, "b": -0.5}, {"a": np.nan, "b": 1.0}):
        with pytest.raises(RoutingError, match="1 in sum"):
            Routing(shares, "s")
    with pytest.raises(RoutingError, match="salt is empty"):
        Routing({"a": 1.0}, "")
    with pytest.raises(RoutingError, match="key is empty"):
        Routing({"a": 1.0}, "s").assign("")
    for wrong in ({"effect_size": 0.0}, {"level": 1.0}, {"block": 0}):
        with pytest.raises(RoutingError, match="expected above 0, between 0 and 1"):
            SequentialRule(**wrong)
    with pytest.raises(RoutingError, match="difference nan after 0 blocks"):
        update_test(SequentialRule(), SequentialState(), np.nan)
    outcomes = pd.DataFrame({"period": ["d"], "arm": ["a"], "value": [1.0]})
    with pytest.raises(RoutingError, match="no outcome of 'b'; there are a"):
        difference_by_period(outcomes, "a", "b")
    with pytest.raises(RoutingError, match="have no arm"):
        difference_by_period(outcomes.drop(columns="arm"), "a", "b")
    with pytest.raises(RoutingError, match="value of a in d is nan"):
        difference_by_period(outcomes.assign(value=np.nan), "a", "b")
