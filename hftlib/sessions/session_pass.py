"""Compiled pass over the events of recorded sessions: state carried from event to event.

One pass serves whole batches and single events alike, so that the batch and the
incremental builder cannot differ. An event is a row of `payloads` values with
its kind, session, game and time; presses come along as rows of `PRESS`. Time is
the running maximum of a session's stamps: a clock that is set back cannot
reorder anything.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hftlib.compute import compile_kernel
from hftlib.sessions import terms
from hftlib.sessions.payloads import (
    ALLOWS_PRESALE,
    AVG_PRICE,
    BALANCE,
    CONNECTED,
    FLOAT32_MAX,
    GAME_UPDATE,
    HIGHEST,
    INSTARUGS,
    INVESTED,
    IS_ACTIVE,
    IS_RUGGED,
    MULTIPLIER,
    PLAYER_UPDATE,
    POOL_AMOUNT,
    POOL_THRESHOLD,
    PRICE,
    QTY,
    SIDE_BET,
    SIDE_BETS,
    TICK,
    TIMER,
    Values,
)
from hftlib.sessions.session_state import (
    FAR_PAST,
    KEPT,
    N_FEATURES,
    NONE,
    IntArray,
    Record,
    Records,
    SessionTables,
)
from hftlib.sessions.vocabulary import ACTIVE, RUGGED

# counts of a pass
N_KEPT, N_OPENED, N_SETTLED, N_DUPLICATES, N_LATE, N_SET_BACK, N_CLIPPED = range(7)
N_COUNTS = 7


@compile_kernel
def see_presses(session: Record, games: Records, presses: Records, answers: IntArray) -> None:
    """Take in the presses before the session's clock and the answers up to it."""
    while session.next_press < session.end_press:
        press = presses[session.next_press]
        if press.ts_ns >= session.clock_ns:
            break
        session.next_press += 1
        if not np.isnan(press.bet_amount):
            session.bet_amount = press.bet_amount
        if press.is_action and press.tick != NONE:
            game = session.game if press.game == NONE else press.game
            games[game].action_tick = press.tick
    while session.next_answer < session.end_press:
        press = presses[answers[session.next_answer]]
        if press.answer_ns > session.clock_ns:
            break
        session.next_answer += 1
        if press.execution_tick != NONE:
            game = session.game if press.game == NONE else press.game
            games[game].execution = press.ts_ns
            games[game].execution_tick = press.execution_tick
            games[game].execution_price = press.execution_price
            games[game].latency_ms = press.latency_ms


@compile_kernel
def enter_game(session: Record, game: Record, number: int) -> None:
    """Make a game the one of the last update; tick and price are its own."""
    session.game = number
    session.fill[TICK] = max(game.tick, 0)
    session.fill[PRICE] = game.price


@compile_kernel
def fill_update(session: Record, values: Values) -> None:
    """Take in the fields of a gameStateUpdate.

    `active` and `rugged` are never filled forward. Where `active` is absent, an
    update with a tick is active unless a cooldown runs.
    """
    for k in range(CONNECTED + 1):
        if not np.isnan(values[k]):
            session.fill[k] = values[k]
    for k in range(MULTIPLIER, HIGHEST + 1):
        if not np.isnan(values[k]):
            session.fill[k] = values[k]
    if np.isnan(values[IS_ACTIVE]):
        is_active = not np.isnan(values[TICK]) and not values[TIMER] > 0.0
        session.fill[IS_ACTIVE] = 1.0 if is_active else 0.0
    if np.isnan(values[IS_RUGGED]):
        session.fill[IS_RUGGED] = 0.0
    session.phase = terms.phase(
        session.fill[IS_RUGGED] > 0.0,
        session.fill[IS_ACTIVE] > 0.0,
        session.fill[ALLOWS_PRESALE] > 0.0,
    )


@compile_kernel
def keep_tick(session: Record, game: Record, number: int, tick: int, price: float) -> None:
    """Enter a tick into the game's history."""
    if game.n_kept == 0:
        game.start_ns = session.clock_ns
        velocity = 0.0
    else:
        velocity = terms.per_tick(price - game.price, tick - game.tick)
    is_third = game.n_kept >= 2
    change = velocity - game.velocity
    game.acceleration = terms.per_tick(change, tick - game.tick) if is_third else 0.0
    game.velocity = velocity
    game.tick = tick
    game.price = price
    game.n_kept += 1
    game.is_over = session.phase == RUGGED
    session.running = NONE if game.is_over else number
    if not session.has_player:
        session.n_defaults += 1


