"""Overload, rates, sizes and times: refused at once, and over when the load is."""

import asyncio
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftlib.live import requests
from hftlib.live.batching import Batcher
from hftlib.live.faults import ServiceFault
from hftlib.live.limits_http import MAX_CLIENTS, RateLimit
from hftlib.live.requests import read_body
from hftlib.live.service import HOST, make_server
from tests.live_cases import (
    AUTH,
    FakePredictor,
    FakeStore,
    make_bar,
    make_window,
    newest,
    with_client,
)


def test_a_full_queue_is_503_at_once_and_the_service_recovers():
    predictor = FakePredictor(delay_s=0.2)

    async def test(client):
        posts = []
        for _ in range(12):
            posts.append(asyncio.create_task(client.post("/predict", json=make_window())))
            await asyncio.sleep(0.005)
        refused = await client.post("/predict", json=make_window())
        assert sum(post.done() for post in posts) < 12  # it did not wait for those before it
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        statuses = [response.status_code for response in await asyncio.gather(*posts)]
        assert statuses.count(200) == 6  # one in work, five wait
        assert statuses.count(503) == 6
        assert (await client.post("/predict", json=make_window())).status_code == 200

    with_client(test, store=FakeStore(predictor), max_waiting=5)


def test_too_many_requests_in_flight_are_503_while_health_answers():
    predictor = FakePredictor(delay_s=0.3)

    async def test(client):
        posts = [asyncio.create_task(client.post("/predict", json=make_window())) for _ in range(4)]
        await asyncio.sleep(0.05)
        assert (await client.get("/symbols")).status_code == 503
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/metrics")).status_code == 200
        assert {response.status_code for response in await asyncio.gather(*posts)} == {200}
        assert (await client.get("/symbols")).status_code == 200

    with_client(test, store=FakeStore(predictor), max_in_flight=4)


def test_a_client_above_its_rate_is_429_until_it_waits():
    async def test(client):
        statuses = [(await client.get("/symbols")).status_code for _ in range(6)]
        assert statuses == [200, 200, 200, 429, 429, 429]
        await asyncio.sleep(0.25)
        assert (await client.get("/symbols")).status_code == 200

    with_client(test, requests_per_s=5.0, burst=3.0)


def test_an_answer_that_takes_too_long_is_504_and_the_bar_can_be_sent_again():
    predictor = FakePredictor(delay_s=0.0)

    async def test(client):
        for k in range(2):
            await client.post("/predict", json=newest(k), headers=AUTH)
        predictor.delay_s = 0.3
        late = await client.post("/predict", json=newest(2), headers=AUTH)
        assert late.status_code == 504
        predictor.delay_s = 0.0
        await asyncio.sleep(0.3)
        again = await client.post("/predict", json=newest(2), headers=AUTH)
        assert again.status_code == 200
        [stream, *_] = (await client.get("/symbols")).json()["symbols"]
        assert stream["n_rows"] == 3

    with_client(test, store=FakeStore(predictor), predict_limit_s=0.1)


def test_a_body_that_is_too_large_is_413_declared_or_not():
    async def test(client):
        big = b" " * 5000
        kind = {"Content-Type": "application/json"}
        declared = await client.post("/predict", content=big, headers=kind)

        async def chunks():
            for _ in range(50):
                yield big[:100]

        streamed = await client.post("/predict", content=chunks(), headers=kind)
        for response in (declared, streamed):
            assert response.status_code == 413
            assert "4000 bytes" in response.json()["error"]["message"]

    with_client(test, max_body_bytes=4000)


def test_a_body_that_does_not_come_is_408():
    async def test(client):
        async def chunks():
            yield b"{"
            await asyncio.sleep(0.5)
            yield b"}"

        kind = {"Content-Type": "application/json"}
        response = await client.post("/predict", content=chunks(), headers=kind)
        assert response.status_code == 408

    with_client(test, body_limit_s=0.1)


def test_too_many_symbols_or_rows_are_413():
    async def test(client):
        items = [make_window(3) for _ in range(4)]
        many = await client.post("/predict/batch", json={"items": items})
        assert many.status_code == 413
        assert "4 symbols" in many.json()["error"]["message"]
        long = await client.post("/predict", json=make_window(11))
        assert long.status_code == 413
        assert "11 rows" in long.json()["error"]["message"]

    with_client(test, max_items=3, max_rows=10)


@pytest.fixture
def slow_reader(monkeypatch):
    """Bodies of more than 1000 bytes are read when the event is set."""
    may_read = threading.Event()

    def read(model, raw):
        if len(raw) > requests.LARGE_BYTES:
            may_read.wait(10)
        return read_body(model, raw)

    monkeypatch.setattr(requests, "LARGE_BYTES", 1000)
    monkeypatch.setattr(requests, "read_body", read)
    yield may_read
    may_read.set()


def test_small_bodies_are_answered_while_a_large_one_is_read(slow_reader):
    async def test(client):
        long = asyncio.create_task(client.post("/predict", json=make_window(20)))
        await asyncio.sleep(0.05)
        assert (await client.post("/predict", json=make_window())).status_code == 200
        assert not long.done()
        slow_reader.set()
        assert (await long).status_code == 200

    with_client(test, predict_limit_s=10.0)


