"""Presses of buttons read from a store: what is refused, and the order of the rest."""

import json

import pytest

from hftlib.sessions.event_rows import iso_time
from hftlib.sessions.presses import BUTTONS, NEVER, load_presses, no_presses
from hftlib.sessions.reader import EventReader
from hftlib.sessions.store import EventWriter
from tests.wire_events import START_NS


def button_row(seq, **changes):
    """A BUY on tick 1 of g1, as the store has it, with some fields of its JSON changed."""
    payload = {
        "game_phase": 2,
        "bet_amount": 0.01,
        "server_ts": None,
        "execution_tick": None,
        "execution_price": None,
        "latency_ms": None,
        **changes.pop("payload", {}),
    }
    row = {
        "seq": seq,
        "ts": iso_time(START_NS + seq * 10**6),
        "doc_type": "button_event",
        "session_id": "s",
        "game_id": "g1",
        "tick": 1,
        "button_id": "BUY",
        "raw_json": json.dumps(payload),
    }
    return row | changes


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"button_id": "SELL_33"}, "unknown button"),
        ({"button_id": None}, "unknown button"),
        ({"game_id": None}, "without game"),
        ({"game_id": ""}, "without game"),
        ({"tick": None}, "tick is no count"),
        ({"tick": -1}, "tick is no count"),
        ({"tick": 2**24}, "tick is no count"),
        ({"raw_json": '{"game_phase": 2'}, "cut or malformed JSON"),
        ({"raw_json": '{"game_phase": 2}'}, "bet_amount: "),
        ({"payload": {"bet_amount": "0.01"}}, "bet_amount: "),
        ({"payload": {"bet_amount": -1}}, "bet_amount: "),
        ({"payload": {"bet_amount": float("nan")}}, "bet_amount: "),
        ({"payload": {"game_phase": 4}}, "game_phase: "),
        ({"payload": {"server_ts": "noon"}}, "server_ts: "),
        ({"payload": {"server_ts": "9999-01-01T00:00:00+00:00"}}, "server_ts: beyond"),
        ({"payload": {"execution_tick": 10**30}}, "execution_tick: "),
        ({"payload": {"execution_tick": 3}}, "execution without tick, price or answer"),
    ],
)
def test_bad_press_leaves_with_file_row_and_reason(tmp_path, changes, reason):
    with EventWriter(tmp_path, "s") as writer:
        writer.write(button_row(0))
        writer.write(button_row(1, **changes))
        writer.write(button_row(2, button_id="SELL"))
    presses = load_presses(EventReader(tmp_path))
    assert [BUTTONS[code] for code in presses.button] == ["BUY", "SELL"]
    ((file, row, found),) = presses.refused
    assert row == 1
    assert found.startswith(reason)
    assert presses.files == (file,)


def test_press_recorded_twice_counts_once(tmp_path):
    with EventWriter(tmp_path, "s") as writer:
        for seq in (0, 0, 1):
            writer.write(button_row(seq))
        writer.write(button_row(2, ts=iso_time(START_NS)))  # again, under another number
    presses = load_presses(EventReader(tmp_path))
    assert presses.count_refused() == {"recorded twice": 2}
    assert len(presses) == 2


def test_presses_keep_the_order_of_recording_when_the_clock_is_set_back(tmp_path):
    with EventWriter(tmp_path, "s") as writer:
        for seq, offset in enumerate([0, 5, 2, 7]):
            writer.write(button_row(seq, ts=iso_time(START_NS + offset * 10**9), tick=seq))
    reader = EventReader(tmp_path)
    presses = load_presses(reader)
    assert presses.tick.tolist() == [0, 1, 2, 3]
    assert ((presses.ts_ns - presses.ts_ns[0]) // 10**9).tolist() == [0, 5, 5, 7]
    assert presses.set_back.tolist() == [2]
    assert reader.report.describe() == [f"{presses.files[0]}: clock set back: 1 rows, first 2"]


def test_answered_press_has_its_execution_and_an_unanswered_one_none(tmp_path):
    answer = {"server_ts": iso_time(START_NS + 10**8), "latency_ms": 100.5}
    done = {"execution_tick": 2, "execution_price": 1.25}
    with EventWriter(tmp_path, "s") as writer:
        writer.write(button_row(0, payload=answer | done))
        writer.write(button_row(1))
    presses = load_presses(EventReader(tmp_path))
    assert presses.server_ns.tolist() == [START_NS // 1000 * 1000 + 10**8, NEVER]
    assert presses.execution_tick.tolist() == [2, -1]
    assert (presses.execution_price[0], presses.latency_ms[0]) == (1.25, 100.5)


def test_sessions_lie_together_whichever_was_read_first(tmp_path):
    for session, seqs in (("b", [1, 2]), ("a", [0, 3])):
        with EventWriter(tmp_path, session, max_events=1) as writer:
            for seq in seqs:
                writer.write(button_row(seq, session_id=session, tick=seq))
    presses = load_presses(EventReader(tmp_path))
    assert presses.starts.tolist() == [0, 2, 4]
    spans = zip(presses.session_ids, presses.starts, presses.starts[1:], strict=False)
    assert {name: presses.tick[a:b].tolist() for name, a, b in spans} == {"a": [0, 3], "b": [1, 2]}


def test_no_presses_are_none():
    presses = no_presses()
    assert len(presses) == 0
    assert presses.starts.tolist() == [0]
