"""Folds in parallel: kept, resumed, one failure apart, bytes that depend on nothing else."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from hftlib.compute import derive_rng
from hftlib.data.folds import walk_forward
from hftlib.evaluation.fold_runs import hash_inputs, run_folds
from hftlib.evaluation.walkforward import cut_combinatorial, test_rows
from hftlib.portfolio.costs import Costs
from tests.conftest import ROOT

FOLDS = walk_forward(100, 4, first_test=40, validation_bars=0, purge_bars=1, embargo_bars=0)
CLOCK = pd.date_range("2010-01-01", periods=100, tz="UTC")


def evaluate(calls: Path, fold, fails=(), kills=()):
    """Marks each call by a file; stands in for training."""
    with (calls / f"{fold.number}").open("a") as file:
        file.write("x")
    if fold.number in kills and not (calls / "spared").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    if fold.number in fails:
        raise ValueError(f"no rows in fold {fold.number}")
    rng = derive_rng(0, "fold", fold.number)
    return {"returns": rng.normal(size=len(test_rows(fold))), "name": "mine", "score": 1.5}


def give_objects(fold):
    return {"bad": np.array([object()])}


def n_calls(folder):
    return {file.name: len(file.read_text()) for file in folder.iterdir()}


@pytest.fixture
def calls(tmp_path):
    (tmp_path / "calls").mkdir()
    return tmp_path / "calls"


@pytest.fixture
def one_process(monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")


def test_results_come_by_fold_and_are_kept(tmp_path, calls, one_process):
    first = run_folds(partial(evaluate, calls), FOLDS, tmp_path, "a", "test")
    again = run_folds(partial(evaluate, calls), FOLDS, tmp_path, "a", "test")
    assert n_calls(calls) == {str(k): 1 for k in range(4)}
    assert (first.n_reused, again.n_reused) == (0, 4)
    assert first.failures == again.failures == ()
    assert list(first.results) == [0, 1, 2, 3]
    for fold in FOLDS:
        expected = derive_rng(0, "fold", fold.number).normal(size=15)
        np.testing.assert_array_equal(first.results[fold.number]["returns"], expected)
        np.testing.assert_array_equal(again.values("returns")[fold.number], expected)
    assert first.results[0]["name"] == "mine"
    assert first.results[0]["score"] == 1.5


def test_other_inputs_and_other_folds_start_afresh(tmp_path, calls, one_process):
    run = partial(run_folds, partial(evaluate, calls), folder=tmp_path, label="test")
    run(FOLDS, fingerprint="a")
    assert run(FOLDS, fingerprint="b").n_reused == 0
    shifted = [fold._replace(test=(fold.test[0], fold.test[1] - 1)) for fold in FOLDS[:2]]
    assert run([*shifted, *FOLDS[2:]], fingerprint="a").n_reused == 2


def test_a_failing_fold_is_reported_and_the_others_are_there(tmp_path, calls, one_process):
    done = run_folds(
        partial(evaluate, calls, fails=(1,)), FOLDS, tmp_path, "a", "test", clock=CLOCK
    )
    assert list(done.results) == [0, 2, 3]
    (failure,) = done.failures
    assert failure.number == 1
    assert failure.span == "2010-02-25 to 2010-03-11"
    assert failure.error == "ValueError: no rows in fold 1"
    assert 'raise ValueError(f"no rows in fold' in failure.traceback.read_text()
    assert done.failure_table()["error"].tolist() == [failure.error]
    # mended, only that fold is run, and its trace goes
    mended = run_folds(partial(evaluate, calls), FOLDS, tmp_path, "a", "test")
    assert mended.n_reused == 3
    assert n_calls(calls) == {"0": 1, "1": 2, "2": 1, "3": 1}
    assert not failure.traceback.exists()


def test_results_that_cannot_be_kept_fail_their_fold(tmp_path, one_process):
    done = run_folds(give_objects, FOLDS[:1], tmp_path, "a", "test")
    assert done.failures[0].error.startswith("TypeError: bad holds objects")
    assert done.failures[0].span == "40 to 54"
    assert not list(tmp_path.rglob("*.npz"))


KILLED = """
from functools import partial
from pathlib import Path
from tests.test_fold_runs import FOLDS, evaluate, run_folds
folder = Path({folder!r})
run_folds(partial(evaluate, folder / "calls", kills=(2,)), FOLDS, folder, "a", "test")
"""


def test_a_killed_run_goes_on_where_it_stopped(tmp_path, calls, one_process):
    code = KILLED.format(folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert n_calls(calls) == {"0": 1, "1": 1, "2": 1}
    assert len(list((tmp_path / "test").glob("fold-*.npz"))) == 2
    (calls / "spared").touch()
    resumed = run_folds(partial(evaluate, calls, kills=(2,)), FOLDS, tmp_path, "a", "test")
    # another partial: the function is the caller's to fingerprint
    assert resumed.n_reused == 2
    assert list(resumed.results) == [0, 1, 2, 3]
    assert n_calls(calls) == {"0": 1, "1": 1, "2": 2, "3": 1, "spared": 0}


def test_bytes_do_not_depend_on_the_number_of_processes(tmp_path, calls, monkeypatch):
    folds = cut_combinatorial(CLOCK, 4, 2, horizon_bars=1, embargo_bars=1)
    kept = []
    for n in (1, 2):
        monkeypatch.setenv("LOKY_MAX_CPU_COUNT", str(n))
        folder = tmp_path / str(n)
        run_folds(partial(evaluate, calls), folds, folder, "a", "test")
        kept.append({file.name: file.read_bytes() for file in sorted((folder / "test").iterdir())})
    assert len(kept[0]) == 6
    assert kept[0] == kept[1]


def test_no_folds_or_two_of_one_number_are_refused(tmp_path):
    for folds in ([], [FOLDS[0], FOLDS[0]]):
        with pytest.raises(ValueError, match=r"folds are numbered \["):
            run_folds(give_objects, folds, tmp_path, "a", "test")


# Fingerprints


def test_equal_inputs_have_equal_hashes_and_others_have_not():
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]})
    values = [
        1,
        1.0,
        True,
        "1",
        None,
        (1, 2),
        [1, 2],
        ((1,), 2),
        {"a": 1},
        {"a": 2},
        np.array([1.0, 2.0]),
        np.array([1.0, 2.0], dtype=np.float32),
        np.array([[1.0, 2.0]]),
        frame,
        frame.rename(columns={"a": "c"}),
        frame.assign(b=["x", "z"]),
        frame["a"],
        Costs(1, 2, 3),
        Costs(1, 2, 4),
        FOLDS[0],
        CLOCK,
        CLOCK[1:],
    ]
    hashes = [hash_inputs(value) for value in values]
    assert len(set(hashes)) == len(values)
    assert hash_inputs(frame.copy()) == hash_inputs(frame)
    assert hash_inputs("ab", "c") != hash_inputs("a", "bc")


def test_a_hash_is_the_same_in_another_process():
    code = (
        "import numpy as np, pandas as pd; from hftlib.evaluation.fold_runs import hash_inputs; "
        "print(hash_inputs(np.arange(3.0), {'a': ('b', 1)}, pd.DataFrame({'s': ['x']})))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    here = hash_inputs(np.arange(3.0), {"a": ("b", 1)}, pd.DataFrame({"s": ["x"]}))
    assert answer.stdout.strip() == here


def test_things_without_contents_have_no_hash():
    with pytest.raises(TypeError, match="SimpleNamespace has no hash of its contents"):
        hash_inputs(SimpleNamespace())
    with pytest.raises(TypeError, match="function has no hash"):
        hash_inputs({"f": evaluate})
