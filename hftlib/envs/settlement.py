"""After a step: what the agents hold, what they see and what they have earned.

An agent's mid and depth are those of the book without its own orders, so that
nobody can move the price at which its position is valued.

Source of the order-flow imbalance: Cont, Kukanov & Stoikov (2014), The price
impact of order book events, Journal of Financial Econometrics 12(1).
"""

import math

import numpy as np
import numpy.typing as npt

from hftlib.compute import compile_kernel
from hftlib.envs.desk import (
    ASK,
    ASK_LOTS,
    BID,
    BID_LOTS,
    ENTRY,
    EQUITY,
    FEES,
    FLOW,
    IMPACT,
    INVENTORY,
    LAST_MID,
    MEAN,
    MID,
    N_SLOTS,
    PEAK,
    PROFIT,
    RISK,
    SPREAD,
    START_MID,
    VARIANCE,
    Cast,
    Desk,
    Terms,
)
from hftlib.envs.roles import (
    EXECUTOR,
    LOG_LOTS,
    MAKER,
    MARKET_OBSERVATION,
    N_LEVELS,
    TICKS,
)
from hftlib.market.draws import uniform
from hftlib.market.ladder import NONE, PRICE, QTY, find, read_depth, wide
from hftlib.market.matching import (
    A_HANDLE,
    CASH,
    M_KIND,
    MADE,
    POSITION,
    TOOK,
)

LIMIT = 10.0  # of every observation
TREND_S = 30.0  # memory of the running mean of the mid
VOLATILITY_S = 60.0  # memory of the running variance of its changes
N_MARKET = len(MARKET_OBSERVATION)


@compile_kernel
def clip(value: float) -> float:
    """The value within the bounds of an observation."""
    return min(max(value, -LIMIT), LIMIT)


@compile_kernel
def log_lots(lots: float) -> float:
    """Lots on the scale of an observation, with their sign."""
    return math.copysign(math.log1p(abs(lots)) / LOG_LOTS, lots)


@compile_kernel
def take_out(
    depth: npt.NDArray[np.int32],
    resting: npt.NDArray[np.int64],
    is_in_book: bool,
    others: npt.NDArray[np.int64],
) -> None:
    """Copy the best levels of both sides less an agent's own orders; 0 where empty.

    `depth` and `others` have shape (2, 2, levels): side; prices and lots.
    `resting` has shape (2, 2): side; price and lots.
    """
    others[:] = 0
    for i in range(2):
        n = 0
        for k in range(depth.shape[2]):
            lots = wide(depth[i, 1, k])
            if is_in_book and depth[i, 0, k] == resting[i, 0]:
                lots -= resting[i, 1]
            if lots > 0 and n < others.shape[2]:
                others[i, 0, n], others[i, 1, n] = depth[i, 0, k], lots
                n += 1


@compile_kernel
def look(
    view: npt.NDArray[np.float64], others: npt.NDArray[np.int64], terms: Terms, is_first: bool
) -> None:
    """Bring a view of the market up to date; without a side of the book the mid stays."""
    bid, bid_lots = others[0, 0, 0], others[0, 1, 0]
    ask, ask_lots = others[1, 0, 0], others[1, 1, 0]
    if bid > 0 and ask > 0:
        mid = (bid + ask) / 2.0
    else:
        mid = max(1.0, float(max(bid, ask))) if is_first else view[MID]
    if is_first:
        view[:] = 0.0
        view[MID], view[MEAN], view[START_MID] = mid, mid, mid
    else:
        flow = 0.0
        flow += bid_lots if bid >= view[BID] else 0.0
        flow -= view[BID_LOTS] if bid <= view[BID] else 0.0
        old_ask = view[ASK] if view[ASK] > 0 else math.inf
        new_ask = float(ask) if ask > 0 else math.inf
        flow -= ask_lots if new_ask <= old_ask else 0.0
        flow += view[ASK_LOTS] if new_ask >= old_ask else 0.0
        view[FLOW] = flow
    view[LAST_MID], view[MID] = view[MID], mid
    view[BID], view[BID_LOTS], view[ASK], view[ASK_LOTS] = bid, bid_lots, ask, ask_lots
    change = mid - view[LAST_MID]
    view[MEAN] += (1.0 - math.exp(-terms.decision_s / TREND_S)) * (mid - view[MEAN])
    if not is_first:
        weight = 1.0 - math.exp(-terms.decision_s / VOLATILITY_S)
        view[VARIANCE] += weight * (change * change - view[VARIANCE])


