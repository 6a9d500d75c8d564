"""Thousands of books in lock-step ("jaxlob"): one engine, many markets at once.

A step runs each book's background flow with the callers' messages in it. Books
never meet: each has its own streams of random numbers, so what happens in it
depends on the seed, its number and its callers only, not on the other books,
the batch's size or the number of threads.

Nor do callers change a book's value, its news, its pace and the times at which
the background acts: two strategies that are run on the same seed and book meet
the same day, and comparing them book by book (common random numbers) needs
fewer books. What participants do at those times depends on the book they see.

Source of the idea: Frey et al. (2023), JAX-LOB; Mohl et al. (2025),
JaxMARL-HFT, arXiv 2511.02136.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from hftlib.market.book import ACK_FIELDS, FILL_FIELDS, MESSAGE_FIELDS, BookError, open_books
from hftlib.market.draws import open_streams
from hftlib.market.flow import N_PARENTS, N_SCALES, FlowParams, check_flow
from hftlib.market.fundamental import JumpParams
from hftlib.market.ladder import CAPACITY, N_REFUSED, TRADED
from hftlib.market.lane import N_CLOCK, N_COUNTERS, N_STEPS, SECONDS, Lane, Mail, Session
from hftlib.market.lockstep import (
    OBSERVATION_SIZE,
    OBSERVED_LEVELS,
    check_delays,
    mail_of,
    observe_lanes,
    open_lanes,
    run_lanes,
    sort_mail,
)
from hftlib.market.matching import N_ACCOUNT
from hftlib.market.record import N_COLUMNS, ROWS_OF_A_STEP, check_plan, check_room, tape_of
from hftlib.market.tape import Recording

COURSES = np.uint64(2**63)  # names of streams: a book's number, and this added for its course
BOOKS_A_THREAD = 16  # fewer are not worth a thread


class BatchMarket:
    """Many order books with background flow, stepped together.

    Parameters
    ----------
    n_books : int
    flow, value : FlowParams, JumpParams
        Background participants, and the value they trade on.
    seed : int
        With a book's number, all there is of chance.
    first_book : int
        Number of the first book: books 5 to 9 are those of a batch of ten.
    step_ms : float
        Interval between two decisions of the callers.
    session_s : float
        Length of the trading day, for its U-shape.
    open_ns : int
        Time of the open, nanoseconds UTC.
    warm_up_s : float
        Flow before the open, which no one sees.
    n_owners : int
        Accounts a book; owner 0 is the background.
    window, capacity : int
        See `market.book`.
    n_threads : int
        Threads that share the books; changes no result.

    Raises
    ------
    BookError
        If a number is out of its range.
    """

    def __init__(
        self,
        n_books: int,
        *,
        flow: FlowParams,
        value: JumpParams,
        seed: int,
        first_book: int = 0,
        step_ms: float = 100.0,
        session_s: float = 23_400.0,
        open_ns: int = 0,
        warm_up_s: float = 60.0,
        n_owners: int = 2,
        window: int = 256,
        capacity: int = 1024,
        n_threads: int = 1,
    ) -> None:
        if n_books < 1 or n_owners < 1 or step_ms <= 0 or session_s <= 0:
            raise BookError(
                f"n_books {n_books}, n_owners {n_owners}, step_ms {step_ms} and session_s "
                f"{session_s} must be positive"
            )
        if warm_up_s < 0 or value.reversion_hz < 0:
            raise BookError(
                f"warm_up_s {warm_up_s} and value.reversion_hz {value.reversion_hz} must not be "
                "negative"
            )
        self.flow, self.value = check_flow(flow), JumpParams._make(map(float, value))
        self.session = Session(step_ms / 1000.0, float(session_s), open_ns)
        self.lanes = Lane(
            state=open_books(n_books, window, capacity),
            accounts=np.zeros((n_books, n_owners, N_ACCOUNT), dtype=np.int64),
            stream=np.zeros((n_books, 2), dtype=np.uint64),
            course=np.zeros((n_books, 2), dtype=np.uint64),
            excitation=np.zeros((n_books, N_SCALES)),
            clock=np.zeros((n_books, N_CLOCK)),
            parents=np.zeros((n_books, N_PARENTS, 2), dtype=np.int64),
            resting=np.zeros((n_books, 3, capacity), dtype=np.int32),
            n_resting=np.zeros((n_books, 3), dtype=np.int32),
            counters=np.zeros((n_books, N_COUNTERS), dtype=np.int64),
            message=np.zeros((n_books, len(MESSAGE_FIELDS)), dtype=np.int32),
        )
        n_threads = max(1, min(n_threads, n_books // BOOKS_A_THREAD))
        edges = np.linspace(0, n_books, n_threads + 1).astype(int)
        self._parts = [slice(*pair) for pair in pairwise(edges)]
        self._threads = ThreadPoolExecutor(n_threads) if n_threads > 1 else None
        self._fills = np.empty((n_threads, capacity + 1, len(FILL_FIELDS)), dtype=np.int32)
        self._depth = np.empty((n_threads, 2, 2, OBSERVED_LEVELS), dtype=np.int32)
        self._no_mail = mail_of(np.empty((n_books, 0, len(MESSAGE_FIELDS)), dtype=np.int32))
        self._no_rows = np.empty((n_books, 0, N_COLUMNS), dtype=np.int64)
        self._no_snapshots = np.empty((n_books, 0, 3), dtype=np.int64)
        self._warm_up = round(warm_up_s / self.session.step_s)
        self.reopen(seed, first_book)

    @property
    def n_books(self) -> int:
        """Books of the batch."""
        return len(self.lanes.state)

    def reopen(self, seed: int, first_book: int = 0) -> None:
        """Open all books anew, in place: what a new batch of this seed and first book is.

        Raises
        ------
        BookError
            If `first_book` is negative, or beyond 2**62.
        ValueError
            If the seed is no whole number of 64 bits.
        """
        if not 0 <= first_book <= 2**62:
            raise BookError(f"first_book {first_book}: expected a number in [0, 2**62]")
        names = np.uint64(first_book) + np.arange(self.n_books, dtype=np.uint64)
        streams = open_streams(seed, names), open_streams(seed, COURSES + names)
        for name, array in self.lanes._asdict().items():
            if name != "state":
                array[...] = 0
        self.lanes.stream[:], self.lanes.course[:] = streams
        self.lanes.counters[:, N_STEPS] = -self._warm_up
        self.lanes.clock[:, SECONDS] = -self._warm_up * self.session.step_s
        self.share(
            lambda t, part: open_lanes(
                self._lanes(part), self.flow, self.value, self._fills[t], self._no_rows[0]
            )
        )
        self._advance(self._no_mail, self._warm_up)
        self.lanes.state[:, TRADED] = 0

    def step(
        self,
        messages: npt.NDArray[np.int32] | None = None,
        delays_s: npt.NDArray[np.float64] | None = None,
    ) -> npt.NDArray[np.int32]:
        """Run one step of the flow with callers' messages in it.

        Parameters
        ----------
        messages : int32 array of shape (n_books, n_messages, 7), optional
            Columns are `book.MESSAGE_FIELDS`; a row of kind 0 is skipped.
        delays_s : float64 array of shape (n_books, n_messages), optional
            Seconds from the start of the step to a message's arrival, from 0
            to below `step_ms`; without it all arrive at the start. They are
            applied as they arrive, ties as they stand, and the background goes
            on in between.

        Returns
        -------
        int32 array of shape (n_books, n_messages, 4)
            Columns are `book.ACK_FIELDS`. What resting orders earned later in
            the step shows in `lanes.accounts`.

        Raises
        ------
        BookError
            If an array has another shape or type, or a delay is out of range.
        """
        if messages is None:
            messages = self._no_mail.messages
        shape = messages.shape[:1], messages.shape[2:]
        expected = (self.n_books,), (len(MESSAGE_FIELDS),)
        if messages.dtype != np.int32 or shape != expected:
            raise BookError(
                f"messages: expected int32 of shape ({self.n_books}, n_messages, "
                f"{len(MESSAGE_FIELDS)}), received {messages.dtype} of shape {messages.shape}"
            )
        if delays_s is None:
            mail = mail_of(messages)
            self._advance(mail, 1)
            return mail.acks
        check_delays(delays_s, messages.shape[:2], self.session.step_s)
        mail, places = sort_mail(messages, delays_s)
        self._advance(mail, 1)
        acks = mail.acks.reshape(-1, len(ACK_FIELDS)).take(places, axis=0)
        return acks.reshape(mail.acks.shape)

    def observe(self, owner: int = 1) -> npt.NDArray[np.float32]:
        """What an owner sees now, float32 of shape (n_books, 16).

        0 spread, ticks · 1 imbalance at the best · 2 mid less its running
        mean, ticks · 3 lots held · then for each of three levels the bid's
        distance from the mid in ticks and lots, and the ask's; 0 where empty.
        Prices are 0 where one side of the book is.

        Raises
        ------
        BookError
            If the owner has no account.
        """
        n_owners = self.lanes.accounts.shape[1]
        if not 0 <= owner < n_owners:
            raise BookError(f"owner {owner}: expected one of the {n_owners} accounts, from 0")
        observation = np.empty((self.n_books, OBSERVATION_SIZE), dtype=np.float32)
        self.share(
            lambda t, part: observe_lanes(
                self._lanes(part), owner, observation[part], self._depth[t]
            )
        )
        return observation

    def record(self, n_steps: int, *, snapshot_every: int, levels: int = 10) -> list[Recording]:
        """Run `n_steps` without callers and write down every event.

        Parameters
        ----------
        snapshot_every : int
            Steps between two book snapshots.
        levels : int
            Prices a side in a snapshot.

        Raises
        ------
        BookError
            If a number is not positive, a step too long for its events, or a book
            too small: no order is lost in silence.
        """
        check_plan(n_steps, snapshot_every, levels)
        columns = 3 + 4 * levels
        kept = np.zeros((self.n_books, n_steps // snapshot_every + 1, columns), dtype=np.int64)
        n_kept = np.zeros(self.n_books, dtype=np.int64)
        done = np.zeros(self.n_books, dtype=np.int64)
        room = 4 * ROWS_OF_A_STEP + self.lanes.resting.shape[2]
        rows = np.zeros((self.n_books, room, N_COLUMNS), dtype=np.int64)
        parts: list[list[npt.NDArray[np.int64]]] = [[] for _ in range(self.n_books)]
        while (done < n_steps).any():
            n_rows = self._advance(self._no_mail, n_steps, done, rows, kept, n_kept, snapshot_every)
            check_room(n_rows.max(), room)
            for b, n in enumerate(n_rows):
                parts[b].append(rows[b, :n].copy())
        if self.n_lost > 0:
            raise BookError(
                f"{self.n_lost} orders found no room; raise the capacity, which is "
                f"{self.lanes.state[0, CAPACITY]}"
            )
        return [
            Recording(tape_of(np.concatenate(parts[b])), kept[b, : n_kept[b]])
            for b in range(self.n_books)
        ]

    @property
    def n_lost(self) -> int:
        """Orders that found no room in a book; 0 in a sound run."""
        return int(self.lanes.state[:, N_REFUSED].sum(dtype=np.int64))

    def save_state(self) -> dict[str, npt.NDArray[Any]]:
        """Copies of all that `load_state` needs to go on bit for bit."""
        return {name: array.copy() for name, array in self.lanes._asdict().items()}

    def load_state(self, saved: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go back to a state of this batch, or of another with the same arguments.

        Raises
        ------
        BookError
            If an array is missing, or has another shape or type.
        """
        lanes = self.lanes._asdict()
        for name, array in lanes.items():
            received = saved.get(name)
            same = received is not None and received.shape == array.shape
            if received is None or not same or received.dtype != array.dtype:
                found = "none" if received is None else f"{received.dtype} of {received.shape}"
                raise BookError(
                    f"{name}: expected {array.dtype} of {array.shape}, received {found}; load "
                    "the state of a batch with the same arguments"
                )
        for name, array in lanes.items():
            array[...] = saved[name]

    def share(self, task: Callable[[int, slice], None]) -> None:
        """Run `task(thread, books)` over all books, on each thread for its part of them."""
        if self._threads is None:
            task(0, self._parts[0])
        else:
            list(self._threads.map(task, range(len(self._parts)), self._parts))

    def _advance(
        self,
        mail: Mail,
        n_steps: int,
        done: npt.NDArray[np.int64] | None = None,
        rows: npt.NDArray[np.int64] | None = None,
        snapshots: npt.NDArray[np.int64] | None = None,
        n_snapshots: npt.NDArray[np.int64] | None = None,
        every: int = 0,
    ) -> npt.NDArray[np.int64]:
        counts = np.zeros((3, self.n_books), dtype=np.int64)
        done = counts[0] if done is None else done
        rows = self._no_rows if rows is None else rows
        snapshots = self._no_snapshots if snapshots is None else snapshots
        n_snapshots = counts[2] if n_snapshots is None else n_snapshots
        self.share(
            lambda t, part: run_lanes(
                self._lanes(part),
                self.flow,
                self.value,
                self.session,
                Mail._make(array[part] for array in mail),
                n_steps,
                done[part],
                self._fills[t],
                rows[part],
                counts[1, part],
                snapshots[part],
                n_snapshots[part],
                every,
            )
        )
        return counts[1]

    def _lanes(self, part: slice) -> Lane:
        return Lane._make(array[part] for array in self.lanes)
