"""Sources of books: what a row says was known at its time, and no trade falls between two rows."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftlib.data import feeds
from hftlib.data.book_rows import BooksError, to_frame, to_values
from hftlib.data.books import ingest_books
from hftlib.data.feeds import (
    CaptureFile,
    find_captures,
    lobster_session,
    read_capture,
    read_depth_folder,
    recording_frames,
    sample_book,
)
from hftlib.data.lobster import DayName, LobsterDay, read_folder
from hftlib.data.lobster_rows import REFUSED
from hftlib.market.tape import EXECUTE, EXECUTE_HIDDEN, Recording, Tape
from hftlib.schema import MESSAGES, empty, snapshots, validate
from tests.captures import (
    INTERVAL_NS,
    LEVELS,
    MS,
    Message,
    diff_body,
    line_text,
    make_capture,
    snapshot_body,
    trade_body,
)
from tests.conftest import SHARED_DATA

NAME = DayName("ABC", "2012-06-21", 34_200_000, 57_600_000, 2)
OPEN = pd.Timestamp("2012-06-21 13:30", tz="UTC").value
BOOK = SHARED_DATA / "book"
AS_OF = pd.Timestamp("2025-01-01", tz="UTC")
needs_data = pytest.mark.skipif(not BOOK.is_dir(), reason=f"no real data at {BOOK}")


def make_day(times, *, seed: int = 0, levels: int = 2) -> LobsterDay:
    """Events at the times (ns after 09:30) with a book that differs after each."""
    rng = np.random.default_rng(seed)
    n = len(times)
    rows = np.stack(
        [
            OPEN + np.sort(times),
            rng.integers(1, 8, n),
            rng.integers(1, 99, n),
            rng.integers(1, 50, n),
            rng.integers(900, 1100, n),
            rng.choice([-1, 1], n),
        ],
        axis=1,
    )
    book = rng.integers(1, 500, (n, 4 * levels)).astype(np.int32)
    names = (NAME.symbol, "lobster", NAME.session)
    messages = to_frame(rows, MESSAGES, *names)
    return LobsterDay(NAME._replace(levels=levels), 100, messages, book, empty(REFUSED))


TIMES = st.lists(st.integers(0, 60), min_size=1, max_size=25)


@given(times=TIMES, interval=st.integers(1, 20), seed=st.integers(0, 9))
def test_each_row_is_the_state_after_the_last_event_up_to_its_time(times, interval, seed):
    day = make_day(times, seed=seed)
    frame = validate(sample_book(day, interval_ns=interval, levels=2), snapshots(2))
    first, last = day.messages["ts"].iloc[[0, -1]]
    clock = [t for t in range(first, last + 1) if t % interval == 0]
    assert frame["ts"].tolist() == clock
    before = first - 1
    for t, row in zip(clock, frame.to_dict("records"), strict=True):
        past = day.messages[day.messages["ts"] <= t]
        ask, ask_qty, bid, bid_qty, ask_2, ask_qty_2, bid_2, bid_qty_2 = day.book[len(past) - 1]
        assert (row["best_bid"], row["bid_qty_1"]) == (bid, bid_qty)
        assert (row["best_ask"], row["ask_qty_1"]) == (ask, ask_qty)
        assert (row["bid_px_2"], row["bid_qty_2"]) == (bid_2, bid_qty_2)
        assert (row["ask_px_2"], row["ask_qty_2"]) == (ask_2, ask_qty_2)
        trades = past[past["type"].isin([EXECUTE, EXECUTE_HIDDEN])]
        assert row["last_px"] == (trades["price"].iloc[-1] if len(trades) else 0)
        assert row["traded_qty"] == trades.loc[trades["ts"] > before, "size"].sum()
        before = t


@given(times=TIMES, others=TIMES, cut=st.integers(0, 60))
def test_another_future_leaves_the_rows_before_as_they_were(times, others, cut):
    day, other = make_day(times, seed=1), make_day(others, seed=2)
    is_past = (day.messages["ts"] <= OPEN + cut).to_numpy()
    future = other.messages.assign(ts=other.messages["ts"] + cut + 1)
    messages = pd.concat([day.messages[is_past], future], ignore_index=True)
    mixed = replace(day, messages=messages, book=np.concatenate([day.book[is_past], other.book]))
    now = min(OPEN + cut, day.messages["ts"].iloc[-1])
    here, there = (sample_book(d, interval_ns=7, levels=2) for d in (day, mixed))
    pd.testing.assert_frame_equal(here[here["ts"] <= now], there[there["ts"] <= now])


def test_levels_that_the_file_lacks_are_empty_and_others_are_cut():
    day = make_day(range(30))
    two, one, four = (sample_book(day, interval_ns=3, levels=k) for k in (2, 1, 4))
    pd.testing.assert_frame_equal(two[one.columns], one)
    pd.testing.assert_frame_equal(validate(four, snapshots(4))[two.columns], two)
    assert not four.drop(columns=two.columns).to_numpy().any()


def test_day_shorter_than_the_interval_has_no_row_but_its_messages():
    session = lobster_session(make_day([1, 2, 5]), interval_ns=1_000_000, levels=2)
    assert list(session.tables) == ["messages"]


def test_impossible_interval_levels_and_volumes_are_refused():
    day = make_day(range(5))
    for arguments in ({"interval_ns": 0, "levels": 2}, {"interval_ns": 5, "levels": 0}):
        with pytest.raises(BooksError, match="is 0; expected at least 1"):
            sample_book(day, **arguments)
    heavy = day.messages.assign(type=np.int8(EXECUTE), size=np.int32(2**31 - 1))
    with pytest.raises(BooksError, match=r"a traded_qty of .* does not fit int32; take a coarser"):
        sample_book(replace(day, messages=heavy), interval_ns=4, levels=2)


def test_day_without_an_order_book_file_is_rebuilt_from_its_messages(monkeypatch):
    day = make_day(range(30))

    class Rebuilt:
        book, n_refused = day.book, 0

    def rebuild(messages, *, levels):
        assert messages is day.messages and levels == 2
        return Rebuilt

    monkeypatch.setattr(feeds, "rebuild", rebuild)
    bare = replace(day, book=None)
    expected = sample_book(day, interval_ns=3, levels=2)
    pd.testing.assert_frame_equal(sample_book(bare, interval_ns=3, levels=2), expected)
    Rebuilt.n_refused = 3
    with pytest.raises(BooksError, match="ABC 2012-06-21: 3 orders found no room"):
        sample_book(bare, interval_ns=3, levels=2)


def test_recording_becomes_tables_level_by_level():
    quotes = {name: np.array([1, 2]) for name in ("best_bid", "bid_qty", "best_ask", "ask_qty")}
    tape = Tape(
        ts=np.array([OPEN, OPEN + 1]),
        kind=np.array([1, 4]),
        order_id=np.array([7, 2**40]),
        size=np.array([3, 2]),
        price=np.array([10, 11]),
        direction=np.array([1, -1]),
        **quotes,
    )
    rows = np.array([[OPEN, 10, 1, 20, 2, 9, 3, 21, 4, 15, 5], [OPEN + 5, *range(30, 40)]])
    book, messages = recording_frames(
        Recording(tape, rows), symbol="ABC", source="abides", session="2012-06-21"
    )
    validate(book, snapshots(2))
    validate(messages, MESSAGES)
    names = ["ts", "best_bid", "bid_qty_1", "best_ask", "ask_qty_1"]
    names += ["bid_px_2", "bid_qty_2", "ask_px_2", "ask_qty_2", "last_px", "traded_qty"]
    np.testing.assert_array_equal(book[names], rows)
    np.testing.assert_array_equal(
        to_values(messages, MESSAGES), [[OPEN, 1, 7, 3, 10, 1], [OPEN + 1, 4, 2**40, 2, 11, -1]]
    )
    for frame in (book, messages):
        assert frame[["symbol", "source", "session"]].drop_duplicates().values.tolist() == [
            ["ABC", "abides", "2012-06-21"]
        ]


# --- captures


def touch(folder: Path, *names: str) -> None:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def test_names_of_captures_tell_symbol_steps_and_source(tmp_path):
    root = tmp_path / "depth"
    touch(root, "BTCUSDT_0.01_0.00001_2024-08-08.jsonl.gz", "README.md", "notes.json")
    touch(root, "binance/1000SHIB-PERP_1_10.jsonl", "kraken/BTCUSDT_0.1_1_a_b.jsonl")
    found = find_captures(root)
    assert [file[1:] for file in found] == [
        ("BTCUSDT", "depth", "0.01", "0.00001"),
        ("1000SHIB-PERP", "binance", "1", "10"),
        ("BTCUSDT", "kraken", "0.1", "1"),
    ]
    assert found[1].path == root / "binance/1000SHIB-PERP_1_10.jsonl"


@pytest.mark.parametrize(
    "name",
    [
        "BTCUSDT.jsonl",
        "BTCUSDT_0.01.jsonl.gz",
        "BTCUSDT_2024-08-08.jsonl",
        "BTCUSDT_0.01_2024-08-08.jsonl",
        "BTCUSDT_0_0.1.jsonl",
        "BTCUSDT_0.01_0.000.jsonl",
        "BTCUSDT_-1_0.1.jsonl",
        "BTCUSDT_1e-2_0.1.jsonl",
        "BTC_USDT_0.01_0.1.jsonl",
        "_0.01_0.1.jsonl",
    ],
)
def test_other_names_are_refused_before_anything_is_read(tmp_path, name):
    touch(tmp_path, "AAA_1_1.jsonl", name)
    with pytest.raises(BooksError, match=r"not the name of a depth capture; expected SYMBOL_TICK"):
        read_depth_folder(tmp_path, interval_ns=1, levels=1)


def test_captures_of_a_symbol_with_other_steps_are_refused(tmp_path):
    touch(tmp_path, "ABC_0.01_1_a.jsonl", "ABC_0.010_1.0_b.jsonl", "x/ABC_5_1.jsonl")
    assert len(find_captures(tmp_path)) == 3
    touch(tmp_path, "ABC_0.1_1_c.jsonl")
    said = r"ABC_0.1_1_c.jsonl: tick 0.1, but ABC_0.010_1.0_b.jsonl of the same .* has 0.010"
    with pytest.raises(BooksError, match=said):
        find_captures(tmp_path)


def midnight_lines() -> list[Message]:
    """Trades of 1, 2, 4 ... lots around midnight; which rows have met which can be read off."""
    midnight = pd.Timestamp("2024-08-09", tz="UTC").value
    book = {5_999_999: 7}, {6_000_001: 9}
    lines = [
        Message(midnight - 25 * MS, diff_body(1, 2, *book)),
        Message(midnight - 25 * MS, snapshot_body(2, *book)),
    ]
    for k, after in enumerate((-24, -12, -1, 1, 12)):
        trade = trade_body(k + 1, 6_000_000 + k, 2**k, False)
        lines.append(Message(midnight + after * MS, trade))
    return [*lines, Message(midnight + 20 * MS, diff_body(3, 3, {}, {}))]


def write_capture(folder: Path, lines, note: str = "") -> CaptureFile:
    folder.mkdir(exist_ok=True)
    file = folder / f"BTC_0.01_0.00001{note}.jsonl.gz"
    file.write_bytes(gzip.compress("".join(map(line_text, lines)).encode()))
    return CaptureFile(file, "BTC", folder.name, "0.01", "0.00001")


def test_capture_is_cut_at_midnight_and_trades_stay_on_their_day(tmp_path):
    lines = [*midnight_lines(), Message(1, {})]  # no time
    file = write_capture(tmp_path / "venue", lines)
    sessions, report = read_capture(file, interval_ns=10 * MS, levels=LEVELS)
    assert [(s.session, s.source, s.origin) for s in sessions] == [
        ("2024-08-08", "venue", file.path.name),
        ("2024-08-09", "venue", file.path.name),
    ]
    first, second = sessions
    assert first.messages["size"].tolist() == [1, 2, 4]
    assert second.messages["size"].tolist() == [8, 16]
    assert first.snapshots["traded_qty"].tolist() == [1, 2]  # 20 and 10 ms before midnight
    # At midnight nothing had been traded on the new day, but the last price was known.
    assert second.snapshots["traded_qty"].tolist() == [0, 8, 16]
    assert second.snapshots["last_px"].tolist() == [6_000_002, 6_000_003, 6_000_004]
    assert report.quarantined.total() == 1
    assert [session.refused_lines for session in sessions] == [1, 0]


def test_trades_of_a_day_without_a_book_are_a_session_too(tmp_path):
    lines = midnight_lines()
    is_early = [line.ts < lines[4].ts + 10 * MS for line in lines]
    trades = [line for line, early in zip(lines[2:], is_early[2:], strict=True) if early]
    late = [
        Message(lines[-1].ts, diff_body(1, 2, {1: 1}, {3: 1})),
        Message(lines[-1].ts, snapshot_body(2, {1: 1}, {3: 1})),
    ]
    file = write_capture(tmp_path / "venue", [*trades, *late])
    first, second = read_capture(file, interval_ns=10 * MS, levels=LEVELS)[0]
    assert list(first.tables) == ["messages"] and first.session == "2024-08-08"
    assert list(second.tables) == ["snapshots", "messages"]
    sizes = pd.concat([first.messages, second.messages])["size"]
    assert sizes.tolist() == [1, 2, 4, 8]
    assert second.snapshots["traded_qty"].sum() == 8


def test_captures_that_continue_a_day_become_one_session(tmp_path):
    one, two = make_capture(1), make_capture(2)
    shift = one.lines[-1].ts - two.lines[0].ts + INTERVAL_NS
    later = [Message(line.ts + shift, line.body) for line in two.lines]
    root = tmp_path / "venue"
    write_capture(root, one.lines, "_a")
    write_capture(root, later, "_b")
    sessions = list(read_depth_folder(root, interval_ns=INTERVAL_NS, levels=LEVELS))
    assert [session.session for session in sessions] == ["2024-08-08"] * 2
    result = ingest_books(sessions, tmp_path / "book", levels=LEVELS, as_of=AS_OF, max_gap_rows=3)
    (row,) = result.quality.to_dict("records")
    assert row["rows"] == sum(len(session.snapshots) for session in sessions)
    assert row["messages"] == row["trades"] == sum(len(s.messages) for s in sessions)
    assert row["duplicates"] == row["quarantined"] == 0
    assert row["gaps"] >= 1  # the second has no book until its first snapshot


# --- real files


@needs_data
def test_real_day_and_real_capture_are_clean_and_lose_no_trade(tmp_path):
    (day,) = (day for day in read_folder(BOOK) if day.book is not None)
    lobster = lobster_session(day, interval_ns=1_000_000_000, levels=10)
    (raw,) = BOOK.glob("binance*.jsonl.gz")
    capture = CaptureFile(raw, "BTCUSDT", "binance", "0.01", "0.00001")
    (depth,), _ = read_capture(capture, interval_ns=1_000_000_000, levels=10)
    result = ingest_books(
        [lobster, depth], tmp_path / "book", levels=10, as_of=AS_OF, max_gap_rows=5
    )
    assert result.quarantine.empty
    # Dozens of hidden executions of that day are equal to the nanosecond: all are kept.
    assert lobster.messages.duplicated().sum() > 40
    assert result.quality["messages"].tolist() == [len(depth.messages), len(lobster.messages)]
    left_out = ["late", "duplicates", "superseded", "quarantined", "gaps"]
    assert not result.quality[left_out].to_numpy().any()
    for session in (lobster, depth):
        trades = session.messages[session.messages["type"].isin([EXECUTE, EXECUTE_HIDDEN])]
        met = trades[trades["ts"] <= session.snapshots["ts"].iloc[-1]]
        assert session.snapshots["traded_qty"].sum() == met["size"].sum() > 0
        assert session.snapshots["last_px"].iloc[-1] == met["price"].iloc[-1]
    assert len(lobster.snapshots) == 23_399  # each full second between the bells
    assert lobster.refused_lines == len(day.quarantine)


@needs_data
@pytest.mark.slow
def test_real_messages_alone_make_a_day_of_clean_books(tmp_path):
    (day,) = (day for day in read_folder(BOOK) if day.book is None)
    session = lobster_session(day, interval_ns=1_000_000_000, levels=10)
    result = ingest_books([session], tmp_path / "book", levels=10, as_of=AS_OF, max_gap_rows=5)
    assert result.quarantine.empty
    (row,) = result.quality.to_dict("records")
    assert (row["rows"], row["messages"]) == (3599, len(day.messages))
    # A share of 585 dollars that is quoted all the time: the spread is some cents.
    assert 1 < row["median_spread_ticks"] < 40
    assert (session.snapshots["bid_px_10"].iloc[60:] > 0).mean() > 0.99
