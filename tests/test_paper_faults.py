"""What is wrong halts trading, safely, and says why."""

import resource
from contextlib import contextmanager
from decimal import Decimal

import numpy as np
import pytest

from hftlib.live.broker import BrokerError
from hftlib.live.clock import AcceleratedClock
from hftlib.live.feeds import Recording, read_bars, run_paper
from hftlib.live.halt_file import N_BYTES, HaltFile
from hftlib.live.parents import pov, twap, vwap
from hftlib.live.polling import PolledBars
from hftlib.live.store import Store, read_table
from hftlib.live.store_tables import StoreError
from hftlib.live.ticks import FeedError, Moment, Tick
from hftlib.portfolio.breakers import BreakerRules
from hftlib.portfolio.risk import RiskLimits
from tests.conftest import make_bars
from tests.paper_cases import DAY, NO_LIMITS, close_engine, open_engine, trade_bars

SECOND = 10**9
HOLD = np.tile(np.arange(1.0, 200.0)[:, None], (1, 1))


def quote(second, price=100.0, symbol="AAA"):
    return Moment(second * SECOND, "quote", (Tick(symbol, price),))


@pytest.fixture
def engine(tmp_path):
    opened = open_engine(tmp_path, ("AAA",), HOLD)
    opened.step(quote(10), 10 * SECOND)
    assert opened.halted == "" and float(opened.desk.account.units("AAA")) == 1
    yield opened
    close_engine(opened)


@pytest.mark.parametrize(
    ("moment", "said"),
    [
        (quote(10), "out of order"),
        (quote(9), "out of order"),
        (quote(99), "from the future"),
        (quote(11, float("nan")), "price is nan"),
        (quote(11, float("inf")), "price is inf"),
        (quote(11, -1.0), "price is -1.0"),
        (quote(11, symbol="ZZZ"), "symbol 'ZZZ' is not known"),
        (Moment(11 * SECOND, "quote", ()), "ticks of []"),
        (
            Moment(11 * SECOND, "quote", (Tick("AAA", 9.0, bids=((9, 1),), asks=((9, 1),)),)),
            "not below",
        ),
    ],
)
def test_a_moment_that_cannot_be_halts(engine, moment, said):
    engine.step(moment, 11 * SECOND)
    assert engine.halted.startswith("feed: ") and said in engine.halted
    assert read_table(engine.desk.store.path, "alerts")["text"].iloc[-1] == engine.halted
    engine.step(quote(12), 12 * SECOND)
    assert len(read_table(engine.desk.store.path, "orders")) == 1


def test_a_halt_outlives_the_process_and_ends_by_a_person(engine, tmp_path):
    engine.halt("kill switch")
    close_engine(engine)
    again = open_engine(tmp_path, ("AAA",), HOLD)
    again.step(quote(12), 12 * SECOND)
    assert again.halted == "kill switch"
    assert float(again.desk.account.units("AAA")) == 1
    again.resume("the risk officer")
    again.step(quote(13), 13 * SECOND)
    assert float(again.desk.account.units("AAA")) > 1
    close_engine(again)


def test_the_kill_switch_can_close_positions(engine):
    engine.halt("kill switch", flatten=True)
    engine.step(quote(12), 12 * SECOND)
    assert engine.desk.account.units("AAA") == 0


def test_the_kill_switch_works_from_another_thread(engine):
    engine.ask_halt("kill switch")
    engine.step(quote(12), 12 * SECOND)
    assert engine.halted == "kill switch" and float(engine.desk.account.units("AAA")) == 1


def test_stale_data_open_the_breaker(tmp_path):
    rules = BreakerRules(max_age_ns=5 * SECOND, cooldown_ns=60 * SECOND)
    engine = open_engine(tmp_path, ("AAA",), HOLD, breaker=rules)
    engine.step(quote(10), 16 * SECOND)
    assert (engine.desk.breaker.phase, engine.desk.breaker.reason) == ("open", "stale data")
    assert read_table(tmp_path / "paper.db", "orders").empty
    close_engine(engine)


def test_a_silent_feed_halts(engine):
    engine.beat(309 * SECOND)
    assert engine.halted == ""
    engine.beat(311 * SECOND)
    assert engine.halted.startswith("feed: silent for 301 s")


def test_a_service_that_fails_again_and_again_is_a_dead_feed(engine):
    def fail(now_ns):
        raise OSError("no route to host")

    feed = PolledBars(fail, bar_ns=SECOND, every_ns=SECOND, start_ns=11 * SECOND)
    run_paper(engine, feed, AcceleratedClock())
    assert engine.halted == "feed: 3 calls in a row failed; the last: no route to host"


