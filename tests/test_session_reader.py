"""The event store's reader: filters, order, bounded memory, faults that cost only themselves."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hftlib.sessions.reader as reader_module
from hftlib.sessions.event_rows import COLUMNS, SCHEMA, iso_time
from hftlib.sessions.reader import EventReader
from hftlib.sessions.store import EventWriter
from hftlib.sessions.vocabulary import BUTTON_EVENT, WS_EVENT
from tests.session_cases import (
    START,
    columns_of,
    folder_of,
    make_row,
    make_rows,
    read_rows,
    write_parquet,
    write_rows,
)

NAMES = ("gameStateUpdate", "playerUpdate", "connect")


def kinds(reader: EventReader) -> dict[str, str]:
    """What is odd, by the file's last part."""
    return {file.rsplit("/", 1)[-1]: kind for file, kind in reader.report.faults}


@settings(max_examples=25)
@given(
    names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=60),
    wanted=st.none() | st.lists(st.sampled_from(NAMES), max_size=2),
    games=st.none() | st.lists(st.sampled_from(["g00000", "g00003", "other"]), max_size=2),
    batch_rows=st.integers(1, 20),
    group=st.integers(1, 20),
)
def test_filters_keep_exactly_the_rows_that_match_and_their_numbers(
    tmp_path_factory, names, wanted, games, batch_rows, group
):
    rows = [make_row(seq, event_name=name) for seq, name in enumerate(names)]
    path = write_parquet(folder_of(tmp_path_factory.mktemp("s")) / "x.parquet", rows, group)
    reader = EventReader(path)
    found = []
    for batch in reader.batches(
        doc_type=WS_EVENT,
        event_names=wanted,
        game_ids=games,
        columns=["game_id", "seq"],
        batch_rows=batch_rows,
    ):
        assert batch.table.schema.names == ["game_id", "seq"]
        assert 0 < len(batch.table) <= batch_rows
        assert batch.first_row == batch.row_number(0)
        for index, seq in enumerate(batch.table["seq"].to_pylist()):
            assert batch.row_number(index) == seq
            found.append(seq)
    assert found == [
        row["seq"]
        for row in rows
        if (wanted is None or row["event_name"] in wanted)
        and (games is None or row["game_id"] in games)
    ]
    report = reader.report
    assert report.n_taken == len(found) and report.n_rows + report.n_passed_over == len(rows)


def test_row_groups_that_cannot_match_are_not_decoded(tmp_path):
    path = write_parquet(folder_of(tmp_path) / "x.parquet", make_rows(1000), row_group_size=100)
    reader = EventReader(path)
    assert [row["seq"] for row in read_rows(reader, game_ids=["g00034"])] == [*range(340, 350)]
    assert (reader.report.n_rows, reader.report.n_passed_over) == (100, 900)


def test_only_the_document_type_asked_for_is_opened(tmp_path):
    write_rows(tmp_path, [make_row(k, doc_type=(WS_EVENT, BUTTON_EVENT)[k % 2]) for k in range(9)])
    reader = EventReader(tmp_path)
    assert [row["seq"] for row in read_rows(reader, BUTTON_EVENT)] == [1, 3, 5, 7]
    assert reader.report.n_files == 1


