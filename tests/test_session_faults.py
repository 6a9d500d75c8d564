"""Bad input from a store to transitions: counted, named by file and row, fatal to nothing else.

Each test damages one thing of a recording of two games and looks at what a user
finds on disk: the dataset, its manifest and its quarantine. What the parts do
by themselves is in the tests of the reader, the payloads, the presses and the captures.
"""

import gzip
import json
import shutil
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from hftlib.sessions.captures import import_capture
from hftlib.sessions.conversion import write_transitions
from hftlib.sessions.dataset import TransitionDataset
from hftlib.sessions.event_rows import iso_time
from hftlib.sessions.layout import MANIFEST, QUARANTINE
from hftlib.sessions.store import EventWriter
from hftlib.sessions.transitions import TrainingDataGenerator
from hftlib.sessions.vocabulary import BUTTON_EVENT, CHOICES, GAME_STATE, WS_EVENT
from tests.session_cases import folder_of, write_parquet
from tests.wire_events import make_batch, make_rows, play, tick_update

PRICES = [1.0, 1.1, 1.2, 1.3, 0.02]
EVENTS = [*play("g1", PRICES, after="g2"), *play("g2", [1.0, 0.9, 0.01])]
FIRST_TICK = 3  # rows before it are the countdown's
PRESS = {"game_phase": 2, "bet_amount": 0.01}


class Play(NamedTuple):
    """What a conversion leaves on disk."""

    dataset: TransitionDataset
    report: dict[str, Any]
    quarantine: list[tuple[str, int, str]]


def event_rows(rows):
    """Rows of `make_rows` as the store has them."""
    table = make_batch(rows).table.to_pylist()
    return [{**row, "seq": seq, "doc_type": WS_EVENT} for seq, row in enumerate(table)]


def press_row(seq, button, game, tick, after):
    """A press 10 ms after a wire row."""
    return {
        "seq": seq,
        "ts": iso_time(after[3] + 10_000_000),
        "doc_type": BUTTON_EVENT,
        "session_id": after[0],
        "game_id": game,
        "tick": tick,
        "button_id": button,
        "raw_json": json.dumps(PRESS),
    }


def record(root, rows, presses=(), max_events=100):
    with EventWriter(root, rows[0][0], max_events=max_events) as writer:
        for row in [*event_rows(rows), *presses]:
            writer.write(row)


def convert(root):
    """The store converted; what every conversion must hold is checked here."""
    folder = root.with_name(root.name + "-play")
    write_transitions(root, folder)
    dataset = TransitionDataset.open(folder)
    report = json.loads((folder / MANIFEST).read_text())["report"]
    counts, presses = report["transitions"], dict(report["presses"])
    assert counts["n_ticks"] == report["observations"]["n_kept"]
    assert counts["n_ticks"] == counts["n_observations"] + counts["n_late"] + counts["n_short"]
    assert len(dataset) == counts["n_transitions"] == counts["n_observations"] - counts["n_games"]
    assert presses.pop("n_presses") == sum(presses.values()) - presses["n_clock_set_back"]
    assert all(np.isfinite(values).all() for values in dataset.batch(np.arange(len(dataset))))
    quarantine = pd.read_parquet(folder / QUARANTINE)
    return Play(dataset, report, list(quarantine.itertuples(index=False, name=None)))


def ticks_of(play):
    """Ticks that a transition leaves."""
    return play.dataset.batch(np.arange(len(play.dataset))).observations[:, 0].tolist()


@pytest.fixture
def root(tmp_path):
    return tmp_path / "store"


def test_a_sound_recording_has_no_fault(root):
    rows = make_rows(EVENTS)
    record(root, rows, [press_row(99, "BUY", "g1", 0, rows[FIRST_TICK])])
    found = convert(root)
    assert ticks_of(found) == [0, 1, 2, 3, 0, 1]
    assert found.report["events"]["faults"] == found.report["button_events"]["faults"] == []
    assert found.report["events"]["unknown_events"] == {}
    assert found.report["observations"] == {
        "events": {GAME_STATE: len(rows)},
        "n_kept": 8,
        "n_duplicates": 0,
        "n_late": 2,  # the second rug of each game
        "n_set_back": 0,
        "n_clipped": 0,
        "refused": {},
        "examples": [],
        "defaults": {"s": 8},
    }
    assert found.quarantine == []


def test_corrupt_file(root):
    record(root, make_rows(EVENTS), max_events=6)
    files = sorted(folder_of(root).iterdir())
    files[1].write_bytes(files[1].read_bytes()[:500])  # rows 6 to 11: ticks 3 and 4 of g1 are there
    found = convert(root)
    (fault,) = found.report["events"]["faults"]
    assert f"{files[1].name}: unreadable: " in fault
    assert ticks_of(found) == [0, 1, 0, 1]
    assert found.dataset.games["is_terminated"].tolist() == [False, True]


