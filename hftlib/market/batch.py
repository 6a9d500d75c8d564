"""Thousands of books in lock-step ("jaxlob"): one engine, many markets at once.

Each step applies the callers' messages to every book and then runs its
background flow. Books never meet: each has its own stream of random numbers,
so its course depends on the seed and its number only, not on the other books,
the batch's size or the number of threads.

Source of the idea: Frey et al. (2023), JAX-LOB; Mohl et al. (2025),
JaxMARL-HFT, arXiv 2511.02136.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from hftlib.compute import compile_kernel
from hftlib.market.book import ACK_FIELDS, FILL_FIELDS, MESSAGE_FIELDS, BookError, open_books
from hftlib.market.draws import open_streams
from hftlib.market.flow import N_PARENTS, N_SCALES, FlowParams, check_flow
from hftlib.market.fundamental import JumpParams
from hftlib.market.ladder import CAPACITY, N_REFUSED, TRADED, read_depth, wide
from hftlib.market.lane import (
    LAST_ID,
    MEAN,
    N_CLOCK,
    N_COUNTERS,
    N_STEPS,
    SECONDS,
    Lane,
    Session,
    advance,
    open_lane,
)
from hftlib.market.matching import (
    A_FILLED,
    A_HANDLE,
    A_RESTING,
    A_STATUS,
    M_KIND,
    M_TAG,
    POSITION,
)
from hftlib.market.record import (
    N_COLUMNS,
    ROWS_OF_A_STEP,
    check_plan,
    check_room,
    send,
    tape_of,
    write_snapshot,
)
from hftlib.market.tape import Recording

BOOKS_A_THREAD = 16  # fewer are not worth a thread
OBSERVED_LEVELS = 3
OBSERVATION_SIZE = 4 + 4 * OBSERVED_LEVELS


@compile_kernel
def lane_of(lanes: Lane, b: int) -> Lane:
    """Views of one book."""
    return Lane(
        lanes.state[b],
        lanes.accounts[b],
        lanes.stream[b],
        lanes.excitation[b],
        lanes.clock[b],
        lanes.parents[b],
        lanes.resting[b],
        lanes.n_resting[b],
        lanes.counters[b],
        lanes.message[b],
    )


@compile_kernel
def _run(
    lanes: Lane,
    p: FlowParams,
    value: JumpParams,
    session: Session,
    messages: npt.NDArray[np.int32],
    acks: npt.NDArray[np.int32],
    n_steps: int,
    done: npt.NDArray[np.int64],
    fills: npt.NDArray[np.int32],
    rows: npt.NDArray[np.int64],
    n_rows: npt.NDArray[np.int64],
    snapshots: npt.NDArray[np.int64],
    n_snapshots: npt.NDArray[np.int64],
    every: int,
) -> None:
    """Advance each book from step `done` to `n_steps`, or until its `rows` are nearly full."""
    for b in range(len(lanes.state)):
        lane = lane_of(lanes, b)
        mine, n = rows[b], wide(0)
        now = session.open_ns + round(lane.clock[SECONDS] * 1e9)
        for k in range(messages.shape[1]):
            m = messages[b, k]
            if m[M_KIND] == 0:
                continue
            lane.counters[LAST_ID] += 1
            m[M_TAG] = lane.counters[LAST_ID]
            n, answer = send(lane.state, lane.accounts, fills, m, now, mine, n)
            acks[b, k, A_STATUS], acks[b, k, A_HANDLE] = answer[1], answer[2]
            acks[b, k, A_FILLED], acks[b, k, A_RESTING] = answer[3], answer[4]
        full = len(mine) - ROWS_OF_A_STEP - lane.state[CAPACITY]
        while done[b] < n_steps and (len(mine) == 0 or n < full):
            n = advance(lane, p, value, session, fills, mine, n)
            done[b] += 1
            if every > 0 and lane.counters[N_STEPS] % every == 0:
                now = session.open_ns + round(lane.clock[SECONDS] * 1e9)
                n_snapshots[b] = write_snapshot(lane.state, now, snapshots[b], n_snapshots[b])
        n_rows[b] = n


@compile_kernel
def _open(
    lanes: Lane,
    p: FlowParams,
    value: JumpParams,
    fills: npt.NDArray[np.int32],
    rows: npt.NDArray[np.int64],
) -> None:
    for b in range(len(lanes.state)):
        open_lane(lane_of(lanes, b), p, value, fills, rows)


@compile_kernel
def _observe(
    lanes: Lane, owner: int, observation: npt.NDArray[np.float32], depth: npt.NDArray[np.int32]
) -> None:
    prices, lots = depth[0], depth[1]
    for b in range(len(lanes.state)):
        row = observation[b]
        read_depth(lanes.state[b], 1, prices[0], lots[0])
        read_depth(lanes.state[b], -1, prices[1], lots[1])
        mid = (prices[0, 0] + prices[1, 0]) / 2.0
        two_sided = prices[0, 0] > 0 and prices[1, 0] > 0
        total = lots[0, 0] + lots[1, 0]
        row[0] = prices[1, 0] - prices[0, 0] if two_sided else 0.0
        row[1] = (lots[0, 0] - lots[1, 0]) / total if total > 0 else 0.0
        row[2] = mid - lanes.clock[b, MEAN] if two_sided else 0.0
        row[3] = lanes.accounts[b, owner, POSITION]
        for side in range(2):
            for k in range(OBSERVED_LEVELS):
                there = two_sided and lots[side, k] > 0
                row[4 + 4 * k + 2 * side] = abs(prices[side, k] - mid) if there else 0.0
                row[5 + 4 * k + 2 * side] = lots[side, k]


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
        if first_book < 0 or warm_up_s < 0:
            raise BookError(
                f"first_book {first_book} and warm_up_s {warm_up_s} must not be negative"
            )
        self.flow, self.value = check_flow(flow), JumpParams._make(map(float, value))
        self.session = Session(step_ms / 1000.0, float(session_s), open_ns)
        self.lanes = Lane(
            state=open_books(n_books, window, capacity),
            accounts=np.zeros((n_books, n_owners, 4), dtype=np.int64),
            stream=open_streams(seed, first_book + np.arange(n_books)),
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
        self._no_messages = np.empty((n_books, 0, len(MESSAGE_FIELDS)), dtype=np.int32)
        self._no_acks = np.empty((n_books, 0, len(ACK_FIELDS)), dtype=np.int32)
        self._no_rows = np.empty((n_books, 0, N_COLUMNS), dtype=np.int64)
        self._no_snapshots = np.empty((n_books, 0, 3), dtype=np.int64)
        warm_up = round(warm_up_s / self.session.step_s)
        self.lanes.counters[:, N_STEPS] = -warm_up
        self.lanes.clock[:, SECONDS] = -warm_up * self.session.step_s
        _open(self.lanes, self.flow, self.value, self._fills[0], self._no_rows[0])
        self._advance(self._no_messages, self._no_acks, warm_up)
        self.lanes.state[:, TRADED] = 0

    @property
    def n_books(self) -> int:
        """Books of the batch."""
        return len(self.lanes.state)

    def step(self, messages: npt.NDArray[np.int32] | None = None) -> npt.NDArray[np.int32]:
        """Apply messages to every book, then run the flow for one step.

        Parameters
        ----------
        messages : int32 array of shape (n_books, n_messages, 7), optional
            Columns are `book.MESSAGE_FIELDS`; a row of kind 0 is skipped.

        Returns
        -------
        int32 array of shape (n_books, n_messages, 4)
            Columns are `book.ACK_FIELDS`. What resting orders earned later in
            the step shows in `lanes.accounts`.
        """
        messages = self._no_messages if messages is None else messages.copy()  # tags are written
        shape = messages.shape[:1], messages.shape[2:]
        expected = (self.n_books,), (len(MESSAGE_FIELDS),)
        if messages.dtype != np.int32 or shape != expected:
            raise BookError(
                f"messages: expected int32 of shape ({self.n_books}, n_messages, "
                f"{len(MESSAGE_FIELDS)}), received {messages.dtype} of shape {messages.shape}"
            )
        acks = np.zeros((*messages.shape[:2], len(ACK_FIELDS)), dtype=np.int32)
        self._advance(messages, acks, 1)
        return acks

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
        self._share(
            lambda t, part: _observe(self._lanes(part), owner, observation[part], self._depth[t])
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
            If a number is not positive, or a step too long for its events.
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
            n_rows = self._advance(
                self._no_messages, self._no_acks, n_steps, done, rows, kept, n_kept, snapshot_every
            )
            check_room(n_rows.max(), room)
            for b, n in enumerate(n_rows):
                parts[b].append(rows[b, :n].copy())
        return [
            Recording(tape_of(np.concatenate(parts[b])), kept[b, : n_kept[b]])
            for b in range(self.n_books)
        ]

    @property
    def n_lost(self) -> int:
        """Orders that found no room in a book; 0 in a sound run."""
        return int(self.lanes.state[:, N_REFUSED].sum(dtype=np.int64))

    def _advance(
        self,
        messages: npt.NDArray[np.int32],
        acks: npt.NDArray[np.int32],
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
        self._share(
            lambda t, part: _run(
                self._lanes(part),
                self.flow,
                self.value,
                self.session,
                messages[part],
                acks[part],
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

    def _share(self, task: Callable[[int, slice], None]) -> None:
        """Run `task(thread, books)` for each thread's books."""
        if self._threads is None:
            task(0, self._parts[0])
        else:
            list(self._threads.map(task, range(len(self._parts)), self._parts))
