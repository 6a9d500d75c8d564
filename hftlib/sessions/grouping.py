"""Splits of captured play by game, and the refusal of every other split.

Rows of one game share its fate: who has seen row t of a game knows something
of row t + 1. A split by rows lets that through and finds a value where there is
none; a split by game does not. Two sessions that recorded the same game count
as one group.
"""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


class LeakError(ValueError):
    """A game that lies in two parts of a split."""


def split_by_game(
    game_ids: npt.NDArray[np.generic], shares: Mapping[str, float], rng: np.random.Generator
) -> dict[str, IntArray]:
    """Deal whole games to named parts at random.

    Parameters
    ----------
    game_ids : array of shape (n_rows,)
        The game of each row, as code or text, in any order.
    shares : mapping of str to float
        Of the games, not of the rows; positive, with the sum 1.

    Returns
    -------
    dict of int64 arrays
        Keys those of `shares`; ascending positions in `game_ids`, each in one part.

    Raises
    ------
    ValueError
        If the shares are not positive with the sum 1, or a part gets no game.
    """
    if not shares or min(shares.values()) <= 0 or not math.isclose(sum(shares.values()), 1):
        raise ValueError(f"shares={dict(shares)}: expected positive numbers with the sum 1")
    games, group = np.unique(game_ids, return_inverse=True)
    ends = np.rint(np.cumsum([0, *shares.values()]) * len(games)).astype(np.int64)
    order = rng.permutation(len(games))
    parts = {}
    for name, start, stop in zip(shares, ends[:-1], ends[1:], strict=True):
        if start == stop:
            raise ValueError(
                f"part {name} gets none of {len(games)} games with its share of {shares[name]}; "
                "raise the share or record more games"
            )
        parts[name] = np.flatnonzero(np.isin(group, order[start:stop]))
    return parts


def check_split(game_ids: npt.NDArray[np.generic], parts: Mapping[str, IntArray]) -> None:
    """Make sure that no game lies in two parts.

    Parameters
    ----------
    game_ids : array of shape (n_rows,)
    parts : mapping of str to int64 array
        Positions in `game_ids`, or a mask of its shape.

    Raises
    ------
    LeakError
        Naming the first such game and its parts.
    """
    homes: dict[object, str] = {}
    for name, rows in parts.items():
        for game in np.unique(game_ids[rows]).tolist():
            home = homes.setdefault(game, name)
            if home != name:
                raise LeakError(
                    f"game {game} lies in {home} and in {name}, so that one part knows the other's "
                    "outcome; split with grouping.split_by_game"
                )
