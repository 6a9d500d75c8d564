"""The market with agents: latency, causality, conservation, makers' quotes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hftlib.market.book import BookError
from hftlib.market.calendar import N_WAITING, next_time, open_calendar, pop
from hftlib.market.draws import open_streams
from hftlib.market.floor import (
    MEAN,
    MEMORY,
    N_MESSAGES,
    N_QUOTES,
    SECONDS,
    W_AGENT,
    W_HANDLE,
    W_KIND,
    W_PRICE,
    W_QTY,
    W_SIDE,
    Floor,
    delay,
    publish,
    see,
    wake,
)
from hftlib.market.flow import MAKER, NOISE, SPLITTER, VALUE, Quotes
from hftlib.market.matching import CANCEL, CASH, LIMIT, LOTS, MADE, POSITION, TOOK
from hftlib.market.record import quotes_of
from hftlib.market.simulator import Simulator, _run
from hftlib.market.tape import ADD, DELETE, EXECUTE
from tests.book_audit import read_queues
from tests.markets import AGENTS, FLOW, OU, SECOND, open_simulator

FROZEN = OU._replace(volatility=0.0, shock_hz=0.0)  # the value stays at 22,000
INSTANT = AGENTS._replace(entry_ms=0.0, response_ms=0.0)
CROWDED = AGENTS._replace(n_agents=(200, 20, 20, 12, 6, 10))


def bits(simulator: Simulator) -> list[bytes]:
    return [array.tobytes() for array in (*simulator.floor, *simulator.calendar)]


def waiting(simulator: Simulator) -> np.ndarray:
    """Payloads of the calendar's entries."""
    calendar = simulator.calendar
    return calendar.payloads[calendar.slots[: calendar.counters[N_WAITING]]]


def columns(recordings) -> list[np.ndarray]:
    """Tape columns and snapshots of recordings, each joined."""
    tapes = [list(vars(recording.tape).values()) for recording in recordings]
    joined = [np.concatenate(parts) for parts in zip(*tapes, strict=True)]
    return [*joined, np.concatenate([recording.snapshots for recording in recordings])]


@pytest.fixture(scope="module")
def session():
    """A simulator after two minutes, and what it recorded of them."""
    simulator = open_simulator(population=CROWDED)
    before = simulator.floor.accounts.copy()
    return simulator, simulator.record(1_200, snapshot_every=10), before


# determinism


def test_a_session_depends_on_its_seed_alone(session):
    simulator, recording, _ = session
    again = open_simulator(population=CROWDED)
    for one, other in zip(
        columns([recording]), columns([again.record(1_200, snapshot_every=10)]), strict=True
    ):
        np.testing.assert_array_equal(other, one)
    assert bits(again) == bits(simulator)


def test_sessions_of_different_seeds_differ_and_seed_zero_is_a_seed(session):
    books = {session[0].floor.state.tobytes()}
    for seed in (1, 2):
        other = open_simulator(population=CROWDED, seed=seed)
        other.record(1_200, snapshot_every=10)
        books.add(other.floor.state.tobytes())
        assert (other.floor.delays_ns != session[0].floor.delays_ns).all()
    assert len(books) == 3


def test_a_recording_in_pieces_is_the_recording_in_one():
    # more rows than the buffer holds, so that the whole is also made of several pieces inside
    n_steps, cut = 40_000, 12_345
    simulators = [open_simulator() for _ in range(2)]
    whole = simulators[0].record(n_steps, snapshot_every=7, levels=3)
    assert len(whole.tape) > 8 * 8_192
    pieces = [simulators[1].record(n, snapshot_every=7, levels=3) for n in (cut, n_steps - cut)]
    for one, other in zip(columns([whole]), columns(pieces), strict=True):
        np.testing.assert_array_equal(other, one)


def test_the_clock_does_not_drift_in_a_long_day():
    flow = FLOW._replace(rate_hz=1e-12)
    simulator = open_simulator(
        flow=flow, step_ms=0.7, open_ns=1_700_000_000 * SECOND, warm_up_s=0.5
    )
    snapshots = simulator.record(300_000, snapshot_every=10_000, levels=1).snapshots
    expected = 1_700_000_000 * SECOND + np.arange(1, 31) * 7 * SECOND
    np.testing.assert_array_equal(snapshots[:, 0], expected)