def test_files_are_read_in_order_of_time_across_days(tmp_path):
    day = 86_400 * 10**9
    rows = [make_row(k, ts=iso_time(START + k * day // 3)) for k in range(12)]
    write_rows(tmp_path, rows, max_events=2)
    assert read_rows(EventReader(tmp_path)) == rows


def test_source_may_be_a_root_a_folder_a_file_or_a_glob(tmp_path):
    write_rows(tmp_path, make_rows(5))
    write_parquet(tmp_path / "derived/games.parquet", make_rows(1))
    folder = folder_of(tmp_path)
    (file,) = folder.iterdir()
    globs = [f"{tmp_path}/**/*.parquet", f"{tmp_path}/**/doc_type=ws_event/**/*.parquet"]
    for source in (tmp_path, str(tmp_path), folder, file, f"{folder}/2026*.parquet", globs[1]):
        assert read_rows(EventReader(source)) == make_rows(5)
    batch = next(EventReader(globs[1]).batches(doc_type=WS_EVENT, columns=["seq"]))
    assert batch.file == file.relative_to(tmp_path).as_posix()
    assert len(read_rows(EventReader(globs[0]))) == 6


@pytest.mark.parametrize("source", ["", "nowhere", "**/*.parquet", "empty.parquet"])
def test_source_without_a_file_says_what_was_expected(tmp_path, source):
    with pytest.raises(FileNotFoundError, match="no Parquet file; expected a folder"):
        EventReader(tmp_path / source)


@pytest.mark.parametrize(
    "query",
    [
        {"doc_type": "events", "columns": ["seq"]},
        {"doc_type": WS_EVENT, "columns": ["sqe"]},
        {"doc_type": WS_EVENT, "columns": []},
        {"doc_type": WS_EVENT, "columns": ["seq"], "batch_rows": 0},
    ],
)
def test_wrong_query_is_refused_before_anything_is_read(tmp_path, query):
    write_rows(tmp_path, make_rows(1))
    with pytest.raises(ValueError, match="expected"):
        EventReader(tmp_path).batches(**query)


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip(data: bytes) -> bytes:
    at = len(data) // 3
    return data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :]


DAMAGES = {"empty": lambda _: b"", "text": lambda _: b"seq,ts\n", "cut": cut, "flipped": flip}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_is_named_and_the_rest_is_read(tmp_path, damage):
    write_rows(tmp_path, make_rows(300))
    second = sorted(folder_of(tmp_path).iterdir())[1]
    second.write_bytes(DAMAGES[damage](second.read_bytes()))
    reader = EventReader(tmp_path)
    assert read_rows(reader) == [*make_rows(100), *make_rows(300)[200:]]
    ((name, kind),) = kinds(reader).items()
    assert name == second.name and kind.startswith("unreadable: ")
    assert reader.report.n_files == 3


@pytest.fixture(scope="module")
def two_files(tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    write_rows(root, make_rows(200))
    return root, *((path, path.read_bytes()) for path in sorted(folder_of(root).iterdir()))


@settings(max_examples=40)
@given(place=st.integers(0, 10**6), change=st.integers(1, 255))
def test_no_wrong_byte_reaches_beyond_its_file(two_files, place, change):
    root, _, (path, data) = two_files
    at = place % len(data)
    path.write_bytes(data[:at] + bytes([data[at] ^ change]) + data[at + 1 :])
    reader = EventReader(root)
    rows = read_rows(reader)
    assert rows[:100] == make_rows(100)
    assert len(rows) == 200 or reader.report.faults


def test_file_that_vanishes_while_reading_is_reported(tmp_path):
    write_rows(tmp_path, make_rows(200))
    second = sorted(folder_of(tmp_path).iterdir())[1]
    reader = EventReader(tmp_path)
    batches = reader.batches(doc_type=WS_EVENT, columns=["seq"])
    next(batches)
    second.unlink()
    assert list(batches) == []
    assert kinds(reader)[second.name].startswith("unreadable: ")


def test_left_over_temporaries_are_passed_over(tmp_path):
    write_rows(tmp_path, make_rows(5))
    for name in (".x.parquet", "20260102_030405_678901_00000000.tmp", "notes.txt"):
        (folder_of(tmp_path) / name).write_bytes(b"PAR1 and half of a file")
    reader = EventReader(tmp_path)
    assert read_rows(reader) == make_rows(5)
    assert not reader.report.faults


def write_with(root, changes, drop=()):
    """Five rows beside five good ones, with columns changed or dropped."""
    write_rows(root, make_rows(5))
    table = pa.table(columns_of(make_rows(5)), schema=SCHEMA).drop_columns(list(drop))
    for name, array in changes.items():
        index = table.schema.get_field_index(name)
        table = (
            table.append_column(name, array) if index < 0 else table.set_column(index, name, array)
        )
    pq.write_table(table, folder_of(root) / "z.parquet")


@pytest.mark.parametrize(
    ("changes", "drop", "kind", "n_read"),
    [
        ({"colour": pa.array(["red"] * 5)}, (), "extra column colour", 10),
        ({}, ("username",), "column username stands 0 times", 10),
        ({}, ("raw_json",), "raw_json is null: 5 rows, first 0", 5),
        ({"tick": pa.array([1.5] * 5)}, (), "column tick holds double", 10),
        ({"seq": pa.array(["1"] * 5)}, (), "seq is null: 5 rows, first 0", 5),
        ({"seq": pa.array([0, 1, None, 3, 4])}, (), "seq is null: 1 rows, first 2", 9),
        (
            {"ts": pa.array([make_row(0)["ts"]] * 3 + ["noon", "2026-02-30T00:00:00Z"])},
            (),
            "ts is no time: 2 rows, first 3",
            8,
        ),
        (
            {"doc_type": pa.array([WS_EVENT, BUTTON_EVENT] + [WS_EVENT] * 3)},
            (),
            "doc_type is not the folder's: 1 rows, first 1",
            9,
        ),
        ({}, ("doc_type",), "column doc_type stands 0 times", 10),
        ({"colour": pa.array(["red"] * 5)}, tuple(COLUMNS), "column seq stands 0 times", 5),
    ],
)
def test_departure_from_the_schema_is_counted_and_costs_only_what_it_touches(
    tmp_path, changes, drop, kind, n_read
):
    write_with(tmp_path, changes, drop)
    reader = EventReader(tmp_path)
    rows = read_rows(reader)
    assert len(rows) == n_read
    assert all(row["doc_type"] == WS_EVENT for row in rows)
    assert any(line.endswith(f"z.parquet: {kind}") for line in reader.report.describe())


def test_narrow_integers_and_dictionaries_are_no_departure(tmp_path):
    rows = make_rows(5)
    changes = {
        "seq": pa.array(range(5), pa.int16()),
        "event_name": pa.array([row["event_name"] for row in rows]).dictionary_encode(),
        "raw_json": pa.array([row["raw_json"] for row in rows], pa.large_string()),
    }
    write_with(tmp_path, changes)
    reader = EventReader(tmp_path)
    assert read_rows(reader, event_names=["gameStateUpdate"]) == rows + rows
    assert not reader.report.faults


def test_naive_times_are_read(tmp_path):
    write_with(tmp_path, {"ts": pa.array(["2026-01-02T03:04:05.678901"] * 5)})
    reader = EventReader(tmp_path)
    assert len(read_rows(reader)) == 10 and not reader.report.faults


def test_other_schema_version_is_noted(tmp_path):
    table = pa.table(columns_of(make_rows(2)), schema=SCHEMA)
    path = write_parquet(folder_of(tmp_path) / "x.parquet", make_rows(2))
    pq.write_table(table.replace_schema_metadata({"schema_version": "2.0.0"}), path)
    reader = EventReader(tmp_path)
    assert len(read_rows(reader)) == 2
    assert kinds(reader) == {"x.parquet": "schema 2.0.0, this is 1.0.0"}


def test_unknown_and_missing_partitions_are_noted(tmp_path):
    events = tmp_path / "events_parquet"
    write_parquet(events / "doc_type=dream/date=2026-01-02/a.parquet", make_rows(3))
    write_parquet(events / "doc_type=ws_event/b.parquet", make_rows(3))
    rows = [*make_rows(3), make_row(3, doc_type=BUTTON_EVENT)]
    write_parquet(events / "date=2026-01-02/c.parquet", rows)
    reader = EventReader(tmp_path)
    assert read_rows(reader) == make_rows(3) * 2
    assert read_rows(reader, "candleflip_round") == []
    assert kinds(reader) == {
        "doc_type=dream": "unknown document type",
        "b.parquet": "no date folder",
        "c.parquet": "no doc_type folder",
    }


def test_document_type_without_a_file_is_noted(tmp_path):
    write_rows(tmp_path, make_rows(3))
    reader = EventReader(tmp_path)
    assert read_rows(reader, BUTTON_EVENT) == []
    assert kinds(reader) == {"doc_type=button_event": "no files"}


def test_unknown_event_names_are_counted_and_kept(tmp_path):
    write_rows(tmp_path, [make_row(0), make_row(1, event_name="lottery"), make_row(2)])
    reader = EventReader(tmp_path)
    assert len(read_rows(reader)) == 3
    assert reader.report.unknown_events == {"lottery": 1}


def test_unknown_event_names_are_told_by_file_and_row_whichever_names_are_asked_for(tmp_path):
    names = ["gameStateUpdate", "lottery", "gameStateUpdate", "raffle", "lottery"]
    path = folder_of(tmp_path) / "x.parquet"
    write_parquet(path, [make_row(k, event_name=name) for k, name in enumerate(names)])
    for batch_rows in (1, 5):
        reader = EventReader(tmp_path)
        read_rows(reader, event_names=["gameStateUpdate"], batch_rows=batch_rows)
        assert reader.report.unknown_events == {"lottery": 2, "raffle": 1}
        (line,) = reader.report.describe()
        assert line.endswith("x.parquet: unknown event name: 3 rows, first 1")


def test_unknown_event_names_that_the_statistics_rule_out_are_passed_over(tmp_path):
    path = folder_of(tmp_path) / "x.parquet"
    write_parquet(path, [make_row(0), make_row(1, event_name="lottery")], 1)
    reader = EventReader(tmp_path)
    assert len(read_rows(reader, event_names=["gameStateUpdate"])) == 1
    assert (reader.report.n_passed_over, reader.report.unknown_events) == (1, {})


def test_long_rows_make_short_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(reader_module, "BATCH_BYTES", 2**20)
    rows = [make_row(k, raw_json=f"{k}" + "x" * 2**15) for k in range(100)]
    write_rows(tmp_path, rows)
    sizes = [
        batch.table.nbytes
        for batch in EventReader(tmp_path).batches(doc_type=WS_EVENT, columns=["raw_json"])
    ]
    assert sum(sizes) > 100 * 2**15 and max(sizes) <= 1.05 * 2**20


def test_memory_does_not_grow_with_the_store(tmp_path):
    n, width, batch_rows = 5_000, 4_000, 125
    rng = np.random.default_rng(0)
    noise = rng.integers(97, 123, n * width, dtype="u1").tobytes().decode()
    with EventWriter(tmp_path, "s") as writer:
        for first in range(0, n, n // 4):
            rows = [
                make_row(k, raw_json=noise[k * width : (k + 1) * width])
                for k in range(first, first + n // 4)
            ]
            writer.write_columns(columns_of(rows))
    del noise, rows
    floor = pa.total_allocated_bytes()
    n_read = peak = 0
    for batch in EventReader(tmp_path).batches(
        doc_type=WS_EVENT, columns=["ts", "raw_json"], batch_rows=batch_rows
    ):
        n_read += len(batch.table)
        peak = max(peak, pa.total_allocated_bytes() - floor)
    assert n_read == n
    # A batch, the pages it was cut from and 1 MiB of read-ahead a column; the store holds 20 MB.
    assert peak < 10_000_000
