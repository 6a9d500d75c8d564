"""Sentiment: a score counts from the first bar that starts after it, and bad files are named."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftlib.features.indicators import compute_features
from hftlib.features.sentiment import SentimentError, read_sentiment
from tests.conftest import make_bars

HEADER = "symbol,ts,score\n"
ROW = "AAA,2010-01-02T10:00:00Z,0.5\n"


def read(folder, text: str, name: str = "scores.csv"):
    (folder / name).write_text(text)
    return read_sentiment(folder, ["AAA", "BBB"])


def known(*rows: tuple[str, float]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["ts", "score"])
    table["ts"] = pd.to_datetime(table["ts"], utc=True).dt.as_unit("ns")
    table.insert(0, "symbol", "AAA")
    return table


def test_folder_without_files_gives_no_table(tmp_path):
    (tmp_path / "README.md").write_text("how to")
    assert read_sentiment(tmp_path, ["AAA"]) is None
    assert read_sentiment(tmp_path / "absent", ["AAA"]) is None


def test_score_counts_from_the_first_bar_that_starts_at_or_after_it():
    bars = make_bars(10)  # daily from 2010-01-01, 00:00
    scores = known(("2010-01-03T00:00", 1.0), ("2010-01-05T00:01", -2.0))
    column = compute_features(bars, sentiment=scores)["sentiment"]
    expected = [np.nan, np.nan, 1, 1, 1, -2, -2, -2, -2, -2]
    np.testing.assert_array_equal(column, expected)


def test_age_counts_bars_and_the_score_halves_every_five():
    bars = make_bars(10)
    scores = known(("2010-01-03T00:00", 1.0), ("2010-01-05T00:01", -2.0))
    table = compute_features(bars, sentiment=scores)
    age = np.array([0, 1, 2, 0, 1, 2, 3, 4])
    np.testing.assert_allclose(table["sentiment_age"][2:], np.log1p(age), atol=1e-15)
    expected = np.where(np.arange(8) < 3, 1, -2) * 0.5 ** (age / 5)
    np.testing.assert_allclose(table["sentiment_decayed"][2:], expected, atol=1e-15)
    np.testing.assert_array_equal(table["sentiment_change_5"][5:], [np.nan, np.nan, -3, -3, -3])


def test_of_several_scores_between_two_bars_the_newest_counts():
    scores = known(("2010-01-02T01:00", 1.0), ("2010-01-02T02:00", 7.0))
    assert compute_features(make_bars(3), sentiment=scores)["sentiment"].tolist()[2] == 7.0


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_files_are_read_in_order_of_time_whatever_their_format(tmp_path, suffix):
    table = pd.DataFrame(
        {
            "Symbol": ["BBB", "AAA"],
            "ts": pd.to_datetime(["2010-01-02T12:00+02:00", "2010-01-01T00:00+02:00"]),
            "SCORE": [1.0, -1.0],
        }
    )
    file = tmp_path / f"scores.{suffix}"
    if suffix == "csv":
        table.to_csv(file, index=False)
    else:
        table.to_parquet(file)
    found = read_sentiment(tmp_path, ["AAA", "BBB"])
    assert found["symbol"].tolist() == ["AAA", "BBB"]
    assert found["ts"].tolist() == [
        pd.Timestamp("2009-12-31T22:00Z"),
        pd.Timestamp("2010-01-02T10:00Z"),
    ]
    assert found["score"].tolist() == [-1.0, 1.0]


def test_stamps_without_offset_are_utc(tmp_path):
    found = read(tmp_path, HEADER + "AAA,2010-01-02,1\nAAA,2010-01-03 07:30:00,2\n")
    assert found["ts"].tolist() == [
        pd.Timestamp("2010-01-02", tz="UTC"),
        pd.Timestamp("2010-01-03 07:30", tz="UTC"),
    ]


def test_two_offsets_name_one_clock(tmp_path):
    found = read(tmp_path, HEADER + "AAA,2010-06-01T09:00-04:00,1\nAAA,2010-12-01T09:00-05:00,2\n")
    assert found["ts"].dt.hour.tolist() == [13, 14]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("symbol,ts\nAAA,2010-01-02\n", "no column score; expected symbol, ts, score, received"),
        ("", "cannot be read"),
        (HEADER, "a header but no rows"),
        (HEADER + ROW + "AAB,2010-01-02,1\n", "line 3: no bars of symbol 'AAB'; did you mean AAA"),
        (HEADER + "XYZ,2010-01-02,1\n", "line 2: no bars of symbol 'XYZ'; there are bars of AAA"),
        (HEADER + ROW + "AAA,2010-01-03T00:00Z,\n", "line 3: score is '', expected a finite"),
        (HEADER + "AAA,2010-01-03T00:00Z,inf\n", "line 2: score is 'inf', expected a finite"),
        (HEADER + "AAA,2010-01-03T00:00Z,good\n", "line 2: score is 'good', expected a finite"),
        (HEADER + "AAA,03.01.2010,1\n", "line 2: ts is '03.01.2010', expected an ISO 8601 time"),
        (HEADER + ROW + "AAA,2010-01-03T00:00,1\n", "line 3: ts .* stands without an offset"),
        (HEADER + "AAA,2010-01-03,1\n" + ROW, "line 3: ts .* stands with an offset"),
        (HEADER + ROW + ROW, "two scores of AAA at 2010-01-02 10:00:00"),
    ],
)
def test_file_that_cannot_be_used_is_refused_with_its_line(tmp_path, text, message):
    with pytest.raises(SentimentError, match=f"(scores.csv|{tmp_path.name}).*{message}"):
        read(tmp_path, text)


def test_blank_lines_are_passed_over_and_shift_no_line_number(tmp_path):
    assert len(read(tmp_path, HEADER + "\n" + ROW + "\n\n")) == 1
    with pytest.raises(SentimentError, match=r"scores\.csv, line 5: score is 'good'"):
        read(tmp_path, HEADER + "\n" + ROW + "\nAAA,2010-01-03T00:00Z,good\n")
    with pytest.raises(SentimentError, match=r"scores\.csv, line 4: no bars of symbol 'ZZZ'"):
        read(tmp_path, HEADER + ROW + "\nZZZ,2010-01-03T00:00Z,1\n")


def test_parquet_s_index_does_not_matter_and_may_be_the_time(tmp_path):
    table = pd.DataFrame(
        {
            "symbol": ["AAA", "XYZ"],
            "ts": pd.to_datetime(["2010-01-01", "2010-01-02"], utc=True),
            "score": [1.0, 2.0],
        },
        index=[7, 3],
    )
    table.to_parquet(tmp_path / "scores.parquet")
    with pytest.raises(SentimentError, match=r"scores\.parquet, row 1: no bars of symbol 'XYZ'"):
        read_sentiment(tmp_path, ["AAA"])
    table.set_index("ts").to_parquet(tmp_path / "scores.parquet")
    found = read_sentiment(tmp_path, ["AAA", "XYZ"])
    assert found["ts"].tolist() == table["ts"].tolist()


def test_parquet_that_is_none_is_refused(tmp_path):
    with pytest.raises(SentimentError, match=r"bad\.parquet: cannot be read"):
        read(tmp_path, "no table", "bad.parquet")


STAMPS = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
FINITE = st.floats(allow_nan=False, allow_infinity=False)
KEYS = st.tuples(st.sampled_from(["AAA", "BBB"]), STAMPS)


@given(scores=st.dictionaries(KEYS, FINITE, min_size=1, max_size=20))
def test_any_scores_come_back_from_a_csv_as_they_were_in_order_of_time(scores):
    rows = [f"{symbol},{ts.isoformat()},{score!r}\n" for (symbol, ts), score in scores.items()]
    with tempfile.TemporaryDirectory() as folder:
        found = read(Path(folder), HEADER + "".join(rows))
    ordered = sorted(scores, key=lambda key: (key[1], key[0]))
    assert list(zip(found["symbol"], found["ts"], strict=True)) == ordered
    assert found["score"].tolist() == [scores[key] for key in ordered]


@given(text=st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_any_text_is_read_or_refused_with_the_file_s_name(text):
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = read(Path(folder), HEADER + text)
        except SentimentError as fault:
            assert "scores.csv" in str(fault) or "two scores" in str(fault)
        else:
            assert np.isfinite(found["score"]).all()
