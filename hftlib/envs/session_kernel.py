"""The compiled step of the crash game's environment: one loop over copies.

A copy is one row in each of several arrays: the player's account
(`sessions.account`), the board of former games and its ring of peaks
(`sessions.board`), the game's random stream, and the seat, whose columns are
below. Each choice has at most one order on its way, so that an order is a
column, not a queue.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hftlib.compute import compile_kernel
from hftlib.envs.session_rules import SessionRules
from hftlib.market.draws import Stream
from hftlib.sessions.account import (
    AVG_COST,
    BET_TICK,
    CASH,
    INVESTED,
    PNL,
    QTY,
    STAKE,
    Account,
    adjust_bet,
    buy,
    equity,
    place_sidebet,
    sell,
    settle_rug,
    settle_sidebet,
)
from hftlib.sessions.board import (
    AVERAGE,
    COUNT_2X,
    COUNT_10X,
    COUNT_50X,
    COUNT_100X,
    HIGHEST_TODAY,
    INSTARUGS,
    RUGPOOL,
    RUGPOOL_THRESHOLD,
    Board,
    close_game,
)
from hftlib.sessions.game import advance, rug_price
from hftlib.sessions.terms import at_risk, phase, position_pnl, ratio, unrealized_pnl
from hftlib.sessions.vocabulary import (
    BUY,
    CHOICES,
    MIN_BET,
    N_ADJUSTMENTS,
    SELL,
    TICK_MS,
    WAIT,
)

FloatArray = npt.NDArray[np.float64]
Observation = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

RUNNING, RUG, TIME = range(3)  # ways an episode stands
N_CHOICES = len(CHOICES)
CONNECTED_PLAYERS = 250.0  # about as many as in the captures
INSTARUG_INCOME = 0.8  # of the rugpool, SOL; in the captures 7.44 after nine instarugs
NEVER = -1.0  # a tick on which nothing has happened

# columns of a seat; ticks are of this game, SOL are SOL
TICK = 0
PRICE = 1
VELOCITY = 2  # change of the price in the last tick
ACCELERATION = 3  # change of that
PEAK = 4  # highest price of this game so far
LOWEST = 5  # lowest
BET = 6  # on the screen, SOL
PRESS_TICK = 7  # of the last order sent
ENTRY_TICK = 8  # of the position held
EXECUTED_TICK = 9  # of the last order executed
EXECUTED_PRICE = 10
N_EXECUTED = 11  # orders in this game
N_INVALID = 12  # actions refused before they were sent
N_REFUSED = 13  # orders refused on arrival, or on their way at the rug
END = 14  # RUNNING, RUG or TIME
DUE = 15  # and the three columns behind: tick on which the order of a choice arrives
SENT = DUE + N_CHOICES  # and the three columns behind: SOL it was sent with
N_COLUMNS = SENT + N_CHOICES


class Settings(NamedTuple):
    """`SessionRules` as the kernels take them."""

    fee: float
    latency_ticks: int
    initial_cash: float
    first_bet: float
    max_ticks: int


def pack_rules(rules: SessionRules) -> Settings:
    """The rules as the kernels take them."""
    return Settings(
        float(rules.fee),
        rules.latency_ticks,
        float(rules.initial_cash),
        float(rules.first_bet),
        rules.max_ticks,
    )


@compile_kernel
def can_send(choice: int, account: Account, seat: FloatArray) -> bool:
    """Whether an order of this choice is valid now, given a bet of `MIN_BET` or more."""
    if choice == WAIT:
        return True
    if seat[END] == RUG or seat[DUE + choice] != NEVER:
        return False
    if choice == SELL:
        return account[QTY] > 0.0
    if choice == BUY:
        return account[QTY] <= 0.0 and account[CASH] >= MIN_BET
    return account[STAKE] <= 0.0 and account[CASH] >= MIN_BET


@compile_kernel
def write_masks(accounts: Account, seats: FloatArray, out: BoolArray) -> None:
    """Mark what may be chosen; shape (n, N_CHOICES + N_ADJUSTMENTS)."""
    for i in range(len(seats)):
        for choice in range(N_CHOICES):
            out[i, choice] = can_send(choice, accounts[i], seats[i])
        out[i, N_CHOICES:] = True


@compile_kernel
def _execute(settings: Settings, choice: int, account: Account, seat: FloatArray) -> None:
    """Fill the order that arrives now, at the price now; count it if it is refused."""
    tick, price = seat[TICK], seat[PRICE]
    amount = min(seat[SENT + choice], account[CASH])
    seat[DUE + choice] = NEVER
    if choice == BUY:
        is_filled = buy(account, amount, price, settings.fee)
        if is_filled:
            seat[ENTRY_TICK] = tick
    elif choice == SELL:
        is_filled = account[QTY] > 0.0
        sell(account, 1.0, price, settings.fee)
    else:
        is_filled = place_sidebet(account, amount, int(tick))
    if is_filled:
        seat[EXECUTED_TICK] = tick
        seat[EXECUTED_PRICE] = price
        seat[N_EXECUTED] += 1.0
    else:
        seat[N_REFUSED] += 1.0


@compile_kernel
def _act(
    settings: Settings, choice: int, adjustment: int, account: Account, seat: FloatArray
) -> None:
    """Press the button of the bet, then that of the order."""
    if adjustment > 0:
        seat[BET] = min(adjust_bet(seat[BET], adjustment, account[CASH]), account[CASH])
    if choice == WAIT:
        return
    if not can_send(choice, account, seat) or (choice != SELL and seat[BET] < MIN_BET):
        seat[N_INVALID] += 1.0
        return
    seat[PRESS_TICK] = seat[TICK]
    seat[DUE + choice] = seat[TICK] + settings.latency_ticks
    seat[SENT + choice] = seat[BET]
    if settings.latency_ticks == 0:
        _execute(settings, choice, account, seat)


@compile_kernel
def _move_price(seat: FloatArray, stream: Stream, prices: FloatArray, span: IntArray) -> bool:
    """Go to the next tick of the game, drawn or given; whether it has rugged."""
    before = seat[PRICE]
    seat[TICK] += 1.0
    at = span[0] + int(seat[TICK])
    if span[0] < span[1]:
        price = prices[at]
        is_rug = at == span[1] - 1
    else:
        price, is_rug = advance(stream, before)
        if is_rug:
            price = rug_price(seat[LOWEST])
    velocity = price - before
    seat[ACCELERATION] = velocity - seat[VELOCITY] if seat[TICK] > 1.0 else 0.0
    seat[VELOCITY] = velocity
    seat[PRICE] = price
    if not is_rug:
        seat[PEAK] = max(seat[PEAK], price)
        seat[LOWEST] = min(seat[LOWEST], price)
    return is_rug


@compile_kernel
def _settle(settings: Settings, is_rug: bool, account: Account, seat: FloatArray) -> None:
    """Close what this tick decides, then execute the order that arrives."""
    tick = seat[TICK]
    if is_rug:
        for choice in range(BUY, N_CHOICES):
            if seat[DUE + choice] != NEVER:
                seat[DUE + choice] = NEVER
                seat[N_REFUSED] += 1.0
        settle_rug(account, int(tick), seat[PRICE])
        seat[END] = RUG
        return
    settle_sidebet(account, int(tick), False)
    for choice in range(BUY, N_CHOICES):
        if seat[DUE + choice] == tick:
            _execute(settings, choice, account, seat)
    if tick >= settings.max_ticks:
        seat[END] = TIME


@compile_kernel
def _observe(
    settings: Settings, account: Account, seat: FloatArray, board: Board, out: Observation
) -> None:
    """Write one observation, in the order of `sessions.observation.FEATURE_NAMES`."""
    tick, price = seat[TICK], seat[PRICE]
    balance, qty, average = account[CASH], account[QTY], account[AVG_COST]
    is_rugged = seat[END] == RUG
    out[0] = tick
    out[1] = price
    out[2] = phase(is_rugged, True, False)
    out[3] = 0.0  # timer of the cooldown, ms
    out[4] = 0.0  # presale
    out[5] = 1.0  # active
    out[6] = is_rugged
    out[7] = CONNECTED_PLAYERS
    out[8] = 0.0  # game_id
    out[9] = balance
    out[10] = qty
    out[11] = average
    out[12] = account[PNL]
    out[13] = account[INVESTED]
    out[14] = board[RUGPOOL]
    out[15] = RUGPOOL_THRESHOLD
    out[16] = board[INSTARUGS]
    out[17] = board[AVERAGE]
    out[18] = board[COUNT_2X]
    out[19] = board[COUNT_10X]
    out[20] = board[COUNT_50X]
    out[21] = board[COUNT_100X]
    out[22] = board[HIGHEST_TODAY]
    out[23] = seat[VELOCITY]
    out[24] = seat[ACCELERATION]
    out[25] = unrealized_pnl(price, average, qty)
    out[26] = position_pnl(price, average, qty)
    out[27] = ratio(board[RUGPOOL], RUGPOOL_THRESHOLD)
    out[28] = at_risk(balance, qty, price)
    out[29] = tick - seat[ENTRY_TICK] if qty > 0.0 else 0.0
    out[30] = tick - seat[PRESS_TICK] if seat[PRESS_TICK] != NEVER else tick
    out[31] = seat[BET]
    out[32:] = 0.0
    if seat[EXECUTED_TICK] != NEVER:
        out[32] = seat[EXECUTED_TICK]
        out[33] = seat[EXECUTED_PRICE]
        out[34] = (seat[EXECUTED_TICK] - settings.latency_ticks) * TICK_MS
        out[35] = settings.latency_ticks * TICK_MS


@compile_kernel
def begin(
    settings: Settings,
    wanted: BoolArray,
    prices: FloatArray,
    spans: IntArray,
    accounts: Account,
    seats: FloatArray,
    boards: Board,
    out: Observation,
) -> None:
    """Open a game with a new account in the copies that `wanted` marks, and observe it."""
    for i in range(len(seats)):
        if not wanted[i]:
            continue
        account, seat = accounts[i], seats[i]
        account[:] = 0.0
        account[CASH] = settings.initial_cash
        account[BET_TICK] = NEVER
        seat[:] = 0.0
        seat[DUE:SENT] = NEVER
        for column in (PRESS_TICK, ENTRY_TICK, EXECUTED_TICK):
            seat[column] = NEVER
        price = prices[spans[i, 0]] if spans[i, 0] < spans[i, 1] else 1.0
        for column in (PRICE, PEAK, LOWEST):
            seat[column] = price
        seat[BET] = settings.first_bet
        _observe(settings, account, seat, boards[i], out[i])


@compile_kernel
def step(
    settings: Settings,
    actions: IntArray,
    prices: FloatArray,
    spans: IntArray,
    accounts: Account,
    seats: FloatArray,
    boards: Board,
    rings: Board,
    streams: Stream,
    rewards: FloatArray,
    out: Observation,
) -> int:
    """Move every copy by one tick.

    Writes rewards of shape (n,) and observations of shape (n, 36). Returns
    -1, or the number of the first copy whose action is out of range; then
    nothing has moved.
    """
    for i in range(len(seats)):
        if not (0 <= actions[i, 0] < N_CHOICES and 0 <= actions[i, 1] < N_ADJUSTMENTS):
            return i
    for i in range(len(seats)):
        account, seat = accounts[i], seats[i]
        before = equity(account, seat[PRICE])
        _act(settings, actions[i, 0], actions[i, 1], account, seat)
        is_rug = _move_price(seat, streams[i], prices, spans[i])
        _settle(settings, is_rug, account, seat)
        rewards[i] = equity(account, seat[PRICE]) - before
        _observe(settings, account, seat, boards[i], out[i])
        if is_rug:
            close_game(boards[i], rings[i], seat[PEAK], int(seat[TICK]), INSTARUG_INCOME)
    return -1
