"""Live stream: what happens on the service, to every client that listens.

Each client has a queue of its own with room for a few messages. A client that
reads too slowly fills it and is dropped with code 1013: it cannot slow down the
others, nor fill the memory, and when it connects again it begins with the
present. A client that vanished without a word is found by the heartbeat.

Messages are JSON objects with `type`: `hello`, `heartbeat`, `prediction`,
`model`, `backtest`, `paper`. What clients send is ignored.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson
from fastapi import WebSocket, WebSocketDisconnect

from hftlib.live.logs import log_event
from hftlib.live.metrics_http import Metrics
from hftlib.live.settings import ServiceSettings

TRY_AGAIN, POLICY = 1013, 1008  # close codes of RFC 6455
SEND_LIMIT_S = 5.0


class Hub:
    """All clients of `/ws`.

    Parameters
    ----------
    clock : callable
        Nanoseconds since 1970, for the heartbeat.
    """

    def __init__(
        self, settings: ServiceSettings, metrics: Metrics, clock: Callable[[], int]
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._clients: dict[asyncio.Queue[bytes], asyncio.Event] = {}
        self._is_closing = False

    def __len__(self) -> int:
        """Clients that listen."""
        return len(self._clients)

    def publish(self, kind: str, values: Mapping[str, Any]) -> None:
        """Send to everybody without waiting for anybody."""
        if not self._clients:
            return
        message = orjson.dumps({"type": kind, **values}, default=str)
        for queue, is_late in self._clients.items():
            try:
                queue.put_nowait(message)
            except asyncio.QueueFull:
                is_late.set()

    def close(self) -> None:
        """Let every client go."""
        self._is_closing = True
        for is_late in self._clients.values():
            is_late.set()

    async def serve(self, socket: WebSocket, hello: Mapping[str, Any]) -> None:
        """One client, until it leaves or is dropped."""
        if not self._is_welcome(socket.headers.get("origin"), socket.headers.get("host", "")):
            await socket.close(POLICY, "origin not allowed")
            return
        if self._is_closing or len(self._clients) >= self._settings.max_streams:
            await socket.close(TRY_AGAIN, "too many clients")
            return
        queue: asyncio.Queue[bytes] = asyncio.Queue(self._settings.max_unsent)
        is_late = asyncio.Event()
        self._clients[queue] = is_late
        self._metrics.streams.set(len(self._clients))
        try:
            await socket.accept()
            await _send(socket, orjson.dumps({"type": "hello", **hello}, default=str))
            tasks = [
                asyncio.create_task(work)
                for work in (self._write(socket, queue), _read(socket), is_late.wait())
            ]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            if is_late.is_set():
                await self._drop(socket)
        except (WebSocketDisconnect, RuntimeError, OSError, TimeoutError):
            pass  # it left while we wrote
        finally:
            del self._clients[queue]
            self._metrics.streams.set(len(self._clients))

    async def _write(self, socket: WebSocket, queue: asyncio.Queue[bytes]) -> None:
        while True:
            try:
                async with asyncio.timeout(self._settings.heartbeat_s):
                    message = await queue.get()
            except TimeoutError:
                message = orjson.dumps({"type": "heartbeat", "ts_ns": self._clock()})
            await _send(socket, message)

    async def _drop(self, socket: WebSocket) -> None:
        if not self._is_closing:
            self._metrics.dropped.inc()
            log_event("stream_dropped", unsent=self._settings.max_unsent)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await socket.close(
                    TRY_AGAIN, "the service stops" if self._is_closing else "too slow"
                )

    def _is_welcome(self, origin: str | None, host: str) -> bool:
        """Browsers let any page open a websocket, so its origin is checked here."""
        if origin is None or origin in self._settings.cors_origins:
            return True
        return urlsplit(origin).netloc == host


async def _send(socket: WebSocket, message: bytes) -> None:
    async with asyncio.timeout(SEND_LIMIT_S):
        await socket.send_text(message.decode())


async def _read(socket: WebSocket) -> None:
    """Until the client leaves."""
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
