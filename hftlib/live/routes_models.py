"""Routes about the service and its models: health, readiness, metrics, activation."""

import asyncio
import time
from dataclasses import asdict

from fastapi import APIRouter, Request, Response

from hftlib.live.answers import (
    CardAnswer,
    HealthAnswer,
    ModelRef,
    ModelsAnswer,
    ReadyAnswer,
    RoutingAnswer,
)
from hftlib.live.arms import CHALLENGER, CHAMPION, refer
from hftlib.live.faults import FieldFault, ServiceFault
from hftlib.live.limits_http import require_token
from hftlib.live.metrics_http import CONTENT_TYPE
from hftlib.live.openapi import refusals, takes
from hftlib.live.requests import ActivateBody, read_body, refuse_fields
from hftlib.live.routes import read_json, reply
from hftlib.live.runtime import runtime_of

router = APIRouter(tags=["service"])
ROLE = {
    "name": "role",
    "in": "query",
    "description": "the champion, or the model that answers a share of the keys",
    "schema": {"type": "string", "enum": [CHAMPION, CHALLENGER], "default": CHAMPION},
}


@router.get("/health", response_model=HealthAnswer)
async def health(request: Request) -> Response:
    """The process lives and its event loop turns; nothing is said of the model."""
    uptime = time.monotonic() - runtime_of(request).started_s
    return reply({"status": "alive", "uptime_s": round(uptime, 3)})


@router.get("/ready", response_model=ReadyAnswer, responses=refusals(429, 503))
async def ready(request: Request) -> Response:
    """A model is loaded; 503 and why, otherwise."""
    arms = runtime_of(request).find_arms()
    model = refer(arms.champion.card)
    return reply({"status": "ready", "model": model, "challenger": arms.describe_challenger()})


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Counters for Prometheus."""
    return Response(runtime_of(request).scrape(), media_type=CONTENT_TYPE)


@router.get(
    "/model/info",
    response_model=CardAnswer,
    responses=refusals(404, 422, 429, 503),
    openapi_extra={"parameters": [ROLE]},
)
async def model_info(request: Request) -> Response:
    """A model: symbols, features, bounds and unit of its action, validation metrics."""
    arms = runtime_of(request).find_arms()
    role = request.query_params.get("role", CHAMPION)
    if role not in (CHAMPION, CHALLENGER):
        raise refuse_fields([FieldFault("role", f"expected {CHAMPION} or {CHALLENGER}", role)])
    model = arms.champion if role == CHAMPION else arms.challenger
    if model is None:
        said = "there is no challenger" if arms.trouble is None else arms.trouble
        remedy = "set HFTLIB_CHALLENGER to a registered model before starting"
        raise ServiceFault(404, "no_challenger", said, remedy)
    return reply({"role": role, "challenger": arms.describe_challenger(), **asdict(model.card)})


@router.get("/routing", response_model=RoutingAnswer, responses=refusals(429, 503))
async def routing(request: Request) -> Response:
    """Which model answers what share of the keys, and how many it has answered."""
    return reply(runtime_of(request).find_arms().describe())


@router.get("/models", response_model=ModelsAnswer, responses=refusals(429, 503))
async def models(request: Request) -> Response:
    """Names of the registered models."""
    runtime = runtime_of(request)
    names = await asyncio.to_thread(runtime.store.names)
    active = None if runtime.model is None else runtime.model.card.name
    return reply({"active": active, "models": sorted(names)})


@router.post(
    "/model/activate",
    response_model=ModelRef,
    responses=refusals(400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 503),
    openapi_extra=takes(ActivateBody),
)
async def activate(request: Request) -> Response:
    """Serve another registered model; needs the token. Its streams begin empty."""
    runtime = runtime_of(request)
    require_token(runtime.settings, request.headers.get("authorization"))
    body = read_body(ActivateBody, await read_json(request))
    return reply(refer((await runtime.activate(body.name)).card))
