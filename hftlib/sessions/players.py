"""Simulated players of the crash game: habits as data, and what they press on a tick.

A player sees the screen, never the server, and plans for each tick at most one
adjustment of the bet (clicked once or more), one share of the position and one
choice. Players with `Habits` follow a rule with hesitations, as people do; those
with `Odds` draw the adjustment and then the choice among what the screen allows
from probabilities that `propensities` recomputes from recorded observations.
"""

from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from hftlib.compute import compile_kernel
from hftlib.market.draws import Stream, uniform
from hftlib.sessions.account import adjust_bet
from hftlib.sessions.vocabulary import (
    ACTIVE,
    BUY,
    CHOICES,
    MIN_BET,
    N_ACTIONS,
    N_ADJUSTMENTS,
    PRESALE,
    SELL,
    SIDEBET,
    WAIT,
)

FloatArray = npt.NDArray[np.float64]

# what a player sees, as float32 would have it
GAME, PHASE, TICK, PRICE, BALANCE, QTY, AVG_COST, BET = range(8)
HAS_STAKE = 8  # 1 while a side bet is open
ENTRY_TICK = 9  # on which the position was first seen
N_SCREEN = 10
OBSERVED: Final = {PHASE: 2, TICK: 0, PRICE: 1, BALANCE: 9, QTY: 10, AVG_COST: 11, BET: 31}

# what a player with habits remembers
LAST_GAME, CASH_BEFORE, N_LOSSES, N_ENTRIES, HAS_SOLD = range(5)
N_MEMORY = 5

# what a player plans
ADJUSTMENT, N_CLICKS, SHARE, CHOICE = range(4)  # SHARE: 0, or place in SHARE_BUTTONS plus 1
N_PLAN = 4

NONE, CLEAR, INC_001, INC_01, INC_10, INC_1, HALF, DOUBLE, MAX = range(N_ADJUSTMENTS)
SELL_25, SELL_100 = 2, 4


class Habits(NamedTuple):
    """A rule of entry and exit."""

    stake: float = 0.01  # bet or side bet, SOL
    n_doublings: int = 0  # the stake doubles after a losing game, at most so often
    first_tick: int = 0  # of entry
    last_tick: int = 40
    n_entries: int = 1  # a game
    buys_presale: bool = False
    is_sidebettor: bool = False  # enters by side bets instead of purchases
    hold_ticks: int = 30  # after which the position is sold
    take_profit: float = 10.0  # return at which it is sold
    stop_loss: float = 1.0
    sells_quarter: bool = False  # sells a quarter first, and what is left at twice the profit
    n_clicks: int = 1  # of a bet button in a tick
    doubt: float = 0.0  # chance, before an entry, of clearing the bet instead
    reaction_ms: float = 180.0  # median time from screen to press


class Odds(NamedTuple):
    """Chances of a press on a tick; all that the screen allows has a positive one."""

    adjust: float  # chance of some bet button
    buy: float  # weights of the choices, relative to 1 for waiting
    sell: float
    sidebet: float
    lean: float = 0.0  # the weight of selling is times exp(lean * return of the position)
    bold: float = 1.0  # weight of INC_1, DOUBLE and MAX, relative to 1 for each other button


class Player(NamedTuple):
    """A behaviour; `odds` count if `is_random`, else `habits`."""

    habits: Habits = Habits()
    odds: Odds = Odds(0.0, 0.0, 0.0, 0.0)
    is_random: bool = False


def _random(odds: Odds) -> Player:
    return Player(odds=odds, is_random=True)


PLAYERS: Final = MappingProxyType(
    {
        "early": Player(Habits(stake=0.02, last_tick=8, hold_ticks=25)),
        "bracket": Player(
            Habits(
                stake=0.05,
                first_tick=5,
                last_tick=400,
                n_entries=4,
                hold_ticks=120,
                take_profit=0.2,
                stop_loss=0.15,
            )
        ),
        "doubler": Player(Habits(stake=0.01, n_doublings=5, last_tick=15, hold_ticks=20)),
        "sidebettor": Player(
            Habits(stake=0.011, is_sidebettor=True, first_tick=3, last_tick=5_000, n_entries=50)
        ),
        "presale": Player(Habits(stake=0.1, buys_presale=True, last_tick=-1, hold_ticks=40)),
        "hesitant": Player(
            Habits(stake=0.05, last_tick=120, n_clicks=2, doubt=0.3, reaction_ms=320.0)
        ),
        "partial": Player(
            Habits(stake=0.03, last_tick=60, hold_ticks=60, take_profit=0.1, sells_quarter=True)
        ),
        # presses nothing on about four ticks in five, otherwise any allowed choice alike
        "explorer": _random(Odds(adjust=0.1, buy=0.08, sell=0.08, sidebet=0.08, bold=0.1)),
        # sells what has gained, and keeps what has lost
        "leaner": _random(Odds(adjust=0.05, buy=0.06, sell=0.04, sidebet=0.01, lean=4.0, bold=0.1)),
        # every button alike, and every allowed choice
        "restless": _random(Odds(1 - 1 / N_ADJUSTMENTS, buy=1.0, sell=1.0, sidebet=1.0)),
    }
)


