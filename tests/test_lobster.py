"""LOBSTER files: every line becomes a row or a reason, and writing is reading backwards."""

import gzip
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftlib.data.lobster import (
    DayName,
    LobsterDay,
    LobsterError,
    find_days,
    parse_name,
    read_day,
    read_folder,
    write_lobster,
)
from hftlib.data.lobster_rows import NO_ASK, NO_BID, REFUSED, book_from_ticks, format_rows
from hftlib.market.tape import EXECUTE, HALT
from hftlib.schema import MESSAGES, SchemaError, empty, validate
from tests.conftest import SHARED_DATA

AMZN = DayName("AMZN", "2012-06-21", 34_200_000, 57_600_000, 1)
SPAN = "34200000_57600000"
STEM = f"ABC_2012-06-21_{SPAN}"
NEW_YORK_MIDNIGHT = pd.Timestamp("2012-06-21", tz="America/New_York").value
GOOD_MESSAGES = (
    "34200.017459617,1,11,18,2238200,1",
    "34200.5,1,12,21,2239500,-1",
    "34201,4,11,8,2238200,1",
    "34201,5,0,100,2238800,-1",
    "34202.25,3,12,21,2239500,-1",
    "34203.000000001,2,11,5,2238200,1",
)
GOOD_BOOK = (
    "9999999999,0,2238200,18",
    "2239500,21,2238200,18",
    "2239500,21,2238200,10",
    "2239500,21,2238200,10",
    "9999999999,0,2238200,10",
    "9999999999,0,2238200,5",
)


def write_files(folder: Path, messages=GOOD_MESSAGES, book=GOOD_BOOK, levels: int = 1) -> None:
    for kind, lines in (("message", messages), ("orderbook", book)):
        if lines is not None:
            file = folder / f"{STEM}_{kind}_{levels}.csv"
            file.write_text("".join(f"{line}\n" for line in lines))


def read_lines(folder: Path, messages=GOOD_MESSAGES, book=GOOD_BOOK, levels=1) -> LobsterDay:
    write_files(folder, messages, book, levels)
    (day,) = read_folder(folder)
    return day


def refusals(day: LobsterDay) -> list[tuple[int, str]]:
    return list(zip(day.quarantine["line"], day.quarantine["reason"], strict=True))


def test_good_files_become_messages_book_and_tape_in_ticks_and_utc(tmp_path):
    day = read_lines(tmp_path)
    frame = validate(day.messages, MESSAGES)
    assert validate(day.quarantine, REFUSED).empty
    assert set(frame["symbol"]) == {"ABC"} and set(frame["session"]) == {"2012-06-21"}
    elapsed = (frame["ts"] - NEW_YORK_MIDNIGHT).tolist()
    assert elapsed == [
        34_200_017_459_617,
        34_200_500_000_000,
        34_201_000_000_000,
        34_201_000_000_000,
        34_202_250_000_000,
        34_203_000_000_001,
    ]
    assert pd.Timestamp(frame["ts"].iloc[2], tz="UTC").isoformat() == "2012-06-21T13:30:01+00:00"
    assert frame["price"].tolist() == [22382, 22395, 22382, 22388, 22395, 22382]
    assert day.book.dtype == np.int32
    assert day.book.tolist()[:2] == [[0, 0, 22382, 18], [22395, 21, 22382, 18]]
    tape = day.tape
    assert tape.kind.tolist() == [1, 1, 4, 5, 3, 2]
    assert tape.best_ask.tolist() == [0, 22395, 22395, 22395, 0, 0]
    assert tape.bid_qty.tolist() == [18, 18, 10, 10, 10, 5]


def test_winter_days_stand_five_hours_behind_utc(tmp_path):
    (tmp_path / f"ABC_2012-12-03_{SPAN}_message_1.csv").write_text(GOOD_MESSAGES[2] + "\n")
    (day,) = read_folder(tmp_path)
    assert pd.Timestamp(day.messages["ts"][0], tz="UTC").hour == 14


def test_halts_and_crosses_keep_their_codes(tmp_path):
    lines = ["34201,7,0,0,-1,-1", "34202,7,0,0,0,-1", "34203,7,0,0,1,-1", "34204,6,-1,900,1100,-1"]
    day = read_lines(tmp_path, [*lines, "34205,7,0,0,2,-1", "34206,7,0,-1,1,-1"], None)
    assert day.messages["price"].tolist() == [-1, 0, 1, 11]
    assert day.messages["order_id"].tolist() == [0, 0, 0, -1]
    assert refusals(day) == [(5, "halt code is not -1, 0 or 1"), (6, "size is not positive")]
    written = write_lobster(tmp_path / "again", day, suffix=".csv")
    assert written.messages.read_text().splitlines() == lines


