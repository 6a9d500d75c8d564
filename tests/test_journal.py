import math
import shutil
import sqlite3
from dataclasses import dataclass, field

import pandas as pd
import pytest

from hftlib import journal, tracking
from hftlib.agents.online import CurvePoint, Update
from hftlib.agents.trials import COLUMNS
from hftlib.portfolio.measures import evaluate_returns
from hftlib.registry import find_best
from hftlib.tracking import TrackingError, compare_runs, open_store

GAIN = evaluate_returns([0.02, -0.01, 0.03], 252.0)
LOSS = evaluate_returns([-0.02, 0.01, -0.03], 252.0)
IDLE = evaluate_returns([0.0, 0.0, 0.0], 252.0)


@dataclass
class Result:
    """What `train_agent` gives, as far as it is recorded."""

    seed: int = 7
    curve: list[CurvePoint] = field(
        default_factory=lambda: [
            CurvePoint(0, "train", math.nan, -0.01, 0.0),
            CurvePoint(0, "validation", math.nan, -0.02, 0.0),
            CurvePoint(64, "train", 1.5, 0.10, 3.0),
            CurvePoint(64, "validation", 0.5, 0.05, 4.0),
        ]
    )
    updates: list[Update] = field(
        default_factory=lambda: [
            Update(64, "reward", 0.001),
            Update(64, "policy_loss", -0.2),
            Update(64, "value_loss", 2.0),
            Update(64, "entropy", 1.4),
            Update(64, "approx_kl", 0.01),
        ]
    )


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
def store(empty, tmp_path):
    (tmp_path / "mlruns").mkdir()
    shutil.copy(empty / tracking.DATABASE, tmp_path / "mlruns")
    return tmp_path / "mlruns"


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "ppo"
    folder.mkdir()
    (folder / "seed_0.npz").write_bytes(b"weights")
    return folder


def track_agents(store, model, judged=(GAIN,), measured_on="v1", **params):
    journal.track_agents(
        store,
        "ppo",
        [Result(seed) for seed in range(7, 7 + len(judged))],
        judged,
        model,
        params={"settings": {"gamma": 0.99}, **params},
        lineage={"git": "abc of 2026-01-01"},
        measured_on=measured_on,
    )


def history(store, run_id, metric):
    points = open_store(store).get_metric_history(run_id, metric)
    return [(point.step, point.value) for point in points]


def find(frame, name):
    return frame[frame["name"] == name].iloc[0]


def test_a_seed_has_its_curve_its_updates_and_the_worth_of_its_finished_policy(store, model):
    track_agents(store, model)
    row = find(compare_runs(store, "single_agent", differing=False), "seed 0")
    assert history(store, row["run_id"], "train/sharpe") == [(64, 1.5)]  # at 0: never traded
    assert history(store, row["run_id"], "train/turnover") == [(0, 0.0), (64, 3.0)]
    assert history(store, row["run_id"], "validation/log_growth") == [(0, -0.02), (64, 0.05)]
    updates = {"reward": 0.001, "policy_loss": -0.2, "value_loss": 2.0, "entropy": 1.4, "kl": 0.01}
    for name, value in updates.items():
        assert history(store, row["run_id"], f"train/{name}") == [(64, value)]
    for name, value in GAIN.items():
        assert row[f"metrics.validation/{name}"] == value
        assert history(store, row["run_id"], f"validation/{name}")[-1] == (64, value)
    assert (row["tags.seed"], row["tags.git"]) == ("7", "abc of 2026-01-01")
    assert row["params.settings.gamma"] == "0.99"


def test_seeds_are_parts_of_their_stage_which_has_the_means(store, model):
    track_agents(store, model, [GAIN, LOSS])
    frame = compare_runs(store, "single_agent", differing=False)
    assert list(frame["name"]) == ["ppo", "seed 0", "seed 1"]
    assert set(frame["status"]) == {"FINISHED"}
    stage = frame.iloc[0]
    for name in ("sharpe", "total_return"):
        assert stage[f"metrics.validation/{name}"] == pytest.approx((GAIN[name] + LOSS[name]) / 2)
    client = open_store(store)
    for run_id in frame["run_id"][1:]:
        assert client.get_run(run_id).data.tags["mlflow.parentRunId"] == stage["run_id"]


