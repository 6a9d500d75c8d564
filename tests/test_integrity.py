"""The leak that a split by row has, its refusal, and the area under the curve in closed form."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from hftlib.evaluation.integrity import (
    PAST_NAMES,
    demonstrate_leakage,
    describe_past,
    estimate_auc,
    label_rugs,
    predict_out_of_fold,
)
from hftlib.sessions.game import Games, play_games
from hftlib.sessions.grouping import LeakError
from hftlib.sessions.theory import sidebet_chance
from tests.test_session_theory import REAL_TICKS, read_ticks


def make_logistic(seed: int) -> LogisticRegression:
    return LogisticRegression()


# ----- labels and features -----


def test_the_label_is_that_of_a_side_bet():
    tick, rug_tick = np.array([0, 1, 60, 99]), np.array([40, 42, 100, 100])
    np.testing.assert_array_equal(label_rugs(tick, rug_tick), [True, False, True, True])
    assert label_rugs(tick, rug_tick, horizon=1).tolist() == [False, False, False, True]


def test_rows_of_the_rug_have_no_label():
    with pytest.raises(ValueError, match="row 1 is at tick 9 of a game that rugs at 9"):
        label_rugs(np.array([8, 9]), np.array([9, 9]))


def test_the_base_rate_is_the_chance_of_a_side_bet():
    past = describe_past(play_games(2000, 0))
    labels = label_rugs(past.tick, past.rug_tick)
    by_game = np.bincount(past.game, labels - sidebet_chance(), minlength=2000)
    assert abs(by_game.mean()) < 4 * by_game.std() / np.sqrt(2000)


def test_features_of_the_past_by_hand():
    past = describe_past(Games.from_lists([[1.0, 2.0, 1.0, 0.02]]))
    assert past.features.shape == (3, len(PAST_NAMES))
    last = dict(zip(PAST_NAMES, past.features[2], strict=True))
    changes = np.array([0.0, 1.0, -0.5])
    expected = {"tick": 2, "price": 1, "high": 2, "low": 1, "mean": 4 / 3, "change_1": -0.5}
    expected |= {"volatility": changes.std(), "change_10": 0.0}
    assert last == pytest.approx(expected)
    np.testing.assert_array_equal(past.rug_tick, [3, 3, 3])


def test_features_do_not_know_the_future():
    games = play_games(5, 1)
    changed = [games[k].copy() for k in range(5)]
    for prices in changed:
        prices[len(prices) // 2 :] *= 7.0
    before, after = describe_past(games), describe_past(Games.from_lists(changed))
    is_past = before.tick < (before.rug_tick + 1) // 2
    np.testing.assert_array_equal(before.features[is_past], after.features[is_past])
    assert (before.features[~is_past] != after.features[~is_past]).any(axis=1).all()


def test_unseen_ticks_and_unfinished_games_are_left_out():
    games = Games.from_lists([[np.nan, 1.1, np.nan, 1.2, 0.02], [1.0, 1.1]], [True, False])
    past = describe_past(games)
    np.testing.assert_array_equal(past.tick, [1, 3])
    assert np.isfinite(past.features).all() and (past.game == 0).all()
    with pytest.raises(ValueError, match="none of 1 games is complete"):
        describe_past(Games.from_lists([[1.0, 1.1]], [False]))


# ----- the area under the curve -----


def test_the_area_is_that_of_scikit_learn_with_ties():
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(5, size=300) / 4, rng.random(300) < 0.3
    own = estimate_auc(scores, labels, np.arange(300), np.zeros(300, dtype=int), n_bootstrap=10)
    assert own.value == pytest.approx(roc_auc_score(labels, scores))


def test_rows_of_different_folds_are_not_compared():
    scores = np.array([0.1, 0.2, 0.8, 0.9])
    labels = np.array([False, True, False, True])
    folds = np.array([0, 0, 1, 1])
    assert estimate_auc(scores, labels, np.arange(4), folds).value == 1.0
    assert estimate_auc(scores, labels, np.arange(4), 0 * folds).value == 0.75


def test_the_interval_is_that_of_games_not_of_rows():
    """The same rows ten times over, in the same games, say nothing new."""
    rng = np.random.default_rng(1)
    scores, labels, games = rng.random(100), rng.random(100) < 0.5, np.arange(100)
    folds = np.zeros(100, dtype=int)
    once = estimate_auc(scores, labels, games, folds)
    more = estimate_auc(*(np.tile(column, 10) for column in (scores, labels, games, folds)))
    for bound in ("value", "low", "high"):
        assert getattr(once, bound) == pytest.approx(getattr(more, bound))


def test_one_label_alone_has_no_area():
    found = estimate_auc(np.ones(4), np.ones(4, dtype=bool), np.arange(4), np.zeros(4, dtype=int))
    assert np.isnan([found.value, found.low, found.high]).all()


# ----- the demonstration -----


def test_a_split_by_row_finds_what_a_split_by_game_shows_to_be_nothing():
    past = describe_past(play_games(80, 2))
    labels = label_rugs(past.tick, past.rug_tick)
    report = demonstrate_leakage(past.features, labels, past.game, n_bootstrap=200)
    assert report.by_row.low > 0.9
    assert report.by_game.low < 0.5 < report.by_game.high
    assert report.by_game.high < 0.65
    assert (report.n_rows, report.n_games) == (len(labels), 80)
    assert set(report.to_dict()["by_row"]) == {"value", "low", "high"}


def test_a_real_signal_is_found_by_both_splits():
    rng = np.random.default_rng(0)
    games = np.arange(200).repeat(10)
    labels = rng.random(2000) < 0.3
    features = rng.normal(size=(2000, 2)) + labels[:, None]
    report = demonstrate_leakage(features, labels, games, make_model=make_logistic, n_bootstrap=100)
    assert report.by_row.value == pytest.approx(report.by_game.value, abs=0.03)
    assert report.by_game.low > 0.75


def test_a_split_that_cuts_through_games_is_refused():
    rng = np.random.default_rng(0)
    games = np.arange(20).repeat(5)
    features, labels = rng.normal(size=(100, 2)), rng.random(100) < 0.5
    folds = np.arange(100) % 4
    with pytest.raises(LeakError, match="game 0 lies in"):
        predict_out_of_fold(features, labels, games, folds, make_logistic)
    with pytest.raises(LeakError):
        predict_out_of_fold(features, labels, games.astype(str), folds, make_logistic)
    by_game = predict_out_of_fold(features, labels, games, games % 4, make_logistic)
    assert ((by_game > 0) & (by_game < 1)).all()


def test_predictions_do_not_depend_on_the_labels_of_the_held_out_rows():
    rng = np.random.default_rng(0)
    games = np.arange(40).repeat(5)
    features, labels = rng.normal(size=(200, 2)), rng.random(200) < 0.5
    folds = games % 4
    held_out = folds == 2
    before = predict_out_of_fold(features, labels, games, folds, make_logistic)
    after = predict_out_of_fold(features, labels ^ held_out, games, folds, make_logistic)
    np.testing.assert_array_equal(before[held_out], after[held_out])


def test_the_same_seed_gives_the_same_report():
    past = describe_past(play_games(20, 3))
    labels = label_rugs(past.tick, past.rug_tick)
    arguments = (past.features[:, 1:2], labels, past.game)
    settings = {"make_model": make_logistic, "n_bootstrap": 20}
    reports = [demonstrate_leakage(*arguments, **settings, seed=k) for k in (1, 1, 2)]
    assert reports[0] == reports[1] != reports[2]


@pytest.mark.slow
def test_recorded_games_show_the_leak_and_nothing_else():
    if not REAL_TICKS.is_file():
        pytest.skip(f"no recorded ticks at {REAL_TICKS}")
    past = describe_past(read_ticks())
    labels = label_rugs(past.tick, past.rug_tick)
    report = demonstrate_leakage(past.features, labels, past.game, n_bootstrap=200)
    assert report.by_row.low > 0.8
    assert report.by_game.low < 0.5 < report.by_game.high < 0.55


def test_labels_that_are_numbers_and_other_lengths_are_refused():
    features, games = np.zeros((4, 2)), np.arange(4)
    for labels in (np.array([0, 1, 0, 1]), np.array([True, False])):
        with pytest.raises(ValueError, match="expected as many of each, labels bool"):
            demonstrate_leakage(features, labels, games)
