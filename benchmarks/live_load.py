"""A small HTTP client, load in an open loop, and one line of what was seen.

An open loop sends on the clock, whether or not earlier requests are answered: a closed
loop would wait for a slow server and hide how slow it was.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

TOKEN = "benchmark"
HEADERS = f"Content-Type: application/json\r\nAuthorization: Bearer {TOKEN}\r\n"
DAY_S = 86_400
FIRST_S = 1_262_304_000  # 2010-01-01
CUTS = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


class Answer(NamedTuple):
    """One request.

    Attributes
    ----------
    due_s : float
        When it should be sent, since the start.
    late_ms : float
        How much later it was: what this client, not the service, was slow.
    latency_ms : float
        From when it was due until it was answered.
    status : int
        0 without an answer.
    """

    due_s: float
    late_ms: float
    latency_ms: float
    status: int


def make_bar(k: int, close: float = 100.0, volume: float = 1000.0) -> dict[str, object]:
    """A bar of day k."""
    ts = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(FIRST_S + k * DAY_S))
    prices = {"open": close, "high": close * 1.01, "low": close * 0.99, "close": close}
    return {"ts": ts, **prices, "volume": volume}


class Client:
    """HTTP/1.1 on connections that stay open; next to nothing of its own time."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self._at = parts.hostname, parts.port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Status and body of the answer."""
        connection = None
        while self._idle and connection is None:
            connection = self._idle.pop()
            if connection[0].at_eof():  # the server has closed what was idle for long
                connection[1].close()
                connection = None
        if connection is None:
            connection = await asyncio.open_connection(*self._at)
        reader, writer = connection
        method = "GET" if body is None else "POST"
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._at[0]}\r\n{HEADERS}"
        writer.write(f"{head}Content-Length: {len(body or b'')}\r\n\r\n".encode() + (body or b""))
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        content = await reader.readexactly(length)
        self._idle.append(connection)
        return int(answer[9:12]), content


async def open_loop(
    client: Client, path: str, bodies: Sequence[bytes], per_s: float, seconds: float
) -> list[Answer]:
    """Every request of `seconds`; latencies are from the moment that it was due."""
    answers: list[Answer] = []
    start_s = time.perf_counter()

    async def ask(body: bytes, due_s: float) -> None:
        late_s = time.perf_counter() - start_s - due_s
        try:
            status, _ = await client.ask(path, body)
        except (OSError, EOFError):
            status = 0
        latency_s = time.perf_counter() - start_s - due_s
        answers.append(Answer(due_s, late_s * 1e3, latency_s * 1e3, status))

    tasks = []
    for k in range(int(per_s * seconds)):
        due_s = k / per_s
        if (wait := start_s + due_s - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(ask(bodies[k % len(bodies)], due_s)))
    await asyncio.gather(*tasks)
    return answers


def quantile(values: Sequence[float], share: float) -> float:
    """The nearest of the values; nan of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def describe(answers: Sequence[Answer]) -> str:
    """Latencies and number of some answers."""
    latencies = [one.latency_ms for one in answers]
    cuts = (f"{name} {quantile(latencies, q):7.2f} ms" for name, q in CUTS.items())
    return f"n {len(latencies):>6}  " + "  ".join(cuts)


def report(name: str, answers: Sequence[Answer], seconds: float) -> None:
    """One line."""
    good = [one for one in answers if one.status == 200]
    others = dict(sorted(Counter(one.status for one in answers if one.status != 200).items()))
    print(
        f"{name:<36} {describe(good)}  {len(good) / seconds:6.0f} answers/s"
        + (f"  others {others}" if others else "")
    )


async def closed_loop(
    client: Client, path: str, bodies: Sequence[bytes], seconds: float
) -> list[float]:
    """Durations, ms, of requests one after the other, for `seconds` or until there are no more."""
    begin, durations = time.perf_counter(), []
    for body in bodies:
        sent = time.perf_counter()
        if sent - begin > seconds:
            break
        await client.ask(path, body)
        durations.append((time.perf_counter() - sent) * 1e3)
    return durations