def test_polled_bars_are_quotes_at_their_close_and_come_once():
    bars = make_bars(5)
    feed = PolledBars(lambda now: bars, bar_ns=DAY, every_ns=SECOND, start_ns=0)
    moments = feed.poll(1)
    assert [m.ticks[0].price for m in moments] == list(bars["close"])
    assert moments[0].ts_ns == bars["ts"].iloc[1].value
    assert feed.poll(2) == []


def test_a_full_disk_stops_orders_before_they_are_sent(engine):
    store = engine.desk.store
    pages = store.database.execute("PRAGMA page_count").fetchone()[0]
    store.database.execute(f"PRAGMA max_page_count = {pages}")
    for second in range(11, 200):
        engine.step(quote(second), second * SECOND)
    assert engine.halted.startswith("disk: ") and "full" in engine.halted
    written = set(read_table(store.path, "orders")["client_id"])
    venue = engine.desk.brokers["one"]._database
    assert {row[0] for row in venue.execute("SELECT client_id FROM orders")} <= written


@contextmanager
def full_disk(path):
    """No file may grow beyond the store's log, so that nothing more fits into that one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = path.with_name(path.name + "-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def trade_until_halted(engine):
    second = engine.cursor_ns // SECOND
    while not engine.halted and second < 400:
        second += 1
        engine.step(quote(second), second * SECOND)
    assert engine.halted
    return second


def test_a_halt_outlives_the_process_on_a_full_disk(engine, tmp_path):
    with full_disk(engine.desk.store.path):
        second = trade_until_halted(engine)
        close_engine(engine)
    assert engine.halted.startswith(("disk: ", "venue: "))
    assert "halt" not in set(read_table(tmp_path / "paper.db", "alerts")["name"])
    again = open_engine(tmp_path, ("AAA",), HOLD)  # the disk has room again
    assert again.halted == engine.halted
    orders = len(read_table(tmp_path / "paper.db", "orders"))
    again.step(quote(second + 1), (second + 1) * SECOND)
    assert len(read_table(tmp_path / "paper.db", "orders")) == orders
    again.resume("the risk officer")
    again.step(quote(second + 2), (second + 2) * SECOND)
    assert len(read_table(tmp_path / "paper.db", "orders")) > orders
    close_engine(again)
    last = open_engine(tmp_path, ("AAA",), HOLD)
    assert last.halted == ""
    close_engine(last)


def test_a_halt_cannot_be_ended_while_the_disk_is_full(engine, tmp_path):
    with full_disk(engine.desk.store.path):
        trade_until_halted(engine)
        with pytest.raises(StoreError, match="disk I/O error"):
            engine.resume("the risk officer")
    assert engine.halted and engine.desk.is_stopped
    assert engine.desk.store.read_halt() == engine.halted


def test_parents_that_a_full_disk_kept_active_are_dropped_with_the_halt(engine, tmp_path):
    engine.submit_parent(twap("p", "AAA", Decimal(9), start_ns=0, end_ns=DAY, n_slices=9))
    with full_disk(engine.desk.store.path):
        engine.halt("kill switch")
        close_engine(engine)
    again = open_engine(tmp_path, ("AAA",), HOLD)
    assert again.halted == "kill switch"
    again.resume("the risk officer")
    parents = read_table(tmp_path / "paper.db", "parents").set_index("parent_id")
    assert tuple(parents.loc["p", ["status", "reason"]]) == ("cancelled", "halted")
    close_engine(again)


def test_the_file_of_a_halt_has_its_length_from_the_start(tmp_path):
    path = tmp_path / "halt"
    file = HaltFile(path)
    assert path.stat().st_size == N_BYTES and file.read() == ""
    blocks = path.stat().st_blocks
    file.write("é" * N_BYTES)
    assert file.read().startswith("é" * 2000)
    assert (path.stat().st_size, path.stat().st_blocks) == (N_BYTES, blocks)
    file.write("")
    file.close()
    path.write_bytes(path.read_bytes()[:100] + b"cut of")  # a crash while it was made
    assert HaltFile(path).read() == "cut of" and path.stat().st_size == N_BYTES


def test_a_venue_that_fails_halts_and_the_order_is_sent_at_the_next_start(engine, tmp_path):
    def fail(order):
        raise BrokerError("one: connection lost")

    engine.desk.brokers["one"].submit = fail
    engine.step(quote(11), 11 * SECOND)
    assert engine.halted == "venue: one: connection lost"
    assert read_table(tmp_path / "paper.db", "orders")["status"].iloc[-1] == "new"
    close_engine(engine)
    again = open_engine(tmp_path, ("AAA",), HOLD)
    assert read_table(tmp_path / "paper.db", "orders")["status"].iloc[-1] == "expired"
    assert "trading is halted" in read_table(tmp_path / "paper.db", "orders")["reason"].iloc[-1]
    close_engine(again)


def test_a_strategy_that_fails_halts(tmp_path):
    engine = open_engine(tmp_path, ("AAA",), np.array([[np.inf]]))
    engine.step(quote(10), 10 * SECOND)
    assert engine.halted.startswith("strategy: target inf of 'AAA'")
    close_engine(engine)


def test_a_strategy_that_cannot_observe_halts_now_and_in_the_past(engine):
    def fail(moment):
        raise KeyError("volume")

    engine.strategy.observe = fail
    engine.step(quote(12), 12 * SECOND)
    assert engine.halted == "strategy: KeyError: 'volume'"
    engine.resume("the risk officer")
    engine.observe(quote(11))
    assert engine.halted == "strategy: KeyError: 'volume'"


def test_a_second_process_is_kept_out(engine):
    with pytest.raises(StoreError, match="another process"):
        Store(engine.desk.store.path)


def test_a_venue_that_lost_an_order_stops_the_start(engine, tmp_path):
    engine.desk.store.database.execute("UPDATE orders SET status = 'sent'")
    engine.desk.brokers["one"]._database.execute("DELETE FROM orders")
    close_engine(engine)
    again = open_engine(tmp_path, ("AAA",), HOLD)
    assert "does not know order" in again.halted
    close_engine(again)


def test_a_changed_fill_stops_the_start(engine, tmp_path):
    engine.desk.store.database.execute("UPDATE fills SET price = '1'")
    close_engine(engine)
    again = open_engine(tmp_path, ("AAA",), HOLD)
    assert again.halted.startswith("ledger: ") and "the fills make" in again.halted
    close_engine(again)


def test_a_stop_loss_closes_at_the_next_open(tmp_path):
    limits = RiskLimits(**vars(NO_LIMITS) | {"stop_loss": 0.05})
    bars = make_bars(6)
    bars[["open", "high", "low", "close"]] = 100.0
    bars.loc[3:, ["open", "low", "close"]] = 90.0
    targets = np.array([[10.0]] + [[np.nan]] * 5)
    engine = trade_bars(tmp_path, bars, targets, limits=limits)
    parents = read_table(tmp_path / "paper.db", "parents")
    assert list(parents["purpose"]) == ["target", "exit"]
    assert parents["parent_id"].iloc[1] == f"{bars['ts'].iloc[4].value}-AAA-exit"
    assert engine.desk.account.units("AAA") == 0
    close_engine(engine)


@pytest.mark.parametrize("algorithm", ["twap", "vwap", "pov"])
def test_a_parent_order_is_worked_to_its_end(tmp_path, algorithm):
    engine = open_engine(tmp_path, ("AAA",), np.full((20, 1), np.nan))
    span = {"start_ns": 10 * SECOND, "end_ns": 14 * SECOND}
    parent = {
        "twap": lambda: twap("p", "AAA", Decimal(-8), n_slices=4, **span),
        "vwap": lambda: vwap("p", "AAA", Decimal(-8), volume_curve=[1, 1, 4, 2], **span),
        "pov": lambda: pov("p", "AAA", Decimal(-8), rate=0.1, **span),
    }[algorithm]()
    engine.submit_parent(parent)
    moments = [
        Moment(s * SECOND, "quote", (Tick("AAA", 100.0, 10.0 * (s - 9)),)) for s in range(10, 16)
    ]
    run_paper(engine, Recording(moments), AcceleratedClock())
    fills = read_table(tmp_path / "paper.db", "fills")["quantity"].astype(float)
    expected = {"twap": [2, 2, 2, 2], "vwap": [1, 1, 4, 2], "pov": [1, 2, 3, 2]}[algorithm]
    np.testing.assert_array_equal(-fills, expected)
    with pytest.raises(ValueError, match="expected a new name"):
        engine.submit_parent(parent)
    close_engine(engine)


def test_bars_that_are_doubled_are_refused():
    bars = make_bars(3)
    with pytest.raises(FeedError, match="each symbol once"):
        read_bars(bars.assign(ts=bars["ts"].iloc[0]))


def test_the_tick_of_a_close_carries_the_whole_bar():
    bars = make_bars(3, ("AAA", "BBB"))
    closes = [m for m in read_bars(bars) if m.kind == "close"]
    rows = [(t.symbol, *t.bar) for m in closes for t in m.ticks]
    columns = ["symbol", "ts", "open", "high", "low", "close", "volume"]
    expected = bars.sort_values(["ts", "symbol"]).assign(ts=lambda b: b["ts"].astype("int64"))
    assert rows == [tuple(row) for row in expected[columns].to_numpy().tolist()]
    assert all(t.bar is None for m in read_bars(bars) if m.kind == "open" for t in m.ticks)
