"""From a stream of messages to operations on a book that cannot fail: the kernels of `data.replay`.

A file of k levels tells only what touches its k best prices, so what lies
below is out of view: it changes unseen. The replay keeps what it last saw
there and trusts it for nothing. Orders are fresh (all of their life was in
view), stale (their level has been out of view since) or anonymous (lots that a
book row showed and no message named).

Each message first moves the replay's own book, which is then compared with the
book row; only after that does the row correct the book. A difference is
explained if all prices in view agree and a price that was worse than all in
view has come into it; nothing else is (see `data.replay.OUTCOMES`). What
was applied, corrections included, is written down as operations, which
`data.injection` carries out again beside somebody's own orders.

Source: LOBSTER, Data structure, lobsterdata.com.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hftlib.compute import compile_kernel
from hftlib.data.queues import (
    BUY,
    NEWEST_FIRST,
    OLDEST_FIRST,
    SELL,
    after,
    best_price,
    constant,
    first_at,
    is_better,
)
from hftlib.market.ladder import (
    MAX_LOTS,
    MAX_PRICE,
    N_LIVE,
    NO_ASK,
    NONE,
    OWNER,
    PRICE,
    QTY,
    SIDE,
    TAG,
    State,
    find,
    reduce,
    rest,
    wide,
)
from hftlib.market.matching import crosses
from hftlib.market.tape import ADD, CROSS, DELETE, EXECUTE, EXECUTE_HIDDEN, HALT

# Kinds of operation: an order comes, goes in part or whole, trades; a hidden one trades;
# anonymous lots come into view.
O_ADD, O_CANCEL, O_EXECUTE, O_HIDDEN = (
    constant(kind) for kind in (ADD, DELETE, EXECUTE, EXECUTE_HIDDEN)
)
O_SURFACE = constant(8)
# columns of an operation; LEFT are the order's lots after it
O_KIND, O_ORDER, O_SIDE, O_PRICE, O_QTY, O_LEFT = range(6)
N_FIELDS = 6
# outcome of a row, see `data.replay.OUTCOMES`
(
    EQUAL,
    HIDDEN_EXECUTION,
    AUCTION,
    TRADING_HALT,
    UNSEEN_ORDER,
    SURFACED,
    OPENING,
    GAP,
    NOT_COMPARED,
    MISMATCH,
) = range(10)
# verdict on a message, see `data.replay.VERDICTS`; from MALFORMED on they are faults
(
    SOUND,
    UNSEEN,
    CHANGED,
    CLEARED,
    MALFORMED,
    TIME_BACK,
    WRONG_SIZE,
    NO_ORDER,
    OTHER_PLACE,
    DUPLICATE,
    CROSSES,
    PAST_BETTER,
    NO_ROOM,
) = range(13)
# notes: counters, the first row that mismatches, worst bid and ask price in view
N_OPS, N_ORDERS, N_OUT_OF_TURN, N_CLEARED, PEAK, FIRST_MISMATCH, WORST_BID, WORST_ASK = range(8)
N_NOTES = 8
ANY_BID, ANY_ASK = 0, NO_ASK  # as the worst price in view: all are
# columns of a message
TS, KIND, ID, SIZE, AT, DIRECTION = range(6)
ANONYMOUS, NOTHING = constant(-1), constant(0)

Message = npt.NDArray[np.int64]


class Desk(NamedTuple):
    """What a replay knows.

    Orders are numbered as they come to rest; the number is the order's tag.
    Its owner says who it is: the index of its id, -2 - index if it is stale,
    or ANONYMOUS.
    """

    state: State
    handles: npt.NDArray[np.int32]  # (n_ids,), of the order that bears an id, or 0
    ops: npt.NDArray[np.int32]  # (n_ops, N_FIELDS)
    notes: npt.NDArray[np.int64]  # (N_NOTES,)


@compile_kernel
def in_view(notes: npt.NDArray[np.int64], side: int, price: int) -> bool:
    """Whether the book rows would show lots at this price."""
    return price >= notes[WORST_BID] if side > 0 else price <= notes[WORST_ASK]


@compile_kernel
def emit(k: Desk, kind: int, number: int, side: int, price: int, qty: int, left: int) -> None:
    """Write an operation down."""
    op = k.ops[k.notes[N_OPS]]
    op[O_KIND], op[O_ORDER], op[O_SIDE] = kind, number, side
    op[O_PRICE], op[O_QTY], op[O_LEFT] = price, qty, left
    k.notes[N_OPS] += 1


@compile_kernel
def put(k: Desk, kind: int, side: int, price: int, qty: int, identity: int) -> int:
    """Rest lots behind all others at their price; the handle, or 0 if there is no room."""
    number = k.notes[N_ORDERS]
    handle = rest(k.state, side, price, qty, identity, number)
    if handle != 0:
        k.notes[N_ORDERS] += 1
        k.notes[PEAK] = max(k.notes[PEAK], k.state[N_LIVE])
        emit(k, kind, number, side, price, qty, qty)
    return handle


@compile_kernel
def take(k: Desk, kind: int, order: int, qty: int) -> None:
    """Take lots off an order."""
    s = k.state
    number, side, price = wide(s[order + TAG]), wide(s[order + SIDE]), wide(s[order + PRICE])
    emit(k, kind, number, side, price, qty, s[order + QTY] - qty)
    reduce(s, order, qty)


@compile_kernel
def forget(s: State, handles: npt.NDArray[np.int32], order: int) -> None:
    """Make an order anonymous; it keeps its lots and its place."""
    identity = s[order + OWNER]
    if identity != ANONYMOUS:
        handles[identity if identity >= 0 else -2 - identity] = 0
        s[order + OWNER] = ANONYMOUS


@compile_kernel
def is_fresh(k: Desk, order: int) -> bool:
    """Whether all of an order's life so far was in view."""
    s = k.state
    seen = in_view(k.notes, wide(s[order + SIDE]), wide(s[order + PRICE]))
    return seen and s[order + OWNER] >= 0


