"""A challenger answers its share of the keys, as it would alone, and cannot harm the champion."""

import json

import numpy as np
import pytest

from hftlib.live import answers
from hftlib.live.arms import CHALLENGER, CHAMPION, Arms, find_mismatch
from hftlib.live.asked import Asked
from hftlib.live.protocols import ModelError
from hftlib.live.requests import SymbolBody
from hftlib.live.serving import ServedModel
from hftlib.live.settings import ServiceSettings, SettingsError
from tests.live_cases import (
    AUTH,
    NOW_NS,
    FakePredictor,
    FakeState,
    FakeStore,
    make_bar,
    make_window,
    newest,
    with_client,
)

SYMBOLS = tuple(f"S{k:02d}" for k in range(40))
KEYS = [f"client {k}" for k in range(20_000)]
AB = {"challenger": "beta", "challenger_share": 0.5}


class Contrary(FakePredictor):
    """Sells what the other buys."""

    def predict(self, observations):
        found = super().predict(observations)
        return found._replace(action=-found.action)


class Choosy(FakePredictor):
    """Refuses a bar that others take."""

    def open_state(self, symbol):
        class State(FakeState):
            def push(self, bar):
                if bar.close == 500:
                    raise ModelError("close 500 is not for this model")
                super().push(bar)

        return State()


def serve(predictor):
    return ServedModel(predictor, lambda: NOW_NS)


def make_arms(share=0.3, version="1"):
    champion, challenger = FakePredictor(), Contrary("beta")
    object.__setattr__(challenger.card, "version", version)
    return Arms(serve(champion), serve(challenger), share)


def store(challenger=None, **other):
    challenger = Contrary("beta", symbols=SYMBOLS) if challenger is None else challenger
    return FakeStore(FakePredictor(symbols=SYMBOLS), challenger, *other.values())


async def push_all(client, k, close):
    items = [newest(k, close, symbol) for symbol in SYMBOLS]
    response = await client.post("/predict/batch", json={"items": items}, headers=AUTH)
    assert response.status_code == 200, response.text
    return response.json()["predictions"]


async def activate(client, name):
    response = await client.post("/model/activate", json={"name": name}, headers=AUTH)
    assert response.status_code == 200, response.text


def test_a_key_meets_the_same_arm_after_a_restart_and_another_version_is_another_trial():
    first, again, other = make_arms(), make_arms(), make_arms(version="2")
    roles = [first.assign(key) for key in KEYS]
    assert roles == [again.assign(key) for key in reversed(KEYS)][::-1]
    assert roles == [first.assign(key) for key in KEYS]
    moved = np.mean([a != other.assign(key) for a, key in zip(roles, KEYS, strict=True)])
    # two independent assignments differ in 2 * 0.3 * 0.7 of the keys
    assert moved == pytest.approx(0.42, abs=4 * np.sqrt(0.42 * 0.58 / len(KEYS)))
    assert first.describe()["salt_sha256"] != other.describe()["salt_sha256"]


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.5])
def test_the_challenger_serves_its_share_of_the_keys(share):
    arms = make_arms(share)
    n_served = sum(arms.assign(key) == CHALLENGER for key in KEYS)
    error = 4 * np.sqrt(share * (1 - share) / len(KEYS))
    assert n_served / len(KEYS) == pytest.approx(share, abs=error)


def test_keys_of_refused_requests_are_not_counted():
    async def test(client):
        for symbol in ("unknown", "S00"):
            await client.post("/predict", json={**make_window(symbol=symbol), "key": symbol})
        routing = (await client.get("/routing")).json()
        assert sum(arm["n_keys"] for arm in routing["arms"]) == 1

    with_client(test, store=store(), **AB)


def test_each_arm_answers_as_its_model_alone():
    async def alone(client):
        for k, close in enumerate((100.0, 103.0, 101.0, 104.0)):
            found = await push_all(client, k, close)
        return found

    async def both(client):
        found = await alone(client)
        asks = [{"symbol": symbol} for symbol in SYMBOLS]
        asked = await client.post("/predict/batch", json={"items": asks})
        answers.BatchAnswer.model_validate_json(asked.content, strict=True)
        assert asked.json()["predictions"] == found
        assert asked.json()["model"] == {"name": "alpha", "version": "1"}
        return found, (await client.get("/routing")).json()

    found, routing = with_client(both, store=store(), **AB)
    own = {
        name: with_client(alone, store=store(), model=name, challenger="")
        for name in ("alpha", "beta")
    }
    names = [one["model"]["name"] for one in found]
    assert set(names) == {"alpha", "beta"}
    assert found == [own[name][k] for k, name in enumerate(names)]
    answers.RoutingAnswer.model_validate(routing, strict=True)
    for arm in routing["arms"]:
        count = names.count(arm["model"]["name"])
        assert arm["share"] == 0.5
        assert arm["n_keys"] == count
        assert arm["n_predictions"] == 5 * count


