"""Merging book sources: no row vanishes uncounted, and the order of the files is no matter."""

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftlib.data import books
from hftlib.data.book_rows import REFUSED, BooksError, to_frame, to_values
from hftlib.data.books import DAY_NS, QUALITY, BookSession, ingest_books, read_books
from hftlib.data.partitions import Partition, list_partitions, read_partition
from hftlib.features.microstructure import feature_matrix
from hftlib.market.tape import ADD, CROSS, DELETE, EXECUTE, EXECUTE_HIDDEN, HALT, REDUCE
from hftlib.schema import MESSAGES, SchemaError, empty, snapshots, validate

LEVELS = 3
SCHEMA = snapshots(LEVELS)
NUMBERS = [c.name for c in SCHEMA.columns if c.dtype != "str"]
DAY = "2024-01-02"
OPEN = pd.Timestamp("2024-01-02 09:30", tz="UTC").value
AS_OF = pd.Timestamp("2025-01-01", tz="UTC")
KEY = Partition("test", "ABC", DAY)


def book_rows(times) -> np.ndarray:
    """Good snapshots; what a row says depends on its time alone, so that any two files agree."""
    t = np.asarray(times, dtype=np.int64)
    bid, ask = 1000 + t % 7, 1008 + t % 5
    rows = [OPEN + t, bid, ask, 1 + t % 11, 1 + t % 13]
    for k in range(2, LEVELS + 1):
        is_known = (t + k) % 4 > 0 if k == LEVELS else t >= 0
        rows += [(bid - k) * is_known, (k + t % 3) * is_known, (ask + k) * is_known, k * is_known]
    return np.stack([*rows, 1000 + t % 9, t % 4], axis=1)


def message_rows(times) -> np.ndarray:
    """Good messages; the n-th of a time depends on the time and n alone."""
    t = np.asarray(times, dtype=np.int64)
    nth = np.arange(len(t)) - np.searchsorted(t, t)
    kind = np.array([ADD, EXECUTE, DELETE, EXECUTE_HIDDEN])[(t + nth) % 4]
    order_id = np.where(kind == EXECUTE_HIDDEN, 0, 100 * t + nth + 1)
    columns = [OPEN + t, kind, order_id, 1 + t % 3, 1000 + t % 9, 1 - 2 * (t % 2)]
    return np.stack(columns, axis=1)


def make_session(
    book, messages=None, *, key: Partition = KEY, origin: str = "a.csv", **changes
) -> BookSession:
    """Session of matrices of numbers, or of times for good rows."""
    names = (key.symbol, key.source, key.session)
    book, messages = (
        make(rows) if rows is not None and np.ndim(rows) == 1 else rows
        for make, rows in ((book_rows, book), (message_rows, messages))
    )
    return BookSession(
        *names,
        to_frame(book, SCHEMA, *names),
        None if messages is None else to_frame(messages, MESSAGES, *names),
        origin,
        **changes,
    )


def ingest(sessions, folder: Path, *, as_of=AS_OF):
    result = ingest_books(sessions, folder, levels=LEVELS, as_of=as_of, max_gap_rows=3)
    assert list(result.quality.columns) == list(QUALITY)
    validate(result.quarantine, REFUSED)
    return result


def stored(folder: Path, table: str, key: Partition = KEY) -> np.ndarray:
    return to_values(read_partition(folder / table, key), MESSAGES if table[0] == "m" else SCHEMA)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    files = (f for f in folder.rglob("*") if f.is_file())
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in files}


def n_rows(*sessions: BookSession) -> int:
    return sum(len(table) for session in sessions for table in session.tables.values())


def assert_conserved(result, sessions) -> None:
    counted = ["rows", "messages", "duplicates", "superseded", "quarantined"]
    assert n_rows(*sessions) == result.quality[counted].to_numpy().sum()
    assert result.quality["quarantined"].sum() == len(result.quarantine)


