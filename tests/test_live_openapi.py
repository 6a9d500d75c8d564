"""The service's own OpenAPI document, and requests drawn from it: never a 500."""

import asyncio
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hftlib.live import requests
from hftlib.live.faults import FaultAnswer
from hftlib.live.openapi import EXAMPLES
from hftlib.live.service import create_app
from tests.live_cases import AUTH, FakePaper, FakePredictor, FakeStore, client_of, make_bar

DOCUMENT = create_app(FakeStore()).openapi()
SCHEMAS = DOCUMENT["components"]["schemas"]
OPERATIONS = [
    (path, method, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=5,
)


def resolve(schema):
    while "$ref" in schema:
        schema = SCHEMAS[schema["$ref"].rpartition("/")[2]]
    return schema


def values_of(schema):
    """Values that a schema allows, nearly: limits are sometimes passed over."""
    schema = resolve(schema)
    if "anyOf" in schema:
        return st.one_of(*map(values_of, schema["anyOf"]))
    kind = schema.get("type")
    if kind == "object":
        wanted = schema.get("required", [])
        parts = {name: values_of(part) for name, part in schema.get("properties", {}).items()}
        must = {name: part for name, part in parts.items() if name in wanted}
        may = {name: part for name, part in parts.items() if name not in wanted}
        return st.fixed_dictionaries(must, optional=may)
    if kind == "array":
        return st.lists(values_of(schema["items"]), min_size=1, max_size=4)
    if kind in ("number", "integer"):
        return (
            st.integers(0, 200)
            if kind == "integer"
            else st.floats(0, 200) | st.sampled_from([1.0, 100.0, -1.0, 1e300])
        )
    if kind == "string":
        days = st.integers(0, 2000).map(lambda k: make_bar(k)["ts"])
        names = st.sampled_from(["AAA", "BBB", "alpha", "broken", "val", "..", "x" * 90, "\x00é"])
        return days if schema.get("format") == "date-time" else names | st.text(max_size=9)
    if kind == "boolean":
        return st.booleans()
    assert kind == "null", schema
    return st.none()


def spoil(value, where, odd):
    """The value with one part replaced."""
    if not where or not isinstance(value, dict | list) or not value:
        return odd
    key = sorted(value)[where[0] % len(value)] if isinstance(value, dict) else where[0] % len(value)
    copy = value.copy()
    copy[key] = spoil(value[key], where[1:], odd)
    return copy


def requests_of(path, method, operation):
    body = st.none()
    if "requestBody" in operation:
        content = operation["requestBody"]["content"]["application/json"]
        sound = values_of(content["schema"]) | st.sampled_from(
            [example["value"] for example in content["examples"].values()]
        )
        paths = st.lists(st.integers(0, 5), max_size=4)
        body = sound | st.builds(spoil, sound, paths, ANYTHING) | ANYTHING
    job = st.sampled_from(["job-1", "job-2", "nothing", "%2e%2e", "a b"])
    return st.tuples(
        st.just(method), job.map(lambda name: path.replace("{job_id}", name)), body, st.booleans()
    )


@pytest.mark.parametrize(
    "predictor",
    [
        FakePredictor(),
        FakePredictor(takes="book"),
        FakePredictor(choices=("sell", "buy")),
    ],
    ids=["bars", "book", "choices"],
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(st.one_of(*(requests_of(*one) for one in OPERATIONS)), min_size=1, max_size=12))
def test_no_request_is_answered_with_a_500(predictor, drawn):
    async def go():
        store = FakeStore(predictor)
        command = ("true",)
        async with client_of(store, FakePaper(), backtest_command=command) as client:
            for method, path, body, has_token in drawn:
                headers = {"Content-Type": "application/json", **(AUTH if has_token else {})}
                content = None if body is None else json.dumps(body).encode()
                response = await client.request(method, path, content=content, headers=headers)
                known = DOCUMENT["paths"].get(path) or DOCUMENT["paths"]["/backtest/{job_id}"]
                declared = known[method]["responses"]
                assert str(response.status_code) in declared, (path, body, response.text)
                assert response.status_code != 500
                if response.status_code >= 400:
                    FaultAnswer.model_validate_json(response.content, strict=True)
                assert response.headers["x-request-id"]

    asyncio.run(go())


def test_every_route_of_the_service_is_in_the_document():
    assert set(DOCUMENT["paths"]) == {
        "/backtest",
        "/backtest/{job_id}",
        "/health",
        "/metrics",
        "/model/activate",
        "/model/info",
        "/models",
        "/paper",
        "/paper/halt",
        "/paper/resume",
        "/predict",
        "/predict/batch",
        "/ready",
        "/routing",
        "/symbols",
    }


def test_every_reference_of_the_document_leads_somewhere():
    text = json.dumps(DOCUMENT)
    for part in text.split('"$ref": "')[1:]:
        assert part.split('"')[0].removeprefix("#/components/schemas/") in SCHEMAS


def test_what_changes_state_is_marked_as_needing_the_token():
    secured = {(path, method) for path, method, one in OPERATIONS if "security" in one}
    assert ("/model/activate", "post") in secured
    assert ("/backtest/{job_id}", "delete") in secured
    assert not any(method == "get" for _, method in secured)


@pytest.mark.parametrize("body", EXAMPLES, ids=lambda body: body.__name__)
def test_the_examples_are_valid(body):
    for example in EXAMPLES[body].values():
        found = requests.read_body(body, json.dumps(example["value"]).encode())
        assert found.model_fields_set == set(example["value"])
