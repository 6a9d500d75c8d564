"""Figures of order books: what rests through time, how deep, and stylised facts side by side.

The style, the colours and the budget of points are those of `plots`.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from hftlib.plots import COLOURS, CYCLE, band, colour_of, thin

BUY, SELL = CYCLE[0], CYCLE[1]
LOG_FLOOR = 3e-3  # of log scales; what lies below is noise


def _sides(snapshots: pd.DataFrame) -> tuple[np.ndarray, ...]:
    """Prices and lots of both sides, each of shape (n_snapshots, levels), best first."""
    levels = 1 + sum(name.startswith("bid_px_") for name in snapshots)
    deeper = range(2, levels + 1)
    arrays = []
    for side in ("bid", "ask"):
        prices = [f"best_{side}", *(f"{side}_px_{k}" for k in deeper)]
        lots = [f"{side}_qty_{k}" for k in range(1, levels + 1)]
        arrays += [snapshots[prices].to_numpy(), snapshots[lots].to_numpy()]
    return tuple(arrays)


def heatmap_figure(
    snapshots: pd.DataFrame, trades: pd.DataFrame, tick_size: float, reach_ticks: int
) -> go.Figure:
    """Resting lots through time as colour, best quotes as lines, trades as points.

    Parameters
    ----------
    snapshots : frame as `schema.snapshots`
        A few minutes of one session.
    trades : frame as `schema.MESSAGES`
        Executions of the same minutes; a point's area is its size.
    reach_ticks : int
        Prices this far around the middle of the span are shown.
    """
    bid_px, bid_qty, ask_px, ask_qty = _sides(snapshots)
    mid = (snapshots["best_bid"] + snapshots["best_ask"]).to_numpy() / 2
    centre = round(float(np.median(mid)))
    lots = np.full((2 * reach_ticks + 1, len(snapshots)), np.nan)
    for prices, sizes in ((bid_px, bid_qty), (ask_px, ask_qty)):
        row = prices - centre + reach_ticks
        time = np.broadcast_to(np.arange(len(snapshots))[:, None], row.shape)
        shown = (row >= 0) & (row < len(lots)) & (sizes > 0)
        lots[row[shown], time[shown]] = np.log10(sizes[shown])
    times = pd.to_datetime(snapshots["ts"], utc=True)
    figure = go.Figure(
        go.Heatmap(
            z=lots,
            x=times,
            y=(centre + np.arange(-reach_ticks, reach_ticks + 1)) * tick_size,
            colorscale="Greys",
            colorbar={"title": "lots", "tickvals": [0, 1, 2, 3], "ticktext": [1, 10, 100, 1000]},
            hoverinfo="skip",
        )
    )
    for name, column, colour in (("best bid", "best_bid", BUY), ("best ask", "best_ask", SELL)):
        line = {"color": colour, "width": 1.5, "shape": "hv"}
        figure.add_scatter(x=times, y=snapshots[column] * tick_size, name=name, line=line)
    for name, direction, colour in (("buyer", -1, BUY), ("seller", 1, SELL)):
        part = thin(trades[trades["direction"] == direction])
        figure.add_scatter(
            x=pd.to_datetime(part["ts"], utc=True),
            y=part["price"] * tick_size,
            mode="markers",
            name=f"trade, {name} first",
            marker={
                "size": 3 + np.sqrt(part["size"].to_numpy()) / 2,
                "color": colour,
                "line": {"color": "white", "width": 0.5},
            },
        )
    reach = [(centre - reach_ticks) * tick_size, (centre + reach_ticks) * tick_size]
    figure.update_yaxes(title="price", range=reach, title_standoff=12)
    figure.update_xaxes(title="time, UTC")
    figure.update_layout(height=480, margin={"l": 84})
    return figure


def depth_table(snapshots: pd.DataFrame, reach_ticks: int) -> pd.Series:
    """Mean lots resting at each distance from the mid, in ticks rounded up; bids negative.

    Only what a snapshot's levels show is counted, so far distances are a lower bound.
    """
    bid_px, bid_qty, ask_px, ask_qty = _sides(snapshots)
    mid = (snapshots["best_bid"] + snapshots["best_ask"]).to_numpy()[:, None] / 2
    total = np.zeros(2 * reach_ticks + 1)
    for prices, sizes in ((bid_px, bid_qty), (ask_px, ask_qty)):
        away = prices - mid
        away = (np.sign(away) * np.ceil(np.abs(away))).astype(int) + reach_ticks
        shown = (away >= 0) & (away < len(total)) & (sizes > 0)
        total += np.bincount(away[shown], sizes[shown], minlength=len(total))
    index = pd.RangeIndex(-reach_ticks, reach_ticks + 1, name="ticks from the mid")
    return pd.Series(total / len(snapshots), index=index).drop(0)


def depth_figure(profiles: Mapping[str, pd.Series]) -> go.Figure:
    """Mean lots at each distance from the mid, one line a source."""
    figure = go.Figure()
    for source, profile in profiles.items():
        line = {"color": colour_of(source), "shape": "hvh"}
        figure.add_scatter(x=profile.index, y=profile, name=source, line=line)
    figure.update_xaxes(title="distance from the mid, ticks (bids to the left)")
    figure.update_yaxes(title="mean resting size, lots", rangemode="tozero")
    return figure


def stylised_figure(curves: pd.DataFrame) -> go.Figure:
    """One panel a stylised fact, one colour a source: mean over sessions, range shaded.

    Parameters
    ----------
    curves : frame with columns source, session, panel, axis, is_log, x, y
        As `market.curves` gives them; on log scales values below `LOG_FLOOR` are cut.
    """
    panels = list(curves["panel"].unique())
    colours = _distinct_colours(curves["source"].unique())
    n_rows = -(-len(panels) // 2)
    figure = make_subplots(n_rows, 2, subplot_titles=panels, vertical_spacing=0.11)
    named: set[str] = set()
    for number, panel in enumerate(panels):
        place = {"row": number // 2 + 1, "col": number % 2 + 1}
        part = curves[curves["panel"] == panel]
        for source, rows in part.groupby("source", sort=False):
            name, colour = str(source), colours[str(source)]
            table = rows.pivot_table(index="x", columns="session", values="y")
            mean = table.mean(axis=1)
            if part["is_log"].any():
                mean, table = mean[mean > LOG_FLOOR], table[mean > LOG_FLOOR].clip(lower=LOG_FLOOR)
            if table.shape[1] > 1:
                low, high = table.min(axis=1), table.max(axis=1)
                band(figure, table.index, low, high, colour, name, **place)
            figure.add_scatter(
                x=mean.index,
                y=mean,
                mode="lines+markers" if len(mean) < 15 else "lines",
                name=name,
                legendgroup=name,
                showlegend=name not in named,
                line={"color": colour, "width": 2},
                **place,
            )
            named.add(name)
        figure.update_xaxes(title=part["axis"].iloc[0], title_standoff=4, **place)
        if part["is_log"].any():
            figure.update_xaxes(type="log", dtick="D2", **place)
            figure.update_yaxes(type="log", dtick=1, **place)
    figure.update_layout(height=350 * n_rows)
    return figure


def _distinct_colours(sources: Iterable[str]) -> dict[str, str]:
    """The fixed colours of known sources; to the others, such as real days, what is left."""
    colours = {source: COLOURS[source] for source in sources if source in COLOURS}
    left = [colour for colour in CYCLE if colour not in colours.values()]
    for number, source in enumerate(source for source in sources if source not in COLOURS):
        colours[source] = left[number % len(left)]
    return colours


def session_figure(plan: pd.DataFrame) -> go.Figure:
    """Which rows of which session go to which split; white is purged, embargoed or not there.

    Parameters
    ----------
    plan : frame as `data.splits.split_sessions` gives it
    """
    figure = go.Figure()
    sessions = sorted(plan["session"].unique())
    shown = set()
    for row in plan.itertuples():
        first = sessions.index(row.session)
        split, share = str(row.split), 0.9 / row.n_rows
        figure.add_scatter(
            x=[first + share * row.start, first + share * row.stop],
            y=[f"{row.source} {row.symbol}"] * 2,
            mode="lines",
            line={"width": 16, "color": colour_of(split)},
            name=split,
            legendgroup=split,
            showlegend=split not in shown,
        )
        shown.add(split)
    ticks = [k + 0.45 for k in range(len(sessions))]
    figure.update_xaxes(title="session, each drawn to one width", tickvals=ticks, ticktext=sessions)
    n_series = len(plan[["source", "symbol"]].drop_duplicates())
    figure.update_yaxes(range=[-0.6, n_series - 0.4])
    figure.update_layout(height=160 + 50 * n_series, margin={"l": 140})
    return figure