def test_good_rows_all_arrive_in_a_partition_of_their_session(tmp_path):
    session = make_session(range(50), np.repeat(range(60), 2))
    result = ingest([session], tmp_path / "book")
    assert list_partitions(tmp_path / "book/snapshots") == [KEY]
    for table, given_frame in session.tables.items():
        frame = read_partition(tmp_path / "book" / table, KEY)
        pd.testing.assert_frame_equal(frame, given_frame)
    assert result.quarantine.empty
    assert_conserved(result, [session])


def test_quality_is_what_one_counts_by_hand(tmp_path):
    book = book_rows([0, 10, 20, 70, 80])
    book[:, 1:3] = [[1000, 1002], [1000, 1004], [1000, 1006], [1000, 0], [1000, 1100]]
    book[:, 3:5] = [[1, 3], [5, 7], [9, 11], [4, 0], [13, 15]]
    book[:, 5:-2] = 0
    messages = message_rows([1, 1, 90])
    messages[:, 1] = [EXECUTE, EXECUTE_HIDDEN, ADD]
    session = make_session(book, messages, refused_lines=4)
    (row,) = ingest([session], tmp_path / "book").quality.to_dict("records")
    assert row == {
        "symbol": "ABC",
        "source": "test",
        "session": DAY,
        "rows": 5,
        "messages": 3,
        "trades": 2,
        "first": pd.Timestamp(OPEN, tz="UTC"),
        "last": pd.Timestamp(OPEN + 90, tz="UTC"),
        "gaps": 1,  # 50 ns, with a median step of 10 ns
        "longest_gap_s": 50e-9,
        "median_spread_ticks": 5.0,  # of 2, 4, 6 and 100
        "mean_best_lots": 8.0,
        "late": 0,
        "duplicates": 0,
        "superseded": 0,
        "quarantined": 0,
        "refused_lines": 4,
    }


def changed(rows: np.ndarray, at: int, **cells: int) -> np.ndarray:
    names = NUMBERS if rows.shape[1] == len(NUMBERS) else MESSAGES.names[3:]
    rows = rows.copy()
    for name, value in cells.items():
        rows[at, names.index(name)] = value
    return rows


MIDNIGHT = OPEN // DAY_NS * DAY_NS
BOOK_FAULTS = [
    ({"ts": MIDNIGHT - 1}, "time is outside the session's day"),
    ({"ts": MIDNIGHT + DAY_NS}, "time is outside the session's day"),
    ({"ts": OPEN + 3_600_000_000_000}, "time is in the future"),
    ({"best_bid": -1}, "price is negative"),
    ({"ask_px_2": -5}, "price is negative"),
    ({"bid_qty_1": -1}, "size is negative"),
    ({"ask_qty_3": -(2**31)}, "size is negative"),
    ({"best_bid": 0}, "size at an empty level"),
    ({"ask_px_2": 0}, "size at an empty level"),
    ({"ask_qty_1": 0}, "level without size"),
    ({"bid_px_2": 1002}, "levels are out of order"),
    ({"bid_px_2": 1003}, "levels are out of order"),
    ({"ask_px_3": 1009}, "levels are out of order"),
    ({"bid_px_2": 0, "bid_qty_2": 0}, "levels are out of order"),
    ({"best_ask": 0, "ask_qty_1": 0}, "levels are out of order"),
    ({"best_bid": 1011}, "book is crossed"),
    ({"best_bid": 1010}, "book is locked"),
    ({"last_px": -1}, "last price is negative"),
    ({"traded_qty": -1}, "traded quantity is negative"),
]
MESSAGE_FAULTS = [
    ({"ts": 0}, "time is outside the session's day"),
    ({"ts": OPEN + 3_600_000_000_000}, "time is in the future"),
    ({"type": 0}, "unknown event type"),
    ({"type": 8}, "unknown event type"),
    ({"type": -1}, "unknown event type"),
    ({"size": 0}, "size is not positive"),
    ({"size": -7}, "size is not positive"),
    ({"price": 0}, "price is not positive"),
    ({"price": -1}, "price is not positive"),
    ({"type": HALT, "size": 0, "price": 2}, "halt code is not -1, 0 or 1"),
    ({"type": HALT, "size": -1, "price": 0}, "size is not positive"),
    ({"direction": 0}, "direction is neither 1 nor -1"),
    ({"order_id": -1}, "order id is negative"),
    ({"type": ADD, "order_id": 0}, "order id is missing"),
    ({"type": REDUCE, "order_id": 0}, "order id is missing"),
    ({"type": DELETE, "order_id": 0}, "order id is missing"),
]


