"""One session of a market, event by event: what simulators write and LOBSTER files hold.

A row is an event and the best quotes after it. Codes are LOBSTER's: an
execution (4, 5) bears the size taken from a *resting* order and that order's
direction, so a trade that a buyer started has direction -1.

Source: LOBSTER, Data structure, lobsterdata.com (event types 1-7).
"""

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

ADD, REDUCE, DELETE, EXECUTE, EXECUTE_HIDDEN, CROSS, HALT = 1, 2, 3, 4, 5, 6, 7
EVENT_NAMES = {
    ADD: "add",
    REDUCE: "partial cancel",
    DELETE: "delete",
    EXECUTE: "execution",
    EXECUTE_HIDDEN: "hidden execution",
    CROSS: "auction",
    HALT: "trading halt",
}


@dataclass(frozen=True)
class Tape:
    """Events of one session in time order; each field is an array of shape (n_events,).

    ts : int64, nanoseconds UTC, never decreasing
    kind : int8, event code 1-7
    order_id : int64; 0 where the event has none (hidden execution)
    size : int32, lots
    price : int32, ticks
    direction : int8, +1 a buy order, -1 a sell order rests
    best_bid, best_ask : int32, ticks after the event; 0 where the side is empty
    bid_qty, ask_qty : int32, lots at the best price after the event
    """

    ts: npt.NDArray[np.int64]
    kind: npt.NDArray[np.int8]
    order_id: npt.NDArray[np.int64]
    size: npt.NDArray[np.int32]
    price: npt.NDArray[np.int32]
    direction: npt.NDArray[np.int8]
    best_bid: npt.NDArray[np.int32]
    bid_qty: npt.NDArray[np.int32]
    best_ask: npt.NDArray[np.int32]
    ask_qty: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        lengths = {field.name: len(getattr(self, field.name)) for field in fields(self)}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"expected arrays of one length, received {lengths}")

    def __len__(self) -> int:
        return len(self.ts)


@dataclass(frozen=True)
class Recording:
    """A session as a simulator wrote it down.

    tape : Tape
        Every event.
    snapshots : int64 array of shape (n_snapshots, 3 + 4 * levels)
        ts; for each level bid price, bid lots, ask price, ask lots; price of
        the last trade, lots traded since the snapshot before.
    """

    tape: Tape
    snapshots: npt.NDArray[np.int64]