# conservation


def test_money_and_lots_are_conserved_over_the_agents(session):
    simulator, recording, before = session
    accounts = simulator.floor.accounts
    assert (accounts[:, (POSITION, CASH)].sum(axis=0) == 0).all()
    assert accounts[:, MADE].sum() == accounts[:, TOOK].sum()
    assert (accounts[0] == 0).all()  # nobody is anonymous
    tape = recording.tape
    trades = tape.kind == EXECUTE
    sizes = tape.size[trades].astype(np.int64)
    booked = (accounts - before).sum(axis=0)
    assert booked[MADE] == (sizes * tape.price[trades]).sum() > 0
    assert booked[LOTS] == 2 * sizes.sum()
    read_queues(simulator.floor.state)


def test_makers_know_their_lots_but_for_news_on_the_way(session):
    simulator, _, _ = session
    floor, first = simulator.floor, simulator.floor.first_agent
    known = floor.known.copy()
    for entry in waiting(simulator):
        if entry[W_KIND] == 0:
            known[entry[W_AGENT]] += entry[W_QTY]
    makers = slice(first[MAKER], first[MAKER + 1])
    np.testing.assert_array_equal(known[makers], floor.accounts[1:][makers, POSITION])
    assert (floor.accounts[1:][makers, POSITION] != 0).any()
    assert (np.delete(floor.known, np.r_[makers]) == 0).all()


# latency


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(0, 3 * MEMORY), st.data())
def test_agents_see_the_last_quotes_published_by_then(empty_floor, gaps, begun, data):
    """A ring with `begun` entries at time 0, then one after each gap."""
    times = [0] * begun + np.cumsum(gaps).tolist()
    at = data.draw(st.integers(-1, times[-1] + 2))
    for k, time in enumerate(times[-MEMORY:], start=max(0, len(times) - MEMORY)):
        empty_floor.seen_ns[k % MEMORY] = time
        empty_floor.seen[k % MEMORY] = [k, k + 1, k + 2, k + 3]
        empty_floor.seen_trend[k % MEMORY] = k / 2
    empty_floor.counters[N_QUOTES] = len(times)
    oldest = max(0, len(times) - MEMORY)
    k = max(int(np.searchsorted(times, at, side="right")) - 1, oldest)
    q, trend = see(empty_floor, at, 3e-9)
    assert q == Quotes(k, k + 1, k + 2, k + 3)
    assert trend == pytest.approx(k / 2 * np.exp(-max(0, at - times[k]) / 3))


def test_quotes_and_trend_are_published_as_they_are(session):
    floor = clone(session[0].floor)
    q, ts = quotes_of(floor.state), 10**15
    floor.clock[MEAN] = (q.bid + q.ask) / 2 - 7
    publish(floor, ts)
    assert see(floor, ts, FLOW.trend_s) == (q, 7.0)


@pytest.fixture(scope="module")
def empty_floor() -> Floor:
    return open_simulator(warm_up_s=0.0).floor


def clone(floor: Floor) -> Floor:
    return Floor._make(array.copy() for array in floor)


def orders_of_wakes(floor: Floor, simulator: Simulator, ts: int, n: int = 300):
    """Calendar entries, in order, that many agents make who wake at one moment."""
    floor = clone(floor)
    floor.stream[:] = open_streams(77, 0)[0]
    calendar = open_calendar(8 * n)
    for _ in range(n):
        wake(floor, calendar, simulator.flow, simulator.rules, ts)
    entries = []
    while calendar.counters[N_WAITING]:
        time = next_time(calendar)
        entries.append((time, *calendar.payloads[pop(calendar)].tolist()))
    return entries


