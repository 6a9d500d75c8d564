"""Off-policy evaluation: hand-computed cases, a small decision process, coverage of intervals."""

from functools import partial
from typing import NamedTuple

import numpy as np
import pytest

from hftlib.evaluation.offpolicy import (
    estimate_fitted,
    estimate_weighted,
    importance_ratios,
)
from hftlib.evaluation.session_basis import SessionBasis

# Two states, two actions. Rewards and chances of state 1 next; every step ends it with chance .5.
REWARDS = np.array([[0.0, 1.0], [2.0, -1.0]])
NEXT = np.array([[0.2, 0.7], [0.9, 0.4]])
END = 0.5
BEHAVIOUR = np.array([[0.6, 0.4], [0.5, 0.5]])
TARGET = np.array([[0.45, 0.55], [0.65, 0.35]])  # weights with four moments


class Steps(NamedTuple):
    """Recorded steps, one a row; an observation is the state's number."""

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    next_observations: np.ndarray
    terminated: np.ndarray
    episodes: np.ndarray


def true_value(policy: np.ndarray, gamma: float = 1.0) -> float:
    """Mean return from state 0, by solving the Bellman equation."""
    reward = (policy * REWARDS).sum(axis=1)
    to_one = (policy * NEXT).sum(axis=1)
    moves = np.stack([1 - to_one, to_one], axis=1)
    return np.linalg.solve(np.eye(2) - gamma * (1 - END) * moves, reward)[0]


def record(n_episodes: int, seed: int, policy: np.ndarray = BEHAVIOUR) -> Steps:
    """Play from state 0 until the end, all episodes side by side."""
    rng = np.random.default_rng(seed)
    state, alive, parts = np.zeros(n_episodes, dtype=int), np.arange(n_episodes), []
    while len(alive):
        now = state[alive]
        action = (rng.random(len(alive)) < policy[now, 1]).astype(int)
        reward = REWARDS[now, action] + rng.normal(0, 0.5, len(alive))
        after = (rng.random(len(alive)) < NEXT[now, action]).astype(int)
        ends = rng.random(len(alive)) < END
        parts.append((now[:, None], action, reward, after[:, None], ends, alive))
        state[alive] = after
        alive = alive[~ends]
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.argsort(columns[-1], kind="stable")
    return Steps(*(column[order] for column in columns))


def chances(seen, policy=TARGET) -> np.ndarray:
    return policy[seen[:, 0].astype(int)]


def one_hot(seen, weights) -> np.ndarray:
    """A basis that can say everything: one coefficient for each state and action."""
    return (np.eye(2)[seen[:, 0].astype(int)][:, :, None] * weights[:, None, :]).reshape(-1, 4)


def find_ratios(steps: Steps) -> np.ndarray:
    pick = np.arange(len(steps.actions)), steps.actions
    seen = steps.observations
    return importance_ratios(chances(seen)[pick], chances(seen, BEHAVIOUR)[pick])


def weigh(steps: Steps, **settings):
    return estimate_weighted(find_ratios(steps), steps.rewards, steps.episodes, **settings)


def fit(steps: Steps, **settings):
    settings = {"n_actions": 2, "n_iterations": 100, "ridge": 1e-9} | settings
    return estimate_fitted(steps, steps.episodes, chances, one_hot, **settings)


ESTIMATORS = {
    "per_episode": partial(weigh, is_per_decision=False),
    "per_decision": partial(weigh, is_per_decision=True),
    "fitted": fit,
}


# ----- importance sampling, by hand -----


def test_ratios_are_quotients_and_zero_where_neither_acts():
    found = importance_ratios([[0.5, 0.5, 0.0]], [[0.25, 0.75, 0.0]])
    np.testing.assert_allclose(found, [[2.0, 2 / 3, 0.0]])


def test_a_hand_computed_case():
    ratios = np.array([2.0, 0.5, 3.0, 1.0, 0.5])
    rewards = np.array([1.0, 2.0, 4.0, 1.0, 8.0])
    episodes = np.array([0, 0, 1, 2, 2])
    whole = estimate_weighted(ratios, rewards, episodes, is_per_decision=False)
    assert whole.value.value == pytest.approx((1 * 3 + 3 * 4 + 0.5 * 9) / 4.5)
    assert whole.effective_episodes == pytest.approx(4.5**2 / (1 + 9 + 0.25))
    # step 0: weights 2, 3, 1; step 1: 1, 3 (ended), .5
    by_step = estimate_weighted(ratios, rewards, episodes, is_per_decision=True, gamma=0.5)
    first, second = (2 + 12 + 1) / 6, (1 * 2 + 0.5 * 8) / 4.5
    assert by_step.value.value == pytest.approx(first + 0.5 * second)
    effective = (3 * 36 / 14 + 2 * 0.5 * 4.5**2 / 10.25) / (3 + 2 * 0.5)
    assert by_step.effective_episodes == pytest.approx(effective)


