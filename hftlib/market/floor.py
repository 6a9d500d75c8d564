"""Agents, their latencies and one exchange: the kernels of `market.simulator`.

An agent sees the quotes of a moment ago, hears of its fills a moment later and
its orders arrive a moment later; the delays are its own, with jitter. Each
agent owns its orders and account.
Makers cancel what they have quoted before they quote anew; all others give
each resting order a lifetime when it is acknowledged.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hftlib.compute import compile_kernel
from hftlib.market.calendar import Calendar, next_time, pop, push
from hftlib.market.draws import Stream, exponential, normal, uniform
from hftlib.market.flow import (
    MAKER,
    FlowParams,
    Quotes,
    activity,
    base_rate,
    decide,
    draw_index,
    hear_news,
    next_act,
    quote,
)
from hftlib.market.fundamental import OUParams, step_ou
from hftlib.market.ladder import wide
from hftlib.market.matching import (
    CANCEL,
    F_CAUSE,
    F_MAKER_OWNER,
    F_QTY,
    LIMIT,
    M_HANDLE,
    M_KIND,
    M_OWNER,
    M_PRICE,
    M_QTY,
    M_SIDE,
    M_TAG,
    TRADE,
)
from hftlib.market.record import Rows, quotes_of, send

# clock: seconds since the open; value and running mean of the mid, ticks; pace of the market
SECONDS, VALUE_NOW, MEAN, PACE = range(4)
N_CLOCK = 4
# counters: last order id; messages that reached the exchange; quotes ever published; steps
# since the open
LAST_ID, N_MESSAGES, N_QUOTES, N_STEPS = range(4)
N_COUNTERS = 4
# payload of the calendar; kind 0 tells a maker of lots it has bought
W_AGENT, W_KIND, W_SIDE, W_PRICE, W_QTY, W_HANDLE, W_PLACE = range(7)
MEMORY = 4096  # quotes kept for those who see them late


class Floor(NamedTuple):
    """State of a session; agent a is owner a + 1 of the book."""

    state: npt.NDArray[np.int32]  # (state_size,)
    accounts: npt.NDArray[np.int64]  # (n_agents + 1, N_ACCOUNT)
    stream: Stream  # (2,)
    excitation: npt.NDArray[np.float64]  # (N_SCALES,)
    clock: npt.NDArray[np.float64]  # (N_CLOCK,)
    parents: npt.NDArray[np.int64]  # (N_PARENTS, 2)
    counters: npt.NDArray[np.int64]  # (N_COUNTERS,)
    message: npt.NDArray[np.int32]  # (7,)
    first_agent: npt.NDArray[np.int64]  # (N_ROLES + 1,), agents of a role are consecutive
    delays_ns: npt.NDArray[np.float64]  # (n_agents, 2), median response and entry latency
    errors: npt.NDArray[np.float64]  # (n_agents,), in their view of the value, ticks
    quoted: npt.NDArray[np.int64]  # (n_agents, 2), handles of a maker's bid and ask
    known: npt.NDArray[np.int64]  # (n_agents,), lots that a maker knows to hold
    seen_ns: npt.NDArray[np.int64]  # (MEMORY,), ring of quotes: since when
    seen: npt.NDArray[np.int64]  # (MEMORY, 4), what
    seen_trend: npt.NDArray[np.float64]  # (MEMORY,), the mid's distance from its mean then, ticks


class Rules(NamedTuple):
    """What does not change during a session."""

    step_s: float  # interval of value, trend and snapshots
    length_s: float
    open_ns: int
    jitter: float  # standard deviation of the logarithm of a latency
    maker_inventory_skew: float  # a maker's shift for each lot it holds, ticks


@compile_kernel
def see(floor: Floor, at_ns: int, trend_s: float) -> tuple[Quotes, float]:
    """Quotes and trend at a time, or the oldest that are kept.

    The trend fades while the quotes stay.
    """
    newest = floor.counters[N_QUOTES] - 1
    k = newest
    while k > 0 and k > newest - MEMORY + 1 and floor.seen_ns[k % MEMORY] > at_ns:
        k -= 1
    row = floor.seen[k % MEMORY]
    age_s = max(0, at_ns - floor.seen_ns[k % MEMORY]) * 1e-9
    trend = floor.seen_trend[k % MEMORY] * math.exp(-age_s / trend_s)
    return Quotes(row[0], row[1], row[2], row[3]), trend


@compile_kernel
def publish(floor: Floor, ts: int) -> None:
    """Note quotes and trend for those who see them late."""
    q = quotes_of(floor.state)
    k = floor.counters[N_QUOTES] % MEMORY
    row = floor.seen[k]
    row[0], row[1], row[2], row[3] = q.bid, q.bid_qty, q.ask, q.ask_qty
    two_sided = q.bid != 0 and q.ask != 0
    floor.seen_trend[k] = (q.bid + q.ask) / 2.0 - floor.clock[MEAN] if two_sided else 0.0
    floor.seen_ns[k] = ts
    floor.counters[N_QUOTES] += 1


@compile_kernel
def delay(floor: Floor, rules: Rules, agent: int, way: int) -> int:
    """One latency of an agent, nanoseconds; 0 is response, 1 entry."""
    return int(floor.delays_ns[agent, way] * math.exp(rules.jitter * normal(floor.stream)))


@compile_kernel
def dispatch(
    calendar: Calendar,
    arrives_ns: int,
    agent: int,
    order: tuple[int, int, int, int],
    handle: int,
    place: int,
) -> None:
    """Send a message on its way: kind, side, price, lots; `place` is a maker's side, or -1."""
    slot = push(calendar, arrives_ns)
    if slot >= 0:
        w = calendar.payloads[slot]
        w[W_AGENT], w[W_HANDLE], w[W_PLACE] = agent, handle, place
        w[W_KIND], w[W_SIDE], w[W_PRICE], w[W_QTY] = order


