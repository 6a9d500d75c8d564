"""One player's money in the crash game, as a row of numbers that kernels change in place.

The simulated server and the environment settle trades with the same four
functions, so that a recorded session and an environment cannot disagree. A
position left open at the rug is worth the rug price; a side bet pays
`SIDEBET_PAYOUT` times its stake if the game rugs within `SIDEBET_TICKS` ticks.
"""

import math

import numpy as np
import numpy.typing as npt

from hftlib.compute import compile_kernel
from hftlib.sessions.vocabulary import MIN_BET, SIDEBET_PAYOUT, SIDEBET_TICKS

Account = npt.NDArray[np.float64]

CASH = 0  # SOL
QTY = 1  # tokens held
AVG_COST = 2  # mean price paid, a multiplier; 0 when flat
COST = 3  # SOL paid for the tokens held, fee included
PNL = 4  # realised by trades in this game, SOL
INVESTED = 5  # SOL paid for tokens in this game; never falls within it
STAKE = 6  # of the open side bet, SOL; 0 when none
BET_TICK = 7  # on which that bet was placed; -1 when none
N_FIELDS = 8


def open_accounts(n: int, cash: float) -> Account:
    """`n` flat accounts of shape (n, N_FIELDS).

    Raises
    ------
    ValueError
        If `cash` is no finite number of at least 0.
    """
    if not (math.isfinite(cash) and cash >= 0):
        raise ValueError(f"cash={cash}: expected a finite amount of SOL, at least 0")
    accounts = np.zeros((n, N_FIELDS))
    accounts[:, CASH] = cash
    accounts[:, BET_TICK] = -1
    return accounts


@compile_kernel
def begin_game(account: Account) -> None:
    """Forget what counts by game; cash stays, and so does a position bought before the round."""
    account[PNL] = 0.0
    account[INVESTED] = account[COST]


@compile_kernel
def buy(account: Account, amount: float, price: float, fee: float) -> bool:
    """Spend `amount` SOL, of which the share `fee` is lost; False, and nothing done, if refused.

    Refused below `MIN_BET`, above the cash, or at a price of 0.
    """
    if not MIN_BET <= amount <= account[CASH] or price <= 0.0:
        return False
    bought = amount * (1.0 - fee) / price
    total = account[QTY] + bought
    account[AVG_COST] = (account[AVG_COST] * account[QTY] + price * bought) / total
    account[CASH] -= amount
    account[QTY] = total
    account[COST] += amount
    account[INVESTED] += amount
    return True


@compile_kernel
def sell(account: Account, share: float, price: float, fee: float) -> float:
    """Sell this share of the tokens; the SOL received after the fee, 0 when flat."""
    if account[QTY] <= 0.0 or share <= 0.0:
        return 0.0
    sold = account[QTY] if share >= 1.0 else account[QTY] * share
    received = sold * price * (1.0 - fee)
    cost = account[COST] if share >= 1.0 else account[COST] * share
    account[CASH] += received
    account[PNL] += received - cost
    account[QTY] -= sold
    account[COST] -= cost
    if share >= 1.0:
        account[QTY] = account[COST] = account[AVG_COST] = 0.0
    return received


@compile_kernel
def place_sidebet(account: Account, stake: float, tick: int) -> bool:
    """Stake SOL on a rug within `SIDEBET_TICKS` ticks; False if refused or one is open."""
    if account[STAKE] > 0.0 or not MIN_BET <= stake <= account[CASH]:
        return False
    account[CASH] -= stake
    account[STAKE] = stake
    account[BET_TICK] = tick
    return True


@compile_kernel
def settle_sidebet(account: Account, tick: int, is_rug: bool) -> float:
    """Close the side bet if this tick decides it; the SOL paid out, 0 if lost or undecided."""
    if account[STAKE] <= 0.0:
        return 0.0
    age = tick - account[BET_TICK]
    paid = 0.0
    if is_rug and age <= SIDEBET_TICKS:
        paid = SIDEBET_PAYOUT * account[STAKE]
    elif not is_rug and age < SIDEBET_TICKS:
        return 0.0
    account[CASH] += paid
    account[STAKE] = 0.0
    account[BET_TICK] = -1.0
    return paid


@compile_kernel
def settle_rug(account: Account, tick: int, rug_price: float) -> None:
    """End of the game: tokens are exchanged at the rug price without fee, the side bet decided."""
    sell(account, 1.0, rug_price, 0.0)
    settle_sidebet(account, tick, True)


@compile_kernel
def equity(account: Account, price: float) -> float:
    """Cash and the tokens' value, SOL; the stake of an open side bet counts as spent."""
    return account[CASH] + account[QTY] * price


@compile_kernel
def adjust_bet(bet: float, adjustment: int, cash: float) -> float:
    """The bet after a button: an index into `vocabulary.ADJUSTMENTS`."""
    if adjustment == 1:
        return 0.0
    if adjustment == 2:
        return bet + 0.001
    if adjustment == 3:
        return bet + 0.01
    if adjustment == 4:
        return bet + 0.1
    if adjustment == 5:
        return bet + 1.0
    if adjustment == 6:
        return bet / 2.0
    if adjustment == 7:
        return bet * 2.0
    if adjustment == 8:
        return cash
    return bet
