"""Every route of the service answers what it declares."""

import asyncio
import math
import sys

import numpy as np
import orjson
import pytest

from hftlib.live import answers
from hftlib.live.settings import ServiceSettings, SettingsError
from hftlib.schema import BARS, validate
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


async def push(client, *items):
    body = {"items": list(items)} if len(items) > 1 else items[0]
    path = "/predict/batch" if len(items) > 1 else "/predict"
    return await client.post(path, json=body, headers=AUTH)


def test_a_window_is_answered_with_the_model_s_action_and_its_doubt():
    async def test(client):
        response = await client.post("/predict", json=make_window(position=1, exposure=0.5))
        assert response.status_code == 200
        found = response.json()
        answers.OneAnswer.model_validate_json(response.content, strict=True)
        action = np.tanh(10 * np.float32(104 / 102 - 1))
        assert found["action"] == pytest.approx(action, abs=1e-6)  # float32 observations
        assert found["uncertainty"] == 0.25
        assert found["confidence"] == 0.75  # 1 - .25 / 1, the largest spread within [-1, 1]
        assert found["forecast"] == {"mean": pytest.approx(action / 100), "sd": 0.01}
        assert found["probabilities"] is None
        assert found["ts_ns"] == FIRST_NS + 4 * DAY_NS
        assert found["model"] == {"name": "alpha", "version": "1"}
        assert found["latency_ms"] > 0
        assert found["request_id"] == response.headers["x-request-id"]

    with_client(test)


def test_a_policy_with_choices_gives_probabilities_that_sum_to_one():
    async def test(client):
        found = (await client.post("/predict", json=make_window())).json()
        assert list(found["probabilities"]) == ["sell", "buy"]
        assert sum(found["probabilities"].values()) == pytest.approx(1)
        assert found["confidence"] == max(found["probabilities"].values())
        assert found["uncertainty"] is None

    with_client(test, store=FakeStore(FakePredictor(choices=("sell", "buy"))))


def test_a_stream_answers_as_the_window_of_the_same_bars():
    async def test(client):
        closes = [100.0, 103.0, 101.0, 99.0, 105.0]
        for k, close in enumerate(closes):
            streamed = (await push(client, newest(k, close))).json()
            assert streamed["missing_rows"] == max(0, 2 - k)
            assert (streamed["action"] is None) == (k < 2)
        bars = [make_bar(k, close) for k, close in enumerate(closes)]
        whole = (await client.post("/predict", json={"symbol": "AAA", "window": bars})).json()
        varying = ("latency_ms", "request_id")
        assert {k: v for k, v in whole.items() if k not in varying} == {
            k: v for k, v in streamed.items() if k not in varying
        }

    with_client(test)


def test_the_stream_as_it_is_is_answered_without_the_token_for_any_position():
    async def test(client):
        for k, close in enumerate((100.0, 101.0, 104.0)):
            pushed = (await push(client, newest(k, close))).json()
        for position, exposure in ((0, 0.0), (1, 0.5), (-1, -0.5)):
            body = {"symbol": "AAA", "position": position, "exposure": exposure}
            asked = (await client.post("/predict", json=body)).json()
            assert asked["action"] == pushed["action"]
            assert asked["ts_ns"] == pushed["ts_ns"] == FIRST_NS + 2 * DAY_NS

    with_client(test)


def test_a_forecast_that_is_not_known_is_null():
    class Unknowing(FakePredictor):
        def predict(self, observations):
            found = super().predict(observations)
            return found._replace(forecast_mean=np.full(len(observations), np.nan))

    async def test(client):
        assert (await client.post("/predict", json=make_window())).json()["forecast"] is None

    with_client(test, store=FakeStore(Unknowing()))


