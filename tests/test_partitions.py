"""Partitions: what was written comes back, whole or not at all, one session at a time."""

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftlib.data import partitions
from hftlib.data.partitions import (
    HIVE,
    Partition,
    PartitionError,
    Partitions,
    iter_partitions,
    list_partitions,
    read_partition,
    write_partition,
)
from hftlib.schema import MESSAGES, SchemaError, empty, snapshots, validate

DAY_NS = 86_400_000_000_000
KEY = Partition("lobster", "ABC", "2012-06-21")
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


def make_messages(n: int = 50, key: Partition = KEY, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            **key._asdict(),
            "ts": np.sort(rng.integers(0, DAY_NS, n)),
            "type": rng.integers(1, 8, n),
            "order_id": rng.integers(0, 2**62, n),
            "size": rng.integers(1, 2**31 - 1, n),
            "price": rng.integers(1, 2**31 - 1, n),
            "direction": rng.choice([-1, 1], n),
        }
    )
    return frame[MESSAGES.names].astype({c.name: c.dtype for c in MESSAGES.columns})


def make_snapshots(levels: int, n: int = 20):
    schema = snapshots(levels)
    rng = np.random.default_rng(levels)
    columns = {c.name: rng.integers(0, 2**31 - 1, n).astype(c.dtype) for c in schema.columns}
    columns |= {"symbol": "ABC", "source": "lobster", "session": "2012-06-21", "ts": np.arange(n)}
    return pd.DataFrame(columns).astype({c.name: c.dtype for c in schema.columns})


def files(root) -> list[str]:
    return sorted(f.relative_to(root).as_posix() for f in root.rglob("*") if f.is_file())


def test_written_tables_come_back_with_their_types(tmp_path):
    file = write_partition(tmp_path, make_messages(), MESSAGES)
    assert files(tmp_path) == ["source=lobster/symbol=ABC/session=2012-06-21/part.parquet"]
    assert file == KEY.path(tmp_path)
    back = validate(read_partition(tmp_path, KEY), MESSAGES)
    pd.testing.assert_frame_equal(back, make_messages())
    for levels in (1, 10):
        table = make_snapshots(levels)
        write_partition(tmp_path / "snapshots", table, snapshots(levels))
        pd.testing.assert_frame_equal(read_partition(tmp_path / "snapshots", KEY), table)


@settings(max_examples=30)
@given(NAMES, NAMES, NAMES)
def test_any_name_makes_a_folder_of_its_own(tmp_path_factory, source, symbol, session):
    root = tmp_path_factory.mktemp("partitions")
    key = Partition(source, symbol, session)
    write_partition(root, make_messages(3, key), MESSAGES)
    assert list_partitions(root) == [key]
    pd.testing.assert_frame_equal(read_partition(root, key), make_messages(3, key))


def test_partitions_come_sorted_and_one_at_a_time(tmp_path, monkeypatch):
    keys = [
        Partition(source, symbol, session)
        for source in ("lobster", "simulated")
        for symbol in ("600519", "BTC/USDT")
        for session in ("2012-06-20", "2012-06-21")
    ]
    for key in reversed(keys):
        write_partition(tmp_path, make_messages(5, key), MESSAGES)
    opened = []
    original = read_partition

    def spy(root, partition):
        opened.append(partition)
        return original(root, partition)

    monkeypatch.setattr(partitions, "read_partition", spy)
    walk = iter_partitions(tmp_path)
    assert opened == []
    for count, (key, frame) in enumerate(walk, start=1):
        assert key == keys[count - 1] and len(opened) == count
        assert set(frame["symbol"]) == {key.symbol}
    assert count == len(keys)


def test_partitions_can_be_gone_through_again_and_stay_those_of_the_first_time(tmp_path):
    keys = [KEY._replace(symbol=symbol) for symbol in ("A", "B")]
    for key in keys:
        write_partition(tmp_path, make_messages(5, key), MESSAGES)
    tables = Partitions(tmp_path)
    write_partition(tmp_path, make_messages(5), MESSAGES)
    assert len(tables) == 2
    for _ in range(3):
        for key, frame in zip(keys, tables, strict=True):
            pd.testing.assert_frame_equal(frame, make_messages(5, key))
    keys[1].path(tmp_path).unlink()
    with pytest.raises(PartitionError, match="no partition lobster/B/2012-06-21"):
        list(tables)


