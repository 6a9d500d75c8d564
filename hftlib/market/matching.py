"""Price-time priority: what a message does to a book of `market.ladder`.

One message is a few integers; `submit` applies it and `process` applies an
array of them. Nothing raises: a fault of a message is its status, the first of
the statuses that applies. A faulty message changes nothing; an order that finds
the book full, or that self-trade prevention stops, keeps its fills.

Source: Gould et al. (2013), Limit order books, Quantitative Finance 13(11).
"""

import numpy as np
import numpy.typing as npt

from hftlib.compute import compile_kernel
from hftlib.market.ladder import (
    BEST_ASK,
    BEST_BID,
    FAR_ASK_HEAD,
    FAR_BID_HEAD,
    HANDLE,
    HEAD,
    LAST_PRICE,
    MAX_PRICE,
    N_LIVE,
    NEXT,
    NO_ASK,
    NONE,
    OWNER,
    PRICE,
    QTY,
    SELF_TRADE,
    SIDE,
    TAG,
    TRADED,
    State,
    count,
    far_best,
    find,
    in_window,
    level_at,
    order_at,
    recentre,
    reduce,
    remove,
    rest,
    wide,
)

# kinds of message
LIMIT, MARKET, IOC, FOK, POST_ONLY, CANCEL, REDUCE, MODIFY = range(1, 9)
# columns of a message
M_KIND, M_SIDE, M_PRICE, M_QTY, M_OWNER, M_HANDLE, M_TAG = range(7)
# columns of an acknowledgement
A_STATUS, A_HANDLE, A_FILLED, A_RESTING = range(4)
# columns of a fill
F_MESSAGE, F_MAKER, F_MAKER_TAG, F_MAKER_OWNER, F_PRICE, F_QTY, F_SIDE, F_CAUSE = range(8)
TRADE, SELF_TRADE_CANCEL = 0, 1
# columns of an account, int64: lots held; ticks x lots; notional made and taken, ticks x lots;
# lots traded, made or taken
POSITION, CASH, MADE, TOOK, LOTS = range(5)
N_ACCOUNT = 5
# what happens when an order would meet one of the same owner; owner 0 is anonymous
STP_NONE, STP_CANCEL_RESTING, STP_CANCEL_INCOMING = range(3)
# statuses
(
    ACCEPTED,
    BAD_KIND,
    BAD_SIDE,
    BAD_PRICE,
    BAD_QTY,
    BAD_OWNER,
    UNKNOWN_ORDER,
    NOT_OWNER,
    BOOK_FULL,
    WOULD_CROSS,
    CANNOT_FILL,
    SELF_TRADE_STOPPED,
) = range(12)

Ack = tuple[int, int, int, int, int]  # as `submit` returns it


@compile_kernel
def crosses(s: State, side: int, price: int) -> bool:
    """Whether an order at this price would trade at once."""
    return price >= s[BEST_ASK] if side > 0 else price <= s[BEST_BID]


