"""Windows and their labels: none crosses a seam, none looks ahead; and the files they make."""

import io
import tracemalloc
import zipfile
from datetime import date
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from hftlib.data.splits import SplitError, list_sessions, session_edges
from hftlib.data.windows import BLOCK, WindowError, Windows, write_tensors
from hftlib.features import tensors
from hftlib.features.microstructure import BOOK_FEATURES, feature_matrix
from hftlib.features.scaling import CLIP, NORMAL_IQR, RobustScaler
from hftlib.features.tensors import build_book_datasets
from hftlib.paths import read_json
from tests.test_microstructure import make_snapshots


def make_rows(n_rows: int, n_features: int = 3, seed: int = 0):
    """Rows, mids and times of one session."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n_rows, n_features)).astype(np.float32)
    mid = 1000 + np.cumsum(rng.integers(-3, 4, n_rows)) / 2
    return rows, mid, np.arange(n_rows) * 10


def make_windows(n_rows: int, *, window: int = 4, horizon: int = 2, seed: int = 0) -> Windows:
    edges = np.array([0, n_rows])
    return Windows.from_rows(*make_rows(n_rows, seed=seed), edges, window=window, horizon=horizon)


def every(windows: Windows):
    """X and y of all windows."""
    return windows.batch(np.arange(len(windows)))


def assert_same(first: Windows, second: Windows) -> None:
    for a, b in zip((*every(first), first.ts), (*every(second), second.ts), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


def test_each_window_ends_at_its_time_and_its_label_is_the_return_after_it():
    rows = np.arange(12, dtype=np.float32).reshape(6, 2)
    mid = np.array([100.0, 101, 104, 102, 110, 99])
    ts = np.array([5, 6, 8, 9, 11, 12])
    windows = Windows.from_rows(rows, mid, ts, np.array([0, 6]), window=3, horizon=2)
    X, y = every(windows)
    assert (X.dtype, y.dtype, windows.ts.dtype) == (np.float32, np.float32, np.int64)
    np.testing.assert_array_equal(X, [rows[0:3], rows[1:4]])
    np.testing.assert_array_equal(y, np.float32([110 / 104 - 1, 99 / 102 - 1]))
    assert windows.ts.tolist() == [8, 9]


def naive(rows, mid, ts, edges, window, horizon):
    """The definition, one row at a time."""
    X, y, times = [], [], []
    for first, stop in pairwise(edges):
        for t in range(first, stop):
            if t - window + 1 < first or t + horizon >= stop:
                continue
            part = rows[t - window + 1 : t + 1]
            label = np.float32((mid[t + horizon] - mid[t]) / mid[t])
            if np.isfinite(part).all() and np.isfinite(label):
                X.append(part)
                y.append(label)
                times.append(ts[t])
    return X, y, times


@given(
    lengths=st.lists(st.integers(1, 25), max_size=5),
    window=st.integers(1, 6),
    horizon=st.integers(1, 6),
    data=st.data(),
)
def test_windows_are_those_of_a_naive_loop_in_memory_and_from_a_file(
    tmp_path_factory, lengths, window, horizon, data
):
    n_rows = sum(lengths)
    rows, mid, ts = make_rows(n_rows)
    places = st.lists(st.integers(0, max(n_rows - 1, 0)), max_size=4) if n_rows else st.just([])
    rows[data.draw(places), 1] = np.nan
    rows[data.draw(places)] = 0.0
    mid[data.draw(places)] = np.nan
    edges = np.cumsum([0, *lengths])
    windows = Windows.from_rows(rows, mid, ts, edges, window=window, horizon=horizon)
    X, y, times = naive(rows, mid, ts, edges, window, horizon)
    assert len(windows) == len(X)
    np.testing.assert_array_equal(every(windows)[0], np.reshape(X, (len(X), window, 3)))
    np.testing.assert_array_equal(every(windows)[1], y)
    assert windows.ts.tolist() == times
    if X:
        np.testing.assert_array_equal(np.concatenate(windows.views), X)
    path = tmp_path_factory.mktemp("windows") / "x.npz"
    windows.save(path)
    assert_same(Windows.load(path), windows)


def test_scrambled_future_leaves_each_window_up_to_now_as_it_was():
    rows, mid, ts = make_rows(60)
    edges = np.array([0, 60])
    before = Windows.from_rows(rows, mid, ts, edges, window=5, horizon=3)
    now = 30
    later = np.random.default_rng(1).permutation(np.arange(now + 1, 60))
    scrambled = rows.copy()
    scrambled[now + 1 :] = rows[later] * 3
    moved = np.concatenate([mid[: now + 1], mid[later] * 3])
    after = Windows.from_rows(scrambled, moved, ts, edges, window=5, horizon=3)
    known = before.ts <= ts[now]
    assert known.sum() == now - 5 + 2
    np.testing.assert_array_equal(every(before)[0][known], every(after)[0][known])
    settled = before.ts <= ts[now - 3]
    np.testing.assert_array_equal(before.y[settled], after.y[settled])
    assert (before.y[known & ~settled] != after.y[known & ~settled]).all()


def test_views_share_the_rows_and_split_only_at_gaps():
    rows, mid, ts = make_rows(50)
    rows[20] = np.nan
    windows = Windows.from_rows(rows, mid, ts, np.array([0, 30, 50]), window=4, horizon=2)
    assert [len(view) for view in windows.views] == [17, 28 - 24, 15]
    assert all(np.shares_memory(view, rows) for view in windows.views)
    assert make_windows(3).views == []


def test_a_window_is_a_view_and_a_batch_is_a_copy():
    windows = make_windows(30)
    X, y = windows[7]
    assert np.shares_memory(X, windows.rows)
    batch, labels = windows.batch([7, 0, 7])
    assert not np.shares_memory(batch, windows.rows)
    np.testing.assert_array_equal(batch[[0, 2]], [X, X])
    assert labels[0] == y


def test_torch_loads_it_as_a_map_style_dataset():
    windows = make_windows(30)
    batches = list(DataLoader(windows, batch_size=10))
    assert [len(y) for _, y in batches] == [10, 10, 5]
    np.testing.assert_array_equal(np.concatenate([X for X, _ in batches]), every(windows)[0])
    np.testing.assert_array_equal(np.concatenate([y for _, y in batches]), windows.y)
    assert {str(part.dtype) for batch in batches for part in batch} == {"torch.float32"}


@pytest.mark.parametrize("changed", [{"window": 0}, {"horizon": 0}])
def test_window_and_horizon_are_at_least_one(changed):
    with pytest.raises(WindowError, match="expected window, horizon >= 1, received"):
        make_windows(30, **{"window": 4, "horizon": 2, **changed})


# Files.


def test_numpy_reads_the_file(tmp_path):
    windows = make_windows(2 * BLOCK + 100)
    windows.save(tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as data:
        assert set(data) == {"X", "y", "ts"}
        for name, expected in zip(("X", "y", "ts"), (*every(windows), windows.ts), strict=True):
            np.testing.assert_array_equal(data[name], expected)
            assert data[name].dtype == expected.dtype
    loaded = Windows.load(tmp_path / "x.npz")
    assert_same(loaded, windows)
    assert len(loaded.rows) == len(windows) + 3, "shared rows are kept once"


def test_negative_zero_survives_the_file(tmp_path):
    rows = np.array([[0.0], [-0.0], [0.0], [0.0], [-0.0], [0.0]], dtype=np.float32)
    windows = Windows(rows, np.array([0, 3]), np.zeros(2, np.float32), np.array([1, 2]), 3)
    windows.save(tmp_path / "x.npz")
    loaded = every(Windows.load(tmp_path / "x.npz"))[0]
    np.testing.assert_array_equal(
        np.signbit(loaded[:, :, 0]), np.signbit(every(windows)[0][..., 0])
    )


def test_equal_windows_give_equal_bytes(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_windows(200, seed=seed).save(tmp_path / f"{name}.npz")
    first, second, other = ((tmp_path / f"{name}.npz").read_bytes() for name in "abc")
    assert first == second != other
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        assert {entry.date_time[0] for entry in archive.infolist()} == {1980}


def test_memory_stays_far_below_the_size_of_x(tmp_path):
    windows = make_windows(100_000, window=20)
    size = len(windows) * 20 * 3 * 4
    for task in (windows.save, Windows.load):
        tracemalloc.start()
        task(tmp_path / "x.npz")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < size / 2


def test_file_of_other_than_the_promised_windows_is_refused_and_a_failed_save_leaves_none(tmp_path):
    windows = make_windows(30)
    with (
        pytest.raises(WindowError, match=r"x\.npz: expected 26 windows, received 25"),
        write_tensors(tmp_path / "x.npz", (26, 4, 3)) as append,
    ):
        append(windows)
    broken = Windows(windows.rows, windows.starts + 20, windows.y, windows.ts, 4)
    with pytest.raises(IndexError):
        broken.save(tmp_path / "y.npz")
    assert not (tmp_path / "y.npz").exists()


def test_file_without_windows_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    with pytest.raises(WindowError, match=r"holds \['a'\]; expected X, y, ts"):
        Windows.load(tmp_path / "x.npz")


# From snapshots to tensors.

DAYS = [f"2020-01-{day:02d}" for day in range(2, 10)]
CUT = {
    "train_end": date(2020, 1, 5),
    "dev_end": date(2020, 1, 6),
    "val_end": date(2020, 1, 7),
    "purge_rows": 15,
    "embargo_rows": 10,
    "window": 20,
    "horizon": 5,
}
SPLITS = ("train", "dev", "val", "test")


@pytest.fixture(scope="module")
def snapshots():
    return make_snapshots([(s, "test", day, 90) for day in DAYS for s in ("AAA", "BBB")])


@pytest.fixture(scope="module")
def built(snapshots, tmp_path_factory):
    folder = tmp_path_factory.mktemp("datasets") / "book"
    return folder, build_book_datasets([snapshots], folder, **CUT)


def naive_tensors(snapshots, scaler):
    """Tensors of each split, session by session, window by window."""
    made = {name: ([], [], []) for name in SPLITS}
    features = feature_matrix(snapshots)
    scaled = scaler.transform(features)
    mid = features[:, BOOK_FEATURES.index("mid_price")]
    ends = [CUT[f"{name}_end"].isoformat() for name in SPLITS[:3]]
    for first, stop in pairwise(session_edges(snapshots)):
        day = snapshots["session"].iloc[first]
        number = sum(day > end for end in ends)
        low = first + (CUT["embargo_rows"] if DAYS[DAYS.index(day) - 1] in ends else 0)
        high = stop - (CUT["purge_rows"] if day in ends else 0)
        for t in range(low + 19, min(high, stop - 5)):
            X = scaled[t - 19 : t + 1]
            if np.isfinite(X).all():
                label = (mid[t + 5] - mid[t]) / mid[t]
                for part, value in zip(
                    made[SPLITS[number]], (X, label, snapshots["ts"].iloc[t]), strict=True
                ):
                    part.append(value)
    return made


def test_tensors_are_those_of_a_naive_loop(snapshots, built):
    folder, result = built
    assert {file.name for file in folder.iterdir()} == {
        *(f"{name}_tensors.npz" for name in SPLITS),
        "scaler.json",
    }
    for name, (X, y, ts) in naive_tensors(snapshots, result.scaler).items():
        with np.load(folder / f"{name}_tensors.npz") as data:
            np.testing.assert_array_equal(data["X"], X)
            np.testing.assert_array_equal(data["y"], np.float32(y))
            np.testing.assert_array_equal(data["ts"], ts)
            assert data["X"].shape[1:] == (20, 12)


def training_rows(snapshots):
    """Features of the rows of training that are kept and have no nan."""
    features = feature_matrix(snapshots)
    day = snapshots["session"].to_numpy()
    place = np.concatenate([np.arange(n) for n in list_sessions(snapshots)["n_rows"]])
    kept = (day < "2020-01-05") | ((day == "2020-01-05") & (place < 90 - CUT["purge_rows"]))
    return features[kept & np.isfinite(features).all(axis=1)]


def test_scaler_is_fitted_on_the_rows_of_training_that_are_kept(snapshots, built):
    folder, result = built
    train = training_rows(snapshots)
    assert RobustScaler.fit(train, BOOK_FEATURES, allow_ties=True) == result.scaler
    assert read_json(folder / "scaler.json") == {
        key: list(value) for key, value in result.scaler.to_dict().items()
    }


def test_later_prices_change_neither_scaler_nor_training_tensors(snapshots, built, tmp_path):
    folder, result = built
    changed = snapshots.copy()
    prices = [name for name in snapshots if "_px" in name or name.startswith("best")]
    later = changed["session"] > "2020-01-05"
    changed.loc[later, prices] *= 3
    again = build_book_datasets([changed], tmp_path / "book", **CUT)
    assert again.scaler == result.scaler
    same = [
        (folder / f"{name}_tensors.npz").read_bytes()
        == (tmp_path / f"book/{name}_tensors.npz").read_bytes()
        for name in SPLITS
    ]
    assert same == [True, False, False, False]


class Partitions:
    """Frames made anew in each pass, as from files."""

    def __init__(self, table, n_sessions):
        self.table, self.n_sessions, self.n_passes = table, n_sessions, 0

    def __iter__(self):
        self.n_passes += 1
        edges = session_edges(self.table)[:: self.n_sessions]
        for first, stop in pairwise(edges):
            yield self.table[first:stop].copy()


def test_partitions_make_the_same_tensors_as_one_frame(snapshots, built, tmp_path):
    folder, result = built
    parts = Partitions(snapshots, 4)
    again = build_book_datasets(parts, tmp_path / "book", **CUT)
    assert parts.n_passes == 3
    assert again.scaler == result.scaler
    pd.testing.assert_frame_equal(again.sessions, result.sessions)
    for name in SPLITS:
        first, second = (
            Windows.load(place / f"{name}_tensors.npz") for place in (folder, tmp_path / "book")
        )
        assert_same(first, second)


def test_table_of_sessions_counts_their_windows(built):
    folder, result = built
    counts = result.sessions.groupby("split")["n_windows"].sum()
    for name in SPLITS:
        assert len(Windows.load(folder / f"{name}_tensors.npz")) == counts[name]
    # Row 20 is the first without nan: 39 ends the first window, 84 is the last with a label.
    first = result.sessions.iloc[0]
    assert (first.split, first.start, first.stop, first.n_windows) == ("train", 0, 90, 46)


def test_sample_behind_the_scaler_is_bounded_and_lies_evenly(snapshots, monkeypatch, tmp_path):
    monkeypatch.setattr(tensors, "SAMPLE_ROWS", 100)
    made = build_book_datasets(Partitions(snapshots, 1), tmp_path / "book", **CUT).scaler
    # 8 sessions of 90 rows less two purges of 15 are 690 rows: every 7th makes at most 100.
    sample = training_rows(snapshots)[::7]
    assert RobustScaler.fit(sample, BOOK_FEATURES, allow_ties=True) == made


def test_features_that_rest_most_of_the_time_are_scaled_by_their_deviation():
    values = np.stack([np.arange(50.0), np.repeat([0.0, 1.0], [45, 5]), np.full(50, 3.0)], axis=1)
    scaler = RobustScaler.fit(values, ["a", "b", "c"], allow_ties=True)
    assert scaler.iqr == (24.5, pytest.approx(NORMAL_IQR * 0.3), 1.0)
    assert scaler.median == (24.5, 0.0, 3.0)
    assert np.abs(scaler.transform(values)).max() < CLIP


def test_book_whose_price_and_spread_rest_makes_finite_tensors(snapshots, tmp_path):
    table = snapshots.copy()
    for k in range(2, 7):
        table[f"bid_px_{k}"], table[f"ask_px_{k}"] = np.int32(1000 - k), np.int32(1000 + k)
    ticks = (np.arange(len(table)) % 10 == 0).astype("int32")
    table["best_bid"], table["best_ask"] = 999 - ticks, np.int32(1000)
    build_book_datasets([table], tmp_path / "book", **CUT)
    X, _ = every(Windows.load(tmp_path / "book/train_tensors.npz"))
    spread = BOOK_FEATURES.index("spread")
    assert len(np.unique(X[:, :, spread])) == 2
    assert np.isfinite(X).all()


def test_folder_is_left_as_it_was_when_the_snapshots_change_between_passes(snapshots, tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "book/old").touch()

    class Shrinking(Partitions):
        def __iter__(self):
            yield from list(super().__iter__())[: 17 - self.n_passes]

    class Growing(Partitions):
        def __iter__(self):
            frames = list(super().__iter__())
            yield from frames[:-1]
            yield frames[-1][: 90 - self.n_passes]

    with pytest.raises(ValueError):
        build_book_datasets(Shrinking(snapshots, 1), tmp_path / "book", **CUT)
    with pytest.raises(ValueError, match="session 2020-01-09 was not there, or had another"):
        build_book_datasets(Growing(snapshots, 1), tmp_path / "book", **CUT)
    assert [file.name for file in tmp_path.rglob("*")] == ["book", "old"]


def test_iterator_that_can_be_read_once_is_refused(snapshots, tmp_path):
    with pytest.raises(ValueError, match="snapshots is a generator, which is empty after one pass"):
        build_book_datasets((part for part in [snapshots]), tmp_path / "book", **CUT)


def test_no_snapshots_are_refused(tmp_path):
    with pytest.raises(SplitError, match="split train is empty: there are no snapshots"):
        build_book_datasets([], tmp_path / "book", **CUT)


def test_split_without_a_window_is_refused_with_its_days(snapshots, tmp_path):
    seconds = snapshots["ts"] % (86_400 * 10**9) // 10**9
    table = snapshots[(snapshots["session"] != "2020-01-07") | (seconds < 40)]
    with pytest.raises(SplitError, match="split val has no window: no session of 2020-01-07 has"):
        build_book_datasets([table], tmp_path / "book", **{**CUT, "purge_rows": 0})


def test_split_without_a_session_is_refused(snapshots, tmp_path):
    with pytest.raises(SplitError, match="split test is empty: train_end=2020-01-05, dev_end="):
        build_book_datasets([snapshots], tmp_path / "book", **{**CUT, "val_end": date(2020, 1, 9)})


def test_session_cut_over_two_frames_is_refused(snapshots, tmp_path):
    with pytest.raises(SplitError, match="session 2020-01-02 of AAA from test comes twice"):
        build_book_datasets([snapshots[:50], snapshots[50:]], tmp_path / "book", **CUT)
