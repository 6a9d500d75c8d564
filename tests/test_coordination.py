import numpy as np
import pytest

from hftlib.evaluation.coordination import competition, coordination, diversity, efficiency

RNG = np.random.default_rng(0)
# exactly uncorrelated series of mean 1 and equal deviations: columns of a Hadamard matrix
HADAMARD = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])
INDEPENDENT = 1.0 + 2.0 * HADAMARD[:, 1:]
SAME = np.repeat(RNG.normal(1, 1, (50, 1)), 3, axis=1)


def test_independent_equal_agents_gain_the_root_of_their_number():
    assert efficiency(INDEPENDENT) == pytest.approx(3**0.5)
    assert efficiency(INDEPENDENT[:, :2]) == pytest.approx(2**0.5)
    assert diversity(INDEPENDENT) == pytest.approx(1.0)
    assert competition(INDEPENDENT) == pytest.approx(0.0)


def test_identical_agents_gain_nothing_by_being_several():
    assert efficiency(SAME) == pytest.approx(1.0)
    assert diversity(SAME) == pytest.approx(0.0)
    assert competition(SAME) == pytest.approx(0.0)


def test_opposite_agents_are_most_diverse():
    x = RNG.normal(0, 1, 100)
    assert diversity(np.stack([x, -x], axis=1)) == pytest.approx(2.0)
    # with their noise cancelled what they earn together does not vary
    assert np.isnan(efficiency(np.stack([1 + x, 1 - x], axis=1)))


def test_competition_is_the_squared_coefficient_of_variation_of_mean_profits():
    profits = np.array([[1.0, 3.0], [1.0, 3.0]])
    assert competition(profits) == pytest.approx(1 / 4)
    assert competition(10 * profits) == pytest.approx(1 / 4)
    assert np.isnan(competition(np.array([[2.0, -2.0], [4.0, -4.0]])))
    assert np.isnan(competition(np.zeros((5, 2))))


def test_agents_that_never_trade_are_left_out_of_ratios():
    idle = np.concatenate([INDEPENDENT, np.zeros((4, 2))], axis=1)
    assert efficiency(idle) == efficiency(INDEPENDENT)
    assert diversity(idle) == diversity(INDEPENDENT)
    assert np.isnan(efficiency(np.zeros((4, 2))))
    assert np.isnan(diversity(idle[:, 2:]))


def test_agents_that_lose_have_no_efficiency():
    assert np.isnan(efficiency(-INDEPENDENT))


def test_measures_do_not_depend_on_the_order_or_the_scale_of_agents():
    profits = RNG.normal(1, 2, (40, 4)) + RNG.normal(0, 1, (40, 1))
    for measure in (efficiency, diversity, competition):
        assert measure(profits[:, ::-1]) == pytest.approx(measure(profits))
        assert measure(7 * profits) == pytest.approx(measure(profits))


def test_values_are_means_over_seeds_and_intervals_hold_them():
    profits = RNG.normal(1, 1, (3, 60, 2))
    found = coordination(profits, n_bootstrap=300)
    each = np.mean([efficiency(part) for part in profits])
    assert found["efficiency"].value == pytest.approx(each)
    for estimate in found.values():
        assert estimate.low < estimate.value < estimate.high
    # independent agents: the truth is sqrt(2) and 1
    assert found["efficiency"].low < 2**0.5 < found["efficiency"].high
    assert found["diversity"].low < 1 < found["diversity"].high


def test_one_seed_gives_one_interval():
    profits = RNG.normal(1, 1, (30, 2))
    assert coordination(profits, n_bootstrap=50) == coordination(profits, n_bootstrap=50)
    assert coordination(profits, n_bootstrap=50) != coordination(profits, n_bootstrap=50, seed=1)


def test_a_single_agent_cannot_coordinate():
    with pytest.raises(ValueError, match=r"shape \(10, 1\); expected .* two agents or more"):
        coordination(np.zeros((10, 1)))