def test_a_key_decides_and_one_symbol_may_be_answered_by_both():
    async def test(client):
        named = set()
        for k in range(20):
            body = {**make_window(symbol="S00"), "key": f"account {k}"}
            first = (await client.post("/predict", json=body)).json()
            again = (await client.post("/predict", json=body)).json()
            answers.OneAnswer.model_validate(first, strict=True)
            assert first["model"] == again["model"]
            assert (first["action"] > 0) == (first["model"]["name"] == "alpha")
            named.add(first["model"]["name"])
        assert named == {"alpha", "beta"}
        for key in ("", "x" * 65, "a\nb", "é", 7):
            refused = await client.post("/predict", json={**make_window(symbol="S00"), "key": key})
            assert refused.json()["error"]["fields"][0]["field"] == "key"
        text = (await client.get("/metrics")).text
        assert 'hftlib_predictions_total{model="beta"}' in text

    with_client(test, store=store(), **AB)


def test_a_challenger_that_does_not_fit_is_off_and_three_routes_say_why():
    async def test(client):
        response = await client.get("/ready")
        answers.ReadyAnswer.model_validate_json(response.content, strict=True)
        info = (await client.get("/model/info")).json()
        routing = (await client.get("/routing")).json()
        missing = await client.get("/model/info?role=challenger")
        assert missing.status_code == 404
        said = missing.json()["error"]["message"]
        assert response.json()["challenger"] == {"model": None, "trouble": said}
        assert info["challenger"] == response.json()["challenger"]
        assert routing["trouble"] == said
        assert [(arm["role"], arm["share"]) for arm in routing["arms"]] == [(CHAMPION, 1.0)]
        asked = await client.post("/predict", json=make_window(symbol="S00"))
        assert asked.json()["model"]["name"] == "alpha"
        return said

    fewer = Contrary("beta", symbols=SYMBOLS[:-1])
    assert "symbols differ in S39" in with_client(test, store=store(fewer), **AB)
    book = Contrary("beta", symbols=SYMBOLS, takes="book")
    assert "takes is 'book'" in with_client(test, store=store(book), **AB)
    itself = {"challenger": "alpha", "challenger_share": 0.1}
    assert "the champion itself" in with_client(test, store=store(), **itself)
    broken = {"challenger": "broken", "challenger_share": 0.1}
    assert "not the file that was written" in with_client(test, store=store(), **broken)


def test_models_of_another_unit_are_not_compared():
    one, other = FakePredictor().card, FakePredictor("beta").card
    assert find_mismatch(one, other) is None
    object.__setattr__(other, "unit", "shares")
    assert "unit is 'shares'" in find_mismatch(one, other)


def test_another_champion_keeps_a_challenger_that_fits_and_both_begin_anew():
    gamma = FakePredictor("gamma", symbols=SYMBOLS)

    async def test(client):
        for k in range(4):
            await push_all(client, k, 100.0 + k)
        await activate(client, "gamma")
        routing = (await client.get("/routing")).json()
        assert [arm["model"]["name"] for arm in routing["arms"]] == ["gamma", "beta"]
        assert [arm["n_keys"] for arm in routing["arms"]] == [0, 0]
        empty = await client.post("/predict", json={"symbol": "S00"})
        assert (empty.status_code, empty.json()["error"]["code"]) == (409, "empty_stream")
        assert "send at least 3" in empty.json()["error"]["remedy"]
        for k in range(4):  # the same bars again: neither stream has them
            found = await push_all(client, k, 100.0 + k)
        assert {one["model"]["name"] for one in found} == {"gamma", "beta"}
        assert {one["missing_rows"] for one in found} == {0}
        info = (await client.get("/model/info?role=challenger")).json()
        answers.CardAnswer.model_validate(info, strict=True)
        assert (info["role"], info["name"]) == ("challenger", "beta")

    with_client(test, store=store(gamma=gamma), **AB)


