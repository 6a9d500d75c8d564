"""A recording replayed through a served model, held against the environment; tables by hand."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest

from hftlib.envs import TradingRules
from hftlib.live.feeds import Recording, read_bars
from hftlib.live.replay import (
    Replay,
    ask_again,
    compare_decisions,
    count_checks,
    decide_in_environment,
    quantiles_ms,
    replay,
    summarise_fills,
)
from hftlib.live.session_plans import make_rules, plan_recording
from hftlib.paperplots import latency_figure, worth_figure
from hftlib.portfolio.costs import Costs
from tests.conftest import make_bars
from tests.live_cases import DAY_NS
from tests.paper_cases import FINE, NO_LIMITS
from tests.session_run import N_BARS, N_TRADED, SYMBOLS, make_plan
from tests.strategy_cases import LocalService, load_random

RULES = TradingRules(
    Costs(1.0, 2.0, 1.0), window_bars=4, allow_short=True, action_kind="continuous"
)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return load_random(tmp_path_factory.mktemp("replay") / "served")


@pytest.fixture(scope="module")
def bars():
    return make_bars(N_BARS, SYMBOLS)


@pytest.fixture(scope="module")
def replayed(predictor, tmp_path_factory):
    plan = make_plan(tmp_path_factory.mktemp("whole") / "paper")
    return replay(plan, LocalService(predictor))


def panels_of(predictor, bars):
    own = {s: bars[bars["symbol"] == s].reset_index(drop=True) for s in SYMBOLS}
    return {symbol: predictor.panel(one) for symbol, one in own.items()}


def test_a_replay_keeps_every_decision_and_what_came_of_it(replayed):
    assert replayed.halted == ""
    assert len(replayed.decisions) == 2 * N_TRADED
    assert len(replayed.equity) == N_TRADED
    assert replayed.equity.index.tz is not None and replayed.equity.index.is_monotonic_increasing
    # cash and fees of the file add up: 100 000 less what was paid, fees included
    fills, last = replayed.fills, replayed.marks.iloc[-1]
    paid = (fills["quantity"] * fills["price"] + fills["fee"]).sum()
    assert last["cash"] == pytest.approx(100_000 - paid, abs=1e-6)
    assert last["fees"] == pytest.approx(fills["fee"].sum(), abs=1e-9)


def test_a_folder_with_an_account_is_refused(predictor, tmp_path):
    plan = make_plan(tmp_path / "paper", n_traded=2)
    replay(plan, LocalService(predictor))
    with pytest.raises(FileExistsError, match="has an account; replay into an empty folder"):
        replay(plan, LocalService(predictor))


def test_a_replay_that_ends_gives_its_files_free_also_after_a_fault(predictor, tmp_path):
    def fail():
        raise OSError("no feed")

    plan = make_plan(tmp_path / "paper", feed=fail)
    for _ in range(2):
        with pytest.raises(OSError, match="no feed"):
            replay(plan, LocalService(predictor))
        for path in plan.folder.iterdir():
            path.unlink()


def test_what_was_decided_is_what_the_model_says_when_it_is_asked_again(predictor, bars, replayed):
    """One process and one batch, instead of bar by bar: equal to the last bit."""
    again = ask_again(predictor, panels_of(predictor, bars), replayed.decisions)
    np.testing.assert_array_equal(again, replayed.decisions["action"].to_numpy())
    assert np.ptp(again) > 0.1
    with_less = replayed.decisions.assign(exposure=replayed.decisions["exposure"] + 0.1)
    assert (ask_again(predictor, panels_of(predictor, bars), with_less) != again).any()


def test_a_bar_that_is_not_in_the_panel_is_an_error(predictor, bars, replayed):
    panels = panels_of(predictor, bars)
    other = replayed.decisions.assign(ts_ns=replayed.decisions["ts_ns"] + 1)
    with pytest.raises(ValueError, match="the panel of AAA has no window up to"):
        ask_again(predictor, panels, other)
    early = replayed.decisions.assign(ts_ns=panels["AAA"].ts[2])
    with pytest.raises(ValueError, match="the panel of AAA has no window up to"):
        ask_again(predictor, panels, early)


def test_one_symbol_decides_as_in_the_environment(predictor, bars, tmp_path):
    """The same bars, costs by a book of fine ticks: exposures differ by costs and lots alone."""
    own = bars[bars["symbol"] == "AAA"].reset_index(drop=True)
    steps = {"tick_size": 1e-5, "lot_size": 1e-4, "level_units": 1e4}
    fine = replace(FINE, taker_fee_bps=2.0, spread_bps=2.0, **steps)
    rules = make_rules(RULES, ["AAA"], NO_LIMITS, bar_ns=DAY_NS)
    breaker = replace(rules.breaker, max_drawdown=9.0, max_daily_loss=9.0)
    plan = plan_recording(
        own, N_TRADED, tmp_path / "paper", replace(rules, breaker=breaker), {"one": fine}
    )
    found = replay(plan, LocalService(predictor))
    assert not found.halted
    panel = predictor.panel(own, N_TRADED + RULES.window_bars - 1)
    simulated, equity = decide_in_environment(predictor, panel, RULES)
    told = compare_decisions(found.decisions, simulated)
    assert told["decisions"] == N_TRADED - 1 and told["only_one"] == 0
    assert told["changes"] > 0.01
    # a lot is 5e-7 of the account and a tick 2e-7 of the price; differences add up over 30 bars
    assert told["exposure"] < 1e-5 and told["action"] < 1e-5
    worth = found.equity.to_numpy() / float(plan.rules.cash)
    np.testing.assert_allclose(worth, equity.to_numpy(), atol=1e-5)


def table(**columns):
    return pd.DataFrame(columns)


DECIDED = table(
    ts_ns=[1, 1, 2, 2, 3],
    symbol=["A", "B", "A", "B", "A"],
    action=[0.1, 0.2, 0.3, 0.1, 0.9],
    exposure=[0.0, 0.0, 0.1, 0.2, 0.3],
    seconds=[0.010, 0.010, 0.020, 0.020, 0.100],
)


def test_equal_decisions_differ_by_nothing():
    simulated = DECIDED.drop(columns="seconds").iloc[:4]
    found = compare_decisions(DECIDED, simulated)
    # A moves by .2 and .6, B by .1
    expected = {"decisions": 4, "only_one": 0, "action": 0.0, "exposure": 0.0, "changes": 0.3}
    assert found == pytest.approx(expected)


def test_a_planted_difference_and_a_missing_bar_are_found():
    simulated = DECIDED.drop(columns="seconds").iloc[[0, 2, 3]].copy()
    simulated.loc[2, "action"] += 0.05
    simulated.loc[3, "exposure"] -= 0.02
    found = compare_decisions(DECIDED, simulated)
    assert (found["decisions"], found["only_one"]) == (3, 1)
    assert found["action"] == pytest.approx(0.05)
    assert found["exposure"] == pytest.approx(0.02)


def result(**tables):
    empty = pd.DataFrame()
    values = dict.fromkeys(("decisions", "fills", "parents", "checks", "marks", "alerts"), empty)
    return Replay(**values | tables, halted="")


def test_costs_of_fills_by_hand():
    fills = table(
        venue=["near", "near", "far"],
        quantity=[10.0, -10.0, 5.0],
        price=[101.0, 99.0, 100.0],
        mark=[100.0, 100.0, 100.0],
        fee=[0.1, 0.2, -0.05],
    )
    found = summarise_fills(result(fills=fills))
    assert found.index.tolist() == ["far", "near", "all"]
    near, far, all_ = (found.loc[name] for name in ("near", "far", "all"))
    # bought a dollar above and sold a dollar below the mark: 20 on 2000
    assert (near["fills"], near["notional"]) == (2, 2000.0)
    assert near["slippage_bps"] == pytest.approx(100.0)
    assert near["fee_bps"] == pytest.approx(1e4 * 0.3 / 2000)
    assert (far["slippage_bps"], far["fee_bps"]) == pytest.approx((0.0, -1.0))
    assert all_["fills"] == 3 and all_["share"] == 1.0
    assert near["share"] == pytest.approx(0.8) and far["share"] == pytest.approx(0.2)
    assert all_["cost_bps"] == pytest.approx(1e4 * (20 + 0.25) / 2500)


def test_without_fills_the_table_has_no_venue():
    names = ["venue", "quantity", "price", "mark", "fee"]
    found = summarise_fills(result(fills=pd.DataFrame({name: [] for name in names})))
    assert found.index.tolist() == ["all"]
    assert found.loc["all", "fills"] == 0 and np.isnan(found.loc["all", "cost_bps"])


def test_checks_are_counted_by_the_first_limit():
    checks = table(
        action=["accept", "shrink", "shrink", "reject"],
        reasons=["", "position: too much", "position: too much; var: too", "halted: it is"],
    )
    found = count_checks(result(checks=checks))
    assert found.loc["none", "accept"] == 1
    assert found.loc["position", "shrink"] == 2
    assert found.loc["halted", "reject"] == 1
    assert found.to_numpy().sum() == 4


def test_a_question_counts_once_however_many_symbols_it_had():
    found = quantiles_ms(DECIDED)
    assert list(found) == ["p50", "p90", "p99", "p100"]
    assert found["p50"] == pytest.approx(20.0) and found["p100"] == pytest.approx(100.0)


def test_equity_is_that_of_closes_in_order():
    marks = table(ts_ns=[1, 2, 3], kind=["open", "close", "open"], equity=[9.0, 10.0, 11.0])
    assert result(marks=marks).equity.to_list() == [10.0]


def test_figures_show_every_account_and_every_answer():
    worth = pd.DataFrame({"a": [1.0, 1.1], "b": [1.0, 0.9]}, pd.date_range("2020", periods=2))
    shown = worth_figure(worth)
    assert [trace.name for trace in shown.data] == ["a", "b"]
    assert list(shown.data[1].y) == [1.0, 0.9]
    answers = latency_figure(pd.Series([0.003, 0.001, 0.002, 0.004]), "asked").data[0]
    assert list(answers.x) == [1.0, 2.0, 3.0, 4.0]
    assert list(answers.y) == [0.25, 0.5, 0.75, 1.0]


def test_a_plan_of_fewer_bars_than_asked_trades_all_of_them(bars, tmp_path):
    rules = make_rules(RULES, SYMBOLS, NO_LIMITS, bar_ns=DAY_NS)
    plan = plan_recording(bars, 10**6, tmp_path, rules, {"one": FINE})
    assert plan.first_ns == bars["ts"].min().value
    assert plan.speed is None
    moments = read_bars(bars)
    assert plan.last_ns == moments[-1].ts_ns
    first = plan.feed().poll(plan.last_ns)
    assert first == partial(Recording, moments)().poll(plan.last_ns)