@pytest.mark.parametrize(
    ("table", "cells", "reason"),
    [
        *(("snapshots", *fault) for fault in BOOK_FAULTS),
        *(("messages", *fault) for fault in MESSAGE_FAULTS),
    ],
)
def test_bad_row_is_quarantined_alone_with_its_place_and_reason(tmp_path, table, cells, reason):
    tables = {"snapshots": book_rows(range(10)), "messages": message_rows(range(10))}
    tables[table] = changed(tables[table], 2, **cells)
    session = make_session(*tables.values())
    as_of = pd.Timestamp(OPEN + 1_000_000, tz="UTC")
    result = ingest([session], tmp_path / "book", as_of=as_of)
    (row,) = result.quarantine.to_dict("records")
    assert (row["table"], row["row"], row["reason"]) == (table, 2, reason)
    assert (row["symbol"], row["source"], row["session"]) == ("ABC", "test", DAY)
    assert row["origin"] == "a.csv"
    assert row["text"] == ",".join(map(str, tables[table][2]))
    for name, rows in tables.items():
        kept = np.delete(rows, 2, axis=0) if name == table else rows
        np.testing.assert_array_equal(stored(tmp_path / "book", name), kept)
    assert_conserved(result, [session])


def test_facts_of_a_market_are_no_faults(tmp_path):
    book = book_rows(range(5))
    book[1, 1:-2] = 0  # both sides empty
    book[2, [1, 3, 5, 6, 9, 10]] = 0  # no bid
    book[3, -2:] = 0  # no trade yet
    messages = message_rows(range(5))
    messages[1:3, 1:] = [[HALT, 0, 0, -1, -1], [HALT, 0, 0, 1, -1]]
    messages[3, 1] = CROSS
    messages[4, 1:3] = EXECUTE, 0  # a feed that names no orders
    assert ingest([make_session(book, messages)], tmp_path / "book").quarantine.empty
    np.testing.assert_array_equal(stored(tmp_path / "book", "snapshots"), book)
    np.testing.assert_array_equal(stored(tmp_path / "book", "messages"), messages)


def test_no_feature_meets_a_crossed_or_an_unsorted_book(tmp_path):
    book = changed(book_rows(range(60)), 30, best_bid=1500)
    ingest([make_session(book[::-1])], tmp_path / "book")
    frame = read_partition(tmp_path / "book/snapshots", KEY)
    matrix = feature_matrix(frame)
    assert len(matrix) == 59 and np.nanmin(matrix[:, 4]) > 0  # the spread


# --- order and repetition


def test_late_rows_are_sorted_in_and_equal_times_keep_their_order(tmp_path):
    messages = message_rows([0, 1, 1, 1, 2, 3])
    result = ingest([make_session(range(6), messages[[0, 4, 1, 2, 5, 3]])], tmp_path / "book")
    np.testing.assert_array_equal(stored(tmp_path / "book", "messages"), messages)
    assert result.quality["late"].tolist() == [3]


def test_of_snapshots_of_one_time_the_last_wins(tmp_path):
    rows = book_rows([0, 1, 1, 1, 1, 2, 2])
    rows[1:5, 3] = 60, 50, 70, 50
    session = make_session(rows)
    result = ingest([session], tmp_path / "book")
    np.testing.assert_array_equal(stored(tmp_path / "book", "snapshots"), rows[[0, 4, 6]])
    # Row 2 says what row 4 says, 1 and 3 do not; row 5 says what row 6 says.
    assert result.quality[["duplicates", "superseded"]].values.tolist() == [[2, 2]]
    assert_conserved(result, [session])


