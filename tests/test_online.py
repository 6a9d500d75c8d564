from dataclasses import replace

import numpy as np
import pytest

from hftlib.agents import online, online_record
from hftlib.agents.online import train_agent
from hftlib.agents.online_policy import LearntPolicy, load_policy, read_policy, save_policy
from hftlib.agents.online_record import pack_replay, unpack_replay
from hftlib.agents.online_settings import PPOSettings, SACSettings, TD3Settings, make_settings
from hftlib.agents.policy import play
from hftlib.compute import derive_seed, map_parallel
from hftlib.data.controls import plant_oracle
from hftlib.envs import TradingVecEnv
from tests.conftest import make_panel

COMMON = {"gamma": 0.9, "reward_scale": 100.0, "hidden": (16,), "learning_rate": 1e-3}
PPO = PPOSettings(
    **COMMON,
    total_steps=2_048,
    n_envs=16,
    n_steps=32,
    batch_size=128,
    n_epochs=2,
    gae_lambda=0.9,
    clip_range=0.2,
    entropy_weight=0.0,
    n_evaluations=5,
)
REPLAY = {
    **COMMON,
    "total_steps": 640,
    "n_envs": 16,
    "batch_size": 32,
    "tau": 0.01,
    "buffer_size": 320,
    "n_warmup_steps": 64,
    "steps_per_update": 8,
    "n_evaluations": 5,
}
SAC, TD3 = SACSettings(**REPLAY), TD3Settings(**REPLAY)
LARGE = {"hidden": (64, 64), "batch_size": 128, "n_warmup_steps": 512}  # TD3 needs more of all
EVERY = [PPO, SAC, TD3]
NAMES = ["ppo", "sac", "td3"]
every_algo = pytest.mark.parametrize("settings", EVERY, ids=NAMES)


def same(one, two):
    return one.keys() == two.keys() and all(np.array_equal(one[k], two[k]) for k in one)


@pytest.fixture
def data(panel):
    return panel, make_panel(seed=1)


@pytest.fixture
def rules(rules):
    return replace(rules, action_kind="continuous")


@pytest.fixture
def discrete(rules):
    return replace(rules, action_kind="discrete")


@every_algo
def test_one_seed_gives_one_set_of_weights_and_another_seed_another(data, rules, settings):
    first, again = (train_agent(*data, rules, settings, seed=3) for _ in range(2))
    other = train_agent(*data, rules, settings, seed=4)
    assert same(first.weights, again.weights)
    assert first.curve == again.curve
    assert first.updates == again.updates
    assert not same(first.weights, other.weights)


@pytest.mark.slow
def test_worker_processes_give_the_same_weights_as_this_one(data, rules):
    parallel = map_parallel(_Train(data, rules), EVERY, "test")
    for settings, result in zip(EVERY, parallel, strict=True):
        assert same(result.weights, train_agent(*data, rules, settings, seed=3).weights)


class _Train:
    def __init__(self, data, rules):
        self.data, self.rules = data, rules

    def __call__(self, settings):
        return train_agent(*self.data, self.rules, settings, seed=3)


