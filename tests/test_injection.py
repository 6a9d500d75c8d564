"""Own orders in a recorded day: queue places, fills, and what they leave of history."""

from dataclasses import replace

import numpy as np
import pytest

from hftlib.data.injection import HistoricalMarket, InjectionError
from hftlib.data.replay import History, ReplayReport, rebuild, replay_tape, to_messages
from hftlib.market.book import KINDS, MESSAGE, STATUSES
from hftlib.market.matching import CASH, LOTS, MADE, POSITION, TOOK
from hftlib.market.tape import ADD, DELETE, EXECUTE, EXECUTE_HIDDEN, REDUCE, Tape
from tests.book_audit import read_queues
from tests.book_cases import make_messages
from tests.days import NAMES, make_shallow, make_tape, read_real, record_stream, select
from tests.reference_day import END, ListMarket

BOTH = pytest.mark.parametrize("has_impact", [False, True], ids=["apart", "impact"])


def open_day(*events: tuple[int, ...], has_impact: bool, **arguments) -> HistoricalMarket:
    """Events as `days.make_tape`, one a nanosecond from 0 on."""
    history = rebuild(to_messages(make_tape(*events), **NAMES)).history
    return HistoricalMarket(history, has_impact=has_impact, **arguments)


def send(market: HistoricalMarket, kind: str, **values: int) -> int:
    """Send a message of owner 1; its number."""
    (number,) = market.send(make_messages({"kind": kind, "owner": 1, **values}))
    return number


def trades(answer) -> list[tuple[int, int, int]]:
    """Time, price and lots of fills."""
    return [(int(f["ts"]), int(f["price"]), int(f["qty"])) for f in answer.fills]


# --- places in the queue, by hand

AHEAD = [(ADD, 1, 100, 50, 1), (ADD, 2, 10, 60, -1)]  # 100 lots bid at 50, 10 asked at 60


@BOTH
def test_an_order_fills_after_exactly_the_lots_ahead_of_it(has_impact):
    market = open_day(
        *AHEAD,
        (ADD, 3, 40, 50, 1),  # behind the own order
        (EXECUTE, 1, 60, 50, 1),
        (REDUCE, 1, 20, 50, 1),
        (REDUCE, 3, 5, 50, 1),
        (EXECUTE, 1, 20, 50, 1),  # the last lots ahead
        (EXECUTE, 3, 4, 50, 1),
        (EXECUTE, 3, 20, 50, 1),
        (EXECUTE, 3, 1, 50, 1),
        has_impact=has_impact,
    )
    market.advance(1)
    send(market, "limit", side=1, price=50, qty=10)
    assert trades(market.advance(6)) == []
    assert trades(market.advance(END)) == [(7, 50, 4), (8, 50, 6)]
    assert market.accounts[1].tolist() == [10, -500, 500, 0, 10]


@BOTH
def test_an_execution_at_a_worse_price_fills_who_waits_at_a_better_one(has_impact):
    events = [*AHEAD, (ADD, 3, 9, 48, 1), (DELETE, 1, 100, 50, 1), (EXECUTE, 3, 5, 48, 1)]
    market = open_day(*events, has_impact=has_impact)
    market.advance(1)
    send(market, "limit", side=1, price=50, qty=3)
    send(market, "limit", side=1, price=49, qty=7)
    assert trades(market.advance(END)) == [(4, 50, 3), (4, 49, 2)]


@BOTH
def test_the_execution_that_empties_a_queue_does_not_reach_those_behind_it(has_impact):
    market = open_day(*AHEAD, (EXECUTE, 1, 100, 50, 1), has_impact=has_impact)
    market.advance(1)
    send(market, "limit", side=1, price=50, qty=3)
    assert trades(market.advance(END)) == []