@pytest.mark.parametrize("doc_type", [WS_EVENT, BUTTON_EVENT])
def test_missing_partition(root, doc_type):
    rows = make_rows(EVENTS)
    record(root, rows, [press_row(99, "BUY", "g1", 0, rows[FIRST_TICK])])
    shutil.rmtree(root / "events_parquet" / f"doc_type={doc_type}")
    found = convert(root)
    part = "events" if doc_type == WS_EVENT else "button_events"
    assert found.report[part]["faults"] == [f"doc_type={doc_type}: no files"]
    assert len(found.dataset) == (0 if doc_type == WS_EVENT else 6)
    assert len(found.quarantine) == (1 if doc_type == WS_EVENT else 0)


def test_files_without_partition_folders(root):
    write_parquet(root / "a.parquet", event_rows(make_rows(EVENTS)))
    found = convert(root)
    assert found.report["events"]["faults"] == [
        "a.parquet: no date folder",
        "a.parquet: no doc_type folder",
    ]
    assert len(found.dataset) == 6


def test_unknown_doc_type(root):
    rows = event_rows(make_rows(EVENTS))
    record(root, make_rows(EVENTS))
    write_parquet(root / "events_parquet/doc_type=dream/date=2026-01-02/a.parquet", rows)
    rows[5]["doc_type"] = "dream"
    write_parquet(folder_of(root) / "z.parquet", rows)
    found = convert(root)
    folder = folder_of(root).relative_to(root).as_posix()
    assert found.report["events"]["faults"] == [
        "doc_type=dream: unknown document type",
        f"{folder}/z.parquet: doc_type is not the folder's: 1 rows, first 5",
    ]
    assert ticks_of(found) == [0, 1, 2, 3, 0, 1]


def test_unknown_event_name(root):
    rows = make_rows(EVENTS)
    rows[FIRST_TICK + 1] = ("s", "lottery", *rows[FIRST_TICK + 1][2:])
    record(root, rows)
    found = convert(root)
    assert found.report["events"]["unknown_events"] == {"lottery": 1}
    assert found.report["observations"]["events"] == {GAME_STATE: len(rows) - 1}
    assert ticks_of(found) == [0, 2, 3, 0, 1]


def test_malformed_json(root):
    rows = make_rows(EVENTS)
    rows[FIRST_TICK + 1] = (*rows[FIRST_TICK + 1][:4], '{"event": "gameStateUpdate", "data": {"ga')
    presses = [press_row(99 + k, "BUY", "g1", k, rows[FIRST_TICK + k]) for k in (0, 2)]
    presses[0]["raw_json"] = '{"game_phase": 2'
    record(root, rows, presses)
    found = convert(root)
    (example,) = found.report["observations"]["examples"]
    assert found.report["observations"]["refused"] == {"malformed JSON": 1}
    (file,) = folder_of(root).iterdir()
    assert example == {
        "file": file.relative_to(root).as_posix(),
        "row": FIRST_TICK + 1,
        "reason": "malformed JSON",
    }
    assert ticks_of(found) == [0, 2, 3, 0, 1]
    (press_file,) = folder_of(root, BUTTON_EVENT).iterdir()
    bad_press = (press_file.relative_to(root).as_posix(), 0, "cut or malformed JSON")
    assert found.quarantine == [bad_press]
    assert found.report["refused_presses"] == {"cut or malformed JSON": 1}
    assert [CHOICES[code] for code in found.dataset.column("choice")][:2] == ["WAIT", "BUY"]


@pytest.mark.parametrize(
    ("change", "reason", "ticks"),
    [
        ({"price": None}, "no price", [0, 1, 2, 3]),  # the last one stays
        ({"price": "1.1"}, "price", [0, 1, 2, 3]),
        ({"tickCount": None}, "no tickCount", [0, 2, 3]),
        ({"tickCount": 1.5}, "tickCount", [0, 2, 3]),
        ({"gameId": None}, "no gameId", [0, 2, 3]),
        ({"gameId": 7}, "no gameId", [0, 2, 3]),
        ({"rugpool": [5]}, "rugpool", [0, 1, 2, 3]),
    ],
)
def test_payload_with_a_field_missing_or_of_another_type(root, change, reason, ticks):
    events = list(EVENTS)
    events[FIRST_TICK + 1] = (GAME_STATE, {**tick_update("g1", 1, 1.1), **change})
    record(root, make_rows(events))
    found = convert(root)
    seen = found.report["observations"]
    examples = [(fault["row"], fault["reason"]) for fault in seen["examples"]]
    assert examples == [(FIRST_TICK + 1, reason)]
    assert seen["refused"] == {reason: 1}
    assert ticks_of(found) == [*ticks, 0, 1]
    assert found.report["transitions"]["n_gaps"] == (4 - len(ticks))