@compile_kernel
def describe_market(
    view: npt.NDArray[np.float64],
    others: npt.NDArray[np.int64],
    traded: int,
    step: int,
    terms: Terms,
    row: npt.NDArray[np.float32],
) -> None:
    """Write the features of `roles.MARKET_OBSERVATION` into a row."""
    bid, ask = view[BID], view[ASK]
    lots = view[BID_LOTS] + view[ASK_LOTS]
    past = 1.0 - math.exp(-step * terms.decision_s / VOLATILITY_S)  # weight seen so far
    row[0] = clip((ask - bid) / TICKS) if bid > 0 and ask > 0 else 0.0
    row[1] = (view[BID_LOTS] - view[ASK_LOTS]) / lots if lots > 0 else 0.0
    row[2] = clip((view[MID] - view[MEAN]) / TICKS)
    row[3] = clip((view[MID] - view[LAST_MID]) / TICKS)
    row[4] = clip(math.sqrt(view[VARIANCE] / past) / TICKS) if step > 0 else 0.0
    row[5] = log_lots(view[FLOW])
    row[6] = log_lots(float(traded))
    row[7] = 1.0 - step / terms.n_steps
    for k in range(N_LEVELS):
        for i in range(2):
            price, there = others[i, 0, k], others[i, 1, k]
            at = 8 + 4 * k + 2 * i
            row[at] = clip(abs(price - view[MID]) / TICKS) if there > 0 else 0.0
            row[at + 1] = log_lots(float(there))


@compile_kernel
def describe_self(
    desk: Desk,
    b: int,
    a: int,
    cast: Cast,
    terms: Terms,
    position: int,
    step: int,
    row: npt.NDArray[np.float32],
) -> int:
    """Write the role's own features into a row; returns how many there are."""
    money, view, resting = desk.money[b, a], desk.seen[b, a], desk.resting[b, a]
    drawdown = clip((money[PEAK] - money[EQUITY]) / terms.max_drawdown)
    if cast.code[a] == EXECUTOR:
        side = 1 if desk.start[b, a] < 0 else -1
        mine = resting[0 if side > 0 else 1]
        remaining = abs(position) / cast.parent[a]
        row[0], row[1] = side, remaining
        row[2] = remaining - (1.0 - step / terms.n_steps)
        row[3] = mine[1] / cast.size[a]
        row[4] = clip(side * (view[MID] - mine[0]) / TICKS) if mine[1] > 0 else 0.0
        row[5] = clip(side * (view[MID] - view[START_MID]) / TICKS)
        return 6
    row[0] = clip(position / terms.max_inventory)
    if cast.code[a] == MAKER:
        for i in range(2):
            row[1 + 2 * i] = resting[i, 1] / cast.size[a]
            away = abs(view[MID] - resting[i, 0])
            row[2 + 2 * i] = clip(away / TICKS) if resting[i, 1] > 0 else 0.0
        row[5] = drawdown
        return 6
    sign = 1 if position > 0 else -1 if position < 0 else 0
    row[1] = clip(sign * (view[MID] - money[ENTRY]) / TICKS) if sign != 0 else 0.0
    row[2] = drawdown
    return 3


