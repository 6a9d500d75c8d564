"""Figures of forecasts show the numbers that they are given, within the budget of points."""

import numpy as np
import pandas as pd

from hftlib import forecastplots
from hftlib.plots import MAX_POINTS

RNG = np.random.default_rng(0)
DAYS = pd.Series(pd.date_range("1999-01-04", periods=9_000, freq="D", tz="UTC"))


def test_folds_draw_every_span_from_its_first_to_its_last_day():
    spans = ("train", "validation", "test")
    table = pd.DataFrame(
        [(fold, span, fold, fold + 1) for fold in range(3) for span in spans],
        columns=["fold", "span", "first", "last"],
    )
    figure = forecastplots.fold_figure(table)
    assert [trace.name for trace in figure.data] == list(spans)
    assert figure.data[0].x == (0, 1, None, 1, 2, None, 2, 3, None)


def test_learning_curves_start_at_zero_and_name_each_fold_once():
    table = pd.DataFrame(
        [
            (fold, member, step, split, 5 + fold - 0.1 * step)
            for fold in range(2)
            for member in range(3)
            for step in range(4)
            for split in ("train", "validation")
        ],
        columns=["fold", "member", "step", "split", "loss"],
    )
    figure = forecastplots.learning_figure(table)
    assert len(figure.data) == 12
    for trace in figure.data:
        np.testing.assert_allclose(trace.y, [0, -0.1, -0.2, -0.3])
    assert [trace.name for trace in figure.data if trace.showlegend] == ["fold 0", "fold 1"]


def test_rivals_have_a_point_with_an_interval_in_each_symbol_s_panel():
    table = pd.DataFrame(
        [(s, m, "skill", 0.5, 0.4, 0.7) for s in ("A", "B") for m in ("forecaster", "har_x")],
        columns=["symbol", "model", "measure", "value", "low", "high"],
    )
    figure = forecastplots.rivals_figure(table, "skill", "skill")
    assert [trace.y[0] for trace in figure.data] == ["forecaster", "har x"] * 2
    assert figure.data[0].marker.color == forecastplots.OURS != figure.data[1].marker.color
    np.testing.assert_allclose(figure.data[0].error_x.array, [0.2])
    np.testing.assert_allclose(figure.data[0].error_x.arrayminus, [0.1])


def test_intervals_and_outcomes_are_on_the_same_days():
    table = pd.DataFrame({"ts": DAYS[:30], "mean": 0.0, "low": -1.0, "high": 1.0})
    figure = forecastplots.interval_figure(table, np.arange(30.0), "log variance")
    assert {len(trace.x) for trace in figure.data} == {30}
    np.testing.assert_array_equal(figure.data[-1].y, np.arange(30.0))


def test_calibration_stands_beside_the_diagonal_and_symbols_are_named_once():
    shares = {"A": [0.1, 0.9], "B": [0.2, 0.8]}
    figure = forecastplots.calibration_figure({"one": shares, "two": shares}, [0.1, 0.9])
    assert figure.data[0].x == figure.data[0].y == (0, 1)
    assert [t.name for t in figure.data if t.showlegend] == ["calibrated", "A", "B"]


def test_attention_is_averaged_over_weeks_and_keeps_within_the_budget():
    weights = RNG.dirichlet(np.ones(8), len(DAYS))
    figure = forecastplots.attention_figure(DAYS, weights, range(56, -1, -8))
    heat, bar = figure.data
    assert np.asarray(heat.z).size <= MAX_POINTS
    np.testing.assert_allclose(np.asarray(heat.z).sum(axis=0), 1)
    np.testing.assert_allclose(bar.x, weights.mean(axis=0))
    assert list(bar.y) == [str(age) for age in range(56, -1, -8)]
