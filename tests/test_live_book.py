"""The running service with a real executor: windows of the book in, the next slice out."""

import numpy as np
import pytest

from hftlib.live import answers
from hftlib.live.artefact_store import ArtefactStore
from tests.book_agent_cases import NAME, SYMBOL, make_case
from tests.live_cases import AUTH, NOW_NS, FakePredictor, FakeStore, with_client


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return make_case(tmp_path_factory.mktemp("book"))


@pytest.fixture(scope="module")
def store(case):
    return ArtefactStore(case.root)


def snapshot(row, start=NOW_NS - 10**11):
    """A recorded row as clients send it."""
    sides = {
        f"{side}_{what}": [row[f"best_{side}" if (k, what) == (1, "px") else f"{side}_{what}_{k}"]
                           for k in (1, 2, 3)]
        for side in ("bid", "ask")
        for what in ("px", "qty")
    }  # fmt: skip
    return {"ts": start + row["ts"], "traded_qty": row["traded_qty"], **sides}


def question(execution, k, **changes):
    """What a client asks at decision k of a parent order."""
    rows = execution.snapshots.iloc[: k + 1].to_dict("records")
    now = rows[-1]
    state = {
        "side": "buy" if now["side"] > 0 else "sell",
        "remaining_lots": now["remaining_lots"],
        "resting_price": now["resting_price"] if now["resting_lots"] else None,
        "resting_lots": now["resting_lots"],
    }
    body = {"symbol": SYMBOL, "snapshots": [snapshot(row) for row in rows], "state": state}
    return body | changes


def test_the_service_answers_with_the_order_for_the_environment_s_own_observation(case, store):
    predictor = store.load(NAME)

    async def test(client):
        for execution in case.executions:
            expected = predictor.predict(execution.observations)
            for k in (0, 1, 11, 23):
                response = await client.post("/predict", json=question(execution, k))
                found = answers.OneAnswer.model_validate_json(response.content, strict=True)
                assert found.action == expected.action[k]
                assert found.uncertainty == expected.spread[k]
                limit = expected.limit_ticks[k]
                assert found.limit_ticks == (None if np.isnan(limit) else limit)
                assert (found.missing_rows, found.symbol) == (0, SYMBOL)

    with_client(test, store=store)


def test_the_card_says_what_a_request_must_hold(store):
    async def test(client):
        response = await client.get("/model/info")
        found = answers.CardAnswer.model_validate_json(response.content, strict=True)
        assert (found.takes, found.kind) == ("book", "book_agent")
        assert found.state == ["side", "remaining_lots"]

    with_client(test, store=store)


def test_several_parent_orders_are_answered_at_once(case, store):
    async def test(client):
        items = [question(one, 5) for one in case.executions]
        alone = [(await client.post("/predict", json=item)).json() for item in items]
        response = await client.post("/predict/batch", json={"items": items})
        for one, other in zip(response.json()["predictions"], alone, strict=True):
            assert one == {name: other[name] for name in one}

    with_client(test, store=store)


def without(body, *names):
    return {name: value for name, value in body.items() if name not in names}


def with_state(body, **changes):
    return {**body, "state": {**body["state"], **changes}}


def with_last(body, **changes):
    *first, last = body["snapshots"]
    return {**body, "snapshots": [*first, {**last, **changes}]}


BARS = [
    {"ts": "2020-01-02T00:00:00Z", "open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0, "volume": 1}
]


@pytest.mark.parametrize(
    ("spoil", "status", "field", "said"),
    [
        (lambda b: without(b, "state"), 422, "state", "expected side, remaining_lots"),
        (lambda b: without(b, "snapshots"), 422, "body", "state is for snapshots"),
        (lambda b: without(b, "snapshots", "state"), 409, "bars", "at least 1 bars"),
        (lambda b: {"symbol": SYMBOL, "window": BARS}, 409, "window", "expected snapshots"),
        (lambda b: with_state(b, side="long"), 422, "state.side", "'buy' or 'sell'"),
        (lambda b: with_state(b, remaining_lots=1.5), 422, "state.remaining_lots", "integer"),
        (lambda b: with_state(b, remaining_lots=-1), 422, "state.remaining_lots", "greater"),
        (lambda b: with_state(b, remaining_lots=10**6), 422, "snapshots", "expected 0 to 200"),
        (lambda b: with_state(b, resting_price=5, resting_lots=0), 422, "state", "both or neither"),
        (lambda b: with_state(b, resting_price=5, resting_lots=999), 422, "snapshots", "slice"),
        (lambda b: with_state(b, inventory=3), 422, "state.inventory", "not permitted"),
        (lambda b: with_last(b, traded_qty=None), 422, "snapshots", "no traded_qty"),
        (lambda b: with_last(b, ask_qty=[1, 0, 1]), 422, "snapshots", "snapshot 3 is no book"),
        (lambda b: with_last(b, bid_px=[9, 8], bid_qty=[1, 1]), 422, "snapshots[3]", "one length"),
        (lambda b: with_last(b, ts=NOW_NS), 422, "snapshots", "ms after the first"),
        (lambda b: {**b, "position": 1, "exposure": 0.5}, 422, "snapshots", "leave them at 0"),
        (lambda b: {**b, "symbol": "OTHER"}, 404, "symbol", "symbol of the model"),
        (
            lambda b: {**b, "snapshots": [
                {**one, **{s: one[s][:2] for s in ("bid_px", "bid_qty", "ask_px", "ask_qty")}}
                for one in b["snapshots"]
            ]},
            422, "snapshots", "send 3 levels",
        ),
    ],
)  # fmt: skip
def test_bad_questions_are_refused_by_the_field(case, store, spoil, status, field, said):
    body = spoil(question(case.executions[0], 3))

    async def test(client):
        response = await client.post("/predict", json=body)
        found = response.json()["error"]
        assert response.status_code == status
        assert [one["field"] for one in found["fields"]] == [field]
        assert said in str(found["fields"]) + found["message"]
        good = await client.post("/predict", json=question(case.executions[0], 3))
        assert good.status_code == 200

    with_client(test, store=store)


def test_a_model_that_works_no_order_refuses_the_state(case):
    body = question(case.executions[0], 3)

    async def test(client):
        response = await client.post("/predict", json=body)
        assert response.status_code == 422
        assert "reads no order of your own" in response.text
        assert (await client.post("/predict", json=without(body, "state"))).status_code == 200

    with_client(test, store=FakeStore(FakePredictor(takes="book", symbols=(SYMBOL,))))


def test_a_model_of_bars_and_one_of_the_book_take_turns(case, store):
    class Both(FakeStore):
        def names(self):
            return ["alpha", NAME]

        def load(self, name):
            return store.load(name) if name == NAME else super().load(name)

    async def test(client):
        body = question(case.executions[0], 3)
        assert (await client.post("/predict", json=body)).status_code in (404, 409)
        await client.post("/model/activate", json={"name": NAME}, headers=AUTH)
        assert (await client.post("/predict", json=body)).status_code == 200

    with_client(test, store=Both())
