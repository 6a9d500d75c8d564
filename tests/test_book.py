import numpy as np
import pytest

from hftlib.market import ladder
from hftlib.market.book import (
    SELF_TRADE,
    STATUSES,
    OrderBook,
    open_books,
    state_size,
)
from hftlib.market.ladder import HANDLE, HEADER, LEVEL, MAX_LOTS, MAX_PRICE, ORDER
from tests.book_audit import read_queues
from tests.book_cases import make_messages, read_levels, vectors

BUY, SELL = 1, -1


def rest(book: OrderBook, side: int, price: int, qty: int, **fields: int) -> int:
    """Handle of a limit order that must rest whole."""
    fills, ack = book.send("limit", side=side, price=price, qty=qty, **fields)
    assert len(fills) == 0
    assert (STATUSES[ack["status"]], ack["resting"]) == ("accepted", qty)
    return int(ack["handle"])


def answer(book: OrderBook, kind: str, **fields: int) -> tuple[list[tuple[int, int, int]], tuple]:
    """(maker, price, qty) of each fill, and (status, filled, resting)."""
    fills, ack = book.send(kind, **fields)
    trades = [(int(f["maker"]), int(f["price"]), int(f["qty"])) for f in fills]
    return trades, (STATUSES[ack["status"]], int(ack["filled"]), int(ack["resting"]))


def test_a_limit_order_trades_at_the_resting_prices_and_rests_with_what_is_left():
    book = OrderBook()
    far, first, second = (rest(book, SELL, p, q) for p, q in ((103, 5), (101, 2), (101, 3)))
    trades, ack = answer(book, "limit", side=BUY, price=102, qty=9)
    assert trades == [(first, 101, 2), (second, 101, 3)]
    assert ack == ("accepted", 5, 4)
    assert read_levels(book, 2) == [(102, 4, 103, 5), (0, 0, 0, 0)]
    assert answer(book, "limit", side=BUY, price=103, qty=1)[0] == [(far, 103, 1)]
    assert (book.best_bid, book.best_ask, book.n_orders) == (102, 103, 2)
    assert (book.state[ladder.LAST_PRICE], book.state[ladder.TRADED]) == (103, 6)


def test_the_oldest_order_of_a_price_trades_first_and_partial_fills_keep_its_place():
    book = OrderBook()
    handles = [rest(book, BUY, 50, 4) for _ in range(3)]
    trades = [answer(book, "limit", side=SELL, price=50, qty=3)[0] for _ in range(4)]
    assert trades == [
        [(handles[0], 50, 3)],
        [(handles[0], 50, 1), (handles[1], 50, 2)],
        [(handles[1], 50, 2), (handles[2], 50, 1)],
        [(handles[2], 50, 3)],
    ]
    assert read_levels(book, 1) == [(0, 0, 0, 0)]


def test_what_a_market_order_does_not_find_is_cancelled():
    book = OrderBook()
    assert answer(book, "market", side=BUY, qty=3) == ([], ("accepted", 0, 0))
    handle = rest(book, SELL, MAX_PRICE, 2)
    trades, ack = answer(book, "market", side=BUY, qty=3)
    assert (trades, ack) == ([(handle, MAX_PRICE, 2)], ("accepted", 2, 0))
    handle = rest(book, BUY, 1, 2)
    assert answer(book, "market", side=SELL, qty=1)[0] == [(handle, 1, 1)]
    assert read_levels(book, 1) == [(1, 1, 0, 0)]


def test_an_immediate_or_cancel_order_trades_up_to_its_price_and_never_rests():
    book = OrderBook()
    near = rest(book, SELL, 101, 2)
    rest(book, SELL, 102, 2)
    trades, ack = answer(book, "ioc", side=BUY, price=101, qty=3)
    assert (trades, ack) == ([(near, 101, 2)], ("accepted", 2, 0))
    assert answer(book, "ioc", side=BUY, price=101, qty=3) == ([], ("accepted", 0, 0))
    assert read_levels(book, 1) == [(0, 0, 102, 2)]


@pytest.mark.parametrize("distance", [1, 3, 1_000_000])
def test_a_fill_or_kill_order_trades_wholly_or_changes_nothing(distance):
    book = OrderBook(window=8)
    makers = [rest(book, SELL, 100 + k * distance, 2) for k in range(3)]
    before = vectors(book)
    limit = 100 + distance
    for price, qty in ((limit, 5), (limit + distance - 1, 5), (99, 1), (100 + 2 * distance, 7)):
        refusal = ([], ("fill-or-kill order cannot be filled", 0, 0))
        assert answer(book, "fok", side=BUY, price=price, qty=qty) == refusal
        assert vectors(book) == before
    trades, ack = answer(book, "fok", side=BUY, price=limit, qty=4)
    assert trades == [(makers[0], 100, 2), (makers[1], limit, 2)]
    assert ack == ("accepted", 4, 0)


