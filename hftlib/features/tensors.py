"""From book snapshots to the tensors of a dataset: split by session, scale on training rows, cut.

Sessions come as an iterable of frames that is gone through three times (to
count rows, to fit the scaler and count windows, to write), so that only one
frame and the scaler's sample are ever in memory.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from hftlib.data.splits import LAST, SplitError, list_sessions, session_edges, split_sessions
from hftlib.data.windows import Float32Array, FloatArray, IntArray, Windows, write_tensors
from hftlib.features.microstructure import BOOK_FEATURES, feature_matrix
from hftlib.features.scaling import RobustScaler
from hftlib.paths import replace_folder, write_json

MID = BOOK_FEATURES.index("mid_price")
# Training rows behind the scaler: the rank of a quartile has a standard error of
# sqrt(.25 * .75 / n) = 0.08 % if they were independent, and 12 columns weigh 25 MB.
SAMPLE_ROWS = 2**18


class BookDatasets(NamedTuple):
    """The scaler, and one row a session: `split_sessions`'s columns and n_windows."""

    scaler: RobustScaler
    sessions: pd.DataFrame


def build_book_datasets(
    snapshots: Iterable[pd.DataFrame],
    folder: Path,
    *,
    train_end: date,
    dev_end: date,
    val_end: date,
    purge_rows: int,
    embargo_rows: int,
    window: int,
    horizon: int,
) -> BookDatasets:
    """Write `{train,dev,val,test}_tensors.npz` and `scaler.json` into `folder`.

    Windows come in the order of the snapshots. A label may use the mid of a
    purged row, since it stays in its session and thus in its split.

    Parameters
    ----------
    snapshots : iterable of frames as `schema.snapshots(levels)`
        Each of one or more whole sessions; each iteration must start anew and
        give the same frames.
    folder : path
        Replaced as a whole.
    train_end, dev_end, val_end : date
        Last session of each split; the test split follows.
    purge_rows, embargo_rows : int
        Snapshots dropped before and after each boundary.
    window, horizon : int
        Snapshots in a window, and from its last row to the end of its label.

    Raises
    ------
    SplitError
        If a split has no rows or no windows, or a session comes twice.
    ValueError
        If `snapshots` is an iterator, or a frame is refused by `feature_matrix`.
    """
    if isinstance(snapshots, Iterator):
        raise ValueError(
            f"snapshots is a {type(snapshots).__name__}, which is empty after one pass; pass a "
            "list, or an object whose __iter__ reads the frames again"
        )
    ends = {"train": train_end, "dev": dev_end, "val": val_end}
    counts = [list_sessions(frame) for frame in snapshots]
    if not counts:
        raise SplitError("split train is empty: there are no snapshots")
    sessions = pd.concat(counts, ignore_index=True)
    plan = split_sessions(sessions, ends, purge_rows=purge_rows, embargo_rows=embargo_rows)

    n_train = (plan["stop"] - plan["start"])[plan["split"] == "train"].sum()
    stride = -(-int(n_train) // SAMPLE_ROWS)
    sample, n_windows, n_seen = [], [], 0
    for part in _read(snapshots, plan):
        if part.split == "train":
            usable = part.features[np.isfinite(part.features).all(axis=1)]
            sample.append(np.ascontiguousarray(usable[-n_seen % stride :: stride]))
            n_seen += len(usable)
        n_windows.append(len(part.cut(part.features.astype(np.float32), window, horizon)))
    plan = plan.assign(n_windows=n_windows)
    totals = {name: int(plan["n_windows"][plan["split"] == name].sum()) for name in [*ends, LAST]}
    for name, total in totals.items():
        if not total:
            days = ", ".join(sorted(set(plan["session"][plan["split"] == name])))
            raise SplitError(
                f"split {name} has no window: no session of {days} has {window} snapshots in a "
                f"row without nan and {horizon} more behind them; shorten window or horizon, or "
                "give the split more sessions"
            )
    scaler = RobustScaler.fit(np.concatenate(sample), BOOK_FEATURES, allow_ties=True)

    with replace_folder(folder) as temporary:
        with ExitStack() as files:
            append = {
                name: files.enter_context(
                    write_tensors(
                        temporary / f"{name}_tensors.npz", (total, window, len(BOOK_FEATURES))
                    )
                )
                for name, total in totals.items()
            }
            for part in _read(snapshots, plan):
                rows = scaler.transform(part.features)
                append[part.split](part.cut(rows, window, horizon))
        write_json(temporary / "scaler.json", scaler.to_dict())
    return BookDatasets(scaler, plan)


class _Session(NamedTuple):
    """One session: `features` of shape (n_rows, n_features) are nan outside its split."""

    split: str
    features: FloatArray
    mid: FloatArray
    ts: IntArray

    def cut(self, rows: Float32Array, window: int, horizon: int) -> Windows:
        edges = np.array([0, len(rows)])
        return Windows.from_rows(rows, self.mid, self.ts, edges, window=window, horizon=horizon)


def _read(snapshots: Iterable[pd.DataFrame], plan: pd.DataFrame) -> Iterator[_Session]:
    """Sessions in the order of `plan`, computed frame by frame."""
    planned = plan.itertuples()
    for frame in snapshots:
        features = feature_matrix(frame)
        mid = features[:, MID].copy()
        ts = frame["ts"].to_numpy()
        edges = session_edges(frame)
        for first, last in pairwise(edges):
            row = next(planned, None)
            if row is None or row.n_rows != last - first:
                raise ValueError(
                    f"session {frame['session'].iloc[first]} was not there, or had another length, "
                    "when rows were counted; snapshots must give the same frames each time"
                )
            features[first : first + row.start] = np.nan
            features[first + row.stop : last] = np.nan
            span = slice(first, last)
            yield _Session(row.split, features[span], mid[span], ts[span])
