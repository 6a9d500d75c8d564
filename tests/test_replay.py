"""Historical replay: a recorded book follows from its messages, and any tampering shows."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftlib.data import replay as replay_module
from hftlib.data.lobster import DayName, LobsterDay, read_day, write_lobster
from hftlib.data.reconcile import replay_rows
from hftlib.data.replay import (
    FAULTS,
    OUTCOMES,
    ReplayError,
    rebuild,
    replay,
    replay_tape,
    to_messages,
)
from hftlib.market.tape import ADD, CROSS, DELETE, EXECUTE, EXECUTE_HIDDEN, HALT, REDUCE, Tape
from tests.book_audit import read_queues
from tests.days import (
    NAMES,
    join,
    make_shallow,
    make_tape,
    read_real,
    record_stream,
    select,
)
from tests.markets import TapeBook, open_batch, open_simulator

OUTCOME = {name: code for code, name in enumerate(OUTCOMES)}
DAY = DayName("SIM", "2024-01-02", 34_200_000, 57_600_000, 1)


def change(tape: Tape, row: int, **values: int) -> Tape:
    columns = {name: getattr(tape, name).copy() for name in values}
    for name, value in values.items():
        columns[name][row] = value
    return replace(tape, **columns)


@pytest.fixture(scope="module")
def simulated() -> Tape:
    """A whole market from its first order on."""
    return record_stream(8_000, 0)


@pytest.fixture(scope="module", params=[1, 2, 5])
def shallow(request, simulated) -> tuple[Tape, np.ndarray]:
    return make_shallow(simulated, request.param)


# --- a complete record reproduces itself


def check_complete(tape: Tape) -> None:
    done = replay_tape(tape, is_complete=True)
    assert done.outcomes["equal"] == done.verdicts["sound"] == done.rows == len(tape) > 5_000
    assert (done.n_out_of_turn, done.n_cleared, done.n_refused) == (0, 0, 0)
    for name, column in vars(tape).items():
        np.testing.assert_array_equal(getattr(done.tape, name), column)


@pytest.mark.parametrize("seed", range(5))
def test_what_the_engine_records_reproduces_its_own_quotes(seed):
    check_complete(record_stream(8_000, seed))


@pytest.mark.slow
def test_the_tapes_of_both_simulators_reproduce_their_own_quotes():
    check_complete(open_simulator(warm_up_s=0.0).record(3_000, snapshot_every=100).tape)
    market = open_batch()
    queues = read_queues(market.lanes.state[0])
    (record,) = market.record(3_000, snapshot_every=100)
    late = replay_tape(record.tape)  # what rested before comes into view, or goes unseen
    assert late.n_unexplained == 0
    assert late.outcomes["surfaced"] > 0 and late.verdicts["order out of view"] > 0
    opening = make_tape(
        *(
            (ADD, tag, lots, price, side)
            for side, prices in queues.items()
            for price, orders in prices.items()
            for _, lots, _, tag in orders
        )
    )
    opening = replace(opening, ts=np.full(len(opening), record.tape.ts[0]))
    whole = rebuild(to_messages(join(opening, record.tape), **NAMES)).tape
    for name, column in vars(record.tape).items():
        np.testing.assert_array_equal(getattr(whole, name)[len(opening) :], column)
    check_complete(whole)


def test_all_levels_agree_with_orders_kept_in_dictionaries(simulated):
    done = rebuild(to_messages(simulated, **NAMES), levels=8)
    book = TapeBook()
    columns = [column.tolist() for column in vars(simulated).values()]
    for i, event in enumerate(zip(*columns, strict=True)):
        book.apply(*event[1:6])
        if i % 10 == 0:
            sides = zip(book.depth(-1, 8), book.depth(1, 8), strict=True)
            assert done.book[i].tolist() == [n for ask, bid in sides for n in (*ask, *bid)]


def test_lobster_files_of_a_simulated_market_give_it_back(tmp_path, simulated):
    messages = to_messages(replace(simulated, ts=simulated.ts + DAY.midnight_ns), **NAMES)
    messages["ts"] += DAY.start_ms * 10**6
    book = rebuild(messages, levels=3).book
    day = LobsterDay(DAY._replace(levels=3), 100, messages, book, pd.DataFrame())
    again = read_day(write_lobster(tmp_path, day))
    assert again.replay().n_unexplained == 0
    done = replay_tape(again.tape, again.book, is_complete=True)
    assert done.outcomes["equal"] == done.rows == len(simulated)
    for name in ("best_bid", "bid_qty", "best_ask", "ask_qty"):
        np.testing.assert_array_equal(getattr(done.tape, name), getattr(simulated, name))


# --- a record of the best levels only


def test_every_row_of_a_shallow_record_is_equal_or_explained(shallow):
    tape, book = shallow
    done = replay_tape(tape, book)
    assert done.n_unexplained == 0 and done.first_mismatch is None
    assert sum(done.outcomes.values()) == done.rows == len(tape)
    assert done.outcomes["opening"] == 1
    assert done.outcomes["surfaced"] > 0 and done.outcomes["unseen order"] > 0
    assert done.outcomes["equal"] + done.outcomes["unseen order"] > 0.7 * done.rows
    np.testing.assert_array_equal(done.book, book)


def test_only_a_message_that_empties_a_level_can_surface_another(shallow):
    tape, book = shallow
    done = replay_tape(tape, book)
    rows = np.flatnonzero(done.outcome == OUTCOME["surfaced"])
    assert np.isin(tape.kind[rows], [DELETE, EXECUTE]).all()
    for row in rows.tolist():
        column = 2 if tape.direction[row] > 0 else 0
        before, after = book[row - 1, column::4], book[row, column::4]
        assert tape.price[row] in before and tape.price[row] not in after
        assert tape.direction[row] * (before[-1] - after[-1]) > 0 or after[-1] == 0


@pytest.mark.parametrize(
    ("bid", "outcome"),
    [
        ((49, 3), "surfaced"),
        ((0, 0), "surfaced"),
        ((50, 3), "mismatch"),
        ((51, 3), "mismatch"),
        ((59, 3), "mismatch"),
    ],
)
def test_what_surfaces_is_worse_than_all_that_was_in_view(bid, outcome):
    quotes = [(50, 10, 60, 1), (*bid, 60, 1)]
    done = replay_tape(make_tape((ADD, 1, 2, 50, 1), (DELETE, 8, 10, 50, 1), quotes=quotes))
    # nobody else rested at 50: an empty side needs no explanation
    assert OUTCOMES[done.outcome[1]] == (outcome if bid != (0, 0) else "unseen order")


def test_the_past_does_not_depend_on_later_rows(shallow):
    tape, book = shallow
    whole, middle = replay_tape(tape, book), len(tape) // 2
    late = np.random.default_rng(0).permutation(np.arange(middle, len(tape)))
    rows = np.concatenate([np.arange(middle), late])
    scrambled = replay_tape(replace(select(tape, rows), ts=tape.ts), book[rows])
    for name in ("book", "outcome", "verdict"):
        np.testing.assert_array_equal(
            getattr(scrambled, name)[:middle], getattr(whole, name)[:middle]
        )
    assert scrambled.first_mismatch.row >= middle


# --- tampering

TESTABLE = [OUTCOME[name] for name in ("equal", "unseen order", "surfaced")]


def draw_rows(tape, done, outcomes: list[int], n: int, seed: int) -> list[int]:
    rows = np.flatnonzero(np.isin(done.outcome, outcomes))
    return np.random.default_rng(seed).choice(rows[rows < len(tape) - 1], n).tolist()


def check_tampering(tape: Tape, book: np.ndarray, n: int) -> None:
    """Every kind of wrong row is a mismatch, the first, at that very row."""
    done = replay_tape(tape, book)
    assert done.first_mismatch is None
    for row in draw_rows(tape, done, TESTABLE, n, 1):
        size, price = int(tape.size[row]), int(tape.price[row])
        for values in (
            {"size": size + 1},
            {"size": max(1, size - 1)},
            {"price": price + 1},
            {"price": price - 1},
            {"direction": -tape.direction[row]},
        ):
            if all(getattr(tape, name)[row] == value for name, value in values.items()):
                continue
            found = replay_tape(change(tape, row, **values), book)
            assert found.first_mismatch.row == row, (row, values)
            assert found.outcome[row] == OUTCOME["mismatch"]
    for row in draw_rows(tape, done, TESTABLE[:2], n, 2):
        for column in range(4):
            wrong = book.copy()
            wrong[row, column] += 1 if column in (0, 1, 3) else -1
            found = replay_tape(tape, wrong)
            assert found.first_mismatch.row == row, (row, column)
            assert found.first_mismatch.expected == tuple(wrong[row].tolist())
            assert found.first_mismatch.received == tuple(book[row].tolist())
            assert found.n_unexplained <= 2  # the wrong row, and the one that sets it right
    for row in draw_rows(tape, done, TESTABLE[:2], n, 3):
        events = [tuple(vars(tape)[name][k] for name in EVENT) for k in (row, row + 1)]
        if events[0] == events[1] or done.outcome[row + 1] not in TESTABLE[:2]:
            continue
        order = np.arange(len(tape))
        order[[row, row + 1]] = row + 1, row
        assert replay_tape(select(tape, order), book).first_mismatch.row == row
        assert replay_tape(tape, book[order]).first_mismatch.row == row


EVENT = ("kind", "size", "price", "direction")


def test_a_wrong_row_of_a_shallow_record_is_a_mismatch_at_that_row(shallow):
    check_tampering(*shallow, n=12)


# --- gaps, auctions, halts


def test_after_a_refused_line_the_book_is_taken_as_it_is(tmp_path, simulated):
    whole = LobsterDay(DAY, 100, as_day(simulated), rebuild(as_day(simulated)).book, pd.DataFrame())
    files = write_lobster(tmp_path, whole, suffix=".csv")
    lines = files.messages.read_text().splitlines()
    rows = np.flatnonzero(np.diff(simulated.best_bid) != 0)[10::40] + 1  # they move the best bid
    assert len(rows) > 10
    for row in rows.tolist():
        words = lines[row].split(",")
        lines[row] = ",".join([*words[:4], str(int(words[4]) + 50), words[5]])  # half a tick
    files.messages.write_text("\n".join(lines) + "\n")
    done = read_day(files).replay()
    assert done.rows == len(simulated) - len(rows)
    assert done.n_unexplained == 0
    assert done.outcomes["after a refused line"] > len(rows) // 2
    quiet = replay_tape(done.tape)  # the same rows, were the lines lost without notice
    assert quiet.n_unexplained > 0


def as_day(tape: Tape) -> pd.DataFrame:
    """Messages of a tape as of the morning of DAY."""
    start_ns = DAY.midnight_ns + DAY.start_ms * 10**6
    return to_messages(replace(tape, ts=tape.ts + start_ns), **NAMES)


def test_refused_hidden_executions_leave_no_gap(tmp_path):
    tape = make_tape((ADD, 1, 5, 100, 1), (EXECUTE_HIDDEN, 0, 5, 101, 1), (REDUCE, 1, 3, 100, 1))
    book = np.array([[0, 0, 100, 5], [0, 0, 100, 5], [0, 0, 100, 4]], dtype=np.int32)
    day = LobsterDay(DAY, 100, as_day(tape), book, pd.DataFrame())
    files = write_lobster(tmp_path, day, suffix=".csv")
    lines = files.messages.read_text().splitlines()
    lines[1] = lines[1].replace("10100", "10150")
    files.messages.write_text("\n".join(lines) + "\n")
    done = read_day(files).replay()
    assert done.rows == 2 and done.first_mismatch.row == 1


def test_an_auction_may_change_the_book_and_a_halt_may_not():
    events = [(ADD, 1, 5, 100, 1), (CROSS, -1, 900, 103, 1), (HALT, 0, 0, -1, -1)]
    quotes = [(100, 5, 0, 0), (98, 2, 0, 0), (98, 2, 0, 0)]
    done = replay_tape(make_tape(*events, quotes=quotes), is_complete=True)
    assert [OUTCOMES[k] for k in done.outcome] == ["equal", "auction", "trading halt"]
    quotes[2] = (97, 2, 0, 0)
    done = replay_tape(make_tape(*events, quotes=quotes), is_complete=True)
    assert done.first_mismatch.row == 2


# --- faulty messages

BOOK = [(ADD, 1, 5, 100, 1), (ADD, 2, 7, 104, -1)]


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ((9, 3, 1, 101, 1), "malformed"),
        ((ADD, 3, 0, 101, 1), "malformed"),
        ((ADD, 3, -4, 101, 1), "malformed"),
        ((ADD, 3, 1, 0, 1), "malformed"),
        ((ADD, 3, 1, 2**30 + 1, -1), "malformed"),
        ((ADD, 3, 1, 101, 2), "malformed"),
        ((EXECUTE, 1, 6, 100, 1), "size is not the order's"),
        ((REDUCE, 1, 6, 100, 1), "size is not the order's"),
        ((DELETE, 1, 4, 100, 1), "size is not the order's"),
        ((DELETE, 3, 4, 100, 1), "no such order"),
        ((EXECUTE, 3, 4, 101, 1), "no such order"),
        ((DELETE, 1, 5, 99, 1), "price or side is not the order's"),
        ((DELETE, 1, 5, 100, -1), "price or side is not the order's"),
        ((ADD, 1, 5, 101, 1), "order id rests already"),
        ((ADD, 3, 5, 104, 1), "would cross the book"),
        ((ADD, 3, 5, 100, -1), "would cross the book"),
        ((EXECUTE, 3, 5, 99, 1), "executed behind a better price"),
        ((EXECUTE_HIDDEN, 0, 5, 99, 1), "executed behind a better price"),
        ((ADD, 3, 2**31 - 1, 99, 1), "no room"),
    ],
)
def test_a_faulty_message_is_named_and_the_next_rows_are_tested_again(message, fault):
    tape = make_tape(*BOOK, message, (REDUCE, 2, 3, 104, -1), (DELETE, 1, 5, 100, 1))
    quotes = [(100, 5, 0, 0), *[(100, 5, 104, 7)] * 2, (100, 5, 104, 4), (0, 0, 104, 4)]
    done = replay_tape(
        replace(tape, **dict(zip(QUOTES, np.array(quotes, np.int32).T, strict=True))),
        is_complete=True,
    )
    assert {name: done.verdicts[name] for name in FAULTS if done.verdicts[name]} == {fault: 1}
    assert done.first_mismatch.row == 2 and done.first_mismatch.verdict == fault
    # an order that lost its identity may go unrecognised later, but no lot is wrong
    np.testing.assert_array_equal(done.book[:, [2, 3, 0, 1]], quotes)


QUOTES = ("best_bid", "bid_qty", "best_ask", "ask_qty")


def test_times_that_go_back_are_counted(simulated):
    ts = simulated.ts.copy()
    ts[100] = ts[98] - 1
    done = replay_tape(replace(simulated, ts=ts), is_complete=True)
    assert done.verdicts["time goes back"] == 1
    assert done.first_mismatch.row == 100
    assert (np.diff(done.history.ts) >= 0).all()


def test_shuffled_messages_are_mismatches_not_errors(simulated):
    order = np.random.default_rng(0).permutation(len(simulated))
    done = replay_tape(replace(select(simulated, order), ts=simulated.ts), is_complete=True)
    assert done.n_unexplained > 0.9 * done.rows
    without = rebuild(to_messages(select(simulated, order), **NAMES))
    assert without.verdicts["order out of view"] > 0
    assert (without.tape.best_bid < without.tape.best_ask)[without.tape.best_ask > 0].all()


@pytest.mark.parametrize(
    ("book", "gaps"),
    [
        (np.zeros((2, 4)), None),
        (np.zeros((3, 6)), None),
        (np.zeros((3, 0)), None),
        (np.zeros((3, 4)), np.zeros(2, dtype=bool)),
    ],
)
def test_a_book_of_another_shape_is_refused(book, gaps):
    tape = make_tape(*BOOK, (REDUCE, 2, 3, 104, -1))
    with pytest.raises(ReplayError, match=r"expected .* of shape \(3,"):
        replay_tape(tape, book.astype(np.int32), gaps=gaps)


MESSAGES = st.lists(
    st.tuples(
        st.sampled_from([ADD, ADD, ADD, REDUCE, DELETE, EXECUTE, EXECUTE_HIDDEN, CROSS, HALT, 0]),
        st.integers(0, 6),
        st.sampled_from([1, 1, 2, 3, 5, 2**31 - 1, 0, -1]),
        st.sampled_from([1, 2, 3, 4, 5, 6, 7, 9_000, 2**30, 2**30 + 1, 0, -1]),
        st.sampled_from([1, -1, 1, -1, 0]),
    ),
    min_size=1,
    max_size=40,
)
ROWS = st.lists(
    st.tuples(*[st.sampled_from([0, 1, 2, 3, 4, 5, 6, 8_000, -1])] * 8), min_size=40, max_size=40
)


@settings(max_examples=150)
@given(events=MESSAGES, rows=ROWS, is_complete=st.booleans(), gap=st.integers(0, 39))
def test_any_messages_and_rows_leave_a_sound_book_that_shows_the_row(
    events, rows, is_complete, gap
):
    tape = make_tape(*events)
    book = np.array(rows, dtype=np.int32)[: len(tape)]
    gaps = np.arange(len(tape)) == gap
    states = []

    def watch(desk, *arguments):
        states.append(desk.state)
        return replay_rows(desk, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay_module, "replay_rows", watch)
        done = replay_tape(tape, book, gaps=gaps, is_complete=is_complete)
        rebuild(to_messages(tape, **NAMES), levels=2)
    for state in states:
        read_queues(state)  # asserts that queues, totals and best prices agree
    possible = [is_book(row) for row in book.tolist()]
    assert sum(done.outcomes.values()) == sum(done.verdicts.values()) == len(tape)
    if done.n_refused == 0:
        np.testing.assert_array_equal(done.book[possible], book[possible])
    assert (done.outcome[~np.array(possible)] == OUTCOME["mismatch"]).all()


def is_book(row: list[int]) -> bool:
    """Whether a row of two levels could be one of a book."""
    ask, ask_lots, bid, bid_lots = (row[k::4] for k in range(4))
    for prices, lots, way in ((ask, ask_lots, 1), (bid, bid_lots, -1)):
        n = 2 - prices.count(0)
        if (
            0 in prices[:n]
            or any(p < 0 for p in prices)
            or any(lots[n:])
            or min([1, *lots[:n]]) < 1
        ):
            return False
        if n == 2 and way * (prices[1] - prices[0]) <= 0:
            return False
    return not (ask[0] and bid[0] and bid[0] >= ask[0])


def test_too_little_room_changes_no_result(monkeypatch, shallow):
    expected = replay_tape(*shallow)
    opened = []

    def open_small(*arguments):
        desk = open_desk(*arguments)
        opened.append(len(desk.state))
        return desk._replace(ops=desk.ops[:1])

    open_desk = replay_module._open_desk
    monkeypatch.setattr(replay_module, "_open_desk", open_small)
    monkeypatch.setattr(replay_module, "SPARE", 1)
    monkeypatch.setattr(replay_module, "ADD", 0)  # as if no order ever rested
    done = replay_tape(*shallow)
    assert opened == sorted(set(opened)) and len(opened) > 1
    assert done.n_refused == 0
    np.testing.assert_array_equal(done.outcome, expected.outcome)
    np.testing.assert_array_equal(done.history.ops, expected.history.ops)


# --- without a recorded book


def test_what_an_add_would_trade_with_has_gone_unseen():
    events = [(ADD, 1, 5, 100, -1), (ADD, 2, 6, 101, -1), (ADD, 3, 7, 103, -1), (ADD, 4, 2, 101, 1)]
    done = rebuild(to_messages(make_tape(*events), **NAMES))
    assert done.n_cleared == 2 and done.verdicts["cleared what it would cross"] == 1
    assert done.book[-1].tolist() == [103, 7, 101, 2]


@pytest.mark.parametrize(
    ("message", "rests"),
    [
        ((DELETE, 1, 3, 100, 1), [0, 0, 99, 2]),  # a part has gone before
        ((EXECUTE, 1, 9, 100, 1), [0, 0, 99, 2]),
        ((DELETE, 1, 5, 98, 1), [0, 0, 99, 2]),  # it has moved
        ((ADD, 1, 4, 97, 1), [0, 0, 99, 2]),
    ],
)
def test_an_order_that_contradicts_what_was_last_seen_of_it_has_changed_unseen(message, rests):
    events = [(ADD, 1, 5, 100, 1), (ADD, 2, 2, 99, 1), message]
    done = rebuild(to_messages(make_tape(*events), **NAMES))
    assert done.verdicts["order changed out of view"] == 1
    assert done.book[-1].tolist() == rests


def test_what_is_better_than_an_execution_has_gone_unseen():
    events = [(ADD, 1, 5, 100, -1), (ADD, 2, 6, 101, -1), (EXECUTE, 9, 7, 101, -1)]
    done = rebuild(to_messages(make_tape(*events), **NAMES))
    assert done.n_cleared == 1
    assert done.book[-1].tolist() == [101, 6, 0, 0]


# --- real days


def test_every_row_of_a_real_day_is_explained(tmp_path):
    day = read_real("AMZN", tmp_path)
    done = day.replay()
    assert done.n_unexplained == 0 and done.first_mismatch is None
    assert sum(done.verdicts[name] for name in FAULTS) == done.n_refused == 0
    assert done.outcomes["opening"] == 1 and done.outcomes["after a refused line"] == 0
    without_help = done.outcomes["equal"] + done.outcomes["unseen order"]
    assert without_help + done.outcomes["hidden execution"] > 0.85 * done.rows
    assert done.rows - without_help == (
        done.outcomes["hidden execution"] + done.outcomes["surfaced"] + 1
    )
    np.testing.assert_array_equal(done.book, day.book)
    # price-time priority: executions take the oldest order known
    assert done.n_out_of_turn < 0.01 * (day.messages["type"] == EXECUTE).sum()
    check_tampering(day.tape, day.book, n=4)


def test_messages_of_a_real_hour_make_a_sensible_book(tmp_path):
    messages = read_real("AAPL", tmp_path).messages
    done = rebuild(messages, levels=5)
    assert sum(done.verdicts[name] for name in FAULTS) == done.n_cleared == 0
    assert done.verdicts["order out of view"] < 0.001 * done.rows
    tape, executed = done.tape, np.flatnonzero(messages["type"] == EXECUTE)
    assert done.n_out_of_turn < 0.01 * len(executed)
    before = np.where(
        tape.direction[executed] > 0, tape.best_bid[executed - 1], tape.best_ask[executed - 1]
    )
    assert (tape.price[executed] == before).mean() > 0.99
    hidden = np.flatnonzero(messages["type"] == EXECUTE_HIDDEN)
    assert (tape.price[hidden] >= tape.best_bid[hidden - 1]).all()
    assert (tape.price[hidden] <= tape.best_ask[hidden - 1]).all()
    assert np.median(tape.best_ask - tape.best_bid) < 30


def test_the_amzn_day_is_explained_to_the_last_row_by_messages_and_orderbook(tmp_path):
    day = read_real("AMZN", tmp_path)
    report = replay(day.messages, day.book, 1)
    assert report.rows == len(day.messages)
    assert report.matched == sum(report.outcomes[name] for name in OUTCOMES[:5])
    assert report.matched + report.outcomes["surfaced"] + report.outcomes["opening"] == report.rows
    assert report.first_mismatch is None
    with pytest.raises(ReplayError, match="order book with 2 levels"):
        replay(day.messages, day.book, 2)
