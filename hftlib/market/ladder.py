"""Resting orders on one packed vector: the state of a book and what changes it.

A book is one int32 vector, so that thousands of them lie side by side and one
fits the inner caches: a header, a price ladder and a pool of orders.

- The ladder is a ring of `window` levels (a power of two) from BASE upwards;
  a level is head, tail, lots and number of orders of a doubly linked queue.
- Orders outside the ladder lie on one list a side; when the market moves there
  the ladder is centred anew. A price is wholly in the ladder or wholly outside,
  and the list keeps the orders of one price oldest first: each queue keeps its
  order. Bids outside are below the ladder, asks outside above it.
- An order's handle is slot and generation: cancelling is O(1), and the handle
  of an order that is gone finds nothing until its slot has been used another
  2**31 / capacity times.

Nothing is allocated, nothing raises. BEST_BID and BEST_ASK are always the true
best prices; 0 and NO_ASK stand for an empty side. The lots of a side never
exceed MAX_LOTS, so no sum of sizes overflows; counters stop there.

Source: Gould et al. (2013), Limit order books, Quantitative Finance 13(11).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from hftlib.compute import compile_kernel

State = npt.NDArray[np.int32]

# header
(
    WINDOW,
    CAPACITY,
    BASE,
    BEST_BID,
    BEST_ASK,
    FREE,
    N_LIVE,
    FAR_BID_HEAD,
    FAR_BID_TAIL,
    FAR_ASK_HEAD,
    FAR_ASK_TAIL,
    N_FAR,
    N_REFUSED,
    N_RECENTRED,
    LAST_PRICE,
    TRADED,
    SELF_TRADE,
    BID_LOTS,
    ASK_LOTS,
) = range(19)
HEADER = 32
# a level of the ladder
HEAD, TAIL, LOTS, COUNT = range(4)
LEVEL = 4
# an order; PREV and NEXT are slots
PREV, NEXT, SIDE, PRICE, QTY, OWNER, HANDLE, TAG = range(8)
ORDER = 8

NONE = -1  # no slot
NO_ASK = 2**31 - 1
MAX_PRICE = 2**30
MAX_LOTS = 2**31 - 1
MAX_HANDLE = 2**31 - 1


@compile_kernel
def wide(value: int) -> int:
    """The value as int64, since numba compiles a kernel anew for each mix of integer types."""
    return np.int64(value)  # type: ignore[return-value]


@compile_kernel
def clear(s: State, window: int, capacity: int, self_trade: int) -> None:
    """Empty the book; `s` has `state_size(window, capacity)` entries."""
    s[:] = 0
    s[WINDOW], s[CAPACITY], s[SELF_TRADE] = window, capacity, self_trade
    s[BEST_ASK] = NO_ASK
    s[FAR_BID_HEAD : FAR_ASK_TAIL + 1] = NONE
    for level in range(HEADER, HEADER + LEVEL * window, LEVEL):
        s[level + HEAD] = NONE
        s[level + TAIL] = NONE
    orders = HEADER + LEVEL * window
    for slot in range(capacity):
        order = orders + ORDER * slot
        s[order + NEXT] = slot + 1 if slot + 1 < capacity else NONE
        s[order + HANDLE] = capacity + slot  # generation 1


@compile_kernel
def count(s: State, counter: int, amount: int) -> None:
    """Add to a counter of the header, which stops at the largest number it can hold."""
    s[counter] = min(s[counter] + amount, MAX_LOTS)


@compile_kernel
def level_at(s: State, price: int) -> int:
    """Offset of the ladder's level of a price inside the window."""
    return HEADER + LEVEL * (price & (s[WINDOW] - 1))


@compile_kernel
def order_at(s: State, slot: int) -> int:
    """Offset of an order."""
    return HEADER + LEVEL * s[WINDOW] + ORDER * slot


@compile_kernel
def in_window(s: State, price: int) -> bool:
    """Whether the price lies on the ladder."""
    return s[BASE] <= price < s[BASE] + s[WINDOW]


@compile_kernel
def find(s: State, handle: int) -> int:
    """Offset of a live order, or NONE if the handle names none."""
    order = order_at(s, handle & (s[CAPACITY] - 1))  # 0 and negative ones match no slot's
    if s[order + HANDLE] != handle or s[order + QTY] == 0:
        return NONE
    return order


