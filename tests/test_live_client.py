"""The client of the service: what it sends arrives unchanged, what it is told it says."""

import math
import socket
import threading

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftlib.live.client import ServiceClient, ServiceError, encode_bar, serve_process
from hftlib.live.processes import StartError
from hftlib.live.protocols import Bar
from hftlib.live.requests import read_body
from hftlib.live.rows import BarBody
from tests.live_cases import DAY_NS, FIRST_NS, TOKEN, served

ECHO = "import sys, json; json.dump(json.load(sys.stdin), sys.stdout)"


def bar(k, close=100.0):
    return Bar(FIRST_NS + k * DAY_NS, close, close + 1, close - 1, close, 1000.0)


@pytest.fixture(scope="module")
def address():
    with served() as (address, _):
        yield address


@pytest.fixture
def client(address):
    with ServiceClient(address, TOKEN) as client:
        yield client


PRICES = st.lists(st.floats(1e-6, 1e12), min_size=4, max_size=4).map(sorted)


@given(
    PRICES,
    st.integers(-(10**15), 7 * 10**15),
    st.none() | st.floats(0, 1e18),
)
def test_a_bar_arrives_as_it_was_to_the_last_bit(prices, microseconds, volume):
    low, a, b, high = prices
    sent = Bar(microseconds * 1000, a, high, low, b, math.nan if volume is None else volume)

    got = read_body(BarBody, orjson.dumps(encode_bar(sent))).to_bar()
    assert got[:5] == sent[:5]
    assert got.volume == sent.volume or (volume is None and math.isnan(got.volume))


def test_a_time_that_the_service_cannot_read_is_not_rounded():
    with pytest.raises(ValueError, match="7 ns after a microsecond"):
        encode_bar(bar(0)._replace(ts_ns=FIRST_NS + 7))


def test_bars_are_pushed_and_the_stream_is_asked(client):
    items = [{"symbol": name, "bars": [bar(k, 100.0 + k) for k in range(4)]} for name in "AB"]
    items = [{**item, "symbol": f"S0{k}"} for k, item in enumerate(items)]
    pushed = client.predict(items)
    asked = client.predict([{"symbol": "S01"}, {"symbol": "S00", "position": 1, "exposure": 0.1}])
    assert [one["symbol"] for one in asked] == ["S01", "S00"]
    assert pushed[0]["action"] == asked[1]["action"]
    move = np.float32(103 / 101 - 1)
    assert asked[0]["action"] == float(np.tanh(10 * move).astype(np.float64))
    assert client.symbols()[0] == {"symbol": "S00", "n_rows": 4, "last_ts_ns": bar(3).ts_ns}


def test_the_other_routes(client):
    assert client.ready()["status"] == "ready"
    assert client.model_info()["name"] == "alpha"
    assert client.models() == {"active": "alpha", "models": ["alpha", "broken"]}
    assert client.activate("alpha") == {"name": "alpha", "version": "1"}
    assert client.paper()["equity"] == 100_000


def test_a_refusal_is_said_as_the_service_says_it(client):
    with pytest.raises(ServiceError, match=r"items\[0\].bars") as caught:
        client.predict([{"symbol": "S40"}])
    error = caught.value
    assert (error.status, error.code) == (409, "empty_stream")
    assert error.fields[0].field == "items[0].bars"
    assert "at least 3" in error.remedy
    assert client.ready()["status"] == "ready"  # the connection is still good


def test_without_the_token_bars_are_refused(address):
    with ServiceClient(address) as client, pytest.raises(ServiceError) as caught:
        client.predict([{"symbol": "S00", "bars": [bar(900)]}])
    assert (caught.value.status, caught.value.code) == (401, "no_token")


def closing_server(n_answers):
    """A server that closes every connection after one answer, without saying so before."""
    listener = socket.create_server(("127.0.0.1", 0))
    seen = []

    def serve():
        for _ in range(n_answers):
            with listener.accept()[0] as peer:
                seen.append(peer.recv(65536))
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        listener.close()

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}", seen


def test_a_connection_that_the_server_closed_is_opened_once_more():
    address, seen = closing_server(3)
    with ServiceClient(address, timeout_s=5) as client:
        for _ in range(3):
            assert client.ready() == {}
        assert len(seen) == 3
        with pytest.raises(ServiceError, match="gave no answer") as caught:
            client.ready()
    assert (caught.value.status, caught.value.code) == (0, "no_answer")


def test_a_server_that_does_not_answer_is_given_up_and_asked_once():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with ServiceClient(address, timeout_s=0.2) as client, pytest.raises(ServiceError) as caught:
            client.ready()
        assert caught.value.code == "no_answer"
        listener.settimeout(0.2)
        listener.accept()
        with pytest.raises(TimeoutError):
            listener.accept()


def test_a_backtest_is_waited_for_and_one_that_fails_says_why():
    with served(FAKE_BACKTEST=ECHO) as (address, _), ServiceClient(address, TOKEN) as client:
        assert client.backtest(symbols=("S00",)) == {
            "model": "alpha",
            "split": "val",
            "symbols": ["S00"],
        }
    with (
        served(FAKE_BACKTEST="import sys; sys.exit('no dataset')") as (address, _),
        ServiceClient(address, TOKEN) as client,
        pytest.raises(ServiceError, match="job-1 is failed: no dataset"),
    ):
        client.backtest()
    with (
        served(FAKE_BACKTEST="import time; time.sleep(60)") as (address, _),
        ServiceClient(address, TOKEN) as client,
        pytest.raises(ServiceError, match=r"job-1 is cancelled: not done after 0\.3 s"),
    ):
        client.backtest(wait_s=0.3)


def test_a_service_without_a_model_is_said_at_once(tmp_path):
    (tmp_path / "dvc.yaml").touch()
    with (
        pytest.raises(ServiceError, match="no model is registered") as caught,
        serve_process(tmp_path, {}),
    ):
        pass
    assert caught.value.status == 503


def test_a_service_that_does_not_start_says_why(tmp_path):
    with (
        pytest.raises(StartError, match="HFTLIB_MAX_WAITING is 'many'"),
        serve_process(tmp_path, {"HFTLIB_MAX_WAITING": "many"}),
    ):
        pass
