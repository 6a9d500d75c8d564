"""P-values from intervals are those of a normal estimate; all claims are corrected together."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from hftlib.evaluation.claims import (
    COLUMNS,
    backtest_claims,
    forecast_claims,
    interval_p_value,
    judge_claims,
    market_claims,
    portfolio_claims,
    session_claims,
    walk_claims,
)
from hftlib.evaluation.superiority import correct_p_values


def entry(value, width=1.0):
    return {"value": value, "low": value - width, "high": value + width}


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_an_interval_that_ends_at_0_has_the_p_value_of_its_confidence(confidence):
    assert interval_p_value(1.0, 0.0, 2.0, confidence) == pytest.approx(1 - confidence)
    assert interval_p_value(-1.0, -2.0, 0.0, confidence) == pytest.approx(1 - confidence)


def test_the_p_value_is_that_of_a_normal_estimate():
    error, value = 0.7, 1.2
    reach = stats.norm.ppf(0.975) * error
    expected = 2 * stats.norm.sf(value / error)
    assert interval_p_value(value, value - reach, value + reach, 0.95) == pytest.approx(expected)
    assert interval_p_value(0.0, -reach, reach, 0.95) == 1.0


def test_no_width_or_no_bound_is_no_test():
    assert np.isnan(interval_p_value([0.0, 1.0], [0.0, np.nan], [0.0, 2.0], 0.95)).all()


def test_a_confidence_out_of_range_is_an_error():
    with pytest.raises(ValueError, match=r"confidence is 95; expected between 0 and 1"):
        interval_p_value(1.0, 0.0, 2.0, 95)


def test_yardsticks_make_no_claim():
    headline = {
        name: {"excess_sharpe": entry(0.5)}
        for name in ("ppo", "ensemble_rolling", "buy_and_hold", "do_nothing", "random")
    }
    table = backtest_claims(headline, 0.95)
    assert list(table.columns) == list(COLUMNS)
    assert table["claim"].tolist() == [
        "ppo less buy-and-hold, Sharpe ratio",
        "ensemble rolling less buy-and-hold, Sharpe ratio",
    ]


def test_each_scheme_of_a_walk_forward_claims_by_itself():
    results = {"ppo": {"excess_sharpe": entry(0.5)}, "do_nothing": {"excess_sharpe": entry(0.1)}}
    yardsticks = {"buy_and_hold": {"excess_sharpe": entry(0.0)}}
    headline = {"anchored": results, "rolling": results, "none": yardsticks}
    table = walk_claims(headline, 0.95)
    assert table["claim"].tolist() == [
        "walk-forward, anchored, ppo less buy-and-hold, Sharpe ratio",
        "walk-forward, rolling, ppo less buy-and-hold, Sharpe ratio",
    ]
    assert set(table["report"]) == {"45_walk_forward"}


def test_allocations_claim_at_month_ends_and_equal_weight_nothing():
    names = ("equal_weight", "kelly", "kelly, drift")
    results = {"allocations": {name: {"excess_sharpe": entry(0.5)} for name in names}}
    table = portfolio_claims(results, 0.95)
    assert table["claim"].tolist() == ["kelly less equal weight, Sharpe ratio"]
    assert table["report"].tolist() == ["50_portfolio_risk"]


def test_a_strategy_that_never_traded_is_listed_but_not_tested():
    none = {"value": None, "low": None, "high": None}
    headline = {"ppo": {"excess_sharpe": none}, "sac": {"excess_sharpe": entry(9.0)}}
    table = judge_claims([backtest_claims(headline, 0.95)], 0.05)
    assert table["verdict"].tolist() == ["not tested", "better"]


def market():
    agents = {
        name: {measure: {"difference": entry(3.0)}}
        for name, measure in (
            ("maker", "risk_adjusted_profit"),
            ("executor", "shortfall_ticks"),
            ("taker", "risk_adjusted_profit"),
        )
    }
    return {"mappo": agents | {"control": {"maker": entry(0.0)}}}


def test_a_shortfall_that_grows_is_worse():
    table = judge_claims([market_claims(market(), ["mappo"], 0.95)], 0.05).set_index("claim")
    assert table.loc["mappo maker, less its rival", "verdict"] == "better"
    assert table.loc["mappo executor, less its rival", "verdict"] == "worse"
    assert table.loc["mappo control maker, profit", "verdict"] == "not told apart"


def test_forecasts_of_variance_keep_the_p_value_of_their_own_test():
    row = {
        "log_variance": {"correlation": 0.68, "har_correlation": 0.64, "dm_p": 1e-5},
        "next_return": {"correlation": 0.01, "low": -0.05, "high": 0.07},
        "shuffled": {"correlation": 0.0, "low": -0.03, "high": 0.03},
    }
    table = forecast_claims({"SP500": row}, 0.95).set_index("claim")
    variance = table.loc["SP500 log variance, correlation less HAR's"]
    assert variance["p"] == 1e-5
    assert variance["value"] == pytest.approx(0.04)
    assert table.loc["SP500 shuffled outcomes, correlation", "p"] == 1.0


def test_all_claims_are_corrected_together():
    learners = {"bc": entry(-2.2), "cql": entry(0.1), "bc_greedy": entry(0.0, width=0.0)}
    parts = [market_claims(market(), ["mappo"], 0.95), session_claims({"learners": learners}, 0.95)]
    table = judge_claims(parts, 0.05)
    assert len(table) == 7
    expected = correct_p_values(pd.concat(parts)["p"]).p_values
    np.testing.assert_array_equal(table["holm"], expected)
    assert (table["holm"].dropna() >= table["p"].dropna()).all()
    alone, together = (judge_claims(p, 0.05).iloc[-3]["holm"] for p in ([parts[1]], parts))
    assert together > alone, "more tests, less sure"