def test_a_large_body_that_is_not_read_in_time_is_504(slow_reader):
    async def test(client):
        late = await client.post("/predict", json=make_window(20))
        assert (late.status_code, late.json()["error"]["code"]) == (504, "too_slow")
        slow_reader.set()
        assert (await client.post("/predict", json=make_window(20))).status_code == 200

    with_client(test, predict_limit_s=0.2)


def test_a_host_name_that_is_not_ours_is_refused():
    async def test(client):
        for host, status in (("evil.example", 400), ("localhost:8000", 200), ("127.0.0.1", 200)):
            assert (await client.get("/health", headers={"Host": host})).status_code == status

    with_client(test)


def test_other_origins_get_no_leave_by_default_and_named_ones_do():
    headers = {"Origin": "http://localhost:3000"}

    async def without(client):
        response = await client.get("/health", headers=headers)
        assert "access-control-allow-origin" not in response.headers

    async def with_origin(client):
        response = await client.get("/health", headers=headers)
        assert response.headers["access-control-allow-origin"] == "http://localhost:3000"
        other = await client.get("/health", headers={"Origin": "http://evil.example"})
        assert "access-control-allow-origin" not in other.headers

    with_client(without)
    with_client(with_origin, cors_origins=("http://localhost:3000",))


def test_request_ids_are_taken_over_if_they_are_plain_and_given_otherwise():
    async def test(client):
        taken = await client.get("/health", headers={"X-Request-ID": "abc-1"})
        assert taken.headers["x-request-id"] == "abc-1"
        given_ids = set()
        for odd in ("", "a b", "x" * 65, "a\tb"):
            response = await client.get("/health", headers={"X-Request-ID": odd})
            given_ids.add(response.headers["x-request-id"])
        assert len(given_ids) == 4
        assert not given_ids & {"", "a b", "x" * 65, "a\tb"}

    with_client(test)


def test_an_unforeseen_error_is_a_500_without_its_text():
    class Broken(FakePredictor):
        def predict(self, observations):
            raise KeyError("secret path /home/x")

    async def test(client):
        response = await client.post("/predict", json=make_window())
        assert response.status_code == 500
        assert "secret" not in response.text
        assert response.json()["request_id"]
        assert (await client.get("/health")).status_code == 200

    with_client(test, store=FakeStore(Broken()))


def test_the_server_binds_to_loopback_only():
    assert HOST == "127.0.0.1"
    assert make_server(lambda: None, 0).config.host == "127.0.0.1"


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=60),
    st.floats(0.5, 100),
    st.integers(1, 20),
)
def test_no_more_pass_than_the_rate_and_the_bucket_allow(gaps, per_s, burst):
    now = [0.0]
    limit = RateLimit(per_s, burst, lambda: now[0])
    passed = 0
    for gap in gaps:
        now[0] += gap
        passed += limit.admit("one")
    assert passed <= burst + per_s * sum(gaps) + 1e-6


def test_clients_have_buckets_of_their_own_and_the_number_of_buckets_is_bounded():
    limit = RateLimit(1, 1, lambda: 0.0)
    assert limit.admit("a")
    assert not limit.admit("a")
    assert limit.admit("b")
    for k in range(MAX_CLIENTS + 10):
        limit.admit(f"c{k}")
    assert len(limit._buckets) == MAX_CLIENTS


def test_a_stopped_queue_refuses_what_waits():
    async def go():
        batcher = Batcher(
            lambda work: (time.sleep(0.1), work)[1],
            lambda _: None,
            max_waiting=9,
            max_windows=9,
            max_batch=1,
            limit_s=5,
        )
        batcher.start()
        tasks = [asyncio.create_task(batcher.submit([k])) for k in range(3)]
        await asyncio.sleep(0.02)
        await batcher.stop()
        return await asyncio.gather(*tasks, return_exceptions=True)

    outcomes = asyncio.run(go())
    assert all(isinstance(one, ServiceFault) for one in outcomes[1:])


def test_a_request_larger_than_a_batch_is_answered_alone():
    sizes = []

    async def go():
        batcher = Batcher(
            lambda work: work,
            lambda _: None,
            max_waiting=100,
            max_windows=9,
            max_batch=2,
            limit_s=5,
            on_batch=sizes.append,
        )
        batcher.start()
        found = await asyncio.gather(batcher.submit([1, 2, 3]), batcher.submit([4]))
        await batcher.stop()
        return found

    assert asyncio.run(go()) == [[1, 2, 3], [4]]
    assert sizes == [3, 1]


@pytest.mark.parametrize("n", [1, 30])
def test_answers_go_to_those_who_asked(n):
    async def test(client):
        posts = []
        for k in range(n):
            window = [make_bar(j, 100.0 + j * (k + 1)) for j in range(3)]
            posts.append(client.post("/predict", json={"symbol": "AAA", "window": window}))
        found = [response.json()["action"] for response in await asyncio.gather(*posts)]
        assert found == sorted(found)
        assert len(set(found)) == n

    with_client(test, max_windows=n)
