"""Parts of the bodies that clients send: bars, snapshots of the book, an order of their own.

Types are strict, and what a type cannot say is checked here; see `requests`.
"""

import math
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetPydanticSchema,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from hftlib.live.protocols import Bar

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST = datetime(1800, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)  # int64 nanoseconds end in 2262
MAX_PRICE = 1e12
MAX_VOLUME = 1e18


def read_ts(text: str) -> int:
    """Nanoseconds since 1970 of an ISO 8601 time with an offset, to the microsecond."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise PydanticCustomError(
            "ts", "expected an ISO 8601 time with an offset, as 2022-12-28T00:00:00Z"
        )
    if not EARLIEST <= moment <= LATEST:
        raise PydanticCustomError("ts", "expected a time between 1800 and 2200")
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000


class Strict(BaseModel):
    """Unknown keys, other types, nan and infinity are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def _schema_of_ts(source: Any, handler: Any) -> CoreSchema:
    text = core_schema.str_schema(strict=True, max_length=40)
    return core_schema.no_info_after_validator_function(read_ts, text)


Moment = Annotated[
    int, GetPydanticSchema(_schema_of_ts), WithJsonSchema({"type": "string", "format": "date-time"})
]
Price = Annotated[float, Field(gt=0, le=MAX_PRICE)]
Text = Annotated[
    str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9^][A-Za-z0-9 ._:/^=-]*$")
]
Level = Annotated[list[Annotated[int, Field(ge=0, le=2**53)]], Field(min_length=1, max_length=50)]


class BarBody(Strict):
    """One bar."""

    ts: Moment = Field(
        description="start of the bar, ISO 8601 with an offset", examples=["2022-12-28T00:00:00Z"]
    )
    open: Price
    high: Price
    low: Price
    close: Price
    volume: Annotated[float, Field(ge=0, le=MAX_VOLUME)] | None = Field(
        None, description="traded units; null where the source has none"
    )

    @model_validator(mode="after")
    def _in_range(self) -> Self:
        if not self.low <= min(self.open, self.close) <= max(self.open, self.close) <= self.high:
            raise PydanticCustomError("bar", "open and close must lie between low and high")
        return self

    def to_bar(self) -> Bar:
        """Plain numbers for the model."""
        volume = math.nan if self.volume is None else self.volume
        return Bar(self.ts, self.open, self.high, self.low, self.close, volume)


class SnapshotBody(Strict):
    """The order book at one time, best price first."""

    ts: int = Field(ge=0, le=2**62, description="nanoseconds since 1970, UTC")
    bid_px: Level = Field(description="prices in ticks")
    bid_qty: Level = Field(description="sizes in lots")
    ask_px: Level
    ask_qty: Level
    traded_qty: Annotated[int, Field(ge=0, le=2**53)] | None = Field(
        None, description="lots traded by all since the snapshot before; null if not known"
    )

    @model_validator(mode="after")
    def _is_book(self) -> Self:
        n_levels = {len(side) for side in (self.bid_px, self.bid_qty, self.ask_px, self.ask_qty)}
        if len(n_levels) != 1:
            raise PydanticCustomError("book", "the four lists must be of one length")
        if self.bid_px[0] >= self.ask_px[0]:
            raise PydanticCustomError("book", "the best bid must lie below the best ask")
        return self


class StateBody(Strict):
    """The client's own order, for models that work one; `/model/info` names what they need."""

    side: Literal["buy", "sell"]
    remaining_lots: Annotated[int, Field(ge=0, le=2**53)] = Field(
        description="of the parent order, not yet traded"
    )
    resting_price: Annotated[int, Field(ge=1, le=2**53)] | None = Field(
        None, description="of the own order in the book, ticks; null without one"
    )
    resting_lots: Annotated[int, Field(ge=0, le=2**53)] = 0

    @model_validator(mode="after")
    def _is_order(self) -> Self:
        if (self.resting_price is None) != (self.resting_lots == 0):
            raise PydanticCustomError(
                "state", "resting_price and resting_lots belong together: give both or neither"
            )
        return self
