"""The event store's writer: what goes in comes out, whole files only."""

import signal
import subprocess
import sys
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftlib.sessions.event_rows import (
    COLUMNS,
    DECIMALS,
    RowError,
    decimal_text,
    decimal_texts,
    iso_time,
    iso_times,
    parse_time,
    parse_times,
)
from hftlib.sessions.reader import EventReader
from hftlib.sessions.store import EventWriter
from hftlib.sessions.vocabulary import BUTTON_EVENT, DIRECTIONS, DOC_TYPES, SOURCES, WS_EVENT
from tests.session_cases import (
    START,
    columns_of,
    files_of,
    folder_of,
    make_row,
    make_rows,
    read_rows,
    write_rows,
)

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
NUMBERS = st.decimals(allow_nan=False, allow_infinity=False).map(str) | st.floats(
    allow_nan=False, allow_infinity=False
).map(repr)
VALUES = {
    name: INT64 if kind == pa.int64() else NUMBERS if name in DECIMALS else TEXT
    for name, kind in COLUMNS.items()
}
FIXED = {
    "ts": st.integers(START, START + 3 * 86_400 * 10**9).map(iso_time),
    "source": st.sampled_from(SOURCES),
    "doc_type": st.sampled_from(DOC_TYPES[:4]),
    "session_id": st.just("s"),
    "direction": st.sampled_from(DIRECTIONS),
    "raw_json": TEXT,
}
ROWS = st.lists(
    st.fixed_dictionaries(
        {name: FIXED.get(name, VALUES[name]) for name in ("seq", "raw_json", *FIXED)},
        optional={name: VALUES[name] for name in COLUMNS if name not in ("seq", *FIXED)},
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=30)
@given(rows=ROWS, max_events=st.integers(1, 5))
def test_rows_come_back_as_they_went_in(tmp_path_factory, rows, max_events):
    root = tmp_path_factory.mktemp("store")
    write_rows(root, rows, max_events=max_events)
    reader = EventReader(root)
    for doc_type in {row["doc_type"] for row in rows}:
        wanted = [row for row in rows if row["doc_type"] == doc_type]
        assert read_rows(reader, doc_type) == wanted
    assert {kind for _, kind in reader.report.faults} <= {"unknown event name"}


def test_rows_and_columns_give_equal_files(tmp_path):
    rows = [make_row(k, doc_type=(WS_EVENT, BUTTON_EVENT)[k % 3 == 0]) for k in range(50)]
    write_rows(tmp_path / "rows", rows)
    with EventWriter(tmp_path / "columns", "s") as writer:
        writer.write_columns(columns_of(rows))
    assert files_of(tmp_path / "rows") == files_of(tmp_path / "columns")


def test_rows_and_columns_keep_their_order_when_mixed(tmp_path):
    rows = make_rows(30)
    with EventWriter(tmp_path, "s") as writer:
        writer.write(rows[0])
        writer.write_columns(columns_of(rows[1:20]))
        for row in rows[20:]:
            writer.write(row)
    assert [row["seq"] for row in read_rows(EventReader(tmp_path))] == list(range(30))


def test_same_recording_gives_the_same_files_and_replaces_itself(tmp_path):
    for root in ("a", "b", "b"):
        write_rows(tmp_path / root, make_rows(250))
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    assert len(files_of(tmp_path / "a")) == 3


def test_file_is_named_after_its_first_row(tmp_path):
    write_rows(tmp_path, make_rows(3))
    (file,) = folder_of(tmp_path).iterdir()
    assert file.name.startswith("20260102_030405_678901_")
    assert len(file.stem.rsplit("_", 1)[1]) == 8


def test_file_carries_schema_version_types_and_order_of_columns(tmp_path):
    write_rows(tmp_path, make_rows(3))
    (file,) = folder_of(tmp_path).iterdir()
    schema = pq.read_schema(file)
    assert schema.metadata[b"schema_version"] == b"1.0.0"
    assert dict(zip(schema.names, schema.types, strict=True)) == COLUMNS
    assert schema.names == list(COLUMNS) and len(COLUMNS) == 20


def test_buffer_is_flushed_when_full_or_old(tmp_path):
    now = [0.0]
    writer = EventWriter(tmp_path, "s", max_events=4, max_seconds=5.0, clock=lambda: now[0])
    counts = []
    for row, moment in zip(make_rows(9), (0, 1, 2, 3, 10, 14, 15, 15, 15), strict=True):
        now[0] = moment
        writer.write(row)
        counts.append(len(files_of(tmp_path)))
    assert counts == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    writer.close()
    assert len(files_of(tmp_path)) == 3


def test_leaving_by_an_error_flushes(tmp_path):
    with pytest.raises(KeyError), EventWriter(tmp_path, "s") as writer:
        writer.write(make_row(0))
        raise KeyError
    assert read_rows(EventReader(tmp_path)) == [make_row(0)]


def test_days_and_document_types_have_files_of_their_own(tmp_path):
    day = 86_400 * 10**9
    rows = [make_row(k, ts=iso_time(START + k * day // 2)) for k in range(4)]
    rows.append(make_row(4, ts=iso_time(START), doc_type=BUTTON_EVENT))
    write_rows(tmp_path, rows)
    names = [name.rsplit("/", 1)[0] for name in files_of(tmp_path / "events_parquet")]
    assert names == [
        "doc_type=button_event/date=2026-01-02",
        "doc_type=ws_event/date=2026-01-02",
        "doc_type=ws_event/date=2026-01-03",
    ]


def test_clock_set_back_keeps_the_order_of_rows(tmp_path):
    moments = [5, 6, 1, 2, 6, 7, 0, 8]
    day = 86_400 * 10**9
    rows = [make_row(k, ts=iso_time(START + m * day // 4)) for k, m in enumerate(moments)]
    write_rows(tmp_path, rows, max_events=2)
    assert [row["seq"] for row in read_rows(EventReader(tmp_path))] == list(range(8))


def test_writers_of_different_sessions_share_a_root(tmp_path):
    with EventWriter(tmp_path, "a", max_events=7) as a, EventWriter(tmp_path, "b") as b:
        for seq in range(60):
            a.write(make_row(seq, "a"))
            b.write(make_row(seq, "b"))
    reader = EventReader(tmp_path)
    for session in "ab":
        assert read_rows(reader, session_ids=[session]) == make_rows(60, session)


def test_file_of_another_session_is_never_replaced(tmp_path):
    write_rows(tmp_path / "b", make_rows(5, "b"))
    write_rows(tmp_path / "a", make_rows(5, "a"))
    (name,) = files_of(tmp_path / "b")
    (other,) = files_of(tmp_path / "a").values()
    (tmp_path / "b" / name).write_bytes(other)  # as if both hashed to the same digits
    write_rows(tmp_path / "b", make_rows(5, "b"))
    rows = read_rows(EventReader(tmp_path / "b"))
    assert sorted(row["session_id"] for row in rows) == ["a"] * 5 + ["b"] * 5


def test_rows_wait_when_the_disk_refuses(tmp_path):
    (tmp_path / "events_parquet").write_text("in the way")
    writer = EventWriter(tmp_path, "s")
    writer.write_columns(columns_of([make_row(k) for k in range(10)]))
    with pytest.raises(OSError, match="events_parquet"):
        writer.flush()
    (tmp_path / "events_parquet").unlink()
    writer.write(make_row(10))
    writer.close()
    assert read_rows(EventReader(tmp_path)) == make_rows(11)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"doc_type": "ws_events"}, "doc_type: 'ws_events': expected one of ws_event"),
        ({"source": "telepathy"}, "source: 'telepathy'"),
        ({"direction": "up"}, "direction: 'up'"),
        ({"seq": None}, "seq is missing"),
        ({"ts": None}, "ts is missing"),
        ({"doc_type": None}, "doc_type is missing"),
        ({"session_id": None}, "session_id is missing"),
        ({"session_id": "t"}, "session_id: 't': this writer is of 's'"),
        ({"seq": 1.5}, "seq"),
        ({"seq": True}, "seq"),
        ({"seq": "7"}, "seq"),
        ({"tick": 2**63}, "tick"),
        ({"raw_json": {"event": "connect"}}, "raw_json"),
        ({"raw_json": b"{}"}, "raw_json"),
        ({"username": "\ud800"}, "username"),
        ({"price": "1,5"}, "price: '1,5': expected a finite number"),
        ({"price": float("nan")}, "price: nan"),
        ({"cash": Decimal("Infinity")}, "cash"),
        ({"cash": "1\n"}, "cash"),
        ({"position_qty": True}, "position_qty"),
        ({"ts": "2026-01-02T03:04:05"}, "ts: '2026-01-02T03:04:05': expected 2026"),
        ({"ts": "2026-02-30T03:04:05.000000+00:00"}, "is no time"),
        ({"ts": "3026-02-20T03:04:05.000000+00:00"}, "is no time"),
        ({"ts": "2026-01-02T03:04:05.000000+00:00\n"}, "ts"),
        ({"evnt_name": "x"}, "evnt_name is no column of the store; did you mean event_name?"),
    ],
)
def test_wrong_row_is_refused_by_name_and_leaves_no_trace(tmp_path, changes, complaint):
    good = make_rows(3)
    bad = make_row(9) | changes
    with EventWriter(tmp_path, "s") as writer:
        writer.write(good[0])
        with pytest.raises(RowError) as refusal:
            writer.write(bad)
        assert complaint in str(refusal.value)
        names = list(dict.fromkeys([*good[0], *bad]))
        rows = [good[1], bad]
        with pytest.raises(RowError) as refusal:
            writer.write_columns({name: [row.get(name) for row in rows] for name in names})
        assert next(iter(changes)) in str(refusal.value)
        writer.write_columns(columns_of(good[1:]))
    assert read_rows(EventReader(tmp_path)) == good


def test_columns_of_different_lengths_are_refused(tmp_path):
    with EventWriter(tmp_path, "s") as writer, pytest.raises(RowError, match="different lengths"):
        writer.write_columns({**columns_of(make_rows(3)), "tick": [1, 2]})


def test_closed_writer_takes_no_rows(tmp_path):
    writer = EventWriter(tmp_path, "s")
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.write(make_row(0))
    assert not files_of(tmp_path)


DYING = """
import os, signal, sys
import hftlib.sessions.store as store
from tests.session_cases import make_row

moment, root, lives = sys.argv[1], sys.argv[2], int(sys.argv[3])

def die_in(owner, name, before):
    inner, n_calls = getattr(owner, name), [0]
    def call(*args, **settings):
        n_calls[0] += 1
        if n_calls[0] > lives:
            before(*args)
            os.kill(os.getpid(), signal.SIGKILL)
        return inner(*args, **settings)
    setattr(owner, name, call)

def write_half(table, stream, **settings):
    stream.write(b"PAR1" + bytes(500))
    stream.flush()

if moment == "writing":
    die_in(store.pq, "write_table", write_half)
elif moment == "syncing":
    die_in(store.os, "fsync", lambda *args: None)
else:
    die_in(store.Path, "replace", lambda *args: None)
with store.EventWriter(root, "s", max_events=20) as writer:
    for seq in range(1000):
        os.write(1, b"x")
        writer.write(make_row(seq))
"""


@pytest.mark.parametrize(("moment", "lives"), [("writing", 0), ("syncing", 2), ("renaming", 3)])
def test_killed_writer_loses_its_buffer_and_nothing_else(tmp_path, moment, lives):
    child = subprocess.run(
        [sys.executable, "-c", DYING, moment, str(tmp_path), str(lives)],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": ":".join(sys.path)},
        check=False,
    )
    assert child.returncode == -signal.SIGKILL
    assert len(child.stdout) == 20 * (lives + 1)
    left = list(tmp_path.rglob("*.parquet"))
    assert len(left) == lives and all(pq.read_metadata(file).num_rows == 20 for file in left)
    assert len(list(tmp_path.rglob("*.tmp"))) == 1
    write_rows(tmp_path, make_rows(20, "t"))
    reader = EventReader(tmp_path)
    assert read_rows(reader, session_ids=["s"]) == make_rows(20 * lives)
    assert not reader.report.faults


def test_recording_again_clears_what_a_killed_writer_left(tmp_path):
    write_rows(tmp_path, make_rows(5))
    (file,) = folder_of(tmp_path).iterdir()
    file.rename(file.with_suffix(".tmp"))
    write_rows(tmp_path, make_rows(5))
    assert list(folder_of(tmp_path).iterdir()) == [file]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_decimal_text_of_a_float_reads_back_to_it(value):
    text = decimal_text(value)
    assert text == repr(value) and float(text) == value
    assert decimal_texts(np.array([value])).to_pylist() == [text]


@given(st.decimals(allow_nan=False, allow_infinity=False), st.integers())
def test_decimal_text_changes_no_digit(value, count):
    assert decimal_text(value) == str(value) and decimal_text(str(value)) == str(value)
    assert int(decimal_text(count)) == count
    assert decimal_texts(pa.array([str(value), None])).to_pylist() == [str(value), None]


@pytest.mark.parametrize("text", ["", "-", ".", "1_0", " 1", "1e", "٣", "nan", "Infinity", "0x1"])
def test_text_that_is_no_decimal_is_refused(text):
    with pytest.raises(ValueError, match="finite number"):
        decimal_text(text)
    with pytest.raises(ValueError, match="finite number"):
        decimal_texts(pa.array(["1", text]))


@given(st.lists(st.integers(-(2**62), 2**62), max_size=5))
def test_times_read_back_to_the_microsecond(ns):
    texts = iso_times(np.array(ns, dtype=np.int64))
    assert parse_times(texts).tolist() == [moment // 1000 * 1000 for moment in ns]
    assert [iso_time(moment) for moment in ns] == texts.to_pylist()


def test_times_of_any_zone_and_of_none_are_read():
    texts = [
        "2026-01-02T03:04:05.678901+00:00",
        "2026-01-02T03:04:05.678901",
        "2026-01-02 03:04:05.678901Z",
        "2026-01-02T04:04:05.678901+01:00",
        "2026-01-01T22:04:05.678901000-0500",
    ]
    assert parse_times(pa.array(texts)).tolist() == [START] * len(texts)
    assert [parse_time(text) for text in texts] == [START] * len(texts)


def test_row_of_a_text_that_is_no_time_is_named():
    with pytest.raises(ValueError, match="row 1: 'noon' is no time"):
        parse_times(pa.array(["2026-01-02T03:04:05Z", "noon"]))
    with pytest.raises(ValueError, match="row 0"):
        parse_times(pa.array([None], pa.string()))
