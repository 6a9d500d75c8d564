import numpy as np
import pandas as pd
import pytest

from hftlib.agents.baselines import BuyAndHold, DoNothing
from hftlib.data.panel import BarPanel
from hftlib.evaluation import backtest
from hftlib.evaluation.statistics import Estimate, compare_strategies, format_p
from hftlib.portfolio import measures
from tests.conftest import make_panel

BOOTSTRAP = {"n_bootstrap": 200, "confidence": 0.9, "seed": 0}


def compare(returns, **changes):
    settings = {"benchmark": "base", "periods_per_year": 252, **BOOTSTRAP}
    return compare_strategies(returns, **{**settings, **changes})


@pytest.fixture
def returns():
    rng = np.random.default_rng(0)
    return {"base": rng.normal(5e-4, 0.01, (1000, 1)), "other": rng.normal(0, 0.01, (1000, 4))}


def test_the_value_is_the_mean_of_the_measure_over_members(returns):
    result = compare(returns)["other"]
    each = measures.sharpe(returns["other"], 252)
    assert result["sharpe"].value == pytest.approx(each.mean(), rel=1e-12)
    base = measures.sharpe(returns["base"], 252)[0]
    assert result["excess_sharpe"].value == pytest.approx(each.mean() - base, rel=1e-12)


def test_the_benchmark_has_no_excess_over_itself(returns):
    assert compare(returns)["base"]["excess_sharpe"] == Estimate(0.0, 0.0, 0.0)


def test_a_better_copy_of_the_benchmark_is_told_apart_on_the_same_days(returns):
    # a constant 5 bp a day is invisible beside 1 % noise unless days are paired
    better = {"base": returns["base"], "other": returns["base"] + 5e-4}
    gap = compare(better)["other"]["excess_sharpe"]
    assert gap.low > 0


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    covered = 0
    for k in range(100):
        draw = {"base": rng.normal(1e-3, 0.01, (250, 1))}
        estimate = compare(draw, seed=k)["base"]["sharpe"]
        covered += estimate.low <= 0.1 * 252**0.5 <= estimate.high
    # 90 % nominal, 100 draws: standard error .03; bootstrap intervals are a little short
    assert 0.8 <= covered / 100 <= 0.97


def test_disagreeing_members_widen_the_interval():
    market = np.random.default_rng(2).normal(0, 0.01, (1000, 1))
    alike = {"base": market, "other": np.tile(market, 5)}
    apart = {"base": market, "other": market + np.linspace(-2e-3, 2e-3, 5)}
    width = [e.high - e.low for e in (compare(x)["other"]["annual_return"] for x in (alike, apart))]
    assert width[1] > 1.3 * width[0]


def test_one_seed_gives_one_interval(returns):
    assert compare(returns) == compare(returns)
    assert compare(returns) != compare(returns, seed=1)


def test_other_lengths_or_an_unknown_benchmark_are_refused(returns):
    with pytest.raises(ValueError, match="different numbers of bars"):
        compare({**returns, "short": np.zeros((10, 1))})
    with pytest.raises(ValueError, match="'missing' is not among base, other"):
        compare(returns, benchmark="missing")


@pytest.fixture
def strategies(panel, rules):
    return {
        "buy_and_hold": backtest.play_members([BuyAndHold()], panel, rules),
        "do_nothing": backtest.play_members([DoNothing()], panel, rules, n_copies=2),
    }


