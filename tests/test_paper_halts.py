"""Halts that others ask for, what goes on while trading is halted, and flattening."""

import threading
import time
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from hftlib.live.clock import AcceleratedClock, RealClock
from hftlib.live.feeds import Recording, run_paper
from hftlib.live.standing import explain, find_barrier
from hftlib.live.store import read_table
from hftlib.live.ticks import Moment, Tick
from hftlib.portfolio.breakers import Breaker
from hftlib.portfolio.risk import RiskLimits
from tests.paper_cases import FINE, NO_LIMITS, close_engine, open_engine

SECOND = 10**9
MOMENTS = [Moment(s * SECOND, "quote", (Tick("AAA", 100.0 + s % 7),)) for s in range(1, 40)]
THIN = {"one": replace(FINE, level_units=1.0, n_levels=2)}


def opened(folder, target=5.0, **rules):
    targets = np.full((60, 1), target)
    return open_engine(folder, ("AAA",), targets, **rules)


def trade(engine, first, last):
    for moment in MOMENTS[first:last]:
        engine.step(moment, moment.ts_ns)


def units(engine):
    return float(engine.desk.account.units("AAA"))


def test_a_halt_that_was_asked_for_outlives_a_process_that_never_obeyed(tmp_path):
    engine = opened(tmp_path)
    trade(engine, 0, 2)
    engine.ask_halt("kill switch")
    close_engine(engine)
    again = opened(tmp_path, 9.0)
    trade(again, 2, 4)
    assert again.halted == "kill switch" and units(again) == 5
    close_engine(again)


def test_a_halt_ends_the_sleep_of_a_feed_that_is_asked_rarely(tmp_path):
    engine = opened(tmp_path)
    late = Moment(RealClock().now_ns() + 3600 * SECOND, "quote", MOMENTS[0].ticks)
    timer = threading.Timer(0.1, engine.ask_halt, ["kill switch"])
    timer.start()
    before = time.monotonic()
    run_paper(engine, Recording([late]), RealClock())
    assert time.monotonic() - before < 5.0 and engine.halted == "kill switch"
    timer.join()
    close_engine(engine)


def test_a_slow_recording_is_woken_and_is_then_not_ahead_of_its_time():
    clock, calls = AcceleratedClock(0, speed=10.0), []
    clock.wait_until(3600 * SECOND, lambda: len(calls) == 1 or calls.append(1))
    assert clock.now_ns() == 10 * SECOND


def test_two_halts_that_flatten_close_a_position_once(tmp_path):
    engine = opened(tmp_path)
    trade(engine, 0, 2)
    engine.halt("kill switch", flatten=True)
    engine.halt("kill switch again", flatten=True)
    assert engine.halted == "kill switch"
    trade(engine, 2, 6)
    assert units(engine) == 0
    parents = read_table(tmp_path / "paper.db", "parents").query("purpose == 'flatten'")
    assert list(parents["status"]) == ["done"]
    close_engine(engine)


def test_a_flattening_goes_on_until_a_thin_book_has_taken_all(tmp_path):
    engine = opened(tmp_path, 20.0, venues=THIN)
    trade(engine, 0, 10)
    assert units(engine) == 20
    engine.halt("kill switch", flatten=True)
    trade(engine, 10, 12)
    assert 0 < units(engine) < 20
    trade(engine, 12, 30)
    assert units(engine) == 0
    assert read_table(tmp_path / "paper.db", "parents")["status"].iloc[-1] == "done"
    close_engine(engine)


def test_nothing_is_bought_while_a_position_is_being_closed_after_a_resume(tmp_path):
    engine = opened(tmp_path, 20.0, venues=THIN)
    trade(engine, 0, 10)
    engine.halt("kill switch", flatten=True)
    trade(engine, 10, 12)
    engine.resume("the risk officer")
    held = [units(engine)]
    for k in range(12, 39):
        trade(engine, k, k + 1)
        held.append(units(engine))
    lowest = held.index(0.0)
    assert held[: lowest + 1] == sorted(held[: lowest + 1], reverse=True)
    assert held[-1] > 0  # then the strategy trades again
    close_engine(engine)