def test_the_last_bar_may_be_sent_again_and_counts_once():
    async def test(client):
        await push(client, newest(0), newest(0, symbol="BBB"))
        again = await push(client, newest(0))
        assert again.status_code == 200
        streams = {one["symbol"]: one for one in (await client.get("/symbols")).json()["symbols"]}
        assert streams["AAA"] == {"symbol": "AAA", "n_rows": 1, "last_ts_ns": FIRST_NS}
        assert streams["CCC"] == {"symbol": "CCC", "n_rows": 0, "last_ts_ns": None}

    with_client(test)


def test_a_batch_is_answered_in_its_order_and_its_examples_pass_the_model_once():
    predictor = FakePredictor()

    async def test(client):
        items = [make_window(symbol=symbol) for symbol in ("CCC", "AAA", "BBB")]
        response = await client.post("/predict/batch", json={"items": items})
        answers.BatchAnswer.model_validate_json(response.content, strict=True)
        found = response.json()["predictions"]
        assert [one["symbol"] for one in found] == ["CCC", "AAA", "BBB"]
        assert predictor.batches == [3]

    with_client(test, store=FakeStore(predictor))


def test_a_batch_with_one_faulty_symbol_changes_no_stream():
    async def test(client):
        await push(client, newest(5))
        refused = await push(client, newest(6, symbol="BBB"), newest(4))
        assert refused.status_code == 409
        streams = (await client.get("/symbols")).json()["symbols"]
        assert [one["n_rows"] for one in streams] == [1, 0, 0]

    with_client(test)


def test_the_window_reaches_the_model_as_bars_of_the_schema():
    predictor = FakePredictor()

    async def test(client):
        body = make_window()
        body["window"][1]["volume"] = None
        await client.post("/predict", json=body)
        frame = predictor.frames[0]
        validate(frame, BARS)
        assert frame["ts"].iloc[0].value == FIRST_NS
        assert math.isnan(frame["volume"].iloc[1])

    with_client(test, store=FakeStore(predictor))


def test_snapshots_of_the_book_go_to_models_that_take_them():
    predictor = FakePredictor(takes="book")
    snapshot = {"bid_px": [99, 98], "bid_qty": [1, 2], "ask_px": [101, 102], "ask_qty": [3, 4]}
    rows = [{"ts": FIRST_NS + k, **snapshot} for k in range(3)]

    async def test(client):
        response = await client.post("/predict", json={"symbol": "AAA", "snapshots": rows})
        assert response.json()["action"] == 0
        first = predictor.frames[0].iloc[0]
        assert (first["best_bid"], first["best_ask"], first["ask_qty_1"]) == (99, 101, 3)
        assert (first["bid_px_2"], first["ask_qty_2"]) == (98, 4)
        refused = await client.post("/predict", json=make_window())
        assert refused.status_code == 409
        assert "takes snapshots" in refused.json()["error"]["message"]

    with_client(test, store=FakeStore(predictor))


def test_requests_that_arrive_together_share_a_batch():
    predictor = FakePredictor(delay_s=0.05)

    async def test(client):
        posts = [client.post("/predict", json=make_window()) for _ in range(20)]
        predictor.batches.clear()
        responses = await asyncio.gather(*posts)
        assert {response.status_code for response in responses} == {200}
        assert sum(predictor.batches) == 20
        assert len(predictor.batches) <= 3  # the first alone, the others while it was worked on

    with_client(test, store=FakeStore(predictor), max_windows=20)


def test_health_ready_info_models_and_symbols():
    async def test(client):
        for path, model in (
            ("/health", answers.HealthAnswer),
            ("/ready", answers.ReadyAnswer),
            ("/model/info", answers.CardAnswer),
            ("/models", answers.ModelsAnswer),
            ("/symbols", answers.SymbolsAnswer),
        ):
            response = await client.get(path)
            assert response.status_code == 200
            model.model_validate_json(response.content, strict=True)
            assert response.headers["x-content-type-options"] == "nosniff"
        assert (await client.get("/models")).json() == {
            "active": "alpha",
            "models": ["alpha", "broken"],
        }

    with_client(test)


