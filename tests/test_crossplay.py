import numpy as np
import pytest
import torch

from hftlib.agents.fixed_others import FixedOthers
from hftlib.agents.learnt import LearntActor
from hftlib.agents.multiagent import Transition
from hftlib.evaluation.crossplay import (
    exploitability,
    play_crossplay,
    summarise_crossplay,
)
from hftlib.models.networks import make_head, make_mlp, make_recurrent
from tests.toy_market import Constant, Counter, ToyMarket
from tests.toy_marl import Targets

TEAMS = {
    "left": {"maker": Constant(-0.5), "executor": Constant(-0.5)},
    "right": {"maker": Constant(0.5), "executor": Constant(0.5)},
}


def test_makers_of_one_team_meet_the_others_of_another():
    teams = {
        "low": {"maker": Constant(0.0), "executor": Constant(0.25)},
        "high": {"maker": Constant(1.0), "executor": Constant(0.5)},
    }
    matrix = summarise_crossplay(play_crossplay(lambda: ToyMarket(luck=0.0), teams, seed=0))
    value = matrix.set_index(["makers", "others", "role"])["value"]
    for role in ("maker", "executor"):
        # five steps of 1 less the distance
        assert value["low", "low", role] == pytest.approx(5 * 0.75)
        assert value["low", "high", role] == pytest.approx(5 * 0.5)
        assert value["high", "low", role] == pytest.approx(5 * 0.25)
        assert value["high", "high", role] == pytest.approx(5 * 0.5)


def test_partners_with_a_convention_earn_less_among_strangers():
    episodes = play_crossplay(ToyMarket, TEAMS, seed=0, n_episodes=2)
    makers = episodes[episodes["role"] == "maker"]
    value = makers.pivot(index="world", columns=["makers", "others"], values="value")
    # 1 less a distance of 1, five steps; the luck of the worlds, deviation 22, cancels
    gap = value["left", "left"] - value["left", "right"]
    np.testing.assert_allclose(gap, 5.0)
    matrix = summarise_crossplay(episodes)
    assert (matrix["episodes"] == 8).all()
    assert (matrix["high"] - matrix["low"]).min() > 5


def test_all_pairings_play_in_the_same_worlds():
    episodes = play_crossplay(ToyMarket, TEAMS, seed=3)
    worlds = episodes.groupby(["makers", "others", "role"])["world"].agg(tuple)
    assert set(worlds) == {(3, 4, 5, 6)}


def find_best_constant(course):
    """Try five actions for one episode each, keep the best."""
    rewards = {}
    for action in np.linspace(-1, 1, 5):
        course.reset(seed=100)
        total = 0.0
        for _ in range(5):
            total += course.step([np.full((course.n_envs, 1), action)]).rewards.sum()
        rewards[action] = total
    return Constant(max(rewards, key=rewards.get))


def test_the_exploitability_is_what_the_best_response_gains():
    policies = {"maker": Constant(-0.5), "executor": Constant(0.5)}
    found = exploitability(ToyMarket, policies, "maker", find_best_constant, seed=0)
    assert found.gain.value == pytest.approx(5.0)
    assert found.gain.high - found.gain.low < 1e-9
    assert found.response.value - found.incumbent.value == pytest.approx(5.0)
    assert found.agent == "maker"
    assert found.n_steps == 5 * 5 * 4  # episodes x steps x copies
    assert found.to_dict()["gain"]["value"] == pytest.approx(5.0)


def test_an_equilibrium_cannot_be_exploited():
    found = exploitability(ToyMarket, TEAMS["left"], "executor", find_best_constant, seed=0)
    assert found.gain.value == 0.0


def test_a_bad_response_shows_a_loss():
    found = exploitability(ToyMarket, TEAMS["left"], "maker", lambda _: Constant(1.0), seed=0)
    assert found.gain.value == pytest.approx(-7.5)


def fixed(other=None, **settings):
    return FixedOthers(ToyMarket(**settings), "maker", {"executor": other or Constant(0.25)})


def test_the_learner_sees_an_environment_of_one_agent():
    course = fixed(luck=0.0)
    assert course.agents == ("maker",)
    observations, state = course.reset(seed=0)
    assert len(observations) == 1
    assert state.shape == (4, course.state_size)
    result = course.step([np.full((4, 1), 1.0)])
    assert isinstance(result, Transition)
    np.testing.assert_allclose(result.rewards, np.full((4, 1), 0.25))
    assert result.terminated.shape == (4, 1)


