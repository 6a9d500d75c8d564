"""What is shown of paper trading: consistent states for any thread, the past after a restart."""

import json
import sqlite3
import threading
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from hftlib.live.clock import AcceleratedClock
from hftlib.live.feeds import Recording, read_bars, run_paper
from hftlib.live.monitor import PaperMonitor
from hftlib.live.store import read_table
from hftlib.live.ticks import Moment, Tick
from hftlib.portfolio.measures import max_drawdown, periods_per_year, sharpe, simple_returns
from hftlib.portfolio.risk import RiskLimits
from tests.conftest import make_bars
from tests.paper_cases import FINE, NO_LIMITS, close_engine, open_engine, whole_targets

SYMBOLS = ("AAA", "BBB")
N_BARS = 40
VENUES = {"one": FINE, "two": replace(FINE, taker_fee_bps=1.0, level_units=5.0)}
ROWS = {
    "positions": "symbol units average_cost price value weight unrealised",
    "equity": "ts_ns equity drawdown",
    "fills": "ts_ns symbol venue quantity price fee mark slippage_bps",
    "orders": "client_id symbol venue quantity limit_price kind status filled sent_ns reason",
    "checks": "ts_ns symbol action asked allowed reasons",
    "alerts": "ts_ns name text",
    "limits": "name used limit",
}
PARTS = {
    "standing": "equity cash peak_equity day_equity drawdown daily_loss volume_today trades_today "
    "initial_cash",
    "statistics": "n_trades win_rate sharpe max_drawdown turnover fees realised n_bars",
}


def opened(folder, targets=None, **rules):
    targets = whole_targets(N_BARS, 2) if targets is None else targets
    return open_engine(folder, SYMBOLS, targets, venues=VENUES, cash=Decimal(100_000), **rules)


def run_bars(engine, n_bars=N_BARS):
    run_paper(engine, Recording(read_bars(make_bars(N_BARS, SYMBOLS))[: 2 * n_bars]),
              AcceleratedClock())  # fmt: skip


@pytest.fixture
def traded(tmp_path):
    engine = opened(tmp_path)
    monitor = PaperMonitor(engine)
    run_bars(engine)
    yield engine, monitor
    close_engine(engine)


def check_balance(shown):
    """Cash and positions at prices are equity, to the rounding of a sum of floats."""
    held = sum(p["units"] * p["price"] for p in shown["positions"] if p["units"])
    standing = shown["standing"]
    assert standing["cash"] + held == pytest.approx(standing["equity"], rel=1e-12)


def test_a_snapshot_has_the_fields_that_are_agreed(traded):
    engine, monitor = traded
    engine.ask_halt("kill switch")
    engine.beat(engine.cursor_ns)
    shown = json.loads(json.dumps(monitor.snapshot(), allow_nan=False))
    assert shown["drift"] is None and shown["model"] is None
    assert shown["ts_ns"] == engine.cursor_ns and shown["breaker"]["phase"] == "closed"
    for name, columns in ROWS.items():
        assert shown[name] and all(list(row) == columns.split() for row in shown[name]), name
    for name, columns in PARTS.items():
        assert set(shown[name]) == set(columns.split())
    assert {s: list(books) for s, books in shown["books"].items()} == {
        s: list(VENUES) for s in SYMBOLS
    }


def test_what_is_shown_is_what_was_traded(traded):
    engine, monitor = traded
    shown = monitor.snapshot()
    store = engine.desk.store.path
    fills = read_table(store, "fills").tail(100)
    worse = np.sign(fills["quantity"].astype(float)) * (
        fills["price"].astype(float) / fills["mark"].astype(float) - 1
    )
    # half of the spread of 4 bps, more on deeper levels, and a tick of .0001 at a price of 50
    assert [f["slippage_bps"] for f in shown["fills"]] == pytest.approx(list(1e4 * worse))
    assert min(f["slippage_bps"] for f in shown["fills"]) >= 2 - 1e-9
    bars = make_bars(N_BARS, SYMBOLS)
    for symbol, rows in shown["prices"].items():
        mine = bars[bars["symbol"] == symbol]
        assert [row["close"] for row in rows] == list(mine["close"])
        assert [row["volume"] for row in rows] == list(mine["volume"])
    book = shown["books"]["AAA"]["one"]
    prices = [price for price, _ in book["bids"][::-1] + book["asks"]]
    assert prices == sorted(prices) and len(book["bids"]) == FINE.n_levels
    for position in shown["positions"]:
        assert position["units"] == float(engine.desk.account.units(position["symbol"]))
    check_balance(shown)