@pytest.mark.parametrize("n_done", [2, 4])
@every_algo
def test_a_stopped_training_resumes_to_the_same_weights(
    data, rules, tmp_path, monkeypatch, settings, n_done
):
    through = train_agent(*data, rules, settings, seed=3)
    save, saved = online_record.save_checkpoint, []

    def stop_after_some(*arguments):
        save(*arguments)
        saved.append(arguments)
        if len(saved) == n_done:
            raise KeyboardInterrupt

    monkeypatch.setattr(online_record, "save_checkpoint", stop_after_some)
    with pytest.raises(KeyboardInterrupt):
        train_agent(*data, rules, settings, seed=3, scratch=tmp_path)
    monkeypatch.setattr(online_record, "save_checkpoint", save)
    resumed = []
    resume = online_record.Recorder.resume
    monkeypatch.setattr(
        online_record.Recorder,
        "resume",
        lambda self, model: (resume(self, model), resumed.append(model.num_timesteps)),
    )
    result = train_agent(*data, rules, settings, seed=3, scratch=tmp_path)
    assert resumed == [settings.total_steps * (n_done - 1) // 4]
    assert same(result.weights, through.weights)
    assert result.curve == through.curve
    assert result.updates == through.updates


@pytest.mark.parametrize("n_steps", [7, 30])
def test_a_packed_replay_buffer_unpacks_to_the_same_bits(rules, panel, n_steps):
    model = _make_sac(rules, panel)
    model.learn(16 * n_steps, log_interval=None)
    other = _make_sac(rules, panel).replay_buffer
    mine = model.replay_buffer
    assert mine.full == (n_steps > 20)
    packed = pack_replay(mine)
    unpack_replay(other, packed)
    assert (other.pos, other.full) == (mine.pos, mine.full)
    for name in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts"):
        assert getattr(other, name).tobytes() == getattr(mine, name).tobytes(), name
    # ends of episodes, and the newest row
    n_elsewhere = np.count_nonzero(packed["elsewhere"])
    assert n_elsewhere <= np.count_nonzero(mine.dones) + mine.n_envs


def _make_sac(rules, panel):
    env = online.StableVecEnv(TradingVecEnv(panel, replace(rules, episode_bars=9), 16))
    design = online.describe_policy(SAC, panel, rules, env)
    return online._make_model(env, SAC, design, 0, None)


def test_a_checkpoint_of_other_settings_is_not_taken_up(data, rules, tmp_path):
    train_agent(*data, rules, PPO, seed=3, scratch=tmp_path)
    changed = replace(PPO, learning_rate=2e-3)
    with_scratch = train_agent(*data, rules, changed, seed=3, scratch=tmp_path)
    assert same(with_scratch.weights, train_agent(*data, rules, changed, seed=3).weights)
    assert len(list(tmp_path.glob("*.pt"))) == 2


def test_a_checkpoint_of_bars_with_volume_is_not_that_of_bars_without(data, rules, tmp_path):
    train, validation = data
    few = replace(SAC, total_steps=64, n_evaluations=2)
    for volume in (None, np.ones(len(train.ts))):
        train_agent(replace(train, volume=volume), validation, rules, few, 3, scratch=tmp_path)
    assert len(list(tmp_path.glob("*.pt"))) == 2


def test_another_validation_span_is_not_mixed_up_in_a_resumed_curve(data, rules, tmp_path):
    train, validation = data
    train_agent(train, validation, rules, PPO, 3, scratch=tmp_path)
    other = make_panel(seed=9)
    resumed = train_agent(train, other, rules, PPO, 3, scratch=tmp_path)
    assert resumed.curve == train_agent(train, other, rules, PPO, 3).curve


@every_algo
def test_looking_more_often_does_not_change_the_training(data, rules, settings):
    often = replace(settings, n_evaluations=3)
    first, second = (train_agent(*data, rules, s, seed=3) for s in (settings, often))
    assert same(first.weights, second.weights)


def test_an_unknown_algorithm_lists_the_known_ones():
    with pytest.raises(ValueError, match="algo is 'a2c'; expected one of ppo, sac, td3"):
        make_settings("a2c")


@pytest.mark.parametrize("settings", [SAC, TD3], ids=["sac", "td3"])
def test_discrete_actions_are_refused_where_they_cannot_be_learnt(data, discrete, settings):
    with pytest.raises(ValueError, match=r"needs continuous actions, the environment has Disc"):
        train_agent(*data, discrete, settings, seed=0)


@pytest.mark.parametrize("extractor", ["mlp", "lstm", "attention"])
def test_settings_with_another_ratio_of_updates_count_as_many(data, rules, extractor):
    settings = replace(SAC, extractor=extractor, steps_per_update=32, n_warmup_steps=0)
    env = online.StableVecEnv(TradingVecEnv(data[0], rules, 16))
    design = online.describe_policy(settings, data[0], rules, env)
    model = online._make_model(env, settings, design, 0, None)
    model.learn(settings.total_steps, log_interval=None)
    assert model._n_updates == settings.total_steps * settings.updates_per_step == 20


def test_a_ratio_that_cannot_be_kept_is_refused():
    with pytest.raises(ValueError, match="steps_per_update is 12; expected a divisor or a mult"):
        replace(SAC, steps_per_update=12)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        replace(PPO, total_steps=40_000, n_epochs=4),
        replace(SAC, total_steps=8_000, buffer_size=8_000, n_evaluations=2),
        replace(TD3, total_steps=9_600, buffer_size=9_600, n_evaluations=2, **LARGE),
    ],
    ids=NAMES,
)
def test_an_agent_that_is_shown_the_future_profits_from_it(data, rules, settings):
    train, fresh = (plant_oracle(panel, 5) for panel in data)
    result = train_agent(train, fresh, replace(rules, window_bars=1), settings, seed=0)
    # ten times what a random walk's Sharpe ratio could reach by luck in a year
    assert result.curve[-1].split == "validation"
    assert result.curve[-1].sharpe > 3


