"""What a trade costs: fee, half the spread, slippage. All in basis points.

The fee is paid in cash on the traded notional; spread and slippage move the
fill price against the trader. Every environment and backtest calls these.
"""

from typing import NamedTuple

from hftlib.compute import compile_kernel

BPS = 1e-4


class Costs(NamedTuple):
    """Basis points: `fee_bps` of notional, `spread_bps` (full) and `slippage_bps` of mid."""

    fee_bps: float
    spread_bps: float
    slippage_bps: float


def check_costs(costs: Costs) -> Costs:
    """Return `costs` as floats.

    Raises
    ------
    ValueError
        If a rate is negative, not finite or 10,000 bp and more.
    """
    for name, rate in costs._asdict().items():
        if not 0 <= rate < 1 / BPS:
            raise ValueError(f"{name} is {rate}; expected at least 0 and below 10000 basis points")
    return Costs(*(float(rate) for rate in costs))


@compile_kernel
def fill_price(costs: Costs, mid: float, quantity: float) -> float:
    """Price at which a market order of signed `quantity` trades."""
    adverse = (0.5 * costs.spread_bps + costs.slippage_bps) * BPS
    return mid * (1.0 + adverse) if quantity > 0 else mid * (1.0 - adverse)


@compile_kernel
def fee(costs: Costs, notional: float) -> float:
    """Fee in currency on an absolute `notional`."""
    return abs(notional) * costs.fee_bps * BPS
