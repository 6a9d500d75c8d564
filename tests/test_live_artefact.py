"""A real artefact through the service: its answers are the predictor's own."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hftlib.config import load
from hftlib.envs import TradingRules
from hftlib.live.artefact_store import ArtefactStore
from hftlib.live.backtest_job import answer, run_backtest
from hftlib.live.client import ServiceClient, serve_process
from hftlib.live.protocols import Bar
from hftlib.paths import read_json, write_json
from tests.conftest import ROOT
from tests.live_cases import AUTH, TOKEN, with_client
from tests.served_cases import RULES, SYMBOLS, make_case


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return make_case(tmp_path_factory.mktemp("served"))


def bodies_of(bars):
    """Bars as clients send them; the service's times end at the microsecond."""
    return [
        {
            "ts": row.ts.isoformat(),
            "open": row.open,
            "high": row.high,
            "low": row.low,
            "close": row.close,
            "volume": None if np.isnan(row.volume) else row.volume,
        }
        for row in bars.itertuples()
    ]


@pytest.mark.slow
def test_stream_and_window_answer_what_the_predictor_answers_to_the_last_bit(case):
    store = ArtefactStore(case.root)
    name = store.names()[0]
    predictor = store.load(name)
    symbol = predictor.card.symbols[0]
    bars = case.bars[case.bars["symbol"] == symbol]
    observation = predictor.observe(bars, 1.0, 0.5)
    expected = predictor.predict(observation[None])

    async def test(client):
        held = {"symbol": symbol, "position": 1, "exposure": 0.5}
        rows = bodies_of(bars)
        whole = await client.post("/predict", json={**held, "window": rows})
        assert whole.status_code == 200, whole.text
        begun = {"symbol": symbol, "bars": rows[:-1]}
        first = await client.post("/predict", json=begun, headers=AUTH)
        assert first.status_code == 200, first.text
        newest = await client.post("/predict", json={**held, "bars": rows[-1:]}, headers=AUTH)
        asked = await client.post("/predict", json=held)
        for response in (whole, newest, asked):
            assert response.json()["action"] == float(expected.action[0, 0])
            if expected.spread is not None:
                assert response.json()["uncertainty"] == float(expected.spread[0, 0])
        info = (await client.get("/model/info")).json()
        assert info["features"] == list(predictor.card.features)
        short = await client.post("/predict", json={**held, "window": rows[:10]})
        assert short.status_code == 422

    with_client(test, store=store, predict_limit_s=60.0, model=name)


@pytest.mark.slow
def test_a_client_of_the_second_process_gets_the_predictor_s_numbers(case, tmp_path):
    shutil.copytree(case.root / "two-seeds", tmp_path / "data/served/two-seeds")
    (tmp_path / "dvc.yaml").touch()
    rows = case.bars[case.bars["symbol"] == "BBB"]
    bars = [
        Bar(row.ts.value, row.open, row.high, row.low, row.close, row.volume)
        for row in rows.itertuples()
    ]
    predictor = ArtefactStore(case.root).load("two-seeds")
    expected = predictor.predict(predictor.observe(rows, -1.0, -0.25)[None])
    environment = {"HFTLIB_TOKEN": TOKEN, "HFTLIB_PREDICT_LIMIT_S": "60"}
    with serve_process(tmp_path, environment) as address, ServiceClient(address, TOKEN) as client:
        assert client.ready()["model"]["name"] == "two-seeds"
        client.predict([{"symbol": "BBB", "bars": bars}])
        for item in ({}, {"bars": bars}, {"window": bars}):
            held = {"symbol": "BBB", "position": -1, "exposure": -0.25, **item}
            (found,) = client.predict([held])
            assert found["action"] == float(expected.action[0, 0])
            assert found["forecast"]["mean"] == float(expected.forecast_mean[0])


@pytest.mark.slow
def test_a_served_model_is_judged_under_the_rules_it_was_trained_in(case, tmp_path, monkeypatch):
    shutil.copytree(case.root / "two-seeds", tmp_path / "data/served/two-seeds")
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    train_end = pd.Timestamp(load().datasets.train_end, tz="UTC")
    bars = case.bars.assign(ts=case.bars["ts"] - case.bars["ts"].min() + train_end)
    bars["ts"] -= pd.Timedelta(days=200)
    (tmp_path / "data/market").mkdir()
    bars.to_parquet(tmp_path / "data/market/bars.parquet")

    found = answer({"model": "two-seeds", "split": "val", "symbols": None})
    predictor = ArtefactStore(case.root).load("two-seeds")
    span = [(train_end + pd.Timedelta(days=days)).value for days in (1, 99)]
    assert found == run_backtest(predictor, bars, SYMBOLS, RULES, *span)
    assert found["AAA"]["n_bars"] == 99
    others = TradingRules.from_values(**load().trading_rules)
    others = replace(others, action_kind="continuous", window_bars=RULES.window_bars)
    assert found != run_backtest(predictor, bars, SYMBOLS, others, *span)


@pytest.mark.slow
def test_two_artefacts_share_the_keys(case, tmp_path):
    for name in ("two-seeds", "other"):
        shutil.copytree(case.root / "two-seeds", tmp_path / name)
    about = read_json(tmp_path / "other/manifest.json")
    write_json(tmp_path / "other/manifest.json", {**about, "name": "other"})
    store = ArtefactStore(tmp_path)
    rows = bodies_of(case.bars[case.bars["symbol"] == "AAA"])

    async def test(client):
        pushed = {"symbol": "AAA", "bars": rows}
        assert (await client.post("/predict", json=pushed, headers=AUTH)).status_code == 200
        asks = [{"symbol": "AAA", "key": f"account {k}"} for k in range(30)]
        found = (await client.post("/predict/batch", json={"items": asks})).json()["predictions"]
        assert {one["model"]["name"] for one in found} == {"two-seeds", "other"}
        assert len({one["action"] for one in found}) == 1  # the same graphs
        assert (await client.get("/routing")).json()["trouble"] is None

    settings = {"model": "two-seeds", "challenger": "other", "challenger_share": 0.5}
    with_client(test, store=store, predict_limit_s=60.0, **settings)
