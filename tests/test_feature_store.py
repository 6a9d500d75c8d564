"""The feature store: what was known when, to the last bit, and never what came later."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftlib.features import feature_store
from hftlib.features.feature_store import FeatureStore, FeatureStoreError
from hftlib.features.indicators import compute_features
from hftlib.features.prefix import same_bits
from hftlib.features.stream import FeatureStream
from tests.conftest import make_bars

NAMES = ("a", "b")
DAY = pd.Timedelta(days=1)
START = pd.Timestamp("2019-12-20", tz="UTC")


def make_rows(symbol="AAA", n=30, *, late=DAY, seed=0, start=START):
    """One row a day, known at the close of its day, over a turn of the year."""
    ts = pd.date_range(start, periods=n, freq="D", unit="ns")
    values = np.random.default_rng(seed).standard_normal((n, 2))
    frame = pd.DataFrame(values, columns=list(NAMES))
    return frame.assign(symbol=symbol, ts=ts, known_at=ts + late)


def store_of(folder, *parts):
    store = FeatureStore(folder, NAMES)
    for part in parts:
        store.write(part)
    return store


def test_partitions_are_by_symbol_and_year_and_plain_parquet(tmp_path):
    rows = pd.concat([make_rows("AAA"), make_rows("BTC/USDT")])
    assert store_of(tmp_path, rows).symbols == ["AAA", "BTC/USDT"]
    files = sorted(f.relative_to(tmp_path).as_posix() for f in tmp_path.rglob("*.parquet"))
    assert files == [
        f"symbol={symbol}/year={year}/part.parquet"
        for symbol in ("AAA", "BTC%2FUSDT")
        for year in (2019, 2020)
    ]
    assert pq.ParquetFile(tmp_path / files[0]).schema_arrow.names == ["ts", "known_at", *NAMES]


def test_a_row_exists_from_the_moment_it_is_known(tmp_path):
    rows = make_rows()
    store = store_of(tmp_path, rows)
    for k in (0, 11, 12, 29):  # 11 and 12 lie on both sides of the new year
        now = rows["known_at"][k]
        assert store.get(["AAA"], now)["ts"].tolist() == [rows["ts"][k]]
        if k:
            before = store.get(["AAA"], now - pd.Timedelta(1, "ns"))
            assert before["ts"].tolist() == [rows["ts"][k - 1]]


def test_the_newest_bars_come_across_the_turn_of_the_year_in_order(tmp_path):
    rows = pd.concat([make_rows("AAA"), make_rows("BBB", seed=1)])
    found = store_of(tmp_path, rows).get(["BBB", "AAA"], START + 15 * DAY, n_bars=8)
    assert found["symbol"].tolist() == ["BBB"] * 8 + ["AAA"] * 8
    for symbol, part in found.groupby("symbol"):
        mine = rows[(rows["symbol"] == symbol) & (rows["known_at"] <= START + 15 * DAY)][-8:]
        np.testing.assert_array_equal(part[list(NAMES)], mine[list(NAMES)])
    assert list(found.columns) == ["symbol", "ts", "known_at", *NAMES]
    few = store_of(tmp_path).get(["AAA"], START + 2 * DAY, n_bars=100)
    assert len(few) == 2


def test_versions_that_lie_in_two_row_groups_count_once(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_store, "GROUP", 2)
    rows = make_rows(n=9)
    fixes = [rows.assign(a=float(k), known_at=rows["known_at"] + k * DAY) for k in (1, 2, 3, 4)]
    store = store_of(tmp_path, rows, *fixes)
    end = START + 40 * DAY
    for n_bars in range(1, 12):
        found = store.get(["AAA"], end, n_bars=n_bars)
        assert found["ts"].tolist() == rows["ts"][-n_bars:].tolist()
        assert (found["a"] == 4.0).all()
    np.testing.assert_array_equal(store.history(["AAA"], end)["a"], rows["a"])


def test_a_late_bar_is_missing_until_it_arrives_and_takes_its_place_then(tmp_path):
    rows = make_rows(n=10)
    rows.loc[6, "known_at"] += 5 * DAY
    store = store_of(tmp_path, rows)
    early = store.get(["AAA"], rows["known_at"][8], n_bars=3)
    assert early["ts"].tolist() == rows["ts"][[5, 7, 8]].tolist()
    then = store.get(["AAA"], rows["known_at"][6], n_bars=4)
    assert then["ts"].tolist() == rows["ts"][[6, 7, 8, 9]].tolist()


def test_a_correction_is_seen_from_its_own_time_on_and_never_before(tmp_path):
    rows = make_rows(n=10)
    store = store_of(tmp_path, rows)
    fixed = rows.iloc[[4]].assign(a=99.0, known_at=rows["known_at"][7])
    old = store.get(["AAA"], rows["known_at"][6], n_bars=10)
    assert store.write(fixed) == 1
    pd.testing.assert_frame_equal(store.get(["AAA"], rows["known_at"][6], n_bars=10), old)
    now = store.get(["AAA"], rows["known_at"][7], n_bars=10).set_index("ts")
    assert now.loc[rows["ts"][4], "a"] == 99.0 and len(now) == 8
    # training takes what was served, unless it asks for the corrections
    end = rows["known_at"][9]
    served = store.history(["AAA"], end)
    np.testing.assert_array_equal(served[list(NAMES)], rows[list(NAMES)])
    corrected = store.history(["AAA"], end, version="newest")
    assert corrected["a"][4] == 99.0 and len(corrected) == 10
    pd.testing.assert_frame_equal(store.get(["AAA"], end, n_bars=10), corrected)


def test_writing_again_adds_nothing_and_changes_no_byte(tmp_path):
    rows = make_rows()
    store = FeatureStore(tmp_path, NAMES)
    assert store.write(rows) == 30
    files = {f: f.read_bytes() for f in tmp_path.rglob("*.parquet")}
    assert store.write(rows) == 0
    assert store.write(rows[::-1].assign(known_at=rows["known_at"] + DAY)) == 0, "nothing new"
    assert {f: f.read_bytes() for f in tmp_path.rglob("*.parquet")} == files


def test_in_parts_or_at_once_the_store_answers_alike(tmp_path):
    rows = make_rows()
    whole, parts = store_of(tmp_path / "a", rows), FeatureStore(tmp_path / "b", NAMES)
    for k in np.random.default_rng(1).permutation(len(rows)):
        assert parts.write(rows.iloc[[k]]) == 1
    end = START + 60 * DAY
    pd.testing.assert_frame_equal(parts.history(["AAA"], end), whole.history(["AAA"], end))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.integers(1, 9), st.floats(-9, 9)), min_size=1, max_size=25
    ),
    st.integers(1, 32),
)
def test_what_is_written_later_never_changes_what_was_known(tmp_path_factory, versions, hour):
    """Against all versions in memory, with and without those of the future."""
    frame = pd.DataFrame(versions, columns=["bar", "delay", "a"])
    frame["known"] = frame["bar"] + frame["delay"]
    frame = frame.drop_duplicates(["bar", "known"]).sort_values(["bar", "known"])
    rows = frame.assign(
        symbol="AAA",
        b=-frame["a"],
        ts=START + frame["bar"] * 12 * pd.Timedelta(hours=1),
        known_at=START + frame["known"] * 12 * pd.Timedelta(hours=1),
    )
    past = frame["known"] <= hour
    if not past.any():
        return
    as_of = START + hour * 12 * pd.Timedelta(hours=1)
    all_of_it = store_of(tmp_path_factory.mktemp("all"), rows)
    only_past = store_of(tmp_path_factory.mktemp("past"), rows[past])
    found = all_of_it.get(["AAA"], as_of, n_bars=99)
    pd.testing.assert_frame_equal(found, only_past.get(["AAA"], as_of, n_bars=99))
    assert (found["known_at"] <= as_of).all()
    newest = frame[past].drop_duplicates("bar", keep="last")
    assert found["a"].tolist() == newest["a"].tolist()
    first = frame[past].drop_duplicates("bar", keep="first")
    assert all_of_it.history(["AAA"], as_of)["a"].tolist() == first["a"].tolist()


def test_training_and_serving_have_the_same_values_to_the_last_bit(tmp_path):
    bars = make_bars(260, ("AAA",), seed=3)
    batch = compute_features(bars)
    names = [name for name in batch if name not in ("symbol", "ts")]
    training = FeatureStore(tmp_path / "training", names)
    training.write(batch.assign(known_at=batch["ts"] + DAY))
    serving, stream = FeatureStore(tmp_path / "serving", names), FeatureStream("AAA")
    stream.extend(bars[:256])
    for bar in bars[256:].to_dict("records"):
        values = stream.push(bar["ts"], **{k: bar[k] for k in ("open", "high", "low", "close")},
                             volume=bar["volume"])  # fmt: skip
        row = {"symbol": "AAA", "ts": bar["ts"], "known_at": bar["ts"] + DAY, **values}
        serving.write(pd.DataFrame([row]))
        now = bar["ts"] + DAY
        served = serving.get(["AAA"], now)[names].to_numpy()
        trained = training.get(["AAA"], now)[names].to_numpy()
        assert same_bits(served, trained).all()
        assert same_bits(served[0], np.array([values[name] for name in names])).all()
    end = bars["ts"].max() + DAY
    stored = training.history(["AAA"], end)[names].to_numpy()
    assert same_bits(stored, batch[names].to_numpy()).all(), "with the nan of the warm-up"


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    rows = make_rows(n=5)
    store = store_of(tmp_path, rows)
    before = store.history(["AAA"], START + 99 * DAY)

    def fail(*args, **options):
        raise OSError("no space left on device")

    monkeypatch.setattr(feature_store.pq, "write_table", fail)
    with pytest.raises(OSError, match="no space"):
        store.write(make_rows(n=9, seed=0))
    monkeypatch.undo()
    pd.testing.assert_frame_equal(store.history(["AAA"], START + 99 * DAY), before)
    assert not [f for f in tmp_path.rglob("*") if f.name.startswith(".part")]


def test_rows_that_cannot_be_are_refused_and_nothing_is_written(tmp_path):
    rows = make_rows(n=5)
    store = FeatureStore(tmp_path, NAMES)
    for bad, match in (
        (rows.drop(columns="b"), "have no b"),
        (rows.assign(ts=rows["ts"].dt.tz_localize(None)), "ts is datetime64"),
        (rows.assign(known_at=rows["known_at"].where(rows.index != 2)), "1 missing"),
        (rows.assign(known_at=rows["ts"]), "before it closed"),
        (rows.assign(a=[0, 1, np.inf, 0, 0]), "AAA at 2019-12-22.*a is infinite"),
        (rows.assign(symbol=None), "5 rows have no symbol"),
    ):
        with pytest.raises(FeatureStoreError, match=match):
            store.write(bad)
    assert not list(tmp_path.rglob("*.parquet"))
    store.write(rows)
    with pytest.raises(FeatureStoreError, match="a correction is known later"):
        store.write(rows.assign(a=1.0))
    both = pd.concat([make_rows("BBB"), rows.assign(a=1.0)])
    with pytest.raises(FeatureStoreError, match="AAA"):
        store.write(both)
    assert store.symbols == ["AAA"]


def test_questions_without_an_answer_say_so(tmp_path):
    store = store_of(tmp_path, make_rows())
    end = START + 40 * DAY
    with pytest.raises(FeatureStoreError, match="has no AAB; did you mean AAA"):
        store.get(["AAB"], end)
    with pytest.raises(FeatureStoreError, match="no symbol was asked for"):
        store.get([], end)
    with pytest.raises(FeatureStoreError, match="nothing of AAA was known at 2019-12-20"):
        store.get(["AAA"], START)
    with pytest.raises(FeatureStoreError, match="nothing of AAA was known at 2012"):
        store.get(["AAA"], pd.Timestamp("2012-01-01", tz="UTC"))
    with pytest.raises(FeatureStoreError, match="expected a timestamp with a time zone"):
        store.get(["AAA"], pd.Timestamp("2020-01-01"))
    with pytest.raises(FeatureStoreError, match="expected a timestamp with a time zone"):
        store.get(["AAA"], pd.NaT)
    with pytest.raises(FeatureStoreError, match="n_bars=0"):
        store.get(["AAA"], end, n_bars=0)
    with pytest.raises(FeatureStoreError, match="version is 'last'"):
        store.history(["AAA"], end, version="last")


def test_a_store_of_other_features_or_none_or_a_damaged_one_is_refused(tmp_path):
    with pytest.raises(FeatureStoreError, match=r"holds no store\.json"):
        FeatureStore(tmp_path / "none")
    with pytest.raises(FeatureStoreError, match="repeat"):
        FeatureStore(tmp_path / "none", ["a", "a"])
    store = store_of(tmp_path, make_rows())
    assert FeatureStore(tmp_path).names == NAMES
    with pytest.raises(FeatureStoreError, match="b, c differ"):
        FeatureStore(tmp_path, ["a", "c"])
    with pytest.raises(FeatureStoreError, match="their order"):
        FeatureStore(tmp_path, ["b", "a"])
    file = tmp_path / "symbol=AAA/year=2020/part.parquet"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(FeatureStoreError, match="cannot be read"):
        store.get(["AAA"], START + 40 * DAY)
    (tmp_path / "store.json").write_text('{"format": 2}')
    with pytest.raises(FeatureStoreError, match="format 2"):
        FeatureStore(tmp_path)
    (tmp_path / "store.json").write_text("{")
    with pytest.raises(FeatureStoreError, match="cannot be read"):
        FeatureStore(tmp_path)
