"""House style for figures, and the figures that the notebooks share.

Every function returns a Plotly figure. Colours are those of Okabe & Ito (2008),
safe for colour-blind readers, and one strategy has one colour everywhere.
"""

import sys
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
from plotly.subplots import make_subplots

from hftlib.paths import replace_file

MAX_POINTS = 5_000  # a trace; more makes a report heavy and no picture better
COLOURS = {
    "ppo": "#0072B2",
    "sac": "#CC79A7",
    "td3": "#56B4E9",
    "ensemble": "#009E73",
    "chosen_rule": "#E69F00",
    "walk_forward": "#0072B2",
    "buy_and_hold": "#D55E00",
    "random": "#999999",
    "do_nothing": "#000000",
    "train": "#0072B2",
    "validation": "#E69F00",
    "test": "#009E73",
    "dev": "#56B4E9",
    "val": "#E69F00",
    "abides": "#0072B2",
    "jaxlob": "#009E73",
    "OU snapshots": "#999999",
    "bc": "#E69F00",
    "iql": "#0072B2",
    "cql": "#CC79A7",
    "equal_weight": "#000000",
    "minimum_variance": "#0072B2",
    "maximum_sharpe": "#D55E00",
    "mean_cvar": "#56B4E9",
    "risk_parity": "#009E73",
    "hierarchical_risk_parity": "#CC79A7",
    "kelly": "#E69F00",
}
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")

_HOUSE = go.layout.Template(
    layout=go.Layout(
        colorway=CYCLE,
        font={"family": "Segoe UI, DejaVu Sans, sans-serif", "size": 13, "color": "#1d2733"},
        paper_bgcolor="white",
        plot_bgcolor="white",
        margin={"l": 64, "r": 24, "t": 48, "b": 48},
        title={"x": 0, "xref": "paper", "font": {"size": 15}},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "xanchor": "left"},
        modebar={
            "remove": ["zoomin", "zoomout", "autoscale", "select", "lasso", "sendDataToCloud"]
        },
        xaxis={"gridcolor": "#eef1f5", "linecolor": "#c4ccd6", "zeroline": False},
        yaxis={"gridcolor": "#eef1f5", "linecolor": "#c4ccd6", "zerolinecolor": "#c4ccd6"},
        height=420,
    )
)


def colour_of(name: str) -> str:
    """The colour of a strategy or split; one without a fixed colour gets the same one always."""
    return COLOURS.get(name, CYCLE[zlib.crc32(name.encode()) % len(CYCLE)])


def use_house_style() -> None:
    """Make house template, light renderer and untruncated tables the default of this process."""
    pd.set_option("display.max_colwidth", None)
    pio.templates["hftlib"] = _HOUSE
    pio.templates.default = "hftlib"
    pio.renderers.default = "plotly_mimetype"


