import numpy as np
import pandas as pd
import pytest

from hftlib.evaluation import asset_walks
from hftlib.portfolio import measures
from hftlib.portfolio.allocation import equal_weight
from hftlib.portfolio.constraints import Constraints
from hftlib.portfolio.costs import Costs
from hftlib.portfolio.optimisation import Allocation
from hftlib.portfolio.rebalancing import EveryBars, net_returns, rebalance
from hftlib.portfolio.risk import RiskLimits
from hftlib.portfolio.views import black_litterman, take_views
from hftlib.schema import WEIGHTS
from tests.asset_cases import factor_returns, to_prices

LOOKBACK = 60
COSTS = Costs(1.0, 2.0, 1.0)
SURE = {"n_bootstrap": 30, "confidence": 0.9, "seed": 1}
BOUNDS = Constraints(upper=0.5, turnover=0.4)
PRICES = to_prices(factor_returns(160, 5) + 0.003)  # so that a Sharpe ratio is positive
METHODS = asset_walks.bind_methods(
    BOUNDS, cvar_level=0.9, cvar_aversion=0.1, kelly_fraction=0.5
)  # fmt: skip


def plan(name: str, n_bars: int = 20) -> asset_walks.Plan:
    return asset_walks.Plan(PRICES, METHODS[name], EveryBars(n_bars), METHODS["fallback"])


@pytest.fixture(scope="module")
def walks():
    names = ("equal_weight", "minimum_variance")
    return asset_walks.walk_plans({name: plan(name) for name in names}, LOOKBACK)


def fixed(*weights):
    """An allocator that always wants the same."""
    return lambda window, previous: Allocation(pd.Series(weights, index=window.columns))


def test_each_method_keeps_its_bounds():
    window = PRICES.pct_change().iloc[1:LOOKBACK]
    previous = pd.Series(0.2, index=PRICES.columns)
    for name in asset_walks.METHODS:
        weights = METHODS[name](window, previous).weights
        assert weights.max() <= 0.5 + 1e-6, name
        assert (weights - previous).abs().sum() <= 0.4 + 1e-6, name
        assert name == "kelly" or weights.sum() == pytest.approx(1), name
    assert METHODS["kelly"](window, previous).weights.sum() <= 1 + 1e-6


def test_the_fallback_has_no_limit_on_turnover():
    window = PRICES.pct_change().iloc[1:LOOKBACK]
    previous = pd.Series([0.5, 0.5, 0.0, 0.0, 0.0], index=PRICES.columns)
    np.testing.assert_allclose(METHODS["fallback"](window, previous).weights, 0.2)


def test_walks_side_by_side_are_those_one_by_one(walks):
    alone = rebalance(
        PRICES, METHODS["minimum_variance"], EveryBars(20), lookback_bars=LOOKBACK
    )  # fmt: skip
    pd.testing.assert_frame_equal(walks["minimum_variance"].held, alone.held)


def test_returns_start_after_all_have_traded():
    late = asset_walks.Plan(PRICES.iloc[20:], METHODS["equal_weight"], EveryBars(20))
    walks = asset_walks.walk_plans({"early": plan("equal_weight"), "late": late}, LOOKBACK)
    returns = asset_walks.cut_returns({"early": walks["early"]}, COSTS)
    assert returns.index[0] == PRICES.index[LOOKBACK + 2]
    # the first trade of `late` is at bar 81
    assert asset_walks.cut_returns(walks, COSTS).dropna().index[0] == PRICES.index[82]


def test_a_walk_that_never_trades_is_named():
    idle = rebalance(PRICES, METHODS["equal_weight"], EveryBars(20), lookback_bars=160)
    with pytest.raises(ValueError, match="idle never traded"):
        asset_walks.cut_returns({"idle": idle}, COSTS)


def test_measures_in_closed_form(walks):
    found = asset_walks.compare_walks(walks, COSTS, benchmark="equal_weight", **SURE)
    walk, row = walks["minimum_variance"], found["minimum_variance"]
    made = net_returns(walk, COSTS).iloc[LOOKBACK + 2 :]
    per_year = 365.25
    assert row["annual_return"]["value"] == pytest.approx(
        measures.annual_return(made, per_year), rel=1e-9
    )
    assert row["volatility"] == pytest.approx(made.std() * per_year**0.5, rel=1e-9)
    assert row["turnover_per_year"] == pytest.approx(
        walk.turnover.iloc[LOOKBACK + 2 :].mean() * per_year
    )
    assert row["n_decisions"] == 5 + 1
    equal = found["equal_weight"]
    assert equal["beta"] == pytest.approx(1)
    assert equal["tracking_error"] == pytest.approx(0, abs=1e-12)
    assert equal["excess_sharpe"]["value"] == equal["excess_sharpe"]["low"] == 0
    assert equal["herfindahl"] == pytest.approx(0.2, rel=0.02)  # weights drift in between


def test_dearer_trades_earn_less(walks):
    cheap, dear = (
        asset_walks.compare_walks(
            walks, COSTS._replace(fee_bps=fee), benchmark="equal_weight", **SURE
        )
        for fee in (0, 20)
    )
    for name in walks:
        assert dear[name]["annual_return"]["value"] < cheap[name]["annual_return"]["value"]


