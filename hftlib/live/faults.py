"""Refusals of the service: a status, a code, what was wrong, what to do, which fields.

One shape for every answer that is no success, so that a client has one branch.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

MAX_FIELDS = 20  # faulty fields that one answer names
MAX_SHOWN = 80  # characters of a received value


class FieldFault(NamedTuple):
    """One faulty field: its path, as `items[2].bars[0].close`, and what is wrong with it."""

    field: str
    message: str
    received: str = ""


class ServiceFault(Exception):  # noqa: N818 - most of them are the client's
    """A request that is refused.

    Parameters
    ----------
    status : int
        HTTP status, 400 to 599.
    code : str
        Stable name for programs.
    message, remedy : str
        What was expected and received; what to do.
    fields : sequence of FieldFault
    retry_after_s : int, optional
        When it is worth another try.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        remedy: str,
        fields: Sequence[FieldFault] = (),
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(f"{message}; {remedy}")
        self.status = status
        self.code = code
        self.message = message
        self.remedy = remedy
        self.fields = tuple(fields)
        self.retry_after_s = retry_after_s

    def headers(self) -> dict[str, str]:
        """Those that HTTP prescribes for the status."""
        headers = {}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(self.retry_after_s)
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return headers

    def response(self, request_id: str) -> Response:
        """The answer that says it."""
        error = {
            "code": self.code,
            "message": printable(self.message),
            "remedy": self.remedy,
            "fields": [fault._asdict() for fault in self.fields],
        }
        body = orjson.dumps({"error": error, "request_id": request_id})
        return Response(body, self.status, self.headers(), "application/json")


class FieldAnswer(BaseModel):
    """One faulty field."""

    model_config = ConfigDict(title="FaultyField")
    field: str = Field(description="path, as items[2].bars[0].close")
    message: str = Field(description="what was expected")
    received: str = Field(description="what came, shortened")


class ErrorAnswer(BaseModel):
    """Why a request was refused."""

    code: str = Field(description="stable name for programs", examples=["invalid_request"])
    message: str = Field(examples=["1 field is not valid"])
    remedy: str = Field(examples=["correct it and send the request again"])
    fields: list[FieldAnswer]


class FaultAnswer(BaseModel):
    """Every answer that is no success."""

    error: ErrorAnswer
    request_id: str


def printable(text: str) -> str:
    """Text that UTF-8 can carry: half a surrogate pair becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


def shorten(value: Any) -> str:
    """A received value in a few characters."""
    if isinstance(value, dict | list):
        return f"{'object' if isinstance(value, dict) else 'array'} of {len(value)}"
    text = printable(repr(value) if isinstance(value, str) else str(value))
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}... ({len(text)} characters)"
