"""Observations of a recorded session: 36 numbers that say what a player could see and had done.

`ObservationBuilder` takes in events one at a time; `observe.ObservationStream`
does the same for whole batches with the same compiled pass. What the features
mean, their units and sources:

- 0-8 the game: tick, price, phase (0 cooldown, 1 presale, 2 active, 3 rugged), ms of
  cooldown left, whether buys before the round are allowed, active, rugged, players,
  and a hash of the game's id in [0, 1), which carries no information: learners leave it out.
- 9-13 the player, from the last playerUpdate: cash (SOL), tokens, mean price paid,
  profit in this game (SOL), SOL invested. All 0 before the first.
- 14-16 the rugpool; 17-22 statistics of the last 100 games and the day's highest multiplier.
- 23-28 derived, see `terms`: price per tick, its change per tick, unrealised profit (SOL,
  and as a share), rugpool over threshold, share of the wealth at risk.
- 29-31 ticks since entry, ticks since the last BUY, SELL or SIDEBET, and the bet (SOL).
- 32-35 the last completed execution of this game: tick, price, time of the press in ms
  since the game's first tick, and latency in ms. Before its answer has arrived an
  execution is in no observation.

Source: the origin's observation-space design, with one of its 37 names left out:
a hash of the trade's id is no quantity.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from hftlib.sessions.columns import LOST, NO_GAME, NO_OBJECT
from hftlib.sessions.event_rows import IntArray, is_time, parse_time
from hftlib.sessions.payloads import (
    FLOAT32_MAX,
    GAME_UPDATE,
    KINDS,
    Number,
    Tick,
    check_fields,
    find_missing,
    read_payload,
)
from hftlib.sessions.presses import RefusedRow
from hftlib.sessions.session_pass import (
    N_CLIPPED,
    N_DUPLICATES,
    N_KEPT,
    N_LATE,
    N_SET_BACK,
    run_pass,
    write_features,
)
from hftlib.sessions.session_state import (
    FAR_PAST,
    N_FEATURES,
    NEVER,
    NONE,
    PRESS,
    SessionTables,
    encode_game,
)
from hftlib.sessions.vocabulary import ACTION_BUTTONS, BUTTON_EVENT, GAME_STATE
from hftlib.sessions.wire import read_event, unwrap

N_EXAMPLES: Final = 5  # faults kept of each kind


@dataclass(frozen=True)
class Observation:
    """State of a session at one moment; `to_numpy` gives the 36 features."""

    tick: int
    price: float
    game_phase: int
    cooldown_timer_ms: float
    allow_pre_round_buys: bool
    active: bool
    rugged: bool
    connected_players: float
    game_id: str
    balance: float
    position_qty: float
    avg_entry_price: float
    cumulative_pnl: float
    total_invested: float
    rugpool_amount: float
    rugpool_threshold: float
    instarug_count: float
    average_multiplier: float
    count_2x: float
    count_10x: float
    count_50x: float
    count_100x: float
    highest_today: float
    price_velocity: float
    price_acceleration: float
    unrealized_pnl: float
    position_pnl_pct: float
    rugpool_ratio: float
    balance_at_risk_pct: float
    time_in_position: float
    ticks_since_last_action: float
    bet_amount: float
    execution_tick: float = 0.0
    execution_price: float = 0.0
    client_timestamp: float = 0.0
    latency_ms: float = 0.0
    trade_id: str | None = None

    def to_numpy(self) -> npt.NDArray[np.float32]:
        """Features of shape (36,).

        Raises
        ------
        ValueError
            If a field is not finite as float32.
        """
        row = np.array(
            [
                encode_game(self.game_id) if name == "game_id" else getattr(self, name)
                for name in FEATURE_NAMES
            ],
            np.float64,
        )
        for name, value in zip(FEATURE_NAMES, row, strict=True):
            if not abs(value) <= FLOAT32_MAX:
                raise ValueError(f"{name}={value}: expected a number that float32 can hold")
        return row.astype(np.float32)


FEATURE_NAMES: Final = tuple(
    entry.name for entry in fields(Observation) if entry.name != "trade_id"
)
FEATURE_COUNT: Final = N_FEATURES


@dataclass
class ObservationCounts:
    """What was met on the way to the observations.

    events : events by name, those that say nothing of the state included
    n_kept : observations made
    n_duplicates : updates of a tick that was known
    n_late : updates of a game after its rug, or of an earlier tick, which are ignored
    n_set_back : stamps earlier than one before them in their session
    n_clipped : derived features cut to the range of float32
    refused : names of fields left out, and why events were, see `columns.EventColumns`
    examples : the first `N_EXAMPLES` of each of those, and of the stamps set back
    defaults : by session, observations made before its first playerUpdate
    """

    events: Counter[str | None] = field(default_factory=Counter)
    n_kept: int = 0
    n_duplicates: int = 0
    n_late: int = 0
    n_set_back: int = 0
    n_clipped: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    examples: list[RefusedRow] = field(default_factory=list)
    defaults: dict[str, int] = field(default_factory=dict)

    def add(self, counts: IntArray) -> None:
        """Add the counts of a pass."""
        self.n_kept += int(counts[N_KEPT])
        self.n_duplicates += int(counts[N_DUPLICATES])
        self.n_late += int(counts[N_LATE])
        self.n_set_back += int(counts[N_SET_BACK])
        self.n_clipped += int(counts[N_CLIPPED])

    def refuse(self, fault: RefusedRow) -> None:
        """Count a fault."""
        self.refused[fault.reason] += 1
        if self.refused[fault.reason] <= N_EXAMPLES:
            self.examples.append(fault)


class _Press(BaseModel):
    """What is read of a press."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    button_id: str = ""
    game_id: str = ""
    tick: Tick | None = None
    bet_amount: Number | None = None
    execution_tick: Tick | None = None
    execution_price: Number | None = None
    latency_ms: Number | None = None
    trade_id: str | None = None
    ts: str | None = None
    server_ts: str | None = None


