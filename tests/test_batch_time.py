"""When callers' messages arrive, what they cannot change, and markets opened anew."""

import numpy as np
import pytest
from scipy import stats

from hftlib.market.batch import BatchMarket
from hftlib.market.book import KINDS, BookError
from hftlib.market.ladder import LAST_PRICE
from hftlib.market.lane import N_STEPS, SECONDS, VALUE_NOW
from hftlib.market.lockstep import mail_of
from hftlib.market.matching import M_KIND, M_OWNER, M_PRICE, M_QTY, M_SIDE, POSITION
from hftlib.market.record import N_COLUMNS, tape_of
from hftlib.market.tape import ADD, DELETE, Tape
from tests.markets import FLOW, JUMP, SECOND, SILENT, TapeBook, bits, open_batch, play, rows

STEP_S = 0.1  # of `open_batch`
NEWS = FLOW._replace(news_hz=0.2)
JUMPS = JUMP._replace(jump_hz=0.5)


def orders(n_books: int, *messages: dict[str, int | str]) -> np.ndarray:
    """The same messages for each book."""
    return np.repeat(rows(*messages), n_books, axis=0)


def record_step(market: BatchMarket, messages: np.ndarray, delays_s: list[float]) -> Tape:
    """Every event of one step of a single book with mail in it."""
    mail = mail_of(messages)
    mail.delays_s[0] = delays_s
    out = np.zeros((1, 100_000, N_COLUMNS), dtype=np.int64)
    n = market._advance(mail, 1, rows=out)[0]
    assert 0 < n < 100_000 - 20_000
    return tape_of(out[0, :n])


def times_of(tape: Tape, order_id: int) -> list[int]:
    return tape.ts[tape.order_id == order_id].tolist()


# what callers cannot change


def test_value_news_and_times_of_acts_do_not_depend_on_what_callers_do():
    rng = np.random.default_rng(0)
    alone, crowd = (open_batch(6, flow=NEWS, value=JUMPS, n_owners=3) for _ in range(2))
    for k in range(400):
        messages = np.zeros((6, 3, 7), dtype=np.int32)
        messages[..., M_KIND] = [KINDS["market"], KINDS["limit"], KINDS["ioc"]]
        messages[..., M_SIDE] = 1 if k % 3 else -1
        messages[..., M_PRICE] = 22_000 + rng.integers(-40, 40, (6, 3))
        messages[..., M_QTY], messages[..., M_OWNER] = 300, [1, 2, 2]
        crowd.step(messages, rng.uniform(0, STEP_S, (6, 3)) if k % 2 else None)
        alone.step()
        for name in ("course", "excitation"):
            one, other = (getattr(market.lanes, name) for market in (alone, crowd))
            np.testing.assert_array_equal(one, other)
        one, other = (market.lanes.clock[:, VALUE_NOW] for market in (alone, crowd))
        np.testing.assert_array_equal(one, other)
    assert (alone.lanes.stream[:, 1] != crowd.lanes.stream[:, 1]).all()
    assert (alone.lanes.state[:, LAST_PRICE] != crowd.lanes.state[:, LAST_PRICE]).any()
    assert (crowd.lanes.accounts[:, 1:, POSITION] != 0).all()


def test_no_two_streams_of_a_batch_are_the_same():
    lanes = open_batch(50, warm_up_s=0.0, first_book=2**62 - 25).lanes
    assert len(np.unique(np.concatenate([lanes.stream[:, 0], lanes.course[:, 0]]))) == 100


# when messages arrive


def test_without_delays_messages_arrive_at_the_start():
    plain, zeros = (open_batch(20, n_owners=4) for _ in range(2))
    rng = np.random.default_rng(2)
    for _ in range(100):
        messages = np.zeros((20, 3, 7), dtype=np.int32)
        messages[..., M_KIND], messages[..., M_SIDE] = KINDS["limit"], rng.choice([-1, 1], (20, 3))
        messages[..., M_PRICE], messages[..., M_QTY] = 22_000 + rng.integers(-9, 9, (20, 3)), 50
        messages[..., M_OWNER] = rng.integers(0, 4, (20, 3))
        acks = plain.step(messages), zeros.step(messages, np.zeros((20, 3)))
        np.testing.assert_array_equal(*acks)
    assert bits(plain) == bits(zeros)


def test_delayed_messages_change_with_neither_threads_nor_the_books_around():
    seen = [
        play(open_batch(40, n_owners=4, n_threads=n), 100, seed=1, is_delayed=True) for n in (1, 2)
    ]
    for one, other in zip(*seen, strict=True):
        np.testing.assert_array_equal(one, other)
    crowd, alone = open_batch(3), open_batch(1, first_book=1)
    messages = orders(3, {"kind": "limit", "side": 1, "price": 21_999, "qty": 9, "owner": 1})
    for k in range(50):
        delays = np.array([[0.01], [0.002 * k % STEP_S], [0.07]])
        crowd.step(messages, delays)
        alone.step(messages[1:2], delays[1:2])
    assert bits(alone) == bits(crowd, slice(1, 2))


