"""Presses put to the ticks on which they were decided.

A press belongs to the kept tick that its screen showed; if that tick was not
kept, to the one before it, else to the one after. What several presses of one
tick leave of each other is one choice and one adjustment.
"""

from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from hftlib.sessions.presses import BUTTONS, FIRST_BET, FIRST_SHARE, TICK_END, Presses
from hftlib.sessions.vocabulary import ACTIVE

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Int8Array = npt.NDArray[np.int8]

OFFSETS: Final = (0, -1, 1)  # ticks, in the order of trial
GAME_STRIDE: Final = 2 * TICK_END  # keys of neighbouring games do not touch
SELL_BUTTON: Final = BUTTONS.index("SELL")


class Fate(IntEnum):
    """What became of a press."""

    NO_GAME = 0  # its session has no kept tick of its game
    NO_TICK = 1  # its game has no kept tick near its own
    OUTSIDE = 2  # pressed before or after the round
    AT_END = 3  # pressed on the last kept tick, which no transition leaves
    USED = 4
    MOVED = 5  # used, on a neighbouring tick
    MERGED = 6  # a later press of the tick took its place
    SHARE = 7  # chose the share of later sales


class Decisions(NamedTuple):
    """What was decided on each of m kept ticks, and the fate of each of k presses."""

    choice: Int8Array  # (m,)
    adjustment: Int8Array  # (m,)
    is_exact: BoolArray  # (m,) choice and adjustment are all that was pressed, in the tick itself
    is_partial: BoolArray  # (m,) a sale of less than the position
    fate: Int8Array  # (k,)


def match_presses(
    game: IntArray,
    tick: IntArray,
    is_last: BoolArray,
    presses: Presses,
    which: IntArray,
    press_game: IntArray,
) -> Decisions:
    """Put presses to kept ticks of their games.

    Parameters
    ----------
    game, tick : int64 arrays of shape (m,)
        Kept ticks by game; both rise.
    is_last : bool array of shape (m,)
        The last tick of its game.
    which, press_game : int64 arrays of shape (k,)
        Positions in `presses`, in the order of pressing within a game, and the
        game of each as in `game`.
    """
    button = presses.button[which]
    row, fate = _find_rows(
        game * GAME_STRIDE + tick, press_game * GAME_STRIDE + presses.tick[which]
    )
    fate[(row >= 0) & is_last[row]] = Fate.AT_END
    fate[presses.phase[which] != ACTIVE] = Fate.OUTSIDE
    is_used = (fate == Fate.USED) | (fate == Fate.MOVED)
    fate[is_used & (button >= FIRST_SHARE)] = Fate.SHARE
    is_choice = is_used & (button < FIRST_BET)
    is_adjustment = is_used & (button >= FIRST_BET) & (button < FIRST_SHARE)

    last_choice, n_choices = _last_of_each(row, is_choice, len(tick))
    last_adjustment, n_adjustments = _last_of_each(row, is_adjustment, len(tick))
    for kind, last in ((is_choice, last_choice), (is_adjustment, last_adjustment)):
        at = np.flatnonzero(kind)
        fate[at[last[row[at]] != at]] = Fate.MERGED

    chosen, adjusted = last_choice >= 0, last_adjustment >= 0
    choice = np.zeros(len(tick), dtype=np.int8)
    choice[chosen] = button[last_choice[chosen]] + 1
    adjustment = np.zeros(len(tick), dtype=np.int8)
    adjustment[adjusted] = button[last_adjustment[adjusted]] - FIRST_BET + 1
    is_partial = np.zeros(len(tick), dtype=bool)
    is_partial[chosen] = (button[last_choice[chosen]] == SELL_BUTTON) & (
        presses.share[which[last_choice[chosen]]] < 1.0
    )
    # an agent's adjustment comes before its choice
    is_exact = (n_choices <= 1) & (n_adjustments <= 1) & ~is_partial
    is_exact &= ~(chosen & (last_adjustment > last_choice))
    is_exact[row[fate == Fate.MOVED]] = False
    return Decisions(choice, adjustment, is_exact, is_partial, fate)


def _find_rows(keys: IntArray, wanted: IntArray) -> tuple[IntArray, Int8Array]:
    """Row of the first of `OFFSETS` at which each wanted key is found, -1 where at none."""
    row = np.full(len(wanted), -1)
    fate = np.full(len(wanted), Fate.NO_TICK, dtype=np.int8)
    for offset in OFFSETS:
        at = np.minimum(np.searchsorted(keys, wanted + offset), len(keys) - 1)
        is_found = (row < 0) & (keys[at] == wanted + offset)
        row[is_found] = at[is_found]
        fate[is_found] = Fate.MOVED if offset else Fate.USED
    return row, fate


def _last_of_each(row: IntArray, is_kind: BoolArray, n_rows: int) -> tuple[IntArray, IntArray]:
    """Last press of a kind on each row, -1 where none, and how many there are."""
    at = np.flatnonzero(is_kind)
    last = np.full(n_rows, -1)
    np.maximum.at(last, row[at], at)
    return last, np.bincount(row[at], minlength=n_rows)
