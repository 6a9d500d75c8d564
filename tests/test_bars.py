"""Readers: every file becomes text with line numbers, or an error that names the file."""

import gzip

import pandas as pd
import pytest

from hftlib.data.bars import FIELDS, SourceError, read_folder, read_packaged
from tests.conftest import make_bars

HEADER = "ts,open,high,low,close,volume"
ROWS = ("2020-01-01,10,11,9,10.5,100", "2020-01-02,10.5,12,10,11,200")
TEXT = "\n".join((HEADER, *ROWS)) + "\n"


@pytest.fixture(scope="module")
def packaged():
    return {raw.symbol: raw for raw in read_packaged()}


def read_text(folder, text: str, name: str = "abc.csv"):
    (folder / name).write_text(text)
    return read_folder(folder)


def test_packages_carry_seven_symbols_of_known_length(packaged):
    assert {symbol: len(raw.frame) for symbol, raw in packaged.items()} == {
        "SP500": 5031,
        "NASDAQ": 5031,
        "AAPL": 3270,
        "GOOG": 2148,
        "IBM": 3270,
        "MSFT": 3270,
        "EURUSD": 6225,
    }


def test_packaged_national_dates_become_iso(packaged):
    # The files say 1/4/1999 (month first) and 01.01.2017 22:00:00.000 (day first).
    assert packaged["NASDAQ"].frame["ts"].iloc[[0, -1]].tolist() == ["1999-01-04", "2018-12-31"]
    assert packaged["EURUSD"].frame["ts"].iloc[0] == "2017-01-01 22:00:00"


def test_share_prices_are_scaled_to_the_adjusted_close(packaged):
    # 2000-03-01 in the file: open 118.56, high 132.06, low 118.5, close 130.31, adjusted 31.68.
    first = packaged["AAPL"].frame.iloc[0]
    prices = [float(first[name]) for name in ("open", "high", "low", "close")]
    raw = [118.56, 132.06, 118.5, 130.31]
    assert prices == pytest.approx([p * 31.68 / 130.31 for p in raw], rel=1e-12)  # rounding only


def test_no_adjusted_share_jumps_by_a_split(packaged):
    # AAPL split 2:1 on these days: unadjusted closes halve. News moved other days as much
    # (-52 % on 2000-09-29), so only the split days are looked at.
    close = packaged["AAPL"].frame.set_index("ts")["close"].astype(float).pct_change()
    assert close.loc[["2000-06-21", "2005-02-28"]].abs().max() < 0.2


def test_csv_is_read_as_written_with_its_line_numbers(tmp_path):
    (raw,) = read_text(tmp_path, TEXT.replace("10.5,100", "1.050e1,1e2"))
    assert (raw.symbol, raw.source) == ("ABC", "abc.csv")
    assert raw.frame["line"].tolist() == [2, 3]
    assert raw.frame.loc[0, list(FIELDS)].tolist() == [
        *("2020-01-01", "10", "11", "9", "1.050e1", "1e2")
    ]


def test_compressed_csv_reads_like_the_plain_one(tmp_path):
    (plain,) = read_text(tmp_path, TEXT)
    (tmp_path / "abc.csv").unlink()
    (tmp_path / "abc.csv.gz").write_bytes(gzip.compress(TEXT.encode()))
    (packed,) = read_folder(tmp_path)
    pd.testing.assert_frame_equal(packed.frame, plain.frame)
    assert (packed.symbol, packed.source) == ("ABC", "abc.csv.gz")


@pytest.mark.parametrize("as_index", [False, True])
def test_parquet_holds_its_numbers_to_the_last_bit(tmp_path, as_index):
    bars = make_bars(5).drop(columns=["symbol", "source"])
    (bars.set_index("ts") if as_index else bars).to_parquet(tmp_path / "abc.parquet")
    (raw,) = read_folder(tmp_path)
    assert raw.symbol == "ABC"
    assert raw.frame["close"].astype(float).tolist() == bars["close"].tolist()
    assert pd.to_datetime(raw.frame["ts"], utc=True).tolist() == bars["ts"].tolist()


