"""State of the agents of many market copies, and how their actions become orders.

An agent has at most one order a side. Each step it may send four messages: a
cancel or reduction and a new order for each side. Agents whose messages reach
the book at the same time take turns in an order drawn anew each step.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hftlib.compute import compile_kernel
from hftlib.envs.roles import EXECUTOR, MAKER, NO_SIZE, NO_TRADE, SLACK, SLACK_TICKS
from hftlib.market.draws import Stream, uniform
from hftlib.market.ladder import wide
from hftlib.market.matching import (
    CANCEL,
    IOC,
    LIMIT,
    M_HANDLE,
    M_KIND,
    M_OWNER,
    M_PRICE,
    M_QTY,
    M_SIDE,
    MARKET,
    POSITION,
    POST_ONLY,
    REDUCE,
)

N_SLOTS = 4  # messages of an agent a step: old bid, old ask, new bid, new ask
N_ACTIONS = 5  # of the role that has most
# columns of `seen`: the book without the viewer's orders
BID, BID_LOTS, ASK, ASK_LOTS, MID, LAST_MID, MEAN, VARIANCE, FLOW, START_MID = range(10)
N_SEEN = 10
# columns of `money`, currency; ENTRY is the mean price of the position, ticks
EQUITY, PEAK, FEES, ENTRY = range(4)
N_MONEY = 4
# terms of the reward, currency
PROFIT, INVENTORY, IMPACT, SPREAD, RISK = range(5)
TERMS = ("profit", "inventory", "impact", "spread", "risk")


class Cast(NamedTuple):
    """The roles of the agents, one entry each."""

    code: npt.NDArray[np.int64]  # MAKER, EXECUTOR or TAKER
    reach: npt.NDArray[np.float64]  # ticks
    skew: npt.NDArray[np.float64]  # ticks
    size: npt.NDArray[np.int64]  # lots of the largest order
    parent: npt.NDArray[np.int64]  # lots
    latency_s: npt.NDArray[np.float64]


class Terms(NamedTuple):
    """What all agents share; `unit` is the currency value of one tick of one lot."""

    unit: float
    decision_s: float
    maker_fee: float  # share of the notional
    taker_fee: float
    max_inventory: float  # lots
    max_position_value: float  # currency
    max_drawdown: float  # currency
    initial_cash: float  # currency
    lambda_inventory: float
    lambda_impact: float
    lambda_spread: float
    lambda_risk: float
    n_steps: int  # of an episode
    is_in_book: bool  # whether own orders are among those of the book
    prices_at_value: bool  # whether the reward's profit is that of trades against the value


class Desk(NamedTuple):
    """Agents of B copies, A each; lots and prices are whole numbers, prices in ticks."""

    handles: npt.NDArray[np.int32]  # (B, A, 2), of the resting bid and ask, or 0
    resting: npt.NDArray[np.int64]  # (B, A, 2, 2), their prices and lots
    start: npt.NDArray[np.int64]  # (B, A), position at the reset: minus the parent order
    before: npt.NDArray[np.int64]  # (B, A, 2), position and cash of the account a step ago
    quoted: npt.NDArray[np.int64]  # (B, A), lots sent since the reset
    is_alive: npt.NDArray[np.bool_]  # (B, A)
    money: npt.NDArray[np.float64]  # (B, A, N_MONEY)
    seen: npt.NDArray[np.float64]  # (B, A + 1, N_SEEN), the last view is the public's
    traded: npt.NDArray[np.int64]  # (B, 2), lots traded until now, and in the last step
    turn: npt.NDArray[np.int64]  # (B, A), agents in the order of their messages
    stream: Stream  # (B, 2)

    @classmethod
    def zeros(cls, n_copies: int, n_agents: int) -> "Desk":
        """Storage; `settlement.open_desk` fills it."""
        shape = n_copies, n_agents
        return cls(
            np.zeros((*shape, 2), dtype=np.int32),
            np.zeros((*shape, 2, 2), dtype=np.int64),
            np.zeros(shape, dtype=np.int64),
            np.zeros((*shape, 2), dtype=np.int64),
            np.zeros(shape, dtype=np.int64),
            np.zeros(shape, dtype=np.bool_),
            np.zeros((*shape, N_MONEY)),
            np.zeros((n_copies, n_agents + 1, N_SEEN)),
            np.zeros((n_copies, 2), dtype=np.int64),
            np.zeros(shape, dtype=np.int64),
            np.zeros((n_copies, 2), dtype=np.uint64),
        )


@compile_kernel
def lots_of(action: float, size: int, nothing: float = NO_SIZE) -> int:
    """Lots that an action in (`nothing`, 1] asks for; one at `nothing` or below asks for none."""
    share = (action - nothing) / (1.0 - nothing)
    return max(1, round(share * size)) if share > SLACK else 0


@compile_kernel
def room_of(terms: Terms, mid: float, position: int, side: int) -> int:
    """Lots that the limits still allow on a side."""
    limit = min(terms.max_inventory, terms.max_position_value / (mid * terms.unit))
    return max(0, int(limit) - side * position)


@compile_kernel
def place(
    old: npt.NDArray[np.int32],
    new: npt.NDArray[np.int32],
    handle: int,
    rested: npt.NDArray[np.int64],
    order: tuple[int, int, int, int],
    owner: int,
) -> tuple[int, int]:
    """Write the messages that lead from the resting order to the wanted one.

    `order` is kind, side, price and lots; `rested` price and lots. Returns the
    handle that stays, or 0, and the lots newly sent.
    """
    kind, side, price, qty = order
    old[M_KIND], new[M_KIND] = 0, 0
    old[M_OWNER], new[M_OWNER], old[M_HANDLE] = owner, owner, handle
    stays = rested[1] > 0 and qty > 0 and price == rested[0] and kind != MARKET
    if stays:
        if qty < rested[1]:
            old[M_KIND], old[M_QTY] = REDUCE, rested[1] - qty
        return handle, wide(0)
    if rested[1] > 0:
        old[M_KIND] = CANCEL
    if qty > 0:
        new[M_KIND], new[M_SIDE], new[M_PRICE], new[M_QTY] = kind, side, price, qty
    return wide(0), qty


@compile_kernel
def round_price(price: float, side: int) -> int:
    """Whole ticks of a bid (side 1) or an ask, away from the other side but for the slack."""
    if side > 0:
        return math.floor(price + SLACK_TICKS)
    return math.ceil(price - SLACK_TICKS)


@compile_kernel
def quote(
    action: npt.NDArray[np.float64],
    view: npt.NDArray[np.float64],
    side: int,
    reach: float,
    skew: float,
) -> int:
    """Price of a maker's bid or ask: away from the mid, and never through the other side."""
    offset = 0.5 + (action[0 if side > 0 else 1] + 1.0) / 2.0 * reach
    wanted = round_price(view[MID] + action[4] * skew - side * offset, side)
    if side > 0:
        return min(wanted, int(view[ASK]) - 1) if view[ASK] > 0 else wanted
    return max(wanted, int(view[BID]) + 1) if view[BID] > 0 else wanted


