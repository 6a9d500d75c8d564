"""From actions to orders to fills: the trading half of a step on bars.

Positions asked for are notionals at the mid of the next open. All functions
take one account, row i of `units`, whose asset a has its bar at `row + offsets[a]`.
`guard` holds the limits that orders must pass (`envs.bar_risk`), or is None.
"""

import numpy as np

from hftlib.compute import inline_kernel
from hftlib.envs.bar_risk import book_order, is_rounding, must_close, pass_order
from hftlib.envs.bar_state import DUST, OPEN, VOLUME
from hftlib.portfolio.costs import fee, fill_price, impact
from hftlib.portfolio.ledger import Ledger, trade


@inline_kernel
def _target(rules, action, held, mid, worth):  # type: ignore[no-untyped-def]
    """Notional at mid that an action asks for; nan to leave the position as it is."""
    if rules.is_continuous:
        wanted = action * rules.max_weight * worth
        band = max(rules.min_trade_weight, DUST) * worth
        return np.nan if abs(wanted - held * mid) <= band else wanted
    position = (held > 0.0) - (held < 0.0)
    moved = min(max(position + (action == 1.0) - (action == 2.0), rules.lowest), 1)
    return np.nan if moved == position else moved * rules.max_weight * worth


@inline_kernel
def _split(held, mid, target):  # type: ignore[no-untyped-def]
    """An order for `target` notional: units that close, then notional it opens and from where."""
    if held == 0.0 or target * held <= 0.0:
        return -held, target, 0.0
    if abs(target) < abs(held * mid):
        return (target - held * mid) / mid, 0.0, 0.0
    return 0.0, target, held * mid


@inline_kernel
def _closing_cost(costs, mid, quantity, moved):  # type: ignore[no-untyped-def]
    """What an order that reduces a position will cost, currency."""
    if quantity == 0.0:
        return 0.0
    price = fill_price(costs, mid, quantity, moved)
    return abs(quantity) * abs(price - mid) + fee(costs, quantity * price)


@inline_kernel
def plan_orders(  # type: ignore[no-untyped-def]
    rules, bars, row, offsets, units, i, actions, worth, is_called, targets, guard
):
    """Write the notionals asked for, nan where nothing is; how many they are, and their sum.

    All are scaled down if they and what is kept would exceed the leverage.
    """
    n_orders = 0
    kept = opened = 0.0
    for a in range(len(offsets)):
        mid = bars[row + 1 + offsets[a], OPEN]
        held = units[i, a]
        closes = must_close(guard, is_called, a)
        target = 0.0 if closes else _target(rules, actions[i, a], held, mid, worth)
        targets[a] = target
        if np.isnan(target):
            kept += abs(held * mid)
        else:
            opened += abs(target)
            n_orders += 1
    room = max(rules.max_leverage * worth - kept, 0.0)
    if opened > room * (1.0 + DUST):
        for a in range(len(offsets)):
            targets[a] *= room / opened
        opened = room
    return n_orders, opened


@inline_kernel
def left_by_closing(costs, bars, row, offsets, units, i, worth, targets):  # type: ignore[no-untyped-def]
    """Share of the equity that remains after paying for all that `targets` close."""
    cost = 0.0
    for a in range(len(offsets)):
        if not np.isnan(targets[a]):
            mid = bars[row + 1 + offsets[a], OPEN]
            closed = _split(units[i, a], mid, targets[a])[0]
            order = (targets[a] - units[i, a] * mid) / mid
            moved = impact(costs, order, bars[row + offsets[a], VOLUME])
            cost += _closing_cost(costs, mid, closed, moved)
    return max(worth - cost, 0.0) / worth


@inline_kernel
def size_order(costs, mid, volume, held, target):  # type: ignore[no-untyped-def]
    """Units to trade from `held` to the notional `target`; what it opens pays its own cost."""
    quantity, up_to, beside = _split(held, mid, target)
    if up_to != 0.0:
        moved = impact(costs, (target - held * mid) / mid, volume)
        price = fill_price(costs, mid, up_to, moved)
        quantity += (up_to - beside) / (price + fee(costs, price))
    return quantity


@inline_kernel
def send_orders(costs, bars, row, offsets, ledger, units, i, left, targets, guard):  # type: ignore[no-untyped-def]
    """Send the orders for `targets` at the open after `row`; the ledger, and notional traded.

    Closing is paid first, and what is opened is sized so that it costs, all
    included, its share of what is `left` of the equity: a full purchase of one asset
    leaves no cash and overdraws none. The impact is that on the volume of the last bar
    seen.
    """
    traded = 0.0
    for a in range(len(offsets)):
        if np.isnan(targets[a]):
            continue
        mid = bars[row + 1 + offsets[a], OPEN]
        volume = bars[row + offsets[a], VOLUME]
        held = units[i, a]
        quantity = size_order(costs, mid, volume, held, targets[a] * left)
        if is_rounding(guard, i, targets[a], quantity, mid):
            continue
        quantity, _ = pass_order(guard, i, bars, row, offsets, units, i, a, quantity)
        moved = impact(costs, quantity, volume)
        ledger = trade(Ledger(ledger.cash, held, ledger.fees), costs, mid, quantity, moved)
        units[i, a] = ledger.units
        if guard is not None:
            price = fill_price(costs, mid, quantity, moved)
            book_order(guard, i, a, held, quantity, mid, price, fee(costs, quantity * price))
        traded += abs(quantity) * mid
    return ledger, traded
