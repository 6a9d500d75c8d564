"""Rows of the event store of one simulated session, as columns."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hftlib.sessions import account as acc
from hftlib.sessions.buttons import number_sequences
from hftlib.sessions.client import BUTTONS, FIRST_ACTION, NEVER
from hftlib.sessions.event_rows import decimal_texts, iso_times
from hftlib.sessions.frames import ACTION, BUTTON, Frame, fill_frame
from hftlib.sessions.journal import BOUGHT, STAKED, Recording, Table
from hftlib.sessions.rounds import SETTLEMENT
from hftlib.sessions.session_texts import SessionTexts, numbers, quoted
from hftlib.sessions.vocabulary import (
    BUTTON_CATEGORIES,
    BUTTON_EVENT,
    COMPLETE_GAME,
    PLAYER_ACTION,
    WS_EVENT,
)

Columns = dict[str, Any]
IntArray = npt.NDArray[np.int64]

ACTION_TYPES: Final = pa.array(["buy", "sell", "sidebet"])  # of BOUGHT, SOLD, STAKED
CATEGORIES: Final = pa.array([BUTTON_CATEGORIES[name] for name in BUTTONS])


class SessionRows:
    """Rows of four kinds: wire events, presses, executed orders, complete games.

    They are numbered together in the order of their times; at equal times in
    this order of kinds.

    Parameters
    ----------
    session_id, player_id, username : str
        The recording client, and its player, whose behaviour is the username.
    begin_us : int
        When the client connected, since the epoch.
    fee : float
        That the server took.
    recording : Recording
    texts : SessionTexts
    """

    def __init__(
        self,
        session_id: str,
        player_id: str,
        username: str,
        begin_us: int,
        fee: float,
        recording: Recording,
        texts: SessionTexts,
    ) -> None:
        self._same = {"session_id": session_id, "player_id": player_id, "username": username}
        self._begin_us, self._fee = begin_us, fee
        self._recording, self._texts = recording, texts
        log, events = recording.log, recording.events
        is_event = log["event"] >= 0
        messages = recording.messages
        self._actions = np.flatnonzero((messages["kind"] >= BOUGHT) & (messages["kind"] <= STAKED))
        event = log["event"][is_event]
        is_end = (events["kind"][event] == SETTLEMENT) & (events["game"][event] > 0)
        self._ended = events["game"][event[is_end]] - 1
        self._times = (
            log["ts_us"],
            recording.presses["press_us"],
            log["ts_us"][~is_event][self._actions],
            log["ts_us"][is_event][is_end],
        )
        self._seqs = _number(self._times)

    @property
    def n_events(self) -> int:
        """Number of wire events."""
        return len(self._times[0])

    def wire_columns(self, begin: int, end: int) -> Columns:
        """Wire events `begin` to `end` of the log."""
        text, name, game_id = self._texts.log_rows(begin, end)
        return self._columns(
            WS_EVENT, slice(begin, end), raw_json=text, event_name=name, game_id=game_id
        )

    def press_columns(self) -> Columns:
        """Presses of buttons, with what became of them."""
        presses = self._recording.presses
        ids = pa.array(BUTTONS).take(pa.array(presses["button"]))
        categories = CATEGORIES.take(pa.array(presses["button"]))
        game_ids = self._texts.game_ids.take(pa.array(presses["game"]))
        sequence, position = number_sequences(
            1000 * presses["press_us"], presses["game"], presses["button"] >= FIRST_ACTION
        )
        session = self._same["session_id"]
        sequence_ids = pc.binary_join_element_wise(session, numbers(sequence), "-")
        is_executed = pa.array(presses["executed_tick"] >= 0)
        answer_us = np.where(presses["answer_us"] == NEVER, 0, presses["answer_us"])
        answered = {
            "server_ts": quoted(self._stamps(answer_us)),
            "execution_tick": numbers(presses["executed_tick"]),
            "execution_price": numbers(presses["executed_price"]),
            "trade_id": quoted(self._texts.message_ids(presses["message"].astype(np.int64))),
            "latency_ms": numbers((answer_us - presses["press_us"]) / 1000),
        }
        slots = {name: pc.if_else(is_executed, text, "null") for name, text in answered.items()}
        slots |= {
            "ts": quoted(self._stamps(presses["press_us"])),
            "button_id": quoted(ids),
            "button_category": quoted(categories),
            "game_id": quoted(game_ids),
            "sequence_id": quoted(sequence_ids),
            "sequence_position": numbers(position),
            "client_ms": numbers((self._begin_us + presses["press_us"]) // 1000),
        }

        return self._columns(
            BUTTON_EVENT,
            slice(None),
            raw_json=_fill(BUTTON, slots, presses),
            game_id=game_ids,
            price=decimal_texts(presses["price"]),
            tick=presses["tick"].astype(np.int64),
            cash=decimal_texts(presses["balance"]),
            position_qty=decimal_texts(presses["qty"]),
            button_id=ids,
            button_category=categories,
            sequence_id=sequence_ids,
            sequence_position=position,
        )

    def action_columns(self) -> Columns:
        """Executed orders of the player; `amount` is the SOL paid, received or staked."""
        done = self._recording.messages[self._actions]
        kinds = ACTION_TYPES.take(pa.array(done["kind"] - BOUGHT))
        game_ids = self._texts.game_ids.take(pa.array(done["game"]))
        traded = np.where(done["kind"] == BOUGHT, done["amount"], done["qty"] * done["price"])
        slots = {
            "id": quoted(self._texts.message_ids(self._actions)),
            "game_id": quoted(game_ids),
            "player_id": f'"{self._same["player_id"]}"',
            "type": quoted(kinds),
            "fee": numbers(self._fee * traded),
        }
        return self._columns(
            PLAYER_ACTION,
            slice(None),
            raw_json=_fill(ACTION, slots, done),
            game_id=game_ids,
            price=decimal_texts(done["price"]),
            tick=done["tick"].astype(np.int64),
            action_type=kinds,
            cash=decimal_texts(done["account"][:, acc.CASH]),
            position_qty=decimal_texts(done["account"][:, acc.QTY]),
        )

    def game_columns(self) -> Columns:
        """Complete games, at the first event whose `gameHistory` lists them."""
        return self._columns(
            COMPLETE_GAME,
            slice(None),
            raw_json=self._texts.played_records.take(pa.array(self._ended)),
            game_id=self._texts.game_ids.take(pa.array(self._ended)),
        )

    def _columns(self, doc_type: str, rows: slice, **columns: Any) -> Columns:
        place = (WS_EVENT, BUTTON_EVENT, PLAYER_ACTION, COMPLETE_GAME).index(doc_type)
        times, seqs = self._times[place][rows], self._seqs[place][rows]
        source, direction = ("ui", "sent") if doc_type == BUTTON_EVENT else ("cdp", "received")
        same = self._same | {"doc_type": doc_type, "source": source, "direction": direction}
        constant = {name: pa.repeat(text, len(times)) for name, text in same.items()}
        return {"seq": seqs, "ts": self._stamps(times), **constant, **columns}

    def _stamps(self, us: IntArray) -> pa.Array:
        return iso_times(1000 * (self._begin_us + us))


def _fill(frame: Frame, slots: Mapping[str, pa.Array | str], table: Table) -> pa.Array:
    """JSON of the rows of a table; a slot that `slots` lacks holds the numbers of its column."""
    return fill_frame(
        frame, lambda name: slots[name] if name in slots else numbers(table[name]), len(table)
    )


def _number(times: tuple[IntArray, ...]) -> list[IntArray]:
    """Places of all times in order, from 1, one array for each of `times`."""
    joined = np.concatenate(times)
    seqs = np.empty(len(joined), dtype=np.int64)
    seqs[np.argsort(joined, kind="stable")] = np.arange(1, len(joined) + 1)
    return np.split(seqs, np.cumsum([len(each) for each in times])[:-1])
