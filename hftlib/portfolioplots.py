"""Figures of many assets: weights over time, returns with their forecast tail, risk by asset.

The style and the budget of points are those of `plots`.
"""

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from hftlib.plots import CYCLE, colour_of, thin

BLUE, VERMILION = CYCLE[:2]
MUTED = "#5b6876"
AREA_POINTS = 500  # a trace of a stacked area


def weights_figure(held: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Stacked weights over time, one panel a strategy.

    Parameters
    ----------
    held : mapping of strategy to frame of shape (n_bars, n_groups), index ts
        Shares of equity, from 0; the same groups in all. What is left to 1 is cash.
    """
    titles = [name.replace("_", " ") for name in held]
    figure = make_subplots(
        len(held), 1, shared_xaxes=True, subplot_titles=titles, vertical_spacing=0.08
    )
    for row, table in enumerate(held.values(), start=1):
        for k, (group, values) in enumerate(thin(table, AREA_POINTS).items()):
            figure.add_scatter(
                x=values.index,
                y=100 * values,
                name=str(group),
                legendgroup=str(group),
                showlegend=row == 1,
                mode="lines",
                line={"width": 0, "color": CYCLE[k % len(CYCLE)]},
                stackgroup=f"panel {row}",
                row=row,
                col=1,
            )
        figure.update_yaxes(title="weight, %", range=[0, 100], row=row, col=1)
    figure.update_xaxes(title="time, UTC", row=len(held), col=1)
    figure.update_layout(
        height=140 + 200 * len(held),
        margin={"t": 90},
        legend={"y": 1.06 if len(held) > 1 else 1.12},
    )
    return figure


def tail_figure(risk: pd.DataFrame) -> go.Figure:
    """Returns of one series with the forecast value at risk of one model, beyond it marked.

    Parameters
    ----------
    risk : frame as `schema.RISK`
        One series and one model, one or more levels; the exceptions are those of the highest.
    """
    levels = sorted(risk["level"].unique())
    known = risk[risk["value_at_risk"].notna()]
    top = known[known["level"] == levels[-1]]
    shown = thin(top)
    figure = go.Figure(
        go.Scatter(
            x=shown["ts"],
            y=100 * shown["return"],
            mode="markers",
            marker={"size": 3, "color": "#999999"},
            name="return",
        )
    )
    for level, colour in zip(levels, ("#56B4E9", BLUE, "#000000"), strict=False):
        part = thin(known[known["level"] == level])
        line = {"width": 1.2, "color": colour}
        figure.add_scatter(
            x=part["ts"],
            y=-100 * part["value_at_risk"],
            mode="lines",
            line=line,
            name=f"forecast {level:.0%} bound",
        )
    beyond = top[top["return"] < -top["value_at_risk"]]
    figure.add_scatter(
        x=beyond["ts"],
        y=100 * beyond["return"],
        mode="markers",
        marker={"size": 6, "color": VERMILION, "symbol": "x-thin", "line": {"width": 1.5}},
        marker_line_color=VERMILION,
        name=f"beyond {levels[-1]:.0%}",
    )
    figure.update_yaxes(title="return of a day, %")
    figure.update_xaxes(title="time, UTC")
    return figure


def contributions_figure(tables: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Weight beside the share of the risk of every asset, one panel a strategy.

    Parameters
    ----------
    tables : mapping of strategy to frame as `risk_measures.normal_contributions`
        The same assets in all; they are put in the order of the first one's shares.
    """
    titles = [name.replace("_", " ") for name in tables]
    order = next(iter(tables.values()))["share"].sort_values().index
    figure = make_subplots(
        1, len(tables), shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.03
    )
    for column, table in enumerate(tables.values(), start=1):
        for key, colour, name in (
            ("weight", "#999999", "weight"),
            ("share", VERMILION, "share of the value at risk"),
        ):
            figure.add_bar(
                x=100 * table.loc[order, key],
                y=order,
                orientation="h",
                marker={"color": colour},
                name=name,
                legendgroup=name,
                showlegend=column == 1,
                row=1,
                col=column,
            )
    figure.update_xaxes(title="share, %")
    figure.update_layout(
        height=160 + 22 * len(order), legend={"y": 1.06}, margin={"t": 80}, bargap=0.3
    )
    return figure


def stress_figure(shares: pd.DataFrame) -> go.Figure:
    """Profit of each strategy's positions in every scenario, share of equity.

    Parameters
    ----------
    shares : frame of shape (n_scenarios, n_strategies), the first scenario on top
    """
    figure = go.Figure()
    for name, values in shares.items():
        figure.add_scatter(
            x=100 * values,
            y=[str(label) for label in shares.index],
            mode="markers",
            marker={"size": 11, "color": colour_of(str(name)), "opacity": 0.85},
            name=str(name).replace("_", " "),
        )
    figure.add_vline(x=0, line={"color": MUTED, "dash": "dot"})
    figure.update_xaxes(title="profit, % of equity")
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(height=120 + 26 * len(shares), margin={"l": 220})
    return figure
