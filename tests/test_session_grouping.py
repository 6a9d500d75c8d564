"""Splits by game, and the refusal of splits that let a game through."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftlib.sessions.grouping import LeakError, check_split, split_by_game

SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}


@given(st.lists(st.integers(0, 30), min_size=1, max_size=300), st.integers(0, 2**32))
def test_parts_hold_every_row_once_and_no_game_twice(games, seed):
    game_ids = np.array([*range(20), *games])
    parts = split_by_game(game_ids, SHARES, np.random.default_rng(seed))
    assert list(parts) == list(SHARES)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(game_ids)))
    check_split(game_ids, parts)


def test_shares_are_of_games_not_of_rows():
    game_ids = np.repeat(np.arange(100), np.arange(1, 101))
    parts = split_by_game(game_ids, SHARES, np.random.default_rng(0))
    assert [len(np.unique(game_ids[rows])) for rows in parts.values()] == [70, 15, 15]


def test_same_seed_gives_the_same_split_another_another():
    game_ids = np.arange(50)
    one, same, other = (
        split_by_game(game_ids, {"a": 0.5, "b": 0.5}, np.random.default_rng(seed))["a"].tolist()
        for seed in (1, 1, 2)
    )
    assert one == same != other


def test_split_by_rows_is_refused_and_the_game_named():
    game_ids = np.repeat(["20251215-aa", "20251215-bb"], 10)
    rows = np.random.default_rng(0).permutation(20)
    with pytest.raises(LeakError, match=r"20251215-\w\w lies in train and in test"):
        check_split(game_ids, {"train": rows[:14], "test": rows[14:]})


def test_masks_are_checked_like_positions():
    game_ids = np.array([0, 0, 1])
    check_split(game_ids, {"a": game_ids == 0, "b": game_ids == 1})
    with pytest.raises(LeakError, match="game 0 "):
        check_split(game_ids, {"a": np.array([True, False, False]), "b": np.array([1, 2])})


@pytest.mark.parametrize(
    "shares", [{}, {"a": 0.5, "b": 0.6}, {"a": 1.2, "b": -0.2}, {"a": 1.0, "b": 0.0}]
)
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(ValueError, match="positive numbers with the sum 1"):
        split_by_game(np.arange(10), shares, np.random.default_rng(0))


def test_a_part_without_a_game_is_refused():
    with pytest.raises(ValueError, match="part b gets none of 3 games"):
        split_by_game(np.arange(3), {"a": 0.9, "b": 0.1}, np.random.default_rng(0))


def test_no_value_is_found_in_a_constant_hazard_once_games_are_apart():
    """A row's nearest neighbour in time foretells its label by rows, and cannot by game."""
    rng = np.random.default_rng(0)
    n_games, n_ticks = 200, 30
    game_ids = np.repeat(np.arange(n_games), n_ticks)
    label = np.repeat(rng.random(n_games) < 0.5, n_ticks)

    def accuracy(train, test):
        """Predict with the label of the training row that is nearest in time."""
        nearest = train[np.abs(test[:, None] - train[None, :]).argmin(axis=1)]
        return (label[nearest] == label[test]).mean()

    rows = rng.permutation(len(label))
    by_rows = accuracy(np.sort(rows[:4_800]), np.sort(rows[4_800:]))
    parts = split_by_game(game_ids, {"train": 0.8, "test": 0.2}, rng)
    by_game = accuracy(parts["train"], parts["test"])
    assert by_rows > 0.95
    # 40 test games: four standard errors of a fair coin are 0.32
    assert 0.18 < by_game < 0.82
