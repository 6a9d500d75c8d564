"""What a trade costs: fee, half the spread, slippage, impact. All in basis points.

The fee is paid in cash on the traded notional; spread, slippage and impact move
the fill price against the trader. Every environment and backtest calls these.

Impact follows the square-root law: `impact_bps` times the root of the order's
size as a share of the volume of one bar.

Source: Tóth et al. (2011), Anomalous price impact, Physical Review X 1, 021006.
"""

import math
from typing import NamedTuple

from hftlib.compute import compile_kernel

BPS = 1e-4
IMPACT_LIMIT = 0.5  # share of the mid; keeps the fill price of a sale positive


class Costs(NamedTuple):
    """Basis points: `fee_bps` of notional, `spread_bps` (full) and `slippage_bps` of mid.

    `impact_bps` of mid is paid by an order as large as the volume of a bar; 0 is none.
    """

    fee_bps: float
    spread_bps: float
    slippage_bps: float
    impact_bps: float = 0.0


def check_costs(costs: Costs) -> Costs:
    """Return `costs` as floats.

    Raises
    ------
    ValueError
        If a rate is negative, not finite or 10,000 bp and more, or if half the
        spread and slippage reach 5,000 bp.
    """
    for name, rate in costs._asdict().items():
        if not 0 <= rate < 1 / BPS:
            raise ValueError(f"{name} is {rate}; expected at least 0 and below 10000 basis points")
    if 0.5 * costs.spread_bps + costs.slippage_bps >= IMPACT_LIMIT / BPS:
        raise ValueError(
            f"half of spread_bps {costs.spread_bps} and slippage_bps {costs.slippage_bps} reach "
            f"{IMPACT_LIMIT / BPS:g} basis points; expected less: lower one of them"
        )
    return Costs(*(float(rate) for rate in costs))


@compile_kernel
def impact(costs: Costs, quantity: float, volume: float) -> float:
    """Adverse move of the price, share of mid, by an order of signed `quantity`.

    `volume` is that of one bar, units; where nothing traded the order counts as all of it.
    """
    if costs.impact_bps == 0.0 or quantity == 0.0:
        return 0.0
    share = abs(quantity) / volume if volume > 0 else 1.0
    return min(costs.impact_bps * BPS * math.sqrt(share), IMPACT_LIMIT)


@compile_kernel
def fill_price(costs: Costs, mid: float, quantity: float, moved: float = 0.0) -> float:
    """Price at which a market order of signed `quantity` trades; `moved` is its `impact`."""
    adverse = (0.5 * costs.spread_bps + costs.slippage_bps) * BPS + moved
    return mid * (1.0 + adverse) if quantity > 0 else mid * (1.0 - adverse)


@compile_kernel
def fee(costs: Costs, notional: float) -> float:
    """Fee in currency on an absolute `notional`."""
    return abs(notional) * costs.fee_bps * BPS
