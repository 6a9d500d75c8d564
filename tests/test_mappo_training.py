"""Multi-agent PPO from start to end: same weights every time, and what the agents learn."""

import logging
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from hftlib.agents.checkpoint import describe_training, load_checkpoint
from hftlib.agents.experience import begin
from hftlib.agents.learnt import LearntActor
from hftlib.agents.mappo import MAPPOSettings, train_mappo
from tests.test_mappo import QUICK, VARIANTS, Game, play_and_learn, same
from tests.toy_marl import Targets


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_seed_gives_one_set_of_weights_whatever_the_number_of_threads(variant):
    settings = replace(QUICK, **VARIANTS[variant])
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    one, two, three = (
        train_mappo(Targets(), settings, 3, n_threads=n, device="cpu") for n in (1, 1, 3)
    )
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert same(one.weights, two.weights)
    assert same(one.weights, three.weights)
    assert one.curve == two.curve == three.curve
    other = train_mappo(Targets(), settings, 4, device="cpu")
    assert not same(one.weights, other.weights)


def test_annealed_rates_fall_from_those_of_the_settings_to_nothing():
    annealed = replace(QUICK, anneals_learning_rates=True)
    (learner, _), _ = play_and_learn(Targets(), annealed, 1)
    before = learner.export_actors()
    for progress, is_same in ((1.0, True), (0.5, False)):
        learner.anneal(progress)
        learner.fit_actor()
        assert same(learner.export_actors(), before) == is_same
    for n_rollouts, is_same in ((1, True), (2, False)):
        length = {"total_steps": n_rollouts * Targets().n_envs * QUICK.n_steps}
        weights = [
            train_mappo(Targets(), replace(settings, **length), 3, device="cpu").weights
            for settings in (QUICK, annealed)
        ]
        assert same(*weights) == is_same


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_stopped_training_resumes_to_the_same_weights(variant, tmp_path):
    settings = replace(QUICK, **VARIANTS[variant])
    looks = []

    def look(policies):
        looks.append(None)
        return {"fine": float(len(looks))}

    def stop_at_the_last(policies):
        if len(looks) == 2:
            raise StoppedError
        return look(policies)

    through = train_mappo(Targets(), settings, 3, evaluate=look)
    looks.clear()
    with pytest.raises(StoppedError):
        train_mappo(Targets(), settings, 3, evaluate=stop_at_the_last, scratch=tmp_path)
    env, steps = Targets(), []
    step = env.step
    env.step = lambda actions: (steps.append(None), step(actions))[1]
    resumed = train_mappo(env, settings, 3, evaluate=look, scratch=tmp_path)
    assert len(steps) == 2 * settings.n_steps, "half of the four rollouts were left"
    assert same(resumed.weights, through.weights)
    assert resumed.curve == through.curve
    again = train_mappo(Targets(), settings, 3, evaluate=look, scratch=tmp_path)
    assert same(again.weights, through.weights)
    assert again.curve == through.curve


def test_a_checkpoint_of_another_training_is_not_taken_up(tmp_path):
    train_mappo(Targets(), QUICK, 3, scratch=tmp_path)
    changed = replace(QUICK, gamma=0.5)
    found = train_mappo(Targets(), changed, 3, scratch=tmp_path)
    assert same(found.weights, train_mappo(Targets(), changed, 3).weights)
    train_mappo(Targets(), QUICK, 4, scratch=tmp_path)
    train_mappo(Targets(), QUICK, 3, scratch=tmp_path, fingerprint="another market")
    train_mappo(Targets(8), QUICK, 3, scratch=tmp_path)
    assert len(list(tmp_path.glob("*.pt"))) == 5


def test_a_checkpoint_of_another_training_names_the_file_and_the_entry_that_differs(tmp_path):
    train_mappo(Targets(), QUICK, 3, scratch=tmp_path)
    (path,) = tmp_path.iterdir()
    about = describe_training("mappo", Targets(), QUICK, 3, "")
    assert load_checkpoint(path, about)["update"] == 4
    for arguments, message in (
        ((Targets(), replace(QUICK, gamma=0.5), 3, ""), r"settings\.gamma=0\.99, not 0\.5"),
        ((Targets(), QUICK, 4, ""), "seed=3, not 4"),
        ((Targets(), QUICK, 3, "calm"), "fingerprint='', not 'calm'"),
        ((Targets(8), QUICK, 3, ""), r"n_envs=\d+, not 8"),
    ):
        with pytest.raises(ValueError, match=rf"{path.name} was trained with {message}; set it"):
            load_checkpoint(path, describe_training("mappo", *arguments))


def test_the_curve_has_evenly_spaced_points_and_looking_changes_nothing(caplog):
    seen = []

    def look(policies):
        torch.rand(1)
        seen.append(
            {name: policy.act(np.ones((3, 2), np.float32)) for name, policy in policies.items()}
        )
        return {"sharpe": len(seen)}

    with caplog.at_level(logging.INFO):
        trained = train_mappo(Targets(), QUICK, 0, evaluate=look)
    assert [(s, v) for s, name, v in trained.curve if name == "sharpe"] == [
        (0, 1),
        (736, 2),
        (1472, 3),
    ]
    assert sum("step 736 of 1472: " in line and "sharpe 2" in line for line in caplog.messages) == 1
    assert {name for step, name, _ in trained.curve if step == 736} == {"sharpe"} | {
        f"{agent}/{name}"
        for agent in ("left", "right")
        for name in ("reward", "entropy", "kl", "clipped", "explained_variance")
    }
    once = train_mappo(Targets(), replace(QUICK, n_evaluations=1), 0)
    assert {step for step, _, _ in once.curve} == {1472}
    assert seen[0].keys() == {"left", "right"}
    often = train_mappo(Targets(), replace(QUICK, n_evaluations=5), 0)
    assert same(often.weights, trained.weights)
    env = Targets()
    for name, observed, taken in zip(
        env.agents, env.observation_spaces, env.action_spaces, strict=True
    ):
        actor = LearntActor.from_weights(trained.weights, name, observed, taken)
        np.testing.assert_array_equal(actor.act(np.ones((3, 2), np.float32)), seen[2][name])


