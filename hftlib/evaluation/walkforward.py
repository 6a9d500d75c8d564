"""Folds over a clock of dates, and their results put together again.

Walk-forward folds (`data.folds`) test each time once and train on earlier times alone:
use them for headlines. Combinatorial purged folds test each block of time several
times, train on both sides of it, and give several paths through the same span: use them
for dispersion.

A label of row t is known at the close of t + horizon. A training row is purged if the
interval [t, t + horizon] of its label overlaps that of a tested row; after a test
the embargo follows.

Source: López de Prado (2018), Advances in Financial Machine Learning, ch. 7 and 12.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.data.folds import Fold, walk_forward
from hftlib.data.splits import SplitError

IntArray = npt.NDArray[np.int64]
Range = tuple[int, int]  # first, one past the last


class PurgedFold(NamedTuple):
    """One combination of test blocks.

    Attributes
    ----------
    number : int
    train : tuple of ranges
        Positions on the clock, purged and embargoed.
    tests : tuple of ranges
        One a block, in time order.
    paths : tuple of int
        To which path the test of each block belongs.
    """

    number: int
    train: tuple[Range, ...]
    tests: tuple[Range, ...]
    paths: tuple[int, ...]


AnyFold = Fold | PurgedFold


def cut_walk_forward(
    clock: pd.DatetimeIndex,
    n_folds: int,
    *,
    first_test: date,
    horizon_bars: int,
    embargo_bars: int,
    train_bars: int | None = None,
    validation_bars: int = 0,
) -> list[Fold]:
    """Walk-forward folds whose tests tile the clock from `first_test` on.

    Parameters
    ----------
    clock : DatetimeIndex of shape (n_times,), increasing
    first_test : date
        First day (UTC) of the first test span.
    horizon_bars : int
        From a row to the close at which its label is known; purged before each boundary.
    embargo_bars : int
        Dropped besides, at least as long as what features or labels carry over.
    train_bars : int, optional
        Length of each training span, which then rolls; anchored at the first time without it.
    validation_bars : int
        Length of a validation span before each test, with a gap of its own; 0 for none.

    Raises
    ------
    SplitError
        If a span would be empty; the message names the dates that the data has.
    """
    first = int(clock.searchsorted(pd.Timestamp(first_test, tz=clock.tz)))
    try:
        return walk_forward(
            len(clock),
            n_folds,
            first_test=first,
            validation_bars=validation_bars,
            purge_bars=horizon_bars,
            embargo_bars=embargo_bars,
            train_bars=train_bars,
        )
    except SplitError as error:
        raise SplitError(f"{error}; first_test={first_test}, {_name_span(clock)}") from None


def cut_combinatorial(
    clock: pd.DatetimeIndex,
    n_blocks: int,
    n_test_blocks: int,
    *,
    horizon_bars: int,
    embargo_bars: int,
) -> list[PurgedFold]:
    """Combinatorial purged folds through skfolio: every choice of test blocks out of all.

    Parameters
    ----------
    clock : DatetimeIndex of shape (n_times,), increasing
    n_blocks, n_test_blocks : int
        (6, 2) gives 15 folds and 5 paths. The last block takes the rows left over.
    horizon_bars : int
        Purged before and after each test block.
    embargo_bars : int
        Dropped after the purge that follows a test block.

    Raises
    ------
    SplitError
        If the blocks are too few or too short; the message names the dates that the data has.
    """
    from skfolio.model_selection import CombinatorialPurgedCV  # slow to import, needed here only

    shortest = len(clock) // max(n_blocks, 1)
    # skfolio wants at least 3 blocks, and a block longer than what is dropped of it
    if not (n_blocks >= 3 and 2 <= n_test_blocks < n_blocks):
        raise SplitError(
            f"n_blocks={n_blocks} and n_test_blocks={n_test_blocks}; expected at least 3 blocks "
            f"and 2 or more, not all, of them tested, {_name_span(clock)}"
        )
    dropped = 2 * horizon_bars + embargo_bars  # of a block between two that are tested
    if shortest <= dropped + 1:
        raise SplitError(
            f"{n_blocks} blocks have {shortest} bars each, of which horizon_bars={horizon_bars} "
            f"and embargo_bars={embargo_bars} drop up to {dropped}, "
            f"{_name_span(clock)}; ask for fewer blocks"
        )
    split = CombinatorialPurgedCV(n_blocks, n_test_blocks, horizon_bars, embargo_bars)
    paths = split.get_path_ids()
    return [
        PurgedFold(
            number,
            _ranges(train),
            tuple((int(block[0]), int(block[-1]) + 1) for block in tests),
            tuple(int(path) for path in paths[number]),
        )
        for number, (train, tests) in enumerate(split.split(np.empty((len(clock), 1))))
    ]


def train_rows(fold: AnyFold) -> IntArray:
    """Positions of all training times."""
    return _rows((fold.train,) if isinstance(fold, Fold) else fold.train)


def test_rows(fold: AnyFold) -> IntArray:
    """Positions of all tested times, ascending."""
    return _rows(_tests(fold)[0])


test_rows.__test__ = False  # type: ignore[attr-defined]  # not for pytest


def name_tests(fold: AnyFold, clock: pd.DatetimeIndex | None = None) -> str:
    """The tested spans in words: dates, or positions without a clock."""
    if clock is None:
        return ", ".join(f"{start} to {stop - 1}" for start, stop in _tests(fold)[0])
    return ", ".join(
        f"{clock[start].date()} to {clock[stop - 1].date()}" for start, stop in _tests(fold)[0]
    )


def join_paths(
    folds: Sequence[AnyFold], values: Mapping[int, npt.ArrayLike], n_times: int
) -> npt.NDArray[np.float64]:
    """Out-of-sample values of every fold, put on the clock.

    Parameters
    ----------
    values : mapping of fold number to array of shape (n_tested, …)
        One row for each of `test_rows`. A fold may be missing.

    Returns
    -------
    float64 array of shape (n_times, n_paths, …)
        nan where a fold is missing or a time is not tested; walk-forward folds have one path.

    Raises
    ------
    ValueError
        If there are no values, or a fold's do not fit its tests.
    """
    parts = {number: np.asarray(part, dtype=np.float64) for number, part in values.items()}
    if not parts:
        raise ValueError("there are no values of any fold; look at the failures")
    rest = next(iter(parts.values())).shape[1:]
    n_paths = 1 + max(path for fold in folds for path in _tests(fold)[1])
    joined = np.full((n_times, n_paths, *rest), np.nan)
    for fold in folds:
        if fold.number not in parts:
            continue
        part, rows = parts[fold.number], len(test_rows(fold))
        if part.shape != (rows, *rest):
            raise ValueError(
                f"fold {fold.number} has values of shape {part.shape}; expected {(rows, *rest)}, "
                "one row for each tested time"
            )
        at = 0
        for (start, stop), path in zip(*_tests(fold), strict=True):
            joined[start:stop, path] = part[at : at + stop - start]
            at += stop - start
    return joined


def _tests(fold: AnyFold) -> tuple[tuple[Range, ...], tuple[int, ...]]:
    """Tested ranges, and the path of each."""
    return ((fold.test,), (0,)) if isinstance(fold, Fold) else (fold.tests, fold.paths)


def _rows(ranges: Sequence[Range]) -> IntArray:
    return np.concatenate([np.arange(start, stop) for start, stop in ranges])


def _ranges(rows: IntArray) -> tuple[Range, ...]:
    """Runs of consecutive rows."""
    runs = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    return tuple((int(run[0]), int(run[-1]) + 1) for run in runs)


def _name_span(clock: pd.DatetimeIndex) -> str:
    if len(clock) == 0:
        return "and there are no bars"
    return f"and the {len(clock)} bars run from {clock[0].date()} to {clock[-1].date()}"
