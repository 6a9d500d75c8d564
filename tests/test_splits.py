"""Chronological splits: purge, embargo, and no label over a boundary."""

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftlib.data.splits import (
    SplitError,
    list_sessions,
    session_edges,
    split_by_date,
    split_frame,
    split_sessions,
)

# 100 days: 1 January is row 0, 19 February row 49, 10 March row 69.
DAYS = pd.Series(pd.date_range("2020-01-01", periods=100, tz="UTC"))
SPLITS = ("train", "validation", "test")
ENDS = {"train": date(2020, 2, 19), "validation": date(2020, 3, 10)}


def make_table(symbols=("AAA", "BBB")) -> pd.DataFrame:
    parts = [pd.DataFrame({"symbol": s, "ts": DAYS, "row": np.arange(100)}) for s in symbols]
    parts = [part.assign(is_synthetic=False) for part in parts]
    return pd.concat(parts, ignore_index=True)


def test_purge_and_embargo_remove_their_rows_and_no_others():
    cut = split_by_date(DAYS, ENDS, purge_bars=3, embargo_bars=2)
    assert cut["train"].tolist() == list(range(0, 47))
    assert cut["validation"].tolist() == list(range(52, 67))
    assert cut["test"].tolist() == list(range(72, 100))


def test_without_purge_and_embargo_the_splits_tile_the_rows():
    cut = split_by_date(DAYS, ENDS, purge_bars=0, embargo_bars=0)
    assert np.concatenate([cut[name] for name in SPLITS]).tolist() == list(range(100))


def test_last_day_belongs_to_its_split_to_the_last_hour():
    hours = pd.Series(pd.date_range("2020-01-01", periods=24 * 6, freq="h", tz="UTC"))
    ends = {"train": date(2020, 1, 2), "validation": date(2020, 1, 4)}
    cut = split_by_date(hours, ends, purge_bars=0, embargo_bars=0)
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
            ts, dict(zip(SPLITS, ends, strict=False)), purge_bars=purge, embargo_bars=embargo
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
        ("train", {"train": date(2019, 12, 31)}),
        ("train", {"purge_bars": 50}),
        ("validation", {"validation": ENDS["train"]}),
        ("validation", {"embargo_bars": 20}),
        ("test", {"validation": date(2020, 4, 9)}),
    ],
)
def test_empty_split_error_names_the_split_and_the_dates(name, change):
    ends = {split: change.get(split, end) for split, end in ENDS.items()}
    margins = {key: change.get(key, 0) for key in ("purge_bars", "embargo_bars")}
    with pytest.raises(SplitError) as error:
        split_by_date(DAYS, ends, **margins)
    message = str(error.value)
    assert message.startswith(f"split {name} is empty: train_end={ends['train']}")
    assert "100 bars run from 2020-01-01 to 2020-04-09" in message


def test_no_bars_is_an_error():
    with pytest.raises(SplitError, match="split train is empty: there are no bars"):
        split_by_date(DAYS[:0], ENDS, purge_bars=0, embargo_bars=0)


def test_frame_is_cut_symbol_by_symbol_in_the_order_asked():
    cut = split_frame(make_table(), ["BBB", "AAA"], ENDS, purge_bars=3, embargo_bars=2)
    assert cut["validation"]["symbol"].tolist() == ["BBB"] * 15 + ["AAA"] * 15
    assert cut["validation"]["row"].tolist() == list(range(52, 67)) * 2
    assert {name: len(rows) for name, rows in cut.items()} == {
        "train": 94,
        "validation": 30,
        "test": 56,
    }


def test_unknown_symbol_error_lists_the_known_ones():
    with pytest.raises(SplitError, match="symbol CCC is not in the data; known: AAA, BBB"):
        split_frame(make_table(), ["AAA", "CCC"], ENDS, purge_bars=0, embargo_bars=0)


def test_error_of_one_symbol_among_several_names_it():
    table = make_table().query("symbol == 'AAA' or row < 60")
    with pytest.raises(SplitError, match="BBB: split test is empty"):
        split_frame(table, ["AAA", "BBB"], ENDS, purge_bars=0, embargo_bars=0)


# Sessions of a book.

BOOK_ENDS = {"train": date(2020, 1, 4), "dev": date(2020, 1, 5), "val": date(2020, 1, 6)}
NO_MARGINS = {"purge_rows": 0, "embargo_rows": 0}


def make_sessions(n_rows=10, series=(("AAA", "sim"),), days=range(2, 9)) -> pd.DataFrame:
    rows = [
        (*key, f"2020-01-{day:02d}", n_rows if isinstance(n_rows, int) else n_rows[i])
        for key in series
        for i, day in enumerate(days)
    ]
    return pd.DataFrame(rows, columns=["symbol", "source", "session", "n_rows"])


def test_session_is_a_run_of_equal_symbol_source_and_session():
    keys = ["AAA sim 1", "AAA sim 1", "AAA sim 2", "AAA real 2", "BBB real 2", "BBB real 2"]
    table = pd.DataFrame([key.split() for key in keys], columns=["symbol", "source", "session"])
    assert session_edges(table).tolist() == [0, 2, 3, 4, 6]
    assert session_edges(table[:0]).tolist() == [0]
    sessions = list_sessions(table)
    assert sessions["n_rows"].tolist() == [2, 1, 1, 2]
    assert sessions["source"].tolist() == ["sim", "sim", "real", "real"]


