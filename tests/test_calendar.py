import heapq

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hftlib.market.calendar import (
    N_OVERFLOWN,
    N_WAITING,
    N_WRITTEN,
    PAYLOAD,
    next_time,
    open_calendar,
    pop,
    push,
)

END_OF_TIME = 2**63 - 1
times = st.one_of(st.integers(0, 5), st.integers(-(2**62), 2**62))


@given(st.lists(st.one_of(times, st.none()), max_size=80), st.integers(1, 16))
def test_entries_come_out_by_time_then_number_with_their_payload(pushes, capacity):
    """A number is pushed, None pops; compared with Python's heap of (time, number)."""
    calendar, heap, n_written, n_overflown = open_calendar(capacity), [], 0, 0
    for time in pushes:
        if time is None:
            if heap:
                expected = heapq.heappop(heap)
                slot = pop(calendar)
                assert (calendar.times[slot], calendar.numbers[slot]) == expected
                assert (calendar.payloads[slot] == expected[1] * 10 + np.arange(PAYLOAD)).all()
        elif len(heap) == capacity:
            n_overflown += 1
            assert push(calendar, time) == -1
        else:
            slot = push(calendar, time)
            assert 0 <= slot < capacity
            calendar.payloads[slot] = n_written * 10 + np.arange(PAYLOAD)
            heapq.heappush(heap, (time, n_written))
            n_written += 1
        assert next_time(calendar) == (heap[0][0] if heap else END_OF_TIME)
        expected = {N_WAITING: len(heap), N_WRITTEN: n_written, N_OVERFLOWN: n_overflown}
        assert {k: calendar.counters[k] for k in expected} == expected
        assert sorted(calendar.slots.tolist()) == list(range(capacity))


@given(st.lists(st.integers(0, 3), max_size=200))
def test_entries_of_one_time_come_out_as_they_went_in(pushes):
    calendar = open_calendar(len(pushes) + 1)
    for number, time in enumerate(pushes):
        calendar.payloads[push(calendar, time), 0] = number
    out = [int(calendar.payloads[pop(calendar), 0]) for _ in pushes]
    assert out == [number for number, _ in sorted(enumerate(pushes), key=lambda entry: entry[1])]
