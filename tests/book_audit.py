"""What must hold in the state vector of a book, whatever happened to it."""

import numpy as np

from hftlib.market import ladder
from hftlib.market.ladder import (
    COUNT,
    HANDLE,
    HEAD,
    HEADER,
    LEVEL,
    LOTS,
    NEXT,
    NONE,
    ORDER,
    OWNER,
    PREV,
    PRICE,
    QTY,
    SIDE,
    TAG,
    TAIL,
)


def read_queues(state) -> dict[int, dict[int, list[tuple[int, int, int, int]]]]:
    """(handle, lots, owner, tag) of all orders, by side and price, oldest first.

    Asserts on the way that links, totals, free slots and best prices agree.
    """
    base, window, capacity = (int(state[k]) for k in (ladder.BASE, ladder.WINDOW, ladder.CAPACITY))
    levels = state[HEADER : HEADER + LEVEL * window].reshape(window, LEVEL)
    orders = state[HEADER + LEVEL * window :].reshape(capacity, ORDER).tolist()
    seen: set[int] = set()

    def walk(head: int, tail: int) -> list[list[int]]:
        queue, before, slot = [], NONE, head
        while slot != NONE:
            assert slot not in seen
            seen.add(slot)
            order = orders[slot]
            assert order[PREV] == before
            assert order[QTY] > 0
            assert order[HANDLE] > 0
            assert order[HANDLE] & (capacity - 1) == slot
            queue.append(order)
            before, slot = slot, order[NEXT]
        assert tail == before
        return queue

    found: list[list[int]] = []
    empty = levels[:, COUNT] == 0
    assert (levels[empty] == [NONE, NONE, 0, 0]).all()
    for index in np.flatnonzero(~empty).tolist():
        price = base + ((index - base) & (window - 1))
        level = levels[index].tolist()
        queue = walk(level[HEAD], level[TAIL])
        assert {order[PRICE] for order in queue} == {price}
        assert (len(queue), sum(order[QTY] for order in queue)) == (level[COUNT], level[LOTS])
        found += queue
    n_near = len(found)
    for order in walk(state[ladder.FAR_BID_HEAD], state[ladder.FAR_BID_TAIL]):
        assert order[SIDE] == 1
        assert order[PRICE] < base
        found.append(order)
    for order in walk(state[ladder.FAR_ASK_HEAD], state[ladder.FAR_ASK_TAIL]):
        assert order[SIDE] == -1
        assert order[PRICE] >= base + window
        found.append(order)
    assert (len(found), len(found) - n_near) == (state[ladder.N_LIVE], state[ladder.N_FAR])

    slot, n_free = int(state[ladder.FREE]), 0
    while slot != NONE:
        assert slot not in seen
        seen.add(slot)
        assert orders[slot][QTY] == 0
        n_free, slot = n_free + 1, orders[slot][NEXT]
    assert n_free + len(found) == capacity

    queues: dict[int, dict[int, list[tuple[int, int, int, int]]]] = {1: {}, -1: {}}
    for order in found:
        row = (order[HANDLE], order[QTY], order[OWNER], order[TAG])
        queues[order[SIDE]].setdefault(order[PRICE], []).append(row)
    for side, total in ((1, ladder.BID_LOTS), (-1, ladder.ASK_LOTS)):
        assert state[total] == sum(order[QTY] for order in found if order[SIDE] == side)
    assert state[ladder.BEST_BID] == max(queues[1], default=0)
    assert state[ladder.BEST_ASK] == min(queues[-1], default=ladder.NO_ASK)
    assert state[ladder.BEST_BID] < state[ladder.BEST_ASK]
    return queues
