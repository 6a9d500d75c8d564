"""Closed forms of the two value processes.

Sampling errors are measured on 50 batches: a tolerance is 5 standard errors of
the mean over batches, which the fixed seeds pass and a wrong formula does not.
"""

import numpy as np
import pytest
from scipy import stats

from hftlib.compute import compile_kernel
from hftlib.market.draws import normal, open_streams, poisson
from hftlib.market.fundamental import (
    JumpParams,
    OUParams,
    simulate_jump,
    simulate_ou,
    step_jump,
    step_ou,
)
from tests.markets import JUMP, OU

CALM = OUParams(mean=100.0, reversion_hz=0.3, volatility=2.0, shock_hz=0.0, shock_scale=0.0)
RANDOM_WALK = CALM._replace(reversion_hz=0.0)
JUMPS = JumpParams(
    start=100.0, drift=0.05, volatility=0.2, jump_hz=1.5, jump_mean=-0.1, jump_scale=0.15
)
PULLED = JUMPS._replace(reversion_hz=0.4)
N_BATCHES = 50


@compile_kernel
def fill_ends(step, value, seconds, n_parts, p, stream, out):
    for i in range(len(out)):
        now = value
        for _ in range(n_parts):
            now = step(now, seconds / n_parts, p, stream)
        out[i] = now


def ends(step, p, seconds: float, *, value: float = 100.0, n_parts: int = 1, n: int = 200_000):
    """Values after `seconds`, walked in `n_parts` steps."""
    out = np.empty(n)
    fill_ends(step, value, seconds, n_parts, p, open_streams(3, n_parts)[0], out)
    return out


def assert_statistic(sample: np.ndarray, statistic, expected: float):
    batches = [statistic(batch) for batch in np.split(sample, N_BATCHES)]
    error = np.std(batches, ddof=1) / np.sqrt(N_BATCHES)
    assert np.mean(batches) == pytest.approx(expected, abs=5 * error)


# Ornstein-Uhlenbeck


@pytest.mark.parametrize("seconds", [0.01, 1.0, 50.0])
@pytest.mark.parametrize("p", [CALM, RANDOM_WALK])
def test_ou_value_is_normal_with_the_closed_mean_and_variance(p, seconds):
    sample = ends(step_ou, p, seconds, value=130.0)
    k, variance = p.reversion_hz, p.volatility**2 * seconds
    if k > 0:
        variance = p.volatility**2 * (1 - np.exp(-2 * k * seconds)) / (2 * k)
    mean = p.mean + (130 - p.mean) * np.exp(-k * seconds)
    assert stats.kstest(sample, "norm", (mean, np.sqrt(variance))).pvalue > 1e-3


def test_ou_path_has_the_closed_autocorrelation():
    path = simulate_ou(400_000, 0.1, CALM, seed=5)
    for lag in (1, 10, 50):
        rho = np.exp(-CALM.reversion_hz * 0.1)
        at_lag = rho**lag
        # Bartlett's formula for an autoregression of order 1
        variance = (1 + rho**2) * (1 - at_lag**2) / (1 - rho**2) - 2 * lag * at_lag**2
        seen = np.corrcoef(path[lag:], path[:-lag])[0, 1]
        assert seen == pytest.approx(at_lag, abs=4 * np.sqrt(variance / len(path)))


@pytest.mark.parametrize("p", [CALM, RANDOM_WALK])
def test_ou_steps_may_be_split(p):
    whole, parts = ends(step_ou, p, 3.0), ends(step_ou, p, 3.0, n_parts=7)
    assert stats.ks_2samp(whole, parts).pvalue > 1e-3


@pytest.mark.parametrize("reversion_hz", [1e-6, 1e-13, 1e-17, 1e-300])
def test_a_vanishing_reversion_gives_the_random_walk(reversion_hz):
    values = []
    for k in (0.0, reversion_hz):
        stream = open_streams(0, 0)[0]
        values.append(step_ou(100.0, 2.0, CALM._replace(reversion_hz=k), stream))
    # the first-order difference is k t times a few units
    assert values[1] == pytest.approx(values[0], abs=1e-12 + 100 * reversion_hz)


def test_shocks_add_their_variance_and_fat_tails():
    p = RANDOM_WALK._replace(shock_hz=0.4, shock_scale=5.0)
    sample = ends(step_ou, p, 2.0)
    variance = p.volatility**2 * 2 + p.shock_hz * 2 * p.shock_scale**2
    fourth = 3 * p.shock_hz * 2 * p.shock_scale**4  # cumulant of a compound Poisson sum
    assert_statistic(sample, np.mean, 100.0)
    assert_statistic(sample, np.var, variance)
    assert_statistic(sample, stats.kurtosis, fourth / variance**2)


# Merton


def test_jump_diffusion_grows_by_its_drift_alone():
    for p in (JUMPS, JUMPS._replace(jump_hz=0.0), JUMPS._replace(drift=0.0)):
        assert_statistic(ends(step_jump, p, 2.0), np.mean, 100 * np.exp(p.drift * 2))


def test_log_returns_have_merton_cumulants():
    p, t = JUMPS, 2.0
    returns = np.log(ends(step_jump, p, t, n=1_000_000) / 100)
    m, s, jumps = p.jump_mean, p.jump_scale, p.jump_hz * t
    compensator = p.jump_hz * (np.exp(m + s**2 / 2) - 1)
    mean = (p.drift - p.volatility**2 / 2 - compensator) * t + jumps * m
    variance = p.volatility**2 * t + jumps * (m**2 + s**2)
    third, fourth = jumps * (m**3 + 3 * m * s**2), jumps * (m**4 + 6 * m**2 * s**2 + 3 * s**4)
    assert_statistic(returns, np.mean, mean)
    assert_statistic(returns, np.var, variance)
    assert_statistic(returns, stats.skew, third / variance**1.5)
    assert_statistic(returns, stats.kurtosis, fourth / variance**2)


