"""The dataset of transitions: views, masks, the folder on disk and exports."""

import itertools
import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

from hftlib.sessions.dataset import (
    GAME_ID,
    DatasetError,
    TransitionDataset,
)
from hftlib.sessions.export import export_minari, export_npz
from hftlib.sessions.grouping import check_split
from hftlib.sessions.layout import Transitions
from hftlib.sessions.shards import Column, ColumnWriter, read_columns

SHARES = {"train": 0.5, "test": 0.5}


def make_part(lengths, first_row=0, first_game=0, seed=0):
    """Games of `lengths` kept ticks; every other one ends with its capture, not its rug."""
    rng = np.random.default_rng(seed)
    n_rows = sum(lengths)
    is_last = np.zeros(n_rows, dtype=bool)
    is_last[np.cumsum(lengths) - 1] = True
    row = np.flatnonzero(~is_last)
    game = np.repeat(np.arange(len(lengths)), lengths)[row] + first_game
    ends = is_last[row + 1]
    return Transitions(
        observations=rng.normal(size=(n_rows, 36)).astype(np.float32),
        row=row + first_row,
        choice=rng.integers(4, size=len(row)).astype(np.int8),
        adjustment=rng.integers(9, size=len(row)).astype(np.int8),
        rewards=rng.normal(size=len(row)),
        terminated=ends & (game % 2 == 0),
        truncated=ends & (game % 2 == 1),
        is_exact=rng.random(len(row)) < 0.9,
        stake_open=rng.random(len(row)) < 0.3,
        game=game,
    )


def make_games(game_ids):
    sessions = [f"s{k}" for k in range(len(game_ids))]
    return pd.DataFrame({"game_id": game_ids, "session_id": sessions})


@pytest.fixture
def dataset():
    """Four games, of which the first and the last are one game in two sessions."""
    parts = [make_part([4, 3]), make_part([5, 2], first_row=7, first_game=2, seed=1)]
    return TransitionDataset.from_parts(parts, make_games(["a", "b", "c", "a"]))


def test_next_observation_is_the_observation_that_follows(dataset):
    everything = dataset.batch(np.arange(len(dataset)))
    game = dataset.column("game")
    follows = game[1:] == game[:-1]
    assert np.array_equal(
        everything.next_observations[:-1][follows], everything.observations[1:][follows]
    )
    assert not np.array_equal(
        everything.next_observations[:-1][~follows], everything.observations[1:][~follows]
    )


def test_items_are_rows_of_the_batch(dataset):
    everything = dataset.batch(np.arange(len(dataset)))
    assert len(dataset) == 10
    for i, (obs, action, reward, next_obs, done) in enumerate(dataset):
        assert np.array_equal(obs, everything.observations[i])
        assert np.array_equal(next_obs, everything.next_observations[i])
        assert (action, reward, done) == (
            everything.actions[i],
            everything.rewards[i],
            everything.terminated[i],
        )
        assert isinstance(done, bool)
    with pytest.raises(IndexError, match="transition 10 of 10"):
        dataset[10]


def test_the_end_of_a_capture_is_no_end_of_a_game(dataset):
    everything = dataset.batch(np.arange(len(dataset)))
    assert everything.terminated.sum() == 2
    assert everything.truncated.sum() == 2
    assert not (everything.terminated & everything.truncated).any()
    assert [item[4] for item in dataset] == everything.terminated.tolist()


def test_action_codes_hold_choice_and_adjustment(dataset):
    choice, adjustment = np.divmod(dataset.actions, 9)
    assert np.array_equal(choice, dataset.column("choice"))
    assert np.array_equal(adjustment, dataset.column("adjustment"))


def test_name_of_the_game_is_hidden_unless_asked_for(dataset):
    part = make_part([4])
    shown = TransitionDataset.from_parts([part], make_games(["a"]), shows_game_id=True)
    hidden = TransitionDataset.from_parts([part], make_games(["a"]))
    index = np.arange(3)
    assert np.array_equal(shown.batch(index).observations, part.observations[:3])
    assert not hidden.batch(index).observations[:, GAME_ID].any()
    assert not hidden.batch(index).next_observations[:, GAME_ID].any()
    assert (part.observations[:, GAME_ID] != 0).all()  # hiding it touches no source


def test_two_sessions_of_one_game_share_a_code_and_stay_together(dataset):
    assert dataset.game_names == ("a", "b", "c")
    assert dataset.game_ids.tolist() == [0] * 3 + [1] * 2 + [2] * 4 + [0]
    only = dataset.take_games([0])
    assert only.column("game").tolist() == [0, 0, 0, 3]
    assert only.games["session_id"].tolist() == ["s0", "s3"]
    for seed in range(5):
        parts = dataset.split(SHARES, np.random.default_rng(seed))
        found = [set(part.game_ids.tolist()) for part in parts.values()]
        assert found[0].isdisjoint(found[1])
        assert sum(map(len, parts.values())) == len(dataset)


def test_views_show_what_the_whole_shows(dataset):
    view = dataset.take_games([1, 2]).take_games([2])
    whole = dataset.batch(np.flatnonzero(dataset.game_ids == 2))
    for seen, expected in zip(view.batch(np.arange(len(view))), whole, strict=True):
        assert np.array_equal(seen, expected)


def test_unknown_game_is_refused(dataset):
    with pytest.raises(DatasetError, match="no transitions of game 7"):
        dataset.take_games([0, 7])