@BOTH
def test_an_order_of_history_that_would_trade_with_an_own_one_does(has_impact):
    events = [*AHEAD, (ADD, 3, 8, 55, -1), (ADD, 4, 8, 56, -1)]
    market = open_day(*events, has_impact=has_impact)
    market.advance(1)
    send(market, "limit", side=1, price=57, qty=3)
    send(market, "limit", side=1, price=55, qty=9)
    assert trades(market.advance(2)) == [(2, 57, 3), (2, 55, 5)]
    # 5 of 9 lots are left: with impact the order of history rests not at all
    expected = [55, 4, 60, 10] if has_impact else [50, 100, 55, 8]
    assert list(market.quotes) == expected
    assert trades(market.advance(END)) == []


@BOTH
@pytest.mark.parametrize(
    ("own_price", "hidden_price", "filled"),
    [(51, 51, 4), (51, 50, 4), (51, 52, 0), (50, 50, 0)],
)
def test_a_hidden_execution_comes_after_displayed_orders(
    has_impact, own_price, hidden_price, filled
):
    market = open_day(*AHEAD, (EXECUTE_HIDDEN, 0, 4, hidden_price, 1), has_impact=has_impact)
    market.advance(1)
    send(market, "limit", side=1, price=own_price, qty=9)
    assert market.advance(END).fills["qty"].sum() == filled  # 100 lots are displayed at 50


# --- taking


def test_taking_without_impact_leaves_history_and_can_be_done_again():
    market = open_day(*AHEAD, (ADD, 3, 5, 61, -1), has_impact=False)
    market.advance(END)
    numbers = [send(market, "ioc", side=1, price=60, qty=30) for _ in range(2)]
    numbers.append(send(market, "market", side=1, qty=13))
    answer = market.advance(END)
    assert trades(answer) == [(END, 60, 10), (END, 60, 10), (END, 60, 10), (END, 61, 3)]
    assert answer.acks["filled"].tolist() == [10, 10, 13]
    assert answer.acks["message"].tolist() == numbers
    assert market.depth(2).tolist() == [[50, 0], [100, 0], [60, 61], [10, 5]]


def test_taking_with_impact_leaves_less_for_history():
    market = open_day(
        *AHEAD,
        (EXECUTE, 2, 4, 60, -1),
        (REDUCE, 2, 3, 60, -1),
        (EXECUTE, 2, 2, 60, -1),
        (DELETE, 2, 1, 60, -1),
        has_impact=True,
    )
    market.advance(1)
    send(market, "ioc", side=1, price=60, qty=5)
    assert trades(market.advance(1)) == [(1, 60, 5)]
    assert list(market.quotes) == [50, 100, 60, 5]
    market.advance(2)  # 4 of 5
    assert list(market.quotes) == [50, 100, 60, 1]
    market.advance(END)  # 1 of 3, then nobody for 2 lots, then nothing to delete
    assert list(market.quotes) == [50, 100, 0, 0]
    assert (market.n_trimmed, market.n_ignored, market.lost_lots) == (1, 2, 2)


def test_an_order_spared_by_an_own_one_rests_on_with_impact():
    events = [*AHEAD, (ADD, 3, 6, 50, 1), (DELETE, 1, 100, 50, 1), (EXECUTE, 3, 6, 50, 1)]
    events += [(ADD, 4, 9, 49, 1), (EXECUTE, 4, 3, 49, 1)]
    books = {}
    for has_impact in (False, True):
        market = open_day(*events, has_impact=has_impact)
        market.advance(1)
        send(market, "limit", side=1, price=50, qty=4)  # ahead of order 3
        assert trades(market.advance(4)) == [(4, 50, 4)]
        market.advance(5)
        books[has_impact] = [list(market.quotes)]
        market.advance(END)
        books[has_impact].append(list(market.quotes))
    assert books[False] == [[49, 9, 60, 10], [49, 6, 60, 10]]
    # 4 lots of order 3 are left, which the taker at 49 meets first; nothing is left for order 4
    assert books[True] == [[50, 4, 60, 10], [50, 1, 60, 10]]