@compile_kernel
def _link(s: State, head: int, tail: int, order: int, slot: int) -> None:
    """Append an order to the queue whose head and tail are stored at these offsets."""
    last = s[tail]
    s[order + PREV] = last
    s[order + NEXT] = NONE
    if last == NONE:
        s[head] = slot
    else:
        s[order_at(s, last) + NEXT] = slot
    s[tail] = slot


@compile_kernel
def _unlink(s: State, head: int, tail: int, order: int) -> None:
    """Take an order out of its queue."""
    before, after = s[order + PREV], s[order + NEXT]
    if before == NONE:
        s[head] = after
    else:
        s[order_at(s, before) + NEXT] = after
    if after == NONE:
        s[tail] = before
    else:
        s[order_at(s, after) + PREV] = before


@compile_kernel
def _place(s: State, order: int, slot: int) -> None:
    """Queue an order at its price, on the ladder or outside it."""
    side, price = s[order + SIDE], s[order + PRICE]
    if in_window(s, price):
        level = level_at(s, price)
        _link(s, level + HEAD, level + TAIL, order, slot)
        s[level + LOTS] += s[order + QTY]
        s[level + COUNT] += 1
    else:
        head = FAR_BID_HEAD if side > 0 else FAR_ASK_HEAD
        _link(s, head, head + 1, order, slot)
        s[N_FAR] += 1


@compile_kernel
def far_best(s: State, side: int) -> int:
    """Best price outside the ladder; 0 or NO_ASK if there is none."""
    best = 0 if side > 0 else NO_ASK
    slot = s[FAR_BID_HEAD if side > 0 else FAR_ASK_HEAD]
    while slot != NONE:
        order = order_at(s, slot)
        price = s[order + PRICE]
        best = max(best, price) if side > 0 else min(best, price)
        slot = s[order + NEXT]
    return best


@compile_kernel
def recentre(s: State, centre: int) -> None:
    """Move the ladder so that `centre` is its middle; every queue keeps its order."""
    old, new = s[BASE], centre - s[WINDOW] // 2
    s[BASE] = new
    count(s, N_RECENTRED, 1)
    for price in range(old, old + s[WINDOW]):  # levels that leave
        if in_window(s, price):
            continue
        level = level_at(s, price)
        slot = s[level + HEAD]
        while slot != NONE:
            order = order_at(s, slot)
            after = s[order + NEXT]
            head = FAR_BID_HEAD if s[order + SIDE] > 0 else FAR_ASK_HEAD
            _link(s, head, head + 1, order, slot)
            s[N_FAR] += 1
            slot = after
        s[level + HEAD], s[level + TAIL], s[level + LOTS], s[level + COUNT] = NONE, NONE, 0, 0
    for head in (FAR_BID_HEAD, FAR_ASK_HEAD):  # orders that enter
        slot = s[head]
        while slot != NONE:
            order = order_at(s, slot)
            after = s[order + NEXT]
            if in_window(s, s[order + PRICE]):
                _unlink(s, head, head + 1, order)
                s[N_FAR] -= 1
                _place(s, order, slot)
            slot = after


@compile_kernel
def _next_best(s: State, side: int, price: int) -> None:
    """Find the best price of a side after its best level, at `price`, has emptied."""
    if side > 0:
        price -= 1
        while price >= s[BASE] and s[level_at(s, price) + COUNT] == 0:
            price -= 1
        s[BEST_BID] = price if price >= s[BASE] else far_best(s, side)
        if price < s[BASE] and s[BEST_BID] > 0:
            recentre(s, s[BEST_BID])
    else:
        price += 1
        top = s[BASE] + s[WINDOW]
        while price < top and s[level_at(s, price) + COUNT] == 0:
            price += 1
        s[BEST_ASK] = price if price < top else far_best(s, side)
        if price >= top and s[BEST_ASK] < NO_ASK:
            recentre(s, s[BEST_ASK])


@compile_kernel
def rest(s: State, side: int, price: int, qty: int, owner: int, tag: int) -> int:
    """Queue lots that do not cross; returns the handle, or 0 and counts it if there is no room."""
    slot = s[FREE]
    total = BID_LOTS if side > 0 else ASK_LOTS
    if slot == NONE or s[total] > MAX_LOTS - qty:
        count(s, N_REFUSED, 1)
        return 0
    s[total] += qty
    if s[N_LIVE] == 0:
        s[BASE] = price - s[WINDOW] // 2
    elif (side > 0 and price >= s[BASE] + s[WINDOW]) or (side < 0 and price < s[BASE]):
        recentre(s, price)
    elif not in_window(s, price):
        _follow(s)
    order = order_at(s, slot)
    s[FREE] = s[order + NEXT]
    s[N_LIVE] += 1
    s[order + SIDE], s[order + PRICE], s[order + QTY] = side, price, qty
    s[order + OWNER], s[order + TAG] = owner, tag
    _place(s, order, slot)
    if side > 0:
        s[BEST_BID] = max(s[BEST_BID], price)
    else:
        s[BEST_ASK] = min(s[BEST_ASK], price)
    return s[order + HANDLE]


