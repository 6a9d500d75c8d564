"""Writing down what a simulated market does: tape rows and book snapshots.

`send` applies one message to a book and appends the events it causes, each
with the quotes after it, in the columns of a `market.tape.Tape`.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from hftlib.compute import compile_kernel
from hftlib.market.book import BookError
from hftlib.market.flow import Quotes
from hftlib.market.ladder import (
    BEST_ASK,
    BEST_BID,
    FAR_ASK_HEAD,
    FAR_BID_HEAD,
    LAST_PRICE,
    LOTS,
    MAX_PRICE,
    NEXT,
    NO_ASK,
    NONE,
    OWNER,
    PRICE,
    QTY,
    SIDE,
    TAG,
    TRADED,
    State,
    find,
    in_window,
    level_at,
    order_at,
    read_depth,
    remove,
    wide,
)
from hftlib.market.matching import (
    ACCEPTED,
    CANCEL,
    F_CAUSE,
    F_MAKER_TAG,
    F_PRICE,
    F_QTY,
    LIMIT,
    M_HANDLE,
    M_KIND,
    M_OWNER,
    M_PRICE,
    M_QTY,
    M_SIDE,
    M_TAG,
    MODIFY,
    TRADE,
    Ack,
    submit,
    trade,
)
from hftlib.market.tape import ADD, DELETE, EXECUTE, Tape
from hftlib.market.tape import REDUCE as SHRINK

Rows = npt.NDArray[np.int64]

# columns of a row: the fields of a Tape in order
TS, EVENT, ORDER_ID, SIZE, PX, DIRECTION, BID, BID_LOTS_1, ASK, ASK_LOTS_1 = range(10)
N_COLUMNS = 10
ROWS_OF_A_STEP = 8_192  # room for what one step may write, beside one row for each order


@compile_kernel
def best_of(s: State, side: int) -> tuple[int, int]:
    """Best price of a side and its lots; 0, 0 where it is empty."""
    price = s[BEST_BID] if side > 0 else s[BEST_ASK]
    if price == 0 or price == NO_ASK:
        return 0, 0
    if in_window(s, price):
        return price, s[level_at(s, price) + LOTS]
    lots, slot = 0, s[FAR_BID_HEAD if side > 0 else FAR_ASK_HEAD]
    while slot != NONE:
        order = order_at(s, slot)
        lots += s[order + QTY] if s[order + PRICE] == price else 0
        slot = s[order + NEXT]
    return price, lots


@compile_kernel
def quotes_of(s: State) -> Quotes:
    """Best prices and sizes of a book."""
    bid, bid_qty = best_of(s, 1)
    ask, ask_qty = best_of(s, -1)
    return Quotes(bid, bid_qty, ask, ask_qty)


@compile_kernel
def write_row(
    rows: Rows, n: int, ts: int, event: int, order_id: int, size: int, price: int, side: int
) -> int:
    """Append an event without its quotes; returns the number of rows.

    Beyond the last row events are only counted.
    """
    if n < len(rows):
        rows[n, TS], rows[n, EVENT], rows[n, ORDER_ID] = ts, event, order_id
        rows[n, SIZE], rows[n, PX], rows[n, DIRECTION] = size, price, side
    return n + 1


@compile_kernel
def write_quotes(rows: Rows, n: int, q: Quotes) -> None:
    """Fill in the quotes after an event."""
    if n < len(rows):
        rows[n, BID], rows[n, BID_LOTS_1], rows[n, ASK], rows[n, ASK_LOTS_1] = q


@compile_kernel
def record_order(
    s: State,
    fills: npt.NDArray[np.int32],
    n_fills: int,
    side: int,
    price: int,
    resting: int,
    order_id: int,
    ts: int,
    before: Quotes,
    rows: Rows,
    n: int,
) -> int:
    """Append the fills of an order and what rests of it; returns the number of rows.

    The book is already past them all, so the quotes between two fills are
    found backwards: before a fill, its price was best and its lots were there.
    """
    after = quotes_of(s)
    best, lots = (after.ask, after.ask_qty) if side > 0 else (after.bid, after.bid_qty)
    for j in range(n_fills - 1, -1, -1):
        at, qty = fills[j, F_PRICE], fills[j, F_QTY]
        event = EXECUTE if fills[j, F_CAUSE] == TRADE else DELETE
        write_row(rows, n + j, ts, event, fills[j, F_MAKER_TAG], qty, at, -side)
        if side > 0:
            write_quotes(rows, n + j, Quotes(before.bid, before.bid_qty, best, lots))
        else:
            write_quotes(rows, n + j, Quotes(best, lots, before.ask, before.ask_qty))
        lots = qty + (lots if best == at else 0)
        best = at
    n += n_fills
    if resting > 0:
        write_row(rows, n, ts, ADD, order_id, resting, price, side)
        write_quotes(rows, n, after)
        n += 1
    return n


@compile_kernel
def cancel_order(s: State, order: int, ts: int, rows: Rows, n: int) -> int:
    """Remove a live order and append the event; returns the number of rows."""
    if len(rows) > 0:
        write_row(
            rows, n, ts, DELETE, s[order + TAG], s[order + QTY], s[order + PRICE], s[order + SIDE]
        )
    remove(s, order)
    if len(rows) > 0:
        write_quotes(rows, n, quotes_of(s))
        n += 1
    return n


@compile_kernel
def send(
    s: State,
    accounts: npt.NDArray[np.int64],
    fills: npt.NDArray[np.int32],
    m: npt.NDArray[np.int32],
    ts: int,
    rows: Rows,
    n: int,
) -> tuple[int, Ack]:
    """Submit a message and append its events to `rows` from row `n` on.

    `fills` needs room for every order of the book; of `rows` without any,
    nothing is written. The tag of an order is its identity on the tape.
    Returns the number of rows and what `submit` returns for this message
    alone.
    """
    start = wide(0)
    kind, handle = wide(m[M_KIND]), wide(m[M_HANDLE])
    if len(rows) == 0:
        return n, submit(s, accounts, fills, start, start, m, handle)
    if kind < CANCEL:
        before = quotes_of(s)
        ack = submit(s, accounts, fills, start, start, m, handle)
        side, price, tag = wide(m[M_SIDE]), wide(m[M_PRICE]), wide(m[M_TAG])
        return record_order(s, fills, ack[0], side, price, ack[4], tag, ts, before, rows, n), ack
    order = find(s, handle)
    if order == NONE or s[order + OWNER] != m[M_OWNER]:
        return n, submit(s, accounts, fills, start, start, m, handle)
    if kind == CANCEL:
        n = cancel_order(s, order, ts, rows, n)
        return n, (start, ACCEPTED, 0, 0, 0)
    side, tag = wide(s[order + SIDE]), wide(s[order + TAG])
    at, rested = wide(s[order + PRICE]), wide(s[order + QTY])
    price, qty, owner = wide(m[M_PRICE]), wide(m[M_QTY]), wide(m[M_OWNER])
    moves = kind == MODIFY and (price != at or qty > rested)
    if moves and 1 <= price <= MAX_PRICE and qty > 0:  # leaves its queue, and comes anew
        n = cancel_order(s, order, ts, rows, n)
        before = quotes_of(s)
        kind = wide(LIMIT)
        ack = trade(s, accounts, fills, start, start, kind, side, price, qty, owner, tag)
        return record_order(s, fills, ack[0], side, price, ack[4], tag, ts, before, rows, n), ack
    ack = submit(s, accounts, fills, start, start, m, handle)
    if ack[1] == ACCEPTED and ack[4] < rested:
        event = SHRINK if ack[4] > 0 else DELETE
        n = write_row(rows, n, ts, event, tag, rested - ack[4], at, side)
        write_quotes(rows, n - 1, quotes_of(s))
    return n, ack


@compile_kernel
def write_snapshot(s: State, ts: int, snapshots: npt.NDArray[np.int64], n: int) -> int:
    """Append ts, the levels as bid price and lots, ask price and lots, last price, lots traded.

    The count of traded lots starts anew. Returns the number of snapshots.
    """
    levels = (snapshots.shape[1] - 3) // 4
    row = snapshots[n]
    row[0] = ts
    read_depth(s, 1, row[1 : 1 + 4 * levels : 4], row[2 : 2 + 4 * levels : 4])
    read_depth(s, -1, row[3 : 3 + 4 * levels : 4], row[4 : 4 + 4 * levels : 4])
    row[1 + 4 * levels], row[2 + 4 * levels] = s[LAST_PRICE], s[TRADED]
    s[TRADED] = 0
    return n + 1


def check_plan(n_steps: int, snapshot_every: int, levels: int) -> None:
    """Refuse to record nothing.

    Raises
    ------
    BookError
        If one of the numbers is not positive.
    """
    plan = {"n_steps": n_steps, "snapshot_every": snapshot_every, "levels": levels}
    for name, value in plan.items():
        if value < 1:
            raise BookError(f"{name} {value}: expected 1 or more")


def check_room(n_rows: int, room: int) -> None:
    """Refuse to lose events.

    Raises
    ------
    BookError
        If there were more rows than room for them.
    """
    if n_rows > room:
        raise BookError(f"{n_rows} events came in one step, with room for {room}: shorten step_ms")


def tape_of(rows: Rows) -> Tape:
    """Rows of shape (n_events, N_COLUMNS) as a Tape."""
    types: dict[int, Any] = {TS: np.int64, ORDER_ID: np.int64, EVENT: np.int8, DIRECTION: np.int8}
    return Tape(*(rows[:, k].astype(types.get(k, np.int32)) for k in range(N_COLUMNS)))
