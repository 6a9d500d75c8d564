"""Callers' messages to a recorded day, and its clock: kernels of `data.injection`.

With impact a message goes to the book that history is played into. Without,
history stays as it was: an own order takes what history shows as if it were
there for it alone, and what rests of it stands in a book of own orders.
"""

import numpy as np
import numpy.typing as npt

from hftlib.compute import compile_kernel
from hftlib.data.queues import best_price, is_better, lots_at, next_price, slot_of
from hftlib.data.venue import (
    IS_TOUCHED,
    LAST,
    MESSAGE,
    N_FILLS,
    N_SEEN,
    N_SENT,
    P_BEFORE,
    P_IS_BLIND,
    ROW,
    Script,
    Venue,
    play,
    settle,
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
    find,
    remove,
    wide,
)
from hftlib.market.matching import (
    A_FILLED,
    A_HANDLE,
    A_RESTING,
    A_STATUS,
    ACCEPTED,
    CANCEL,
    CANNOT_FILL,
    FOK,
    IOC,
    LIMIT,
    M_HANDLE,
    M_KIND,
    M_OWNER,
    M_PRICE,
    M_QTY,
    M_SIDE,
    M_TAG,
    MARKET,
    MODIFY,
    POST_ONLY,
    WOULD_CROSS,
    Ack,
    can_fill,
    crosses,
    match,
    submit,
    trade,
)


@compile_kernel
def can_take(v: Venue, side: int, limit: int, qty: int, owner: int) -> bool:
    """Whether history and own orders together offer all lots up to a price."""
    price = best_price(v.book, -side)
    while price != 0 and price != NO_ASK and not is_better(side, price, limit) and qty > 0:
        qty -= lots_at(v.book, -side, price)
        price = next_price(v.book, -side, price)
    return qty <= 0 or can_fill(v.own, side, limit, qty, owner)


@compile_kernel
def trade_apart(
    v: Venue, index: int, kind: int, side: int, limit: int, qty: int, owner: int, tag: int
) -> Ack:
    """Apply a sound order without impact; what rests of it joins the own orders."""
    n = v.counters[N_FILLS]
    if kind == POST_ONLY and (crosses(v.book, side, limit) or crosses(v.own, side, limit)):
        return n, WOULD_CROSS, 0, 0, 0
    if kind == FOK and not can_take(v, side, limit, qty, owner):
        return n, CANNOT_FILL, 0, 0, 0
    left, history = qty, wide(0)
    price = best_price(v.book, -side)
    while left > 0 and price != 0 and price != NO_ASK and not is_better(side, price, limit):
        if is_better(-side, best_price(v.own, -side), price):
            n, left, _ = match(
                v.own, v.accounts, v.fills, n, index, side, price - side, left, owner
            )
            v.counters[N_FILLS] = n
        part = min(left, lots_at(v.book, -side, price))
        if part > 0:
            settle(v, index, owner, side, wide(NONE), history, price, part)
            left -= part
        price = next_price(v.book, -side, price)
        n = v.counters[N_FILLS]
    if left == 0:
        return n, ACCEPTED, 0, qty, 0
    kind = wide(IOC) if kind == FOK else kind
    n, status, handle, filled, resting = trade(
        v.own, v.accounts, v.fills, n, index, kind, side, limit, left, owner, tag
    )
    return n, status, handle, qty - left + filled, resting


@compile_kernel
def receive(v: Venue, m: npt.NDArray[np.int32], index: int, handle: int, has_impact: bool) -> Ack:
    """Apply a message, as `matching.submit`."""
    kind, side, price = wide(m[M_KIND]), wide(m[M_SIDE]), wide(m[M_PRICE])
    qty, owner, tag = wide(m[M_QTY]), wide(m[M_OWNER]), wide(m[M_TAG])
    is_sound = not has_impact and 0 < owner < len(v.accounts) and 1 <= qty <= MAX_LOTS
    if kind == MARKET:
        price = wide(NO_ASK - 1 if side > 0 else 1)
    elif price < 1 or price > MAX_PRICE:
        is_sound = False
    if is_sound and kind == MODIFY:
        s, order = v.own, find(v.own, handle)
        mine = order != NONE and s[order + OWNER] == owner
        if mine and (price != s[order + PRICE] or qty > s[order + QTY]):
            kind, side, tag = wide(LIMIT), wide(s[order + SIDE]), wide(s[order + TAG])
            remove(s, order)
    if is_sound and LIMIT <= kind < CANCEL and side * side == 1:
        return trade_apart(v, index, kind, side, price, qty, owner, tag)
    n = v.counters[N_FILLS]
    return submit(v.own, v.accounts, v.fills, n, index, m, handle)


@compile_kernel
def arrive(v: Venue, script: Script, has_impact: bool) -> None:
    """The next message of the callers reaches the market."""
    i = v.counters[MESSAGE]
    m, ack = script.messages[i], script.acks[i]
    named = wide(m[M_HANDLE])
    if named < 0:
        named = wide(script.acks[-1 - named, A_HANDLE]) if -1 - named < i else wide(0)
    v.counters[IS_TOUCHED] = 1
    n, status, handle, filled, resting = receive(v, m, i, named, has_impact)
    v.counters[N_FILLS], v.counters[MESSAGE] = n, i + 1
    ack[A_STATUS], ack[A_HANDLE], ack[A_FILLED], ack[A_RESTING] = status, handle, filled, resting
    if handle > 0 and (m[M_KIND] < CANCEL or handle != named):  # it has joined a queue
        order, row = find(v.own, handle), v.counters[ROW]
        is_blind = row == 0
        if row > 0 and v.own[order + SIDE] > 0:
            is_blind = v.own[order + PRICE] < script.reach[row - 1, 0]
        elif row > 0:
            is_blind = v.own[order + PRICE] > script.reach[row - 1, 1]
        place = v.places[slot_of(v.own, handle)]
        place[P_BEFORE], place[P_IS_BLIND] = v.counters[N_SEEN], is_blind


@compile_kernel
def advance(v: Venue, script: Script, has_impact: bool, until: int, last_row: int) -> bool:
    """Play rows and messages in the order of their times; a message comes after rows of its time.

    Stops before row `last_row`. Returns False where it stopped because `fills`
    could overflow.
    """
    while True:
        row, i = v.counters[ROW], v.counters[MESSAGE]
        row_ns = script.ts[row] if row < len(script.ts) else LAST
        message_ns = script.arrives[i] if i < v.counters[N_SENT] else LAST
        now = min(row_ns, message_ns)
        is_row = row_ns <= message_ns
        if now > until or now == LAST or (is_row and row == last_row):
            return True
        start = v.counters[N_FILLS]
        n_ops = script.first_op[row + 1] - script.first_op[row] if is_row else wide(0)
        if start + v.own[N_LIVE] + v.book[N_LIVE] + n_ops + 1 > len(v.fills):
            return False
        if is_row:
            for k in range(script.first_op[row], script.first_op[row + 1]):
                play(v, script.ops[k], has_impact)
            v.counters[ROW] = row + 1
        else:
            arrive(v, script, has_impact)
        for k in range(start, v.counters[N_FILLS]):
            script.fill_ts[k] = now
