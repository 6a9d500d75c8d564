"""MADDPG and MATD3: targets, gradients and averages in closed form, masks, runs on toy problems."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces

from hftlib.agents import checkpoint, maddpg
from hftlib.agents.checkpoint import describe_training, name_checkpoint
from hftlib.agents.experience import Situation
from hftlib.agents.learnt import LearntActor
from hftlib.agents.maddpg import MADDPGSettings, train_maddpg
from hftlib.agents.maddpg_learner import Batch, Critics, Learner, follow_weights
from hftlib.agents.multiagent import Transition
from hftlib.models.networks import make_mlp
from tests.toy_marl import Targets

CPU = torch.device("cpu")
SMALL = MADDPGSettings(
    total_steps=600, n_warmup_steps=64, batch_size=32, hidden=(16,), n_evaluations=4
)
PLAIN = {"has_twin_critics": False, "policy_delay": 1, "target_noise": 0.0, "priority_alpha": 0.0}


@pytest.fixture(autouse=True)
def _sources_stand_still(monkeypatch):
    """A file that is edited while a test runs would hide its checkpoint."""
    monkeypatch.setattr(checkpoint, "hash_sources", lambda folder: "")


class Mortal(Targets):
    """Agent "right" of every second copy ends at its third step."""

    def step(self, actions):
        t = self.t + 1
        transition = super().step(actions)
        terminated = transition.terminated
        terminated[::2, 1] = t >= 3
        return transition._replace(rewards=transition.rewards * ~(terminated & (t > 3)))


def make_learner(env=None, seed: int = 0, **settings) -> Learner:
    return Learner(env or Targets(4), replace(SMALL, **settings), seed, CPU)


def make_batch(learner: Learner, n: int = 8, seed: int = 0, **fields) -> Batch:
    """Random numbers as transitions; all agents live and go on."""
    rng = np.random.default_rng(seed)
    columns = [rng.standard_normal((n, size)) for size in learner.columns]
    joint = len(learner.names) + 1
    columns[joint] = rng.uniform(-1, 1, (n, sum(learner.n_actions)))
    for flags in (joint + 1, -1):
        columns[flags][:] = 1
    batch = learner.read(np.hstack(columns, dtype=np.float32), np.ones(n, dtype=np.float32))
    return batch._replace(**{k: torch.as_tensor(v, dtype=torch.float32) for k, v in fields.items()})


def set_linear(critics: Critics, column: int, slope: float = 1.0) -> None:
    """Without hidden layers: every value becomes `slope` times one input."""
    (weight,), (bias,) = critics.weights, critics.biases
    with torch.no_grad():
        weight.zero_()
        bias.zero_()
        weight[:, column] = slope


def weights_of(module: torch.nn.Module):
    return [x.detach().clone() for x in module.parameters()]


def are_equal(first, second) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def score(policies, **kind) -> dict[str, float]:
    """Mean return of an episode of `Targets`."""
    env, total = Targets(64, **kind), 0.0
    observations, _ = env.reset(seed=99)
    for _ in range(env.length):
        seen = zip(env.agents, observations, strict=True)
        transition = env.step([policies[name].act(x) for name, x in seen])
        observations = transition.observations
        total += transition.rewards[:, 0].mean()
    return {"return": total}


# ----- targets -----


def test_the_target_is_the_reward_and_the_smaller_twins_discounted_value():
    learner = make_learner(hidden=(), gamma=0.9, target_noise=0.0)
    set_linear(learner.target_critics, 0, slope=0.0)
    with torch.no_grad():  # left: twins 3 and 5, right: -1 and -2
        learner.target_critics.biases[0].copy_(torch.tensor([3.0, 5, -1, -2])[:, None, None])
    batch = make_batch(
        learner, 3, rewards=[[1, 2, 3], [10, 20, 30]], continues=[[1, 0, 1], [0, 1, 1]]
    )
    expected = [[1 + 0.9 * 3, 2, 3 + 0.9 * 3], [10, 20 - 0.9 * 2, 30 - 0.9 * 2]]
    torch.testing.assert_close(learner.estimate_targets(batch), torch.tensor(expected))


def test_termination_ends_the_future_and_the_clock_does_not():
    env = Targets(2)
    learner = make_learner(env, normalises_rewards=False, reward_scale=2.0)
    observations, state = env.reset(seed=0)
    alive = np.array([[True, True], [True, False]])
    before = learner.before(
        Situation(observations, state, alive, np.zeros(2, dtype=bool)), np.full((2, 2), 0.5)
    )
    fresh = tuple(np.full_like(x, 7) for x in observations)
    last = tuple(np.full_like(x, 9) for x in observations)
    after = learner.after(
        Transition(
            fresh,
            np.hstack(fresh),
            np.array([[1.0, 2.0], [3.0, 0.0]]),
            terminated=np.array([[False, True], [False, True]]),
            truncated=np.array([True, True]),
            final_observations=last,
            final_state=np.hstack(last),
        )
    )
    batch = learner.read(np.hstack([before, after]), np.ones(2, dtype=np.float32))
    np.testing.assert_array_equal(batch.continues, [[1, 1], [0, 0]])
    np.testing.assert_array_equal(batch.alive, [[1, 1], [1, 0]])
    np.testing.assert_array_equal(batch.rewards, [[2, 6], [4, 0]])
    np.testing.assert_array_equal(batch.actions, np.full((2, 2), 0.5))
    np.testing.assert_array_equal(batch.state, state)
    np.testing.assert_array_equal(batch.next_state, np.full_like(state, 9))
    for seen, own, next_seen in zip(
        batch.observations, observations, batch.next_observations, strict=True
    ):
        np.testing.assert_array_equal(seen, own)
        np.testing.assert_array_equal(next_seen, np.full_like(own, 9))


def test_smoothing_noise_has_its_size_and_its_clip():
    n = 4_000
    for sd, clip in ((0.1, 0.5), (0.5, 0.2)):
        learner = make_learner(hidden=(), gamma=1.0, target_noise=sd, target_noise_clip=clip)
        set_linear(learner.target_critics, learner.columns[0])  # the first agent's action
        for actor in learner.target_actors:
            torch.nn.init.zeros_(actor[0].weight)
        batch = make_batch(learner, n)
        noise = (learner.estimate_targets(batch) - batch.rewards)[0].numpy()
        assert np.abs(noise).max() <= clip + 1e-5
        # The second moment of a normal variable that is clipped at c standard deviations.
        c = clip / sd
        inside = math.erf(c / math.sqrt(2))
        density = math.exp(-(c**2) / 2) / math.sqrt(2 * math.pi)
        second = sd**2 * (inside - 2 * c * density + c**2 * (1 - inside))
        assert abs((noise**2).mean() - second) < 4 * (noise**2).std() / math.sqrt(n)
        assert abs(noise.mean()) < 4 * noise.std() / math.sqrt(n)


def test_smoothed_actions_stay_within_the_bounds():
    learner = make_learner(hidden=(), gamma=1.0, target_noise=5.0, target_noise_clip=5.0)
    set_linear(learner.target_critics, learner.columns[0])
    batch = make_batch(learner, 200)
    noise = (learner.estimate_targets(batch) - batch.rewards)[0]
    assert noise.abs().max() <= 1 + 1e-5
    assert noise.abs().max() > 0.99


def test_rewards_are_divided_by_the_spread_of_those_of_living_agents():
    learner = make_learner(reward_scale=10.0)
    rng = np.random.default_rng(0)
    rewards, alive = rng.normal(3, 2, (50, 6, 2)), rng.random((50, 6, 2)) < 0.7
    np.testing.assert_array_equal(learner.reward_spread(), [1, 1])
    for step in range(50):
        learner.count_rewards(rewards[step], alive[step])
    expected = [10 * rewards[..., k][alive[..., k]].std() for k in range(2)]
    np.testing.assert_allclose(learner.reward_spread(), expected, rtol=1e-5)
    raw = np.ones((1, sum(learner.columns)), dtype=np.float32)
    read = learner.read(raw, np.ones(1, dtype=np.float32)).rewards[:, 0]
    np.testing.assert_allclose(read, 1 / np.array(expected), rtol=1e-5)


# ----- gradients -----


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_critics_side_by_side_are_the_single_networks(activation):
    origin = torch.Generator().manual_seed(0)
    networks = [make_mlp((5, 7, 6, 1), 1.0, origin, activation=activation) for _ in range(4)]
    for network in networks:
        torch.nn.init.normal_(network[2].bias, generator=origin)
    critics, inputs = Critics(networks), torch.randn(4, 9, 5, generator=origin)
    together = torch.stack([net(inputs[0])[:, 0] for net in networks])
    torch.testing.assert_close(critics(inputs[0]), together)
    every_second = torch.stack([networks[0](inputs[1])[:, 0], networks[2](inputs[2])[:, 0]])
    torch.testing.assert_close(critics(inputs[1:3], step=2), every_second)


def test_importance_weights_multiply_each_squared_error_before_the_mean():
    learner = make_learner(hidden=(), target_noise=0.0)
    set_linear(learner.critics, 0, slope=0.0)
    set_linear(learner.target_critics, 0, slope=0.0)
    weights = [1.0, 0.5, 0.1, 0.25]
    alive = [[1, 1, 1, 1], [1, 0, 1, 0]]
    batch = make_batch(learner, 4, weights=weights, alive=alive)
    priorities = learner.fit_critics(batch)
    rewards, alive = batch.rewards.numpy(), np.array(alive)  # values are 0: errors are -rewards
    slope = -2 * (rewards * weights * alive).sum(axis=1) / alive.sum(axis=1)
    gradient = learner.critic_parameters[1].grad[:, 0, 0]
    np.testing.assert_allclose(gradient, slope.repeat(2), rtol=1e-5)
    expected = np.abs(rewards * alive).sum(axis=0) / alive.sum(axis=0)
    np.testing.assert_allclose(priorities, expected, rtol=1e-5)


def test_an_actor_climbs_its_own_critics_value_against_the_saturation_penalty():
    penalty, slopes = 0.3, np.array([2.0, -5.0])
    learner = make_learner(hidden=(), saturation_penalty=penalty)
    state_size = learner.columns[0]
    set_linear(learner.critics, 0, slope=0.0)
    with (
        torch.no_grad()
    ):  # agent k's first critic likes its action by slopes[k]; twins do not count
        for k, slope in enumerate(slopes):
            learner.critics.weights[0][2 * k, state_size + k] = slope
            learner.critics.weights[0][2 * k + 1, state_size + k] = 100.0
        for k, actor in enumerate(learner.actors):
            actor[0].bias.fill_(0.5 + k)
    batch = make_batch(learner, 6, alive=[[1, 1, 1, 1, 1, 1], [1, 0, 1, 1, 0, 0]])
    seen = zip(learner.actors, batch.observations, strict=True)
    raw = [actor(x)[:, 0].detach().numpy() for actor, x in seen]
    learner.fit_actors(batch)
    for k, actor in enumerate(learner.actors):
        each = 2 * penalty * raw[k] - slopes[k] * (1 - np.tanh(raw[k]) ** 2)
        alive = batch.alive[k].numpy()
        expected = (each * alive).sum() / alive.sum()
        assert actor[0].bias.grad.item() == pytest.approx(expected, rel=1e-4)
    assert all(x.grad is None for x in learner.critic_parameters)


def test_each_agents_gradient_is_clipped_for_itself():
    learner = make_learner(hidden=(), target_noise=0.0, max_grad_norm=1.0, gamma=0.0)
    set_linear(learner.critics, 0, slope=0.0)
    batch = make_batch(learner)
    batch.rewards[0] *= 1e-3
    batch.rewards[1] *= 1e3
    learner.fit_critics(batch)
    norms = sum(x.grad.flatten(1).square().sum(dim=1) for x in learner.critic_parameters)
    left, right = norms.view(2, 2).sum(dim=1).sqrt().tolist()
    assert 1e-5 < left < 0.1  # not scaled down with the other, by some 2000
    assert right == pytest.approx(1.0, rel=1e-4)


def test_an_agent_that_has_ended_moves_no_weight():
    """Whatever it sees and gets; but what it does when alive matters."""
    fields = {
        "alive": [[1] * 8, [1, 1, 0, 0, 0, 1, 0, 1]],
        "continues": [[1] * 8, [1, 0, 0, 0, 0, 1, 0, 1]],
    }
    silent, gone = torch.tensor(fields["alive"][1]) == 0, torch.tensor(fields["continues"][1]) == 0
    outcomes = []
    for factor, where in ((0.0, silent), (1.0, silent), (1.0, ~silent)):
        learner = make_learner()
        for n in range(4):
            batch = make_batch(learner, seed=n, **fields)
            batch.observations[1][where] += factor * 3
            batch.rewards[1][where] -= factor * 50
            if where is silent:
                batch.next_observations[1][gone] += factor * 9
            errors = learner.update(batch)
        outcomes.append((weights_of(learner.actors) + weights_of(learner.critics), errors))
    reference, other, alive = outcomes
    assert are_equal(reference[0], other[0])
    np.testing.assert_array_equal(reference[1], other[1])
    assert not are_equal(reference[0], alive[0])


def test_a_batch_without_a_living_agent_gives_no_gradient():
    learner = make_learner()
    before = weights_of(learner.actors)
    for _ in range(2):
        learner.update(make_batch(learner, alive=[[0] * 8, [1] * 8]))
    after = weights_of(learner.actors)
    half = len(after) // 2
    assert are_equal(before[:half], after[:half])
    assert not are_equal(before[half:], after[half:])


# ----- targets' weights and the delay -----


def test_polyak_averages_approach_their_networks_geometrically():
    learner, tau, n = make_learner(), 0.1, 7
    start, goal = weights_of(learner.target_critics), weights_of(make_learner(seed=1).critics)
    for parameter, values in zip(learner.critics.parameters(), goal, strict=True):
        parameter.data.copy_(values)
    for _ in range(n):
        follow_weights(learner.target_critics, learner.critics, tau)
    for x, a, b in zip(learner.target_critics.parameters(), start, goal, strict=True):
        torch.testing.assert_close(x, b + (1 - tau) ** n * (a - b))


def test_actors_and_targets_wait_for_the_policy_delay():
    learner = make_learner(policy_delay=3, tau=0.2)
    slow = (learner.actors, learner.target_actors, learner.target_critics)
    for n in range(1, 7):
        before, critics = [weights_of(part) for part in slow], weights_of(learner.critics)
        learner.update(make_batch(learner, seed=n))
        assert not are_equal(critics, weights_of(learner.critics))
        for part, old in zip(slow, before, strict=True):
            assert are_equal(old, weights_of(part)) == (n % 3 != 0)


def test_targets_change_by_their_average_alone():
    learner = make_learner(policy_delay=1, tau=0.05)
    before = weights_of(learner.target_critics)
    learner.update(make_batch(learner))
    after = (learner.target_critics.parameters(), before, learner.critics.parameters())
    for target, old, online in zip(*after, strict=True):
        torch.testing.assert_close(target, 0.95 * old + 0.05 * online, rtol=1e-5, atol=1e-7)
    for part in (learner.target_actors, learner.target_critics):
        assert all(x.grad is None and not x.requires_grad for x in part.parameters())


# ----- training -----


@pytest.mark.parametrize(
    ("kind", "mixed"), [(PLAIN, False), ({}, True)], ids=["maddpg", "matd3-mixed"]
)
def test_it_learns_to_name_the_targets(kind, mixed):
    settings = MADDPGSettings(
        total_steps=12_800, actor_learning_rate=1e-3, gamma=0.9, hidden=(32, 32), **kind
    )
    trained = train_maddpg(
        Targets(16, mixed=mixed), settings, 0, evaluate=lambda p: score(p, mixed=mixed)
    )
    returns = [value for _, name, value in trained.curve if name == "return"]
    assert returns[0] < -3  # acting 0 costs .4 a step
    assert returns[-1] > -0.3
    steps = [step for step, name, _ in trained.curve if name == "return"]
    assert steps[0] == 0
    assert steps[-1] == 12_800
    assert len(steps) == settings.n_evaluations


def test_the_same_seed_gives_the_same_weights():
    first, second, other = (train_maddpg(Mortal(8), SMALL, seed) for seed in (3, 3, 4))
    assert first.curve == second.curve
    for name, values in first.weights.items():
        np.testing.assert_array_equal(values, second.weights[name])
    assert any(not np.array_equal(first.weights[k], other.weights[k]) for k in first.weights)


def test_global_generators_are_left_alone():
    numpy_before, torch_before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    train_maddpg(Targets(8), SMALL, 0)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_before)


@pytest.mark.parametrize("kind", [{"noise_kind": "ou"}, PLAIN], ids=["matd3-ou", "maddpg"])
def test_a_training_that_was_stopped_goes_on_bit_for_bit(tmp_path, kind):
    settings = replace(SMALL, **kind)
    looks = []

    def stop_at_the_third(policies):
        looks.append(policies)
        if len(looks) == 3:
            raise KeyboardInterrupt
        return score(policies)

    whole = train_maddpg(Mortal(8), settings, 1, evaluate=score)
    with pytest.raises(KeyboardInterrupt):
        train_maddpg(Mortal(8), settings, 1, evaluate=stop_at_the_third, scratch=tmp_path)
    resumed = train_maddpg(Mortal(8), settings, 1, evaluate=stop_at_the_third, scratch=tmp_path)
    assert len(looks) == 5  # the third and fourth points; the first two came from the checkpoint
    assert resumed.curve == whole.curve
    for name, values in whole.weights.items():
        np.testing.assert_array_equal(values, resumed.weights[name])
    finished = train_maddpg(Mortal(8), settings, 1, evaluate=stop_at_the_third, scratch=tmp_path)
    assert len(looks) == 5
    assert finished.curve == whole.curve


def test_looking_does_not_change_the_training():
    blind, seen = (
        train_maddpg(Targets(8), SMALL, 0),
        train_maddpg(Targets(8), replace(SMALL, n_evaluations=9), 0, evaluate=score),
    )
    for name, values in blind.weights.items():
        np.testing.assert_array_equal(values, seen.weights[name])


def test_a_single_evaluation_comes_after_the_training():
    once, twice = (
        train_maddpg(Targets(8), replace(SMALL, n_evaluations=n), 0, evaluate=score) for n in (1, 2)
    )
    assert {step for step, _, _ in once.curve} == {600}
    assert [point for point in twice.curve if point[0] > 0] == once.curve
    for name, values in once.weights.items():
        np.testing.assert_array_equal(values, twice.weights[name])


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    env, other = Targets(8), replace(SMALL, tau=0.5)
    train_maddpg(env, SMALL, 0, scratch=tmp_path)
    (file,) = tmp_path.iterdir()
    file.rename(name_checkpoint(tmp_path, describe_training("maddpg", env, other, 0, "")))
    with pytest.raises(ValueError, match=r"settings\.tau=0\.005, not 0\.5; set it back, or delete"):
        train_maddpg(env, other, 0, scratch=tmp_path)


def test_another_fingerprint_or_seed_starts_anew(tmp_path):
    for seed, fingerprint in ((0, ""), (0, "calm"), (1, "calm")):
        train_maddpg(Targets(8), SMALL, seed, scratch=tmp_path, fingerprint=fingerprint)
    assert len(list(tmp_path.iterdir())) == 3


class Watched(Targets):
    """Keeps the actions of every step."""

    def reset(self, seed=None):
        self.taken = []
        return super().reset(seed)

    def step(self, actions):
        self.taken.append(np.hstack(actions))
        return super().step(actions)


class WatchedMortal(Watched, Mortal):
    pass


def test_actions_are_uniform_at_first_and_then_near_the_policy():
    env = Watched(64)
    settings = replace(SMALL, total_steps=64 * 60, n_warmup_steps=64 * 30, updates_per_step=0.0)
    policies = {}
    train_maddpg(env, settings, 0, evaluate=lambda p: policies.update(p) or {})
    uniform, noisy = np.stack(env.taken[:30]), np.stack(env.taken[30:])
    n = uniform.size
    assert abs(uniform.mean()) < 4 / math.sqrt(3 * n)
    assert abs((uniform**2).mean() - 1 / 3) < 4 * math.sqrt(4 / 45 / n)
    # Without updates the policy stays at its start, close to 0: what is left is the noise, which
    # the 64 episodes that end every 10 steps let decay.
    scales = 0.1 * 0.9995 ** (64 * np.array([3] * 10 + [4] * 10 + [5] * 10))
    spread = np.sqrt((noisy**2).mean(axis=(1, 2)))
    np.testing.assert_allclose(spread, np.maximum(scales, 0.01), rtol=0.3)


def test_agents_that_have_ended_act_the_middle_of_their_box():
    env = WatchedMortal(8)
    train_maddpg(env, SMALL, 0)
    taken = np.stack(env.taken)  # (n_steps, n_envs, 2); "right" of even copies acts 3 times of 10
    is_over = np.arange(len(taken)) % 10 >= 3
    assert (taken[is_over, ::2, 1] == 0).all()
    assert (np.delete(taken[is_over], np.arange(0, 8, 2), axis=1) != 0).all()
    assert (taken[~is_over] != 0).all()


def test_noise_starts_anew_with_each_episode(monkeypatch):
    starts = []
    monkeypatch.setattr(maddpg.ActionNoise, "restart", lambda self, copies: starts.append(copies))
    train_maddpg(Targets(8), SMALL, 0)
    expected = np.arange(1, 76) % 10 == 0
    np.testing.assert_array_equal(starts, np.tile(expected[:, None], (1, 8)))


@pytest.mark.parametrize(("ratio", "n_expected"), [(0.25, 12), (1.0, 50), (3.0, 150)])
def test_updates_come_at_their_ratio_to_steps_of_all_copies(monkeypatch, ratio, n_expected):
    sizes = []

    def update(self, batch):
        sizes.append(len(batch.state))
        return np.ones(len(batch.state), dtype=np.float32)

    monkeypatch.setattr(Learner, "update", update)
    settings = replace(SMALL, total_steps=8 * 60, n_warmup_steps=80, updates_per_step=ratio)
    train_maddpg(Targets(8), settings, 0)
    assert abs(len(sizes) - n_expected) <= 1
    assert set(sizes) == {32}


def test_beta_rises_to_one_and_drawn_transitions_get_new_priorities(monkeypatch):
    betas, drawn, set_ = [], [], []

    class Watched(maddpg.ReplayBuffer):
        def sample(self, n, beta, rng):
            sample = super().sample(n, beta, rng)
            betas.append(beta)
            drawn.append(sample.slots)
            return sample

        def set_priorities(self, slots, errors):
            super().set_priorities(slots, errors)
            assert errors.shape == slots.shape
            set_.append(slots)

    monkeypatch.setattr(maddpg, "ReplayBuffer", Watched)
    train_maddpg(Targets(8), replace(SMALL, n_warmup_steps=0), 0)
    np.testing.assert_allclose(betas, 0.4 + 0.6 * np.arange(75) / 75)
    np.testing.assert_array_equal(drawn, set_)


def test_the_unit_of_rewards_drops_out():
    class Dear(Targets):
        def step(self, actions):
            transition = super().step(actions)
            return transition._replace(rewards=transition.rewards * 1024)  # exact in floats

    cheap, dear = train_maddpg(Targets(8), SMALL, 0), train_maddpg(Dear(8), SMALL, 0)
    scaled = train_maddpg(Targets(8), replace(SMALL, reward_scale=1024.0), 0)
    for name, values in cheap.weights.items():
        np.testing.assert_array_equal(values, dear.weights[name])
        np.testing.assert_array_equal(values, scaled.weights[name])
    assert scaled.curve == cheap.curve  # rewards are told in the units of the environment
    rewards = {name: value for _, name, value in cheap.curve}
    others = {name: value for _, name, value in dear.curve}
    assert others["left/reward"] == 1024 * rewards["left/reward"] < 0
    plain = train_maddpg(Dear(8), replace(SMALL, normalises_rewards=False), 0)
    assert any(not np.array_equal(plain.weights[k], dear.weights[k]) for k in dear.weights)


def test_a_box_of_any_bounds_is_filled():
    env = Targets(4, mixed=True)
    low, high = np.array([-3, 10], np.float32), np.array([1, 30], np.float32)
    env.action_spaces = (env.action_spaces[0], spaces.Box(low, high))
    learner = make_learner(env)
    assert [x.shape for x in learner.stretch(np.zeros((4, 3), np.float32))] == [(4, 1), (4, 2)]
    for unit, bound in ((-1, low), (0, (low + high) / 2), (1, high)):
        stretched = learner.stretch(np.full((4, 3), unit, np.float32))[1]
        np.testing.assert_array_equal(stretched, np.tile(bound, (4, 1)))
    observations, _ = env.reset(seed=0)
    for k, actions in enumerate(learner.stretch(learner.act(observations))):
        policy = LearntActor.from_weights(
            learner.export_actors(), env.agents[k], env.observation_spaces[k], env.action_spaces[k]
        )
        np.testing.assert_allclose(policy.act(observations[k]), actions, rtol=1e-6, atol=1e-6)
        assert actions.dtype == np.float32


def test_the_device_is_an_argument():
    on_cpu = train_maddpg(Targets(8), SMALL, 0, device="cpu")
    if not torch.cuda.is_available():
        chosen = train_maddpg(Targets(8), SMALL, 0)
        for name, values in on_cpu.weights.items():
            np.testing.assert_array_equal(values, chosen.weights[name])
    with pytest.raises(RuntimeError, match="abacus"):
        train_maddpg(Targets(8), SMALL, 0, device="abacus")


def test_divergence_names_the_step_and_a_remedy():
    with pytest.raises(FloatingPointError, match=r"at step 72; lower actor_learning_rate"):
        train_maddpg(Targets(8), replace(SMALL, critic_learning_rate=1e38), 0)


def test_errors_name_agent_values_and_remedy():
    with pytest.raises(ValueError, match=r"'left' has the action space Discrete\(5\).*train_mappo"):
        train_maddpg(Targets(8, discrete=True), SMALL, 0)
    env = Targets(8)
    env.action_spaces = (env.action_spaces[0], spaces.Box(-np.inf, np.inf, (1,)))
    with pytest.raises(ValueError, match="'right' has unbounded actions"):
        train_maddpg(env, SMALL, 0)
    with pytest.raises(ValueError, match=r"tau is 1\.5; expected 0 to 1"):
        replace(SMALL, tau=1.5)
    with pytest.raises(ValueError, match="policy_delay is 0; expected 1 or more"):
        replace(SMALL, policy_delay=0)
    with pytest.raises(ValueError, match="'pink'; expected one of gaussian, ou"):
        train_maddpg(Targets(8), replace(SMALL, noise_kind="pink"), 0)