def test_a_fill_that_was_on_its_way_is_flattened_too_and_no_more(tmp_path):
    engine = opened(tmp_path, venues={"one": replace(FINE, latency_ns=SECOND // 2)})
    trade(engine, 0, 1)
    assert units(engine) == 0 and engine.desk.open_orders
    engine.halt("kill switch", flatten=True)
    trade(engine, 1, 8)
    fills = read_table(tmp_path / "paper.db", "fills")["quantity"].astype(float)
    assert list(fills) == [5.0, -5.0] and units(engine) == 0
    close_engine(engine)


def test_halted_a_feed_goes_on_and_a_resume_is_heard(tmp_path):
    engine = opened(tmp_path, np.nan)
    engine.strategy.targets = np.arange(1.0, 61.0)[:, None]
    seen = []

    def act(moment):
        seen.append((moment.ts_ns // SECOND, engine.halted, units(engine)))
        if moment.ts_ns == 5 * SECOND:
            engine.ask_halt("kill switch")
            engine.ask_halt("kill switch, pressed again")
        if moment.ts_ns == 15 * SECOND:
            engine.ask_resume("the risk officer")

    engine.on_moment = act
    run_paper(engine, Recording(MOMENTS), AcceleratedClock(), stops_at_halt=False)
    assert engine.halted == "" and engine.cursor_ns == MOMENTS[-1].ts_ns
    halted = [second for second, reason, _ in seen if reason == "kill switch"]
    assert halted == list(range(6, 16))
    assert {held for _, reason, held in seen if reason} == {4.0}
    marks = read_table(tmp_path / "paper.db", "marks")
    assert len(marks) == len(MOMENTS) and marks["equity"].astype(float)[5:15].nunique() > 3
    assert units(engine) == 39
    close_engine(engine)


def test_a_recording_stops_at_a_halt_unless_it_is_told_otherwise(tmp_path):
    engine = opened(tmp_path)
    engine.on_moment = lambda moment: engine.ask_halt("kill switch")
    run_paper(engine, Recording(MOMENTS), AcceleratedClock())
    assert engine.halted == "kill switch" and engine.cursor_ns == MOMENTS[0].ts_ns
    close_engine(engine)


def test_a_strategy_that_fails_leaves_the_account_marked(tmp_path):
    def fail(moment):
        raise KeyError("volume")

    engine = opened(tmp_path)
    trade(engine, 0, 2)
    engine.strategy.observe = fail
    trade(engine, 2, 6)
    assert engine.halted == "strategy: KeyError: 'volume'"
    assert engine.desk.marks == {"AAA": MOMENTS[5].ticks[0].price}
    alerts = read_table(tmp_path / "paper.db", "alerts")
    assert list(alerts["name"]) == ["halt"]
    close_engine(engine)


def test_a_resume_ends_halts_that_were_asked_for_before_it(tmp_path):
    engine = opened(tmp_path)
    trade(engine, 0, 2)
    engine.halt("kill switch")
    engine.ask_halt("kill switch, pressed again")
    engine.resume("the risk officer")
    trade(engine, 2, 4)
    assert engine.halted == "" and engine.desk.store.read_halt() == ""
    close_engine(engine)


@pytest.mark.parametrize("direct", [True, False])
def test_a_halt_that_is_asked_for_after_a_resume_holds(tmp_path, monkeypatch, direct):
    engine = opened(tmp_path)
    trade(engine, 0, 2)
    engine.halt("kill switch")
    if direct:  # asked for while the resume is at work
        collect = engine.desk.collect
        monkeypatch.setattr(
            engine.desk, "collect", lambda now_ns: (engine.ask_halt("no, wait"), collect(now_ns))
        )
        engine.resume("the risk officer")
        monkeypatch.undo()
        assert engine.desk.is_stopped and engine.desk.store.read_halt()
    else:
        engine.ask_resume("the risk officer")
        engine.ask_halt("no, wait")
    trade(engine, 2, 4)
    assert engine.halted == ("no, wait" if direct else "kill switch")
    close_engine(engine)


def test_a_resume_that_fails_is_told_and_can_be_asked_for_again(tmp_path, monkeypatch):
    engine = opened(tmp_path)
    trade(engine, 0, 2)
    engine.halt("kill switch")
    query = "UPDATE fills SET quantity = quantity + ?"
    engine.desk.store.database.execute(query, (1,))
    engine.ask_resume("the risk officer")
    engine.obey(3 * SECOND)
    last = read_table(tmp_path / "paper.db", "alerts").iloc[-1]
    assert last["name"] == "resume refused" and "the fills make" in last["text"]
    assert engine.halted == "kill switch"
    engine.desk.store.database.execute(query, (-1,))
    engine.ask_resume("the risk officer")
    engine.obey(4 * SECOND)
    assert engine.halted == ""
    close_engine(engine)


def first_check(engine):
    return read_table(engine.desk.store.path, "checks")["reasons"].iloc[-1]


def test_a_check_names_what_stands_against_an_order(tmp_path):
    closing = ": only orders that reduce are accepted"
    unknown = opened(tmp_path / "a", limits=RiskLimits(**vars(NO_LIMITS) | {"max_var": 0.01}))
    trade(unknown, 0, 1)
    assert first_check(unknown) == "the value at risk is not known yet" + closing
    close_engine(unknown)
    halted = opened(tmp_path / "b")
    halted.on_moment = lambda moment: halted.ask_halt("kill switch")  # in the midst of a step
    trade(halted, 0, 1)
    assert halted.desk.is_stopped and read_table(tmp_path / "b/paper.db", "orders").empty
    halted.desk.marks = {"AAA": 100.0}
    decision = halted.desk.check("AAA", Decimal(1), Decimal(1))
    assert explain(decision, halted.desk._barrier) == "trading is halted" + closing
    close_engine(halted)
    breaker = Breaker("open", "losses in a row")
    barrier = find_barrier(breaker, is_stopped=False, is_measured=True)
    assert barrier == "a circuit breaker is open, for losses in a row"
    assert find_barrier(Breaker(), is_stopped=False, is_measured=True) == ""


def test_what_is_below_a_lot_and_what_finds_no_quotes_are_told_apart(tmp_path):
    engine = opened(tmp_path / "lot", 5.0004)
    trade(engine, 0, 1)
    reason = read_table(tmp_path / "lot/paper.db", "parents")["reason"].iloc[-1]
    assert reason == "0.0004 is below a lot of 0.001"
    close_engine(engine)
    engine = opened(tmp_path / "thin", 20.0, venues=THIN)
    trade(engine, 0, 1)
    reason = read_table(tmp_path / "thin/paper.db", "parents")["reason"].iloc[-1]
    assert reason.endswith(" found no quotes") and float(reason.split()[0]) > 10
    close_engine(engine)
