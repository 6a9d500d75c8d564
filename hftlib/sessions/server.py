"""The simulated server, and the session that one client records of it.

A session is a discrete-event simulation on one clock in microseconds: the
server sends by the timetable, messages reach the client, its player presses,
orders reach the server. An order that arrives while the server's tick is e is
executed at tick e and its price, if e is before the rug; before the round a
purchase is executed at tick 0 and price 1. Money moves by `account` alone.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from hftlib.compute import compile_kernel, derive_rng, derive_seed
from hftlib.market.draws import Stream, open_streams
from hftlib.sessions import account as acc
from hftlib.sessions.client import (
    FIRST_ACTION,
    NEVER,
    PRESS,
    SELECTED,
    Link,
    Seat,
    draw_delay,
    draw_delays,
    draw_link,
    open_seat,
    plan_presses,
    press_button,
    show_account,
    show_event,
)
from hftlib.sessions.game import Games
from hftlib.sessions.journal import (
    ACCOUNT,
    BOUGHT,
    DECIDED,
    LOG,
    MESSAGE,
    SOLD,
    STAKED,
    Journal,
    Recording,
    log_arrival,
)
from hftlib.sessions.players import Player
from hftlib.sessions.rounds import (
    COUNTDOWN,
    FIRST_STATE,
    PRESALE_MS,
    RUG,
    SETTLEMENT,
    START,
    TICK,
    schedule_rounds,
)
from hftlib.sessions.vocabulary import ACTIVE, BUY, COOLDOWN, PRESALE, RUGGED, SELL

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Table = npt.NDArray[np.void]

ORDER: Final = np.dtype(
    [("arrival_us", "i8"), ("press", "i4"), ("choice", "i4"), ("amount", "f8"), ("share", "f8")]
)
IN_FLIGHT: Final = 64  # orders on their way at one time
TOP_UP: Final = 0.2  # of the first cash; a player with less pays in between games


class Terms(NamedTuple):
    """What holds for a whole session."""

    fee: float  # share of each purchase and sale that is lost
    first_cash: float  # SOL


class World(NamedTuple):
    """What happens whatever the player does."""

    events: Table  # (n_events,) of `rounds.EVENT`
    delays_us: IntArray  # (n_events,)
    prices: FloatArray  # of all games, one after the other
    offsets: IntArray  # (n_games + 1,)


class Server(NamedTuple):
    """What the server knows; `state` has the columns GAME to NEXT_DUE."""

    account: FloatArray  # (account.N_FIELDS,)
    state: IntArray  # (N_STATE,)
    sidebet_pnl: FloatArray  # (1,)
    orders: Table  # (IN_FLIGHT,) of `ORDER`, a ring


# columns of the state
GAME, CURRENT_TICK, PHASE = range(3)
N_LOGGED, N_MESSAGES, N_PRESSES = range(3, 6)
FIRST_ORDER, NEXT_ORDER = 6, 7  # numbers of the next order to arrive and to be sent
ANSWER = 8  # time until which a person waits for an answer
N_DUE, NEXT_DUE = 9, 10  # presses that the player has planned, and the next of them
N_STATE = 11


@compile_kernel
def _log(journal: Journal, state: IntArray, event: int, arrival_us: int) -> int:
    """Enter an event or message in the log; the time at which the client has it."""
    state[N_LOGGED] += 1
    return log_arrival(journal.log, state[N_LOGGED] - 1, event, arrival_us)


@compile_kernel
def _tell(
    server: Server,
    journal: Journal,
    arrival_us: int,
    kind: int,
    price: float = 0.0,
    qty: float = 0.0,
    amount: float = 0.0,
) -> int:
    """Send the player a message; the time at which the client has it."""
    n = server.state[N_MESSAGES]
    message = journal.messages[n]
    message["kind"] = kind
    message["game"], message["tick"] = server.state[GAME], server.state[CURRENT_TICK]
    message["price"], message["qty"], message["amount"] = price, qty, amount
    message["sidebet_pnl"] = server.sidebet_pnl[0]
    for field in range(acc.N_FIELDS):
        message["account"][field] = server.account[field]
    server.state[N_MESSAGES] += 1
    return _log(journal, server.state, -1 - n, arrival_us)


@compile_kernel
def _settle(server: Server, journal: Journal, price: float, is_rug: bool, arrival_us: int) -> None:
    """Decide what this tick decides, as `account.settle_rug` does, and tell the player."""
    account = server.account
    stake, since, qty = account[acc.STAKE], account[acc.BET_TICK], account[acc.QTY]
    if is_rug:
        acc.sell(account, 1.0, price, 0.0)
    paid = acc.settle_sidebet(account, server.state[CURRENT_TICK], is_rug)
    is_decided = stake > 0.0 and account[acc.STAKE] == 0.0
    if is_decided:
        server.sidebet_pnl[0] += paid - stake
    if is_decided or (is_rug and qty > 0.0):
        _tell(server, journal, arrival_us, ACCOUNT)
    if is_decided:
        message = journal.messages[server.state[N_MESSAGES]]
        message["decided_stake"], message["since"] = stake, int(since)
        _tell(server, journal, arrival_us, DECIDED, 0.0, 0.0, paid)


@compile_kernel
def _begin_game(server: Server, journal: Journal, arrival_us: int) -> None:
    """Reset what counts by game, and tell the player if it was not at its start."""
    account = server.account
    pnl, invested, sidebet_pnl = account[acc.PNL], account[acc.INVESTED], server.sidebet_pnl[0]
    acc.begin_game(account)
    server.sidebet_pnl[0] = 0.0
    if pnl != 0.0 or sidebet_pnl != 0.0 or invested != account[acc.INVESTED]:
        _tell(server, journal, arrival_us, ACCOUNT)


@compile_kernel
def _send(server: Server, journal: Journal, world: World, terms: Terms, k: int) -> None:
    """Send event k of the timetable, and do what goes with it."""
    event, state, account = world.events[k], server.state, server.account
    kind, game = event["kind"], event["game"]
    arrival_us = event["send_us"] + world.delays_us[k]
    if kind == START:
        _begin_game(server, journal, arrival_us)
    _log(journal, state, k, arrival_us)
    if kind == SETTLEMENT:
        state[GAME], state[CURRENT_TICK], state[PHASE] = game, 0, COOLDOWN
        if account[acc.CASH] < TOP_UP * terms.first_cash:
            account[acc.CASH] = terms.first_cash
            _tell(server, journal, arrival_us, ACCOUNT)
    elif kind in (FIRST_STATE, COUNTDOWN):
        state[PHASE] = PRESALE if event["timer_ms"] <= PRESALE_MS else COOLDOWN
        if kind == FIRST_STATE:
            _tell(server, journal, arrival_us, ACCOUNT)
    elif kind in (START, TICK, RUG):
        state[PHASE] = RUGGED if kind == RUG else ACTIVE
        state[CURRENT_TICK] = event["tick"]
        price = world.prices[world.offsets[game] + event["tick"]]
        _settle(server, journal, price, kind == RUG, arrival_us)


@compile_kernel
def _execute(
    server: Server, journal: Journal, world: World, terms: Terms, link: Link, stream: Stream
) -> None:
    """Execute the order that has arrived, or refuse it in silence."""
    state, account = server.state, server.account
    order = server.orders[state[FIRST_ORDER] % IN_FLIGHT]
    press = journal.presses[order["press"]]
    state[FIRST_ORDER] += 1
    choice, phase = order["choice"], state[PHASE]
    is_open = phase == ACTIVE or (phase == PRESALE and choice == BUY)
    if press["game"] != state[GAME] or not is_open:
        return
    tick = state[CURRENT_TICK]
    price = world.prices[world.offsets[state[GAME]] + tick]
    amount, qty = min(order["amount"], account[acc.CASH]), account[acc.QTY]
    kind, is_filled = STAKED, False
    if choice == BUY:
        kind, is_filled = BOUGHT, acc.buy(account, amount, price, terms.fee)
        qty = account[acc.QTY] - qty
    elif choice == SELL:
        amount = acc.sell(account, order["share"], price, terms.fee)
        kind, is_filled = SOLD, qty > 0.0
        qty -= account[acc.QTY]
    else:
        is_filled, qty = acc.place_sidebet(account, amount, tick), 0.0
    if not is_filled:
        return
    arrival_us = order["arrival_us"] + draw_delay(link.down_ms, link.spread, stream)
    press["answer_us"] = state[ANSWER] = _tell(server, journal, arrival_us, ACCOUNT)
    press["executed_tick"], press["executed_price"] = tick, price
    press["message"] = state[N_MESSAGES]
    _tell(server, journal, arrival_us, kind, price, qty, amount)


@compile_kernel
def _press(
    server: Server, journal: Journal, seat: Seat, link: Link, stream: Stream, now_us: int
) -> None:
    """Press the next button of the queue, and send its order if it has one."""
    state = server.state
    n, button = state[N_PRESSES], seat.due_button[state[NEXT_DUE]]
    state[N_PRESSES] += 1
    state[NEXT_DUE] += 1
    if not press_button(seat, button, now_us, journal.presses[n : n + 1]):
        return
    order = server.orders[state[NEXT_ORDER] % IN_FLIGHT]
    arrival_us = now_us + draw_delay(link.up_ms, link.spread, stream)
    if state[NEXT_ORDER] > state[FIRST_ORDER]:
        before = server.orders[(state[NEXT_ORDER] - 1) % IN_FLIGHT]
        arrival_us = max(arrival_us, before["arrival_us"] + 1)
    order["arrival_us"], order["press"] = arrival_us, n
    order["choice"] = button - FIRST_ACTION + BUY
    order["amount"], order["share"] = journal.presses[n]["bet"], seat.screen[SELECTED]
    state[NEXT_ORDER] += 1


@compile_kernel
def _show(
    server: Server,
    journal: Journal,
    world: World,
    seat: Seat,
    player: Player,
    stream: Stream,
    n: int,
) -> None:
    """Show entry n of the log; the player may plan presses."""
    state = server.state
    k, now_us = journal.log[n]["event"], journal.log[n]["ts_us"]
    if k < 0:
        if journal.messages[-1 - k]["kind"] == ACCOUNT:
            show_account(seat, journal.messages[-1 - k]["account"])
        return
    event = world.events[k]
    kind, game, tick = event["kind"], event["game"], event["tick"]
    is_tick = kind in (START, TICK, RUG)
    price = world.prices[world.offsets[game] + tick] if is_tick else 1.0
    can_plan = show_event(seat, kind, game, tick, event["timer_ms"], price)
    is_waiting = state[NEXT_ORDER] > state[FIRST_ORDER] or now_us < state[ANSWER]
    if not can_plan or state[NEXT_DUE] < state[N_DUE] or (is_waiting and not player.is_random):
        return
    state[N_DUE], state[NEXT_DUE] = plan_presses(seat, player, now_us, stream), 0


@compile_kernel
def _run(
    world: World,
    server: Server,
    journal: Journal,
    seat: Seat,
    player: Player,
    terms: Terms,
    link: Link,
    stream: Stream,
) -> None:
    """Let happen what comes next until nothing does."""
    state = server.state
    sent = shown = 0
    while True:
        show_us = journal.log[shown]["ts_us"] if shown < state[N_LOGGED] else NEVER
        press_us = seat.due_us[state[NEXT_DUE]] if state[NEXT_DUE] < state[N_DUE] else NEVER
        send_us = world.events[sent]["send_us"] if sent < len(world.events) else NEVER
        order_us = NEVER
        if state[NEXT_ORDER] > state[FIRST_ORDER]:
            order_us = server.orders[state[FIRST_ORDER] % IN_FLIGHT]["arrival_us"]
        now_us = min(min(show_us, press_us), min(send_us, order_us))
        if now_us == NEVER:
            return
        if show_us == now_us:
            _show(server, journal, world, seat, player, stream, shown)
            shown += 1
        elif press_us == now_us:
            _press(server, journal, seat, link, stream, now_us)
        elif send_us == now_us:
            _send(server, journal, world, terms, sent)
            sent += 1
        else:
            _execute(server, journal, world, terms, link, stream)


def play_session(
    games: Games,
    player: Player,
    seed: int,
    *,
    cash: float = 10.0,
    fee: float = 0.0,
    has_pool_events: bool = True,
) -> Recording:
    """Play games one after the other, with one player at one recording client.

    Parameters
    ----------
    games : Games
        Complete games. Timetable, delays and the player's chances depend on
        their lengths and the seed; what the player does, on the prices it has seen.
    player : Player
    seed : int
    cash : float
        SOL at the start; a player with less than `TOP_UP` of it after a game pays in.
    fee : float
        Share of each purchase and sale that is lost, [0, 1).
    has_pool_events : bool
        See `rounds.schedule_rounds`.

    Raises
    ------
    ValueError
        If a game is not complete, `cash` or `fee` is out of bounds, or there is no game.
    """
    if not games.is_complete.all():
        raise ValueError("a game has no rug; the server plays games to their end")
    if not 0 <= fee < 1:
        raise ValueError(f"fee={fee}: expected a share in [0, 1)")
    events = schedule_rounds(
        games.rug_tick, derive_rng(seed, "rounds"), has_pool_events=has_pool_events
    )
    rng = derive_rng(seed, "link")
    link = draw_link(rng)
    world = World(events, draw_delays(link, len(events), rng), games.prices, games.offsets)
    # a plan for each event at the most; each order is answered twice, each side bet decided twice
    n_plans = int(np.isin(events["kind"], (START, TICK, COUNTDOWN)).sum())
    n_messages = 4 * (n_plans + len(games) + 1)
    journal = Journal(
        np.zeros(len(events) + n_messages, LOG),
        np.zeros(n_messages, MESSAGE),
        np.zeros(n_plans * (player.habits.n_clicks + 2), PRESS),
    )
    server = Server(
        account=acc.open_accounts(1, cash)[0],
        state=np.zeros(N_STATE, dtype=np.int64),
        sidebet_pnl=np.zeros(1),
        orders=np.zeros(IN_FLIGHT, ORDER),
    )
    stream = open_streams(derive_seed(seed, "player"), 0)[0]
    _run(world, server, journal, open_seat(), player, Terms(fee, cash), link, stream)
    return Recording(
        events=events,
        log=journal.log[: server.state[N_LOGGED]].copy(),
        messages=journal.messages[: server.state[N_MESSAGES]].copy(),
        presses=journal.presses[: server.state[N_PRESSES]].copy(),
    )