@pytest.mark.parametrize("is_per_decision", [False, True])
def test_the_recorded_policy_is_worth_its_mean_return(is_per_decision):
    steps = record(50, 0)
    found = estimate_weighted(
        np.ones(len(steps.rewards)), steps.rewards, steps.episodes, is_per_decision=is_per_decision
    )
    assert found.value.value == pytest.approx(steps.rewards.sum() / 50)
    assert found.effective_episodes == pytest.approx(50)


def test_both_kinds_agree_where_only_the_last_step_pays():
    rng = np.random.default_rng(0)
    n, length = 40, 7
    ratios, rewards = rng.uniform(0.5, 2, n * length), np.zeros(n * length)
    rewards[length - 1 :: length] = rng.normal(size=n)
    both = [
        estimate_weighted(ratios, rewards, np.arange(n).repeat(length), is_per_decision=kind)
        for kind in (False, True)
    ]
    assert both[0].value.value == pytest.approx(both[1].value.value)
    assert both[0].value.low == pytest.approx(both[1].value.low)


@pytest.mark.parametrize("is_per_decision", [False, True])
def test_products_of_thousands_of_ratios_neither_overflow_nor_vanish(is_per_decision):
    n, length = 3, 4000
    for ratio in (2.0, 0.5):
        found = estimate_weighted(
            np.full(n * length, ratio),
            np.ones(n * length),
            np.arange(n).repeat(length),
            is_per_decision=is_per_decision,
            n_bootstrap=10,
        )
        assert found.value.value == pytest.approx(length)
        assert found.effective_episodes == pytest.approx(n)


def test_an_episode_that_the_target_would_not_play_counts_nothing():
    ratios = np.array([1.0, 0.0, 1.0, 1.0, 1.0])
    rewards = np.array([5.0, 100.0, 5.0, 1.0, 2.0])
    episodes = np.array([0, 0, 0, 1, 1])
    whole = estimate_weighted(ratios, rewards, episodes, is_per_decision=False)
    by_step = estimate_weighted(ratios, rewards, episodes)
    assert whole.value.value == 3.0
    assert by_step.value.value == (5 + 1) / 2 + 2


def test_without_any_weight_there_is_no_estimate():
    found = estimate_weighted(np.zeros(4), np.ones(4), np.array([0, 0, 1, 1]))
    assert np.isnan([found.value.value, found.value.low, found.value.high]).all()
    assert found.effective_episodes == 0


# ----- the small decision process -----


def test_weights_have_mean_one_and_weighted_returns_the_true_mean():
    steps = record(40_000, 1)
    starts = np.flatnonzero(np.diff(steps.episodes, prepend=-1))
    weights = np.multiply.reduceat(find_ratios(steps), starts)
    returns = np.bincount(steps.episodes, steps.rewards)
    for values, truth in ((weights, 1.0), (weights * returns, true_value(TARGET))):
        error = values.std() / np.sqrt(len(values))
        assert abs(values.mean() - truth) < 4 * error


@pytest.mark.parametrize("gamma", [1.0, 0.8])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimates_come_close_to_the_known_value(name, gamma):
    found = ESTIMATORS[name](record(3000, 2), gamma=gamma, n_bootstrap=200)
    truth = true_value(TARGET, gamma)
    error = (found.value.high - found.value.low) / 4
    assert abs(found.value.value - truth) < 4 * error
    assert abs(found.value.value - true_value(BEHAVIOUR, gamma)) > 4 * error  # and not that one
    assert found.n_episodes == found.n_games == 3000


@pytest.mark.parametrize("name", ESTIMATORS)
def test_intervals_cover_the_known_value(name):
    n, truth = 120, true_value(TARGET)
    found = [ESTIMATORS[name](record(200, 10 + k), n_bootstrap=150).value for k in range(n)]
    share = np.mean([estimate.low <= truth <= estimate.high for estimate in found])
    assert share > 0.95 - 4 * np.sqrt(0.95 * 0.05 / n)  # .87
    widths = [estimate.high - estimate.low for estimate in found]
    assert np.mean(widths) < 5 * np.std([estimate.value for estimate in found])  # 3.9 if normal


@pytest.mark.parametrize("name", ESTIMATORS)
def test_sessions_of_one_game_are_resampled_together(name):
    once = record(60, 3)
    twice = Steps(*(np.concatenate([column, column]) for column in once))
    twice = twice._replace(episodes=np.concatenate([once.episodes, once.episodes + 60]))
    games = np.concatenate([once.episodes, once.episodes])
    single = ESTIMATORS[name](once)
    double = ESTIMATORS[name](twice, games=games)
    for bound in ("value", "low", "high"):
        assert getattr(double.value, bound) == pytest.approx(getattr(single.value, bound))
    assert (double.n_episodes, double.n_games) == (120, 60)
    naive = ESTIMATORS[name](twice).value
    assert naive.high - naive.low < 0.85 * (double.value.high - double.value.low)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_same_seed_gives_the_same_interval(name):
    steps = record(50, 4)
    assert ESTIMATORS[name](steps, seed=1).value == ESTIMATORS[name](steps, seed=1).value
    assert ESTIMATORS[name](steps, seed=1).value != ESTIMATORS[name](steps, seed=2).value


# ----- fitted Q evaluation -----


