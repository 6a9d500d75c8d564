"""The OpenAPI document: bodies that we read ourselves, examples, every refusal.

Routes read their bodies in one pass (`requests`), so FastAPI does not know them;
`takes` names a body where a route is declared and `describe` adds its schema.
"""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from hftlib.live.faults import FaultAnswer
from hftlib.live.requests import (
    ActivateBody,
    BacktestBody,
    BatchBody,
    HaltBody,
    ResumeBody,
    SymbolBody,
)

_REF = "#/components/schemas/{model}"
_BAR = {
    "ts": "2022-12-28T00:00:00Z",
    "open": 3829.56,
    "high": 3848.32,
    "low": 3780.78,
    "close": 3783.22,
    "volume": 3083520000.0,
}
_NEWEST = {"symbol": "SP500", "bars": [_BAR], "position": 1, "exposure": 0.98}
_BATCH = {"items": [_NEWEST, {**_NEWEST, "symbol": "NASDAQ", "position": 0, "exposure": 0.0}]}
_BOOK = {"ts": 1704189600000000000, "bid_px": [9999, 9998], "bid_qty": [10, 20]}
_BOOK |= {"ask_px": [10001, 10002], "ask_qty": [12, 18]}
_DEEP = {"ts": 1704189600000000000, "bid_px": [9999, 9998, 9997], "bid_qty": [10, 20, 9]}
_DEEP |= {"ask_px": [10001, 10002, 10003], "ask_qty": [12, 18, 7], "traded_qty": 0}
_STATE = {"side": "buy", "remaining_lots": 800, "resting_price": 9998, "resting_lots": 40}
EXAMPLES: dict[type[BaseModel], dict[str, Any]] = {
    SymbolBody: {
        "newest": {"summary": "the newest bar of a stream", "value": _NEWEST},
        "stream": {
            "summary": "the stream as it is",
            "value": {"symbol": "SP500", "position": -1, "exposure": -0.5},
        },
        "window": {
            "summary": "a whole window (here one bar of it)",
            "value": {"symbol": "SP500", "window": [_BAR]},
        },
        "book": {
            "summary": "a window of the order book",
            "value": {"symbol": "SP500", "snapshots": [_BOOK]},
        },
        "execution": {
            "summary": "the books since a parent order arrived (here one), and what is left of it",
            "value": {"symbol": "SIM", "snapshots": [_DEEP], "state": _STATE},
        },
    },
    BatchBody: {"newest": {"summary": "the newest bars of two streams", "value": _BATCH}},
    ActivateBody: {"ppo": {"value": {"name": "ppo"}}},
    BacktestBody: {"validation": {"value": {"model": None, "split": "val", "symbols": ["SP500"]}}},
    HaltBody: {
        "feed": {"value": {"reason": "dead feed"}},
        "flatten": {"value": {"reason": "wrong model", "flatten": True}},
    },
    ResumeBody: {"person": {"value": {"who": "risk desk"}}},
}


def takes(body: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` of a route with this body."""
    schema = {"$ref": _REF.format(model=body.__name__)}
    content = {"application/json": {"schema": schema, "examples": EXAMPLES[body]}}
    return {"requestBody": {"required": True, "content": content}}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route: what it may refuse with."""
    return {
        status: {"model": FaultAnswer, "description": HTTPStatus(status).phrase}
        for status in statuses
    }


def describe(app: FastAPI) -> None:
    """Make `app.openapi()` complete."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title, version=app.version, summary=app.summary, routes=app.routes
            )
            _, bodies = models_json_schema(
                [(body, "validation") for body in EXAMPLES], ref_template=_REF
            )
            document["components"]["schemas"] |= bodies["$defs"]
            scheme = {"type": "http", "scheme": "bearer", "description": "HFTLIB_TOKEN"}
            document["components"]["securitySchemes"] = {"token": scheme}
            for path in document["paths"].values():
                for operation in path.values():
                    if "401" in operation["responses"]:
                        operation["security"] = [{"token": []}]
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
