"""The multi-agent market on recorded days."""

from dataclasses import replace

import numpy as np
import pytest

from hftlib.data.injection import HistoricalMarket
from hftlib.data.replay import rebuild, replay_tape, to_messages
from hftlib.envs import (
    Executor,
    Maker,
    MarketEnv,
    MarketError,
    MarketSettings,
    MarketVecEnv,
    RiskLimits,
    SoleAgentEnv,
    Taker,
)
from hftlib.envs.backends import Replayed
from hftlib.envs.roles import MARKET_OBSERVATION
from hftlib.market.book import KINDS
from hftlib.market.matching import CASH, LOTS, MADE, POSITION, TOOK
from hftlib.market.tape import ADD, DELETE, EXECUTE, EXECUTE_HIDDEN
from tests.days import NAMES, make_shallow, make_tape, read_real, record_stream, select

BOTH = pytest.mark.parametrize("has_impact", [False, True], ids=["apart", "impact"])
ROLES = {
    "maker": Maker(max_offset_ticks=4.0, max_size=20),
    "slow": Maker(max_offset_ticks=4.0, max_size=20, latency_ms=40.0),
    "executor": Executor(parent_lots=120, max_slice=20),
    "taker": Taker(max_size=20),
}
N_STEPS = 10
MARKET = MarketSettings(
    decision_ms=200.0, episode_steps=N_STEPS, maker_fee_bps=-0.1, taker_fee_bps=0.5
)
RISK = RiskLimits(max_inventory=60, max_position_value=1e9)
TRADED = MARKET_OBSERVATION.index("traded")
EVERY_NS = 20_000_000  # between two times of `record_stream`
UNIT = 0.01


def stretch(history):
    """A day whose messages are some milliseconds apart."""
    return replace(history, ts=history.ts * EVERY_NS)


def make_day(seed, n=1500):
    return stretch(rebuild(to_messages(record_stream(n, seed), **NAMES), levels=3).history)


DAYS = [make_day(0), make_day(1)]


def open_replay(n_envs=3, has_impact=False, days=DAYS, roles=ROLES, **changes):
    settings = {"market": MARKET, "risk": RISK, **changes}
    return MarketVecEnv(roles, n_envs, books=Replayed(days, has_impact), **settings)


def draw(env, rng):
    return [rng.uniform(-1, 1, (env.n_envs, len(role.action_names))) for role in env.roles.values()]


def idle(env):
    return [np.where(a.shape[1] == 1, 0.0, -1.0) * np.ones(a.shape)
            for a in draw(env, np.random.default_rng(0))]  # fmt: skip


def accounts_of(env):
    return np.stack([market.accounts for market in env._books._markets.values()])


@BOTH
def test_lots_and_cash_are_conserved_and_equity_is_cash_and_position_at_the_mid(has_impact):
    env, rng = open_replay(12, has_impact, auto_reset=False), np.random.default_rng(0)
    env.reset(seed=0)
    first = env.accounts()
    for t in range(N_STEPS):
        result = env.step(draw(env, rng))
        assert not result.terminated.any()
        books, account = accounts_of(env), env.accounts()
        assert (books[:, :, [POSITION, CASH]].sum(axis=1) == 0).all()
        assert (books[:, :, MADE].sum(axis=1) == books[:, :, TOOK].sum(axis=1)).all()
        value = account["position"] * account["mid"] - first["position"] * first["mid"]
        equity = RISK.initial_cash + account["cash"] + value * UNIT
        if t == N_STEPS - 1:  # what an executor could not trade it has paid to close
            equity[:, 2] = np.where(account["position"][:, 2] == 0, equity[:, 2], np.nan)
        done = np.isfinite(equity)
        np.testing.assert_allclose(account["equity"][done], equity[done], rtol=0, atol=0.005)
    assert (account["lots"].sum(axis=0) > 0).all()
    assert (books[:, :, LOTS].sum(axis=0) > 0).all()


