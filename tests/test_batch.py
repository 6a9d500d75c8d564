"""Lock-step markets: independence, callers' messages, conservation, causality."""

import numpy as np
import pytest
from scipy import stats

from hftlib.market.batch import OBSERVATION_SIZE, BatchMarket
from hftlib.market.book import KINDS, STATUSES, BookError
from hftlib.market.ladder import LAST_PRICE, N_LIVE, TRADED
from hftlib.market.lane import MEAN, N_MESSAGES, VALUE_NOW
from hftlib.market.lockstep import run_lanes
from hftlib.market.matching import CASH, LOTS, MADE, POSITION, TOOK
from hftlib.market.tape import ADD, DELETE
from tests.book_audit import read_queues
from tests.markets import FLOW, JUMP, SECOND, SILENT, TapeBook, bits, open_batch, play, rows

N_BOOKS = 40  # two threads take 20 each


@pytest.fixture(scope="module")
def played() -> tuple[BatchMarket, list[np.ndarray]]:
    market = open_batch(N_BOOKS, n_owners=4)
    return market, play(market, 150, seed=1)


def assert_same_recordings(some, others):
    for one, other in zip(some, others, strict=True):
        for name, column in vars(one.tape).items():
            np.testing.assert_array_equal(getattr(other.tape, name), column)
        np.testing.assert_array_equal(other.snapshots, one.snapshots)


# what a book depends on


def test_the_number_of_threads_changes_nothing(played):
    market, seen = played
    threaded = open_batch(N_BOOKS, n_owners=4, n_threads=2)
    assert len(threaded._parts) == 2
    for one, other in zip(seen, play(threaded, 150, seed=1), strict=True):
        np.testing.assert_array_equal(other, one)
    assert bits(threaded) == bits(market)
    quiet = [open_batch(N_BOOKS, n_threads=n).record(200, snapshot_every=9) for n in (1, 2)]
    assert_same_recordings(*quiet)


@pytest.mark.parametrize("k", [0, 1, 39])
def test_a_book_alone_is_the_book_of_the_batch(k):
    crowd, alone = open_batch(N_BOOKS), open_batch(1, first_book=k)
    assert bits(alone) == bits(crowd, slice(k, k + 1))
    assert_same_recordings(
        alone.record(300, snapshot_every=10), [crowd.record(300, snapshot_every=10)[k]]
    )
    assert bits(alone) == bits(crowd, slice(k, k + 1))


def test_callers_of_other_books_change_nothing():
    markets = open_batch(3), open_batch(3)
    for k in range(50):
        messages = np.zeros((3, 1, 7), dtype=np.int32)
        messages[[0, 2], 0, :4] = KINDS["market"], 1 if k % 2 else -1, 0, 200
        markets[0].step(messages)
        markets[1].step()
    assert bits(markets[0], slice(1, 2)) == bits(markets[1], slice(1, 2))
    assert bits(markets[0], slice(0, 1)) != bits(markets[1], slice(0, 1))


def test_books_and_seeds_differ_and_seed_zero_is_a_seed():
    mids = set()
    for seed in (0, 1, 2):
        market = open_batch(3, seed=seed)
        market.record(300, snapshot_every=300)
        mids |= {bytes(state) for state in market.lanes.state}
    assert len(mids) == 9


def test_a_recording_in_pieces_is_the_recording_in_one():
    # more rows than the buffer holds, so that the whole is also made of several pieces inside
    n_steps, cut = 26_000, 9_998
    whole = open_batch(2).record(n_steps, snapshot_every=7, levels=4)
    assert len(whole[0].tape) > 40_000
    market = open_batch(2)
    pieces = [market.record(n, snapshot_every=7, levels=4) for n in (cut, n_steps - cut)]
    for k in range(2):
        for name, column in vars(whole[k].tape).items():
            joined = np.concatenate([getattr(piece[k].tape, name) for piece in pieces])
            np.testing.assert_array_equal(joined, column)
        joined = np.concatenate([piece[k].snapshots for piece in pieces])
        np.testing.assert_array_equal(joined, whole[k].snapshots)


def test_recording_changes_nothing():
    markets = open_batch(2), open_batch(2)
    markets[0].record(100, snapshot_every=200)  # before the first snapshot
    for _ in range(100):
        markets[1].step()
    assert bits(markets[0]) == bits(markets[1])


