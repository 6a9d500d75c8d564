"""Rollouts of the market and what is measured on them; known paths first, then the real market."""

import numpy as np
import pytest

from hftlib.agents.making import FixedSpread
from hftlib.agents.orders import quote_action
from hftlib.agents.rollout import play_market, risk_adjusted_profit
from hftlib.envs import Executor, Maker, MarketSettings, MarketVecEnv, RiskLimits, Taker
from hftlib.evaluation.execution import (
    arrival_price,
    completion,
    execution_cost,
    execution_table,
    twap_price,
)
from hftlib.evaluation.making import (
    adverse_selection,
    decompose_profit,
    fill_ratio,
    inventory_deviation,
    passive_share,
    path_table,
    quote_curve,
    trading_table,
)
from tests.toy_market import Constant, Counter, ToyMarket, make_rollout

UNIT = 0.5  # currency of a tick of a lot in `make_rollout`
RNG = np.random.default_rng(0)


def column(*values):
    return np.array(values, dtype=float)[:, None]


def whole(*values):
    return np.array(values, dtype=np.int64)[:, None]


def random_path(n=40, n_episodes=3, **changes):
    mid = 100 + np.cumsum(RNG.normal(0, 1, (n + 1, n_episodes)), axis=0)
    position = RNG.integers(-20, 21, (n + 1, n_episodes))
    fees = np.cumsum(RNG.exponential(0.1, (n + 1, n_episodes)), axis=0)
    cash = np.cumsum(RNG.normal(0, 50, (n + 1, n_episodes)), axis=0)
    return make_rollout(mid, position, cash, fees, **changes)


def profit_of(parts):
    return parts.spread + parts.inventory - parts.fees - parts.closing


def test_buying_at_the_bid_and_selling_at_the_ask_captures_the_spread():
    # 10 lots bought at 99 with the mid at 100, sold at 103 with the mid at 102
    rollout = make_rollout(
        column(100, 102, 102), whole(0, 10, 0), column(0, -990 * UNIT, 40 * UNIT)
    )
    parts = decompose_profit(rollout)
    np.testing.assert_allclose(parts.spread[:, 0, 0], [10 * UNIT, 10 * UNIT])
    np.testing.assert_allclose(parts.inventory[:, 0, 0], [20 * UNIT, 0])
    assert rollout.profit[0, 0] == pytest.approx(40 * UNIT)


def test_profit_is_spread_and_inventory_less_fees_at_every_step():
    rollout = random_path()
    parts = decompose_profit(rollout)
    np.testing.assert_allclose(profit_of(parts), np.diff(rollout.equity, axis=0), atol=1e-9)
    assert (parts.closing == 0).all()
    assert np.abs(parts.spread).min() > 0


def test_closing_is_charged_where_an_agent_ends_and_nothing_after():
    alive = np.ones((41, 3), dtype=bool)
    alive[10:, 0] = alive[40:, 1] = False
    rollout = random_path(is_alive=alive, closing=7.0)
    parts = decompose_profit(rollout)
    np.testing.assert_allclose(profit_of(parts), np.diff(rollout.equity, axis=0), atol=1e-9)
    np.testing.assert_allclose(parts.closing.sum(axis=0)[:, 0], [7, 7, 0])
    assert parts.closing[9, 0, 0] == pytest.approx(7)
    assert all((part[10:, 0] == 0).all() for part in parts)


def test_a_mirrored_maker_captures_the_same_spread():
    mid = 100 + np.cumsum(RNG.normal(0, 1, (20, 1)), axis=0)
    position = np.cumsum(RNG.integers(-5, 6, (20, 1)), axis=0)
    bought = np.diff(position, axis=0)
    cash = np.concatenate([[[0.0]], np.cumsum(np.abs(bought) - bought * mid[:-1], axis=0)]) * UNIT
    mirrored = np.concatenate(
        [[[0.0]], np.cumsum(np.abs(bought) + bought * (200 - mid[:-1]), axis=0)]
    )
    first = make_rollout(mid, position, cash)
    second = make_rollout(200 - mid, -position, mirrored * UNIT)
    for ours, theirs in zip(decompose_profit(first), decompose_profit(second), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)
    np.testing.assert_allclose(
        decompose_profit(first).spread.sum(), np.abs(bought).sum() * UNIT
    )  # one tick a lot
    np.testing.assert_allclose(adverse_selection(first, 3), adverse_selection(second, 3))


