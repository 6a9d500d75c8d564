"""Players of the crash game, each alone in a chain of games: the state of both environments."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from hftlib.envs import session_kernel as kernel
from hftlib.envs.session_rules import SessionRules
from hftlib.market.draws import open_streams
from hftlib.sessions.account import CASH, QTY, STAKE, open_accounts
from hftlib.sessions.board import RING, Board, close_game, open_boards
from hftlib.sessions.game import play_games
from hftlib.sessions.observation import FEATURE_COUNT
from hftlib.sessions.vocabulary import N_ADJUSTMENTS

WARM_UP_SEED = 20_251_215  # of the games before every chain

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Observation = kernel.Observation
Prices = Sequence[float] | npt.NDArray[np.float64]


class Seats:
    """State of n copies, and the moves both environments share."""

    def __init__(self, rules: SessionRules, n: int) -> None:
        self._settings = kernel.pack_rules(rules)
        self._accounts = open_accounts(n, rules.initial_cash)
        self._seats = np.zeros((n, kernel.N_COLUMNS))
        self._boards, self._rings = open_boards(n)
        self._streams = np.zeros((n, 2), dtype=np.uint64)
        self._seeds: list[int] = [0] * n  # of the copies' chains
        self._numbers = np.zeros(n, dtype=np.int64)  # of the next game in its chain
        self._prices = np.zeros(0)  # of all given games, end to end
        self._spans = np.zeros((n, 2), dtype=np.int64)  # of a copy's; an empty one is drawn

    def __len__(self) -> int:
        return len(self._seats)

    def begin_all(self, seeds: Sequence[int] | None, games: Sequence[Prices | None]) -> Observation:
        """Open a game in every copy: one of given prices, or where None its chain's next.

        Game k of the chain of a seed is game k of `sessions.game.play_games`. With
        `seeds` all copies begin chains anew.

        Raises
        ------
        ValueError
            If the prices are not those of a game, or a seed is no whole number of 64
            bits; nothing has changed then.
        """
        given = [np.zeros(0) if game is None else check_prices(game) for game in games]
        if seeds is not None:
            for seed in seeds:
                open_streams(seed, 0)  # refuses a seed out of range
            self._seeds = list(seeds)
            self._numbers[:] = 0
            self._boards[:], self._rings[:] = _warm_boards()
        stops = np.cumsum([len(prices) for prices in given])
        self._prices = np.concatenate(given)
        self._spans[:, 1] = stops
        self._spans[1:, 0] = stops[:-1]
        out = np.empty((len(self), FEATURE_COUNT), dtype=np.float32)
        self._begin(np.ones(len(self), dtype=np.bool_), out)
        return out

    def begin_next(self, wanted: BoolArray, out: Observation) -> None:
        """Open the chain's next game in the copies that `wanted` marks; write what they see."""
        self._spans[wanted] = 0
        self._begin(wanted, out)

    def _begin(self, wanted: BoolArray, out: Observation) -> None:
        is_drawn = wanted & (self._spans[:, 0] == self._spans[:, 1])
        for i in np.flatnonzero(is_drawn):
            self._streams[i] = open_streams(self._seeds[i], self._numbers[i])
        self._numbers[is_drawn] += 1
        kernel.begin(
            self._settings,
            wanted,
            self._prices,
            self._spans,
            self._accounts,
            self._seats,
            self._boards,
            out,
        )

    def step(self, actions: npt.NDArray[np.int64]) -> tuple[Observation, FloatArray]:
        """Move by one tick: observations and rewards.

        Raises
        ------
        ValueError
            If an action is out of range; nothing has moved then.
        """
        out = np.empty((len(self), FEATURE_COUNT), dtype=np.float32)
        rewards = np.empty(len(self))
        bad = kernel.step(
            self._settings,
            actions,
            self._prices,
            self._spans,
            self._accounts,
            self._seats,
            self._boards,
            self._rings,
            self._streams,
            rewards,
            out,
        )
        if bad >= 0:
            raise ValueError(
                f"action of copy {bad} is {actions[bad].tolist()}; expected a choice from 0 to "
                f"{kernel.N_CHOICES - 1} and an adjustment from 0 to {N_ADJUSTMENTS - 1}"
            )
        return out, rewards

    def masks(self) -> BoolArray:
        """Choices, then adjustments, that may be valid now; shape (n, 13)."""
        out = np.empty((len(self), kernel.N_CHOICES + N_ADJUSTMENTS), dtype=np.bool_)
        kernel.write_masks(self._accounts, self._seats, out)
        return out

    def ends(self) -> tuple[BoolArray, BoolArray]:
        """Whether each copy has been terminated, and truncated."""
        end = self._seats[:, kernel.END]
        return end == kernel.RUG, end == kernel.TIME

    def info(self) -> dict[str, npt.NDArray[Any]]:
        """Copies: an info kept by the caller must not change under it."""
        seats, accounts = self._seats, self._accounts
        cash, qty, price = accounts[:, CASH], accounts[:, QTY], seats[:, kernel.PRICE]
        counts = seats[:, kernel.N_EXECUTED : kernel.N_REFUSED + 1].astype(np.int64)
        return {
            "tick": seats[:, kernel.TICK].astype(np.int64),
            "price": price.copy(),
            "equity": cash + qty * price,
            "cash": cash.copy(),
            "qty": qty.copy(),
            "stake": accounts[:, STAKE].copy(),
            "bet": seats[:, kernel.BET].copy(),
            "n_executed": counts[:, 0],
            "n_invalid": counts[:, 1],
            "n_refused": counts[:, 2],
        }

    def save_state(self) -> dict[str, Any]:
        """Copies of all that changes."""
        arrays = [array.copy() for array in self._arrays()]
        return {"arrays": arrays, "prices": self._prices.copy(), "seeds": list(self._seeds)}

    def load_state(self, saved: dict[str, Any]) -> None:
        """Go on from `save_state`."""
        for mine, kept in zip(self._arrays(), saved["arrays"], strict=True):
            mine[...] = kept
        self._prices, self._seeds = saved["prices"].copy(), list(saved["seeds"])

    def _arrays(self) -> list[npt.NDArray[Any]]:
        """All that changes and has a row a copy."""
        tables = [self._accounts, self._seats, self._boards, self._rings]
        return [*tables, self._streams, self._numbers, self._spans]


