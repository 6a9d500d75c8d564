"""What is remembered of recorded sessions and their games while events go by.

Rows of numbers that the compiled pass changes in place, and the names that lead
to them. What belongs to a session is filled forward in it; what belongs to a
game (its price history, entry, last action and execution) is kept by game, so
that events of two games may interleave.
"""

import hashlib
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hftlib.sessions.payloads import PRICE, SIDE_BET

IntArray = npt.NDArray[np.int64]
Record = Any  # one row of an array of records
Records = npt.NDArray[Any]

NONE = -1
NEVER = np.iinfo(np.int64).max
FAR_PAST = np.iinfo(np.int64).min

N_FEATURES = 36

SESSION = np.dtype(
    [
        ("fill", np.float64, (SIDE_BET,)),  # last value of each column
        ("clock_ns", np.int64),
        ("phase", np.int64),
        ("game", np.int64),  # of the last update
        ("nameless", np.int64),  # game of updates that name none, before the first that does
        ("running", np.int64),  # game of the last kept tick, NONE after its rug
        ("unsettled", np.int64),  # rugged game that waits for the player's update, else NONE
        ("next_press", np.int64),  # presses and answers before these have been seen
        ("next_answer", np.int64),
        ("end_press", np.int64),
        ("bet_amount", np.float64),
        ("has_player", np.bool_),  # a playerUpdate has been seen
        ("has_stake", np.bool_),  # a side bet is open
        ("n_defaults", np.int64),  # ticks kept before the first playerUpdate
    ]
)
GAME = np.dtype(
    [
        ("session", np.int64),
        ("number", np.int64),  # in the order of the first kept ticks
        ("code", np.float64),  # the id as a feature
        ("start_ns", np.int64),  # of the first kept tick
        ("n_kept", np.int64),
        ("is_over", np.bool_),
        ("tick", np.int64),  # last kept; NONE before
        ("price", np.float64),
        ("velocity", np.float64),
        ("acceleration", np.float64),
        ("entry_tick", np.int64),
        ("action_tick", np.int64),  # of the last BUY, SELL or SIDEBET; NONE before
        ("execution", np.int64),  # NONE, else the time of the press that was last executed, ns
        ("execution_tick", np.int64),
        ("execution_price", np.float64),
        ("latency_ms", np.float64),
        ("equity", np.float64),  # after the rug
        ("is_confirmed", np.bool_),  # no update of the player can change that equity
    ]
)
# sorted by session and, within it, by ts_ns
PRESS = np.dtype(
    [
        ("ts_ns", np.int64),
        ("answer_ns", np.int64),  # NEVER if none came
        ("game", np.int64),  # record of the game; NONE stands for that of the last update
        ("tick", np.int64),
        ("is_action", np.bool_),
        ("bet_amount", np.float64),
        ("execution_tick", np.int64),  # NONE if not executed
        ("execution_price", np.float64),
        ("latency_ms", np.float64),
    ]
)
# of each kept tick
KEPT_TYPES: Final = {
    "session": np.int32,
    "game": np.int64,
    "tick": np.int64,
    "price": np.float64,
    "balance": np.float64,
    "position_qty": np.float64,
    "stake_open": np.bool_,
    "is_rug": np.bool_,
    "ts_ns": np.int64,
}
KEPT = np.dtype(list(KEPT_TYPES.items()))
GAME_CODE_MAX: Final = 1.0 - 2.0**-24  # the largest float32 below 1


def encode_game(game_id: str | None) -> float:
    """A number in [0, 1) that says which game it is and nothing about it; 0 without an id."""
    if not game_id:
        return 0.0
    digest = hashlib.sha256(game_id.encode(errors="surrogatepass")).digest()
    return min(int.from_bytes(digest[:6], "big") / 2.0**48, GAME_CODE_MAX)


class SessionTables:
    """Records of sessions and games, found by name.

    sessions, games : arrays of SESSION and GAME, with room to grow
    """

    def __init__(self) -> None:
        self.sessions, self.games = np.zeros(1, SESSION), np.zeros(16, GAME)
        self.session_ids: list[str] = []
        self.game_ids: list[str] = []
        self._numbers: dict[tuple[int, str], int] = {}

    def add_session(self, session_id: str) -> int:
        """Record of a new session, whose updates are of a game without name until one names its."""
        number = len(self.session_ids)
        self.session_ids.append(session_id)
        self.sessions = _with_room(self.sessions, number)
        session = self.sessions[number]
        session["fill"][PRICE] = 1.0
        session["clock_ns"] = FAR_PAST
        session["running"] = session["unsettled"] = NONE
        session["game"] = session["nameless"] = self.find_game(number, "")
        return number

    def find_game(self, session: int, game_id: str) -> int:
        """Record of a game of a session; a new one where it was not known."""
        number = self._numbers.setdefault((session, game_id), len(self.game_ids))
        if number == len(self.game_ids):
            self.game_ids.append(game_id)
            self.games = _with_room(self.games, number)
            game = self.games[number]
            game["session"] = session
            game["code"] = encode_game(game_id)
            game["price"] = 1.0
            game["tick"] = game["action_tick"] = game["execution"] = game["number"] = NONE
        return number

    def count_defaults(self) -> dict[str, int]:
        """Ticks kept before the first playerUpdate, by session that has any."""
        counts = self.sessions["n_defaults"][: len(self.session_ids)].tolist()
        return {name: n for name, n in zip(self.session_ids, counts, strict=True) if n}


def _with_room(records: Records, number: int) -> Records:
    """The records, twice as many if there are only `number`."""
    if number < len(records):
        return records
    grown = np.zeros(2 * len(records), records.dtype)
    grown[:number] = records
    return grown