def test_without_jumps_log_returns_are_normal():
    p = JUMPS._replace(jump_hz=0.0)
    returns = np.log(ends(step_jump, p, 2.0) / 100)
    mean = (p.drift - p.volatility**2 / 2) * 2
    assert stats.kstest(returns, "norm", (mean, p.volatility * np.sqrt(2))).pvalue > 1e-3


@pytest.mark.parametrize("p", [JUMPS, PULLED])
@pytest.mark.parametrize("n_parts", [2, 7])
def test_jump_steps_may_be_split(p, n_parts):
    whole, parts = (ends(step_jump, p, 3.0, value=130.0, n_parts=n) for n in (1, n_parts))
    assert stats.ks_2samp(whole, parts).pvalue > 1e-3


# Schwartz, with jumps


@pytest.mark.parametrize("seconds", [0.01, 1.0, 50.0])
@pytest.mark.parametrize("value", [70.0, 100.0, 130.0])
def test_pulled_log_value_is_normal_with_the_closed_mean_and_variance(seconds, value):
    p = PULLED._replace(jump_hz=0.0)
    k, decay = p.reversion_hz, np.exp(-p.reversion_hz * seconds)
    mean = np.log(100) + np.log(value / 100) * decay
    mean += (p.drift - p.volatility**2 / 2) * (1 - decay) / k
    variance = p.volatility**2 * (1 - decay**2) / (2 * k)
    sample = np.log(ends(step_jump, p, seconds, value=value))
    assert stats.kstest(sample, "norm", (mean, np.sqrt(variance))).pvalue > 1e-3


def test_pulled_log_value_with_jumps_has_closed_cumulants():
    # a jump u seconds before the end counts exp(-k u): the r-th cumulant of a jump's size
    # comes with the integral of exp(-r k u)
    p, t = PULLED, 2.0
    k, m, s = p.reversion_hz, p.jump_mean, p.jump_scale
    span = [(1 - np.exp(-r * k * t)) / (r * k) for r in (1, 2, 3, 4)]
    compensator = p.jump_hz * (np.exp(m + s**2 / 2) - 1)
    mean = np.log(100) + np.log(1.3) * np.exp(-k * t) + p.jump_hz * m * span[0]
    mean += (p.drift - p.volatility**2 / 2 - compensator) * span[0]
    variance = (p.volatility**2 + p.jump_hz * (m**2 + s**2)) * span[1]
    third = p.jump_hz * (m**3 + 3 * m * s**2) * span[2]
    fourth = p.jump_hz * (m**4 + 6 * m**2 * s**2 + 3 * s**4) * span[3]
    logs = np.log(ends(step_jump, p, t, value=130.0, n=1_000_000))
    assert_statistic(logs, np.mean, mean)
    assert_statistic(logs, np.var, variance)
    assert_statistic(logs, stats.skew, third / variance**1.5)
    assert_statistic(logs, stats.kurtosis, fourth / variance**2)


@pytest.mark.parametrize("reversion_hz", [1e-6, 1e-13, 1e-17, 1e-300])
def test_a_vanishing_pull_gives_the_jump_diffusion(reversion_hz):
    values = []
    for k in (0.0, reversion_hz):
        stream, p = open_streams(0, 0)[0], JUMPS._replace(jump_hz=0.0, reversion_hz=k)
        values.append(step_jump(130.0, 2.0, p, stream))
    # the first-order difference is k t times a few tens
    assert values[1] == pytest.approx(values[0], abs=1e-12 + 100 * reversion_hz)


def test_without_a_pull_a_step_is_merton_s_number_by_number():
    stream, twin = open_streams(4, 0)[0], open_streams(4, 0)[0]
    p, now = JUMPS, 100.0
    for _ in range(200):
        growth = (p.drift - p.volatility**2 / 2) * 0.7
        growth -= p.jump_hz * (np.exp(p.jump_mean + p.jump_scale**2 / 2) - 1) * 0.7
        growth += p.volatility * np.sqrt(0.7) * normal(twin)
        for _ in range(poisson(twin, p.jump_hz * 0.7)):
            growth += p.jump_mean + p.jump_scale * normal(twin)
        following = step_jump(now, 0.7, p, stream)
        assert following == pytest.approx(now * np.exp(growth), rel=1e-13)
        assert stream.tolist() == twin.tolist()
        now = following


def test_a_jump_value_stays_positive():
    assert ends(step_jump, JUMPS._replace(volatility=1.0), 20.0).min() > 0


# both


@pytest.mark.parametrize(
    ("simulate", "p", "start"),
    [(simulate_ou, OU, OU.mean), (simulate_jump, JUMP, JUMP.start)],
)
def test_a_path_depends_on_its_seed_alone(simulate, p, start):
    path = simulate(500, 1.0, p, seed=0)
    assert path.shape == (501,)
    assert path[0] == start
    np.testing.assert_array_equal(simulate(500, 1.0, p, seed=0), path)
    np.testing.assert_array_equal(simulate(200, 1.0, p, seed=0), path[:201])
    assert (simulate(500, 1.0, p, seed=1)[1:] != path[1:]).all()


@pytest.mark.parametrize(("step", "p"), [(step_ou, OU), (step_jump, JUMP), (step_jump, PULLED)])
def test_nothing_happens_in_no_time(step, p):
    assert step(21_987.5, 0.0, p, open_streams(0, 0)[0]) == 21_987.5
