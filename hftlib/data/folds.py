"""Walk-forward folds on one clock: train, then validate, then test, always forwards.

Test spans follow each other without a gap and without an overlap, so that every
time after the first of them has exactly one forecast; training is anchored at
the first time. Before validation and before the test span a gap is left, of the
purge (no label reaches over it) and the embargo (dependence that decays).

Source: López de Prado (2018), Advances in Financial Machine Learning, ch. 7 and 12.
"""

from itertools import pairwise
from typing import NamedTuple

from hftlib.data.splits import SplitError


class Fold(NamedTuple):
    """Ranges of positions on the clock, each (first, one past the last)."""

    number: int
    train: tuple[int, int]
    validation: tuple[int, int]
    test: tuple[int, int]

    @property
    def known(self) -> tuple[int, int]:
        """Train and validation together, for models that need no validation."""
        return self.train[0], self.validation[1]


def walk_forward(
    n_times: int,
    n_folds: int,
    *,
    first_test: int,
    validation_bars: int,
    purge_bars: int,
    embargo_bars: int,
    train_bars: int | None = None,
) -> list[Fold]:
    """Cut a clock into folds whose test spans are of equal length, up to one time.

    Parameters
    ----------
    n_times : int
        Length of the clock.
    first_test : int
        Position at which the first test span starts.
    validation_bars : int
        Length of each validation span; at 0 there is none, and one gap alone.
    purge_bars : int
        At least the horizon of the labels, or labels look across a boundary.
    embargo_bars : int
        Dropped besides.
    train_bars : int, optional
        Length of each training span, so that it rolls; without it all begin at time 0.

    Raises
    ------
    SplitError
        If a test span or the first training span would be empty.
    """
    gap = purge_bars + embargo_bars
    inner = gap if validation_bars > 0 else 0
    needed = 1 if train_bars is None else train_bars
    if needed < 1:
        raise SplitError(f"train_bars is {train_bars}; expected at least 1, or None to anchor")
    if first_test - gap - validation_bars - inner < needed:
        raise SplitError(
            f"the first training span is {'empty' if train_bars is None else 'too short'}: "
            f"first_test={first_test} less validation_bars={validation_bars} and "
            f"{'twice ' if inner else ''}a gap of {gap}, {needed} needed; start the tests later"
        )
    if n_folds < 1 or n_times - first_test < n_folds:
        raise SplitError(
            f"{n_folds} test spans do not fit between time {first_test} and {n_times}; "
            "ask for fewer folds or give more bars"
        )
    edges = [first_test + k * (n_times - first_test) // n_folds for k in range(n_folds + 1)]
    folds = []
    for number, (start, stop) in enumerate(pairwise(edges)):
        validation = (start - gap - validation_bars, start - gap)
        end = validation[0] - inner
        begin = 0 if train_bars is None else end - train_bars
        folds.append(Fold(number, (begin, end), validation, (start, stop)))
    return folds
