import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from hftlib import marketplots
from hftlib.plots import MAX_POINTS

RNG = np.random.default_rng(0)


def curves(n_steps, n_seeds, strategies=("mappo", "maddpg")):
    steps = np.arange(n_steps) * 100
    return pd.concat(
        pd.DataFrame(
            {"strategy": s, "seed": k, "step": steps, "value": k + RNG.normal(size=n_steps)}
        )
        for s in strategies
        for k in range(n_seeds)
    )


def named(figure, name):
    return [trace for trace in figure.data if trace.name == name and trace.showlegend is not False]


def filled(figure):
    return [trace for trace in figure.data if trace.fill == "tonexty"]


def test_curves_show_the_mean_over_seeds_within_their_range():
    table = curves(20, 4, ["mappo"])
    figure = marketplots.training_figure(table, "profit", references={"twap": 2.0})
    by_step = table.groupby("step")["value"]
    (mean,) = named(figure, "mappo")
    np.testing.assert_allclose(mean.y, by_step.mean())
    (high,) = filled(figure)
    np.testing.assert_allclose(high.y, by_step.max())
    np.testing.assert_allclose(figure.data[0].y, by_step.min())
    (flat,) = named(figure, "twap")
    assert flat.line.dash == "dash"
    assert list(flat.y) == [2.0, 2.0]


def test_a_band_of_95_percent_is_students():
    values = np.array([1.0, 2.0, 4.0])
    table = pd.DataFrame({"strategy": "mappo", "seed": range(3), "step": 0, "value": values})
    figure = marketplots.training_figure(table, "profit", spread="95 %")
    half = 4.302653 * values.std(ddof=1) / 3**0.5  # t, two degrees of freedom
    assert filled(figure)[0].y[0] == pytest.approx(values.mean() + half, rel=1e-6)
    assert "95 %" in figure.layout.xaxis.title.text
    assert "3 seeds" in figure.layout.xaxis.title.text


def test_one_seed_has_no_band():
    assert not filled(marketplots.training_figure(curves(5, 1), "profit"))


def test_no_trace_is_too_long():
    n = 20_000
    path = pd.DataFrame({"time_s": range(n), "mid": 1.0, "inventory": 2, "profit": 3.0})
    for figure in (
        marketplots.training_figure(curves(n, 2), "profit"),
        marketplots.episode_figure({"mappo": path}),
    ):
        assert max(len(trace.x) for trace in figure.data) <= MAX_POINTS


def test_strategies_keep_their_colours_and_others_differ():
    assert marketplots.colours_of(["maddpg", "mappo"])["mappo"] == marketplots.BLUE
    colours = marketplots.colours_of(["mappo", "a", "b", "c", "twap"])
    assert len(set(colours.values())) == 5
    assert colours["twap"] == marketplots.STRATEGIES["twap"]


def test_bids_are_below_the_mid_and_sides_never_quoted_are_left_out():
    curve = pd.DataFrame({"inventory": [-10, 0, 10]})
    for side, nan_at in (("bid", 2), ("ask", None)):
        offset = np.array([1.0, 2.0, 3.0])
        if nan_at is not None:
            offset[nan_at] = np.nan
        for name, shift in (("offset", 0), ("low", -0.5), ("high", 0.5)):
            curve[f"{side}_{name}"] = offset + shift
    figure = marketplots.quotes_figure({"avellaneda_stoikov": curve})
    (bid,) = named(figure, "avellaneda stoikov, bid")
    (ask,) = named(figure, "avellaneda stoikov, ask")
    np.testing.assert_array_equal(bid.y, [-1, -2])
    np.testing.assert_array_equal(ask.y, [1, 2, 3])


def comparison(measures):
    rows = [
        (strategy, measure, value, value - 1, value + 2)
        for strategy in ("mappo", "twap")
        for measure, value in measures.items()
    ]
    return pd.DataFrame(rows, columns=["strategy", "measure", "value", "low", "high"])


def test_costs_point_down_with_their_intervals_mirrored():
    parts = {"profit": 5.0, "fees": 1.5, "closing_cost": 0.5, "inventory_profit": 3.0}
    figure = marketplots.decomposition_figure(comparison({**parts, "spread_captured": 4.0}))
    bar = figure.data[0]
    assert list(bar.x) == ["spread captured", "inventory", "fees", "forced closing", "profit"]
    assert list(bar.y) == [4.0, 3.0, -1.5, -0.5, 5.0]
    assert sum(bar.y[:4]) == bar.y[4]
    np.testing.assert_array_equal(bar.error_y.array, [2, 2, 1, 1, 2])
    np.testing.assert_array_equal(bar.error_y.arrayminus, [1, 1, 2, 2, 1])


def test_cross_play_prints_each_number_in_its_cell():
    matrix = pd.DataFrame(
        [
            ("b", "b", "maker", 1.0, 0.0, 2.0),
            ("b", "a", "maker", 2.0, 1.0, 3.0),
            ("a", "b", "maker", -30.0, -40.0, -20.0),
            ("a", "a", "maker", 4.0, 3.0, 5.0),
            ("b", "b", "executor", 99.0, 99.0, 99.0),
        ],
        columns=["makers", "others", "role", "value", "low", "high"],
    )
    figure = marketplots.crossplay_figure(matrix, "maker")
    heat = figure.data[0]
    np.testing.assert_array_equal(heat.z, [[1, 2], [-30, 4]])
    assert list(heat.y) == list(heat.x) == ["b", "a"]
    assert heat.text[1][0] == "<b>-30.0</b><br>-40.0 … -20.0"
    assert heat.zmax == -heat.zmin == 30
    assert len(figure.layout.shapes) == 2


def test_published_values_stand_beside_ours():
    table = comparison({"profit": 65.0, "spread": 1.5})
    table["published"] = [65.0, np.nan, 68.0, np.nan]
    figure = marketplots.estimates_figure(table, {"profit": "profit, currency", "spread": "ticks"})
    published = [trace for trace in figure.data if trace.name == "published"]
    assert [list(trace.x) for trace in published] == [[65.0, 68.0], []]
    assert sum(trace.showlegend for trace in published) == 1
    ours = [trace for trace in figure.data if trace.name != "published"]
    assert len(ours) == 4
    assert ours[0].error_x.array[0] == 2.0
    assert figure.layout.xaxis.title.text == "profit<br>currency"
    bare = marketplots.estimates_figure(table.drop(columns="published"), {"profit": "x"})
    assert len(bare.data) == 2


def test_every_figure_names_its_axes():
    matrix = pd.DataFrame(
        [("a", "a", "maker", 1.0, 0.0, 2.0)],
        columns=["makers", "others", "role", "value", "low", "high"],
    )
    path = pd.DataFrame({"time_s": [0, 1], "mid": 1.0, "inventory": 2, "profit": 3.0})
    figures = [
        marketplots.training_figure(curves(3, 2), "profit, currency"),
        marketplots.episode_figure({"mappo": path}),
        marketplots.crossplay_figure(matrix, "maker"),
    ]
    for figure in figures:
        assert isinstance(figure, go.Figure)
        layout = figure.layout.to_plotly_json()
        titles = [v.get("title") for k, v in layout.items() if k.startswith("yaxis")]
        assert all(title and title["text"] for title in titles)
        assert any(v.get("title") for k, v in layout.items() if k.startswith("xaxis"))