@compile_kernel
def match(
    s: State,
    accounts: npt.NDArray[np.int64],
    fills: npt.NDArray[np.int32],
    n_fills: int,
    message: int,
    side: int,
    limit: int,
    qty: int,
    owner: int,
) -> tuple[int, int, bool]:
    """Trade against the other side up to `limit`, best price first, oldest first.

    `fills` must have room for one row an order of the book. Returns the
    number of fills so far, the lots left and whether self-trade prevention
    stopped the order.
    """
    while qty > 0 and crosses(s, side, limit):
        price = s[BEST_ASK] if side > 0 else s[BEST_BID]
        if not in_window(s, price):
            recentre(s, price)
        order = order_at(s, s[level_at(s, price) + HEAD])
        maker = s[order + OWNER]
        own = owner > 0 and maker == owner and s[SELF_TRADE] != STP_NONE
        if own and s[SELF_TRADE] == STP_CANCEL_INCOMING:
            return n_fills, qty, True
        traded = s[order + QTY] if own else min(qty, s[order + QTY])
        fills[n_fills, F_MESSAGE] = message
        fills[n_fills, F_MAKER] = s[order + HANDLE]
        fills[n_fills, F_MAKER_TAG] = s[order + TAG]
        fills[n_fills, F_MAKER_OWNER] = maker
        fills[n_fills, F_PRICE] = price
        fills[n_fills, F_QTY] = traded
        fills[n_fills, F_SIDE] = side
        fills[n_fills, F_CAUSE] = SELF_TRADE_CANCEL if own else TRADE
        n_fills += 1
        reduce(s, order, traded)
        if own:
            continue
        qty -= traded
        notional = wide(price) * traded
        accounts[owner, POSITION] += side * traded
        accounts[owner, CASH] -= side * notional
        accounts[owner, TOOK] += notional
        accounts[owner, LOTS] += traded
        accounts[maker, POSITION] -= side * traded
        accounts[maker, CASH] += side * notional
        accounts[maker, MADE] += notional
        accounts[maker, LOTS] += traded
        s[LAST_PRICE] = price
        count(s, TRADED, traded)
    return n_fills, qty, False


@compile_kernel
def _available(s: State, order: int, owner: int, wanted: int) -> tuple[int, bool]:
    """Lots an order offers to `owner`, and whether self-trade prevention ends the search there."""
    if owner > 0 and s[order + OWNER] == owner and s[SELF_TRADE] != STP_NONE:
        return 0, s[SELF_TRADE] == STP_CANCEL_INCOMING
    return min(wanted, s[order + QTY]), False


@compile_kernel
def can_fill(s: State, side: int, limit: int, qty: int, owner: int) -> bool:
    """Whether all lots of a fill-or-kill order would trade now."""
    price = s[BEST_ASK] if side > 0 else s[BEST_BID]
    while in_window(s, price) and (price <= limit if side > 0 else price >= limit):
        slot = s[level_at(s, price) + HEAD]
        while slot != NONE:
            order = order_at(s, slot)
            offered, blocked = _available(s, order, owner, qty)
            if blocked:
                return False
            qty -= offered
            if qty == 0:
                return True
            slot = s[order + NEXT]
        price += side
    # what lies outside the ladder, one price after another
    price = far_best(s, -side)
    while (price != NO_ASK and price <= limit) if side > 0 else (price != 0 and price >= limit):
        following = NO_ASK if side > 0 else 0
        slot = s[FAR_ASK_HEAD if side > 0 else FAR_BID_HEAD]
        while slot != NONE:
            order = order_at(s, slot)
            at = s[order + PRICE]
            if at == price:
                offered, blocked = _available(s, order, owner, qty)
                if blocked:
                    return False
                qty -= offered
                if qty == 0:
                    return True
            elif at > price and side > 0:
                following = min(following, at)
            elif at < price and side < 0:
                following = max(following, at)
            slot = s[order + NEXT]
        price = following
    return False


@compile_kernel
def trade(
    s: State,
    accounts: npt.NDArray[np.int64],
    fills: npt.NDArray[np.int32],
    n_fills: int,
    message: int,
    kind: int,
    side: int,
    price: int,
    qty: int,
    owner: int,
    tag: int,
) -> Ack:
    """Apply a sound order that may trade; what is left of a limit order rests."""
    if kind == POST_ONLY and crosses(s, side, price):
        return n_fills, WOULD_CROSS, 0, 0, 0
    if kind == FOK and not can_fill(s, side, price, qty, owner):
        return n_fills, CANNOT_FILL, 0, 0, 0
    n_fills, left, stopped = match(s, accounts, fills, n_fills, message, side, price, qty, owner)
    if stopped:
        return n_fills, SELF_TRADE_STOPPED, 0, qty - left, 0
    if left == 0 or kind not in (LIMIT, POST_ONLY):
        return n_fills, ACCEPTED, 0, qty - left, 0
    handle = rest(s, side, price, left, owner, tag)
    if handle == 0:
        return n_fills, BOOK_FULL, 0, qty - left, 0
    return n_fills, ACCEPTED, handle, qty - left, left


