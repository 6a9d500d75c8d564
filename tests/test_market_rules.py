"""What the multi-agent market does with an action, in books that are written out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftlib.envs import (
    Executor,
    Maker,
    MarketError,
    MarketSettings,
    MarketVecEnv,
    RewardWeights,
    RiskLimits,
    Taker,
)
from hftlib.envs.desk import IMPACT, INVENTORY, PROFIT, RISK, SPREAD, lots_of
from hftlib.envs.roles import SLACK_TICKS
from hftlib.market.matching import CASH, LOTS, MADE, POSITION, TOOK
from tests.still_market import (
    BIDS,
    EXECUTOR,
    MAKER,
    MID,
    TAKER,
    UNIT,
    accounts_of,
    idle,
    open_executor,
    open_still,
    orders_of,
    queue_of,
    quote,
    trade,
    work,
)

IDLE = quote(MAKER)


# --- actions become orders


@pytest.mark.parametrize(
    ("action", "lots"),
    [(-1.0, 0), (-0.8, 0), (-0.7999, 1), (-0.79, 1), (0.1, 50), (0.9999, 100), (1.0, 100)],
)
def test_lots_are_none_up_to_minus_point_eight_and_then_rise_linearly(action, lots):
    assert lots_of(action, 100) == lots


@given(st.integers(0, 1000), st.integers(1000, 5000))
def test_every_number_of_lots_can_be_asked_for(lots, largest):
    action = -1.0 if lots == 0 else -0.8 + 1.8 * lots / largest
    assert lots_of(action, largest) == lots


@settings(max_examples=60)
@given(
    st.lists(st.floats(-1, 1), min_size=5, max_size=5),
    st.sampled_from([(9_999, 10_001), (9_999, 10_000), (9_990, 10_003)]),
)
def test_a_maker_s_quotes_rest_at_the_computed_prices_in_the_book(action, touch):
    env = open_still({"maker": MAKER}, bids=[(touch[0], 5)], asks=[(touch[1], 7)])
    env.step([np.array([action])])
    mid = sum(touch) / 2
    offset_bid, offset_ask = (0.5 + (a + 1) / 2 * 10 for a in action[:2])
    shift = action[4] * 5
    bid = int(np.floor(mid + shift - offset_bid + SLACK_TICKS))
    ask = int(np.ceil(mid + shift + offset_ask - SLACK_TICKS))
    expected = {
        1: (min(bid, touch[1] - 1), lots_of(action[2], 100)),
        -1: (max(ask, touch[0] + 1), lots_of(action[3], 100)),
    }
    assert orders_of(env, 1) == {side: order for side, order in expected.items() if order[1] > 0}


def test_a_quote_through_the_other_side_rests_one_tick_before_it_and_never_takes():
    env = open_still({"maker": MAKER})
    env.step([quote(MAKER, bid=0.5, ask=9, bid_lots=10, ask_lots=10, skew=5)])
    assert orders_of(env, 1) == {1: (10_000, 10), -1: (10_014, 10)}
    env.step([quote(MAKER, bid=9, ask=0.5, bid_lots=10, ask_lots=10, skew=-5)])
    assert orders_of(env, 1) == {1: (9_986, 10), -1: (10_000, 10)}
    assert env.accounts()["took"][0, 0] == 0


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize(("ticks", "behind"), [(-2.0, 2), (-1.2, 2), (0.0, 0), (0.9, 0)])
def test_an_executor_s_limit_is_rounded_away_from_the_other_side(side, ticks, behind):
    env = open_executor(side)
    env.step([work(EXECUTOR, ticks, 10)])
    assert orders_of(env, 1) == {side: (MID - side * behind, 10)}


@pytest.mark.parametrize("side", [1, -1])
def test_an_executor_s_price_beyond_the_touch_trades_and_the_rest_of_it_rests(side):
    env = open_executor(side)
    env.step([work(EXECUTOR, 1.0, 70)])
    assert orders_of(env, 1) == {side: (MID + side, 20)}
    assert env.accounts()["position"][0, 0] == side * (50 - 200)
    env.step([work(EXECUTOR, -5.0, 0)])
    assert orders_of(env, 1) == {}


def test_an_executor_sends_at_most_what_is_left():
    env = open_executor(1, role=Executor(parent_lots=60, max_slice=60))
    env.step([work(env.roles["executor"], 1.0, 60)])
    assert orders_of(env, 1) == {1: (10_001, 10)}
    env.step([work(env.roles["executor"], -3.0, 60)])
    assert orders_of(env, 1) == {1: (9_997, 10)}


@pytest.mark.parametrize("action", [0.2, np.float32(0.2), -0.2, 0.0, 0.1999])
def test_a_taker_s_small_action_is_none(action):
    env = open_still({"taker": TAKER})
    env.step([np.array([[action]])])
    assert env.accounts()["quoted"][0, 0] == 0


@pytest.mark.parametrize(("action", "lots"), [(0.2001, 1), (0.6, 50), (1.0, 100), (-0.6, -50)])
def test_a_taker_trades_in_proportion_to_its_action(action, lots):
    env = open_still({"taker": TAKER})
    env.step([np.array([[action]])])
    assert env.accounts()["position"][0, 0] == lots


@pytest.mark.parametrize("side", [1, -1])
def test_a_taker_reaches_some_ticks_beyond_the_touch_and_leaves_nothing_behind(side):
    role = Taker(max_size=500, reach_ticks=1.0)
    env = open_still({"taker": role})
    env.step([trade(role, side * 500)])
    assert env.accounts()["position"][0, 0] == side * (50 + 60)
    assert orders_of(env, 1) == {}
    notional = 50 * (MID + side) + 60 * (MID + 2 * side)
    assert env.accounts()["cash"][0, 0] == pytest.approx(-side * notional * UNIT, abs=1e-9)


@pytest.mark.parametrize(
    "limit", [{"max_inventory": 30}, {"max_position_value": 30 * 100.0 + 5, "max_inventory": 99}]
)
def test_the_limits_cut_what_would_lead_beyond_them(limit):
    role, taker = Maker(max_size=30), Taker(max_size=30)
    # somebody sells 10 lots to the maker's bid at 10_000
    script = {0: [(0.05, "ioc", -1, 10_000, 10)]}
    env = open_still({"maker": role, "taker": taker}, script=script, **limit)
    env.step([quote(role, 0.5, 1, bid_lots=30, skew=1), idle()])
    assert env.accounts()["position"][0].tolist() == [10, 0]
    both = quote(role, 3, 3, bid_lots=30, ask_lots=30)
    env.step([both, trade(taker, 30)])
    assert orders_of(env, 1) == {1: (9_997, 20), -1: (10_003, 30)}
    env.step([both, trade(taker, 30)])
    assert env.accounts()["position"][0, 1] == 30
    for _ in range(3):
        env.step([quote(role), trade(taker, -30)])
    assert env.accounts()["position"][0, 1] == -30


def test_an_executor_s_parent_order_is_above_the_limits():
    env = open_executor(1, max_inventory=10)
    env.step([work(EXECUTOR, 2.0, 100)])
    assert env.accounts()["lots"][0, 0] == 100


def test_a_discrete_action_is_the_continuous_one_at_its_bin():
    n_bins = 7
    roles = {"maker": MAKER, "executor": EXECUTOR, "taker": TAKER}
    continuous, discrete = open_still(roles, 4), open_still(roles, 4, n_bins=n_bins)
    bins, rng = np.linspace(-1, 1, n_bins), np.random.default_rng(0)
    for _ in range(15):
        chosen = [rng.integers(n_bins, size=(4, n)) for n in (5, 2, 1)]
        one, two = continuous.step([bins[c] for c in chosen]), discrete.step(chosen)
        np.testing.assert_array_equal(one.state, two.state)
        np.testing.assert_array_equal(one.terms, two.terms)
    assert (continuous.accounts()["lots"] > 0).any(axis=0).all()


# --- places in the queue, and who comes first


def test_a_quote_that_does_not_change_keeps_its_place_and_fills_first():
    roles = {"early": MAKER, "late": MAKER}
    script = {3: [(0.05, "ioc", -1, 9_998, 130)]}
    env = open_still(roles, script=script)
    mine, idle = quote(MAKER, 2, bid_lots=40), quote(MAKER)
    env.step([mine, idle])
    env.step([mine, mine])
    env.step([quote(MAKER, 2, bid_lots=100), mine])
    # at 9_998 stand the 60 lots of somebody else, then the early maker, then the late one
    assert queue_of(env, 1, 9_998) == [(0, 60), (1, 40), (2, 40)]
    env.step([mine, mine])  # 50 trade at 9_999, 60 and 20 at 9_998
    assert env.accounts()["position"][0].tolist() == [20, 0]


def test_fewer_lots_keep_the_place_and_another_price_loses_it():
    env = open_still({"early": MAKER, "late": MAKER})
    mine = quote(MAKER, 2, bid_lots=40)
    env.step([mine, quote(MAKER)])
    env.step([quote(MAKER, 2, bid_lots=15), mine])
    assert queue_of(env, 1, 9_998) == [(0, 60), (1, 15), (2, 40)]
    env.step([quote(MAKER, 3, bid_lots=40), mine])
    env.step([mine, mine])
    assert queue_of(env, 1, 9_998) == [(0, 60), (2, 40), (1, 40)]


def test_agents_are_each_other_s_counterparties():
    late = Taker(latency_ms=1.0)
    roles = {"near": MAKER, "far": MAKER, "taker": late}
    env = open_still(roles, bids=[(9_990, 500)], asks=[(10_010, 500)])
    env.step([quote(MAKER, ask=4, ask_lots=30), quote(MAKER, ask=6, ask_lots=50), trade(late, 70)])
    account = env.accounts()
    # the taker meets 30 lots at 10_004, then 40 of the 50 at 10_006
    assert account["position"][0].tolist() == [-30, -40, 70]
    assert account["made"][0].tolist() == [30 * 10_004, 40 * 10_006, 0]
    assert account["took"][0].tolist() == [0, 0, 30 * 10_004 + 40 * 10_006]
    assert accounts_of(env)[0, 0].tolist() == [0, 0, 0, 0, 0]  # nobody else took part
    assert account["cash"][0].sum() == pytest.approx(0, abs=1e-9)


def test_who_comes_first_of_two_at_the_same_time_is_drawn_evenly():
    roles = {"one": TAKER, "two": TAKER}
    n_envs = 1500
    env = open_still(roles, n_envs, asks=[(10_001, 50)])
    env.step([np.ones((n_envs, 1))] * 2)
    bought = env.accounts()["position"]
    assert set(map(tuple, bought.tolist())) == {(50, 0), (0, 50)}
    # 4 standard deviations of a fair coin thrown so often
    assert abs((bought[:, 0] > 0).mean() - 0.5) < 4 * 0.5 / n_envs**0.5


@pytest.mark.parametrize("fast", [0, 1])
def test_the_lower_latency_comes_first(fast):
    late = [Taker(latency_ms=5.0 if k == fast else 6.0) for k in range(2)]
    env = open_still({"one": late[0], "two": late[1]}, 50, asks=[(10_001, 50)])
    env.step([np.ones((50, 1))] * 2)
    expected = [0, 0]
    expected[fast] = 50
    assert (env.accounts()["position"] == expected).all()


@pytest.mark.parametrize(("latency_ms", "price"), [(0.0, 10_001), (39.0, 10_001), (41.0, 10_002)])
def test_an_order_trades_at_the_book_that_it_finds_on_arrival(latency_ms, price):
    role = Taker(latency_ms=latency_ms)
    script = {0: [(0.04, "ioc", 1, 10_001, 50)]}
    env = open_still({"taker": role}, script=script)
    env.step([trade(role, 20)])
    assert env.accounts()["took"][0, 0] == 20 * price


@pytest.mark.parametrize(("latency_ms", "rests"), [(0.0, True), (30.0, True), (50.0, False)])
def test_a_late_quote_is_refused_where_the_market_has_come_to_it(latency_ms, rests):
    role = Maker(latency_ms=latency_ms)
    # the asks up to 10_003 are bought, then somebody bids 10_005 and more
    script = {0: [(0.04, "limit", 1, 10_005, 300)]}
    env = open_still({"maker": role}, script=script)
    env.step([quote(role, ask=4, ask_lots=10)])
    # a quote that came before was bought by that order, and it rests no more
    assert env.accounts()["position"][0, 0] == (-10 if rests else 0)
    assert orders_of(env, 1) == {}
    env.step([quote(role, ask=4, ask_lots=10)])
    assert orders_of(env, 1)[-1][1] == 10


def test_a_late_maker_is_hit_at_its_old_price():
    # the price falls before the old bid at 9_999 can be withdrawn
    script = {1: [(0.02, "ioc", -1, 9_997, 200)]}
    held = {}
    for latency_ms in (0.0, 10.0, 30.0):
        role = Maker(latency_ms=latency_ms)
        env = open_still({"maker": role}, script=script)
        env.step([quote(role, 1, bid_lots=20)])
        env.step([quote(role, 4, bid_lots=20)])
        held[latency_ms] = env.accounts()["position"][0, 0]
    assert held == {0.0: 0, 10.0: 0, 30.0: 20}


# --- money


@pytest.mark.parametrize("side", [1, -1])
def test_an_executor_s_profit_is_minus_its_implementation_shortfall(side):
    env = open_executor(side, episode_steps=3, taker_fee_bps=2.0, maker_fee_bps=1.0)
    lots, prices, profit = [], [], 0.0
    for ticks, n in ((1.0, 50), (2.0, 60), (-5.0, 0)):
        profit += env.step([work(EXECUTOR, ticks, n)]).terms[0, 0, PROFIT]
    account = env.accounts()
    # 50 at the touch, 60 a tick beyond, and at the end 70 and 20 as a market order
    lots, prices = np.array([50, 60, 70, 20]), MID + side * np.array([1, 2, 3, 10])
    assert account["position"][0, 0] == 0
    shortfall = side * (lots @ (prices - MID)) * UNIT
    fees = lots @ prices * UNIT * 2e-4
    assert profit == pytest.approx(-shortfall - fees, abs=1e-6)
    assert account["fees"][0, 0] == pytest.approx(fees, abs=1e-9)


@pytest.mark.parametrize("prices_at_value", [False, True])  # the value is the mid here
def test_what_an_executor_cannot_trade_at_the_end_closes_beyond_the_spread(prices_at_value):
    settings = {"prices_at_value": prices_at_value, "mean_reversion_speed": 0.0}
    env = open_executor(1, episode_steps=1, asks=[(10_001, 50)], taker_fee_bps=10.0, **settings)
    result = env.step([work(EXECUTOR, 1.0, 0)])
    # 50 trade at 10_001; without an ask the mid stays and half a tick is the least spread
    assert env.accounts()["position"][0, 0] == -150
    fees = (50 * 10_001 + 150 * 10_000) * UNIT * 1e-3
    assert result.terms[0, 0, PROFIT] == pytest.approx(-50 * UNIT - 150 * 0.5 * UNIT - fees)
    assert env.accounts()["fees"][0, 0] == pytest.approx(fees)


def test_fees_are_shares_of_what_was_made_and_taken():
    roles = {"maker": MAKER, "taker": TAKER}
    env = open_still(roles, maker_fee_bps=-1.0, taker_fee_bps=3.0)
    inside = quote(MAKER, 3, 0.5, ask_lots=10, skew=-0.5)
    env.step([inside, idle()])
    env.step([inside, trade(TAKER, 30)])
    account = env.accounts()
    assert account["made"][0].tolist() == [10 * 10_000, 0]
    assert account["took"][0].tolist() == [0, 10 * 10_000 + 20 * 10_001]
    expected = [-1e-4 * 1_000.0, 3e-4 * (1_000.0 + 2_000.2)]
    assert account["fees"][0] == pytest.approx(expected, abs=1e-9)


def fall(to=9_980):
    """A script in which everything down to a price is sold, and somebody asks little more."""
    return [(0.01, "limit", -1, to, 2_000), (0.02, "limit", 1, to - 2, 500)]


def test_the_kill_switch_ends_an_agent_charges_it_and_cancels_its_orders():
    roles = {"taker": TAKER, "maker": MAKER}
    bids = [*BIDS, (9_970, 5_000)]
    env = open_still(
        roles, bids=bids, script={1: fall()}, max_drawdown=15.0, initial_cash=1_000.0,
        taker_fee_bps=1.0, reward=RewardWeights(0.0, 0.0, 0.0, 1.0),
    )  # fmt: skip
    resting = quote(MAKER, 10, 10, ask_lots=5)
    first = env.step([trade(TAKER, 100), resting])
    assert not first.terminated.any()
    bought = (50 * 10_001 + 50 * 10_002) * UNIT
    assert env.accounts()["equity"][0, 0] == pytest.approx(
        1_000 + 100 * (MID + 0.5) * UNIT - bought - 1e-4 * bought
    )
    second = env.step([trade(TAKER, 0), resting])
    mid, half_spread = 9_979, 1.0
    closing = 100 * (half_spread + 1e-4 * mid) * UNIT
    equity = 1_000 + 100 * mid * UNIT - bought * (1 + 1e-4) - closing
    account = env.accounts()
    assert account["mid"][0, 0] == mid
    assert second.terminated[0].tolist() == [True, False]
    assert account["equity"][0, 0] == pytest.approx(equity, abs=1e-9)
    assert first.terms[0, 0, PROFIT] + second.terms[0, 0, PROFIT] == pytest.approx(equity - 1_000)
    drawdowns = first.terms[0, 0, RISK] + second.terms[0, 0, RISK]
    assert drawdowns == pytest.approx(equity - 1_000, abs=1e-9)
    for _ in range(3):  # it acts no more, and nothing it would have sent is looked at
        after = env.step([np.full((1, 1), np.nan), resting])
        assert after.terminated[0].tolist() == [True, False] and not after.truncated[0]
        assert after.rewards[0, 0] == 0 and (after.terms[0, 0] == 0).all()
    assert env.accounts()["lots"][0, 0] == 100


def test_losses_add_up_from_the_peak_until_they_end_an_agent():
    # the price falls by 20 ticks in each of two steps
    script = {1: fall(9_980), 2: [(0.01, "ioc", -1, 9_978, 500), *fall(9_960)]}
    env = open_still({"taker": TAKER}, script=script, max_drawdown=30.0)
    ends = [env.step([trade(TAKER, 100 if t == 0 else 0)]).terminated[0, 0] for t in range(3)]
    assert ends == [False, False, True]


def test_the_orders_of_an_ended_agent_are_cancelled_before_anybody_can_take_them():
    # the maker buys 50 at 9_999, and the price falls
    rise = [(0.05, "ioc", 1, 10_015, 5_000)]
    script = {1: [(0.01, "ioc", -1, 9_999, 100)], 2: fall(9_960), 3: rise}
    role = Maker(latency_ms=90.0, max_offset_ticks=50.0)
    env = open_still({"maker": role}, script=script, max_drawdown=15.0, auto_reset=False)
    env.step([quote(role, 1, 20, bid_lots=50, ask_lots=50)])
    env.step([quote(role, 1, 20, bid_lots=50, ask_lots=50)])
    assert env.accounts()["position"][0, 0] == 50
    result = env.step([quote(role, 40, 10, ask_lots=50)])
    assert result.terminated[0, 0] and orders_of(env, 1)
    env.step([quote(role, 30, 10, ask_lots=50)])
    assert orders_of(env, 1) == {}
    assert env.accounts()["position"][0, 0] == 50


def test_losing_all_money_ends_an_agent():
    env = open_still({"taker": TAKER}, script={1: fall()}, max_drawdown=12.0, initial_cash=12.0)
    assert not env.step([trade(TAKER, 100)]).terminated[0, 0]
    assert env.step([idle()]).terminated[0, 0]
    assert env.accounts()["equity"][0, 0] < 0


def test_a_copy_whose_agents_have_all_ended_starts_anew_in_the_same_step():
    env = open_still({"taker": TAKER}, script={1: fall()}, max_drawdown=12.0, episode_steps=4)
    first, _ = env.reset(seed=0)
    results = [env.step([trade(TAKER, 100 if t == 0 else 0)]) for t in range(6)]
    assert [r.terminated.item() for r in results] == [False, True, False, False, False, False]
    assert [r.truncated.item() for r in results] == [False, False, False, False, False, True]
    np.testing.assert_array_equal(results[1].observations[0], first[0])
    assert see_drawdown(results[1].final_observations[0]) > 1 > see_drawdown(first[0])


def see_drawdown(observations):
    return observations[0, TAKER.observation_names.index("drawdown")]


def test_the_clock_truncates_and_does_not_terminate():
    env = open_still({"maker": MAKER, "taker": TAKER}, 3, episode_steps=4)
    ends = [env.step([np.zeros((3, 5)), np.zeros((3, 1))]) for _ in range(8)]
    assert [result.truncated.tolist() for result in ends] == [[k % 4 == 3] * 3 for k in range(8)]
    assert not any(result.terminated.any() for result in ends)


def test_every_term_is_what_its_formula_says():
    """A maker buys 20 lots a tick below the mid, which then falls by a tick and a half."""
    weights = RewardWeights(0.5, 0.2, 0.1, 2.0)
    # somebody takes the maker's 20 lots, then the others' 50 at 9_999
    script = {0: [(0.05, "ioc", -1, 9_999, 70)]}
    roles = {"maker": MAKER, "taker": TAKER}
    env = open_still(roles, bids=[(9_999, 50), (9_996, 60)], script=script, reward=weights,
                     max_inventory=200)  # fmt: skip
    result = env.step([quote(MAKER, 0.5, 3, bid_lots=20, skew=-0.5), trade(TAKER, 10)])
    account = env.accounts()
    assert account["mid"][0].tolist() == [9_998.5, 9_998.5]
    assert account["position"][0].tolist() == [20, 10]
    # the queue at 9_999: 50 of others, then the maker's 20
    maker, taker = result.terms[0]
    profit = 20 * (9_998.5 - 9_999) * UNIT
    assert maker[PROFIT] == pytest.approx(profit, abs=1e-9)
    assert maker[INVENTORY] == pytest.approx(-0.5 * UNIT * 0.1 * 20**2 / 200)
    assert maker[IMPACT] == 0
    assert maker[SPREAD] == pytest.approx(0.1 * 20 * (MID - 9_999) * UNIT)
    assert maker[RISK] == pytest.approx(2.0 * profit, abs=1e-9)
    profit = 10 * (9_998.5 - 10_001) * UNIT
    assert taker[PROFIT] == pytest.approx(profit, abs=1e-9)
    assert taker[INVENTORY] == pytest.approx(-0.5 * UNIT * 0.1 * 10**2 / 200)
    assert taker[IMPACT] == pytest.approx(0.2 * 10 * (MID - 10_001) * UNIT)
    assert taker[SPREAD] == 0
    assert taker[RISK] == pytest.approx(2.0 * profit, abs=1e-9)
    np.testing.assert_allclose(result.rewards, result.terms.sum(axis=2), rtol=1e-15)


def test_an_executor_pays_for_what_is_left_of_its_parent_order():
    env = open_executor(1, reward=RewardWeights(0.5, 0.0, 0.0, 0.0))
    result = env.step([work(EXECUTOR, 1.0, 50)])
    assert result.terms[0, 0, INVENTORY] == pytest.approx(-0.5 * UNIT * 0.1 * 150**2 / 200)


# --- contradictions


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Maker(max_offset_ticks=0), "Maker: max_offset_ticks is 0"),
        (
            lambda: Maker(max_size=0),
            r"Maker: max_size is 0; expected a whole number in \[1, 1000000\]",
        ),
        (lambda: Maker(max_size=10.9), "Maker: max_size is 10.9; expected a whole number"),
        (lambda: Taker(max_size=1.5), "Taker: max_size is 1.5; expected a whole number"),
        (lambda: Executor(parent_lots=200.5), "parent_lots is 200.5; expected a whole number"),
        (lambda: Executor(max_slice=9.5), "max_slice is 9.5; expected a whole number"),
        (lambda: Executor(parent_lots=10, max_slice=11), "max_slice 11 exceeds parent_lots 10"),
        (lambda: Taker(latency_ms=-1), r"latency_ms is -1; expected a number in \[0, 1000000\)"),
        (lambda: Taker(latency_ms=1e6), "Taker: latency_ms is 1000000.0; expected"),
        (lambda: Taker(reach_ticks=np.nan), "Taker: reach_ticks is nan"),
        (lambda: MarketSettings(tick_size=0.0), r"tick_size is 0.0; expected .* \(0, inf\)"),
        (lambda: MarketSettings(lot_size=np.inf), "MarketSettings: lot_size is inf"),
        (lambda: MarketSettings(volatility=1), r"volatility is 1; expected a number in \[0, 1\)"),
        (lambda: RiskLimits(max_inventory=1.5), "max_inventory is 1.5; expected a whole number"),
        (lambda: MarketSettings(episode_steps=0), "MarketSettings: episode_steps is 0"),
        (lambda: MarketSettings(episode_steps=1.5), "MarketSettings: episode_steps is 1.5"),
        (lambda: MarketSettings(maker_fee_bps=-2, taker_fee_bps=1), "-2 and taker_fee_bps 1 pay"),
        (lambda: RiskLimits(max_drawdown=2.0, initial_cash=1.0), "2.0 exceeds initial_cash 1.0"),
        (lambda: RewardWeights(lambda_risk=-1.0), "RewardWeights: lambda_risk is -1"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(make, message):
    with pytest.raises(MarketError, match=message):
        make()


@pytest.mark.parametrize(
    ("roles", "risk", "message"),
    [
        ({}, {}, "no agents"),
        ({"x": "maker"}, {}, "agent 'x' is of unknown type str; expected Maker"),
        (
            {"m": Maker(latency_ms=100.0)},
            {},
            "'m': latency_ms 100.0 is not below decision_ms",
        ),
        ({"m": Maker()}, {"max_inventory": 99}, "agent 'm': max_size 100 exceeds max_inventory 99"),
    ],
)
def test_agents_that_contradict_the_settings_are_refused_by_name(roles, risk, message):
    with pytest.raises(MarketError, match=message):
        MarketVecEnv(roles, risk=RiskLimits(**risk))


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (
            np.zeros((1, 4)),
            r"actions of 'maker' have shape \(1, 4\); expected \(1, 5\): bid_offset",
        ),
        (np.zeros(5), r"shape \(5,\)"),
        (np.zeros((1, 5), dtype=int), "actions of 'maker' are int64; expected floats"),
        (np.full((1, 5), 1.01), r"'maker' in copy 0 is \[1.01.*from -1 to 1: clip it"),
        (np.array([[0, 0, np.nan, 0, 0]]), r"'maker' in copy 0 is .*nan.*look for nan"),
    ],
)
def test_an_impossible_action_is_refused_by_name_and_moves_nothing(action, message):
    env, twin = open_still({"maker": MAKER}), open_still({"maker": MAKER})
    with pytest.raises(MarketError, match=message):
        env.step([action])
    one, two = env.step([IDLE]), twin.step([IDLE])
    np.testing.assert_array_equal(one.state, two.state)


def test_an_impossible_bin_is_refused_by_name():
    env = open_still({"maker": MAKER}, n_bins=3)
    with pytest.raises(MarketError, match="5 numbers from 0 to 2"):
        env.step([np.full((1, 5), 3)])
    with pytest.raises(MarketError, match="are float64; expected whole numbers"):
        env.step([np.zeros((1, 5))])
    for n_bins in (0, 1):
        with pytest.raises(MarketError, match=f"n_bins is {n_bins}"):
            open_still({"maker": MAKER}, n_bins=n_bins)


def test_bounds_that_are_in_the_range_are_taken():
    Maker(max_offset_ticks=10_000, max_size=10**6, max_skew_ticks=0, latency_ms=0)
    Executor(parent_lots=10**8, max_slice=10.0)
    MarketSettings(decision_ms=3.6e6, episode_steps=1, maker_fee_bps=-100, taker_fee_bps=1000)


@pytest.mark.parametrize("role", [MAKER, TAKER])
def test_a_limit_below_one_lot_is_refused_when_an_episode_starts(role):
    with pytest.raises(
        MarketError,
        match=f"agent '{role.kind}' can hold no lot: max_position_value is 99.9, one lot at the "
        "mid 100; raise the limit or lower lot_size",
    ):
        open_still({role.kind: role}, 3, max_position_value=99.9)
    env = open_still({"taker": TAKER}, max_position_value=100.0)
    env.step([trade(TAKER, 100)])
    assert env.accounts()["position"][0, 0] == 1


def test_a_parent_order_may_be_worth_more_than_the_limit():
    env = open_executor(1, max_position_value=99.9)
    env.step([work(EXECUTOR, 1.0, 20)])
    assert env.accounts()["lots"][0, 0] == 20


def test_other_calls_that_cannot_be_are_refused():
    with pytest.raises(MarketError, match="n_envs is 0"):
        MarketVecEnv({"maker": MAKER}, 0)
    env = MarketVecEnv({"maker": MAKER})
    with pytest.raises(MarketError, match="call reset"):
        env.step([IDLE])
    with pytest.raises(MarketError, match="seed is -1"):
        env.reset(seed=-1)
    env.reset(seed=0)
    with pytest.raises(
        MarketError, match="actions of 2 agents; expected one array for each of maker"
    ):
        env.step([IDLE, IDLE])


def test_copies_that_are_not_reset_by_themselves_wait_for_it():
    env = open_still({"maker": MAKER}, episode_steps=2, auto_reset=False)
    results = [env.step([IDLE]), env.step([IDLE])]
    assert [result.truncated.tolist() for result in results] == [[False], [True]]
    with pytest.raises(MarketError, match="copy 0 has ended after 2 steps; call reset"):
        env.step([IDLE])
    env.reset()
    env.step([IDLE])


def test_the_drawn_sides_of_parent_orders_are_even():
    n_envs = 1500
    env = open_still({"executor": EXECUTOR}, n_envs, bids=[(9_999, 5)], asks=[(10_001, 5)])
    sides = [np.sign(env.accounts()["parent"][:, 0])]
    env.reset()
    sides.append(np.sign(env.accounts()["parent"][:, 0]))
    for drawn in sides:
        assert set(drawn.tolist()) == {-1, 1}
        assert abs(drawn.mean()) < 4 / n_envs**0.5  # 4 standard deviations
    # the next episode draws anew
    assert abs((sides[0] * sides[1]).mean()) < 4 / n_envs**0.5


def test_conservation_holds_over_all_owners_of_a_still_book():
    roles = {"one": MAKER, "two": MAKER, "executor": EXECUTOR, "taker": TAKER}
    env, rng = open_still(roles, 16), np.random.default_rng(4)
    for _ in range(19):
        env.step([rng.uniform(-1, 1, (16, n)) for n in (5, 5, 2, 1)])
    accounts = accounts_of(env)
    assert (accounts[:, :, [POSITION, CASH]].sum(axis=1) == 0).all()
    assert (accounts[:, :, MADE].sum(axis=1) == accounts[:, :, TOOK].sum(axis=1)).all()
    assert (accounts[:, 1:, LOTS].sum(axis=0) > 0).all()
