"""What a test demands of its returns, and the errors that say which demand was not met.

Tests of strategies answer with a number whatever they are given: too few days,
a nan, a strategy that never traded or a benchmark of other days spoil it
silently. So they are refused, each by an error of its own.
"""

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

FloatArray = npt.NDArray[np.float64]


class SampleError(ValueError):
    """Returns that a test cannot use; the message says why and what to do."""


class TooFewError(SampleError):
    """Fewer observations, trades, strategies or seeds than the test needs."""


class UndefinedError(SampleError):
    """Values that are nan or infinite."""


class ConstantError(SampleError):
    """Returns that do not vary, or do not differ: nothing can be divided by their spread."""


class DatesDifferError(SampleError):
    """Returns that are to be compared day by day, of different days."""


def check_returns(
    returns: npt.ArrayLike, *, n_least: int, test: str, names: Sequence[Hashable] | None = None
) -> FloatArray:
    """Returns of one or more strategies as an array, once they are fit for a test.

    Parameters
    ----------
    returns : array of shape (n_bars,) or (n_bars, n_strategies)
    n_least : int
        Bars that the test needs.
    test : str
        Its name, for the message.
    names : sequence, optional
        Of the strategies, for the message; numbers by default.

    Returns
    -------
    array of the same shape, float64

    Raises
    ------
    TooFewError, UndefinedError, ConstantError
        If there are fewer bars, a value is nan or infinite, or a strategy's returns do not vary.
    ValueError
        If the shape is another.
    """
    values = np.asarray(returns, dtype=np.float64)
    if values.ndim not in (1, 2):
        raise ValueError(
            f"{test}: returns have shape {values.shape}; expected (n_bars,) or "
            "(n_bars, n_strategies)"
        )
    if len(values) < n_least:
        raise TooFewError(
            f"{test}: {len(values)} observations; it needs at least {n_least}: test a longer span"
        )
    table = values.reshape(len(values), -1)
    labels = list(range(table.shape[1])) if names is None else list(names)
    check_finite(table, labels, test=test)
    flat = [labels[k] for k in np.flatnonzero(~varies(table))]
    if flat:
        raise ConstantError(
            f"{test}: the returns of {', '.join(map(repr, flat))} do not vary; leave out "
            "strategies that never trade"
        )
    return values


def check_finite(table: FloatArray, names: Sequence[Hashable], *, test: str) -> None:
    """Refuse a table of shape (n_bars, n_strategies) with a nan or infinite value.

    Raises
    ------
    UndefinedError
        Names the first such bar and its strategy.
    """
    finite = np.isfinite(table)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise UndefinedError(
            f"{test}: the return of strategy {names[column]!r} at bar {row} is "
            f"{table[row, column]}; leave out bars that not all strategies have"
        )


def varies(values: FloatArray) -> npt.NDArray[np.bool_]:
    """Whether values vary along axis 0 by more than rounding, as `measures.sharpe` has it."""
    size = np.max(np.abs(values), axis=0)
    sd = np.std(values, axis=0, ddof=1)
    return np.asarray(sd > np.maximum(1e-15, 1e-12 * size))


def check_dates(first: pd.Index, second: pd.Index, *, test: str) -> None:
    """Refuse two sets of returns that are not of the same days in the same order.

    Raises
    ------
    DatesDifferError
        Names how many days each has alone, and the first such.
    """
    if first.equals(second):
        return
    alone, other = first.difference(second), second.difference(first)
    if not len(alone) and not len(other):
        raise DatesDifferError(
            f"{test}: the dates are the same but not in the same order, or repeated; sort both"
        )
    some = (alone if len(alone) else other)[0]
    raise DatesDifferError(
        f"{test}: the strategies have {len(alone)} dates that the benchmark lacks, and it has "
        f"{len(other)} that they lack, the first {some}; cut both to their common dates"
    )