def test_statistics_are_those_of_the_whole_file(traded):
    engine, monitor = traded
    shown = monitor.snapshot()["statistics"]
    path = engine.desk.store.path
    marks, orders = read_table(path, "marks"), read_table(path, "orders")
    fills = read_table(path, "fills")[["quantity", "price", "fee"]].astype(float)
    closes = marks[marks["kind"] == "close"]
    worth, clock = closes["equity"].astype(float).to_numpy(), closes["ts_ns"].to_numpy()
    results = orders["result"].astype(float)
    path_of_all = [100_000.0, *marks["equity"].astype(float)]
    assert shown["n_bars"] == len(worth) == N_BARS
    assert shown["sharpe"] == pytest.approx(sharpe(simple_returns(worth), periods_per_year(clock)))
    assert shown["max_drawdown"] == pytest.approx(max_drawdown(path_of_all))
    assert shown["win_rate"] == pytest.approx((results > 0).sum() / (results != 0).sum())
    assert 0 < shown["win_rate"] < 1
    assert shown["n_trades"] == (orders["filled"].astype(float) != 0).sum()
    notional = (fills["quantity"].abs() * fills["price"]).sum()
    assert shown["turnover"] == pytest.approx(notional / worth.mean())
    assert shown["fees"] == pytest.approx(fills["fee"].sum())
    assert shown["realised"] == float(engine.desk.account.realised)


def test_what_is_too_little_for_a_statistic_is_null(tmp_path):
    engine = opened(tmp_path)
    shown = PaperMonitor(engine).snapshot()
    assert shown["statistics"] == {
        "n_trades": 0, "win_rate": None, "sharpe": None, "max_drawdown": 0.0, "turnover": None,
        "fees": 0.0, "realised": 0.0, "n_bars": 0,
    }  # fmt: skip
    assert [p["price"] for p in shown["positions"]] == [None, None]
    monitor = PaperMonitor(engine)
    run_bars(engine, 19)
    assert monitor.snapshot()["statistics"]["sharpe"] is None
    close_engine(engine)


def test_a_process_that_is_started_again_shows_its_past(traded, tmp_path):
    engine, monitor = traded
    before = monitor.snapshot()
    close_engine(engine)
    again = opened(tmp_path)
    restarted = PaperMonitor(again)
    assert restarted.snapshot()["equity"] == before["equity"]
    run_bars(again)
    after = restarted.snapshot()
    same = set(before) - {"session"}
    assert {n: after[n] for n in same} == {n: before[n] for n in same}
    close_engine(again)


def test_another_thread_sees_only_whole_states(tmp_path):
    bars = make_bars(60, SYMBOLS)
    engine = opened(tmp_path, whole_targets(60, 2))
    monitor = PaperMonitor(engine, every_s=1e-9)
    seen, troubles, is_over = set(), [], threading.Event()

    def look():
        while not is_over.is_set():
            shown = monitor.snapshot()
            try:
                check_balance(shown)
                json.dumps(shown, allow_nan=False)
            except Exception as error:  # a thread's failure must fail the test
                troubles.append(error)
            seen.add(shown["ts_ns"])

    thread = threading.Thread(target=look)
    thread.start()
    run_paper(engine, Recording(read_bars(bars)), AcceleratedClock())
    is_over.set()
    thread.join()
    close_engine(engine)
    assert engine.halted == "" and not troubles
    assert len(seen) > 20


