"""Load of the benchmark: sent on the clock, counted whatever the answer."""

import asyncio

import orjson

from benchmarks.live_load import Client, describe, open_loop, quantile
from tests.live_cases import served


def test_an_open_loop_sends_on_the_clock_and_keeps_every_status():
    async def go(address):
        bodies = [orjson.dumps({"symbol": name}) for name in ("S00", "unknown")]
        return await open_loop(Client(address), "/predict", bodies, 100, 0.4)

    with served() as (address, _):
        found = asyncio.run(go(address))
    assert sorted(one.due_s for one in found) == [k / 100 for k in range(40)]
    assert {one.status for one in found} == {404, 409}
    assert all(one.latency_ms > one.late_ms >= 0 for one in found)


def test_a_server_that_is_gone_is_status_0():
    async def go():
        return await open_loop(Client("http://127.0.0.1:9"), "/predict", [b"{}"], 100, 0.05)

    assert {one.status for one in asyncio.run(go())} == {0}


def test_quantiles_are_values_that_were_seen():
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([3.0, 1.0, 2.0], 0.99) == 3.0
    assert describe([]).startswith("n      0")
