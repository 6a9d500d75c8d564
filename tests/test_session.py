"""Paper trading beside a real service: seen, halted, resumed, killed, ended, and what fails."""

import logging
import multiprocessing
import sqlite3
import time
from dataclasses import replace
from functools import partial

import pandas as pd
import pytest

from hftlib.live import policy_strategy
from hftlib.live import session as session_module
from hftlib.live.client import ServiceClient
from hftlib.live.feeds import Recording, read_bars
from hftlib.live.polling import PolledBars
from hftlib.live.replay import replay
from hftlib.live.session import STORE, PaperSession, open_engine
from hftlib.live.store import read_table
from hftlib.live.store_tables import StoreError
from tests.conftest import make_bars
from tests.live_cases import DAY_NS, TOKEN
from tests.session_run import (
    N_BARS,
    N_TRADED,
    SYMBOLS,
    make_plan,
    state_of,
    trade_alone,
    wait_for,
)
from tests.strategy_cases import LocalService, load_random, serve_here

FORKS = multiprocessing.get_context("forkserver")  # imports once, then one process a run
FORKS.set_forkserver_preload(["tests.session_run"])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("session") / "served"


@pytest.fixture(scope="module")
def predictor(root):
    return load_random(root)


@pytest.fixture(scope="module")
def running(root, predictor):
    with serve_here(root) as address:
        yield address


@pytest.fixture
def address(running):
    """The service, its streams empty."""
    with ServiceClient(running, TOKEN) as client:
        client.activate("random")
    return running


@pytest.fixture(scope="module")
def whole(predictor, tmp_path_factory):
    """The plan of all tests, traded without a break."""
    folder = tmp_path_factory.mktemp("whole") / "paper"
    found = replay(make_plan(folder), LocalService(predictor))
    assert not found.halted and len(found.fills) > 40
    return folder


def ends(session):
    return lambda: state_of(session) == "ended"


def check_same(folder, whole):
    """To the last digit the orders, fills and venues of an unbroken run."""
    for table in ("orders", "fills", "parents"):
        ours, theirs = (read_table(path / STORE, table) for path in (folder, whole))
        pd.testing.assert_frame_equal(ours, theirs, obj=table)
    query = "SELECT * FROM events"
    events = [
        sqlite3.connect(path / "one.db").execute(query).fetchall() for path in (folder, whole)
    ]
    assert events[0] == events[1]


def n_marks(folder):
    try:
        database = sqlite3.connect(f"file:{folder / STORE}?mode=ro", uri=True)
        return database.execute("SELECT COUNT(*) FROM marks").fetchone()[0]
    except sqlite3.Error:
        return 0


def test_a_session_trades_a_recording_to_its_end_as_a_replay_does(address, whole, tmp_path):
    session = PaperSession(make_plan(tmp_path / "paper", pace_s=0.02))
    before = session.snapshot()
    assert (before["ts_ns"], before["halted"], before["model"]) == (0, "", None)
    assert before["session"] == {
        "name": "a recording",
        "speed": None,
        "state": "opening",
    }
    session.start(address, TOKEN)
    wait_for(lambda: session.snapshot()["model"])
    while_it_runs = session.snapshot()
    assert while_it_runs["session"]["state"] == "running"
    assert while_it_runs["model"] == {"name": "random", "version": "1"}
    assert len(while_it_runs["prices"]["AAA"]) >= N_BARS - N_TRADED
    wait_for(ends(session))
    after = session.snapshot()
    assert after["ts_ns"] == make_plan(tmp_path).last_ns
    assert after["statistics"]["n_bars"] == N_TRADED
    assert after["halted"] == "" and after["fills"]
    check_same(tmp_path / "paper", whole)


def test_a_halt_stops_the_trading_until_somebody_resumes(address, tmp_path):
    session = PaperSession(make_plan(tmp_path / "paper", pace_s=0.05))
    session.start(address, TOKEN)
    wait_for(lambda: session.snapshot()["ts_ns"] > 0)
    session.halt("a drill")
    assert session.snapshot()["halted"] == "a drill"  # at once
    kept = (tmp_path / "paper" / f"{STORE}.halt").read_text()
    assert kept.strip() == "a drill"  # also if the process is killed now
    wait_for(lambda: session.snapshot()["alerts"])
    time.sleep(0.5)  # the moment at which it is obeyed is still marked
    ts_ns = session.snapshot()["ts_ns"]
    time.sleep(0.2)
    assert session.snapshot()["ts_ns"] == ts_ns < make_plan(tmp_path).last_ns
    session.resume("the risk officer")
    wait_for(ends(session))
    alerts = [(row["name"], row["text"]) for row in session.snapshot()["alerts"]]
    assert alerts == [("halt", "a drill"), ("resume", "by the risk officer, after: a drill")]
    assert session.snapshot()["halted"] == ""