def test_adverse_selection_is_the_move_against_what_was_acquired():
    # 10 lots bought before a fall of 1 tick a step, 20 sold into it
    rollout = make_rollout(column(100, 99, 98, 97, 96), whole(0, 10, -10, -10, -10))
    assert adverse_selection(rollout, 1)[0, 0] == pytest.approx((10 * 1 - 20 * 1) / 30)
    assert adverse_selection(rollout, 2)[0, 0] == pytest.approx((10 * 2 - 20 * 2) / 30)
    # four steps ahead only the first step has a mid
    assert adverse_selection(rollout, 4)[0, 0] == pytest.approx(4.0)


def test_what_is_acquired_beyond_the_horizon_or_after_the_end_does_not_count():
    mid, position = column(100, 99, 98, 90), whole(0, 10, 10, 500)
    short = make_rollout(mid, position)
    assert adverse_selection(short, 2)[0, 0] == pytest.approx(2.0)
    stray = make_rollout(mid, position, is_alive=[[True], [True], [False], [False]])
    assert adverse_selection(stray, 1)[0, 0] == pytest.approx(1.0)
    idle = make_rollout(mid, whole(0, 0, 0, 0))
    assert np.isnan(adverse_selection(idle, 1)[0, 0])


@pytest.mark.parametrize("horizon", [0, 4])
def test_a_horizon_that_does_not_fit_is_refused(horizon):
    rollout = make_rollout(column(1, 2, 3, 4), whole(0, 0, 0, 0))
    with pytest.raises(ValueError, match=f"horizon_steps is {horizon}; expected 1 to 3"):
        adverse_selection(rollout, horizon)


def test_inventory_deviation_is_that_of_a_position_under_fair_steps():
    mid = column(*(100 + np.array([0, 1, 0, 1, 2, 1, 0, -1, 0, 1])))
    rollout = make_rollout(mid, np.full((10, 1), 4))
    assert inventory_deviation(rollout)[0, 0] == pytest.approx(4 * UNIT * 9**0.5)


def test_shares_count_the_whole_episode_and_are_undefined_without_trades():
    zero, counts = whole(0, 0, 0), whole(0, 10, 30)
    flat = (column(100, 100, 100), zero)
    rollout = make_rollout(
        *flat,
        lots=counts[..., None],
        quoted=4 * counts[..., None],
        made=2 * counts[..., None],
        took=counts[..., None],
    )
    assert fill_ratio(rollout)[0, 0] == pytest.approx(1 / 4)
    assert passive_share(rollout)[0, 0] == pytest.approx(2 / 3)
    idle = make_rollout(*flat)
    assert np.isnan(fill_ratio(idle)[0, 0])
    assert np.isnan(passive_share(idle)[0, 0])


def test_an_ended_agent_holds_nothing_in_the_table():
    alive = [[True], [True], [False], [False]]
    rollout = make_rollout(column(100, 100, 100, 100), whole(0, 6, 8, 9), is_alive=alive)
    row = trading_table(rollout, "maker", 1).loc[0]
    assert row["mean_abs_inventory"] == pytest.approx(2.0)
    assert row["rms_inventory"] == pytest.approx(12**0.5)
    assert row["final_inventory"] == 0
    assert not row["is_alive"]


def test_a_role_that_is_not_there_is_refused():
    rollout = make_rollout(column(1, 2), whole(0, 0))
    with pytest.raises(ValueError, match="no agent is of the role 'taker'; there are maker"):
        trading_table(rollout, "taker", 1)


