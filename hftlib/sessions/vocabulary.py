"""Words of the crash game's wire, buttons and event store, each written once.

Ticks are 250 ms, amounts SOL, prices multiples of the starting price 1.0.

Source: the origin's event-store schema 1.0.0 and wire captures of December 2025.
"""

from typing import Final

SCHEMA_VERSION: Final = "1.0.0"
TICK_MS: Final = 250

# wire events
GAME_STATE: Final = "gameStateUpdate"
PLAYER_STATE: Final = "playerUpdate"
GAME_PLAYER_STATE: Final = "gameStatePlayerUpdate"
NEW_TRADE: Final = "standard/newTrade"
OBSERVED_EVENTS: Final = (GAME_STATE, PLAYER_STATE, GAME_PLAYER_STATE)
KNOWN_EVENTS: Final = frozenset(
    {
        *OBSERVED_EVENTS,
        NEW_TRADE,
        "connect",
        "disconnect",
        "currentSidebet",
        "currentSidebetResult",
        "sidebetEventUpdate",
        "goldenHourUpdate",
        "goldenHourDrawing",
        "usernameStatus",
        "rugRoyaleUpdate",
        "rugpassStatus",
        "getPlayerLeaderboardPosition",
        "playerLeaderboardPosition",
    }
)

# event store
WS_EVENT: Final = "ws_event"
BUTTON_EVENT: Final = "button_event"
PLAYER_ACTION: Final = "player_action"
COMPLETE_GAME: Final = "complete_game"
DOC_TYPES: Final = (
    WS_EVENT,
    "game_tick",
    PLAYER_ACTION,
    BUTTON_EVENT,
    "bbc_round",
    "candleflip_round",
    "short_position",
    "server_state",
    "system_event",
    COMPLETE_GAME,
)
SOURCES: Final = ("cdp", "public_ws", "replay", "ui")
DIRECTIONS: Final = ("received", "sent")

# phases of a round
COOLDOWN: Final = 0
PRESALE: Final = 1
ACTIVE: Final = 2
RUGGED: Final = 3

# buttons
ACTION_BUTTONS: Final = ("BUY", "SELL", "SIDEBET")
BET_BUTTONS: Final = ("CLEAR", "INC_001", "INC_01", "INC_10", "INC_1", "HALF", "DOUBLE", "MAX")
SHARE_BUTTONS: Final = ("SELL_10", "SELL_25", "SELL_50", "SELL_100")
BUTTON_CATEGORIES: Final = {
    **dict.fromkeys(ACTION_BUTTONS, "action"),
    **dict.fromkeys(BET_BUTTONS, "bet_adjust"),
    **dict.fromkeys(SHARE_BUTTONS, "percentage"),
}
SHARES: Final = {"SELL_10": 0.1, "SELL_25": 0.25, "SELL_50": 0.5, "SELL_100": 1.0}

# what an agent chooses: MultiDiscrete([4, 9]); a pair is coded as choice * 9 + adjustment
CHOICES: Final = ("WAIT", "BUY", "SELL_100", "SIDEBET")
ADJUSTMENTS: Final = ("NONE", *BET_BUTTONS)
WAIT: Final = 0
BUY: Final = 1
SELL: Final = 2
SIDEBET: Final = 3
N_ADJUSTMENTS: Final = len(ADJUSTMENTS)
N_ACTIONS: Final = len(CHOICES) * N_ADJUSTMENTS

MIN_BET: Final = 0.001
SIDEBET_TICKS: Final = 40
SIDEBET_PAYOUT: Final = 5.0
