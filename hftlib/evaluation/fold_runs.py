"""Run a function on every fold: in parallel, kept on disk, and resumed after a stop.

Each fold's result is written, whole, by the process that made it, under a name that
hashes the inputs: a run that was killed goes on where it stopped, and one with other
inputs or other code starts afresh. A fold that fails is reported and costs the
others nothing. What comes back is always read from the files, whose bytes do not depend
on the number of processes.
"""

import hashlib
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.compute import hash_sources, map_parallel
from hftlib.evaluation.walkforward import AnyFold, name_tests
from hftlib.paths import replace_file

FoldResult = dict[str, npt.NDArray[Any]]
FoldFunction = Callable[[Any], Mapping[str, npt.ArrayLike]]


class FoldFailure(NamedTuple):
    """A fold without a result: its number and test span, the error, and where its trace is."""

    number: int
    span: str
    error: str
    traceback: Path


@dataclass(frozen=True)
class FoldRuns:
    """What all folds gave.

    Attributes
    ----------
    results : dict of fold number to dict of arrays
        In the order of the folds; without those that failed.
    failures : tuple of FoldFailure
    n_reused : int
        Folds whose result was on disk already.
    """

    results: dict[int, FoldResult]
    failures: tuple[FoldFailure, ...]
    n_reused: int

    def values(self, name: str) -> dict[int, npt.NDArray[Any]]:
        """One array of each fold, for `walkforward.join_paths`."""
        return {number: result[name] for number, result in self.results.items()}

    def failure_table(self) -> pd.DataFrame:
        """One row a failure: number, span, error, traceback."""
        return pd.DataFrame(self.failures, columns=list(FoldFailure._fields))


def run_folds(
    function: FoldFunction,
    folds: Sequence[AnyFold],
    folder: Path,
    fingerprint: str,
    label: str,
    clock: pd.DatetimeIndex | None = None,
) -> FoldRuns:
    """`function(fold)` for each fold, one process a core.

    Parameters
    ----------
    function : callable
        Takes a fold, returns a mapping of names to arrays, numbers or texts; a function of a
        module or a `functools.partial` of one. Random numbers from `derive_seed(seed, …,
        fold.number)`, not from a shared generator.
    folder : Path
        Results go to `<folder>/<label>/`.
    fingerprint : str
        Of all that `function` depends on but the fold and the code of `hftlib`, as from
        `hash_inputs`.
    label : str
        Names the run on the screen and its folder.
    clock : DatetimeIndex, optional
        Names the spans of failures by date.

    Returns
    -------
    FoldRuns
        An interrupt, and a process that dies, stop the run; what is finished stays.

    Raises
    ------
    ValueError
        If there are no folds, or two have one number.
    """
    numbers = [fold.number for fold in folds]
    if not folds or len(set(numbers)) != len(numbers):
        raise ValueError(f"folds are numbered {numbers}; expected at least one, each number once")
    code = hash_sources(Path(__file__).parents[1])
    files = {
        fold.number: folder
        / label
        / f"fold-{fold.number:03d}-{hash_inputs(fingerprint, label, code, fold)[:16]}.npz"
        for fold in folds
    }
    missing = [fold for fold in folds if not files[fold.number].exists()]
    failures: list[FoldFailure] = []
    if missing:
        run = partial(_run_one, function, files, clock)
        done = map_parallel(run, missing, label)
        failures = [failure for failure in done if failure is not None]
    failed = {failure.number for failure in failures}
    results = {number: _read(files[number]) for number in numbers if number not in failed}
    return FoldRuns(results, tuple(failures), len(folds) - len(missing))


def _run_one(
    function: FoldFunction, files: Mapping[int, Path], clock: pd.DatetimeIndex | None, fold: AnyFold
) -> FoldFailure | None:
    """Write one fold's result, or the trace of its error."""
    path = files[fold.number]
    trace = path.with_suffix(".traceback.txt")
    try:
        arrays = {name: np.asarray(value) for name, value in function(fold).items()}
        for name, values in arrays.items():
            if values.dtype.hasobject:
                raise TypeError(f"{name} holds objects; return arrays of numbers, flags or text")
        with replace_file(path) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
    except Exception as error:
        with replace_file(trace) as temporary:
            temporary.write_text(traceback.format_exc())
        return FoldFailure(
            fold.number, name_tests(fold, clock), f"{type(error).__name__}: {error}", trace
        )
    trace.unlink(missing_ok=True)
    return None


def _read(path: Path) -> FoldResult:
    with np.load(path, allow_pickle=False) as data:
        return {name: data[name] for name in data.files}


def hash_inputs(*values: Any) -> str:
    """A hash of values and of their types, the same in every process.

    Arrays, frames, dataclasses, mappings (in their order), sequences, names of paths and plain
    values.

    Raises
    ------
    TypeError
        If a value is of another kind: its text might hold an address.
    """
    digest = hashlib.sha256()
    for value in values:
        _feed(digest, value)
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    """Add one value; its kind and length go first, so that no two inputs run together."""
    kind = type(value).__name__
    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping | tuple | list):
        digest.update(f"{kind}{len(value)}:".encode())
        parts = value.items() if isinstance(value, Mapping) else value
        for part in parts:
            _feed(digest, part)
        return
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        head, body = f"{value.dtype.str}{value.shape}", np.ascontiguousarray(value).tobytes()
    elif isinstance(value, pd.DataFrame | pd.Series | pd.Index):
        names = [str(name) for name in value.columns] if isinstance(value, pd.DataFrame) else []
        hashes = pd.util.hash_pandas_object(value, index=not isinstance(value, pd.Index))
        head, body = f"{names}{len(value)}", np.asarray(hashes).tobytes()
    elif value is None or isinstance(value, str | bytes | bool | int | float | np.generic | Path):
        body = repr(value).encode()
        head = str(len(body))
    else:
        raise TypeError(
            f"{kind} has no hash of its contents; pass arrays, frames, dataclasses or plain values"
        )
    digest.update(f"{kind}{head}:".encode())
    digest.update(body)
