"""Trials counted from a tracking store of known runs."""

import numpy as np
import pandas as pd
import pytest

from hftlib import journal
from hftlib.evaluation.trial_store import read_trials
from hftlib.tracking import TrackingError, open_store, track_run


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A study of 4 trials by `journal`, a stage of 3 seeds, of which one failed, and one nan."""
    store = tmp_path_factory.mktemp("trials") / "mlruns"
    states = ["complete", "complete", "pruned", "complete"]
    trials = pd.DataFrame(
        {"slot": range(4), "state": states, "value": [0.5, -0.25, np.nan, 1.0], "rate": 0.1}
    ).assign(last_step=1, last_value=0.1)
    importance = pd.DataFrame({"parameter": ["rate"], "importance": 1.0, "low": 1.0, "high": 1.0})
    journal.track_trials(store, "ppo", trials, importance, params={}, lineage={})
    with track_run(store, "single_agent", "ppo", {}, algo="ppo") as stage:
        stage.log_evaluation("validation", {"sharpe": 9.0})
        for ratio in (0.75, np.nan):
            with track_run(store, "single_agent", "seed", {}, algo="ppo", parent=stage) as run:
                run.log_evaluation("validation", {"sharpe": 7.0}, step=0)
                run.log_evaluation("validation", {"sharpe": ratio}, step=5)
        with (
            pytest.raises(RuntimeError),
            track_run(store, "single_agent", "failed", {}, algo="ppo", parent=stage),
        ):
            raise RuntimeError("diverged")
    return store


def test_every_attempt_counts_and_those_without_a_ratio_are_told_apart(store):
    found = read_trials(store, 250.0)
    assert found.runs == {"single_agent": 3, "tuning": 4}
    assert found.without == {"single_agent": 2, "tuning": 1}
    assert (found.n_trials, found.n_without) == (7, 3)


def test_ratios_are_the_last_logged_per_period_and_those_of_sums_are_left_out(store):
    found = read_trials(store, 250.0)
    np.testing.assert_allclose(found.sharpe, np.array([-0.25, 0.5, 0.75, 1.0]) / 250**0.5)
    assert found.variance == pytest.approx(np.var([-0.25, 0.5, 0.75, 1.0], ddof=1) / 250)
    assert found.to_dict()["trials"] == 7


def test_experiments_can_be_chosen(store):
    found = read_trials(store, 250.0, ["single_agent"])
    assert found.n_trials == 3
    assert np.isnan(found.variance) and found.to_dict()["variance"] is None
    with pytest.raises(TrackingError, match=r"no experiment multi; it has .*single_agent"):
        read_trials(store, 250.0, ["multi"])


def test_a_deleted_run_was_a_trial_all_the_same(store):
    client = open_store(store)
    (experiment,) = [e for e in client.search_experiments() if e.name == "tuning"]
    run = client.search_runs([experiment.experiment_id], "tags.state = 'pruned'")[0]
    client.delete_run(run.info.run_id)
    assert read_trials(store, 250.0).n_trials == 7


def test_a_store_that_is_none_and_a_clock_that_is_none_are_refused(store, tmp_path):
    with pytest.raises(TrackingError, match="no such store"):
        read_trials(tmp_path, 250.0)
    with pytest.raises(ValueError, match="periods_per_year is 0"):
        read_trials(store, 0)
