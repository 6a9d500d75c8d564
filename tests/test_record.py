"""Tapes and snapshots against a book that is rebuilt from the tape in dictionaries."""

import numpy as np
import pytest

from hftlib.market import ladder
from hftlib.market.book import FILL_FIELDS, KINDS, MESSAGE, BookError, OrderBook
from hftlib.market.ladder import LAST_PRICE, TRADED
from hftlib.market.matching import M_HANDLE, MADE, submit
from hftlib.market.record import N_COLUMNS, check_room, quotes_of, send, tape_of, write_snapshot
from hftlib.market.tape import ADD, DELETE, EXECUTE, REDUCE, Tape
from tests.book_audit import read_queues
from tests.book_cases import draw_case
from tests.markets import FLOW, SECOND, TapeBook, open_batch, open_simulator

N_STEPS, EVERY, LEVELS = 6_000, 7, 10


class Recorder:
    """A book whose messages go through `send`, and its tape."""

    def __init__(self, book: OrderBook, n_rows: int = 100_000) -> None:
        self.book = book
        self.rows = np.zeros((n_rows, N_COLUMNS), dtype=np.int64)
        self.n = 0
        capacity = int(book.state[ladder.CAPACITY])
        self.fills = np.empty((capacity + 1, len(FILL_FIELDS)), dtype=np.int32)

    def send(self, message: np.void, ts: int = 0) -> tuple[int, ...]:
        m = np.array(message.tolist(), dtype=np.int32)
        state, accounts = self.book.state, self.book.accounts
        self.n, ack = send(state, accounts, self.fills, m, ts, self.rows, self.n)
        return ack

    def post(self, kind: str, ts: int = 0, **fields: int) -> tuple[int, ...]:
        message = np.zeros(1, dtype=MESSAGE)
        message["kind"] = KINDS[kind]
        for name, value in fields.items():
            message[name] = value
        return self.send(message[0], ts)

    @property
    def tape(self) -> Tape:
        return tape_of(self.rows[: self.n])

    @property
    def table(self) -> list[tuple[int, ...]]:
        """Rows without their time."""
        return [tuple(row) for row in self.rows[: self.n, 1:].tolist()]


# by hand


def test_a_sweep_shows_the_quotes_between_its_fills_and_then_what_rests():
    r = Recorder(OrderBook(capacity=16))
    r.post("limit", side=1, price=95, qty=7, tag=1)
    r.post("limit", side=-1, price=100, qty=3, tag=2)
    r.post("limit", side=-1, price=100, qty=4, tag=3)
    r.post("limit", side=-1, price=102, qty=5, tag=4)
    r.n = 0
    ack = r.post("limit", ts=9, side=1, price=102, qty=20, tag=5)
    assert ack[1:] == (0, ack[2], 12, 8)
    assert r.table == [
        (EXECUTE, 2, 3, 100, -1, 95, 7, 100, 4),
        (EXECUTE, 3, 4, 100, -1, 95, 7, 102, 5),
        (EXECUTE, 4, 5, 102, -1, 95, 7, 0, 0),
        (ADD, 5, 8, 102, 1, 102, 8, 0, 0),
    ]
    assert (r.tape.ts == 9).all()
    r.n = 0
    r.post("ioc", side=-1, price=96, qty=9, tag=6)  # one lot finds nothing and leaves no trace
    assert r.table == [(EXECUTE, 5, 8, 102, 1, 95, 7, 0, 0)]


def test_a_partial_fill_leaves_the_rest_of_the_order_on_the_tape():
    r = Recorder(OrderBook(capacity=16))
    r.post("limit", side=1, price=95, qty=7, tag=1)
    r.post("market", side=-1, qty=2, tag=2)
    r.post("market", side=-1, qty=5, tag=3)
    assert r.table == [
        (ADD, 1, 7, 95, 1, 95, 7, 0, 0),
        (EXECUTE, 1, 2, 95, 1, 95, 5, 0, 0),
        (EXECUTE, 1, 5, 95, 1, 0, 0, 0, 0),
    ]