@compile_kernel
def survey(s: State, side: int, price: int) -> tuple[int, int, bool]:
    """Lots at a price, the anonymous among them, and whether an order there is stale."""
    lots, unknown, has_stale = NOTHING, NOTHING, False
    order = first_at(s, side, price, OLDEST_FIRST)
    while order != NONE:
        lots += s[order + QTY]
        if s[order + OWNER] == ANONYMOUS:
            unknown += s[order + QTY]
        elif s[order + OWNER] < 0:
            has_stale = True
        order = after(s, order, OLDEST_FIRST)
    return lots, unknown, has_stale


@compile_kernel
def age_level(s: State, side: int, price: int) -> None:
    """Make all orders at a price stale."""
    order = first_at(s, side, price, OLDEST_FIRST)
    while order != NONE:
        if s[order + OWNER] >= 0:
            s[order + OWNER] = -2 - s[order + OWNER]
        order = after(s, order, OLDEST_FIRST)


@compile_kernel
def forget_level(s: State, handles: npt.NDArray[np.int32], side: int, price: int) -> None:
    """Make all orders at a price anonymous."""
    order = first_at(s, side, price, OLDEST_FIRST)
    while order != NONE:
        forget(s, handles, order)
        order = after(s, order, OLDEST_FIRST)


@compile_kernel
def shed(k: Desk, kind: int, side: int, price: int, qty: int) -> None:
    """Take lots off the anonymous orders at a price.

    Executions take the oldest, cancels the newest: most cancelled orders are
    young, and who queues in between is not moved ahead without cause.
    """
    s, way = k.state, OLDEST_FIRST if kind == O_EXECUTE else NEWEST_FIRST
    order = first_at(s, side, price, way)
    while order != NONE and qty > 0:
        following = after(s, order, way)
        if s[order + OWNER] == ANONYMOUS:
            part = min(qty, wide(s[order + QTY]))
            take(k, kind, order, part)
            qty -= part
        order = following


@compile_kernel
def clear_level(k: Desk, side: int, price: int) -> None:
    """Take all orders at a price out of the book."""
    order = first_at(k.state, side, price, OLDEST_FIRST)
    while order != NONE:
        take(k, O_CANCEL, order, wide(k.state[order + QTY]))
        k.notes[N_CLEARED] += 1
        order = first_at(k.state, side, price, OLDEST_FIRST)


@compile_kernel
def lose(k: Desk, order: int) -> None:
    """Part from an order that is no longer where it was last seen.

    If its level is in view its lots are somebody's, else they may be gone.
    """
    s = k.state
    if in_view(k.notes, wide(s[order + SIDE]), wide(s[order + PRICE])):
        forget(s, k.handles, order)
    else:
        take(k, O_CANCEL, order, wide(s[order + QTY]))


