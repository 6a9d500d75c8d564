"""Timetable of rounds: what the server sends to everybody, and when.

A round is a cooldown (timer from 15000 ms in steps of 100 ms; purchases before
the round from 10000 ms on), tick 0, a tick each 250 ms, and the rug. A second
event of the rug follows after 1 to 5 s, often within the next cooldown. The
times do not depend on prices, only on how long games last.

Source: the wire captures that the tests compare with; shares of repeated ticks
and of trades are chosen to resemble them.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from hftlib.sessions.vocabulary import TICK_MS

Events = npt.NDArray[np.void]
IntArray = npt.NDArray[np.int64]

# kinds of event
CONNECT = 0
FIRST_STATE = 1  # whole state, sent on connection
USERNAME = 2
SETTLEMENT = 3  # whole state at 15000 ms
PRESALE_OPENING = 4  # state at 10000 ms
COUNTDOWN = 5
START = 6  # tick 0
TICK = 7
COPY = 8  # of the latest tick
POOL = 9  # rugpool of the player's page
TRADE = 10  # of another player
RUG = 11
SECOND_RUG = 12  # whole state

EVENT: Final = np.dtype(
    [
        ("send_us", "i8"),  # since the client connected
        ("game", "i4"),  # number in the session, from 0
        ("tick", "i4"),  # -1 outside the running game
        ("timer_ms", "i4"),  # of the cooldown, 0 outside it
        ("kind", "i1"),
        ("connected", "i4"),  # players
        ("n_trades", "i4"),  # in the game so far
    ]
)

COOLDOWN_MS: Final = 15_000
PRESALE_MS: Final = 10_000
TIMER_MS: Final = 100
CONNECTION_US: Final = 330_000  # from the connection to the first state
COPIES: Final = (0.80, 0.15, 0.05)  # chances of 0, 1, 2 repetitions of a tick
TRADES_PER_TICK: Final = 0.15  # that reach the wire
COUNTED_PER_TICK: Final = 1.2  # that the counter shows
FIRST_TRADES, RUG_TRADES = 45, 20  # counted at the first tick and at the rug
CROWD = (150, 260)  # least and most connected players


def schedule_rounds(
    rug_ticks: IntArray, rng: np.random.Generator, *, has_pool_events: bool = True
) -> Events:
    """All that is sent from a connection in the first cooldown to the settlement of the last game.

    The last state is of a game that is not played: as on the wire, it is the
    first to list the game before it in `gameHistory`.

    Parameters
    ----------
    rug_ticks : int64 array of shape (n_games,)
        Tick on which each game rugs, at least 1.
    has_pool_events : bool
        Whether each tick is followed by a `gameStatePlayerUpdate`, as in later captures.

    Returns
    -------
    array of `EVENT`, in order of `send_us`

    Raises
    ------
    ValueError
        If there is no game, or one rugs before tick 1.
    """
    if len(rug_ticks) == 0 or rug_ticks.min() < 1:
        raise ValueError(f"rug_ticks={rug_ticks}: expected a game or more, each with a rug after 0")
    n = len(rug_ticks)
    pauses = rng.uniform(1.5e6, 4.5e6, n).astype(np.int64)  # from the rug to the next cooldown
    lengths = (COOLDOWN_MS + TICK_MS * rug_ticks) * 1000 + pauses
    begins = np.concatenate([[0], np.cumsum(lengths)])
    ticks = _schedule_ticks(rug_ticks, begins[:-1] + COOLDOWN_MS * 1000, rng)
    parts = [ticks, _schedule_cooldowns(begins, rng), _schedule_second_rugs(ticks, rug_ticks, rng)]
    running = ticks[(ticks["kind"] == TICK)]
    for number, chance in enumerate((1 - COPIES[0], COPIES[2] / (1 - COPIES[0]))):
        running = running[rng.random(len(running)) < chance]
        parts.append(_follow(running, COPY, rng, 5 + 30 * number, 35 + 30 * number))
    if has_pool_events:
        parts.append(_follow(ticks, POOL, rng, 2, 5))
    traded = ticks[(ticks["kind"] != RUG) & (rng.random(len(ticks)) < TRADES_PER_TICK)]
    parts.append(_follow(traded, TRADE, rng, 70, 200))
    events = np.concatenate(parts)
    events = events[np.argsort(events["send_us"], kind="stable")]
    return _connect(_count(events, rng), rng)


def _make(kind: int, send_us: IntArray, game: IntArray, tick: IntArray | int) -> Events:
    events = np.zeros(len(send_us), EVENT)
    events["kind"], events["send_us"], events["game"], events["tick"] = kind, send_us, game, tick
    return events


def _follow(events: Events, kind: int, rng: np.random.Generator, low: int, high: int) -> Events:
    """An event of another kind `low` to `high` ms after each of these."""
    later = events.copy()
    later["kind"] = kind
    later["send_us"] += rng.integers(1000 * low, 1000 * high, len(events))
    return later


def _schedule_ticks(rug_ticks: IntArray, starts: IntArray, rng: np.random.Generator) -> Events:
    game = np.repeat(np.arange(len(rug_ticks)), rug_ticks + 1)
    offsets = np.cumsum(rug_ticks + 1) - (rug_ticks + 1)
    tick = np.arange(len(game)) - offsets[game]
    jitter = np.clip(rng.normal(0, 4_000, len(game)), -20_000, 20_000).astype(np.int64)
    jitter[tick == 0] = 0
    events = _make(TICK, starts[game] + 1000 * TICK_MS * tick + jitter, game, tick)
    events["kind"][tick == 0] = START
    events["kind"][tick == rug_ticks[game]] = RUG
    return events


def _schedule_cooldowns(begins: IntArray, rng: np.random.Generator) -> Events:
    timers = np.arange(COOLDOWN_MS, 0, -TIMER_MS)
    game = np.repeat(np.arange(len(begins)), len(timers))
    timer = np.tile(timers, len(begins))
    jitter = rng.integers(0, 15_000, len(game))
    events = _make(COUNTDOWN, begins[game] + 1000 * (COOLDOWN_MS - timer) + jitter, game, -1)
    events["timer_ms"] = timer
    events["kind"][timer == COOLDOWN_MS] = SETTLEMENT
    openings = events[timer == PRESALE_MS]
    openings["kind"] = PRESALE_OPENING
    openings["send_us"] -= 1000
    joined = np.concatenate([events, openings])
    is_played = joined["game"] < len(begins) - 1
    return joined[is_played | (joined["kind"] == SETTLEMENT)]


def _schedule_second_rugs(ticks: Events, rug_ticks: IntArray, rng: np.random.Generator) -> Events:
    rugs = ticks[ticks["kind"] == RUG]
    seconds = _follow(rugs, SECOND_RUG, rng, 1_000, 5_000)
    seconds["tick"] = rug_ticks + rng.integers(2, 4, len(rugs))
    return seconds


def _count(events: Events, rng: np.random.Generator) -> Events:
    """Number the connected players, a walk between two walls, and the trades of each game."""
    low, high = CROWD
    steps = rng.choice([-1, 0, 1], len(events), p=[0.1, 0.8, 0.1])
    walk = (rng.integers(2 * (high - low)) + np.cumsum(steps)) % (2 * (high - low))
    events["connected"] = low + np.minimum(walk, 2 * (high - low) - walk)
    is_new = np.isin(events["kind"], (START, TICK, RUG))
    new = events[is_new]
    added = rng.poisson(COUNTED_PER_TICK, len(new))
    added[new["kind"] == START] = FIRST_TRADES
    added[new["kind"] == RUG] += RUG_TRADES
    total = np.cumsum(added)
    before = (total - added)[new["kind"] == START]
    counted = total - before[new["game"]]
    latest = np.cumsum(is_new) - 1  # a cooldown shows the trades of the game before it
    events["n_trades"] = np.where(latest >= 0, counted[np.maximum(latest, 0)], 0)
    return events


def _connect(events: Events, rng: np.random.Generator) -> Events:
    """Cut what was sent before a client connected in the first cooldown; times from then on."""
    connected_us = int(rng.integers(200_000, 1000 * (COOLDOWN_MS - 2_000)))
    first_us = connected_us + CONNECTION_US
    rest = events[events["send_us"] > first_us]
    greeting = np.repeat(rest[:1], 3)
    greeting["kind"] = CONNECT, FIRST_STATE, USERNAME
    greeting["send_us"] = connected_us, first_us, first_us
    greeting["tick"] = -1
    greeting["timer_ms"] = COOLDOWN_MS - first_us // 1000 // TIMER_MS * TIMER_MS
    joined = np.concatenate([greeting, rest])
    joined["send_us"] -= connected_us
    return joined
