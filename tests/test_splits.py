"""Chronological splits: purge, embargo, and no label over a boundary."""

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftlib.data.splits import SPLITS, SplitError, split_by_date, split_frame

# 100 days: 1 January is row 0, 19 February row 49, 10 March row 69.
DAYS = pd.Series(pd.date_range("2020-01-01", periods=100, tz="UTC"))
DATES = {"train_end": date(2020, 2, 19), "validation_end": date(2020, 3, 10)}


def make_table(symbols=("AAA", "BBB")) -> pd.DataFrame:
    parts = [pd.DataFrame({"symbol": s, "ts": DAYS, "row": np.arange(100)}) for s in symbols]
    return pd.concat(parts, ignore_index=True)


def test_purge_and_embargo_remove_their_rows_and_no_others():
    cut = split_by_date(DAYS, **DATES, purge_bars=3, embargo_bars=2)
    assert cut["train"].tolist() == list(range(0, 47))
    assert cut["validation"].tolist() == list(range(52, 67))
    assert cut["test"].tolist() == list(range(72, 100))


def test_without_purge_and_embargo_the_splits_tile_the_rows():
    cut = split_by_date(DAYS, **DATES, purge_bars=0, embargo_bars=0)
    assert np.concatenate([cut[name] for name in SPLITS]).tolist() == list(range(100))


def test_last_day_belongs_to_its_split_to_the_last_hour():
    hours = pd.Series(pd.date_range("2020-01-01", periods=24 * 6, freq="h", tz="UTC"))
    ends = {"train_end": date(2020, 1, 2), "validation_end": date(2020, 1, 4)}
    cut = split_by_date(hours, **ends, purge_bars=0, embargo_bars=0)
    assert hours[cut["train"][-1]] == pd.Timestamp("2020-01-02 23:00Z")
    assert hours[cut["validation"][0]] == pd.Timestamp("2020-01-03 00:00Z")
    assert [len(cut[name]) for name in SPLITS] == [48, 48, 48]


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(st.integers(1, 6), min_size=40, max_size=120),
    share=st.tuples(st.floats(0.2, 0.4), st.floats(0.6, 0.8)),
    purge=st.integers(0, 6),
    embargo=st.integers(0, 6),
)
def test_no_row_is_shared_and_no_label_crosses(steps, share, purge, embargo):
    ts = pd.Series(pd.Timestamp("2020-01-01", tz="UTC") + pd.to_timedelta(np.cumsum(steps), "D"))
    span = sum(steps)
    ends = [date(2020, 1, 1) + timedelta(days=int(part * span)) for part in share]
    try:
        cut = split_by_date(
            ts, train_end=ends[0], validation_end=ends[1], purge_bars=purge, embargo_bars=embargo
        )
    except SplitError:
        # A share of 0.2 spans more days than the longest step: only purge and embargo empty it.
        assert purge + embargo > 0
        return
    rows = np.concatenate([cut[name] for name in SPLITS])
    assert (np.diff(rows) > 0).all()
    days = ts.dt.date
    for name, end in zip(("train", "validation"), ends, strict=True):
        assert days[cut[name][-1] + purge] <= end  # the label's last close
    for name, end in zip(("validation", "test"), ends, strict=True):
        assert days[cut[name][0] - embargo] > end
    assert cut["test"][-1] == len(ts) - 1


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("train", {"train_end": date(2019, 12, 31)}),
        ("train", {"purge_bars": 50}),
        ("validation", {"validation_end": DATES["train_end"]}),
        ("validation", {"embargo_bars": 20}),
        ("test", {"validation_end": date(2020, 4, 9)}),
    ],
)
def test_empty_split_error_names_the_split_and_the_dates(name, change):
    settings = {**DATES, "purge_bars": 0, "embargo_bars": 0, **change}
    with pytest.raises(SplitError) as error:
        split_by_date(DAYS, **settings)
    message = str(error.value)
    assert message.startswith(f"split {name} is empty: train_end={settings['train_end']}")
    assert "100 bars run from 2020-01-01 to 2020-04-09" in message


def test_no_bars_is_an_error():
    with pytest.raises(SplitError, match="split train is empty: there are no bars"):
        split_by_date(DAYS[:0], **DATES, purge_bars=0, embargo_bars=0)


def test_frame_is_cut_symbol_by_symbol_in_the_order_asked():
    cut = split_frame(make_table(), ["BBB", "AAA"], **DATES, purge_bars=3, embargo_bars=2)
    assert cut["validation"]["symbol"].tolist() == ["BBB"] * 15 + ["AAA"] * 15
    assert cut["validation"]["row"].tolist() == list(range(52, 67)) * 2
    assert {name: len(rows) for name, rows in cut.items()} == {
        "train": 94,
        "validation": 30,
        "test": 56,
    }


def test_unknown_symbol_error_lists_the_known_ones():
    with pytest.raises(SplitError, match="symbol CCC is not in the data; known: AAA, BBB"):
        split_frame(make_table(), ["AAA", "CCC"], **DATES, purge_bars=0, embargo_bars=0)


def test_error_of_one_symbol_among_several_names_it():
    table = make_table().query("symbol == 'AAA' or row < 60")
    with pytest.raises(SplitError, match="BBB: split test is empty"):
        split_frame(table, ["AAA", "BBB"], **DATES, purge_bars=0, embargo_bars=0)
