"""Agents of a fold know its training rows alone; what they want is at the right row."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from joblib.externals.loky import get_reusable_executor

from hftlib import backends
from hftlib.agents.policy import play
from hftlib.compute import DETERMINISTIC_ENVIRONMENT
from hftlib.data.panel import BarPanel
from hftlib.evaluation import fold_accounts, rule_grid
from hftlib.evaluation.agent_folds import (
    fit_scalers,
    play_targets,
    run_agents,
    train_fold,
    train_members,
)
from hftlib.evaluation.backtest import summarise
from hftlib.evaluation.engine import Prices, as_rollout
from hftlib.evaluation.fold_runs import hash_inputs, run_folds
from hftlib.evaluation.rule_choice import choose_rule
from hftlib.paths import write_json
from tests.conftest import make_panel
from tests.fold_cases import FOLDS, N_BARS, PPO, RULES, SAC, make_forecasts, make_task, scramble

CLOCK = pd.DatetimeIndex(make_task().rows["ts"][:N_BARS])


@pytest.fixture
def one_process(monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")


class Echo:
    """Wants the newest value of the first feature."""

    def __init__(self, n_features):
        self.at = (RULES.window_bars - 1) * n_features

    def act(self, observations):
        return observations[:, [self.at]] / 10


@pytest.mark.parametrize("settings", [PPO, SAC], ids=["ppo", "sac"])
def test_rows_after_training_change_no_weight(settings):
    task, fold = make_task(settings, n_seeds=2), FOLDS[0]
    other = scramble(task, fold.train[1])
    assert not task.rows.equals(other.rows)
    scalers = fit_scalers(task, fold)
    assert fit_scalers(other, fold) == scalers
    before, after = (train_members(t, fold, scalers) for t in (task, other))
    for one, two in zip(before, after, strict=True):
        assert all(np.array_equal(one.weights[k], two.weights[k]) for k in one.weights)
    first, second = (member.weights for member in before)
    assert any(not np.array_equal(first[k], second[k]) for k in first), "seeds differ"
    # and rows within training do matter
    changed = train_members(scramble(task, 40), fold, scalers)[0].weights
    assert any(not np.array_equal(first[k], changed[k]) for k in first)


def test_rows_after_a_bar_change_no_target_up_to_it():
    task, fold, bar = make_task(), FOLDS[0], 100
    before, after = (train_fold(t, fold) for t in (task, scramble(task, bar + 1)))
    n_known = bar + 1 - fold.test[0]
    np.testing.assert_array_equal(before["train"], after["train"])
    np.testing.assert_array_equal(before["test"][:n_known], after["test"][:n_known])
    assert (before["test"][n_known:] != after["test"][n_known:]).any()


def test_one_task_gives_one_result_and_other_folds_other_seeds():
    task = make_task()
    first, again = (train_fold(task, FOLDS[0]) for _ in range(2))
    for name in ("train", "test"):
        np.testing.assert_array_equal(first[name], again[name])
    renamed = train_fold(task, FOLDS[0]._replace(number=5))
    assert (renamed["train"] != first["train"]).any()


def test_targets_cover_both_spans_from_the_first_test_bar_on():
    first, last = (train_fold(make_task(n_seeds=2), fold) for fold in FOLDS)
    assert first["test"].shape == (40, 2, 2)
    assert first["train"].shape == (76, 2, 2)
    assert np.isfinite(first["test"]).all()
    assert np.abs(first["test"]).max() <= 0.5, "half of one account for each of two symbols"
    assert (first["test"][0] != 0).all(), "decided at the first bar"
    n_before = RULES.window_bars - 1
    assert (first["train"][:n_before] == 0).all()
    assert (first["train"][n_before] != 0).all()
    assert np.isnan(last["test"][-1]).all(), "nothing follows the last bar"
    assert np.isfinite(last["test"][:-1]).all()


def test_a_target_is_that_of_the_bar_at_whose_close_it_is_decided():
    panel = make_panel(n_bars=60)
    targets = play_targets(Echo(panel.n_features), panel, RULES)
    expected = panel.features[:, 0].reshape(2, 60).T[RULES.window_bars - 1 : -1] / 10
    # float32 actions, halved exactly
    np.testing.assert_allclose(targets, expected / 2, rtol=1e-6)


def test_an_account_of_one_symbol_earns_what_the_environment_does():
    panel = make_panel(n_bars=200, n_symbols=1)
    policy = Echo(panel.n_features)
    targets = play_targets(policy, panel, RULES)
    padded = np.vstack([targets, np.full((1, 1), np.nan)])
    prices = Prices.from_panel(panel).rows(RULES.window_bars - 1, 200)
    result = fold_accounts.run_account(prices, padded, RULES)
    rollout = play(policy, panel, RULES)
    np.testing.assert_allclose(result.equity[:, 0], rollout.equity[:, 0, 0], rtol=1e-12)


def test_a_ruined_agent_wants_nothing_any_more():
    panel = make_panel(n_bars=40, n_symbols=1)
    crash = np.where(np.arange(40) < 20, 1.0, 0.05)
    fallen = BarPanel(
        panel.symbols,
        panel.segments,
        panel.ts,
        100 * crash,
        100 * crash,
        np.full_like(panel.features, 10.0),
        panel.feature_names,
    )
    targets = play_targets(Echo(panel.n_features), fallen, RULES)
    n_alive = 20 - RULES.window_bars + 1  # decisions up to the bar before the fall
    assert (targets[:n_alive] > 0.4).all()
    assert (targets[n_alive:] == 0).all()


def test_finished_folds_are_reused_and_other_settings_are_not(tmp_path, one_process):
    task = make_task()
    first = run_agents(task, FOLDS, tmp_path, "ppo", CLOCK)
    again = run_agents(task, FOLDS, tmp_path, "ppo", CLOCK)
    assert (first.n_reused, again.n_reused) == (0, 2)
    for number, result in first.results.items():
        np.testing.assert_array_equal(result["test"], again.results[number]["test"])
    assert run_agents(make_task(seed=4), FOLDS, tmp_path, "ppo", CLOCK).n_reused == 0


def test_a_fold_that_fails_is_reported_and_costs_the_others_nothing(tmp_path, one_process):
    task = make_task()
    # forecasts begin after the first fold's training rows
    late = make_task(forecasts=make_forecasts(task.rows, first=90))
    runs = run_agents(late, FOLDS, tmp_path, "ppo", CLOCK)
    (failure,) = runs.failures
    assert failure.number == 0
    assert failure.error.startswith("PanelError: none of 152 training rows has a forecast")
    np.testing.assert_array_equal(runs.results[1]["test"], train_fold(late, FOLDS[1])["test"])
    joined = fold_accounts.join_targets(FOLDS, runs.values("test"), N_BARS)
    assert (joined[80, 0] == 0).all()


def test_tasks_that_no_fold_can_run_are_refused():
    with pytest.raises(ValueError, match=r"patience is 2, but a fold has no validation span"):
        make_task(replace(PPO, patience=2))
    with pytest.raises(ValueError, match=r"action_kind is 'discrete'; expected 'continuous'"):
        make_task(rules=replace(RULES, action_kind="discrete"))
    with pytest.raises(ValueError, match=r"n_seeds is 0; expected at least 1"):
        make_task(n_seeds=0)


# Backends


def walk(folder) -> dict[str, bytes]:
    """Agents and rules through all folds, their accounts, and all files that come of it."""
    task = make_task(n_seeds=2)
    market = BarPanel.from_frame(task.rows, np.empty((len(task.rows), 0), np.float32), [])
    prices = Prices.from_panel(market)
    grid = rule_grid.list_rules(prices.close, 252)
    orders = rule_grid.stack_rules(grid)
    result = fold_accounts.run_account(prices, orders, RULES, [*grid])
    choose = partial(choose_rule, result, fold_accounts.spell_out(orders, FOLDS), 252)
    start = FOLDS[0].test[0]
    wanted = {
        settings.algo: run_agents(
            make_task(settings, 2), FOLDS, folder, settings.algo, CLOCK
        ).values("test")
        for settings in (PPO, SAC)
    }
    wanted = fold_accounts.add_ensemble(wanted)
    rules = run_folds(choose, FOLDS, folder, hash_inputs(orders), "rules", CLOCK)
    wanted["chosen_rule"] = rules.values("targets")
    accounts = {}
    for name, values in wanted.items():
        targets = fold_accounts.join_targets(FOLDS, values, N_BARS)[start:, 0]
        account = fold_accounts.run_account(prices.rows(start, N_BARS), targets, RULES)
        accounts[name] = [as_rollout([account], market)]
    sure = {"n_bootstrap": 20, "confidence": 0.9, "seed": 1}
    held = {"buy_and_hold": accounts["chosen_rule"]}  # what is compared is of no matter here
    write_json(folder / "metrics.json", summarise(accounts | held, market, **sure))
    fold_accounts.walk_table({"anchored": accounts}, market).to_parquet(folder / "walk.parquet")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.slow
def test_files_have_the_same_bytes_on_loky_on_ray_and_on_two_nodes(tmp_path, monkeypatch):
    from ray.cluster_utils import Cluster

    for name, value in DETERMINISTIC_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "2")
    get_reusable_executor().shutdown(wait=True)  # workers of earlier tests
    cluster = None
    try:
        backends.use_backend("loky")
        expected = walk(tmp_path / "loky")
        get_reusable_executor().shutdown(wait=True)
        backends.use_backend("ray")
        on_ray = walk(tmp_path / "ray")
        backends.use_backend("loky")  # ends that runtime
        cluster = Cluster(initialize_head=True, head_node_args={"include_dashboard": False})
        cluster.add_node(num_cpus=1)
        backends.use_backend("ray", cluster.address)
        on_cluster = walk(tmp_path / "cluster")
    finally:
        backends.use_backend("loky")
        if cluster is not None:
            cluster.shutdown()
    assert len(expected) == 8, "two folds of two algorithms and of the rules, table and metrics"
    assert json.loads(expected["metrics.json"])["ppo"]["members"] == 2
    assert on_ray == expected
    assert on_cluster == expected
