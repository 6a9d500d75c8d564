"""Figures of agents in the multi-agent market: training, quotes, profits, encounters.

The style and the budget of points are those of `plots`. One strategy has one
colour everywhere; those that never share a figure may share one.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from scipy.stats import t as student

from hftlib.plots import COLOURS, CYCLE, band, thin

BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, GREY = CYCLE
STRATEGIES = {
    "mappo": BLUE,
    "maddpg": GREEN,
    "ippo": SKY,
    "avellaneda_stoikov": VERMILION,
    "glft": ORANGE,
    "fixed_spread": PURPLE,
    "twap": VERMILION,
    "vwap": ORANGE,
    "almgren_chriss": PURPLE,
    "immediate": SKY,
    "random": GREY,
}
MUTED = "#5b6876"


def colours_of(names: Iterable[str]) -> dict[str, str]:
    """Fixed colours for known strategies; what is left for the others, in their order."""
    names = list(dict.fromkeys(names))
    known = {**COLOURS, **STRATEGIES}
    colours = {name: known[name] for name in names if name in known}
    left = [colour for colour in CYCLE if colour not in colours.values()] or list(CYCLE)
    for number, name in enumerate(name for name in names if name not in known):
        colours[name] = left[number % len(left)]
    return colours


def label(name: str) -> str:
    """A name for a reader."""
    return name.replace("_", " ")


def training_figure(
    curves: pd.DataFrame,
    title: str,
    *,
    references: Mapping[str, float] | None = None,
    spread: Literal["range", "95 %"] = "range",
) -> go.Figure:
    """Learning curves, one colour a strategy: the mean over seeds and a band; dashed baselines.

    Parameters
    ----------
    curves : frame with columns strategy, seed, step, value
        The seeds of a strategy share their steps.
    title : str
        Of the y axis, with its unit.
    references : mapping of strategy to value
        What does not learn.
    spread : {"range", "95 %"}
        The band: from the lowest seed to the highest, or Student's interval of the mean. None for
        a single seed.
    """
    references = {} if references is None else references
    colours = colours_of([*curves["strategy"], *references])
    figure = go.Figure()
    counts = set()
    for strategy, part in curves.groupby("strategy", sort=False):
        name = str(strategy)
        table = thin(part.pivot(index="step", columns="seed", values="value"))
        mean, n = table.mean(axis=1), table.shape[1]
        counts.add(n)
        if n > 1:
            low, high = table.min(axis=1), table.max(axis=1)
            if spread == "95 %":
                half = student.ppf(0.975, n - 1) * table.std(axis=1) / np.sqrt(n)
                low, high = mean - half, mean + half
            band(figure, table.index, low, high, colours[name], name)
        figure.add_scatter(
            x=table.index,
            y=mean,
            name=label(name),
            mode="lines+markers" if len(table) <= 30 else "lines",
            line={"color": colours[name], "width": 2.5},
        )
    steps = [0, int(curves["step"].max())]
    for name, value in references.items():
        figure.add_scatter(
            x=steps,
            y=[value] * 2,
            name=label(name),
            mode="lines",
            line={"color": colours[name], "dash": "dash", "width": 2},
        )
    seeds = " or ".join(str(n) for n in sorted(counts))
    what = "range of the seeds" if spread == "range" else "95 % interval of the mean"
    figure.update_xaxes(title=f"environment steps (mean over {seeds} seeds; band: {what})")
    figure.update_yaxes(title=title)
    figure.update_layout(legend={"traceorder": "normal"})
    return figure


def quotes_figure(curves: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Where makers quote when they hold what: ask above and bid below the mid, bands over states.

    Parameters
    ----------
    curves : mapping of strategy to frames as `evaluation.making.quote_curve` gives them
    """
    colours = colours_of(curves)
    figure = go.Figure()
    for name, curve in curves.items():
        for side, sign in (("ask", 1), ("bid", -1)):
            part = thin(curve.dropna(subset=f"{side}_offset"))
            low, high = sign * part[f"{side}_low"], sign * part[f"{side}_high"]
            band(figure, part["inventory"], low, high, colours[name], name)
            figure.add_scatter(
                x=part["inventory"],
                y=sign * part[f"{side}_offset"],
                mode="lines+markers" if len(part) <= 50 else "lines",
                name=f"{label(name)}, {side}",
                line={"color": colours[name], "width": 2, "dash": "dot" if sign < 0 else "solid"},
                marker={"size": 6, "symbol": "triangle-down" if sign > 0 else "triangle-up"},
            )
    figure.add_hline(y=0, line={"color": MUTED, "width": 1})
    figure.update_xaxes(title="inventory, lots")
    figure.update_yaxes(title="quote less mid, ticks")
    figure.update_layout(legend={"traceorder": "normal"})
    return figure