@pytest.mark.parametrize("name", ["ABC.CSV", "ABC.CSV.GZ", "ABC.PARQUET"])
def test_suffix_may_be_upper_case(tmp_path, name):
    if name.endswith("PARQUET"):
        make_bars(2).drop(columns="symbol").to_parquet(tmp_path / name)
    else:
        text = TEXT.encode()
        (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("GZ") else text)
    (raw,) = read_folder(tmp_path)
    assert len(raw.frame) == 2


@pytest.mark.parametrize("time", ["ts", "timestamp", "datetime", "date", "time", " DateTime "])
def test_time_column_goes_by_any_of_its_names(tmp_path, time):
    (raw,) = read_text(tmp_path, TEXT.replace("ts", time, 1))
    assert raw.frame["ts"].tolist() == ["2020-01-01", "2020-01-02"]


def test_case_and_order_of_columns_do_not_matter(tmp_path):
    (raw,) = read_text(tmp_path, "CLOSE,Low,High,OPEN,Date\n4,3,2,1,2020-01-01\n")
    assert raw.frame.loc[0, ["open", "high", "low", "close"]].tolist() == ["1", "2", "3", "4"]


def test_missing_volume_column_stays_blank(tmp_path):
    (raw,) = read_text(tmp_path, "ts,open,high,low,close\n2020-01-01,1,1,1,1\n")
    assert raw.frame["volume"].tolist() == [""]


@pytest.mark.parametrize("name", ["symbol", "Ticker"])
def test_symbol_column_splits_a_file_and_keeps_its_lines(tmp_path, name):
    lines = (f"{HEADER},{name}", f"{ROWS[0]},BBB", f"{ROWS[0]},AAA", f"{ROWS[1]},BBB")
    raw = read_text(tmp_path, "\n".join(lines))
    assert [(r.symbol, r.frame["line"].tolist()) for r in raw] == [("AAA", [3]), ("BBB", [2, 4])]


def test_files_of_subfolders_come_in_the_order_of_their_names(tmp_path):
    for name in ("b.csv", "a/z.csv", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(TEXT)
    assert [raw.source for raw in read_folder(tmp_path)] == ["a/z.csv", "b.csv"]


def test_folder_without_tables_gives_nothing(tmp_path):
    assert read_folder(tmp_path) == []


def test_missing_column_error_names_file_expected_and_received(tmp_path):
    with pytest.raises(SourceError) as error:
        read_text(tmp_path, "Date,Open,High,Low\n2020-01-01,1,1,1\n")
    message = str(error.value)
    assert "abc.csv: no column close" in message
    assert "expected ts, open, high, low, close" in message
    assert "received date, open, high, low" in message


def test_header_alone_is_an_error(tmp_path):
    with pytest.raises(SourceError, match=r"abc\.csv: a header but no rows; add rows"):
        read_text(tmp_path, HEADER + "\n")


def test_empty_file_is_an_error(tmp_path):
    with pytest.raises(SourceError, match=r"abc\.csv: the file is empty; expected a header"):
        read_text(tmp_path, "")


def test_row_with_surplus_fields_is_an_error_that_says_the_line(tmp_path):
    with pytest.raises(SourceError, match=r"abc\.csv: .*Expected 6 fields in line 3, saw 7"):
        read_text(tmp_path, f"{HEADER}\n{ROWS[0]}\n{ROWS[1]},7\n")


def damaged_gzip() -> bytes:
    packed = bytearray(gzip.compress(TEXT.encode() * 50))
    packed[40:60] = bytes(byte ^ 0xFF for byte in packed[40:60])
    return bytes(packed)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("abc.csv.gz", gzip.compress(TEXT.encode())[:-20]),
        ("abc.csv.gz", damaged_gzip()),
        ("abc.csv.gz", TEXT.encode()),
        ("abc.parquet", b"PAR1 and nothing else"),
        ("abc.parquet", b""),
        ("abc.csv", b"\xff\xfe\x00,\xff"),
    ],
    ids=["truncated gz", "damaged gz", "no gz", "corrupt parquet", "empty parquet", "binary csv"],
)
def test_unreadable_file_is_an_error_that_names_it(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=rf"{name}: cannot be read \(.+\); save it again"):
        read_folder(tmp_path)
