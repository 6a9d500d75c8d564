"""Routes that ask the model: `/predict`, `/predict/batch`, `/symbols`, `/ws`."""

import asyncio
import re
import time
from collections.abc import Sequence
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response, WebSocket

from hftlib.live.answers import BatchAnswer, OneAnswer, SymbolsAnswer
from hftlib.live.arms import Arms, refer
from hftlib.live.faults import FieldFault, ServiceFault
from hftlib.live.limits_http import require_token
from hftlib.live.openapi import refusals, takes
from hftlib.live.requests import BatchBody, SymbolBody
from hftlib.live.runtime import Runtime, runtime_of

router = APIRouter(tags=["predictions"])
WINDOW = re.compile(rb'"(?:window|snapshots)"\s*:\s*\[')


def reply(values: dict[str, Any], status: int = 200) -> Response:
    """JSON without a second validation of our own values."""
    return Response(
        orjson.dumps(values, default=str, option=orjson.OPT_SERIALIZE_NUMPY),
        status,
        media_type="application/json",
    )


@router.post(
    "/predict",
    response_model=OneAnswer,
    responses=refusals(400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 503, 504),
    openapi_extra=takes(SymbolBody),
)
async def predict(request: Request) -> Response:
    """What the policy does now with one symbol.

    `bars` are the newest bars of the symbol: they go on its stream, which needs the token. Those
    of the last request may be sent again unchanged, as where its answer was lost.
    Without rows the answer is about the stream as it is, which is quickest. `window` is a whole
    history, from which everything is computed; no stream is read or changed. `snapshots` is the
    same for models that take the order book, `state` the client's own order where a model works one
    (`/model/info` says so): snapshots are then without that order, one a decision from the arrival
    of the parent order on, and the answer is the order that should stand now.
    """
    body = await runtime_of(request).bodies.read(SymbolBody, await _read(request))
    try:
        _, found = await _ask(request, [body])
    except ServiceFault as fault:
        fault.fields = tuple(
            entry._replace(field=entry.field.removeprefix("items[0].")) for entry in fault.fields
        )
        fault.message = fault.message.replace("items[0].", "")
        raise
    return reply({**found[0], **_about(request)})


@router.post(
    "/predict/batch",
    response_model=BatchAnswer,
    responses=refusals(400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 503, 504),
    openapi_extra=takes(BatchBody),
)
async def predict_batch(request: Request) -> Response:
    """What the policy does now with several symbols, as `/predict`; all are answered or none."""
    body = await runtime_of(request).bodies.read(BatchBody, await _read(request))
    arms, found = await _ask(request, body.items)
    model = refer(arms.champion.card)
    return reply({"predictions": found, "model": model, **_about(request)})


@router.get("/symbols", response_model=SymbolsAnswer, responses=refusals(429, 503))
async def symbols(request: Request) -> Response:
    """Symbols of the active model, and how far the stream of each has come."""
    return reply({"symbols": runtime_of(request).active().list_streams()})


@router.websocket("/ws")
async def ws(socket: WebSocket) -> None:
    """The live stream, see `hub`."""
    runtime: Runtime = socket.app.state.runtime
    model = runtime.model
    hello = {"model": None if model is None else model.card.name, "paper": None}
    if runtime.paper is not None:
        hello["paper"] = dict(runtime.paper.snapshot())  # type: ignore[assignment]
    await runtime.hub.serve(socket, hello)


async def read_json(request: Request) -> bytes:
    """The body, if the client says that it is JSON.

    Raises
    ------
    ServiceFault
        415 otherwise.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        said = f"expected content-type application/json, received {kind!r}"
        raise ServiceFault(415, "not_json", said, "send JSON and say so in the header")
    return await request.body()


async def _read(request: Request) -> bytes:
    """The body; with windows for which there is no room it is refused before it is parsed."""
    raw = await read_json(request)
    runtime = runtime_of(request)
    n_windows = len(WINDOW.findall(raw))
    _refuse_many("windows", n_windows, runtime.settings.max_windows)
    runtime.admit(n_windows)
    return raw


async def _ask(request: Request, items: Sequence[SymbolBody]) -> tuple[Arms, list[dict[str, Any]]]:
    """As `Runtime.predict`, given up when the client leaves."""
    runtime = runtime_of(request)
    answer = asyncio.ensure_future(runtime.predict(_admit(request, items)))
    leaving = asyncio.ensure_future(request.receive())  # after the body nothing else comes
    try:
        await asyncio.wait((answer, leaving), return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        raise ServiceFault(400, "gone", "the client left", "wait for the answer")
    finally:
        answer.cancel()
        leaving.cancel()


def _admit(request: Request, items: Sequence[SymbolBody]) -> Sequence[SymbolBody]:
    """Refuse what is too much for one request, and newest bars without the token."""
    settings = runtime_of(request).settings
    n_rows = sum(len(item.rows) for item in items)
    n_windows = sum(item.is_window for item in items)
    for name, count, limit in (
        ("symbols", len(items), settings.max_items),
        ("rows", n_rows, settings.max_rows),
        ("windows", n_windows, settings.max_windows),
    ):
        _refuse_many(name, count, limit)
    if any(item.bars for item in items):
        require_token(settings, request.headers.get("authorization"))
    return items


def _refuse_many(name: str, count: int, limit: int) -> None:
    if count > limit:
        said = f"{count} {name} in one request; expected at most {limit}"
        fields = [FieldFault("items", f"expected at most {limit} {name}", str(count))]
        raise ServiceFault(413, "too_many", said, "send several requests", fields)


def _about(request: Request) -> dict[str, Any]:
    return {
        "latency_ms": round((time.perf_counter() - request.state.start) * 1e3, 3),
        "request_id": request.state.request_id,
    }
