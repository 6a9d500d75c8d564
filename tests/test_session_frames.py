"""Simulated payloads beside those of real captures."""

import gzip
import json

import pyarrow.parquet as pq
import pytest

from hftlib.sessions.recording import record_sessions
from hftlib.sessions.vocabulary import GAME_PLAYER_STATE, GAME_STATE, NEW_TRADE, PLAYER_STATE
from hftlib.sessions.wire import unwrap
from tests.conftest import SHARED_DATA

CAPTURES = [
    SHARED_DATA / "sessions" / name
    for name in ("capture_public_2025-12-12.jsonl.gz", "capture_authenticated_2025-12-15.jsonl.gz")
]

pytestmark = pytest.mark.skipif(
    not all(file.exists() for file in CAPTURES), reason="no real captures in ../shared/data"
)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """Names and payloads of two sessions, without what was lost."""
    root = tmp_path_factory.mktemp("store")
    players = ["partial", "restless"]
    record_sessions(root, n_sessions=2, games_per_session=5, players=players, seed=6)
    found = []
    for file in root.glob("events_parquet/doc_type=ws_event/*/*.parquet"):
        for text in pq.read_table(file, partitioning=None)["raw_json"].to_pylist():
            event = json.loads(text)
            found.append((event["event"], unwrap(event["data"]).payload))
    return [(name, payload) for name, payload in found if payload is not None]


def shape(value):
    """Keys and kinds of value; of a list, of its first element."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items() if key != "values"}
    if isinstance(value, list):
        return [shape(each) for each in value[:1]]
    if value is None:
        return None
    return "truth" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"


def covers(real, simulated):
    """Whether a simulated payload has a real one's keys and kinds, up to nulls."""
    if isinstance(real, dict) and isinstance(simulated, dict):
        return real.keys() == simulated.keys() and all(
            covers(real[key], simulated[key]) for key in real
        )
    if isinstance(real, list) and isinstance(simulated, list):
        return all(map(covers, real, simulated))  # an empty list is like any other
    return real is None or simulated is None or real == simulated


def read_captures():
    found = {}
    for file in CAPTURES:
        with gzip.open(file, "rt") as lines:
            for line in lines:
                event = json.loads(line)
                payload = unwrap(event["data"]).payload
                if payload is not None:
                    found.setdefault(event["event"], []).append(payload)
    return found


def test_payloads_have_the_keys_and_types_of_real_ones(simulated):
    real = {}
    for name, payloads in read_captures().items():
        real[name] = {json.dumps(shape(one)): one for one in payloads}.values()
    compared = set()
    for name, text in {(name, json.dumps(shape(payload))) for name, payload in simulated}:
        if name in real:
            assert any(covers(shape(one), json.loads(text)) for one in real[name]), (name, text)
            compared.add(name)
    assert compared == {GAME_STATE, GAME_PLAYER_STATE, PLAYER_STATE, NEW_TRADE}


def test_every_kind_of_real_state_is_simulated(simulated):
    kinds = {frozenset(payload) for name, payload in simulated if name == GAME_STATE}
    assert {frozenset(payload) for payload in read_captures()[GAME_STATE]} == kinds