@compile_kernel
def _follow(s: State) -> None:
    """Centre the ladder on the mid if that has left its middle half."""
    if s[BEST_BID] == 0 or s[BEST_ASK] == NO_ASK:
        return
    mid = s[BEST_BID] + (s[BEST_ASK] - s[BEST_BID]) // 2
    quarter = s[WINDOW] // 4
    spread = s[BEST_ASK] - s[BEST_BID]
    if spread < 2 * quarter and abs(mid - s[BASE] - 2 * quarter) > quarter:
        recentre(s, mid)


@compile_kernel
def remove(s: State, order: int) -> None:
    """Take a live order out of the book and free its slot."""
    side, price, capacity = s[order + SIDE], s[order + PRICE], s[CAPACITY]
    qty = s[order + QTY]
    s[order + QTY] = 0
    s[BID_LOTS if side > 0 else ASK_LOTS] -= qty
    s[N_LIVE] -= 1
    handle = s[order + HANDLE]
    slot = handle & (capacity - 1)
    if in_window(s, price):
        level = level_at(s, price)
        _unlink(s, level + HEAD, level + TAIL, order)
        s[level + LOTS] -= qty
        s[level + COUNT] -= 1
        emptied = s[level + COUNT] == 0
    else:
        head = FAR_BID_HEAD if side > 0 else FAR_ASK_HEAD
        _unlink(s, head, head + 1, order)
        s[N_FAR] -= 1
        emptied = True
    s[order + NEXT] = s[FREE]
    s[FREE] = slot
    s[order + HANDLE] = handle + capacity if handle <= MAX_HANDLE - capacity else capacity + slot
    if emptied and price == (s[BEST_BID] if side > 0 else s[BEST_ASK]):
        if in_window(s, price):
            _next_best(s, side, price)
        elif side > 0:
            s[BEST_BID] = far_best(s, side)
        else:
            s[BEST_ASK] = far_best(s, side)


@compile_kernel
def reduce(s: State, order: int, qty: int) -> None:
    """Take lots off a live order, which keeps its place; all of them remove it."""
    if qty >= s[order + QTY]:
        remove(s, order)
        return
    s[order + QTY] -= qty
    s[BID_LOTS if s[order + SIDE] > 0 else ASK_LOTS] -= qty
    if in_window(s, s[order + PRICE]):
        s[level_at(s, s[order + PRICE]) + LOTS] -= qty


@compile_kernel
def read_depth(s: State, side: int, prices: Any, lots: Any) -> None:
    """Best prices of a side and their lots into two vectors of equal length; 0, 0 where empty."""
    n, k = len(prices), 0
    price = s[BEST_BID] if side > 0 else s[BEST_ASK]
    while k < n and in_window(s, price):
        level = level_at(s, price)
        if s[level + COUNT] > 0:
            prices[k], lots[k] = price, s[level + LOTS]
            k += 1
        price -= side
    if k < n and s[N_FAR] > 0:
        k = _read_far(s, side, prices, lots, k)
    prices[k:], lots[k:] = 0, 0


@compile_kernel
def _read_far(s: State, side: int, prices: Any, lots: Any, k: int) -> int:
    """Continue `read_depth` outside the ladder, one pass over the list a price."""
    price = far_best(s, side)
    while k < len(prices) and price != 0 and price != NO_ASK:
        total, following = 0, 0 if side > 0 else NO_ASK
        slot = s[FAR_BID_HEAD if side > 0 else FAR_ASK_HEAD]
        while slot != NONE:
            order = order_at(s, slot)
            at = s[order + PRICE]
            if at == price:
                total += s[order + QTY]
            elif side > 0 and at < price:
                following = max(following, at)
            elif side < 0 and at > price:
                following = min(following, at)
            slot = s[order + NEXT]
        prices[k], lots[k] = price, total
        k += 1
        price = following
    return k
