"""Figures of the tests of strategies: ratios and hurdles, pairs, overfitting, seeds, controls."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from hftlib.plots import CYCLE, band, colour_of

FloatArray = npt.NDArray[np.float64]
MUTED = "#5b6876"


def ratio_figure(ratios: pd.DataFrame, hurdle: float, hurdle_name: str) -> go.Figure:
    """Annual Sharpe ratios with intervals, and the ratio that luck alone would show.

    Parameters
    ----------
    ratios : frame with columns sharpe, low, high, index names; the first word sets the colour
    """
    figure = go.Figure()
    figure.add_scatter(
        x=ratios["sharpe"],
        y=[str(name).replace("_", " ") for name in ratios.index],
        mode="markers",
        marker={"size": 9, "color": [_colour(name) for name in ratios.index]},
        error_x={
            "array": ratios["high"] - ratios["sharpe"],
            "arrayminus": ratios["sharpe"] - ratios["low"],
            "symmetric": False,
            "thickness": 1.3,
            "color": MUTED,
        },
        showlegend=False,
    )
    figure.add_vline(x=0, line={"color": MUTED, "dash": "dot"})
    figure.add_vline(
        x=hurdle,
        line={"color": "#000000", "dash": "dash"},
        annotation={"text": hurdle_name, "yanchor": "bottom", "y": 1},
        annotation_position="top",
    )
    figure.update_xaxes(title="Sharpe ratio a year")
    figure.update_yaxes(autorange="reversed", dtick=1)
    figure.update_layout(height=120 + 24 * len(ratios), margin={"l": 170})
    return figure


def hurdle_figure(hurdles: pd.Series, n_trials: int, ratios: Mapping[str, float]) -> go.Figure:
    """The best ratio that n worthless trials would show, against n; levels of some strategies.

    Parameters
    ----------
    hurdles : series of annual ratios, index number of trials
    n_trials : int
        How many there were.
    ratios : mapping of name to annual ratio
    """
    line = {"color": "#000000", "width": 2}
    figure = go.Figure(
        go.Scatter(
            x=hurdles.index, y=hurdles, mode="lines", line=line, name="best of n worthless trials"
        )
    )
    for k, (name, value) in enumerate(ratios.items()):
        dash = ("dash", "dot")[k % 2]  # equal ratios lie on each other
        figure.add_scatter(
            x=[hurdles.index[0], hurdles.index[-1]],
            y=[value, value],
            mode="lines",
            line={"color": _colour(name), "dash": dash},
            name=name.replace("_", " "),
        )
    figure.add_vline(x=n_trials, line={"color": MUTED, "dash": "dot"})
    figure.add_annotation(  # shapes take the value on a log axis, notes its logarithm
        x=np.log10(n_trials),
        y=0,
        yref="paper",
        text=f" {n_trials} trials counted",
        xanchor="left",
        yanchor="bottom",
        showarrow=False,
        font={"color": MUTED},
    )
    ends = np.log10([float(hurdles.index[0]), float(hurdles.index[-1])])
    figure.update_xaxes(type="log", title="number of trials (log scale)", dtick=1, range=list(ends))
    figure.update_yaxes(title="Sharpe ratio a year")
    return figure


def pair_figure(effects: pd.DataFrame, is_real: pd.DataFrame) -> go.Figure:
    """Heat map of effect sizes, row less column; those that survive the correction have a star.

    Parameters
    ----------
    effects, is_real : square frames with the same index and columns; nan is left white
    """
    names = [str(name).replace("_", " ") for name in effects.index]
    values = effects.to_numpy()
    text = np.where(np.isnan(values), "", np.char.mod("%.3f", values))
    text = np.where(is_real.to_numpy(), np.char.add(text, " *"), text)
    largest = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 1.0
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=names,
            y=names,
            text=text,
            texttemplate="%{text}",
            textfont={"size": 11},
            zmid=0,
            zmin=-1.6 * largest,  # paler ends, on which dark text can be read
            zmax=1.6 * largest,
            colorscale="RdBu",
            showscale=False,
            hovertemplate="%{y} less %{x}: %{text}<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed", title="this strategy …")
    figure.update_xaxes(title="… less this one, mean over deviation of the daily difference")
    figure.update_layout(height=150 + 36 * len(names), margin={"l": 180, "b": 130})
    return figure


def rank_figure(families: Mapping[str, FloatArray], n_bins: int = 20) -> go.Figure:
    """Where the chosen strategy ends among all, one panel a family; left of the middle is overfit.

    Parameters
    ----------
    families : mapping of name to logits of shape (n_splits,)
    """
    figure = make_subplots(1, len(families), shared_yaxes=True, subplot_titles=list(families))
    edges = np.linspace(0.0, 1.0, n_bins + 1)
    middles = (edges[1:] + edges[:-1]) / 2
    for column, logits in enumerate(families.values(), start=1):
        # bins hold their right end: a rank of exactly .5 counts as overfit
        from_right = np.histogram(1.0 / (1.0 + np.exp(logits)), bins=edges)[0]
        share = from_right[::-1] / len(logits)
        colours = np.where(middles < 0.5, CYCLE[1], CYCLE[2])
        place = {"row": 1, "col": column}
        figure.add_bar(x=middles, y=100 * share, marker={"color": colours}, **place)
        figure.add_vline(x=0.5, line={"color": MUTED, "dash": "dot"}, **place)
    figure.update_xaxes(title="relative rank where judged", range=[0, 1], tickformat=".1f")
    figure.update_yaxes(title="splits, %", col=1)
    figure.update_layout(showlegend=False, bargap=0.05, height=360)
    return figure


def gap_figure(ratios: pd.DataFrame) -> go.Figure:
    """Ratio where a strategy was made against the ratio later; the diagonal is no loss.

    Parameters
    ----------
    ratios : frame with columns family, train, test, index names
    """
    figure = go.Figure()
    for k, (family, part) in enumerate(ratios.groupby("family", sort=False)):
        is_known = str(family) in ("ppo", "sac", "td3", "buy_and_hold")
        figure.add_scatter(
            x=part["train"],
            y=part["test"],
            mode="markers",
            marker={
                "size": 9,
                "color": _colour(family) if is_known else CYCLE[k % len(CYCLE)],
                "symbol": "circle" if is_known else "diamond-open",
            },
            name=str(family).replace("_", " "),
            text=[str(name) for name in part.index],
            hovertemplate="%{text}: %{x:.2f} then %{y:.2f}<extra></extra>",
        )
    low, high = float(ratios[["train", "test"]].min().min()), float(ratios["test"].max())
    line = {"color": MUTED, "dash": "dot"}
    figure.add_scatter(x=[low, high], y=[low, high], mode="lines", line=line, showlegend=False)
    figure.add_annotation(
        x=high,
        y=high,
        text=" as good later",
        xanchor="left",
        showarrow=False,
        font={"color": MUTED},
    )
    figure.add_hline(y=0, line={"color": "#c4ccd6"})
    figure.update_xaxes(title="Sharpe ratio a year, training span")
    figure.update_yaxes(title="Sharpe ratio a year, test span")
    figure.update_layout(legend={"y": -0.18, "yanchor": "top"}, height=470)
    return figure


def profile_figure(thresholds: FloatArray, profiles: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Share of runs that score above each threshold, with bands.

    Parameters
    ----------
    thresholds : array of shape (n,), annual Sharpe ratios
    profiles : mapping of algorithm to frame of n rows with columns value, low, high
    """
    figure = go.Figure()
    for name, part in profiles.items():
        colour = _colour(name)
        band(figure, list(thresholds), 100 * part["low"], 100 * part["high"], colour, name)
        line = {"color": colour, "width": 2.5}
        figure.add_scatter(x=thresholds, y=100 * part["value"], name=name, mode="lines", line=line)
    figure.add_vline(x=0, line={"color": MUTED, "dash": "dot"})
    figure.update_xaxes(title="Sharpe ratio a year, of a seed on a symbol")
    figure.update_yaxes(title="runs above it, %", range=[-2, 102])
    return figure