def test_arrays_may_lie_in_memory_as_they_like_and_are_left_alone():
    plain, other = open_batch(3), open_batch(3)
    messages = orders(3, *({"kind": "limit", "side": 1, "price": 9, "qty": q} for q in (1, 2, 3)))
    delays = np.random.default_rng(1).uniform(0, STEP_S, (3, 3))
    wide, far = np.repeat(messages, 2, axis=2)[:, :, ::2], np.asfortranarray(delays)
    for array in (wide, far):
        array.flags.writeable = False
    before = messages.copy()
    np.testing.assert_array_equal(other.step(wide, far), plain.step(messages, delays))
    assert bits(plain) == bits(other)
    np.testing.assert_array_equal(messages, before)


def test_messages_are_applied_in_the_order_of_arrival_and_ties_as_they_stand():
    market = open_batch(1, flow=SILENT, n_owners=4)
    messages = rows(
        {"kind": "ioc", "side": 1, "price": 100, "qty": 5, "owner": 1},
        {"kind": "limit", "side": -1, "price": 100, "qty": 3, "owner": 2},
        {},
        {"kind": "limit", "side": -1, "price": 100, "qty": 3, "owner": 3},
        {"kind": "ioc", "side": 1, "price": 100, "qty": 1, "owner": 1},
    )
    delays = np.array([[0.05, 0.05, 0.01, 0.02, 0.08]])
    acks = market.step(messages, delays)[0]
    # the first meets the fourth alone, the last what the second brings in between
    assert acks[:, 2].tolist() == [3, 0, 0, 0, 1]
    assert acks[:, 3].tolist() == [0, 3, 0, 3, 0]  # as each was acknowledged
    assert market.lanes.accounts[0, :, POSITION].tolist() == [0, 4, -1, -3]
    assert (acks[[1, 3], 1] > 0).all()


def test_a_message_meets_the_book_of_its_time():
    step_s, at = 20.0, [7.25, 7.25, 13.5]
    plans = {"flow": FLOW, "step_ms": 1000 * step_s, "open_ns": 5 * SECOND, "warm_up_s": 40.0}
    messages = rows(
        {"kind": "limit", "side": 1, "price": 10, "qty": 77, "owner": 1},
        {"kind": "limit", "side": -1, "price": 90_000, "qty": 78, "owner": 1},
        {"kind": "market", "side": 1, "qty": 40, "owner": 1},
    )
    market = open_batch(1, **plans)
    market.step()
    book = TapeBook.of_state(market.lanes.state[0])
    quiet = record_step(open_after(plans), np.zeros((1, 0, 7), dtype=np.int32), [])
    tape = record_step(market, messages, at)
    book.replay(tape)  # in order, every event possible where it stands
    assert book.sides == TapeBook.of_state(market.lanes.state[0]).sides
    assert (np.diff(tape.ts) >= 0).all()
    start = (5 + 20) * SECOND
    own = (tape.kind == ADD) & np.isin(tape.size, [77, 78]) & np.isin(tape.price, [10, 90_000])
    assert (tape.ts[own] - start).tolist() == [7_250_000_000] * 2
    # until the first arrives the step is what it is without them, but for nothing
    n = int(np.searchsorted(tape.ts, start + 7_250_000_000))
    assert n > 50 and len(tape) > n + 50
    for name, column in vars(tape).items():
        np.testing.assert_array_equal(column[:n], getattr(quiet, name)[:n])
    taken = tape.ts == start + 13_500_000_000
    assert tape.size[taken].sum() == 40
    assert market.lanes.accounts[0, 1, POSITION] == 40


def open_after(plans: dict) -> BatchMarket:
    """A market of one book, one step on."""
    market = open_batch(1, **plans)
    market.step()
    return market


def test_rows_of_kind_zero_do_not_arrive():
    plain, empty = open_batch(2), open_batch(2)
    rng = np.random.default_rng(5)
    for _ in range(50):
        plain.step()
        empty.step(np.zeros((2, 4, 7), dtype=np.int32), rng.uniform(0, STEP_S, (2, 4)))
        acks = empty.step(np.zeros((2, 0, 7), dtype=np.int32), np.zeros((2, 0)))
        assert acks.shape == (2, 0, 4)
        plain.step()
    assert bits(plain) == bits(empty)


