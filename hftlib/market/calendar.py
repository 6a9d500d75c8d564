"""The simulator's calendar: a binary heap of things that will happen.

An entry is a time in nanoseconds, the number it was written under, and a
payload of a few integers. Entries of one time come out in the order in which
they went in.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hftlib.compute import compile_kernel

PAYLOAD = 8  # numbers an entry, one line of the cache
# counters: entries waiting, entries ever made, entries that found no room
N_WAITING, N_WRITTEN, N_OVERFLOWN = range(3)


class Calendar(NamedTuple):
    """Arrays of one capacity; `slots` beyond the heap are the free ones."""

    times: npt.NDArray[np.int64]  # (capacity,), by slot
    numbers: npt.NDArray[np.int64]  # (capacity,), by slot
    slots: npt.NDArray[np.int32]  # (capacity,), a heap of the first N_WAITING
    payloads: npt.NDArray[np.int64]  # (capacity, PAYLOAD), by slot
    counters: npt.NDArray[np.int64]  # (3,)


def open_calendar(capacity: int) -> Calendar:
    """An empty calendar for `capacity` entries."""
    return Calendar(
        times=np.zeros(capacity, dtype=np.int64),
        numbers=np.zeros(capacity, dtype=np.int64),
        slots=np.arange(capacity, dtype=np.int32),
        payloads=np.zeros((capacity, PAYLOAD), dtype=np.int64),
        counters=np.zeros(3, dtype=np.int64),
    )


@compile_kernel
def _before(c: Calendar, a: int, b: int) -> bool:
    """Whether slot `a` comes out before slot `b`."""
    if c.times[a] != c.times[b]:
        return c.times[a] < c.times[b]
    return c.numbers[a] < c.numbers[b]


@compile_kernel
def push(c: Calendar, time: int) -> int:
    """Add an entry; returns the slot of its payload, or -1 and counts it if there is no room."""
    k = c.counters[N_WAITING]
    if k == len(c.slots):
        c.counters[N_OVERFLOWN] += 1
        return -1
    slot = c.slots[k]
    c.times[slot], c.numbers[slot] = time, c.counters[N_WRITTEN]
    c.counters[N_WAITING] += 1
    c.counters[N_WRITTEN] += 1
    while k > 0 and _before(c, slot, c.slots[(k - 1) >> 1]):
        c.slots[k] = c.slots[(k - 1) >> 1]
        k = (k - 1) >> 1
    c.slots[k] = slot
    return slot


@compile_kernel
def next_time(c: Calendar) -> int:
    """Time of the next entry; the end of time if there is none."""
    if c.counters[N_WAITING] == 0:
        return 2**63 - 1
    return c.times[c.slots[0]]


@compile_kernel
def pop(c: Calendar) -> int:
    """Take out the next entry of a calendar that has one; returns its slot, good until a push."""
    top = c.slots[0]
    n = c.counters[N_WAITING] - 1
    c.counters[N_WAITING] = n
    last = c.slots[n]
    c.slots[n] = top
    k = 0
    while True:
        child = 2 * k + 1
        if child >= n:
            break
        if child + 1 < n and _before(c, c.slots[child + 1], c.slots[child]):
            child += 1
        if not _before(c, c.slots[child], last):
            break
        c.slots[k] = c.slots[child]
        k = child
    if n > 0:
        c.slots[k] = last
    return top
