"""Limits of an account on bars: cases, and a walk in Python that checks one order at a time."""

import math
from dataclasses import dataclass, field, replace

import numpy as np
from hypothesis import strategies as st

from hftlib.envs import Limits, TradingRules
from hftlib.envs.bar_orders import left_by_closing, size_order
from hftlib.envs.bar_state import DUST
from hftlib.portfolio.costs import Costs, fee, fill_price, impact
from hftlib.portfolio.risk import Order, RiskLimits, check_order, propose_exits
from hftlib.portfolio.risk_state import build_state, mark_to_market, record_fill
from tests.conftest import make_panel

FREE = Costs(0.0, 0.0, 0.0)
DEAR = Costs(10.0, 4.0, 2.0, 100.0)
HOUR = 3600 * 10**9
SECTORS = {"S0": "energy", "S2": "energy", "S1": "technology"}
OPEN_ALL = RiskLimits(
    **dict.fromkeys(set(RiskLimits.__dataclass_fields__) - {"var_level"}, math.inf)
)

limit_sets = st.builds(
    RiskLimits,
    max_var=st.sampled_from([0.004, 0.02, math.inf]),
    max_drawdown=st.floats(0.02, 0.3),
    max_leverage=st.floats(0.3, 2.0),
    max_position=st.floats(0.05, 0.9),
    max_sector=st.floats(0.1, 1.0),
    stop_loss=st.floats(0.01, 0.1),
    take_profit=st.floats(0.01, 0.1),
    max_daily_trades=st.integers(2, 12),
    max_daily_volume=st.floats(0.3, 4.0),
    max_daily_loss=st.floats(0.005, 0.1),
)


def draw_panel(seed, n_symbols=3, n_bars=60):
    """Bars of eight hours with volumes, moved by a percent or two."""
    panel = make_panel(n_bars=n_bars, n_symbols=n_symbols, seed=seed)
    volume = np.random.default_rng(seed).uniform(1e2, 1e4, len(panel.ts))
    ts = np.tile(np.arange(n_bars) * 8 * HOUR, n_symbols)
    return replace(panel, volume=volume, ts=ts)