@compile_kernel
def tell(floor: Floor, calendar: Calendar, rules: Rules, owner: int, lots: int, ts: int) -> None:
    """Send a maker the news of a fill."""
    agent = wide(owner) - 1
    if floor.first_agent[MAKER] <= agent < floor.first_agent[MAKER + 1]:
        knows_ns = ts + delay(floor, rules, agent, wide(0))
        dispatch(calendar, knows_ns, agent, (wide(0), wide(0), wide(0), lots), wide(0), wide(-1))


@compile_kernel
def arrive(
    floor: Floor,
    calendar: Calendar,
    p: FlowParams,
    rules: Rules,
    fills: npt.NDArray[np.int32],
    rows: Rows,
    n: int,
) -> int:
    """The exchange takes the next message, or a maker its news; returns the number of rows."""
    ts = next_time(calendar)
    w = calendar.payloads[pop(calendar)]
    agent, place = w[W_AGENT], w[W_PLACE]
    if w[W_KIND] == 0:
        floor.known[agent] += w[W_QTY]
        return n
    m = floor.message
    m[M_KIND], m[M_SIDE], m[M_PRICE], m[M_QTY] = w[W_KIND], w[W_SIDE], w[W_PRICE], w[W_QTY]
    m[M_OWNER], m[M_HANDLE] = agent + 1, w[W_HANDLE]
    if m[M_KIND] != CANCEL:
        floor.counters[LAST_ID] += 1
        m[M_TAG] = floor.counters[LAST_ID]
    floor.counters[N_MESSAGES] += 1
    n, ack = send(floor.state, floor.accounts, fills, m, ts, rows, n)
    for j in range(ack[0]):
        if fills[j, F_CAUSE] == TRADE:
            lots = -m[M_SIDE] * fills[j, F_QTY]
            tell(floor, calendar, rules, fills[j, F_MAKER_OWNER], lots, ts)
    if ack[3] > 0:
        tell(floor, calendar, rules, m[M_OWNER], m[M_SIDE] * ack[3], ts)
    if ack[2] > 0 and place >= 0:
        old = floor.quoted[agent, place]  # of a wake that came before this one was known
        if old > 0:
            back = ts + delay(floor, rules, agent, wide(0)) + delay(floor, rules, agent, wide(1))
            dispatch(calendar, back, agent, (CANCEL, 0, 0, 0), old, wide(-1))
        floor.quoted[agent, place] = ack[2]
    elif ack[2] > 0:
        kind = draw_index(p.lifetime_shares, floor.stream)
        life = int(p.lifetimes_s[kind] * exponential(floor.stream) * 1e9 / floor.clock[PACE])
        known = ts + delay(floor, rules, agent, wide(0))
        back = known + life + delay(floor, rules, agent, wide(1))
        dispatch(calendar, back, agent, (CANCEL, 0, 0, 0), ack[2], wide(-1))
    publish(floor, ts)
    return n


