"""Bad LOBSTER files: a line that cannot be used leaves with its number, reason and text."""

import gzip
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftlib.data.lobster import LobsterError, find_days, read_day, read_folder
from tests.test_lobster import GOOD_BOOK, GOOD_MESSAGES, STEM, read_lines, refusals, write_files


def replaced(lines: tuple[str, ...], row: int, column: int, text: str) -> list[str]:
    words = lines[row].split(",")
    words[column] = text
    return [*lines[:row], ",".join(words), *lines[row + 1 :]]


@pytest.mark.parametrize(
    ("column", "text", "reason"),
    [
        (0, "noon", "time is not seconds with at most 12 decimals"),
        (0, "3.42e4", "time is not seconds with at most 12 decimals"),
        (0, "", "time is not seconds with at most 12 decimals"),
        (0, "-34201", "time is not seconds with at most 12 decimals"),
        (0, "34199.9", "time is outside the span of the name"),
        (0, "34201.9", "time is out of order"),
        (1, "8", "unknown event type"),
        (1, "0", "unknown event type"),
        (1, "x", "type is not a whole number"),
        (2, "-5", "order id is not positive"),
        (2, "1.5", "order id is not a whole number"),
        (2, "9" * 19, "order id is not a whole number"),
        (3, "0", "size is not positive"),
        (3, "-8", "size is not positive"),
        (3, "2147483648", "size is too large"),
        (3, "0x10", "size is not a whole number"),
        (4, "0", "price is not positive"),
        (4, "2238250", "price off the tick"),
        (4, "2238201", "price off the tick"),
        (4, "214748364800", "price is too large"),
        (4, "NaN", "price is not a whole number"),
        (5, "2", "direction is neither 1 nor -1"),
        (5, "1,7", "expected 6 fields, received 7"),
        (5, " 1", "direction is not a whole number"),
    ],
)
def test_bad_message_leaves_with_its_book_row_and_says_why(tmp_path, column, text, reason):
    row = 1 if reason == "time is out of order" else 2
    lines = replaced(GOOD_MESSAGES, row, column, text)
    day = read_lines(tmp_path, lines)
    assert refusals(day) == [
        (row + 1, reason),
        (row + 1, "the message of this line was refused"),
    ]
    assert day.quarantine["text"].tolist() == [lines[row], GOOD_BOOK[row]]
    assert day.quarantine["file"].tolist() == [
        f"{STEM}_{k}_1.csv" for k in ("message", "orderbook")
    ]
    rest = [k for k in range(6) if k != row]
    assert day.messages["size"].tolist() == [[18, 21, 8, 100, 21, 5][k] for k in rest]
    assert day.book[:, 3].tolist() == [[18, 18, 10, 10, 10, 5][k] for k in rest]


@pytest.mark.parametrize(
    ("column", "text", "reason"),
    [
        (0, "2238200", "book is crossed"),
        (0, "2238100", "book is crossed"),
        (0, "2239550", "price off the tick"),
        (0, "-9999999999", "price is not positive"),
        (1, "0", "size is not positive"),
        (3, "-1", "size is not positive"),
        (2, "-9999999999", "size at an empty level"),
        (2, "0", "price is not positive"),
        (3, "one", "bid size 1 is not a whole number"),
        (3, "1,2", "expected 4 fields, received 5"),
    ],
)
def test_bad_book_row_leaves_with_its_message_and_says_why(tmp_path, column, text, reason):
    day = read_lines(tmp_path, book=replaced(GOOD_BOOK, 3, column, text))
    assert refusals(day) == [(4, "the book of this line was refused"), (4, reason)]
    assert day.messages["type"].tolist() == [1, 1, 4, 3, 2]
    assert len(day.book) == 5


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("10100,1,9900,1,10000,1,9800,1", "levels are out of order"),
        ("10100,1,9900,1,10200,1,9900,1", "levels are out of order"),
        ("9999999999,0,9900,1,10200,1,9800,1", "levels are out of order"),
        ("10100,1,-9999999999,0,10200,1,9800,1", "levels are out of order"),
        ("10100,1,9900,1,9999999999,0,-9999999999,0", ""),
        ("9999999999,0,-9999999999,0,9999999999,0,-9999999999,0", ""),
    ],
)
def test_levels_step_away_from_the_best_and_empty_ones_come_last(tmp_path, row, reason):
    good = "10100,1,9900,1,10200,1,9800,1"
    day = read_lines(tmp_path, GOOD_MESSAGES[:2], [row, good], levels=2)
    expected = [(1, "the book of this line was refused"), (1, reason)] if reason else []
    assert refusals(day) == expected


