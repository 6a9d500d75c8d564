from dataclasses import replace

import numpy as np
import pytest

from hftlib.agents import online
from hftlib.agents.online import LearntPolicy, PPOSettings, load_policy, save_weights, train_ppo
from hftlib.agents.policy import play
from hftlib.compute import derive_seed, map_parallel
from hftlib.data.controls import plant_oracle
from tests.conftest import make_panel

SETTINGS = PPOSettings(
    total_steps=2_048,
    n_envs=16,
    n_steps=32,
    batch_size=128,
    n_epochs=2,
    learning_rate=1e-3,
    gamma=0.9,
    gae_lambda=0.9,
    clip_range=0.2,
    entropy_weight=0.0,
    reward_scale=100.0,
    hidden=(16,),
    n_evaluations=5,
)


def same(one, two):
    return one.keys() == two.keys() and all(np.array_equal(one[k], two[k]) for k in one)


@pytest.fixture
def data(panel):
    return panel, make_panel(seed=1)


def test_one_seed_gives_one_set_of_weights_and_another_seed_another(data, rules):
    first, again = (train_ppo(*data, rules, SETTINGS, seed=3) for _ in range(2))
    other = train_ppo(*data, rules, SETTINGS, seed=4)
    assert same(first.weights, again.weights)
    assert first.curve == again.curve
    assert not same(first.weights, other.weights)


def test_worker_processes_give_the_same_weights_as_this_one(data, rules):
    seeds = [3, 4]
    parallel = map_parallel(_Train(data, rules), seeds, "test")
    for seed, result in zip(seeds, parallel, strict=True):
        assert result.seed == seed
        assert same(result.weights, train_ppo(*data, rules, SETTINGS, seed=seed).weights)


class _Train:
    def __init__(self, data, rules):
        self.data, self.rules = data, rules

    def __call__(self, seed):
        return train_ppo(*self.data, self.rules, SETTINGS, seed=seed)


def test_a_stopped_training_resumes_to_the_same_weights(data, rules, tmp_path, monkeypatch):
    through = train_ppo(*data, rules, SETTINGS, seed=3)
    save, saved = online._save_checkpoint, []

    def stop_after_the_second(*arguments):
        save(*arguments)
        saved.append(arguments)
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(online, "_save_checkpoint", stop_after_the_second)
    with pytest.raises(KeyboardInterrupt):
        train_ppo(*data, rules, SETTINGS, seed=3, scratch=tmp_path)
    monkeypatch.setattr(online, "_save_checkpoint", save)
    steps = []
    learn = online.PPO.learn
    monkeypatch.setattr(
        online.PPO, "learn", lambda self, n, **k: (steps.append(n), learn(self, n, **k))[1]
    )
    resumed = train_ppo(*data, rules, SETTINGS, seed=3, scratch=tmp_path)
    assert steps == [1_536], "three quarters of the steps were left"
    assert same(resumed.weights, through.weights)
    assert resumed.curve == through.curve


def test_a_checkpoint_of_other_settings_is_not_taken_up(data, rules, tmp_path):
    train_ppo(*data, rules, SETTINGS, seed=3, scratch=tmp_path)
    changed = replace(SETTINGS, learning_rate=2e-3)
    with_scratch = train_ppo(*data, rules, changed, seed=3, scratch=tmp_path)
    assert same(with_scratch.weights, train_ppo(*data, rules, changed, seed=3).weights)
    assert len(list(tmp_path.glob("*.pt"))) == 2


def test_another_validation_span_is_not_mixed_up_in_a_resumed_curve(data, rules, tmp_path):
    train, validation = data
    train_ppo(train, validation, rules, SETTINGS, 3, scratch=tmp_path)
    other = make_panel(seed=9)
    resumed = train_ppo(train, other, rules, SETTINGS, 3, scratch=tmp_path)
    assert resumed.curve == train_ppo(train, other, rules, SETTINGS, 3).curve


def test_looking_more_often_does_not_change_the_training(data, rules):
    often = replace(SETTINGS, n_evaluations=3)
    first, second = (train_ppo(*data, rules, s, seed=3) for s in (SETTINGS, often))
    assert same(first.weights, second.weights)


def test_an_unknown_algorithm_lists_the_known_ones():
    with pytest.raises(ValueError, match="algo is 'sac'; expected one of ppo"):
        online.find_trainer("sac")


def test_an_agent_that_is_shown_the_future_profits_from_it(data, rules):
    train, fresh = (plant_oracle(panel, 5) for panel in data)
    settings = replace(SETTINGS, total_steps=40_000, n_epochs=4)
    result = train_ppo(train, fresh, replace(rules, window_bars=1), settings, seed=0)
    # ten times what a random walk's Sharpe ratio could reach by luck in a year
    assert result.curve[-1].split == "validation"
    assert result.curve[-1].sharpe > 3


def test_training_that_diverges_stops_and_names_the_step(data, rules):
    with pytest.raises(FloatingPointError, match=r"not finite at step \d+; lower learning_rate"):
        train_ppo(*data, rules, replace(SETTINGS, learning_rate=1e30), seed=0)


def test_saved_weights_act_like_the_trained_ones_and_have_fixed_bytes(data, rules, tmp_path):
    weights = train_ppo(*data, rules, SETTINGS, seed=3).weights
    for name in ("one.npz", "two.npz"):
        save_weights(tmp_path / name, weights)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    before = play(LearntPolicy(weights), data[1], rules)
    after = play(load_policy(tmp_path / "one.npz"), data[1], rules)
    np.testing.assert_array_equal(before.equity, after.equity)


def test_the_curve_has_a_point_a_split_at_every_evaluation(data, rules):
    curve = train_ppo(*data, rules, SETTINGS, seed=0).curve
    assert [point.step for point in curve[::2]] == [0, 512, 1_024, 1_536, 2_048]
    assert {point.split for point in curve} == {"train", "validation"}


def test_seeds_for_different_purposes_differ_and_are_stable():
    assert derive_seed(1, "a", 0) == derive_seed(1, "a", 0)
    assert len({derive_seed(1, "a", 0), derive_seed(1, "a", 1), derive_seed(1, "b", 0)}) == 3
    assert derive_seed(1, "a", 0) != derive_seed(2, "a", 0)
