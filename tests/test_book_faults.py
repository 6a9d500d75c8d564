import numpy as np
import pytest

from hftlib.market.book import (
    ACK,
    FILL,
    MESSAGE,
    STATUSES,
    BookError,
    OrderBook,
)
from hftlib.market.ladder import MAX_PRICE
from tests.book_cases import make_messages, vectors

BUY, SELL = 1, -1
SOUND = {"kind": "limit", "side": BUY, "price": 90, "qty": 1, "owner": 1}
FAULTS = [
    ({"kind": 0}, "unknown kind of message"),
    ({"kind": 9}, "unknown kind of message"),
    ({"kind": -(2**31), "side": 0}, "unknown kind of message"),
    ({"side": 0, "price": 0}, "side is neither 1 nor -1"),
    ({"kind": "market", "side": 2}, "side is neither 1 nor -1"),
    ({"price": 0, "qty": 0}, "price is outside [1, 2**30] ticks"),
    ({"price": MAX_PRICE + 1}, "price is outside [1, 2**30] ticks"),
    ({"kind": "modify", "price": -(2**31)}, "price is outside [1, 2**30] ticks"),
    ({"qty": 0, "owner": -1}, "size is not positive"),
    ({"kind": "market", "qty": -(2**31)}, "size is not positive"),
    ({"kind": "reduce", "qty": 0}, "size is not positive"),
    ({"owner": -1}, "owner has no account"),
    ({"owner": 3}, "owner has no account"),
    ({"kind": "cancel", "owner": 2**31 - 1}, "owner has no account"),
    ({"kind": "cancel", "handle": 0}, "no such order"),
    ({"kind": "reduce", "handle": 2**31 - 1}, "no such order"),
    ({"kind": "modify", "handle": -(2**31)}, "no such order"),
    ({"kind": "cancel", "owner": 2}, "order belongs to another owner"),
    ({"kind": "reduce", "owner": 0}, "order belongs to another owner"),
    ({"kind": "modify", "owner": 2}, "order belongs to another owner"),
    ({"kind": "post_only", "side": SELL, "price": 100}, "post-only order would trade"),
    ({"kind": "fok", "side": SELL, "price": 100, "qty": 6}, "fill-or-kill order cannot be filled"),
]


@pytest.mark.parametrize(("fault", "status"), FAULTS)
def test_a_refused_message_gets_its_first_fault_and_changes_no_bit(fault, status):
    book = OrderBook(n_owners=3, window=8, capacity=4)
    handle = int(book.send("limit", side=BUY, price=100, qty=5, owner=1)[1]["handle"])
    book.send("limit", side=BUY, price=10, qty=5, owner=2)  # outside the ladder
    before = vectors(book)
    fills, acks = book.process(make_messages(SOUND | {"handle": handle} | fault))
    assert STATUSES[acks["status"][0]] == status
    assert acks[0].tolist()[1:] == (0, 0, 0)
    assert len(fills) == 0
    assert vectors(book) == before


def test_an_array_of_no_messages_changes_nothing():
    book = OrderBook()
    before = vectors(book)
    fills, acks = book.process(np.zeros(0, MESSAGE))
    assert (fills.dtype, len(fills), acks.dtype, len(acks)) == (FILL, 0, ACK, 0)
    assert vectors(book) == before


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"window": 100}, "window 100: expected a power of two"),
        ({"window": 4}, "window 4: expected a power of two"),
        ({"capacity": 2**25}, "capacity 33554432: expected a power of two"),
        ({"capacity": 0}, "capacity 0: expected a power of two"),
        ({"self_trade": "forbid"}, "self_trade 'forbid': expected one of allow, cancel_resting"),
        ({"tick_size": 0.0}, "tick_size 0.0: expected a positive number"),
        ({"lot_size": np.nan}, "lot_size nan: expected a positive number"),
        ({"n_owners": 0}, "n_owners 0: expected 1 or more"),
    ],
)
def test_a_book_that_cannot_be_built_says_why(arguments, match):
    with pytest.raises(BookError, match=match):
        OrderBook(**arguments)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"qty": 1.5}, r"qty=1.5: expected a whole number of 32 bits"),
        ({"qty": 2**31}, r"qty=2147483648: expected a whole number of 32 bits"),
        ({"price": np.nan}, r"price=nan: expected a whole number of 32 bits"),
        ({"size": 1}, r"size=1: .* for one of side, price, qty"),
    ],
)
def test_a_message_that_fits_no_field_is_refused_by_name(fields, match):
    with pytest.raises(BookError, match=match):
        OrderBook().send("limit", side=BUY, **fields)


def test_an_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(BookError, match="kind 'stop': expected one of limit, market, ioc"):
        OrderBook().send("stop")


@pytest.mark.parametrize("messages", [np.zeros(3, np.int32), np.zeros((2, 2), MESSAGE)])
def test_other_arrays_than_vectors_of_messages_are_refused(messages):
    with pytest.raises(BookError, match=r"expected a vector of dtype book\.MESSAGE, received"):
        OrderBook().process(messages)


def test_prices_and_sizes_must_be_whole_ticks_and_lots():
    book = OrderBook(tick_size=0.01, lot_size=100)
    assert (book.to_ticks(585.33), book.to_lots(300)) == (58_533, 3)
    with pytest.raises(BookError, match=r"price 1.005 is not a multiple of tick_size=0.01"):
        book.to_ticks(1.005)
    with pytest.raises(BookError, match=r"size 140 is not a multiple of lot_size=100; .* 100$"):
        book.to_lots(140)
    with pytest.raises(BookError, match="price nan: expected a finite number"):
        book.to_ticks(np.nan)
