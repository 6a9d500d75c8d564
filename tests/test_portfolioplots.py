import numpy as np
import pandas as pd

from hftlib import portfolioplots
from hftlib.plots import MAX_POINTS
from tests.asset_cases import days


def weights(n=30):
    values = np.random.default_rng(0).dirichlet([1, 1, 1], n)
    return pd.DataFrame(values, index=days(n), columns=["Energy", "Financials", "Health Care"])


def tails(n=50, levels=(0.95, 0.99)):
    parts = [
        pd.DataFrame(
            {
                "ts": days(n),
                "level": level,
                "return": np.linspace(-0.05, 0.05, n),
                "value_at_risk": np.where(np.arange(n) < 5, np.nan, 0.03 + k / 100),
            }
        )
        for k, level in enumerate(levels)
    ]
    return pd.concat(parts)


def test_each_strategy_has_a_panel_of_weights_in_percent():
    table = weights()
    figure = portfolioplots.weights_figure({"one_way": table, "another": table})
    assert len(figure.data) == 6
    np.testing.assert_allclose(sum(np.array(t.y) for t in figure.data[:3]), 100)
    assert {trace.stackgroup for trace in figure.data} == {"panel 1", "panel 2"}
    assert sum(trace.showlegend for trace in figure.data) == 3
    assert [note.text for note in figure.layout.annotations] == ["one way", "another"]


def test_returns_below_the_highest_bound_are_marked():
    figure = portfolioplots.tail_figure(tails())
    returns, *bounds, beyond = figure.data
    assert len(returns.x) == 45
    assert [set(np.round(b.y, 6)) for b in bounds] == [{-3.0}, {-4.0}]
    # of the forecast bars, the first five apart, one below -4 %: rows 0 to 4 have no forecast
    made = np.linspace(-5, 5, 50)[5:]
    np.testing.assert_allclose(beyond.y, made[made < -4])


def test_a_long_series_keeps_to_the_budget_of_points():
    figure = portfolioplots.tail_figure(tails(20_000))
    assert max(len(trace.x) for trace in figure.data[:3]) <= MAX_POINTS


def test_assets_stand_in_the_order_of_the_first_one_s_risk():
    first = pd.DataFrame({"weight": [0.5, 0.5], "share": [0.9, 0.1]}, index=["A", "B"])
    second = pd.DataFrame({"weight": [0.2, 0.8], "share": [0.3, 0.7]}, index=["A", "B"])
    figure = portfolioplots.contributions_figure({"x": first, "y": second})
    assert [list(trace.y) for trace in figure.data] == [["B", "A"]] * 4
    np.testing.assert_allclose(figure.data[1].x, [10, 90])
    np.testing.assert_allclose(figure.data[2].x, [80, 20])


def test_scenarios_stand_from_the_top_in_percent_of_equity():
    shares = pd.DataFrame({"equal_weight": [-0.1, 0.02], "kelly": [-0.2, 0.0]}, index=["a", "b"])
    figure = portfolioplots.stress_figure(shares)
    assert [trace.name for trace in figure.data] == ["equal weight", "kelly"]
    np.testing.assert_allclose(figure.data[1].x, [-20, 0])
    assert figure.layout.yaxis.autorange == "reversed"
