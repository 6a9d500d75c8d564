"""A recording client: what it shows and when, and the presses of its player.

Messages arrive in the order they were sent, each at least `GAP_US` after the
one before it; one that is held up holds up those behind it. The player plans
when a new tick is shown, and presses later, on whatever the screen shows then.
"""

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from hftlib.compute import compile_kernel
from hftlib.market.draws import Stream, normal
from hftlib.sessions import account as acc
from hftlib.sessions import players as ply
from hftlib.sessions.rounds import (
    COPY,
    COUNTDOWN,
    FIRST_STATE,
    POOL,
    PRESALE_MS,
    PRESALE_OPENING,
    RUG,
    SETTLEMENT,
    START,
    TICK,
)
from hftlib.sessions.vocabulary import (
    ACTION_BUTTONS,
    ACTIVE,
    BET_BUTTONS,
    COOLDOWN,
    PRESALE,
    RUGGED,
    SHARE_BUTTONS,
    SHARES,
)

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Table = npt.NDArray[np.void]

BUTTONS: Final = (*BET_BUTTONS, *SHARE_BUTTONS, *ACTION_BUTTONS)
FIRST_SHARE: Final = len(BET_BUTTONS)
FIRST_ACTION: Final = FIRST_SHARE + len(SHARE_BUTTONS)
SHARE_VALUES: Final = tuple(SHARES[name] for name in SHARE_BUTTONS)

PRESS: Final = np.dtype(
    [
        ("press_us", "i8"),  # since the client connected
        ("answer_us", "i8"),  # when the answer arrived; `NEVER` if none did
        ("game", "i4"),
        ("tick", "i4"),  # on the screen, as all down to `bet`
        ("phase", "i1"),
        ("button", "i1"),  # place in `BUTTONS`
        ("price", "f8"),
        ("balance", "f8"),
        ("qty", "f8"),
        ("bet", "f8"),  # after the press
        ("ticks_since_action", "i4"),
        ("ticks_in_position", "i4"),
        ("executed_tick", "i4"),  # -1 unless executed
        ("executed_price", "f8"),  # 0 unless executed
        ("message", "i4"),  # number of the message that answers; -1 if none does
    ]
)

NEVER: Final = np.iinfo(np.int64).max
GAP_US: Final = 500  # the client takes this long over a message
SCRIPT_US: Final = 100  # between the screen and the presses of a player with odds; under GAP_US / 2
CLICK_US: Final = 90_000  # between the presses of a person
REACTION_SPREAD: Final = 0.4  # of the logarithm
STALL_CHANCE: Final = 0.003  # of a message held up on its way
STALL_MS = (300, 1_500)

# columns of a screen behind those of `players`
LAST_ACTION = ply.N_SCREEN  # tick of the last action button in this game; -1 if none
SELECTED = ply.N_SCREEN + 1  # share that SELL sells
N_COLUMNS = ply.N_SCREEN + 2


class Link(NamedTuple):
    """Ways between client and server: log-normal delays."""

    down_ms: float  # median
    up_ms: float  # median
    spread: float  # of the logarithm


class Seat(NamedTuple):
    """A player before a screen: working space of the kernels."""

    screen: FloatArray  # (N_COLUMNS,)
    seen: FloatArray  # (N_SCREEN,), the screen as float32 would have it
    memory: FloatArray  # (N_MEMORY,)
    plan: FloatArray  # (N_PLAN,)
    weights: FloatArray  # (4,)
    due_us: IntArray  # (QUEUE,), times of presses to come
    due_button: IntArray  # (QUEUE,)


QUEUE: Final = 8


def open_seat() -> Seat:
    """A seat before a screen that shows nothing."""
    seat = Seat(
        screen=np.zeros(N_COLUMNS),
        seen=np.zeros(ply.N_SCREEN),
        memory=np.zeros(ply.N_MEMORY),
        plan=np.zeros(ply.N_PLAN),
        weights=np.zeros(4),
        due_us=np.zeros(QUEUE, dtype=np.int64),
        due_button=np.zeros(QUEUE, dtype=np.int64),
    )
    seat.screen[[ply.GAME, LAST_ACTION]] = seat.memory[ply.LAST_GAME] = -1.0
    seat.screen[SELECTED] = 1.0
    return seat


def draw_link(rng: np.random.Generator) -> Link:
    """The link of one client."""
    down_ms, up_ms = 45.0 * rng.lognormal(0.0, 0.4, 2)
    return Link(float(down_ms), float(up_ms), 0.35)


def draw_delays(link: Link, n: int, rng: np.random.Generator) -> IntArray:
    """Delays of n messages to the client, microseconds; a few are held up."""
    delay_ms = link.down_ms * rng.lognormal(0.0, link.spread, n)
    delay_ms += (rng.random(n) < STALL_CHANCE) * rng.uniform(*STALL_MS, n)
    return (1000 * delay_ms).astype(np.int64)


