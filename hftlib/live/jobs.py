"""Backtests as jobs: one runs, a few wait, each in a process of its own.

A process can be stopped at any moment, so that a time limit and a cancellation
mean what they say, and a backtest cannot slow the model's thread down. The
request goes in as JSON on its standard input, the result comes out as JSON.
"""

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from hftlib.live.faults import ServiceFault, printable
from hftlib.live.logs import log_event
from hftlib.live.settings import ServiceSettings

MAX_RESULT_BYTES = 2**20
MAX_ERROR = 500  # characters of what a failed process said last
ENDED = ("done", "failed", "cancelled", "timed_out")


@dataclass
class Job:
    """One backtest; `status` is queued, running, or one of `ENDED`."""

    id: str
    request: Mapping[str, Any]
    submitted_ns: int
    status: str = "queued"
    result: Mapping[str, Any] | None = None
    error: str | None = None
    started_s: float | None = None
    ended_s: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As `answers.JobAnswer`."""
        end = time.monotonic() if self.ended_s is None else self.ended_s
        return {
            "id": self.id,
            "status": self.status,
            "request": dict(self.request),
            "result": self.result,
            "error": self.error,
            "submitted_ns": self.submitted_ns,
            "seconds": None if self.started_s is None else round(end - self.started_s, 3),
        }


class JobQueue:
    """The jobs of one service; they are forgotten when it stops.

    Parameters
    ----------
    on_end : callable
        Called with every job that ended.
    """

    def __init__(self, settings: ServiceSettings, on_end: Callable[[Job], object]) -> None:
        self._settings = settings
        self._on_end = on_end
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._waiting: asyncio.Queue[Job] = asyncio.Queue()
        self._process: asyncio.subprocess.Process | None = None
        self._running: Job | None = None
        self._task: asyncio.Task[None] | None = None
        self._n_jobs = 0

    def start(self) -> None:
        """Begin to work; from inside the event loop."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop the job at hand."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def submit(self, request: Mapping[str, Any]) -> Job:
        """Queue a job.

        Raises
        ------
        ServiceFault
            429 if too many wait.
        """
        n_waiting = sum(job.status == "queued" for job in self._jobs.values())
        if n_waiting >= self._settings.max_jobs:
            said = f"{n_waiting} backtests wait already"
            raise ServiceFault(429, "jobs_full", said, "wait for one to end", retry_after_s=10)
        self._n_jobs += 1
        job = Job(f"job-{self._n_jobs}", request, time.time_ns())
        self._jobs[job.id] = job
        self._waiting.put_nowait(job)
        ended = [name for name, old in self._jobs.items() if old.status in ENDED]
        for name in ended[: max(0, len(ended) - self._settings.max_results)]:
            del self._jobs[name]
        return job

    def find(self, name: str) -> Job:
        """A job by its id.

        Raises
        ------
        ServiceFault
            404 if there is none, or no more.
        """
        if name not in self._jobs:
            said = "there is no backtest of this id"
            remedy = f"the last {self._settings.max_results} are remembered until the service stops"
            raise ServiceFault(404, "unknown_job", said, remedy)
        return self._jobs[name]

    def cancel(self, name: str) -> Job:
        """Stop a job; one that ended stays as it is."""
        job = self.find(name)
        if job.status not in ENDED:
            self._end(job, "cancelled")
            if job is self._running:
                self._kill()
        return job

    async def _run(self) -> None:
        while True:
            job = await self._waiting.get()
            if job.status != "queued":
                continue
            job.status, job.started_s, self._running = "running", time.monotonic(), job
            try:
                async with asyncio.timeout(self._settings.backtest_limit_s):
                    await self._work(job)
            except TimeoutError:
                limit = f"not done after {self._settings.backtest_limit_s:g} s"
                self._end(job, "timed_out", error=limit)
            except (OSError, ValueError) as error:
                self._end(job, "failed", error=str(error)[-MAX_ERROR:])
            finally:
                self._kill()
                self._running = None

    async def _work(self, job: Job) -> None:
        pipe = asyncio.subprocess.PIPE
        self._process = process = await asyncio.create_subprocess_exec(
            *self._settings.backtest_command, stdin=pipe, stdout=pipe, stderr=pipe
        )
        if job.status == "cancelled":
            return
        out, err = await process.communicate(orjson.dumps(job.request))
        if job.status == "cancelled":
            return
        if process.returncode != 0:
            said = printable(err.decode("utf-8", "replace").strip())[-MAX_ERROR:]
            self._end(job, "failed", error=said or f"exit code {process.returncode}")
        elif len(out) > MAX_RESULT_BYTES:
            self._end(job, "failed", error=f"the result has {len(out)} bytes; too many")
        else:
            self._end(job, "done", result=orjson.loads(out))

    def _end(self, job: Job, status: str, *, result: Any = None, error: str | None = None) -> None:
        if job.status in ENDED:
            return
        job.status, job.result, job.error, job.ended_s = status, result, error, time.monotonic()
        log_event("backtest", id=job.id, status=status, error=error)
        self._on_end(job)

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
