"""Cash, inventory and fees of one account.

A `Ledger` holds one instrument; an account in several passes cash and fees on
from the ledger of one to that of the next. After any sequence of fills

    equity = cash + units * mid,   cash = start - sum(quantity * price) - fees,

so fees enter the equity once, through the cash. Pure functions on a named
tuple, compiled, so that environments, backtests and tests share one ledger.
"""

from typing import NamedTuple

from hftlib.compute import compile_kernel
from hftlib.portfolio.costs import Costs, fee, fill_price


class Ledger(NamedTuple):
    """`cash` and `fees` (paid so far) in currency, `units` signed."""

    cash: float
    units: float
    fees: float


@compile_kernel
def equity(ledger: Ledger, mid: float) -> float:
    """Mark to market, currency."""
    return ledger.cash + ledger.units * mid


@compile_kernel
def book_fill(ledger: Ledger, quantity: float, price: float, charge: float) -> Ledger:
    """Book a fill of signed `quantity` at `price` with the fee `charge`."""
    return Ledger(
        ledger.cash - quantity * price - charge, ledger.units + quantity, ledger.fees + charge
    )


@compile_kernel
def trade(ledger: Ledger, costs: Costs, mid: float, quantity: float, moved: float = 0.0) -> Ledger:
    """Send a market order of signed `quantity` and book it; 0 books nothing.

    `moved` is its `costs.impact`, share of mid.
    """
    if quantity == 0.0:
        return ledger
    price = fill_price(costs, mid, quantity, moved)
    return book_fill(ledger, quantity, price, fee(costs, quantity * price))
