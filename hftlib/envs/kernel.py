"""The compiled step of the bar-trading environment: one loop over accounts."""

import numpy as np

from hftlib.compute import compile_kernel, inline_kernel
from hftlib.envs.bar_orders import left_by_closing, plan_orders, send_orders
from hftlib.envs.bar_risk import close_bar, open_bar
from hftlib.envs.bar_state import (
    CLOSE,
    DRAWDOWN,
    EMPTY,
    EQUITY_FLOOR,
    EXPOSURE_LIMIT,
    FORECAST,
    MARGIN_CALL,
    OPEN,
    RUIN,
    RUNNING,
    TIME,
    UNCERTAINTY,
    YEARS,
    unpack,
)
from hftlib.envs.rewards import (
    DIFFERENTIAL_SHARPE,
    HYBRID,
    RISK_ADJUSTED,
    SHARPE,
    SIMPLE,
    SORTINO,
    called_for,
    differential_sharpe,
    followed,
    moments,
)
from hftlib.portfolio.costs import Costs
from hftlib.portfolio.ledger import Ledger


@inline_kernel
def _observe(rules, features, bars, offsets, account, units, i, out):  # type: ignore[no-untyped-def]
    """Write observation i: windows of features, drawdown if shown, positions, exposures."""
    row = account.row
    n = rules.n_window
    n_assets = len(offsets)
    for a in range(n_assets):
        start = np.uintp((row + offsets[a] + 1) * rules.n_features - n)
        to = np.uintp(a * n)
        for k in range(np.uintp(n)):  # unsigned: an index that may be negative slows the copy
            out[i, to + k] = features[start + k]
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
    rules = unpack(settings)
    for i in range(len(accounts)):
        if wanted[i]:
            _observe(rules, features, bars, offsets, accounts[i], units, i, out)


@inline_kernel
def _find_end(rules, account, equity):  # type: ignore[no-untyped-def]
    """Why the episode ends here, if it does."""
    if account.is_called:
        return MARGIN_CALL
    if equity <= rules.ruin:
        return RUIN
    if equity <= (1.0 - rules.max_drawdown) * account.peak:
        return DRAWDOWN
    return TIME if account.row >= account.stop else RUNNING


@inline_kernel
def _advice(rules, bars, row, offsets, units, i, worth):  # type: ignore[no-untyped-def]
    """How far right forecasts of the bar after `row` were followed, and the squared distance.

    The distance is that of the positions, in units of `max_weight`, from what the
    forecasts call for; both are means over the assets, one without a forecast counts 0.
    """
    accuracy = distance = 0.0
    for a in range(len(offsets)):
        at = row + offsets[a]
        forecast, uncertainty = bars[at, FORECAST], bars[at, UNCERTAINTY]
        if np.isnan(forecast) or np.isnan(uncertainty):
            continue
        position = units[i, a] * bars[at + 1, OPEN] / max(worth, EMPTY) / rules.max_weight
        realised = bars[at + 1, CLOSE] - bars[at, CLOSE]
        wanted = max(called_for(forecast, uncertainty, rules.full_ratio), float(rules.lowest))
        accuracy += followed(forecast, realised, position) / len(offsets)
        distance += (position - wanted) ** 2 / len(offsets)
    return accuracy, distance


@inline_kernel
def _score(rules, account, growth, uncharged, accuracy, distance, growths, terms, i):  # type: ignore[no-untyped-def]
    """Write the terms of the reward that is not the plain growth; their sum.

    `uncharged` is the log growth without this step's costs.
    """
    size = growths.shape[1]
    growths[i, account.age % size] = growth
    n_seen = min(account.age + 1, size)
    mean, deviation, downside = moments(growths[i], n_seen)
    terms[i, :] = 0.0
    if rules.reward == RISK_ADJUSTED:
        terms[i, 0] = uncharged
        terms[i, 1] = -rules.cost_weight * (uncharged - growth)
        terms[i, 2] = -rules.volatility_weight * deviation
        terms[i, 3] = -rules.drawdown_weight * (1.0 - account.equity / account.peak)
    elif rules.reward == SHARPE:
        terms[i, 0] = n_seen / size * mean / max(deviation, rules.volatility_floor)
    elif rules.reward == SORTINO:
        terms[i, 0] = n_seen / size * mean / max(downside, rules.volatility_floor)
    elif rules.reward == DIFFERENTIAL_SHARPE:
        floor = rules.volatility_floor
        terms[i, 0] = differential_sharpe(account.mean, account.square, growth, floor)
        account.mean += rules.adaptation_rate * (growth - account.mean)
        account.square += rules.adaptation_rate * (growth * growth - account.square)
    else:
        terms[i, 0] = growth
        terms[i, 1] = rules.accuracy_weight * accuracy
        terms[i, 2] = -rules.sizing_weight * distance
    return terms[i, 0] + terms[i, 1] + terms[i, 2] + terms[i, 3]


@inline_kernel
def _is_bad(rules, value):  # type: ignore[no-untyped-def]
    if rules.is_continuous:
        return not rules.lowest <= value <= 1.0
    return not ((value == 0.0) | (value == 1.0) | (value == 2.0))


@compile_kernel
def step(  # type: ignore[no-untyped-def]
    settings, features, bars, offsets, accounts, units, growths, terms, targets, actions, out, guard
):
    """Move every account by one bar.

    `growths` of shape (n, bars of the reward's window) are the last ones, in a ring;
    `terms` of shape (n, N_TERMS) those of the reward; `targets` of shape (n_assets,) is
    scratch; `guard` a `bar_risk.Guard` or None. Returns -1, or the place of the first bad action
    in `actions` as if it were flat; then nothing has moved.
    """
    rules = unpack(settings)
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
        open_bar(guard, i, bars, row, offsets, units, i, worth)
        n_orders, opened = plan_orders(
            rules, bars, row, offsets, units, i, actions, solvent, called, targets, guard
        )
        if n_orders > 0:
            left = 1.0
            if opened > 0.0 and gross > 0.0:
                left = left_by_closing(costs, bars, row, offsets, units, i, worth, targets)
            ledger = Ledger(cash, 0.0, account.fees)
            ledger, traded = send_orders(
                costs, bars, row, offsets, ledger, units, i, left, targets, guard
            )
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
        close_bar(guard, i, after)
        account.row = row + 1
        account.position = (units[i, 0] > 0.0) - (units[i, 0] < 0.0)
        account.cash = cash
        account.equity = after
        account.exposure = net / max(after, EMPTY)
        account.peak = max(account.peak, after)
        least = EQUITY_FLOOR * before
        growth = np.log(max(after, least) / before)
        account.reward = growth
        terms[i, 0] = growth
        if rules.reward != SIMPLE:
            charges = account.paid + account.financing
            uncharged = np.log(max(after + charges, least) / before)
            accuracy = distance = 0.0
            if rules.reward == HYBRID:
                worth = cash + held
                accuracy, distance = _advice(rules, bars, row, offsets, units, i, worth)
            account.reward = _score(
                rules, account, growth, uncharged, accuracy, distance, growths, terms, i
            )
        account.age += 1
        account.end = _find_end(rules, account, after)
        account.is_called = after < rules.maintenance * gross
        _observe(rules, features, bars, offsets, account, units, i, out)
    return -1
