"""Import of captures: every line accounted for, no digit changed."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftlib.sessions.captures import import_capture, split_object
from hftlib.sessions.conversion import write_transitions
from hftlib.sessions.dataset import TransitionDataset
from hftlib.sessions.reader import EventReader
from hftlib.sessions.vocabulary import OBSERVED_EVENTS
from hftlib.sessions.wire import read_event, unwrap
from tests.conftest import SHARED_DATA
from tests.session_cases import files_of, read_rows

TRACE = {"__trace": True, "traceparent": "00-ab-cd-01"}
PUBLIC = SHARED_DATA / "sessions/capture_public_2025-12-12.jsonl.gz"
AUTHENTICATED = SHARED_DATA / "sessions/capture_authenticated_2025-12-15.jsonl.gz"
needs_captures = pytest.mark.skipif(
    not (PUBLIC.exists() and AUTHENTICATED.exists()), reason=f"no captures in {SHARED_DATA}"
)


def line(seq, event="gameStateUpdate", data=None, second=0, **changes):
    fields = {"seq": seq, "ts": f"2025-12-12T17:00:{second:02d}.5+00:00", "event": event}
    return json.dumps({**fields, "data": {"gameId": "g"} if data is None else data, **changes})


def import_lines(tmp_path, lines, **settings):
    path = tmp_path / "day.jsonl"
    path.write_bytes(b"\n".join(t if isinstance(t, bytes) else t.encode() for t in lines))
    report = import_capture(path, tmp_path / "store", **settings)
    assert report.n_lines == report.n_events + report.n_blank + len(report.malformed)
    return report


def stored(tmp_path):
    return read_rows(EventReader(tmp_path / "store"))


@needs_captures
@pytest.mark.parametrize("path", [PUBLIC, AUTHENTICATED])
def test_real_capture_is_stored_line_by_line_and_digit_by_digit(tmp_path, path):
    report = import_capture(path, tmp_path)
    with gzip.open(path, "rt") as stream:
        lines = stream.read().splitlines()
    rows = read_rows(EventReader(tmp_path))
    assert report.n_lines == report.n_events == len(lines) == len(rows)
    assert not report.malformed and not report.n_blank and not report.unknown_events
    for text, row in zip(lines, rows, strict=True):
        event = json.loads(text, parse_float=str, parse_int=str)
        wanted = {"event": event["event"], "data": event["data"]}
        assert json.loads(row["raw_json"], parse_float=str, parse_int=str) == wanted
        assert str(row["seq"]) == event["seq"]
        assert row["ts"][:26] == event["ts"][:26] and row["ts"][26:] == "+00:00"
        assert "tick" not in row and "price" not in row


@needs_captures
def test_public_capture_is_counted(tmp_path):
    report = import_capture(PUBLIC, tmp_path)
    assert report.session_id == "capture_public_2025-12-12"
    assert report.events == {"gameStateUpdate": 510, "standard/newTrade": 31, "connect": 1}
    assert (report.n_lists, report.n_lost, report.n_naive) == (31, 0, 542)
    assert (report.n_seq_missing, report.n_backwards, report.n_seq_repeated) == (12, 0, 0)
    rows = read_rows(EventReader(tmp_path))
    assert {row["source"] for row in rows} == {"public_ws"}
    assert {row["direction"] for row in rows} == {"received"}
    assert all("player_id" in row for row in rows if row["event_name"] == "standard/newTrade")
    assert all("game_id" in row for row in rows if row["event_name"] == "gameStateUpdate")


@needs_captures
def test_authenticated_capture_is_counted(tmp_path):
    report = import_capture(AUTHENTICATED, tmp_path, session_id="mine")
    assert report.events["playerUpdate"] == 3 and report.n_events == 403
    # newTrade, sidebetEventUpdate, goldenHourUpdate, usernameStatus and two more: traces alone
    assert (report.n_lists, report.n_lost, report.n_naive) == (0, 14 + 4 + 3 + 2 + 1 + 1, 0)
    rows = read_rows(EventReader(tmp_path), session_ids=["mine"])
    assert {row["source"] for row in rows} == {"cdp"}
    assert [row["event_name"] for row in rows if row["direction"] == "sent"] == [
        "getPlayerLeaderboardPosition"
    ]
    own = {row["player_id"] for row in rows if row["event_name"] == "playerUpdate"}
    assert len(own) == 1 and own.pop().startswith("p_")


@needs_captures
@pytest.mark.parametrize(
    ("path", "n_lines", "n_observed", "n_ticks", "last_ticks"),
    [(PUBLIC, 542, 510, 243, [229, 16]), (AUTHENTICATED, 403, 376, 100, [99])],
)
def test_real_capture_becomes_transitions(tmp_path, path, n_lines, n_observed, n_ticks, last_ticks):
    report = import_capture(path, tmp_path / "store")
    assert report.n_lines == report.n_events == n_lines
    found = write_transitions(tmp_path / "store", tmp_path / "play")
    # the others say nothing of what a player sees: trades, connections, notices
    assert found.events.n_taken == n_observed
    assert found.events.n_taken == sum(report.events[name] for name in OBSERVED_EVENTS)
    assert not found.events.faults and not found.events.unknown_events
    assert not found.observations.refused and not found.observations.examples
    assert found.observations.n_kept == found.transitions.n_ticks == n_ticks
    assert found.transitions.n_gaps == found.transitions.n_late == 0
    dataset = TransitionDataset.open(tmp_path / "play")
    assert dataset.games["last_tick"].tolist() == last_ticks
    assert dataset.games["is_terminated"].all()
    assert len(dataset) == n_ticks - len(last_ticks)
    for values in dataset.batch(np.arange(len(dataset))):
        assert np.isfinite(values).all()


@needs_captures
def test_capture_imported_again_replaces_itself(tmp_path):
    import_capture(PUBLIC, tmp_path)
    before = files_of(tmp_path)
    import_capture(PUBLIC, tmp_path)
    assert files_of(tmp_path) == before


def test_line_that_is_no_event_is_reported_by_number(tmp_path):
    bad = {
        "{": "",
        "[1]": "no JSON object",
        '{"seq": 1} x': "no JSON object",
        '{"seq": 1,}': "",
        "{}": "",
        '{"a": NaN}': "NaN is no JSON",
        '{"seq": 1, "ts": "2025-12-12T17:00:00"}': "expected a name",
        line(1, ts="yesterday"): "'yesterday' is no time",
        line(1, ts=7): "ts is 7",
        line("1"): "seq is '1'",
        line(True): "seq is True",
        line(2**63): "seq is",
        line(1, source=["cdp"]): "source is ['cdp']",
        line(1, direction="up"): "direction is 'up'",
        line(1, event="\ud800"): "surrogates",
        b'{"seq": 1, "\xff": 2}': "utf-8",
        '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}": "recursion",
    }
    lines = [line(0), *bad, "", "  \r", line(1)]
    report = import_lines(tmp_path, lines)
    assert [number for number, _ in report.malformed] == list(range(2, 2 + len(bad)))
    for (_, reason), wanted in zip(report.malformed, bad.values(), strict=True):
        assert wanted in reason
    assert (report.n_blank, report.n_events) == (2, 2)
    assert [row["seq"] for row in stored(tmp_path)] == [0, 1]


def test_oddities_are_counted_and_kept_in_order(tmp_path):
    def tick(n):
        return {"gameId": "g", "tickCount": n}

    lines = [
        line(1, data=tick(1), second=5),
        line(2, data=tick(1), second=4),
        line(7, data=tick(2), second=6, ts="2025-12-12T17:00:06"),
        line(7, event="lottery", second=5),
        line(8, event="standard/newTrade", data=[TRACE, {"gameId": "g", "playerId": "p"}]),
        line(9, event="standard/newTrade", data=[TRACE]),
        line(10, event="standard/newTrade", data=TRACE, source=None, direction=None),
        line(11, event="playerUpdate", data={"id": "me"}, second=9, source="cdp_intercept"),
    ]
    report = import_lines(tmp_path, lines)
    assert report.n_duplicate_ticks == 1
    assert report.n_naive == 1
    assert report.n_backwards == 5
    assert (report.n_seq_gaps, report.n_seq_missing, report.n_seq_repeated) == (1, 4, 1)
    assert report.unknown_events == {"lottery": 1}
    assert (report.n_lists, report.n_lost) == (2, 2)
    rows = stored(tmp_path)
    assert [row["seq"] for row in rows] == [1, 2, 7, 7, 8, 9, 10, 11]
    assert [row.get("player_id") for row in rows[4:]] == ["p", None, None, "me"]
    assert [row["source"] for row in rows[6:]] == ["public_ws", "cdp"]


def test_capture_cut_off_keeps_the_lines_before(tmp_path):
    lines = "\n".join(line(seq, data={"x": "y" * 99 * seq}) for seq in range(500)).encode()
    path = tmp_path / "day.jsonl.gz"
    path.write_bytes(gzip.compress(lines)[:-900])
    report = import_capture(path, tmp_path / "store")
    ((number, reason),) = report.malformed
    assert reason == "gzip stream ends early" and number == report.n_lines
    assert report.n_events == report.n_lines - 1 == len(stored(tmp_path)) > 0


DIGITS = r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?"


@settings(max_examples=20)
@given(st.lists(st.from_regex(DIGITS, fullmatch=True), min_size=1, max_size=5))
def test_numbers_keep_their_digits(tmp_path_factory, numbers):
    tmp_path = tmp_path_factory.mktemp("capture")
    data = "[" + " ,".join(numbers) + "]"
    text = f'{{"ts":"2025-12-12T17:00:00Z", "data" : {data}, "seq":1,"event":"x"}}'
    import_lines(tmp_path, [text])
    (row,) = stored(tmp_path)
    assert row["raw_json"] == f'{{"event": "x", "data": {data}}}'


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(), part, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(), JSON, min_size=1, max_size=4),
    st.sampled_from([None, 1, 4]),
    st.booleans(),
)
def test_object_is_split_as_json_reads_it(fields, indent, ascii_only):
    text = json.dumps(fields, indent=indent, ensure_ascii=ascii_only)
    parts = split_object(text)
    assert {name: value for name, (value, _) in parts.items()} == json.loads(text)
    assert {name: json.loads(raw) for name, (_, raw) in parts.items()} == json.loads(text)


@given(st.text(alphabet='{}[]":,0a \n') | st.text())
def test_text_is_an_object_exactly_where_json_says_so(text):
    try:
        is_object = isinstance(json.loads(text), dict) and json.loads(text) != {}
    except ValueError:
        is_object = False
    try:
        split_object(text)
    except ValueError:
        assert not is_object
    else:
        assert is_object


@pytest.mark.parametrize(
    ("data", "name", "payload", "is_lost"),
    [
        ({"a": 1}, "playerUpdate", {"a": 1}, False),
        ([TRACE, {"a": 1}], "standard/newTrade", {"a": 1}, False),
        ([{"a": 1}, {"a": 2}, TRACE], "standard/newTrade", {"a": 2}, False),
        ([TRACE], "standard/newTrade", None, True),
        (TRACE, "usernameStatus", None, True),
        (None, "playerUpdate", None, True),
        ([], "playerUpdate", None, True),
        (None, "connect", None, False),
        ("transport close", "disconnect", None, False),
    ],
)
def test_payload_is_the_last_object_without_a_trace(data, name, payload, is_lost):
    assert unwrap(data, name) == (payload, is_lost)


def test_events_of_every_shape_read_alike():
    flat = {"game_id": "g", "tick": 3, "price": 1.5, "rugged": False}
    wire = {"gameId": "g", "tickCount": 3, "price": 1.5, "rugged": False}
    for event in (
        flat,
        {"event": "gameStateUpdate", "data": wire},
        {"event_name": "gameStateUpdate", "data": wire},
        {"event_name": "gameStateUpdate", "data": flat},
        {"event": "gameStateUpdate", "data": [TRACE, wire]},
    ):
        assert read_event(event) == ("gameStateUpdate", wire)
    assert read_event({"event": "connect", "data": None}) == ("connect", None)


def test_event_of_no_shape_is_refused():
    with pytest.raises(ValueError, match="keys \\['tick'\\]: expected event or event_name"):
        read_event({"tick": 3})