def test_a_halt_is_shown_when_it_is_asked_for_and_when_it_ended(traded):
    engine, monitor = traded
    engine.ask_halt("kill switch")
    assert monitor.snapshot()["halted"] == "kill switch" and engine.halted == ""
    engine.beat(engine.cursor_ns)
    assert monitor.snapshot()["halted"] == engine.halted == "kill switch"
    assert monitor.snapshot()["alerts"][-1]["text"] == "kill switch"
    engine.resume("the risk officer")
    assert monitor.snapshot()["halted"] == ""
    assert monitor.snapshot()["alerts"][-1]["name"] == "resume"


def test_snapshots_are_built_no_more_often_than_asked(tmp_path):
    engine = opened(tmp_path)
    monitor = PaperMonitor(engine, every_s=3600.0)
    built = []
    run_bars(engine, 1)
    for second in range(10):
        ts_ns = engine.cursor_ns + second + 1
        engine.step(Moment(ts_ns, "quote", (Tick("AAA", 50.0 + second),)), ts_ns)
        built.append(monitor.snapshot()["ts_ns"])
    assert len(set(built)) <= 3 and built[-1] < engine.cursor_ns
    engine.halt("kill switch")
    assert monitor.snapshot()["ts_ns"] == engine.cursor_ns
    close_engine(engine)


def test_model_and_drift_are_those_of_the_moment_of_looking(traded):
    _, monitor = traded
    monitor.set_drift({"is_drift": True, "columns": [{"psi": float("nan")}]})
    assert monitor.snapshot()["drift"] == {"is_drift": True, "columns": [{"psi": None}]}
    named = PaperMonitor(traded[0], model=lambda: {"name": "ppo", "version": 2})
    assert named.snapshot()["model"] == {"name": "ppo", "version": 2}


def test_limits_show_what_the_account_uses_of_them(tmp_path):
    limits = RiskLimits(**vars(NO_LIMITS) | {"max_var": 1.0, "max_leverage": 2.0})
    targets = np.array([[100.0, -50.0]] + [[np.nan] * 2] * (N_BARS - 1))
    engine = opened(tmp_path, targets, limits=limits, sectors={"AAA": "tech"})
    monitor = PaperMonitor(engine)
    run_bars(engine, 10)
    assert float(engine.desk.account.units("AAA")) == 0, "no covariance when it was to be bought"
    engine.strategy.targets[10] = [100.0, -50.0]
    run_paper(engine, Recording(read_bars(make_bars(N_BARS, SYMBOLS))[20:30]), AcceleratedClock())
    shown = monitor.snapshot()
    used = {row["name"]: row["used"] for row in shown["limits"]}
    allowed = {row["name"]: row["limit"] for row in shown["limits"]}
    assert allowed["max_leverage"] == 2.0 and allowed["max_sector"] is None
    weights = {p["symbol"]: p["weight"] for p in shown["positions"]}
    assert used["max_leverage"] == pytest.approx(weights["AAA"] - weights["BBB"])
    assert used["max_position"] == pytest.approx(max(weights["AAA"], -weights["BBB"]))
    assert used["max_sector"] == pytest.approx(weights["AAA"])
    signed = np.array([weights[s] for s in SYMBOLS])
    deviation = np.sqrt(signed @ engine.desk.covariance @ signed)
    assert used["max_var"] == pytest.approx(1.6448536269514722 * deviation)
    changes = [
        np.sign(p["units"]) * (p["price"] / p["average_cost"] - 1) for p in shown["positions"]
    ]
    assert used["stop_loss"] == pytest.approx(max(0, -min(changes)))
    assert used["take_profit"] == pytest.approx(max(0, *changes))
    assert used["max_daily_trades"] == shown["standing"]["trades_today"]
    close_engine(engine)


def test_a_file_that_cannot_be_read_is_shown_as_it_was(traded):
    engine, monitor = traded
    before = monitor.snapshot()

    def fail():
        raise sqlite3.OperationalError("disk I/O error")

    monitor._history.read = fail
    engine.on_change(True)
    assert monitor.snapshot() == before
