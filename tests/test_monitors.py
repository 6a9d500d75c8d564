"""Monitors of performance: recursions, published run lengths, false alarms and delay."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftlib.evaluation.monitor_controls import control_monitor
from hftlib.evaluation.monitors import (
    KINDS,
    Monitor,
    first_alarm,
    fit_monitor,
    follow,
)
from hftlib.evaluation.samples import ConstantError, TooFewError, UndefinedError

NOISE = np.random.default_rng(0).normal(0.001, 0.02, 400)
FIT = {"kind": "cusum", "horizon_bars": 100, "seed": 1, "n_bootstrap": 199}


def test_cusum_by_hand():
    monitor = Monitor("cusum", mean=10, deviation=2, n_reference=5, allowance=0.5, threshold=2)
    # (10 - x) / 2 - .5 for 9, 6, 14, 6, 6: 0, 1.5, -2.5, 1.5, 1.5
    assert follow(monitor, [9, 6, 14, 6, 6]).tolist() == [0.0, 1.5, 0.0, 1.5, 3.0]
    assert first_alarm(monitor, [9, 6, 14, 6, 6]) == 4
    assert first_alarm(monitor, [9, 6, 14, 6]) is None


@settings(max_examples=50)
@given(st.lists(st.floats(-50, 50), min_size=1, max_size=40), st.floats(0, 2))
def test_page_hinkley_is_the_rise_of_its_sum_above_its_lowest_point(values, allowance):
    monitor = Monitor("page_hinkley", 1.0, 2.0, 3, allowance, 5.0)
    seen, total, lowest = [1.0] * 3, 0.0, 0.0  # three reference values with mean 1
    for found, value in zip(follow(monitor, values), values, strict=True):
        seen.append(value)
        total += (np.mean(seen) - value) / 2.0 - allowance
        lowest = min(lowest, total)
        assert found == pytest.approx(total - lowest, abs=1e-9)


@pytest.mark.parametrize(
    ("threshold", "shift", "run_length"),
    # one-sided, allowance .5, by the Markov chain of Brook & Evans (1972), Biometrika 59(3);
    # Montgomery's table 9.3 has 168 and 465 for both sides, 8.38 and 10.4
    [(4.0, 0.0, 335.4), (5.0, 0.0, 930.9), (4.0, 1.0, 8.38), (5.0, 1.0, 10.38)],
)
def test_run_lengths_of_cusum_are_the_published_ones(threshold, shift, run_length):
    monitor = Monitor("cusum", 0.0, 1.0, 10**9, 0.5, threshold)
    n_bars = 9000 if shift == 0 else 300
    values = np.random.default_rng(3).standard_normal((n_bars, 500)) - shift
    above = follow(monitor, values) > threshold
    lengths = np.where(above.any(axis=0), above.argmax(axis=0) + 1, n_bars)
    # lengths without a shift are nearly exponential: three standard errors of 500 are 13 %
    assert lengths.mean() == pytest.approx(run_length, rel=0.13 if shift == 0 else 0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_each_sum_is_of_the_past_and_of_its_own_path(kind):
    monitor = fit_monitor(NOISE, **(FIT | {"kind": kind}))
    values = np.random.default_rng(1).normal(-0.01, 0.02, 100)
    sums = follow(monitor, values)
    assert first_alarm(monitor, values) == np.argmax(sums > monitor.threshold)
    scrambled = np.append(values[:60], -values[60:])
    np.testing.assert_array_equal(follow(monitor, scrambled)[:60], sums[:60])
    both = follow(monitor, np.stack([values, -values], axis=1))
    np.testing.assert_array_equal(both[:, 0], sums)
    np.testing.assert_array_equal(both[:, 1], follow(monitor, -values))


@pytest.mark.parametrize("kind", KINDS)
def test_units_are_immaterial_and_a_seed_gives_one_monitor(kind):
    settings = FIT | {"kind": kind}
    monitor, scaled = fit_monitor(NOISE, **settings), fit_monitor(NOISE * 1e4, **settings)
    assert scaled.threshold == pytest.approx(monitor.threshold)
    assert monitor == fit_monitor(NOISE, **settings)
    assert monitor != fit_monitor(NOISE, **(settings | {"seed": 2}))


def test_a_longer_horizon_or_fewer_false_alarms_need_a_higher_threshold():
    base = fit_monitor(NOISE, **FIT).threshold
    assert fit_monitor(NOISE, **(FIT | {"horizon_bars": 400})).threshold > base
    assert fit_monitor(NOISE, false_alarm=0.2, **FIT).threshold < base


@pytest.mark.parametrize("kind", KINDS)
def test_false_alarms_keep_the_level_under_dependence_only_in_blocks(kind):
    found = control_monitor(
        kind,
        law=0.5,
        n_samples=100,
        seed=4,
        n_reference=600,
        horizon_bars=150,
        n_bootstrap=149,
        shift=1.0,
    )
    # 100 samples: a standard error of .022; three of them above the level
    assert found.independent > 0.2
    assert found.blocks <= 0.05 + 3 * found.error
    # a fall by one deviation a bar; threshold some 30 deviations at this dependence
    assert found.found > 0.9 and found.delay_bars < 60
    assert found.to_dict()["kind"] == kind


def test_delay_of_a_fall_is_the_threshold_over_the_drift_and_inf_where_it_is_missed():
    monitor = Monitor("cusum", 0.0, 1.0, 1000, 0.1, 8.0)
    # without noise each bar adds 1 - .1: ten bars, counted from 0, pass 8 at the ninth
    assert first_alarm(monitor, -np.ones(50)) == 8
    missed = control_monitor(
        "cusum", law=0.0, n_samples=5, seed=1, shift=0.0, n_bootstrap=199, horizon_bars=20
    )
    assert missed.delay_bars == np.inf and missed.to_dict()["delay_bars"] is None


def test_what_cannot_be_watched_is_refused_by_name():
    monitor = fit_monitor(NOISE, **FIT)
    with pytest.raises(UndefinedError, match="bar 1 is not finite"):
        follow(monitor, [0.0, np.inf])
    with pytest.raises(TooFewError, match="99 observations"):
        fit_monitor(NOISE[:99], **FIT)
    with pytest.raises(ConstantError):
        fit_monitor(np.ones(200), **FIT)
    with pytest.raises(UndefinedError):
        fit_monitor(np.append(NOISE, np.nan), **FIT)
    with pytest.raises(ValueError, match=r"shape \(200, 2\)"):
        fit_monitor(NOISE.reshape(200, 2), **FIT)
    with pytest.raises(ValueError, match="horizon_bars=401"):
        fit_monitor(NOISE, **(FIT | {"horizon_bars": 401}))
    with pytest.raises(ValueError, match="false_alarm=0"):
        fit_monitor(NOISE, false_alarm=0.0, **FIT)
    with pytest.raises(TooFewError, match="99 draws"):
        fit_monitor(NOISE, **(FIT | {"n_bootstrap": 99}))
    with pytest.raises(ValueError, match="block=0"):
        fit_monitor(NOISE, block=0, **FIT)
    with pytest.raises(ValueError, match="kind is 'ewma'"):
        fit_monitor(NOISE, **(FIT | {"kind": "ewma"}))
    with pytest.raises(ValueError, match="deviation=0"):
        Monitor("cusum", 0.0, 0.0, 10, 0.1, 1.0)