@pytest.mark.parametrize("is_recurrent", [False, True])
def test_exported_actors_act_like_the_one_that_was_trained(is_recurrent):
    env = Targets(32)
    settings = replace(QUICK, normalises_inputs=True, shares_parameters=True)
    settings = replace(settings, is_recurrent=is_recurrent, actor_learning_rate=0.01)
    (learner,), _ = play_and_learn(env, settings, 5)
    assert learner.names == ["left", "right"]
    now = begin(env, 9)
    learner.experience.observe(0, now)
    with torch.no_grad():
        inputs = learner.input_norm.normalise(learner.experience.inputs[0])
        memory = torch.zeros(64, learner.actor.hidden_size)
        outputs, _ = learner.actor.step(inputs[:, : learner.experience.n_seen], memory)
        expected = learner.head.to_actions(outputs).numpy()
    weights = learner.export_actors()
    got = []
    for k, name in enumerate(env.agents):
        actor = LearntActor.from_weights(
            weights, name, env.observation_spaces[k], env.action_spaces[k]
        )
        actor.begin(32)
        got.append(actor.act(now.observations[k]))
    np.testing.assert_allclose(np.concatenate(got), expected, atol=1e-5)
    assert np.abs(got[0] - got[1]).mean() > 0.01


def test_training_that_diverges_stops_and_names_the_step():
    with pytest.raises(FloatingPointError, match=r"not finite at step 368; lower actor_learning"):
        train_mappo(Targets(), replace(QUICK, actor_learning_rate=1e30, max_grad_norm=1e30), 0)


def test_settings_without_meaning_are_refused():
    with pytest.raises(ValueError, match="n_steps is 0; expected 1 or more"):
        replace(QUICK, n_steps=0)
    with pytest.raises(ValueError, match=r"gamma is 1\.5; expected 0 to 1"):
        replace(QUICK, gamma=1.5)
    with pytest.raises(ValueError, match="hidden is empty"):
        replace(QUICK, hidden=(), is_recurrent=True)
    assert MAPPOSettings(**asdict(QUICK)) == QUICK


# What it learns


def greedy_return(env, weights, seed=99):
    """Mean return of an episode of the first agent, without exploration."""
    observations, _ = env.reset(seed=seed)
    actors = [
        LearntActor.from_weights(weights, name, observed, taken)
        for name, observed, taken in zip(
            env.agents, env.observation_spaces, env.action_spaces, strict=True
        )
    ]
    for actor in actors:
        actor.begin(env.n_envs)
    total = 0.0
    for _ in range(env.length):
        step = env.step([a.act(x) for a, x in zip(actors, observations, strict=True)])
        observations, total = step.observations, total + step.rewards[:, 0].mean()
    return total


LEARNING = MAPPOSettings(
    total_steps=64 * 20 * 25,
    n_steps=20,
    n_epochs=6,
    n_minibatches=2,
    gamma=0.0,
    actor_learning_rate=5e-3,
    critic_learning_rate=5e-3,
    hidden=(32, 32),
    n_evaluations=1,
)


@pytest.mark.parametrize(
    ("game", "changes"),
    [
        ({}, {}),
        ({"discrete": True}, {}),
        ({"mixed": True}, {}),
        ({"mixed": True, "discrete": True}, {"normalises_inputs": True}),
        ({}, {"has_central_critic": False, "activation": "relu"}),
        ({}, {"shares_parameters": True}),
        pytest.param({"discrete": True}, {"is_recurrent": True}, marks=pytest.mark.slow),
    ],
)
def test_agents_learn_to_hit_their_targets(game, changes):
    # naming the middle costs 4.05 an episode; bins miss the targets by .05 on average
    trained = train_mappo(Targets(64, **game), replace(LEARNING, **changes), 0)
    assert greedy_return(Targets(64, **game), trained.weights) > -0.5


class Recall(Game):
    """Name at the last step the sign that was shown at the first; half of the guesses are right."""

    length = 4

    def see(self):
        seen = super().see()
        return tuple(x * [self.t == 0, 1] for x in seen)

    def pay(self, actions):
        hits = (np.stack(actions, axis=1) * 2 - 1) == self.draw
        return hits * float(self.t == self.length - 1)


@pytest.mark.slow
def test_only_an_actor_with_a_memory_learns_to_recall():
    settings = replace(LEARNING, n_steps=18, gamma=0.9, total_steps=32 * 18 * 30, hidden=(16,))
    for is_recurrent, low, high in [(True, 0.95, 1.0), (False, 0.3, 0.7)]:
        settings = replace(settings, is_recurrent=is_recurrent)
        trained = train_mappo(Recall(32), settings, 0)
        assert low <= greedy_return(Recall(400), trained.weights) <= high