def test_a_bad_snapshot_does_not_win_over_a_good_one_of_its_time(tmp_path):
    rows = changed(book_rows([0, 1, 1]), 2, best_bid=1500)
    ingest([make_session(rows)], tmp_path / "book")
    np.testing.assert_array_equal(stored(tmp_path / "book", "snapshots"), rows[:2])


def test_an_order_comes_and_leaves_once_but_trades_as_often_as_it_says(tmp_path):
    of_one_time = [
        (ADD, 5, 10),
        (ADD, 6, 10),
        (ADD, 5, 10),  # sent twice
        (EXECUTE, 5, 2),
        (EXECUTE, 5, 2),  # two trades
        (REDUCE, 5, 1),
        (REDUCE, 5, 1),
        (EXECUTE_HIDDEN, 0, 3),
        (EXECUTE_HIDDEN, 0, 3),
        (DELETE, 5, 4),
        (DELETE, 5, 4),  # sent twice
        (ADD, 5, 10),  # comes again, after it has left
        (DELETE, 5, 10),
        (ADD, 5, 10),
    ]
    rows = np.array([[OPEN, kind, order, size, 9, 1] for kind, order, size in of_one_time])
    result = ingest([make_session(range(3), rows)], tmp_path / "book")
    kept = np.delete(rows, [2, 10], axis=0)
    np.testing.assert_array_equal(stored(tmp_path / "book", "messages"), kept)
    assert result.quality["duplicates"].tolist() == [2]


# --- laws of merging

TIMES = st.integers(0, 40)
SPANS = st.lists(st.tuples(TIMES, TIMES).map(sorted), min_size=1, max_size=5)


@st.composite
def files_of_one_day(draw) -> list[BookSession]:
    """Files that agree: each tells all that happened from one time to another."""
    book = np.array(sorted(draw(st.sets(TIMES, min_size=1))))
    messages = np.array(sorted(draw(st.lists(TIMES, max_size=60))), dtype=np.int64)
    parts = []
    for number, (first, last) in enumerate(draw(SPANS)):
        here, trades = (t[(t >= first) & (t <= last)] for t in (book, messages))
        if len(here) or len(trades):
            has_messages = draw(st.booleans()) or not len(here)
            rows = trades if has_messages else None
            parts.append(make_session(here, rows, origin=f"{number}.csv"))
    return parts


@settings(max_examples=60)
@given(parts=files_of_one_day(), data=st.data())
def test_merging_is_the_union_in_any_order_and_again(tmp_path_factory, parts, data):
    if not parts:
        return
    root = tmp_path_factory.mktemp("books")
    result = ingest(parts, root / "book")
    assert_conserved(result, parts)
    for table, schema in (("snapshots", SCHEMA), ("messages", MESSAGES)):
        union: dict[int, list[list[int]]] = {}
        for part in parts:
            if table in part.tables:
                values = to_values(part.tables[table], schema)
                times = {int(t): values[values[:, 0] == t].tolist() for t in values[:, 0]}
                assert all(union.get(t, rows) == rows for t, rows in times.items())
                union |= times
        expected = [row for t in sorted(union) for row in union[t]]
        assert list_partitions(root / "book" / table) == ([KEY] if expected else [])
        if expected:
            assert stored(root / "book", table).tolist() == expected
    shuffled = data.draw(st.permutations(parts))
    other = ingest(shuffled, root / "other")
    assert contents(root / "other") == contents(root / "book")
    pd.testing.assert_frame_equal(other.quality, result.quality)
    again = ingest(read_books(root / "book"), root / "again")
    assert contents(root / "again") == contents(root / "book")
    left_out = ["late", "duplicates", "superseded", "quarantined"]
    assert again.quality[left_out].to_numpy().sum() == 0
    told = [name for name in QUALITY if name not in left_out]
    pd.testing.assert_frame_equal(again.quality[told], result.quality[told])


