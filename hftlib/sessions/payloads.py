"""What is read of the wire's payloads, and what is refused.

A payload is checked field by field: a field of a wrong type (true is no number,
1 is no truth value, "1" is neither), not finite or beyond float32 is left out
and named; the rest of the payload counts. Null is the same as absent. A checked
payload becomes a row of numbers, nan where nothing was said, which is what the
scanner of whole batches (`columns`) yields too.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hftlib.sessions.vocabulary import GAME_PLAYER_STATE, GAME_STATE, PLAYER_STATE

FLOAT32_MAX: Final = float(np.finfo(np.float32).max)
TICK_END: Final = 2**24  # the first tick that float32 cannot tell from its neighbour

Number = Annotated[float, Field(ge=-FLOAT32_MAX, le=FLOAT32_MAX, allow_inf_nan=False)]
Tick = Annotated[int, Field(ge=0, lt=TICK_END)]
Values = npt.NDArray[np.float64]

# kinds of event
GAME_UPDATE, PLAYER_UPDATE, RUGPOOL_UPDATE = range(3)
KINDS: Final = {
    GAME_STATE: GAME_UPDATE,
    PLAYER_STATE: PLAYER_UPDATE,
    GAME_PLAYER_STATE: RUGPOOL_UPDATE,
}

# columns of a row of values; those from BALANCE to HIGHEST are features 9 to 22 in this order
TICK, PRICE, TIMER, ALLOWS_PRESALE, IS_ACTIVE, IS_RUGGED, CONNECTED = range(7)
BALANCE, QTY, AVG_PRICE, PNL, INVESTED = range(7, 12)
POOL_AMOUNT, POOL_THRESHOLD, INSTARUGS = range(12, 15)
MULTIPLIER, COUNT_2X, COUNT_10X, COUNT_50X, COUNT_100X, HIGHEST = range(15, 21)
SIDE_BET, SIDE_BETS = range(21, 23)  # 1 where there is one, 0 or nan where none, -1 if refused
N_VALUES = 23
OF_A_TICK: Final = {TICK: "tickCount", PRICE: "price"}  # an active update has them


class _Payload(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class GamePayload(_Payload):
    """`gameStateUpdate`; in a cooldown most fields are absent."""

    tick: Tick | None = Field(None, alias="tickCount")
    price: Number | None = None
    timer: Number | None = Field(None, alias="cooldownTimer", description="ms")
    allows_presale: bool | None = Field(None, alias="allowPreRoundBuys")
    is_active: bool | None = Field(None, alias="active")
    is_rugged: bool | None = Field(None, alias="rugged")
    connected: Number | None = Field(None, alias="connectedPlayers")
    multiplier: Number | None = Field(None, alias="averageMultiplier")
    count_2x: Number | None = Field(None, alias="count2x")
    count_10x: Number | None = Field(None, alias="count10x")
    count_50x: Number | None = Field(None, alias="count50x")
    count_100x: Number | None = Field(None, alias="count100x")
    highest: Number | None = Field(None, alias="highestToday")


class PlayerPayload(_Payload):
    """`playerUpdate`; each says the whole of the player's side bets."""

    balance: Number | None = Field(None, alias="cash", description="SOL")
    qty: Number | None = Field(None, alias="positionQty", description="tokens")
    avg_price: Number | None = Field(None, alias="avgCost")
    pnl: Number | None = Field(None, alias="cumulativePnL", description="SOL, this game")
    invested: Number | None = Field(None, alias="totalInvested", description="SOL")
    side_bet: dict[str, Any] | None = Field(None, alias="sideBet")
    side_bets: list[Any] | None = Field(None, alias="sidebets")


class RugpoolPayload(_Payload):
    """`rugpool` of whichever payload carries it."""

    pool_amount: Number | None = Field(None, alias="rugpoolAmount")
    pool_threshold: Number | None = Field(None, alias="threshold")
    instarugs: Number | None = Field(None, alias="instarugCount")


class WireField(NamedTuple):
    """A field that is read: its name on the wire, its column in a row of values, its type."""

    name: str
    column: int
    type: Any


def wire_fields(model: type[_Payload]) -> tuple[WireField, ...]:
    """Fields of a model; the column of `tick` is TICK, and so on."""
    return tuple(
        WireField(field.alias or name, globals()[name.upper()], field.annotation)
        for name, field in model.model_fields.items()
    )


class ReadPayload(NamedTuple):
    """values : float64 (N_VALUES,), nan where nothing was said; refused : names on the wire."""

    values: Values
    refused: tuple[str, ...]


def read_payload(kind: int, payload: Mapping[str, Any]) -> ReadPayload:
    """Numbers in the payload of one event of kind `KINDS[name]`."""
    values = np.full(N_VALUES, np.nan)
    refused: list[str] = []
    if kind == GAME_UPDATE:
        refused += _read_fields(GamePayload, payload, values)
    elif kind == PLAYER_UPDATE:
        refused += _read_fields(PlayerPayload, payload, values)
    rugpool = payload.get("rugpool")
    if isinstance(rugpool, Mapping):
        refused += [f"rugpool.{name}" for name in _read_fields(RugpoolPayload, rugpool, values)]
    elif rugpool is not None:
        refused.append("rugpool")
    return ReadPayload(values, tuple(refused))


def find_missing(kinds: npt.NDArray[np.int8], values: Values) -> list[tuple[int, str]]:
    """Updates that call the round active and lack its tick or price: their positions, and which.

    Parameters
    ----------
    kinds, values : arrays of shape (n,) and (n, N_VALUES)
    """
    is_active = (kinds == GAME_UPDATE) & (values[:, IS_ACTIVE] > 0.0)
    return [
        (int(k), name)
        for column, name in OF_A_TICK.items()
        for k in np.flatnonzero(is_active & np.isnan(values[:, column]))
    ]


Model = TypeVar("Model", bound=BaseModel)


def check_fields(model: type[Model], payload: Mapping[str, Any]) -> tuple[Model, list[str]]:
    """The payload without the fields that are refused, and their names."""
    try:
        return model.model_validate(payload), []
    except ValidationError as error:
        refused = list(dict.fromkeys(str(fault["loc"][0]) for fault in error.errors()))
    good = {name: value for name, value in payload.items() if name not in refused}
    return model.model_validate(good), refused


def _read_fields(model: type[_Payload], payload: Mapping[str, Any], values: Values) -> list[str]:
    """Write the payload's good fields into `values`; the names of the others."""
    checked, refused = check_fields(model, payload)
    for (_, column, _), (_, value) in zip(FIELDS[model], checked, strict=True):
        if isinstance(value, dict):
            values[column] = 1.0
        elif isinstance(value, list):
            values[column] = len(value) > 0
        elif value is not None:
            values[column] = value + 0.0  # makes -0.0 an ordinary zero
    for name, column, _ in FIELDS[model]:
        if column >= SIDE_BET and name in refused:
            values[column] = -1.0
    return refused


FIELDS: Final[dict[type[BaseModel], tuple[WireField, ...]]] = {
    model: wire_fields(model) for model in (GamePayload, PlayerPayload, RugpoolPayload)
}
