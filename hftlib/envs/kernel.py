"""The compiled step of the bar-trading environment: storage and one loop over accounts.

Settings and accounts are rows of structured arrays: a call from Python then
passes few arguments, each of which costs as much as the arithmetic of a step.
"""

import numpy as np
import numpy.typing as npt

from hftlib.compute import compile_kernel
from hftlib.portfolio.costs import Costs, fee, fill_price, participation
from hftlib.portfolio.ledger import Ledger, trade

EQUITY_FLOOR = 1e-6  # share of the equity before; keeps the logarithm finite after a total loss
EMPTY = 1e-12  # currency; the least equity that a share of it is taken of
EXPOSURE_LIMIT = 10.0
DUST = 1e-9  # share of equity; a smaller change of a target weight is rounding

OPEN, CLOSE, VOLUME, YEARS = range(4)  # columns of the bars; YEARS since the bar before
RUNNING, RUIN, DRAWDOWN, MARGIN_CALL, TIME = range(5)
REASONS = ("running", "ruin", "drawdown", "margin call", "time")

RULES = np.dtype(
    [
        ("n_window", "i8"),  # window_bars * n_features
        ("n_features", "i8"),
        ("is_continuous", "i8"),
        ("lowest", "i8"),  # -1 or 0
        ("shows_drawdown", "i8"),
        ("max_weight", "f8"),
        ("min_trade_weight", "f8"),
        ("max_leverage", "f8"),
        ("maintenance", "f8"),
        ("max_drawdown", "f8"),
        ("ruin", "f8"),  # currency
        ("borrow", "f8"),  # share of value a year
        ("interest", "f8"),
        ("fee_bps", "f8"),
        ("spread_bps", "f8"),
        ("slippage_bps", "f8"),
        ("impact_bps", "f8"),
    ]
)
# One account: money in currency; `end` is one of the reasons above, the last four of the
# money fields and `reward` are of the last step.
ACCOUNT = np.dtype(
    [
        ("row", "i8"),
        ("stop", "i8"),
        ("age", "i8"),
        ("end", "i8"),
        ("is_called", "i8"),
        ("cash", "f8"),
        ("fees", "f8"),
        ("peak", "f8"),
        ("equity", "f8"),
        ("exposure", "f8"),  # long less short, share of equity
        ("traded", "f8"),
        ("paid", "f8"),
        ("financing", "f8"),
        ("reward", "f8"),
    ]
)

Records = npt.NDArray[np.void]
FloatArray = npt.NDArray[np.float64]


@compile_kernel
def _observe(rules, features, bars, offsets, account, units, i, out):  # type: ignore[no-untyped-def]
    """Write observation i: windows of features, drawdown if shown, positions, exposures."""
    row = account.row
    n = rules.n_window
    n_assets = len(offsets)
    for a in range(n_assets):
        start = (row + offsets[a] + 1) * rules.n_features - n
        for k in range(n):
            out[i, a * n + k] = features[start + k]
    at = n_assets * n
    if rules.shows_drawdown:
        out[i, at] = min(1.0 - account.equity / account.peak, EXPOSURE_LIMIT)
        at += 1
    worth = max(account.equity, EMPTY)
    for a in range(n_assets):
        held = units[i, a]
        out[i, at + a] = 1.0 if held > 0 else (-1.0 if held < 0 else 0.0)
        exposure = held * bars[row + offsets[a], CLOSE] / worth
        out[i, at + n_assets + a] = min(max(exposure, -EXPOSURE_LIMIT), EXPOSURE_LIMIT)


@compile_kernel
def observe(  # type: ignore[no-untyped-def]
    settings, features, bars, offsets, accounts, units, wanted, out
):
    """Write the observations of the accounts that `wanted` marks, shape (n, n_inputs)."""
    rules = settings[0]
    for i in range(len(accounts)):
        if wanted[i]:
            _observe(rules, features, bars, offsets, accounts[i], units, i, out)


@compile_kernel
def _target(rules, action, held, mid, worth):  # type: ignore[no-untyped-def]
    """Notional at mid that an action asks for, and whether it is left as it is."""
    notional = held * mid
    if rules.is_continuous:
        wanted = action * rules.max_weight * worth
        band = max(rules.min_trade_weight, DUST) * worth
        if abs(wanted - notional) <= band:
            return notional, True
        return wanted, False
    position = 1 if held > 0 else (-1 if held < 0 else 0)
    notch = 1 if action == 1.0 else (-1 if action == 2.0 else 0)
    moved = min(max(position + notch, rules.lowest), 1)
    if moved == position:
        return notional, True
    return moved * rules.max_weight * worth, False


@compile_kernel
def _split(held, mid, target):  # type: ignore[no-untyped-def]
    """An order for `target` notional: units that close, and notional that the rest opens up to."""
    if held == 0.0 or target * held <= 0.0:
        return -held, target, 0.0
    if abs(target) < abs(held * mid):
        return (target - held * mid) / mid, 0.0, 0.0
    return 0.0, target, held * mid


@compile_kernel
def _closing_cost(costs, mid, quantity, share):  # type: ignore[no-untyped-def]
    """What an order that reduces a position will cost, currency."""
    if quantity == 0.0:
        return 0.0
    price = fill_price(costs, mid, quantity, share)
    return abs(quantity) * abs(price - mid) + fee(costs, quantity * price)


