"""Figures of one account that trades bars, in the house style."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from hftlib.plots import CYCLE, thin


def episode_figure(prices: pd.DataFrame, weights: pd.DataFrame, equity: pd.Series) -> go.Figure:
    """Price, exposure, equity (currency) and drawdown of an episode, one below the other.

    Parameters
    ----------
    prices : frame of shape (n_bars, n_assets), index ts
        Closes; several assets are shown as multiples of their first.
    weights : frame of the same shape
        Exposure of each asset, share of equity.
    equity : series of length n_bars, index ts
        Currency.
    """
    is_portfolio = prices.shape[1] > 1
    shown = prices / prices.iloc[0] if is_portfolio else prices
    titles = [
        "close / first" if is_portfolio else "close",
        "exposure, share",
        "equity",
        "drawdown",
    ]
    figure = make_subplots(4, 1, shared_xaxes=True, vertical_spacing=0.04)
    for k, symbol in enumerate(prices.columns):
        line = {"color": CYCLE[k % len(CYCLE)], "width": 1.5}
        common = {"name": symbol, "legendgroup": symbol, "mode": "lines"}
        price, weight = thin(shown[[symbol]]), thin(weights[[symbol]])
        figure.add_scatter(
            x=price.index,
            y=price[symbol],
            line=line,
            row=1,
            col=1,
            showlegend=is_portfolio,
            **common,
        )
        figure.add_scatter(
            x=weight.index,
            y=weight[symbol],
            line=line | {"shape": "hv"},
            row=2,
            col=1,
            showlegend=False,
            **common,
        )
    account = thin(pd.DataFrame({"equity": equity, "drawdown": equity / equity.cummax() - 1}))
    for row, column in ((3, "equity"), (4, "drawdown")):
        figure.add_scatter(
            x=account.index,
            y=account[column],
            line={"color": "#000000", "width": 1.5},
            fill="tozeroy" if column == "drawdown" else None,
            fillcolor="rgba(0,0,0,0.1)",
            name=column,
            showlegend=False,
            row=row,
            col=1,
        )
    for row, title in enumerate(titles, start=1):
        figure.update_yaxes(title=title, row=row, col=1)
    figure.update_yaxes(tickformat=".0%", row=4, col=1)
    figure.update_xaxes(title="time, UTC", row=4, col=1)
    figure.update_layout(height=640, title=None if is_portfolio else str(prices.columns[0]))
    return figure
