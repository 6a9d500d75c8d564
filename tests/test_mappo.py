"""Multi-agent PPO: its estimates against closed forms, and one update at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces

from hftlib.agents import mappo
from hftlib.agents.experience import begin
from hftlib.agents.gae import estimate_advantages
from hftlib.agents.mappo import MAPPOSettings
from hftlib.agents.mappo_learner import Learner
from hftlib.agents.multiagent import Transition
from hftlib.agents.value_norm import RunningNorm
from tests.toy_marl import Targets

QUICK = MAPPOSettings(
    total_steps=16 * 23 * 4,
    n_steps=23,  # rollouts end in the middle of an episode
    n_epochs=2,
    n_minibatches=3,
    hidden=(16, 8),
    n_evaluations=3,
)
VARIANTS = {
    "plain": {},
    "everything": {
        "is_recurrent": True,
        "shares_parameters": True,
        "normalises_inputs": True,
    },
}


class Game:
    """Two agents with two observations each; a subclass says what they see, get and survive.

    `t` counts the steps of an episode, `draw` holds a random sign a copy and episode.
    """

    agents = ("left", "right")
    observation_spaces = (spaces.Box(-10, 10, (2,), np.float32),) * 2
    action_spaces = (spaces.Discrete(2),) * 2
    state_size = 4
    length = 5

    def __init__(self, n_envs=32):
        self.n_envs = n_envs

    def reset(self, seed=None):
        self.rng = np.random.default_rng(seed)
        self._start()
        return self._look()

    def _start(self):
        self.t, self.draw = 0, self.rng.choice([-1.0, 1.0], size=(self.n_envs, 2))

    def _look(self):
        seen = tuple(np.asarray(x, dtype=np.float32) for x in self.see())
        return seen, np.nan_to_num(np.hstack(seen))

    def step(self, actions):
        rewards = self.pay(actions)
        self.t += 1
        terminated = np.zeros((self.n_envs, 2), dtype=bool) | self.die()
        truncated = np.full(self.n_envs, self.t == self.length and not terminated.all())
        final = self._look()
        if truncated.all() or terminated.all():
            self._start()
        return Transition(*self._look(), rewards, terminated, truncated, *final)

    def see(self):
        clock = np.full(self.n_envs, self.t / self.length)
        return tuple(np.stack([self.draw[:, k], clock], axis=1) for k in range(2))

    def pay(self, actions):
        return np.zeros((self.n_envs, 2))

    def die(self):
        return np.zeros(2, dtype=bool)


def same(one, two):
    return one.keys() == two.keys() and all(np.array_equal(one[k], two[k]) for k in one)


def play_and_learn(env, settings, n_updates, seed=0, has_actors=True):
    """The loop of `train_mappo`; returns the learners and the diagnostics of the last rollout."""
    torch.set_num_threads(1)
    groups = mappo._group_agents(env, settings.shares_parameters)
    device = torch.device("cpu")
    learners = [Learner(env, members, settings, seed, device) for members in groups]
    now, diagnostics = begin(env, seed), {}
    for _ in range(n_updates):
        now = mappo._collect(env, learners, now)
        for learner in learners:
            learner.estimate()
            diagnostics |= learner.fit_critic()
            if has_actors:
                diagnostics |= learner.fit_actor()
            learner.end_rollout()
    return learners, diagnostics


# Estimates


def test_advantages_of_a_termination_and_a_truncation_are_those_worked_out_by_hand():
    # gamma = lambda = 1/2. Episodes: steps 0-1, terminated; steps 2-3, truncated; step 4, cut off.
    column = lambda *x: torch.tensor(x)[:, None]  # noqa: E731
    rewards, values = column(1.0, 2.0, 3.0, 4.0, 5.0), column(2.0, 4.0, 6.0, 8.0, 10.0)
    next_values = column(4.0, 99.0, 8.0, 16.0, 12.0)
    advantages = estimate_advantages(
        rewards,
        values,
        next_values,
        terminated=column(False, True, False, False, False),
        ended=column(False, True, False, True, False),
        gamma=0.5,
        gae_lambda=0.5,
    )
    # errors: 1+2-2 = 1, 2-4 = -2, 3+4-6 = 1, 4+8-8 = 4, 5+6-10 = 1
    expected = column(1 - 2 / 4, -2.0, 1 + 4 / 4, 4.0, 1.0)
    torch.testing.assert_close(advantages, expected)


def test_lambda_one_gives_discounted_returns_and_lambda_zero_one_step_errors():
    rng = torch.Generator().manual_seed(0)
    rewards, values, last = (torch.randn(n, 3, generator=rng) for n in (6, 6, 1))
    next_values, never = torch.cat([values[1:], last]), torch.zeros(6, 3, dtype=torch.bool)
    powers = 0.9 ** torch.arange(7)
    returns = [
        (powers[: 7 - t, None] * torch.cat([rewards[t:], last])).sum(dim=0) for t in range(6)
    ]
    full = estimate_advantages(rewards, values, next_values, never, never, 0.9, 1.0)
    torch.testing.assert_close(full + values, torch.stack(returns))
    short = estimate_advantages(rewards, values, next_values, never, never, 0.9, 0.0)
    torch.testing.assert_close(short, rewards + 0.9 * next_values - values)


def test_nothing_of_a_later_episode_reaches_an_earlier_one():
    rewards = torch.tensor([[1.0], [2.0], [torch.nan]])
    values = torch.tensor([[0.5], [0.5], [torch.nan]])
    ended = torch.tensor([[False], [True], [False]])
    got = estimate_advantages(rewards, values, values.roll(-1, 0), ended, ended, 1.0, 1.0)
    torch.testing.assert_close(got[:2], torch.tensor([[2.5], [1.5]]))


def test_running_norm_is_the_weighted_moments_of_numpy():
    rng = np.random.default_rng(0)
    batches = [rng.normal(50 * k, 1 + k, size=(20 + k, 2)) for k in range(4)]
    norm = RunningNorm(2, 0.9)
    for batch in batches:
        norm.update(torch.tensor(batch, dtype=torch.float32))
    weights = 0.9 ** np.arange(4)[::-1]
    weights = weights / weights.sum()
    mean = sum(w * batch.mean(axis=0) for w, batch in zip(weights, batches, strict=True))
    square = sum(w * (batch**2).mean(axis=0) for w, batch in zip(weights, batches, strict=True))
    np.testing.assert_allclose(norm.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(norm.sd, np.sqrt(square - mean**2), rtol=1e-5)
    x = torch.tensor(batches[0], dtype=torch.float32)
    torch.testing.assert_close(norm.denormalise(norm.normalise(x)), x)


def test_running_norm_leaves_constants_and_its_first_batch_unscaled():
    norm = RunningNorm(2, 0.9)
    rows = torch.tensor([[0.3, 1.0], [0.3, 3.0]])
    assert torch.equal(norm.normalise(rows), rows)
    norm.update(rows)
    torch.testing.assert_close(norm.normalise(rows), torch.tensor([[0.0, -1.0], [0.0, 1.0]]))


def test_a_shift_of_the_norm_leaves_the_critics_values_where_they_were():
    norm, layer, x = RunningNorm(1, 0.5), torch.nn.Linear(3, 1), torch.randn(50, 3)
    for scale in (1.0, 1_000.0, -0.01):
        before = norm.denormalise(layer(x))
        norm.update_and_keep(scale * (torch.arange(9.0) + 5)[:, None], layer)
        torch.testing.assert_close(norm.denormalise(layer(x)), before, rtol=1e-3, atol=1e-3)


# One update


def play_on(env, settings, n_rollouts):
    """The learners after rollouts without learning, and inputs and starts of the rollouts."""
    learners, _ = play_and_learn(env, settings, 2)  # to be anywhere but at the first weights
    now, seen = begin(env, 1), []
    for _ in range(n_rollouts):
        now = mappo._collect(env, learners, now)
        for learner in learners:
            learner.estimate()
        seen.append((learners[0].inputs[:-1].clone(), learners[0].experience.starts[:-1].clone()))
    return learners, seen


def test_memories_go_on_from_one_rollout_to_the_next():
    settings = replace(QUICK, is_recurrent=True)
    (learner, _), seen = play_on(Targets(8), settings, 2)
    inputs, starts = (torch.cat(x) for x in zip(*seen, strict=True))
    assert not starts[23].any(), "the second rollout begins in the middle of an episode"
    for network, memory, n in [
        (learner.actor, learner.actor_memory_at_start, learner.experience.n_seen),
        (learner.critic, learner.critic_memory_at_start, None),
    ]:
        _, whole = network.unroll(inputs[..., :n], starts, torch.zeros(8, network.hidden_size))
        _, second = network.unroll(inputs[23:, :, :n], starts[23:], memory)
        torch.testing.assert_close(second, whole[23:])


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("is_recurrent", [False, True])
def test_the_first_update_follows_the_policy_gradient(discrete, is_recurrent, monkeypatch):
    settings = replace(QUICK, n_epochs=1, n_minibatches=1, entropy_weight=0.0)
    settings = replace(settings, is_recurrent=is_recurrent)
    (learner, _), _ = play_on(Targets(8, discrete=discrete), settings, 2)
    taken = {}
    monkeypatch.setattr(
        Learner,
        "_descend",
        lambda self, optimiser, parameters, loss: taken.update(
            gradient=torch.autograd.grad(loss, parameters)
        ),
    )
    report = learner.fit_actor()
    assert report["left/clipped"] == 0
    assert report["left/kl"] == pytest.approx(0, abs=1e-6)

    store = learner.experience
    outputs, _ = learner.actor.unroll(
        learner.inputs[:-1, :, : store.n_seen], store.starts[:-1], learner.actor_memory_at_start
    )
    log_probs = learner.head.log_prob(outputs.flatten(0, 1), store.raw_actions.flatten(0, 1))
    objective = (log_probs * learner.advantages).mean()
    expected = torch.autograd.grad(-objective, learner.actor_parameters)
    for one, two in zip(taken["gradient"], expected, strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-3)
    assert learner.advantages.mean().item() == pytest.approx(0, abs=1e-5)
    assert learner.advantages.std().item() == pytest.approx(1, abs=0.01)


class Mortal(Game):
    """The right agent dies at step 2; what it sees and gets from then on is `garbage`."""

    length = 6

    def __init__(self, garbage):
        super().__init__(16)
        self.garbage = garbage

    def see(self):
        left, right = super().see()
        return left, np.where(self.t >= 2, self.garbage, right)

    def pay(self, actions):
        rewards = self.rng.normal(size=(self.n_envs, 2)) + np.stack(actions, axis=1)
        if self.t >= 2:
            rewards[:, 1] = self.garbage
        return rewards

    def die(self):
        return np.array([False, self.t >= 2])

    def _look(self):
        seen, state = super()._look()
        if self.t >= 2:
            state[:, 2:] = 0
        return seen, state


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_a_dead_agent_sees_and_gets_changes_no_weight(variant):
    settings = replace(QUICK, **VARIANTS[variant])
    results = [play_and_learn(Mortal(garbage), settings, 3)[0] for garbage in (0.0, 7.0, np.nan)]
    for learners in results[1:]:
        for one, two in zip(results[0], learners, strict=True):
            for name in ("actor", "critic", "value_norm", "input_norm"):
                assert same(getattr(one, name).state_dict(), getattr(two, name).state_dict())
    n_alive = [int(learner.experience.alive[:-1].sum()) for learner in results[0]]
    assert sum(n_alive) == pytest.approx(16 * 23 * (1 + 1 / 3), rel=0.1)


class Kinds(Game):
    """An episode of one kind pays 1 a step, one of the other nothing, until the clock ends it."""

    def see(self):
        return self.draw[:, :1] * [1, 1], self.draw[:, :1] * [1, 1]

    def pay(self, actions):
        return (self.draw[:, :1] + 1) / 2 * [1, 1]


class Deadly(Kinds):
    """The same, but the fifth step is the end."""

    def die(self):
        return np.array([self.t == self.length] * 2)


@pytest.mark.parametrize(
    ("changes", "tolerance"),
    [({}, 0.3), ({"shares_parameters": True}, 0.3), ({"is_recurrent": True}, 1.0)],
)
def test_values_look_beyond_the_clock_but_not_beyond_the_end(changes, tolerance):
    settings = replace(QUICK, n_steps=20, gamma=0.9, critic_learning_rate=1e-2, n_minibatches=4)
    settings = replace(settings, value_clip_range=10.0, **changes)
    values = {}
    for game in (Kinds, Deadly):
        (learner, *_), _ = play_and_learn(game(16), settings, 30, has_actors=False)
        learner.estimate()
        store, value = learner.experience, learner.value_norm.denormalise(learner.old_values)
        is_paying = store.inputs[:-1, :, 0].flatten() > 0
        values[game] = [value[is_paying].mean().item(), value[~is_paying].mean().item()]
    # for ever: 1 / (1 - .9), 7 if the next episode's first state stood in for the last;
    # the end: a mean over the steps left, which the critic may know or not
    assert values[Kinds] == pytest.approx([10, 0], abs=tolerance)
    left = np.mean([(1 - 0.9**n) / 0.1 for n in range(1, 6)])
    assert values[Deadly] == pytest.approx([left, 0], abs=0.3)


class Neighbours(Game):
    """Everybody's reward is what the other one sees."""

    def pay(self, actions):
        return self.draw[:, ::-1].copy()


