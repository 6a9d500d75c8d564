"""A recorded day through the matching engine: does its book follow from its messages?

`replay` rebuilds the book from messages and compares it with the recorded
book after each; `rebuild` does without the recorded book. Both use the
engine's own queues and never match: in a record, what trades is told by
executions of resting orders.

What a row's outcome says (`OUTCOMES`), the first that applies:

- equal: all levels of the row are the replayed ones; told apart are rows of
  hidden executions, auctions and halts, which move no lot, and rows whose
  message is about an order whose add, or whose change, was out of view.
- opening: the first row of a file that opens on a book already there.
- after a refused line: differs, and the reader refused a message before it.
- auction: differs, and the message is an auction, which clears many orders.
- surfaced: all prices that were in view agree, and a price worse than all of
  them has come into view with other lots than last seen there. It takes a
  message that emptied a level, and a side that showed all its levels.
- mismatch: anything else, or a fault of the message (`FAULTS`).

After every difference the book becomes the row's, so each row is a test of its
own: a wrong message spoils one row, a wrong row at most two, itself and the
next. What a test cannot see: lots that are wrong in the very row that surfaces
them show only at the next row; of a hidden execution only the price is tested,
which lies within the quotes; a wrong order id shows where all orders at its
price are known.

Source: LOBSTER, Data structure, lobsterdata.com.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.data.history import (
    ANY_ASK,
    ANY_BID,
    FIRST_MISMATCH,
    MALFORMED,
    MISMATCH,
    N_CLEARED,
    N_FIELDS,
    N_NOTES,
    N_OPS,
    N_ORDERS,
    N_OUT_OF_TURN,
    PEAK,
    WORST_ASK,
    WORST_BID,
    Desk,
)
from hftlib.data.reconcile import Rows, replay_rows
from hftlib.market.book import open_books
from hftlib.market.ladder import N_REFUSED
from hftlib.market.tape import ADD, DELETE, Tape
from hftlib.schema import MESSAGES, validate

OUTCOMES = (
    "equal",
    "hidden execution",
    "auction",
    "trading halt",
    "unseen order",
    "surfaced",
    "opening",
    "after a refused line",
    "not compared",
    "mismatch",
)
VERDICTS = (
    "sound",
    "order out of view",
    "order changed out of view",
    "cleared what it would cross",
    "malformed",
    "time goes back",
    "size is not the order's",
    "no such order",
    "price or side is not the order's",
    "order id rests already",
    "would cross the book",
    "executed behind a better price",
    "no room",
)
FAULTS = VERDICTS[MALFORMED:]
WITHOUT_HELP = [OUTCOMES.index(name) for name in OUTCOMES[:5]]
WINDOW = 4096  # levels of the ladder
LARGEST = 2**24  # orders that a book can hold
SPARE = 1024  # orders beside the file's own: lots that surface


class ReplayError(ValueError):
    """Messages and a book that do not belong together."""


class Mismatch(NamedTuple):
    """The first row that nothing explains.

    row : int, counted from 0
    ts : int, nanoseconds UTC
    verdict : str, on its message
    expected, received : the row's and the replay's numbers
    """

    row: int
    ts: int
    verdict: str
    expected: tuple[int, ...]
    received: tuple[int, ...]


@dataclass(frozen=True)
class History:
    """A day as operations that cannot fail, for `data.injection`.

    ts : int64 array of shape (n_rows,), nanoseconds UTC, never decreasing
    first_op : int64 array of shape (n_rows + 1,), row i has the operations
        first_op[i] to first_op[i + 1]
    ops : int32 array of shape (n_ops, 6), columns as `history.O_KIND` on
    reach : int32 array of shape (n_rows, 2), worst bid and ask in view after
        each row
    n_orders : int, orders that ever rest
    peak : int, orders that rest at once
    """

    ts: npt.NDArray[np.int64]
    first_op: npt.NDArray[np.int64]
    ops: npt.NDArray[np.int32]
    reach: npt.NDArray[np.int32]
    n_orders: int
    peak: int

    def __len__(self) -> int:
        return len(self.ts)


@dataclass(frozen=True)
class ReplayReport:
    """A replayed day.

    tape : Tape, the messages with the best quotes after each
    book : int32 array of shape (n_rows, 4 * levels), the book after each
        message in LOBSTER's columns, ticks and lots
    outcome, verdict : int8 arrays of shape (n_rows,), positions in `OUTCOMES`
        and `VERDICTS`
    first_mismatch : Mismatch or None
    n_out_of_turn : int, executions of an order with an older one at its price
    n_cleared : int, orders that must have gone although no message said so
    n_refused : int, orders for which no book has room: beyond 2**24 orders, or
        2**31 lots a side
    history : History
    """

    tape: Tape
    book: npt.NDArray[np.int32]
    outcome: npt.NDArray[np.int8]
    verdict: npt.NDArray[np.int8]
    first_mismatch: Mismatch | None
    n_out_of_turn: int
    n_cleared: int
    n_refused: int
    history: History

    @property
    def rows(self) -> int:
        """Messages."""
        return len(self.outcome)

    @property
    def matched(self) -> int:
        """Rows whose book is the replayed one without help: equal, or nothing moved."""
        return int(np.isin(self.outcome, WITHOUT_HELP).sum())

    @property
    def n_unexplained(self) -> int:
        """Rows that are mismatches."""
        return int((self.outcome == MISMATCH).sum())

    @property
    def outcomes(self) -> dict[str, int]:
        """Rows by outcome."""
        counts = np.bincount(self.outcome, minlength=len(OUTCOMES))
        return dict(zip(OUTCOMES, counts.tolist(), strict=True))

    @property
    def verdicts(self) -> dict[str, int]:
        """Messages by verdict."""
        counts = np.bincount(self.verdict, minlength=len(VERDICTS))
        return dict(zip(VERDICTS, counts.tolist(), strict=True))


def replay(
    messages: pd.DataFrame,
    orderbook: npt.NDArray[np.int32],
    levels: int,
    *,
    gaps: npt.NDArray[np.bool_] | None = None,
) -> ReplayReport:
    """Replay messages as `replay_tape` does, against the best `levels` of the book after each.

    Parameters
    ----------
    messages : table as `schema.MESSAGES`, one session
    orderbook : int32 array of shape (n_rows, 4 * at least `levels`)
        LOBSTER's columns, ticks and lots.
    gaps : bool array of shape (n_rows,), optional
        Rows before which a message is missing.

    Raises
    ------
    SchemaError
        If the table departs from the schema.
    ReplayError
        If shapes do not belong together, or too many orders rest at once.
    """
    if orderbook.ndim != 2 or orderbook.shape[1] < 4 * levels or levels < 1:
        raise ReplayError(
            f"expected an order book with {levels} levels, 4 columns each, "
            f"received shape {orderbook.shape}"
        )
    return replay_tape(_tape_of(messages), orderbook[:, : 4 * levels], gaps=gaps)


def replay_tape(
    tape: Tape,
    book: npt.NDArray[np.int32] | None = None,
    *,
    gaps: npt.NDArray[np.bool_] | None = None,
    is_complete: bool = False,
) -> ReplayReport:
    """Rebuild the book from messages and compare it with the recorded one row by row.

    Parameters
    ----------
    tape : Tape
        The messages.
    book : int32 array of shape (n_rows, 4 * levels), optional
        The book after each, in LOBSTER's columns, ticks and lots; the
        quotes of the tape by default.
    gaps : bool array of shape (n_rows,), optional
        Rows before which a message is missing.
    is_complete : bool
        Whether the messages are all there ever were, from an empty book on:
        then nothing is out of view, and every difference is a mismatch.

    Raises
    ------
    ReplayError
        If the shapes do not belong together.
    """
    if book is None:
        book = np.stack([tape.best_ask, tape.ask_qty, tape.best_bid, tape.bid_qty], axis=1)
    if book.ndim != 2 or len(book) != len(tape) or book.shape[1] % 4 or book.shape[1] == 0:
        raise ReplayError(
            f"expected a book of shape ({len(tape)}, 4 * levels), received {book.shape}"
        )
    gaps = np.zeros(len(tape), dtype=np.bool_) if gaps is None else gaps
    if gaps.shape != (len(tape),):
        raise ReplayError(f"expected gaps of shape ({len(tape)},), received {gaps.shape}")
    book = np.ascontiguousarray(book, dtype=np.int32)
    return _replay(tape, book, book.shape[1] // 4, gaps, is_complete)


def rebuild(messages: pd.DataFrame, *, levels: int = 1) -> ReplayReport:
    """The book that messages make by themselves, where there is no recorded one.

    Orders that were there before the first message are unknown until they
    end: messages about them count as "order out of view" and change nothing.
    Where the book would cross, the newest message is right: an add clears the
    older orders that it would trade with, an execution those with a better
    price (n_cleared). Early quotes therefore lack what rested before.

    Parameters
    ----------
    messages : table as `schema.MESSAGES`
    levels : int
        Prices a side in `book`.

    Raises
    ------
    SchemaError
        If the table departs from the schema.
    """
    tape = _tape_of(messages)
    gaps = np.zeros(len(tape), dtype=np.bool_)
    return _replay(tape, np.zeros((0, 4 * levels), dtype=np.int32), levels, gaps, False)


def _tape_of(messages: pd.DataFrame) -> Tape:
    """A table of messages as a tape whose quotes are still unknown."""
    frame = validate(messages, MESSAGES)
    none = np.zeros(len(frame), dtype=np.int32)
    return Tape(
        ts=frame["ts"].to_numpy(),
        kind=frame["type"].to_numpy(),
        order_id=frame["order_id"].to_numpy(),
        size=frame["size"].to_numpy(),
        price=frame["price"].to_numpy(),
        direction=frame["direction"].to_numpy(),
        best_bid=none,
        bid_qty=none,
        best_ask=none,
        ask_qty=none,
    )


def to_messages(tape: Tape, *, symbol: str, source: str, session: str) -> pd.DataFrame:
    """A tape's events as a table of `schema.MESSAGES`."""
    frame = pd.DataFrame(
        {
            "symbol": symbol,
            "source": source,
            "session": session,
            "ts": tape.ts,
            "type": tape.kind,
            "order_id": tape.order_id,
            "size": tape.size,
            "price": tape.price,
            "direction": tape.direction,
        }
    )
    return validate(frame.astype({c.name: c.dtype for c in MESSAGES.columns}), MESSAGES)


