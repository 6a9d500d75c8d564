"""Gauges of paper trading: what a scrape says of the account."""

import math

from prometheus_client.parser import text_string_to_metric_families as parse

from hftlib.live.metrics_http import PAPER
from tests.live_cases import with_client


class Account:
    """A view of paper trading that shows what it is given, and counts how often."""

    def __init__(self, **changes):
        standing = {"equity": 9_900.0, "drawdown": 0.02}
        self.shown = {"standing": standing, "statistics": {"n_trades": 3}}
        self.shown |= {"halted": "", "drift": None, **changes}
        self.n_looks = 0

    def snapshot(self):
        self.n_looks += 1
        if isinstance(self.shown, Exception):
            raise self.shown
        return self.shown

    def halt(self, reason, flatten=False):
        self.shown["halted"] = reason


async def scrape(client):
    text = (await client.get("/metrics")).text
    names = [f"hftlib_{name}" for name in PAPER]
    return {
        sample.name.removeprefix("hftlib_"): sample.value
        for family in parse(text)
        for sample in family.samples
        if sample.name in names
    }


def measure(paper):
    return with_client(scrape, paper=paper)


def test_a_scrape_shows_the_account():
    found = measure(Account())
    assert math.isnan(found.pop("drift"))
    expected = {"paper_equity": 9_900, "paper_drawdown": 0.02, "paper_halted": 0, "paper_fills": 3}
    assert found == expected
    assert measure(Account(halted="dead feed"))["paper_halted"] == 1
    assert measure(Account(drift={"is_drift": True}))["drift"] == 1
    assert measure(Account(drift={"is_drift": False}))["drift"] == 0


def test_without_paper_trading_its_gauges_are_nan():
    found = measure(None)
    assert len(found) == len(PAPER)
    assert all(math.isnan(value) for value in found.values())


def test_an_account_that_is_being_opened_has_no_equity_yet():
    account = Account()
    account.shown = {"ts_ns": 0, "halted": "asked before it began"}
    found = measure(account)
    assert found.pop("paper_halted") == 1
    assert all(math.isnan(value) for value in found.values())


def test_an_engine_that_fails_leaves_counters_and_no_old_values():
    account = Account()

    async def test(client):
        runtime = client.app.state.runtime
        assert (await scrape(client))["paper_equity"] == 9_900
        for fault in (OSError("no disk"), {"standing": 5}, {"standing": {"equity": "much"}}):
            account.shown = fault
            runtime._paper_s = -math.inf
            assert all(math.isnan(value) for value in (await scrape(client)).values())

    with_client(test, paper=account)


def test_the_account_is_looked_at_once_a_second_however_many_scrape():
    account = Account()

    async def test(client):
        for _ in range(20):
            await scrape(client)

    with_client(test, paper=account)
    assert account.n_looks <= 2