def execute(mid, slices, side, premium=0.0):
    """An executor that trades `slices` at the mids of the decisions, `premium` ticks worse."""
    traded = np.concatenate([[0], np.cumsum(slices)])
    paid = np.concatenate([[0], np.cumsum(slices * (mid[:-1, 0] + side * premium))])
    position = side * (traded - 40)
    return make_rollout(mid, position[:, None], -side * paid[:, None] * UNIT, role="executor")


FALLING = column(100, 103, 99, 104, 90)


@pytest.mark.parametrize("side", [1, -1])
def test_equal_slices_at_the_mid_cost_nothing_against_the_twap(side):
    rollout = execute(FALLING, np.full(4, 10), side)
    np.testing.assert_allclose(execution_cost(rollout, twap_price(rollout)), 0, atol=1e-9)
    row = execution_table(rollout).loc[0]
    assert row["side"] == side
    assert row["parent_lots"] == 40
    assert row["completion"] == 1.0
    # they pay the mean mid of 101.5, the arrival was 100
    assert row["shortfall_ticks"] == pytest.approx(side * 1.5)
    assert row["shortfall_bps"] == pytest.approx(side * 150)
    assert row["profit"] == pytest.approx(-side * 1.5 * 40 * UNIT)


@pytest.mark.parametrize("side", [1, -1])
def test_trading_at_once_costs_the_premium_against_the_arrival(side):
    rollout = execute(FALLING, np.array([40, 0, 0, 0]), side, premium=2.0)
    np.testing.assert_allclose(execution_cost(rollout, arrival_price(rollout)), 80 * UNIT)
    row = execution_table(rollout).loc[0]
    assert row["shortfall_ticks"] == pytest.approx(2.0)
    assert row["twap_slippage_ticks"] == pytest.approx(2.0 - side * 1.5)


def test_what_is_left_over_counts_at_the_last_mid_and_the_charge_for_closing():
    rollout = execute(FALLING, np.full(4, 5), 1)
    assert completion(rollout)[0, 0] == pytest.approx(0.5)
    left = (101.5 - 100) * 20 + (90 - 100) * 20
    np.testing.assert_allclose(execution_cost(rollout, arrival_price(rollout)), left * UNIT)
    charged = make_rollout(
        FALLING, rollout.position[..., 0], rollout.cash[..., 0], role="executor", closing=3.0
    )
    np.testing.assert_allclose(execution_cost(charged, arrival_price(charged)), left * UNIT + 3.0)
    np.testing.assert_allclose(decompose_profit(charged).closing[:, 0, 0], [0, 0, 0, 3])


def test_quote_curve_shows_a_linear_rule_as_it_is():
    role = Maker(max_offset_ticks=20, max_size=50, max_skew_ticks=4)
    index = role.observation_names.index("inventory")

    class Linear:
        """Bid 3 + q / 100 ticks below the mid, ask 3 - q / 100 above; no bid above 100 lots."""

        def act(self, observations):
            lots = 200.0 * observations[:, index]
            bid_lots = np.where(lots > 100.5, 0, 10)
            return quote_action(role, 3 + lots / 100, 3 - lots / 100, bid_lots, 10)

    seen = RNG.uniform(-1, 1, (30, len(role.observation_names))).astype(np.float32)
    before = seen.copy()
    curve = quote_curve(Linear(), role, seen, np.array([-200, 0, 100, 200]), 200)
    np.testing.assert_allclose(curve["bid_offset"], [1, 3, 4, np.nan], rtol=1e-5)
    np.testing.assert_allclose(curve["ask_offset"], [5, 3, 2, 1], rtol=1e-5)
    np.testing.assert_allclose(curve["bid_share"], [1, 1, 1, 0])
    np.testing.assert_array_equal(seen, before)


def test_quote_curve_asks_a_policy_with_a_memory_as_at_the_start():
    role = Maker(max_offset_ticks=10)

    class Tiring(Counter):
        def act(self, observations):
            self.n_acts += 1
            return np.tile([self.n_acts / 5 - 1, 0, 0, 0, 0], (len(observations), 1))

    seen = np.zeros((2, len(role.observation_names)), dtype=np.float32)
    curve = quote_curve(Tiring(), role, seen, np.array([0, 1, 2]), 100)
    np.testing.assert_allclose(curve["bid_offset"], 1.5)


