"""Figures of folds show every span, every account once in the legend, every path."""

import numpy as np
import pandas as pd

from hftlib import foldplots
from hftlib.plots import colour_of

DAYS = pd.date_range("2011-01-03", periods=40, tz="UTC")


def test_every_fold_has_a_bar_for_each_span_and_the_legend_each_kind_once():
    spans = pd.DataFrame(
        [
            (scheme, fold, span, DAYS[0], DAYS[9 * fold])
            for scheme in ("anchored", "rolling")
            for fold in (1, 2)
            for span in ("training", "test")
        ],
        columns=["scheme", "fold", "span", "first", "last"],
    )
    figure = foldplots.fold_figure(spans)
    assert len(figure.data) == 8
    assert [t.name for t in figure.data if t.showlegend] == ["training", "test"]
    assert {t.y[0] for t in figure.data} == {"fold 1", "fold 2"}


def test_yardsticks_are_in_every_panel_and_a_strategy_has_one_colour():
    curve = pd.DataFrame({"ts": DAYS, "equity": np.linspace(1, 2, 40)})
    table = pd.concat(
        [
            curve.assign(strategy=strategy, scheme=scheme)
            for strategy, scheme in (
                ("buy_and_hold", "none"),
                ("ppo", "anchored"),
                ("chosen_rule", "anchored"),
                ("chosen_rule", "rolling"),
                ("sac", "rolling"),
            )
        ]
    )
    figure = foldplots.account_figure(table, ["anchored", "rolling"], [DAYS[20]])
    panels = {axis: [t.name for t in figure.data if t.xaxis == axis] for axis in ("x", "x2")}
    assert panels == {
        "x": ["buy and hold", "ppo", "chosen rule"],
        "x2": ["buy and hold", "chosen rule", "sac"],
    }
    shown = [t.name for t in figure.data if t.showlegend]
    assert shown == ["buy and hold", "ppo", "chosen rule", "sac"]
    assert figure.data[1].line.color == colour_of("ppo")
    assert len(figure.layout.shapes) == 2


def test_paths_are_thin_and_one_entry_in_the_legend():
    curves = pd.DataFrame(1.0, DAYS, ["path 1", "path 2", "walk_forward"])
    figure = foldplots.path_figure(curves, {"walk_forward": 0.5})
    shown = [t.name for t in figure.data if t.showlegend is not False]
    assert shown == ["2 combinatorial paths", "walk forward, 0.50"]
