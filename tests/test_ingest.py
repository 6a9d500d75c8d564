"""Ingestion: a bad row is refused with its line and reason, and no row vanishes."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftlib.data.bars import RawBars, SourceError, read_folder, read_packaged
from hftlib.data.ingest import check_symbols, ingest_bars, parse_times
from hftlib.data.quality import QualityLimits
from hftlib.schema import BARS, QUARANTINE, validate
from tests.conftest import SHARED_DATA

AS_OF = pd.Timestamp("2025-01-01", tz="UTC")
N_ROWS = 12
FIRST_LINE = 2  # the header is line 1


def make_rows(n_rows: int = N_ROWS, start: str = "2020-01-01") -> pd.DataFrame:
    """Good rows as text; the volume of a row is its line number."""
    days = pd.date_range(start, periods=n_rows).strftime("%Y-%m-%d")
    lines = np.arange(n_rows) + FIRST_LINE
    prices = {"open": "10", "high": "11", "low": "9", "close": "10.5"}
    return pd.DataFrame({"ts": days, **prices, "volume": lines.astype(str)}, dtype="str")


def read_rows(folder: Path, **rows: pd.DataFrame) -> list[RawBars]:
    """Write each frame as a CSV named by its keyword, and read the folder."""
    for stem, table in rows.items():
        table.to_csv(folder / f"{stem}.csv", index=False)
    return read_folder(folder)


def ingest(own: list[RawBars], packaged: list[RawBars] | None = None):
    limits = QualityLimits(max_gap_bars=3, min_bars=2)
    return ingest_bars([*(packaged or []), *own], as_of=AS_OF, limits=limits)


def refusals(result) -> list[tuple[int, str]]:
    return list(zip(result.quarantine["line"], result.quarantine["reason"], strict=True))


def test_good_rows_all_become_bars(tmp_path):
    result = ingest(read_rows(tmp_path, abc=make_rows()))
    assert len(validate(result.bars, BARS)) == N_ROWS
    assert validate(result.quarantine, QUARANTINE).empty
    assert result.bars["volume"].tolist() == list(range(2, N_ROWS + 2))


@pytest.mark.parametrize(
    ("field", "text", "reason"),
    [
        ("open", "ten", "open is not a number"),
        ("close", "", "close is not a number"),
        ("low", "NaN", "low is not a number"),
        ("high", "inf", "high is not a number"),
        ("open", "0", "open is not positive"),
        ("low", "-9", "low is not positive"),
        ("high", "8.9", "high is below low"),
        ("open", "11.5", "open is outside [low, high]"),
        ("close", "8.5", "close is outside [low, high]"),
        ("volume", "many", "volume is not a number"),
        ("volume", "-1", "volume is negative"),
        ("ts", "1/4/2020", "time is neither ISO 8601 nor an epoch"),
        ("ts", "04.01.2020", "time is neither ISO 8601 nor an epoch"),
        ("ts", "", "time is neither ISO 8601 nor an epoch"),
        ("ts", "2019-06-30", "time is out of order"),
        ("ts", "2020-01-03", "duplicate time"),
        ("ts", "2025-01-02", "time is in the future"),
        ("ts", "9999-12-31", "time is neither ISO 8601 nor an epoch"),
        ("ts", "9999999999999999999", "time is neither ISO 8601 nor an epoch"),
    ],
)
def test_bad_field_is_quarantined_alone_with_line_reason_and_text(tmp_path, field, text, reason):
    rows = make_rows()
    rows.loc[3, field] = text
    result = ingest(read_rows(tmp_path, abc=rows))
    assert refusals(result) == [(3 + FIRST_LINE, reason)]
    assert result.quarantine[["symbol", "source", field]].values.tolist() == [
        ["ABC", "abc.csv", text]
    ]
    assert len(result.bars) == N_ROWS - 1


def test_row_that_is_late_and_wrong_is_told_its_first_fault_only(tmp_path):
    rows = make_rows()
    rows.loc[4, ["open", "volume"]] = ["-1", "-1"]
    assert refusals(ingest(read_rows(tmp_path, abc=rows))) == [(6, "open is not positive")]


def test_swapped_rows_lose_only_one_of_the_two(tmp_path):
    rows = make_rows()
    rows.loc[[5, 6], "ts"] = rows.loc[[6, 5], "ts"].tolist()
    result = ingest(read_rows(tmp_path, abc=rows))
    assert refusals(result) == [(7, "time is out of order")]


def test_a_stamp_ahead_of_its_neighbours_condemns_only_itself(tmp_path):
    rows = make_rows()
    rows.loc[2, "ts"] = "2024-06-30"
    result = ingest(read_rows(tmp_path, abc=rows))
    assert refusals(result) == [(4, "time is out of order")]
    assert result.bars["ts"].is_monotonic_increasing


def test_blank_line_is_counted_and_refused(tmp_path):
    lines = make_rows().to_csv(index=False).splitlines()
    lines.insert(4, "")
    (tmp_path / "abc.csv").write_text("\n".join(lines))
    result = ingest(read_folder(tmp_path))
    assert refusals(result) == [(5, "time is neither ISO 8601 nor an epoch")]
    assert len(result.bars) == N_ROWS


@pytest.mark.parametrize("text", ["", "nan", "None", "<NA>"])
def test_blank_volume_is_nan_and_no_fault(tmp_path, text):
    result = ingest(read_rows(tmp_path, abc=make_rows().assign(volume=text)))
    assert result.quarantine.empty
    assert result.bars["volume"].isna().all()


def test_null_volume_in_parquet_is_nan_and_no_fault(tmp_path):
    rows = make_rows().assign(volume=[np.nan, *range(1, N_ROWS)])
    rows.to_parquet(tmp_path / "abc.parquet")
    result = ingest(read_folder(tmp_path))
    assert refusals(result) == []
    assert result.bars["volume"].isna().tolist() == [True] + [False] * (N_ROWS - 1)


def test_null_symbol_in_parquet_drops_no_row(tmp_path):
    rows = make_rows().assign(symbol=["AAA"] * (N_ROWS - 1) + [None])
    rows.to_parquet(tmp_path / "abc.parquet")
    result = ingest(read_folder(tmp_path))
    assert len(result.bars) + len(result.quarantine) == N_ROWS


TIMES = ["", "soon", "1/4/2020", "1990-01-01", "2020-01-05", "2020-01-30", "2080-01-01"]
PRICES = st.sampled_from(["", "nan", "inf", "-inf", "0", "-1", "1e9", "1e-9", "9.5", "ten"])
FUZZ = st.text(alphabet="0123456789.-+eEx_ ", max_size=8)
FAULT = st.one_of(
    st.tuples(st.just("ts"), st.sampled_from(TIMES)),
    st.tuples(st.sampled_from(["open", "high", "low", "close"]), PRICES | FUZZ),
)


@settings(max_examples=60, deadline=None)
@given(faults=st.lists(st.tuples(st.integers(1, 29), FAULT), max_size=12))
def test_every_row_is_either_a_bar_or_in_quarantine(faults):
    rows = make_rows(30)
    for row, (field, text) in faults:
        rows.loc[row, field] = text
    with tempfile.TemporaryDirectory() as folder:
        result = ingest(read_rows(Path(folder), abc=rows))
    kept, refused = result.bars["volume"].astype(int).tolist(), result.quarantine["line"].tolist()
    assert sorted(kept + refused) == list(range(FIRST_LINE, 30 + FIRST_LINE))
    assert (result.quarantine["reason"] != "").all()
    assert result.bars["ts"].is_monotonic_increasing and result.bars["ts"].is_unique
    prices = result.bars[["open", "high", "low", "close"]]
    assert np.isfinite(prices).all(axis=None) and (prices > 0).all(axis=None)


def test_newest_first_file_is_flipped_and_keeps_its_line_numbers(tmp_path):
    rows = make_rows()
    rows.loc[2, "open"] = "ten"
    forward = ingest(read_rows(tmp_path, abc=rows))
    backward = ingest(read_rows(tmp_path, abc=rows.iloc[::-1]))
    pd.testing.assert_frame_equal(backward.bars, forward.bars)
    assert refusals(forward) == [(4, "open is not a number")]
    assert refusals(backward) == [(N_ROWS + 1 - 2, "open is not a number")]


def test_second_own_file_continues_the_symbol(tmp_path):
    early, late = make_rows(4), make_rows(5, start="2020-01-04").assign(close="9.9")
    result = ingest(read_rows(tmp_path, a=early.assign(symbol="XYZ"), b=late.assign(symbol="XYZ")))
    # 2020-01-04 is in both: the first file's row stands.
    assert result.bars["source"].tolist() == ["a.csv"] * 4 + ["b.csv"] * 4
    assert result.quarantine[["source", "line", "reason"]].values.tolist() == [
        ["b.csv", 2, "duplicate time"]
    ]
    assert result.quality.loc["XYZ", "source"] == "a.csv, b.csv"


def test_order_of_continuing_files_does_not_matter(tmp_path):
    early, late = make_rows(4).assign(symbol="XYZ"), make_rows(4, "2020-02-01").assign(symbol="XYZ")
    result = ingest(read_rows(tmp_path, a=late, b=early))
    assert result.quarantine.empty
    assert result.bars["ts"].is_monotonic_increasing


def test_own_file_may_not_redefine_a_packaged_symbol(tmp_path):
    own = read_rows(tmp_path, abc=make_rows())
    packaged = [RawBars("ABC", "arch", own[0].frame, "packaged")]
    with pytest.raises(SourceError, match=r"abc\.csv: symbol ABC already comes from arch"):
        ingest(own, packaged)


def test_symbol_without_a_good_row_is_an_error(tmp_path):
    own = read_rows(tmp_path, abc=make_rows().assign(open="ten", ts="soon"), ok=make_rows())
    with pytest.raises(SourceError, match=r"abc\.csv: no good row for ABC; reasons: time is"):
        ingest(own)


def test_no_source_at_all_gives_empty_tables():
    result = ingest([])
    assert len(result.bars) == len(result.quarantine) == len(result.quality) == 0


def test_quality_counts_gaps_and_zero_volume(tmp_path):
    rows = make_rows().drop(index=[4, 5, 6, 7])  # a step of 5 days among steps of 1
    rows.loc[9, "volume"] = "0"
    quality = ingest(read_rows(tmp_path, abc=rows)).quality.loc["ABC"]
    assert (quality["rows"], quality["gaps"], quality["zero_volume"]) == (8, 1, 1)
    assert quality["interval"] == pd.Timedelta("1D")
    assert quality["longest_gap"] == pd.Timedelta("5D")


@pytest.mark.parametrize(
    "text",
    [
        "1577934245",
        "1577934245000",
        "1577934245000000",
        "1577934245000000000",
        "2020-01-02 03:04:05",
        "2020-01-02T03:04:05Z",
        "2020-01-01T22:04:05-05:00",
        " 2020-01-02T03:04:05.000 ",
    ],
)
def test_epochs_of_any_unit_and_iso_stamps_name_the_same_instant(text):
    assert parse_times(pd.Series([text])).tolist() == [pd.Timestamp("2020-01-02 03:04:05Z")]


def test_epoch_keeps_its_last_nanosecond():
    # As a float64 the last digits would be lost.
    assert parse_times(pd.Series(["1577934245123456789"])).iloc[0].value == 1577934245123456789


@pytest.mark.parametrize("text", ["9223372036854775808", "0001-01-01", "9999-12-31T00:00:00Z"])
def test_time_beyond_nanoseconds_is_refused_without_spoiling_its_neighbours(text):
    times = parse_times(pd.Series([text, "2020-01-02"]))
    assert times.isna().tolist() == [True, False]


def test_packaged_bars_are_clean_and_hold_their_known_facts():
    result = ingest_bars(read_packaged(), as_of=AS_OF)
    assert result.quarantine.empty
    assert len(result.bars) == 5031 * 2 + 3270 * 3 + 2148 + 6225
    bars = result.bars
    silent = bars[bars["volume"] == 0]
    assert silent["symbol"].tolist() == ["NASDAQ", "NASDAQ"]
    assert silent["ts"].dt.strftime("%Y-%m-%d").tolist() == ["2015-05-12", "2018-01-09"]
    assert result.quality["interval"].eq(pd.Timedelta("1D")).sum() == 6
    assert result.quality.loc["EURUSD", "interval"] == pd.Timedelta("1h")


def test_bitstamp_file_is_flipped_and_loses_no_row(tmp_path):
    file = SHARED_DATA / "bars/btcusd_bitstamp_1h.csv.gz"
    if not file.is_file():
        pytest.skip("the Bitstamp sample is not on this machine")
    shutil.copy(file, tmp_path)
    (raw,) = read_folder(tmp_path)
    assert raw.frame["ts"].iloc[0] > raw.frame["ts"].iloc[-1]
    result = ingest([raw])
    assert (len(result.bars), len(result.quarantine)) == (33_259, 0)
    assert result.bars["symbol"].unique().tolist() == ["BTC/USD"]
    assert result.bars["ts"].is_monotonic_increasing
    assert result.bars["ts"].iloc[-1] == pd.Timestamp("2022-03-01 00:00Z")


def test_symbol_without_bars_is_refused_with_the_nearest_name():
    check_symbols(["SP500", "AAPL"], ["AAPL", "SP500"])
    with pytest.raises(SourceError, match="no bars of 'SP50'; did you mean SP500"):
        check_symbols(["SP50"], ["AAPL", "SP500"])
    with pytest.raises(SourceError, match="no bars of 'ZZZ'; there are AAPL, SP500"):
        check_symbols(["ZZZ"], ["AAPL", "SP500"])
