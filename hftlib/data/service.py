"""Asking a data service on the network: paced, patient, and never twice for what is known.

An answer is kept on disk as it came, under the hash of its request. One whose
span was over when it was asked for is kept for good; any other grows old. A
fault that may pass (a refusal for haste, an outage, a broken answer) is tried
again after a wait that doubles, or as long as the service asks; one that stays
becomes a `ServiceError` that says what was asked, of whom, what happened, and
what to do.
"""

import hashlib
import importlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from hftlib.data.bars import SourceError
from hftlib.paths import replace_file

Request = Mapping[str, str | int]


class ServiceError(SourceError):
    """A service that did not answer, or not with what was asked for."""


class AttemptError(Exception):
    """One failed attempt that another may mend; `wait_s` is the service's own wish, if any."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


@dataclass(frozen=True)
class Patience:
    """How a service is asked.

    Attributes
    ----------
    n_attempts : int
        Before giving up, at least 1.
    first_wait_s : float
        Before the second attempt; it doubles with each further one.
    longest_wait_s : float
        No wait is longer; a service that wants a longer one is given up at once.
    interval_s : float
        Least time between two attempts.
    max_age_s : float
        An answer about a span that was not over is asked for again after this.
    """

    n_attempts: int = 5
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0
    interval_s: float = 0.5
    max_age_s: float = 3_600.0


class Service:
    """One service and the folder of its answers.

    Parameters
    ----------
    name : str
        Names the subfolder, and the service in errors.
    cache : path
        Folder of all services' answers; made when needed.
    sleep : callable
        Waits some seconds.
    """

    def __init__(
        self,
        name: str,
        cache: Path,
        patience: Patience = Patience(),
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = name
        self.folder = cache / name
        self._patience = patience
        self._sleep = sleep
        self._last_s = -float("inf")

    def ask(self, request: Request, send: Callable[[], str], *, is_final: bool) -> str:
        """The answer to `request`, from disk if it is known.

        Parameters
        ----------
        request : mapping
            What is asked, in words for the error and as the key on disk.
        send : callable
            Asks the service; returns its checked answer, raises `AttemptError`
            for what another attempt may mend, `ServiceError` for what none will.
        is_final : bool
            The span is over: no later answer will differ.

        Raises
        ------
        ServiceError
            If no attempt brought an answer.
        """
        text = json.dumps(dict(request), sort_keys=True)
        file = self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"
        known = self._read(file, text)
        if known is not None:
            return known
        answer = self._attempt(request, send)
        entry = {"request": text, "is_final": is_final, "asked": time.time(), "answer": answer}
        with replace_file(file) as temporary:
            temporary.write_text(json.dumps(entry))
        return answer

    def _read(self, file: Path, request: str) -> str | None:
        try:
            entry = json.loads(file.read_text())
            is_fresh = entry["is_final"] or time.time() - entry["asked"] < self._patience.max_age_s
            return str(entry["answer"]) if entry["request"] == request and is_fresh else None
        except (OSError, ValueError, KeyError, TypeError):  # absent or damaged: ask again
            return None

    def _attempt(self, request: Request, send: Callable[[], str]) -> str:
        wait_s = self._patience.first_wait_s
        for attempt in range(1, self._patience.n_attempts + 1):
            pause_s = self._last_s + self._patience.interval_s - time.monotonic()
            if pause_s > 0:
                self._sleep(pause_s)
            self._last_s = time.monotonic()
            try:
                return send()
            except AttemptError as fault:
                if fault.wait_s is not None and fault.wait_s > self._patience.longest_wait_s:
                    reason = f"{fault}, and wants a wait of {fault.wait_s:.0f} s; try later"
                    raise self.error(request, reason) from fault
                if attempt == self._patience.n_attempts:
                    reason = f"{fault}, at {attempt} attempts; is the network there?"
                    raise self.error(request, reason) from fault
                asked_s = wait_s if fault.wait_s is None else fault.wait_s
                self._sleep(min(asked_s, self._patience.longest_wait_s))
                wait_s *= 2
        raise ValueError(f"n_attempts is {self._patience.n_attempts}; it must be at least 1")

    def error(self, request: Request, reason: str) -> ServiceError:
        """The error that says what was asked, of whom, what happened and what to do."""
        asked = ", ".join(f"{key} {value}" for key, value in request.items())
        return ServiceError(
            f"{self.name}, asked for {asked}: {reason} To go on without it, take the request out; "
            f"answers that came before are kept in {self.folder}."
        )


def import_extra(package: str) -> Any:
    """A package of the extra `[sources]`.

    Raises
    ------
    ServiceError
        If it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ServiceError(
            f'{package} is not installed ({error}); pip install -e ".[sources]", or take the '
            "requests that need it out of params.yaml: ingestion"
        ) from None


def parse_retry_after(header: str | None) -> float | None:
    """Seconds that a Retry-After header asks for, as a number or as a date; None if neither."""
    if header is None:
        return None
    if header.strip().isdigit():
        return float(header)
    try:
        then = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max((then - datetime.now(UTC)).total_seconds(), 0.0)