FAULTS = {"snapshots": BOOK_FAULTS[3:], "messages": MESSAGE_FAULTS[2:]}


@settings(max_examples=40)
@given(data=st.data())
def test_every_row_is_kept_or_counted_whatever_is_wrong(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("books") / "book"
    keys = [KEY, KEY._replace(symbol="XYZ"), KEY._replace(source="other")]
    sessions, expected = [], []
    for key in keys:
        tables = []
        for table, make in (("snapshots", book_rows), ("messages", message_rows)):
            times = data.draw(st.lists(TIMES, min_size=1, max_size=12))
            rows = make([*times, 41])  # the last row stays good
            places = st.lists(st.integers(0, len(times) - 1), max_size=4, unique=True)
            for at in data.draw(places):
                cells, reason = data.draw(st.sampled_from(FAULTS[table]))
                rows[at] = make([2])[0]
                rows = changed(rows, at, **cells)
                expected.append((*key, table, at, reason))
            tables.append(rows)
        sessions.append(make_session(*tables, key=key))
    result = ingest(sessions, folder)
    assert_conserved(result, sessions)
    columns = ["source", "symbol", "session", "table", "row", "reason"]
    found = result.quarantine[columns].itertuples(index=False, name=None)
    assert sorted(found) == sorted(expected)
    for key in keys:
        for table in ("snapshots", "messages"):
            ts = stored(folder, table, key)[:, 0]
            assert (np.diff(ts) >= (table == "snapshots")).all()
    before = contents(folder)
    other = ingest(sessions[::-1], folder)
    pd.testing.assert_frame_equal(other.quarantine, result.quarantine)
    pd.testing.assert_frame_equal(other.quality, result.quality)
    assert contents(folder) == before


def test_same_times_of_other_symbols_sources_and_days_do_not_meet(tmp_path):
    keys = [KEY, KEY._replace(symbol="XYZ"), KEY._replace(source="other")]
    sessions = [
        make_session(book_rows(range(10)) + np.eye(1, len(NUMBERS), 3, dtype=int) * k, key=key)
        for k, key in enumerate(keys)
    ]
    result = ingest(sessions, tmp_path / "book")
    for key, session in zip(keys, sessions, strict=True):
        frame = read_partition(tmp_path / "book/snapshots", key)
        pd.testing.assert_frame_equal(frame, session.snapshots)
    assert result.quality["rows"].tolist() == [10, 10, 10]


@pytest.mark.parametrize("table", ["snapshots", "messages"])
def test_files_that_share_a_time_but_not_its_rows_are_refused(tmp_path, table):
    one = make_session(range(20), range(20), origin="one.csv")
    rows = {"snapshots": book_rows(range(10, 30)), "messages": message_rows(range(10, 30))}
    rows[table][4, 4] += 1
    lack = {"snapshots": book_rows(range(10, 30)), "messages": message_rows(range(10, 30))}
    lack[table] = np.delete(lack[table], 4, axis=0)
    for tables in (rows, lack):
        two = make_session(*tables.values(), origin="two.csv")
        for first, second in ((one, two), (two, one)):
            said = (
                rf"{second.origin}: {table} of ABC {DAY} overlap with {first.origin} from "
                r"2024-01-02 09:30:00.000000010.* to .*019.* differ there; keep one"
            )
            with pytest.raises(BooksError, match=said):
                ingest([first, second], tmp_path / "book")
    assert not list(tmp_path.iterdir())


# --- refusals and failures


def test_what_is_no_session_is_refused_and_nothing_is_written(tmp_path):
    good = make_session(range(5), range(5))
    other = make_session(range(5), key=KEY._replace(symbol="XYZ"))
    mixed = pd.concat([good.snapshots, other.snapshots])
    crossed = book_rows(range(5))
    crossed[:, 1] += 100
    hollow = message_rows(range(5))
    hollow[:, 3], hollow[0, 1] = 0, 9
    cases = [
        ([], "no session to ingest"),
        ([replace(good, snapshots=mixed)], r"a\.csv: snapshots of symbol ABC, XYZ in .* ABC"),
        ([replace(good, source="x")], "snapshots of source test in the session of source x"),
        ([replace(good, session="2024-1-2")], "snapshots of session 2024-01-02 in"),
        ([make_session(range(5), key=KEY._replace(session="20240102"))], "is not a day YYYY"),
        ([make_session(range(5), key=KEY._replace(session="today"))], "'today' is not a day"),
        ([make_session(crossed)], r"a\.csv: none of 5 snapshots of ABC .*reasons: book is cross"),
        (
            [make_session(range(5), hollow)],
            "none of 5 messages of ABC 2024-01-02 is good; reasons: size is not positive, unknown",
        ),
        ([make_session(range(0))], rf"a\.csv: no row of ABC {DAY}"),
    ]
    for sessions, said in cases:
        with pytest.raises(BooksError, match=said):
            ingest(sessions, tmp_path / "book")
    narrow = replace(good, snapshots=good.snapshots.drop(columns="ask_px_3"))
    with pytest.raises(SchemaError, match=r"a\.csv: snapshots: missing ask_px_3"):
        ingest([narrow], tmp_path / "book")
    with pytest.raises(BooksError, match="book has no snapshots and no messages"):
        list(read_books(tmp_path / "book"))
    assert not list(tmp_path.iterdir())


def test_number_too_large_for_its_column_is_told():
    rows = changed(book_rows(range(3)), 1, traded_qty=2**31)
    with pytest.raises(BooksError, match="ABC 2024-01-02: a traded_qty of 2147483648 does not fit"):
        make_session(rows)


@pytest.mark.parametrize("interruption", [OSError, KeyboardInterrupt, BooksError])
def test_a_failure_half_way_leaves_the_earlier_folder_untouched(
    tmp_path, monkeypatch, interruption
):
    folder = tmp_path / "book"
    ingest([make_session(range(5), range(5))], folder)
    before = contents(tmp_path)

    def sessions():
        yield make_session(range(9), range(9))
        raise interruption("no space left on device")

    with pytest.raises(interruption):
        ingest(sessions(), folder)
    assert contents(tmp_path) == before

    def fail(*_):
        raise interruption("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(books, "write_partition", fail)
        with pytest.raises(interruption):
            ingest([make_session(range(9))], folder)
    assert contents(tmp_path) == before


def test_a_folder_can_be_ingested_into_itself_and_loses_what_is_not_named_again(tmp_path):
    folder = tmp_path / "book"
    keys = [KEY, KEY._replace(symbol="XYZ")]
    ingest([make_session(range(5), range(9), key=key) for key in keys], folder)
    before = contents(folder)
    ingest(read_books(folder), folder)
    assert contents(folder) == before
    ingest([make_session(range(5), range(9))], folder)
    assert contents(folder) == {name: data for name, data in before.items() if "ABC" in name}


def test_session_with_messages_only_has_no_partition_of_snapshots(tmp_path):
    session = replace(make_session(range(3), range(5)), snapshots=empty(SCHEMA))
    (row,) = ingest([session], tmp_path / "book").quality.to_dict("records")
    assert (row["rows"], row["messages"]) == (0, 5)
    assert np.isnan([row["median_spread_ticks"], row["longest_gap_s"]]).all()
    assert not (tmp_path / "book/snapshots").exists()
    (back,) = read_books(tmp_path / "book")
    assert list(back.tables) == ["messages"]


def test_memory_does_not_grow_with_the_number_of_sessions(tmp_path):
    times = np.arange(20_000) * 1000
    rows, messages = book_rows(times), message_rows(times)

    def peak(n_sessions: int) -> int:
        keys = (KEY._replace(symbol=f"S{k:02}") for k in range(n_sessions))
        tracemalloc.start()
        ingest((make_session(rows, messages, key=key) for key in keys), tmp_path / "book")
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(1)
    # Two at a time: one that is made while the last is still held.
    assert peak(12) < 1.1 * peak(3)
