"""Copies of a `ParallelEnv`: what the environment does comes through, and can be gone on with."""

import numpy as np
import pytest
from gymnasium import spaces
from mpe2 import simple_speaker_listener_v4, simple_spread_v3
from pettingzoo import ParallelEnv

from hftlib.agents.parallel_adapter import ParallelCopies


class Walk(ParallelEnv):
    """Two agents see seed and step; "brief" terminates after `life` steps, all after `length`."""

    metadata = {"name": "walk"}  # noqa: RUF012 - as PettingZoo has it

    def __init__(self, life=2, length=4, cut=False):
        self.possible_agents, self.agents = ["brief", "lasting"], []
        self.life, self.length, self.cut = life, length, cut
        self.seen_space = spaces.Box(-np.inf, np.inf, (2,))
        self.moves = spaces.Box(np.float32([0, -4]), np.float32([1, 6]))
        self.taken = []

    def observation_space(self, agent):
        return self.seen_space

    def action_space(self, agent):
        return self.moves

    def reset(self, seed=None, options=None):
        self.seed, self.t, self.agents = seed, 0, self.possible_agents[:]
        return {name: np.array([seed, 0.0]) for name in self.agents}, dict.fromkeys(self.agents)

    def step(self, actions):
        assert set(actions) == set(self.agents)
        self.taken.append(actions)
        self.t += 1
        over = self.t == self.length
        seen = {name: np.array([self.seed, self.t]) for name in self.agents}
        rewards = {name: self.t + 0.5 * (name == "brief") for name in self.agents}
        ended = {name: name == "brief" and self.t == self.life for name in self.agents}
        late = {name: over or (self.cut and self.t == 1) for name in self.agents}
        if self.cut:
            late["lasting"] = over
        self.agents = [name for name in self.agents if not ended[name] and not late[name]]
        return seen, rewards, ended, late, {name: {} for name in seen}


def make_spread(continuous=True):
    return simple_spread_v3.parallel_env(max_cycles=5, continuous_actions=continuous)


def draw(env, rng, n_steps):
    """Actions for `n_steps`, beyond the bounds of boxes too."""
    return [
        [
            rng.uniform(-1.3, 1.3, (env.n_envs, *space.shape)).astype(np.float32)
            if isinstance(space, spaces.Box)
            else rng.integers(space.n, size=env.n_envs)
            for space in env.action_spaces
        ]
        for _ in range(n_steps)
    ]


def flatten(transition):
    return np.concatenate([np.ravel(x) for x in (*transition[0], *transition[1:5], *transition[5])])


@pytest.mark.parametrize("continuous", [True, False])
def test_copy_is_the_environment_that_its_seed_starts(continuous):
    copies, plain = ParallelCopies(lambda: make_spread(continuous), 3), make_spread(continuous)
    seen, state = copies.reset(seed=7)
    expected, _ = plain.reset(seed=9)
    for actions in draw(copies, np.random.default_rng(0), 4):
        np.testing.assert_array_equal([x[2] for x in seen], list(expected.values()))
        np.testing.assert_array_equal(state[2], plain.state())
        moves = {
            name: np.clip(a[2], 0, 1) if continuous else a[2]
            for name, a in zip(plain.agents, actions, strict=True)
        }
        expected, rewards, *_ = plain.step(moves)
        seen, state, got, *_ = copies.step(actions)
        np.testing.assert_allclose(got[2], list(rewards.values()), rtol=1e-6)  # float32 actions


def test_an_episode_cut_by_the_clock_shows_its_end_and_the_next_start():
    copies = ParallelCopies(make_spread, 2)
    copies.reset(seed=0)
    for actions in draw(copies, np.random.default_rng(1), 5):
        last = copies.step(actions)
    plain = make_spread()
    plain.reset(seed=0)
    for actions in draw(copies, np.random.default_rng(1), 5):
        moves = [np.clip(a[0], 0, 1) for a in actions]
        end, *_ = plain.step(dict(zip(plain.possible_agents, moves, strict=True)))
    assert last.truncated.all()
    assert not last.terminated.any()
    np.testing.assert_allclose(last.final_observations[1][0], end["agent_1"], atol=1e-6)
    np.testing.assert_allclose(last.final_state[0], np.concatenate(list(end.values())), atol=1e-6)
    np.testing.assert_array_equal(last.observations[1][:, :2], 0)  # velocities of a new episode
    assert not copies.step(draw(copies, np.random.default_rng(2), 1)[0]).truncated.any()