def control_figure(shares: pd.DataFrame, level: float, n_paths: int) -> go.Figure:
    """Shares found on data without an edge, with two standard errors; none should pass the level.

    Parameters
    ----------
    shares : frame of shares, index what was done, columns the laws of the prices
    """
    figure = go.Figure()
    for k, law in enumerate(shares):
        value = shares[law]
        error = 2.0 * np.sqrt(value * (1.0 - value) / n_paths)
        figure.add_scatter(
            x=100 * value,
            y=list(shares.index),
            mode="markers",
            marker={"size": 11, "color": CYCLE[k], "symbol": ("circle", "diamond")[k % 2]},
            error_x={"array": 100 * error, "thickness": 1.3},
            name=str(law),
        )
    figure.add_vline(
        x=100 * level,
        line={"color": MUTED, "dash": "dash"},
        annotation={"text": f"{level:.0%} allowed", "font": {"color": MUTED}},
        annotation_position="bottom right",
    )
    figure.update_xaxes(title="share, %", rangemode="tozero")
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(height=150 + 44 * len(shares), margin={"l": 280})
    return figure


def power_figure(found: pd.DataFrame, names: Sequence[str]) -> go.Figure:
    """Power against the planted edge: dots are counted, lines are theory; one colour a column.

    Parameters
    ----------
    found : frame with columns sharpe (annual), trials, power, theory, error
    names : sequence of str
        Of the numbers of trials, in the order in which they appear.
    """
    figure = go.Figure()
    groups = found.groupby("trials", sort=False)
    for k, (name, (_, part)) in enumerate(zip(names, groups, strict=True)):
        colour, common = CYCLE[k], {"x": part["sharpe"], "legendgroup": name}
        figure.add_scatter(
            y=100 * part["theory"], mode="lines", line={"color": colour}, name=name, **common
        )
        figure.add_scatter(
            y=100 * part["power"],
            mode="markers",
            marker={"size": 9, "color": colour},
            error_y={"array": 200 * part["error"], "thickness": 1.3},
            showlegend=False,
            **common,
        )
    figure.update_xaxes(title="true Sharpe ratio a year of what was planted")
    figure.update_yaxes(title="found, %", range=[-2, 104])
    return figure


def _colour(name: object) -> str:
    """That of a strategy; of "ppo 3" that of ppo, of any ensemble that of the ensemble."""
    words = str(name).split()
    return colour_of("ensemble" if words[0].startswith("ensemble") else words[0])