def test_it_is_the_environment_with_the_others_inside():
    env = Targets(n_envs=3)
    course = FixedOthers(Targets(n_envs=3), "right", {"left": Constant(0.5)})
    env.reset(seed=5)
    course.reset(seed=5)
    rng = np.random.default_rng(0)
    for _ in range(12):
        action = rng.uniform(-1, 1, (3, 1))
        whole = env.step([np.full((3, 1), 0.5), action])
        part = course.step([action])
        np.testing.assert_array_equal(part.rewards, whole.rewards[:, [1]])
        np.testing.assert_array_equal(part.observations[0], whole.observations[1])
        np.testing.assert_array_equal(part.final_observations[0], whole.final_observations[1])
        np.testing.assert_array_equal(part.truncated, whole.truncated)
        np.testing.assert_array_equal(part.state, whole.state)


def test_others_with_a_memory_begin_with_each_episode():
    course = fixed(Counter(), luck=0.0)
    course.reset(seed=0)
    rewards = [course.step([np.zeros((4, 1))]).rewards[0, 0] for _ in range(7)]
    np.testing.assert_allclose(rewards, [0.9, 0.8, 0.7, 0.6, 0.5, 0.9, 0.8])
    assert course.others["executor"].begun == [4, 4]


def test_the_given_policies_stay_as_they_are():
    counter = Counter()
    course = fixed(counter)
    course.reset(seed=0)
    assert counter.begun == []


def test_a_saved_course_goes_on_bit_for_bit():
    course = fixed(Counter())
    course.reset(seed=1)
    for _ in range(3):
        course.step([np.zeros((4, 1))])
    saved = course.save_state()
    first = [course.step([np.zeros((4, 1))]).rewards for _ in range(6)]
    course.load_state(saved)
    assert course.n_steps == 12
    again = [course.step([np.zeros((4, 1))]).rewards for _ in range(6)]
    np.testing.assert_array_equal(first, again)


def test_a_learner_that_has_ended_sees_and_earns_nothing_until_its_copy_starts_anew():
    # distance 1.25: the maker loses .25 a step and is ended by its second
    course = fixed(Constant(-0.25), luck=0.0, limits=(0.4, np.inf))
    course.reset(seed=0)
    steps = [course.step([np.full((4, 1), 1.0)]) for _ in range(5)]
    assert [step.rewards[0, 0] for step in steps] == [-0.25, -0.25, 0, 0, 0]
    assert not any(step.terminated.any() for step in steps)
    assert [step.truncated.all() for step in steps] == [False] * 4 + [True]
    assert (steps[0].observations[0] != 0).any()
    assert all((step.observations[0] == 0).all() for step in steps[1:4])
    assert (steps[4].final_observations[0] == 0).all()
    assert (steps[4].observations[0][:, 0] == 1).all()  # of the next episode


def test_a_copy_that_waits_for_the_clock_with_all_agents_ended_does_not_start_anew():
    course = fixed(Counter(), luck=0.0, limits=(-5.0, -5.0))
    course.reset(seed=0)
    steps = [course.step([np.zeros((4, 1))]) for _ in range(5)]
    assert [step.terminated.all() for step in steps] == [False] * 4 + [True]
    assert course.others["executor"].begun == [4, 4]


class Uneven(ToyMarket):
    """Copy 0 shows the start of an episode after each step."""

    def step(self, actions):
        result = super().step(actions)
        first = np.arange(self.n_envs) == 0
        seen = tuple(
            np.where(first[:, None], -1, x).astype(np.float32) for x in result.observations
        )
        return result._replace(observations=seen)


def test_copies_that_start_anew_at_different_times_refuse_others_that_remember_all_or_nothing():
    course = FixedOthers(Uneven(), "maker", {"executor": Counter()})
    course.reset(seed=0)
    with pytest.raises(ValueError, match=r"1 of 4 copies started anew.*'executor', a Counter"):
        course.step([np.zeros((4, 1))])


@pytest.mark.parametrize("make", [make_mlp, make_recurrent])
def test_learnt_others_begin_anew_in_those_copies_alone(make):
    space = ToyMarket().action_spaces[0]
    network = make((2, 8, 1), 1.0, torch.Generator().manual_seed(0))
    course = FixedOthers(
        Uneven(length=9, luck=0.0), "maker", {"executor": LearntActor(network, make_head(space))}
    )
    actors = [LearntActor(network, make_head(space)) for _ in range(4)]  # a copy each
    course.reset(seed=0)
    for actor in actors:
        actor.begin(1)
    seen = course._seen[1]
    for _ in range(6):
        actions = [actor.act(seen[[b]]) for b, actor in enumerate(actors)]
        result = course.step([np.zeros((4, 1))])
        np.testing.assert_allclose(result.rewards, 1 - np.abs(np.vstack(actions)), rtol=1e-5)
        actors[0].begin(1)
        seen = course._seen[1]


def test_names_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="together they must be the agents maker, executor"):
        FixedOthers(ToyMarket(), "taker", {"executor": Constant(0)})
    with pytest.raises(ValueError, match="learner 'maker' and policies for maker, executor"):
        FixedOthers(ToyMarket(), "maker", {"maker": Constant(0), "executor": Constant(0)})
