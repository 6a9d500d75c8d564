"""Routes of backtests and of paper trading."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from hftlib.live.answers import JobAnswer
from hftlib.live.faults import ServiceFault
from hftlib.live.limits_http import require_token
from hftlib.live.logs import log_event
from hftlib.live.openapi import refusals, takes
from hftlib.live.protocols import PaperView
from hftlib.live.requests import BacktestBody, HaltBody, ResumeBody, read_body
from hftlib.live.routes import read_json, reply
from hftlib.live.runtime import runtime_of

router = APIRouter(tags=["jobs"])
JobId = Annotated[str, Path(description="as the submission answered", examples=["job-1"])]


@router.post(
    "/backtest",
    status_code=202,
    response_model=JobAnswer,
    responses=refusals(400, 401, 403, 404, 408, 413, 415, 422, 429, 503),
    openapi_extra=takes(BacktestBody),
)
async def submit_backtest(request: Request) -> Response:
    """Queue a backtest of a registered model on the recorded bars; needs the token."""
    runtime = runtime_of(request)
    require_token(runtime.settings, request.headers.get("authorization"))
    body = read_body(BacktestBody, await read_json(request))
    name = runtime.active().card.name if body.model is None else body.model
    if name not in runtime.store.names():
        said = f"no model {name!r} is registered"
        raise ServiceFault(404, "unknown_model", said, "`/models` lists those that are")
    job = runtime.jobs.submit({**body.model_dump(), "model": name})
    return reply(job.to_dict(), 202)


@router.get("/backtest/{job_id}", response_model=JobAnswer, responses=refusals(404, 429, 503))
async def show_backtest(request: Request, job_id: JobId) -> Response:
    """Status and result."""
    return reply(runtime_of(request).jobs.find(job_id).to_dict())


@router.delete(
    "/backtest/{job_id}", response_model=JobAnswer, responses=refusals(401, 403, 404, 429, 503)
)
async def cancel_backtest(request: Request, job_id: JobId) -> Response:
    """Stop it; needs the token. One that ended stays as it is."""
    runtime = runtime_of(request)
    require_token(runtime.settings, request.headers.get("authorization"))
    return reply(runtime.jobs.cancel(job_id).to_dict())


@router.get("/paper", response_model=dict[str, Any], responses=refusals(404, 429, 503))
async def show_paper(request: Request) -> Response:
    """State of paper trading: equity, positions, orders, limits, alerts."""
    return reply(dict(_paper(request).snapshot()))


@router.post(
    "/paper/halt",
    response_model=dict[str, Any],
    responses=refusals(400, 401, 403, 404, 408, 413, 415, 422, 429, 503),
    openapi_extra=takes(HaltBody),
)
async def halt_paper(request: Request) -> Response:
    """The kill switch; needs the token. Trading goes on after `/paper/resume` only.

    Orders are cancelled and positions kept; `flatten` closes them as soon as they can be traded.
    """
    require_token(runtime_of(request).settings, request.headers.get("authorization"))
    body = read_body(HaltBody, await read_json(request))
    paper = _paper(request)
    paper.halt(body.reason, body.flatten)
    log_event("warning", what="halted by request", reason=body.reason, flatten=body.flatten)
    return reply(dict(paper.snapshot()))


@router.post(
    "/paper/resume",
    response_model=dict[str, Any],
    responses=refusals(400, 401, 403, 404, 408, 413, 415, 422, 429, 503),
    openapi_extra=takes(ResumeBody),
)
async def resume_paper(request: Request) -> Response:
    """Trade again after a halt, once its cause is gone; needs the token."""
    require_token(runtime_of(request).settings, request.headers.get("authorization"))
    body = read_body(ResumeBody, await read_json(request))
    paper = _paper(request)
    paper.resume(body.who)
    log_event("warning", what="resumed by request", who=body.who)
    return reply(dict(paper.snapshot()))


def _paper(request: Request) -> PaperView:
    paper = runtime_of(request).paper
    if paper is None:
        said = "this service runs without paper trading"
        raise ServiceFault(404, "no_paper", said, "start it with an engine")
    return paper
