"""Scenes, teams and the contest with classical rivals, on markets of a few steps."""

from dataclasses import replace

import numpy as np
import pytest

from hftlib.agents.catalogue import (
    classical_executors,
    classical_makers,
    classical_takers,
    make_stoikov,
)
from hftlib.agents.rollout import play_market, risk_adjusted_profit
from hftlib.agents.teams import (
    as_team,
    classical_team,
    load_team,
    make_settings,
    save_team,
    train_response,
    train_team,
)
from hftlib.envs import Executor, Maker, MarketSettings, RewardWeights, RiskLimits, Taker
from hftlib.envs.scene import MarketScene
from hftlib.evaluation import contest

SCENE = MarketScene(
    {"maker": Maker(), "executor": Executor(parent_lots=200), "taker": Taker()},
    MarketSettings(decision_ms=1000, episode_steps=12, mean_reversion_speed=0.0),
    RiskLimits(max_inventory=200, max_position_value=1e6),
    RewardWeights(0.04, 0.0, 0.0, 0.0),
)
TINY = {
    "mappo": {"total_steps": 48, "n_steps": 12, "n_epochs": 1, "n_evaluations": 2},
    "maddpg": {"total_steps": 48, "n_warmup_steps": 8, "batch_size": 8, "n_evaluations": 2},
}


def train(algo, scene=SCENE, seed=3, **changes):
    settings = make_settings(algo, TINY[algo], hidden=(8,))
    return train_team(scene, settings, seed, n_envs=2, curve_seed=50, n_curve_worlds=2, **changes)


@pytest.fixture(scope="module", params=["mappo", "maddpg"])
def trained(request):
    return train(request.param)


def test_a_team_is_trained_kept_and_loaded(trained, tmp_path):
    env = SCENE.build(2)
    save_team(tmp_path / "team.npz", trained.weights, SCENE)
    kept, own = load_team(tmp_path / "team.npz", env), as_team(trained.weights, env)
    seen, _ = env.reset(1)
    for agent, observations in zip(env.agents, seen, strict=True):
        np.testing.assert_array_equal(kept[agent].act(observations), own[agent].act(observations))


def test_the_curve_has_the_profit_of_every_agent(trained):
    names = {name for step, name, _ in trained.curve if step == 0}
    wanted = {f"{a}/{m}" for a in SCENE.roles for m in ("profit", "risk_adjusted_profit")}
    assert wanted <= names


def test_the_curve_leaves_shaping_out_of_the_risk_adjusted_profit():
    scene = replace(SCENE, reward=RewardWeights(0.04, 0.1, 0.5, 0.0))
    assert scene.reward.lambda_spread > 0
    found = train("mappo", scene)
    env = scene.build(2)
    rollout = play_market(env, as_team(found.weights, env), 50)
    curve = {name: value for step, name, value in found.curve if step == 48}
    values = risk_adjusted_profit(rollout).mean(axis=0)
    for agent, value in zip(rollout.agents, values, strict=True):
        assert curve[f"{agent}/risk_adjusted_profit"] == pytest.approx(value)
    assert np.abs(rollout.rewards.sum(axis=0).mean(axis=0) - values).max() > 1e-3


def test_a_training_without_prices_at_the_value_has_rewards_and_a_checkpoint_of_its_own(tmp_path):
    scene = replace(SCENE, market=replace(SCENE.market, volatility=0.2))
    one = train("mappo", scene, scratch=tmp_path).weights
    two = train("mappo", scene, scratch=tmp_path, prices_at_value=False).weights
    assert any((one[name] != two[name]).any() for name in one)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"roles": {**SCENE.roles, "maker": Maker(max_offset_ticks=4.0)}},
            r"roles\.maker\.max_offset_ticks=10\.0, not 4\.0",
        ),
        ({"risk": replace(SCENE.risk, max_inventory=300)}, r"risk\.max_inventory=200, not 300"),
        ({"market": replace(SCENE.market, decision_ms=500)}, r"market\.decision_ms=1000, not 500"),
        (
            {"roles": {"maker": Maker(), "taker": Taker()}},
            r"roles\.executor\.kind='executor', not 'absent'",
        ),
    ],
)
def test_a_team_of_another_scene_is_refused_with_the_field_that_differs(changes, message, tmp_path):
    path = tmp_path / "team.npz"
    save_team(path, {}, SCENE)
    with pytest.raises(ValueError, match=rf"team\.npz was trained with {message}; retrain, or"):
        load_team(path, replace(SCENE, **changes))


def test_a_team_of_a_scene_of_numpy_s_numbers_loads_where_they_are_python_s(trained, tmp_path):
    risk = replace(SCENE.risk, max_inventory=np.int64(200))
    save_team(tmp_path / "team.npz", trained.weights, replace(SCENE, risk=risk).build(1))
    assert load_team(tmp_path / "team.npz", SCENE).keys() == SCENE.roles.keys()


def test_weights_that_do_not_say_where_they_were_trained_are_refused(trained, tmp_path):
    np.savez(tmp_path / "team.npz", allow_pickle=False, **trained.weights)
    with pytest.raises(ValueError, match=r"team\.npz does not say .*; write it by save_team\(\)"):
        load_team(tmp_path / "team.npz", SCENE.build(1))


def test_the_same_seed_trains_the_same_team():
    one, two = train("mappo").weights, train("mappo").weights
    assert all((one[name] == two[name]).all() for name in one)
    other = train("mappo", seed=4).weights
    assert any((one[name] != other[name]).any() for name in one)


def test_a_setting_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(ValueError, match=r"no setting 'gama'; it has .*gamma"):
        make_settings("mappo", {"total_steps": 1, "gama": 0.9})
    with pytest.raises(ValueError, match=r"'ppo'; expected one of mappo, maddpg"):
        make_settings("ppo", {})


