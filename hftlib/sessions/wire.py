"""Wire events as recorders keep them: envelopes, traces and lost payloads.

Events with two arguments arrive as `[{"__trace": true, "traceparent": …},
payload]`; some recorders kept the trace and dropped the payload. An event is
recorded as `{event, data}`, `{event_name, data}`, or flat as
`{game_id, tick, price, rugged}`, which says `gameStateUpdate` in other names.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from hftlib.sessions.vocabulary import GAME_STATE

Payload = dict[str, Any]

TRACE: Final = "__trace"
WITHOUT_DATA: Final = frozenset({"connect", "disconnect"})
WIRE_NAMES: Final = {
    "game_id": "gameId",
    "tick": "tickCount",
    "cooldown_timer": "cooldownTimer",
    "allow_pre_round_buys": "allowPreRoundBuys",
    "connected_players": "connectedPlayers",
    "trade_count": "tradeCount",
}


class Unwrapped(NamedTuple):
    """What is left of an event's data without its trace.

    payload : dict, or None if it was lost or is of another form
    is_lost : bool, the event had data that the recorder did not keep
    """

    payload: Payload | None
    is_lost: bool


def unwrap(data: Any, event_name: str | None = None) -> Unwrapped:
    """The payload of an event's data; of a list, its last object that is no trace.

    Data that is null counts as lost, unless the event is known to have none.
    """
    if data is None or data == []:
        return Unwrapped(None, event_name not in WITHOUT_DATA)
    parts = data if isinstance(data, list) else [data]
    kept = [part for part in parts if not (isinstance(part, dict) and TRACE in part)]
    payloads = [part for part in kept if isinstance(part, dict)]
    return Unwrapped(payloads[-1] if payloads else None, not kept)


def read_event(event: Mapping[str, Any]) -> tuple[str, Payload | None]:
    """Name and payload, in the wire's names, of an event of any shape.

    Raises
    ------
    ValueError
        If it has neither a name nor the fields of the flat shape.
    """
    name = event.get("event", event.get("event_name"))
    if isinstance(name, str):
        return name, _with_wire_names(unwrap(event.get("data"), name).payload)
    if "game_id" in event and "price" in event:
        return GAME_STATE, _with_wire_names(dict(event))
    raise ValueError(
        f"event with the keys {sorted(event)}: expected event or event_name beside data, "
        "or the flat game_id, tick, price, rugged"
    )


def _with_wire_names(payload: Payload | None) -> Payload | None:
    if payload is None or "game_id" not in payload:
        return payload
    return {WIRE_NAMES.get(name, name): value for name, value in payload.items()}
