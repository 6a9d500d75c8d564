"""What the service refuses: each with a status, a code, a remedy, and the field by name."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftlib.live.faults import FaultAnswer, ServiceFault, shorten
from hftlib.live.requests import SymbolBody, read_body
from hftlib.live.rows import read_ts
from tests.live_cases import (
    AUTH,
    DAY_NS,
    FIRST_NS,
    FakePaper,
    FakePredictor,
    FakeStore,
    make_bar,
    make_window,
    newest,
    with_client,
)


def refusal(path, content, status, *, headers=AUTH, **options):
    """The error that the service answers."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()

    async def test(client):
        kind = {"Content-Type": "application/json"}
        response = await client.post(path, content=body, headers={**kind, **headers})
        assert response.status_code == status, response.text
        FaultAnswer.model_validate_json(response.content, strict=True)
        error = response.json()["error"]
        assert error["message"]
        assert error["remedy"]
        assert response.json()["request_id"] == response.headers["x-request-id"]
        return error

    return with_client(test, **options)


def with_bar(**changes):
    body = make_window()
    body["window"][2].update(changes)
    return body


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (with_bar(close=float("nan")), "window[2].close"),
        (with_bar(high=float("inf")), "window[2].high"),
        (with_bar(low=float("-inf")), "window[2].low"),
        (with_bar(open="102.0"), "window[2].open"),
        (with_bar(open=True), "window[2].open"),
        (with_bar(open=None), "window[2].open"),
        (with_bar(open=[1]), "window[2].open"),
        (with_bar(close=0), "window[2].close"),
        (with_bar(close=-5), "window[2].close"),
        (with_bar(close=10**400), None),
        (with_bar(close=1e13), "window[2].close"),
        (with_bar(volume=-1), "window[2].volume"),
        (with_bar(volume=float("nan")), "window[2].volume"),
        (with_bar(close=500.0), "window[2]"),
        (with_bar(low=101.9, open=101.5), "window[2]"),
        (with_bar(extra=1), "window[2].extra"),
        (with_bar(ts="2020-01-03T00:00:00"), "window[2].ts"),
        (with_bar(ts="yesterday"), "window[2].ts"),
        (with_bar(ts="20200103"), "window[2].ts"),
        (with_bar(ts=1577836800), "window[2].ts"),
        (with_bar(ts="9999-01-01T00:00:00Z"), "window[2].ts"),
        (with_bar(ts="2020-01-03T00:00:00Z" * 9), "window[2].ts"),
        (with_bar(ts=make_bar(1)["ts"]), "window[2].ts"),  # twice the same time
        (with_bar(ts=make_bar(0)["ts"]), "window[2].ts"),
        ({"symbol": "AAA", "window": []}, "window"),
        ({"symbol": "AAA", "window": {}}, "window"),
        ({"symbol": "AAA", "window": [1, 2]}, "window[0]"),
        ({"symbol": "AAA", "window": [[100, 101, 99, 100]]}, "window[0]"),
        (make_window(2), "window"),  # fewer rows than the model needs
        ({**make_window(), "position": 1, "exposure": -0.5}, "body"),
        ({**make_window(), "exposure": 0.5}, "body"),
        ({"window": make_window()["window"]}, "symbol"),
        ({**make_window(), "bars": [make_bar(0)]}, "body"),
        ({**make_window(), "symbol": 7}, "symbol"),
        ({**make_window(), "symbol": ""}, "symbol"),
        ({**make_window(), "symbol": "../../etc/passwd"}, "symbol"),
        ({**make_window(), "symbol": "A" * 100}, "symbol"),
        ({**make_window(), "position": 2}, "position"),
        ({**make_window(), "position": float("nan")}, "position"),
        ({**make_window(), "exposure": "0"}, "exposure"),
        ({**make_window(), "colour": "red"}, "colour"),
        ([make_window()], "body"),
        ("AAA", "body"),
        (None, "body"),
    ],
)
def test_a_faulty_value_is_named_by_its_field(body, field):
    if field is None:
        # a number that no float can hold is already no JSON for the reader
        assert refusal("/predict", body, 422)["fields"][0]["field"] == "window[2].close"
        return
    error = refusal("/predict", body, 422)
    assert error["fields"][0]["field"] == field
    assert error["fields"][0]["message"]
    assert error["message"].startswith("1 field is not valid") or len(error["fields"]) > 1


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b'"\\ud800"', b"[" * 100_000, b"{'a': 1}", b'{"a": 1e}']
)
def test_what_is_no_json_is_400_with_the_place(body):
    error = refusal("/predict", body, 400)
    assert error["code"] == "not_json"
    assert "line 1" in error["message"]


def test_a_faulty_item_of_a_batch_is_named_with_its_number():
    error = refusal("/predict/batch", {"items": [make_window(), with_bar(close="x")]}, 422)
    assert error["fields"][0]["field"] == "items[1].window[2].close"
    error = refusal("/predict/batch", {"items": [make_window(), make_window(2)]}, 422)
    assert error["fields"][0]["field"] == "items[1].window"
    twice = refusal("/predict/batch", {"items": [newest(0), newest(1)]}, 422)
    assert "twice" in twice["message"]
    assert refusal("/predict/batch", {"items": []}, 422)["fields"][0]["field"] == "items"


def test_many_faults_are_counted_but_not_all_listed():
    window = [make_bar(k, volume="x") for k in range(50)]
    error = refusal("/predict", {"symbol": "AAA", "window": window}, 422)
    assert error["message"].startswith("50 fields")
    assert len(error["fields"]) == 20


def test_other_content_types_are_refused():
    error = refusal("/predict", make_window(), 415, headers={"Content-Type": "text/plain"})
    assert "application/json" in error["message"]