def test_a_central_critic_explains_what_an_own_one_cannot_see():
    settings = replace(QUICK, gamma=0.5, n_epochs=10, critic_learning_rate=5e-3)
    for is_central, low, high in [(True, 0.9, 1.0), (False, -0.5, 0.3)]:
        settings = replace(settings, has_central_critic=is_central)
        _, diagnostics = play_and_learn(Neighbours(), settings, 15)
        for name in ("left", "right"):
            assert low < diagnostics[f"{name}/explained_variance"] < high


def test_values_stay_near_the_old_ones_where_they_are_clipped():
    settings = replace(QUICK, n_epochs=60, n_minibatches=1, critic_learning_rate=3e-3)
    moves = {}
    for clip in (0.1, np.inf):
        settings = replace(settings, value_clip_range=clip)
        (learner, _), _ = play_and_learn(Neighbours(), settings, 1, has_actors=False)
        with torch.no_grad():
            values = learner.critic(learner.inputs[:-1])[..., 0].flatten()
        moves[clip] = (values - learner.old_values).abs().mean().item()
    assert moves[0.1] < 0.4, "momentum carries them on for a while"
    assert moves[np.inf] > 0.8


def test_a_weight_on_entropy_keeps_actions_spread_out():
    entropies = []
    for weight in (0.0, 10.0):
        settings = replace(QUICK, entropy_weight=weight, actor_learning_rate=0.02)
        _, diagnostics = play_and_learn(Targets(), settings, 10)
        entropies.append(diagnostics["left/entropy"])
    assert entropies[0] < 0.5
    assert 0.6 < entropies[1] <= np.log(2) + 0.01  # uniform on [-1, 1], and the error of a draw


