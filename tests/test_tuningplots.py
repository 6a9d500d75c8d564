import numpy as np
import pandas as pd
import pytest

from hftlib import tuningplots
from hftlib.plots import MAX_POINTS

TITLES = {"rate": "learning rate", "hidden": "hidden layers, units", "centred": "centred"}


def trials(n=12):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"slot": range(n), "rate": 10.0 ** rng.uniform(-5, -1, n)})
    frame["hidden"] = rng.choice(["(64, 64)", "(32,)"], n)
    frame["centred"] = rng.choice([True, False], n)
    frame["state"] = np.where(frame["slot"] % 3 == 0, "pruned", "complete")
    frame["value"] = np.where(frame["state"] == "complete", rng.normal(size=n), np.nan)
    return frame


def importances():
    return pd.DataFrame(
        {
            "parameter": ["learning_rate", "hidden"],
            "importance": [0.7, 0.3],
            "low": [0.4, 0.1],
            "high": [0.9, 0.25],
        }
    )


def test_importance_is_in_percent_with_its_interval_and_the_first_on_top():
    figure = tuningplots.importance_figure(importances())
    (points,) = figure.data
    assert list(points.y) == ["learning rate", "hidden"]
    np.testing.assert_allclose(points.x, [70, 30])
    np.testing.assert_allclose(points.error_x.arrayminus, [30, 20])
    np.testing.assert_allclose(points.error_x.array, [20, 0], atol=1e-9)  # never negative
    assert figure.layout.yaxis.autorange == "reversed"


def test_each_parameter_has_a_panel_with_every_trial_in_it():
    table = trials()
    figure = tuningplots.slice_figure(table, TITLES, "Sharpe ratio", log=["rate"])
    assert len(figure.data) == 2 * len(TITLES)
    done, rest = table[table["state"] == "complete"], table[table["state"] == "pruned"]
    dots, ticks = figure.data[:2]
    np.testing.assert_allclose(dots.x, done["rate"])
    np.testing.assert_allclose(dots.y, done["value"])
    np.testing.assert_allclose(ticks.x, rest["rate"])
    assert max(ticks.y) < done["value"].min()
    assert sum(trace.showlegend for trace in figure.data) == 2


def test_axes_fit_their_parameters():
    figure = tuningplots.slice_figure(trials(), TITLES, "Sharpe ratio", log=["rate"])
    layout = figure.layout
    assert [layout[f"xaxis{k}"].type for k in ("", 2, 3)] == ["log", "category", "category"]
    assert layout.xaxis2.title.text == "hidden layers<br>units"
    assert layout.yaxis.title.text == "Sharpe ratio"


@pytest.mark.parametrize("name", list(TITLES))
def test_the_best_is_marked_in_each_panel(name):
    table = trials()
    best = {"rate": 1e-3, "hidden": (32,), "centred": True}
    figure = tuningplots.slice_figure(table, {name: name}, "value", best=best)
    (line,) = figure.layout.shapes
    assert line.x0 == line.x1 == (1e-3 if name == "rate" else str(best[name]))
    assert figure.data[-1].name == "best"


def test_without_a_pruned_trial_none_is_in_the_legend():
    table = trials().query("state == 'complete'")
    figure = tuningplots.slice_figure(table, TITLES, "value")
    assert sum(trace.showlegend for trace in figure.data) == 1


def test_many_parameters_go_on_rows_of_three():
    table = trials().assign(a=1.0, b=2)
    figure = tuningplots.slice_figure(table, TITLES | {"a": "a", "b": "b"}, "value")
    assert figure.layout.yaxis4.title.text == "value"
    assert figure.layout.height > tuningplots.slice_figure(table, TITLES, "value").layout.height


def test_no_trace_is_too_long():
    figure = tuningplots.slice_figure(trials(20_000), TITLES, "value")
    assert max(len(trace.x) for trace in figure.data) <= MAX_POINTS
