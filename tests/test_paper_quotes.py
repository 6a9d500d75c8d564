"""Orders that rest: where, until when, and that what fills is booked once."""

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from hftlib.live.broker import BrokerError
from hftlib.live.parents import twap
from hftlib.live.reconcile import check_ledger
from hftlib.live.store import read_table
from hftlib.live.ticks import Moment, Tick
from hftlib.live.venue_rules import VenueRules
from hftlib.portfolio.breakers import BreakerRules
from hftlib.portfolio.risk import RiskLimits
from tests.paper_cases import NO_LIMITS, close_engine, open_engine

SECOND = 10**9
D = Decimal
PLAIN = VenueRules(tick_size=0.01, lot_size=1.0, maker_fee_bps=-1, taker_fee_bps=5, latency_ns=0)


def book(second, bid=99.99, ask=100.01, units=50.0, kind="quote"):
    levels = [tuple((p, units) for p in (q, q + step)) for q, step in ((bid, -0.01), (ask, 0.01))]
    mid = (bid + ask) / 2
    return Moment(second * SECOND, kind, (Tick("AAA", mid, 10.0, *levels),))


def opened(folder, targets, **settings):
    settings = {"venues": {"one": PLAIN}, "order_style": "quote"} | settings
    return open_engine(folder, ("AAA",), np.array([targets], dtype=float).T, **settings)


def orders_of(engine):
    table = read_table(engine.desk.store.path, "orders")
    names = ["kind", "quantity", "limit_price", "status", "filled", "reason"]
    table[["quantity", "filled"]] = table[["quantity", "filled"]].astype(float)
    return [tuple(row) for row in table[names].to_numpy().tolist()]


def step(engine, moment):
    engine.step(moment, moment.ts_ns)
    assert engine.halted == ""


def test_a_target_rests_at_the_best_price_and_earns_the_rebate(tmp_path):
    engine = opened(tmp_path, [5.0, np.nan])
    step(engine, book(1))
    assert engine.desk.account.units("AAA") == 0
    (order,) = engine.desk.open_orders.values()
    assert (order.request.kind, order.request.limit_price) == ("post_only", D("99.99"))
    step(engine, book(2, bid=99.97, ask=99.99))
    assert engine.desk.account.units("AAA") == 5
    fees = read_table(engine.desk.store.path, "fills")["fee"].astype(float)
    assert fees.sum() == pytest.approx(-5 * 99.99 * 1e-4)
    close_engine(engine)


def test_what_rests_is_replaced_at_each_decision(tmp_path):
    engine = opened(tmp_path, [5.0, 5.0, 3.0, 0.0])
    for second, bid in enumerate((99.99, 99.95, 99.95, 99.90), start=1):
        step(engine, book(second, bid=bid))
    assert [row[1:4] for row in orders_of(engine)] == [
        (5.0, "99.99", "done"), (5.0, "99.95", "done"), (3.0, "99.95", "done"),
    ]  # fmt: skip
    assert [row[5] for row in orders_of(engine)] == ["cancelled"] * 3
    parents = read_table(engine.desk.store.path, "parents")
    assert set(parents["status"]) == {"cancelled"}
    assert parents["reason"].iloc[0] == "5.0 had not traded"
    assert not engine.desk.open_orders and engine.desk.account.units("AAA") == 0
    close_engine(engine)


def test_what_is_cancelled_counts_as_filling_until_the_venue_says_that_it_is_gone(tmp_path):
    slow = replace(PLAIN, latency_ns=10**6)
    engine = opened(tmp_path, [5.0] * 3, venues={"one": slow})
    step(engine, book(1))
    step(engine, book(2))
    assert len(orders_of(engine)) == 1
    step(engine, book(3))
    assert [row[3] for row in orders_of(engine)] == ["done", "sent"]
    close_engine(engine)


def test_a_person_s_order_keeps_its_place_and_is_cancelled_at_its_end(tmp_path):
    engine = opened(tmp_path, [np.nan] * 9)
    engine.submit_parent(
        twap("p", "AAA", D(8), start_ns=SECOND, end_ns=5 * SECOND, n_slices=4)
    )  # fmt: skip
    for second in (1, 2):
        step(engine, book(second))
    assert [row[1:4] for row in orders_of(engine)] == [(2.0, "99.99", "sent")] * 2
    step(engine, book(3, bid=99.98))
    assert [row[1:4] for row in orders_of(engine)] == [(2.0, "99.99", "done")] * 2 + [
        (6.0, "99.98", "sent")
    ]
    for second in (5, 6):
        step(engine, book(second, bid=99.98))
    assert not engine.desk.open_orders
    parent = read_table(engine.desk.store.path, "parents").iloc[0]
    assert (parent["status"], parent["reason"]) == ("cancelled", "8 had not traded")
    close_engine(engine)