def test_payload_whose_bet_is_of_another_type(root):
    rows = make_rows(EVENTS)
    press = press_row(99, "BUY", "g1", 0, rows[FIRST_TICK])
    record(root, rows, [press | {"raw_json": json.dumps({**PRESS, "bet_amount": "0.01"})}])
    ((_, row, reason),) = (found := convert(root)).quarantine
    assert row == 0
    assert reason.startswith("bet_amount: ")
    assert not found.dataset.actions.any()


def capture_lines(rows):
    return [
        json.dumps({"seq": seq, "ts": iso_time(ts), "event": name, "data": data})
        for seq, (_, name, data, ts, _) in enumerate(rows)
    ]


def test_capture_cut_in_the_middle_of_a_game(root, tmp_path):
    path = tmp_path / "day.jsonl"
    lines = capture_lines(make_rows(EVENTS))
    path.write_text("\n".join(lines[:6]) + "\n" + lines[6][:40])
    report = import_capture(path, root)
    assert (report.n_lines, report.n_events) == (7, 6)
    ((number, reason),) = report.malformed
    assert number == 7
    assert "unterminated" in reason.lower()
    found = convert(root)
    batch = found.dataset.batch(np.arange(len(found.dataset)))
    assert batch.truncated.tolist() == [False, True]
    assert not batch.terminated.any()
    assert found.report["transitions"]["n_truncated"] == 1


def test_capture_of_which_the_compressed_stream_breaks_off(root, tmp_path):
    path = tmp_path / "day.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(capture_lines(make_rows(EVENTS))).encode())[:-60])
    report = import_capture(path, root)
    ((number, reason),) = report.malformed
    assert (number, reason) == (report.n_lines, "gzip stream ends early")
    found = convert(root)
    assert found.report["events"]["n_taken"] == report.n_events == report.n_lines - 1
    assert found.report["transitions"]["n_games"] > 0


def test_clock_that_goes_backwards(root, tmp_path):
    rows = make_rows(EVENTS)
    rows[5] = (*rows[5][:3], rows[5][3] - 10**12, None)
    path = tmp_path / "s.jsonl"
    path.write_text("\n".join(capture_lines(rows)))
    assert import_capture(path, root).n_backwards == 1
    found = convert(root)
    (example,) = found.report["observations"]["examples"]
    assert (example["row"], example["reason"]) == (5, "clock set back")
    assert found.report["observations"]["n_set_back"] == 1
    record(tmp_path / "sound", make_rows(EVENTS))
    one, other = (play.dataset for play in (found, convert(tmp_path / "sound")))
    for values, expected in zip(*(d.batch(np.arange(len(d))) for d in (one, other)), strict=True):
        assert np.array_equal(values, expected)


def test_two_sessions_of_one_game(root):
    one, two = make_rows(EVENTS, "one"), make_rows(EVENTS, "two")
    record(root, one, [press_row(99, "BUY", "g1", 2, one[FIRST_TICK + 2])])
    record(root, two)
    found = convert(root)
    games = found.dataset.games
    assert sorted(zip(games["session_id"], games["game_id"], strict=True)) == [
        ("one", "g1"),
        ("one", "g2"),
        ("two", "g1"),
        ("two", "g2"),
    ]
    assert len(np.unique(found.dataset.game_ids)) == 2
    chosen = found.dataset.column("game")[found.dataset.column("choice") > 0]
    assert games.loc[chosen, ["session_id", "game_id"]].to_numpy().tolist() == [["one", "g1"]]


def test_press_without_a_matching_tick(root):
    rows = make_rows(EVENTS)
    presses = [
        press_row(100, "BUY", "g1", 0, rows[3]),
        press_row(101, "BUY", "g1", 50, rows[4]),
        press_row(102, "BUY", "elsewhere", 1, rows[5]),
    ]
    record(root, rows, presses)
    found = convert(root)
    (path,) = folder_of(root, BUTTON_EVENT).iterdir()
    file = path.relative_to(root).as_posix()
    assert found.quarantine == [
        (file, 1, "no recorded tick near"),
        (file, 2, "no tick of its game was recorded"),
    ]
    fates = found.report["presses"]
    assert (fates["n_presses"], fates["used"], fates["no_tick"], fates["no_game"]) == (3, 1, 1, 1)
    assert np.flatnonzero(found.dataset.column("choice")).tolist() == [0]


def test_in_memory_and_on_disk_faults_are_the_same(root):
    rows = make_rows(EVENTS)
    rows[FIRST_TICK + 1] = (*rows[FIRST_TICK + 1][:4], "{")
    record(root, rows, [press_row(99, "SELL_33", "g1", 0, rows[FIRST_TICK])])
    on_disk = convert(root)
    generator = TrainingDataGenerator()
    in_memory = generator.from_parquet(root, root)
    assert json.loads(json.dumps(generator.report.to_json())) == on_disk.report
    assert np.array_equal(in_memory.actions, on_disk.dataset.actions)
