"""Comparing a replayed book with the rows of a file, and correcting it: kernels of `data.replay`.

A row is LOBSTER's: ask price, ask lots, bid price, bid lots for each level,
0 and 0 where the side has no more levels. `data.history` says what is compared
and when a difference is explained.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hftlib.compute import compile_kernel
from hftlib.data.history import (
    ANONYMOUS,
    AUCTION,
    EQUAL,
    FIRST_MISMATCH,
    GAP,
    HIDDEN_EXECUTION,
    KIND,
    MALFORMED,
    MISMATCH,
    N_OPS,
    NOT_COMPARED,
    NOTHING,
    O_CANCEL,
    O_SURFACE,
    OPENING,
    SOUND,
    SURFACED,
    TIME_BACK,
    TRADING_HALT,
    TS,
    UNSEEN,
    UNSEEN_ORDER,
    WORST_ASK,
    WORST_BID,
    Desk,
    age_level,
    apply,
    clear_level,
    forget_level,
    in_view,
    put,
    shed,
)
from hftlib.data.queues import BUY, SELL, best_price, is_better, lots_at, next_price
from hftlib.market.ladder import MAX_PRICE, N_LIVE, NO_ASK, State, read_depth, wide
from hftlib.market.tape import CROSS, EXECUTE_HIDDEN, HALT

Row = npt.NDArray[np.int32]  # (4 * levels,)
Depth = npt.NDArray[np.int32]  # (4, levels): bid prices, bid lots, ask prices, ask lots


class Rows(NamedTuple):
    """What a replay writes, a row a message."""

    book: npt.NDArray[np.int32]  # (n, 4 * levels)
    outcome: npt.NDArray[np.int8]
    verdict: npt.NDArray[np.int8]
    first_op: npt.NDArray[np.int64]  # (n + 1,)
    reach: npt.NDArray[np.int32]  # (n, 2), worst bid and ask price in view
    received: npt.NDArray[np.int32]  # (4 * levels,), the replayed row at the first mismatch
    depth: Depth  # scratch


@compile_kernel
def price_of(row: Row, side: int, level: int) -> int:
    """Price of a level of a row, 0 or NO_ASK where empty."""
    price = wide(row[4 * level + 2]) if side > 0 else wide(row[4 * level])
    return NO_ASK if side < 0 and price == 0 else price


@compile_kernel
def lots_of(row: Row, side: int, level: int) -> int:
    """Lots of a level of a row."""
    return wide(row[4 * level + 3]) if side > 0 else wide(row[4 * level + 1])


@compile_kernel
def look(s: State, depth: Depth) -> None:
    """Read the replayed levels into `depth`."""
    for side in (BUY, SELL):
        first = 1 - side
        read_depth(s, side, depth[first], depth[first + 1])


@compile_kernel
def write_levels(depth: Depth, row: Row) -> None:
    """Write `depth` as a row."""
    for level in range(depth.shape[1]):
        row[4 * level], row[4 * level + 1] = depth[2, level], depth[3, level]
        row[4 * level + 2], row[4 * level + 3] = depth[0, level], depth[1, level]


@compile_kernel
def is_equal(depth: Depth, row: Row) -> bool:
    """Whether `depth` is the row."""
    for level in range(depth.shape[1]):
        if depth[0, level] != row[4 * level + 2] or depth[1, level] != row[4 * level + 3]:
            return False
        if depth[2, level] != row[4 * level] or depth[3, level] != row[4 * level + 1]:
            return False
    return True


@compile_kernel
def is_possible(row: Row) -> bool:
    """Whether prices step away from the best and do not cross, and every level has lots."""
    for side in (BUY, SELL):
        last = wide(MAX_PRICE + 1 if side > 0 else 0)
        for level in range(len(row) // 4):
            price, lots = price_of(row, side, level), lots_of(row, side, level)
            is_empty = price == 0 or price == NO_ASK
            if price < 0 or (lots != 0 if is_empty else lots <= 0 or price > MAX_PRICE):
                return False
            if not is_empty and not is_better(side, last, price):
                return False
            last = price
    return price_of(row, BUY, NOTHING) < price_of(row, SELL, NOTHING)


@compile_kernel
def is_explained(notes: npt.NDArray[np.int64], depth: Depth, row: Row, side: int) -> bool:
    """Whether a side of the row is `depth` as far as the view went, and worse prices beyond."""
    first = 0 if side > 0 else 2
    for level in range(depth.shape[1]):
        mine, lots = wide(depth[first, level]), wide(depth[first + 1, level])
        price = price_of(row, side, level)
        if mine != 0 and in_view(notes, side, mine):
            if price != mine or lots_of(row, side, level) != lots:
                return False
        elif price != 0 and price != NO_ASK and in_view(notes, side, price):
            return False
    return True


@compile_kernel
def clear_absent(k: Desk, row: Row, side: int) -> None:
    """Clear the replayed levels that the row has not, as far as it shows."""
    levels, level = len(row) // 4, NOTHING
    price = best_price(k.state, side)
    while price != 0 and price != NO_ASK:
        while level < levels and is_better(side, price_of(row, side, level), price):
            level += 1
        if level == levels:
            return
        following = next_price(k.state, side, price)
        if price_of(row, side, level) != price:
            clear_level(k, side, price)
        price = following


@compile_kernel
def settle(k: Desk, row: Row, side: int) -> None:
    """Bring the lots of each level to those of the row."""
    for level in range(len(row) // 4):
        price = price_of(row, side, level)
        if price == 0 or price == NO_ASK:
            return
        lacking = lots_of(row, side, level) - lots_at(k.state, side, price)
        if lacking > 0:
            put(k, O_SURFACE, side, price, lacking, ANONYMOUS)
        elif lacking < 0:
            forget_level(k.state, k.handles, side, price)
            shed(k, O_CANCEL, side, price, -lacking)


@compile_kernel
def move_view(s: State, notes: npt.NDArray[np.int64], row: Row) -> None:
    """Note how far the row shows; levels that have come into view are stale."""
    for side in (BUY, SELL):
        level = wide(len(row) // 4 - 1)
        worst = price_of(row, side, level)
        while level >= 0:
            price = price_of(row, side, level)
            if price != 0 and price != NO_ASK:
                if in_view(notes, side, price):
                    break
                age_level(s, side, price)
            level -= 1
        notes[WORST_BID if side > 0 else WORST_ASK] = worst


@compile_kernel
def judge(
    notes: npt.NDArray[np.int64], depth: Depth, row: Row, kind: int, verdict: int, has_gap: bool
) -> int:
    """Outcome of a row, `depth` being the replayed book."""
    if is_equal(depth, row) and verdict < MALFORMED:
        if kind == EXECUTE_HIDDEN:
            return HIDDEN_EXECUTION
        if kind == HALT:
            return TRADING_HALT
        if kind == CROSS:
            return AUCTION
        return EQUAL if verdict == SOUND else UNSEEN_ORDER
    if has_gap:
        return GAP
    if kind == CROSS:
        return AUCTION
    explained = is_explained(notes, depth, row, BUY) and is_explained(notes, depth, row, SELL)
    return SURFACED if explained and verdict < MALFORMED else MISMATCH


@compile_kernel
def correct(k: Desk, row: Row) -> None:
    """Make the replayed book the row's, as far as the row shows."""
    clear_absent(k, row, BUY)
    clear_absent(k, row, SELL)
    settle(k, row, BUY)
    settle(k, row, SELL)