@compile_kernel
def _rebalance(rules, costs, bars, offsets, account, units, i, actions):  # type: ignore[no-untyped-def]
    """Send the orders of one account at the open after its row.

    Closing is paid first; what is opened is sized so that it costs, all
    included, its share of what is left: a full purchase leaves no cash and
    overdraws none. The impact is that on the volume of the last bar seen.
    """
    row, n_assets = account.row, len(offsets)
    worth = account.cash
    for a in range(n_assets):
        worth += units[i, a] * bars[row + 1 + offsets[a], OPEN]
    solvent = max(worth, 0.0)

    kept = opened = 0.0
    for a in range(n_assets):
        mid = bars[row + 1 + offsets[a], OPEN]
        target, is_kept = _target(rules, actions[i, a], units[i, a], mid, solvent)
        if is_kept:
            kept += abs(target)
        else:
            opened += abs(target)
    room = max(rules.max_leverage * solvent - kept, 0.0)
    scale = room / opened if opened > room * (1.0 + DUST) else 1.0
    if account.is_called:
        scale = 0.0

    closing_cost = 0.0
    for a in range(n_assets):
        mid = bars[row + 1 + offsets[a], OPEN]
        target, is_kept = _target(rules, actions[i, a], units[i, a], mid, solvent)
        if is_kept and not account.is_called:
            continue
        order = target * scale - units[i, a] * mid
        share = participation(order / mid, bars[row + offsets[a], VOLUME])
        closed, _, _ = _split(units[i, a], mid, target * scale)
        closing_cost += _closing_cost(costs, mid, closed, share)
    if worth > 0.0:
        scale *= max(worth - closing_cost, 0.0) / worth

    account.traded = 0.0
    for a in range(n_assets):
        mid = bars[row + 1 + offsets[a], OPEN]
        volume = bars[row + offsets[a], VOLUME]
        held = units[i, a]
        target, is_kept = _target(rules, actions[i, a], held, mid, solvent)
        if is_kept and not account.is_called:
            continue
        closed, up_to, beside = _split(held, mid, target * scale)
        quantity = closed
        if up_to != 0.0:
            share = participation((target * scale - held * mid) / mid, volume)
            price = fill_price(costs, mid, up_to, share)
            quantity += (up_to - beside) / (price + fee(costs, price))
        share = participation(quantity, volume)
        ledger = trade(Ledger(account.cash, held, account.fees), costs, mid, quantity, share)
        account.cash = ledger.cash
        account.fees = ledger.fees
        units[i, a] = ledger.units
        account.traded += abs(quantity) * mid
    after = account.cash
    for a in range(n_assets):
        after += units[i, a] * bars[row + 1 + offsets[a], OPEN]
    account.paid = worth - after


@compile_kernel
def _finance(rules, bars, offsets, account, units, i):  # type: ignore[no-untyped-def]
    """Charge for the time from one open to the next what was borrowed meanwhile, at the close."""
    short = 0.0
    for a in range(len(offsets)):
        short += max(-units[i, a], 0.0) * bars[account.row + offsets[a], CLOSE]
    rate = rules.borrow * short + rules.interest * max(-account.cash, 0.0)
    account.financing = rate * bars[account.row + 1, YEARS]
    account.cash -= account.financing


@compile_kernel
def _find_end(rules, account, gross):  # type: ignore[no-untyped-def]
    """Why the episode ends here, and the margin call for the next open."""
    if account.is_called:
        return MARGIN_CALL
    if account.equity <= rules.ruin:
        return RUIN
    if account.equity <= (1.0 - rules.max_drawdown) * account.peak:
        return DRAWDOWN
    account.is_called = account.equity < rules.maintenance * gross
    return TIME if account.row >= account.stop else RUNNING


@compile_kernel
def step(  # type: ignore[no-untyped-def]
    settings, features, bars, offsets, accounts, units, actions, out
):
    """Move every account by one bar.

    Returns -1, or the place of the first bad action in `actions` as if it were
    flat; then nothing has moved.
    """
    rules = settings[0]
    n_assets = len(offsets)
    for i in range(len(accounts)):
        for a in range(n_assets):
            value = actions[i, a]
            if rules.is_continuous:
                is_fine = rules.lowest <= value <= 1.0
            else:
                is_fine = value == 0.0 or value == 1.0 or value == 2.0
            if not is_fine:
                return i * n_assets + a
    costs = Costs(rules.fee_bps, rules.spread_bps, rules.slippage_bps, rules.impact_bps)
    for i in range(len(accounts)):
        account = accounts[i]
        before = account.equity
        _finance(rules, bars, offsets, account, units, i)
        _rebalance(rules, costs, bars, offsets, account, units, i, actions)
        account.row += 1
        account.age += 1
        after, net, gross = account.cash, 0.0, 0.0
        for a in range(n_assets):
            value = units[i, a] * bars[account.row + offsets[a], CLOSE]
            after += value
            net += value
            gross += abs(value)
        account.equity = after
        account.exposure = net / max(after, EMPTY)
        account.peak = max(account.peak, after)
        account.reward = np.log(max(after, EQUITY_FLOOR * before) / before)
        account.end = _find_end(rules, account, gross)
        _observe(rules, features, bars, offsets, account, units, i, out)
    return -1