def test_best_goes_to_the_better_validation_of_the_same_data_and_rules(store, model):
    best = []
    for text, judged, measured_on in (
        ("1", LOSS, "v1"),
        ("2", GAIN, "v1"),
        ("3", LOSS, "v1"),
        ("4", LOSS, "v2"),
    ):
        (model / "seed_0.npz").write_text(text)
        track_agents(store, model, [judged], measured_on)
        best.append(find_best(store, "ppo").number)
    assert best == [1, 2, 2, 4]


def test_updates_between_points_of_the_curve_are_kept(store, model):
    result = Result()
    result.updates += [Update(16, "reward", 0.5), Update(16, "episode_bars", 9.0)]
    journal.track_agents(
        store, "ppo", [result], [GAIN], model, params={}, lineage={}, measured_on="v1"
    )
    run_id = find(compare_runs(store, "single_agent", differing=False), "seed 0")["run_id"]
    assert history(store, run_id, "train/reward") == [(16, 0.5), (64, 0.001)]
    assert history(store, run_id, "train/episode_bars") == [(16, 9.0)]
    assert history(store, run_id, "train/turnover") == [(0, 0.0), (64, 3.0)]


def test_the_stage_gets_its_artefacts(store, model, tmp_path):
    curve = tmp_path / "curve.csv"
    curve.write_text("step,sharpe\n")
    journal.track_agents(
        store, "ppo", [Result()], [GAIN], model, params={}, lineage={}, measured_on="v1",
        artefacts=[curve],
    )  # fmt: skip
    run_id = find(compare_runs(store, "single_agent", differing=False), "ppo")["run_id"]
    assert "curve.csv" in [entry.path for entry in open_store(store).list_artifacts(run_id)]


def test_a_policy_that_never_trades_counts_as_zero(store, model):
    assert math.isnan(IDLE["sharpe"])
    track_agents(store, model, [GAIN, IDLE])
    best = find_best(store, "ppo")
    assert best.validation_sharpe == pytest.approx(GAIN["sharpe"] / 2)
    stage = find(compare_runs(store, "single_agent"), "ppo")
    assert stage["metrics.validation/sharpe"] == best.validation_sharpe
    assert stage["metrics.validation/profit_factor"] == GAIN["profit_factor"]  # idle: has none


def test_the_same_stage_twice_is_one_version_that_both_runs_name(store, model):
    for _ in range(2):
        track_agents(store, model)
    versions = open_store(store).search_model_versions("name = 'ppo'")
    assert [version.version for version in versions] == [1]
    frame = compare_runs(store, "single_agent", differing=False)
    stages = frame[frame["name"] == "ppo"]
    assert list(stages["tags.model_version"]) == ["1", "1"]
    assert (find_best(store, "ppo").folder / "seed_0.npz").read_bytes() == b"weights"


def test_a_setting_beyond_mlflow_s_limit_is_cut(store, model):
    track_agents(store, model, features="x" * 10_000)
    stage = find(compare_runs(store, "single_agent", differing=False), "ppo")
    assert 5_000 < len(stage["params.features"]) <= 6_000
    assert stage["status"] == "FINISHED"


def test_a_store_that_cannot_be_written_costs_one_warning(tmp_path, model):
    (tmp_path / "mlruns").write_text("a file")
    with pytest.warns(RuntimeWarning, match="results are not affected") as caught:
        track_agents(tmp_path / "mlruns", model, [GAIN, GAIN, GAIN])
    assert len(caught) == 1
    assert (tmp_path / "mlruns").read_text() == "a file"


def test_a_store_that_another_process_holds_costs_one_warning(store, model, monkeypatch):
    monkeypatch.setattr(tracking, "LOCK_S", 0.1)
    with (
        tracking.hold_store(store),
        pytest.warns(RuntimeWarning, match=r"\.lock has been held by another") as caught,
    ):
        track_agents(store, model, [GAIN, GAIN])
    assert len(caught) == 1
    track_agents(store, model)
    assert len(compare_runs(store, "single_agent")) == 2


