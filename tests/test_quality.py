"""The quality table says of each symbol what no single row shows."""

import numpy as np
import pandas as pd
import pytest

from hftlib.data.bars import FIELDS, RawBars, SourceError
from hftlib.data.ingest import ingest_bars
from hftlib.data.quality import QualityLimits

AS_OF = pd.Timestamp("2025-01-01", tz="UTC")
LIMITS = QualityLimits(
    max_gap_bars=3, min_bars=20, max_constant_bars=4, max_stale_share=0.2, max_lag_bars=5
)


def make_table(n_rows: int = 40, start: str = "2020-01-01") -> pd.DataFrame:
    """Faultless rows as text: every price differs from the one before."""
    close = 10 + 0.1 * np.arange(n_rows)
    table = pd.DataFrame(
        {
            "ts": pd.date_range(start, periods=n_rows).strftime("%Y-%m-%d"),
            "open": (close + 0.03).astype(str),
            "high": (close + 0.5).astype(str),
            "low": (close - 0.5).astype(str),
            "close": close.astype(str),
            "volume": "100",
        }
    )
    return table.astype("str")


def as_raw(table: pd.DataFrame, symbol: str = "ABC", source: str = "abc.csv", **origin: str):
    frame = table[list(FIELDS)].reset_index(drop=True)
    return RawBars(symbol, source, frame.assign(line=range(2, len(frame) + 2)), **origin)


def judge(*raw: RawBars) -> pd.DataFrame:
    return ingest_bars(raw, as_of=AS_OF, limits=LIMITS).quality


def flags_of(table: pd.DataFrame) -> str:
    return judge(as_raw(table)).loc["ABC", "flags"]


def test_a_faultless_symbol_has_no_flag():
    assert flags_of(make_table()) == ""


def test_nan_between_good_bars_is_flagged_and_before_the_first_is_not():
    table = make_table()
    table.loc[7, "close"] = "nan"
    quality = judge(as_raw(table)).loc["ABC"]
    assert (quality["flags"], quality["holes"], quality["quarantined"]) == ("nan inside", 1, 1)
    table = make_table()
    table.loc[0, "close"] = "nan"
    assert flags_of(table) == ""


@pytest.mark.parametrize(("n_flat", "flags"), [(4, ""), (5, "constant prices")])
def test_constant_prices_are_flagged_beyond_the_limit(n_flat, flags):
    table = make_table()
    table.loc[10 : 9 + n_flat, ["open", "high", "low", "close"]] = "12"
    quality = judge(as_raw(table)).loc["ABC"]
    assert quality["longest_constant"] == n_flat
    assert quality["flags"] == flags


def test_two_flat_runs_at_different_prices_are_not_one():
    table = make_table()
    table.loc[10:12, ["open", "high", "low", "close"]] = "12"
    table.loc[13:14, ["open", "high", "low", "close"]] = "13"
    assert judge(as_raw(table)).loc["ABC", "longest_constant"] == 3


@pytest.mark.parametrize(("text", "flag"), [("0", "zero volume"), ("", "missing volume")])
def test_volume_that_is_zero_or_missing_is_flagged(text, flag):
    table = make_table()
    table.loc[3, "volume"] = text
    assert flags_of(table) == flag


def test_duplicate_times_are_counted_and_flagged():
    table = pd.concat([make_table(), make_table().iloc[[20, 21]]]).sort_values("ts")
    quality = judge(as_raw(table)).loc["ABC"]
    assert (quality["duplicates"], quality["flags"]) == (2, "duplicates")


def test_a_step_beyond_the_limit_is_a_gap():
    assert flags_of(make_table().drop(index=[5, 6])) == ""
    assert flags_of(make_table().drop(index=[5, 6, 7])) == "gaps"