def test_a_discrete_agent_that_is_shown_the_future_profits_from_it(data, discrete):
    train, fresh = (plant_oracle(panel, 5) for panel in data)
    settings = replace(PPO, total_steps=40_000, n_epochs=4)
    result = train_agent(train, fresh, replace(discrete, window_bars=1), settings, seed=0)
    assert result.curve[-1].sharpe > 3


@every_algo
def test_training_that_diverges_stops_and_names_the_step(data, rules, settings):
    with pytest.raises(FloatingPointError, match=r"at step \d+; lower learning_rate .* good.*none"):
        train_agent(*data, rules, replace(settings, learning_rate=1e30), seed=0)


@every_algo
def test_the_last_good_checkpoint_outlives_a_divergence(data, rules, tmp_path, settings):
    with pytest.raises(FloatingPointError, match=r"checkpoint: step \d+, .*\.pt"):
        train_agent(*data, rules, replace(settings, learning_rate=1e30), seed=0, scratch=tmp_path)
    [file] = tmp_path.glob("*.pt")
    saved = online_record.torch.load(file, weights_only=False)["state"]
    policy = saved["parameters"]["policy"].values()
    assert all(bool(np.isfinite(values.numpy()).all()) for values in policy)


@every_algo
def test_the_last_good_weights_can_be_started_from_as_the_error_says(
    data, rules, tmp_path, settings
):
    with pytest.raises(FloatingPointError) as caught:
        train_agent(*data, rules, replace(settings, learning_rate=1e30), seed=0, scratch=tmp_path)
    [file] = tmp_path.glob("*.npz")
    assert str(caught.value).endswith(str(file))
    few = replace(settings, total_steps=settings.total_steps // 4, n_evaluations=2)
    onward = train_agent(*data, rules, few, seed=0, start=read_policy(file)[0])
    point = onward.curve[1]  # validation, before the first update
    assert (point.step, point.split) == (0, "validation")
    policy = load_policy(file, data[1].feature_names)
    own = online_record.evaluate_policy(policy, "validation", data[1], rules, 0)
    assert own.log_growth == point.log_growth != 0


@pytest.mark.parametrize("extractor", ["mlp", "lstm", "attention"])
@every_algo
def test_saved_weights_act_like_the_trained_ones_and_have_fixed_bytes(
    data, rules, tmp_path, settings, extractor
):
    few = replace(settings, total_steps=settings.total_steps // 4, n_evaluations=2)
    result = train_agent(*data, rules, replace(few, extractor=extractor), seed=3)
    for name in ("one.npz", "two.npz"):
        save_policy(tmp_path / name, result.weights, result.design)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    weights, design = read_policy(tmp_path / "one.npz")
    assert same(weights, result.weights)
    assert design == result.design
    before = play(LearntPolicy(result.weights, result.design), data[1], rules)
    after = play(load_policy(tmp_path / "one.npz", data[1].feature_names), data[1], rules)
    np.testing.assert_array_equal(before.equity, after.equity)
    assert np.abs(before.position).max() > 0, "it trades"


@every_algo
def test_a_rebuilt_policy_acts_like_stable_baselines3_s_own(data, rules, settings, monkeypatch):
    models = []
    make = online._make_model
    monkeypatch.setattr(online, "_make_model", lambda *a: models.append(make(*a)) or models[-1])
    result = train_agent(*data, rules, replace(settings, hidden=(16, 8)), seed=3)
    n_inputs = result.design.n_inputs
    observations = np.random.default_rng(0).normal(size=(50, n_inputs)).astype(np.float32)
    own, _ = models[0].predict(observations, deterministic=True)
    np.testing.assert_array_equal(
        LearntPolicy(result.weights, result.design).act(observations), own
    )


def test_discrete_policies_give_whole_numbers(data, discrete):
    result = train_agent(*data, discrete, replace(PPO, total_steps=512), seed=3)
    observations = np.zeros((4, result.design.n_inputs), dtype=np.float32)
    actions = LearntPolicy(result.weights, result.design).act(observations)
    assert actions.shape == (4,)
    assert actions.dtype == np.int64


@pytest.mark.parametrize("settings", [PPO, replace(SAC, extractor="lstm")], ids=["ppo", "sac"])
@pytest.mark.parametrize("kind", ["discrete", "continuous"])
def test_portfolios_can_be_traded(panel, rules, settings, kind):
    if settings.algo == "sac" and kind == "discrete":
        pytest.skip("SAC has continuous actions only")
    whole = replace(rules, is_portfolio=True, shows_drawdown=True, action_kind=kind)
    env = online.StableVecEnv(TradingVecEnv(panel, whole, 16))
    design = online.describe_policy(settings, panel, whole, env)
    assert (design.n_assets, design.n_account) == (2, 5)
    model = online._make_model(env, settings, design, 0, None)
    model.learn(160, log_interval=None)
    policy = LearntPolicy(online.read_weights(model), design)
    observations = env.reset()
    actions = policy.act(observations)
    np.testing.assert_array_equal(actions, model.predict(observations, deterministic=True)[0])
    assert actions.shape == (16, 2)
    result = train_agent(panel, panel, whole, replace(settings, total_steps=160), seed=0)
    assert len(result.curve) > 2


def test_a_shared_value_network_has_one_body(data, rules):
    apart, shared = (
        train_agent(
            *data,
            rules,
            replace(PPO, total_steps=512, hidden=(16, 8), shares_value_network=is_shared),
            seed=3,
        ).weights
        for is_shared in (False, True)
    )
    assert {k for k in apart if k.startswith("mlp_extractor.value_net")}
    bodies = {k.split(".")[0] for k in shared if k.endswith("weight")}
    assert bodies == {
        "features_extractor",
        "pi_features_extractor",
        "vf_features_extractor",
        "action_net",
        "value_net",
    }
    for k in (k for k in shared if k.startswith("features_extractor")):
        np.testing.assert_array_equal(shared[k], shared[f"pi_{k}"])
        np.testing.assert_array_equal(shared[k], shared[f"vf_{k}"])


def test_a_policy_of_other_features_is_refused(data, rules, tmp_path):
    result = train_agent(*data, rules, replace(PPO, total_steps=512), seed=3)
    save_policy(tmp_path / "a.npz", result.weights, result.design)
    with pytest.raises(ValueError, match=r"a\.npz .*missing here: f1; unknown to it: rsi"):
        load_policy(tmp_path / "a.npz", ("f0", "rsi", "f2"))
    with pytest.raises(ValueError, match=r"feature 0 is f1 here and was f0"):
        load_policy(tmp_path / "a.npz", ("f1", "f0", "f2"))
    with pytest.raises(ValueError, match=r"shape \(4, 9\); expected \(n, 17\), 1 \* 5 bars of 3"):
        load_policy(tmp_path / "a.npz").act(np.zeros((4, 9), dtype=np.float32))


def test_a_file_that_does_not_say_what_it_holds_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", weight=np.zeros(3))
    with pytest.raises(ValueError, match=r"does not say what it holds; write it with save_policy"):
        load_policy(tmp_path / "a.npz")


@every_algo
def test_the_curve_has_a_point_a_split_at_every_evaluation(data, rules, settings):
    result = train_agent(*data, rules, settings, seed=0)
    quarter = settings.total_steps // 4
    steps = [quarter * k for k in range(5)]
    assert [point.step for point in result.curve[::2]] == steps
    assert {point.split for point in result.curve} == {"train", "validation"}
    by_measure = {}
    for step, measure, value in result.updates:
        assert np.isfinite(value)
        by_measure.setdefault(measure, []).append(step)
    expected = {"reward", "policy_loss", "value_loss"}
    episodes = {"episode_log_growth", "episode_bars"}  # which are too long for SAC and TD3 here
    expected |= {"ppo": {"entropy", "approx_kl"} | episodes, "sac": {"entropy_weight"}}.get(
        settings.algo, set()
    )
    assert by_measure.keys() == expected
    n_updates = settings.total_steps // settings.rollout_steps
    every = [settings.rollout_steps * k for k in range(1, n_updates + 1)]
    assert by_measure["reward"] == every
    n_warmup = getattr(settings, "n_warmup_steps", 0)
    assert by_measure["value_loss"] == [step for step in every if step > n_warmup]


def test_updates_of_sac_are_thinned_to_means(data, rules, monkeypatch):
    whole = train_agent(*data, rules, SAC, seed=0).updates
    monkeypatch.setattr(online_record, "MAX_ENTRIES", 12)
    thinned = train_agent(*data, rules, SAC, seed=0).updates
    rewards = {u.step: u.value for u in whole if u.measure == "reward"}
    found = {u.step: u.value for u in thinned if u.measure == "reward"}
    # 40 updates, every fourth, and the points of the curve: 160, 320, 480, 640
    assert list(found) == sorted({*range(64, 641, 64), 160, 480})
    before = 0
    for step, value in found.items():
        some = [rewards[s] for s in rewards if before < s <= step]
        assert value == pytest.approx(np.mean(some))
        before = step


def test_episodes_are_told_by_growth_and_length(data, rules):
    """The reward is the log growth, so that of an episode is its sum."""
    short = replace(rules, episode_bars=10)
    settings = replace(PPO, n_steps=10, total_steps=480, batch_size=160, n_evaluations=2)
    updates = train_agent(*data, short, settings, seed=0).updates
    by_measure = {}
    for step, measure, value in updates:
        by_measure.setdefault(measure, {})[step] = value
    assert by_measure["episode_bars"] == {160: 10.0, 320: 10.0, 480: 10.0}
    for step, growth in by_measure["episode_log_growth"].items():
        assert growth == pytest.approx(10 * by_measure["reward"][step], rel=1e-4)


def test_the_reward_of_an_update_is_that_of_the_environment(data, rules):
    """Of the two settings only the scale differs, which cancels where nothing is learnt."""
    one, two = (
        train_agent(*data, rules, replace(SAC, reward_scale=scale, n_warmup_steps=640), 0).updates
        for scale in (1.0, 256.0)
    )
    assert one == two
    assert "value_loss" not in {update.measure for update in one}


@pytest.mark.parametrize("settings", [PPO, SAC], ids=["ppo", "sac"])
def test_patience_ends_training_and_returns_the_best_of_validation(data, rules, settings, tmp_path):
    patient = replace(settings, patience=1, learning_rate=1e-2)
    seeds = range(4)
    ended = 0
    for seed in seeds:
        result = train_agent(*data, rules, patient, seed)
        scores = {
            p.step: 0.0 if np.isnan(p.sharpe) else p.sharpe
            for p in result.curve
            if p.split == "validation"
        }
        assert result.step == max(scores, key=scores.get)
        later = [step for step in scores if step > result.step]
        assert len(later) <= 1
        if max(scores) < patient.total_steps:
            assert len(later) == 1
            ended += 1
    assert ended, "no seed ran out of patience; choose others"


def test_patience_survives_a_stop(data, rules, tmp_path):
    patient = replace(SAC, patience=1, learning_rate=1e-2)
    through = train_agent(*data, rules, patient, 1, scratch=tmp_path)
    again = train_agent(*data, rules, patient, 1, scratch=tmp_path)
    assert again.step == through.step
    assert again.curve == through.curve
    assert same(again.weights, through.weights)


@every_algo
def test_a_training_can_start_from_weights(data, rules, settings):
    first = train_agent(*data, rules, settings, seed=3)
    still = replace(settings, learning_rate=1e-30)
    onward = train_agent(*data, rules, still, seed=4, start=first.weights)
    # such steps vanish beside weights of any size
    assert onward.curve[1].sharpe == pytest.approx(first.curve[-1].sharpe)
    assert onward.curve[-1].sharpe == pytest.approx(first.curve[-1].sharpe)


def test_weights_of_another_design_cannot_be_started_from(data, rules):
    first = train_agent(*data, rules, SAC, seed=3)
    with pytest.raises(ValueError, match="of another design"):
        train_agent(*data, rules, replace(SAC, hidden=(8,)), seed=3, start=first.weights)


def test_tensorboard_gets_the_measures(data, rules, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    result = train_agent(*data, rules, SAC, seed=0, tensorboard_log=tmp_path)
    [folder] = tmp_path.glob("seed_0/*")
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    points = events.Scalars("validation/turnover")
    assert [point.step for point in points] == [0, 160, 320, 480, 640]
    assert points[-1].value == pytest.approx(result.curve[-1].turnover)
    rewards = [u for u in result.updates if u.measure == "reward"]
    points = events.Scalars("reward")
    assert [point.step for point in points] == [u.step for u in rewards]
    assert [p.value for p in points] == pytest.approx([u.value for u in rewards])


def test_seeds_for_different_purposes_differ_and_are_stable():
    assert derive_seed(1, "a", 0) == derive_seed(1, "a", 0)
    assert len({derive_seed(1, "a", 0), derive_seed(1, "a", 1), derive_seed(1, "b", 0)}) == 3
    assert derive_seed(1, "a", 0) != derive_seed(2, "a", 0)