def test_a_post_only_order_rests_or_is_refused():
    book = OrderBook()
    rest(book, SELL, 101, 1)
    before = vectors(book)
    refusal = ([], ("post-only order would trade", 0, 0))
    assert answer(book, "post_only", side=BUY, price=101, qty=1) == refusal
    assert vectors(book) == before
    assert answer(book, "post_only", side=BUY, price=100, qty=1) == ([], ("accepted", 0, 1))


def test_a_cancelled_order_never_fills_and_cannot_be_cancelled_twice():
    book = OrderBook()
    first, second = rest(book, SELL, 101, 1), rest(book, SELL, 101, 1)
    assert answer(book, "cancel", handle=first) == ([], ("accepted", 0, 0))
    assert answer(book, "market", side=BUY, qty=5)[0] == [(second, 101, 1)]
    for handle in (first, second):
        assert answer(book, "cancel", handle=handle)[1][0] == "no such order"


def test_a_reduced_order_keeps_its_place_and_goes_with_its_last_lot():
    book = OrderBook()
    first, second = rest(book, SELL, 101, 5), rest(book, SELL, 101, 5)
    assert answer(book, "reduce", handle=first, qty=3) == ([], ("accepted", 0, 2))
    assert read_levels(book, 1) == [(0, 0, 101, 7)]
    assert answer(book, "market", side=BUY, qty=3)[0] == [(first, 101, 2), (second, 101, 1)]
    assert answer(book, "reduce", handle=second, qty=MAX_LOTS) == ([], ("accepted", 0, 0))
    assert book.n_orders == 0


@pytest.mark.parametrize(
    ("price", "qty", "keeps"), [(101, 5, True), (101, 2, True), (101, 6, False), (102, 1, False)]
)
def test_a_modified_order_keeps_its_place_only_at_its_price_without_more_lots(price, qty, keeps):
    book = OrderBook()
    first, second = rest(book, SELL, 101, 5, tag=7), rest(book, SELL, 101, 5)
    _, ack = book.send("modify", handle=first, price=price, qty=qty, tag=8)
    handle = int(ack["handle"])
    assert (STATUSES[ack["status"]], ack["resting"]) == ("accepted", qty)
    assert (handle == first) is keeps
    assert answer(book, "cancel", handle=first)[1][0] == ("accepted" if keeps else "no such order")
    if not keeps:
        fills, _ = book.send("market", side=BUY, qty=5 + qty)
        assert fills["maker"].tolist() == [second, handle]
        assert fills["maker_tag"].tolist() == [0, 7]


def test_a_modified_order_may_trade():
    book = OrderBook()
    ask, bid = rest(book, SELL, 105, 2), rest(book, BUY, 100, 3)
    trades, ack = answer(book, "modify", handle=bid, price=105, qty=9)
    assert (trades, ack) == ([(ask, 105, 2)], ("accepted", 2, 7))
    assert read_levels(book, 1) == [(105, 7, 0, 0)]


@pytest.mark.parametrize("kind", ["limit", "ioc"])
def test_an_own_resting_order_trades_is_cancelled_or_stops_the_incoming_one(kind):
    seen = {}
    for mode in SELF_TRADE:
        book = OrderBook(self_trade=mode, n_owners=3)
        handles = [rest(book, SELL, 100 + k, 2, owner=owner) for k, owner in enumerate((2, 1, 2))]
        fills, ack = book.send(kind, side=BUY, price=102, qty=5, owner=1)
        rows = [(handles.index(f["maker"]), int(f["qty"]), int(f["cause"])) for f in fills]
        seen[mode] = (rows, STATUSES[ack["status"]], int(ack["filled"]), book.n_orders)
    left = 1 if kind == "limit" else 0  # a fifth lot rests where only four were for sale
    assert seen == {
        "allow": ([(0, 2, 0), (1, 2, 0), (2, 1, 0)], "accepted", 5, 1),
        "cancel_resting": ([(0, 2, 0), (1, 2, 1), (2, 2, 0)], "accepted", 4, left),
        "cancel_incoming": ([(0, 2, 0)], "stopped by self-trade prevention", 2, 2),
    }


@pytest.mark.parametrize("mode", list(SELF_TRADE))
def test_anonymous_orders_trade_with_each_other(mode):
    book = OrderBook(self_trade=mode)
    handle = rest(book, SELL, 100, 1)
    assert answer(book, "market", side=BUY, qty=1)[0] == [(handle, 100, 1)]