def test_a_halt_before_the_account_is_open_is_obeyed(address, tmp_path):
    session = PaperSession(make_plan(tmp_path / "paper"))
    session.halt("not today")
    assert session.snapshot()["halted"] == "not today"
    session.start(address, TOKEN)
    wait_for(lambda: len(session.snapshot().get("alerts", ())) == 1)
    assert session.snapshot()["halted"] == "not today"
    assert len(read_table(tmp_path / "paper" / STORE, "orders")) == 0
    session.resume("the risk officer")
    wait_for(ends(session))
    assert session.snapshot()["fills"]


def test_who_resumes_what_is_not_halted_does_not_lift_a_later_halt(address, tmp_path):
    session = PaperSession(make_plan(tmp_path / "paper", pace_s=0.02))
    session.resume("too early")
    session.start(address, TOKEN)
    wait_for(lambda: session.snapshot()["ts_ns"] > 0)
    session.resume("for nothing")
    session.halt("a drill")
    wait_for(lambda: session.snapshot()["alerts"])
    time.sleep(0.2)
    assert session.snapshot()["halted"] == "a drill"
    assert len(session.snapshot()["alerts"]) == 1


def test_a_halt_after_the_word_to_resume_counts(address, tmp_path):
    session = PaperSession(make_plan(tmp_path / "paper", pace_s=0.05))
    session.start(address, TOKEN)
    wait_for(lambda: session.snapshot()["ts_ns"] > 0)
    session.halt("first")
    session.resume("somebody")  # the engine has not heard of either yet
    session.halt("second")
    wait_for(lambda: session.snapshot()["alerts"])
    time.sleep(0.3)
    assert session.snapshot()["halted"]
    # one word lifts both: the second does not come back with the next moment
    session.halt("third")
    session.resume("somebody else")
    wait_for(ends(session))
    names = [row["name"] for row in session.snapshot()["alerts"]]
    assert names == ["halt", "halt", "resume"]


def test_what_keeps_the_account_from_resuming_is_said_and_it_stays_halted(
    address, tmp_path, monkeypatch, caplog
):
    session = PaperSession(make_plan(tmp_path / "paper", pace_s=0.02))
    session.start(address, TOKEN)
    wait_for(lambda: session.snapshot()["ts_ns"] > 0)
    session.halt("a drill")
    wait_for(lambda: session.snapshot()["alerts"])
    whole_switch = session_module.PaperEngine.resume

    def fail(engine, who):
        raise StoreError("the disk is full")

    monkeypatch.setattr(session_module.PaperEngine, "resume", fail)
    with caplog.at_level(logging.ERROR, "hftlib.live"):
        session.resume("somebody")
        wait_for(lambda: len(session.snapshot()["alerts"]) == 2)
    assert session.snapshot()["halted"] == "a drill"
    assert session.snapshot()["alerts"][-1]["text"] == "disk: the disk is full"
    assert any(record.values["what"] == "resume" for record in caplog.records)
    monkeypatch.setattr(session_module.PaperEngine, "resume", whole_switch)
    session.resume("somebody")
    wait_for(ends(session))


def test_an_ended_session_can_be_halted_and_resumed(address, tmp_path):
    session = PaperSession(make_plan(tmp_path / "paper"))
    session.start(address, TOKEN)
    wait_for(ends(session))
    session.halt("after the end")
    assert session.snapshot()["halted"] == "after the end"
    session.resume("somebody")
    wait_for(lambda: session.snapshot()["halted"] == "")
    wait_for(ends(session))


def test_a_process_killed_again_and_again_loses_no_order_and_doubles_none(address, whole, tmp_path):
    folder, n_hits = tmp_path / "paper", 0
    for k in range(3):
        goal = n_marks(folder) + 11
        process = FORKS.Process(target=trade_alone, args=(folder, address, TOKEN))
        process.start()
        while process.is_alive() and n_marks(folder) < goal:
            time.sleep(0.001)
        time.sleep(0.004 * k)
        process.kill()
        process.join()
        n_hits += process.exitcode == -9
        process.close()
    assert n_hits == 3
    assert 30 < n_marks(folder) < 2 * N_TRADED
    last = PaperSession(make_plan(folder))
    last.start(address, TOKEN)
    wait_for(ends(last))
    assert n_marks(folder) == 2 * N_TRADED
    check_same(folder, whole)


