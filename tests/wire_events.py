"""Made-up wire events and presses, plain and faulty, as rows, batches and payloads."""

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from hftlib.sessions.event_rows import iso_time
from hftlib.sessions.observation import ObservationBuilder
from hftlib.sessions.presses import BUTTONS, NEVER, ROW, Presses
from hftlib.sessions.reader import EventBatch
from hftlib.sessions.vocabulary import GAME_PLAYER_STATE, GAME_STATE, NEW_TRADE, PLAYER_STATE

START_NS = 1_767_323_045_678_901_000
TICK_NS = 250_000_000
TRACE = {"__trace": True, "traceparent": "00-1"}

# one event: session, name, data, time in ns, and its text where that is no JSON
Row = tuple[str, str, Any, int, str | None]


def tick_update(game: str, tick: int, price: float, **fields: Any) -> dict:
    return {"gameId": game, "tickCount": tick, "price": price, "active": True, "rugged": False} | {
        "cooldownTimer": 0,
        "allowPreRoundBuys": False,
        "connectedPlayers": 201,
        **fields,
    }


def rug_update(game: str, tick: int, price: float) -> dict:
    return tick_update(game, tick, price, rugged=True)


def cooldown_update(game: str, timer: int) -> dict:
    return {
        "gameId": game,
        "cooldownTimer": timer,
        "allowPreRoundBuys": timer <= 10_000,
        "leaderboard": [{"username": 'a\\u00e9"}{', "positionQty": 7, "rugpool": None}],
    }


def player_update(cash: float, qty: float = 0.0, **fields: Any) -> dict:
    return {"cash": cash, "positionQty": qty, "sideBet": None, "sidebets": []} | fields


def play(game: str, prices: list[float], after: str | None = None) -> list[tuple[str, dict]]:
    """A whole round: cooldown, ticks, rug, and the second rug event after the next cooldown's."""
    events = [(GAME_STATE, cooldown_update(game, timer)) for timer in (15_000, 10_000, 100)]
    events += [(GAME_STATE, tick_update(game, t, p)) for t, p in enumerate(prices[:-1])]
    events.append((GAME_STATE, rug_update(game, len(prices) - 1, prices[-1])))
    if after is not None:
        events.append((GAME_STATE, cooldown_update(after, 14_900)))
    events.append((GAME_STATE, rug_update(game, len(prices) + 1, prices[-1])))
    return events


def make_rows(
    events: list[tuple[str, Any]], session: str = "s", start_ns: int = START_NS
) -> list[Row]:
    """Events 100 ms apart."""
    return [
        (session, name, data, start_ns + k * 100_000_000, None)
        for k, (name, data) in enumerate(events)
    ]


def make_batch(rows: list[Row], first_row: int = 0) -> EventBatch:
    payloads = [row[2][-1] if isinstance(row[2], list) and row[2] else row[2] for row in rows]
    games = [payload.get("gameId") if isinstance(payload, dict) else None for payload in payloads]
    texts = [
        json.dumps({"event": name, "data": data}) if text is None else text
        for _, name, data, _, text in rows
    ]
    columns = {
        "session_id": [row[0] for row in rows],
        "ts": [iso_time(row[3]) for row in rows],
        "event_name": [row[1] for row in rows],
        "raw_json": texts,
        "game_id": [game if isinstance(game, str) else None for game in games],
    }
    table = pa.record_batch(
        {name: pa.array(column, pa.string()) for name, column in columns.items()}
    )
    return EventBatch(table, "made-up.parquet", first_row)


def split(rows: list[Row], cuts: list[int]) -> list[EventBatch]:
    """Rows in batches that end at the cuts."""
    bounds = [0, *sorted({cut for cut in cuts if 0 < cut < len(rows)}), len(rows)]
    return [make_batch(rows[a:b], a) for a, b in pairwise(bounds)]


def make_press(button: str, game: str, tick: int, ts_ns: int, **fields: Any) -> dict:
    return {
        "button_id": button,
        "game_id": game,
        "tick": tick,
        "ts": ts_ns,
        "bet_amount": 0.01,
        "server_ts": None,
        "execution_tick": None,
        "execution_price": None,
        "latency_ms": None,
        **fields,
    }


def make_presses(presses: dict[str, list[dict]]) -> Presses:
    """Presses by session as the columns of a store."""
    listed = [
        (number, k, press) for number, s in enumerate(presses) for k, press in enumerate(presses[s])
    ]
    game_ids = list(dict.fromkeys(press["game_id"] for _, _, press in listed))
    rows = np.zeros(len(listed), ROW)
    for row, (number, k, press) in zip(rows, listed, strict=True):
        row["seq"] = row["row"] = k
        row["session"], row["game"] = number, game_ids.index(press["game_id"])
        row["ts_ns"], row["button"] = press["ts"], BUTTONS.index(press["button_id"])
        row["tick"], row["phase"], row["bet_amount"] = press["tick"], 2, press["bet_amount"]
        row["server_ns"] = NEVER if press["server_ts"] is None else press["server_ts"]
        row["execution_tick"] = -1 if press["execution_tick"] is None else press["execution_tick"]
        for name in ("execution_price", "latency_ms"):
            row[name] = np.nan if press[name] is None else press[name]
    return Presses.from_rows(rows, list(presses), game_ids, ["presses.parquet"], [])


