"""Stylised facts as curves, for pictures of simulated beside real markets."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from hftlib.market import stylised
from hftlib.market.stylised import SECOND, FloatArray
from hftlib.market.tape import Tape


class Panel(NamedTuple):
    """A picture: its title, its horizontal axis, and whether both axes are logarithmic."""

    title: str
    axis: str
    is_log: bool


ABS_RETURN = Panel("|return| autocorrelation, 10 s", "lag, intervals of 10 s", True)
TAIL = Panel("P(|return| > x), 10 s", "x, standard deviations", True)
SIGN = Panel("trade-sign autocorrelation", "lag, trades", True)
RESPONSE = Panel("price response, ticks", "lag, trades", False)
DAY = Panel("events by part of the day, mean 1", "share of the day", False)
UP = Panel("P(next move up) by imbalance", "(bid - ask) / (bid + ask) at the best prices", False)
N_LAGS = 60
RESPONSE_LAGS = (1, 2, 3, 5, 8, 12, 20, 30, 50, 80)
SIZES = np.geomspace(0.5, 8, 25)  # of 10 s returns, in standard deviations
N_PARTS = 13  # half-hours of a full day


def stylised_curves(tape: Tape) -> pd.DataFrame:
    """The curves of one session.

    Returns
    -------
    frame with columns panel, axis, is_log, x, y
        Autocorrelations of |return| and trade sign, the tail of the 10 s
        returns, the response of the mid to a trade, events in each part of
        the day over their mean, and the share of upward next moves in each
        fifth of the imbalance. A curve with too few observations is left out.
    """
    curves: list[tuple[Panel, FloatArray, FloatArray]] = []
    clock = np.arange(tape.ts[0], tape.ts[-1] + 1, 10 * SECOND)
    mid = stylised.mid_ticks(tape)
    returns = np.diff(np.log(mid[np.searchsorted(tape.ts, clock, side="right") - 1]))
    lags = np.arange(1.0, N_LAGS + 1)
    if len(returns) > 2 * N_LAGS and returns.std() > 0:
        curves.append((ABS_RETURN, lags, stylised.autocorrelation(np.abs(returns), N_LAGS).value))
        size = np.abs(returns) / returns.std()
        curves.append((TAIL, SIZES, (size[:, None] > SIZES).mean(axis=0)))
    trades = stylised.trades(tape)
    if len(trades.ts) > 5 * max(RESPONSE_LAGS):
        curves.append((SIGN, lags, stylised.autocorrelation(trades.sign, N_LAGS).value))
        response = stylised.response(trades.sign, trades.mid, RESPONSE_LAGS).value
        curves.append((RESPONSE, np.array(RESPONSE_LAGS, dtype=np.float64), response))
    part = (tape.ts - tape.ts[0]) * N_PARTS // (tape.ts[-1] - tape.ts[0] + 1)
    events = np.bincount(part, minlength=N_PARTS) / (len(tape) / N_PARTS)
    curves.append((DAY, (np.arange(N_PARTS) + 0.5) / N_PARTS, events))
    _, imbalance, is_up = stylised.next_moves(tape)
    if len(is_up):
        share = stylised.share_by_fifth(imbalance, is_up).value
        curves.append((UP, np.linspace(-0.8, 0.8, len(share)), share))
    frames = [
        pd.DataFrame(
            {"panel": panel.title, "axis": panel.axis, "is_log": panel.is_log, "x": x, "y": y}
        )
        for panel, x, y in curves
    ]
    return pd.concat(frames, ignore_index=True)