def test_decimals_are_exact_to_the_nanosecond_and_print_noise_is_rounded(tmp_path):
    # 35821.088778456004 stands in the AAPL sample: a double printed with 17 digits.
    times = ["34200.000000001", "35821.088778456004", "35822.999999999", "35823.999999999999"]
    lines = [f"{t},1,{k + 1},1,100,1" for k, t in enumerate(times)]
    day = read_lines(tmp_path, lines, None)
    assert (day.messages["ts"] - NEW_YORK_MIDNIGHT).tolist() == [
        34_200_000_000_001,
        35_821_088_778_456,
        35_822_999_999_999,
        35_824_000_000_000,
    ]


def test_windows_line_ends_and_the_tick_make_no_difference(tmp_path):
    write_files(tmp_path)
    plain = next(read_folder(tmp_path))
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    windows = next(read_folder(tmp_path, tick=50))
    assert (windows.messages["price"] == 2 * plain.messages["price"]).all()
    assert np.array_equal(windows.book[:, 1::2], plain.book[:, 1::2])
    assert windows.quarantine.empty


@pytest.mark.parametrize(
    "name",
    [
        "ABC.csv",
        f"{STEM}_message_0.csv",
        f"{STEM}_trades_1.csv",
        f"ABC_2012-06-31_{SPAN}_message_1.csv",
        "ABC_2012-06-21_57600000_34200000_message_1.csv",
        f"A_B_2012-06-21_{SPAN}_message_1.csv.gz",
    ],
)
def test_name_that_departs_from_the_convention_is_refused(tmp_path, name):
    (tmp_path / name).write_text("")
    with pytest.raises(LobsterError, match=name.replace(".", r"\.")):
        find_days(tmp_path)


def test_folder_pairs_files_and_refuses_orphans_and_twins(tmp_path):
    (tmp_path / "README.md").write_text("not data")
    assert find_days(tmp_path) == []
    (tmp_path / "2012").mkdir()
    write_files(tmp_path / "2012")
    (tmp_path / f"ZZZ_2012-06-20_{SPAN}_message_5.csv").write_text(GOOD_MESSAGES[0] + "\n")
    abc, zzz = read_folder(tmp_path)
    assert abc.summary["has_book"] and not zzz.summary["has_book"]
    assert abc.summary["messages"] == 6 and zzz.summary["levels"] == 5
    with pytest.raises(LobsterError, match="no order-book file"):
        _ = zzz.tape
    orphan = tmp_path / f"ZZZ_2012-06-20_{SPAN}_orderbook_10.csv"
    orphan.write_text("")
    with pytest.raises(LobsterError, match=r"without messages; add ZZZ_.*_message_10\.csv"):
        find_days(tmp_path)
    orphan.unlink()
    (tmp_path / f"{STEM}_message_10.csv.gz").write_bytes(b"")
    with pytest.raises(LobsterError, match=r"comes from .* too; keep one"):
        find_days(tmp_path)


@st.composite
def days(draw) -> LobsterDay:
    """Valid days of any size, with halts, crosses and empty levels."""
    n, levels = draw(st.integers(1, 30)), draw(st.integers(1, 4))
    tick = draw(st.sampled_from([1, 50, 100]))
    session = draw(st.dates(date(1990, 1, 1), date(2060, 1, 1))).isoformat()
    symbol = draw(st.sampled_from(["A", "BRK.B", "X-1"]))
    name = DayName(symbol, session, 14_400_000, 72_000_000, levels)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = rng.integers(1, 8, n)
    is_halt = kind == HALT
    order_id = np.where(kind <= EXECUTE, rng.integers(1, 2**62, n), rng.integers(-4, 1, n))
    frame = pd.DataFrame(
        {
            "symbol": name.symbol,
            "source": "lobster",
            "session": name.session,
            "ts": name.midnight_ns + np.sort(rng.integers(name.span_ns[0], name.span_ns[1], n)),
            "type": kind,
            "order_id": order_id,
            "size": np.where(is_halt, 0, rng.integers(1, 2**31 - 1, n)),
            "price": np.where(is_halt, rng.integers(-1, 2, n), rng.integers(1, 2**31 - 1, n)),
            "direction": rng.choice([-1, 1], n),
        }
    ).astype({column.name: column.dtype for column in MESSAGES.columns})
    book = None
    if draw(st.booleans()):
        steps = rng.integers(1, 1000, (n, levels)).cumsum(axis=1)
        mid = rng.integers(10_000, 10**6, (n, 1))
        book = np.zeros((n, 4 * levels), dtype=np.int32)
        for column, price in ((0, mid + steps), (2, mid - steps)):
            used = np.arange(levels) < rng.integers(0, levels + 1, (n, 1))
            book[:, column::4] = np.where(used, price, 0)
            book[:, column + 1 :: 4] = np.where(used, rng.integers(1, 2**31 - 1, (n, levels)), 0)
    quarantine = pd.DataFrame({c.name: pd.Series([], dtype=c.dtype) for c in REFUSED.columns})
    return LobsterDay(name, tick, frame, book, quarantine)


