"""The multi-agent market on its simulated books: what holds for any actions."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pettingzoo.test import parallel_api_test, parallel_seed_test

from hftlib.envs import (
    Executor,
    Maker,
    MarketEnv,
    MarketError,
    MarketSettings,
    MarketVecEnv,
    RewardWeights,
    RiskLimits,
    Taker,
)
from hftlib.envs.desk import PROFIT, TERMS
from hftlib.market.lane import VALUE_NOW
from hftlib.market.matching import A_STATUS, CASH, LOTS, MADE, POSITION, TOOK, WOULD_CROSS
from tests.still_market import accounts_of

ROLES = {
    "slow": Maker(latency_ms=20.0),
    "quick": Maker(max_size=60),
    "executor": Executor(parent_lots=300),
    "taker": Taker(latency_ms=5.0),
}
N_STEPS = 12
MARKET = MarketSettings(
    decision_ms=500.0, episode_steps=N_STEPS, maker_fee_bps=-0.1, taker_fee_bps=0.5
)
TIGHT = RiskLimits(max_inventory=150, max_position_value=30_000.0, max_drawdown=8.0)
UNIT = MARKET.tick_size * MARKET.lot_size


def books(**changes):
    return MARKET.simulated(**{"warm_up_s": 4.0, **changes})


def open_market(n_envs=3, n_threads=1, roles=ROLES, **changes):
    arguments = {"market": MARKET, "risk": TIGHT, "books": books(n_threads=n_threads), **changes}
    return MarketVecEnv(roles, n_envs, **arguments)


def open_single(**changes):
    return MarketEnv(ROLES, **{"market": MARKET, "risk": TIGHT, "books": books(), **changes})


def draw(env, rng, n=None):
    """Random actions, one array an agent."""
    rows = env.n_envs if n is None else n
    return [rng.uniform(-1, 1, (rows, len(role.action_names))) for role in env.roles.values()]


def assert_same(one, two, rows=slice(None)):
    """Two transitions, bit for bit."""
    for name, a, b in zip(one._fields, one, two, strict=True):
        pairs = zip(a, b, strict=True) if name.endswith("observations") else [(a, b)]
        for x, y in pairs:
            np.testing.assert_array_equal(x[rows], y, err_msg=name)


def values_of(env):
    return env._books._market.lanes.clock[:, VALUE_NOW].copy()


# --- the interface


@pytest.mark.parametrize("n_bins", [None, 5])
def test_checkers_of_pettingzoo_pass_without_a_warning(n_bins):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(open_single(n_bins=n_bins), num_cycles=2 * N_STEPS)
        parallel_seed_test(lambda: open_single(n_bins=n_bins), num_cycles=2 * N_STEPS)


def test_spaces_hold_what_is_seen_and_names_have_one_place_each():
    env = open_single(risk=RiskLimits())
    observations, infos = env.reset(seed=0)
    while env.agents:
        for name, role in ROLES.items():
            assert env.observation_space(name).contains(observations[name])
            assert len(role.observation_names) == len(set(role.observation_names))
            assert env.observation_space(name).shape == (len(role.observation_names),)
        assert env.state_space.contains(env.state())
        assert set(infos) == set(ROLES)
        kept = env.state().copy()
        env.state()[:] = 7.0
        np.testing.assert_array_equal(env.state(), kept)
        actions = {name: env.action_space(name).sample() for name in env.agents}
        observations, *_, infos = env.step(actions)


@settings(max_examples=10)
@given(st.integers(0, 10_000), st.sampled_from([1, 10_000]))
def test_observations_stay_within_their_bounds_and_finite(seed, parent_lots):
    roles = {
        "maker": Maker(max_offset_ticks=5_000.0, max_skew_ticks=5_000.0, max_size=10_000),
        "executor": Executor(parent_lots=parent_lots, max_slice=parent_lots, reach_ticks=3_000.0),
        "taker": Taker(max_size=10_000, reach_ticks=3_000.0),
    }
    env = open_market(4, roles=roles, risk=RiskLimits(max_inventory=10_000, max_position_value=1e7))
    env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    for _ in range(N_STEPS):
        actions = [np.sign(a) * np.abs(a) ** 0.2 for a in draw(env, rng)]
        result = env.step(actions)
        for space, seen in zip(env.observation_spaces, result.final_observations, strict=True):
            assert all(space.contains(row) for row in seen)
        assert np.abs(result.final_state).max() <= 10 and np.isfinite(result.rewards).all()


def test_a_copy_is_the_single_environment_bit_for_bit():
    n_envs, seed = 5, 11
    batch, rng = open_market(n_envs), np.random.default_rng(5)
    observations, state = batch.reset(seed=seed)
    singles = [open_single() for _ in range(n_envs)]
    for i, env in enumerate(singles):
        first, _ = env.reset(seed=seed + i)
        for a, name in enumerate(ROLES):
            np.testing.assert_array_equal(first[name], observations[a][i])
        np.testing.assert_array_equal(env.state(), state[i])
    n_ended = 0
    for _ in range(3 * N_STEPS):
        actions = draw(batch, rng)
        result, accounts = batch.step(actions), batch.accounts()
        for i, env in enumerate(singles):
            alive = env.agents
            for a, name in enumerate(ROLES):
                if name not in alive:
                    assert result.terminated[i, a] and result.rewards[i, a] == 0
            if alive:
                moves = {
                    name: x[i] for name, x in zip(ROLES, actions, strict=True) if name in alive
                }
                seen, rewards, terminated, truncated, infos = env.step(moves)
                np.testing.assert_array_equal(env.state(), result.final_state[i])
                assert set(seen) == set(rewards) == set(infos) == set(alive)
            for a, name in enumerate(ROLES):
                if name in alive:
                    np.testing.assert_array_equal(seen[name], result.final_observations[a][i])
                    assert rewards[name] == result.rewards[i, a]
                    assert terminated[name] == result.terminated[i, a]
                    assert truncated[name] == (result.truncated[i] and not terminated[name])
                    assert tuple(infos[name]["terms"].values()) == tuple(result.terms[i, a])
                    for key in ("equity", "position", "mid"):
                        assert infos[name][key] == accounts[key][i, a]
            n_ended += result.terminated[i].any()
            is_over = result.truncated[i] or result.terminated[i].all()
            assert is_over == (env.agents == [])
            if is_over:
                first, _ = env.reset()
                for a, name in enumerate(ROLES):
                    np.testing.assert_array_equal(first[name], result.observations[a][i])
                np.testing.assert_array_equal(env.state(), result.state[i])
    assert n_ended > 0


def test_rewards_are_the_sum_of_their_terms_in_order():
    env = open_single(reward=RewardWeights())
    env.reset(seed=0)
    while env.agents:
        actions = {name: env.action_space(name).sample() for name in env.agents}
        _, rewards, _, _, infos = env.step(actions)
        for name, reward in rewards.items():
            assert tuple(infos[name]["terms"]) == TERMS
            assert reward == pytest.approx(sum(infos[name]["terms"].values()), abs=1e-9)


# --- money


@settings(max_examples=15)
@given(st.integers(0, 100_000), st.floats(0.1, 3.0), st.booleans())
def test_equity_is_cash_and_position_at_the_mid_to_the_cent(seed, boldness, has_fees):
    market = MARKET if has_fees else MarketSettings(decision_ms=500.0, episode_steps=N_STEPS)
    reward = RewardWeights(0.0, 0.0, 0.0, 0.0)
    env = open_market(4, market=market, reward=reward, auto_reset=False)
    rng = np.random.default_rng(seed)
    env.reset(seed=seed)
    first, total = env.accounts(), 0.0
    start, start_mid = first["position"], first["mid"]
    assert (first["equity"] == TIGHT.initial_cash).all()
    assert (start == -first["parent"]).all()
    for t in range(N_STEPS):
        result = env.step([np.clip(boldness * a, -1, 1) for a in draw(env, rng)])
        account, total = env.accounts(), total + result.rewards
        value = account["position"] * account["mid"] - start * start_mid
        equity = TIGHT.initial_cash + account["cash"] + value * UNIT
        alive = account["is_alive"].copy()
        if t == N_STEPS - 1:  # an executor with lots left has paid to close
            alive[:, 2] &= account["position"][:, 2] == 0
        np.testing.assert_allclose(account["equity"][alive], equity[alive], rtol=0, atol=0.005)
        gained = account["equity"] - TIGHT.initial_cash
        np.testing.assert_allclose(total, gained, rtol=0, atol=1e-6)
        fees = (account["made"] * market.maker_fee_bps + account["took"] * market.taker_fee_bps) * (
            1e-4 * UNIT
        )
        np.testing.assert_allclose(account["fees"][alive], fees[alive], rtol=0, atol=1e-6)
    assert account["lots"].sum() > 0


def test_a_profit_priced_at_the_value_leaves_out_what_positions_gain_from_its_moves():
    market = MarketSettings(decision_ms=500.0, episode_steps=N_STEPS, mean_reversion_speed=0.0)
    settings = {"market": market, "books": market.simulated(warm_up_s=4.0), "auto_reset": False}
    plain, priced = open_market(8, **settings), open_market(8, prices_at_value=True, **settings)
    for env in (plain, priced):
        env.reset(seed=0)
    rng, n_ended = np.random.default_rng(0), 0
    account, value = plain.accounts(), values_of(plain)
    left_out = account["position"] * (value[:, None] - account["mid"])
    difference = np.zeros_like(left_out)
    for t in range(N_STEPS):
        actions = draw(plain, rng)
        one, two = plain.step(actions), priced.step(actions)
        was_alive, position = account["is_alive"], account["position"]
        moves = position * (values_of(plain) - value)[:, None]
        left_out += np.where(was_alive, moves, 0)
        difference += one.terms[..., PROFIT] - two.terms[..., PROFIT]
        account, value = plain.accounts(), values_of(plain)
        ended = was_alive & (~account["is_alive"] | (t == N_STEPS - 1))
        expected = left_out[ended] * UNIT
        np.testing.assert_allclose(difference[ended], expected, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(one.terms[:, :, 1:], two.terms[:, :, 1:])
        np.testing.assert_array_equal(one.state, two.state)
        np.testing.assert_array_equal(account["equity"], priced.accounts()["equity"])
        n_ended += ended.sum()
    assert n_ended == ended.size and one.terminated.any()


@pytest.mark.parametrize(
    ("changes", "seen"),
    [
        ({"reversion_hz": 0.001}, "has reversion_hz 0.001 and drift 0: set both to 0"),
        ({"drift": -0.01}, "has reversion_hz 0 and drift -0.01: set both to 0"),
    ],
)
def test_a_profit_is_priced_only_at_a_value_that_is_a_martingale(changes, seen):
    market = MarketSettings(decision_ms=500.0, mean_reversion_speed=0.0)
    plan = market.simulated()
    biased = replace(plan, value=plan.value._replace(**changes))
    with pytest.raises(MarketError, match=f"prices_at_value needs .*martingale.*{seen}"):
        open_market(prices_at_value=True, market=market, books=biased)
    with pytest.raises(MarketError, match="martingale"):
        open_market(prices_at_value=True, books=None)
    open_market(prices_at_value=True, books=plan)  # whatever the unused speed of the settings


def test_lots_and_cash_are_conserved_over_all_owners():
    env, rng = open_market(20, auto_reset=False), np.random.default_rng(0)
    env.reset(seed=3)
    for _ in range(N_STEPS):
        env.step(draw(env, rng))
        accounts = accounts_of(env)
        assert (accounts[:, :, [POSITION, CASH]].sum(axis=1) == 0).all()
        assert (accounts[:, :, MADE].sum(axis=1) == accounts[:, :, TOOK].sum(axis=1)).all()
    assert (accounts[:, :, LOTS].sum(axis=0) > 0).all()


def test_positions_of_takers_never_exceed_their_limits():
    env, rng = open_market(50), np.random.default_rng(0)
    env.reset(seed=0)
    largest = 0
    for _ in range(3 * N_STEPS):
        before = env.accounts()
        limit = np.minimum(150, 30_000.0 / (before["mid"][:, 3] * UNIT))
        env.step([*draw(env, rng)[:3], np.sign(rng.normal(size=(50, 1)) + 1.5)])
        after = env.accounts()
        grown = np.abs(after["position"][:, 3]) > np.abs(before["position"][:, 3])
        assert (np.abs(after["position"][:, 3]) <= limit)[grown].all()
        largest = max(largest, np.abs(after["position"][:, 3]).max())
    assert largest > 100


def test_an_executor_is_flat_at_the_end_and_its_profit_is_minus_its_shortfall():
    roles = {"executor": ROLES["executor"]}
    env, rng = open_market(40, roles=roles, risk=RiskLimits()), np.random.default_rng(2)
    env.reset(seed=0)
    first = env.accounts()
    profit = sum(env.step(draw(env, rng)).terms[:, 0, PROFIT] for _ in range(N_STEPS))
    account = env.accounts()
    assert (account["position"] == 0).all() and (account["lots"] == 300).all()
    paper = first["parent"][:, 0] * first["mid"][:, 0] * UNIT  # at the price of the decision
    shortfall = -account["cash"][:, 0] - paper
    np.testing.assert_allclose(profit, -shortfall, rtol=0, atol=1e-6)
    assert shortfall.mean() > 0


# --- chance


def test_one_seed_gives_one_course_and_another_seed_another():
    rng = np.random.default_rng(0)
    envs = [open_market(), open_market(), open_market()]
    for env, seed in zip(envs, (7, 7, 700), strict=True):
        env.reset(seed=seed)
    for _ in range(2 * N_STEPS + 3):
        actions = draw(envs[0], rng)
        one, two, other = (env.step(actions) for env in envs)
        assert_same(one, two)
        assert not np.array_equal(one.state, other.state)


def test_a_seed_starts_anew_whatever_was_before():
    rng, env = np.random.default_rng(0), open_market()
    first = env.reset(seed=4)
    for _ in range(N_STEPS + 5):
        env.step(draw(env, rng))
    again = env.reset(seed=4)
    for a, b in zip((*first[0], first[1]), (*again[0], again[1]), strict=True):
        np.testing.assert_array_equal(a, b)
    other = env.reset()  # another day of the same world
    assert not np.array_equal(other[1], first[1])


def test_results_do_not_depend_on_the_number_of_threads():
    one, two = open_market(40), open_market(40, n_threads=2)
    assert len(two._books._market._parts) == 2
    rng = np.random.default_rng(0)
    one.reset(seed=0)
    two.reset(seed=0)
    for _ in range(N_STEPS + 2):
        actions = draw(one, rng)
        assert_same(one.step(actions), two.step(actions))


def test_a_copy_does_not_depend_on_the_batch_around_it():
    large, small = open_market(6), open_market(2)
    rng = np.random.default_rng(0)
    large.reset(seed=0)
    small.reset(seed=3)
    for _ in range(N_STEPS + 2):
        actions = draw(large, rng)
        assert_same(large.step(actions), small.step([a[3:5] for a in actions]), slice(3, 5))


def test_a_copy_that_is_restarted_goes_on_to_its_next_episode_and_the_others_do_not_notice():
    rng = np.random.default_rng(1)
    single = open_single(risk=RiskLimits())
    env, twin = (open_market(4, risk=RiskLimits(), auto_reset=False) for _ in range(2))
    for each in (env, twin):
        each.reset(seed=20)
    single.reset(seed=22)
    for _ in range(5):
        actions = draw(env, rng)
        env.step(actions)
        twin.step(actions)
    observations, state = env.restart(np.arange(4) == 2)
    first, _ = single.reset()
    np.testing.assert_array_equal(state, single.state()[None])
    np.testing.assert_array_equal(observations[0], first["slow"][None])
    others = [0, 1, 3]
    for _ in range(N_STEPS - 5):
        actions = draw(env, rng)
        result, expected = env.step(actions), twin.step(actions)
        for a, b in zip(result.observations, expected.observations, strict=True):
            np.testing.assert_array_equal(a[others], b[others])
        np.testing.assert_array_equal(result.terms[others], expected.terms[others])
        _, rewards, *_ = single.step({name: a[2] for name, a in zip(ROLES, actions, strict=True)})
        assert tuple(rewards.values()) == tuple(result.rewards[2])
    assert result.truncated.tolist() == [True, True, False, True]
    np.testing.assert_array_equal(
        env.accounts()["equity"][others], twin.accounts()["equity"][others]
    )


def test_the_value_and_who_acts_when_do_not_depend_on_the_agents():
    idle, busy = (open_market(8, risk=RiskLimits()) for _ in range(2))
    rng = np.random.default_rng(0)
    idle.reset(seed=0)
    busy.reset(seed=0)
    for _ in range(2 * N_STEPS - 1):
        quiet = [-np.ones(a.shape) for a in draw(idle, rng)[:3]] + [np.zeros((8, 1))]
        one, two = idle.step(quiet), busy.step(draw(busy, rng))
        np.testing.assert_array_equal(values_of(idle), values_of(busy))
        lanes = idle._books._market.lanes, busy._books._market.lanes
        np.testing.assert_array_equal(lanes[0].excitation, lanes[1].excitation)
    assert not np.array_equal(one.state, two.state)


@pytest.mark.parametrize("cut", [3, 8])
def test_later_actions_change_nothing_earlier(cut):
    rng = np.random.default_rng(0)
    one, two = open_market(), open_market()
    one.reset(seed=0)
    two.reset(seed=0)
    for t in range(cut + 2):
        actions = draw(one, rng)
        others = actions if t < cut else draw(one, rng)
        a, b = one.step(actions), two.step(others)
        if t < cut:
            assert_same(a, b)
    assert not np.array_equal(a.state, b.state)


def test_no_agent_sees_the_value_before_it_is_in_a_trade():
    """The value jumps in the last instant of a step: the state tells, no observation does."""
    plain, moved = open_market(4), open_market(4)
    for env in (plain, moved):
        env.reset(seed=0)
    step = type(moved._books).step

    def step_and_jump(messages, delays):
        acks = step(moved._books, messages, delays)
        moved._books._market.lanes.clock[:, VALUE_NOW] += 50.0
        return acks

    moved._books.step = step_and_jump
    actions = draw(plain, np.random.default_rng(0))
    one, two = plain.step(actions), moved.step(actions)
    for a, b in zip(one.observations, two.observations, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(one.state[:, :-1], two.state[:, :-1])
    np.testing.assert_allclose(two.state[:, -1] - one.state[:, -1], 5.0, atol=1e-5)


def refusals(latency_ms):
    """Post-only quotes at the touch that are refused on arrival, in the same 100 worlds."""
    roles = {"maker": Maker(latency_ms=latency_ms)}
    env = open_market(100, roles=roles, risk=RiskLimits(max_position_value=1e9))
    env.reset(seed=0)
    n, step = 0, env._books.step

    def listen(messages, delays):
        nonlocal n
        acks = step(messages, delays)
        n += (acks[:, :, A_STATUS] == WOULD_CROSS).sum()
        return acks

    env._books.step = listen
    for _ in range(3 * N_STEPS):
        env.step([np.tile([-1.0, -1.0, 1.0, 1.0, 0.0], (100, 1))])
    return n


def test_the_later_a_quote_comes_the_more_often_the_market_has_moved_through_it():
    counts = [refusals(latency_ms) for latency_ms in (0.0, 100.0, 450.0)]
    assert counts[0] == 0 < counts[1] < counts[2]


# --- going on


@pytest.mark.parametrize("before", [4, N_STEPS - 1, N_STEPS])
def test_a_saved_state_goes_on_bit_for_bit(before):
    rng, env, other = np.random.default_rng(8), open_market(), open_market()
    env.reset(seed=1)
    for _ in range(before):
        env.step(draw(env, rng))
    saved, accounts = env.save_state(), env.accounts()
    plan = [draw(env, rng) for _ in range(N_STEPS + 4)]
    course = [env.step(actions) for actions in plan]  # the saved state must not move with it
    for each in (other, env):
        each.load_state(saved)
        for name, array in each.accounts().items():
            np.testing.assert_array_equal(array, accounts[name])
        for actions, expected in zip(plan, course, strict=True):
            assert_same(each.step(actions), expected)


def test_what_was_returned_does_not_change_later():
    rng, env = np.random.default_rng(0), open_market()
    first, state = env.reset(seed=0)
    returned = [*first, state]
    for _ in range(N_STEPS):
        result = env.step(draw(env, rng))
        returned += [*result.observations, *result.final_observations, *result[1:5], *result[6:]]
        returned += list(env.accounts().values())
    kept = [array.copy() for array in returned]
    for _ in range(N_STEPS + 1):
        env.step(draw(env, rng))
    for now, then in zip(returned, kept, strict=True):
        np.testing.assert_array_equal(now, then)


def test_accounts_after_the_last_step_are_those_of_its_end():
    rng, env = np.random.default_rng(0), open_market()
    waiting = open_market(auto_reset=False)
    env.reset(seed=0)
    waiting.reset(seed=0)
    for _ in range(N_STEPS):
        actions = draw(env, rng)
        env.step(actions)
        waiting.step(actions)
    for name, array in env.accounts().items():
        np.testing.assert_array_equal(array, waiting.accounts()[name])
    assert (env.accounts()["lots"] > 0).any()
    env.step(draw(env, rng))
    assert (env.accounts()["lots"] <= 300).all()
    env.reset()
    assert (env.accounts()["lots"] == 0).all()


# --- misuse of the single environment


def test_agents_that_are_unknown_or_missing_are_named():
    env = open_single()
    env.reset(seed=0)
    state = env.state()
    actions = {name: env.action_space(name).sample() for name in env.agents}
    with pytest.raises(MarketError, match="for 'broker', who is no agent; expected one of slow"):
        env.step({**actions, "broker": actions["slow"]})
    with pytest.raises(MarketError, match="no action for quick, taker; each of `agents` needs"):
        env.step({name: actions[name] for name in ("slow", "executor")})
    with pytest.raises(MarketError, match=r"'taker' has shape \(2,\); expected \(1,\): trade"):
        env.step({**actions, "taker": np.zeros(2)})
    with pytest.raises(MarketError, match=r"'slow' in copy 0 is .*nan"):
        env.step({**actions, "slow": np.full(5, np.nan)})
    np.testing.assert_array_equal(env.state(), state)


def test_an_agent_that_has_ended_is_gone_and_its_actions_are_refused():
    env, rng = open_single(), np.random.default_rng(3)
    env.reset(seed=0)
    while len(env.agents) == len(ROLES):
        actions = {name: rng.uniform(-1, 1, env.action_space(name).shape) for name in env.agents}
        actions["taker"] = np.ones(1) if rng.random() < 0.5 else -np.ones(1)
        _, _, terminated, truncated, _ = env.step(actions)
    (name, *_) = (agent for agent in ROLES if terminated[agent])
    assert not truncated[name] and name not in env.agents and env.agents
    with pytest.raises(MarketError, match=f"for '{name}', whom a limit has ended; send actions"):
        env.step(actions)
    del actions[name]
    actions = {agent: actions[agent] for agent in env.agents}
    seen, *_ = env.step(actions)
    assert name not in seen


def test_stepping_an_episode_that_is_over_or_has_not_begun_is_refused():
    env = open_single()
    actions = {name: space.sample() for name, space in env.action_spaces.items()}
    message = "actions for slow, quick, executor, taker, but no agent is left: .* call reset"
    with pytest.raises(RuntimeError, match=message):
        env.step(actions)
    env.reset(seed=0)
    while env.agents:
        env.step({name: actions[name] for name in env.agents})
    with pytest.raises(RuntimeError, match=message):
        env.step(actions)
    with pytest.raises(RuntimeError, match="actions for nobody, but no agent is left"):
        env.step({})