def test_the_clock_does_not_drift_in_a_long_day():
    market = open_batch(1, flow=SILENT, step_ms=0.7, open_ns=1_700_000_000 * SECOND, warm_up_s=0.5)
    snapshots = market.record(300_000, snapshot_every=10_000, levels=1)[0].snapshots
    expected = 1_700_000_000 * SECOND + np.arange(1, 31) * 7 * SECOND
    np.testing.assert_array_equal(snapshots[:, 0], expected)


# callers


def test_no_messages_are_messages_of_kind_zero():
    markets = [open_batch(2) for _ in range(3)]
    for _ in range(20):
        markets[0].step()
        assert (markets[1].step(np.zeros((2, 3, 7), dtype=np.int32)) == 0).all()
        assert markets[2].step(np.zeros((2, 0, 7), dtype=np.int32)).shape == (2, 0, 4)
    assert bits(markets[0]) == bits(markets[1]) == bits(markets[2])


def test_orders_rest_trade_and_cancel_as_acknowledged():
    market = open_batch(1, flow=SILENT, n_owners=3)
    assert market.lanes.state[0, N_LIVE] == 0
    acks = market.step(
        rows(
            {"kind": "limit", "side": 1, "price": 100, "qty": 9, "owner": 1},
            {},
            {"kind": "limit", "side": -1, "price": 104, "qty": 5, "owner": 2},
            {"kind": "limit", "side": -1, "price": 100, "qty": 4, "owner": 2},
            {"kind": "limit", "side": 1, "price": 99, "qty": 1, "owner": 3},
        )
    )[0]
    assert acks[:, 0].tolist() == [0, 0, 0, 0, STATUSES.index("owner has no account")]
    assert acks[:, 2].tolist() == [0, 0, 0, 4, 0]  # the fourth met the first
    assert acks[:, 3].tolist() == [9, 0, 5, 0, 0]
    bid, ask = int(acks[0, 1]), int(acks[2, 1])
    assert bid > 0 < ask
    accounts = market.lanes.accounts[0]
    assert accounts[1].tolist() == [4, -400, 400, 0, 4]
    assert accounts[2].tolist() == [-4, 400, 0, 400, 4]
    assert market.lanes.state[0, LAST_PRICE] == 100
    acks = market.step(
        rows(
            {"kind": "cancel", "owner": 2, "handle": bid},
            {"kind": "cancel", "owner": 1, "handle": bid},
            {"kind": "cancel", "owner": 1, "handle": bid},
            {"kind": "reduce", "owner": 2, "handle": ask, "qty": 2},
        )
    )[0]
    refusals = [STATUSES.index(s) for s in ("order belongs to another owner", "no such order")]
    assert acks[:, 0].tolist() == [refusals[0], 0, refusals[1], 0]
    assert acks[3].tolist() == [0, ask, 0, 3]
    assert [*read_queues(market.lanes.state[0])[-1]] == [104]
    assert market.lanes.state[0, N_LIVE] == 1


def test_resting_orders_of_callers_fill_in_the_flow_and_show_in_their_accounts():
    market = open_batch(N_BOOKS)
    messages = np.zeros((N_BOOKS, 2, 7), dtype=np.int32)
    messages[:, :, 0], messages[:, :, 3], messages[:, :, 4] = KINDS["limit"], 20, 1
    messages[:, 0, 1:3], messages[:, 1, 1:3] = (1, 21_988), (-1, 22_012)
    handles = market.step(messages)[:, :, 1]
    for _ in range(3_000):
        market.step()
    held = market.lanes.accounts[:, 1, POSITION]
    np.testing.assert_array_equal(market.observe()[:, 3], held)
    for state, position, pair in zip(market.lanes.state, held, handles, strict=True):
        queues = read_queues(state)
        left = [
            sum(q for level in queues[s].values() for h, q, *_ in level if h == handle)
            for s, handle in zip((1, -1), pair, strict=True)
        ]
        assert position == (20 - left[0]) - (20 - left[1])
    # within five minutes some quotes 12 ticks away trade, and some do not
    assert 0 < (held != 0).mean() < 1


def test_callers_arrays_are_left_alone():
    market = open_batch(1)
    message = rows({"kind": "limit", "side": 1, "price": 100, "qty": 9, "tag": 77})
    message.flags.writeable = False
    before = message.copy()
    market.step(message)
    np.testing.assert_array_equal(message, before)
    other = open_batch(1)
    other.step(np.repeat(message, 2, axis=2)[:, :, ::2])  # and may lie in memory as they like
    assert bits(other) == bits(market)


# what holds in every book


