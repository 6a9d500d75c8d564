import itertools
import math
import multiprocessing
import os
import signal
import sqlite3
import time
from functools import partial

import numpy as np
import pandas as pd
import pytest

from hftlib.agents.space import Choice, IntRange, LogUniform, Uniform, list_grid
from hftlib.agents.study import StudyError, hold_study
from hftlib.agents.trials import find_best, rank_parameters
from hftlib.agents.tuning import Halving, Median, Search, name_study, read_trials, tune

LINE = {"x": Uniform(-4.0, 4.0)}
GRID = {
    "x": IntRange(0, 4, 2),
    "hidden": Choice(((64, 64), (32,))),
    "centred": Choice((True, False)),
}


def search(space=LINE, method="random", seed=1, n_trials=8, **options):
    return Search(space, method, seed, n_trials, **options)


def parabola(settings, report):
    return -((settings["x"] - 1.0) ** 2)


def scored(settings, report):
    """A curve that rises by 1 a step, as high above the others at each step as at its end."""
    for step in range(1, 9):
        report(step, parabola(settings, report) + step)
    return parabola(settings, report) + 9


def counted(folder, settings, report):
    """Leaves one file for each trial, and takes a moment, so that workers meet."""
    (folder / f"{os.getpid()}-{time.monotonic_ns()}").touch()
    time.sleep(0.02)
    return float(settings["x"])


def die_at(deadly, objective, settings, report):
    """The process is killed in the middle of a trial, as by the system for its memory."""
    if len(list(deadly.iterdir())) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    (deadly / str(time.monotonic_ns())).touch()
    return objective(settings, report)


def in_a_process(function, *arguments):
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    return process


@pytest.mark.parametrize(("method", "tolerance"), [("random", 0.5), ("tpe", 0.15)])
def test_the_optimum_of_a_parabola_is_found(tmp_path, method, tolerance):
    # of 30 uniform draws on 8 units none is within .5 of the optimum with probability .018
    wanted = search(method=method, n_trials=30)
    trials = tune(parabola, wanted, tmp_path / "a.db", {})
    best = find_best(trials, LINE, "maximize")
    assert abs(best["x"] - 1.0) < tolerance
    assert trials["value"].max() == parabola(best, None)


def test_the_direction_decides_what_is_best(tmp_path):
    wanted = search(direction="minimize", method="tpe", n_trials=25)
    trials = tune(parabola, wanted, tmp_path / "a.db", {})
    assert find_best(trials, LINE, "minimize")["x"] < -3.5


def test_a_grid_visits_each_point_once(tmp_path):
    seen = []

    def objective(settings, report):
        seen.append((settings["x"], settings["hidden"], settings["centred"]))
        return 0.0

    trials = tune(objective, Search(GRID, "grid", 1), tmp_path / "a.db", {})
    assert sorted(seen) == sorted(itertools.product((0, 2, 4), ((64, 64), (32,)), (True, False)))
    assert len(trials) == 12
    assert tune(objective, Search(GRID, "grid", 1), tmp_path / "a.db", {}).equals(trials)
    assert len(seen) == 12


def test_processes_share_a_grid_without_repeating_a_point(tmp_path):
    (tmp_path / "seen").mkdir()
    space = {"x": IntRange(0, 23)}
    work = partial(counted, tmp_path / "seen")
    arguments = (work, Search(space, "grid", 1), tmp_path / "a.db", {})
    others = [in_a_process(tune, *arguments) for _ in range(2)]
    for other in others:
        other.join()
    assert [other.exitcode for other in others] == [0, 0]
    trials = read_trials(tmp_path / "a.db", space)
    assert sorted(trials["x"]) == list(range(24))
    files = list((tmp_path / "seen").iterdir())
    assert len(files) == 24
    assert len({file.name.split("-")[0] for file in files}) == 2


def test_two_workers_draw_the_random_settings_of_one(tmp_path):
    one = tune(parabola, search(), tmp_path / "one.db", {})
    two = tune(parabola, search(), tmp_path / "two.db", {}, n_workers=2)
    pd.testing.assert_frame_equal(one, two)