def make_line(is_truncated: bool = False) -> Steps:
    """State 0 pays 1 and leads to state 1, which pays 2 and ends the game."""
    return Steps(
        observations=np.array([[0], [1]]),
        actions=np.array([0, 0]),
        rewards=np.array([1.0, 2.0]),
        next_observations=np.array([[1], [1]]),
        terminated=np.array([False, not is_truncated]),
        episodes=np.array([0, 0]),
    )


def test_the_curve_adds_a_step_at_each_iteration():
    always_first = np.array([[1.0, 0.0], [1.0, 0.0]])
    steps = make_line()
    found = estimate_fitted(
        steps,
        steps.episodes,
        partial(chances, policy=always_first),
        one_hot,
        n_actions=2,
        gamma=0.5,
        ridge=1e-12,
        n_iterations=4,
        n_bootstrap=3,
    )
    np.testing.assert_allclose(found.curve, [1.0, 2.0, 2.0, 2.0], rtol=1e-9)
    assert found.value.value == found.curve[-1]


def test_truncation_bootstraps_and_termination_does_not():
    always_first = np.array([[1.0, 0.0], [1.0, 0.0]])
    steps = make_line(is_truncated=True)
    found = estimate_fitted(
        steps,
        steps.episodes,
        partial(chances, policy=always_first),
        one_hot,
        n_actions=2,
        gamma=0.5,
        ridge=1e-12,
        n_iterations=60,
        n_bootstrap=3,
    )
    assert found.value.value == pytest.approx(1 + 0.5 * (2 / (1 - 0.5)))


def test_the_fit_is_the_value_in_the_recorded_process():
    """With a coefficient for every state and action the answer is that of the counted process."""
    steps = record(400, 5)
    code = steps.observations[:, 0] * 2 + steps.actions
    reward = np.array([steps.rewards[code == k].mean() for k in range(4)])
    moves = np.zeros((4, 4))
    for k in range(4):
        rows = code == k
        for state in (0, 1):
            is_next = (steps.next_observations[rows, 0] == state) & ~steps.terminated[rows]
            moves[k, 2 * state : 2 * state + 2] = is_next.mean() * TARGET[state]
    values = np.linalg.solve(np.eye(4) - moves, reward)
    assert fit(steps).value.value == pytest.approx(values[:2] @ TARGET[0], rel=1e-6)


# ----- the basis of the crash game -----


def observe(n: int = 50, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise, and whether a side bet is open."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 36)).astype(np.float32), rng.random(n) < 0.5


def test_the_basis_is_linear_in_the_chances_of_the_actions():
    (seen, stakes), rng = observe(), np.random.default_rng(1)
    first, second = rng.dirichlet(np.ones(36), size=(2, 50))
    basis = SessionBasis.fit(seen)
    mixed = 0.3 * basis(seen, stakes, first) + 0.7 * basis(seen, stakes, second)
    np.testing.assert_allclose(basis(seen, stakes, 0.3 * first + 0.7 * second), mixed, atol=1e-12)


def test_an_action_has_the_coefficients_of_its_choice_and_its_adjustment():
    seen, stakes = observe()
    buying = SessionBasis.fit(seen)(seen, stakes, np.eye(36)[np.full(50, 1 * 9 + 2)])
    by_choice, adjustments = buying[:, :-8].reshape(50, 4, 5), buying[:, -8:]
    assert not by_choice[:, [0, 2, 3]].any()
    np.testing.assert_array_equal(adjustments, np.eye(8)[np.full(50, 1)])
    value = seen[:, 10].astype(float) * seen[:, 1]
    amounts = np.column_stack([value, seen[:, [9, 31]].astype(float)])
    expected = np.column_stack([np.ones(50), amounts / amounts.std(axis=0), stakes])
    np.testing.assert_allclose(by_choice[:, 1], expected)


def test_an_amount_that_never_varies_has_the_unit_1():
    assert SessionBasis.fit(np.zeros((3, 36), dtype=np.float32)).units == (1.0, 1.0, 1.0)


# ----- refusals -----


def test_a_target_outside_the_recorded_actions_is_refused():
    with pytest.raises(ValueError, match=r"chance 0.4 at \(1, 1\) where the behaviour never does"):
        importance_ratios([[0.5, 0.5], [0.6, 0.4]], [[0.5, 0.5], [1.0, 0.0]])


@pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan])
def test_chances_that_are_none_are_refused(bad):
    with pytest.raises(ValueError, match=r"behaviour chance .* at \(1,\)"):
        importance_ratios([0.5, 0.5], [0.5, bad])


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="expected one shape"):
        importance_ratios([0.5], [0.5, 0.5])


def test_scattered_episodes_and_games_are_refused():
    ones = np.ones(3)
    with pytest.raises(ValueError, match="episode 0 are not together"):
        estimate_weighted(ones, ones, np.array([0, 1, 0]))
    with pytest.raises(ValueError, match="episode of row 2 lies in two games"):
        estimate_weighted(ones, ones, np.array([0, 1, 1]), games=np.array([5, 6, 7]))
    with pytest.raises(ValueError, match="no steps"):
        estimate_weighted(ones[:0], ones[:0], np.zeros(0))
