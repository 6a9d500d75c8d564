from decimal import Decimal
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftlib.live.broker import Quotes
from hftlib.live.order_router import BPS, Child, route_order, route_quote

D = Decimal


def quotes(name, *levels, fee=0, lot=1):
    return Quotes(name, tuple((D(str(p)), D(str(q))) for p, q in levels), D(str(fee)), D(str(lot)))


def test_the_better_price_comes_first_and_depth_splits():
    near, deep = quotes("near", (100, 3), (102, 9)), quotes("deep", (101, 50))
    assert route_order(D(10), [near, deep]) == (
        Child("near", D(3), D(100)),
        Child("deep", D(7), D(101)),
    )


def test_fees_can_make_the_worse_price_the_better_one():
    dear, free = quotes("dear", (100, 9), fee=200), quotes("free", (101, 9))
    assert route_order(D(5), [dear, free]) == (Child("free", D(5), D(101)),)
    assert route_order(D(-5), [dear, quotes("free", (99, 9))])[0].venue == "free"


def test_a_rebate_counts():
    paid, plain = quotes("paid", (100.01, 9), fee=-2), quotes("plain", (100, 9))
    assert route_order(D(1), [plain, paid])[0].venue == "paid"


def test_one_order_a_venue_up_to_the_worst_level_planned():
    book = quotes("one", (100, 2), (101, 2), (103, 2))
    assert route_order(D(3), [book]) == (Child("one", D(3), D(101)),)


def test_what_the_books_do_not_hold_is_not_sent():
    assert sum(c.quantity for c in route_order(D(9), [quotes("one", (100, 2))])) == 2
    assert route_order(D(9), [quotes("one")]) == ()


def test_parts_are_whole_lots_of_their_venue():
    parts = route_order(D("2.5"), [quotes("coarse", (100, 9)), quotes("fine", (101, 9), lot=0.1)])
    assert parts == (Child("coarse", D(2), D(100)), Child("fine", D("0.5"), D(101)))


def test_two_quotes_of_one_venue_are_refused():
    with pytest.raises(ValueError, match="expected one a venue"):
        route_order(D(1), [quotes("one"), quotes("one")])


def rest(name, *levels, maker=0, lot=1):
    return quotes(name, *levels, lot=lot)._replace(maker_fee_bps=D(str(maker)))


def test_an_order_rests_at_the_best_price_of_its_side_whatever_the_fee():
    low, high = rest("low", (99, 1), maker=-5), rest("high", (100, 50), (99, 9), maker=5)
    assert route_quote(D(3), [low, high]) == Child("high", D(3), D(100))
    assert route_quote(D(-3), [low, high]) == Child("low", D(-3), D(99))


def test_at_one_price_the_fee_decides_then_the_queue_then_the_order_of_venues():
    books = [
        rest("a", (99, 9)),
        rest("b", (99, 5)),
        rest("c", (99, 5)),
        rest("d", (99, 9), maker=-1),
    ]
    assert [route_quote(D(1), books[:n]).venue for n in (1, 2, 3, 4)] == ["a", "b", "b", "d"]


def test_without_a_price_or_a_lot_nothing_rests():
    assert route_quote(D(1), [rest("a"), rest("b")]) is None
    assert route_quote(D("0.5"), [rest("a", (99, 9))]) is None
    assert route_quote(D("-2.5"), [rest("a", (99, 9))]).quantity == -2


def price_after_fees(children, books):
    """What the children pay, buying, or receive less, selling; each walks its venue's levels."""
    of_venue = {book.venue: book for book in books}
    total = D(0)
    for child in children:
        book = of_venue[child.venue]
        side, left = (1 if child.quantity > 0 else -1), abs(child.quantity)
        for price, units in book.levels:
            part = min(left, units)
            total += part * price * (side + book.fee_bps * BPS)
            left -= part
    return total


LEVELS = st.lists(st.integers(1, 3), min_size=1, max_size=3)


@given(
    sizes=st.tuples(LEVELS, LEVELS),
    steps=st.lists(st.integers(1, 3), min_size=6, max_size=6),
    fees=st.tuples(st.integers(-50, 200), st.integers(-50, 200)),
    quantity=st.integers(1, 8),
    side=st.sampled_from([1, -1]),
)
def test_no_other_split_is_cheaper(sizes, steps, fees, quantity, side):
    books = []
    for k, (name, of_venue, fee) in enumerate(zip("ab", sizes, fees, strict=True)):
        prices = [100 + side * sum(steps[3 * k : 3 * k + i + 1]) for i in range(len(of_venue))]
        books.append(quotes(name, *zip(prices, of_venue, strict=True), fee=fee))
    held = [sum(of_venue) for of_venue in sizes]
    wanted = min(quantity, sum(held))
    children = route_order(D(side * quantity), books)
    assert sum(child.quantity for child in children) == side * wanted
    others = (
        price_after_fees([Child("a", D(side * a), D(0)), Child("b", D(side * b), D(0))], books)
        for a, b in product(range(held[0] + 1), range(held[1] + 1))
        if a + b == wanted
    )
    assert price_after_fees(children, books) == min(others)