@compile_kernel
def draw_delay(median_ms: float, spread: float, stream: Stream) -> int:
    """A log-normal delay, microseconds, at least 1; two numbers of the stream."""
    return 1 + int(1000.0 * median_ms * math.exp(spread * normal(stream)))


@compile_kernel
def show_event(seat: Seat, kind: int, game: int, tick: int, timer_ms: int, price: float) -> bool:
    """Show a broadcast; whether the player now plans."""
    screen = seat.screen
    if kind in (COPY, POOL) or game < screen[ply.GAME]:
        return False
    if game != screen[ply.GAME]:
        screen[ply.GAME] = game
        screen[ply.TICK] = screen[ply.ENTRY_TICK] = 0.0
        screen[ply.PRICE] = 1.0
        screen[LAST_ACTION] = -1.0
    if kind in (START, TICK, RUG):
        screen[ply.PHASE] = RUGGED if kind == RUG else ACTIVE
        screen[ply.TICK], screen[ply.PRICE] = tick, price
        return kind != RUG
    is_countdown = kind == COUNTDOWN
    if is_countdown or kind in (FIRST_STATE, SETTLEMENT, PRESALE_OPENING):
        screen[ply.PHASE] = PRESALE if timer_ms <= PRESALE_MS else COOLDOWN
    return is_countdown and screen[ply.PHASE] == PRESALE


@compile_kernel
def show_account(seat: Seat, account: FloatArray) -> None:
    """Show what the server says of the player's account."""
    screen = seat.screen
    if screen[ply.QTY] == 0.0 and account[acc.QTY] > 0.0:
        screen[ply.ENTRY_TICK] = screen[ply.TICK]
    screen[ply.BALANCE] = account[acc.CASH]
    screen[ply.QTY] = account[acc.QTY]
    screen[ply.AVG_COST] = account[acc.AVG_COST]
    screen[ply.HAS_STAKE] = 1.0 if account[acc.STAKE] > 0.0 else 0.0


@compile_kernel
def plan_presses(seat: Seat, player: ply.Player, now_us: int, stream: Stream) -> int:
    """Let the player look at the screen; the number of presses that now wait in the queue."""
    for column in range(ply.N_SCREEN):
        seat.seen[column] = np.float32(seat.screen[column])
    plan = seat.plan
    plan[:] = 0.0
    if player.is_random:
        if seat.seen[ply.PHASE] != ACTIVE:
            return 0
        ply.draw_press(player.odds, seat.seen, stream, seat.weights, plan)
        step_us = first_us = SCRIPT_US
    else:
        ply.follow_habits(player.habits, seat.seen, seat.memory, stream, plan)
        if plan[ply.N_CLICKS] + plan[ply.SHARE] + plan[ply.CHOICE] == 0.0:
            return 0
        step_us = CLICK_US
        first_us = draw_delay(player.habits.reaction_ms, REACTION_SPREAD, stream)
    n = 0
    for _ in range(int(plan[ply.N_CLICKS])):
        seat.due_button[n] = int(plan[ply.ADJUSTMENT]) - 1
        n += 1
    if plan[ply.SHARE] > 0.0:
        seat.due_button[n] = FIRST_SHARE + int(plan[ply.SHARE]) - 1
        n += 1
    if plan[ply.CHOICE] > 0.0:
        seat.due_button[n] = FIRST_ACTION + int(plan[ply.CHOICE]) - 1
        n += 1
    for k in range(n):
        seat.due_us[k] = now_us + first_us + k * step_us
    return n


@compile_kernel
def press_button(seat: Seat, button: int, now_us: int, press: Table) -> bool:
    """Press a button on what the screen shows, and record it; whether it sends an order.

    `press` is a table of `PRESS` of shape (1,).
    """
    screen = seat.screen
    tick = int(screen[ply.TICK])
    if button < FIRST_SHARE:
        screen[ply.BET] = ply.press_bet(screen[ply.BET], button + 1, screen[ply.BALANCE])
    elif button < FIRST_ACTION:
        screen[SELECTED] = SHARE_VALUES[button - FIRST_SHARE]
    record = press[0]
    record["press_us"], record["answer_us"] = now_us, NEVER
    record["game"], record["tick"] = int(screen[ply.GAME]), tick
    record["phase"], record["button"] = int(screen[ply.PHASE]), button
    record["price"], record["balance"] = screen[ply.PRICE], screen[ply.BALANCE]
    record["qty"], record["bet"] = screen[ply.QTY], screen[ply.BET]
    last = int(screen[LAST_ACTION])
    record["ticks_since_action"] = tick - last if last >= 0 else tick
    is_in = screen[ply.QTY] > 0.0
    record["ticks_in_position"] = tick - int(screen[ply.ENTRY_TICK]) if is_in else 0
    record["executed_tick"], record["executed_price"] = -1, 0.0
    record["message"] = -1
    if button >= FIRST_ACTION:
        screen[LAST_ACTION] = tick
        return True
    return False
