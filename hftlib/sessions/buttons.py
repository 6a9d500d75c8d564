"""Button presses: one recorded press, its row in the store, and sequences of presses.

A press is what the player did on the screen's state of that moment; what the
server made of it is known later and is null until then.

Source: the origin's ButtonEvent, event-store schema 1.0.0.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from hftlib.sessions.event_rows import IntArray, decimal_text, parse_time, parse_times
from hftlib.sessions.vocabulary import ACTION_BUTTONS, BUTTON_CATEGORIES, BUTTON_EVENT

SEQUENCE_NS: Final = 5_000_000_000  # of silence, after which the next press begins a sequence

Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0)]


class ButtonEvent(BaseModel):
    """One press. Prices are multiples, amounts SOL, times ISO 8601 unless in ms."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    ts: str = Field(description="time of the press at the client")
    server_ts: str | None = Field(None, description="time the answer reached the client")
    button_id: str
    button_category: str
    tick: Count = Field(description="on the client's screen at the press")
    price: Amount = Field(description="on the client's screen at the press")
    game_phase: int = Field(ge=0, le=3)
    game_id: str
    balance: Amount
    position_qty: Amount = Field(description="tokens held")
    bet_amount: Amount = Field(description="after the press")
    ticks_since_last_action: Count = 0
    sequence_id: str | None = None
    sequence_position: Count | None = Field(None, description="place in the sequence, from 0")
    execution_tick: Count | None = None
    execution_price: Amount | None = None
    trade_id: str | None = None
    client_timestamp: int = Field(description="time of the press, ms since the epoch")
    latency_ms: float | None = Field(None, description="from press to answer")
    time_in_position: Count = Field(0, description="ticks")

    @field_validator("ts", "server_ts")
    @classmethod
    def _check_time(cls, text: str | None) -> str | None:
        if text is not None:
            parse_time(text)
        return text

    @model_validator(mode="after")
    def _check_category(self) -> Self:
        category = BUTTON_CATEGORIES.get(self.button_id)
        if category is None:
            raise ValueError(
                f"button_id={self.button_id!r}: expected one of {', '.join(BUTTON_CATEGORIES)}"
            )
        if category != self.button_category:
            raise ValueError(
                f"button_category={self.button_category!r}: {self.button_id} is of {category!r}"
            )
        return self

    def to_row(
        self, *, seq: int, session_id: str, source: str = "ui", player_id: str | None = None
    ) -> dict[str, Any]:
        """Row of the store, for `EventWriter.write`."""
        fields = self.model_dump()
        return {
            "seq": seq,
            "ts": self.ts,
            "source": source,
            "doc_type": BUTTON_EVENT,
            "session_id": session_id,
            "direction": "sent",
            "raw_json": json.dumps(fields, separators=(",", ":"), allow_nan=False),
            "game_id": self.game_id,
            "player_id": player_id,
            "price": decimal_text(self.price),
            "tick": self.tick,
            "cash": decimal_text(self.balance),
            "position_qty": decimal_text(self.position_qty),
            "button_id": self.button_id,
            "button_category": self.button_category,
            "sequence_id": self.sequence_id,
            "sequence_position": self.sequence_position,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The press of a row, from its `raw_json`.

        Raises
        ------
        pydantic.ValidationError
            If a field is missing, unknown, out of bounds or of a wrong type.
        """
        return cls.model_validate_json(row["raw_json"])


def number_sequences(
    ts_ns: IntArray, game: IntArray, is_action: npt.NDArray[np.bool_]
) -> tuple[IntArray, IntArray]:
    """Sequence of every press of a session, and its position there, both counted from 0.

    A sequence ends on its action button, at a press of another game, and after
    more than 5 s without a press.

    Parameters
    ----------
    ts_ns, game, is_action : arrays of shape (n,)
        Presses in order: time, a code of the game, whether it is BUY, SELL or SIDEBET.

    Returns
    -------
    sequence, position : int64 arrays of shape (n,)
    """
    begins = np.ones(len(ts_ns), dtype=bool)
    begins[1:] = is_action[:-1] | (np.diff(game) != 0) | (np.diff(ts_ns) > SEQUENCE_NS)
    starts = np.flatnonzero(begins)
    sequence = np.cumsum(begins, dtype=np.int64) - 1
    return sequence, np.arange(len(ts_ns)) - starts[sequence]


def assign_sequences(presses: Sequence[ButtonEvent], session_id: str) -> list[ButtonEvent]:
    """The presses of one session, in order, with `sequence_id` and `sequence_position`.

    Ids are `<session_id>-<number of the sequence, from 0>`; see `number_sequences`.
    """
    games: dict[str, int] = {}
    sequence, position = number_sequences(
        parse_times(pa.array([press.ts for press in presses], pa.string())),
        np.array([games.setdefault(p.game_id, len(games)) for p in presses], dtype=np.int64),
        np.array([press.button_id in ACTION_BUTTONS for press in presses], dtype=bool),
    )
    return [
        press.model_copy(
            update={"sequence_id": f"{session_id}-{number}", "sequence_position": place}
        )
        for press, number, place in zip(presses, sequence.tolist(), position.tolist(), strict=True)
    ]