def test_without_impact_the_day_is_the_recorded_one_whatever_is_done():
    quiet, busy = open_replay(4), open_replay(4)
    rng = np.random.default_rng(1)
    same = np.arange(len(MARKET_OBSERVATION)) != TRADED  # which counts the agents' lots too
    n = len(same)
    for env in (quiet, busy):
        env.reset(seed=0)
    for _ in range(2 * N_STEPS):
        one, two = quiet.step(idle(quiet)), busy.step(draw(busy, rng))
        for a, b in zip(one.observations, two.observations, strict=True):
            np.testing.assert_array_equal(a[:, :n][:, same], b[:, :n][:, same])
        np.testing.assert_array_equal(one.state[:, :n][:, same], two.state[:, :n][:, same])
        for market in busy._books._markets.values():
            alone = HistoricalMarket(market.history, has_impact=False)
            alone.advance(market.now_ns)
            np.testing.assert_array_equal(market.depth(5), alone.depth(5))
    assert (busy.accounts()["lots"] > 0).any()


def test_with_impact_own_orders_stand_in_the_book_but_not_in_the_agent_s_own_view():
    roles, n = {"maker": Maker(max_size=50)}, len(MARKET_OBSERVATION)
    env, alone = (open_replay(6, True, roles=roles) for _ in range(2))
    for each in (env, alone):
        each.reset(seed=0)
    result = env.step([np.tile([1.0, 1.0, 1.0, 1.0, 0.0], (6, 1))])
    expected = alone.step(idle(alone))
    untouched = env.accounts()["lots"][:, 0] == 0
    assert untouched.any()
    for b in np.flatnonzero(untouched):
        lots, before = (each._books._markets[b].depth(99)[[1, 3]].sum() for each in (env, alone))
        assert lots == before + 100
        mine, other = result.observations[0][b], expected.observations[0][b]
        np.testing.assert_array_equal(mine[:n], other[:n])


@BOTH
def test_a_copy_is_the_single_environment_bit_for_bit(has_impact):
    batch, rng = open_replay(3, has_impact), np.random.default_rng(0)
    plan = Replayed(DAYS, has_impact)
    singles = [MarketEnv(ROLES, market=MARKET, risk=RISK, books=plan) for _ in range(3)]
    observations, _ = batch.reset(seed=5)
    for i, env in enumerate(singles):
        np.testing.assert_array_equal(env.reset(seed=5 + i)[0]["maker"], observations[0][i])
    for _ in range(2 * N_STEPS):
        actions = draw(batch, rng)
        result = batch.step(actions)
        for i, env in enumerate(singles):
            moves = {name: a[i] for name, a in zip(ROLES, actions, strict=True)}
            seen, rewards, _, truncated, _ = env.step(moves)
            for a, name in enumerate(ROLES):
                np.testing.assert_array_equal(seen[name], result.final_observations[a][i])
            assert tuple(rewards.values()) == tuple(result.rewards[i])
            np.testing.assert_array_equal(env.state(), result.final_state[i])
            if truncated["maker"]:
                first, _ = env.reset()
                np.testing.assert_array_equal(first["taker"], result.observations[3][i])


@BOTH
@pytest.mark.parametrize("before", [4, N_STEPS])
def test_a_saved_state_goes_on_bit_for_bit(has_impact, before):
    rng, env, other = (
        np.random.default_rng(8),
        open_replay(2, has_impact),
        open_replay(2, has_impact),
    )
    env.reset(seed=1)
    for _ in range(before):
        env.step(draw(env, rng))
    saved = env.save_state()
    plan = [draw(env, rng) for _ in range(N_STEPS + 2)]
    course = [env.step(actions) for actions in plan]
    other.load_state(saved)
    for actions, expected in zip(plan, course, strict=True):
        result = other.step(actions)
        np.testing.assert_array_equal(result.terms, expected.terms)
        np.testing.assert_array_equal(result.state, expected.state)


