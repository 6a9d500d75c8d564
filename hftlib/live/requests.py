"""What clients send: models of the bodies, and one pass from bytes to checked values.

pydantic's core reads the JSON itself and checks as it reads (2.4 us for a symbol
with one bar), so there is no second, hand-written validation. Types are strict:
"1.5" is no number, and nan and infinity are none either. What a type cannot say
(the order of bars, a price above the high) is checked here and named by field.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypeVar

from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from hftlib.live.faults import MAX_FIELDS, FieldFault, ServiceFault, shorten
from hftlib.live.protocols import NAME, Bar
from hftlib.live.rows import BarBody, SnapshotBody, StateBody, Strict, Text

LARGE_BYTES = 2**16  # some 4 ms to read
Body = TypeVar("Body", bound=BaseModel)


class SymbolBody(Strict):
    """One symbol: one of `bars`, `window` and `snapshots`, or none for its stream as it is."""

    symbol: Text = Field(examples=["NASDAQ"])
    bars: list[BarBody] | None = Field(
        None,
        min_length=1,
        description="the newest bars, which go on the symbol's stream; needs the token",
    )
    window: list[BarBody] | None = Field(
        None, min_length=1, description="a whole window of bars; no stream is read or changed"
    )
    snapshots: list[SnapshotBody] | None = Field(
        None, min_length=1, description="a whole window of the book, for models that take the book"
    )
    state: StateBody | None = Field(
        None, description="the client's own order, for models that work one; with snapshots alone"
    )
    position: float = Field(0.0, ge=-1, le=1, description="1 long, 0 none, -1 short")
    exposure: float = Field(
        0.0, ge=-100, le=100, description="what is held now, signed share of equity"
    )

    key: str | None = Field(
        None,
        pattern=r"^[ -~]{1,64}$",
        description="who asks: a key always meets the same model, see `/routing`; null: the symbol",
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if sum(rows is not None for rows in (self.bars, self.window, self.snapshots)) > 1:
            raise PydanticCustomError("rows", "give one of bars, window and snapshots")
        if self.state is not None and self.snapshots is None:
            raise PydanticCustomError("state", "state is for snapshots; give them, or leave it out")
        if (self.position > 0) != (self.exposure > 0) or (self.position < 0) != (self.exposure < 0):
            raise PydanticCustomError("sign", "position and exposure must have one sign")
        return self

    @property
    def rows(self) -> list[BarBody] | list[SnapshotBody]:
        """Whichever was given; empty for a question about the stream as it is."""
        return self.bars or self.window or self.snapshots or []

    @property
    def is_window(self) -> bool:
        """Whether everything is to be computed from a whole history."""
        return bool(self.window or self.snapshots)

    @property
    def routing_key(self) -> str:
        """What always meets the same model."""
        return self.symbol if self.key is None else self.key

    def to_bars(self) -> list[Bar]:
        """The newest bars for the model."""
        return [body.to_bar() for body in self.bars or ()]

    @property
    def field(self) -> str:
        """Name of the field that holds the rows."""
        return "snapshots" if self.snapshots else "window" if self.window else "bars"


class BatchBody(Strict):
    """Several symbols at once; either all are answered or none, and then no stream changes."""

    items: list[SymbolBody] = Field(min_length=1)


class ActivateBody(Strict):
    """A registered model."""

    name: str = Field(
        pattern=NAME,
        description="as `/models` lists it",
        examples=["ppo"],
    )


class BacktestBody(Strict):
    """A backtest of a registered model on the recorded bars."""

    model: str | None = Field(None, pattern=NAME, description="null for the active one")
    split: str = Field(
        "val", pattern="^(val|test)$", description="span of the dataset; a look at test is logged"
    )
    symbols: list[Text] | None = Field(
        None, min_length=1, max_length=500, description="null for all"
    )


class HaltBody(Strict):
    """Why paper trading is stopped, and whether its positions are closed as well."""

    reason: str = Field(min_length=1, max_length=200, examples=["dead feed"])
    flatten: bool = False


class ResumeBody(Strict):
    """Who decided that paper trading goes on."""

    who: str = Field(min_length=1, max_length=100, examples=["risk desk"])


def read_body(model: type[Body], raw: bytes) -> Body:
    """A checked body.

    Raises
    ------
    ServiceFault
        400 if it is no JSON, 422 with each faulty field otherwise.
    """
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False)
    first = faults[0]
    if first["type"] == "json_invalid":
        raise ServiceFault(400, "not_json", first["msg"], "send a JSON object in UTF-8")
    fields = [
        FieldFault(name_field(fault["loc"]), fault["msg"], shorten(fault["input"]))
        for fault in faults[:MAX_FIELDS]
    ]
    raise refuse_fields(fields, len(faults))


class BodyReader:
    """Reads bodies; large ones on a thread of its own, while the event loop answers others.

    Parameters
    ----------
    limit_s : float
        Longest time for a large one, from its arrival.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="reader")

    async def read(self, model: type[Body], raw: bytes) -> Body:
        """As `read_body`; a `ServiceFault` with 504 if larger ones leave it no time."""
        if len(raw) <= LARGE_BYTES:
            return read_body(model, raw)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._limit_s):
                return await loop.run_in_executor(self._pool, read_body, model, raw)
        except TimeoutError:
            said = f"the body was not read within {self._limit_s:g} s: others wait before it"
            raise ServiceFault(
                504, "too_slow", said, "send fewer rows, or again later", retry_after_s=1
            ) from None

    def close(self) -> None:
        """Read no more."""
        self._pool.shutdown(cancel_futures=True)


def refuse_fields(fields: list[FieldFault], n_faults: int | None = None) -> ServiceFault:
    """422 that names the fields."""
    count = len(fields) if n_faults is None else n_faults
    said = f"{count} field{'s are' if count > 1 else ' is'} not valid: "
    said += f"{fields[0].field}: {fields[0].message}"
    return ServiceFault(422, "invalid_request", said, "correct and send again", fields)


def name_field(loc: tuple[int | str, ...]) -> str:
    """`("items", 2, "close")` as `items[2].close`; `body` for the whole."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return text.removeprefix(".") or "body"
