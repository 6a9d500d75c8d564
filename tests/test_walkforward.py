"""Folds: exact purging by brute force, tests that tile, paths, agreement with skfolio."""

from datetime import date
from math import comb

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skfolio.model_selection import WalkForward

from hftlib.agents.bar_rules import change_only, cross_averages
from hftlib.data.splits import SplitError
from hftlib.evaluation.engine import run_backtest
from hftlib.evaluation.rule_choice import choose_rule
from hftlib.evaluation.walkforward import (
    cut_combinatorial,
    cut_walk_forward,
    join_paths,
    name_tests,
    test_rows,
    train_rows,
)
from hftlib.portfolio import measures
from hftlib.portfolio.costs import Costs
from tests.test_engine import make_prices

CLOCK = pd.date_range("2010-01-01", periods=240, tz="UTC")


def overlaps(row, tested, horizon):
    """Whether the label of `row` shares a time with the label of a tested row."""
    return any(t <= row + horizon and row <= t + horizon for t in tested)


@settings(max_examples=40)
@given(
    n_folds=st.integers(1, 6),
    horizon=st.integers(0, 6),
    embargo=st.integers(0, 6),
    train_bars=st.none() | st.integers(1, 60),
)
def test_walk_forward_purges_the_overlapping_rows_and_tiles_the_tests(
    n_folds, horizon, embargo, train_bars
):
    folds = cut_walk_forward(
        CLOCK,
        n_folds,
        first_test=date(2010, 4, 1),
        horizon_bars=horizon,
        embargo_bars=embargo,
        train_bars=train_bars,
    )
    tested = np.concatenate([test_rows(fold) for fold in folds])
    np.testing.assert_array_equal(tested, np.arange(90, 240))
    for fold in folds:
        rows, start = train_rows(fold), fold.test[0]
        fitting = [t for t in range(start) if not overlaps(t, range(*fold.test), horizon)]
        kept = fitting[: len(fitting) - embargo]
        assert rows.tolist() == (kept if train_bars is None else kept[-train_bars:])


@settings(max_examples=30)
@given(
    blocks=st.integers(3, 7).flatmap(lambda n: st.tuples(st.just(n), st.integers(2, n - 1))),
    horizon=st.integers(0, 6),
    embargo=st.integers(0, 6),
)
def test_combinatorial_folds_purge_exactly_the_overlapping_rows(blocks, horizon, embargo):
    folds = cut_combinatorial(CLOCK, *blocks, horizon_bars=horizon, embargo_bars=embargo)
    n_blocks, n_tested = blocks
    assert len(folds) == comb(n_blocks, n_tested)
    for fold in folds:
        tested = set(test_rows(fold).tolist())
        after = set()
        starts = {start for start, _ in fold.tests}
        for _, stop in fold.tests:
            if stop not in starts:
                after |= set(range(stop, stop + horizon + embargo))
        expected = [
            t
            for t in range(len(CLOCK))
            if t not in tested and t not in after and not overlaps(t, tested, horizon)
        ]
        assert train_rows(fold).tolist() == expected


def test_each_path_holds_every_time_once_and_each_tested_value_has_its_place():
    folds = cut_combinatorial(CLOCK, 6, 2, horizon_bars=3, embargo_bars=2)
    values = {fold.number: 1000.0 * fold.number + test_rows(fold) for fold in folds}
    paths = join_paths(folds, values, len(CLOCK))
    assert paths.shape == (240, 5)
    np.testing.assert_array_equal(paths % 1000, np.tile(np.arange(240.0)[:, None], (1, 5)))
    # every test of every fold is in exactly one path
    assert sorted(np.unique(paths)) == sorted(np.concatenate(list(values.values())))


def test_a_missing_fold_leaves_nan_and_walk_forward_has_one_path():
    folds = cut_walk_forward(CLOCK, 3, first_test=date(2010, 4, 1), horizon_bars=1, embargo_bars=0)
    values = {fold.number: np.ones((len(test_rows(fold)), 2)) for fold in folds if fold.number != 1}
    joined = join_paths(folds, values, 240)
    assert joined.shape == (240, 1, 2)
    missing = np.isnan(joined[:, 0, 0])
    assert missing.sum() == 90 + len(test_rows(folds[1]))
    assert missing[slice(*folds[1].test)].all()


@pytest.mark.parametrize("expands", [True, False])
def test_skfolio_cuts_the_same_walk_forward_folds(expands):
    split = WalkForward(test_size=30, train_size=57, expand_train=expands, purged_size=3)
    theirs = [(train, test) for train, test in split.split(np.empty((240, 1)))]
    ours = cut_walk_forward(
        CLOCK,
        6,
        first_test=CLOCK[60].date(),
        horizon_bars=3,
        embargo_bars=0,
        train_bars=None if expands else 57,
    )
    assert len(theirs) == len(ours) == 6
    for (train, test), fold in zip(theirs, ours, strict=True):
        np.testing.assert_array_equal(train, train_rows(fold))
        np.testing.assert_array_equal(test, test_rows(fold))


def test_spans_are_named_by_date_or_position():
    fold = cut_combinatorial(CLOCK, 6, 2, horizon_bars=0, embargo_bars=0)[1]
    assert name_tests(fold) == "0 to 39, 80 to 119"
    assert name_tests(fold, CLOCK) == "2010-01-01 to 2010-02-09, 2010-03-22 to 2010-04-30"