@compile_kernel
def clear_better(k: Desk, side: int, price: int) -> int:
    """Clear the levels of a side better than a price, of which nothing is in view; the verdict."""
    verdict = SOUND
    best = best_price(k.state, side)
    while is_better(side, best, price):
        if in_view(k.notes, side, best):
            return PAST_BETTER
        clear_level(k, side, best)
        verdict = CLEARED
        best = best_price(k.state, side)
    return verdict


@compile_kernel
def add(k: Desk, id_: int, side: int, price: int, size: int) -> int:
    """Apply a message that adds an order; returns the verdict."""
    verdict = SOUND
    order = find(k.state, wide(k.handles[id_]))
    if order != NONE:
        verdict = DUPLICATE if is_fresh(k, order) else CHANGED
        lose(k, order)
    if crosses(k.state, side, price):
        cleared = clear_better(k, -side, price + side)
        if cleared == PAST_BETTER:
            return CROSSES
        verdict = max(verdict, cleared)
    k.handles[id_] = put(k, O_ADD, side, price, size, id_)
    return verdict if k.handles[id_] != 0 else NO_ROOM


@compile_kernel
def take_unknown(k: Desk, kind: int, side: int, price: int, size: int) -> int:
    """Apply a message that takes lots off an order never seen; returns the verdict."""
    if kind == EXECUTE:
        verdict = clear_better(k, side, price)
        if verdict != SOUND:
            return verdict
    if not in_view(k.notes, side, price):
        return UNSEEN
    lots, unknown, has_stale = survey(k.state, side, price)
    if size > lots:
        return WRONG_SIZE if lots > 0 else NO_ORDER
    if size > unknown:
        if not has_stale:
            return NO_ORDER
        forget_level(k.state, k.handles, side, price)
    op = O_EXECUTE if kind == EXECUTE else O_CANCEL
    shed(k, op, side, price, size)
    return UNSEEN


@compile_kernel
def take_known(k: Desk, kind: int, order: int, side: int, price: int, size: int) -> int:
    """Apply a message that takes lots off an order whose add was seen; returns the verdict."""
    s, verdict = k.state, SOUND
    rested = wide(s[order + QTY])
    is_elsewhere = s[order + PRICE] != price or s[order + SIDE] != side
    if (is_elsewhere or size > rested) and not is_fresh(k, order):  # it has changed unseen
        lose(k, order)
        verdict = take_unknown(k, kind, side, price, size)
        return CHANGED if verdict == UNSEEN else verdict
    if is_elsewhere:
        return OTHER_PLACE
    if kind == EXECUTE:
        verdict = clear_better(k, side, price)
        k.notes[N_OUT_OF_TURN] += after(s, order, NEWEST_FIRST) != NONE
    op = O_EXECUTE if kind == EXECUTE else O_CANCEL
    if size > rested or (kind == DELETE and size < rested):
        if is_fresh(k, order):
            take(k, op, order, rested)
            return WRONG_SIZE
        verdict = CHANGED
        if in_view(k.notes, side, price):  # others have taken the room of what went unseen
            forget(s, k.handles, order)
        else:
            size = rested
    take(k, op, order, size)
    return verdict


@compile_kernel
def check_hidden(k: Desk, price: int) -> int:
    """Verdict on a hidden execution, whose price lies between the best quotes or at one."""
    for side in (BUY, SELL):
        best = best_price(k.state, side)
        if is_better(side, best, price) and in_view(k.notes, side, best):
            return PAST_BETTER
    return SOUND


@compile_kernel
def apply(k: Desk, m: Message) -> int:
    """Apply a message; returns the verdict."""
    kind, side, price, size = m[KIND], m[DIRECTION], m[AT], m[SIZE]
    if kind in (CROSS, HALT):
        return SOUND
    if kind < ADD or kind > EXECUTE_HIDDEN or side * side != 1:
        return MALFORMED
    if price < 1 or price > MAX_PRICE or size < 1 or size > MAX_LOTS:
        return MALFORMED
    if kind == EXECUTE_HIDDEN:
        emit(k, O_HIDDEN, ANONYMOUS, side, price, size, NOTHING)
        return check_hidden(k, price)
    if kind == ADD:
        return add(k, m[ID], side, price, size)
    order = find(k.state, wide(k.handles[m[ID]]))
    if order == NONE:
        return take_unknown(k, kind, side, price, size)
    return take_known(k, kind, order, side, price, size)