@pytest.mark.parametrize("distance", [1, 1_000_000])
@pytest.mark.parametrize(
    ("mode", "qty", "filled"),
    [
        ("allow", 6, 6),
        ("cancel_resting", 6, 0),
        ("cancel_resting", 4, 4),
        ("cancel_incoming", 4, 0),
        ("cancel_incoming", 2, 2),
    ],
)
def test_fill_or_kill_counts_only_lots_that_it_may_take(mode, qty, filled, distance):
    book = OrderBook(self_trade=mode, n_owners=3, window=8)
    for k, owner in enumerate((2, 1, 2)):
        rest(book, SELL, 100 + k * distance, 2, owner=owner)
    _, (status, got, _) = answer(book, "fok", side=BUY, price=100 + 2 * distance, qty=qty, owner=1)
    assert got == filled
    assert status == ("accepted" if filled else "fill-or-kill order cannot be filled")


def test_fees_are_basis_points_of_the_notional_made_and_taken():
    book = OrderBook(tick_size=0.01, lot_size=10, maker_fee_bps=-0.2, taker_fee_bps=0.3, n_owners=3)
    rest(book, SELL, book.to_ticks(250.0), book.to_lots(40), owner=1)
    book.send("market", side=BUY, qty=3, owner=2)
    # 30 units at 250.00 are 7,500
    assert (book.position(1), book.position(2)) == (-3, 3)
    assert book.cash(1) == pytest.approx(7_500 + 0.15, abs=1e-9)
    assert book.cash(2) == pytest.approx(-7_500 - 0.225, abs=1e-9)


def test_trading_with_oneself_costs_both_fees_only():
    book = OrderBook(maker_fee_bps=1, taker_fee_bps=2, self_trade="allow")
    rest(book, BUY, 100, 5, owner=1)
    book.send("market", side=SELL, qty=5, owner=1)
    assert book.position(1) == 0
    assert book.cash(1) == pytest.approx(-5 * 1.00 * 3e-4, abs=1e-15)


def test_a_negative_handle_names_the_order_of_an_earlier_message_of_the_make_messages():
    quote = {"kind": "limit", "side": BUY, "price": 100, "qty": 5}
    _, acks = OrderBook().process(
        make_messages(
            quote,
            {"kind": "reduce", "handle": -1, "qty": 1},
            {"kind": "modify", "handle": -2, "price": 99, "qty": 4},  # the handle it kept
            {"kind": "cancel", "handle": -1},  # gone: it has the handle of message 2 now
            {"kind": "cancel", "handle": -3},
            {"kind": "cancel", "handle": -6},  # itself
            {"kind": "cancel", "handle": -8},  # later
            quote,
            quote | {"qty": 0},
            {"kind": "cancel", "handle": -9},  # of a message that was refused
        )
    )
    accepted = [STATUSES[status] == "accepted" for status in acks["status"]]
    assert accepted == [True, True, True, False, True, False, False, True, False, False]
    assert acks["resting"].tolist() == [5, 4, 4, 0, 0, 0, 0, 5, 0, 0]
    assert STATUSES[acks["status"][6]] == "no such order"


def slot_of(book: OrderBook, handle: int) -> np.ndarray:
    """The entries of an order in the state vector."""
    capacity, window = book.state[ladder.CAPACITY], book.state[ladder.WINDOW]
    start = HEADER + LEVEL * window + ORDER * (handle & (capacity - 1))
    return book.state[start : start + ORDER]


def test_a_handle_finds_neither_the_next_order_of_its_slot_nor_a_free_slot():
    book = OrderBook(capacity=2)
    used = []
    for _ in range(5):
        handle = rest(book, BUY, 100, 1)
        assert handle not in used
        for dead in (*used, handle + 2, handle ^ 1):  # next generation, the other slot
            assert answer(book, "cancel", handle=dead)[1][0] == "no such order"
        answer(book, "cancel", handle=handle)
        assert answer(book, "cancel", handle=int(slot_of(book, handle)[HANDLE]))[1][0] == (
            "no such order"
        )
        used.append(handle)


