"""Columns of numbers that grow on disk, one `.npy` file each.

Headers of numpy's format leave room for the number of rows, which is written
when the columns are closed; until then a column says that it is empty.

Source: numpy enhancement proposal 1, A simple file format for NumPy arrays.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Column:
    """Type and shape of one row of a column."""

    dtype: npt.DTypeLike
    shape: tuple[int, ...] = ()


class ColumnWriter:
    """Appends rows to `<name>.npy` files; a context manager.

    The files are complete when the context ends. Give it the temporary folder
    of `hftlib.paths.replace_folder`, so that nobody reads them earlier.
    """

    def __init__(self, folder: Path, columns: Mapping[str, Column]) -> None:
        self._columns = dict(columns)
        self._n_rows = dict.fromkeys(columns, 0)
        self._files: dict[str, BinaryIO] = {}
        with ExitStack() as opened:
            for name in columns:
                file = opened.enter_context((folder / f"{name}.npy").open("xb"))
                self._files[name] = file
                self._write_header(name)
            self._opened = opened.pop_all()

    def append(self, name: str, rows: npt.NDArray[Any]) -> None:
        """Write `rows` behind those of the column.

        Raises
        ------
        ValueError
            If a row is of another type or shape than the column's.
        """
        column = self._columns[name]
        if rows.dtype != column.dtype or rows.shape[1:] != column.shape:
            raise ValueError(
                f"column {name} has rows of {np.dtype(column.dtype)} {column.shape}, received "
                f"{rows.dtype} {rows.shape[1:]}"
            )
        np.ascontiguousarray(rows).tofile(self._files[name])
        self._n_rows[name] += len(rows)

    def close(self) -> None:
        """Write the numbers of rows."""
        with self._opened:
            for name, file in self._files.items():
                file.seek(0)
                self._write_header(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _write_header(self, name: str) -> None:
        column = self._columns[name]
        header = {
            "descr": np.lib.format.dtype_to_descr(np.dtype(column.dtype)),
            "fortran_order": False,
            "shape": (self._n_rows[name], *column.shape),
        }
        np.lib.format.write_array_header_1_0(self._files[name], header)


def read_columns(folder: Path, names: Mapping[str, Column]) -> dict[str, npt.NDArray[Any]]:
    """Columns of a folder, mapped into memory read-only.

    Raises
    ------
    FileNotFoundError
        If one is missing.
    ValueError
        If one is of another type or shape, or shorter than its header says.
    """
    found = {}
    for name, column in names.items():
        path = folder / f"{name}.npy"
        rows = np.load(path, mmap_mode="r")
        if rows.dtype != column.dtype or rows.shape[1:] != column.shape:
            raise ValueError(
                f"{path} has rows of {rows.dtype} {rows.shape[1:]}, expected "
                f"{np.dtype(column.dtype)} {column.shape}; write the folder anew"
            )
        found[name] = rows
    return found