def draw_weights(seed, n_bars=60, n_assets=3, size=0.6):
    rng = np.random.default_rng(seed)
    weights = rng.uniform(-size, size, (n_bars, n_assets)).astype(np.float32)
    # mostly kept for some bars, so that positions live long enough to be stopped out
    return weights[np.arange(n_bars) // 4 * 4]


def make_rules(risk, costs=DEAR, **changes):
    values = {
        "window_bars": 1,
        "episode_bars": 1000,
        "allow_short": True,
        "action_kind": "continuous",
        "is_portfolio": True,
        "min_trade_weight": 0.01,
        "ruin_fraction": 0.0,
        "limits": Limits(max_leverage=1.5),
        "risk": risk,
        "sectors": SECTORS,
    }
    return TradingRules(costs, **(values | changes))


def play_all(env, actions):
    """Units, equity and infos after each step from the first row."""
    env.reset(options={"segment": 0})
    units, equity, infos = [], [], []
    for action in actions:
        *_, terminated, truncated, info = env.step(action)
        units.append(env._accounts.units[0].copy())
        equity.append(info["equity"])
        infos.append(info)
        if terminated or truncated:
            break
    return np.array(units), np.array(equity), infos


@dataclass
class Path:
    """What the walk saw; rows are those of the prices."""

    units: np.ndarray
    equity: np.ndarray
    events: list = field(default_factory=list)  # row, asset, action, asked, allowed, limits
    fills: list = field(default_factory=list)  # states before and after, and the order


def known_covariance(close, t, decay):
    """Weighted mean of the products of returns up to the close of row t; None before ten."""
    if t < 10:
        return None
    returns = close[1 : t + 1] / close[:t] - 1
    weights = decay ** np.arange(t)[::-1]
    return (weights[:, None] * returns).T @ returns / weights.sum()


def walk_account(
    prices,
    asked,
    costs,
    limits,
    *,
    sectors=None,
    decay=0.94,
    in_units=False,
    max_leverage=np.inf,
    band=0.0,
    cash=10_000.0,
):
    """Trade to `asked` of shape (n_bars, n_assets), row t at the open of t + 1.

    Ends early where an account without equity could not be told to the check.
    """
    n_bars, n_assets = prices.close.shape
    volume = np.ones_like(prices.close) if prices.volume is None else prices.volume
    stacked = np.stack([a.T.reshape(-1) for a in (prices.open, prices.close, volume)], axis=1)
    offsets = np.arange(n_assets) * n_bars
    named = [dict(zip(prices.symbols, row, strict=True)) for row in prices.open.tolist()]
    path = Path(np.zeros((n_bars, n_assets)), np.full(n_bars, cash))
    state = build_state(
        prices=named[0],
        units={},
        equity=cash,
        sectors=sectors,
        lot_size=None,
        ts_ns=int(prices.ts[0]),
    )
    held = np.zeros(n_assets)
    is_free = np.isinf(limits.max_var)
    for t in range(1, n_bars):
        exits = {e.order.symbol: e for e in propose_exits(state, limits)}
        worth = cash + held @ prices.open[t]
        if worth <= 0:
            return path, t
        state = mark_to_market(state, ts_ns=int(prices.ts[t]), prices=named[t], equity=worth)
        covariance = np.eye(n_assets) if is_free else known_covariance(prices.close, t - 1, decay)
        targets, left = asked[t - 1].astype(float), 1.0
        is_forced = np.array([symbol in exits for symbol in prices.symbols])
        if not in_units:
            targets = plan(targets, held * prices.open[t], worth, is_forced, max_leverage, band)
            if np.nansum(np.abs(targets)) > 0:
                units = held[None]
                left = left_by_closing(costs, stacked, t - 1, offsets, units, 0, worth, targets)
        for a, symbol in enumerate(prices.symbols):
            mid = prices.open[t, a]
            if in_units:
                quantity = (0.0 if is_forced[a] else targets[a]) - held[a]
            else:
                quantity = size_order(costs, mid, volume[t - 1, a], held[a], targets[a] * left)
            if np.isnan(quantity) or quantity == 0:
                continue
            if targets[a] != 0 and abs(quantity) * mid <= DUST * worth:
                continue
            sent, action, why = decide(symbol, quantity, state, limits, covariance, exits)
            path.events.append((t, a, action, quantity, sent, why))
            if sent == 0:
                continue
            moved = impact(costs, sent, volume[t - 1, a])
            price = fill_price(costs, mid, sent, moved)
            paid = fee(costs, sent * price)
            cash -= sent * price + paid
            held[a] += sent
            before, state = state, record_fill(state, symbol, sent, price, paid)
            path.fills.append((before, state, action, covariance))
        path.units[t] = held
        path.equity[t] = cash + held @ prices.close[t]
        if path.equity[t] <= 0:
            return path, t
        closes = dict(zip(prices.symbols, prices.close[t].tolist(), strict=True))
        state = mark_to_market(state, ts_ns=int(prices.ts[t]), prices=closes, equity=path.equity[t])
    return path, n_bars


def plan(weights, values, worth, is_forced, max_leverage, band):
    """Notionals asked for; together with what is kept at most `max_leverage`."""
    wanted = weights * worth
    stay = np.isnan(wanted) | (np.abs(wanted - values) <= max(band, DUST) * worth)
    targets = np.where(is_forced, 0.0, np.where(stay, np.nan, wanted))
    opened = np.nansum(np.abs(targets))
    room = max(max_leverage * worth - np.abs(values[np.isnan(targets)]).sum(), 0.0)
    return targets * (room / opened) if opened > room * (1 + DUST) else targets


def decide(symbol, quantity, state, limits, covariance, exits):
    """Quantity sent, action, limits that stood against it."""
    if symbol in exits:
        assert exits[symbol].order.quantity == quantity
        return quantity, "exit", [exits[symbol].reason]
    state = build_state(
        prices=dict(zip(state.symbols, state.prices, strict=True)),
        units=dict(zip(state.symbols, state.units, strict=True)),
        equity=state.equity,
        peak_equity=state.peak_equity,
        day_equity=state.day_equity,
        trades_today=state.trades_today,
        volume_today=state.volume_today,
        sectors={s: name for s, name in zip(state.symbols, state.sectors, strict=True) if name},
        covariance=np.zeros((len(state.symbols),) * 2) if covariance is None else covariance,
        lot_size=None,
        is_halted=covariance is None,  # nothing may be opened while it is not known
    )
    decision = check_order(Order(symbol, quantity), state, limits)
    names = ["max_var" if b.limit == "halt" else b.limit for b in decision.breaches]
    return decision.quantity, decision.action, names