def test_money_and_lots_are_conserved_and_books_are_sound(played):
    market, _ = played
    accounts = market.lanes.accounts
    assert (accounts[:, :, (POSITION, CASH)].sum(axis=1) == 0).all()
    np.testing.assert_array_equal(accounts[:, :, MADE].sum(1), accounts[:, :, TOOK].sum(1))
    assert (accounts[:, 1:, TOOK] > 0).all()
    lots = (accounts - open_batch(N_BOOKS, n_owners=4).lanes.accounts)[:, :, LOTS]
    np.testing.assert_array_equal(lots.sum(1), 2 * market.lanes.state[:, TRADED])
    assert (lots > 0).all()
    for state in market.lanes.state:
        read_queues(state)  # levels, links, best prices, never crossed


def test_callers_numbers_make_no_difference_to_the_tags_of_orders(played):
    for state in played[0].lanes.state:
        queues = read_queues(state)
        tags = [tag for side in queues.values() for level in side.values() for *_, tag in level]
        assert len(set(tags)) == len(tags)


def test_acknowledgements_speak_the_truth(played):
    market, seen = played
    acks = np.stack(seen[::2])
    assert set(np.unique(acks[..., 0])) <= set(range(len(STATUSES)))
    assert len(np.unique(acks[..., 0])) > 8
    # an order rests exactly if it has a handle
    np.testing.assert_array_equal(acks[..., 1] > 0, acks[..., 3] > 0)
    live = {
        handle
        for side in read_queues(market.lanes.state[7]).values()
        for level in side.values()
        for handle, _, owner, _ in level
        if owner > 0
    }
    assert live <= set(acks[:, 7, :, 1].ravel().tolist())


