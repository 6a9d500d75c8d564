"""Trainings side by side are those one by one; other games are other trainings."""

import numpy as np
import pandas as pd
import pytest

from hftlib.agents import checkpoint, offline
from hftlib.agents.offline import BCSettings, CQLSettings, train_offline
from hftlib.agents.offline_study import curve_frame, train_algorithms
from hftlib.compute import derive_seed
from hftlib.sessions.conversion import write_transitions
from hftlib.sessions.dataset import TransitionDataset
from hftlib.sessions.recording import record_sessions

SMALL = {"n_updates": 6, "batch_size": 16, "hidden": (4,), "n_evaluations": 2}
ALGORITHMS = {"bc": BCSettings(**SMALL), "cql": CQLSettings(**SMALL)}


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    monkeypatch.setattr(checkpoint, "hash_sources", lambda folder: "")
    monkeypatch.setattr(offline, "hash_sources", lambda folder: "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    record_sessions(root / "store", n_sessions=1, games_per_session=3, players=["leaner"], seed=1)
    write_transitions(root / "store", root / "transitions")
    return root / "transitions"


def train(folder, scratch, games=(0, 1), n_seeds=2):
    return train_algorithms(
        folder, np.array(games), ALGORITHMS, n_seeds=n_seeds, seed=5, scratch=scratch
    )


def weights(trained):
    return [value.numpy() for value in trained.policy.network.state_dict().values()]


def test_side_by_side_is_one_by_one(folder, tmp_path):
    found = train(folder, tmp_path)
    source = TransitionDataset.open(folder).take_games([0, 1])
    assert {algo: len(members) for algo, members in found.items()} == {"bc": 2, "cql": 2}
    for algo, members in found.items():
        for k, member in enumerate(members):
            alone = train_offline(source, ALGORITHMS[algo], derive_seed(5, "offline", k))
            assert member.curve == alone.curve
            for mine, other in zip(weights(member), weights(alone), strict=True):
                np.testing.assert_array_equal(mine, other)


def test_other_games_of_the_same_number_do_not_go_on_from_old_weights(folder, tmp_path):
    train(folder, tmp_path, games=(0,), n_seeds=1)
    known = set(tmp_path.rglob("*"))
    found = train(folder, tmp_path, games=(2,), n_seeds=1)
    assert len(set(tmp_path.rglob("*")) - known) == len(ALGORITHMS)
    fresh = train(folder, tmp_path / "fresh", games=(2,), n_seeds=1)
    assert found["bc"][0].curve == fresh["bc"][0].curve


def test_the_frame_of_curves_numbers_the_seeds(folder, tmp_path):
    table = curve_frame(train(folder, tmp_path))
    assert list(table.columns) == ["algo", "seed", "step", "measure", "value"]
    assert set(table["step"]) == {3, 6}
    counted = table.groupby(["algo", "measure"])["seed"].value_counts()
    assert (counted == 2).all()
    assert pd.api.types.is_numeric_dtype(table["value"])


def test_no_seeds_are_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="n_seeds=0"):
        train(folder, tmp_path, n_seeds=0)
