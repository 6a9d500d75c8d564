"""From targets to quantities, by the functions that size orders in environment and backtest.

Given the same account and prices, the units asked for are those of `evaluation.engine` to the
last bit: what may differ afterwards is lots, ticks and depth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hftlib.envs.bar_orders import left_by_closing, plan_orders, size_order
from hftlib.envs.bar_state import CLOSE, OPEN, VOLUME
from hftlib.evaluation.engine_kernel import Sizing
from hftlib.portfolio.costs import Costs

TargetKind = Literal["weights", "units"]
NO_COSTS = Costs(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class SizingRules:
    """How targets become units.

    Attributes
    ----------
    kind : {"weights", "units"}
        Shares of equity at the price at which they are traded, or signed units.
    costs : Costs
        Expected of a trade, so that a full purchase leaves no cash and overdraws none.
    max_leverage : float
        Weights that come to more, long plus short, are scaled down to it.
    min_trade_weight : float
        Changes up to this share of equity are not traded; weights only.
    """

    kind: TargetKind = "weights"
    costs: Costs = NO_COSTS
    max_leverage: float = float("inf")
    min_trade_weight: float = 0.0


def size_targets(
    targets: Mapping[str, float],
    *,
    symbols: Sequence[str],
    units: Sequence[float],
    marks: Sequence[float],
    volumes: Sequence[float],
    equity: float,
    closes_all_of: Sequence[str],
    rules: SizingRules,
) -> dict[str, float]:
    """Signed units to trade, by symbol, in the order of `symbols`; without those of 0.

    Parameters
    ----------
    targets : mapping of symbol to float
        nan, or none, leaves a position alone.
    units, marks, volumes : sequences of length n_symbols
        Held; prices at which it is traded; units traded in the last bar, for impact.
    closes_all_of : sequence of str
        Symbols whose position is closed whatever the target.
    """
    n = len(symbols)
    asked = np.array([[targets.get(symbol, np.nan) for symbol in symbols]], dtype=np.float64)
    for k, symbol in enumerate(symbols):
        if symbol in closes_all_of:
            asked[0, k] = 0.0
    held = np.array([units], dtype=np.float64)
    if rules.kind == "units":
        changes = np.where(np.isnan(asked), 0.0, asked - held)[0]
        return {s: float(q) for s, q in zip(symbols, changes, strict=True) if q != 0}
    bars = np.ones((2 * n, 4))  # of each asset: the last bar, and that of the open
    bars[0::2, VOLUME] = volumes
    bars[1::2, OPEN] = marks
    bars[1::2, CLOSE] = marks
    offsets = 2 * np.arange(n)
    sizing = Sizing(
        is_continuous=True,
        lowest=-1,
        max_weight=1.0,
        min_trade_weight=float(rules.min_trade_weight),
        max_leverage=float(rules.max_leverage),
        in_units=False,
        ruin=0.0,
        borrow=0.0,
        interest=0.0,
    )
    wanted = np.zeros(n)
    solvent = max(equity, 0.0)
    costs = rules.costs
    _, opened = plan_orders(sizing, bars, 0, offsets, held, 0, asked, solvent, False, wanted, None)
    left = 1.0
    if opened > 0:
        left = left_by_closing(costs, bars, 0, offsets, held, 0, equity, wanted)
    found = {}
    for k, symbol in enumerate(symbols):
        if not np.isnan(wanted[k]):
            quantity = size_order(
                costs, marks[k], bars[2 * k, VOLUME], held[0, k], wanted[k] * left
            )
            if quantity != 0:
                found[symbol] = float(quantity)
    return found