def test_an_agent_that_is_replaced_by_itself_makes_no_difference(trained):
    env = SCENE.build(2)
    team = as_team(trained.weights, env)
    table = contest.judge_team(SCENE, team, 70, 2, trained.weights)
    verdict = contest.summarise_judgement([table], n_bootstrap=20, confidence=0.95, seed=0)
    gap = verdict[verdict["what"] == "difference"]
    assert (gap[["value", "low", "high"]] == 0).all(axis=None)
    measures = gap.groupby("agent")["measure"].apply(set)
    assert "shortfall_ticks" in measures["executor"]
    assert "shortfall_ticks" not in measures["maker"]


def test_a_judgement_is_the_difference_of_two_rollouts(trained):
    env = SCENE.build(2)
    maker = make_stoikov(SCENE, SCENE.roles["maker"], 0.01, 0.4)
    table = contest.judge_team(SCENE, {"maker": maker}, 70, 2, trained.weights)
    team = as_team(trained.weights, env)
    home, away = (play_market(env, t, 70).profit[:, 0] for t in (team, {**team, "maker": maker}))
    got = table.pivot(index="world", columns="player", values="profit")
    np.testing.assert_array_equal(got["learnt"], home)
    np.testing.assert_array_equal(got["rival"], away)


def test_the_search_finds_the_best_pair_and_says_how_sure_it_is():
    table = contest.tune_stoikov(SCENE, (0.01, 1.0), (0.4, 3.0), seed=5, n_worlds=3)
    assert len(table) == 4
    assert table["risk_adjusted_profit"].is_monotonic_decreasing
    best = table.iloc[0]
    maker = make_stoikov(SCENE, SCENE.roles["maker"], best["risk_aversion"], best["decay"])
    rollout = play_market(SCENE.build(3), classical_team(SCENE, maker), 5)
    assert best["risk_adjusted_profit"] == pytest.approx(rollout.rewards[..., 0].sum(0).mean())


def test_nothing_can_be_earned_on_the_control_market():
    scene = replace(SCENE, market=replace(SCENE.market, episode_steps=60)).control(6.0)
    assert set(scene.roles) == {"maker", "taker"}
    env = scene.build(16)
    takers = classical_takers(scene, scene.roles["taker"])
    for name, maker in classical_makers(scene, scene.roles["maker"], 0.01, 0.4).items():
        rollout = play_market(env, {"maker": maker, "taker": takers["momentum"]}, 9)
        traded = rollout.lots[-1] > 0
        assert (rollout.profit.mean(axis=0) <= 0).all(), name
        assert (rollout.profit[~traded] == 0).all()
    assert traded[:, 1].any()


def test_training_at_the_value_changes_rewards_and_nothing_else():
    plain, priced = SCENE.build(3), SCENE.build(3, prices_at_value=True)
    rng = np.random.default_rng(0)
    plain.reset(4), priced.reset(4)
    differs = False
    for _ in range(11):
        actions = [rng.uniform(-1, 1, (3, space.shape[0])) for space in plain.action_spaces]
        one, two = plain.step(actions), priced.step(actions)
        np.testing.assert_array_equal(np.hstack(one.observations), np.hstack(two.observations))
        np.testing.assert_array_equal(plain.accounts()["equity"], priced.accounts()["equity"])
        np.testing.assert_array_equal(one.terms[..., 1:], two.terms[..., 1:])
        differs |= (one.terms[..., 0] != two.terms[..., 0]).any()
    assert differs


def test_prices_at_the_value_have_the_mean_of_the_profit_and_less_noise():
    market = replace(SCENE.market, episode_steps=100, volatility=0.01)
    scene = replace(SCENE, market=market, roles={"m": Maker()})
    action = np.tile([-0.5, -0.5, 1, 1, 0], (256, 1))
    profits = []
    for priced in (False, True):
        env = scene.build(256, prices_at_value=priced)
        env.reset(2)
        steps = np.stack([env.step([action]).terms[:, 0, 0] for _ in range(100)])
        profits.append(steps.sum(axis=0))
    gap = profits[1] - profits[0]
    assert abs(gap.mean()) < 3 * gap.std() / 256**0.5
    assert profits[1].std() < 0.95 * profits[0].std()


def test_a_best_response_is_a_policy_of_its_agent():
    from hftlib.agents.fixed_others import FixedOthers

    env = SCENE.build(2)
    maker = make_stoikov(SCENE, SCENE.roles["maker"], 0.01, 0.4)
    others = {k: v for k, v in classical_team(SCENE, maker).items() if k != "maker"}
    settings = make_settings("mappo", TINY["mappo"], hidden=(8,))
    policy = train_response(FixedOthers(env, "maker", others), settings, 1)
    assert policy.act(np.zeros((4, 26), dtype=np.float32)).shape == (4, 5)


def test_every_classical_strategy_plays():
    curve = np.ones(SCENE.market.episode_steps)
    catalogues = {
        "maker": classical_makers(SCENE, SCENE.roles["maker"], 0.01, 0.4),
        "executor": classical_executors(SCENE, SCENE.roles["executor"], curve),
        "taker": classical_takers(SCENE, SCENE.roles["taker"]),
    }
    env = SCENE.build(2)
    team = {agent: next(iter(policies.values())) for agent, policies in catalogues.items()}
    for agent, policies in catalogues.items():
        for name, policy in policies.items():
            rollout = play_market(env, {**team, agent: policy}, 3)
            assert np.isfinite(rollout.profit).all(), name
            assert (rollout.position[-1, :, env.agents.index("executor")] == 0).all(), name