def test_cancel_reduce_and_modify_are_written_as_what_they_do():
    r = Recorder(OrderBook(capacity=16))
    first = r.post("limit", side=1, price=95, qty=7, tag=1)[2]
    r.post("limit", side=-1, price=99, qty=4, tag=2)
    r.n = 0
    r.post("reduce", handle=first, qty=2)
    r.post("modify", handle=first, price=95, qty=5)  # nothing changes
    r.post("modify", handle=first, price=95, qty=4)  # keeps its place
    moved = r.post("modify", handle=first, price=96, qty=4)[2]
    crossing = r.post("modify", handle=moved, price=99, qty=6)[2]  # trades, the rest rests
    r.post("reduce", handle=crossing, qty=50)
    r.post("cancel", handle=crossing)  # gone: nothing to write
    r.post("modify", handle=first, price=95, qty=1)
    assert r.table == [
        (REDUCE, 1, 2, 95, 1, 95, 5, 99, 4),
        (REDUCE, 1, 1, 95, 1, 95, 4, 99, 4),
        (DELETE, 1, 4, 95, 1, 0, 0, 99, 4),
        (ADD, 1, 4, 96, 1, 96, 4, 99, 4),
        (DELETE, 1, 4, 96, 1, 0, 0, 99, 4),
        (EXECUTE, 2, 4, 99, -1, 0, 0, 0, 0),
        (ADD, 1, 2, 99, 1, 99, 2, 0, 0),
        (DELETE, 1, 2, 99, 1, 0, 0, 0, 0),
    ]


def test_orders_that_self_trade_prevention_takes_out_are_deletions():
    r = Recorder(OrderBook(capacity=16, self_trade="cancel_resting"))
    r.post("limit", side=-1, price=99, qty=4, owner=1, tag=1)
    r.post("limit", side=-1, price=99, qty=3, owner=0, tag=2)
    r.n = 0
    r.post("limit", side=1, price=99, qty=2, owner=1, tag=3)
    assert r.table == [
        (DELETE, 1, 4, 99, -1, 0, 0, 99, 3),
        (EXECUTE, 2, 2, 99, -1, 0, 0, 99, 1),
    ]


def test_refused_messages_leave_no_row():
    r = Recorder(OrderBook(capacity=2))
    mine = r.post("limit", side=1, price=95, qty=7, owner=1, tag=1)[2]
    r.post("limit", side=-1, price=99, qty=7, tag=2)
    r.n = 0
    r.post("limit", side=1, price=96, qty=1, tag=3)  # the book is full
    r.post("cancel", handle=mine, owner=0)
    r.post("modify", handle=mine, owner=1, price=0, qty=3)
    r.post("modify", handle=mine, owner=1, price=95, qty=0)
    r.post("post_only", side=1, price=99, qty=1, tag=4)
    r.post("fok", side=1, price=99, qty=9, tag=5)
    r.post("limit", side=3, price=99, qty=9, tag=6)
    r.send(np.array([(99, 1, 95, 1, 1, mine, 0)], dtype=MESSAGE)[0])
    assert r.n == 0


# at random