def test_another_champion_turns_a_challenger_off_that_does_not_fit():
    async def test(client):
        assert (await client.get("/routing")).json()["trouble"] is None
        await activate(client, "gamma")
        assert "symbols differ" in (await client.get("/routing")).json()["trouble"]
        await activate(client, "alpha")
        assert (await client.get("/routing")).json()["trouble"] is None

    with_client(test, store=store(gamma=FakePredictor("gamma", symbols=("AAA",))), **AB)


def test_a_challenger_that_fails_is_turned_off_and_the_champion_answers_everybody():
    challenger = Contrary("beta", symbols=SYMBOLS)

    async def test(client):
        for k in range(3):
            await push_all(client, k, 100.0 + k)
        challenger.is_broken = True
        found = await push_all(client, 3, 103.0)
        assert {one["model"]["name"] for one in found} == {"alpha"}
        assert all(one["action"] > 0 for one in found)
        assert "not finite" in (await client.get("/ready")).json()["challenger"]["trouble"]
        found = await push_all(client, 4, 104.0)
        assert {one["ts_ns"] for one in found} == {found[0]["ts_ns"]}

    with_client(test, store=store(challenger), **AB)


def test_a_challenger_that_refuses_a_bar_of_the_champion_is_turned_off():
    async def test(client):
        for k in range(3):
            await push_all(client, k, 100.0)
        found = await push_all(client, 3, 500.0)
        assert {one["action"] for one in found} == {found[0]["action"]}
        trouble = (await client.get("/routing")).json()["trouble"]
        assert "close 500 is not for this model" in trouble

    with_client(test, store=store(Choosy("beta", symbols=SYMBOLS)), **AB)


class Failing(Contrary):
    """Raises where it is told to."""

    where = ""

    def observe(self, rows, position, exposure):
        if self.where == "window":
            raise ModelError("this window is not for me")
        return super().observe(rows, position, exposure)

    def open_state(self, symbol):
        owner = self

        class State(FakeState):
            def push(self, bar):
                if owner.where == "push":
                    raise RuntimeError("push failed")
                super().push(bar)

            def observe(self, position, exposure):
                if owner.where == "observe":
                    raise KeyError("observe failed")
                return super().observe(position, exposure)

        return State()

    def predict(self, observations):
        if self.where == "predict":
            raise RuntimeError("predict failed")
        return super().predict(observations)


@pytest.mark.parametrize("where", ["predict", "observe", "push", "window"])
def test_whatever_the_challenger_raises_the_champion_answers_in_the_same_batch(where):
    challenger = Failing("beta", symbols=SYMBOLS)

    async def test(client):
        for k in range(3):
            await push_all(client, k, 100.0 + k)
        challenger.where = where
        if where == "window":
            body = {"items": [make_window(symbol=symbol) for symbol in SYMBOLS[:16]]}
            response = await client.post("/predict/batch", json=body)
            assert response.status_code == 200
            found = response.json()["predictions"]
        else:
            found = await push_all(client, 3, 103.0)
        assert {one["model"]["name"] for one in found} == {"alpha"}
        assert all(one["action"] > 0 for one in found)
        trouble = (await client.get("/routing")).json()["trouble"]
        assert ("window is not for me" if where == "window" else f"{where} failed") in trouble

    with_client(test, store=store(challenger), **AB)


def test_a_window_that_the_champion_refuses_too_does_not_turn_the_challenger_off():
    async def test(client):
        bad = make_window(symbol="S00")
        bad["window"][4] |= {"high": 666.0, "close": 666.0}
        for k in range(20):
            response = await client.post("/predict", json={**bad, "key": f"account {k}"})
            assert response.status_code == 422
        assert (await client.get("/routing")).json()["trouble"] is None

    with_client(test, store=store(), **AB)


def test_where_the_champion_fails_what_the_challenger_answers_alone_is_answered():
    champion, challenger = FakePredictor(), Contrary("beta")
    arms = Arms(serve(champion), serve(challenger), 0.5)
    bodies = [
        SymbolBody.model_validate_json(json.dumps({**make_window(), "key": str(k)}))
        for k in range(12)
    ]
    expected = arms.answer([Asked([body]) for body in bodies])
    champion.is_broken = True
    requests = [Asked([body]) for body in bodies] + [Asked(bodies)]
    *found, whole = arms.answer(requests)
    names = [one[0]["model"]["name"] for one in expected]
    assert {*names} == {"alpha", "beta"}
    for name, before, after in zip(names, expected, found, strict=True):
        assert after == before if name == "beta" else after.code == "model_failed"
    assert whole.code == "model_failed"


