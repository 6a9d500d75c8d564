"""The door of the service: what is refused before any route sees it.

In this order, each at once: a foreign host name, too many requests of one client,
too many in flight, a body that is too large or too slow. What passes has its whole
body in memory and an id. Every answer is counted and logged here, and an error
that nobody foresaw becomes a 500 without its text.

`/health` and `/metrics` pass however busy the service is.
"""

import asyncio
import hmac
import itertools
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hftlib.live.faults import ServiceFault
from hftlib.live.logs import log_event
from hftlib.live.metrics_http import Metrics
from hftlib.live.settings import ServiceSettings

MAX_CLIENTS = 10_000
ALWAYS = ("/health", "/metrics")
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class RateLimit:
    """A bucket of tokens for each client; the one that was idle longest is forgotten first.

    Parameters
    ----------
    per_s : float
        Tokens that flow in.
    burst : float
        Size of a bucket.
    clock : callable
        Seconds, monotonic.
    """

    def __init__(
        self, per_s: float, burst: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_s = per_s
        self._burst = max(burst, 1.0)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def admit(self, client: str) -> bool:
        """Take a token, if there is one."""
        now = self._clock()
        level, then = self._buckets.pop(client, (self._burst, now))
        level = min(self._burst, level + (now - then) * self._per_s)
        self._buckets[client] = (level - 1 if level >= 1 else level, now)
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        return level >= 1


class Door:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, settings: ServiceSettings, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._rate = RateLimit(settings.requests_per_s, settings.burst)
        self._n_in_flight = 0
        self._prefix = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        self._hosts = frozenset(host.encode() for host in settings.hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or one connection of the live stream."""
        if scope["type"] == "websocket" and self._is_foreign(_headers(scope)):
            await send({"type": "websocket.close", "code": 1008, "reason": "host not served"})
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = time.perf_counter()
        headers = _headers(scope)
        request_id = self._name(headers)
        scope.setdefault("state", {}).update(request_id=request_id, start=start)
        status = 500
        has_begun = False

        async def answer(message: Message) -> None:
            nonlocal status, has_begun
            if message["type"] == "http.response.start":
                status, has_begun = message["status"], True
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode()),
                    (b"x-content-type-options", b"nosniff"),
                ]
                if not any(name == b"cache-control" for name, _ in message["headers"]):
                    message["headers"].append((b"cache-control", b"no-store"))
            await send(message)

        counted = False
        try:
            self._admit(scope, headers)
            self._n_in_flight += 1
            counted = True
            body = await self._read(headers, receive)
            await self._app(scope, _replay(body, receive), answer)
        except ServiceFault as fault:
            self._metrics.refused.labels(fault.code).inc()
            await fault.response(request_id)(scope, receive, answer)
        except Exception as error:  # the last resort; the client must get an answer
            log_event("error", request_id=request_id, path=scope["path"], error=repr(error))
            if not has_begun:
                unforeseen = ServiceFault(500, "internal", "an error of the service", "see its log")
                await unforeseen.response(request_id)(scope, receive, answer)
        finally:
            self._n_in_flight -= counted
            self._note(scope, status, time.perf_counter() - start, request_id)

    def _admit(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        if self._is_foreign(headers):
            raise ServiceFault(
                400,
                "foreign_host",
                "the Host header names a host that is not served",
                f"address the service as one of {', '.join(self._settings.hosts)}",
            )
        if scope["path"] in ALWAYS:
            return
        client = scope.get("client")
        if not self._rate.admit(client[0] if client else ""):
            said = f"more than {self._settings.requests_per_s:g} requests a second of one client"
            raise ServiceFault(429, "rate_limit", said, "slow down", retry_after_s=1)
        if self._n_in_flight >= self._settings.max_in_flight:
            said = f"{self._n_in_flight} requests are being worked on"
            raise ServiceFault(503, "overloaded", said, "try again after a second", retry_after_s=1)

    async def _read(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """The whole body."""
        limit = self._settings.max_body_bytes
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared[:20]) > limit:
            raise _too_large(limit)
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._settings.body_limit_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ServiceFault(400, "gone", "the client left", "send the whole body")
                    chunks.append(message.get("body", b""))
                    size += len(chunks[-1])
                    if size > limit:
                        raise _too_large(limit)
                    if not message.get("more_body", False):
                        return b"".join(chunks)
        except TimeoutError:
            said = f"the body did not arrive within {self._settings.body_limit_s:g} s"
            raise ServiceFault(408, "slow_body", said, "send it faster, or in parts") from None

    def _is_foreign(self, headers: dict[bytes, bytes]) -> bool:
        """Whether the Host header names somebody else: a page that rebinds its DNS name to us."""
        return headers.get(b"host", b"").rsplit(b":", 1)[0] not in self._hosts

    def _name(self, headers: dict[bytes, bytes]) -> str:
        given = headers.get(b"x-request-id", b"")
        if REQUEST_ID.fullmatch(given):
            return given.decode()
        return f"{self._prefix}-{next(self._numbers)}"

    def _note(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        route = getattr(scope.get("route"), "path", "other")
        self._metrics.requests.labels(route, _method(scope), str(status)).inc()
        self._metrics.latency.labels(route).observe(seconds)
        self._metrics.in_flight.set(self._n_in_flight)
        log_event(
            "request",
            request_id=request_id,
            method=_method(scope),
            route=route,
            status=status,
            ms=round(seconds * 1e3, 3),
        )


def require_token(settings: ServiceSettings, authorization: str | None) -> None:
    """Refuse a request that changes state without the token.

    Raises
    ------
    ServiceFault
        403 if the service has no token, 401 if the request's is missing or another.
    """
    if not settings.token:
        raise ServiceFault(
            403,
            "read_only",
            "the service was started without a token and changes nothing",
            "set HFTLIB_TOKEN before starting it",
        )
    scheme, _, given = (authorization or "").partition(" ")
    is_same = hmac.compare_digest(given.strip().encode(), settings.token.encode())
    if scheme.lower() != "bearer" or not is_same:
        said = "this request changes state and needs the token"
        raise ServiceFault(401, "no_token", said, "send the header `Authorization: Bearer <token>`")


def _headers(scope: Scope) -> dict[bytes, bytes]:
    return dict(scope["headers"])


def _method(scope: Scope) -> str:
    known = ("GET", "POST", "DELETE", "OPTIONS", "HEAD")
    return scope["method"] if scope["method"] in known else "other"


def _replay(body: bytes, receive: Receive) -> Receive:
    is_read = False

    async def replay() -> dict[str, Any]:
        nonlocal is_read
        if is_read:
            return dict(await receive())
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _too_large(limit: int) -> ServiceFault:
    said = f"the body is larger than {limit} bytes"
    return ServiceFault(413, "too_large", said, "send fewer rows or fewer symbols in a request")
