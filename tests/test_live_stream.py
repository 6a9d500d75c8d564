"""The live stream, and a real server on a socket."""

import asyncio
import json
import re
import signal
import socket
import time
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.live_cases import AUTH, make_bar, served


@pytest.fixture(scope="module")
def address():
    limits = {"HEARTBEAT_S": "0.3", "MAX_STREAMS": "3", "MAX_UNSENT": "5", "MAX_WINDOWS": "200"}
    with served(**{f"HFTLIB_{name}": value for name, value in limits.items()}) as (address, _):
        yield address


def url_of(address):
    return address.replace("http", "ws") + "/ws"


def push(address, k, symbol="S00"):
    body = {"symbol": symbol, "bars": [make_bar(k)]}
    return httpx.post(f"{address}/predict", json=body, headers=AUTH)


async def receive(client, kind):
    while True:
        message = json.loads(await asyncio.wait_for(client.recv(), 5))
        if message["type"] == kind:
            return message


def count_streams(address):
    text = httpx.get(f"{address}/metrics").text
    return float(re.search(r"^hftlib_streams (\S+)", text, flags=re.M)[1])


def wait_for_streams(address, n):
    for _ in range(100):
        if count_streams(address) == n:
            return True
        time.sleep(0.05)
    return False


def test_it_listens_on_loopback_only(address):
    port = urlsplit(address).port
    assert urlsplit(address).hostname == "127.0.0.1"
    addresses = {entry[4][0] for entry in socket.getaddrinfo(socket.gethostname(), port)}
    for other in addresses - {"127.0.0.1", "127.0.1.1", "::1"}:
        with pytest.raises(OSError), socket.create_connection((other, port), timeout=1):
            pass


def test_a_client_hears_the_model_then_predictions_heartbeats_and_paper_trading(address):
    async def go():
        async with connect(url_of(address)) as client:
            hello = await receive(client, "hello")
            assert hello["model"] == "alpha"
            assert hello["paper"]["equity"] == 100_000
            await asyncio.to_thread(push, address, 0)
            prediction = await receive(client, "prediction")
            assert (prediction["symbol"], prediction["close"]) == ("S00", 100.0)
            assert (await receive(client, "heartbeat"))["ts_ns"] > 0
            assert (await receive(client, "paper"))["is_halted"] is False

    asyncio.run(go())


def test_a_page_of_another_origin_cannot_listen(address):
    async def go(origin):
        async with connect(url_of(address), origin=origin) as client:
            return await receive(client, "hello")

    with pytest.raises(InvalidStatus) as caught:
        asyncio.run(go("http://evil.example"))
    assert caught.value.response.status_code == 403
    assert asyncio.run(go(address))["type"] == "hello"


def test_clients_beyond_the_limit_are_refused_and_room_is_made_when_one_leaves(address):
    async def go():
        async with connect(url_of(address)), connect(url_of(address)):
            async with connect(url_of(address)):
                with pytest.raises(InvalidStatus):
                    await connect(url_of(address))
            for _ in range(50):
                try:
                    async with connect(url_of(address)) as client:
                        return await receive(client, "hello")
                except InvalidStatus:
                    await asyncio.sleep(0.05)

    assert asyncio.run(go())["type"] == "hello"


def test_a_client_that_says_too_much_is_closed(address):
    async def go():
        async with connect(url_of(address)) as client:
            await client.send("x" * 100_000)
            with pytest.raises(ConnectionClosed):
                while True:
                    await receive(client, "nothing")

    asyncio.run(go())
    assert httpx.get(f"{address}/health").status_code == 200


def test_a_client_that_was_killed_is_forgotten(address):
    assert wait_for_streams(address, 0)
    port = urlsplit(address).port
    raw = socket.create_connection(("127.0.0.1", port))
    raw.sendall(
        b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert raw.recv(100).startswith(b"HTTP/1.1 101")
    assert wait_for_streams(address, 1)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # reset, no goodbye
    raw.close()
    assert wait_for_streams(address, 0)


def test_a_client_that_does_not_read_is_dropped_and_the_others_go_on(address):
    port = urlsplit(address).port
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    raw.connect(("127.0.0.1", port))
    raw.sendall(
        b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    raw.recv(100)
    assert wait_for_streams(address, 1)

    # fills the sockets' buffers, then the queue of 5
    with httpx.Client(base_url=address, headers=AUTH) as client:
        for k in range(400):
            items = [{"symbol": f"S{j:02d}", "bars": [make_bar(k + 1)]} for j in range(1, 60)]
            assert client.post("/predict/batch", json={"items": items}).status_code == 200
            if "hftlib_streams_dropped_total 1.0" in client.get("/metrics").text:
                break
        else:
            pytest.fail("the client was never dropped")
    raw.close()
    assert wait_for_streams(address, 0)


def test_a_hundred_garbled_requests_leave_the_server_well(address):
    port = urlsplit(address).port
    garbage = (b"\x00\xff\r\n\r\n", b"POST /predict HTTP/1.1\r\nContent-Length: 9\r\n")
    for k in range(100):
        with socket.create_connection(("127.0.0.1", port), timeout=2) as raw:
            raw.sendall(garbage[k % 2])
    assert httpx.get(f"{address}/ready").status_code == 200


def test_concurrent_requests_on_a_socket_all_get_their_answers(address):
    async def go():
        limits = httpx.Limits(max_connections=20)
        async with httpx.AsyncClient(base_url=address, limits=limits) as client:
            window = {"symbol": "S01", "window": [make_bar(k, 100.0 + k) for k in range(3)]}
            posts = [client.post("/predict", json=window) for _ in range(200)]
            return {response.status_code for response in await asyncio.gather(*posts)}

    assert asyncio.run(go()) == {200}


def test_the_server_stops_cleanly_with_clients_connected():
    with served() as (address, process):

        async def go():
            async with connect(url_of(address)) as client:
                await receive(client, "hello")
                process.send_signal(signal.SIGTERM)
                with pytest.raises(ConnectionClosed):
                    while True:
                        await receive(client, "nothing")

        asyncio.run(go())
        assert process.wait(timeout=10) in (0, -signal.SIGTERM)
        assert not [line for line in process.log if "Traceback" in line]


def test_overload_of_a_real_server_is_refused_quickly_and_passes():
    with served(FAKE_DELAY_S="0.1", HFTLIB_MAX_WAITING="10", HFTLIB_MAX_BATCH="1") as (address, _):

        async def go():
            window = {"symbol": "S01", "window": [make_bar(k) for k in range(3)]}
            async with httpx.AsyncClient(base_url=address, timeout=20) as client:

                async def ask():
                    start = time.perf_counter()
                    response = await client.post("/predict", json=window)
                    return response.status_code, time.perf_counter() - start

                found = await asyncio.gather(*(ask() for _ in range(40)))
                await asyncio.sleep(0.3)
                return found, await ask()

        found, after = asyncio.run(go())
        statuses = [status for status, _ in found]
        assert set(statuses) == {200, 503}
        assert statuses.count(200) >= 10
        waits = {code: [s for status, s in found if status == code] for code in (200, 503)}
        assert max(waits[503]) < max(waits[200])  # nobody was refused after waiting in the queue
        assert after[0] == 200