@settings(max_examples=60)
@given(days(), st.sampled_from([".csv", ".csv.gz"]))
def test_reading_what_was_written_gives_the_day_back(day, suffix):
    with tempfile.TemporaryDirectory() as folder:
        written = write_lobster(Path(folder), day, suffix=suffix)
        assert find_days(Path(folder)) == [written]
        again = read_day(written, tick=day.tick)
        pd.testing.assert_frame_equal(again.messages, day.messages)
        assert again.quarantine.empty
        assert (again.book is None) == (day.book is None)
        assert day.book is None or np.array_equal(again.book, day.book)
        first = written.messages.read_bytes()
        assert write_lobster(Path(folder), again, suffix=suffix).messages.read_bytes() == first


def test_writer_refuses_what_the_reader_would_and_writes_nothing(tmp_path):
    good = read_lines(tmp_path)
    for column, value, said in (("size", 0, "size is not positive"), ("type", 9, "unknown event")):
        frame = good.messages.copy()
        frame.loc[2, column] = value
        bad = LobsterDay(good.name, good.tick, frame, good.book, good.quarantine)
        with pytest.raises(LobsterError, match=f"row 2: {said}"):
            write_lobster(tmp_path / "out", bad)
    crossed = good.book.copy()
    crossed[3, 0] = 1
    with pytest.raises(LobsterError, match="book: row 3: book is crossed"):
        write_lobster(
            tmp_path / "out",
            LobsterDay(good.name, good.tick, good.messages, crossed, good.quarantine),
        )
    assert not (tmp_path / "out").exists()


def test_a_day_is_checked_when_it_is_made(tmp_path):
    good = read_lines(tmp_path)
    with pytest.raises(LobsterError, match=r"expected a book of shape \(6, 4\), received \(5, 4\)"):
        LobsterDay(good.name, good.tick, good.messages, good.book[:5], good.quarantine)
    with pytest.raises(SchemaError, match="missing price"):
        frame = good.messages.drop(columns="price")
        LobsterDay(good.name, good.tick, frame, good.book, good.quarantine)
    with pytest.raises(LobsterError, match="without messages"):
        LobsterDay(good.name, good.tick, empty(MESSAGES), None, good.quarantine)


needs_samples = pytest.mark.skipif(
    not (SHARED_DATA / "book").is_dir(), reason=f"no LOBSTER samples in {SHARED_DATA}"
)


@pytest.fixture(scope="module")
def samples():
    return {files.name.symbol: files for files in find_days(SHARED_DATA / "book")}


@needs_samples
def test_amzn_day_has_its_published_counts(samples):
    started = time.perf_counter()
    day = read_day(samples["AMZN"])
    elapsed_s = time.perf_counter() - started
    assert parse_name(samples["AMZN"].messages) == (AMZN, "message")
    counts = day.messages["type"].value_counts().to_dict()
    # Midpoint executions at half a cent are all that leaves.
    assert counts == {1: 27_845, 2: 16, 3: 18_235, 4: 8_974, 5: 2_445 - 63}
    assert day.quarantine["reason"].value_counts().to_dict() == {
        "price off the tick": 63,
        "the message of this line was refused": 63,
    }
    tape = day.tape
    assert (tape.best_bid < tape.best_ask).all()
    assert day.summary["first"].isoformat() == "2012-06-21T13:30:00.017459617+00:00"
    assert elapsed_s < 3  # it takes .1 s; the slack is for a machine that others use


@needs_samples
def test_amzn_files_are_written_back_byte_for_byte(samples, tmp_path):
    files = samples["AMZN"]
    written = write_lobster(tmp_path, read_day(files, tick=50))  # half a cent: nothing is refused
    for original, copy in zip(files[1:], written[1:], strict=True):
        assert original.name == copy.name
        assert gzip.decompress(copy.read_bytes()) == gzip.decompress(original.read_bytes())


@needs_samples
def test_aapl_hour_keeps_the_orders_that_replay_needs(samples):
    day = read_day(samples["AAPL"])
    counts = day.messages["type"].value_counts().to_dict()
    assert counts == {1: 44_256, 2: 469, 3: 41_004, 4: 4_067, 5: 2_201 - 19}
    assert set(day.quarantine["reason"]) == {"price off the tick"}
    assert day.book is None


def test_book_text_round_trips_through_its_sentinels():
    text = b"9999999999,0,-9999999999,0\n10100,3,10000,4\n"
    book = np.array([[0, 0, 0, 0], [101, 3, 100, 4]], dtype=np.int32)
    values = book_from_ticks(book, 100)
    assert values[0, [0, 2]].tolist() == [NO_ASK, NO_BID]
    assert format_rows(values, has_time=False) == text