@compile_kernel
def fill_player(session: Record, games: Records, values: Values) -> None:
    """Take in a playerUpdate."""
    was_flat = not session.fill[QTY] > 0.0
    for k in range(BALANCE, INVESTED + 1):
        if not np.isnan(values[k]):
            session.fill[k] = values[k]
    session.has_player = True
    if was_flat and session.fill[QTY] > 0.0 and session.running != NONE:
        games[session.running].entry_tick = games[session.running].tick
    if values[SIDE_BET] > 0.0 or values[SIDE_BETS] > 0.0:
        session.has_stake = True
    elif not values[SIDE_BET] < 0.0 and not values[SIDE_BETS] < 0.0:
        session.has_stake = False


@compile_kernel
def fill_rugpool(session: Record, values: Values) -> None:
    """Take in the rugpool that any event may carry."""
    for k in range(POOL_AMOUNT, INSTARUGS + 1):
        if not np.isnan(values[k]):
            session.fill[k] = values[k]


@compile_kernel
def write_features(session: Record, game: Record, features: Values) -> int:
    """State of a session as the 36 features; returns how many were clipped to fit float32."""
    fill = session.fill
    price = fill[PRICE]
    qty = fill[QTY]
    average = fill[AVG_PRICE]
    features[0] = fill[TICK]
    features[1] = price
    features[2] = session.phase
    features[3] = fill[TIMER]
    features[4] = fill[ALLOWS_PRESALE]
    features[5] = fill[IS_ACTIVE]
    features[6] = fill[IS_RUGGED]
    features[7] = fill[CONNECTED]
    features[8] = game.code
    for k in range(BALANCE, HIGHEST + 1):
        features[9 + k - BALANCE] = fill[k]
    features[23] = game.velocity
    features[24] = game.acceleration
    features[25] = terms.unrealized_pnl(price, average, qty)
    features[26] = terms.position_pnl(price, average, qty)
    features[27] = terms.ratio(fill[POOL_AMOUNT], fill[POOL_THRESHOLD])
    features[28] = terms.at_risk(fill[BALANCE], qty, price)
    features[29] = fill[TICK] - game.entry_tick if qty > 0.0 else 0.0
    since = fill[TICK] if game.action_tick == NONE else fill[TICK] - game.action_tick
    features[30] = max(since, 0.0)
    features[31] = session.bet_amount
    features[32:] = 0.0
    if game.execution != NONE:
        features[32] = game.execution_tick
        features[33] = game.execution_price
        if game.n_kept > 0 and FAR_PAST not in (game.start_ns, game.execution):
            features[34] = (game.execution - game.start_ns) / 1e6
        features[35] = game.latency_ms
    n_clipped = 0
    for k in range(N_FEATURES):
        if not abs(features[k]) <= FLOAT32_MAX:
            features[k] = FLOAT32_MAX if features[k] > 0.0 else -FLOAT32_MAX
            n_clipped += 1
    return n_clipped


@compile_kernel
def close_game(session: Record, settled: IntArray, n_settled: int) -> int:
    """Note that the equity of the unsettled game will not change; returns the new `n_settled`."""
    settled[n_settled] = session.unsettled
    session.unsettled = NONE
    return n_settled + 1