def feed(rows: list[Row], presses: dict[str, list[dict]]) -> tuple[list[np.ndarray], dict]:
    """Observations of the incremental builders, one for each session, and the builders."""
    builders: dict[str, ObservationBuilder] = {}
    observations = []
    for session, name, data, ts_ns, text in rows:
        if session not in builders:
            builders[session] = ObservationBuilder()
            for press in presses.get(session, []):
                builders[session].update(
                    {"event_name": "button_event", "data": press_fields(press)}
                )
        if text is None:
            event = {"event_name": name, "data": data, "ts": iso_time(ts_ns)}
            if builders[session].update(event):
                observations.append(builders[session].to_numpy())
    return observations, builders


def press_fields(press: dict) -> dict:
    """Fields as in a ButtonEvent."""
    times = {
        name: None if press[name] is None else iso_time(press[name]) for name in ("ts", "server_ts")
    }
    return press | times


odd = st.sampled_from(
    [
        True,
        False,
        None,
        "1",
        "",
        [],
        {},
        [1.0],
        1e39,
        -1e39,
        float("nan"),
        float("inf"),
        10**400,
        2.5,
    ]
)
numbers = st.one_of(
    st.floats(0.01, 100),
    st.integers(0, 300),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.sampled_from([0, -0.0, 1e-320, 3.4e38, -3.4e38, 5e-7, 123456789.12345679]),
)


def nearly(good: st.SearchStrategy) -> st.SearchStrategy:
    """Mostly good values, now and then something odd."""
    return st.integers(0, 9).flatmap(lambda k: odd if k == 0 else good)


pools = st.fixed_dictionaries(
    {},
    optional={name: nearly(numbers) for name in ("rugpoolAmount", "threshold", "instarugCount")},
)
game_ids = nearly(st.sampled_from(["g1", "g2", "g3"]))
game_payloads = st.fixed_dictionaries(
    {},
    optional={
        "gameId": game_ids,
        "tickCount": nearly(st.integers(0, 9)),
        "price": nearly(numbers),
        "active": nearly(st.booleans()),
        "rugged": nearly(st.sampled_from([False, False, False, True])),
        "cooldownTimer": nearly(st.sampled_from([0, 0, 100, 15_000])),
        "allowPreRoundBuys": nearly(st.booleans()),
        "connectedPlayers": nearly(st.integers(0, 300)),
        "averageMultiplier": nearly(numbers),
        "count100x": nearly(st.integers(0, 100)),
        "highestToday": nearly(numbers),
        "rugpool": nearly(pools),
        "cash": numbers,
        "leaderboard": st.just([{"price": 3, "rugpool": {"threshold": 2}}]),
    },
)
tick_payloads = st.builds(
    tick_update,
    st.sampled_from(["g1", "g2", "g3"]),
    st.integers(0, 9),
    st.floats(0.01, 100),
    rugged=st.sampled_from([False, False, False, True]),
)
player_payloads = st.fixed_dictionaries(
    {},
    optional={
        "cash": nearly(numbers),
        "positionQty": nearly(st.sampled_from([0, 0, 0.5, 2])),
        "avgCost": nearly(numbers),
        "cumulativePnL": nearly(numbers),
        "totalInvested": nearly(numbers),
        "sideBet": nearly(st.sampled_from([None, {}, {"betAmount": 0.1}])),
        "sidebets": nearly(st.sampled_from([None, [], [{"betAmount": 0.1}]])),
        "rugpool": nearly(pools),
        "price": numbers,
    },
)
events = st.one_of(
    st.tuples(st.just(GAME_STATE), tick_payloads),
    st.tuples(st.just(GAME_STATE), game_payloads),
    st.tuples(st.just(PLAYER_STATE), player_payloads),
    st.tuples(st.just(GAME_PLAYER_STATE), st.fixed_dictionaries({"rugpool": nearly(pools)})),
    st.tuples(
        st.sampled_from([GAME_STATE, PLAYER_STATE, GAME_PLAYER_STATE]),
        st.sampled_from([None, [], [TRACE], [TRACE, {"cash": 3, "price": 2.0}], 5, "x", True]),
    ),
    st.tuples(st.just(NEW_TRADE), st.just([TRACE, {"type": "buy"}])),
)
texts = st.sampled_from(
    [None] * 12 + ["", "{", "[1]", '{"event": 1, "data": {"price": 2}', "nul", '{"a"']
)


@st.composite
def recordings(draw: st.DrawFn) -> tuple[list[Row], dict[str, list[dict]]]:
    """Rows of up to two sessions in the order of reading, and their presses."""
    rows = []
    clock = START_NS
    for name, data in draw(st.lists(events, max_size=40)):
        clock += draw(st.sampled_from([0, 1, 1, 1, 2, -3])) * TICK_NS
        session = draw(st.sampled_from(["s1", "s1", "s2"]))
        rows.append((session, name, data, clock, draw(texts)))
    presses: dict[str, list[dict]] = {}
    for session in ("s1", "s2"):
        ts = START_NS
        for _ in range(draw(st.integers(0, 5))):
            ts += 1000 + draw(st.integers(0, 6)) * TICK_NS // 2
            press = make_press(
                draw(st.sampled_from(["BUY", "SELL", "SIDEBET", "INC_01", "SELL_50"])),
                draw(st.sampled_from(["g1", "g2", "g3"])),
                draw(st.integers(0, 9)),
                ts,
                bet_amount=draw(st.floats(0, 10)),
            )
            if draw(st.booleans()):
                press |= {
                    "server_ts": ts
                    + draw(st.integers(0, 8)) * TICK_NS // 2 // 1000 * 1000
                    + 2000 * len(presses.get(session, ())),
                    "execution_tick": draw(st.integers(0, 9)),
                    "execution_price": draw(st.floats(0.01, 100)),
                    "latency_ms": draw(st.floats(0, 1000)),
                }
            presses.setdefault(session, []).append(press)
    return rows, presses
