"""Orders that could not be sent, and restarts: memory and file agree, the clock never goes back."""

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from hftlib.live import paper
from hftlib.live.feeds import read_bars
from hftlib.live.store import read_table
from hftlib.portfolio.risk_state import RiskError
from tests.conftest import make_bars
from tests.paper_cases import FINE, close_engine, open_engine

MOMENTS = read_bars(make_bars(30))
RISING = np.arange(5.0, 35.0)[:, None]
LATE = {"one": replace(FINE, latency_ns=10**6)}


class Killed(BaseException):
    """Stands for a signal: nothing catches it."""


def trade(engine, first, last):
    for moment in MOMENTS[first:last]:
        engine.step(moment, moment.ts_ns)


def opened(folder, first=0, **rules):
    engine = open_engine(folder, ("AAA",), RISING, cash=Decimal(100_000), **rules)
    engine.strategy.row = first // 2 - 1
    return engine


def test_an_order_whose_check_fails_stays_open_in_memory_and_in_the_file(tmp_path, monkeypatch):
    engine = opened(tmp_path)
    trade(engine, 0, 6)
    check, path = engine.desk.check, tmp_path / "paper.db"

    def fail(*values, **names):
        if names.get("without"):  # the check at the door, after that of what is written
            raise RiskError("equity is -1")
        return check(*values, **names)

    monkeypatch.setattr(engine.desk, "check", fail)
    trade(engine, 6, 7)
    assert engine.halted == "risk: equity is -1"
    last = read_table(path, "orders").iloc[-1]
    assert last["status"] == "new" and list(engine.desk.open_orders) == [last["client_id"]]
    monkeypatch.undo()
    engine.resume("the risk officer")
    last = read_table(path, "orders").iloc[-1]
    assert last["status"] == "expired" and not engine.desk.open_orders
    trade(engine, 7, 9)
    units = engine.desk.account.units("AAA")
    close_engine(engine)
    again = opened(tmp_path, now_ns=MOMENTS[0].ts_ns)
    assert again.halted == "" and again.desk.account.units("AAA") == units == RISING[3, 0]
    close_engine(again)


def crash_while_trading(folder, now_ns, monkeypatch):
    """Die between the transaction of an open and its orders; what the account then does."""
    engine = opened(folder, venues=LATE)
    trade(engine, 0, 10)

    def die(*values):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(paper, "work_parents", die)
        trade(engine, 10, 11)
    close_engine(engine)
    again = opened(folder, 11, venues=LATE, now_ns=now_ns)
    trade(again, 11, 14)
    close_engine(again)
    return [read_table(folder / "paper.db", name) for name in ("orders", "fills")]


def test_a_restart_sends_at_the_time_of_the_last_moment(tmp_path, monkeypatch):
    whole = opened(tmp_path / "whole", venues=LATE)
    trade(whole, 0, 14)
    close_engine(whole)
    found = crash_while_trading(tmp_path / "broken", MOMENTS[0].ts_ns, monkeypatch)
    for table, name in zip(found, ("orders", "fills"), strict=True):
        assert table.equals(read_table(tmp_path / "whole" / "paper.db", name))


def test_an_order_that_was_never_sent_is_given_up_by_its_age_at_the_last_moment(tmp_path):
    engine = opened(tmp_path)
    trade(engine, 0, 7)
    last = read_table(tmp_path / "paper.db", "orders").iloc[-1]
    for broker in engine.desk.brokers.values():
        broker._database.execute("DELETE FROM orders WHERE client_id = ?", (last["client_id"],))
    query = "UPDATE orders SET status = 'new', sent_ns = 0 WHERE client_id = ?"
    engine.desk.store.database.execute(query, (last["client_id"],))
    close_engine(engine)
    again = opened(tmp_path, now_ns=0)
    reason = read_table(tmp_path / "paper.db", "orders")["reason"].iloc[-1]
    assert reason == f"written, not sent; given up after {MOMENTS[6].ts_ns / 1e9:g} s"
    close_engine(again)
