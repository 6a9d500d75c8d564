import sqlite3
from dataclasses import replace
from decimal import Decimal

import pytest

from hftlib.live.book_venue import BookVenue
from hftlib.live.broker import Ack, BrokerError, OrderRequest
from hftlib.live.ticks import Moment, Tick
from hftlib.live.venue_rules import VenueRules

D = Decimal
RULES = VenueRules(tick_size=0.01, lot_size=1.0, maker_fee_bps=-1, taker_fee_bps=5, latency_ns=0)


def book(ts, bids=((99.99, 5), (99.98, 5)), asks=((100.01, 5), (100.02, 5))):
    return Moment(ts, "quote", (Tick("AAA", 100.0, 0.0, bids, asks),))


def order(name, quantity, price=None, kind="ioc", sent=1):
    limit = None if price is None else D(str(price))
    return OrderRequest(name, "AAA", D(quantity), limit, kind, sent)


@pytest.fixture
def venue(tmp_path):
    opened = BookVenue("one", tmp_path / "one.db", ("AAA",), RULES)
    opened.advance(book(1))
    return opened


def fills(venue):
    return [(e.client_id, e.quantity, e.price, e.fee) for e in venue.events(0) if e.kind == "fill"]


def last(venue):
    return venue.events(0)[-1]


def test_a_market_order_walks_the_levels_and_pays_the_fee(venue):
    venue.submit(order("a", 7))
    assert fills(venue) == [
        ("a", 5, D("100.01"), D("100.01") * 5 * 5 / 10_000),
        ("a", 2, D("100.02"), D("100.02") * 2 * 5 / 10_000),
    ]
    assert (last(venue).kind, last(venue).reason) == ("done", "filled")


def test_what_an_ioc_order_finds_no_volume_for_is_cancelled(venue):
    venue.submit(order("a", -8, 99.99))
    assert sum(quantity for _, quantity, *_ in fills(venue)) == -5
    assert last(venue).reason == "what did not trade is cancelled"


def test_a_resting_order_waits_behind_the_lots_before_it(venue):
    venue.submit(order("a", 3, 99.99, "limit"))
    venue.advance(book(2, bids=((99.98, 5),), asks=((99.99, 4), (100.0, 9))))
    assert [f[1:3] for f in fills(venue)] == [(3, D("99.99"))]
    assert fills(venue)[0][3] == -D("99.99") * 3 / 10_000
    assert last(venue).kind == "done"


def test_lots_that_vanish_are_the_youngest_and_lots_that_come_are_last(venue):
    venue.submit(order("a", 3, 99.99, "limit"))
    venue.advance(book(2, bids=((99.99, 9),)))
    assert venue.quotes("AAA", -1).levels == ((D("99.99"), D(12)),)
    venue.advance(book(3, bids=((99.99, 2),)))
    assert venue.quotes("AAA", -1).levels == ((D("99.99"), D(5)),)
    assert fills(venue) == []


def test_what_we_took_is_back_with_the_next_quote(venue):
    venue.submit(order("a", 5))
    assert venue.quotes("AAA", 1).levels[0] == (D("100.02"), D(5))
    venue.advance(book(2))
    assert venue.quotes("AAA", 1).levels[0] == (D("100.01"), D(5))


def test_an_order_meets_the_book_of_its_arrival(tmp_path):
    venue = BookVenue("one", tmp_path / "v.db", ("AAA",), replace(RULES, latency_ns=10))
    venue.advance(book(100))
    venue.submit(order("a", 1, sent=100))
    venue.submit(order("b", 1, sent=105))
    assert venue.events(0) == []
    venue.advance(book(112, asks=((100.05, 9),)))
    venue.advance(book(200))
    found = [(e.client_id, e.price, e.ts_ns) for e in venue.events(0) if e.kind == "fill"]
    assert found == [("a", D("100.01"), 110), ("b", D("100.05"), 115)]


