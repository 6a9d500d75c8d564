"""JSON of the wire's events, a column of them at a time.

A frame is the JSON of an event with slots for what varies; Arrow joins the
pieces of many events at once. Numbers are written with the fewest digits that
read back to the same float, whole ones without a point, as on the wire.

Source: keys and types of the wire captures of December 2025 that the tests
compare with. What no simulated player can change is constant.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from hftlib.sessions.board import INSTARUG_TICKS, RUGPOOL_THRESHOLD
from hftlib.sessions.journal import ACCOUNT, BOUGHT, DECIDED, SOLD, STAKED
from hftlib.sessions.rounds import (
    CONNECT,
    COPY,
    COUNTDOWN,
    FIRST_STATE,
    POOL,
    PRESALE_OPENING,
    RUG,
    SECOND_RUG,
    SETTLEMENT,
    START,
    TICK,
    USERNAME,
)
from hftlib.sessions.vocabulary import (
    GAME_PLAYER_STATE,
    GAME_STATE,
    NEW_TRADE,
    PLAYER_STATE,
    SIDEBET_PAYOUT,
)

Frame = list[str]  # constant text and names of slots, in turn
Fields = dict[str, Any]

COIN: Final = "So11111111111111111111111111111111111111112"
TRACE: Final = {"__trace": True}
THRESHOLD: Final = int(RUGPOOL_THRESHOLD)
SLOT: Final = re.compile(r'"<(\w+)>"')

BOARD: Final = {
    "averageMultiplier": "<average>",
    "count2x": "<count_2x>",
    "count10x": "<count_10x>",
    "count50x": "<count_50x>",
    "count100x": "<count_100x>",
}
FAIR: Final = {"provablyFair": {"serverSeedHash": "<hash>", "version": "v3"}}
CROWD: Final = {"gameId": "<game_id>", "connectedPlayers": "<connected>"}
PARTIAL: Final = {
    "partialPrices": {"startTick": "<first_tick>", "endTick": "<last_tick>", "values": "<window>"}
}
NO_BETS: Final = {"sidebetActive": None, "sideBet": None, "shortPosition": None}
LEADER: Final = {"id": "<leader>", "username": None, "level": 53, "pnl": 0}
HOLDING: Final = {
    "hasActiveTrades": True,
    "positionQty": 0.01,
    "avgCost": 1,
    "totalInvested": 0.01,
    "selectedCoin": None,
    "position": 1,
}
LEADERS: Final = [
    LEADER
    | {"regularPnl": 0, "sidebetPnl": 0, "shortPnl": 0}
    | NO_BETS
    | {"pnlPercent": 0}
    | HOLDING
]
WAITING: Final = [LEADER | {"pnlPercent": 0} | NO_BETS | HOLDING]
RUGPOOL: Final = {
    "instarugCount": "<instarugs>",
    "threshold": THRESHOLD,
    "rugpoolAmount": "<rugpool>",
}
POOL_PAGE: Final = {
    "instarugCount": "<instarugs>",
    "rugpoolAmount": "<rugpool>",
    "totalEntries": 22269,
    "threshold": THRESHOLD,
    "playersWithEntries": 155,
    "solPerEntry": 0.001,
    "maxEntriesPerPlayer": 5000,
    "lastDrawing": {
        "timestamp": 1765750336277,
        "rewardPerWinner": 3.5956412111666736,
        "totalPoolAmount": 10.78692363350002,
    },
    "config": {
        "threshold": THRESHOLD,
        "instarugThreshold": INSTARUG_TICKS,
        "rugpoolPercentage": 0.5,
    },
}
ROYALE: Final[Fields] = {
    "status": "INACTIVE",
    "activeEventId": None,
    "currentEvent": None,
    "upcomingEvents": [],
    "events": [],
}
PRACTICE: Final = {
    "address": "0xPractice",
    "ticker": "FREE",
    "name": "Practice SOL",
    "max_bet": 10000,
    "max_win": 100000,
}
GOD_CANDLES: Final[Fields] = {
    f"godCandle{times}x{what}": [] if what == "Prices" else None
    for times in (2, 10, 50)
    for what in ("", "Timestamp", "Prices", "MassiveJump")
}
SIDE_BET: Final = {
    "startedAtTick": "<bet_tick>",
    "gameId": "<game_id>",
    "end": "<bet_end>",
    "betAmount": "<stake>",
    "xPayout": int(SIDEBET_PAYOUT),
    "coinAddress": COIN,
    "bonusPortion": 0,
    "realPortion": "<stake>",
}
PLAYER: Final[Fields] = {
    "id": "<player_id>",
    "role": None,
    "cash": "<cash>",
    "bonusBalance": 0,
    "bonusWagerReq": 0,
    "bonusWagered": 0,
    "positionQty": "<held_qty>",
    "avgCost": "<avg_cost>",
    "cumulativePnL": "<pnl>",
    "sidebetPnl": "<sidebet_pnl>",
    "pnlPercent": "<pnl_percent>",
    "totalInvested": "<invested>",
    "hasInteracted": True,
    "selectedCoin": None,
    "levelInfo": {"level": 7, "xp": 549, "xpForNextLevel": 1500, "totalXP": 4049},
    "crateKeys": {"gold": 0, "diamond": 0, "coal": 0, "iron": 0, "tier0": 1},
    "shitcoinBalances": {"0xPractice": 100},
    "authenticated": True,
    "hitMaxWin": False,
    "xpBoost": {"active": False, "activeUntil": 0, "available": 0},
    "sideBet": "<side_bet>",
    "sidebets": "<side_bets>",
    "shortPosition": None,
    "leveragedPositions": [],
    "autobuysEnabled": False,
    "autosellPrice": None,
}
RESULT: Final = {
    "playerId": "<player_id>",
    "gameId": "<game_id>",
    "username": None,
    "betAmount": "<decided_stake>",
    "payout": "<amount>",
    "profit": "<profit>",
    "xPayout": int(SIDEBET_PAYOUT),
    "coinAddress": COIN,
    "endTick": "<decided_end>",
    "startTick": "<since>",
    "tickIndex": "<tick>",
    "timestamp": "<sent_ms>",
    "type": "payout",
    "id": "<id>",
}
RECORD: Final = {
    "id": "<game_id>",
    "timestamp": "<ended_ms>",
    "prices": "<all_prices>",
    "peakMultiplier": "<peak>",
    "rugged": True,
    "globalTrades": [],
    "globalSidebets": [],
    "provablyFair": {"serverSeed": "<server_seed>", "serverSeedHash": "<hash>"},
    "gameVersion": "v3",
}


BUTTON_FIELDS: Final = {
    "ts": "<ts>",
    "server_ts": "<server_ts>",
    "button_id": "<button_id>",
    "button_category": "<button_category>",
    "tick": "<tick>",
    "price": "<price>",
    "game_phase": "<phase>",
    "game_id": "<game_id>",
    "balance": "<balance>",
    "position_qty": "<qty>",
    "bet_amount": "<bet>",
    "ticks_since_last_action": "<ticks_since_action>",
    "sequence_id": "<sequence_id>",
    "sequence_position": "<sequence_position>",
    "execution_tick": "<execution_tick>",
    "execution_price": "<execution_price>",
    "trade_id": "<trade_id>",
    "client_timestamp": "<client_ms>",
    "latency_ms": "<latency_ms>",
    "time_in_position": "<ticks_in_position>",
}
ACTION_FIELDS: Final = {
    "id": "<id>",
    "gameId": "<game_id>",
    "playerId": "<player_id>",
    "type": "<type>",
    "tickIndex": "<tick>",
    "price": "<price>",
    "qty": "<qty>",
    "amount": "<amount>",
    "fee": "<fee>",
}


def _situation(
    *, is_active: bool, is_rugged: bool, timer: Any = 0, allows_presale: Any = False
) -> tuple[Fields, Fields]:
    """What the game is doing: before the tick, and from the tick on."""
    return {"active": is_active, "price": "<price>", "rugged": is_rugged}, {
        "tickCount": "<tick>",
        "cooldownTimer": timer,
        "cooldownPaused": False,
        "pauseMessage": "",
        "allowPreRoundBuys": allows_presale,
    }


def _tick(leaders: list[Any], **situation: Any) -> Fields:
    first, rest = _situation(**situation)
    return {
        "active": first["active"],
        "price": first["price"],
        **PARTIAL,
        "tradeCount": "<n_trades>",
        "rugged": first["rugged"],
        **rest,
        **BOARD,
        "leaderboard": leaders,
        **CROWD,
        "rugpool": RUGPOOL,
        "rugRoyale": ROYALE,
        **FAIR,
    }


def _whole_state(prices: Fields, **situation: Any) -> Fields:
    first, rest = _situation(**situation)
    return {
        "gameHistory": "<history>",
        **BOARD,
        "highestToday": "<highest>",
        "highestTodayTimestamp": "<highest_ms>",
        "highestTodayPrices": "<highest_prices>",
        **GOD_CANDLES,
        "availableShitcoins": [PRACTICE],
        **first,
        **rest,
        "leaderboard": LEADERS,
        **CROWD,
        "gameVersion": "v3",
        **prices,
        **FAIR,
    }


def _trade(kind: str, player_id: str) -> Fields:
    """Buys say the leverage, sales do not."""
    return {
        "id": "<id>",
        "gameId": "<game_id>",
        "playerId": player_id,
        "price": "<price>",
        "type": kind,
        "qty": "<qty>",
        "tickIndex": "<tick>",
        "coin": "solana",
        "amount": "<amount>",
        **({"leverage": 1} if kind == "buy" else {}),
        "bonusPortion": 0,
        "realPortion": "<amount>",
        "username": None,
        "level": 7,
    }


def cut_frame(value: Any) -> Frame:
    """The JSON of a value cut at its slots, strings of the form `<name>`."""
    return SLOT.split(json.dumps(value, separators=(",", ":")))


def fill_frame(frame: Frame, slot: Callable[[str], pa.Array | str], n: int) -> pa.Array:
    """JSON of n values.

    Parameters
    ----------
    frame : Frame
    slot : callable
        JSON of a slot by its name: of each of the n values, or one text for all.
    n : int
    """
    if len(frame) == 1:
        return pa.repeat(frame[0], n)
    pieces = [slot(piece) if k % 2 else piece for k, piece in enumerate(frame)]
    return pc.binary_join_element_wise(*pieces, "")


def says(frame: Frame, name: str) -> bool:
    """Whether the frame has this slot."""
    return name in frame[1::2]


def _event(name: str, data: Any) -> tuple[str, Frame]:
    return name, cut_frame({"event": name, "data": data})


COUNTING: Final = {"timer": "<timer>", "allows_presale": "<allows_presale>"}
START_STATE: Final = _situation(is_active=True, is_rugged=False)
EVENT_FRAMES: Final[Mapping[int, tuple[str, Frame]]] = {
    CONNECT: _event("connect", None),
    USERNAME: _event("usernameStatus", TRACE),
    FIRST_STATE: _event(
        GAME_STATE, _whole_state({"prices": [1]}, is_active=False, is_rugged=False, **COUNTING)
    ),
    SETTLEMENT: _event(
        GAME_STATE, _whole_state(PARTIAL, is_active=False, is_rugged=False, **COUNTING)
    ),
    SECOND_RUG: _event(GAME_STATE, _whole_state(PARTIAL, is_active=True, is_rugged=True)),
    PRESALE_OPENING: _event(GAME_STATE, _tick([], is_active=False, is_rugged=False, **COUNTING)),
    COUNTDOWN: _event(
        GAME_STATE,
        {
            "gameId": "<game_id>",
            "cooldownTimer": "<timer>",
            "cooldownPaused": False,
            "allowPreRoundBuys": "<allows_presale>",
            "leaderboard": WAITING,
            "connectedPlayers": "<connected>",
            **FAIR,
        },
    ),
    START: _event(
        GAME_STATE,
        {
            **START_STATE[0],
            **START_STATE[1],
            "leaderboard": [],
            **CROWD,
            "gameVersion": "v3",
            **PARTIAL,
            **FAIR,
        },
    ),
    TICK: _event(GAME_STATE, _tick(LEADERS, is_active=True, is_rugged=False)),
    COPY: _event(GAME_STATE, _tick(LEADERS, is_active=True, is_rugged=False)),
    RUG: _event(GAME_STATE, _tick(LEADERS, is_active=True, is_rugged=True)),
    POOL: _event(GAME_PLAYER_STATE, {"gameId": "<game_id>", "rugpool": POOL_PAGE}),
}
OTHERS_TRADES: Final = tuple(
    _event(NEW_TRADE, [TRACE, _trade(kind, "<leader>")]) for kind in ("buy", "sell")
)
LOST_TRADE: Final = _event(NEW_TRADE, TRACE)
MESSAGE_FRAMES: Final[Mapping[int, tuple[str, Frame]]] = {
    ACCOUNT: _event(PLAYER_STATE, PLAYER),
    BOUGHT: _event(NEW_TRADE, [TRACE, _trade("buy", "<player_id>")]),
    SOLD: _event(NEW_TRADE, [TRACE, _trade("sell", "<player_id>")]),
    STAKED: _event("currentSidebet", [TRACE, SIDE_BET]),
    DECIDED: _event("currentSidebetResult", [TRACE, RESULT]),
}
BUTTON: Final = cut_frame(BUTTON_FIELDS)
ACTION: Final = cut_frame(ACTION_FIELDS)