def test_a_saved_state_shares_the_days_which_never_change():
    env = open_replay(2)
    env.reset(seed=1)
    saved = env.save_state()["books"]["markets"][0]
    market = env._books._markets[0]
    assert saved.history is market.history and saved._script.ops is market._script.ops
    assert saved._venue.own is not market._venue.own


@BOTH
def test_the_future_of_the_record_changes_nothing_earlier(has_impact):
    """Two days that are the same up to a row, and start and end at the same times."""
    tape, cut = record_stream(1500, 3), 900
    rows = np.arange(len(tape))
    kept = rows[(rows <= cut) | (rows % 3 == 0) | (rows == rows[-1])]
    days = [stretch(rebuild(to_messages(t, **NAMES), levels=3).history)
            for t in (tape, select(tape, kept))]  # fmt: skip
    until = days[0].ts[cut]
    assert not np.array_equal(days[0].ops[-400:], days[1].ops[-400:])
    envs = [open_replay(8, has_impact, [day]) for day in days]
    firsts = [env.reset(seed=0) for env in envs]
    rng, n_same, n_other = np.random.default_rng(0), 0, 0
    markets = [list(env._books._markets.values()) for env in envs]
    for b in range(8):
        if markets[0][b].now_ns < until:
            np.testing.assert_array_equal(firsts[0][1][b], firsts[1][1][b])
    for _ in range(N_STEPS - 1):
        actions = draw(envs[0], rng)
        one, two = (env.step(actions) for env in envs)
        for b in range(8):
            is_same = np.array_equal(one.state[b], two.state[b])
            if markets[0][b].now_ns < until:
                assert is_same and np.array_equal(one.terms[b], two.terms[b])
                for x, y in zip(one.observations, two.observations, strict=True):
                    np.testing.assert_array_equal(x[b], y[b])
            n_same += is_same
            n_other += not is_same
    assert n_same > 10 and n_other > 10


@BOTH
def test_an_order_trades_at_the_quotes_of_its_arrival(has_impact):
    """A buyer of one lot pays the ask that the record shows when its order comes in."""
    for latency_ms in (0.0, 150.0):
        role = Taker(max_size=1, reach_ticks=50.0, latency_ms=latency_ms)
        env = open_replay(20, has_impact, roles={"taker": role})
        env.reset(seed=0)
        alone = [
            HistoricalMarket(m.history, has_impact=False) for m in env._books._markets.values()
        ]
        arrives = [m.now_ns + int(latency_ms * 1e6) for m in env._books._markets.values()]
        env.step([np.ones((20, 1))])
        for b, market in enumerate(alone):
            market.advance(arrives[b])
            quotes = market.quotes
            if quotes.ask > 0:
                assert env.accounts()["took"][b, 0] == quotes.ask


@pytest.mark.parametrize("is_busy", [False, True])
def test_lots_traded_in_the_record_are_seen_and_those_of_the_agents_come_on_top(is_busy):
    tape = record_stream(1500, 0)
    trades = np.isin(tape.kind, [EXECUTE, EXECUTE_HIDDEN])
    env, rng = open_replay(8, days=DAYS[:1]), np.random.default_rng(0)
    env.reset(seed=0)
    traded, own = [], np.zeros(8)
    for _ in range(N_STEPS - 1):
        starts = np.array([market.now_ns for market in env._books._markets.values()])
        result = env.step(draw(env, rng) if is_busy else idle(env))
        ts = (tape.ts * EVERY_NS)[:, None]
        during = trades[:, None] & (starts < ts) & (ts <= starts + 200_000_000)
        traded.append((during * tape.size[:, None]).sum(axis=0))
        before, own = own, accounts_of(env)[:, :, LOTS].sum(axis=1) / 2  # a trade has two sides
        seen = result.observations[0][:, TRADED]
        np.testing.assert_allclose(seen, np.log1p(traded[-1] + own - before) / 10, rtol=1e-6)
    assert np.count_nonzero(traded) > 20 and own.any() == is_busy


