"""One book with its background flow, advanced in continuous time.

The lane is what `market.batch` runs thousands of: a book, an account for each
owner, the Hawkes state, the fundamental value and the orders that wait for
their cancel. Lifetimes are exponential, so a cancel is a draw among the live
orders and needs no calendar.

There are two streams of chance. `course` drives what no order can change: when
somebody acts, news, and the value. `stream` drives what they do then, which
depends on the book.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hftlib.compute import compile_kernel
from hftlib.market.draws import Stream, exponential, uniform
from hftlib.market.flow import (
    MAKER,
    PATIENT,
    STANDING,
    FlowParams,
    activity,
    base_rate,
    decide,
    draw_index,
    draw_size,
    hear_news,
    next_act,
    quote,
    settle,
)
from hftlib.market.fundamental import JumpParams, step_jump
from hftlib.market.ladder import NONE, find, wide
from hftlib.market.matching import (
    A_FILLED,
    A_HANDLE,
    A_RESTING,
    A_STATUS,
    LIMIT,
    M_KIND,
    M_PRICE,
    M_QTY,
    M_SIDE,
    M_TAG,
)
from hftlib.market.record import Rows, cancel_order, quotes_of, send

# clock: seconds since the open; value and running mean of the mid, ticks
SECONDS, VALUE_NOW, MEAN = range(3)
N_CLOCK = 3
# counters: last order id; messages of the background; steps since the open
LAST_ID, N_MESSAGES, N_STEPS = range(3)
N_COUNTERS = 3


class Lane(NamedTuple):
    """State of one market; the arrays of many lie side by side."""

    state: npt.NDArray[np.int32]  # (state_size,), see market.ladder
    accounts: npt.NDArray[np.int64]  # (n_owners, N_ACCOUNT)
    stream: Stream  # (2,), what participants do
    course: Stream  # (2,), when they do it, and the value
    excitation: npt.NDArray[np.float64]  # (N_SCALES,), acts a second
    clock: npt.NDArray[np.float64]  # (N_CLOCK,)
    parents: npt.NDArray[np.int64]  # (N_PARENTS, 2)
    resting: npt.NDArray[np.int32]  # (3, capacity), handles by kind of lifetime
    n_resting: npt.NDArray[np.int32]  # (3,)
    counters: npt.NDArray[np.int64]  # (N_COUNTERS,)
    message: npt.NDArray[np.int32]  # (7,), the background's next; owner 0 sends it


class Mail(NamedTuple):
    """Callers' messages of one step in order of arrival; those of kind 0 are none."""

    messages: npt.NDArray[np.int32]  # (n, 7), tags are written
    delays_s: npt.NDArray[np.float64]  # (n,), from the start of the step
    acks: npt.NDArray[np.int32]  # (n, 4)


class Session(NamedTuple):
    """What all lanes of a run share."""

    step_s: float  # interval of the lock-step and of the value
    length_s: float  # of the trading day
    open_ns: int  # UTC


@compile_kernel
def remember(lane: Lane, kind: int, handle: int) -> None:
    """List an order for its cancel; a full list first drops the orders that are gone.

    As it has a place for each order of the book, there is room then.
    """
    n = lane.n_resting[kind]
    if n == lane.resting.shape[1]:
        n = 0
        for k in range(lane.resting.shape[1]):
            if find(lane.state, lane.resting[kind, k]) != NONE:
                lane.resting[kind, n] = lane.resting[kind, k]
                n += 1
    lane.resting[kind, n] = handle
    lane.n_resting[kind] = n + 1


@compile_kernel
def cancel_rate(lane: Lane, p: FlowParams) -> float:
    """Cancels a second over all listed orders."""
    rate = 0.0
    for kind in range(3):
        rate += lane.n_resting[kind] / p.lifetimes_s[kind]
    return rate


@compile_kernel
def cancel_one(lane: Lane, p: FlowParams, rate: float, ts: int, rows: Rows, n: int) -> int:
    """Cancel a drawn order, if it still rests; returns the number of rows."""
    u, kind = uniform(lane.stream) * rate, 0
    while kind < 2 and u >= lane.n_resting[kind] / p.lifetimes_s[kind]:
        u -= lane.n_resting[kind] / p.lifetimes_s[kind]
        kind += 1
    if lane.n_resting[kind] == 0:
        return n
    k = int(uniform(lane.stream) * lane.n_resting[kind])
    handle = lane.resting[kind, k]
    lane.n_resting[kind] -= 1
    lane.resting[kind, k] = lane.resting[kind, lane.n_resting[kind]]
    order = find(lane.state, handle)
    if order != NONE:
        n = cancel_order(lane.state, order, ts, rows, n)
        lane.counters[N_MESSAGES] += 1
    return n


@compile_kernel
def cancel_until(
    lane: Lane,
    p: FlowParams,
    pace: float,
    now: float,
    until: float,
    session: Session,
    rows: Rows,
    n: int,
) -> int:
    """Cancel orders from `now` to `until`, seconds since the open; returns the number of rows.

    The clock has no memory, so it may be stopped at any time and started anew.
    """
    while True:
        rate = cancel_rate(lane, p)
        now += exponential(lane.stream) / (rate * pace) if rate > 0 else np.inf
        if now >= until:
            return n
        n = cancel_one(lane, p, rate, session.open_ns + round(now * 1e9), rows, n)


@compile_kernel
def post(
    lane: Lane,
    order: tuple[int, int, int, int],
    fills: npt.NDArray[np.int32],
    ts: int,
    rows: Rows,
    n: int,
) -> tuple[int, int]:
    """Send an order of the background: kind, side, price, lots.

    Returns the number of rows and the handle of what rests, or 0.
    """
    lane.counters[LAST_ID] += 1
    lane.counters[N_MESSAGES] += 1
    m = lane.message
    m[M_KIND], m[M_SIDE], m[M_PRICE], m[M_QTY] = order
    m[M_TAG] = lane.counters[LAST_ID]
    n, ack = send(lane.state, lane.accounts, fills, m, ts, rows, n)
    return n, ack[2]