def test_last_day_of_a_split_is_in_it_and_the_last_split_takes_the_rest():
    plan = split_sessions(make_sessions(), BOOK_ENDS, **NO_MARGINS)
    assert plan["split"].tolist() == ["train"] * 3 + ["dev", "val"] + ["test"] * 2
    assert (plan["start"] == 0).all() and (plan["stop"] == 10).all()


def test_purge_and_embargo_touch_only_the_sessions_beside_a_boundary():
    plan = split_sessions(make_sessions(), BOOK_ENDS, purge_rows=3, embargo_rows=2)
    assert plan["start"].tolist() == [0, 0, 0, 2, 2, 2, 0]
    assert plan["stop"].tolist() == [10, 10, 7, 7, 7, 10, 10]


def test_purge_and_embargo_run_on_through_short_sessions():
    sessions = make_sessions([10, 4, 2, 10, 10, 3, 10])
    plan = split_sessions(sessions, BOOK_ENDS, purge_rows=5, embargo_rows=4)
    assert list(zip(plan["start"], plan["stop"], strict=True)) == [
        (0, 10),
        (0, 1),
        (0, 0),
        (4, 5),
        (4, 5),
        (3, 3),
        (1, 10),
    ]


@given(
    lengths=st.lists(st.integers(1, 9), min_size=7, max_size=7),
    purge=st.integers(0, 8),
    embargo=st.integers(0, 8),
    seed=st.integers(0, 99),
)
def test_split_sessions_agree_with_rows_cut_by_date_in_any_order(lengths, purge, embargo, seed):
    sessions = make_sessions(lengths)
    days = pd.Series(pd.to_datetime(np.repeat(sessions["session"], lengths), utc=True))
    order = np.random.default_rng(seed).permutation(7)
    try:
        cut = split_by_date(days, BOOK_ENDS, purge_bars=purge, embargo_bars=embargo)
    except SplitError as error:
        name = str(error).split()[1]
        with pytest.raises(SplitError, match=f"split {name} is empty"):
            split_sessions(sessions, BOOK_ENDS, purge_rows=purge, embargo_rows=embargo)
        return
    shuffled = split_sessions(
        sessions.iloc[order], BOOK_ENDS, purge_rows=purge, embargo_rows=embargo
    )
    assert shuffled["session"].tolist() == sessions["session"].iloc[order].tolist()
    plan = shuffled.sort_index()
    first = np.cumsum(lengths) - lengths
    for name, expected in cut.items():
        part = plan[plan["split"] == name]
        rows = [
            np.arange(first[i] + row.start, first[i] + row.stop)
            for i, row in zip(part.index, part.itertuples(), strict=True)
        ]
        assert np.concatenate(rows).tolist() == expected.tolist()


def test_each_series_has_its_own_margins_and_loses_none_to_a_boundary_it_does_not_span():
    sessions = pd.concat(
        [
            make_sessions(),
            make_sessions(series=[("BBB", "sim")], days=[2, 4]),
            make_sessions(series=[("BBB", "real")], days=[8]),
            make_sessions(series=[("CCC", "sim")], days=[4, 6]),
        ],
        ignore_index=True,
    )
    plan = split_sessions(sessions, BOOK_ENDS, purge_rows=3, embargo_rows=2)[7:]
    assert plan["split"].tolist() == ["train", "train", "test", "train", "val"]
    assert plan["start"].tolist() == [0, 0, 0, 0, 2]
    assert plan["stop"].tolist() == [10, 10, 10, 7, 10]


@pytest.mark.parametrize(
    ("name", "ends", "margins"),
    [
        ("train", {"train": date(2019, 12, 31)}, {}),
        ("train", {}, {"purge_rows": 30}),
        ("dev", {"dev": date(2020, 1, 4)}, {}),
        ("dev", {"train": date(2020, 1, 6)}, {}),
        ("dev", {}, {"embargo_rows": 5, "purge_rows": 5}),
        ("test", {"val": date(2020, 1, 8)}, {}),
    ],
)
def test_empty_split_of_sessions_names_the_split_and_the_days(name, ends, margins):
    with pytest.raises(SplitError) as error:
        split_sessions(make_sessions(), {**BOOK_ENDS, **ends}, **{**NO_MARGINS, **margins})
    message = str(error.value)
    assert message.startswith(f"split {name} is empty: train_end=")
    assert "the 7 sessions are of 2020-01-02, 2020-01-03, 2020-01-04, 2020-01-05" in message


def test_many_days_are_named_by_the_first_and_the_last():
    with pytest.raises(SplitError, match="20 sessions are of 2020-01-02 to 2020-01-21; move"):
        split_sessions(make_sessions(days=range(2, 22)), {"train": date(2020, 2, 1)}, **NO_MARGINS)


def test_session_that_comes_twice_is_refused():
    sessions = pd.concat([make_sessions(), make_sessions()[2:3]], ignore_index=True)
    with pytest.raises(SplitError, match="session 2020-01-04 of AAA from sim comes twice"):
        split_sessions(sessions, BOOK_ENDS, **NO_MARGINS)


def test_session_that_is_not_a_day_is_refused():
    with pytest.raises(SplitError, match="session 'monday' is not a day; name it YYYY-MM-DD"):
        split_sessions(make_sessions(days=[2]).assign(session="monday"), BOOK_ENDS, **NO_MARGINS)


def test_no_sessions_are_refused():
    with pytest.raises(SplitError, match="there are no sessions"):
        split_sessions(make_sessions(days=[]), BOOK_ENDS, **NO_MARGINS)
