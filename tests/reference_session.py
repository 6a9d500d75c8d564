"""Observations from the contract's words, one event at a time and without hurry.

Shares nothing with `hftlib.sessions` but the JSON of the events. Fields are
looked up in the history of the events, nothing is carried along.
"""

import hashlib
import math
from itertools import pairwise
from typing import Any

import numpy as np

FLOAT32_MAX = float(np.finfo(np.float32).max)
PLAYER = ("cash", "positionQty", "avgCost", "cumulativePnL", "totalInvested")
POOL = ("rugpoolAmount", "threshold", "instarugCount")
BOARD = ("averageMultiplier", "count2x", "count10x", "count50x", "count100x", "highestToday")
ACTIONS = ("BUY", "SELL", "SIDEBET")


def is_number(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and -FLOAT32_MAX <= value <= FLOAT32_MAX
    )


def is_tick(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**24


def is_truth(value: Any) -> bool:
    return isinstance(value, bool)


def last(payloads: list[dict], name: str, good=is_number, otherwise: Any = 0.0) -> Any:
    """Last good value of a field."""
    for payload in reversed(payloads):
        if good(payload.get(name)):
            return payload[name]
    return otherwise


def over(change: float, base: float) -> float:
    return change / base if base > 0 else 0.0


def clip(value: float) -> float:
    return min(max(value, -FLOAT32_MAX), FLOAT32_MAX)


class ReferenceSession:
    """One session; `rows` holds the features of each kept tick, float64 (36,)."""

    def __init__(self, presses: list[dict]) -> None:
        self.presses = sorted(presses, key=lambda press: press["ts"])
        self.updates: list[dict] = []  # payloads of gameStateUpdates that count
        self.players: list[dict] = []
        self.pools: list[dict] = []
        self.kept: dict[Any, list[tuple[int, float, int]]] = {}  # tick, price, time by game
        self.rugged: set[Any] = set()
        self.entries: dict[Any, int] = {}
        self.game: Any = None
        self.running: Any = None
        self.is_running = False
        self.clock = -math.inf
        self.rows: list[np.ndarray] = []
        self.ticks: list[tuple[Any, int]] = []
        self.equity: dict[Any, float] = {}
        self.waiting: list[Any] = []
        self.settled: list[tuple[Any, bool]] = []

    def update(self, name: str, data: Any, ts: int) -> None:
        parts = [p for p in (data if isinstance(data, list) else [data]) if isinstance(p, dict)]
        parts = [part for part in parts if "__trace" not in part]
        if not parts:
            return
        payload = parts[-1]
        self.clock = max(self.clock, ts)
        if name == "gameStateUpdate":
            self.update_game(payload)
        else:
            self.take_pool(payload)
        if name == "playerUpdate":
            was_flat = not last(self.players, "positionQty") > 0
            self.players.append(payload)
            if was_flat and last(self.players, "positionQty") > 0 and self.is_running:
                self.entries[self.running] = self.kept[self.running][-1][0]
            if is_number(payload.get("cash")):
                for game in self.waiting:
                    qty = last(self.players, "positionQty")
                    self.equity[game] = payload["cash"] + qty * self.kept[game][-1][1]
                    self.settled.append((game, True))
                self.waiting.clear()

    def take_pool(self, payload: dict) -> None:
        if isinstance(payload.get("rugpool"), dict):
            self.pools.append(payload["rugpool"])

    def update_game(self, payload: dict) -> None:
        game = payload.get("gameId")
        if not isinstance(game, str) or not game:
            if self.game is not None:
                return
            game = None
        kept = self.kept.get(game, [])
        has_tick = is_tick(payload.get("tickCount"))
        tick = payload["tickCount"] if has_tick else None
        if game in self.rugged or (has_tick and kept and tick < kept[-1][0]):
            return
        if game != self.game:
            price = kept[-1][1] if kept else 1.0
            self.updates.append({"tickCount": kept[-1][0] if kept else 0, "price": price})
        self.game = game
        self.updates.append(payload)
        self.take_pool(payload)
        phase = self.phase(payload)
        if phase < 2 or not has_tick or (kept and tick == kept[-1][0]):
            return
        if not kept:
            self.settled += [(other, False) for other in self.waiting]
            self.waiting.clear()
        kept = self.kept.setdefault(game, [])
        kept.append((tick, last(self.updates, "price", otherwise=1.0) + 0.0, self.clock))
        self.running, self.is_running = game, phase != 3
        self.rows.append(self.features(payload, phase))
        self.ticks.append((game, tick))
        if phase == 3:
            self.rugged.add(game)
            qty = last(self.players, "positionQty")
            self.equity[game] = last(self.players, "cash") + qty * kept[-1][1]
            if qty == 0 and not self.has_stake():
                self.settled.append((game, True))
            else:
                self.waiting.append(game)

    def flags(self, payload: dict) -> tuple[bool, bool, bool]:
        """Rugged, active, presale."""
        active, rugged = payload.get("active"), payload.get("rugged")
        if not is_truth(active):
            timer = payload.get("cooldownTimer")
            active = is_tick(payload.get("tickCount")) and not (is_number(timer) and timer > 0)
        presale = last(self.updates, "allowPreRoundBuys", is_truth, False)
        return is_truth(rugged) and rugged, active, presale

    def phase(self, payload: dict) -> int:
        rugged, active, presale = self.flags(payload)
        return 3 if rugged else 2 if active else 1 if presale else 0

    def has_stake(self) -> bool:
        for payload in reversed(self.players):
            one, more = payload.get("sideBet"), payload.get("sidebets")
            if isinstance(one, dict) or (isinstance(more, list) and more):
                return True
            if (one is None or isinstance(one, dict)) and (more is None or isinstance(more, list)):
                return False
        return False

    def features(self, payload: dict, phase: int) -> np.ndarray:
        kept = self.kept[self.game]
        tick, price, _ = kept[-1]
        rugged, active, presale = self.flags(payload)
        speeds = [0.0]
        for (a, p, _), (b, q, _) in pairwise(kept):
            speeds.append((q - p) / (b - a))
        bend = (speeds[-1] - speeds[-2]) / (tick - kept[-2][0]) if len(kept) > 2 else 0.0
        cash, qty, average, pnl, invested = (last(self.players, name) for name in PLAYER)
        pool = [last(self.pools, name) for name in POOL]
        value = qty * price

        seen = [press for press in self.presses if press["ts"] < self.clock]
        mine = [p for p in seen if p["game_id"] == self.game and p["button_id"] in ACTIONS]
        since = tick - mine[-1]["tick"] if mine else tick
        done = [
            press
            for press in self.presses
            if press["game_id"] == self.game
            and press["execution_tick"] is not None
            and press["server_ts"] <= self.clock
        ]
        done.sort(key=lambda press: press["server_ts"])
        execution = [0.0] * 4
        if done:
            of = done[-1]
            sent_ms = (of["ts"] - kept[0][2]) / 1e6
            execution = [of["execution_tick"], of["execution_price"], sent_ms, of["latency_ms"]]
        code = 0.0
        if self.game:
            digest = hashlib.sha256(self.game.encode()).digest()
            code = int.from_bytes(digest[:6], "big") / 2**48
        row = [
            *(tick, price, phase, last(self.updates, "cooldownTimer"), presale, active, rugged),
            *(last(self.updates, "connectedPlayers"), code, cash, qty, average, pnl, invested),
            *pool,
            *(last(self.updates, name) for name in BOARD),
            *(speeds[-1], bend, (price - average) * qty),
            over(price - average, average) if qty > 0 else 0.0,
            *(over(pool[0], pool[1]), over(value, cash + value)),
            tick - self.entries.get(self.game, 0) if qty > 0 else 0.0,
            *(max(since, 0), seen[-1]["bet_amount"] if seen else 0.0),
            *execution,
        ]
        return np.array([clip(float(x) + 0.0) for x in row])