@pytest.mark.parametrize("capacity", [2, 8, 4096])
def test_generations_start_anew_before_a_handle_overflows(capacity):
    book = OrderBook(capacity=capacity)
    first = rest(book, BUY, 100, 1)
    # the last two generations of the slot
    slot_of(book, first)[HANDLE] = first + (2**31 // capacity - 3) * capacity
    handles = [int(slot_of(book, first)[HANDLE])]
    for _ in range(3):
        answer(book, "cancel", handle=handles[-1])
        handles.append(rest(book, BUY, 100, 1))
        assert answer(book, "cancel", handle=handles[-2])[1][0] == "no such order"
        read_queues(book.state)
    last = 2**31 - capacity + (first & (capacity - 1))
    assert handles == [last - capacity, last, first, first + capacity]


@pytest.mark.parametrize("capacity", [2, 4, 8])
def test_a_full_book_refuses_to_queue_counts_it_and_changes_nothing_else(capacity):
    book = OrderBook(capacity=capacity)
    for k in range(capacity):
        rest(book, BUY, 100 - k, 1)
    before = book.state.copy()
    for kind in ("limit", "post_only"):
        assert answer(book, kind, side=BUY, price=50, qty=1) == ([], ("book is full", 0, 0))
    assert book.n_refused == 2
    assert np.flatnonzero(book.state != before).tolist() == [ladder.N_REFUSED]
    # it trades all the same, and what it takes makes room for itself
    assert answer(book, "limit", side=SELL, price=100, qty=2)[1] == ("accepted", 1, 1)
    assert answer(book, "limit", side=SELL, price=101, qty=1)[1] == ("book is full", 0, 0)


def test_an_order_that_finds_the_book_full_keeps_its_fills():
    book = OrderBook()
    rest(book, BUY, 90, MAX_LOTS - 2)
    ask = rest(book, SELL, 100, 2)
    trades, ack = answer(book, "limit", side=BUY, price=100, qty=5)
    assert (trades, ack) == ([(ask, 100, 2)], ("book is full", 2, 0))
    assert read_levels(book, 1) == [(90, MAX_LOTS - 2, 0, 0)]
    assert (book.n_refused, book.position(0)) == (1, 0)


def test_the_lots_of_a_side_never_exceed_what_32_bits_hold():
    book = OrderBook(window=8)
    rest(book, BUY, 100, MAX_LOTS - 2)
    far = rest(book, BUY, 1, 2)
    rest(book, SELL, 101, MAX_LOTS)
    for side, price in ((BUY, 100), (BUY, 50), (SELL, 2**30)):
        assert answer(book, "limit", side=side, price=price, qty=1)[1][0] == "book is full"
    assert read_levels(book, 2) == [(100, MAX_LOTS - 2, 101, MAX_LOTS), (1, 2, 0, 0)]
    # a modification that finds no room: its old order has left
    assert answer(book, "modify", handle=far, price=2, qty=3)[1][0] == "book is full"
    assert read_levels(book, 2) == [(100, MAX_LOTS - 2, 101, MAX_LOTS), (0, 0, 0, 0)]
    assert book.n_refused == 4
    assert answer(book, "market", side=BUY, qty=MAX_LOTS)[1] == ("accepted", MAX_LOTS, 0)


def test_counters_stop_at_the_largest_number_they_can_hold():
    book = OrderBook(capacity=2)
    for name in (ladder.N_REFUSED, ladder.TRADED, ladder.N_RECENTRED):
        book.state[name] = 2**31 - 2
    for price in (1, MAX_PRICE):  # the ladder follows to the first bid beyond it
        rest(book, BUY, price, 2)
    for _ in range(2):
        answer(book, "limit", side=BUY, price=5, qty=1)
    answer(book, "market", side=SELL, qty=4)
    for name in (ladder.N_REFUSED, ladder.TRADED, ladder.N_RECENTRED):
        assert book.state[name] == 2**31 - 1


def test_depth_goes_on_beyond_the_ladder():
    book = OrderBook(window=8)
    prices = [100, 99, 50, 2, 1]
    for price in prices:
        rest(book, BUY, price, price)
        rest(book, BUY, price, 1)
        rest(book, SELL, 301 - price, 3)
    assert book.state[ladder.N_FAR] > 0
    expected = [(price, price + 1, 301 - price, 3) for price in prices]
    assert read_levels(book, 7) == [*expected, (0, 0, 0, 0), (0, 0, 0, 0)]
    assert read_levels(book, 4) == expected[:4]
    assert read_levels(book, 0) == []


@pytest.mark.parametrize("window", [8, 1024, 2**20])
def test_the_lowest_and_the_highest_price_are_prices_like_others(window):
    book = OrderBook(window=window)
    rest(book, BUY, 1, 3)
    rest(book, SELL, MAX_PRICE, 4)
    assert read_levels(book, 1) == [(1, 3, MAX_PRICE, 4)]
    assert answer(book, "limit", side=SELL, price=1, qty=5)[1] == ("accepted", 3, 2)
    assert answer(book, "limit", side=BUY, price=MAX_PRICE, qty=7)[1] == ("accepted", 6, 1)
    assert read_levels(book, 1) == [(MAX_PRICE, 1, 0, 0)]
    read_queues(book.state)


def test_an_empty_book_shows_zeros():
    book = OrderBook()
    assert (book.best_bid, book.best_ask, book.n_orders, book.n_refused) == (0, 0, 0, 0)
    assert read_levels(book, 2) == [(0, 0, 0, 0)] * 2


def test_books_lie_side_by_side_and_are_all_empty():
    states = open_books(3, 16, 8, "allow")
    assert states.shape == (3, state_size(16, 8))
    assert all(read_queues(state) == {BUY: {}, SELL: {}} for state in states)
