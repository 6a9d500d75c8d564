"""Figures of paper trading: what accounts are worth, and how long answers take."""

import pandas as pd
import plotly.graph_objects as go

from hftlib.plots import CYCLE


def worth_figure(worth: pd.DataFrame) -> go.Figure:
    """Accounts as multiples of their start; one column each, index of times."""
    figure = go.Figure()
    for colour, (name, values) in zip(CYCLE, worth.items(), strict=False):
        line = {"color": colour, "width": 2}
        figure.add_scatter(x=values.index, y=values, name=str(name), line=line)
    figure.update_yaxes(title="worth, multiple of the start")
    figure.update_xaxes(title="time, UTC")
    return figure


def latency_figure(seconds: pd.Series, label: str) -> go.Figure:
    """Share of answers that took no longer, against the time on a logarithmic axis.

    Parameters
    ----------
    seconds : series
    label : str
        What was asked.
    """
    ms = 1e3 * seconds.sort_values().to_numpy()
    share = [(k + 1) / len(ms) for k in range(len(ms))]
    line = {"color": CYCLE[0], "width": 2, "shape": "hv"}
    figure = go.Figure(go.Scatter(x=ms, y=share, name=label, line=line))
    figure.update_xaxes(title="milliseconds from question to answer", type="log")
    figure.update_yaxes(title="share of answers", range=[0, 1.02])
    return figure