@compile_kernel
def earn(
    desk: Desk,
    b: int,
    a: int,
    cast: Cast,
    terms: Terms,
    account: npt.NDArray[np.int64],
    value: float,
    is_over: bool,
    reward: npt.NDArray[np.float64],
) -> None:
    """Mark an agent to its mid, write the terms of its reward, and end it at its limits.

    With a `value` (ticks, or 0) the profit term is what the step's trades earned
    against it, and at the agent's end what its position is worth beyond it: in sum
    the profit less that of the positions from moves of the value. The equity stays
    as it is.

    Who is ended by the limits, and an executor with lots left at the end, closes
    at the far side of the spread and pays the fee.
    """
    money, view, before = desk.money[b, a], desk.seen[b, a], desk.before[b, a]
    start = desk.start[b, a]
    position = account[POSITION] + start
    bought, paid = account[POSITION] - before[0], before[1] - account[CASH]
    before[0], before[1] = account[POSITION], account[CASH]
    if position == 0:
        money[ENTRY] = 0.0
    elif bought != 0:
        held = position - bought
        if held * bought >= 0:
            money[ENTRY] = (abs(held) * money[ENTRY] + abs(paid)) / abs(position)
        elif held * position < 0:
            money[ENTRY] = paid / bought
    fees = (account[MADE] * terms.maker_fee + account[TOOK] * terms.taker_fee) * terms.unit
    worth = account[CASH] + position * view[MID] - start * view[START_MID]
    equity = terms.initial_cash + worth * terms.unit - fees
    drawdown = max(0.0, money[PEAK] - money[EQUITY])
    is_ruined = money[PEAK] - equity >= terms.max_drawdown  # at most the initial cash
    closing = 0.0
    if is_ruined or (is_over and cast.code[a] == EXECUTOR):
        half_spread = max(0.5, (view[ASK] - view[BID]) / 2.0 if view[BID] > 0 else 0.5)
        fee = terms.taker_fee * view[MID] * abs(position) * terms.unit
        fees += fee
        closing = half_spread * abs(position) * terms.unit
        equity -= closing + fee
    captured = (bought * view[LAST_MID] - paid) * terms.unit
    scale = float(cast.parent[a]) if cast.parent[a] > 0 else terms.max_inventory
    risk = terms.unit * terms.decision_s * position * position / scale
    reward[PROFIT] = equity - money[EQUITY]
    if value > 0.0:
        earned = bought * value - paid
        if is_over or is_ruined:
            earned += position * (view[MID] - value)
        reward[PROFIT] = earned * terms.unit - closing - (fees - money[FEES])
    reward[INVENTORY] = -terms.lambda_inventory * risk
    reward[IMPACT] = terms.lambda_impact * min(captured, 0.0)
    reward[SPREAD] = terms.lambda_spread * max(captured, 0.0)
    money[EQUITY], money[FEES] = equity, fees
    money[PEAK] = max(money[PEAK], equity)
    deeper = money[PEAK] - equity - drawdown
    reward[RISK] = -terms.lambda_risk * max(0.0, deeper)
    desk.is_alive[b, a] = not is_ruined


