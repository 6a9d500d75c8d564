"""What a dataset of transitions consists of.

On disk it is a folder: observations once, one row a kept tick, the rows of a
game together and in order, so that the next observation of a transition is the
row behind its own; one `.npy` file for each other column; `games.parquet`, one
row for each game of a session, with its player's username; `quarantine.parquet`,
presses that could not be used; `manifest.json`.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from hftlib.sessions.observation import FEATURE_COUNT
from hftlib.sessions.shards import Column

IntArray = npt.NDArray[np.int64]
Int8Array = npt.NDArray[np.int8]
BoolArray = npt.NDArray[np.bool_]

FORMAT: Final = "hftlib transitions 1"
MANIFEST: Final = "manifest.json"
GAMES: Final = "games.parquet"
QUARANTINE: Final = "quarantine.parquet"
OBSERVATIONS: Final = Column(np.float32, (FEATURE_COUNT,))
COLUMNS: Final = {
    "row": Column(np.int64),
    "choice": Column(np.int8),
    "adjustment": Column(np.int8),
    "rewards": Column(np.float64),
    "terminated": Column(np.bool_),
    "truncated": Column(np.bool_),
    "is_exact": Column(np.bool_),
    "stake_open": Column(np.bool_),
    "game": Column(np.int64),
}
GAME_COLUMNS: Final = {
    "game_id": "str",
    "session_id": "str",
    "first_row": "int64",  # of its observations
    "n_ticks": "int64",  # its observations
    "first_tick": "int64",
    "last_tick": "int64",
    "is_terminated": "bool",  # the last tick is the rug
    "first_equity": "float64",  # SOL
    "last_equity": "float64",  # SOL, after the settlement
}


class Transitions(NamedTuple):
    """k transitions of whole games, with the m observations of these games.

    The reward of a transition is what equity gains until the next kept tick,
    in SOL; behind the last it includes what the server settles after the rug.
    """

    observations: npt.NDArray[np.float32]  # (m, 36)
    row: IntArray  # (k,) of the observation; the next one is behind it
    choice: Int8Array  # (k,) position in `vocabulary.CHOICES`
    adjustment: Int8Array  # (k,) position in `vocabulary.ADJUSTMENTS`
    rewards: npt.NDArray[np.float64]  # (k,)
    terminated: BoolArray  # (k,) the next observation is the rug
    truncated: BoolArray  # (k,) the capture of the game ends with the next observation
    is_exact: BoolArray  # (k,) the presses of the tick are this choice and adjustment, no more
    stake_open: BoolArray  # (k,) a side bet is open when the choice is made
    game: IntArray  # (k,) row of the table of games


NO_TRANSITIONS: Final = Transitions(
    *(np.empty((0, *c.shape), c.dtype) for c in (OBSERVATIONS, *COLUMNS.values()))
)
