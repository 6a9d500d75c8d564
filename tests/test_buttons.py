"""Button presses: their rows, and the sequences that they form."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hftlib.sessions.buttons import (
    SEQUENCE_NS,
    ButtonEvent,
    assign_sequences,
    number_sequences,
)
from hftlib.sessions.event_rows import iso_time
from hftlib.sessions.reader import EventReader
from hftlib.sessions.store import EventWriter
from hftlib.sessions.vocabulary import ACTION_BUTTONS, BUTTON_CATEGORIES, BUTTON_EVENT
from tests.session_cases import START, read_rows

SECOND = 10**9
FINITE = st.floats(0, 1e300)
COUNTS = st.integers(0, 2**53)


def press(button_id="BUY", seconds=0.0, game_id="g", **changes):
    ns = START + round(seconds * SECOND)
    fields = {
        "ts": iso_time(ns),
        "button_id": button_id,
        "button_category": BUTTON_CATEGORIES.get(button_id, "action"),
        "tick": 4,
        "price": 1.25,
        "game_phase": 2,
        "game_id": game_id,
        "balance": 2.0,
        "position_qty": 0.0,
        "bet_amount": 0.01,
        "client_timestamp": ns // 1_000_000,
    }
    return ButtonEvent(**fields | changes)


def sequences(presses):
    return [(p.sequence_id, p.sequence_position) for p in assign_sequences(presses, "s")]


PRESSES = st.builds(
    press,
    st.sampled_from(list(BUTTON_CATEGORIES)),
    seconds=st.floats(0, 1e5),
    game_id=st.text(st.characters(codec="utf-8"), max_size=8),
    server_ts=st.none() | st.just(iso_time(START)),
    tick=COUNTS,
    price=FINITE,
    game_phase=st.integers(0, 3),
    balance=FINITE,
    position_qty=FINITE,
    bet_amount=FINITE,
    ticks_since_last_action=COUNTS,
    execution_tick=st.none() | COUNTS,
    execution_price=st.none() | FINITE,
    trade_id=st.none() | st.text(st.characters(codec="utf-8"), max_size=8),
    latency_ms=st.none() | st.floats(-1e9, 1e9),
    time_in_position=COUNTS,
)


@settings(max_examples=30)
@given(st.lists(PRESSES, min_size=1, max_size=5))
def test_presses_come_back_from_the_store_as_they_went_in(tmp_path_factory, presses):
    root = tmp_path_factory.mktemp("store")
    presses = assign_sequences(presses, "s")
    with EventWriter(root, "s") as writer:
        for seq, event in enumerate(presses):
            writer.write(event.to_row(seq=seq, session_id="s", player_id="me"))
    rows = sorted(read_rows(EventReader(root), BUTTON_EVENT), key=lambda row: row["seq"])
    assert [ButtonEvent.from_row(row) for row in rows] == presses
    for row, event in zip(rows, presses, strict=True):
        assert float(row["price"]) == event.price
        assert float(row["cash"]) == event.balance
        assert float(row["position_qty"]) == event.position_qty
        assert (row["tick"], row["button_id"]) == (event.tick, event.button_id)
        assert (row["sequence_id"], row["sequence_position"]) == (
            event.sequence_id,
            event.sequence_position,
        )


@pytest.mark.parametrize(
    "changes",
    [
        {"button_id": "JUMP"},
        {"button_category": "percentage"},
        {"price": float("nan")},
        {"balance": float("inf")},
        {"bet_amount": -1.0},
        {"game_phase": 4},
        {"tick": 1.5},
        {"ts": "noon"},
        {"server_ts": "noon"},
        {"colour": "red"},
    ],
)
def test_press_that_cannot_be_is_refused(changes):
    with pytest.raises(ValidationError, match=next(iter(changes))):
        press(**changes)


def test_sequence_ends_on_its_action_button():
    presses = [press("INC_01", 0), press("INC_01", 1), press("BUY", 2), press("SELL", 3)]
    assert sequences(presses) == [("s-0", 0), ("s-0", 1), ("s-0", 2), ("s-1", 0)]


def test_sequence_ends_after_five_seconds_of_silence():
    presses = [press("INC_01", t) for t in (0, 4, 9, 14.001, 15)]
    assert [position for _, position in sequences(presses)] == [0, 1, 2, 0, 1]


def test_sequence_ends_with_the_game():
    presses = [press("HALF"), press("HALF", game_id="h"), press("BUY", game_id="h"), press("MAX")]
    assert sequences(presses) == [("s-0", 0), ("s-1", 0), ("s-1", 1), ("s-2", 0)]


def test_percentage_button_ends_no_sequence():
    assert [p for _, p in sequences([press("SELL_25"), press("SELL"), press("SELL_50")])] == [
        0,
        1,
        0,
    ]


def test_no_presses_form_no_sequence():
    assert assign_sequences([], "s") == []


@given(
    st.lists(
        st.tuples(st.integers(-2, 9), st.integers(0, 1), st.sampled_from(list(BUTTON_CATEGORIES))),
        max_size=30,
    )
)
def test_sequences_agree_with_their_definition(steps):
    ts = np.cumsum([gap * SECOND for gap, _, _ in steps], dtype=np.int64)
    game = np.array([g for _, g, _ in steps], dtype=np.int64)
    is_action = np.array([button in ACTION_BUTTONS for _, _, button in steps], dtype=bool)
    sequence, position = number_sequences(ts, game, is_action)
    number, place = -1, 0
    for k in range(len(steps)):
        is_next = k > 0 and not is_action[k - 1] and game[k] == game[k - 1]
        if is_next and ts[k] - ts[k - 1] <= SEQUENCE_NS:
            place += 1
        else:
            number, place = number + 1, 0
        assert (sequence[k], position[k]) == (number, place)