@compile_kernel
def settle(
    desk: Desk,
    cast: Cast,
    terms: Terms,
    book: npt.NDArray[np.int32],
    own: npt.NDArray[np.int32],
    accounts: npt.NDArray[np.int64],
    traded: npt.NDArray[np.int64],
    value: npt.NDArray[np.float64],
    steps: npt.NDArray[np.int64],
    due: npt.NDArray[np.bool_],
    depth: npt.NDArray[np.int32],
    others: npt.NDArray[np.int64],
    observations: npt.NDArray[np.float32],
    state: npt.NDArray[np.float32],
    rewards: npt.NDArray[np.float64],
) -> None:
    """Look at the books that are due; write observations, state and the terms of the rewards.

    Parameters
    ----------
    book, own : arrays of shape (B, state_size)
        Books, and where the agents' orders rest.
    traded : array of shape (B,)
        Lots traded in the books until now.
    value : array of shape (B,)
        Fundamental value, ticks, or 0: the last entry of `state`, which no agent sees.
    steps : array of shape (B,)
        Since the reset; at 0 nothing has been earned.
    due : bool array of shape (B,)
    depth, others : arrays of shape (2, 2, levels + 1) and (2, 2, levels)
        Room to work in.
    observations, state, rewards : arrays of shape (B, A, n), (B, n), (B, A, 5)
    """
    n_agents = desk.start.shape[1]
    for b in range(len(desk.start)):
        if not due[b]:
            continue
        step = steps[b]
        read_depth(book[b], 1, depth[0, 0], depth[0, 1])
        read_depth(book[b], -1, depth[1, 0], depth[1, 1])
        desk.traded[b, 1] = traded[b] - desk.traded[b, 0] if step > 0 else 0
        desk.traded[b, 0] = traded[b]
        fair = value[b] if terms.prices_at_value else 0.0
        column = wide(N_MARKET)
        for a in range(n_agents):
            find_orders(desk, b, a, own[b])
            take_out(depth, desk.resting[b, a], terms.is_in_book, others)
            look(desk.seen[b, a], others, terms, step == 0)
            row = observations[b, a]
            describe_market(desk.seen[b, a], others, desk.traded[b, 1], step, terms, row)
            rewards[b, a] = 0.0
            account = accounts[b, a + 1]
            if step == 0:
                desk.money[b, a] = 0.0
                desk.money[b, a, EQUITY] = terms.initial_cash
                desk.money[b, a, PEAK] = terms.initial_cash
            elif desk.is_alive[b, a]:
                is_over = step == terms.n_steps
                earn(desk, b, a, cast, terms, account, fair, is_over, rewards[b, a])
            position = account[POSITION] + desk.start[b, a]
            n = describe_self(desk, b, a, cast, terms, position, step, row[N_MARKET:])
            for k in range(n):
                state[b, column + k] = row[N_MARKET + k]
            column += n
        take_out(depth, desk.resting[b, 0], False, others)
        view = desk.seen[b, n_agents]
        look(view, others, terms, step == 0)
        describe_market(view, others, desk.traded[b, 1], step, terms, state[b])
        gap = value[b] - view[MID] if value[b] > 0 else 0.0
        state[b, column] = clip(gap / TICKS)


@compile_kernel
def find_orders(desk: Desk, b: int, a: int, own: npt.NDArray[np.int32]) -> None:
    """Note what still rests of an agent's two orders."""
    for i in range(2):
        handle = wide(desk.handles[b, a, i])
        order = find(own, handle) if handle > 0 else wide(NONE)
        if order == NONE:
            desk.handles[b, a, i] = 0
            desk.resting[b, a, i, 0], desk.resting[b, a, i, 1] = 0, 0
        else:
            desk.resting[b, a, i, 0] = own[order + PRICE]
            desk.resting[b, a, i, 1] = own[order + QTY]


@compile_kernel
def read_answers(desk: Desk, messages: npt.NDArray[np.int32], acks: npt.NDArray[np.int32]) -> None:
    """Note the handles of the orders that have come to rest."""
    for b in range(len(desk.start)):
        for p in range(desk.start.shape[1]):
            a = desk.turn[b, p]
            for i in range(2):
                k = p * N_SLOTS + 2 + i
                if messages[b, k, M_KIND] != 0:
                    desk.handles[b, a, i] = acks[b, k, A_HANDLE]


@compile_kernel
def open_desk(desk: Desk, cast: Cast, due: npt.NDArray[np.bool_]) -> None:
    """Draw the sides of the parent orders of the copies that are due; forget the last episode."""
    for b in range(len(desk.start)):
        if not due[b]:
            continue
        desk.handles[b], desk.resting[b], desk.before[b] = 0, 0, 0
        desk.quoted[b], desk.is_alive[b], desk.traded[b] = 0, True, 0
        for a in range(desk.start.shape[1]):
            desk.turn[b, a] = a
            side = 1 if uniform(desk.stream[b]) < 0.5 else -1
            desk.start[b, a] = -side * cast.parent[a]