def test_a_filter_opens_only_the_files_and_row_groups_that_can_match(tmp_path, monkeypatch):
    monkeypatch.setattr(partitions, "ROW_GROUP", 10)
    days = ("2012-06-20", "2012-06-21")
    keys = [Partition("lobster", symbol, day) for symbol in ("600519", "A/B") for day in days]
    for key in keys:
        write_partition(tmp_path, make_messages(50, key), MESSAGES)
    data = ds.dataset(tmp_path, partitioning=HIVE)
    assert data.count_rows() == 200
    wanted = (ds.field("symbol") == "A/B") & (ds.field("session") == "2012-06-21")
    (fragment,) = data.get_fragments(filter=wanted)
    expected = make_messages(50, keys[3])
    found = data.to_table(filter=wanted).to_pandas()[MESSAGES.names]
    pd.testing.assert_frame_equal(found, expected)
    morning = fragment.subset(filter=ds.field("ts") <= int(expected["ts"][9]))
    assert [group.num_rows for group in morning.row_groups] == [10]
    assert len(fragment.row_groups) == 5


def test_equal_tables_give_equal_bytes(tmp_path):
    first = write_partition(tmp_path / "a", make_messages(), MESSAGES).read_bytes()
    shuffled = make_messages().set_axis(range(7, 57))  # another index, the same rows
    assert write_partition(tmp_path / "b", shuffled, MESSAGES).read_bytes() == first
    other = write_partition(tmp_path / "b", make_messages(seed=1), MESSAGES).read_bytes()
    assert other != first


@pytest.mark.parametrize("interruption", [OSError, KeyboardInterrupt])
def test_a_write_that_fails_half_way_leaves_the_old_partition(tmp_path, monkeypatch, interruption):
    file = write_partition(tmp_path, make_messages(), MESSAGES)

    def half(table, where, **_):
        where.write_bytes(b"PAR1 half of a file")
        raise interruption("no space left on device")

    monkeypatch.setattr(pq, "write_table", half)
    for seed, key in (
        (1, KEY),
        (2, Partition("x", "y", "z")),
    ):
        with pytest.raises(interruption):
            write_partition(tmp_path, make_messages(key=key, seed=seed), MESSAGES)
    assert files(tmp_path) == [file.relative_to(tmp_path).as_posix()]
    ((_, frame),) = iter_partitions(tmp_path)
    pd.testing.assert_frame_equal(frame, make_messages())


def test_table_that_is_not_one_session_in_order_is_refused_and_not_written(tmp_path):
    good = make_messages()
    two = pd.concat([good, make_messages(key=Partition("lobster", "ABC", "2012-06-22"))])
    cases = [
        (empty(MESSAGES), PartitionError, "expected rows of one source.*received 0"),
        (two, PartitionError, "expected rows of one source.*received 2"),
        (good.iloc[[1, 2, 0]], PartitionError, "ts goes back in row 2; sort"),
        (make_messages(key=Partition("", "A", "B")), PartitionError, "an empty name"),
        (good.drop(columns="price"), SchemaError, "messages: missing price"),
        (good.astype({"size": "int64"}), SchemaError, "size is int64, expected int32"),
    ]
    for frame, error, said in cases:
        with pytest.raises(error, match=said):
            write_partition(tmp_path, frame, MESSAGES)
    assert files(tmp_path) == []


def test_missing_and_damaged_partitions_are_named(tmp_path):
    file = write_partition(tmp_path, make_messages(), MESSAGES)
    said = r"no partition a/b/c in .* has: lobster/ABC/2012-06-21"
    with pytest.raises(PartitionError, match=said):
        read_partition(tmp_path, Partition("a", "b", "c"))
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(PartitionError, match=r"part\.parquet: cannot be read .* write it again"):
        read_partition(tmp_path, KEY)