@compile_kernel
def press_bet(bet: float, adjustment: int, cash: float) -> float:
    """The client's bet after a button: never above the cash on the screen."""
    return min(adjust_bet(bet, adjustment, cash), cash) if adjustment != NONE else bet


@compile_kernel
def chance_of(odds: Odds, adjustment: int) -> float:
    """Chance of this adjustment, on any screen of a running game."""
    if adjustment == NONE:
        return 1.0 - odds.adjust
    weight = odds.bold if adjustment in (INC_1, DOUBLE, MAX) else 1.0
    return odds.adjust * weight / (N_ADJUSTMENTS - 4 + 3.0 * odds.bold)


@compile_kernel
def weigh_choices(odds: Odds, seen: FloatArray, bet: float, weights: FloatArray) -> float:
    """Weight of each choice at this bet, 0 where the screen forbids it; their sum."""
    weights[WAIT] = 1.0
    weights[BUY:] = 0.0
    if seen[PHASE] != ACTIVE:
        return 1.0
    is_affordable = bet >= MIN_BET and seen[BALANCE] >= MIN_BET  # the server takes what is there
    if seen[QTY] > 0.0:
        gain = seen[PRICE] / seen[AVG_COST] - 1.0 if seen[AVG_COST] > 0.0 else 0.0
        weights[SELL] = odds.sell * np.exp(odds.lean * min(max(gain, -1.0), 1.0))
    elif is_affordable:
        weights[BUY] = odds.buy
    if is_affordable and seen[HAS_STAKE] == 0.0:
        weights[SIDEBET] = odds.sidebet
    return weights[WAIT] + weights[BUY] + weights[SELL] + weights[SIDEBET]


@compile_kernel
def draw_press(
    odds: Odds, seen: FloatArray, stream: Stream, weights: FloatArray, plan: FloatArray
) -> None:
    """Plan an adjustment, and a choice given the bet after it; two numbers of the stream."""
    rest, second = uniform(stream), uniform(stream)
    for adjustment in range(N_ADJUSTMENTS):
        rest -= chance_of(odds, adjustment)
        if rest < 0.0:
            plan[ADJUSTMENT], plan[N_CLICKS] = adjustment, min(adjustment, 1)
            break
    bet = press_bet(seen[BET], int(plan[ADJUSTMENT]), seen[BALANCE])
    rest = second * weigh_choices(odds, seen, bet, weights)
    for choice in range(len(CHOICES)):
        rest -= weights[choice]
        if rest < 0.0:
            plan[CHOICE] = choice
            return


@compile_kernel
def _fill_propensities(
    odds: Odds, screens: FloatArray, weights: FloatArray, out: FloatArray
) -> None:
    for row in range(len(screens)):
        seen = screens[row]
        if seen[PHASE] != ACTIVE:
            out[row, 0] = 1.0
            continue
        for adjustment in range(N_ADJUSTMENTS):
            chance = chance_of(odds, adjustment)
            bet = press_bet(seen[BET], adjustment, seen[BALANCE])
            total = weigh_choices(odds, seen, bet, weights)
            for choice in range(len(CHOICES)):
                out[row, choice * N_ADJUSTMENTS + adjustment] = chance * weights[choice] / total