def thin(frame: pd.DataFrame, max_points: int = MAX_POINTS) -> pd.DataFrame:
    """Every k-th row, and the last one, so that at most `max_points` remain."""
    step = -(-len(frame) // (max_points - 1))
    if step <= 1:
        return frame
    kept = np.unique(np.append(np.arange(0, len(frame), step), len(frame) - 1))
    return frame.iloc[kept]


def band(
    figure: go.Figure,
    x: Sequence[object] | pd.Index,
    low: npt.ArrayLike,
    high: npt.ArrayLike,
    colour: str,
    name: str,
    **place: int,
) -> None:
    """Shade the area between `low` and `high`; `place` names the row and column of a subplot."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    common = {"x": x, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    figure.add_scatter(y=np.asarray(low), showlegend=False, **common, **place)
    figure.add_scatter(
        y=np.asarray(high),
        fill="tonexty",
        fillcolor=f"rgba({red},{green},{blue},0.2)",
        name=name,
        showlegend=False,
        **common,
        **place,
    )


def price_figure(bars: pd.DataFrame) -> go.Figure:
    """Closing prices of every symbol, each as a multiple of its first, log scale."""
    figure = go.Figure()
    for symbol, group in bars.groupby("symbol"):
        part = thin(group)
        figure.add_scatter(x=part["ts"], y=part["close"] / group["close"].iloc[0], name=symbol)
    figure.update_yaxes(type="log", dtick="D2", title="close / first close (log scale)")
    figure.update_xaxes(title="time, UTC")
    return figure


def coverage_figure(quality: pd.DataFrame) -> go.Figure:
    """One horizontal line a symbol from its first bar to its last."""
    figure = go.Figure()
    for symbol, row in quality.iterrows():
        figure.add_scatter(
            x=[row["first"], row["last"]],
            y=[symbol, symbol],
            mode="lines+text",
            line={"width": 9, "color": CYCLE[0]},
            text=["", f"  {row['rows']:,} bars"],
            textposition="middle right",
            showlegend=False,
        )
    first, last = quality["first"].min(), quality["last"].max()
    room = (last - first) / 5  # for the text at the right end
    figure.update_xaxes(title="time, UTC", range=[first, last + room])
    figure.update_layout(height=80 + 34 * len(quality))
    return figure


def information_figure(table: pd.DataFrame, horizon_bars: int) -> go.Figure:
    """Information coefficient of each feature with its interval, one panel a symbol."""
    symbols = list(table["symbol"].unique())
    figure = make_subplots(1, len(symbols), shared_yaxes=True, subplot_titles=symbols)
    for column, symbol in enumerate(symbols, start=1):
        part = table[(table["symbol"] == symbol) & (table["horizon_bars"] == horizon_bars)]
        figure.add_scatter(
            x=part["ic"],
            y=part["feature"],
            mode="markers",
            marker={"size": 9, "color": CYCLE[0]},
            error_x={
                "array": part["high"] - part["ic"],
                "arrayminus": part["ic"] - part["low"],
                "symmetric": False,
                "thickness": 1.2,
            },
            showlegend=False,
            row=1,
            col=column,
        )
        figure.add_vline(x=0, line={"color": "#5b6876", "dash": "dot"}, row=1, col=column)
    figure.update_xaxes(title="rank correlation with the return ahead")
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(margin={"l": 140})
    return figure


def correlation_figure(correlation: pd.DataFrame) -> go.Figure:
    """Heat map of a correlation matrix; large enough to read every name."""
    figure = go.Figure(
        go.Heatmap(
            z=correlation.to_numpy().round(3),
            x=correlation.columns,
            y=correlation.index,
            zmin=-1,
            zmax=1,
            colorscale="RdBu",
            reversescale=True,
            colorbar={"title": "rank<br>correlation"},
            hovertemplate="%{y} and %{x}: %{z:.2f}<extra></extra>",
        )
    )
    figure.update_xaxes(tickangle=-90, tickfont={"size": 10}, dtick=1)
    figure.update_yaxes(autorange="reversed", tickfont={"size": 10}, dtick=1)
    figure.update_layout(height=240 + 15 * len(correlation), margin={"l": 160, "b": 150})
    return figure


def split_figure(close: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Closing prices coloured by split; the white gaps are purge and embargo.

    Parameters
    ----------
    close : mapping of split name to frame with columns symbol, ts, close
    """
    figure = go.Figure()
    for split, frame in close.items():
        for k, (_, group) in enumerate(frame.groupby("symbol")):
            part = thin(group)
            figure.add_scatter(
                x=part["ts"],
                y=part["close"],
                name=split,
                legendgroup=split,
                showlegend=k == 0,
                line={"color": colour_of(split), "width": 1.3},
            )
    figure.update_yaxes(type="log", dtick="D2", title="close (log scale)")
    figure.update_xaxes(title="time, UTC")
    return figure


def learning_figure(curves: pd.DataFrame, measure: str, title: str) -> go.Figure:
    """Learning curves per split: every seed thin, their mean thick, their range shaded."""
    splits = list(curves["split"].unique())
    names = [f"on {split}" for split in splits]
    figure = make_subplots(1, len(splits), shared_yaxes=True, subplot_titles=names)
    for column, split in enumerate(splits, start=1):
        table = curves[curves["split"] == split].pivot(index="step", columns="seed", values=measure)
        colour = colour_of(split)
        place = {"row": 1, "col": column}
        band(figure, table.index, table.min(axis=1), table.max(axis=1), colour, "range", **place)
        for seed in table:
            line = {"color": colour, "width": 0.7}
            figure.add_scatter(
                x=table.index, y=table[seed], mode="lines", line=line, showlegend=False, **place
            )
        figure.add_scatter(
            x=table.index,
            y=table.mean(axis=1),
            mode="lines",
            line={"color": colour, "width": 3},
            showlegend=False,
            **place,
        )
    figure.update_xaxes(title="environment steps", rangemode="tozero")
    figure.update_yaxes(title=title, col=1)
    return figure


def equity_figure(equity: pd.DataFrame) -> go.Figure:
    """Mean equity of each strategy; members' central 90 % shaded where there are several."""
    figure = go.Figure()
    for strategy, group in equity.groupby("strategy", sort=False):
        curves = thin(group.pivot(index="ts", columns="member", values="equity"))
        colour = colour_of(strategy)
        if curves.shape[1] > 1:
            low, high = curves.quantile(0.05, axis=1), curves.quantile(0.95, axis=1)
            band(figure, curves.index, low, high, colour, strategy)
        label = strategy.replace("_", " ")
        figure.add_scatter(
            x=curves.index, y=curves.mean(axis=1), name=label, line={"color": colour, "width": 2}
        )
    figure.update_yaxes(title="equity, multiple of the start")
    figure.update_xaxes(title="time, UTC")
    return figure


def drawdown_figure(drawdowns: pd.DataFrame) -> go.Figure:
    """Loss from the running peak; one column a strategy, index of times."""
    figure = go.Figure()
    for strategy, values in thin(drawdowns).items():
        name = str(strategy)
        line = {"color": colour_of(name), "width": 1.5}
        figure.add_scatter(x=values.index, y=-100 * values, name=name.replace("_", " "), line=line)
    figure.update_yaxes(title="drawdown, %")
    figure.update_xaxes(title="time, UTC")
    return figure


def sweep_figure(sweep: pd.DataFrame, references: Mapping[str, float]) -> go.Figure:
    """Annual return against the fee: each strategy's mean and range, and flat reference lines."""
    figure = go.Figure()
    for strategy, part in sweep.groupby("strategy", sort=False):
        table = 100 * part.pivot(index="fee_bps", columns="member", values="annual_return")
        name, colour = str(strategy), colour_of(str(strategy))
        if table.shape[1] > 1:
            band(figure, table.index, table.min(axis=1), table.max(axis=1), colour, name)
        figure.add_scatter(
            x=table.index,
            y=table.mean(axis=1),
            name=name.replace("_", " "),
            line={"color": colour, "width": 3},
        )
    fees = [sweep["fee_bps"].min(), sweep["fee_bps"].max()]
    for name, value in references.items():
        figure.add_scatter(
            x=fees,
            y=[100 * value] * 2,
            mode="lines",
            name=name.replace("_", " "),
            line={"color": colour_of(name), "dash": "dash"},
        )
    figure.update_xaxes(title="fee, bp of traded notional")
    figure.update_yaxes(title="return a year, %")
    return figure


def write_dvc_page(page: Path) -> None:
    """Write the page that `dvc plots show` fills, Vega inlined: DVC's own needs the network."""
    import vl_convert

    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    script = script.replace("</script", "<\\/script")
    with replace_file(page) as temporary:
        temporary.write_text(
            '<!doctype html><html><head><meta charset="utf-8"><title>DVC plots</title>'
            f"{{refresh_tag}}<script>(function(){{{script}}})();</script></head>"
            "<body>{plot_divs}</body></html>"
        )


if __name__ == "__main__":
    write_dvc_page(Path(sys.argv[1]))