def test_summary_of_doing_nothing_is_nothing(strategies, panel):
    row = backtest.summarise(strategies, panel, **BOOTSTRAP)["do_nothing"]
    assert row["members"] == 2
    assert row["annual_return"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert row["sharpe"] == {"value": None, "low": None, "high": None}
    assert row["max_drawdown"] == row["turnover_per_year"] == row["cost_per_year"] == 0.0


def test_headline_shows_a_dash_where_there_is_no_ratio(strategies, panel):
    frame = backtest.headline_frame(backtest.summarise(strategies, panel, **BOOTSTRAP))
    assert frame.loc["do_nothing", "Sharpe ratio"] == "-"
    assert frame.loc["buy_and_hold", "Sharpe less buy-and-hold's"] == "0.00 [0.00, 0.00]"


def test_tables_hold_every_bar_of_every_account(strategies, panel, rules):
    n_bars = 400 - rules.window_bars + 1
    assert len(backtest.rollout_table(strategies, panel)) == 3 * 2 * n_bars
    equity = backtest.equity_table(strategies, panel)
    assert len(equity) == 3 * n_bars
    assert (equity.groupby(["strategy", "member"])["equity"].first() == 1.0).all()


def test_a_higher_fee_never_earns_more(panel, rules):
    sweep = backtest.sweep_fees({"buy_and_hold": [BuyAndHold()]}, panel, rules, [0, 5, 50])
    assert sweep["annual_return"].is_monotonic_decreasing


@pytest.mark.parametrize(
    ("target", "fee"), [(0.05, 5.0), (-0.025, 15.0), (0.2, -np.inf), (-0.2, np.inf)]
)
def test_break_even_is_interpolated_and_infinite_outside_the_sweep(target, fee):
    # means over the two members: 10 % at no fee, 0 at 10 bp, -5 % at 20 bp
    sweep = pd.DataFrame(
        {
            "fee_bps": [0.0, 0.0, 10.0, 10.0, 20.0, 20.0],
            "member": [0, 1] * 3,
            "annual_return": [0.12, 0.08, 0.02, -0.02, -0.04, -0.06],
        }
    )
    found = backtest.break_even_fee(sweep, target)
    assert found == pytest.approx(fee)


def test_symbols_of_different_calendars_are_refused(strategies, panel):
    shifted = make_panel()
    ts = shifted.ts.copy()
    ts[400:] += 1
    other = BarPanel(**{**vars(shifted), "ts": ts})
    with pytest.raises(ValueError, match="S1 and S0 have bars at different times"):
        backtest.equity_table(strategies, other)


@pytest.mark.parametrize(
    ("fee", "words"),
    [(-np.inf, "at no fee tried"), (np.inf, "at every fee tried"), (7.5, "below a fee of 7.5 bp")],
)
def test_break_even_is_told_in_words_that_keep_the_two_infinities_apart(fee, words):
    assert words in backtest.describe_break_even("td3", fee, "buy_and_hold")


def test_an_agent_that_never_trades_is_summarised_and_shows_no_edge(panel, rules):
    strategies = {
        "ppo": backtest.play_members([DoNothing(), DoNothing()], panel, rules),
        "buy_and_hold": backtest.play_members([BuyAndHold()], panel, rules),
    }
    summary = backtest.summarise(strategies, panel, **BOOTSTRAP)
    assert not backtest.shows_edge(summary["ppo"])
    assert backtest.headline_frame(summary).loc["ppo", "Sharpe ratio"] == "-"


def test_members_that_never_trade_are_left_out_of_the_ratio(returns):
    mixed = np.concatenate([returns["other"], np.zeros((1000, 2))], axis=1)
    whole = compare({**returns, "other": mixed})["other"]
    assert whole["sharpe"].value == compare(returns)["other"]["sharpe"].value
    assert np.isfinite(whole["sharpe"].low)


def test_teams_played_side_by_side_are_those_played_alone(panel, rules):
    teams = {"idle": [DoNothing()], "hold": [BuyAndHold(), BuyAndHold()]}
    found = backtest.play_teams(teams, panel, rules)
    assert {name: len(rollouts) for name, rollouts in found.items()} == {"idle": 1, "hold": 2}
    for name, policies in teams.items():
        alone = backtest.play_members(policies, panel, rules)
        for one, other in zip(found[name], alone, strict=True):
            np.testing.assert_array_equal(one.equity, other.equity)


def test_a_book_over_members_earns_the_mean_of_their_equity(panel, rules):
    rollouts = backtest.play_members([DoNothing(), BuyAndHold()], panel, rules)
    both = (1.0 + rollouts[1].total_equity[:, 0]) / 2.0
    np.testing.assert_allclose(backtest.book_returns(rollouts), both[1:] / both[:-1] - 1.0)


def test_averages_are_the_values_of_the_headline(panel, rules):
    per_year = measures.periods_per_year(panel.common_clock())
    idle = backtest.average(backtest.play_members([DoNothing()], panel, rules), per_year)
    assert idle.pop("sharpe") is None
    assert set(idle.values()) == {0.0}
    strategies = {"buy_and_hold": backtest.play_members([BuyAndHold()], panel, rules)}
    settings = {"n_bootstrap": 20, "confidence": 0.9, "seed": 0}
    clock = panel.common_clock()[rules.window_bars - 1 :]
    per_year = measures.periods_per_year(clock)
    summary = backtest.summarise(strategies, panel, **settings)["buy_and_hold"]
    found = backtest.average(strategies["buy_and_hold"], per_year)
    assert found["sharpe"] == pytest.approx(summary["sharpe"]["value"])
    assert found["annual_return"] == pytest.approx(summary["annual_return"]["value"])
    assert found["max_drawdown"] == summary["max_drawdown"]


def test_records_for_json_have_none_for_nan():
    table = pd.DataFrame({"name": ["a", "b"], "value": [1.0, np.nan]})
    assert backtest.to_records(table) == [{"name": "a", "value": 1.0}, {"name": "b", "value": None}]


@pytest.mark.parametrize(
    ("value", "words"), [(0.25, "0.250"), (0.0006, "0.001"), (0.0004, "< 0.001"), (np.nan, "-")]
)
def test_a_small_p_value_is_never_shown_as_zero(value, words):
    assert format_p(value) == words
