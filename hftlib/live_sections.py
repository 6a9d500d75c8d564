"""Section of `params.yaml` about the served model and paper trading."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from hftlib.sections import Integer, Name, Number, Section

Above = Annotated[Number, Field(gt=0)]
Count = Annotated[Integer, Field(ge=1)]


class Venue(Section):
    name: Name = Field(description="of a simulated exchange")
    maker_fee_bps: Number = Field(description="of what rests; negative is a rebate; basis points")
    taker_fee_bps: Number = Field(description="of what takes, basis points")
    spread_bps: Annotated[Number, Field(ge=0)] = Field(
        description="between its best prices, basis points"
    )
    level_units: Above = Field(description="size of each level of its book, units")
    latency_ms: Annotated[Number, Field(ge=0)] = Field(
        description="from sending an order to its arrival, ms"
    )


class PaperTrading(Section):
    model: Literal["ensemble", "ppo", "sac", "td3"] = Field(
        description="exported policy that is traded"
    )
    n_bars: Annotated[Integer, Field(ge=30)] = Field(
        description="last bars of the data that are replayed, all unseen in training"
    )
    tick_size: Above = Field(description="smallest step of a price, quote currency")
    lot_size: Above = Field(description="smallest step of a size, units")
    venues: Annotated[tuple[Venue, ...], Field(min_length=1)] = Field(
        description="simulated exchanges, in the order of preference at equal prices"
    )
    book_snapshots: Annotated[Integer, Field(ge=20)] = Field(
        description="of a recorded book, that parent orders are worked in"
    )
    book_units: Above = Field(description="size of each parent order, units")
    drift_bars: Annotated[Integer, Field(ge=30)] = Field(
        description="newest bars that are held against the training bars"
    )
    n_permutations: Annotated[Integer, Field(ge=99)] = Field(
        description="draws behind each p-value of the drift tests"
    )
    n_control_samples: Annotated[Integer, Field(ge=20)] = Field(
        description="samples without drift, and as many with, that the drift tests are tried on"
    )
    level: Annotated[Number, Field(gt=0, lt=0.5)] = Field(
        description="chance of a false alarm of each test and monitor"
    )

    @model_validator(mode="after")
    def _venues_have_names_of_their_own(self) -> "PaperTrading":
        names = [venue.name for venue in self.venues]
        if len(set(names)) < len(names):
            raise ValueError(f"venues are {names}; expected each name once")
        return self