def test_policies_with_a_memory_begin_with_each_episode_and_stay_as_they_are():
    counter = Counter()
    rollout = play_market(
        ToyMarket(luck=0.0), {"maker": counter, "executor": Constant(0.0)}, seed=0, n_episodes=2
    )
    np.testing.assert_allclose(
        rollout.actions[0][:, :, 0], np.arange(1, 6)[:, None] / 10 + np.zeros(8)
    )
    assert counter.begun == []


def test_risk_adjusted_profit_leaves_shaping_out():
    terms = np.arange(1.0, 6).reshape(1, 1, 1, 5)
    rollout = make_rollout(column(1, 3), whole(7, 7), terms=terms)
    assert risk_adjusted_profit(rollout)[0, 0] == 14 * UNIT + 2 + 5  # not impact, not spread


# the real market


class Random:
    def __init__(self, n, seed):
        self.n, self.rng = n, np.random.default_rng(seed)

    def act(self, observations):
        return self.rng.uniform(-1, 1, (len(observations), self.n)).astype(np.float32)


class Steady:
    def __init__(self, *action):
        self.action = np.array(action, dtype=np.float32)

    def act(self, observations):
        return np.tile(self.action, (len(observations), 1))


ROLES = {"maker": Maker(), "executor": Executor(), "taker": Taker(max_size=500)}
SETTINGS = MarketSettings(episode_steps=25, decision_ms=500, taker_fee_bps=0.5, maker_fee_bps=-0.1)


def build(n_envs, *, parent_lots=2000, **risk):
    """Executors that lose a lot in their last step, takers that soon lose what they may."""
    return MarketVecEnv(
        {**ROLES, "executor": Executor(parent_lots=parent_lots)},
        n_envs,
        market=SETTINGS,
        risk=RiskLimits(**{"max_drawdown": 150.0, **risk}),
        books=SETTINGS.simulated(warm_up_s=5.0),
    )


def random_policies():
    return {"maker": Random(5, 0), "executor": Random(2, 1), "taker": Random(1, 2)}


@pytest.fixture(scope="module")
def env():
    return build(4)


@pytest.fixture(scope="module")
def rollout(env):
    return play_market(env, random_policies(), seed=5, n_episodes=2)


def test_a_rollout_has_a_row_for_the_start_and_one_a_step(rollout):
    assert rollout.mid.shape == rollout.equity.shape == (26, 8, 3)
    assert rollout.terms.shape == (25, 8, 3, 5)
    assert rollout.observations[1].shape == (25, 8, len(ROLES["executor"].observation_names))
    assert rollout.actions[0].shape == (25, 8, 5)
    assert rollout.worlds.tolist() == list(range(5, 13))
    assert rollout.kinds == ("maker", "executor", "taker")
    assert rollout.time_s[-1] == pytest.approx(12.5)


def test_the_last_row_is_of_the_episode_that_ended(rollout):
    np.testing.assert_allclose(rollout.terms[..., 0].sum(axis=0), rollout.profit, atol=1e-9)
    np.testing.assert_allclose(rollout.terms.sum(axis=3), rollout.rewards, atol=1e-9)
    assert (rollout.lots[0] == 0).all()
    assert (rollout.lots[-1] >= rollout.lots[-2]).all()
    assert rollout.lots[-1, :, 0].max() > 0


def test_an_executor_starts_with_minus_its_parent_order(rollout):
    np.testing.assert_array_equal(rollout.position[0], -rollout.parent)
    assert set(np.abs(rollout.parent[:, 1])) == {2000}
    assert (rollout.parent[:, [0, 2]] == 0).all()


