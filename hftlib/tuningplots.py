"""Figures of a hyper-parameter search: which parameters matter, and where good values lie.

The style and the budget of points are those of `plots`.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from hftlib.plots import CYCLE, thin

BLUE, VERMILION = CYCLE[:2]
MUTED = "#5b6876"
N_COLUMNS = 3


def importance_figure(table: pd.DataFrame) -> go.Figure:
    """Importance of each parameter with its interval, the most important on top.

    Parameters
    ----------
    table : frame as `agents.trials.rank_parameters` gives it
    """
    figure = go.Figure(
        go.Scatter(
            x=100 * table["importance"],
            y=table["parameter"].map(_label),
            mode="markers",
            marker={"size": 10, "color": BLUE},
            error_x={
                "array": 100 * (table["high"] - table["importance"]).clip(lower=0),
                "arrayminus": 100 * (table["importance"] - table["low"]).clip(lower=0),
                "symmetric": False,
                "thickness": 1.3,
            },
            showlegend=False,
        )
    )
    figure.update_xaxes(
        title="share of the variance explained, % (bar: trials drawn anew)", range=[-2, 102]
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(height=130 + 40 * len(table), margin={"l": 150})
    return figure


def slice_figure(
    trials: pd.DataFrame,
    titles: Mapping[str, str],
    value_title: str,
    *,
    log: Collection[str] = (),
    best: Mapping[str, object] | None = None,
) -> go.Figure:
    """The value of each trial against each parameter, one panel a parameter.

    Parameters
    ----------
    trials : frame as `agents.trials.tabulate_trials` gives it
        Complete trials are dots, dark the later ones. Trials without a value, pruned or diverged,
        are ticks at the foot of the panel.
    titles : mapping of parameter to title of its axis, with the unit
        The panels, in this order.
    value_title : str
        Of the y axes, with the unit.
    log : names of parameters
        Those with a logarithmic axis.
    best : mapping of parameter to value, optional
        Marked by a vertical line.
    """
    complete = thin(trials[trials["state"] == "complete"])
    others = thin(trials[trials["state"] != "complete"])
    n_rows = -(-len(titles) // N_COLUMNS)
    figure = make_subplots(
        n_rows, min(len(titles), N_COLUMNS), shared_yaxes=True, vertical_spacing=0.5 / (n_rows + 1)
    )
    low, high = complete["value"].min(), complete["value"].max()
    room = 0.08 * (high - low) if high > low else 1.0
    for number, (name, title) in enumerate(titles.items()):
        place = {"row": number // N_COLUMNS + 1, "col": number % N_COLUMNS + 1}
        _add_slice(figure, complete, others, name, low - room, is_first=number == 0, **place)
        if best is not None:
            at = str(best[name]) if _is_text(trials[name]) else best[name]
            figure.add_vline(x=at, line={"color": VERMILION, "dash": "dot"}, **place)
        figure.update_xaxes(title=title.replace(", ", "<br>", 1), **place)
        if _is_text(trials[name]):
            order = sorted(trials[name].astype(str).unique())
            ends = [-0.5, len(order) - 0.5]
            figure.update_xaxes(type="category", categoryarray=order, range=ends, **place)
        elif name in log:
            figure.update_xaxes(type="log", dtick=1, exponentformat="power", **place)
    if best is not None:  # a shape has no entry in the legend
        line = {"color": VERMILION, "dash": "dot"}
        figure.add_scatter(x=[None], y=[None], mode="lines", line=line, name="best")
    figure.update_yaxes(title=value_title, col=1)
    figure.update_layout(height=110 + 270 * n_rows, margin={"b": 80})
    return figure


def _add_slice(
    figure: go.Figure,
    complete: pd.DataFrame,
    others: pd.DataFrame,
    name: str,
    foot: float,
    *,
    is_first: bool,
    row: int,
    col: int,
) -> None:
    figure.add_scatter(
        x=_axis(complete[name]),
        y=complete["value"],
        mode="markers",
        name="complete (dark: late)",
        legendgroup="complete",
        marker={
            "size": 8,
            "color": complete["slot"],
            "colorscale": [[0, "#9cc9e6"], [1, "#00304d"]],
            "line": {"width": 0.5, "color": "white"},
        },
        showlegend=is_first,
        row=row,
        col=col,
    )
    figure.add_scatter(
        x=_axis(others[name]),
        y=np.full(len(others), foot),
        mode="markers",
        name="pruned or diverged",
        legendgroup="other",
        marker={"symbol": "line-ns-open", "size": 9, "color": MUTED, "line": {"width": 1.2}},
        showlegend=is_first and len(others) > 0,
        row=row,
        col=col,
    )


def _axis(values: pd.Series) -> Sequence[object]:
    return list(values.astype(str)) if _is_text(values) else list(values)


def _is_text(values: pd.Series) -> bool:
    """Whether a column is of names; truth values are."""
    return pd.api.types.is_bool_dtype(values) or not pd.api.types.is_numeric_dtype(values)


def _label(name: str) -> str:
    return name.replace("_", " ")
