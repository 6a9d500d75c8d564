"""Stacked book snapshots as arrays: two sides, level by level, and where sessions begin.

What the features of `features.microstructure` share. Nothing is computed that
no feature asks for.

Source of the order flow: Cont, Kukanov and Stoikov (2014), The price impact of
order book events, Journal of Financial Econometrics 12(1).
"""

from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib import schema
from hftlib.data.splits import session_edges

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

LEVELS = 5  # of depths and mean prices


class SnapshotError(ValueError):
    """Snapshots out of order, or with too few levels for a feature."""


class Side:
    """One side of stacked snapshots.

    Attributes
    ----------
    sign : int
        1 for bids, -1 for asks: `sign * price` falls from level to level.
    px, qty : float64 arrays of shape (n_rows,)
        Level 1, ticks and lots; nan where the side is empty.
    """

    def __init__(self, snapshots: pd.DataFrame, name: str, sign: int, levels: int):
        self.sign = sign
        self._table, self._name, self._levels = snapshots, name, levels
        price = snapshots[f"best_{name}"].to_numpy()
        self.px = np.where(price > 0, price, np.nan)
        self.qty = np.where(price > 0, snapshots[f"{name}_qty_1"].to_numpy(), np.nan)

    @cached_property
    def ranks(self) -> FloatArray:
        """`sign * price` of every level, shape (n_levels, n_rows); -inf where it is empty."""
        names = [f"best_{self._name}"]
        names += [f"{self._name}_px_{k}" for k in range(2, self._levels + 1)]
        prices = np.stack([self._table[name].to_numpy() for name in names])
        return np.where(prices > 0, self.sign * prices, -np.inf)

    @cached_property
    def sizes(self) -> FloatArray:
        """Lots at every level, shape (n_levels, n_rows); 0 where it is empty."""
        names = [f"{self._name}_qty_{k}" for k in range(1, self._levels + 1)]
        return np.stack([self._table[name].to_numpy() for name in names]).astype(np.float64)

    @cached_property
    def depth(self) -> FloatArray:
        """Lots within the best `LEVELS` levels, shape (n_rows,); nan where the side is empty."""
        return np.where(self.qty > 0, self.sizes[:LEVELS].sum(axis=0), np.nan)

    def mean_price(self) -> FloatArray:
        """Size-weighted price of the best `LEVELS` levels, ticks; nan where the side is empty."""
        prices = np.where(self.sizes > 0, self.sign * self.ranks, 0.0)[:LEVELS]
        return (prices * self.sizes[:LEVELS]).sum(axis=0) / self.depth

    def reach(self) -> FloatArray:
        """Ticks from the best price to the last of the best `LEVELS` levels that is filled."""
        ranks = self.ranks[:LEVELS]
        return self.sign * self.px - np.where(np.isfinite(ranks), ranks, np.inf).min(axis=0)

    def flow(self, level: int) -> FloatArray:
        """Lots that came to (+) or left (-) the side at a level since the row before.

        The side's part of Cont, Kukanov and Stoikov's e_n; shape (n_rows - 1,),
        for rows 1 onwards, those across a seam included.
        """
        rank, qty = self.ranks[level], self.sizes[level]
        return (rank[1:] >= rank[:-1]) * qty[1:] - (rank[1:] <= rank[:-1]) * qty[:-1]

    def queue_left(self) -> FloatArray:
        """Lots that now lie at the best price of the row before, for rows 1 onwards.

        nan where that price lies behind the last level of the snapshot.
        """
        target = self.ranks[0, :-1]
        left = (self.sizes[:, 1:] * (self.ranks[:, 1:] == target)).sum(axis=0)
        return np.where(target < self.ranks[-1, 1:], np.nan, left)


class Book:
    """Both sides of stacked snapshots, and where their sessions begin.

    Parameters
    ----------
    snapshots : frame as `schema.snapshots(levels)`
        Any number of sessions, one after the other, each in time order.

    Attributes
    ----------
    levels : int
    bid, ask : Side
    mid, spread : float64 arrays of shape (n_rows,)
        Ticks; nan where a side is empty.
    last_px, traded_qty : integer arrays of shape (n_rows,)
        Last trade, ticks, 0 before the first; lots traded since the row before.
    opens : int64 array of shape (n_sessions,)
        First row of each session.

    Raises
    ------
    SchemaError
        If `snapshots` departs from the schema.
    SnapshotError
        If a session's ts falls.
    """

    def __init__(self, snapshots: pd.DataFrame):
        self.levels = 1 + sum(str(name).startswith("bid_px_") for name in snapshots.columns)
        schema.validate(snapshots, schema.snapshots(self.levels))
        self.opens = session_edges(snapshots)[:-1]
        back = np.flatnonzero(np.diff(snapshots["ts"].to_numpy()) < 0) + 1
        back = np.setdiff1d(back, self.opens)
        if len(back):
            raise SnapshotError(
                f"row {back[0]} is earlier than the row before it, of the same session; sort by ts"
            )
        self.bid = Side(snapshots, "bid", 1, self.levels)
        self.ask = Side(snapshots, "ask", -1, self.levels)
        self.mid = (self.bid.px + self.ask.px) / 2
        self.spread = self.ask.px - self.bid.px
        self.last_px: IntArray = snapshots["last_px"].to_numpy()
        self.traded_qty: IntArray = snapshots["traded_qty"].to_numpy()

    def since(self, values: FloatArray) -> FloatArray:
        """Spread `values` of rows 1 onwards over all rows; nan where a session opens."""
        out = np.full(len(self.mid), np.nan)
        out[1:] = values
        out[self.opens] = np.nan
        return out

    def before(self, x: FloatArray) -> FloatArray:
        """`x` of the row before; nan where a session opens."""
        return self.since(x[:-1])