@compile_kernel
def submit(
    s: State,
    accounts: npt.NDArray[np.int64],
    fills: npt.NDArray[np.int32],
    n_fills: int,
    index: int,
    m: npt.NDArray[np.int32],
    handle: int,
) -> Ack:
    """Apply one message.

    Parameters
    ----------
    fills : array of shape (n, 8)
        Must have room for one more row an order of the book.
    index : int
        Number of the message, for its fills.
    m : array of shape (7,)
        The message. Orders need a side, and all but market orders, cancels
        and reductions a price.
    handle : int
        The order to cancel, reduce or modify, in the place of the message's.

    Returns
    -------
    n_fills, status, handle, filled, resting
        Fills so far; 0 or the reason of refusal; handle of the order that
        rests (0: none); lots traded; lots resting.
    """
    kind, owner, qty = wide(m[M_KIND]), wide(m[M_OWNER]), wide(m[M_QTY])
    side, price = wide(m[M_SIDE]), wide(m[M_PRICE])
    opens = kind < CANCEL
    if kind < LIMIT or kind > MODIFY:
        return n_fills, BAD_KIND, 0, 0, 0
    if opens and side != 1 and side != -1:
        return n_fills, BAD_SIDE, 0, 0, 0
    if kind not in (MARKET, CANCEL, REDUCE) and (price < 1 or price > MAX_PRICE):
        return n_fills, BAD_PRICE, 0, 0, 0
    if kind != CANCEL and qty < 1:
        return n_fills, BAD_QTY, 0, 0, 0
    if owner < 0 or owner >= len(accounts):
        return n_fills, BAD_OWNER, 0, 0, 0
    if opens:
        if kind == MARKET:
            price = NO_ASK - 1 if side > 0 else 1
        tag = wide(m[M_TAG])
        return trade(s, accounts, fills, n_fills, index, kind, side, price, qty, owner, tag)
    order = find(s, handle)
    if order == NONE:
        return n_fills, UNKNOWN_ORDER, 0, 0, 0
    if s[order + OWNER] != owner:
        return n_fills, NOT_OWNER, 0, 0, 0
    if kind == CANCEL:
        remove(s, order)
        return n_fills, ACCEPTED, 0, 0, 0
    if kind == REDUCE or (price == s[order + PRICE] and qty <= s[order + QTY]):
        reduce(s, order, qty if kind == REDUCE else s[order + QTY] - qty)
        left = s[order + QTY]
        return n_fills, ACCEPTED, handle if left > 0 else 0, 0, left
    side, tag = wide(s[order + SIDE]), wide(s[order + TAG])
    remove(s, order)
    kind = wide(LIMIT)
    return trade(s, accounts, fills, n_fills, index, kind, side, price, qty, owner, tag)


@compile_kernel
def process(
    s: State,
    accounts: npt.NDArray[np.int64],
    messages: npt.NDArray[np.int32],
    start: int,
    acks: npt.NDArray[np.int32],
    fills: npt.NDArray[np.int32],
) -> tuple[int, int]:
    """Apply messages from `start` on; stops early where `fills` could overflow.

    A negative handle -1 - k is the handle that message k of this array was
    acknowledged with.

    Returns
    -------
    following, n_fills
        The first message that was not applied, and the rows of `fills` in use.
    """
    n_fills = wide(0)
    for i in range(start, len(messages)):
        if n_fills + s[N_LIVE] > len(fills):
            return i, n_fills
        handle = wide(messages[i, M_HANDLE])
        if handle < 0:
            handle = wide(acks[-1 - handle, A_HANDLE]) if -1 - handle < i else wide(0)
        n_fills, status, handle, filled, resting = submit(
            s, accounts, fills, n_fills, i, messages[i], handle
        )
        acks[i, A_STATUS] = status
        acks[i, A_HANDLE] = handle
        acks[i, A_FILLED] = filled
        acks[i, A_RESTING] = resting
    return len(messages), n_fills
