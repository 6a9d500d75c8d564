import math
import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from hftlib import tracking
from hftlib.registry import find_best, load_best, register_model
from hftlib.tracking import TrackingError, compare_runs, flatten, open_store, track_run

SILENT = ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK", "CI", "PYTEST_CURRENT_TEST")


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A store without runs; making one takes seconds."""
    store = tmp_path_factory.mktemp("empty") / "mlruns"
    open_store(store, create=True)
    connection = sqlite3.connect(store / tracking.DATABASE)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return store


@pytest.fixture
def store(empty, tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "PAUSES_S", (0.0,))
    folder = tmp_path / "my thesis/mlruns"
    folder.mkdir(parents=True)
    shutil.copy(empty / tracking.DATABASE, folder)
    return folder


def track(store, name="seed 1", params=None, **options):
    return track_run(store, "41_demo", name, params or {"rate": 3e-4}, algo="ppo", **options)


def history(store, run, metric):
    return [(m.step, m.value) for m in open_store(store).get_metric_history(run.run_id, metric)]


def save_model(folder, text):
    folder.mkdir(exist_ok=True)
    (folder / "weights.txt").write_text(text)
    return folder


def test_importing_the_module_does_not_import_mlflow():
    code = "import sys, hftlib.tracking, hftlib.registry; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_first_run_of_a_process_has_telemetry_off(store):
    code = (
        "import sys; from pathlib import Path; from hftlib.tracking import track_run\n"
        "with track_run(Path(sys.argv[1]), 'demo', 'a', {}, algo='ppo') as run: pass\n"
        "from mlflow.telemetry import get_telemetry_client\n"
        "sys.exit(run.run_id is None or get_telemetry_client() is not None)"
    )
    environment = {k: v for k, v in os.environ.items() if k not in SILENT}
    done = subprocess.run([sys.executable, "-c", code, store], env=environment, check=False)
    assert done.returncode == 0


def test_a_run_keeps_its_params_tags_and_metrics(store):
    lineage = {"git": "abc of 2026-01-01", "dvc.data/x": "1f.dir"}
    with track(store, params={"net": {"hidden": [64, 64]}}, seed=3, lineage=lineage) as run:
        run.log_evaluation("validation", {"sharpe": 1.25, "win_rate": 0.5})
    (row,) = compare_runs(store, "41_demo").to_dict("records")
    assert row == {
        "run_id": run.run_id,
        "name": "seed 1",
        "status": "FINISHED",
        "params.net.hidden": "[64, 64]",
        "tags.algo": "ppo",
        "tags.dvc.data/x": "1f.dir",
        "tags.git": "abc of 2026-01-01",
        "tags.seed": "3",
        "metrics.validation/sharpe": 1.25,
        "metrics.validation/win_rate": 0.5,
    }


def test_every_value_of_every_step_is_written_in_order(store):
    with track(store) as run:
        for step in range(1300):
            run.log(step, {"train/reward": step / 7, "train/kl": -step})
    assert history(store, run, "train/reward") == [(k, k / 7) for k in range(1300)]
    assert history(store, run, "train/kl") == [(k, -k) for k in range(1300)]


def test_values_are_written_in_batches(store, monkeypatch):
    monkeypatch.setattr(tracking, "BUFFER_S", 3600.0)
    writes = []
    with track(store) as run:
        monkeypatch.setattr(run, "flush", lambda: (writes.append(1), run._buffer.clear()))
        for step in range(1000):
            run.log(step, {"train/reward": 1.0})
        assert len(writes) == 1000 / tracking.BUFFER_SIZE


def test_a_curve_is_written_without_the_points_that_were_not_measured(store):
    curve = pd.DataFrame({"reward": [1.0, np.nan, 3.0], "kl": [0.1, 0.2, 0.3]}, index=[0, 64, 128])
    with track(store) as run:
        run.log_curve(curve)
    assert history(store, run, "reward") == [(0, 1.0), (128, 3.0)]
    assert history(store, run, "kl") == [(0, 0.1), (64, 0.2), (128, 0.3)]


@pytest.mark.parametrize(("error", "status"), [(KeyError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_failure_ends_the_run_and_comes_out(store, error, status):
    with pytest.raises(error, match="why"), track(store) as run:
        run.log(5, {"train/reward": 1.0})
        raise error("why")
    (row,) = compare_runs(store, "41_demo").to_dict("records")
    assert row["status"] == status
    assert row["metrics.train/reward"] == 1.0
    assert row["tags.error"].startswith(f"{error.__name__}: ")


def test_seeds_are_parts_of_their_stage(store):
    with track(store, "all seeds") as stage, track(store, "seed 1", parent=stage) as run:
        pass
    tags = open_store(store).get_run(run.run_id).data.tags
    assert tags["mlflow.parentRunId"] == stage.run_id


def test_artefacts_are_copied(store, tmp_path):
    save_model(tmp_path / "model", "w")
    (tmp_path / "curve.csv").write_text("1")
    with track(store) as run:
        run.log_artefact(tmp_path / "model")
        run.log_artefact(tmp_path / "curve.csv")
        with pytest.raises(TrackingError, match=r"none\.csv: no such artefact"):
            run.log_artefact(tmp_path / "none.csv")
    kept = {file.name for file in store.rglob("*") if file.is_file()}
    assert {"weights.txt", "curve.csv"} <= kept


def test_a_comparison_shows_what_differs(store):
    for seed in (1, 2):
        with track(store, f"seed {seed}", {"rate": 3e-4, "size": seed}, seed=seed) as run:
            run.log_evaluation("validation", {"sharpe": seed / 2})
    frame = compare_runs(store, "41_demo")
    assert list(frame["name"]) == ["seed 1", "seed 2"]
    shown = {"params.size", "tags.seed", "metrics.validation/sharpe"}
    assert set(frame) - {"run_id", "name", "status"} == shown
    assert "params.rate" in compare_runs(store, "41_demo", differing=False)


def test_an_unknown_store_or_experiment_is_named_and_not_made(store, tmp_path):
    with pytest.raises(TrackingError, match="no such store; track a run first"):
        compare_runs(tmp_path / "nowhere", "41_demo")
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(TrackingError, match="no experiment '42_other'; it has Default"):
        compare_runs(store, "42_other")


def test_a_store_that_cannot_be_opened_costs_a_warning_and_not_the_training(tmp_path):
    (tmp_path / "mlruns").write_text("a file")
    warned = pytest.warns(RuntimeWarning, match=r"no longer tracked.*cannot be opened")
    with warned, track(tmp_path / "mlruns") as run:
        trained = sum(range(10))
        run.log(1, {"train/reward": 1.0})
        run.log_curve(pd.DataFrame({"a": [1.0]}))
        folder = save_model(tmp_path / "model", "w")
        done = register_model(run, "ppo", folder, validation_sharpe=1.0, measured_on="a")
    assert (trained, run.run_id, done) == (45, None, None)


def test_a_store_that_breaks_in_the_middle_costs_one_warning(store):
    with pytest.warns(RuntimeWarning) as caught, track(store) as run:
        connection = sqlite3.connect(store / tracking.DATABASE)
        connection.execute("DROP TABLE metrics")
        connection.close()
        for step in range(3000):
            run.log(step, {"train/reward": 1.0})
    assert len(caught) == 1
    assert "its results are not affected" in str(caught[0].message)


def test_a_store_that_is_busy_is_tried_again(store):
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

    calls = []

    def action(client, run_id):
        calls.append(client)
        if len(calls) == 1:
            raise MlflowException("database is locked", TEMPORARILY_UNAVAILABLE)
        return "written"

    with track(store) as run:
        assert run.attempt(action) == "written"
    assert len(calls) == 2


def test_a_store_that_has_moved_does_not_write_to_its_old_place(store, tmp_path):
    with track(store):
        pass
    shutil.copytree(store, tmp_path / "copy")
    warned = pytest.warns(RuntimeWarning, match="was made in another place")
    with warned, track(tmp_path / "copy") as run:
        pass
    assert run.run_id is None
    assert len(compare_runs(tmp_path / "copy", "41_demo")) == 1


def test_params_are_flattened():
    @dataclass(frozen=True)
    class Inner:
        rate: float

    given = {"a": {"b": 1, "c": Inner(0.5)}, "d": None}
    assert flatten(given) == {"a.b": "1", "a.c.rate": "0.5", "d": "None"}


def register(store, folder, sharpe, measured_on="v1"):
    with track(store) as run:
        return register_model(run, "ppo", folder, validation_sharpe=sharpe, measured_on=measured_on)


def test_the_alias_moves_only_to_a_better_validation(store, tmp_path):
    best = []
    for number, sharpe in enumerate([float("nan"), 0.5, 0.2, float("nan"), 0.9], start=1):
        folder = save_model(tmp_path / "model", f"weights {number}")
        assert register(store, folder, sharpe) == number
        if number > 1:
            best.append(find_best(store, "ppo").number)
        else:
            with pytest.raises(TrackingError, match="no best version of 'ppo'"):
                find_best(store, "ppo")
    assert best == [2, 2, 2, 5]
    assert find_best(store, "ppo").validation_sharpe == 0.9
    assert load_best(store, "ppo", lambda f: (f / "weights.txt").read_text()) == "weights 5"


def test_validations_of_different_things_are_not_compared(store, tmp_path):
    register(store, save_model(tmp_path / "model", "1"), 3.0, "without costs")
    register(store, save_model(tmp_path / "model", "2"), 0.5, "with costs")
    assert find_best(store, "ppo").validation_sharpe == 0.5
    register(store, save_model(tmp_path / "model", "3"), 0.4, "with costs")
    assert find_best(store, "ppo").validation_sharpe == 0.5
    register(store, save_model(tmp_path / "model", "1"), 3.0, "without costs")
    assert find_best(store, "ppo").number == 1


def test_going_back_to_earlier_data_goes_back_to_their_best(store, tmp_path):
    best = []
    for number, (sharpe, data) in enumerate([(1.0, "a"), (0.3, "b"), (0.2, "a"), (math.nan, "b")]):
        register(store, save_model(tmp_path / "model", str(number)), sharpe, data)
        best.append(find_best(store, "ppo").number)
    assert best == [1, 2, 1, 2]
    register(store, save_model(tmp_path / "model", "none"), math.nan, "c")
    assert find_best(store, "ppo").number == 2, "nothing on c has a ratio"


def test_the_same_model_is_registered_once(store, tmp_path):
    folder = save_model(tmp_path / "model", "1")
    assert [register(store, folder, 1.0) for _ in range(2)] == [1, 1]
    save_model(tmp_path / "model", "2")
    assert register(store, folder, 1.0) == 2
    assert find_best(store, "ppo").number == 1  # equal is not better


def test_a_model_that_was_altered_is_not_loaded(store, tmp_path):
    register(store, save_model(tmp_path / "model", "1"), 1.0)
    (find_best(store, "ppo").folder / "weights.txt").write_text("2")
    with pytest.raises(TrackingError, match="is no longer version 1 of 'ppo'"):
        load_best(store, "ppo", lambda folder: folder)


def test_a_best_model_is_found_where_its_store_has_moved_to(store, tmp_path):
    register(store, save_model(tmp_path / "model", "1"), 1.0)
    store.rename(tmp_path / "elsewhere")
    assert load_best(tmp_path / "elsewhere", "ppo", lambda f: f.exists())


def test_what_is_no_model_is_refused(store, tmp_path):
    with pytest.raises(TrackingError, match="no such folder, or an empty one"):
        register(store, tmp_path / "none", 1.0)


def work(store, folder, number):
    model = save_model(folder / f"model {number}", f"weights {number}")
    with track(store, f"seed {number}", seed=number) as run:
        for step in range(30):
            run.log(step, {"train/reward": float(step)})
            run.flush()
        register_model(run, "ppo", model, validation_sharpe=number / 10, measured_on="v1")


def test_several_processes_write_to_a_new_store_at_once(tmp_path, empty):
    context = multiprocessing.get_context("fork")  # MLflow is imported, this store not yet open
    arguments = [(tmp_path / "mlruns", tmp_path, number) for number in (3, 1, 2)]
    processes = [context.Process(target=work, args=entry) for entry in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    frame = compare_runs(tmp_path / "mlruns", "41_demo")
    assert sorted(frame["name"]) == ["seed 1", "seed 2", "seed 3"]
    assert set(frame["status"]) == {"FINISHED"}
    client = open_store(tmp_path / "mlruns")
    for run_id in frame["run_id"]:
        assert len(client.get_metric_history(run_id, "train/reward")) == 30
    assert {v.version for v in client.search_model_versions("name = 'ppo'")} == {1, 2, 3}
    assert find_best(tmp_path / "mlruns", "ppo").validation_sharpe == 0.3