def test_what_happened_within_the_response_latency_changes_no_order(session):
    """The market's present is scrambled: those who see it late decide as before."""
    simulator, _, _ = session
    now = simulator.rules.open_ns + round(simulator.floor.clock[SECONDS] * 1e9)
    present = simulator.floor
    latest = now + 10 * SECOND  # the book was quiet for ten seconds, then
    scrambled = clone(present)
    rng = np.random.default_rng(0)
    for k in range(present.counters[N_QUOTES], present.counters[N_QUOTES] + 40):
        scrambled.seen_ns[k % MEMORY] = latest - 1_000
        scrambled.seen[k % MEMORY] = rng.integers(1, 50_000, 4)
        scrambled.seen_trend[k % MEMORY] = rng.normal(0, 500)
    scrambled.counters[N_QUOTES] += 40
    scrambled.clock[MEAN] += 300
    scrambled.accounts[:, POSITION] += rng.integers(-500, 500, len(scrambled.accounts))
    scrambled.state[:] = open_simulator(warm_up_s=5.0, seed=9).floor.state
    entries = orders_of_wakes(present, simulator, latest)
    assert len(entries) > 300
    assert orders_of_wakes(scrambled, simulator, latest) == entries
    # a second later all have seen it
    later = [orders_of_wakes(f, simulator, latest + SECOND) for f in (present, scrambled)]
    assert later[1] != later[0]


def test_agents_who_have_seen_nothing_quote_around_the_value():
    """With a response of an hour the quotes are those of the empty book before the session."""
    population = AGENTS._replace(response_ms=3.6e6, n_agents=(50, 50, 50, 50, 0, 50))
    simulator = open_simulator(
        population=population._replace(value_error=0.0), value=FROZEN, warm_up_s=0.0
    )
    tape = simulator.record(300, snapshot_every=300).tape
    away = 1 + int(FLOW.behind_scale)
    added = tape.kind == ADD
    assert added.sum() > 50
    np.testing.assert_array_equal(tape.price[added], OU.mean - away * tape.direction[added])
    assert not (tape.kind == EXECUTE).any()
    # with a response of two milliseconds they see, and trade
    quick = open_simulator(population=AGENTS, value=FROZEN, warm_up_s=0.0)
    assert (quick.record(300, snapshot_every=300).tape.kind == EXECUTE).any()


def test_orders_arrive_after_their_entry_latency():
    steady = AGENTS._replace(entry_ms=700.0, jitter=0.0)
    simulator = open_simulator(population=steady, warm_up_s=0.0)
    floor = simulator.floor
    entries = orders_of_wakes(floor, simulator, 5 * SECOND)
    assert len(entries) > 250
    for time, *payload in entries:
        assert time == 5 * SECOND + int(floor.delays_ns[payload[W_AGENT], 1])
    # so that nothing happens before the fastest of them
    tape = simulator.record(100, snapshot_every=100).tape
    assert tape.ts[0] >= floor.delays_ns[:, 1].min() > 0.05 * SECOND
    never = open_simulator(population=AGENTS._replace(entry_ms=3.6e6, maker_speed=1.0))
    assert len(never.record(600, snapshot_every=600).tape) == 0
    assert never.floor.counters[N_MESSAGES] == 0
    assert never.calendar.counters[N_WAITING] > 100


def test_latencies_have_the_stated_medians():
    many = AGENTS._replace(n_agents=(4_000, 0, 0, 0, 4_000, 0))
    delays = np.log(open_simulator(population=many, warm_up_s=0.0).floor.delays_ns / 1e6)
    error = 5 * 0.5 * 1.2533 / np.sqrt(4_000)  # of a median
    for agents, ms in ((delays[:4_000], 2.0), (delays[4_000:], 2.0 * AGENTS.maker_speed)):
        assert np.median(agents, axis=0) == pytest.approx(np.log([ms, ms]), abs=error)
        assert np.corrcoef(agents.T)[0, 1] == pytest.approx(0, abs=5 / np.sqrt(4_000))


def test_latency_jitters_by_its_log_deviation(empty_floor):
    floor = clone(empty_floor)
    floor.delays_ns[3] = 1e6, 5e6
    for way in (0, 1):
        rules = open_simulator(warm_up_s=0.0).rules
        sample = [delay(floor, rules, 3, way) for _ in range(4_000)]
        scaled = np.log(np.array(sample) / floor.delays_ns[3, way]) / AGENTS.jitter
        assert stats.kstest(scaled, "norm").pvalue > 1e-3


