"""Accounts of the environment walked again by the backtest engine, fill by fill.

The environment keeps no list of its fills. The units that a rollout held are orders for the
engine, which books each fill; that both end with the same equity is a check of either.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.agents.policy import Rollout
from hftlib.data.panel import BarPanel
from hftlib.envs.trading_rules import TradingRules
from hftlib.evaluation.engine import Backtest, Prices, run_backtest
from hftlib.evaluation.trades import estimate_capacity, list_trades
from hftlib.portfolio import measures
from hftlib.schema import FILLS, TRADES, UTC, validate

Replays = dict[str, list[Backtest]]  # by strategy, one a symbol; its strategies are the members


def replay(
    strategies: Mapping[str, Sequence[Rollout]],
    panel: BarPanel,
    rules: TradingRules,
    *,
    n_members: int,
    impact_bps: float | None = None,
) -> Replays:
    """The first `n_members` seeds or copies of each strategy, for each symbol.

    An account that ended early is closed at the next open, which the environment leaves undone.

    Parameters
    ----------
    impact_bps : float, optional
        In place of that of the rules' costs: what the same units would have cost.

    Raises
    ------
    ValueError
        If a rollout has not one account a symbol.
    """
    costs = rules.costs if impact_bps is None else rules.costs._replace(impact_bps=impact_bps)
    found: Replays = {}
    for name, rollouts in strategies.items():
        found[name] = []
        for k, prices in enumerate(Prices.from_panel(panel).split()):
            units, n_bars = _units(rollouts, k, prices, n_members)
            played = prices.rows(len(prices.ts) - n_bars, len(prices.ts))
            walked = run_backtest(
                played,
                units[:, :, None],
                costs,
                kind="units",
                initial_cash=rules.initial_cash,
                financing=rules.financing,
            )
            found[name].append(walked)
    return found


def _units(
    rollouts: Sequence[Rollout], k: int, prices: Prices, n_members: int
) -> tuple[np.ndarray, int]:
    """Units wanted at each close, shape (n_bars, n_members), nan where nothing is traded."""
    if any(rollout.symbols[k : k + 1] != prices.symbols for rollout in rollouts):
        raise ValueError(
            f"{prices.symbols[0]} is not symbol {k} of each rollout; expected one account a symbol"
        )
    held = _members([r.exposure * r.equity for r in rollouts], k, n_members)
    traded = _members([r.traded for r in rollouts], k, n_members)
    has_ended = _members([r.row for r in rollouts], k, n_members) < 0
    n_bars = len(held)
    units = held / prices.close[len(prices.ts) - n_bars :]
    wanted = np.full_like(units, np.nan)
    wanted[:-1] = np.where(traded[1:] > 0, units[1:], np.nan)
    wanted[:-1][has_ended[1:] & ~has_ended[:-1]] = 0.0
    return wanted, n_bars


def _members(parts: Sequence[npt.NDArray[Any]], k: int, n_members: int) -> npt.NDArray[Any]:
    """Symbol k of arrays (n_bars, n_copies, n_symbols), copies side by side."""
    return np.concatenate([part[:, :, k] for part in parts], axis=1)[:, :n_members]


def audit(replays: Replays, strategies: Mapping[str, Sequence[Rollout]]) -> float:
    """Largest difference of the two equities while accounts run, share of the environment's."""
    worst = 0.0
    for name, parts in replays.items():
        for k, part in enumerate(parts):
            n_members = part.equity.shape[1]
            played = _members([r.equity for r in strategies[name]], k, n_members)
            runs = _members([r.row for r in strategies[name]], k, n_members) >= 0
            worst = max(worst, float(np.abs(part.equity / played - 1.0)[runs].max()))
    return worst


def trade_table(replays: Replays) -> pd.DataFrame:
    """Round trips of all members as `schema.TRADES`."""
    return validate(_gather(replays, list_trades).astype({"exit_ts": UTC, "entry_ts": UTC}), TRADES)


def fill_table(replays: Replays) -> pd.DataFrame:
    """Fills of all members as `schema.FILLS`, by strategy, symbol, member and time."""
    return validate(_gather(replays, Backtest.fill_table).astype({"ts": UTC}), FILLS)


def summarise_replays(
    replays: Replays, periods_per_year: float, *, min_trades: int = 10
) -> pd.DataFrame:
    """Round trips of all members and symbols of a strategy pooled; one row a strategy.

    Returns
    -------
    frame indexed by strategy
        trades (closed ones a member and symbol), win_rate, profit_factor, expectancy (profit over
        what was paid for the entries), bars_held (mean, by what was paid); nan with fewer than
        `min_trades` closed trades in all. turnover (times equity a year), capacity (median of
        members and symbols over the starting cash; 0 for one that loses before impact, nan if
        nothing was traded or no impact charged).
    """
    trades = trade_table(replays)
    closed = trades[~trades["is_open"]]
    rows = {}
    for name, parts in replays.items():
        own = closed[closed["strategy"] == name]
        n_accounts = sum(len(part.strategies) for part in parts)
        capacities = [
            estimate_capacity(part, k)[0] / part.equity[0, k]
            for part in parts
            for k in range(len(part.strategies))
        ]
        known = [capacity for capacity in capacities if np.isfinite(capacity)]
        told = len(own) >= min_trades
        entries = own["quantity"] * own["entry_price"]
        turnover = [(part.traded[1:] / part.equity[:-1]).mean() for part in parts]
        rows[name] = {
            "trades": len(own) / n_accounts,
            "win_rate": float(measures.win_rate(own["profit"])) if told else np.nan,
            "profit_factor": float(measures.profit_factor(own["profit"])) if told else np.nan,
            "expectancy": own["profit"].sum() / entries.sum() if told else np.nan,
            "bars_held": np.average(own["bars_held"], weights=entries) if told else np.nan,
            "turnover": float(np.mean(turnover)) * periods_per_year,
            "capacity": float(np.median(known)) if known else np.nan,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("strategy")


def _gather(replays: Replays, listing: Callable[[Backtest], pd.DataFrame]) -> pd.DataFrame:
    """One listing of all backtests, with the strategy's name, and its number as the member."""
    parts = []
    for name, backtests in replays.items():
        for backtest in backtests:
            table = listing(backtest)
            member = table["strategy"].astype("int64")
            named = pd.Series(name, index=table.index, dtype="str")
            parts.append(table.assign(strategy=named, member=member))
    return pd.concat(parts, ignore_index=True)