# A rule chosen fold by fold


def candidates(prices):
    rules = [cross_averages(prices.close, 2, slow) for slow in (5, 10, 20)]
    return np.stack([change_only(weights) for weights in rules], axis=1)


def test_the_chosen_rule_is_the_best_in_training_and_paid_for_when_changed():
    prices = make_prices(240, 2, seed=1)
    targets = candidates(prices)
    result = run_backtest(prices, targets, Costs(5, 2, 0))
    folds = cut_walk_forward(CLOCK, 4, first_test=date(2010, 4, 1), horizon_bars=1, embargo_bars=0)
    joined = {}
    for fold in folds:
        found = choose_rule(result, targets, 252, fold)
        # nothing is earned in row 0
        earned = np.vstack([np.zeros(3), result.returns])[: fold.train[1]]
        ratios = measures.sharpe(earned, 252)
        np.testing.assert_allclose(
            found["train_sharpe"], ratios, rtol=1e-12
        )  # sums in another order
        k = int(found["chosen"])
        assert k == ratios.argmax()
        np.testing.assert_array_equal(found["test_returns"], result.returns[test_rows(fold) - 1, k])
        joined[fold.number] = found["targets"]
    whole = run_backtest(prices, join_paths(folds, joined, 240)[:, 0], Costs(5, 2, 0))
    assert whole.fills["row"].min() > 90
    assert np.isfinite(whole.equity).all()


def test_what_comes_after_a_fold_does_not_change_its_choice():
    prices = make_prices(240, 2, seed=1)
    folds = cut_walk_forward(CLOCK, 4, first_test=date(2010, 4, 1), horizon_bars=1, embargo_bars=0)
    fold = folds[1]
    changed = prices.close.copy()
    changed[fold.test[0] :] = np.random.default_rng(0).permutation(changed[fold.test[0] :])
    other = type(prices)(prices.symbols, prices.ts, prices.open, changed, prices.volume)
    found = []
    for bars in (prices, other):
        targets = candidates(bars)
        result = run_backtest(bars, targets, Costs(5, 2, 0))
        found.append(choose_rule(result, targets, 252, fold))
    for name in ("chosen", "train_sharpe", "train_returns"):
        np.testing.assert_array_equal(found[0][name], found[1][name])
    assert not np.array_equal(found[0]["test_returns"], found[1]["test_returns"])


def test_rules_that_never_traded_cannot_be_chosen_from():
    prices = make_prices(240, 1)
    targets = np.zeros((240, 2, 1))
    fold = cut_walk_forward(CLOCK, 1, first_test=date(2010, 4, 1), horizon_bars=1, embargo_bars=0)[
        0
    ]
    with pytest.raises(ValueError, match="none of 2 candidates traded on the 89 training rows"):
        choose_rule(run_backtest(prices, targets, Costs(0, 0, 0)), targets, 252, fold)


# Errors

RUN_FROM = "240 bars run from 2010-01-01 to 2010-08-28"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"first_test": date(2009, 1, 1)},
            f"training span is empty.*2009-01-01, and the {RUN_FROM}",
        ),
        ({"first_test": date(2010, 8, 27)}, f"3 test spans do not fit.*{RUN_FROM}"),
        ({"first_test": date(2012, 1, 1)}, f"3 test spans do not fit.*{RUN_FROM}"),
        ({"train_bars": 100}, f"training span is too short.*{RUN_FROM}"),
    ],
)
def test_impossible_walks_name_the_dates_of_the_data(changes, words):
    given_ = {"first_test": date(2010, 4, 1), "horizon_bars": 1, "embargo_bars": 1} | changes
    with pytest.raises(SplitError, match=words):
        cut_walk_forward(CLOCK, 3, **given_)


@pytest.mark.parametrize(
    ("blocks", "horizon", "words"),
    [
        ((2, 1), 0, f"n_blocks=2 and n_test_blocks=1.*{RUN_FROM}"),
        ((5, 5), 0, "n_blocks=5 and n_test_blocks=5"),
        ((241, 2), 0, f"241 blocks have 0 bars each.*{RUN_FROM}"),
        ((6, 2), 20, "6 blocks have 40 bars each, of which horizon_bars=20 .* drop up to 41"),
    ],
)
def test_impossible_blocks_name_the_dates_of_the_data(blocks, horizon, words):
    with pytest.raises(SplitError, match=words):
        cut_combinatorial(CLOCK, *blocks, horizon_bars=horizon, embargo_bars=1)


def test_an_empty_clock_is_said_to_be_empty():
    with pytest.raises(SplitError, match="there are no bars"):
        cut_combinatorial(CLOCK[:0], 6, 2, horizon_bars=0, embargo_bars=0)


def test_values_that_do_not_fit_their_fold_are_refused():
    folds = cut_combinatorial(CLOCK, 6, 2, horizon_bars=0, embargo_bars=0)
    with pytest.raises(ValueError, match=r"fold 3 has values of shape \(7,\); expected \(80,\)"):
        join_paths(folds, {3: np.zeros(7)}, 240)
    with pytest.raises(ValueError, match="there are no values of any fold"):
        join_paths(folds, {}, 240)
