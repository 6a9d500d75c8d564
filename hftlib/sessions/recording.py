"""Simulated sessions into the event store: the rows that a recorder of the wire writes.

Session k of a seed is played by one simulated player at one client, on a
server of its own, and depends on the seed and k alone; so do the bytes of its
files. Rows are numbered in the order of their times.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Final

from hftlib.compute import derive_rng, derive_seed
from hftlib.sessions.chronicle import draw_games, write_chronicle
from hftlib.sessions.players import PLAYERS
from hftlib.sessions.rounds import RUG
from hftlib.sessions.server import play_session
from hftlib.sessions.session_rows import SessionRows
from hftlib.sessions.session_texts import SessionTexts
from hftlib.sessions.store import EventWriter

SPACING: Final = timedelta(hours=2)  # between the starts of sessions
BLOCK: Final = 32_768  # wire events rendered and written together


@dataclass(frozen=True)
class RecordingReport:
    """What was recorded.

    Attributes
    ----------
    n_games, n_ticks : int
        Games played, and their ticks, those of the rugs included.
    n_events : int
        Events of the wire.
    n_presses, n_executed : int
        Presses of buttons, and orders among them that were executed.
    players : dict
        Name of the player of each session, by session id.
    """

    n_games: int
    n_ticks: int
    n_events: int
    n_presses: int
    n_executed: int
    players: dict[str, str]


def record_sessions(
    root: Path,
    *,
    n_sessions: int,
    games_per_session: int,
    players: Sequence[str],
    seed: int,
    first_day: date = date(2026, 1, 1),
    fee: float = 0.0,
    cash: float = 10.0,
    has_pool_events: bool = True,
) -> RecordingReport:
    """Record sessions of simulated players into the store below `root`.

    Parameters
    ----------
    root : Path
        Folder that holds `events_parquet`. A session recorded again replaces its files.
    n_sessions, games_per_session : int
    players : sequence of str
        Names of `PLAYERS`; session k is of the one at `k % len(players)`, which its
        rows name as `username`.
    seed : int
        Session k depends on it, on k, and on what here concerns every session.
    first_day : date
        Session k connects two hours times k after its midnight, UTC.
    fee : float
        Share of each purchase and sale that is lost, [0, 1).
    cash : float
        Of a player at the start of a session, SOL.
    has_pool_events : bool
        See `rounds.schedule_rounds`.

    Raises
    ------
    ValueError
        If a player is unknown, or a number out of bounds.
    """
    if n_sessions < 1 or games_per_session < 1:
        raise ValueError(
            f"n_sessions={n_sessions}, games_per_session={games_per_session}: expected one or more"
        )
    unknown = [name for name in players if name not in PLAYERS]
    if unknown or not players:
        raise ValueError(f"players {unknown} of {players}: expected names of {', '.join(PLAYERS)}")
    played: dict[str, str] = {}
    totals: Counter[str] = Counter()
    for number in range(n_sessions):
        name = players[number % len(players)]
        begin = datetime.combine(first_day, time(), UTC) + number * SPACING
        own_seed = derive_seed(seed, "session", number)
        draw = draw_games(games_per_session, own_seed, begin.date())
        player = PLAYERS[name]
        recording = play_session(
            draw.played, player, own_seed, cash=cash, fee=fee, has_pool_events=has_pool_events
        )
        begin_us = int(begin.timestamp()) * 1_000_000
        rugs_us = recording.events["send_us"][recording.events["kind"] == RUG]
        rng = derive_rng(own_seed, "texts")
        chronicle = write_chronicle(draw, (begin_us + rugs_us) // 1000, rng)
        player_id = f"p_{rng.integers(16**12):012x}"
        texts = SessionTexts(chronicle, recording, player_id, begin_us, rng)
        session_id = f"simulated-{seed}-{number:05d}"
        played[session_id] = name
        _write(
            root,
            session_id,
            SessionRows(session_id, player_id, name, begin_us, fee, recording, texts),
        )
        totals["n_ticks"] += len(draw.played.prices)
        totals["n_events"] += len(recording.log)
        totals["n_presses"] += len(recording.presses)
        totals["n_executed"] += int((recording.presses["executed_tick"] >= 0).sum())
    return RecordingReport(n_games=n_sessions * games_per_session, players=played, **totals)


def _write(root: Path, session_id: str, rows: SessionRows) -> None:
    """Write a session; its files do not depend on the clock."""
    with EventWriter(root, session_id, max_events=BLOCK, max_seconds=math.inf) as writer:
        for begin in range(0, rows.n_events, BLOCK):
            writer.write_columns(rows.wire_columns(begin, begin + BLOCK))
        for columns in (rows.press_columns(), rows.action_columns(), rows.game_columns()):
            if len(columns["seq"]):
                writer.write_columns(columns)
