"""The compiled step of the bar-trading environment: storage and one loop over accounts.

Settings and accounts are rows of structured arrays: a call from Python then
passes few arguments, each of which costs as much as the arithmetic of a step.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hftlib.compute import compile_kernel, inline_kernel
from hftlib.portfolio.costs import Costs, fee, fill_price, impact
from hftlib.portfolio.ledger import Ledger, trade

EQUITY_FLOOR = 1e-6  # share of the equity before; keeps the logarithm finite after a total loss
EMPTY = 1e-12  # currency; the least equity that a share of it is taken of
EXPOSURE_LIMIT = 10.0
DUST = 1e-9  # share of equity; a smaller change of a target weight is rounding

OPEN, CLOSE, VOLUME, YEARS = range(4)  # columns of the bars; YEARS since the bar before
RUNNING, RUIN, DRAWDOWN, MARGIN_CALL, TIME = range(5)
REASONS = ("running", "ruin", "drawdown", "margin call", "time")


class Rules(NamedTuple):
    """Settings of all accounts: money in currency, rates as shares, a year where they accrue."""

    n_window: int  # window_bars * n_features
    n_features: int
    is_continuous: int
    lowest: int  # -1 or 0
    shows_drawdown: int
    max_weight: float
    min_trade_weight: float
    max_leverage: float
    maintenance: float
    max_drawdown: float
    ruin: float
    borrow: float
    interest: float
    fee_bps: float
    spread_bps: float
    slippage_bps: float
    impact_bps: float


RULES = np.dtype([(name, "i8" if t is int else "f8") for name, t in Rules.__annotations__.items()])
# One account: money in currency; `end` is one of the reasons above, the last four of the
# money fields and `reward` are of the last step.
ACCOUNT = np.dtype(
    [
        ("row", "i8"),
        ("stop", "i8"),
        ("end", "i8"),
        ("position", "i8"),  # sign; of the first asset of a portfolio
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


@inline_kernel
def _unpack(settings):  # type: ignore[no-untyped-def]
    """The only row of `settings` as values: those of a record would be read again and again."""
    row = settings[0]
    return Rules(
        row.n_window,
        row.n_features,
        row.is_continuous,
        row.lowest,
        row.shows_drawdown,
        row.max_weight,
        row.min_trade_weight,
        row.max_leverage,
        row.maintenance,
        row.max_drawdown,
        row.ruin,
        row.borrow,
        row.interest,
        row.fee_bps,
        row.spread_bps,
        row.slippage_bps,
        row.impact_bps,
    )


@inline_kernel
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
        out[i, at + a] = (held > 0.0) - (held < 0.0)
        exposure = held * bars[row + offsets[a], CLOSE] / worth
        out[i, at + n_assets + a] = min(max(exposure, -EXPOSURE_LIMIT), EXPOSURE_LIMIT)


@compile_kernel
def observe(  # type: ignore[no-untyped-def]
    settings, features, bars, offsets, accounts, units, wanted, out
):
    """Write the observations of the accounts that `wanted` marks, shape (n, n_inputs)."""
    rules = _unpack(settings)
    for i in range(len(accounts)):
        if wanted[i]:
            _observe(rules, features, bars, offsets, accounts[i], units, i, out)


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
def _plan(rules, bars, row, offsets, units, i, actions, worth, is_called, targets):  # type: ignore[no-untyped-def]
    """Write the notionals asked for, nan where nothing is; how many they are, and their sum.

    All are scaled down if they and what is kept would exceed the leverage.
    """
    n_orders = 0
    kept = opened = 0.0
    for a in range(len(offsets)):
        mid = bars[row + 1 + offsets[a], OPEN]
        held = units[i, a]
        target = 0.0 if is_called else _target(rules, actions[i, a], held, mid, worth)
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
def _left_by_closing(costs, bars, row, offsets, units, i, worth, targets):  # type: ignore[no-untyped-def]
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
def _trade(costs, bars, row, offsets, ledger, units, i, left, targets):  # type: ignore[no-untyped-def]
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
        held, target = units[i, a], targets[a] * left
        quantity, up_to, beside = _split(held, mid, target)
        if up_to != 0.0:
            moved = impact(costs, (target - held * mid) / mid, volume)
            price = fill_price(costs, mid, up_to, moved)
            quantity += (up_to - beside) / (price + fee(costs, price))
        moved = impact(costs, quantity, volume)
        ledger = trade(Ledger(ledger.cash, held, ledger.fees), costs, mid, quantity, moved)
        units[i, a] = ledger.units
        traded += abs(quantity) * mid
    return ledger, traded


@inline_kernel
def _find_end(rules, account, equity, gross):  # type: ignore[no-untyped-def]
    """Why the episode ends here, if it does."""
    if account.is_called:
        return MARGIN_CALL
    if equity <= rules.ruin:
        return RUIN
    if equity <= (1.0 - rules.max_drawdown) * account.peak:
        return DRAWDOWN
    return TIME if account.row >= account.stop else RUNNING


@inline_kernel
def _is_bad(rules, value):  # type: ignore[no-untyped-def]
    if rules.is_continuous:
        return not rules.lowest <= value <= 1.0
    return not ((value == 0.0) | (value == 1.0) | (value == 2.0))


@compile_kernel
def step(  # type: ignore[no-untyped-def]
    settings, features, bars, offsets, accounts, units, targets, actions, out
):
    """Move every account by one bar.

    `targets` of shape (n_assets,) is scratch. Returns -1, or the place of the
    first bad action in `actions` as if it were flat; then nothing has moved.
    """
    rules = _unpack(settings)
    costs = Costs(rules.fee_bps, rules.spread_bps, rules.slippage_bps, rules.impact_bps)
    n_assets = len(offsets)
    for i in range(len(accounts)):
        for a in range(n_assets):
            if _is_bad(rules, actions[i, a]):
                return i * n_assets + a
    for i in range(len(accounts)):
        account = accounts[i]
        row = account.row
        before = account.equity
        held = short = gross = 0.0
        for a in range(n_assets):
            value = units[i, a] * bars[row + 1 + offsets[a], OPEN]
            held += value
            gross += abs(value)
            short += max(-units[i, a], 0.0) * bars[row + offsets[a], CLOSE]
        # from one open to the next, on what was borrowed in between, at the last close
        borrowed = rules.borrow * short + rules.interest * max(-account.cash, 0.0)
        account.financing = borrowed * bars[row + 1 + offsets[0], YEARS]
        cash = account.cash - account.financing

        worth = cash + held
        account.traded = account.paid = 0.0
        called = account.is_called != 0
        solvent = max(worth, 0.0)
        n_orders, opened = _plan(
            rules, bars, row, offsets, units, i, actions, solvent, called, targets
        )
        if n_orders > 0:
            left = 1.0
            if opened > 0.0 and gross > 0.0:
                left = _left_by_closing(costs, bars, row, offsets, units, i, worth, targets)
            ledger = Ledger(cash, 0.0, account.fees)
            ledger, traded = _trade(costs, bars, row, offsets, ledger, units, i, left, targets)
            cash = ledger.cash
            held = 0.0
            for a in range(n_assets):
                held += units[i, a] * bars[row + 1 + offsets[a], OPEN]
            account.fees = ledger.fees
            account.traded = traded
            account.paid = worth - (cash + held)

        net = gross = 0.0
        for a in range(n_assets):
            value = units[i, a] * bars[row + 1 + offsets[a], CLOSE]
            net += value
            gross += abs(value)
        after = cash + net
        account.row = row + 1
        account.position = (units[i, 0] > 0.0) - (units[i, 0] < 0.0)
        account.cash = cash
        account.equity = after
        account.exposure = net / max(after, EMPTY)
        account.peak = max(account.peak, after)
        account.reward = np.log(max(after, EQUITY_FLOOR * before) / before)
        account.end = _find_end(rules, account, after, gross)
        account.is_called = after < rules.maintenance * gross
        _observe(rules, features, bars, offsets, account, units, i, out)
    return -1