@compile_kernel
def replay_rows(
    k: Desk,
    messages: npt.NDArray[np.int64],
    book: npt.NDArray[np.int32],
    gaps: npt.NDArray[np.bool_],
    is_complete: bool,
    rows: Rows,
    start: int,
) -> int:
    """Replay messages from `start` on; stops early where the operations could find no room.

    `book` has no rows where there is nothing to compare with. Returns the
    first message that was not replayed.
    """
    depth, levels = rows.depth, rows.depth.shape[1]
    for i in range(start, len(messages)):
        if k.notes[N_OPS] + 2 * k.state[N_LIVE] + 2 * levels + 8 > len(k.ops):
            return i
        rows.first_op[i] = k.notes[N_OPS]
        m = messages[i]
        verdict = apply(k, m)
        if verdict < MALFORMED and i > 0 and m[TS] < messages[i - 1, TS]:
            verdict = TIME_BACK
        look(k.state, depth)
        outcome = NOT_COMPARED
        if len(book) > 0:
            row, possible = book[i], is_possible(book[i])
            if gaps[i] and verdict > MALFORMED:
                verdict = UNSEEN
            outcome = OPENING
            if not possible:
                outcome = MISMATCH
            elif i > 0 or is_complete:
                outcome = judge(k.notes, depth, row, m[KIND], verdict, gaps[i])
            if outcome == MISMATCH and k.notes[FIRST_MISMATCH] < 0:
                k.notes[FIRST_MISMATCH] = i
                write_levels(depth, rows.received)
            if possible and not is_equal(depth, row):
                correct(k, row)
                look(k.state, depth)
            if possible and not is_complete:
                move_view(k.state, k.notes, row)
            rows.reach[i, 0], rows.reach[i, 1] = k.notes[WORST_BID], k.notes[WORST_ASK]
        rows.outcome[i], rows.verdict[i] = outcome, verdict
        write_levels(depth, rows.book[i])
    rows.first_op[len(messages)] = k.notes[N_OPS]
    return len(messages)