def _replay(
    tape: Tape,
    book: npt.NDArray[np.int32],
    levels: int,
    gaps: npt.NDArray[np.bool_],
    is_complete: bool,
) -> ReplayReport:
    n = len(tape)
    ids, known = pd.factorize(tape.order_id)
    columns = (tape.ts, tape.kind, ids, tape.size, tape.price, tape.direction)
    messages = np.stack(columns, axis=1, dtype=np.int64)
    resting = np.cumsum((tape.kind == ADD).astype(np.int64) - (tape.kind == DELETE))
    capacity = 1 << int(resting.max(initial=0) + SPARE).bit_length()
    while True:
        capacity = min(capacity, LARGEST)
        desk = _open_desk(len(known), n, capacity, is_complete)
        rows = Rows(
            book=np.empty((n, 4 * levels), dtype=np.int32),
            outcome=np.empty(n, dtype=np.int8),
            verdict=np.empty(n, dtype=np.int8),
            first_op=np.empty(n + 1, dtype=np.int64),
            reach=np.tile(np.array([ANY_BID, ANY_ASK], dtype=np.int32), (n, 1)),
            received=np.zeros(4 * levels, dtype=np.int32),
            depth=np.zeros((4, levels), dtype=np.int32),
        )
        done = 0
        while True:
            done = replay_rows(desk, messages, book, gaps, is_complete, rows, done)
            if done == n:
                break
            desk = desk._replace(ops=np.resize(desk.ops, (2 * len(desk.ops), N_FIELDS)))
        n_refused = int(desk.state[N_REFUSED])
        if n_refused == 0 or desk.notes[PEAK] < capacity or capacity == LARGEST:
            break
        capacity *= 2
    notes = desk.notes.tolist()
    row, mismatch = notes[FIRST_MISMATCH], None
    if row >= 0:
        verdict, ts = VERDICTS[rows.verdict[row]], int(tape.ts[row])
        expected, received = tuple(book[row].tolist()), tuple(rows.received.tolist())
        mismatch = Mismatch(row, ts, verdict, expected, received)
    quotes = ("best_ask", "ask_qty", "best_bid", "bid_qty")
    return ReplayReport(
        tape=replace(tape, **dict(zip(quotes, rows.book[:, :4].T.copy(), strict=True))),
        book=rows.book,
        outcome=rows.outcome,
        verdict=rows.verdict,
        first_mismatch=mismatch,
        n_out_of_turn=notes[N_OUT_OF_TURN],
        n_cleared=notes[N_CLEARED],
        n_refused=n_refused,
        history=History(
            ts=np.maximum.accumulate(tape.ts),
            first_op=rows.first_op,
            ops=desk.ops[: notes[N_OPS]].copy(),
            reach=rows.reach,
            n_orders=notes[N_ORDERS],
            peak=notes[PEAK],
        ),
    )


def _open_desk(n_ids: int, n_rows: int, capacity: int, is_complete: bool) -> Desk:
    """A desk that knows nothing; it has all in view if the messages are complete, else nothing."""
    notes = np.zeros(N_NOTES, dtype=np.int64)
    notes[FIRST_MISMATCH] = -1
    notes[WORST_BID], notes[WORST_ASK] = (ANY_BID, ANY_ASK) if is_complete else (ANY_ASK, ANY_BID)
    return Desk(
        state=open_books(1, WINDOW, capacity)[0],
        handles=np.zeros(n_ids, dtype=np.int32),
        ops=np.empty((2 * n_rows + 2 * capacity, N_FIELDS), dtype=np.int32),
        notes=notes,
    )