def test_what_a_killed_process_sends_late_bears_the_time_of_its_moment(predictor, whole, tmp_path):
    """The engine of a restart stands where the first one stood, not at the plan's first moment."""
    plan = make_plan(tmp_path / "paper")
    moments = plan.feed()._moments
    cut = next(k for k, m in enumerate(moments) if m.ts_ns > plan.first_ns) + 20
    begun = replace(plan, feed=partial(Recording, moments[:cut]))
    replay(begun, LocalService(predictor))
    engine, venues = open_engine(plan, policy_strategy.PolicyStrategy(None, SYMBOLS))
    assert engine._now_ns == engine.cursor_ns == moments[cut - 1].ts_ns > plan.first_ns
    for one in (engine.desk.store, *venues):
        one.close()


def test_an_ended_account_begins_anew_and_the_one_before_is_kept(address, whole, tmp_path):
    plan = make_plan(tmp_path / "paper")
    for _ in range(2):
        with ServiceClient(address, TOKEN) as client:
            client.activate("random")
        session = PaperSession(plan)
        session.start(address, TOKEN)
        wait_for(ends(session))
        check_same(plan.folder, whole)
        close(session)
    check_same(tmp_path / "paper.ended", whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["paper", "paper.ended"]


def close(session):
    """Give the files of a session free, as the end of its process does."""
    session._engine.desk.store._lock.close()


def test_an_ended_account_that_is_halted_stays_halted(address, tmp_path):
    plan = make_plan(tmp_path / "paper")
    first = PaperSession(plan)
    first.start(address, TOKEN)
    wait_for(ends(first))
    first.halt("look at this")
    close(first)
    second = PaperSession(plan)
    second.start(address, TOKEN)
    wait_for(lambda: state_of(second) != "opening")
    time.sleep(0.2)
    assert second.snapshot()["halted"] == "look at this"
    second.resume("somebody")
    wait_for(lambda: second.snapshot()["halted"] == "" and ends(second)())
    assert second.snapshot()["statistics"]["n_bars"] == N_TRADED


def test_two_processes_do_not_trade_one_account_and_the_service_lives_on(address, tmp_path, caplog):
    plan = make_plan(tmp_path / "paper", pace_s=0.5)
    first, second = PaperSession(plan), PaperSession(plan)
    first.start(address, TOKEN)
    wait_for(lambda: state_of(first) == "running")
    with caplog.at_level(logging.ERROR, "hftlib.live"):
        second.start(address, TOKEN)
        wait_for(lambda: state_of(second).startswith("failed"))
        wait_for(lambda: caplog.records)
    assert "another process trades on it" in state_of(second)
    assert caplog.records[0].values["what"] == "paper trading"
    assert "another process trades on it" in caplog.records[0].values["why"]
    second.halt("it is not there")
    second.resume("somebody")
    assert state_of(first) == "running"
    with ServiceClient(address) as client:
        assert client.ready()


def test_a_service_without_the_symbols_halts_trading_and_says_so(address, tmp_path):
    bars = make_bars(N_BARS, ("AAA", "CCC"))
    plan = make_plan(tmp_path / "paper", bars)
    plan = replace(plan, rules=replace(plan.rules, symbols=("AAA", "CCC")))
    session = PaperSession(plan)
    session.start(address, TOKEN)
    wait_for(lambda: session.snapshot()["halted"])
    assert "the served model does not know CCC; it knows AAA, BBB" in session.snapshot()["halted"]
    assert state_of(session) == "running"


def test_a_refused_token_halts_trading(address, tmp_path):
    session = PaperSession(make_plan(tmp_path / "paper"))
    session.start(address, "another")
    wait_for(lambda: session.snapshot()["halted"])
    assert session.snapshot()["halted"].startswith("strategy: ServiceError: ")


def test_drift_is_shown_and_a_failing_watch_leaves_trading_alone(
    address, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(session_module, "LOOK_S", 0.02)
    looks = []

    def watch(ts_ns):
        looks.append(ts_ns)
        if len(looks) == 1:
            raise RuntimeError("too few rows")
        return {"is_drift": True, "ts_ns": ts_ns}

    session = PaperSession(make_plan(tmp_path / "paper", pace_s=0.02), watch)
    with caplog.at_level(logging.ERROR, "hftlib.live"):
        session.start(address, TOKEN)
        wait_for(lambda: len(looks) > 1 and session.snapshot()["drift"])
    assert session.snapshot()["drift"]["is_drift"] is True
    assert [r.values["what"] for r in caplog.records] == ["drift"]
    wait_for(ends(session))
    assert looks == sorted(set(looks))  # each moment is looked at once


# Polled bars


class Wall:
    """A clock that jumps to what is waited for, as far as it may."""

    def __init__(self, start_ns, end_ns):
        self._now_ns, self._end_ns = start_ns, end_ns

    def now_ns(self):
        return self._now_ns

    def wait_until(self, ts_ns, is_woken=None):
        if ts_ns > self._end_ns:
            raise EOFError("the test is over")
        self._now_ns = max(self._now_ns, ts_ns)


def poll_to(folder, service, now_ns, end_ns):
    """Trade polled bars of a plan that begins at `now_ns`; the decisions."""
    bars = make_bars(N_BARS, SYMBOLS)

    def fetch(at_ns):
        return bars[bars["ts"] + pd.Timedelta(days=1) <= pd.Timestamp(at_ns, tz="UTC")]

    plan = make_plan(
        folder,
        feed=partial(PolledBars, fetch, bar_ns=DAY_NS, every_ns=DAY_NS // 10, start_ns=now_ns),
        clock=lambda _: Wall(now_ns, end_ns),
        first_ns=now_ns,
        last_ns=None,
    )
    plan = replace(plan, rules=replace(plan.rules, dead_after_ns=10 * DAY_NS))
    strategy = policy_strategy.PolicyStrategy(service, SYMBOLS)
    engine, venues = open_engine(plan, strategy)
    feed, clock = plan.feed(), plan.clock(now_ns)
    with pytest.raises(EOFError):
        session_module.run_paper(engine, feed, clock, start_ns=plan.first_ns)
    assert not engine.halted
    for one in (engine.desk.store, *venues):
        one.close()
    return strategy.decisions


def test_of_polled_bars_the_history_is_shown_and_only_new_ones_are_traded(predictor, tmp_path):
    stamps = [m.ts_ns for m in read_bars(make_bars(N_BARS, SYMBOLS)) if m.kind == "open"]
    now_ns, service = stamps[60] + DAY_NS // 2, LocalService(predictor)
    decisions = poll_to(tmp_path / "paper", service, now_ns, stamps[66] + DAY_NS // 2)
    # bar 59 was over before; bar 60 is the first that ends while it runs
    assert [d.ts_ns for d in decisions if d.symbol == "AAA"] == stamps[60:66]
    assert [bar.ts_ns for bar in service.bars["AAA"]] == stamps[:66]
    marks = read_table(tmp_path / "paper" / STORE, "marks")
    assert marks["ts_ns"].tolist() == [ts_ns + DAY_NS for ts_ns in stamps[60:66]]


def test_bars_that_ended_while_the_process_was_down_are_shown_and_not_traded(predictor, tmp_path):
    stamps = [m.ts_ns for m in read_bars(make_bars(N_BARS, SYMBOLS)) if m.kind == "open"]
    for first, last in ((60, 63), (66, 70)):
        span = stamps[first] + DAY_NS // 2, stamps[last] + DAY_NS // 2
        decisions = poll_to(tmp_path / "paper", LocalService(predictor), *span)
        assert [d.ts_ns for d in decisions if d.symbol == "AAA"] == stamps[first:last]
    marks = read_table(tmp_path / "paper" / STORE, "marks")
    expected = [*stamps[60:63], *stamps[66:70]]
    assert marks["ts_ns"].tolist() == [ts_ns + DAY_NS for ts_ns in expected]


def test_a_polled_session_goes_on_while_it_is_halted_and_trades_again_after(address, tmp_path):
    bars = make_bars(N_BARS, SYMBOLS)
    first_ns = bars["ts"].drop_duplicates().iloc[-N_TRADED].value

    def fetch(at_ns):
        return bars[bars["ts"] + pd.Timedelta(days=1) <= pd.Timestamp(at_ns, tz="UTC")]

    poll = {"bar_ns": DAY_NS, "every_ns": DAY_NS // 4, "start_ns": first_ns}
    plan = make_plan(
        tmp_path / "paper", pace_s=0.3, feed=partial(PolledBars, fetch, **poll), last_ns=None
    )
    plan = replace(plan, rules=replace(plan.rules, dead_after_ns=1000 * DAY_NS))
    session = PaperSession(plan)
    session.start(address, TOKEN)
    wait_for(lambda: session.snapshot().get("fills"))
    session.halt("a drill")
    wait_for(lambda: session.snapshot()["alerts"])
    halted = session.snapshot()
    wait_for(lambda: session.snapshot()["ts_ns"] >= halted["ts_ns"] + 3 * DAY_NS)
    shown = session.snapshot()
    assert shown["halted"] == "a drill" and shown["session"]["state"] == "running"
    assert len(shown["fills"]) == len(halted["fills"])
    session.resume("the risk officer")
    wait_for(lambda: len(session.snapshot()["fills"]) > len(halted["fills"]))
    assert session.snapshot()["halted"] == ""