def episode_figure(paths: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Mid, inventory and profit through an episode, one colour a strategy.

    Parameters
    ----------
    paths : mapping of strategy to frames as `evaluation.making.path_table` gives them
        Of the same world. Each mid is drawn: where agents move it, they differ.
    """
    colours = colours_of(paths)
    rows = (("mid", "mid, ticks"), ("inventory", "inventory, lots"), ("profit", "profit, currency"))
    figure = make_subplots(3, 1, shared_xaxes=True, vertical_spacing=0.06)
    for name, path in paths.items():
        part = thin(path)
        for row, (column, _) in enumerate(rows, start=1):
            figure.add_scatter(
                x=part["time_s"],
                y=part[column],
                name=label(name),
                legendgroup=name,
                showlegend=row == 1,
                mode="lines",
                line={
                    "color": colours[name],
                    "width": 1.5,
                    "shape": "hv" if column == "inventory" else "linear",
                },
                row=row,
                col=1,
            )
    for row, (_, title) in enumerate(rows, start=1):
        figure.update_yaxes(title=title, exponentformat="none", separatethousands=True, row=row)
    figure.update_xaxes(title="time, s", row=3)
    figure.update_layout(height=640, margin={"l": 80})
    return figure


def decomposition_figure(table: pd.DataFrame) -> go.Figure:
    """Bars of where the profit of an episode comes from, with intervals.

    Parameters
    ----------
    table : frame as `evaluation.paired.compare_measures` gives it
        Of the measures spread_captured, inventory_profit, fees, closing_cost, profit; the last bar
        is the sum of the others, costs below 0.
    """
    costs = {"fees": "fees", "closing_cost": "forced closing"}
    parts = {
        "spread_captured": "spread captured",
        "inventory_profit": "inventory",
        **costs,
        "profit": "profit",
    }
    colours = colours_of(table["strategy"])
    figure = go.Figure()
    for strategy, rows in table.groupby("strategy", sort=False):
        name = str(strategy)
        chosen = rows.set_index("measure").loc[list(parts)]
        value, low, high = (chosen[column].copy() for column in ("value", "low", "high"))
        above, below = high - value, value - low
        for cost in costs:
            value[cost] *= -1
            above[cost], below[cost] = below[cost], above[cost]
        figure.add_bar(
            x=list(parts.values()),
            y=value,
            name=label(name),
            marker={"color": colours[name]},
            error_y={
                "array": above,
                "arrayminus": below,
                "symmetric": False,
                "thickness": 1.3,
                "color": "#1d2733",
            },
        )
    figure.update_layout(barmode="group", bargap=0.3)
    figure.update_yaxes(title="mean of an episode, currency", zeroline=True)
    return figure


def crossplay_figure(matrix: pd.DataFrame, role: str) -> go.Figure:
    """Heat map of what a role earns in each pairing of teams, numbers and intervals printed.

    Parameters
    ----------
    matrix : frame as `evaluation.crossplay.summarise_crossplay` gives it
    role : str
        A value of its column role. Pairings within a team are framed.
    """
    part = matrix[matrix["role"] == role]
    teams = list(dict.fromkeys(part["makers"]))
    value, low, high = (
        part.pivot(index="makers", columns="others", values=column).loc[teams, teams].to_numpy()
        for column in ("value", "low", "high")
    )
    bound = float(np.nanmax(np.abs(value))) or 1.0
    digits = max(0, 2 - int(np.floor(np.log10(bound))))
    text = [
        [
            f"<b>{value[i, k]:.{digits}f}</b><br>{low[i, k]:.{digits}f} … {high[i, k]:.{digits}f}"
            for k in range(len(teams))
        ]
        for i in range(len(teams))
    ]
    names = [label(team) for team in teams]
    figure = go.Figure(
        go.Heatmap(
            z=value,
            x=names,
            y=names,
            zmin=-bound,
            zmax=bound,
            colorscale="RdBu",
            text=text,
            texttemplate="%{text}",
            textfont={"size": 11},
            xgap=2,
            ygap=2,
            colorbar={"title": "currency<br>an episode"},
        )
    )
    for k in range(len(teams)):
        box = {"x0": k - 0.48, "x1": k + 0.48, "y0": k - 0.48, "y1": k + 0.48}
        figure.add_shape(type="rect", **box, line={"color": "#1d2733", "width": 2})
    figure.update_xaxes(title="team of the others", showgrid=False)
    figure.update_yaxes(title="team of the makers", autorange="reversed", showgrid=False)
    figure.update_layout(
        height=160 + 72 * len(teams),
        margin={"l": 150},
        title=f"risk-adjusted profit of the {role}s",
    )
    return figure


def estimates_figure(table: pd.DataFrame, titles: Mapping[str, str]) -> go.Figure:
    """Measures with their intervals, one panel a measure; published values beside them.

    Parameters
    ----------
    table : frame with columns strategy, measure, value, low, high
        And optionally published, nan where nothing is. As of `evaluation.paired.compare_measures`.
    titles : mapping of measure to title of its axis, with the unit
        The panels, in this order. What follows a first comma goes on a second line.
    """
    strategies = list(dict.fromkeys(table["strategy"]))
    colours = colours_of(strategies)
    figure = make_subplots(1, len(titles), shared_yaxes=True, horizontal_spacing=0.04)
    has_published = "published" in table
    for column, (measure, title) in enumerate(titles.items(), start=1):
        part = table[table["measure"] == measure].set_index("strategy")
        for strategy in (name for name in strategies if name in part.index):
            row = part.loc[strategy]
            figure.add_scatter(
                x=[row["value"]],
                y=[label(strategy)],
                mode="markers",
                marker={"size": 10, "color": colours[strategy]},
                error_x={
                    "array": [row["high"] - row["value"]],
                    "arrayminus": [row["value"] - row["low"]],
                    "symmetric": False,
                },
                showlegend=False,
                row=1,
                col=column,
            )
        if has_published:
            known = part["published"].dropna()
            figure.add_scatter(
                x=known,
                y=[label(name) for name in known.index],
                mode="markers",
                name="published",
                marker={
                    "symbol": "diamond-open",
                    "size": 15,
                    "color": "#000000",
                    "line": {"width": 1.5},
                },
                showlegend=column == 1,
                row=1,
                col=column,
            )
        figure.update_xaxes(title=title.replace(", ", "<br>", 1), row=1, col=column)
    order = [label(name) for name in reversed(strategies)]
    figure.update_yaxes(categoryorder="array", categoryarray=order)
    figure.update_layout(height=180 + 46 * len(strategies), margin={"l": 150, "b": 80})
    return figure
