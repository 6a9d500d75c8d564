"""Rows of a request as the tables that models were trained on."""

import numpy as np
import pandas as pd

from hftlib.live.protocols import Bar
from hftlib.live.requests import SymbolBody
from hftlib.live.rows import SnapshotBody, StateBody


def show_ts(ts_ns: int) -> str:
    """A time for people, ISO 8601 in UTC."""
    return str(pd.Timestamp(ts_ns, tz="UTC").isoformat())


def bar_frame(item: SymbolBody) -> pd.DataFrame:
    """The window as `schema.BARS`."""
    bars = [body.to_bar() for body in item.window or ()]
    ts, *values = zip(*bars, strict=True)
    stamps = pd.DatetimeIndex(np.array(ts, dtype="datetime64[ns]"), tz="UTC")
    columns = dict(zip(Bar._fields[1:], map(np.array, values), strict=True))
    about = {"symbol": item.symbol, "source": "request", "ts": stamps}
    return pd.DataFrame({**about, **columns, "is_synthetic": False})


def book_frame(item: SymbolBody) -> pd.DataFrame:
    """The window as snapshots of the book, columns in the order of the recorded ones.

    Sizes traded are added where they are known, and the client's own order, the same in each row.
    """
    about = {"symbol": item.symbol, "source": "request", "session": "request"}
    own = {} if item.state is None else _own_order(item.state)
    return pd.DataFrame([{**about, **_levels(one), **own} for one in item.snapshots or ()])


def _own_order(state: StateBody) -> dict[str, int]:
    return {
        "side": 1 if state.side == "buy" else -1,
        "remaining_lots": state.remaining_lots,
        "resting_price": 0 if state.resting_price is None else state.resting_price,
        "resting_lots": state.resting_lots,
    }


def _levels(snapshot: SnapshotBody) -> dict[str, int]:
    row = {"ts": snapshot.ts, "best_bid": snapshot.bid_px[0], "best_ask": snapshot.ask_px[0]}
    row |= {"bid_qty_1": snapshot.bid_qty[0], "ask_qty_1": snapshot.ask_qty[0]}
    for k in range(1, len(snapshot.bid_px)):
        for side in ("bid_px", "bid_qty", "ask_px", "ask_qty"):
            row[f"{side}_{k + 1}"] = getattr(snapshot, side)[k]
    if snapshot.traded_qty is not None:
        row["traded_qty"] = snapshot.traded_qty
    return row
