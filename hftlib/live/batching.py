"""Requests that arrive together pass through the model together.

One worker thread owns the model. While it works, requests gather; when it is
free it takes all of them, up to a limit: at low load a request waits for nobody,
at high load the batch grows by itself. The event loop stays free to answer
`/health` and to refuse what is too much.

A window takes far longer than the newest bars of a stream: everything is computed from a whole
history. So windows are looked at a few at a time, between batches, and a request joins a batch
when all of its own were: what needs no window waits for about `LOOK_S` and one window at most.

A request whose time is over, or whose client left, is dropped before it is worked on. One that was
being worked on goes on its stream all the same, which is why a client may send
the last bar again.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from hftlib.live.faults import ServiceFault

LOOK_S = 0.03  # after which no further window is begun before the next batch
Items = Any  # of a request: whatever has a length
Work = Callable[[Sequence[Items]], Sequence[Any]]
Look = Callable[[Items], object]


@dataclass
class _Request:
    items: Items
    future: asyncio.Future[Any]
    n_left: int  # windows
    fault: Exception | None = None  # of one of them


class Batcher:
    """A queue in front of one worker thread.

    Parameters
    ----------
    work : callable
        Takes the items of several requests, gives an answer or an exception for each.
    look : callable
        Takes the items of one request and looks at the next of its windows.
    max_waiting : int
        Items in the queue; what would exceed it is refused at once.
    max_windows : int
        Windows that wait or are worked on, of all requests; as `max_waiting`.
    max_batch : int
        Items worked on in one call; a larger request goes alone.
    limit_s : float
        Longest time from arrival to answer.
    on_batch : callable, optional
        Called with the number of items of every batch.
    """

    def __init__(
        self,
        work: Work,
        look: Look,
        *,
        max_waiting: int,
        max_windows: int,
        max_batch: int,
        limit_s: float,
        on_batch: Callable[[int], object] | None = None,
    ) -> None:
        self.n_waiting = 0
        self.n_windows = 0
        self._work = work
        self._look = look
        self._max_waiting = max_waiting
        self._max_windows = max_windows
        self._max_batch = max_batch
        self._limit_s = limit_s
        self._on_batch = on_batch
        self._queue: deque[_Request] = deque()
        self._windows: deque[_Request] = deque()
        self._arrived = asyncio.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to work; from inside the event loop."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Let the batch at hand end, refuse what waits."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for queue in (self._queue, self._windows):
            while queue:
                _settle(queue.popleft().future, _unavailable("the service stops"))
        await asyncio.to_thread(self._pool.shutdown)

    def admit(self, n_windows: int) -> None:
        """Refuse with 503 a request with more windows than there is room for now."""
        if n_windows and self.n_windows + n_windows > self._max_windows:
            raise ServiceFault(
                503,
                "busy",
                f"{self.n_windows} windows wait for the model or are worked on, and {n_windows} "
                f"more would be above {self._max_windows}",
                "try again after a second; streams are answered all the while",
                retry_after_s=1,
            )

    async def submit(self, items: Items, n_windows: int = 0) -> Any:
        """The answer to one request, `n_windows` of whose items are windows.

        Raises
        ------
        ServiceFault
            503 if too many items or windows wait, 504 if the answer takes too long, or what the
            work says of the request.
        """
        if self.n_waiting and self.n_waiting + len(items) > self._max_waiting:
            raise _unavailable(f"{self.n_waiting} items wait for the model")
        self.admit(n_windows)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        queue = self._windows if n_windows else self._queue
        queue.append(_Request(items, future, n_windows))
        self.n_waiting += len(items)
        self.n_windows += n_windows
        self._arrived.set()
        try:
            async with asyncio.timeout(self._limit_s):
                return await future
        except TimeoutError:
            raise ServiceFault(
                504,
                "too_slow",
                f"no answer within {self._limit_s:g} s",
                "send fewer rows, or again later; the last bar may be sent again",
                retry_after_s=1,
            ) from None
        finally:
            self.n_windows -= n_windows

    async def call(self, function: Callable[[], Any]) -> Any:
        """Run something else on the worker thread, between two batches."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function)

    async def _run(self) -> None:
        while True:
            if not self._queue and not self._windows:
                self._arrived.clear()
            await self._arrived.wait()
            batch = self._take()
            if batch:
                await self._answer(batch)
            await self._look_on()

    async def _answer(self, batch: list[_Request]) -> None:
        if self._on_batch is not None:
            self._on_batch(sum(len(request.items) for request in batch))
        work = [request.items for request in batch]
        outcomes: Sequence[Any]
        try:
            outcomes = await self.call(lambda: self._work(work))
        except Exception as error:  # of the work as a whole; every request hears of it
            outcomes = [error] * len(batch)
        for request, outcome in zip(batch, outcomes, strict=True):
            _settle(request.future, outcome)

    async def _look_on(self) -> None:
        """Look at some windows, of what came first; requests without any left may join a batch."""
        if not self._windows:
            return
        requests = tuple(self._windows)
        await self.call(lambda: self._look_at(requests))
        while self._windows:
            request = self._windows[0]
            if request.fault is not None:
                _settle(request.future, request.fault)
            if request.n_left and not request.future.done():
                return
            self._queue.append(self._windows.popleft())

    def _look_at(self, requests: Sequence[_Request]) -> None:
        """On the worker thread."""
        start = time.monotonic()
        for request in requests:
            while request.n_left and not request.future.done() and request.fault is None:
                if time.monotonic() - start > LOOK_S:
                    return
                try:
                    self._look(request.items)
                    request.n_left -= 1
                except Exception as error:  # of this request alone
                    request.fault = error

    def _take(self) -> list[_Request]:
        batch: list[_Request] = []
        size = 0
        while self._queue and (not batch or size + len(self._queue[0].items) <= self._max_batch):
            request = self._queue.popleft()
            self.n_waiting -= len(request.items)
            if not request.future.done():
                batch.append(request)
                size += len(request.items)
        return batch


def _settle(future: asyncio.Future[Any], outcome: Any) -> None:
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def _unavailable(why: str) -> ServiceFault:
    return ServiceFault(503, "overloaded", why, "try again after a second", retry_after_s=1)