@pytest.mark.parametrize(
    ("has_impact", "expected"),
    [(False, [0, 4 + 4, 3, 7, 45, 2, 6]), (True, [0, 4, 3, 7, 43, 2, 6])],
)
def test_a_trade_of_an_agent_is_one_trade_whoever_brings_it(has_impact, expected):
    """Lots traded in each step of a day and a script that are written out."""
    events = [  # step, and what the record shows in its middle
        (-1, (ADD, 1, 50, 9_990, 1)),
        (-1, (ADD, 2, 50, 10_010, -1)),
        (1, (EXECUTE, 1, 4, 9_990, 1)),  # a seller, who first meets the agent's better bid
        (2, (ADD, 3, 3, 9_995, -1)),  # an order that rests in the record meets that bid
        (3, (DELETE, 3, 3, 9_995, -1)),
        (4, (EXECUTE, 2, 45, 10_010, -1)),  # of 43 that an agent has left there, if it can
        (6, (EXECUTE, 1, 6, 9_990, 1)),  # nobody stands before it
        (7, (DELETE, 1, 40, 9_990, 1)),
    ]
    orders = {  # by step; the agents are owners 1 and 2
        0: [("limit", 1, 9_995, 7, 1)],
        3: [("ioc", 1, 10_010, 7, 2)],
        5: [("limit", -1, 10_000, 2, 1), ("ioc", 1, 10_000, 2, 2)],
    }
    step_ns = 1_000_000
    history = rebuild(to_messages(make_tape(*(e for _, e in events)), **NAMES), levels=3).history
    ts = [0 if step < 0 else step * step_ns + step_ns // 2 for step, _ in events]
    day = replace(history, ts=np.array([*ts[:-1], 7 * step_ns + 1]))  # so that it starts at 0
    books = Replayed([day], has_impact).build(1, 2, step_ns / 1e9, 7)
    books.open(0, 0)
    traded = []
    for step in range(7):
        # orders come at the end of a step, after what the record shows in it
        rows = [(KINDS[k], side, price, qty, who, 0, 0)
                for k, side, price, qty, who in orders.get(step, [])]  # fmt: skip
        messages = np.array(rows, dtype=np.int32).reshape(1, -1, 7)
        books.step(messages, np.full(messages.shape[:2], 0.9 * step_ns / 1e9))
        books.share(lambda thread, part, books: traded.append(int(books.traded[0])))
        saved = books.save_state()
        books.load_state(saved)
    assert np.diff(traded, prepend=0).tolist() == expected


def test_a_share_of_the_volume_is_that_of_the_others_on_recorded_days_too():
    """An executor that takes all it can, less its own lots, sees what one who only watches sees."""
    role = Executor(parent_lots=500, max_slice=100, reach_ticks=50.0)
    envs = [open_replay(20, roles={"executor": role}) for _ in range(2)]
    volume = np.zeros((2, 20))
    for env in envs:
        env.reset(seed=0)
    for _ in range(N_STEPS - 1):
        for k, (env, action) in enumerate(zip(envs, (1.0, -1.0), strict=True)):
            result = env.step([np.full((20, 2), action)])
            volume[k] += np.expm1(10 * result.observations[0][:, TRADED])
    done = envs[0].accounts()["lots"][:, 0]
    assert done.all()
    np.testing.assert_allclose(volume[0] - done, volume[1], atol=1e-2)  # of float32 logarithms


def test_an_answer_reaches_the_agent_that_asked_whatever_its_latency():
    roles = {f"m{lots}": Maker(max_size=lots, latency_ms=60.0 - lots) for lots in (10, 20, 50)}
    env = open_replay(20, roles=roles)
    env.reset(seed=0)
    for offset in (1.0, 0.5):  # the second quotes replace the first
        result = env.step([np.tile([offset, offset, 1.0, 1.0, 0.0], (20, 1))] * 3)
        untouched = (env.accounts()["lots"] == 0).all(axis=1)
        assert untouched.sum() > 5
        for role, seen in zip(roles.values(), result.observations, strict=True):
            for name in ("own_bid_lots", "own_ask_lots"):
                assert (seen[untouched, role.observation_names.index(name)] == 1).all()


def test_worlds_differ_in_day_and_time_and_episodes_too():
    env = open_replay(30)
    env.reset(seed=0)
    starts = [m.now_ns for m in env._books._markets.values()]
    assert len(set(starts)) == 30 and set(env._books._day) == {0, 1}
    env.reset()
    assert not set(starts) & {m.now_ns for m in env._books._markets.values()}
    for day, market in zip(env._books._day, env._books._markets.values(), strict=True):
        history = DAYS[day]
        assert market.history is history
        assert history.ts[0] <= market.now_ns <= history.ts[-1] - N_STEPS * 200_000_000


def test_a_shallow_record_can_be_replayed_too():
    tape, book = make_shallow(record_stream(4000, 2), 3)
    history = stretch(replay_tape(tape, book).history)
    history = replace(history, ts=history.ts - history.ts[0])
    env, rng = open_replay(4, True, [history]), np.random.default_rng(0)
    env.reset(seed=0)
    for _ in range(N_STEPS):
        result = env.step(draw(env, rng))
        assert all(s.contains(row) for s, seen in zip(env.observation_spaces, result.observations,
                                                      strict=True) for row in seen)  # fmt: skip
    assert env.accounts()["lots"].sum() > 0


def test_recorded_days_have_no_value_to_price_profits_at():
    with pytest.raises(MarketError, match="prices_at_value needs a value, and recorded days have"):
        open_replay(prices_at_value=True)


def test_a_view_of_one_agent_takes_recorded_days():
    env = SoleAgentEnv(Maker(), market=MARKET, books=Replayed(DAYS))
    env.reset(seed=0)
    steps = [env.step(env.action_space.sample()) for _ in range(N_STEPS)]
    assert steps[-1][3]


def test_days_that_cannot_hold_an_episode_are_refused():
    with pytest.raises(MarketError, match="no days to replay"):
        open_replay(days=[])
    long = MarketSettings(decision_ms=1000.0, episode_steps=500)
    with pytest.raises(
        MarketError, match=r"day 0 lasts \d+ s, an episode 500 s; lower episode_steps"
    ):
        open_replay(market=long)


@BOTH
def test_a_real_day_keeps_its_accounts(has_impact, tmp_path):
    history = read_real("AMZN", tmp_path).replay().history
    roles = {"maker": Maker(max_offset_ticks=10.0), "executor": Executor(parent_lots=500)}
    market = MarketSettings(decision_ms=1000.0, episode_steps=60, taker_fee_bps=0.3)
    env = open_replay(4, has_impact, [history], roles, market=market, risk=RiskLimits(),
                      auto_reset=False)  # fmt: skip
    env.reset(seed=0)
    first, rng, total = env.accounts(), np.random.default_rng(0), 0.0
    for _ in range(60):
        result = env.step(draw(env, rng))
        total += result.terms[:, :, 0]
    account, books = env.accounts(), accounts_of(env)
    assert (books[:, :, [POSITION, CASH]].sum(axis=1) == 0).all()
    value = account["position"] * account["mid"] - first["position"] * first["mid"]
    equity = 100_000.0 + account["cash"] + value * UNIT
    flat = account["position"] == 0
    flat[:, 0] = True  # makers pay nothing to close
    np.testing.assert_allclose(account["equity"][flat], equity[flat], rtol=0, atol=0.005)
    np.testing.assert_allclose(total, account["equity"] - 100_000.0, rtol=0, atol=1e-6)
    assert (account["lots"].sum(axis=0) > 0).all()
    for b, day in env._books._markets.items():
        alone = HistoricalMarket(history, has_impact=False)
        alone.advance(day.now_ns)
        if not has_impact:
            np.testing.assert_array_equal(day.depth(3), alone.depth(3), err_msg=str(b))
