"""Exploration noise: moments in closed form, restarts, decay."""

import math

import numpy as np
import pytest

from hftlib.agents.noise import ActionNoise, decay_scale


def walk(noise: ActionNoise, n_steps: int):
    return np.stack([noise.step() for _ in range(n_steps)])


@pytest.mark.parametrize("kind", ["gaussian", "ou"])
def test_every_step_has_mean_zero_and_variance_one(kind):
    n = 40_000
    values = walk(ActionNoise(kind, (n, 1), np.random.default_rng(0), theta=0.3), 20)
    # Copies are independent: four standard errors of a mean, and of a variance of normals.
    assert np.abs(values.mean(axis=1)).max() < 4 / math.sqrt(n)
    assert np.abs(values.var(axis=1) - 1).max() < 4 * math.sqrt(2 / n)


@pytest.mark.parametrize("theta", [0.05, 0.5])
def test_ou_noise_forgets_exponentially(theta):
    n = 40_000
    values = walk(ActionNoise("ou", (n, 1), np.random.default_rng(1), theta=theta), 8)[:, :, 0]
    for lag in (1, 3, 7):
        correlation = (values[0] * values[lag]).mean()
        assert abs(correlation - math.exp(-theta * lag)) < 4 * math.sqrt(2 / n)


def test_gaussian_noise_has_no_memory():
    n = 40_000
    first, second = walk(ActionNoise("gaussian", (n, 1), np.random.default_rng(2)), 2)
    assert abs((first * second).mean()) < 4 / math.sqrt(n)


def test_only_copies_that_restart_forget_their_past():
    noise = ActionNoise("ou", (2_000, 3), np.random.default_rng(3), theta=0.01)
    before = noise.step()
    kept = before.copy()
    starts = np.arange(2_000) % 2 == 0
    noise.restart(starts)
    np.testing.assert_array_equal(noise.values[~starts], before[~starts])
    np.testing.assert_array_equal(before, kept)
    n = 3_000
    assert abs((noise.values[starts] * before[starts]).mean()) < 4 / math.sqrt(n)
    assert abs(noise.values[starts].var() - 1) < 4 * math.sqrt(2 / n)


def test_noise_goes_on_bit_for_bit_from_a_saved_state():
    noise = ActionNoise("ou", (4, 2), np.random.default_rng(4))
    noise.step()
    saved = noise.save_state()
    expected = walk(noise, 5)
    other = ActionNoise("ou", (4, 2), np.random.default_rng(99))
    other.load_state(saved)
    np.testing.assert_array_equal(walk(other, 5), expected)


def test_scale_decays_to_its_floor():
    assert decay_scale(0.1, 0.9995, 0.01, 0) == 0.1
    assert decay_scale(0.1, 0.9995, 0.01, 1000) == pytest.approx(0.1 * 0.9995**1000)
    assert decay_scale(0.1, 0.9995, 0.01, 10_000) == 0.01


def test_an_unknown_kind_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="'pink'; expected one of gaussian, ou"):
        ActionNoise("pink", (1, 1), np.random.default_rng(0))
    with pytest.raises(ValueError, match="theta is 0"):
        ActionNoise("ou", (1, 1), np.random.default_rng(0), theta=0)