def test_a_reader_sees_intervals_but_none_of_the_benchmark_against_itself(walks):
    found = asset_walks.compare_walks(walks, COSTS, benchmark="equal_weight", **SURE)
    table = asset_walks.walks_frame(found, "equal_weight")
    assert table.loc["equal weight", "less equal weight"] == "-"
    assert table.loc["minimum variance", "Sharpe ratio"].count(",") == 1
    entry = {"value": 0.5, "low": -0.25, "high": 1.0}
    assert asset_walks.interval(entry, "+.2f") == "+0.50 [-0.25, +1.00]"
    assert asset_walks.interval(dict.fromkeys(entry), "+.2f") == "-"


def test_events_are_counted_by_walk_and_reason():
    def fails(window, previous):
        return equal_weight(window, Constraints(upper=0.1))  # five of these make .5

    walk = rebalance(
        PRICES, fails, EveryBars(20), lookback_bars=LOOKBACK, fallback=METHODS["fallback"]
    )
    (row,) = asset_walks.events_frame({"bad": walk}).to_dict("records")
    reason = "InfeasibleConstraintsError"
    assert row == {"walk": "bad", "kind": "fallback", "reason": reason, "times": 6}


def test_targets_are_written_one_row_an_asset(walks):
    table = asset_walks.weights_table(walks, "every 20 bars")
    assert list(table) == WEIGHTS.names
    assert len(table) == sum(walk.targets.size for walk in walks.values())
    sums = table.groupby(["strategy", "ts"])["weight"].sum()
    np.testing.assert_allclose(sums, 1, atol=1e-6)
    first = walks["minimum_variance"].targets.iloc[0]
    part = table[(table["strategy"] == "minimum_variance") & (table["ts"] == first.name)]
    assert part.set_index("symbol")["weight"].to_dict() == first.to_dict()


def test_sectors_sum_their_stocks():
    held = pd.DataFrame([[0.1, 0.2, 0.3]], columns=["A", "B", "C"])
    grouped = asset_walks.group_weights(held, {"A": "x", "B": "y", "C": "x"})
    assert grouped.to_dict("records") == [{"x": pytest.approx(0.4), "y": 0.2}]


def test_clipped_weights_are_another_walk_s_within_the_limits():
    bold = rebalance(PRICES, fixed(0.6, 0.4, 0.0, 0.0, 0.0), EveryBars(20), lookback_bars=LOOKBACK)
    limits = RiskLimits(max_position=0.5, max_sector=0.8, max_leverage=1.0)
    sectors = np.array([0, 0, -1, -1, -1])
    allocator = asset_walks.bind_clipped(bold.targets, sectors, limits)
    walk = rebalance(PRICES, allocator, EveryBars(20), lookback_bars=LOOKBACK)
    assert len(walk.targets) == len(bold.targets)
    np.testing.assert_allclose(walk.targets, [[0.5, 0.3, 0, 0, 0]] * len(bold.targets))


def forecasts(mean=0.002):
    names = list(PRICES.columns[:2])
    index = pd.MultiIndex.from_product([names, PRICES.index], names=["symbol", "ts"])
    table = pd.DataFrame({"next_return_mean": mean, "next_return_sd": 0.01}, index=index)
    return table.reset_index()


def test_views_are_those_of_the_bar_of_the_decision():
    table = forecasts()
    window = PRICES.pct_change().iloc[1:LOOKBACK]
    allocator = asset_walks.bind_views(table, Constraints(), 0.5)
    expected = black_litterman(window, take_views(table, window.index[-1], 0.5))
    pd.testing.assert_series_equal(allocator(window, None).weights, expected.weights)


def test_later_and_earlier_forecasts_change_no_weight():
    table = forecasts()
    window = PRICES.pct_change().iloc[1:LOOKBACK]
    before = asset_walks.bind_views(table, Constraints(), 1.0)(window, None).weights
    other = table["ts"] != window.index[-1]
    table.loc[other, "next_return_mean"] = np.random.default_rng(0).normal(size=other.sum())
    after = asset_walks.bind_views(table, Constraints(), 1.0)(window, None).weights
    np.testing.assert_array_equal(before, after)
    table.loc[~other, "next_return_mean"] *= -1
    changed = asset_walks.bind_views(table, Constraints(), 1.0)(window, None).weights
    assert not np.allclose(before, changed, atol=1e-4)


def test_views_that_know_which_does_better_are_found():
    closes = PRICES.iloc[:, :2]
    ahead = np.log(closes).diff().shift(-1)
    table = forecasts().drop(columns="next_return_mean").set_index(["symbol", "ts"])
    table["next_return_mean"] = (
        ahead.melt(ignore_index=False, var_name="symbol")
        .reset_index(names="ts")
        .set_index(["symbol", "ts"])["value"]
    )
    known = table.reset_index().dropna()
    assert asset_walks.judge_ranking(known, closes, **SURE).value == pytest.approx(1)
    known["next_return_mean"] += known["ts"].dt.day  # common to both: no view on which is better
    assert asset_walks.judge_ranking(known, closes, **SURE).value == pytest.approx(1)
    known["next_return_mean"] *= -1
    assert asset_walks.judge_ranking(known, closes, **SURE).high < -0.9


def test_one_symbol_has_no_ranking():
    table = forecasts().query("symbol == 'ASSET-00/USD'")
    assert np.isnan(asset_walks.judge_ranking(table, PRICES.iloc[:, :1], **SURE).value)
