"""What agents see of a market, in books that are written out."""

import numpy as np
import pytest

from hftlib.envs import RewardWeights
from tests.market_views import ODD
from tests.still_market import (
    EXECUTOR,
    MAKER,
    MID,
    TAKER,
    UNIT,
    idle,
    open_executor,
    open_still,
    orders_of,
    quote,
    trade,
    work,
)


def see(env, transition, agent, name):
    """A number of an agent's observation in copy 0."""
    names = env.roles[agent].observation_names
    return transition.final_observations[env.agents.index(agent)][0, names.index(name)].item()


def test_an_agent_s_own_orders_are_out_of_its_sight_and_in_that_of_others():
    env = open_still({"maker": MAKER, "taker": TAKER})
    result = env.step([quote(MAKER, 0.5, 4, bid_lots=30, ask_lots=5, skew=0.5), idle()])
    assert orders_of(env, 1)[1] == (10_000, 30)
    account = env.accounts()
    assert account["mid"][0].tolist() == [MID, 10_000.5]  # of maker and taker
    assert see(env, result, "maker", "bid_lots_1") == pytest.approx(np.log1p(50) / 10)
    assert see(env, result, "taker", "bid_lots_1") == pytest.approx(np.log1p(30) / 10)
    assert see(env, result, "taker", "bid_lots_2") == pytest.approx(np.log1p(50) / 10)
    assert see(env, result, "maker", "own_bid_lots") == pytest.approx(0.3)
    assert see(env, result, "maker", "own_bid_distance") == 0.0
    assert see(env, result, "maker", "own_ask_distance") == pytest.approx(0.5)
    assert see(env, result, "maker", "spread") == pytest.approx(0.2)
    assert see(env, result, "taker", "spread") == pytest.approx(0.1)
    assert see(env, result, "taker", "last_return") == pytest.approx(0.05)
    assert see(env, result, "maker", "last_return") == 0
    assert result.final_state[0, 0] == pytest.approx(0.1)  # all orders are in the state


def test_the_market_s_numbers_are_what_their_names_say():
    script = {0: [(0.05, "ioc", 1, 10_001, 50)], 1: [(0.05, "limit", 1, 10_000, 30)]}
    env = open_still({"taker": TAKER}, script=script, episode_steps=5)
    observation = env.reset(seed=0)[0][0][0].tolist()
    bid = [(9_999, 50), (9_998, 60), (9_997, 70)]
    levels = [n for k, (price, lots) in enumerate(bid)
              for n in 2 * [(MID - price) / 10, np.log1p(lots) / 10]]  # fmt: skip
    assert observation == pytest.approx([0.2, 0, 0, 0, 0, 0, 0, 1, *levels, 0, 0, 0])
    first = env.step([idle()])  # 50 lots at 10_001 are bought: the mid is 10_000.5
    assert see(env, first, "taker", "spread") == pytest.approx(0.3)
    assert see(env, first, "taker", "imbalance") == pytest.approx((50 - 60) / 110)
    memory = np.exp(-0.1 / 30)
    assert see(env, first, "taker", "trend") == pytest.approx(0.05 * memory)
    assert see(env, first, "taker", "last_return") == pytest.approx(0.05)
    assert see(env, first, "taker", "volatility") == pytest.approx(0.05)
    # the bid stays: 50 - 50; the ask is gone: 50 lots of it
    assert see(env, first, "taker", "order_flow") == pytest.approx(np.log1p(50) / 10)
    assert see(env, first, "taker", "traded") == pytest.approx(np.log1p(50) / 10)
    assert see(env, first, "taker", "time_left") == pytest.approx(0.8)
    second = env.step([idle()])  # somebody bids 10_000 for 30 lots
    assert see(env, second, "taker", "order_flow") == pytest.approx(np.log1p(30) / 10)
    assert see(env, second, "taker", "traded") == 0
    w = 1 - np.exp(-0.1 / 60)
    variance = (0.25 * w * (1 - w) + 0.25 * w) / (1 - (1 - w) ** 2)
    assert see(env, second, "taker", "volatility") == pytest.approx(np.sqrt(variance) / 10)