@compile_kernel
def wake(floor: Floor, calendar: Calendar, p: FlowParams, rules: Rules, ts: int) -> None:
    """One agent of a drawn role looks at the market and sends what it decides."""
    role = draw_index(p.role_shares, floor.stream)
    first, stop = floor.first_agent[role], floor.first_agent[role + 1]
    if first == stop:
        return
    agent = first + int(uniform(floor.stream) * (stop - first))
    q, trend = see(floor, ts - delay(floor, rules, agent, wide(0)), p.trend_s)
    arrives = ts + delay(floor, rules, agent, wide(1))
    value = floor.clock[VALUE_NOW] + floor.errors[agent]
    if role == MAKER:
        shift = -p.maker_skew * trend - rules.maker_inventory_skew * floor.known[agent]
        bid, ask, qty = quote(q, value, shift, p, floor.stream)
        for place in range(2):
            old = floor.quoted[agent, place]
            if old > 0:
                dispatch(calendar, arrives, agent, (CANCEL, 0, 0, 0), old, wide(-1))
                floor.quoted[agent, place] = 0
        dispatch(calendar, arrives, agent, (LIMIT, 1, bid, qty), wide(0), wide(0))
        dispatch(calendar, arrives, agent, (LIMIT, -1, ask, qty), wide(0), wide(1))
        return
    order = decide(role, q, value, trend, floor.parents, p, floor.stream)
    dispatch(calendar, arrives, agent, order, wide(0), wide(-1))


@compile_kernel
def advance(
    floor: Floor,
    calendar: Calendar,
    p: FlowParams,
    value: OUParams,
    rules: Rules,
    fills: npt.NDArray[np.int32],
    rows: Rows,
    n: int,
) -> int:
    """Run one step of the session; returns the number of rows."""
    clock = floor.clock
    floor.counters[N_STEPS] += 1
    now, end = clock[SECONDS], floor.counters[N_STEPS] * rules.step_s
    end_ns = rules.open_ns + round(end * 1e9)
    q = quotes_of(floor.state)
    mid = (q.bid + q.ask) / 2.0 if q.bid != 0 and q.ask != 0 else clock[VALUE_NOW]
    clock[MEAN] += (1.0 - math.exp(-rules.step_s / p.trend_s)) * (mid - clock[MEAN])
    u = min(max(now / rules.length_s, 0.0), 1.0)
    base = base_rate(p, u)
    hear_news(floor.excitation, rules.step_s, u, p, floor.stream)
    clock[PACE] = activity(floor.excitation, base, p)  # of news and of second thoughts
    while True:
        coming = next_act(floor.excitation, now, end, base, p, floor.stream)
        until = end_ns if coming >= end else rules.open_ns + round(coming * 1e9)
        while next_time(calendar) <= until:
            n = arrive(floor, calendar, p, rules, fills, rows, n)
        if coming >= end:
            break
        now = coming
        wake(floor, calendar, p, rules, until)
    passed = rules.step_s * activity(floor.excitation, base, p)
    clock[SECONDS] = end
    clock[VALUE_NOW] = step_ou(clock[VALUE_NOW], passed, value, floor.stream)
    return n
