"""Windows of consecutive rows and the return that follows each: the tensors X, y, ts.

The rows are kept once; a window is a view of them, made when asked for. On
disk the windows are spelled out, deflated because each row comes up to T
times; they are written and read in blocks, so that memory does not grow with
their number.
"""

import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Self

import numpy as np
import numpy.typing as npt

from hftlib.paths import replace_file

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

BLOCK = 4096  # windows in memory at once while a file is written or read


class WindowError(ValueError):
    """Rows that no window can be cut from, or a file that holds no windows."""


@dataclass(frozen=True, eq=False)
class Windows:
    """N overlapping windows of T rows of F features; a map-style dataset for torch.

    Attributes
    ----------
    rows : float32 array of shape (n_rows, F)
    starts : int64 array of shape (N,)
        First row of each window.
    y : float32 array of shape (N,)
        Simple return of the mid over the `horizon` snapshots after the window, unscaled.
    ts : int64 array of shape (N,)
        Time of the last row of the window, nanoseconds UTC.
    window : int
        T, snapshots.
    """

    rows: Float32Array
    starts: IntArray
    y: Float32Array
    ts: IntArray
    window: int

    @classmethod
    def from_rows(
        cls,
        rows: Float32Array,
        mid: FloatArray,
        ts: IntArray,
        edges: IntArray,
        *,
        window: int,
        horizon: int,
    ) -> Self:
        """Every window whose rows are finite and whose label exists.

        A window and its label lie in one session. Rows between a window and
        the end of its label may hold nan: rows that a split must not show,
        such as purged ones, are nan in `rows` and keep their `mid`.

        Parameters
        ----------
        rows : float32 array of shape (n_rows, F)
            Not copied.
        mid : array of shape (n_rows,)
            Positive, or nan where there is none.
        ts : int64 array of shape (n_rows,)
        edges : int64 array of shape (n_sessions + 1,)
            As from `data.splits.session_edges`.
        window, horizon : int
            Snapshots in a window and from its last row to the end of its label.

        Raises
        ------
        WindowError
            If window or horizon is less than 1.
        """
        if window < 1 or horizon < 1:
            raise WindowError(f"expected window, horizon >= 1, received {window}, {horizon}")
        row = np.arange(len(rows))
        known = np.isfinite(rows).all(axis=1)
        run = np.where(known, 0, row + 1)  # where the run of usable rows up to here began
        lengths = np.diff(edges)
        run = np.maximum(np.maximum.accumulate(run), np.repeat(edges[:-1], lengths))
        fits = (row - run + 1 >= window) & (row + horizon < np.repeat(edges[1:], lengths))
        last = np.flatnonzero(fits)
        y = ((mid[last + horizon] - mid[last]) / mid[last]).astype(np.float32)
        last, y = last[np.isfinite(y)], y[np.isfinite(y)]
        return cls(rows, last - window + 1, y, ts[last], window)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> tuple[Float32Array, np.float32]:
        """Window `index` as a view of shape (T, F), and its label."""
        start = self.starts[index]
        return self.rows[start : start + self.window], self.y[index]

    def batch(self, indices: npt.ArrayLike) -> tuple[Float32Array, Float32Array]:
        """Copies of the windows of `indices`, shape (n, T, F), and their labels, shape (n,)."""
        which = np.asarray(indices)
        rows = self.starts[which, None] + np.arange(self.window)
        return self.rows.take(rows, axis=0), self.y[which]

    @property
    def views(self) -> list[Float32Array]:
        """X in pieces without a copy: a read-only view (n, T, F) for each run of adjacent windows.

        Concatenated along the first axis they are X.
        """
        if not len(self):
            return []
        n_features = self.rows.shape[1]
        every = np.lib.stride_tricks.sliding_window_view(self.rows, (self.window, n_features))
        gaps = np.flatnonzero(np.diff(self.starts) != 1)
        first = self.starts[np.append(0, gaps + 1)]
        last = self.starts[np.append(gaps, len(self) - 1)]
        return [every[a : b + 1, 0] for a, b in zip(first, last, strict=True)]

    def save(self, path: Path) -> None:
        """Write `path`, an `.npz` of X, y, ts; equal windows give equal bytes."""
        shape = (len(self), self.window, self.rows.shape[1])
        with replace_file(path) as temporary, write_tensors(temporary, shape) as append:
            append(self)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` or `write_tensors` wrote; rows that windows share are kept once.

        Raises
        ------
        WindowError
            If the file has no X of shape (N, T, F).
        """
        with np.load(path) as data:
            if "X" not in data.files:
                raise WindowError(f"{path} holds {data.files}; expected X, y, ts")
            y, ts = data["y"], data["ts"]
        rows, lengths = [], []
        with zipfile.ZipFile(path) as archive, archive.open("X.npy") as file:
            np.lib.format.read_magic(file)
            (_, window, n_features), _, _ = np.lib.format.read_array_header_1_0(file)
            before = np.full((1, window, n_features), np.nan, np.float32)
            for start in range(0, len(y), BLOCK):
                n_windows = min(BLOCK, len(y) - start)
                content = file.read(n_windows * before.nbytes)
                block = np.frombuffer(content, np.float32).reshape(n_windows, window, n_features)
                bits = np.concatenate([before, block]).view(np.int32)  # as numbers, -0.0 is 0.0
                follows = (bits[:-1, 1:] == bits[1:, :-1]).all(axis=(1, 2))
                new = np.ones((n_windows, window), dtype=bool)
                new[follows, :-1] = False
                rows.append(block[new])
                lengths.append(new.sum(axis=1))
                before = block[-1:]
        stops = np.cumsum(np.concatenate(lengths, dtype=np.int64)) if lengths else ts[:0]
        every = np.concatenate([*rows, before[:0, 0]])
        return cls(every, stops - window, y, ts, window)


@contextmanager
def write_tensors(path: Path, shape: tuple[int, int, int]) -> Iterator[Callable[[Windows], None]]:
    """Open an `.npz` for windows; yields a function that appends some.

    The same windows, appended in the same pieces, give the same bytes.

    Parameters
    ----------
    path : path
        Written in place; give the temporary name of `replace_file` or `replace_folder`.
    shape : tuple of int
        (N, T, F) of all windows together: the file's header comes first.

    Raises
    ------
    WindowError
        On leaving, if other than N windows were appended.
    """
    n_windows = 0
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        TemporaryFile(dir=path.parent) as y_file,
        TemporaryFile(dir=path.parent) as ts_file,
    ):
        with _open_array(archive, "X", np.float32, shape) as x_file:

            def append(windows: Windows) -> None:
                nonlocal n_windows
                for start in range(0, len(windows), BLOCK):
                    block = np.arange(start, min(start + BLOCK, len(windows)))
                    x_file.write(windows.batch(block)[0].data)
                y_file.write(windows.y.data)
                ts_file.write(windows.ts.data)
                n_windows += len(windows)

            yield append
        if n_windows != shape[0]:
            raise WindowError(f"{path.name}: expected {shape[0]} windows, received {n_windows}")
        for name, dtype, spool in (("y", np.float32, y_file), ("ts", np.int64, ts_file)):
            spool.seek(0)
            with _open_array(archive, name, dtype, shape[:1]) as file:
                shutil.copyfileobj(spool, file)


@contextmanager
def _open_array(
    archive: zipfile.ZipFile, name: str, dtype: npt.DTypeLike, shape: tuple[int, ...]
) -> Iterator[IO[bytes]]:
    """An entry of an `.npz` with its header written; zipfile dates it 1980-01-01."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
        header = {"descr": descr, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        yield file