@BOTH
def test_a_modified_order_that_leaves_its_place_queues_anew(has_impact):
    events = [*AHEAD, (ADD, 3, 6, 49, 1), (ADD, 4, 6, 50, 1), (DELETE, 1, 100, 50, 1)]
    events += [(EXECUTE, 4, 6, 50, 1), (EXECUTE, 3, 5, 49, 1), (EXECUTE, 3, 1, 49, 1)]
    events += [(ADD, 5, 9, 49, 1), (EXECUTE, 5, 2, 49, 1)]
    market = open_day(*events, has_impact=has_impact)
    market.advance(1)
    number = send(market, "limit", side=1, price=49, qty=4)  # before order 3
    market.advance(3)
    send(market, "modify", handle=-1 - number, price=49, qty=5)  # behind it
    assert trades(market.advance(7)) == []
    assert trades(market.advance(END)) == [(9, 49, 2)]


def test_an_order_modified_without_impact_takes_what_is_shown():
    market = open_day(*AHEAD, (ADD, 3, 8, 55, -1), has_impact=False)
    market.advance(1)
    number = send(market, "limit", side=1, price=55, qty=9)
    assert trades(market.advance(2)) == [(2, 55, 8)]
    send(market, "modify", handle=-1 - number, price=55, qty=6)
    answer = market.advance(END)
    assert trades(answer) == [(2, 55, 6)] and answer.acks["resting"].tolist() == [0]


def test_a_spared_order_stands_behind_those_that_came_before_it():
    events = [*AHEAD, (DELETE, 1, 100, 50, 1), (ADD, 3, 6, 49, 1), (ADD, 4, 6, 49, 1)]
    # order 4 trades out of its turn, and an own order spares 4 of its lots
    events += [(EXECUTE, 4, 6, 49, 1), (EXECUTE, 3, 5, 49, 1), (DELETE, 3, 1, 49, 1)]
    market = open_day(*events, has_impact=True)
    market.advance(1)
    send(market, "limit", side=1, price=49, qty=4)
    assert trades(market.advance(END)) == [(5, 49, 4)]
    assert list(market.quotes) == [49, 4, 60, 10]


@BOTH
def test_all_or_nothing_and_post_only_look_at_all_there_is(has_impact):
    market = open_day(*AHEAD, (ADD, 3, 5, 61, -1), has_impact=has_impact, n_owners=3)
    market.advance(END)
    market.send(make_messages({"kind": "limit", "owner": 2, "side": -1, "price": 59, "qty": 2}))
    send(market, "fok", side=1, price=61, qty=18)
    send(market, "fok", side=1, price=60, qty=12)
    send(market, "post_only", side=1, price=60 if not has_impact else 61, qty=1)
    answer = market.advance(END)
    assert [STATUSES[s] for s in answer.acks["status"]] == [
        "accepted",
        "fill-or-kill order cannot be filled",
        "accepted",
        "post-only order would trade",
    ]
    assert trades(answer) == [(END, 59, 2), (END, 60, 10)]
    assert market.accounts[:, POSITION].tolist() == [-10, 12, -2]


# --- against a market kept in plain lists


def draw_messages(history: History, tape: Tape, n: int, rng: np.random.Generator):
    """Own messages around the quotes of a tape, and when they arrive."""
    ts = np.sort(rng.integers(history.ts[0] - 1, history.ts[-1] + 1, n))
    messages = np.zeros(n, dtype=MESSAGE)
    names = ["limit", "market", "ioc", "fok", "post_only", "cancel", "reduce", "modify"]
    kinds = rng.choice(names, n, p=[0.35, 0.05, 0.12, 0.08, 0.1, 0.1, 0.1, 0.1])
    messages["kind"] = [KINDS[kind] for kind in kinds]
    messages["side"], messages["owner"] = rng.choice([-1, 1], n), rng.integers(1, 4, n)
    row = np.maximum(np.searchsorted(history.ts, ts) - 1, 0)
    mid = (tape.best_bid[row].astype(int) + tape.best_ask[row]) // 2
    messages["price"] = np.maximum(mid - messages["side"] * rng.integers(-4, 8, n), 1)
    messages["qty"], messages["tag"] = rng.integers(1, 30, n), np.arange(n) + 1
    messages["handle"] = -1 - np.maximum(np.arange(n) - rng.integers(1, 12, n), 0)
    return messages, ts.tolist()