def test_the_model_is_loaded_once_and_another_takes_its_place():
    store = FakeStore(FakePredictor(), FakePredictor("beta", symbols=("AAA",)))

    async def test(client):
        for k in range(3):
            await push(client, newest(k))
        assert store.n_loads == 1
        response = await client.post("/model/activate", json={"name": "beta"}, headers=AUTH)
        assert response.json() == {"name": "beta", "version": "1"}
        assert store.n_loads == 2
        assert (await client.get("/symbols")).json()["symbols"] == [
            {"symbol": "AAA", "n_rows": 0, "last_ts_ns": None}
        ]
        assert 'hftlib_model{name="beta",version="1"} 1.0' in (await client.get("/metrics")).text

    with_client(test, store=store)


def test_a_broken_model_leaves_the_active_one_in_its_place():
    async def test(client):
        response = await client.post("/model/activate", json={"name": "broken"}, headers=AUTH)
        assert response.status_code == 409
        assert "is not the file that was written" in response.json()["error"]["message"]
        assert (await client.get("/models")).json()["active"] == "alpha"

    with_client(test)


def test_without_a_model_the_service_lives_is_not_ready_and_says_why():
    async def test(client):
        assert (await client.get("/health")).status_code == 200
        for response in (
            await client.get("/ready"),
            await client.post("/predict", json=make_window()),
        ):
            assert response.status_code == 503
            assert "is not the file that was written" in response.json()["error"]["message"]
        assert (await client.get("/models")).json()["active"] is None
        activated = await client.post("/model/activate", json={"name": "alpha"}, headers=AUTH)
        assert activated.status_code == 200
        assert (await client.get("/ready")).status_code == 200

    with_client(test, model="broken")


def test_a_model_that_gives_nan_is_an_outage_not_an_action():
    predictor = FakePredictor()
    predictor.is_broken = True

    async def test(client):
        response = await client.post("/predict", json=make_window())
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "model_failed"

    with_client(test, store=FakeStore(predictor))


def test_metrics_count_by_declared_route():
    async def test(client):
        await client.post("/predict", json=make_window())
        await client.post("/predict", json={"symbol": 1})
        await client.get("/no/such/path")
        text = (await client.get("/metrics")).text
        for line in (
            'hftlib_requests_total{method="POST",route="/predict",status="200"} 1.0',
            'hftlib_requests_total{method="POST",route="/predict",status="422"} 1.0',
            'hftlib_requests_total{method="GET",route="other",status="404"} 1.0',
            'hftlib_refused_total{code="invalid_request"} 1.0',
            'hftlib_predictions_total{model="alpha"} 1.0',
            "hftlib_batch_items_count 1.0",
        ):
            assert line in text
        assert "/no/such/path" not in text

    with_client(test)


def test_paper_trading_is_shown_and_halted():
    paper = FakePaper()

    async def test(client):
        assert (await client.get("/paper")).json()["equity"] == 100_000
        unauthorised = await client.post("/paper/halt", json={"reason": "dead feed"})
        assert unauthorised.status_code == 401
        assert paper.reason == ""
        halted = await client.post("/paper/halt", json={"reason": "dead feed"}, headers=AUTH)
        assert halted.json()["is_halted"]
        assert paper.reason == "dead feed" and not paper.flattens
        body = {"reason": "wrong model", "flatten": True}
        assert (await client.post("/paper/halt", json=body, headers=AUTH)).status_code == 200
        assert paper.flattens

    with_client(test, paper=paper)


def test_without_paper_trading_its_routes_say_so():
    async def test(client):
        assert (await client.get("/paper")).json()["error"]["code"] == "no_paper"

    with_client(test)


ECHO = "import sys, json; json.dump({'got': json.load(sys.stdin)}, sys.stdout)"
SLEEP = "import time; time.sleep(60)"
FAIL = "import sys; sys.exit('no dataset: run dvc repro datasets')"