@pytest.mark.parametrize("method", ["random", "tpe"])
def test_the_same_seed_gives_the_same_trials_and_another_one_others(tmp_path, method):
    wanted = search(method=method, pruning=Median(n_startup=3), n_startup=4)
    one = tune(scored, wanted, tmp_path / "one.db", {})
    pd.testing.assert_frame_equal(one, tune(scored, wanted, tmp_path / "two.db", {}))
    other = tune(scored, search(method=method, seed=2), tmp_path / "three.db", {})
    assert not set(one["x"]) & set(other["x"])


@pytest.mark.parametrize("method", ["random", "tpe"])
def test_a_killed_process_leaves_a_study_that_goes_on_bit_for_bit(tmp_path, method):
    (tmp_path / "deadly").mkdir()
    wanted = search(method=method, n_trials=10, pruning=Median(n_startup=3), n_startup=2)
    deadly = partial(die_at, tmp_path / "deadly", scored)
    killed = in_a_process(tune, deadly, wanted, tmp_path / "a.db", {})
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert len(read_trials(tmp_path / "a.db", LINE)) == 3
    resumed = tune(scored, wanted, tmp_path / "a.db", {})
    pd.testing.assert_frame_equal(resumed, tune(scored, wanted, tmp_path / "whole.db", {}))
    assert not list(tmp_path.glob("*worker*"))


def test_a_trial_of_a_worker_that_lives_is_left_to_it(tmp_path):
    (tmp_path / "seen").mkdir()
    seen = []

    def outer(settings, report):
        seen.append(settings["x"])
        if len(seen) == 1:  # a second worker comes while the first is at work
            tune(outer, search(n_trials=3), tmp_path / "a.db", {})
        return 0.0

    trials = tune(outer, search(n_trials=3), tmp_path / "a.db", {})
    assert len(seen) == len(set(seen)) == len(trials) == 3


def test_progress_counts_the_trials_of_the_whole_study(tmp_path, capsys):
    tune(parabola, search(n_trials=2), tmp_path / "a.db", {})
    tune(parabola, search(n_trials=3), tmp_path / "a.db", {})
    assert capsys.readouterr().out.splitlines() == [
        f"tuning: {done} trials done" for done in ("1 of 2", "2 of 2", "3 of 3")
    ]


def test_a_study_can_be_made_longer(tmp_path):
    short = tune(parabola, search(n_trials=3), tmp_path / "a.db", {})
    long = tune(parabola, search(n_trials=6), tmp_path / "a.db", {})
    pd.testing.assert_frame_equal(long.head(3), short)
    pd.testing.assert_frame_equal(long, tune(parabola, search(n_trials=6), tmp_path / "b.db", {}))


@pytest.mark.parametrize("pruning", [Median(n_startup=4), Halving(min_steps=1, factor=3)])
def test_bad_trials_are_stopped_early_and_good_ones_are_not(tmp_path, pruning):
    trials = tune(scored, search(n_trials=30, pruning=pruning), tmp_path / "a.db", {})
    stopped = trials["state"] == "pruned"
    assert 8 <= stopped.sum() <= 28
    assert (trials.loc[stopped, "last_step"] < 8).all()
    assert trials.loc[stopped, "value"].isna().all()
    distance = (trials["x"] - 1).abs()
    assert not stopped[distance.idxmin()]
    assert distance[stopped].mean() > 2 * distance[~stopped].mean()


def test_without_pruning_every_trial_runs_to_its_end(tmp_path):
    trials = tune(scored, search(), tmp_path / "a.db", {})
    assert (trials["state"] == "complete").all()
    assert (trials["last_step"] == 8).all()


def test_divergence_is_a_result_and_is_not_repeated(tmp_path):
    calls = []

    def objective(settings, report):
        calls.append(settings["x"])
        if settings["x"] < -2:
            raise FloatingPointError("nan at step 3")
        return math.nan if settings["x"] < 0 else settings["x"]

    wanted = search(method="tpe", n_trials=15)
    trials = tune(objective, wanted, tmp_path / "a.db", {})
    diverged = trials["state"] == "diverged"
    assert (diverged == (trials["x"] < 0)).all()
    assert 0 < diverged.sum() < 15
    tune(objective, wanted, tmp_path / "a.db", {})
    assert len(calls) == 15


