"""A challenger takes the champion's place when it is better on bars that neither has seen."""

import json
import shutil
import subprocess
import urllib.request
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from hftlib.envs.rewards import RewardSettings
from hftlib.envs.trading_rules import Financing
from hftlib.live import models, retrain
from hftlib.live.artefact import list_artefacts
from hftlib.live.backtest_job import read_rules, run_backtest
from hftlib.live.challenges import Challenge, rank_challenge, read_challenges
from hftlib.live.predictor import Predictor
from hftlib.live.unseen import pair_returns, play_unseen, read_seen_until
from hftlib.openings import read_openings
from hftlib.portfolio.costs import Costs
from hftlib.portfolio.measures import annual_return, periods_per_year, simple_returns
from tests.conftest import make_bars
from tests.loopback import Answer
from tests.loopback import serve as serve_loopback
from tests.retrain_cases import (
    SEEN,
    SYMBOLS,
    make_project,
    read_lines,
    run_service,
    write_holder,
)
from tests.served_cases import RULES

RISE = 0.006  # a bar, at a deviation of .015: long beats short beyond doubt
UNSEEN = 300 - 90
JUDGE = ["--no-repro"]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Rising bars; the champion is always short, and the challenger that is exported long."""
    paths = make_project(tmp_path, RISE)
    write_holder(paths.exported, "ensemble", -1.0)
    models.choose_model(paths.exported, paths.served)
    write_holder(paths.exported, "ensemble", 1.0)
    monkeypatch.chdir(tmp_path)
    return paths


def champion(paths):
    return models.read_champion(paths.served).name


def snapshot(paths):
    files = [file for file in paths.served.rglob("*") if file.is_file()]
    return {file: file.read_bytes() for file in files if file.name != models.LOCK}


def stays(paths, arguments=JUDGE):
    """Run it, and see that the champion is the same; what it printed."""
    before = champion(paths)
    code = retrain.main([*arguments])
    assert champion(paths) == before
    return code


# Decisions


def test_a_truly_better_challenger_is_promoted(project, capsys):
    old = champion(project)
    assert retrain.main(JUDGE) == 0
    found = models.read_champion(project.served)
    assert found.name != old and found.history[0].name == old
    assert found.decision["promote"] and found.decision["p_value"] <= found.decision["level"]
    assert {old, found.name} <= {*list_artefacts(project.served)}
    said = capsys.readouterr().out
    assert f"Decision    {found.name} is the champion now" in said
    assert f"2010-04-02 to 2010-10-27, {UNSEEN - 1} bars of AAA, BBB" in said
    assert "95 % interval [" in said and "0.025 for contest 1 of this champion" in said
    assert "Met         return: " in said and "Met         drawdown: " in said
    assert "restart it, or send /model/activate" in said


def test_a_worse_one_is_registered_and_not_promoted(project, capsys):
    retrain.main(JUDGE)
    before = champion(project)
    bars = pd.read_parquet(project.bars)  # the same rise once more, on which short loses
    more = pd.concat([bars, bars.assign(ts=bars["ts"] + pd.Timedelta(300, unit="D"))])
    more.sort_values(["symbol", "ts"], ignore_index=True).to_parquet(project.bars)
    write_holder(project.exported, "ensemble", -0.5)
    capsys.readouterr()
    assert stays(project) == 0
    said = capsys.readouterr().out
    name = next(line.split()[1] for line in said.splitlines() if line.startswith("Challenger"))
    assert name in list_artefacts(project.served) and name != before
    assert "Not met     return" in said and f"Decision    {before} stays" in said
    assert f"HFTLIB_CHALLENGER={name}" in said


@pytest.mark.parametrize("share", [1.5, 2.0])
def test_a_challenger_that_acts_the_same_is_not_promoted(tmp_path, monkeypatch, capsys, share):
    """Its graph differs, its actions are cut to the same bound."""
    paths = make_project(tmp_path)
    write_holder(paths.exported, "ensemble", 1.0)
    models.choose_model(paths.exported, paths.served)
    write_holder(paths.exported, "ensemble", share)
    monkeypatch.chdir(tmp_path)
    assert stays(paths) == 0
    assert "Not met     comparable" in capsys.readouterr().out


def test_random_policies_in_a_world_without_trend_are_not_promoted(tmp_path, monkeypatch):
    paths = make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    for seed in range(4):
        write_holder(paths.exported, "ensemble", 0.0, weights=seed)
        if not seed:
            models.choose_model(paths.exported, paths.served)
        assert stays(paths) == 0
    lines = read_lines(paths.tracking / "challenges.jsonl")
    assert [line["promote"] for line in lines] == [False] * 3
    # the level is spent, never more than all of it
    assert [line["level"] for line in lines] == pytest.approx([0.05 / 2, 0.05 / 6, 0.05 / 12])


def test_what_is_champion_already_is_nothing_new(project, capsys):
    retrain.main(JUDGE)
    before = snapshot(project)
    capsys.readouterr()
    assert stays(project) == 0
    assert "nothing new" in capsys.readouterr().out
    assert snapshot(project) == before
    assert len(read_lines(project.tracking / "challenges.jsonl")) == 1


def test_a_dry_run_decides_and_only_the_look_is_recorded(project, capsys):
    before = snapshot(project)
    assert stays(project, ["--dry-run"]) == 0
    assert "would be promoted; nothing was changed" in capsys.readouterr().out
    assert snapshot(project) == before
    assert len(read_openings(project.tracking)) == 1
    assert len(read_challenges(project.tracking)) == 1
    assert retrain.main(JUDGE) == 0  # the same look again is held to the same level
    rows = read_lines(project.tracking / "challenges.jsonl")
    assert rows[0] | {"judged": ""} == rows[1] | {"judged": ""}
    assert champion(project) == rows[0]["challenger"]


# Which bars


def test_bars_that_made_one_of_the_two_are_not_judged_on(project):
    later = date.fromisoformat(SEEN) + timedelta(days=100)
    write_holder(project.exported, "ensemble", 1.0, seen_until=str(later))
    retrain.main(JUDGE)
    found = models.read_champion(project.served).decision
    assert found["n_bars"] == UNSEEN - 101
    assert found["first"] == f"{later + timedelta(days=2)}T00:00:00+00:00"


def test_the_bars_of_a_promotion_do_not_promote_again(project, capsys):
    """They chose the champion: on them it is lucky."""
    retrain.main(JUDGE)
    write_holder(project.exported, "ensemble", 0.5)
    assert stays(project) == 0
    said = capsys.readouterr().out
    assert "too short: 31 more bars after 2010-10-27 are needed" in said
    assert len(read_openings(project.tracking)) == 1


@pytest.mark.parametrize(("n_seen", "missing"), [(269, 0), (270, 1), (299, 30), (400, 31)])
def test_too_few_bars_are_counted_and_nobody_looks(project, capsys, n_seen, missing):
    seen = date(2009, 12, 31) + timedelta(days=n_seen)
    write_holder(project.exported, "ensemble", 1.0, seen_until=str(seen))
    assert retrain.main(JUDGE) == 0
    said = capsys.readouterr().out
    assert (f"too short: {missing} more bar" in said) == (missing > 0)
    assert (project.tracking / "challenges.jsonl").exists() == (missing == 0)
    assert len(list_artefacts(project.served)) == 2  # it may serve a share all the same


@pytest.mark.parametrize("found", [None, "", "soon", 20121231, "2012-12-31T00:00"])
def test_a_model_that_does_not_say_what_it_has_seen_is_refused(project, capsys, found):
    write_holder(project.exported, "ensemble", 0.7, seen_until=found)
    assert stays(project) == 1
    assert f"params.seen_until is {found!r}; expected the day" in capsys.readouterr().err
    assert not project.tracking.exists()


def test_the_day_that_was_seen_is_seen_to_its_end(tmp_path):
    made = write_holder(tmp_path / "exported", "one", 1.0)
    assert read_seen_until(made.manifest) < pd.Timestamp("2010-04-01", tz="UTC")
    assert read_seen_until(made.manifest) > pd.Timestamp("2010-03-31T23:59:59.9", tz="UTC")


# Whether the two can be compared


def test_accounts_by_other_rules_are_not_compared(project, capsys):
    other = replace(RULES, costs=Costs(5.0, 2.0, 1.0), financing=Financing(borrow_bps=50))
    write_holder(project.exported, "ensemble", 1.0, rules=other)
    assert stays(project) == 1
    said = capsys.readouterr().err
    assert "different rules: costs [1.0, 2.0, 1.0, 0.0] and [5.0, 2.0, 1.0, 0.0]; financing" in said
    assert "choose by hand with" in said
    assert not project.tracking.exists()


def test_what_only_training_used_may_differ(project):
    other = replace(
        RULES, window_bars=7, episode_bars=99, reward=RewardSettings(kind="differential_sharpe")
    )
    write_holder(project.exported, "ensemble", 1.0, rules=other)
    assert retrain.main(JUDGE) == 0
    assert models.read_champion(project.served).decision["n_bars"] == UNSEEN - 1


def test_a_challenger_that_lacks_a_symbol_is_refused(project, capsys):
    write_holder(project.exported, "ensemble", 1.0, symbols=("AAA",))
    assert stays(project) == 1
    assert "has no answer for BBB" in capsys.readouterr().err


# What the two earn


def test_the_accounts_are_those_of_a_backtest(tmp_path):
    """Equity compounds to the annual return that a backtest of the same bars reports."""
    made = write_holder(tmp_path / "exported", "random", 0.0, weights=3)
    predictor, bars = Predictor(made), make_bars(300, SYMBOLS)
    rules = read_rules(made.manifest.rules)
    seen = read_seen_until(made.manifest)
    found = play_unseen(predictor, rules, bars, SYMBOLS, seen)
    clock = bars["ts"].unique()
    first = clock[90 - (rules.window_bars - 1)]  # a backtest's window lies within its span
    expected = run_backtest(predictor, bars, SYMBOLS, rules, first.value, clock[-1].value)
    per_year = periods_per_year(clock[90 - 3 :].as_unit("ns").asi8)
    for symbol, equity in found.items():
        assert (equity.index == clock[90:]).all()
        returns = simple_returns(equity)
        reported = expected[symbol]["model"]["annual_return"]
        assert annual_return(returns, per_year) == pytest.approx(reported, rel=1e-12)
    assert found["AAA"].nunique() > 100  # it trades


def test_what_comes_later_changes_no_return_before(tmp_path):
    made = write_holder(tmp_path / "exported", "random", 0.0, weights=3)
    predictor, bars = Predictor(made), make_bars(300, SYMBOLS)
    rules = read_rules(made.manifest.rules)
    seen = read_seen_until(made.manifest)
    whole = play_unseen(predictor, rules, bars, SYMBOLS, seen)
    short = play_unseen(
        predictor, rules, bars[bars["ts"] < pd.Timestamp("2010-08-01", tz="UTC")], SYMBOLS, seen
    )
    for symbol, equity in short.items():
        pd.testing.assert_series_equal(equity, whole[symbol][: len(equity)])


def test_symbols_weigh_the_same_and_only_common_bars_count():
    days = pd.date_range("2020-01-01", periods=4, tz="UTC")
    one = {"A": pd.Series([1, 1.1, 1.21, 1.21], days), "B": pd.Series([2.0, 1.0], days[[0, 3]])}
    other = {"A": pd.Series([5.0, 10, 10], days[[0, 2, 3]]), "B": pd.Series([1.0, 1, 3], days[:3])}
    other["B"].index = days[[0, 1, 3]]
    first, second = pair_returns(one, other)
    assert [*first.index] == [*second.index] == [*days[2:]]
    np.testing.assert_allclose(first, [0.21 / 2, -0.5 / 2])
    np.testing.assert_allclose(second, [1.0 / 2, 2.0 / 2])


# The journal


def test_the_level_is_spent_once_however_many_follow():
    first, last = "2020-01-01", "2020-12-31"
    past = [Challenge("a", f"b{k}", first, last) for k in range(50)]
    ranks = [rank_challenge(past[:k], one) for k, one in enumerate(past)]
    assert ranks == [*range(1, 51)]
    assert sum(1 / (k * (k + 1)) for k in ranks) < 1
    assert rank_challenge([*past, past[3]], past[3]) == 4  # the same contest again
    assert rank_challenge(past, past[0]._replace(last="2021-01-31")) == 51  # a longer span
    later = Challenge("a", "b0", "2021-01-01", "2021-12-31")
    assert rank_challenge(past, later) == 51  # new bars do not give the level anew
    assert rank_challenge(past, past[0]._replace(champion="c")) == 1  # another champion's first


@pytest.mark.parametrize("line", ["{", "3", '{"champion": "a"}'])
def test_a_broken_line_of_the_journal_is_named(project, capsys, line):
    project.tracking.mkdir()
    (project.tracking / "challenges.jsonl").write_text(f"{line}\n")
    assert stays(project) == 1
    assert "challenges.jsonl, line 1 is no contest" in capsys.readouterr().err


# Accidents


def test_a_crash_between_registering_and_promoting_leaves_the_old_champion(project, monkeypatch):
    def crash(*_):
        raise KeyboardInterrupt

    before = champion(project)
    with monkeypatch.context() as patched:
        patched.setattr(models, "set_champion", crash)
        with pytest.raises(KeyboardInterrupt):
            retrain.main(JUDGE)
    assert champion(project) == before and len(list_artefacts(project.served)) == 2
    assert retrain.main(JUDGE) == 0
    assert champion(project) != before
    assert models.read_champion(project.served).decision["level"] == 0.025


def test_two_runs_at_once_are_one_too_many(project, capsys):
    with models.lock_registry(project.served):
        assert stays(project) == 1
    assert "another process retrains or chooses a model; wait" in capsys.readouterr().err
    assert retrain.main(JUDGE) == 0


def test_a_corrupt_pointer_is_not_replaced(project, capsys):
    (project.served / models.POINTER).write_text("{")
    assert retrain.main(JUDGE) == 1
    assert "champion.json names no champion" in capsys.readouterr().err
    assert (project.served / models.POINTER).read_text() == "{"
    (project.served / models.POINTER).unlink()
    assert retrain.main(JUDGE) == 1
    assert "has models but no champion; choose one with" in capsys.readouterr().err


def test_a_champion_that_is_gone_is_said_before_the_pipeline_runs(project, monkeypatch, capsys):
    monkeypatch.setattr(retrain, "run_pipeline", lambda _: pytest.fail("it takes minutes"))
    shutil.rmtree(project.served / champion(project))
    before = (project.served / models.POINTER).read_bytes()
    assert retrain.main([]) == 1
    assert "Restore its folder, or choose one with" in capsys.readouterr().err
    assert (project.served / models.POINTER).read_bytes() == before
    assert list_artefacts(project.served) == []


def test_what_is_missing_is_named(project, capsys):
    assert stays(project, [*JUDGE, "--model", "sac"]) == 1
    assert "no model 'sac', there are: ensemble; run `make repro`" in capsys.readouterr().err
    project.bars.unlink()
    assert stays(project) == 1
    assert "bars.parquet" in capsys.readouterr().err


# The pipeline


def test_what_is_served_first_is_what_the_pipeline_is_about_to_replace(project, monkeypatch):
    """Otherwise the first retraining would have nobody to be judged against."""
    shutil.rmtree(project.served)
    write_holder(project.exported, "ensemble", -1.0)
    monkeypatch.setattr(
        retrain, "run_pipeline", lambda _: write_holder(project.exported, "ensemble", 1.0)
    )
    assert retrain.main([]) == 0
    found = models.read_champion(project.served)
    assert found.decision["promote"] and len(found.history) == 1


def test_the_first_model_ever_needs_no_contest(project, monkeypatch, capsys):
    shutil.rmtree(project.served)
    shutil.rmtree(project.exported)
    assert retrain.main(["--no-repro"]) == 1
    monkeypatch.setattr(
        retrain, "run_pipeline", lambda _: write_holder(project.exported, "ppo", 1.0)
    )
    assert retrain.main(["--model", "ppo"]) == 0
    assert "is the first champion" in capsys.readouterr().out
    assert champion(project).startswith("ppo-")


class Interrupted:
    """A pipeline that heeds Ctrl-C in its own time."""

    def __init__(self, command, cwd):
        self.answers = [KeyboardInterrupt, 130]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        assert not self.answers

    def wait(self):
        answer = self.answers.pop(0)
        if answer is KeyboardInterrupt:
            raise answer
        return answer


def test_an_interrupted_pipeline_is_waited_for_and_ends_the_run(project, monkeypatch, capsys):
    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    assert stays(project, []) == 1
    assert "the pipeline ended with exit code 130" in capsys.readouterr().err


# The service


def test_a_running_service_serves_the_new_champion_at_once(project, monkeypatch, capsys):
    with run_service(HFTLIB_TOKEN="secret") as events:
        address = events["serving"]["address"]
        monkeypatch.setenv("HFTLIB_TOKEN", "secret")
        assert retrain.main([*JUDGE, "--address", address]) == 0
        with urllib.request.urlopen(address + "/models") as answer:
            assert json.load(answer)["active"] == champion(project)
        assert f"{address} serves it" in capsys.readouterr().out
        with pytest.raises(retrain.RetrainError, match=r"token.*a restart"):
            retrain.activate(address, "wrong", champion(project))
    with pytest.raises(retrain.RetrainError, match=r"gave no answer.*a restart"):
        retrain.activate(address, "secret", champion(project))
    with pytest.raises(retrain.RetrainError, match="expected http://"):
        retrain.activate("127.0.0.1:8000", "secret", champion(project))


def test_what_is_no_service_is_an_error_with_a_remedy():
    with serve_loopback(lambda *_: Answer("a page")) as other:
        address = f"http://127.0.0.1:{other.server.server_port}"
        with pytest.raises(retrain.RetrainError, match="a restart of the service"):
            retrain.activate(address, "", "ensemble-00000000")


def test_a_promotion_that_the_service_did_not_hear_of_is_an_error_and_stands(project, capsys):
    before = champion(project)
    assert retrain.main([*JUDGE, "--address", "http://127.0.0.1:1"]) == 1
    assert "a restart of the service serves it" in capsys.readouterr().err
    assert champion(project) != before