@pytest.mark.parametrize("day", [0.0, 0.9])
def test_orders_live_for_exponential_times_that_shrink_with_activity(day):
    # nobody but passive noise, far behind: every order ends by its cancel; the rate of acts
    # stays what it is at the open, 1 + 2 * day over its mean
    flow = FLOW._replace(
        branching=(0.0, 0.0, 0.0),
        news_share=0.0,
        day_shape=day,
        day_tilt=day,
        role_shares=(1.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        inside_share=0.0,
        best_share=0.0,
        lifetime_shares=(0.0, 1.0, 0.0),
        lifetimes_s=(1.0, 3.0, 1.0),
    )
    simulator = open_simulator(flow=flow, session_s=1e9, population=INSTANT)
    tape = simulator.record(20_000, snapshot_every=1_000).tape
    assert set(tape.kind.tolist()) == {ADD, DELETE}
    born = dict(zip(tape.order_id[tape.kind == ADD], tape.ts[tape.kind == ADD], strict=True))
    gone = tape.kind == DELETE
    lives = [
        (ts - born[o]) / SECOND
        for o, ts in zip(tape.order_id[gone], tape.ts[gone], strict=True)
        if o in born and born[o] < 1_900 * SECOND
    ]
    assert len(lives) > 8_000
    assert stats.kstest(lives, "expon", (0, 3.0 / (1 + 2 * day))).pvalue > 1e-3


# agents


@pytest.mark.parametrize("entry_ms", [2.0, 400.0])
def test_a_maker_has_one_quote_a_side_once_its_cancels_arrive(entry_ms):
    """Also where makers quote anew before their last quotes have arrived."""
    slow = CROWDED._replace(entry_ms=entry_ms, response_ms=entry_ms, maker_speed=1.0, jitter=1.0)
    simulator = open_simulator(population=slow)
    floor, n_live = simulator.floor, 0
    makers = range(*floor.first_agent[[MAKER, MAKER + 1]].tolist())
    for _ in range(40):
        simulator.record(25, snapshot_every=25)
        entries = waiting(simulator)
        cancelled = set(entries[entries[:, W_KIND] == CANCEL, W_HANDLE].tolist())
        queues = read_queues(floor.state)
        for agent in makers:
            for place, side in enumerate((1, -1)):
                live = {
                    handle
                    for level in queues[side].values()
                    for handle, _, owner, _ in level
                    if owner == agent + 1
                }
                assert live - cancelled <= {int(floor.quoted[agent, place])}
                n_live += len(live - cancelled)
    assert n_live > 100


def test_a_maker_cancels_each_quote_once():
    alone = AGENTS._replace(
        n_agents=(0, 0, 0, 0, 1, 0), entry_ms=400.0, maker_speed=1.0, jitter=0.0
    )
    simulator = open_simulator(population=alone, value=FROZEN)
    n_cancels = 0
    for _ in range(100):
        simulator.record(3, snapshot_every=3)
        queues = read_queues(simulator.floor.state)
        live = {h for side in queues.values() for level in side.values() for h, *_ in level}
        entries = waiting(simulator)
        cancels = entries[entries[:, W_KIND] == CANCEL, W_HANDLE].tolist()
        assert len(set(cancels)) == len(cancels)
        assert set(cancels) <= live  # nobody trades with it
        n_cancels += len(cancels)
    assert n_cancels > 20


def test_every_other_resting_order_waits_for_its_cancel(session):
    simulator, _, _ = session
    first = simulator.floor.first_agent
    entries = waiting(simulator)
    cancels = entries[entries[:, W_KIND] == CANCEL, W_HANDLE].tolist()
    assert len(set(cancels)) == len(cancels)
    for side in read_queues(simulator.floor.state).values():
        for level in side.values():
            for handle, _, owner, _ in level:
                if not first[MAKER] < owner <= first[MAKER + 1]:
                    assert handle in cancels


def test_a_maker_moves_its_quotes_against_what_it_knows_to_hold():
    flow = FLOW._replace(role_shares=(0.0, 0.0, 0.0, 0.0, 1.0, 0.0), maker_skew=0.0)
    population = AGENTS._replace(maker_inventory_skew=0.01, value_error=0.0)
    simulator = open_simulator(flow=flow, value=FROZEN, population=population, warm_up_s=0.0)
    mids = []
    for held in (0, 2_000, -2_000):
        floor = clone(simulator.floor)
        floor.known[:] = held
        entries = orders_of_wakes(floor, simulator, SECOND)
        prices = np.array([(p[W_SIDE], p[W_PRICE]) for _, *p in entries if p[W_KIND] == LIMIT])
        mids.append(sum(prices[prices[:, 0] == side, 1].mean() for side in (1, -1)) / 2)
    # rounding outwards moves a mid by half a tick at most
    assert np.array(mids) - OU.mean == pytest.approx([0, -20, 20], abs=0.5)


@pytest.mark.parametrize(
    "n_agents", [(0,) * 6, (30, 0, 0, 0, 0, 0), (0, 0, 0, 0, 1, 0), (30, 5, 0, 0, 0, 5)]
)
def test_roles_may_be_empty(n_agents):
    simulator = open_simulator(population=AGENTS._replace(n_agents=n_agents))
    tape = simulator.record(600, snapshot_every=100).tape
    busy = simulator.floor.accounts.any(axis=1)
    assert (len(tape) > 0) == (sum(n_agents) > 0)
    assert (tape.kind == EXECUTE).any() == (n_agents[NOISE] > 0) == busy.any()


def test_only_value_traders_err_about_the_value():
    floor = open_simulator(
        population=AGENTS._replace(n_agents=(50, 50, 4_000, 50, 50, 50)), warm_up_s=0.0
    ).floor
    first = floor.first_agent
    errors = floor.errors[first[VALUE] : first[VALUE + 1]]
    assert errors.std() == pytest.approx(AGENTS.value_error, rel=5 / np.sqrt(2 * 4_000))
    assert errors.mean() == pytest.approx(0, abs=5 * AGENTS.value_error / np.sqrt(4_000))
    assert np.count_nonzero(floor.errors) == len(errors)
    assert first.tolist() == [0, 50, 100, 4_100, 4_150, 4_200, 4_250]
    assert first[SPLITTER + 1] == len(floor.errors)


def test_whole_numbers_are_as_good_as_floats(session):
    """And compile no kernel anew."""
    whole = {
        "session_s": 23_400,
        "step_ms": 100,
        "value": OU._replace(mean=22_000),
        "population": CROWDED._replace(entry_ms=2, jitter=1),
    }
    floats = open_simulator(population=CROWDED._replace(jitter=1.0))
    n_compiled = len(_run.signatures)
    assert bits(open_simulator(**whole)) == bits(floats)
    assert len(_run.signatures) == n_compiled > 0


# faults


def test_a_book_too_small_is_refused_when_it_has_lost_orders():
    simulator = open_simulator(capacity=64)
    with pytest.raises(BookError, match=r"\d+ orders or messages found no room; .* is 64"):
        simulator.record(6_000, snapshot_every=10)
    assert simulator.n_lost > 0


def test_a_calendar_too_small_is_refused_when_it_has_lost_messages():
    simulator = open_simulator()
    simulator.calendar = open_calendar(16)
    assert simulator.n_lost == 0
    with pytest.raises(BookError, match=r"\d+ orders or messages found no room; .* is 8192"):
        simulator.record(600, snapshot_every=10)


def test_a_step_with_more_events_than_rows_is_refused():
    flow = FLOW._replace(rate_hz=20_000.0, lifetimes_s=(1e-3, 1e-3, 1e-3))
    simulator = open_simulator(flow=flow, step_ms=5_000.0, warm_up_s=0.0, population=INSTANT)
    with pytest.raises(BookError, match="events came in one step, with room for 73728: shorten"):
        simulator.record(1, snapshot_every=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step_ms": 0.0}, "step_ms 0.0"),
        ({"session_s": 0.0}, "session_s 0.0"),
        ({"warm_up_s": -1.0}, "warm_up_s -1.0"),
        ({"window": 100}, "window 100: expected a power of two"),
        ({"capacity": 3}, "capacity 3: expected a power of two"),
        ({"flow": FLOW._replace(rate_hz=-1.0)}, "rate_hz -1.0: expected a positive number"),
        ({"population": AGENTS._replace(n_agents=(1, 2))}, r"n_agents \(1, 2\): expected 6 counts"),
        ({"population": AGENTS._replace(n_agents=(1, 2, 3, 4, 5, -6))}, "expected 6 counts"),
        ({"population": AGENTS._replace(entry_ms=-1.0)}, "entry_ms=-1.0.*from 0 up"),
        ({"population": AGENTS._replace(jitter=-1.0)}, "jitter=-1.0.*from 0 up"),
    ],
)
def test_numbers_out_of_their_range_are_refused(changes, message):
    with pytest.raises(BookError, match=message):
        open_simulator(**changes)
