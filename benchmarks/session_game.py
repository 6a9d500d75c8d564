"""Speed of the crash game: replayed from server seeds, and drawn in bulk."""

import statistics
from collections.abc import Callable
from datetime import date

from benchmarks.reference_game import play_slowly
from benchmarks.timing import N_REPEATS, Result, median_seconds, time_call
from hftlib.sessions.game import play_games, prices, simulated_seed

N_REPLAYED = 1_000
N_SLOW = 25
N_BATCH = 20_000
FLOOR = 1_000_000  # ticks/s


def measure_replay_of_games() -> list[Result]:
    """Games of server seeds, the kernels and plain Python in turns; a tick is a price."""
    seeds = [simulated_seed(8, number, date(2026, 1, 1)) for number in range(N_REPLAYED)]

    def speed(play: Callable[[str, str], list[float]], n_games: int) -> float:
        counts: list[int] = []
        seconds = time_call(lambda: counts.extend(len(play(*pair)) for pair in seeds[:n_games]))
        return sum(counts) / seconds

    if any(play_slowly(*pair) != prices(*pair) for pair in seeds[:N_SLOW]):
        raise RuntimeError("the kernels and plain Python disagree on a game")
    pairs = [(speed(prices, N_REPLAYED), speed(play_slowly, N_SLOW)) for _ in range(N_REPEATS)]
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    return [
        Result("session_game_arc4", ours, "ticks/s", "plain Python", theirs, FLOOR),
        Result("session_game_over_python", ratio, "times", "plain Python", 1.0, 1.0),
    ]


def measure_session_game() -> list[Result]:
    """Replay against plain Python, and the batch on counter streams."""
    n_ticks = len(play_games(N_BATCH, seed=8).prices)
    batch = n_ticks / median_seconds(lambda: play_games(N_BATCH, seed=8))
    return [
        *measure_replay_of_games(),
        Result("session_game_batch", batch, "ticks/s", target=FLOOR),
    ]


if __name__ == "__main__":
    for result in measure_session_game():
        peer = f"; {result.peer} {result.peer_value:,.0f}" if result.peer else ""
        print(f"{result.name}: {result.value:,.0f} {result.unit}{peer}")