def test_mail_makes_no_order_live_longer_or_shorter():
    # nobody but passive noise, far behind: every order ends by its cancel. The clock of cancels
    # starts anew with each of twenty thousand messages that do nothing
    flow = FLOW._replace(
        branching=(0.0, 0.0, 0.0),
        news_share=0.0,
        day_shape=0.0,
        day_tilt=0.0,
        role_shares=(1.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        inside_share=0.0,
        best_share=0.0,
        lifetime_shares=(0.0, 1.0, 0.0),
        lifetimes_s=(1.0, 3.0, 1.0),
    )
    market = open_batch(1, flow=flow, step_ms=1_200_000, warm_up_s=0.0)
    delays = np.sort(np.random.default_rng(0).uniform(0, 1_200, 20_000))
    tape = record_step(market, orders(1, *[{"kind": "cancel", "owner": 1}] * 20_000), delays)
    assert set(tape.kind.tolist()) == {ADD, DELETE}
    born = dict(zip(tape.order_id[tape.kind == ADD], tape.ts[tape.kind == ADD], strict=True))
    gone = zip(tape.order_id[tape.kind == DELETE], tape.ts[tape.kind == DELETE], strict=True)
    lives = [(ts - born[o]) / SECOND for o, ts in gone if o in born and born[o] < 1_150 * SECOND]
    assert len(lives) > 9_000
    assert stats.kstest(lives, "expon", (0, 3.0)).pvalue > 1e-3


@pytest.mark.parametrize("n_steps", [0, 12, 1_000_000_007])  # at 12 the sum is rounded up
def test_the_latest_delay_is_still_of_the_step(n_steps):
    market = open_batch(1, flow=SILENT, warm_up_s=0.0)
    market.lanes.counters[0, N_STEPS] = n_steps
    market.lanes.clock[0, SECONDS] = n_steps * STEP_S
    latest = np.full((1, 1), np.nextafter(STEP_S, 0))
    message = rows({"kind": "limit", "side": 1, "price": 9, "qty": 2, "owner": 1})
    acks = market.step(message, latest)
    assert acks[0, 0, 3] == 2
    assert market.lanes.clock[0, SECONDS] == (n_steps + 1) * STEP_S


@pytest.mark.parametrize(
    ("delays", "received"),
    [
        (np.zeros((2, 2)), r"float64 of shape \(2, 3\), .* received float64 of shape \(2, 2\)"),
        (np.zeros(3), r"received float64 of shape \(3,\)"),
        (np.zeros((2, 3), dtype=np.float32), "received float32"),
        (np.array([[0, 0, 0], [0, -1e-9, 0]]), r"book 1, message 1: .* received -1e-09"),
        (np.array([[0, 0, STEP_S], [-1, 0, 0]]), r"book 0, message 2: .*\[0, 0.1\).* received 0.1"),
        (np.array([[0, 0, 0], [0, 0, np.nan]]), "book 1, message 2: .* received nan"),
        (np.array([[np.inf, 0, 0], [0, 0, 0]]), "book 0, message 0: .* received inf"),
    ],
)
def test_delays_outside_the_step_are_refused(delays, received):
    market = open_batch(2, warm_up_s=0.0)
    before = bits(market)
    with pytest.raises(BookError, match=f"delays_s: .*{received}"):
        market.step(np.zeros((2, 3, 7), dtype=np.int32), delays)
    assert bits(market) == before


# opened anew, kept and gone on


@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_batch_opened_anew_is_a_new_batch(n_threads):
    market = open_batch(40, n_owners=4, n_threads=n_threads)
    arrays = [array.ctypes.data for array in market.lanes]
    play(market, 60, seed=1, is_delayed=True)
    market.reopen(7, 3)
    expected = open_batch(40, n_owners=4, seed=7, first_book=3)
    assert bits(market) == bits(expected)
    assert [array.ctypes.data for array in market.lanes] == arrays
    for one, other in zip(play(market, 40, 5), play(expected, 40, 5), strict=True):
        np.testing.assert_array_equal(one, other)
    market.reopen(7)
    assert bits(market) == bits(open_batch(40, n_owners=4, seed=7))


@pytest.mark.parametrize("arguments", [(-1, 0), (2**64, 0), (0, -1), (0, 2**62 + 1)])
def test_a_batch_is_not_opened_anew_with_numbers_out_of_range(arguments):
    market = open_batch(2)
    before = bits(market)
    with pytest.raises(ValueError, match="expected a"):
        market.reopen(*arguments)
    assert bits(market) == before


def test_a_saved_batch_goes_on_bit_for_bit():
    market, other = open_batch(20, n_owners=4), open_batch(20, n_owners=4, seed=9, first_book=5)
    play(market, 30, seed=1, is_delayed=True)
    saved = market.save_state()
    first = play(market, 30, seed=2, is_delayed=True)
    ends = bits(market)
    for again in (market, other):
        again.load_state(saved)
        for one, two in zip(play(again, 30, 2, is_delayed=True), first, strict=True):
            np.testing.assert_array_equal(one, two)
        assert bits(again) == ends


@pytest.mark.parametrize(
    ("name", "change", "received"),
    [
        ("state", lambda x: x[:1], r"state: expected int32 of \(2, .*received int32 of \(1, "),
        ("clock", lambda x: x.astype(np.float32), "clock: expected float64 .*received float32"),
        ("course", None, "course: expected uint64 .*received none"),
    ],
)
def test_a_state_of_another_batch_is_refused(name, change, received):
    market = open_batch(2, warm_up_s=0.0)
    saved = open_batch(2).save_state()
    if change is None:
        del saved[name]
    else:
        saved[name] = change(saved[name])
    before = bits(market)
    with pytest.raises(BookError, match=received):
        market.load_state(saved)
    assert bits(market) == before
