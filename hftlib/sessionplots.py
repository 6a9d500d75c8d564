"""Figures of captured play: known answers, hazard, a recorded game, leakage, values.

The style, the colours and the budget of points are those of `plots`.
"""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from hftlib.plots import CYCLE, band, colour_of

LEARNERS = ("bc", "iql", "cql")
FIXED = CYCLE[6]  # of strategies that learn nothing
ZERO = {"line": {"color": "#5b6876", "dash": "dot"}}
PRESSES = {"BUY": ("triangle-up", CYCLE[2]), "SELL": ("triangle-down", CYCLE[1])}


def answers_figure(answers: pd.DataFrame) -> go.Figure:
    """How far each known answer is from theory, in standard errors, and the three that count.

    Parameters
    ----------
    answers : frame, index of names, columns theory, value, standard_error
    """
    z = (answers["value"] - answers["theory"]) / answers["standard_error"]
    figure = go.Figure()
    figure.add_vrect(x0=-3, x1=3, fillcolor=CYCLE[2], opacity=0.1, line_width=0)
    figure.add_scatter(
        x=z,
        y=list(answers.index),
        mode="markers",
        marker={"size": 10, "color": CYCLE[0]},
        error_x={"array": [1.0] * len(z), "thickness": 1.2},
        showlegend=False,
    )
    figure.add_vline(x=0, **ZERO)
    figure.update_xaxes(title="value less theory, standard errors; shaded: within three")
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(height=110 + 26 * len(answers), margin={"l": 230})
    return figure


def hazard_figure(ages: pd.DataFrame, flat: float) -> go.Figure:
    """Hazard of the rug by the game's age with three standard errors, and the flat law.

    Parameters
    ----------
    ages : frame with columns age, hazard, standard_error
        `age` is the middle of a band, in ticks.
    flat : float
        The hazard that theory gives, a tick.
    """
    figure = go.Figure()
    figure.add_scatter(
        x=ages["age"],
        y=ages["hazard"],
        mode="markers",
        marker={"size": 9, "color": CYCLE[0]},
        error_y={"array": 3 * ages["standard_error"], "thickness": 1.2},
        name="simulated games, three standard errors",
    )
    ends = [0, ages["age"].max()]
    figure.add_scatter(
        x=ends, y=[flat, flat], mode="lines", line={"color": CYCLE[1]}, name="theory"
    )
    figure.update_xaxes(title="age of the game, ticks of 250 ms")
    figure.update_yaxes(title="probability of a rug in the next tick", rangemode="tozero")
    return figure


def episode_figure(ticks: pd.DataFrame, presses: pd.DataFrame) -> go.Figure:
    """One recorded game: price, the player's position, and what was pressed at which tick.

    Parameters
    ----------
    ticks : frame with columns tick, price, position_qty, balance
    presses : frame with columns tick, button_id
        Action buttons; drawn on the price of their tick.
    """
    figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.06, row_heights=[0.65, 0.35])
    line = {"color": CYCLE[0], "width": 1.5}
    figure.add_scatter(x=ticks["tick"], y=ticks["price"], name="price", line=line, row=1, col=1)
    price = ticks.set_index("tick")["price"]
    for button, part in presses.groupby("button_id"):
        symbol, colour = PRESSES.get(str(button), ("diamond", CYCLE[3]))
        marker = {"symbol": symbol, "size": 11, "color": colour}
        y = price.reindex(part["tick"], method="nearest")
        figure.add_scatter(
            x=part["tick"], y=y, mode="markers", marker=marker, name=str(button), row=1, col=1
        )
    cash = ticks["balance"]
    worth = cash + ticks["position_qty"] * ticks["price"]
    for name, values, colour in (("cash", cash, CYCLE[6]), ("equity", worth, CYCLE[2])):
        line = {"color": colour, "width": 1.5, "shape": "hv"}
        figure.add_scatter(x=ticks["tick"], y=values, name=name, line=line, row=2, col=1)
    figure.update_yaxes(title="price, multiple of the start", row=1, col=1)
    figure.update_yaxes(title="SOL", row=2, col=1)
    figure.update_xaxes(title="tick of 250 ms", row=2, col=1)
    figure.update_layout(height=520)
    return figure


def leakage_figure(scores: pd.DataFrame) -> go.Figure:
    """Area under the curve of the same model, folds cut by row and by game, with intervals.

    Parameters
    ----------
    scores : frame, index of ways to cut, columns value, low, high
    """
    figure = go.Figure()
    for number, (name, row) in enumerate(scores.iterrows()):
        figure.add_scatter(
            x=[row["value"]],
            y=[str(name)],
            mode="markers+text",
            text=[f"{row['value']:.3f}"],
            textposition="top center",
            marker={"size": 12, "color": (CYCLE[1], CYCLE[2])[number % 2]},
            error_x={
                "array": [row["high"] - row["value"]],
                "arrayminus": [row["value"] - row["low"]],
                "symmetric": False,
            },
            showlegend=False,
        )
    figure.add_vline(x=0.5, **ZERO)
    left = min(0.4, float(scores["low"].min()) - 0.02)
    figure.update_xaxes(title="area under the ROC curve; 0.5 is guessing", range=[left, 1.02])
    figure.update_yaxes(range=[-0.6, len(scores) - 0.3])
    figure.update_layout(height=140 + 50 * len(scores), margin={"l": 130})
    return figure


def values_figure(values: pd.DataFrame) -> go.Figure:
    """What each policy earns a game with its interval, beside zero.

    A learner has its colour, and an open marker where it is greedy; fixed strategies are grey.

    Parameters
    ----------
    values : frame, index of policies, columns value, low, high
        SOL a game, in the order to be drawn.
    """
    figure = go.Figure()
    for name, row in values.iterrows():
        learner = str(name).removesuffix("_greedy")
        marker = {
            "size": 11,
            "color": colour_of(learner) if learner in LEARNERS else FIXED,
            "symbol": "circle" if learner == name else "circle-open",
        }
        figure.add_scatter(
            x=[row["value"]],
            y=[str(name).replace("_", " ")],
            mode="markers",
            marker=marker,
            error_x={
                "array": [row["high"] - row["value"]],
                "arrayminus": [row["value"] - row["low"]],
                "symmetric": False,
            },
            showlegend=False,
        )
    figure.add_vline(x=0, **ZERO)
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title="SOL a game")
    figure.update_layout(height=110 + 28 * len(values), margin={"l": 170})
    return figure


def curves_figure(curves: pd.DataFrame, title: str, x_title: str) -> go.Figure:
    """Curves of several learners, one panel each: every seed, and the range shaded.

    Parameters
    ----------
    curves : frame with columns algo, seed, step, value
    """
    algos: Sequence[str] = list(curves["algo"].unique())
    figure = make_subplots(1, len(algos), subplot_titles=[a.upper() for a in algos])
    for column, algo in enumerate(algos, start=1):
        part = curves[curves["algo"] == algo]
        table = part.pivot(index="step", columns="seed", values="value")
        colour, place = colour_of(algo), {"row": 1, "col": column}
        band(figure, table.index, table.min(axis=1), table.max(axis=1), colour, algo, **place)
        for seed in table:
            line = {"color": colour, "width": 1}
            figure.add_scatter(
                x=table.index, y=table[seed], mode="lines", line=line, showlegend=False, **place
            )
    figure.update_xaxes(title=x_title, rangemode="tozero")
    figure.update_yaxes(title=title, col=1)
    return figure
