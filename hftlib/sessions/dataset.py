"""Transitions of captured play, as learners take them: in memory, or mapped into it from a folder.

The layer below knows no learner: what a folder holds is in `sessions.layout`.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch.utils.data import Dataset

from hftlib.paths import read_json
from hftlib.sessions.grouping import split_by_game
from hftlib.sessions.layout import (
    COLUMNS,
    FORMAT,
    GAMES,
    MANIFEST,
    NO_TRANSITIONS,
    OBSERVATIONS,
    Transitions,
)
from hftlib.sessions.observation import FEATURE_NAMES
from hftlib.sessions.shards import read_columns
from hftlib.sessions.vocabulary import N_ADJUSTMENTS

Array = npt.NDArray[Any]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Float32Array = npt.NDArray[np.float32]

GAME_ID: Final = FEATURE_NAMES.index("game_id")


class DatasetError(ValueError):
    """A folder that holds no whole dataset, or a demand that a dataset cannot meet."""


class Batch(NamedTuple):
    """n transitions, one a row."""

    observations: Float32Array  # (n, 36)
    actions: IntArray  # (n,) choice * 9 + adjustment
    rewards: npt.NDArray[np.float64]  # (n,) SOL
    next_observations: Float32Array  # (n, 36)
    terminated: BoolArray  # (n,)
    truncated: BoolArray  # (n,)


class TransitionDataset(Dataset[tuple[Float32Array, int, float, Float32Array, bool]]):
    """Transitions in the order of their games; item i is (obs, action, reward, next_obs, done).

    An action is `choice * 9 + adjustment`; done says that the game ended, not
    the capture. A torch `DataLoader` takes it as it is.

    Parameters
    ----------
    columns : mapping of str to array
        `Transitions` by name.
    games : frame
        One row for each number in `game`, with column game_id.
    index : int64 array, optional
        Ascending positions of the transitions that belong to this view; default: all.
    shows_game_id : bool
        Leave feature 8 as it is. It names the game and must not reach a
        learner, so that it is 0 by default.
    """

    def __init__(
        self,
        columns: Mapping[str, Array],
        games: pd.DataFrame,
        *,
        index: IntArray | None = None,
        shows_game_id: bool = False,
    ) -> None:
        self._columns = dict(columns)
        self._games = games
        self._index = np.arange(len(columns["row"])) if index is None else index
        self._shows_game_id = shows_game_id
        codes, names = pd.factorize(games["game_id"])
        self._game_codes = codes
        self.game_names: tuple[str, ...] = tuple(names)

    @classmethod
    def open(cls, folder: Path, *, shows_game_id: bool = False) -> Self:
        """The dataset of a folder that `conversion.write_transitions` wrote.

        Raises
        ------
        DatasetError
            If a file is missing or the files do not fit together.
        """
        try:
            manifest = read_json(folder / MANIFEST)
            columns = read_columns(folder, {"observations": OBSERVATIONS, **COLUMNS})
            games = pd.read_parquet(folder / GAMES)
        except (OSError, ValueError) as error:
            raise DatasetError(f"{folder} holds no dataset: {error}") from error
        found = {
            "format": FORMAT,
            "feature_names": list(FEATURE_NAMES),
            "n_observations": len(columns["observations"]),
            "n_transitions": len(columns["row"]),
            "n_games": len(games),
        }
        for name, value in found.items():
            if manifest.get(name) != value:
                raise DatasetError(
                    f"{folder / MANIFEST}: {name} is {manifest.get(name)}, expected {value}; "
                    "write the folder anew with conversion.write_transitions"
                )
        return cls(columns, games, shows_game_id=shows_game_id)

    @classmethod
    def from_parts(
        cls, parts: Iterable[Transitions], games: pd.DataFrame, *, shows_game_id: bool = False
    ) -> Self:
        """Join in memory what a stream yielded."""
        joined = map(np.concatenate, zip(NO_TRANSITIONS, *parts, strict=True))
        columns = Transitions(*joined)._asdict()
        return cls(columns, games, shows_game_id=shows_game_id)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, i: int) -> tuple[Float32Array, int, float, Float32Array, bool]:
        one = self.batch(self._index_of(i))
        return (
            one.observations[0],
            int(one.actions[0]),
            float(one.rewards[0]),
            one.next_observations[0],
            bool(one.terminated[0]),
        )

    def batch(self, index: IntArray) -> Batch:
        """Transitions at these positions, shape (n,), in their order."""
        at = self._index[index]
        row = self._columns["row"][at]
        return Batch(
            observations=self._observe(row),
            actions=self._actions(at),
            rewards=self._columns["rewards"][at],
            next_observations=self._observe(row + 1),
            terminated=self._columns["terminated"][at],
            truncated=self._columns["truncated"][at],
        )

    def column(self, name: str) -> Array:
        """One of `COLUMNS` for every transition, shape (len(self),)."""
        return self._columns[name][self._index]

    @property
    def actions(self) -> IntArray:
        """Coded actions, shape (len(self),)."""
        return self._actions(self._index)

    @property
    def game_ids(self) -> IntArray:
        """The game of each transition, a position in `game_names`, shape (len(self),).

        Two sessions of one game have the same code; `column("game")` tells them apart.
        """
        return self._game_codes[self.column("game")]

    @property
    def games(self) -> pd.DataFrame:
        """Rows of the table of games that have transitions here."""
        return self._games.iloc[np.unique(self.column("game"))]

    def take_games(self, games: npt.ArrayLike) -> Self:
        """Only the transitions of these games.

        Parameters
        ----------
        games : array of int
            Codes as in `game_ids`.

        Raises
        ------
        DatasetError
            If there are no transitions of one of them.
        """
        codes, wanted = self.game_ids, np.asarray(games)
        missing = np.setdiff1d(wanted, codes)
        if len(missing):
            raise DatasetError(
                f"no transitions of game {missing[0]}; take codes that are in game_ids"
            )
        return self._view(np.flatnonzero(np.isin(codes, wanted)))

    def split(self, shares: Mapping[str, float], rng: np.random.Generator) -> dict[str, Self]:
        """Deal whole games to named parts, see `grouping.split_by_game`."""
        parts = split_by_game(self.game_ids, shares, rng)
        return {name: self._view(rows) for name, rows in parts.items()}

    def _view(self, index: IntArray) -> Self:
        return type(self)(
            self._columns,
            self._games,
            index=self._index[index],
            shows_game_id=self._shows_game_id,
        )

    def _index_of(self, i: int) -> IntArray:
        if not -len(self) <= i < len(self):
            raise IndexError(f"transition {i} of {len(self)}")
        return np.array([i])

    def _actions(self, at: IntArray) -> IntArray:
        choice = self._columns["choice"][at].astype(np.int64)
        return choice * N_ADJUSTMENTS + self._columns["adjustment"][at]

    def _observe(self, rows: IntArray) -> Float32Array:
        observations: Float32Array = self._columns["observations"][rows]
        if not self._shows_game_id:
            observations[:, GAME_ID] = 0.0
        return observations