def propensities(
    name: str, observations: npt.NDArray[np.float32], has_stake: npt.ArrayLike
) -> FloatArray:
    """Probability of each pair of choice and adjustment that a random player had.

    Parameters
    ----------
    name : str
        Of a player of `PLAYERS` with odds.
    observations : float32 array of shape (n, 36)
        Screens on which it decided: the first event of each tick. Where the phase
        is not ACTIVE it presses nothing.
    has_stake : bool array of shape (n,)
        Whether its side bet was open, which no feature says.

    Returns
    -------
    float64 array of shape (n, 36)
        Rows sum to 1; column `choice * 9 + adjustment`. What the screen forbids at
        the bet after the adjustment has 0.

    Raises
    ------
    ValueError
        If the player is unknown or follows habits, or shapes differ.
    """
    player = PLAYERS.get(name)
    if player is None or not player.is_random:
        known = ", ".join(name for name, each in PLAYERS.items() if each.is_random)
        raise ValueError(f"player {name!r} has no propensities; expected one of {known}")
    stakes = np.asarray(has_stake, dtype=np.float64)
    if (
        observations.ndim != 2
        or observations.shape[1] != 36
        or stakes.shape != observations.shape[:1]
    ):
        raise ValueError(
            f"observations of shape {observations.shape} and has_stake of {stakes.shape}; "
            "expected (n, 36) and (n,)"
        )
    screens = np.zeros((len(observations), N_SCREEN))
    for field, column in OBSERVED.items():
        screens[:, field] = observations[:, column]
    screens[:, HAS_STAKE] = stakes
    out = np.zeros((len(observations), N_ACTIONS))
    _fill_propensities(player.odds, screens, np.empty(len(CHOICES)), out)
    return out


@compile_kernel
def approach_bet(bet: float, target: float) -> int:
    """The button that brings a bet nearer to a target; `NONE` within half a smallest step."""
    gap = target - bet
    if gap < -0.0005:
        return CLEAR
    if bet >= 0.001 and abs(target - 2.0 * bet) < 0.0005:
        return DOUBLE
    if gap >= 0.9995:
        return INC_1
    if gap >= 0.0995:
        return INC_10
    if gap >= 0.0095:
        return INC_01
    return INC_001 if gap >= 0.0005 else NONE


@compile_kernel
def follow_habits(
    habits: Habits, seen: FloatArray, memory: FloatArray, stream: Stream, plan: FloatArray
) -> None:
    """Plan what the rule says for this screen; one number of the stream before an entry."""
    if seen[GAME] != memory[LAST_GAME]:
        has_lost = seen[BALANCE] < memory[CASH_BEFORE]
        memory[N_LOSSES] = min(memory[N_LOSSES] + 1.0, habits.n_doublings) if has_lost else 0.0
        memory[LAST_GAME], memory[CASH_BEFORE] = seen[GAME], seen[BALANCE]
        memory[N_ENTRIES] = 0.0
    if seen[QTY] > 0.0:
        if seen[PHASE] == ACTIVE:
            _leave(habits, seen, memory, plan)
        return
    is_time = seen[PHASE] == ACTIVE and habits.first_tick <= seen[TICK] <= habits.last_tick
    is_presale = seen[PHASE] == PRESALE and habits.buys_presale
    is_open = habits.is_sidebettor and seen[HAS_STAKE] > 0.0
    if (is_time or is_presale) and not is_open and memory[N_ENTRIES] < habits.n_entries:
        _enter(habits, seen, memory, uniform(stream), plan)


@compile_kernel
def _enter(
    habits: Habits, seen: FloatArray, memory: FloatArray, chance: float, plan: FloatArray
) -> None:
    """Bring the bet to the stake, and bet as soon as it is there."""
    target = min(habits.stake * 2.0 ** memory[N_LOSSES], seen[BALANCE])
    bet = seen[BET]
    button = approach_bet(bet, target)
    if button == NONE and chance < habits.doubt:
        button = CLEAR
    while button != NONE and plan[N_CLICKS] < habits.n_clicks:
        if plan[N_CLICKS] > 0.0 and button != plan[ADJUSTMENT]:
            break
        bet = press_bet(bet, button, seen[BALANCE])
        plan[ADJUSTMENT] = button
        plan[N_CLICKS] += 1.0
        button = approach_bet(bet, target)
    if button == NONE and MIN_BET <= bet <= seen[BALANCE]:
        plan[CHOICE] = SIDEBET if habits.is_sidebettor else BUY
        memory[N_ENTRIES] += 1.0
        memory[HAS_SOLD] = 0.0


@compile_kernel
def _leave(habits: Habits, seen: FloatArray, memory: FloatArray, plan: FloatArray) -> None:
    """Sell at the profit, the loss or the age of the rule."""
    gain = seen[PRICE] / seen[AVG_COST] - 1.0
    age = seen[TICK] - seen[ENTRY_TICK]
    target = habits.take_profit * (1.0 + memory[HAS_SOLD])
    is_over = age >= habits.hold_ticks or gain <= -habits.stop_loss
    if not is_over and gain < target:
        return
    plan[CHOICE] = SELL
    if habits.sells_quarter:
        is_first = not is_over and memory[HAS_SOLD] == 0.0
        plan[SHARE] = SELL_25 if is_first else SELL_100
        memory[HAS_SOLD] = 1.0