@compile_kernel
def shuffle(turn: npt.NDArray[np.int64], stream: Stream) -> None:
    """Draw the order of the agents (Fisher and Yates)."""
    for k in range(len(turn) - 1, 0, -1):
        j = int(uniform(stream) * (k + 1))
        turn[k], turn[j] = turn[j], turn[k]


@compile_kernel
def want(
    code: int,
    side: int,
    action: npt.NDArray[np.float64],
    view: npt.NDArray[np.float64],
    position: int,
    reach: float,
    skew: float,
    size: int,
    terms: Terms,
    is_last: bool,
) -> tuple[int, int, int, int]:
    """The order that an agent wants on a side now: kind, side, price, lots."""
    room = room_of(terms, view[MID], position, side)
    if code == MAKER:
        qty = min(lots_of(action[2 if side > 0 else 3], size), room)
        return POST_ONLY, side, max(1, quote(action, view, side, reach, skew)), qty
    if code == EXECUTOR:
        left = max(0, -side * position)
        if is_last:
            return MARKET, side, 1, left
        price = round_price(view[MID] + side * action[0] * reach, side)
        return LIMIT, side, max(1, price), min(lots_of(action[1], size), left)
    touch = view[ASK] if side > 0 else view[BID]
    if touch == 0:
        return IOC, side, 1, 0
    qty = min(lots_of(side * action[0], size, NO_TRADE), room)
    return IOC, side, max(1, int(touch) + side * int(reach)), qty


@compile_kernel
def write_orders(
    desk: Desk,
    cast: Cast,
    terms: Terms,
    accounts: npt.NDArray[np.int64],
    actions: npt.NDArray[np.float64],
    steps: npt.NDArray[np.int64],
    messages: npt.NDArray[np.int32],
    delays_s: npt.NDArray[np.float64],
) -> None:
    """Fill in the messages of a step, shape (B, A * N_SLOTS, 7), and when they arrive.

    `actions` has shape (B, A, N_ACTIONS); those of agents that have ended are
    not read, and their orders are cancelled at once. `steps`, shape (B,), counts
    the steps since the reset, this one included.
    """
    n_agents = desk.start.shape[1]
    for b in range(len(desk.start)):
        shuffle(desk.turn[b], desk.stream[b])
        for p in range(n_agents):
            a = desk.turn[b, p]
            position = accounts[b, a + 1, POSITION] + desk.start[b, a]
            delay_s = cast.latency_s[a] if desk.is_alive[b, a] else 0.0
            for i in range(2):
                side = 1 - 2 * i
                order = (LIMIT, side, 1, 0)
                if desk.is_alive[b, a]:
                    order = want(
                        cast.code[a],
                        side,
                        actions[b, a],
                        desk.seen[b, a],
                        position,
                        cast.reach[a],
                        cast.skew[a],
                        cast.size[a],
                        terms,
                        steps[b] == terms.n_steps,
                    )
                k = p * N_SLOTS + i
                delays_s[b, k], delays_s[b, k + 2] = delay_s, delay_s
                handle, sent = place(
                    messages[b, k],
                    messages[b, k + 2],
                    wide(desk.handles[b, a, i]),
                    desk.resting[b, a, i],
                    order,
                    a + 1,
                )
                desk.handles[b, a, i] = handle
                desk.quoted[b, a] += sent