def test_a_fault_of_the_objective_comes_out_and_frees_its_slot(tmp_path):
    def faulty(settings, report):
        raise KeyError("momentum")

    with pytest.raises(KeyError, match="momentum"):
        tune(faulty, search(), tmp_path / "a.db", {})
    assert read_trials(tmp_path / "a.db", LINE).empty
    trials = tune(parabola, search(), tmp_path / "a.db", {})
    pd.testing.assert_frame_equal(trials, tune(parabola, search(), tmp_path / "b.db", {}))


def test_a_locked_file_is_named(tmp_path):
    tune(parabola, search(), tmp_path / "a.db", {})
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StudyError, match=r"a\.db has been locked by another process for 0\.2 s"):
        tune(parabola, search(n_trials=9), tmp_path / "a.db", {}, timeout_s=0.2)
    other.close()
    assert len(tune(parabola, search(n_trials=9), tmp_path / "a.db", {})) == 9


def test_a_study_that_another_worker_holds_is_not_waited_for_without_end(tmp_path):
    with (
        hold_study(tmp_path / "a.db", 1.0),
        pytest.raises(StudyError, match=r"a\.db has been locked by another process"),
    ):
        tune(parabola, search(), tmp_path / "a.db", {}, timeout_s=0.1)


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match=r"file/a\.db cannot be used .*make its folder writable"):
        tune(parabola, search(), tmp_path / "file/a.db", {})


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "a.db").write_text("slot,value\n" * 200)
    with pytest.raises(StudyError, match=r"a\.db is no SQLite database; choose another file"):
        tune(parabola, search(), tmp_path / "a.db", {})


def test_a_study_of_another_version_of_optuna_is_to_be_begun_anew(tmp_path):
    tune(parabola, search(n_trials=1), tmp_path / "a.db", {})
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v99'")
    with pytest.raises(StudyError, match=r"a\.db: .*version.*; delete it to begin anew"):
        tune(parabola, search(n_trials=2), tmp_path / "a.db", {})


def test_a_fault_of_a_sampler_is_none_of_the_file(tmp_path):
    with pytest.raises(RuntimeError, match="no root"), hold_study(tmp_path / "a.db", 1.0):
        raise RuntimeError("no root")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"direction": "minimize"}, "direction = maximize, not minimize"),
        ({"seed": 2}, "seed = 1, not 2"),
        ({"space": {"x": Uniform(-4.0, 5.0)}}, r"space\.x = Uniform\(low=-4\.0, high=4\.0\), not"),
        ({"space": {"y": Uniform(0, 1)}}, r"space\.x = Uniform\(.*\), not absent"),
        ({"pruning": Median()}, "pruning = None, not Median"),
    ],
)
def test_a_study_of_another_search_is_refused(tmp_path, changed, message):
    tune(parabola, search(n_trials=1), tmp_path / "a.db", {})
    with pytest.raises(StudyError, match=f"holds a study with {message}.*set it back"):
        tune(parabola, search(**{"n_trials": 1} | changed), tmp_path / "a.db", {})


def test_a_study_of_another_objective_is_refused_and_has_another_name(tmp_path):
    tune(parabola, search(n_trials=1), tmp_path / "a.db", {"data": "1f"})
    with pytest.raises(StudyError, match=r"about\.data = '1f', not '2e'"):
        tune(parabola, search(n_trials=1), tmp_path / "a.db", {"data": "2e"})
    names = {
        name_study(tmp_path, search(n_trials=n), {"data": data})
        for n, data in ((1, "1f"), (9, "1f"), (1, "2e"))
    }
    assert len(names) == 2  # the number of trials may grow


