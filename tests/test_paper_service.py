"""The service started with paper trading: what it refuses, `/paper` over HTTP, how it ends."""

import os
import shutil
import signal
import subprocess
import sys
import time

import httpx
import orjson
import pandas as pd
import pytest
import yaml

from hftlib.live import service, session_plans
from hftlib.live.client import ServiceClient
from hftlib.live.processes import start_service
from hftlib.live.session import STORE, PaperSession
from hftlib.live.settings import ServiceSettings
from hftlib.live.store import read_table
from hftlib.paths import Paths
from tests.conftest import ROOT
from tests.live_cases import AUTH, DAY_NS, TOKEN, FakePaper, with_client
from tests.retrain_cases import SYMBOLS, make_project, write_holder
from tests.session_run import make_plan, wait_for
from tests.strategy_cases import load_random, serve_here

RECORDED = {"HFTLIB_TOKEN": TOKEN, "HFTLIB_PAPER": "recorded"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project's folder with bars of two symbols and a model of them."""
    root = tmp_path_factory.mktemp("project")
    paths = make_project(root)
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["datasets"]["symbols"] = list(SYMBOLS)
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    write_holder(paths.exported, "ensemble", 0.0, weights=0)
    return root


@pytest.fixture
def project(made, tmp_path):
    """A copy that may be changed."""
    return shutil.copytree(made, tmp_path / "project")


def start_and_fail(folder, **environment):
    """Exit status and last words of a service that does not start."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HFTLIB_")}
    done = subprocess.run(
        [sys.executable, "-m", "hftlib.live.service"],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT), "PORT": "0", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr.strip().splitlines()[-1]


def test_paper_trading_without_a_token_is_refused(project):
    status, said = start_and_fail(project, HFTLIB_PAPER="recorded")
    assert status == 2
    assert "needs a token; set HFTLIB_TOKEN, or HFTLIB_PAPER to nothing" in said


def test_without_recorded_bars_it_says_what_to_run(project):
    for path in project.rglob("*.parquet"):
        path.unlink()
    status, said = start_and_fail(project, **RECORDED)
    assert status == 2 and "is not there; run `make repro` first" in said


def open_session(project, monkeypatch, model="ensemble", kind="recorded"):
    """What `main` opens, in this process."""
    monkeypatch.chdir(project)
    settings = ServiceSettings(token=TOKEN, paper=kind, model=model)
    return service._open_session(settings, Paths(project).exported)


def test_without_a_model_it_says_what_to_run(made, monkeypatch):
    with pytest.raises(ValueError, match=r"needs a model, .* has none; run `make repro` first"):
        open_session(made, monkeypatch, model="")


def test_a_model_that_does_not_know_what_is_traded_is_refused(project, monkeypatch):
    write_holder(Paths(project).exported, "ensemble", 0.0, symbols=("AAA", "CCC"))
    with pytest.raises(ValueError, match=r"ensemble does not know BBB, .* it knows AAA, CCC"):
        open_session(project, monkeypatch)


def test_symbols_without_bars_are_named(project, monkeypatch):
    path = Paths(project).bars
    bars = pd.read_parquet(path)
    bars[bars["symbol"] == "AAA"].to_parquet(path)
    with pytest.raises(ValueError, match=r"has no bars of BBB, .* run `make repro`"):
        open_session(project, monkeypatch)


def test_nothing_to_poll_is_refused(made, monkeypatch):
    with pytest.raises(ValueError, match=r"0 entries .* at least one, all of one interval"):
        open_session(made, monkeypatch, kind="polled")


def test_what_is_traded_is_what_the_parameters_say(made, monkeypatch):
    plan = open_session(made, monkeypatch)._plan
    n_bars = yaml.safe_load((made / "params.yaml").read_text())["paper_trading"]["n_bars"]
    days = pd.date_range("2010-01-01", periods=300, tz="UTC")
    assert plan.rules.symbols == SYMBOLS
    assert plan.first_ns == days[-n_bars].value
    assert plan.last_ns == days[-1].value + DAY_NS - 1
    assert plan.name == f"recorded bars, {days[-n_bars].date()} to {days[-1].date()}"
    assert list(plan.venues) == ["plain", "rebate", "far"]
    assert plan.speed == ServiceSettings(token=TOKEN).paper_speed


def test_a_service_told_to_stop_stops_at_once_and_trades_on_at_its_next_start(project):
    speed = {"HFTLIB_PAPER_SPEED": str(86_400 * 20)}  # 250 bars in 12 seconds
    cursor_ns = 0
    for number in (signal.SIGINT, signal.SIGTERM):
        with start_service(project, RECORDED | speed) as running:
            client = ServiceClient(running.address)
            snapshot = trade_beyond(client, cursor_ns)
            assert snapshot["halted"] == ""
            assert snapshot["session"]["state"] == "running"
            assert snapshot["ts_ns"] > cursor_ns
            cursor_ns = snapshot["ts_ns"]
            begun = time.monotonic()
            running.process.send_signal(number)
            running.process.wait(20)
            assert time.monotonic() - begun < 8
            said = "".join(running.lines)
            assert '"event":"error"' not in said and "Traceback" not in said
    (store,) = project.rglob(STORE)
    marks = read_table(store, "marks")["ts_ns"]
    assert marks.is_monotonic_increasing and marks.max() >= cursor_ns
    assert len(read_table(store, "alerts")) == 0  # no halt: neither end was a fault
    assert not store.with_name(f"{STORE}.halt").read_text().strip()


def trade_beyond(client, ts_ns):
    """The first snapshot with a fill that is later."""
    found = []

    def is_there():
        found.append(client.paper())
        return found[-1]["ts_ns"] > ts_ns and found[-1]["fills"]

    wait_for(is_there, 40.0)
    return found[-1]


def test_a_session_is_halted_and_resumed_over_http(tmp_path):
    load_random(tmp_path / "served")
    session = PaperSession(make_plan(tmp_path / "paper", pace_s=0.1))
    with (
        serve_here(tmp_path / "served", paper=session) as address,
        httpx.Client(base_url=address, headers=AUTH) as client,
    ):
        wait_for(lambda: client.get("/paper").json()["ts_ns"] > 0)
        halted = client.post("/paper/halt", json={"reason": "a drill"}).json()
        assert halted["halted"] == "a drill"
        wait_for(lambda: client.get("/paper").json()["alerts"])
        assert client.get("/ready").status_code == 200
        answer = client.post("/paper/resume", json={"who": "the risk officer"})
        assert answer.status_code == 200
        wait_for(lambda: client.get("/paper").json()["halted"] == "")
        last = client.get("/paper").json()["alerts"][-1]
        assert (last["name"], last["text"]) == ("resume", "by the risk officer, after: a drill")


def test_resuming_needs_the_token_and_a_name():
    paper = FakePaper()
    paper.halt("a drill")

    async def test(client):
        body = {"who": "the risk officer"}
        assert (await client.post("/paper/resume", json=body)).status_code == 401
        for wrong in ({}, {"who": ""}, {"who": 3}, {**body, "now": True}):
            refused = await client.post("/paper/resume", json=wrong, headers=AUTH)
            assert refused.status_code == 422, wrong
        assert paper.reason == "a drill"
        resumed = await client.post("/paper/resume", json=body, headers=AUTH)
        assert resumed.json() == {"equity": 100_000.0, "is_halted": False, "reason": ""}

    with_client(test, paper=paper)


def test_without_paper_trading_there_is_nothing_to_resume():
    async def test(client):
        answer = await client.post("/paper/resume", json={"who": "x"}, headers=AUTH)
        assert answer.status_code == 404
        assert orjson.loads(answer.content)["error"]["code"] == "no_paper"

    with_client(test)


def test_venues_of_the_parameters_are_those_of_the_plan():
    entry = {"name": "near", "maker_fee_bps": -0.2, "taker_fee_bps": 0.3, "latency_ms": 1.5}
    entry |= {"spread_bps": 3.0, "level_units": 1.0}
    (venue,) = session_plans.read_venues([entry], 0.01, 0.1).values()
    assert (venue.latency_ns, venue.tick_size, venue.lot_size) == (1_500_000, 0.01, 0.1)
    assert (venue.maker_fee_bps, venue.taker_fee_bps, venue.spread_bps) == (-0.2, 0.3, 3.0)
