"""Figures of folds: where they train and test, the accounts over them, paths through one span."""

from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from hftlib.plots import colour_of, thin

MUTED = "#5b6876"


def fold_figure(spans: pd.DataFrame) -> go.Figure:
    """Training and test spans of every fold as bars in time, one panel a scheme.

    Parameters
    ----------
    spans : frame with columns scheme, fold, span (training or test), first, last
    """
    schemes = list(spans["scheme"].unique())
    figure = make_subplots(1, len(schemes), shared_yaxes=True, subplot_titles=schemes)
    for column, scheme in enumerate(schemes, start=1):
        for name in ("training", "test"):
            part = spans[(spans["scheme"] == scheme) & (spans["span"] == name)]
            for k, row in enumerate(part.itertuples()):
                figure.add_scatter(
                    x=[row.first, row.last],
                    y=[f"fold {row.fold}"] * 2,
                    mode="lines",
                    line={"color": colour_of("train" if name == "training" else name), "width": 14},
                    name=name,
                    legendgroup=name,
                    showlegend=column == 1 and k == 0,
                    row=1,
                    col=column,
                )
    figure.update_xaxes(title="time, UTC")
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(height=190 + 34 * spans["fold"].nunique(), legend={"y": 1.18})
    return figure


def account_figure(
    equity: pd.DataFrame, schemes: Sequence[str], changes: Sequence[pd.Timestamp]
) -> go.Figure:
    """Equity by strategy, one panel a scheme, dotted lines where the next fold takes over.

    Parameters
    ----------
    equity : frame as `schema.WALK_FORWARD`
        Strategies of the scheme "none" are in every panel.
    """
    figure = make_subplots(1, len(schemes), shared_yaxes=True, subplot_titles=list(schemes))
    named: set[str] = set()
    for column, scheme in enumerate(schemes, start=1):
        place = {"row": 1, "col": column}
        shown = equity[equity["scheme"].isin([scheme, "none"])]
        for strategy, part in shown.groupby("strategy", sort=False):
            curve, name = thin(part), str(strategy)
            figure.add_scatter(
                x=curve["ts"],
                y=curve["equity"],
                name=name.replace("_", " "),
                line={"color": colour_of(name), "width": 2},
                legendgroup=name,
                showlegend=name not in named,
                **place,
            )
            named.add(name)
        for change in changes:
            figure.add_vline(x=change, line={"color": MUTED, "dash": "dot", "width": 1}, **place)
    figure.update_xaxes(title="time, UTC")
    figure.update_yaxes(title="equity, multiple of the start", col=1)
    figure.update_layout(legend={"y": 1.1}, height=460)
    return figure


def path_figure(curves: pd.DataFrame, ratios: Mapping[str, float]) -> go.Figure:
    """Equity of several paths through one span, thin, beside what is named.

    Parameters
    ----------
    curves : frame with index of times
        Columns of `ratios` have a line of their own, the others are paths.
    ratios : mapping of column to its Sharpe ratio, for the legend
    """
    figure = go.Figure()
    table = thin(curves)
    paths = [name for name in table if name not in ratios]
    for k, name in enumerate(paths):
        figure.add_scatter(
            x=table.index,
            y=table[name],
            name=f"{len(paths)} combinatorial paths",
            line={"color": "#999999", "width": 1.2},
            showlegend=k == 0,
        )
    for name, ratio in ratios.items():
        figure.add_scatter(
            x=table.index,
            y=table[name],
            name=f"{name.replace('_', ' ')}, {ratio:.2f}",
            line={"color": colour_of(name), "width": 2.5},
        )
    figure.update_xaxes(title="time, UTC")
    figure.update_yaxes(title="equity, multiple of the start")
    return figure
