"""The single-agent views of the market, through the tools that people use them with."""

import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3 import DQN, PPO, SAC, TD3
from stable_baselines3.common.env_checker import check_env as check_env_sb3

from hftlib.envs import (
    Executor,
    Maker,
    MarketEnv,
    MarketError,
    MarketSettings,
    MarketVecEnv,
    RiskLimits,
    SoleAgentEnv,
    SoleAgentVecEnv,
    Taker,
)
from hftlib.envs.desk import TERMS
from hftlib.envs.stable import StableVecEnv
from tests.still_market import Still

torch.set_num_threads(1)
NAMES = ("hftlib/MarketMaking-v0", "hftlib/Execution-v0")
MARKET = MarketSettings(decision_ms=500.0, episode_steps=10)
BOOKS = MARKET.simulated(warm_up_s=4.0)
SHORT = {"market": MARKET, "books": BOOKS}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n_bins", [None, 3])
def test_checkers_pass_without_a_warning(name, n_bins):
    env = gymnasium.make(name, **SHORT, n_bins=n_bins).unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env)
        check_env_sb3(env)


def test_settings_are_keyword_arguments():
    role = Maker(max_size=7)
    env = gymnasium.make(NAMES[0], role=role, **SHORT, risk=RiskLimits(initial_cash=2e4), n_bins=4)
    assert env.action_space == gymnasium.spaces.MultiDiscrete([4] * 5)
    _, info = env.reset(seed=0)
    assert info["equity"] == 2e4
    steps = [env.step(env.action_space.sample()) for _ in range(10)]
    assert [step[3] for step in steps] == [False] * 9 + [True]
    assert not any(step[2] for step in steps)
    env = gymnasium.make(NAMES[1], role=Executor(parent_lots=60, max_slice=6), **SHORT)
    _, info = env.reset(seed=0)
    assert abs(info["position"]) == 60
    assert env.action_space.shape == (2,)


def test_it_is_the_market_with_one_agent():
    """Bit for bit what `MarketEnv` returns."""
    view, rng = SoleAgentEnv(Maker(), **SHORT), np.random.default_rng(0)
    market = MarketEnv({"maker": Maker()}, **SHORT)
    np.testing.assert_array_equal(view.reset(seed=3)[0], market.reset(seed=3)[0]["maker"])
    for _ in range(2):
        is_over = False
        while not is_over:
            action = rng.uniform(-1, 1, 5)
            observation, reward, terminated, truncated, info = view.step(action)
            expected = [part["maker"] for part in market.step({"maker": action})]
            np.testing.assert_array_equal(observation, expected[0])
            assert [reward, terminated, truncated, info] == expected[1:]
            is_over = terminated or truncated
        assert tuple(info["terms"]) == TERMS
        np.testing.assert_array_equal(view.reset()[0], market.reset()[0]["maker"])


def test_an_unseeded_first_episode_follows_the_generator_of_gymnasium():
    env, twin = SoleAgentEnv(Maker(), **SHORT), SoleAgentEnv(Maker(), **SHORT)
    env.np_random, twin.np_random = np.random.default_rng(1), np.random.default_rng(1)
    np.testing.assert_array_equal(env.reset()[0], twin.reset()[0])
    assert not np.array_equal(env.reset()[0], SoleAgentEnv(Maker(), **SHORT).reset()[0])


