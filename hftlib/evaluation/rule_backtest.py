"""Rules of thumb played beside agents: one account a symbol, on the rows that agents play.

A rule sees all bars up to its own, those of earlier splits included, as a person who follows
it would.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

import numpy as np
import pandas as pd

from hftlib.agents.policy import Rollout
from hftlib.data.panel import BarPanel
from hftlib.envs.trading_rules import TradingRules
from hftlib.evaluation.engine import Backtest, Prices, as_rollout
from hftlib.evaluation.fold_accounts import run_account
from hftlib.evaluation.rule_grid import WARM_UP, list_rules, stack_rules
from hftlib.evaluation.samples import FloatArray
from hftlib.portfolio import measures

# Fixed before any of them was played here.
BASELINES = {
    "momentum": "momentum 250, long or flat",
    "volatility_target": "volatility 15% over 20, long or flat",
}


def join_spans(panels: Sequence[BarPanel]) -> Prices:
    """Splits of one dataset, one after the other; the rows left out between two are one long bar.

    Raises
    ------
    PanelError
        If symbols of a split do not share one clock.
    ValueError
        If the splits have other symbols, or do not follow each other in time.
    """
    spans = [Prices.from_panel(panel) for panel in panels]
    symbols = {span.symbols for span in spans}
    if len(symbols) != 1:
        raise ValueError(f"the splits have the symbols {sorted(symbols)}; expected the same in all")
    volumes = [span.volume for span in spans if span.volume is not None]
    return Prices(
        spans[0].symbols,
        np.concatenate([span.ts for span in spans]),
        np.concatenate([span.open for span in spans]),
        np.concatenate([span.close for span in spans]),
        np.concatenate(volumes) if len(volumes) == len(spans) else None,
    )


def play_rules(
    named: Mapping[str, str],
    history: Prices,
    panel: BarPanel,
    rules: TradingRules,
    periods_per_year: float,
) -> dict[str, list[Rollout]]:
    """Rules of the grid through a panel, as `backtest.play_members` has policies.

    Parameters
    ----------
    named : mapping of strategy to a name of `rule_grid.list_rules`
    history : Prices
        All bars up to the last of the panel, as from `join_spans`.
    rules : TradingRules
        Costs, financing, cash, ruin, limits, and the window after which agents begin.

    Raises
    ------
    KeyError
        If there is no such rule.
    ValueError
        If the panel's last rows are not those of `history`.
    """
    n_played = len(panel.common_clock()) - rules.window_bars + 1
    parts = []
    for alone in history.split():
        grid = list_rules(alone.close, periods_per_year)
        targets = _cut(stack_rules({name: grid[rule] for name, rule in named.items()}), n_played)
        played = alone.rows(len(alone.ts) - n_played, len(alone.ts))
        known = alone.close[:-n_played]
        parts.append(run_account(played, targets, rules, [*named], known))
    together = as_rollout(parts, panel)
    arrays = [field.name for field in fields(Rollout) if field.name != "symbols"]
    return {
        name: [replace(together, **{field: getattr(together, field)[:, [k]] for field in arrays})]
        for k, name in enumerate(named)
    }


def trade_grid(history: Prices, rules: TradingRules, periods_per_year: float) -> Backtest:
    """Every rule of the grid over all bars, all symbols in one account."""
    grid = list_rules(history.close, periods_per_year)
    return run_account(history, stack_rules(grid), rules, [*grid])


def choose_before(grid: Backtest, panel: BarPanel, periods_per_year: float) -> str:
    """The rule with the best Sharpe ratio before a panel's span; holding is among them.

    Parameters
    ----------
    grid : Backtest
        As from `trade_grid`.

    Raises
    ------
    ValueError
        If none traded before the span.
    """
    start = int(np.searchsorted(grid.prices.ts, panel.common_clock()[0]))
    seen = grid.returns[WARM_UP - 1 : max(start - 1, 0)]  # earned in bars WARM_UP to start - 1
    ratios = measures.sharpe(seen, periods_per_year) if len(seen) > 1 else np.array([np.nan])
    if np.isnan(ratios).all():
        raise ValueError(
            f"none of {len(grid.strategies)} rules traded in the {len(seen)} bars before the span; "
            "give a longer history"
        )
    return grid.strategies[int(np.nanargmax(ratios))]


def _cut(targets: FloatArray, n_rows: int) -> FloatArray:
    """The last `n_rows` of (n_bars, n_rules, n_assets), from the target last set before them."""
    kept = targets[-n_rows:].copy()
    before = pd.DataFrame(targets[: len(targets) - n_rows + 1].reshape(-1, kept[0].size)).ffill()
    kept[0] = before.to_numpy()[-1].reshape(kept[0].shape)
    return kept
