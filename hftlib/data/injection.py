"""Own orders in a recorded day.

`HistoricalMarket` plays a `replay.History` and lets callers trade in it. Their
orders queue behind what rests at their price when they arrive, and whoever
took liquidity in history meets them where they come first:

- an execution at a worse price than theirs, or of an order that joined their
  price after them (lots ahead of them go first, by executions and cancels);
- an order of history that would have traded with them on arrival;
- a hidden execution at a worse price, or at theirs if nobody displayed is ahead.

A taker of history brings no more lots than the record shows. What it would
have taken beyond is unknown: an order at the end of a queue is not filled by
the execution that empties the queue, but by the next one at a worse price.

Without impact history stays as it was. Fills come on top: callers share the
lots of history's takers among themselves only, and take what history displays
as if it were there for them alone, again and again.

With impact there is one book. Lots of history's taker that an own order has
absorbed stay with the order that was executed in history, and if history
knows no more of that order it rests until somebody takes it. What own orders
have taken is gone: history's later messages about it do nothing or less
(n_ignored, n_trimmed), and takers who find nobody go away (lost_lots). The
others do not react: the longer the own trading, the less their behaviour
means.

A record of k levels shows no deeper, and an own order that joins a price out
of view stands behind whatever comes into view there. Auctions and halts pass
own orders by.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hftlib.data.entry import advance
from hftlib.data.replay import WINDOW, History
from hftlib.data.venue import (
    LOST_LOTS,
    MESSAGE,
    N_COUNTERS,
    N_FILLS,
    N_IGNORED,
    N_SENT,
    N_TRIMMED,
    ROW,
    Script,
    Venue,
)
from hftlib.market.book import ACK_FIELDS, FILL_FIELDS, MESSAGE_FIELDS, open_books
from hftlib.market.book import MESSAGE as MESSAGE_TYPE
from hftlib.market.flow import Quotes
from hftlib.market.ladder import CAPACITY, N_REFUSED, read_depth
from hftlib.market.matching import F_MAKER_OWNER, F_MESSAGE, M_OWNER, N_ACCOUNT

TIMED_FILL = np.dtype([("ts", np.int64), *[(name, np.int32) for name in FILL_FIELDS]])
TIMED_ACK = np.dtype(
    [("ts", np.int64), ("message", np.int32), *[(name, np.int32) for name in ACK_FIELDS]]
)
FIRST_ROOM = 256  # messages


class InjectionError(ValueError):
    """A market that cannot be opened, or a call that goes back in time."""


class Answer(NamedTuple):
    """What happened to the callers, in order of time.

    fills : array, dtype `TIMED_FILL`, as `book.FILL`
        `message` is -1 where a taker of history met an own order; the maker
        is 0 where an own order took what history displays.
    acks : array, dtype `TIMED_ACK`, as `book.ACK`
        One for each message that has reached the market.
    """

    fills: npt.NDArray[np.void]
    acks: npt.NDArray[np.void]


class HistoricalMarket:
    """A recorded day that callers trade in.

    Parameters
    ----------
    history : History
        Of `replay.replay` or `replay.rebuild`; shared, never changed.
    has_impact : bool
        Whether own trades change the book; see the module.
    entry_latency_ns : int
        Time from `send` to the market.
    n_owners : int
        Accounts; owner 0 is history and callers are 1 and up.
    capacity : int
        Own orders that can rest at once, at least.

    Attributes
    ----------
    now_ns : int
        Time up to which the day has been played, nanoseconds UTC.

    Raises
    ------
    InjectionError
        If an argument is out of its range.
    """

    def __init__(
        self,
        history: History,
        *,
        has_impact: bool,
        entry_latency_ns: int = 0,
        n_owners: int = 2,
        capacity: int = 1024,
    ) -> None:
        if len(history) == 0:
            raise InjectionError("history has no rows; replay a day with messages")
        if entry_latency_ns < 0 or n_owners < 2 or capacity < 1:
            raise InjectionError(
                f"expected entry_latency_ns {entry_latency_ns} >= 0, n_owners {n_owners} >= 2 "
                f"and capacity {capacity} >= 1"
            )
        self.history, self.has_impact = history, has_impact
        self.entry_latency_ns = entry_latency_ns
        self.now_ns = int(history.ts[0]) - 1
        own = capacity + has_impact * history.peak
        state = open_books(1, WINDOW, _power_of_two(own))[0]
        book = state if has_impact else open_books(1, WINDOW, _power_of_two(history.peak))[0]
        n_slots = int(state[CAPACITY])
        room = n_slots + int(book[CAPACITY]) + int(np.diff(history.first_op).max()) + 1
        self._venue = Venue(
            book=book,
            own=state,
            accounts=np.zeros((n_owners, N_ACCOUNT), dtype=np.int64),
            handles=np.zeros(history.n_orders, dtype=np.int32),
            left=np.zeros(history.n_orders, dtype=np.int32),
            places=np.zeros((n_slots, 2), dtype=np.int32),
            fills=np.empty((room, len(FILL_FIELDS)), dtype=np.int32),
            counters=np.zeros(N_COUNTERS, dtype=np.int64),
        )
        self._script = Script(
            ts=history.ts,
            first_op=history.first_op,
            ops=history.ops,
            reach=history.reach,
            messages=np.zeros((FIRST_ROOM, len(MESSAGE_FIELDS)), dtype=np.int32),
            arrives=np.zeros(FIRST_ROOM, dtype=np.int64),
            acks=np.zeros((FIRST_ROOM, len(ACK_FIELDS)), dtype=np.int32),
            fill_ts=np.empty(room, dtype=np.int64),
        )

    def send(self, messages: npt.NDArray[np.void]) -> range:
        """Send messages, which reach the market `entry_latency_ns` from now.

        Parameters
        ----------
        messages : array of shape (n_messages,), dtype `book.MESSAGE`
            As `book.OrderBook.process`, except that a negative handle -1 - k
            names what the message numbered k of this market was acknowledged
            with, and that owner 0, who is history, is refused.

        Returns
        -------
        range
            The numbers of these messages.

        Raises
        ------
        InjectionError
            If `messages` is not a vector of dtype `book.MESSAGE`.
        """
        if messages.dtype != MESSAGE_TYPE or messages.ndim != 1:
            raise InjectionError(
                f"expected a vector of dtype book.MESSAGE, received {messages.dtype} "
                f"of shape {messages.shape}"
            )
        first = int(self._venue.counters[N_SENT])
        end = first + len(messages)
        while end > len(self._script.arrives):
            self._script = self._script._replace(
                messages=_double(self._script.messages),
                arrives=_double(self._script.arrives),
                acks=_double(self._script.acks),
            )
        rows = self._script.messages[first:end]
        rows[:] = np.ascontiguousarray(messages).view(np.int32).reshape(rows.shape)
        rows[rows[:, M_OWNER] == 0, M_OWNER] = -1
        self._script.arrives[first:end] = self.now_ns + self.entry_latency_ns
        self._venue.counters[N_SENT] = end
        return range(first, end)

    def advance(self, until_ns: int) -> Answer:
        """Play the day up to a time, rows of that time included.

        A message that arrives at the time of a row comes after that row.

        Raises
        ------
        InjectionError
            If the time lies before `now_ns`.
        """
        if until_ns < self.now_ns:
            raise InjectionError(f"until_ns {until_ns}: the day has been played to {self.now_ns}")
        answer = self._play(until_ns, len(self.history))
        self.now_ns = until_ns
        return answer

    def step(self, n_rows: int = 1) -> Answer:
        """Play the next rows, and the messages that arrive before the last of them.

        Fewer are played at the end of the day; `now_ns` is the last row's time.

        Raises
        ------
        InjectionError
            If `n_rows` is not positive.
        """
        if n_rows < 1:
            raise InjectionError(f"n_rows {n_rows}: expected 1 or more")
        last = min(self.n_played + n_rows, len(self.history))
        until_ns = max(self.now_ns, int(self.history.ts[last - 1]))
        answer = self._play(until_ns, last)
        self.now_ns = until_ns
        return answer

    @property
    def n_played(self) -> int:
        """Rows of history that have been played."""
        return int(self._venue.counters[ROW])

    @property
    def is_over(self) -> bool:
        """Whether all rows have been played."""
        return self.n_played == len(self.history)

    @property
    def quotes(self) -> Quotes:
        """Best prices and sizes; own orders are among them with impact only."""
        return Quotes(*self.depth(1)[:, 0].tolist())

    def depth(self, levels: int) -> npt.NDArray[np.int32]:
        """Bid prices, bid lots, ask prices and ask lots, shape (4, levels); 0 where empty.

        Own orders are among them with impact only. Beyond the levels of the
        record stands what was last seen there.
        """
        depth = np.empty((4, levels), dtype=np.int32)
        for side, first in ((1, 0), (-1, 2)):
            read_depth(self._venue.book, side, depth[first], depth[first + 1])
        return depth

    @property
    def accounts(self) -> npt.NDArray[np.int64]:
        """As of `book.OrderBook`, shape (n_owners, 5); history is the other side of all trades."""
        return self._venue.accounts

    @property
    def book_state(self) -> npt.NDArray[np.int32]:
        """The book that `depth` reads, as in `market.ladder`: a view, to be read only."""
        return self._venue.book

    @property
    def own_state(self) -> npt.NDArray[np.int32]:
        """The book that callers' orders rest in, likewise; with impact it is `book_state`."""
        return self._venue.own

    @property
    def n_ignored(self) -> int:
        """Operations of history on orders that own trades had taken."""
        return int(self._venue.counters[N_IGNORED])

    @property
    def n_trimmed(self) -> int:
        """Operations of history on orders of which own trades had taken lots."""
        return int(self._venue.counters[N_TRIMMED])

    @property
    def lost_lots(self) -> int:
        """Lots of history's takers that found nobody."""
        return int(self._venue.counters[LOST_LOTS])

    @property
    def n_refused(self) -> int:
        """Orders that found no room; raise `capacity` if there are any."""
        refused = int(self._venue.own[N_REFUSED])
        return refused if self.has_impact else refused + int(self._venue.book[N_REFUSED])

    def _play(self, until_ns: int, last_row: int) -> Answer:
        counters, script = self._venue.counters, self._script
        first, parts, is_done = int(counters[MESSAGE]), [], False
        while not is_done:
            counters[N_FILLS] = 0
            is_done = advance(self._venue, script, self.has_impact, until_ns, last_row)
            fills = self._venue.fills[: counters[N_FILLS]]
            is_own = (fills[:, F_MESSAGE] >= 0) | (fills[:, F_MAKER_OWNER] > 0)
            ts = script.fill_ts[: len(fills)]
            parts.append(_with_time(ts[is_own], fills[is_own]))
        arrived = slice(first, int(counters[MESSAGE]))
        numbers = np.arange(first, arrived.stop, dtype=np.int32)[:, None]
        acks = _with_time(script.arrives[arrived], np.hstack([numbers, script.acks[arrived]]))
        fills = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return Answer(fills.view(TIMED_FILL).reshape(-1), acks.view(TIMED_ACK).reshape(-1))


def _with_time(ts: npt.NDArray[np.int64], rows: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Rows with a time before them, which fills two columns."""
    return np.hstack([ts.view(np.int32).reshape(-1, 2), rows])


def _power_of_two(n: int) -> int:
    """The least power of two that is at least `n` and 2."""
    return 1 << max(1, (n - 1).bit_length())


def _double(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array with as much room again behind it."""
    return np.concatenate([array, np.zeros_like(array)])