def test_an_empty_side_is_told_as_0_and_counts_in_the_flow_as_its_lots():
    script = {0: [(0.05, "ioc", 1, 10_001, 50)], 1: [(0.05, "limit", -1, 10_005, 40)]}
    env = open_still({"taker": TAKER}, asks=[(10_001, 50)], script=script)
    gone = env.step([idle()])
    assert see(env, gone, "taker", "spread") == see(env, gone, "taker", "ask_lots_1") == 0
    assert env.accounts()["mid"][0, 0] == MID
    assert see(env, gone, "taker", "order_flow") == pytest.approx(np.log1p(50) / 10)
    back = env.step([idle()])
    assert see(env, back, "taker", "order_flow") == pytest.approx(-np.log1p(40) / 10)


@pytest.mark.parametrize("side", [1, -1])
def test_an_executor_s_numbers_are_what_their_names_say(side):
    env = open_executor(side, episode_steps=10)
    result = env.step([work(EXECUTOR, 1.0, 80)])  # 50 trade at the touch, 30 rest there
    assert see(env, result, "executor", "side") == side
    assert see(env, result, "executor", "remaining") == pytest.approx(0.75)
    assert see(env, result, "executor", "schedule_gap") == pytest.approx(0.75 - 0.9)
    assert see(env, result, "executor", "own_lots") == pytest.approx(0.3)
    # without its own order the touch is 9_999 and 10_002: the mid has moved by half a tick
    assert see(env, result, "executor", "own_distance") == pytest.approx(-0.05)
    assert see(env, result, "executor", "drift") == pytest.approx(0.05)


def test_a_taker_s_numbers_are_what_their_names_say():
    env = open_still({"taker": TAKER}, max_inventory=400, max_drawdown=100.0)
    result = env.step([trade(TAKER, 100)])
    # 50 at 10_001 and 50 at 10_002; the touch is then 9_999 and 10_002
    assert see(env, result, "taker", "inventory") == pytest.approx(0.25)
    assert see(env, result, "taker", "entry_gap") == pytest.approx((10_000.5 - 10_001.5) / 10)
    assert see(env, result, "taker", "drawdown") == pytest.approx(100 * UNIT / 100)
    result = env.step([trade(TAKER, -40)])  # the entry price of the others stays
    mid = env.accounts()["mid"][0, 0]
    assert see(env, result, "taker", "entry_gap") == pytest.approx((mid - 10_001.5) / 10)
    result = env.step([trade(TAKER, -100)])  # 10 of 50 at 9_999, 60 at 9_998, 30 at 9_997
    position, mid = env.accounts()["position"][0, 0], env.accounts()["mid"][0, 0]
    paid = (10 * 9_999 + 60 * 9_998 + 30 * 9_997) / 100
    assert position == -40
    assert see(env, result, "taker", "entry_gap") == pytest.approx(-(mid - paid) / 10)


def test_a_mirrored_market_and_mirrored_actions_give_mirrored_results():
    roles = {"one": MAKER, "two": MAKER, "taker": TAKER}
    rng = np.random.default_rng(1)
    script = {
        t: [(0.05, "limit", int(rng.choice([-1, 1])), int(rng.integers(9_996, 10_005)), 30)]
        for t in range(12)
    }
    mirrored = {t: [(s, kind, -side, 2 * MID - price, lots)]
                for t, [(s, kind, side, price, lots)] in script.items()}  # fmt: skip
    weights = RewardWeights(0.5, 0.2, 0.1, 1.0)
    here = open_still(roles, script=script, reward=weights, taker_fee_bps=0.0)
    there = open_still(roles, script=mirrored, reward=weights, taker_fee_bps=0.0)
    for _ in range(12):
        actions = [rng.uniform(-1, 1, (1, n)) for n in (5, 5, 1)]
        flipped = [a[:, [1, 0, 3, 2, 4]] * [1, 1, 1, 1, -1] for a in actions[:2]] + [-actions[2]]
        one, two = here.step(actions), there.step(flipped)
        np.testing.assert_allclose(one.terms, two.terms, rtol=0, atol=1e-9)
        for role, a, b in zip(roles.values(), one.observations, two.observations, strict=True):
            np.testing.assert_allclose(flip(role, a), b, rtol=0, atol=1e-6)
    position = here.accounts()["position"]
    assert (position == -there.accounts()["position"]).all() and (position != 0).any()


def flip(role, observations):
    """What the role sees if every buy is a sell."""
    seen, names = observations.copy(), role.observation_names
    for k, name in enumerate(names):
        swapped = name.replace("bid", "?").replace("ask", "bid").replace("?", "ask")
        seen[:, names.index(swapped)] = observations[:, k] * (-1 if name in ODD else 1)
    return seen
