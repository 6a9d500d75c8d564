"""The served policy over HTTP: `python -m hftlib.live.service`, on 127.0.0.1 unless told else.

Reading is open to all who reach the address. What changes state (the newest
bars of a stream, the active model, a backtest, the kill switch) needs the bearer
token of `HFTLIB_TOKEN` and is refused where none is set. Settings: `settings`.

A model is loaded once and owned by one thread; requests that arrive together
pass through it together. `create_app` knows models and paper trading only by
`protocols`.
"""

import asyncio
import contextlib
import gc
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from starlette.exceptions import HTTPException
from starlette.responses import Response

from hftlib import __version__
from hftlib.live import routes, routes_jobs, routes_models, routes_page
from hftlib.live.faults import ServiceFault
from hftlib.live.limits_http import Door
from hftlib.live.logs import log_event, log_to_stderr
from hftlib.live.openapi import describe
from hftlib.live.protocols import ModelStore, PaperView
from hftlib.live.runtime import Runtime
from hftlib.live.settings import LOOPBACK, ServiceSettings
from hftlib.paths import Paths, project_root

if TYPE_CHECKING:
    from hftlib.live.session import PaperSession

HOST = LOOPBACK
SWITCH_S = 0.0005  # the model's thread gives the interpreter back soon; Python's own is 5 ms
MAX_MESSAGE_BYTES = 1024  # of what a client of /ws sends; it has nothing to say


def create_app(
    store: ModelStore,
    settings: ServiceSettings | None = None,
    paper: PaperView | None = None,
    clock: Callable[[], int] = time.time_ns,
) -> FastAPI:
    """The application.

    Parameters
    ----------
    store : ModelStore
        The registered models; `settings.model`, or the first, is loaded at start. If that
        fails the service starts all the same, `/ready` says why, and `/model/activate`
        can load another.
    settings : ServiceSettings, optional
    paper : PaperView, optional
        Shown by `/paper` and `/ws`.
    clock : callable
        Nanoseconds since 1970; what lies later is a future bar.
    """
    settings = ServiceSettings() if settings is None else settings
    runtime = Runtime(store, settings, paper, clock)

    @contextlib.asynccontextmanager
    async def live(app: FastAPI) -> AsyncIterator[None]:
        await runtime.start()
        try:
            yield
        finally:
            await runtime.stop()

    app = FastAPI(
        title="hftlib",
        version=__version__,
        summary="A trading policy, served",
        lifespan=live,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.runtime = runtime
    for module in (routes, routes_models, routes_jobs, routes_page):
        app.include_router(module.router)
    app.add_exception_handler(ServiceFault, _answer_fault)
    app.add_exception_handler(HTTPException, _answer_http)
    describe(app)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["authorization", "content-type", "x-request-id"],
        )
    app.add_middleware(Door, settings=settings, metrics=runtime.metrics)
    return app


def _answer_fault(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceFault)
    runtime: Runtime = request.app.state.runtime
    runtime.metrics.refused.labels(error.code).inc()
    return error.response(request.state.request_id)


def _answer_http(request: Request, error: Exception) -> Response:
    """404 and 405 of the router in our shape."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        fault = ServiceFault(
            405, "wrong_method", "this route has other methods", "see /openapi.json"
        )
    else:
        fault = ServiceFault(
            error.status_code, "no_route", "there is no such route", "see /openapi.json"
        )
    response = fault.response(request.state.request_id)
    response.headers.update(error.headers or {})
    return response


def make_server(app: FastAPI, port: int, host: str = HOST) -> uvicorn.Server:
    """A server of the application, on loopback unless `host` is another address."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws_max_size=MAX_MESSAGE_BYTES,
            ws_ping_interval=20.0,
            ws_ping_timeout=20.0,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=5,
        )
    )


async def _serve(
    app: FastAPI, settings: ServiceSettings, on_serving: Callable[[str], None] | None
) -> None:
    server = make_server(app, settings.port, settings.host)
    serving = asyncio.create_task(server.serve())
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    gc.collect()
    gc.freeze()  # what is there now stays: a collection that looks at it all would take .2 s
    for one in server.servers:
        for socket in one.sockets:
            host, port = socket.getsockname()[:2]
            log_event("serving", address=f"http://{host}:{port}")
            if on_serving is not None:
                on_serving(f"http://{LOOPBACK}:{port}")
    await serving


def run(
    store: ModelStore,
    settings: ServiceSettings,
    paper: PaperView | None = None,
    on_serving: Callable[[str], None] | None = None,
) -> None:
    """Serve until the process is told to stop; a line of the log says where.

    Parameters
    ----------
    on_serving : callable, optional
        Takes the address, once it answers.
    """
    log_to_stderr()
    sys.setswitchinterval(SWITCH_S)
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C, raised once more when all has ended
        asyncio.run(_serve(create_app(store, settings, paper), settings, on_serving))


def open_store(root: Path) -> ModelStore:
    """The artefacts below `root` as a store."""
    from hftlib.live.artefact_store import ArtefactStore  # loads the numerical libraries

    return ArtefactStore(root)


def main() -> int:
    """Settings from the environment, models from `data/served`: the champion, or the one named."""
    try:
        settings = ServiceSettings.from_environment()
        paths = Paths(project_root())
        served = Path(settings.models) if settings.models else paths.served
        if not settings.model:
            log_to_stderr()
            from hftlib.live.models import choose_model  # loads the numerical libraries

            settings = replace(settings, model=choose_model(paths.exported, served))
        session = _open_session(settings, served) if settings.paper else None
    except (ValueError, OSError) as error:  # of settings, params, models or data: all say what
        sys.stderr.write(f"error: {error}\n")
        return 2
    start = None if session is None else partial(session.start, token=settings.token)
    run(open_store(served), settings, session, start)
    return 0


def _open_session(settings: ServiceSettings, served: Path) -> "PaperSession":
    """Paper trading of the model that is active at the start.

    Raises
    ------
    ValueError
        If there is no model, or it does not know what is to be traded; as `read_plan`.
    FileNotFoundError
        If there are no recorded bars.
    """
    from hftlib.config import load
    from hftlib.live.artefact import load_artefact
    from hftlib.live.predictor import Predictor
    from hftlib.live.session import PaperSession
    from hftlib.live.session_plans import make_watch, read_plan

    params = load()
    plan = read_plan(params, settings.paper, settings.paper_speed, time.time_ns())
    if not settings.model:
        raise ValueError(f"paper trading needs a model, {served} has none; run `make repro` first")
    predictor = Predictor(load_artefact(served, settings.model))
    unknown = [symbol for symbol in plan.rules.symbols if symbol not in predictor.symbols]
    if unknown:
        raise ValueError(
            f"{settings.model} does not know {', '.join(unknown)}, which paper trading is to "
            f"trade; it knows {', '.join(predictor.symbols)}. Change what is traded in params.yaml "
            "(datasets.symbols, ingestion), or train a model on it"
        )
    # the watch looks at recorded bars, which say nothing of those that are polled
    watch = make_watch(params, predictor) if settings.paper == "recorded" else None
    return PaperSession(plan, watch)


if __name__ == "__main__":
    sys.exit(main())