@compile_kernel
def act(
    lane: Lane,
    p: FlowParams,
    trend: float,
    fills: npt.NDArray[np.int32],
    ts: int,
    rows: Rows,
    n: int,
) -> int:
    """Let one participant act; returns the number of rows."""
    role = draw_index(p.role_shares, lane.stream)
    q = quotes_of(lane.state)
    value = lane.clock[VALUE_NOW]
    if role == MAKER:
        bid, ask, qty = quote(q, value, -p.maker_skew * trend, p, lane.stream)
        orders = (LIMIT, 1, bid, qty), (LIMIT, -1, ask, qty)
    else:
        order = decide(role, q, value, trend, lane.parents, p, lane.stream)
        orders = order, (0, 0, 0, 0)
    for order in orders:
        if order[0] != 0:
            n, handle = post(lane, order, fills, ts, rows, n)
            if handle > 0:  # a maker quotes anew before long
                kind = draw_index(p.lifetime_shares, lane.stream) if role != MAKER else PATIENT
                remember(lane, wide(kind), handle)
    return n


@compile_kernel
def next_mail(mail: Mail, i: int) -> int:
    """Number of the first message from `i` on that is one; where none is, how many there are."""
    while i < len(mail.messages) and mail.messages[i, M_KIND] == 0:
        i += 1
    return i


@compile_kernel
def deliver(
    lane: Lane, mail: Mail, i: int, fills: npt.NDArray[np.int32], ts: int, rows: Rows, n: int
) -> int:
    """Send message `i` of the mail; returns the number of rows."""
    m, ack = mail.messages[i], mail.acks[i]
    lane.counters[LAST_ID] += 1
    m[M_TAG] = lane.counters[LAST_ID]
    n, answer = send(lane.state, lane.accounts, fills, m, ts, rows, n)
    ack[A_STATUS], ack[A_HANDLE], ack[A_FILLED], ack[A_RESTING] = answer[1:]
    return n


@compile_kernel
def advance(
    lane: Lane,
    p: FlowParams,
    value: JumpParams,
    session: Session,
    mail: Mail,
    fills: npt.NDArray[np.int32],
    rows: Rows,
    n: int,
) -> int:
    """Run one step of the session, callers' mail included; returns the number of rows."""
    clock = lane.clock
    lane.counters[N_STEPS] += 1
    start, end = clock[SECONDS], lane.counters[N_STEPS] * session.step_s
    now, i = start, next_mail(mail, wide(0))
    while i < len(mail.messages) and mail.delays_s[i] == 0:  # seen by all below
        n = deliver(lane, mail, i, fills, session.open_ns + round(now * 1e9), rows, n)
        i = next_mail(mail, i + 1)
    q = quotes_of(lane.state)
    mid = (q.bid + q.ask) / 2.0 if q.bid != 0 and q.ask != 0 else clock[VALUE_NOW]
    clock[MEAN] += (1.0 - math.exp(-session.step_s / p.trend_s)) * (mid - clock[MEAN])
    trend = mid - clock[MEAN]
    u = min(max(now / session.length_s, 0.0), 1.0)
    base = base_rate(p, u)
    hear_news(lane.excitation, session.step_s, u, p, lane.course)
    pace = activity(lane.excitation, base, p)  # of news and of second thoughts
    while True:
        coming = next_act(lane.excitation, now, end, base, p, lane.course)
        until = min(coming, end)
        while i < len(mail.messages) and min(start + mail.delays_s[i], end) <= until:
            arrives = min(start + mail.delays_s[i], end)  # a sum may be rounded up to the end
            n = cancel_until(lane, p, pace, now, arrives, session, rows, n)
            now = arrives
            n = deliver(lane, mail, i, fills, session.open_ns + round(now * 1e9), rows, n)
            i = next_mail(mail, i + 1)
        n = cancel_until(lane, p, pace, now, until, session, rows, n)
        if coming >= end:
            break
        now = coming
        n = act(lane, p, trend, fills, session.open_ns + round(now * 1e9), rows, n)
    passed = session.step_s * activity(lane.excitation, base, p)
    clock[SECONDS] = end
    clock[VALUE_NOW] = step_jump(clock[VALUE_NOW], passed, value, lane.course)
    return n


@compile_kernel
def open_lane(
    lane: Lane,
    p: FlowParams,
    value: JumpParams,
    fills: npt.NDArray[np.int32],
    rows: Rows,
) -> None:
    """Fill an empty book with the orders that are expected to rest, around the value."""
    lane.clock[VALUE_NOW], lane.clock[MEAN] = value.start, value.start
    settle(lane.excitation, p)
    zero = wide(0)
    for kind in (PATIENT, STANDING):
        n = p.rate_hz * p.role_shares[0] * p.lifetime_shares[kind] * p.lifetimes_s[kind]
        for k in range(min(int(n), lane.resting.shape[1] // 4)):
            side = 1 if k % 2 == 0 else -1
            tail = uniform(lane.stream) ** (-1.0 / p.behind_exponent) - 1.0
            away = p.maker_spread + p.behind_scale * min(tail, 100.0)
            price = max(1, int(value.start) - side * (1 + int(away)))
            qty = draw_size(p.order_size, lane.stream)
            _, handle = post(lane, (LIMIT, side, price, qty), fills, zero, rows, zero)
            if handle > 0:
                remember(lane, kind, handle)
