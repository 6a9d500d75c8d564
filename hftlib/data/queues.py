"""Walking the queues of a book of `market.ladder`: who rests at a price, and what lies behind.

Inside the ladder a level has its own queue, outside it shares a list with
others; these kernels hide the difference. A walk may take orders off on its
way if it finds the next one first.
"""

import numpy as np

from hftlib.compute import compile_kernel
from hftlib.market.ladder import (
    BEST_ASK,
    BEST_BID,
    CAPACITY,
    COUNT,
    FAR_ASK_HEAD,
    FAR_BID_HEAD,
    HANDLE,
    HEAD,
    LOTS,
    NEXT,
    NO_ASK,
    NONE,
    PREV,
    PRICE,
    QTY,
    SIDE,
    TAIL,
    State,
    _link,
    _unlink,
    in_window,
    level_at,
    order_at,
    wide,
)


def constant(value: int) -> int:
    """A constant as numpy's int64: numba compiles a kernel anew for each literal of Python's."""
    return np.int64(value)  # type: ignore[return-value]


OLDEST_FIRST, NEWEST_FIRST = constant(NEXT), constant(PREV)
BUY, SELL = constant(1), constant(-1)


@compile_kernel
def is_better(side: int, price: int, other: int) -> bool:
    """Whether a price of a side comes before another; that of an empty side comes last."""
    return price > other if side > 0 else price < other


@compile_kernel
def _seek(s: State, slot: int, side: int, price: int, way: int) -> int:
    while slot != NONE:
        order = order_at(s, slot)
        if s[order + PRICE] == price and s[order + SIDE] == side:
            return order
        slot = wide(s[order + way])
    return NONE


@compile_kernel
def first_at(s: State, side: int, price: int, way: int) -> int:
    """Order at a price that comes first, OLDEST_FIRST or NEWEST_FIRST; NONE if there is none."""
    if in_window(s, price):
        head = level_at(s, price) + HEAD
    else:
        head = wide(FAR_BID_HEAD if side > 0 else FAR_ASK_HEAD)
    slot = s[head] if way == OLDEST_FIRST else s[head + TAIL - HEAD]
    return _seek(s, wide(slot), side, price, way)


@compile_kernel
def after(s: State, order: int, way: int) -> int:
    """The order that comes after this one at its price, or NONE."""
    return _seek(s, wide(s[order + way]), wide(s[order + SIDE]), wide(s[order + PRICE]), way)


@compile_kernel
def best_price(s: State, side: int) -> int:
    """Best price of a side, 0 or NO_ASK where it is empty."""
    return wide(s[BEST_BID] if side > 0 else s[BEST_ASK])


@compile_kernel
def next_price(s: State, side: int, price: int) -> int:
    """Best price of a side that is worse than `price`; 0 or NO_ASK if there is none."""
    best = best_price(s, side)
    if is_better(side, price, best):
        return best
    price -= side
    while in_window(s, price):
        if s[level_at(s, price) + COUNT] > 0:
            return price
        price -= side
    found = wide(0 if side > 0 else NO_ASK)
    slot = wide(s[FAR_BID_HEAD if side > 0 else FAR_ASK_HEAD])
    while slot != NONE:
        order = order_at(s, slot)
        at = wide(s[order + PRICE])
        if not is_better(side, at, price) and is_better(side, at, found):
            found = at
        slot = wide(s[order + NEXT])
    return found


@compile_kernel
def lots_at(s: State, side: int, price: int) -> int:
    """Lots of a side at a price."""
    lots, order = wide(0), first_at(s, side, price, OLDEST_FIRST)
    if order != NONE and in_window(s, price):
        return wide(s[level_at(s, price) + LOTS])
    while order != NONE:
        lots += s[order + QTY]
        order = after(s, order, OLDEST_FIRST)
    return lots


@compile_kernel
def slot_of(s: State, handle: int) -> int:
    """Slot of the order that a handle names."""
    return handle & (s[CAPACITY] - 1)


@compile_kernel
def move_back(s: State, order: int) -> None:
    """Put an order behind all others at its price."""
    if in_window(s, wide(s[order + PRICE])):
        head = level_at(s, wide(s[order + PRICE])) + HEAD
    else:
        head = wide(FAR_BID_HEAD if s[order + SIDE] > 0 else FAR_ASK_HEAD)
    tail = head + TAIL - HEAD
    _unlink(s, head, tail, order)
    _link(s, head, tail, order, slot_of(s, wide(s[order + HANDLE])))