def test_courses_of_different_seeds_never_start_alike():
    starts = []
    for seed in (0, 1):
        copies = ParallelCopies(make_spread, 2)
        starts += [copies.reset(seed=seed)[1], copies.reset()[1], copies.reset()[1]]
    everything = np.concatenate(starts)
    # copy 1 of seed 0 is copy 0 of seed 1, in all its episodes; nothing else repeats
    assert len(np.unique(everything, axis=0)) == 9
    np.testing.assert_array_equal(copies.reset(seed=1)[1], starts[3])


@pytest.mark.parametrize("make", [make_spread, simple_speaker_listener_v4.parallel_env, Walk])
def test_saved_copies_go_on_bit_for_bit(make):
    copies, other = ParallelCopies(make, 3), ParallelCopies(make, 3)
    copies.reset(seed=3)
    rng = np.random.default_rng(4)
    for actions in draw(copies, rng, 13):
        copies.step(actions)
    saved = copies.save_state()
    following = draw(copies, rng, 30)
    once = [flatten(copies.step(actions)) for actions in following]
    for again in (other, copies):
        again.load_state(saved)
        np.testing.assert_array_equal([flatten(again.step(a)) for a in following], once)


def test_terminated_agent_stays_silent_until_the_clock_ends_the_episode():
    copies = ParallelCopies(Walk, 1)
    copies.reset(seed=5)
    steps = [copies.step([np.zeros((1, 2), np.float32)] * 2) for _ in range(5)]
    assert [list(s.terminated[0]) for s in steps] == [[k in (1, 2, 3), False] for k in range(5)]
    assert [s.truncated[0] for s in steps] == [False, False, False, True, False]
    assert [list(s.rewards[0]) for s in steps] == [[1.5, 1], [2.5, 2], [0, 3], [0, 4], [1.5, 1]]
    assert [s.final_observations[0][0, 1] for s in steps] == [1, 2, 2, 2, 1]
    assert [s.final_observations[1][0, 1] for s in steps] == [1, 2, 3, 4, 1]
    assert [s.observations[1][0, 1] for s in steps] == [1, 2, 3, 0, 1]
    np.testing.assert_array_equal(steps[2].state, [[5, 2, 5, 3]])


def test_copy_whose_agents_have_all_terminated_starts_anew():
    class Ruin(Walk):
        def step(self, actions):
            seen, rewards, ended, late, infos = super().step(actions)
            self.agents = [] if self.t == 2 else self.agents
            return seen, rewards, dict.fromkeys(ended, self.t == 2), late, infos

    copies = ParallelCopies(lambda: Ruin(length=2), 1)  # the clock's end too
    copies.reset(seed=5)
    steps = [copies.step([np.zeros((1, 2), np.float32)] * 2) for _ in range(3)]
    assert [s.terminated.all() for s in steps] == [False, True, False]
    assert not any(s.truncated[0] for s in steps)
    assert [s.observations[0][0, 1] for s in steps] == [1, 0, 1]


def test_actions_stay_within_their_bounds():
    copies = ParallelCopies(Walk, 1)
    copies.reset(seed=0)
    copies.step([np.float64([[-1, 5]]), np.float64([[0.25, 7]])])
    taken = copies.envs[0].taken[-1]
    np.testing.assert_array_equal(taken["brief"], [0, 5])
    np.testing.assert_array_equal(taken["lasting"], [0.25, 6])
    assert copies.action_spaces[0].contains(taken["lasting"])  # float32 again


def test_clock_of_a_single_agent_is_refused():
    copies = ParallelCopies(lambda: Walk(life=9, cut=True), 1)
    copies.reset(seed=0)
    with pytest.raises(
        ValueError, match=r"\['brief'\] of copy 0 are truncated while \['lasting'\]"
    ):
        copies.step([np.zeros((1, 2), np.float32)] * 2)


def test_observations_of_two_dimensions_are_refused():
    def make():
        env = Walk()
        env.seen_space = spaces.Box(-1, 1, (2, 2))
        return env

    with pytest.raises(ValueError, match=r"observations of brief are Box.*of one dimension"):
        ParallelCopies(make, 1)