def test_the_profit_of_every_step_in_the_market_has_its_parts(rollout):
    parts = decompose_profit(rollout)
    np.testing.assert_allclose(profit_of(parts), np.diff(rollout.equity, axis=0), atol=1e-8)
    closing, has_ended = parts.closing.sum(axis=0), ~rollout.is_alive[-1]
    assert has_ended[:, 1].any()
    assert has_ended[:, 2].any()
    assert (closing[~has_ended] == 0).all()
    assert (closing[has_ended & (rollout.is_alive.sum(axis=0) < 25)] > 0).all()


def test_what_the_book_cannot_fill_is_closed_at_the_end():
    env = build(2, parent_lots=100_000, max_drawdown=1e9, initial_cash=1e9)
    rollout = play_market(env, random_policies(), seed=5)
    parts = decompose_profit(rollout)
    np.testing.assert_allclose(profit_of(parts), np.diff(rollout.equity, axis=0), atol=1e-6)
    assert rollout.is_alive.all()
    assert (rollout.position[-1, :, 1] != 0).all()
    assert (parts.closing[-1, :, 1] > 0).all()
    assert (parts.closing[:-1] == 0).all()
    assert (completion(rollout)[:, 1] < 1).all()


def test_rewards_without_shaping_sum_to_the_risk_adjusted_profit(rollout):
    kept = rollout.terms[..., [0, 1, 4]].sum(axis=(0, 3))
    np.testing.assert_allclose(risk_adjusted_profit(rollout), kept, atol=1e-9)
    assert (kept < rollout.profit).all()


def test_makers_capture_spread_and_takers_pay_it(rollout):
    maker = trading_table(rollout, "maker", 4)
    taker = trading_table(rollout, "taker", 4)
    assert maker["spread_captured"].mean() > 0 > taker["spread_captured"].mean()
    assert (maker["passive_share"].dropna() == 1).all()
    assert (taker["passive_share"].dropna() == 0).all()
    assert (maker["fees"] <= 0).all()
    assert (taker["fees"] >= 0).all()


def test_the_shortfall_of_the_table_is_minus_the_profit(rollout):
    table = execution_table(rollout)
    unit = SETTINGS.tick_size * SETTINGS.lot_size
    np.testing.assert_allclose(
        table["shortfall_ticks"] * table["parent_lots"] * unit, -table["profit"], atol=1e-9
    )


def test_one_call_gives_one_result(env, rollout):
    again = play_market(env, random_policies(), seed=5, n_episodes=2)
    np.testing.assert_array_equal(again.equity, rollout.equity)
    np.testing.assert_array_equal(again.observations[0], rollout.observations[0])


def test_worlds_do_not_depend_on_how_they_are_spread_over_copies(env):
    steady = {
        "maker": FixedSpread(ROLES["maker"], half_spread_ticks=2.0, size=10),
        "executor": Steady(0.2, 0.0),
        "taker": Steady(0.0),
    }
    narrow = play_market(build(2), steady, seed=5, n_episodes=2)
    wide = play_market(env, steady, seed=5)
    np.testing.assert_array_equal(narrow.worlds, wide.worlds)
    np.testing.assert_array_equal(narrow.equity, wide.equity)


def test_worlds_are_the_same_luck_for_other_policies(env, rollout):
    idle = {"maker": Steady(0, 0, -1, -1, 0), "executor": Steady(0, -1), "taker": Steady(0)}
    quiet = play_market(env, idle, seed=5, n_episodes=2)
    np.testing.assert_array_equal(quiet.parent, rollout.parent)
    np.testing.assert_array_equal(quiet.mid[0], rollout.mid[0])
    assert (quiet.lots[-2] == 0).all()


def test_every_agent_needs_a_policy(env):
    with pytest.raises(ValueError, match="policies for maker; the environment has the agents"):
        play_market(env, {"maker": Random(5, 0)}, seed=0)


def test_a_path_is_that_of_one_agent_in_the_first_episode(rollout):
    path = path_table(rollout, "taker")
    np.testing.assert_array_equal(path["inventory"], rollout.position[:, 0, 2])
    assert path["profit"].iloc[-1] == pytest.approx(rollout.profit[0, 2])
    assert path["profit"].iloc[0] == 0
