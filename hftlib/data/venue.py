"""A recorded day with somebody's own orders in it: the kernels of `data.injection`.

History's orders are numbered as they came to rest, and an own order notes how
many had by then: it stands before all later ones at its price. What comes into
view at a price whose queue could not be seen when the order joined it is taken
to have been there before.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hftlib.compute import compile_kernel
from hftlib.data.history import (
    O_ADD,
    O_CANCEL,
    O_EXECUTE,
    O_KIND,
    O_LEFT,
    O_ORDER,
    O_PRICE,
    O_QTY,
    O_SIDE,
    O_SURFACE,
)
from hftlib.data.queues import (
    OLDEST_FIRST,
    after,
    best_price,
    constant,
    first_at,
    is_better,
    move_back,
    next_price,
    slot_of,
)
from hftlib.market.ladder import (
    HANDLE,
    NONE,
    OWNER,
    QTY,
    TAG,
    State,
    find,
    reduce,
    rest,
    wide,
)
from hftlib.market.matching import (
    CASH,
    F_CAUSE,
    F_MAKER,
    F_MAKER_OWNER,
    F_MAKER_TAG,
    F_MESSAGE,
    F_PRICE,
    F_QTY,
    F_SIDE,
    LOTS,
    MADE,
    POSITION,
    TOOK,
    TRADE,
    crosses,
    match,
)

# counters: rows played; messages sent, and arrived; rows of `fills` in use; orders of history
# that have come to rest; whether a message has arrived; operations on orders that own trades
# had taken, in whole or part; lots of history's takers that found nobody
(
    ROW,
    N_SENT,
    MESSAGE,
    N_FILLS,
    N_SEEN,
    IS_TOUCHED,
    N_IGNORED,
    N_TRIMMED,
    LOST_LOTS,
) = range(9)
N_COUNTERS = 9
# columns of `places`
P_BEFORE, P_IS_BLIND = range(2)
FROM_HISTORY = constant(-1)  # as the message of a fill
LAST = constant(2**62)


class Venue(NamedTuple):
    """State of a market of `data.injection`."""

    book: State  # history's orders; with impact the callers' too
    own: State  # the callers' orders; with impact the same vector
    accounts: npt.NDArray[np.int64]  # (n_owners, N_ACCOUNT)
    handles: npt.NDArray[np.int32]  # (n_orders,), of history's orders by number
    left: npt.NDArray[np.int32]  # (n_orders,), lots that they have left in history
    places: npt.NDArray[np.int32]  # (capacity, 2), of own orders by slot
    fills: npt.NDArray[np.int32]  # (room, 8)
    counters: npt.NDArray[np.int64]  # (N_COUNTERS,)


class Script(NamedTuple):
    """A day, and the messages that the callers send into it."""

    ts: npt.NDArray[np.int64]  # (n_rows,)
    first_op: npt.NDArray[np.int64]  # (n_rows + 1,)
    ops: npt.NDArray[np.int32]  # (n_ops, 6)
    reach: npt.NDArray[np.int32]  # (n_rows, 2)
    messages: npt.NDArray[np.int32]  # (n, 7), N_SENT are in use
    arrives: npt.NDArray[np.int64]  # (n,)
    acks: npt.NDArray[np.int32]  # (n, 4)
    fill_ts: npt.NDArray[np.int64]  # (room,)


@compile_kernel
def settle(
    v: Venue, message: int, taker: int, side: int, order: int, maker: int, price: int, qty: int
) -> None:
    """Write a fill down and book it.

    `side` is the taker's. The maker is `order` of `own`, or NONE for lots that
    history shows and keeps.
    """
    n = v.counters[N_FILLS]
    f = v.fills[n]
    f[F_MESSAGE], f[F_MAKER_OWNER], f[F_PRICE], f[F_QTY] = message, maker, price, qty
    f[F_SIDE], f[F_CAUSE], f[F_MAKER], f[F_MAKER_TAG] = side, TRADE, 0, 0
    if order != NONE:
        f[F_MAKER], f[F_MAKER_TAG] = v.own[order + HANDLE], v.own[order + TAG]
    v.counters[N_FILLS] = n + 1
    notional = price * qty
    v.accounts[taker, POSITION] += side * qty
    v.accounts[taker, CASH] -= side * notional
    v.accounts[taker, TOOK] += notional
    v.accounts[taker, LOTS] += qty
    v.accounts[maker, POSITION] -= side * qty
    v.accounts[maker, CASH] += side * notional
    v.accounts[maker, MADE] += notional
    v.accounts[maker, LOTS] += qty


@compile_kernel
def serve_level(v: Venue, side: int, price: int, number: int, budget: int) -> int:
    """Let a taker of history meet who stands before order `number` at its price.

    These are own orders, and orders that history has done with but an own
    order has spared. Returns the lots left.
    """
    s, history = v.own, wide(0)
    order = first_at(s, side, price, OLDEST_FIRST)
    while order != NONE and budget > 0:
        following = after(s, order, OLDEST_FIRST)
        owner, tag = wide(s[order + OWNER]), wide(s[order + TAG])
        if owner > 0:
            slot = slot_of(s, wide(s[order + HANDLE]))
            is_before = v.places[slot, P_BEFORE] <= number
        else:
            is_before = tag < number and v.left[tag] == 0
        if is_before:
            part = min(budget, wide(s[order + QTY]))
            settle(v, FROM_HISTORY, history, -side, order, owner, price, part)
            reduce(s, order, part)
            budget -= part
        order = following
    return budget


@compile_kernel
def serve_better(v: Venue, side: int, price: int, budget: int) -> int:
    """Let a taker of history meet who waits at better prices; returns the lots left."""
    at = best_price(v.own, side)
    while budget > 0 and is_better(side, at, price):
        budget = serve_level(v, side, at, LAST, budget)
        at = next_price(v.own, side, at)
    return budget


@compile_kernel
def step_back(v: Venue, side: int, price: int) -> None:
    """Move own orders that joined a price unseen behind the lots that have come into view."""
    order = first_at(v.own, side, price, OLDEST_FIRST)
    while order != NONE:
        following = after(v.own, order, OLDEST_FIRST)
        if v.own[order + OWNER] > 0:
            place = v.places[slot_of(v.own, wide(v.own[order + HANDLE]))]
            if place[P_IS_BLIND] != 0:
                place[P_BEFORE], place[P_IS_BLIND] = v.counters[N_SEEN], 0
                move_back(v.own, order)
        order = following


@compile_kernel
def play_add(
    v: Venue, kind: int, number: int, side: int, price: int, qty: int, has_impact: bool
) -> None:
    """An order of history comes: it first meets own orders that it crosses."""
    left, history = qty, wide(0)
    if v.counters[IS_TOUCHED] and crosses(v.own, side, price):
        n = v.counters[N_FILLS]
        n, left, _ = match(v.own, v.accounts, v.fills, n, FROM_HISTORY, side, price, qty, history)
        v.counters[N_FILLS] = n
        if not has_impact:
            left = qty
    v.counters[N_SEEN] = number + 1
    v.counters[N_TRIMMED] += left < qty
    v.left[number] = qty
    v.handles[number] = rest(v.book, side, price, left, history, number) if left > 0 else 0
    if kind == O_SURFACE and v.counters[IS_TOUCHED]:
        step_back(v, side, price)


@compile_kernel
def play_cancel(v: Venue, number: int, qty: int, left: int) -> None:
    """An order of history goes, in part or whole."""
    v.left[number] = left
    order = find(v.book, wide(v.handles[number]))
    if order == NONE:
        v.counters[N_IGNORED] += 1
        return
    rested = wide(v.book[order + QTY])
    v.counters[N_TRIMMED] += rested < qty
    reduce(v.book, order, rested if left == 0 else min(qty, rested))


@compile_kernel
def play_execution(
    v: Venue, number: int, side: int, price: int, qty: int, left: int, has_impact: bool
) -> None:
    """An order of history trades: its taker first meets who stands before it."""
    budget = qty
    if v.counters[IS_TOUCHED]:
        budget = serve_better(v, side, price, budget)
        budget = serve_level(v, side, price, number, budget)
    if not has_impact:
        budget = qty
    v.left[number] = left
    order = find(v.book, wide(v.handles[number]))
    if order == NONE:
        v.counters[N_IGNORED] += 1
        v.counters[LOST_LOTS] += budget
        return
    rested = wide(v.book[order + QTY])
    v.counters[N_TRIMMED] += rested < qty
    v.counters[LOST_LOTS] += max(0, budget - rested)
    if budget > 0:
        reduce(v.book, order, budget)


@compile_kernel
def play_hidden(v: Venue, side: int, price: int, qty: int) -> None:
    """A hidden order trades: who is displayed comes first, at its price too."""
    number, order = LAST, first_at(v.book, side, price, OLDEST_FIRST)
    while order != NONE:
        if v.book[order + OWNER] == 0 and v.left[v.book[order + TAG]] > 0:
            number = wide(v.book[order + TAG])
            break
        order = after(v.book, order, OLDEST_FIRST)
    budget = serve_better(v, side, price, qty)
    serve_level(v, side, price, number, budget)


@compile_kernel
def play(v: Venue, op: npt.NDArray[np.int32], has_impact: bool) -> None:
    """Carry out an operation of history."""
    kind, number, side = wide(op[O_KIND]), wide(op[O_ORDER]), wide(op[O_SIDE])
    price, qty, left = wide(op[O_PRICE]), wide(op[O_QTY]), wide(op[O_LEFT])
    if kind in (O_ADD, O_SURFACE):
        play_add(v, kind, number, side, price, qty, has_impact)
    elif kind == O_CANCEL:
        play_cancel(v, number, qty, left)
    elif kind == O_EXECUTE:
        play_execution(v, number, side, price, qty, left, has_impact)
    elif v.counters[IS_TOUCHED]:
        play_hidden(v, side, price, qty)
