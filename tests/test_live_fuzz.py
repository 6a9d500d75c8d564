"""Requests drawn from the service's OpenAPI document, sound and not: answers are as it says."""

import asyncio
import copy
import json
import zlib
from contextlib import suppress
from urllib.parse import urlsplit

import numpy as np
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from hftlib.live.client import ServiceClient
from hftlib.live.service import create_app
from hftlib.live.settings import ServiceSettings
from tests.live_cases import (
    AUTH,
    NOW_NS,
    TOKEN,
    FakePaper,
    FakePredictor,
    FakeStore,
    make_bar,
    served,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
]
PRICES = ("low", "open", "close", "high")
KNOWN = ("AAA", "BBB", "CCC")
FEW = settings(
    max_examples=15,
    derandomize=True,
    suppress_health_check=[*HealthCheck],
)


class Anew:
    """An application that begins anew with every lifespan; schemathesis ends one with each test."""

    def __init__(self, limits):
        self.limits = limits

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            store = FakeStore(FakePredictor(), FakePredictor("beta"))
            self.app = create_app(store, self.limits, FakePaper(), lambda: NOW_NS)
        await self.app(scope, receive, send)


def make_schema(token):
    """The document of a service in this process, with two models that share the keys."""
    limits = ServiceSettings(
        token=token,
        hosts=("testserver",),
        challenger="beta",
        challenger_share=0.5,
        backtest_command=("true",),
        requests_per_s=1e6,
        burst=1e6,
    )
    return schemathesis.openapi.from_asgi("/openapi.json", Anew(limits))


def mend_some(case):
    """Half of the bodies are mended, so that some come beyond the first checks."""
    body = copy.deepcopy(case.body)
    k = zlib.crc32(repr(body).encode("utf-8", "replace"))
    if k % 2 and isinstance(body, dict):
        items = body["items"] if isinstance(body.get("items"), list) else [body]
        for number, item in enumerate(items):
            if isinstance(item, dict) and "symbol" in item:
                mend(item, KNOWN[(k + number) % 3])
        case.body = body


def mend(item, symbol):
    """Make of what was drawn an item that the model can answer, but for what is odd in a value."""
    item["symbol"] = symbol
    held = item.get("position") or 0
    if isinstance(held, int | float):
        item["exposure"] = float((held > 0) - (held < 0))
    for name in ("bars", "window"):
        rows = item.get(name)
        if not isinstance(rows, list) or not rows:
            continue
        for other in {"bars", "window", "snapshots"} - {name}:
            item.pop(other, None)
        rows += [dict(row) if isinstance(row, dict) else row for row in rows * 3][: 4 - len(rows)]
        for k, row in enumerate(rows):
            if isinstance(row, dict):
                row["ts"] = make_bar(k)["ts"]
                prices = [row.get(one) for one in PRICES]
                if all(isinstance(price, int | float) for price in prices):
                    row.update(zip(PRICES, sorted(prices), strict=True))
        return


READ_ONLY, OPEN = make_schema(""), make_schema(TOKEN)


@READ_ONLY.parametrize()
@FEW
def test_without_a_token_answers_are_as_declared(case):
    mend_some(case)
    response = case.call_and_validate(checks=CHECKS)
    assert response.status_code != 202


@OPEN.parametrize()
@FEW
def test_with_the_token_answers_are_as_declared(case):
    mend_some(case)
    case.call_and_validate(headers=AUTH, checks=CHECKS)


GARBAGE = [b"", b"\x00" * 64, b"{", b"[" * 1000, b"\xff\xfe", b'{"type": "halt"}', b"x" * 1024]


def test_garbage_on_the_live_stream_disturbs_nobody():
    """Frames that are odd, too long or cut short, and handshakes that are none."""

    async def listen(address):
        rng = np.random.default_rng(0)
        url = address.replace("http", "ws") + "/ws"
        async with connect(url) as good:
            for _ in range(30):
                with suppress(ConnectionClosed, InvalidHandshake, OSError):
                    async with connect(url) as odd:
                        for _ in range(rng.integers(1, 6)):
                            drawn = rng.bytes(int(rng.integers(0, 2000)))
                            frame = drawn if rng.random() < 0.5 else GARBAGE[rng.integers(7)]
                            is_text = rng.random() < 0.5
                            await odd.send(frame.decode("latin-1") if is_text else frame)
                        if rng.random() < 0.5:
                            odd.transport.abort()
            for _ in range(30):
                _, writer = await asyncio.open_connection("127.0.0.1", urlsplit(address).port)
                head = b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
                head += b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                head += b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
                writer.write(head[: int(rng.integers(1, len(head) + 1))] + rng.bytes(50))
                await writer.drain()
                writer.transport.abort()
            seen = [json.loads(await asyncio.wait_for(good.recv(), 5))["type"] for _ in range(3)]
        assert seen[0] == "hello"

    with served(HFTLIB_HEARTBEAT_S="0.2") as (address, process):
        asyncio.run(listen(address))
        with ServiceClient(address, TOKEN) as client:
            assert client.ready()["status"] == "ready"
        assert not [line for line in process.log if "Traceback" in line]