@compile_kernel
def observe_events(
    kinds: npt.NDArray[np.int8],
    event_sessions: IntArray,
    event_games: IntArray,
    ts_ns: IntArray,
    values: Values,
    sessions: Records,
    games: Records,
    presses: Records,
    answers: IntArray,
    n_numbered: int,
    features: Values,
    observations: npt.NDArray[np.float32],
    kept: Records,
    opened: IntArray,
    settled: IntArray,
    counts: IntArray,
) -> None:
    """Take in n events in the order of reading.

    Parameters
    ----------
    kinds, event_sessions, event_games, ts_ns : arrays of shape (n,)
        Kind as in `payloads`; records of the session and of the game, NONE where the
        event names no game; time, FAR_PAST where it has none.
    values : float64 (n, N_VALUES)
    sessions, games, presses : arrays of SESSION, GAME and PRESS, the first two changed
    answers : int64, the presses of each session in the order of their answers
    n_numbered : int, games numbered so far
    features : float64 (N_FEATURES,), for use inside
    observations, kept : float32 (n, N_FEATURES) and KEPT (n,), written for each kept tick
    opened : int64 (n,), written: games in the order of their first kept ticks
    settled : int64 (2 n,), written: games whose equity after the rug is known now
    counts : int64 (N_COUNTS,), written
    """
    n_kept = n_opened = n_settled = n_duplicates = n_late = n_set_back = n_clipped = 0
    for k in range(len(kinds)):
        session = sessions[event_sessions[k]]
        if ts_ns[k] >= session.clock_ns:
            session.clock_ns = ts_ns[k]
        elif ts_ns[k] != FAR_PAST:
            n_set_back += 1
        see_presses(session, games, presses, answers)

        if kinds[k] != GAME_UPDATE:
            fill_rugpool(session, values[k])
            if kinds[k] == PLAYER_UPDATE:
                fill_player(session, games, values[k])
                if session.unsettled != NONE and not np.isnan(values[k, BALANCE]):
                    game = games[session.unsettled]
                    game.equity = session.fill[BALANCE] + session.fill[QTY] * game.price
                    game.is_confirmed = True
                    n_settled = close_game(session, settled, n_settled)
            continue

        number = event_games[k]
        if number == NONE:
            if session.game != session.nameless:
                continue  # which of the games that it may be of cannot be told
            number = session.nameless
        game = games[number]
        if game.is_over or values[k, TICK] < game.tick:
            n_late += 1
            continue
        if number != session.game:
            enter_game(session, game, number)
        fill_update(session, values[k])
        fill_rugpool(session, values[k])
        if session.phase < ACTIVE or np.isnan(values[k, TICK]):
            continue
        tick = int(values[k, TICK])
        if tick == game.tick:
            n_duplicates += 1
            continue

        if game.n_kept == 0:
            if session.unsettled != NONE:
                n_settled = close_game(session, settled, n_settled)
            game.number = n_numbered + n_opened
            opened[n_opened] = number
            n_opened += 1
        keep_tick(session, game, number, tick, session.fill[PRICE])
        if game.is_over:
            game.equity = session.fill[BALANCE] + session.fill[QTY] * game.price
            session.unsettled = number
            if session.fill[QTY] == 0.0 and not session.has_stake:
                game.is_confirmed = True
                n_settled = close_game(session, settled, n_settled)

        n_clipped += write_features(session, game, features)
        for j in range(N_FEATURES):
            observations[n_kept, j] = features[j]
        row = kept[n_kept]
        row.session = event_sessions[k]
        row.game = game.number
        row.tick = tick
        row.price = game.price
        row.balance = session.fill[BALANCE]
        row.position_qty = session.fill[QTY]
        row.stake_open = session.has_stake
        row.is_rug = game.is_over
        row.ts_ns = session.clock_ns
        n_kept += 1
    counts[N_KEPT] = n_kept
    counts[N_OPENED] = n_opened
    counts[N_SETTLED] = n_settled
    counts[N_DUPLICATES] = n_duplicates
    counts[N_LATE] = n_late
    counts[N_SET_BACK] = n_set_back
    counts[N_CLIPPED] = n_clipped


class PassResult(NamedTuple):
    """Ticks kept, as in `observe_events`, and the records of games opened and settled."""

    observations: npt.NDArray[np.float32]
    kept: Records
    opened: IntArray
    settled: IntArray
    counts: IntArray


def run_pass(
    tables: SessionTables,
    kinds: npt.NDArray[np.int8],
    sessions: IntArray,
    games: IntArray,
    ts_ns: IntArray,
    values: Values,
    presses: Records,
    answers: IntArray,
    n_numbered: int,
) -> PassResult:
    """`observe_events` into new arrays."""
    n = len(kinds)
    observations, kept = np.empty((n, N_FEATURES), np.float32), np.empty(n, KEPT)
    opened, settled = np.empty(n, np.int64), np.empty(2 * n, np.int64)
    counts, features = np.zeros(N_COUNTS, np.int64), np.empty(N_FEATURES)
    observe_events(
        kinds,
        sessions,
        games,
        ts_ns,
        values,
        tables.sessions,
        tables.games,
        presses,
        answers,
        n_numbered,
        features,
        observations,
        kept,
        opened,
        settled,
        counts,
    )
    return PassResult(
        observations[: counts[N_KEPT]],
        kept[: counts[N_KEPT]],
        opened[: counts[N_OPENED]],
        settled[: counts[N_SETTLED]],
        counts,
    )