def test_split_by_rows_of_a_dataset_is_refused(dataset):
    rows = np.random.default_rng(0).permutation(len(dataset))
    with pytest.raises(ValueError, match="lies in train and in test"):
        check_split(dataset.game_ids, {"train": rows[:5], "test": rows[5:]})


def test_torch_loads_it(dataset):
    obs, action, reward, next_obs, done = next(iter(DataLoader(dataset, batch_size=10)))
    everything = dataset.batch(np.arange(10))
    assert torch.equal(obs, torch.from_numpy(everything.observations))
    assert torch.equal(next_obs, torch.from_numpy(everything.next_observations))
    assert torch.equal(action, torch.from_numpy(everything.actions))
    assert torch.equal(reward, torch.from_numpy(everything.rewards))
    assert torch.equal(done, torch.from_numpy(everything.terminated))


def test_dataset_without_transitions_is_empty_not_an_error():
    empty = TransitionDataset.from_parts([], make_games([]))
    assert len(empty) == 0
    assert empty.batch(np.arange(0)).observations.shape == (0, 36)


# columns on disk


def test_columns_read_back_what_was_appended_in_portions(tmp_path):
    rows = np.arange(60, dtype=np.float32).reshape(20, 3)
    columns = {"x": Column(np.float32, (3,)), "n": Column(np.int64)}
    with ColumnWriter(tmp_path, columns) as writer:
        for start, stop in [(0, 1), (1, 1), (1, 13), (13, 20)]:
            writer.append("x", rows[start:stop])
        writer.append("n", np.arange(4))
    found = read_columns(tmp_path, columns)
    assert np.array_equal(found["x"], rows)
    assert np.array_equal(np.load(tmp_path / "n.npy"), np.arange(4))


def test_rows_of_another_kind_are_refused(tmp_path):
    with ColumnWriter(tmp_path, {"x": Column(np.float32, (3,))}) as writer:
        with pytest.raises(ValueError, match=r"rows of float32 \(3,\), received float64 \(3,\)"):
            writer.append("x", np.zeros((2, 3)))
        with pytest.raises(ValueError, match=r"received float32 \(2,\)"):
            writer.append("x", np.zeros((2, 2), np.float32))
    with pytest.raises(ValueError, match="rows of float32"):
        read_columns(tmp_path, {"x": Column(np.float64, (3,))})


# exports


def test_npz_holds_the_transitions_and_their_games(dataset, tmp_path):
    export_npz(dataset, tmp_path / "play.npz")
    everything = dataset.batch(np.arange(len(dataset)))
    with np.load(tmp_path / "play.npz") as found:
        for name, values in everything._asdict().items():
            assert np.array_equal(found[name], values), name
            assert found[name].dtype == values.dtype, name
        names = found["game_names"][found["game_ids"]]
    assert names.tolist() == [dataset.game_names[code] for code in dataset.game_ids]


def test_npz_of_a_view_is_the_same_bytes_each_time(dataset, tmp_path):
    for name in ("one", "two"):
        export_npz(dataset.take_games([1]), tmp_path / f"{name}.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["one.npz", "two.npz"]


def test_missing_minari_says_how_to_install_it(dataset, monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(ImportError, match=r"pip install 'hftlib\[minari\]'"):
        export_minari(dataset, "crash/test-v0", description="test")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Minari asks for an author and a link
def test_minari_gives_back_the_episodes(dataset, tmp_path, monkeypatch):
    minari = pytest.importorskip("minari", reason="an optional extra")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    export_minari(dataset, "crash/test-v0", description="test")
    loaded = minari.load_dataset("crash/test-v0")
    assert (loaded.total_episodes, loaded.total_steps) == (4, len(dataset))
    everything = dataset.batch(np.arange(len(dataset)))
    start = 0
    for episode, (_, game) in zip(loaded.iterate_episodes(), dataset.games.iterrows(), strict=True):
        rows = slice(start, start + len(episode))
        assert np.array_equal(episode.observations[:-1], everything.observations[rows])
        assert np.array_equal(episode.observations[1:], everything.next_observations[rows])
        assert np.array_equal(episode.actions @ [9, 1], everything.actions[rows])
        assert np.array_equal(episode.rewards, everything.rewards[rows])
        assert np.array_equal(episode.terminations, everything.terminated[rows])
        assert np.array_equal(episode.truncations, everything.truncated[rows])
        (metadata,) = loaded.storage.get_episode_metadata([episode.id])
        assert json.loads(json.dumps(metadata["options"])) == game.to_dict()
        start = rows.stop
    assert start == len(dataset)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_minari_is_written_whole_or_not_at_all(dataset, tmp_path, monkeypatch):
    minari = pytest.importorskip("minari", reason="an optional extra")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    export_minari(dataset, "crash/test-v0", description="test")
    with pytest.raises(ValueError, match="test-v0 exists"):
        export_minari(dataset, "crash/test-v0", description="another")
    calls = itertools.count()

    def fail_at_the_third(rows):
        if next(calls) == 2:
            assert len(list(tmp_path.glob("crash/test-v1/data/*/metadata.json"))) == 2
            raise OSError("no space left")
        return TransitionDataset.batch(dataset, rows)

    monkeypatch.setattr(dataset, "batch", fail_at_the_third)
    with pytest.raises(OSError, match="no space"):
        export_minari(dataset, "crash/test-v1", description="test")
    assert [path.name for path in tmp_path.glob("crash/test*")] == ["test-v0"]
    monkeypatch.undo()
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    export_minari(dataset, "crash/test-v1", description="test")
    assert minari.load_dataset("crash/test-v0").total_episodes == 4
    assert minari.load_dataset("crash/test-v1").total_episodes == 4