def test_later_messages_do_not_change_the_past():
    markets = [open_batch(N_BOOKS, n_owners=4) for _ in range(2)]
    pasts = [play(market, 30, seed=3) for market in markets]
    futures = [play(market, 5, seed=seed) for market, seed in zip(markets, (4, 5), strict=True)]
    for one, other in zip(*pasts, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(futures[0][-1], futures[1][-1])


def test_orders_that_find_no_room_are_counted_and_refuse_the_recording(monkeypatch):
    assert open_batch(2).n_lost == 0
    market = open_batch(2, capacity=32, warm_up_s=0.0)
    before, books = market.n_lost, [TapeBook.of_state(state) for state in market.lanes.state]
    with monkeypatch.context() as patch:
        patch.setattr(BatchMarket, "n_lost", 0)
        recordings = market.record(600, snapshot_every=10)
    assert market.n_lost > before + 100
    with pytest.raises(BookError, match=r"\d+ orders found no room; raise the capacity.* is 32"):
        open_batch(2, capacity=32, warm_up_s=0.0).record(600, snapshot_every=10)
    for book, recording, state in zip(books, recordings, market.lanes.state, strict=True):
        book.replay(recording.tape)  # they are nowhere on the tape
        assert book.sides == TapeBook.of_state(state).sides


def test_a_step_with_more_events_than_rows_is_refused():
    flow = FLOW._replace(rate_hz=20_000.0)
    with pytest.raises(BookError, match="events came in one step, with room for 33792: shorten"):
        open_batch(1, flow=flow, step_ms=20_000.0, warm_up_s=0.0).record(1, snapshot_every=1)


# the flow behind it


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
    tape = open_batch(1, flow=flow, session_s=1e9).record(36_000, snapshot_every=36_000)[0].tape
    assert set(tape.kind.tolist()) == {ADD, DELETE}
    born = dict(zip(tape.order_id[tape.kind == ADD], tape.ts[tape.kind == ADD], strict=True))
    gone = tape.kind == DELETE
    lives = [
        (ts - born[o]) / SECOND
        for o, ts in zip(tape.order_id[gone], tape.ts[gone], strict=True)
        if o in born and born[o] < 3_500 * SECOND
    ]
    assert len(lives) > 10_000
    assert stats.kstest(lives, "expon", (0, 3.0 / (1 + 2 * day))).pvalue > 1e-3


def test_the_flow_sends_at_its_mean_rate():
    flow = FLOW._replace(
        branching=(0.2, 0.1, 0.1),
        decay_hz=(10.0, 1.0, 0.5),
        news_share=0.0,
        day_shape=0.0,
        day_tilt=0.0,
        lifetime_shares=(0.0, 0.0, 1.0),
        lifetimes_s=(1e9, 1e9, 1e9),  # no cancels: a message an act, a second one of makers
    )
    market = open_batch(N_BOOKS, flow=flow, capacity=8192)
    before = market.lanes.counters[:, N_MESSAGES].copy()
    for _ in range(1_000):
        market.step()
    messages = market.lanes.counters[:, N_MESSAGES] - before
    rate = messages / 100 / (1 + flow.role_shares[4])
    # 900 acts with variance ratio 1 / .6^2 a book
    error = np.sqrt(9.0 / 100 / 0.36 / N_BOOKS)
    assert rate.mean() == pytest.approx(9.0, abs=5 * error)


@pytest.mark.parametrize("capacity", [32, 1024])
def test_every_resting_order_of_the_flow_is_listed_once_for_its_cancel(capacity):
    market = open_batch(2, capacity=capacity)
    for _ in range(2_000):
        market.step()
    for b in range(2):
        lists = zip(market.lanes.resting[b], market.lanes.n_resting[b], strict=True)
        listed = np.concatenate([handles[:n] for handles, n in lists]).tolist()
        assert len(set(listed)) == len(listed)
        queues = read_queues(market.lanes.state[b])
        live = {h for side in queues.values() for level in side.values() for h, *_ in level}
        assert len(live) > 10
        assert live <= set(listed)


def test_the_value_moves_at_the_pace_of_activity():
    flow = FLOW._replace(news_share=0.0, day_shape=0.0, day_tilt=0.0, decay_hz=(10.0, 1.0, 0.5))
    market = open_batch(1_500, flow=flow, warm_up_s=0.0, value=JUMP._replace(jump_hz=0.0))
    for _ in range(100):
        market.step()
    moves = np.log(market.lanes.clock[:, VALUE_NOW] / JUMP.start)
    # ten seconds of mean activity 1, whose own spread fattens the tails: 6 sampling errors
    assert moves.var() == pytest.approx(JUMP.volatility**2 * 10, rel=6 * np.sqrt(2 / 1_500))
    # and nearly thrice as fast at such an open, even if nobody acts
    day = SILENT._replace(branching=(0.0, 0.0, 0.0), news_share=0.0, day_shape=0.9, day_tilt=0.9)
    market = open_batch(1_500, flow=day, warm_up_s=0.0, value=JUMP._replace(jump_hz=0.0))
    market.step()
    moves = np.log(market.lanes.clock[:, VALUE_NOW] / JUMP.start)
    expected = JUMP.volatility**2 * 0.1 * (1 + day.day_shape + day.day_tilt)
    assert moves.var() == pytest.approx(expected, rel=6 * np.sqrt(2 / 1_500))


def test_the_mean_of_the_mid_forgets_at_its_time_scale():
    market = open_batch(1, flow=SILENT, value=JUMP._replace(volatility=0.0, jump_hz=0.0))
    orders = [{"kind": "limit", "side": s, "price": 22_100 - 5 * s, "qty": 1} for s in (1, -1)]
    market.step(rows(*orders))
    for _ in range(99):
        market.step()
    expected = 22_100 - 100 * np.exp(-10 / SILENT.trend_s)
    assert market.lanes.clock[0, MEAN] == pytest.approx(expected, abs=1e-6)


def test_whole_numbers_are_as_good_as_floats():
    """And compile no kernel anew."""
    whole = {"session_s": 23_400, "step_ms": 100, "value": JUMP._replace(start=22_000, drift=0)}
    floats = bits(open_batch(1))
    n_compiled = len(run_lanes.signatures)
    assert bits(open_batch(1, **whole)) == floats
    assert len(run_lanes.signatures) == n_compiled > 0


# observations


def observe_by_hand(market: BatchMarket, b: int, owner: int) -> list[float]:
    queues = read_queues(market.lanes.state[b])
    levels = {
        side: [
            (price, sum(q for _, q, *_ in queues[side][price]))
            for price in sorted(queues[side], reverse=side > 0)[:3]
        ]
        for side in (1, -1)
    }
    best = {side: levels[side][0] if levels[side] else (0, 0) for side in levels}
    total = best[1][1] + best[-1][1]
    row = [0.0, (best[1][1] - best[-1][1]) / total if total else 0.0, 0.0]
    both = bool(levels[1]) and bool(levels[-1])
    mid = (best[1][0] + best[-1][0]) / 2
    if both:
        row[0], row[2] = best[-1][0] - best[1][0], mid - market.lanes.clock[b, MEAN]
    row.append(market.lanes.accounts[b, owner, POSITION])
    for k in range(3):
        for side in (1, -1):
            price, lots = levels[side][k] if k < len(levels[side]) else (0, 0)
            row += [abs(price - mid) if both and lots else 0.0, lots]
    return row


def test_observations_are_the_depth_of_the_books(played):
    market, _ = played
    for owner in (1, 3):
        observation = market.observe(owner)
        assert observation.shape == (N_BOOKS, OBSERVATION_SIZE)
        assert observation.dtype == np.float32
        expected = [observe_by_hand(market, b, owner) for b in range(N_BOOKS)]
        np.testing.assert_allclose(observation, expected, rtol=1e-6)


def test_an_empty_a_one_sided_and_a_thin_book_are_observed():
    value = JUMP._replace(volatility=0.0, jump_hz=0.0)
    market = open_batch(1, flow=SILENT, value=value)
    orders = [
        {},
        {"kind": "limit", "side": 1, "price": 22_000, "qty": 9, "owner": 1},
        {"kind": "limit", "side": -1, "price": 22_003, "qty": 3},
        {"kind": "limit", "side": -1, "price": 30_000, "qty": 4},
        {"kind": "market", "side": -1, "qty": 2},
    ]
    expected = [
        [0.0] * 16,
        [0, 1, 0, 0, 0, 9, *[0.0] * 10],
        [3, 0.5, 1.5, 0, 1.5, 9, 1.5, 3, *[0.0] * 8],
        [3, 0.5, 1.5, 0, 1.5, 9, 1.5, 3, 0, 0, 7998.5, 4, *[0.0] * 4],
        [3, 0.4, 1.5, 2, 1.5, 7, 1.5, 3, 0, 0, 7998.5, 4, *[0.0] * 4],
    ]
    for order, row in zip(orders, expected, strict=True):
        market.step(rows(order))
        mean = market.lanes.clock[0, MEAN]
        assert mean == pytest.approx(22_000, abs=0.1)  # has hardly moved in half a second
        seen = market.observe()[0].astype(float)
        if row[2]:
            row[2] = 22_001.5 - mean
        np.testing.assert_allclose(seen, row, rtol=1e-6)


# faults


@pytest.mark.parametrize(
    ("messages", "received"),
    [
        (np.zeros((2, 3, 7)), r"float64 of shape \(2, 3, 7\)"),
        (np.zeros((2, 3, 7), dtype=np.int64), r"int64 of shape \(2, 3, 7\)"),
        (np.zeros((3, 3, 7), dtype=np.int32), r"int32 of shape \(3, 3, 7\)"),
        (np.zeros((2, 3, 6), dtype=np.int32), r"int32 of shape \(2, 3, 6\)"),
        (np.zeros((2, 7), dtype=np.int32), r"int32 of shape \(2, 7\)"),
        (np.zeros((2, 3, 7, 1), dtype=np.int32), r"int32 of shape \(2, 3, 7, 1\)"),
    ],
)
def test_messages_of_another_shape_or_type_are_refused(messages, received):
    market = open_batch(2, warm_up_s=0.0)
    before = bits(market)
    expected = r"expected int32 of shape \(2, n_messages, 7\), received "
    with pytest.raises(BookError, match=expected + received):
        market.step(messages)
    assert bits(market) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_books": 0}, "n_books 0"),
        ({"n_owners": 0}, "n_owners 0"),
        ({"step_ms": 0.0}, "step_ms 0.0"),
        ({"session_s": -1.0}, "session_s -1.0"),
        ({"warm_up_s": -1.0}, "warm_up_s -1.0 and .* must not be negative"),
        ({"value": JUMP._replace(reversion_hz=-0.1)}, "reversion_hz -0.1 must not be negative"),
        ({"first_book": -1}, r"first_book -1: expected a number in \[0, 2\*\*62\]"),
        ({"first_book": 2**63 - 1}, "first_book 9223372036854775807: expected"),
        ({"window": 100}, "window 100: expected a power of two"),
        ({"capacity": 0}, "capacity 0: expected a power of two"),
        ({"flow": FLOW._replace(n_parents=9)}, "n_parents 9: expected 1 to 4"),
    ],
)
def test_numbers_out_of_their_range_are_refused(changes, message):
    with pytest.raises(BookError, match=message):
        BatchMarket(**{"n_books": 1, "flow": FLOW, "value": JUMP, "seed": 0, **changes})


@pytest.mark.parametrize("owner", [-1, 2])
def test_an_owner_without_an_account_sees_nothing(owner):
    with pytest.raises(BookError, match=f"owner {owner}: expected one of the 2 accounts"):
        open_batch(1, warm_up_s=0.0).observe(owner)