def check_actions(actions: npt.ArrayLike, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """`actions` as an array; a choice and an adjustment in the last axis.

    Raises
    ------
    ValueError
        If the shape is another, or they are no integers.
    """
    values = np.asarray(actions)
    if values.shape != shape or values.dtype.kind not in "iu":
        raise ValueError(
            f"actions are {values.dtype} of shape {values.shape}; expected integers of shape "
            f"{shape}: (choice, adjustment)"
        )
    return values.astype(np.int64)


def check_prices(prices: Prices) -> FloatArray:
    """Prices of a game as an array of shape (ticks + 1,), the rug price last.

    Raises
    ------
    ValueError
        If there are fewer than two, one is negative or not finite, or the first is not 1.
    """
    values = np.asarray(prices, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(
            f"prices have shape {values.shape}; expected those of one game, (ticks + 1,), at "
            "least the first and the rug price"
        )
    is_bad = ~(np.isfinite(values) & (values >= 0))
    is_bad[0] |= values[0] != 1
    if is_bad.any():
        at = int(np.argmax(is_bad))
        raise ValueError(
            f"price {values[at]} on tick {at} of a given game; expected finite prices, at least "
            "0, from the start of the game at 1.0"
        )
    return values


@cache
def _warm_boards() -> tuple[Board, Board]:
    """The board that every chain begins with, of `RING` games, and its ring."""
    boards, rings = open_boards(1)
    games = play_games(RING, WARM_UP_SEED)
    for peak, rug_tick in zip(games.peak_multiplier, games.rug_tick, strict=True):
        close_game(boards[0], rings[0], peak, rug_tick, kernel.INSTARUG_INCOME)
    return boards, rings
