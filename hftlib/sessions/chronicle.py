"""The games of a simulated session: their seeds, prices, and the board while each runs."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from hashlib import sha256
from typing import Final

import numpy as np
import numpy.typing as npt

from hftlib.sessions import board
from hftlib.sessions.game import Games, prices, simulated_seed

IntArray = npt.NDArray[np.int64]

N_PAST: Final = board.RING  # games before a session, which its first board counts
PAST_MS: Final = 70_000  # that each of those took
INCOME = (0.5, 1.1)  # of the rugpool from one instarug, SOL


@dataclass(frozen=True)
class Draw:
    """Games as the server draws them in advance.

    Attributes
    ----------
    game_ids, server_seeds : tuple of str
        Of `N_PAST` games that ended before the client connected, those played, and
        the next one, which is announced and not played.
    games : Games
        All of them but the last.
    """

    game_ids: tuple[str, ...]
    server_seeds: tuple[str, ...]
    games: Games

    @property
    def hashes(self) -> tuple[str, ...]:
        """What the server publishes of each server seed before the game."""
        return tuple(sha256(secret.encode()).hexdigest() for secret in self.server_seeds)

    @property
    def played(self) -> Games:
        """The games of the session."""
        past = self.games.offsets[N_PAST]
        return Games(
            self.games.prices[past:],
            self.games.offsets[N_PAST:] - past,
            self.games.first_tick[N_PAST:],
            self.games.is_complete[N_PAST:],
        )


@dataclass(frozen=True)
class Chronicle:
    """What the server knows of past games at each time of a session.

    Attributes
    ----------
    draw : Draw
    boards : array of shape (n_played + 1, board.N_FIELDS)
        While each played game runs, and after the last.
    best : int64 array of shape (n_played + 1,)
        Number in `draw.games` of the board's highest peak.
    ended_ms : int64 array of shape (N_PAST + n_played,)
        Since the epoch.
    """

    draw: Draw
    boards: npt.NDArray[np.float64]
    best: IntArray
    ended_ms: IntArray


def draw_games(n_played: int, seed: int, day: date) -> Draw:
    """The games of one session; their ids say the day on which it begins."""
    pairs = [simulated_seed(seed, number, day) for number in range(N_PAST + n_played + 1)]
    secrets, ids = zip(*pairs, strict=True)
    lists = [prices(*pair) for pair in pairs[:-1]]
    return Draw(tuple(ids), tuple(secrets), Games.from_lists(lists))


def write_chronicle(draw: Draw, rugs_ms: IntArray, rng: np.random.Generator) -> Chronicle:
    """Follow the board through the games.

    Parameters
    ----------
    draw : Draw
    rugs_ms : int64 array of shape (n_played,)
        When each played game rugged, since the epoch.
    rng : Generator
        Of the rugpool's income.
    """
    games, n_played = draw.games, len(rugs_ms)
    past = rugs_ms[0] - PAST_MS * np.arange(N_PAST, 0, -1)
    ended_ms = np.concatenate([past, rugs_ms])
    incomes = rng.uniform(*INCOME, len(games))
    peaks, rug_ticks = games.peak_multiplier, games.rug_tick
    boards, best = np.empty((n_played + 1, board.N_FIELDS)), np.zeros(n_played + 1, dtype=np.int64)
    (row,), (ring,) = board.open_boards(1)
    day, highest = None, 0
    for k in range(len(games)):
        if k >= N_PAST:
            boards[k - N_PAST], best[k - N_PAST] = row, highest
        today = datetime.fromtimestamp(ended_ms[k] / 1000, UTC).date()
        if today != day:
            board.begin_day(row)
        if today != day or peaks[k] > row[board.HIGHEST_TODAY]:
            day, highest = today, k
        board.close_game(row, ring, peaks[k], rug_ticks[k], incomes[k])
    boards[-1], best[-1] = row, highest
    return Chronicle(draw, boards, best, ended_ms)
