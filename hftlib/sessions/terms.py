"""Formulas of the derived features, shared by every builder of observations.

The incremental builder, the compiled pass over a store and the environment
call the same functions, which is why they agree to the last bit.
"""

from hftlib.compute import compile_kernel
from hftlib.sessions.vocabulary import ACTIVE, COOLDOWN, PRESALE, RUGGED


@compile_kernel
def phase(is_rugged: bool, is_active: bool, allows_presale: bool) -> int:
    """Phase of a round; rugged comes first, since a rug event carries active=true too."""
    if is_rugged:
        return RUGGED
    if is_active:
        return ACTIVE
    return PRESALE if allows_presale else COOLDOWN


@compile_kernel
def per_tick(change: float, ticks: float) -> float:
    """A change divided by the ticks it took; 0 where no tick has passed."""
    return change / ticks if ticks > 0.0 else 0.0


@compile_kernel
def unrealized_pnl(price: float, average: float, qty: float) -> float:
    """Gain of the open position before fees, SOL."""
    return (price - average) * qty


@compile_kernel
def position_pnl(price: float, average: float, qty: float) -> float:
    """That gain as a share of what was paid; 0 when flat."""
    return (price - average) / average if qty > 0.0 and average > 0.0 else 0.0


@compile_kernel
def ratio(amount: float, threshold: float) -> float:
    """Amount over threshold; 0 where the threshold is 0."""
    return amount / threshold if threshold > 0.0 else 0.0


@compile_kernel
def at_risk(balance: float, qty: float, price: float) -> float:
    """Share of cash and position that the position is.

    The origin's `qty / (balance + value)` mixes tokens and SOL; this does not.
    """
    value = qty * price
    return value / (balance + value) if balance + value > 0.0 else 0.0