def test_one_item_of_a_batch_refused_by_the_challenger_is_refused_for_its_key_only():
    async def test(client):
        roles = {}
        for key in map(str, range(20)):
            body = {**make_window(3, "S00"), "key": key}
            response = await client.post("/predict", json=body)
            roles[key] = response.status_code
        assert {*roles.values()} == {200, 422}
        for key, status in roles.items():
            body = {"items": [{**make_window(3, "S00"), "key": key}]}
            again = await client.post("/predict/batch", json=body)
            assert again.status_code == status
            if status == 422:
                assert "at least 5 rows" in again.json()["error"]["message"]

    longer = Contrary("beta", symbols=SYMBOLS)
    object.__setattr__(longer.card, "min_rows", 5)
    with_client(test, store=store(longer), **AB)


def test_a_bar_that_the_champion_refuses_goes_on_neither_stream():
    async def test(client):
        for k in range(3):
            await push_all(client, k, 100.0)
        refused = await client.post("/predict", json=newest(3, 666, "S00"), headers=AUTH)
        assert refused.status_code == 422
        assert (await client.get("/routing")).json()["trouble"] is None
        again = await client.post("/predict", json=newest(3, 101.0, "S00"), headers=AUTH)
        assert again.status_code == 200

    with_client(test, store=store(), **AB)


def test_the_role_is_one_of_two_and_there_may_be_no_challenger():
    async def test(client):
        odd = await client.get("/model/info?role=king")
        assert odd.status_code == 422
        assert odd.json()["error"]["fields"][0]["field"] == "role"
        none = await client.get("/model/info?role=challenger")
        assert none.json()["error"]["code"] == "no_challenger"
        assert (await client.get("/routing")).json()["salt_sha256"] is None
        assert (await client.get("/ready")).json()["challenger"] == {"model": None, "trouble": None}

    with_client(test)


def test_the_share_is_at_most_half():
    assert ServiceSettings.from_environment(
        {"HFTLIB_CHALLENGER": "beta", "HFTLIB_CHALLENGER_SHARE": "0.25"}
    ) == ServiceSettings(challenger="beta", challenger_share=0.25)
    for share in ("0.6", "-0.1", "nan"):
        with pytest.raises(SettingsError, match="challenger_share"):
            ServiceSettings.from_environment({"HFTLIB_CHALLENGER_SHARE": share})


def test_bars_of_the_last_request_may_be_sent_again_with_further_ones():
    async def test(client):
        def body(first, last):
            return {"symbol": "S00", "bars": [make_bar(k, 100.0 + k) for k in range(first, last)]}

        async def post(first, last):
            return await client.post("/predict", json=body(first, last), headers=AUTH)

        async def n_rows():
            return (await client.get("/symbols")).json()["symbols"][0]["n_rows"]

        once = (await post(0, 5)).json()
        again = (await post(0, 5)).json()
        assert again["action"] == once["action"]
        assert (await post(3, 7)).status_code == 200
        assert await n_rows() == 7
        older = await post(1, 8)  # bars 1 and 2 were not in the last request
        assert (older.status_code, older.json()["error"]["code"]) == (409, "out_of_order")
        changed = body(5, 8)
        changed["bars"][1]["volume"] = 3
        refused = await client.post("/predict", json=changed, headers=AUTH)
        assert refused.json()["error"]["code"] == "changed_bar"
        assert refused.json()["error"]["fields"][0]["field"] == "bars[1].ts"
        assert await n_rows() == 7

    with_client(test, store=store(), **AB)


def test_a_request_that_only_the_model_refuses_can_be_corrected_and_sent_whole():
    async def test(client):
        closes = [100.0, 101.0, 666.0, 103.0]
        body = {"symbol": "S00", "bars": [make_bar(k, close) for k, close in enumerate(closes)]}
        assert (await client.post("/predict", json=body, headers=AUTH)).status_code == 422
        body["bars"][2] = make_bar(2, 102.0)
        assert (await client.post("/predict", json=body, headers=AUTH)).status_code == 200
        assert (await client.get("/symbols")).json()["symbols"][0]["n_rows"] == 4

    with_client(test, store=store(), **AB)