@pytest.mark.parametrize("seed", range(60))
def test_the_tape_rebuilds_the_book_after_every_message(seed):
    """All kinds of messages, faulty ones too, several owners, every rule of self-trading."""
    case = draw_case(np.random.default_rng(seed), 400)
    r, plain = Recorder(case.open()), case.open()
    book, handles, n_before = TapeBook(), [], 0
    for k, message in enumerate(case.messages):
        message["tag"] = k + 1
        if message["handle"] < 0:  # of an earlier message
            named = -1 - int(message["handle"])
            message["handle"] = handles[named] if named < k else 0
        ack = r.send(message, ts=k)
        m = np.array(message.tolist(), dtype=np.int32)
        fills = np.empty_like(r.fills)
        expected = submit(plain.state, plain.accounts, fills, 0, 0, m, int(m[M_HANDLE]))
        assert ack == expected
        handles.append(ack[2])
        book.replay(r.tape, slice(n_before, r.n))
        assert tuple(quotes_of(r.book.state)) == (*book.best(1), *book.best(-1))
        n_before = r.n
    assert r.book.state.tobytes() == plain.state.tobytes()
    assert r.book.accounts.tobytes() == plain.accounts.tobytes()
    assert book.sides == TapeBook.of_state(r.book.state).sides
    tape = r.tape
    assert len(tape) > 20
    trades = tape.kind == EXECUTE
    executed = (tape.size[trades].astype(object) * tape.price[trades]).sum()
    made = int(r.book.accounts[:, MADE].sum())
    assert (executed - made) % 2**64 == 0  # accounts wrap


@pytest.mark.parametrize("seed", range(5))
def test_sending_without_rows_changes_the_book_alike(seed):
    case = draw_case(np.random.default_rng(seed), 400)
    loud, quiet = Recorder(case.open()), Recorder(case.open(), n_rows=0)
    for message in case.messages:
        message["handle"] = max(message["handle"], 0)
        assert loud.send(message) == quiet.send(message)
    assert quiet.n == 0
    assert loud.book.state.tobytes() == quiet.book.state.tobytes()


def test_events_beyond_the_last_row_are_counted_and_not_written():
    r = Recorder(OrderBook(capacity=16), n_rows=2)
    behind = r.rows
    r.rows = behind[:1]
    for k in range(3):
        handle = r.post("limit", side=1, price=90 + k, qty=1, tag=k + 1)[2]
    r.post("cancel", handle=handle)
    r.post("market", side=-1, qty=2, tag=9)
    assert r.n == 6
    assert behind[0, 2] == 1
    assert (behind[1] == 0).all()
    with pytest.raises(BookError, match="6 events came in one step, with room for 1: shorten"):
        check_room(r.n, 1)


# snapshots


def test_a_snapshot_holds_depth_last_price_and_lots_since_the_one_before():
    book = OrderBook(capacity=16)
    for side, price, qty in ((1, 95, 7), (1, 94, 1), (1, 95, 2), (-1, 97, 4)):
        book.send("limit", side=side, price=price, qty=qty)
    book.send("market", side=1, qty=1)
    book.send("market", side=-1, qty=2)
    snapshots = np.full((3, 3 + 4 * 2), -1, dtype=np.int64)
    assert write_snapshot(book.state, 5, snapshots, 0) == 1
    assert snapshots[0].tolist() == [5, 95, 7, 97, 3, 94, 1, 0, 0, 95, 3]
    assert write_snapshot(book.state, 6, snapshots, 1) == 2
    assert snapshots[1].tolist() == [6, 95, 7, 97, 3, 94, 1, 0, 0, 95, 0]
    assert (snapshots[2] == -1).all()


def test_a_tape_has_the_types_of_its_documentation():
    r = Recorder(OrderBook(capacity=16))
    r.post("limit", side=1, price=95, qty=7, tag=1)
    types = {name: column.dtype.name for name, column in vars(r.tape).items()}
    wide, narrow = {"ts", "order_id"}, {"kind", "direction"}
    assert types == {
        name: "int64" if name in wide else "int8" if name in narrow else "int32" for name in types
    }
    assert len(tape_of(r.rows[:0])) == 0


# recordings of the two simulators


@pytest.fixture(scope="module")
def recordings():
    """Book at the open, recording, book at the end, by simulator."""
    simulator = open_simulator()
    opening, last = TapeBook.of_state(simulator.floor.state), simulator.floor.state[LAST_PRICE]
    session = simulator.record(N_STEPS, snapshot_every=EVERY, levels=LEVELS)
    found = {"simulator": (opening, last, session, simulator.floor.state)}
    # larger takers sweep several orders, and what they leave rests
    flow = FLOW._replace(take_size=900.0, best_share=0.4)
    batch = open_batch(2, flow=flow, n_owners=3)
    opening, last = TapeBook.of_state(batch.lanes.state[1]), batch.lanes.state[1, LAST_PRICE]
    session = batch.record(N_STEPS, snapshot_every=EVERY, levels=LEVELS)[1]
    found["batch"] = (opening, last, session, batch.lanes.state[1])
    return found


