"""Figures of captured play show the numbers they are given."""

import numpy as np
import pandas as pd
import pytest

from hftlib import sessionplots
from hftlib.plots import colour_of


def named(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def test_answers_are_shown_in_their_standard_errors():
    answers = pd.DataFrame(
        {"theory": [1.0, 0.0], "value": [1.2, -0.3], "standard_error": [0.1, 0.1]},
        index=["a", "b"],
    )
    points = sessionplots.answers_figure(answers).data[0]
    np.testing.assert_allclose(points.x, [2.0, -3.0])
    assert list(points.y) == ["a", "b"]
    np.testing.assert_array_equal(points.error_x.array, [1.0, 1.0])


def test_the_hazard_has_three_standard_errors_beside_the_flat_law():
    ages = pd.DataFrame(
        {"age": [10.0, 60.0], "hazard": [0.004, 0.006], "standard_error": [0.001, 0.002]}
    )
    points, law = sessionplots.hazard_figure(ages, 0.005).data
    np.testing.assert_allclose(points.error_y.array, [0.003, 0.006])
    assert list(law.y) == [0.005, 0.005]
    assert list(law.x) == [0, 60]


def test_presses_lie_on_the_price_of_their_tick_and_equity_holds_the_position():
    ticks = pd.DataFrame(
        {
            "tick": [0.0, 1.0, 2.0],
            "price": [1.0, 1.5, 3.0],
            "position_qty": [0.0, 2.0, 2.0],
            "balance": [5.0, 3.0, 3.0],
        }
    )
    presses = pd.DataFrame({"tick": [1, 2], "button_id": ["BUY", "SELL"]})
    figure = sessionplots.episode_figure(ticks, presses)
    assert list(named(figure, "BUY").y) == [1.5]
    assert list(named(figure, "SELL").y) == [3.0]
    assert list(named(figure, "cash").y) == [5.0, 3.0, 3.0]
    assert list(named(figure, "equity").y) == [5.0, 6.0, 9.0]


def test_an_interval_far_below_guessing_is_within_the_picture():
    scores = pd.DataFrame(
        {"value": [0.9, 0.3], "low": [0.8, 0.1], "high": [0.95, 0.6]}, index=["by row", "by game"]
    )
    figure = sessionplots.leakage_figure(scores)
    assert figure.layout.xaxis.range[0] < 0.1
    points = figure.data[1]
    assert points.error_x.array[0] == pytest.approx(0.3)
    assert points.error_x.arrayminus[0] == pytest.approx(0.2)


def test_values_keep_their_order_and_the_ends_of_their_intervals():
    values = pd.DataFrame(
        {"value": [-1.0, 0.5], "low": [-3.0, 0.0], "high": [0.0, 0.6]},
        index=["do_nothing", "bc_greedy"],
    )
    figure = sessionplots.values_figure(values)
    assert [trace.y[0] for trace in figure.data] == ["do nothing", "bc greedy"]
    ends = [(t.x[0] - t.error_x.arrayminus[0], t.x[0] + t.error_x.array[0]) for t in figure.data]
    np.testing.assert_allclose(ends, [(-3.0, 0.0), (0.0, 0.6)])


def test_a_greedy_policy_has_its_learners_colour_and_fixed_strategies_share_one():
    names = ["bc", "iql", "bc_greedy", "iql_greedy", "do_nothing", "random", "hold_40_ticks"]
    values = pd.DataFrame(0.0, index=names, columns=["value", "low", "high"])
    markers = [trace.marker for trace in sessionplots.values_figure(values).data]
    colours = [marker.color for marker in markers]
    assert colours[:4] == [colour_of("bc"), colour_of("iql")] * 2
    assert len(set(colours[4:])) == 1 and colours[4] not in colours[:4]
    assert [marker.symbol == "circle-open" for marker in markers] == ["greedy" in n for n in names]


def test_each_learner_has_a_panel_with_every_seed_and_their_range():
    curves = pd.DataFrame(
        [
            (algo, seed, step, seed + step)
            for algo in ("bc", "cql")
            for seed in (0, 1)
            for step in (5, 10)
        ],
        columns=["algo", "seed", "step", "value"],
    )
    figure = sessionplots.curves_figure(curves, "loss", "updates")
    assert [note.text for note in figure.layout.annotations] == ["BC", "CQL"]
    first = [trace for trace in figure.data if trace.xaxis == "x"]
    assert [list(trace.y) for trace in first] == [[5, 10], [6, 11], [5, 10], [6, 11]]