def test_rewards_are_scaled_for_the_learner_and_told_in_their_own_unit():
    scaled = []
    for scale in (1.0, 100.0):
        (learner, _), diagnostics = play_and_learn(Kinds(), replace(QUICK, reward_scale=scale), 1)
        scaled.append((learner.experience.rewards.mean().item(), diagnostics["left/reward"]))
    assert scaled[1][0] == pytest.approx(100 * scaled[0][0])
    assert scaled[1][1] == pytest.approx(scaled[0][1])


def test_inputs_are_normalised_by_what_living_agents_saw():
    settings = replace(QUICK, normalises_inputs=True)
    (_, learner), _ = play_and_learn(Mortal(7.0), settings, 1)
    store = learner.experience
    rows = store.inputs[:-1][store.alive[:-1]].numpy()
    np.testing.assert_allclose(learner.input_norm.mean, rows.mean(axis=0), atol=1e-6)
    sd = rows.std(axis=0)
    np.testing.assert_allclose(learner.input_norm.sd, np.where(sd > 0, sd, 1), rtol=1e-5)
    assert rows.shape == (16 * 8, 6), "of 23 steps, two in six"
    seen = learner.input_norm.normalise(store.inputs)
    learner.estimate()
    assert torch.equal(learner.inputs, seen)