def test_a_database_that_another_program_holds_costs_one_warning(store, model, monkeypatch):
    monkeypatch.setattr(tracking, "LOCK_S", 0.1)
    other = sqlite3.connect(store / tracking.DATABASE, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")  # readers are kept out as well
    other.execute("PRAGMA journal_mode = DELETE")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.warns(RuntimeWarning, match="database is locked") as caught:
        track_agents(store, model, [GAIN, GAIN])
    assert len(caught) == 1
    other.close()


def test_a_store_that_breaks_after_the_first_seed_costs_one_warning(store, model, monkeypatch):
    left = [journal.Run.log_evaluation]

    def break_once(run, *arguments, **options):
        if left:
            left.pop()(run, *arguments, **options)
            return
        run.attempt(fail)

    def fail(client, run_id):
        raise OSError("disk is full")

    monkeypatch.setattr(journal.Run, "log_evaluation", break_once)
    with pytest.warns(RuntimeWarning, match="disk is full") as caught:
        track_agents(store, model, [GAIN, GAIN, GAIN])
    assert len(caught) == 1
    assert list(compare_runs(store, "single_agent")["name"]) == ["ppo", "seed 0", "seed 1"]


TRIALS = pd.DataFrame(
    [
        (0, "complete", 0.5, 1, 0.5, 3e-4, "(64, 64)"),
        (1, "pruned", math.nan, 0, -1.0, 1e-2, "(32,)"),
        (2, "diverged", math.nan, pd.NA, math.nan, 1e-1, "(32,)"),
    ],
    columns=[*COLUMNS, "rate", "hidden"],
).astype({"last_step": "Int64"})
IMPORTANCE = pd.DataFrame(
    {"parameter": ["rate", "hidden"], "importance": [0.8, 0.2], "low": [0.3, 0.0], "high": [1, 0.7]}
)


def test_a_study_has_a_run_a_trial_and_what_mattered(store):
    params = {"method": "tpe", "rules": {"window_bars": 10}}
    journal.track_trials(store, "ppo", TRIALS, IMPORTANCE, params=params, lineage={"git": "abc"})
    frame = compare_runs(store, "tuning", differing=False)
    assert list(frame["name"]) == ["study of ppo", "trial 0", "trial 1", "trial 2"]
    study, trials = frame.iloc[0], frame.iloc[1:]
    assert (study["params.method"], study["params.rules.window_bars"]) == ("tpe", "10")
    assert study["metrics.importance/rate"] == 0.8
    assert (study["metrics.importance_low/rate"], study["metrics.importance_high/rate"]) == (0.3, 1)
    assert study["metrics.value"] == 0.5
    assert list(trials["tags.state"]) == ["complete", "pruned", "diverged"]
    assert list(trials["params.rate"]) == ["0.0003", "0.01", "0.1"]
    assert list(trials["params.hidden"]) == ["(64, 64)", "(32,)", "(32,)"]
    assert list(trials["metrics.value"].dropna()) == [0.5]
    assert list(trials["metrics.last_value"].dropna()) == [0.5, -1.0]
    assert history(store, trials["run_id"].iloc[0], "last_value") == [(1, 0.5)]
    for run_id in trials["run_id"]:
        tags = open_store(store).get_run(run_id).data.tags
        assert tags["mlflow.parentRunId"] == study["run_id"]


def test_a_study_without_a_store_costs_one_warning(tmp_path):
    (tmp_path / "mlruns").write_text("a file")
    with pytest.warns(RuntimeWarning, match="results are not affected") as caught:
        journal.track_trials(tmp_path / "mlruns", "ppo", TRIALS, IMPORTANCE, params={}, lineage={})
    assert len(caught) == 1
    with pytest.raises(TrackingError, match="no such store"):
        compare_runs(tmp_path / "mlruns", "tuning")