def test_reading_a_study_that_is_not_there_makes_none(tmp_path):
    with pytest.raises(StudyError, match=r"a\.db: no such study"):
        read_trials(tmp_path / "a.db", LINE)
    assert not list(tmp_path.iterdir())


def test_the_table_can_be_kept_and_its_cells_be_decoded(tmp_path):
    def objective(settings, report):
        return settings["rate"] * sum(settings["hidden"])

    space = {"rate": LogUniform(1e-5, 1e-1), "hidden": Choice(((64, 64), (32,)))}
    trials = tune(objective, search(space), tmp_path / "a.db", {})
    trials.to_parquet(tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "t.parquet"), trials)
    best = find_best(trials, space, "maximize")
    assert best["hidden"] in space["hidden"].values
    assert best["rate"] * sum(best["hidden"]) == trials["value"].max()


def test_log_uniform_draws_are_uniform_in_the_logarithm(tmp_path):
    space = {"x": LogUniform(1e-6, 1.0)}
    trials = tune(parabola, search(space, n_trials=60), tmp_path / "a.db", {})
    # the mean of 60 uniform draws on 6 decades has a standard error of .22
    assert np.log10(trials["x"]).mean() == pytest.approx(-3, abs=0.7)


def importance_table(n=40):
    rng = np.random.default_rng(0)
    space = {"x": Uniform(0, 1), "y": Uniform(0, 1), "z": Choice(("a", "b"))}
    table = pd.DataFrame({"x": rng.uniform(size=n), "y": rng.uniform(size=n)})
    table["z"] = rng.choice(["a", "b"], n)
    table["value"] = 10 * table["x"] + 3 * table["y"]
    return table.assign(state="complete", slot=range(n)), space


def test_importance_follows_the_shares_of_variance():
    trials, space = importance_table()
    ranked = rank_parameters(trials, space, 0, n_bootstrap=4)
    assert list(ranked["parameter"]) == ["x", "y", "z"]
    assert ranked["importance"].sum() == pytest.approx(1)
    share = ranked.set_index("parameter")["importance"]
    # the variances are as 100 to 9; forests of 40 points smooth some of it away
    assert 0.8 < share["x"] < 0.99
    assert share["z"] < 0.03
    assert (ranked["low"] <= ranked["high"]).all()
    again = rank_parameters(trials, space, 0, n_bootstrap=4)
    pd.testing.assert_frame_equal(ranked, again)


def test_importance_of_noise_has_intervals_that_overlap():
    trials, space = importance_table()
    trials["value"] = np.random.default_rng(1).normal(size=len(trials))
    ranked = rank_parameters(trials, space, 0, n_bootstrap=20).set_index("parameter")
    assert ranked.loc["x", "low"] < ranked.loc["y", "high"]
    assert ranked.loc["y", "low"] < ranked.loc["x", "high"]


def test_importance_of_too_few_trials_is_refused():
    trials, space = importance_table(n=3)
    with pytest.raises(ValueError, match=r"3 complete trials with 3 distinct values.*at least 4"):
        rank_parameters(trials, space, 0)
    with pytest.raises(ValueError, match=r"no trial is complete \(3 pruned\)"):
        rank_parameters(trials.assign(state="pruned"), space, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Uniform(1, 1), "bounds are 1 and 1"),
        (lambda: LogUniform(0, 1), "low is 0; expected above 0"),
        (lambda: IntRange(1, 10, 4), "step is 4; expected a divisor of high - low = 9"),
        (lambda: Choice(()), "expected at least one, all distinct"),
        (lambda: Choice((1, 1.0)), "all distinct"),
        (
            lambda: list_grid({"lr": LogUniform(1e-4, 1e-2)}),
            "lr is LogUniform.*has no grid",
        ),
        (lambda: search({}), "expected at least one"),
        (lambda: search({"value": Uniform(0, 1)}), "none of slot, state, value"),
        (lambda: search(n_trials=None), "n_trials is None; expected at least 1 for random"),
        (lambda: search(GRID, "grid", n_trials=4), "a grid has 12 points"),
    ],
)
def test_what_cannot_be_searched_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