class ObservationBuilder:
    """Observations from events of one session, given one at a time.

    Each field holds its last good value: 0 until there was one, the price 1. The
    state may be asked for at any time; an observation of a recorded session is
    the state after an event for which `update` returned True.
    """

    def __init__(self) -> None:
        self.counts = ObservationCounts()
        self._tables = SessionTables()
        self._tables.add_session("")
        self._n_events = 0
        self._unseen: list[Any] = []  # presses later than the last event
        self._unanswered: list[Any] = []  # seen, without their answer
        self._trade_ids: dict[int, str] = {}  # by time of the press

    def update(self, event: Mapping[str, Any]) -> bool:
        """Take in one event; whether it is the first of its tick in a running round.

        Parameters
        ----------
        event : mapping
            `{event_name | event, data, ts}`, or flat `{game_id, tick, price, rugged, ts}`;
            without a name it is a gameStateUpdate. `ts` is ISO 8601; without a readable
            one the event takes place now, after everything given before. A button_event's
            fields may stand in `data` or beside the name. Other events say nothing.
        """
        row, self._n_events = self._n_events, self._n_events + 1
        name = event.get("event", event.get("event_name", GAME_STATE))
        data = event.get("data", event)
        if name == BUTTON_EVENT:
            self.press({"ts": event.get("ts")} | (unwrap(data).payload or {}))
            return False
        self.counts.events[str(name)] += 1
        kind = KINDS.get(str(name))
        if kind is None:
            return False
        _, payload = read_event({"event": str(name), "data": data})
        if payload is None:
            reason = LOST if unwrap(data).is_lost else NO_OBJECT
            self.counts.refuse(RefusedRow("", row, reason))
            return False
        values, refused = read_payload(kind, payload)
        missing = [name for _, name in find_missing(np.array([kind]), values[None])]
        refused += tuple(f"no {name}" for name in missing if name not in refused)
        game = self._find_game(payload.get("gameId"))
        if kind == GAME_UPDATE and game == NONE:
            refused += (NO_GAME,)
        for reason in refused:
            self.counts.refuse(RefusedRow("", row, reason))
        return self._run(kind, game, event.get("ts"), values)

    def press(self, press: Mapping[str, Any]) -> None:
        """Take in a button press with its fate; events after its `ts` see it.

        Parameters
        ----------
        press : mapping
            Fields of a ButtonEvent; a field of a wrong type is left out. Without
            `ts` it was pressed before the next event; its execution is seen
            from `server_ts` on, and never without.
        """
        self.counts.events[BUTTON_EVENT] += 1
        checked, refused = check_fields(_Press, press)
        for reason in refused:
            self.counts.refuse(RefusedRow("", self._n_events, reason))
        row = np.zeros(1, PRESS)[0]
        row["ts_ns"] = _time(checked.ts, FAR_PAST)
        row["answer_ns"] = _time(checked.server_ts, NEVER)
        row["game"] = self._find_game(checked.game_id)
        row["tick"] = NONE if checked.tick is None else checked.tick
        row["is_action"] = checked.button_id in ACTION_BUTTONS
        row["bet_amount"] = _number(checked.bet_amount)
        row["execution_tick"] = NONE if checked.execution_tick is None else checked.execution_tick
        row["execution_price"] = _number(checked.execution_price)
        row["latency_ms"] = _number(checked.latency_ms)
        if checked.trade_id is not None:
            self._trade_ids[int(row["ts_ns"])] = checked.trade_id
        self._unseen.append(row)
        self._unseen.sort(key=lambda press: press["ts_ns"])

    def build(self) -> Observation:
        """State now, as numbers that have not been rounded to float32."""
        session = self._tables.sessions[0]
        game = self._tables.games[session["game"]]
        features = np.empty(FEATURE_COUNT)
        write_features(session, game, features)
        values: dict[str, Any] = dict(zip(FEATURE_NAMES, features.tolist(), strict=True))
        for name in ("tick", "game_phase"):
            values[name] = int(values[name])
        for name in ("allow_pre_round_buys", "active", "rugged"):
            values[name] = values[name] > 0.0
        values["game_id"] = self._tables.game_ids[session["game"]]
        return Observation(**values, trade_id=self._trade_ids.get(int(game["execution"])))

    def to_numpy(self) -> npt.NDArray[np.float32]:
        """The 36 features now, float32."""
        return self.build().to_numpy()

    def _find_game(self, game_id: Any) -> int:
        if not isinstance(game_id, str) or not game_id:
            return NONE
        return self._tables.find_game(0, game_id)

    def _run(self, kind: int, game: int, ts: Any, values: npt.NDArray[np.float64]) -> bool:
        session = self._tables.sessions[0]
        presses = np.array([*self._unanswered, *self._unseen], PRESS)
        n_seen = len(self._unanswered)
        answers = np.argsort(presses["answer_ns"], kind="stable")
        session["next_press"], session["next_answer"] = n_seen, 0
        session["end_press"] = len(presses)
        known = presses["answer_ns"][presses["answer_ns"] != NEVER]
        now = max([int(session["clock_ns"]), *(presses["ts_ns"] + 1).tolist(), *known.tolist()])
        result = run_pass(
            self._tables,
            np.array([kind], np.int8),
            np.zeros(1, np.int64),
            np.array([game]),
            np.array([_time(ts, now)]),
            values[None],
            presses,
            answers,
            0,
        )
        self.counts.add(result.counts)
        self.counts.defaults = self._tables.count_defaults()
        presses["answer_ns"][answers[: session["next_answer"]]] = NEVER  # has been seen
        next_press = int(session["next_press"])
        is_open = (presses["execution_tick"] != NONE) & (presses["answer_ns"] != NEVER)
        self._unanswered = list(presses[:next_press][is_open[:next_press]])
        self._unseen = list(presses[next_press:])
        return len(result.kept) > 0


def _time(text: Any, otherwise: int) -> int:
    return parse_time(text) if isinstance(text, str) and is_time(text) else otherwise


def _number(value: float | None) -> float:
    return np.nan if value is None else value