@pytest.mark.parametrize("drawdown", [10_000.0, 1.0], ids=["the clock ends", "the limit ends"])
def test_copies_follow_the_single_environment_bit_for_bit(drawdown):
    n_envs, n_steps = 6, 34
    settings = {"role": Maker(), "risk": RiskLimits(max_drawdown=drawdown), **SHORT}
    batch = gymnasium.make_vec(NAMES[0], num_envs=n_envs, **settings)
    assert isinstance(batch, SoleAgentVecEnv)
    assert batch.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    actions = np.random.default_rng(5).uniform(-1, 1, (n_steps, n_envs, 5))
    observations, _ = batch.reset(seed=21)
    singles = [SoleAgentEnv(**settings) for _ in range(n_envs)]
    for i, env in enumerate(singles):
        np.testing.assert_array_equal(env.reset(seed=21 + i)[0], observations[i])
    n_terminated = 0
    for t in range(n_steps):
        observations, rewards, terminated, truncated, info = batch.step(actions[t])
        for i, env in enumerate(singles):
            one = env.step(actions[t, i])
            assert one[1:4] == (rewards[i], terminated[i], truncated[i])
            for key in ("equity", "position", "mid"):
                assert one[4][key] == info[key][i]
            assert one[4]["terms"] == {name: info["terms"][name][i] for name in TERMS}
            seen = observations[i]
            if one[2] or one[3]:
                assert info["_final_obs"][i]
                np.testing.assert_array_equal(one[0], info["final_obs"][i])
                one = env.reset()
            np.testing.assert_array_equal(one[0], seen)
        n_terminated += terminated.sum()
    assert (n_terminated >= n_envs) == (drawdown == 1.0)


def test_an_end_by_the_limit_in_the_last_step_terminates_and_does_not_truncate():
    # the taker buys, and in the second and last step of the episode the price falls
    script = {1: [(0.01, "limit", -1, 9_980, 2_000), (0.02, "limit", 1, 9_978, 500)]}
    env = SoleAgentVecEnv(
        1,
        Taker(),
        market=MarketSettings(episode_steps=2),
        risk=RiskLimits(max_drawdown=5.0),
        books=Still(script=script),
    )
    env.reset(seed=0)
    assert not env.step(np.ones((1, 1)))[2][0]
    *_, terminated, truncated, _ = env.step(np.zeros((1, 1)))
    assert (terminated[0], truncated[0]) == (True, False)


def test_a_saved_state_goes_on_bit_for_bit():
    actions = np.random.default_rng(8).uniform(-1, 1, (30, 4, 2))
    risk = RiskLimits(max_drawdown=30.0)
    env, other = (SoleAgentVecEnv(4, Executor(), risk=risk, **SHORT) for _ in range(2))
    env.reset(seed=1)
    n_terminated = sum(env.step(row)[2].sum() for row in actions[:14])
    assert n_terminated > 0
    other.load_state(env.save_state())
    for row in actions[14:]:
        for x, y in zip(env.step(row)[:4], other.step(row)[:4], strict=True):
            np.testing.assert_array_equal(x, y)


def test_what_was_returned_does_not_change_later():
    env = SoleAgentVecEnv(3, Maker(), risk=RiskLimits(max_drawdown=1.0), **SHORT)
    rng = np.random.default_rng(0)
    returned = [env.reset(seed=0)[0]]
    for _ in range(12):
        *arrays, info = env.step(rng.uniform(-1, 1, (3, 5)))
        returned += [*arrays, info["equity"], info.get("final_obs", arrays[0])]
    kept = [array.copy() for array in returned]
    for _ in range(20):
        env.step(rng.uniform(-1, 1, (3, 5)))
    for now, then in zip(returned, kept, strict=True):
        np.testing.assert_array_equal(now, then)


def test_misuse_is_refused_by_name():
    env = SoleAgentEnv(Maker(), **SHORT)
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(np.zeros(5))
    env.reset(seed=0)
    with pytest.raises(MarketError, match=r"shape \(4,\); expected \(5,\)"):
        env.step(np.zeros(4))
    with pytest.raises(MarketError, match=r"'maker' in copy 0 is .*from -1 to 1"):
        env.step(np.full(5, 2.0))
    for _ in range(10):
        env.step(np.zeros(5))
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(np.zeros(5))
    with pytest.raises(MarketError, match="unknown type str; expected Maker"):
        SoleAgentEnv("maker")
    with pytest.raises(MarketError, match="n_envs is 0"):
        SoleAgentVecEnv(0, Maker())


