"""Windows have a budget and take turns: what a stream is asked never waits long for them."""

import asyncio
import math
import time

import pytest

from hftlib.live.batching import LOOK_S, Batcher
from hftlib.live.faults import ServiceFault
from tests.live_cases import (
    AUTH,
    FakePredictor,
    FakeStore,
    make_window,
    newest,
    with_client,
)

WINDOW_S = 0.05


class Slow(FakePredictor):
    """Takes as long for a window as a real model."""

    def observe(self, rows, position, exposure):
        time.sleep(WINDOW_S)
        return super().observe(rows, position, exposure)


def batch_of(n, *others):
    return {"items": [*others, *(make_window() for _ in range(n))]}


def test_a_stream_is_answered_while_windows_are_worked_on():
    async def test(client):
        for k in range(3):
            await client.post("/predict", json=newest(k), headers=AUTH)
        flood = asyncio.create_task(client.post("/predict/batch", json=batch_of(16)))
        await asyncio.sleep(WINDOW_S / 2)
        meanwhile = []
        while not flood.done():
            n_begun = len(predictor.frames)
            found = await client.post("/predict", json={"symbol": "AAA"})
            assert found.status_code == 200
            meanwhile.append(len(predictor.frames) - n_begun)
        # those of one look, and of one more where it had just begun
        assert max(meanwhile) <= 2 * math.ceil(LOOK_S / WINDOW_S)
        assert (await flood).status_code == 200

    predictor = Slow()
    with_client(test, store=FakeStore(predictor))


def test_windows_beyond_the_budget_are_refused_at_once_and_it_comes_back():
    async def test(client):
        flood = asyncio.create_task(client.post("/predict/batch", json=batch_of(3)))
        await asyncio.sleep(WINDOW_S / 2)
        refused = await client.post("/predict/batch", json=batch_of(2))
        assert not flood.done()
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "busy")
        assert refused.headers["retry-after"] == "1"
        assert (await flood).status_code == 200
        assert (await client.post("/predict/batch", json=batch_of(4))).status_code == 200

    with_client(test, store=FakeStore(Slow()), max_windows=4)


def test_a_request_with_more_windows_than_ever_fit_is_413():
    async def test(client):
        refused = await client.post("/predict/batch", json=batch_of(17))
        assert (refused.status_code, refused.json()["error"]["code"]) == (413, "too_many")
        assert refused.json()["error"]["fields"][0]["message"] == "expected at most 16 windows"

    with_client(test)


def test_a_request_of_bars_and_windows_is_answered_in_its_order_or_changes_nothing():
    async def test(client):
        for k in range(3):
            await client.post("/predict", json=newest(k, symbol="BBB"), headers=AUTH)
        body = batch_of(3, newest(3, 120.0, "BBB"))
        found = (await client.post("/predict/batch", json=body, headers=AUTH)).json()
        alone = (await client.post("/predict", json=make_window())).json()
        symbols = [one["symbol"] for one in found["predictions"]]
        assert symbols == ["BBB", "AAA", "AAA", "AAA"]
        assert found["predictions"][0]["action"] > 0.9
        assert found["predictions"][3]["action"] == alone["action"]
        body = batch_of(2, newest(4, symbol="BBB"))
        body["items"][2]["window"][4] |= {"high": 666.0, "close": 666.0}
        refused = await client.post("/predict/batch", json=body, headers=AUTH)
        assert refused.status_code == 422
        assert refused.json()["error"]["fields"][0]["field"] == "items[2].window"
        status = (await client.get("/symbols")).json()["symbols"][1]
        assert (status["symbol"], status["n_rows"]) == ("BBB", 4)

    with_client(test)


def test_windows_of_a_client_that_left_or_waited_too_long_are_not_begun():
    looked = []

    def look(items):
        time.sleep(0.06)
        looked.append(items[0])

    async def go():
        limits = {"max_waiting": 99, "max_windows": 9, "max_batch": 9, "limit_s": 0.3}
        batcher = Batcher(lambda work: work, look, **limits)
        batcher.start()
        first = asyncio.create_task(batcher.submit(["first"], 3))
        left = asyncio.create_task(batcher.submit(["left"], 3))
        late = asyncio.create_task(batcher.submit(["late"], 3))
        await asyncio.sleep(0.03)
        with pytest.raises(ServiceFault, match="9 windows wait"):
            await batcher.submit(["more"], 1)
        left.cancel()
        found = await asyncio.gather(first, left, late, return_exceptions=True)
        assert found[0] == ["first"]
        assert isinstance(found[2], ServiceFault) and found[2].status == 504
        assert batcher.n_windows == 0
        await batcher.submit(["next"], 1)
        assert batcher.n_waiting == 0
        await batcher.stop()

    asyncio.run(go())
    assert looked.count("first") == 3 and "left" not in looked
    assert looked.count("late") < 3 and looked[-1] == "next"


def test_who_leaves_gives_the_budget_back():
    predictor = Slow()

    async def test(client):
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/predict/batch",
            "raw_path": b"/predict/batch",
            "query_string": b"",
            "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")],
            "client": ("127.0.0.1", 1),
        }
        body = client.build_request("POST", "/", json=batch_of(16)).content
        messages = [{"type": "http.request", "body": body}, {"type": "http.disconnect"}]

        async def receive():
            await asyncio.sleep(0.01)
            return messages.pop(0)

        sent = []

        async def send(message):
            sent.append(message)

        await client.app(scope, receive, send)
        assert sent[0]["status"] == 400
        found = await client.post("/predict/batch", json=batch_of(16))
        assert found.status_code == 200

    with_client(test, store=FakeStore(predictor))
    assert len(predictor.frames) <= 16 + 3  # those that were begun