def test_opens_that_repeat_the_close_before_are_flagged_by_their_share():
    table = make_table()
    table.loc[1:8, "open"] = table.loc[0:7, "close"].to_numpy()
    assert flags_of(table) == ""  # 8 of 40 are the limit
    table.loc[9, "open"] = table.loc[8, "close"]
    assert flags_of(table) == "stale opens"


@pytest.mark.parametrize(("n_rows", "flags"), [(20, ""), (19, "too little history")])
def test_too_little_history_is_flagged(n_rows, flags):
    assert flags_of(make_table(n_rows)) == flags


def test_a_single_bar_has_no_interval_and_is_too_little_history():
    quality = judge(as_raw(make_table(1)), as_raw(make_table(), "DEF", "def.csv"))
    assert quality.loc["ABC", "flags"] == "too little history"


def test_a_series_that_ends_long_before_its_like_is_flagged_as_delisted():
    quality = judge(as_raw(make_table()), as_raw(make_table(34), "DEAD", "dead.csv"))
    assert quality["flags"].to_dict() == {"ABC": "", "DEAD": "delisted"}
    assert quality.loc["DEAD", "ends_early_by"] == pd.Timedelta("6D")


def test_ends_are_compared_within_a_package_and_not_across_sources():
    old = as_raw(make_table(30), "OLD", "museum", origin="packaged")
    quality = judge(old, as_raw(make_table(90)))
    assert quality["flags"].to_dict() == {"ABC": "", "OLD": ""}


def test_summer_and_winter_offsets_are_converted_and_a_third_is_flagged():
    table = make_table()
    table["ts"] += ["T00:00:00-05:00"] * 20 + ["T00:00:00-04:00"] * 20
    result = ingest_bars([as_raw(table)], as_of=AS_OF, limits=LIMITS)
    assert result.quality.loc["ABC", ["offsets", "flags"]].tolist() == [2, ""]
    assert result.bars["ts"].iloc[[0, -1]].tolist() == [
        pd.Timestamp("2020-01-01 05:00Z"),
        pd.Timestamp("2020-02-09 04:00Z"),
    ]
    table.loc[5, "ts"] = "2020-01-06T05:00:00Z"
    assert flags_of(table) == "mixed time zones"


def test_a_file_that_mixes_stamps_with_and_without_an_offset_is_refused():
    table = make_table()
    table.loc[4, "ts"] += " 00:00:00+01:00"
    with pytest.raises(SourceError) as error:
        judge(as_raw(table))
    message = str(error.value)
    assert message.startswith("abc.csv: mixed time zones: '2020-01-05 00:00:00+01:00' in line 6")
    assert "'2020-01-01' in line 2 has no offset; write the offset into every stamp" in message


def test_symbols_of_one_file_that_mix_stamps_are_refused_too():
    aware = make_table()
    aware["ts"] += "T00:00:00Z"
    with pytest.raises(SourceError, match="mixed time zones"):
        judge(as_raw(make_table()), as_raw(aware, "DEF"))


def test_files_may_differ_in_their_kind_of_stamp():
    aware = make_table()
    aware["ts"] += "T00:00:00Z"
    quality = judge(as_raw(make_table()), as_raw(aware, "DEF", "def.csv"))
    assert quality["flags"].tolist() == ["", ""]


@pytest.mark.parametrize("origin", ["packaged", "yahoo", "exchange", "synthetic"])
def test_no_second_source_may_bring_the_same_symbol(origin):
    with pytest.raises(SourceError, match=r"other: symbol ABC already comes from abc\.csv"):
        judge(as_raw(make_table()), as_raw(make_table(), source="other", origin=origin))


def test_synthetic_bars_are_flagged_row_by_row():
    raw = [as_raw(make_table()), as_raw(make_table(), "FAKE", "garch", origin="synthetic")]
    bars = ingest_bars(raw, as_of=AS_OF, limits=LIMITS).bars
    assert bars.groupby("symbol")["is_synthetic"].agg(["min", "max"]).to_numpy().tolist() == [
        [False, False],
        [True, True],
    ]