@pytest.mark.parametrize("market", ["simulator", "batch"])
def test_a_recording_rebuilds_the_market_and_its_snapshots(recordings, market):
    book, last, recording, state = recordings[market]
    book = TapeBook(
        (order, side, price, lots)
        for side, prices in book.sides.items()
        for price, level in prices.items()
        for order, lots in level.items()
    )
    tape, snapshots = recording.tape, recording.snapshots
    assert len(tape) > 5_000
    assert set(tape.kind.tolist()) == {ADD, DELETE, EXECUTE}
    assert len(snapshots) == N_STEPS // EVERY
    # a snapshot knows the events up to its own time and none after
    done, traded = 0, 0
    for row in snapshots.tolist():
        stop = int(np.searchsorted(tape.ts, row[0], side="right"))
        book.replay(tape, slice(done, stop))
        trades = np.flatnonzero(tape.kind[done:stop] == EXECUTE) + done
        levels = [
            (*bid, *ask)
            for bid, ask in zip(book.depth(1, LEVELS), book.depth(-1, LEVELS), strict=True)
        ]
        assert row[1:-2] == [number for level in levels for number in level]
        last = tape.price[trades[-1]] if len(trades) else last
        assert row[-2] == last
        assert row[-1] == tape.size[trades].sum()
        traded += row[-1]
        done = stop
    assert traded == tape.size[:done][tape.kind[:done] == EXECUTE].sum()
    book.replay(tape, slice(done, None))
    assert book.sides == TapeBook.of_state(state).sides
    assert state[TRADED] == tape.size[done:][tape.kind[done:] == EXECUTE].sum()


def test_the_recordings_hold_sweeps(recordings):
    tape = recordings["batch"][2].tape
    trades = tape.kind == EXECUTE
    same = trades[1:] & trades[:-1] & (tape.ts[1:] == tape.ts[:-1])
    assert same.sum() > 50


@pytest.mark.parametrize("market", ["simulator", "batch"])
def test_times_stay_in_the_session_and_never_go_back(recordings, market):
    recording = recordings[market][2]
    ts = recording.tape.ts
    assert (np.diff(ts) >= 0).all()
    assert ts[0] >= 0
    assert ts[-1] <= N_STEPS * SECOND // 10
    expected = np.arange(1, N_STEPS // EVERY + 1) * EVERY * SECOND // 10
    np.testing.assert_array_equal(recording.snapshots[:, 0], expected)


@pytest.mark.parametrize("market", ["simulator", "batch"])
def test_an_order_enters_once_and_no_two_share_a_number(recordings, market):
    opening, _, recording, state = recordings[market]
    tape = recording.tape
    added = tape.order_id[tape.kind == ADD]
    assert len(set(added.tolist())) == len(added)
    before = {o for side in opening.sides.values() for level in side.values() for o in level}
    assert added.min() > max(before)
    live = {tag for q in read_queues(state).values() for level in q.values() for *_, tag in level}
    assert live <= before | set(added.tolist())


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"n_steps": 0}, "n_steps 0: expected 1 or more"),
        ({"snapshot_every": 0}, "snapshot_every 0: expected 1 or more"),
        ({"levels": 0}, "levels 0: expected 1 or more"),
    ],
)
@pytest.mark.parametrize("open_market", [open_simulator, open_batch])
def test_a_plan_that_records_nothing_is_refused(open_market, plan, message):
    with pytest.raises(BookError, match=message):
        open_market(warm_up_s=0.0).record(
            **{"n_steps": 10, "snapshot_every": 1, "levels": 3, **plan}
        )