def make_replay(source: str, seed: int) -> ReplayReport:
    """A random day, hidden executions included: whole, or as a record of some levels shows it."""
    tape, rng = record_stream(800, seed), np.random.default_rng(seed)
    if source != "whole":
        tape, book = make_shallow(tape, int(source))
    rows = np.sort(rng.choice(len(tape), len(tape) + len(tape) // 10))
    rows = np.sort(np.concatenate([np.arange(len(tape)), rows[:: len(rows) // 40]]))
    again = np.flatnonzero(np.diff(rows, prepend=-1) == 0)  # these become hidden executions
    tape = select(tape, rows)
    side, bid, ask = rng.choice([-1, 1], len(again)), tape.best_bid[again], tape.best_ask[again]
    tape.kind[again], tape.order_id[again], tape.direction[again] = EXECUTE_HIDDEN, 0, side
    tape.price[again] = np.where(side > 0, bid, ask) + side * rng.integers(0, 2, len(again))
    tape.size[again] = rng.integers(1, 30, len(again))
    if source == "whole":
        return rebuild(to_messages(tape, **NAMES))
    return replay_tape(tape, book[rows])


@BOTH
@pytest.mark.parametrize("source", ["whole", "1", "3"])
@pytest.mark.parametrize("seed", range(6))
def test_it_does_what_a_market_in_plain_lists_does(has_impact, source, seed):
    done, rng = make_replay(source, seed), np.random.default_rng(seed)
    messages, arrives = draw_messages(done.history, done.tape, 150, rng)
    assert done.n_unexplained == 0 and done.verdicts["executed behind a better price"] == 0
    expected = ListMarket(done.history, has_impact)
    expected.run(messages, arrives)

    market = HistoricalMarket(done.history, has_impact=has_impact, n_owners=4, capacity=256)
    fills = []
    for message, ts in zip(messages, arrives, strict=True):
        answer = market.advance(ts)
        fills += answer.fills.tolist()
        market.send(np.array([message]))
    fills += market.advance(END).fills.tolist()
    seen = [(f[0], f[1], f[3] if f[4] else 0, f[4], *f[5:8]) for f in fills]
    assert len(seen) > 20
    assert seen == expected.fills
    assert market.depth(8).tolist() == expected.depth(8)
    assert [market.n_ignored, market.n_trimmed, market.lost_lots] == expected.counts


# --- what history keeps


@BOTH
@pytest.mark.parametrize("source", ["whole", "1", "3"])
def test_without_own_orders_it_is_the_replay_bit_for_bit(has_impact, source):
    done = make_replay(source, 0)
    levels = done.book.shape[1] // 4
    market = HistoricalMarket(done.history, has_impact=has_impact)
    for row in done.book:
        answer = market.step()
        assert market.depth(levels)[[2, 3, 0, 1]].T.ravel().tolist() == row.tolist()
        assert len(answer.fills) == len(answer.acks) == 0
    assert market.is_over and market.now_ns == done.history.ts[-1]
    assert (market.n_ignored, market.n_trimmed, market.lost_lots, market.n_refused) == (0, 0, 0, 0)


@pytest.mark.parametrize("source", ["whole", "1", "3"])
def test_without_impact_own_orders_change_nothing_of_history(source):
    done, rng = make_replay(source, 1), np.random.default_rng(1)
    messages, arrives = draw_messages(done.history, done.tape, 200, rng)
    busy = HistoricalMarket(done.history, has_impact=False, n_owners=4)
    alone = HistoricalMarket(done.history, has_impact=False)
    n_fills = 0
    for message, ts in zip(messages, arrives, strict=True):
        n_fills += len(busy.advance(ts).fills)
        alone.advance(ts)
        np.testing.assert_array_equal(busy.depth(10), alone.depth(10))
        busy.send(np.array([message]))
    assert n_fills > 20
    assert (busy.n_ignored, busy.n_trimmed, busy.lost_lots) == (0, 0, 0)


def run_day(
    history: History, messages: np.ndarray, arrives: list[int], has_impact: bool, latency: int = 0
) -> tuple[HistoricalMarket, np.ndarray, np.ndarray]:
    market = HistoricalMarket(history, has_impact=has_impact, n_owners=4, entry_latency_ns=latency)
    answers = []
    for message, ts in zip(messages, arrives, strict=True):
        answers.append(market.advance(ts))
        market.send(np.array([message]))
    answers.append(market.advance(END))
    fills = np.concatenate([answer.fills for answer in answers])
    return market, fills, np.concatenate([answer.acks for answer in answers])


@BOTH
@pytest.mark.parametrize("seed", range(4))
def test_lots_and_cash_are_conserved_and_fills_alone_account_for_them(has_impact, seed):
    done, rng = make_replay("whole", seed), np.random.default_rng(seed)
    messages, arrives = draw_messages(done.history, done.tape, 200, rng)
    market, fills, acks = run_day(done.history, messages, arrives, has_impact)
    np.testing.assert_array_equal(acks["message"], np.arange(200))
    assert market.accounts[:, [POSITION, CASH]].sum(axis=0).tolist() == [0, 0]
    assert market.accounts[:, MADE].sum() == market.accounts[:, TOOK].sum()
    traded = fills[fills["cause"] == 0]
    unseen = market.accounts[:, LOTS].sum() - 2 * traded["qty"].sum()
    if has_impact:  # takers of history also meet orders of history that own ones have spared
        assert unseen > 0 and unseen % 2 == 0
    else:
        assert unseen == 0
    for owner in (1, 2, 3):
        made = traded[traded["maker_owner"] == owner]
        took = traded[traded["message"] >= 0]
        took = took[messages["owner"][took["message"]] == owner]
        lots = (took["qty"] * took["taker_side"]).sum() - (made["qty"] * made["taker_side"]).sum()
        assert market.accounts[owner, POSITION] == lots
        notional = took["qty"] * took["taker_side"] * took["price"].astype(np.int64)
        cash = (made["qty"] * made["taker_side"] * made["price"].astype(np.int64)).sum()
        assert market.accounts[owner, CASH] == cash - notional.sum()
        assert market.accounts[owner, LOTS] == took["qty"].sum() + made["qty"].sum() > 0
    for number, ack in enumerate(acks):
        assert ack["filled"] == traded["qty"][traded["message"] == number].sum()
    queues = read_queues(market._venue.own)
    resting = {
        tag: lots for side in queues.values() for q in side.values() for _, lots, o, tag in q if o
    }
    opened = np.isin(messages["kind"], [KINDS["limit"], KINDS["post_only"]])
    assert set(resting) <= set(messages["tag"][opened].tolist())


@BOTH
def test_earlier_fills_do_not_depend_on_later_messages_of_history(has_impact):
    tape, middle = record_stream(800, 3), 600
    order = np.random.default_rng(0).permutation(np.arange(middle, len(tape)))
    scrambled = select(tape, np.concatenate([np.arange(middle), order]))
    days = [tape, replace(scrambled, ts=tape.ts)]
    fills = []
    for day in days:
        done = rebuild(to_messages(day, **NAMES))
        messages, arrives = draw_messages(done.history, tape, 300, np.random.default_rng(3))
        fills.append(run_day(done.history, messages, arrives, has_impact)[1])
    early = [f[f["ts"] < tape.ts[middle]] for f in fills]
    assert len(early[0]) > 20 and len(fills[0]) > len(early[0])
    assert early[0].tobytes() == early[1].tobytes()


@BOTH
def test_how_the_day_is_cut_into_steps_changes_no_fill(has_impact):
    done, rng = make_replay("3", 2), np.random.default_rng(2)
    messages, arrives = draw_messages(done.history, done.tape, 100, rng)
    market, fills, acks = run_day(done.history, messages, arrives, has_impact, latency=7)
    cut = HistoricalMarket(done.history, has_impact=has_impact, n_owners=4, entry_latency_ns=7)
    answers, sent = [], 0
    for now in range(arrives[0], arrives[-1] + 1):
        answers.append(cut.advance(now))
        n = arrives.count(now)
        cut.send(messages[sent : sent + n])
        sent += n
    while not cut.is_over:
        answers.append(cut.step(2))
    answers.append(cut.advance(END))
    for name, whole in (("fills", fills), ("acks", acks)):
        assert np.concatenate([getattr(a, name) for a in answers]).tobytes() == whole.tobytes()
    assert cut.accounts.tolist() == market.accounts.tolist()


# --- time, views, room


@BOTH
def test_a_message_reaches_the_market_after_the_entry_latency_and_the_rows_of_that_time(has_impact):
    events = [*AHEAD, (DELETE, 2, 10, 60, -1), (ADD, 3, 10, 62, -1), (ADD, 4, 10, 61, -1)]
    for latency, expected in (
        (0, [(1, 60, 5)]),
        (1, [(2, 62, 0)]),
        (2, [(3, 62, 5)]),
        (3, [(4, 61, 5)]),
    ):
        market = open_day(*events, has_impact=has_impact, entry_latency_ns=latency)
        market.advance(1)
        send(market, "market", side=1, qty=5)
        answer = market.advance(END)
        assert answer.acks["ts"].tolist() == [1 + latency]
        assert trades(answer) == [fill for fill in expected if fill[2]]


@BOTH
def test_a_cancel_may_name_an_order_before_it_is_acknowledged(has_impact):
    market = open_day(*AHEAD, has_impact=has_impact, entry_latency_ns=5)
    market.advance(1)
    number = send(market, "limit", side=1, price=50, qty=3)
    send(market, "cancel", handle=-1 - number)
    send(market, "cancel", handle=-1 - number)
    assert len(market.advance(5).acks) == 0
    statuses = [STATUSES[s] for s in market.advance(6).acks["status"]]
    assert statuses == ["accepted", "accepted", "no such order"]


@BOTH
def test_lots_that_come_into_view_stand_before_orders_that_joined_unseen(has_impact):
    # a record of one level: what rests at 49 shows when 50 empties
    events = [(ADD, 1, 10, 50, 1), (DELETE, 1, 10, 50, 1), (EXECUTE, 8, 30, 49, 1)]
    events += [(ADD, 2, 6, 49, 1), (EXECUTE, 9, 40, 49, 1), (EXECUTE, 2, 5, 49, 1)]
    quotes = [(50, 10, 60, 1), (49, 70, 60, 1), (49, 40, 60, 1), (49, 46, 60, 1)]
    quotes += [(49, 6, 60, 1), (49, 1, 60, 1)]
    done = replay_tape(make_tape(*events, quotes=quotes))
    assert done.n_unexplained == 0
    market = HistoricalMarket(done.history, has_impact=has_impact)
    market.advance(0)
    send(market, "limit", side=1, price=49, qty=3)  # out of view
    market.advance(2)
    send(market, "limit", side=1, price=49, qty=4)  # in view, before order 2
    assert trades(market.advance(4)) == []  # 70 lots are ahead
    assert trades(market.advance(5)) == [(5, 49, 3), (5, 49, 2)]


@BOTH
def test_what_goes_unseen_is_taken_to_have_been_behind(has_impact):
    # 70 lots come into view, 50 covers them, and then there are 80: 10 joined after the own order
    events = [(ADD, 1, 10, 50, 1), (DELETE, 1, 10, 50, 1), (ADD, 2, 5, 50, 1)]
    events += [(DELETE, 2, 5, 50, 1), (DELETE, 9, 8, 49, 1), (EXECUTE, 7, 62, 49, 1)]
    events += [(EXECUTE, 7, 8, 49, 1), (EXECUTE, 8, 1, 49, 1)]
    bids = [(50, 10), (49, 70), (50, 5), (49, 80), (49, 72), (49, 10), (49, 2), (49, 1)]
    done = replay_tape(make_tape(*events, quotes=[(*bid, 60, 1) for bid in bids]))
    assert done.n_unexplained == 0
    market = HistoricalMarket(done.history, has_impact=has_impact)
    market.advance(1)
    send(market, "limit", side=1, price=49, qty=3)
    assert trades(market.advance(6)) == []
    assert trades(market.advance(END)) == [(7, 49, 1)]


@BOTH
def test_the_books_of_history_and_of_the_callers_can_be_read(has_impact):
    market = open_day(*AHEAD, has_impact=has_impact)
    market.advance(1)
    send(market, "limit", side=1, price=50, qty=3, tag=8)
    send(market, "limit", side=1, price=49, qty=4, tag=9)
    handles = market.advance(END).acks["handle"].tolist()
    book, own = read_queues(market.book_state), read_queues(market.own_state)
    mine = {50: (handles[0], 3, 1, 8), 49: (handles[1], 4, 1, 9)}
    for price, order in mine.items():
        assert own[1][price][-1] == order
    lots = [sum(q for _, q, *_ in book[1].get(price, [])) for price in (50, 49)]
    assert lots == ([103, 4] if has_impact else [100, 0])
    assert np.shares_memory(market.book_state, market.own_state) == has_impact
    send(market, "cancel", handle=handles[0])
    before = market.own_state
    market.advance(END)
    assert 49 in read_queues(before)[1]  # the same vector, moved on
    assert (50 in read_queues(before)[1]) == has_impact


@BOTH
def test_history_has_no_owner_and_gets_no_orders(has_impact):
    market = open_day(*AHEAD, has_impact=has_impact)
    market.advance(END)
    market.send(
        make_messages(
            *[{"kind": "ioc", "side": 1, "price": 60, "qty": 1, "owner": o} for o in (0, 2)]
        )
    )
    market.send(make_messages({"kind": "cancel", "handle": 1025}, {"kind": "limit", "owner": 1}))
    answer = market.advance(END)
    assert [STATUSES[s] for s in answer.acks["status"]] == [
        "owner has no account",
        "owner has no account",
        "owner has no account",
        "side is neither 1 nor -1",
    ]
    assert list(market.quotes) == [50, 100, 60, 10]


@BOTH
def test_own_orders_beyond_the_capacity_are_refused_and_counted(has_impact):
    market = open_day(*AHEAD, has_impact=has_impact, capacity=2)
    market.advance(END)
    for _ in range(5):
        send(market, "limit", side=1, price=40, qty=1)
    statuses = [STATUSES[s] for s in market.advance(END).acks["status"]]
    assert statuses == ["accepted"] * 2 + ["book is full"] * 3
    assert market.n_refused == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"entry_latency_ns": -1}, "entry_latency_ns -1 >= 0"),
        ({"n_owners": 1}, "n_owners 1 >= 2"),
        ({"capacity": 0}, "capacity 0 >= 1"),
    ],
)
def test_a_market_that_makes_no_sense_is_not_opened(arguments, words):
    with pytest.raises(InjectionError, match=words):
        open_day(*AHEAD, has_impact=False, **arguments)


def test_calls_that_make_no_sense_are_refused():
    with pytest.raises(InjectionError, match="no rows"):
        open_day(has_impact=False)
    market = open_day(*AHEAD, has_impact=False)
    market.advance(7)
    with pytest.raises(InjectionError, match="until_ns 6: the day has been played to 7"):
        market.advance(6)
    with pytest.raises(InjectionError, match="n_rows 0"):
        market.step(0)
    with pytest.raises(InjectionError, match=r"dtype book.MESSAGE, received int64 of shape \(3,\)"):
        market.send(np.zeros(3, dtype=np.int64))


# --- a real day


@BOTH
def test_a_real_day_plays_like_its_replay(has_impact, tmp_path):
    done = read_real("AMZN", tmp_path).replay()
    market = HistoricalMarket(done.history, has_impact=has_impact)
    for row in np.random.default_rng(0).integers(0, done.rows, 300).cumsum() % 400:
        market.step(int(row) + 1)
        shown = done.book[market.n_played - 1]
        assert market.depth(1)[[2, 3, 0, 1]].T.ravel().tolist() == shown.tolist()
    assert market.is_over