def test_an_exit_and_a_flattening_do_not_wait(tmp_path):
    limits = RiskLimits(**vars(NO_LIMITS) | {"stop_loss": 0.05})
    engine = opened(tmp_path, [5.0, np.nan, np.nan, np.nan, 4.0], limits=limits)
    step(engine, book(1))
    step(engine, book(2, bid=99.97, ask=99.99))
    assert engine.desk.account.units("AAA") == 5
    step(engine, book(3, bid=90.0, ask=90.02))
    assert engine.desk.account.units("AAA") == 0
    assert orders_of(engine)[-1][0] == "ioc"
    close_engine(engine)


def test_what_could_not_be_cancelled_at_a_halt_is_cancelled_at_the_next_start(tmp_path):
    engine = opened(tmp_path, [5.0] * 9)
    step(engine, book(1))

    def fail(client_id, sent_ns):
        raise BrokerError("one: connection lost")

    engine.desk.brokers["one"].cancel = fail
    engine.halt("kill switch")
    assert "connection lost" in read_table(engine.desk.store.path, "alerts")["text"].iloc[-1]
    close_engine(engine)
    again = opened(tmp_path, [5.0] * 9)
    again.beat(SECOND)
    assert again.halted == "kill switch" and not again.desk.open_orders
    assert orders_of(again)[0][5] == "cancelled"
    close_engine(again)


def test_a_breaker_that_opens_withdraws_what_rests(tmp_path):
    rules = BreakerRules(max_age_ns=5 * SECOND, cooldown_ns=60 * SECOND)
    engine = opened(tmp_path, [5.0] * 9, breaker=rules)
    step(engine, book(1))
    assert engine.desk.open_orders
    engine.beat(10 * SECOND)
    assert engine.desk.breaker.phase == "open"
    step(engine, book(12, bid=99.97, ask=99.99))  # the cancellation was there first
    assert not engine.desk.open_orders and engine.desk.account.units("AAA") == 0
    assert orders_of(engine)[0][5] == "cancelled"
    close_engine(engine)


N_SENT = []
PRICE = st.integers(9950, 10050)


@settings(
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    max_examples=25,
    suppress_health_check=list(HealthCheck),
)
@given(
    prices=st.lists(st.tuples(PRICE, st.integers(1, 5)), min_size=4, max_size=20),
    targets=st.lists(
        st.sampled_from([-20.0, -3.0, 0.0, 2.0, 9.0, 20.0, np.nan]), min_size=20, max_size=20
    ),
    latency_ns=st.sampled_from([0, 10**6, 2 * SECOND]),
    units=st.sampled_from([1.0, 5.0, 50.0]),
    restarts=st.sets(st.integers(0, 19), max_size=3),
)
def test_whatever_the_feed_nothing_is_lost_or_doubled(
    tmp_path_factory, prices, targets, latency_ns, units, restarts
):
    folder = tmp_path_factory.mktemp("quotes")
    rules = replace(PLAIN, latency_ns=latency_ns)
    venues = {"one": rules, "two": replace(rules, maker_fee_bps=2.0)}
    limits = RiskLimits(**vars(NO_LIMITS) | {"max_position": 0.15})
    again = {"venues": venues, "limits": limits}
    moments = [
        book(k + 1, bid / 100, (bid + spread) / 100, units)
        for k, (bid, spread) in enumerate(prices)
    ]
    engine = opened(folder, targets, **again)
    engine.submit_parent(twap("p", "AAA", D(-7), start_ns=0, end_ns=15 * SECOND, n_slices=5))
    for k, moment in enumerate(moments):
        if k in restarts:
            row = engine.strategy.row
            close_engine(engine)
            engine = opened(folder, targets, **again)
            engine.strategy.row = row
        step(engine, moment)
        check_ledger(engine.desk.store, engine.desk.account)
        lefts = [o.left for o in engine.desk.open_orders.values()]
        held = engine.desk.account.units("AAA")
        # 15 % of 10,000 at a price of 99.5 to 100.6, and what the account has gained by then
        assert held + sum(left for left in lefts if left > 0) <= D("15.2")
        assert held + sum(left for left in lefts if left < 0) >= D("-15.2")
    store = engine.desk.store.path
    orders, fills, parents = (read_table(store, name) for name in ("orders", "fills", "parents"))
    for name, table in orders.groupby("parent_id"):
        wanted = D(parents.set_index("parent_id").loc[name, "quantity"])
        done = sum(map(D, table["filled"]), D(0))
        assert done * wanted >= 0 and abs(done) <= abs(wanted)
    told = []
    for venue, broker in engine.desk.brokers.items():
        told += [(venue, e.number, str(e.quantity)) for e in broker.events(0) if e.kind == "fill"]
    assert sorted(told) == sorted(
        zip(fills["venue"], fills["event"], fills["quantity"], strict=True)
    )
    N_SENT.append((len(orders), len(fills)))
    close_engine(engine)


def test_the_property_was_tried_on_orders_that_filled():
    assert not N_SENT or min(np.sum(N_SENT, axis=0)) > len(N_SENT)
