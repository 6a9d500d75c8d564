"""The user's folder of captured play."""

import gzip
import json

import pytest

from hftlib.sessions.intake import import_captures, list_files, verify_games
from tests.conftest import SHARED_DATA
from tests.test_game import make_record

EVENT = {"seq": 1, "ts": "2026-01-05T00:00:00+00:00", "event": "connect", "data": None}
DEEP = "[" * 100_000  # deeper than Python's parser goes


def test_files_are_told_apart_by_their_first_line(tmp_path):
    (tmp_path / "wire.jsonl").write_text(json.dumps(EVENT) + "\n")
    (tmp_path / "games.jsonl").write_text(json.dumps({"prices": [1, 0.02]}) + "\n")
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "deep.jsonl").write_text(DEEP)
    (tmp_path / "README.md").write_text("no data")
    captures, games = list_files(tmp_path)
    assert [path.name for path in captures] == ["deep.jsonl", "empty.jsonl", "wire.jsonl"]
    assert [path.name for path in games] == ["games.jsonl"]


def test_every_line_of_a_capture_is_accounted_for(tmp_path):
    lines = [json.dumps(EVENT), "", "{broken", json.dumps([1])]
    path = tmp_path / "wire.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    row = import_captures([path], tmp_path / "store").loc["wire.jsonl.gz"]
    assert (row["lines"], row["events"], row["blank"], row["malformed"]) == (4, 1, 1, 2)


def test_captures_that_would_replace_each_other_are_refused(tmp_path):
    paths = [tmp_path / "a/wire.jsonl", tmp_path / "b/wire.jsonl.gz"]
    with pytest.raises(ValueError, match="would replace each other; rename one"):
        import_captures(paths, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_changed_game_and_a_broken_line_are_named_and_the_rest_goes_on(tmp_path):
    good = make_record()
    changed = json.loads(json.dumps(good))
    changed["prices"][1] += 1e-9
    path = tmp_path / "games.jsonl"
    path.write_text("\n".join([json.dumps(good), json.dumps(changed), "{", json.dumps(good), DEEP]))
    found = verify_games([path])
    assert list(found["is_fair"]) == [True, False, False, True, False]
    assert "differ from tick 1" in found["faults"][1]
    assert all("malformed JSON" in found["faults"][k] for k in (2, 4))


def test_real_games_are_fair():
    path = SHARED_DATA / "sessions/seeded_games.jsonl"
    if not path.exists():
        pytest.skip("the real games are not on this machine")
    found = verify_games([path])
    assert len(found) == 20
    assert found["is_fair"].all()