async def wait_for_job(client, name):
    for _ in range(400):
        response = await client.get(f"/backtest/{name}")
        answers.JobAnswer.model_validate_json(response.content, strict=True)
        job = response.json()
        if job["status"] not in ("queued", "running"):
            return job
        await asyncio.sleep(0.02)
    raise AssertionError("the job did not end")


def submit(client, **body):
    return client.post("/backtest", json=body, headers=AUTH)


def test_a_backtest_runs_in_its_process_and_its_result_is_kept():
    async def test(client):
        response = await submit(client, symbols=["AAA"])
        assert response.status_code == 202
        job = await wait_for_job(client, response.json()["id"])
        assert job["status"] == "done"
        assert job["result"]["got"] == {"model": "alpha", "split": "val", "symbols": ["AAA"]}

    with_client(test, backtest_command=(sys.executable, "-c", ECHO))


@pytest.mark.parametrize(
    ("code", "limit_s", "status", "said"),
    [
        (FAIL, 30.0, "failed", "no dataset"),
        (SLEEP, 0.5, "timed_out", "0.5 s"),
        ("print(1", 30.0, "failed", "Syntax"),
    ],
)
def test_a_backtest_that_fails_or_takes_too_long_says_why(code, limit_s, status, said):
    async def test(client):
        job = await wait_for_job(client, (await submit(client)).json()["id"])
        assert job["status"] == status
        assert said in job["error"]

    with_client(test, backtest_command=(sys.executable, "-c", code), backtest_limit_s=limit_s)


def test_backtests_wait_in_line_are_cancelled_and_refused_when_too_many():
    async def test(client):
        first = (await submit(client)).json()["id"]
        await asyncio.sleep(0.1)  # it runs
        waiting = [(await submit(client)).json() for _ in range(2)]
        assert [job["status"] for job in waiting] == ["queued", "queued"]
        full = await submit(client)
        assert full.status_code == 429
        assert full.headers["retry-after"] == "10"
        for name in (waiting[0]["id"], first):
            job = (await client.delete(f"/backtest/{name}", headers=AUTH)).json()
            assert job["status"] == "cancelled"
        await asyncio.sleep(0.3)
        assert (await client.get(f"/backtest/{waiting[1]['id']}")).json()["status"] == "running"
        assert (await client.get(f"/backtest/{first}")).json()["status"] == "cancelled"

    with_client(test, backtest_command=(sys.executable, "-c", SLEEP), max_jobs=2)


def test_settings_come_from_the_environment_and_faults_name_the_variable():
    values = {
        "PORT": "0",
        "HFTLIB_MAX_WAITING": "7",
        "HFTLIB_CORS_ORIGINS": "http://localhost:3000",
    }
    settings = ServiceSettings.from_environment(values)
    assert (settings.port, settings.max_waiting) == (0, 7)
    assert settings.cors_origins == ("http://localhost:3000",)
    assert "secret" not in repr(ServiceSettings(token="secret"))
    for name, value, said in (
        ("PORT", "many", "PORT is 'many'; expected int"),
        ("PORT", "70000", "port is 70000"),
        ("HFTLIB_BODY_LIMIT_S", "0", "body_limit_s is 0.0"),
        ("HFTLIB_BODY_LIMIT_S", "nan", "body_limit_s is nan"),
        ("HFTLIB_CORS_ORIGINS", "*", "name the origins"),
    ):
        with pytest.raises(SettingsError, match=said):
            ServiceSettings.from_environment({name: value})


def test_the_log_holds_one_object_a_request(caplog):
    from hftlib.live.logs import JsonFormatter

    async def test(client):
        await client.get("/health", headers={"X-Request-ID": "mine-1"})

    with caplog.at_level("INFO", logger="hftlib.live"):
        with_client(test)
    lines = [orjson.loads(JsonFormatter().format(record)) for record in caplog.records]
    [line] = [line for line in lines if line["event"] == "request"]
    assert line["request_id"] == "mine-1"
    assert (line["route"], line["status"], line["level"]) == ("/health", 200, "info")