def test_a_cancellation_ends_a_resting_order_and_comes_too_late_for_others(venue):
    venue.submit(order("a", 3, 99.5, "limit"))
    venue.cancel("a", 1)
    venue.cancel("a", 1)
    venue.cancel("unheard of", 1)
    assert [(e.kind, e.reason) for e in venue.events(0)] == [("done", "cancelled")]
    assert D("99.5") not in [price for price, _ in venue.quotes("AAA", -1).levels]


def test_the_same_client_id_is_one_order(venue):
    assert venue.submit(order("a", 2)) == Ack("a", False)
    assert venue.submit(order("a", 2)) == Ack("a", True)
    assert [quantity for _, quantity, *_ in fills(venue)] == [2]
    assert venue.knows("a") and not venue.knows("b")


def test_a_venue_that_is_opened_again_is_the_one_that_was_closed(venue, tmp_path):
    venue.submit(order("a", 2))
    venue.submit(order("b", 3, 99.99, "limit"))
    venue.close()
    again = BookVenue("one", tmp_path / "one.db", ("AAA",), RULES)
    assert again.submit(order("b", 3, 99.99, "limit")).is_known
    assert again.quotes("AAA", 1).levels[0] == (D("100.01"), D(3))
    before = again.quotes("AAA", 1)
    again.advance(book(1, asks=((100.05, 9),)))
    assert again.quotes("AAA", 1) == before
    again.advance(book(2, bids=((99.97, 1),), asks=((99.99, 4),)))
    assert [f[:3] for f in fills(again)] == [("a", 2, D("100.01")), ("b", 3, D("99.99"))]


def test_without_a_book_the_ladder_has_the_spread_around_the_price(tmp_path):
    venue = BookVenue("one", tmp_path / "v.db", ("AAA",), replace(RULES, spread_bps=4.0))
    venue.advance(Moment(1, "open", (Tick("AAA", 100.0),)))
    asks, bids = venue.quotes("AAA", 1).levels, venue.quotes("AAA", -1).levels
    assert [price for price, _ in asks] == [D("100.02") + k * D("0.02") for k in range(5)]
    assert [price for price, _ in bids] == [D("99.98") - k * D("0.02") for k in range(5)]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (order("a", 1)._replace(symbol="BBB"), "not traded here"),
        (order("a", "0.5"), "not a multiple of the lot"),
        (order("a", 0), "not a multiple of the lot"),
        (order("a", "nan"), "not a multiple of the lot"),
        (order("a", 1, "100.005"), "not a multiple of the tick"),
        (order("a", 1, "-1"), "not a multiple of the tick"),
        (order("a", 1, None, "limit"), "needs a limit price"),
        (order("a", 1, 100, "hidden"), "kind 'hidden' is not known"),
        (order("a", 10**10), "lots or ticks"),
        (order("a", 1, 100.02, "post_only"), "would trade"),
    ],
)
def test_a_faulty_order_is_rejected_with_the_reason(venue, bad, reason):
    venue.submit(bad)
    (event,) = venue.events(0)
    assert event.kind == "rejected" and reason in event.reason


@pytest.mark.parametrize(
    "bad", [{"tick_size": 0}, {"latency_ns": -1}, {"share": 0}, {"n_levels": 0}, {"spread_bps": -1}]
)
def test_rules_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        replace(RULES, **bad)


def test_a_file_that_is_full_is_an_error_and_leaves_the_books_as_they_were(venue):
    pages = venue._database.execute("PRAGMA page_count").fetchone()[0]
    venue._database.execute(f"PRAGMA max_page_count = {pages}")
    before = venue.quotes("AAA", 1)
    with pytest.raises(BrokerError, match="free the disk"):
        for k in range(1000):
            venue.submit(order("x" * 500 + str(k), 1, 98, "limit"))
            before = venue.quotes("AAA", 1)
    assert venue.quotes("AAA", 1) == before
    assert isinstance(venue._database, sqlite3.Connection)