def test_an_unknown_symbol_is_404_with_the_one_that_was_meant():
    error = refusal("/predict", make_window(symbol="AAB"), 404)
    assert error["code"] == "unknown_symbol"
    assert error["remedy"].startswith("did you mean ")


def test_a_future_bar_is_refused_and_one_within_the_clocks_difference_is_not():
    body = make_window()

    def after(ns):
        return lambda: FIRST_NS + 4 * DAY_NS - ns

    error = refusal("/predict", body, 422, clock=after(6 * 10**9))
    assert error["fields"][0]["field"] == "window[4].ts"
    assert "future" in error["fields"][0]["message"]

    async def test(client):
        assert (await client.post("/predict", json=body)).status_code == 200

    with_client(test, clock=after(4 * 10**9))


def test_a_stale_bar_is_refused_where_an_age_is_set():
    error = refusal("/predict", make_window(), 422, max_age_s=86_400.0)
    assert "stale" in error["fields"][0]["message"]


def test_bars_out_of_order_or_changed_are_409_and_leave_the_stream():
    async def test(client):
        for k in (3, 4):
            await client.post("/predict", json=newest(k), headers=AUTH)
        old = await client.post("/predict", json=newest(3), headers=AUTH)
        assert (old.status_code, old.json()["error"]["code"]) == (409, "out_of_order")
        assert old.json()["error"]["fields"][0]["field"] == "bars[0].ts"
        changed = await client.post("/predict", json=newest(4, close=101.0), headers=AUTH)
        assert (changed.status_code, changed.json()["error"]["code"]) == (409, "changed_bar")
        [stream, *_] = (await client.get("/symbols")).json()["symbols"]
        assert stream["n_rows"] == 2

    with_client(test)


def test_an_empty_stream_has_no_answer():
    error = refusal("/predict", {"symbol": "AAA"}, 409)
    assert error["code"] == "empty_stream"
    assert "at least 3" in error["remedy"]


def test_a_bar_that_the_model_refuses_is_named():
    error = refusal("/predict", newest(0, close=666.0), 422)
    assert error["fields"][0]["field"] == "bars"
    assert "refused by this model" in error["fields"][0]["message"]


def test_a_refused_request_does_not_spoil_the_others_of_its_batch():
    import asyncio

    predictor = FakePredictor(delay_s=0.05)

    async def test(client):
        bodies = [make_window(), make_window(), newest(0, close=666.0), make_window(symbol="ZZZ")]
        posts = [client.post("/predict", json=body, headers=AUTH) for body in bodies]
        statuses = [response.status_code for response in await asyncio.gather(*posts)]
        assert statuses == [200, 200, 422, 404]

    with_client(test, store=FakeStore(predictor))


@pytest.mark.parametrize(
    "name",
    [
        "../alpha",
        "..",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "alpha\x00",
        "Alpha",
        "",
        "a" * 65,
        "%2e%2e",
        1,
    ],
)
def test_a_model_name_that_could_be_a_path_never_reaches_the_store(name):
    store = FakeStore()
    error = refusal("/model/activate", {"name": name}, 422, store=store)
    assert error["fields"][0]["field"] == "name"
    assert store.n_loads == 1  # at start


def test_an_unregistered_model_is_404():
    store = FakeStore()
    assert (
        refusal("/model/activate", {"name": "gamma"}, 404, store=store)["code"] == "unknown_model"
    )
    assert refusal("/backtest", {"model": "gamma"}, 404)["code"] == "unknown_model"
    assert store.n_loads == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict", newest(0)),
        ("/predict/batch", {"items": [make_window(), newest(0, symbol="BBB")]}),
        ("/model/activate", {"name": "alpha"}),
        ("/backtest", {}),
        ("/paper/halt", {"reason": "x"}),
    ],
)
def test_what_changes_state_needs_the_token(path, body):
    options = {"paper": FakePaper()}
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic " + AUTH["Authorization"].split()[1]},
        {"Authorization": "Bearer t\u00f6ken".encode("latin-1").decode("latin-1")},
    ):
        encoded = {name: value.encode("latin-1") for name, value in headers.items()}
        assert refusal(path, body, 401, headers=encoded, **options)["code"] == "no_token"
    assert refusal(path, body, 403, token="", **options)["code"] == "read_only"


def test_cancelling_needs_the_token_too():
    async def test(client):
        assert (await client.delete("/backtest/job-1")).status_code == 401
        assert (await client.delete("/backtest/job-1", headers=AUTH)).status_code == 404

    with_client(test)


def test_unknown_routes_and_methods_answer_in_the_same_shape():
    async def test(client):
        for method, path, status in (
            ("GET", "/nothing", 404),
            ("GET", "/predict", 405),
            ("PUT", "/health", 405),
            ("GET", "/docs", 404),
            ("GET", "/predict/", 404),
        ):
            response = await client.request(method, path)
            assert response.status_code == status
            FaultAnswer.model_validate_json(response.content, strict=True)

    with_client(test)


@pytest.mark.parametrize("ts", ["2020-01-03T00:00:00Z", "2020-01-03T01:00:00+01:00"])
def test_times_are_read_to_utc_nanoseconds(ts):
    assert read_ts(ts) == FIRST_NS + 2 * DAY_NS


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_comes_is_read_or_refused(raw):
    try:
        read_body(SymbolBody, raw)
    except ServiceFault as fault:
        assert fault.status in (400, 422)
        assert fault.response("x").body


@given(JSON)
def test_a_received_value_is_shown_in_few_characters(value):
    assert len(shorten(value).encode()) <= 4 * 110
