"""Figures of forecasts: learning, rivals, intervals, calibration and attention.

The style, the colours and the budget of points are those of `plots`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from hftlib.plots import CYCLE, band, thin

ABOVE_TITLES = {"legend": {"y": 1.1}, "margin": {"t": 84}}  # of the panels
OURS, OTHERS, OUTCOME = CYCLE[0], CYCLE[6], "#1d2733"


def fold_figure(folds: pd.DataFrame) -> go.Figure:
    """What each fold learns from, judges by and forecasts.

    Parameters
    ----------
    folds : frame with columns fold, span, first, last
        Spans are train, validation and test; first and last are times.
    """
    colours = {"train": CYCLE[0], "validation": CYCLE[4], "test": CYCLE[2]}
    figure = go.Figure()
    for span, part in folds.groupby("span", sort=False):
        x: list[object] = []
        y: list[object] = []
        for row in part.itertuples():
            x += [row.first, row.last, None]
            y += [f"fold {row.fold}", f"fold {row.fold}", None]
        line = {"width": 14, "color": colours[str(span)]}
        figure.add_scatter(x=x, y=y, mode="lines", line=line, name=span)
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title="time, UTC")
    figure.update_layout(height=120 + 34 * folds["fold"].nunique())
    return figure


def learning_figure(curves: pd.DataFrame) -> go.Figure:
    """Loss of every member less its loss before training, one panel a split, a colour a fold.

    Parameters
    ----------
    curves : frame with columns fold, member, step, split, loss
        `step` counts epochs; at 0 the linear skip forecasts alone.
    """
    splits = list(curves["split"].unique())
    titles = [f"on {split}" for split in splits]
    figure = make_subplots(1, len(splits), shared_yaxes=True, subplot_titles=titles)
    for column, split in enumerate(splits, start=1):
        for (fold, member), part in curves[curves["split"] == split].groupby(["fold", "member"]):
            figure.add_scatter(
                x=part["step"],
                y=part["loss"] - part["loss"].iloc[0],
                mode="lines",
                line={"color": CYCLE[int(fold) % len(CYCLE)], "width": 1.5},
                name=f"fold {fold}",
                legendgroup=str(fold),
                showlegend=column == 1 and member == 0,
                row=1,
                col=column,
            )
    figure.update_xaxes(title="epochs", rangemode="tozero")
    figure.update_yaxes(title="loss less that of the linear skip, nats", col=1)
    figure.update_layout(ABOVE_TITLES)
    return figure


def rivals_figure(scores: pd.DataFrame, measure: str, title: str) -> go.Figure:
    """A measure of every model with its interval, one panel a symbol, ours in colour.

    Parameters
    ----------
    scores : frame with columns symbol, model, measure, value, low, high
    measure : a value of its column measure
    title : of the horizontal axis
    """
    symbols = list(scores["symbol"].unique())
    figure = make_subplots(1, len(symbols), shared_yaxes=True, subplot_titles=symbols)
    for column, symbol in enumerate(symbols, start=1):
        part = scores[(scores["symbol"] == symbol) & (scores["measure"] == measure)]
        for row in part.itertuples():
            colour = OURS if row.model == "forecaster" else OTHERS
            figure.add_scatter(
                x=[row.value],
                y=[row.model.replace("_", " ")],
                mode="markers",
                marker={"size": 10, "color": colour},
                error_x={
                    "array": [row.high - row.value],
                    "arrayminus": [row.value - row.low],
                    "symmetric": False,
                    "thickness": 1.4,
                },
                showlegend=False,
                row=1,
                col=column,
            )
    figure.update_xaxes(title=title)
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(margin={"l": 110}, height=360)
    return figure


def interval_figure(table: pd.DataFrame, outcome: npt.ArrayLike, title: str) -> go.Figure:
    """Outcomes as points over the forecasts' mean and interval.

    Parameters
    ----------
    table : frame with columns ts, mean, low, high
        One symbol, a span of which each day can be seen.
    outcome : array of shape (n_days,)
    """
    figure = go.Figure()
    band(figure, table["ts"], table["low"], table["high"], OURS, "interval")
    line = {"color": OURS, "width": 2}
    figure.add_scatter(x=table["ts"], y=table["mean"], mode="lines", line=line, name="forecast")
    marker = {"color": OUTCOME, "size": 4}
    figure.add_scatter(
        x=table["ts"], y=np.asarray(outcome), mode="markers", marker=marker, name="outcome"
    )
    figure.update_xaxes(title="time of the forecast, UTC")
    figure.update_yaxes(title=title)
    return figure


def calibration_figure(
    curves: Mapping[str, Mapping[str, Sequence[float]]], levels: Sequence[float]
) -> go.Figure:
    """Share of outcomes below each forecast quantile, one panel a target, one line a symbol.

    Parameters
    ----------
    curves : mapping of target to mapping of symbol to shares, as from `calibration_curve`
    levels : the quantiles, in (0, 1)
    """
    titles = list(curves)
    figure = make_subplots(1, len(titles), shared_yaxes=True, subplot_titles=titles)
    for column, by_symbol in enumerate(curves.values(), start=1):
        place = {"row": 1, "col": column}
        dots = {"color": "#5b6876", "dash": "dot"}
        figure.add_scatter(
            x=[0, 1], y=[0, 1], mode="lines", line=dots, name="calibrated",
            showlegend=column == 1, **place,
        )  # fmt: skip
        for number, (symbol, shares) in enumerate(by_symbol.items()):
            figure.add_scatter(
                x=list(levels),
                y=list(shares),
                mode="lines",
                line={"color": CYCLE[number % len(CYCLE)], "width": 2},
                name=symbol,
                showlegend=column == 1,
                **place,
            )
    figure.update_xaxes(title="quantile of the forecast", range=[0, 1])
    figure.update_yaxes(title="share of outcomes below it", range=[0, 1], col=1)
    figure.update_layout(ABOVE_TITLES)
    return figure


def attention_figure(ts: pd.Series, attention: npt.ArrayLike, ages: Sequence[int]) -> go.Figure:
    """Where the forecaster looks: weights of its states through time, and their mean.

    Parameters
    ----------
    ts : series of shape (n_days,)
        Times of the forecasts of one symbol.
    attention : array of shape (n_days, n_states)
        Oldest state first; a row sums to 1.
    ages : sequence of int, length n_states
        Bars between the newest bar that a state has read and the forecast.
    """
    weights = pd.DataFrame(np.asarray(attention), index=pd.DatetimeIndex(ts))
    weekly = thin(weights.resample("7D").mean().dropna(), 5_000 // len(ages))
    names = [str(age) for age in ages]
    figure = make_subplots(
        1, 2, column_widths=[0.75, 0.25], shared_yaxes=True, horizontal_spacing=0.16
    )
    figure.add_heatmap(
        x=weekly.index,
        y=names,
        z=weekly.to_numpy().T,
        colorscale="Blues",
        colorbar={"title": "weight", "x": 0.665},
        row=1,
        col=1,
    )
    marker = {"color": OURS}
    mean = weights.mean().to_numpy()
    figure.add_bar(x=mean, y=names, orientation="h", marker=marker, showlegend=False, row=1, col=2)
    figure.add_vline(x=1 / len(ages), line={"color": "#5b6876", "dash": "dot"}, row=1, col=2)
    figure.update_yaxes(title="age of the state, bars", type="category", col=1)
    figure.update_xaxes(title="time, UTC, weekly means", col=1)
    figure.update_xaxes(title="mean weight", rangemode="tozero", col=2)
    return figure