def test_a_stamp_ahead_of_its_neighbours_condemns_only_itself(tmp_path):
    day = read_lines(tmp_path, replaced(GOOD_MESSAGES, 0, 0, "57599"))
    assert refusals(day)[0] == (1, "time is out of order")
    assert len(day.messages) == 5


def test_shuffled_file_is_refused_as_a_whole(tmp_path):
    order = np.random.default_rng(0).permutation(200)
    lines = [f"{34_201 + k},1,{k + 1},1,100,1" for k in order]
    with pytest.raises(LobsterError, match=r"message_1.csv: 1\d\d of 200 rows are out of time"):
        read_lines(tmp_path, lines, None)


def test_line_cut_at_the_end_of_a_file_is_quarantined_though_it_parses(tmp_path):
    write_files(tmp_path)
    file = tmp_path / f"{STEM}_orderbook_1.csv"
    file.write_bytes(file.read_bytes()[:-1])
    (day,) = read_folder(tmp_path)
    assert refusals(day) == [
        (6, "the book of this line was refused"),
        (6, "line has no end; the file was cut"),
    ]


def test_blank_line_counts_so_that_both_files_stay_aligned(tmp_path):
    lines = [*GOOD_MESSAGES[:2], "", *GOOD_MESSAGES[3:]]
    day = read_lines(tmp_path, lines)
    assert refusals(day)[0] == (3, "expected 6 fields, received 1")
    assert day.tape.bid_qty.tolist() == [18, 18, 10, 10, 5]


@pytest.mark.parametrize(
    ("messages", "book", "said"),
    [
        (GOOD_MESSAGES, GOOD_BOOK[:-1], "has 6 lines, .*orderbook_1.csv 5; they belong together"),
        (GOOD_MESSAGES, (), "orderbook_1.csv: the file is empty"),
        ((), None, "message_1.csv: the file is empty"),
        (GOOD_MESSAGES, ["1,2,3,4,5,6,7,8"] * 6, "reason: the book of this line was refused"),
        (["time,type,id"], None, "no good line; most common reason: expected 6 fields, received 3"),
        (["PK\x03\x04"] * 3, None, "no good line"),
    ],
)
def test_unusable_pair_is_an_error_that_names_the_file(tmp_path, messages, book, said):
    with pytest.raises(LobsterError, match=f"{STEM}_.*{said}"):
        read_lines(tmp_path, messages, book)


def test_damaged_gzip_is_an_error_that_names_the_file(tmp_path):
    file = tmp_path / f"{STEM}_message_1.csv.gz"
    whole = gzip.compress("".join(f"{line}\n" for line in GOOD_MESSAGES * 50).encode())
    bytes_and_word = (
        (whole[: len(whole) // 2], "the gzip stream ends early"),
        (b"34200,1,1,1,100,1\n", "cannot be read"),
        (whole[:20] + b"\xff" * 9 + whole[29:], "cannot be read"),
        (whole[:-6] + b"\x00" * 6, "cannot be read"),
    )
    for data, word in bytes_and_word:
        file.write_bytes(data)
        with pytest.raises(LobsterError, match=f"{file.name}: {word}"):
            read_day(*find_days(tmp_path))


@settings(max_examples=150)
@given(st.data())
def test_any_bytes_become_rows_and_reasons_or_a_lobster_error(data):
    text = bytearray("".join(f"{line}\n" for line in GOOD_MESSAGES).encode())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"{STEM}_message_1.csv").write_bytes(text)
        try:
            (day,) = read_folder(Path(folder))
        except LobsterError as error:
            assert STEM in str(error)
        else:
            n_lines = len(bytes(text).splitlines())
            assert len(day.messages) + len(day.quarantine) == n_lines
            assert day.messages["ts"].is_monotonic_increasing


TIMES = ["34200", "34200.", ".5", "+34200", "0034200.0", "34200.1234567890123", "3.42e4", "-1", ""]
WHOLES = [
    "1",
    "-1",
    "0001",
    "-0",
    "+1",
    "1-",
    "",
    "9" * 18,
    str(2**63 - 1),
    str(2**63),
    "1.0",
    " 1",
]


@settings(max_examples=150)
@given(st.sampled_from(TIMES), st.lists(st.sampled_from(WHOLES), min_size=4, max_size=6))
def test_a_malformed_line_changes_the_fate_of_no_other(time, wholes):
    # A file with a malformed line is parsed on another path than a clean one.
    lines = [",".join([time, *wholes]), *GOOD_MESSAGES]
    with tempfile.TemporaryDirectory() as folder:
        alone = read_lines(Path(folder), lines, None)
        crowd = read_lines(Path(folder), [*lines, "malformed"], None)
    assert refusals(crowd) == [*refusals(alone), (8, "expected 6 fields, received 1")]
    pd.testing.assert_frame_equal(alone.messages, crowd.messages)
