"""Walk-forward folds: forwards only, every time forecast once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftlib.data.folds import walk_forward
from hftlib.data.splits import SplitError


@given(
    n_folds=st.integers(1, 9),
    first_test=st.integers(60, 200),
    extra=st.integers(9, 500),
    purge=st.integers(0, 5),
    embargo=st.integers(0, 5),
)
def test_test_spans_tile_the_clock_and_nothing_touches_the_future(
    n_folds, first_test, extra, purge, embargo
):
    folds = walk_forward(
        first_test + extra,
        n_folds,
        first_test=first_test,
        validation_bars=20,
        purge_bars=purge,
        embargo_bars=embargo,
    )
    tested = [time for fold in folds for time in range(*fold.test)]
    assert tested == list(range(first_test, first_test + extra))
    for fold in folds:
        assert fold.train[0] == 0 < fold.train[1]
        assert fold.validation[0] - fold.train[1] == purge + embargo
        assert fold.test[0] - fold.validation[1] == purge + embargo
        assert fold.validation[1] - fold.validation[0] == 20
        assert fold.known == (0, fold.validation[1])
    lengths = [fold.test[1] - fold.test[0] for fold in folds]
    assert max(lengths) - min(lengths) <= 1


@given(train_bars=st.integers(1, 60), n_folds=st.integers(1, 9))
def test_rolling_training_has_one_length_and_ends_where_the_anchored_one_does(train_bars, n_folds):
    settings = {"first_test": 100, "validation_bars": 20, "purge_bars": 2, "embargo_bars": 3}
    anchored = walk_forward(300, n_folds, **settings)
    rolling = walk_forward(300, n_folds, train_bars=train_bars, **settings)
    for one, other in zip(anchored, rolling, strict=True):
        assert other == one._replace(train=(one.train[1] - train_bars, one.train[1]))


def test_without_validation_there_is_one_gap():
    (fold,) = walk_forward(100, 1, first_test=60, validation_bars=0, purge_bars=2, embargo_bars=3)
    assert fold.train == fold.known == (0, 55)
    assert fold.test == (60, 100)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"first_test": 70}, "the first training span is empty: first_test=70"),
        ({"n_folds": 31}, "31 test spans do not fit between time 80 and 110"),
        ({"n_folds": 0}, "0 test spans"),
        ({"train_bars": 11}, "the first training span is too short: first_test=80 .* 11 needed"),
        ({"train_bars": 0}, "train_bars is 0; expected at least 1"),
    ],
)
def test_an_impossible_cut_names_its_numbers(changes, words):
    settings = {"first_test": 80, "validation_bars": 50, "purge_bars": 1, "embargo_bars": 9}
    settings |= changes
    with pytest.raises(SplitError, match=words):
        walk_forward(110, settings.pop("n_folds", 2), **settings)