# --- learners of Stable-Baselines3


def model_of(algorithm, env, **settings):
    return algorithm("MlpPolicy", env, seed=0, device="cpu", **settings)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("algorithm", "n_bins", "settings"),
    [
        (PPO, None, {"n_steps": 100, "batch_size": 50}),
        (PPO, 5, {"n_steps": 100, "batch_size": 50}),
        (SAC, None, {"learning_starts": 50, "train_freq": 10}),
        (TD3, None, {"learning_starts": 50, "train_freq": 10}),
    ],
)
def test_learners_train_on_what_make_returns(name, algorithm, n_bins, settings):
    model = model_of(algorithm, gymnasium.make(name, **SHORT, n_bins=n_bins), **settings)
    before = [p.detach().clone() for p in model.policy.parameters()]
    model.learn(500)
    assert model.num_timesteps == 500
    after = list(model.policy.parameters())
    assert all(p.isfinite().all() for p in after)
    assert any((p != q).any() for p, q in zip(before, after, strict=True))


def test_dqn_refuses_actions_of_several_parts():
    with pytest.raises(AssertionError, match="Discrete"):
        model_of(DQN, gymnasium.make(NAMES[0], **SHORT, n_bins=3))


@pytest.mark.parametrize("algorithm", [PPO, SAC])
def test_learners_train_on_many_copies(algorithm):
    env = StableVecEnv(gymnasium.make_vec(NAMES[1], num_envs=5, **SHORT), reward_scale=0.1)
    settings = {"n_steps": 20} if algorithm is PPO else {"learning_starts": 50, "train_freq": 4}
    model = model_of(algorithm, env, **settings).learn(200)
    assert model.num_timesteps == 200


def test_the_copies_of_stable_baselines_are_those_of_make_vec():
    settings = {"role": Maker(), "risk": RiskLimits(max_drawdown=1.0), **SHORT}
    plain = SoleAgentVecEnv(4, **settings)
    stable = StableVecEnv(SoleAgentVecEnv(4, **settings), reward_scale=0.5)
    stable.seed(9)
    np.testing.assert_array_equal(stable.reset(), plain.reset(seed=9)[0])
    rng, n_ended = np.random.default_rng(0), {True: 0, False: 0}
    for _ in range(25):
        actions = rng.uniform(-1, 1, (4, 5))
        observations, rewards, terminated, truncated, info = plain.step(actions)
        seen, scaled, ended, infos = stable.step(actions)
        np.testing.assert_array_equal(seen, observations)
        np.testing.assert_allclose(scaled, 0.5 * rewards, rtol=1e-6)
        np.testing.assert_array_equal(ended, terminated | truncated)
        for i in np.flatnonzero(ended):
            assert infos[i]["TimeLimit.truncated"] == truncated[i]
            np.testing.assert_array_equal(infos[i]["terminal_observation"], info["final_obs"][i])
            n_ended[bool(truncated[i])] += 1
    assert min(n_ended.values()) > 0
    assert stable.env_is_wrapped(object) == [False] * 4
    with pytest.raises(AttributeError, match="share one state"):
        stable.env_method("step")
    with pytest.raises(AttributeError, match="share one state"):
        stable.set_attr("num_envs", 3)


def test_views_are_the_vectorised_market_itself():
    """No second implementation: the view's numbers are those of `MarketVecEnv`."""
    view = SoleAgentVecEnv(4, Executor(), **SHORT)
    market = MarketVecEnv({"executor": Executor()}, 4, **SHORT)
    (first,), _ = market.reset(seed=2)
    np.testing.assert_array_equal(view.reset(seed=2)[0], first)
    rng = np.random.default_rng(0)
    for _ in range(25):
        actions = rng.uniform(-1, 1, (4, 2))
        observations, rewards, *_ = view.step(actions)
        result = market.step([actions])
        np.testing.assert_array_equal(observations, result.observations[0])
        np.testing.assert_array_equal(rewards, result.rewards[:, 0])
