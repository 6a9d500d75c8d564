"""The board above the chart: statistics of the last games and the rugpool.

A board is a row of numbers and a ring of peaks that kernels change in place.
Nothing on it moves while a game runs, so the simulated server and the
environment show the same board for the same past games.

The rugpool takes a share of what is lost in instarugs, games that rug within
`INSTARUG_TICKS` ticks, and is paid out when it reaches its threshold.

Source: wire captures of December 2025; the rule of the payout is inferred from
two of them (a pool of 10.78 SOL was drawn at a threshold of 10).
"""

import numpy as np
import numpy.typing as npt

from hftlib.compute import compile_kernel

Board = npt.NDArray[np.float64]

AVERAGE = 0  # mean peak of the last `RING` games, a multiplier; 0 before the first
COUNT_2X = 1  # of those games, the number with a peak of at least 2, ...
COUNT_10X = 2
COUNT_50X = 3
COUNT_100X = 4
HIGHEST_TODAY = 5  # multiplier; 0 before the day's first game
RUGPOOL = 6  # SOL
INSTARUGS = 7  # since the pool was last paid out
N_GAMES = 8  # that have ended on this board
N_FIELDS = 9

RING = 100  # games
INSTARUG_TICKS = 6
RUGPOOL_THRESHOLD = 10.0  # SOL


def open_boards(n: int) -> tuple[Board, Board]:
    """Empty boards of shape (n, N_FIELDS) and their rings of peaks of shape (n, RING)."""
    return np.zeros((n, N_FIELDS)), np.zeros((n, RING))


@compile_kernel
def begin_day(board: Board) -> None:
    """Forget the highest peak of the day before."""
    board[HIGHEST_TODAY] = 0.0


@compile_kernel
def close_game(board: Board, ring: Board, peak: float, rug_tick: int, income: float) -> None:
    """Enter a game that has ended.

    Parameters
    ----------
    board, ring : array of shape (N_FIELDS,) and (RING,)
        Changed in place.
    peak : float
        Highest price of the game, the rug price left out; a multiplier of at least 1.
    rug_tick : int
    income : float
        What the rugpool earns if this game is an instarug, SOL.
    """
    ring[int(board[N_GAMES]) % RING] = peak
    board[N_GAMES] += 1.0
    n = min(int(board[N_GAMES]), RING)
    board[AVERAGE : COUNT_100X + 1] = 0.0
    for game in range(n):
        board[AVERAGE] += ring[game]
        board[COUNT_2X] += ring[game] >= 2.0
        board[COUNT_10X] += ring[game] >= 10.0
        board[COUNT_50X] += ring[game] >= 50.0
        board[COUNT_100X] += ring[game] >= 100.0
    board[AVERAGE] /= n
    board[HIGHEST_TODAY] = max(board[HIGHEST_TODAY], peak)
    if rug_tick <= INSTARUG_TICKS:
        board[INSTARUGS] += 1.0
        board[RUGPOOL] += income
    if board[RUGPOOL] >= RUGPOOL_THRESHOLD:
        board[RUGPOOL] = board[INSTARUGS] = 0.0
