"""A grid of rules of thumb on bars: every rule of `agents.bar_rules`, with the usual settings.

What a desk would try before anything is trained. All of it is tried, so that the
probability of overfitting can be asked of the whole.
"""

import numpy as np

from hftlib.agents import bar_rules
from hftlib.evaluation.samples import FloatArray

AVERAGES = ((5, 20), (10, 50), (20, 100), (50, 200))  # bars of the fast and the slow mean
LOOKBACKS = (5, 20, 60, 120, 250)  # bars of momentum and breakouts
RSI = (3, 5, 10)
VOLATILITIES = ((20, 0.10), (20, 0.15), (60, 0.10), (60, 0.15))  # bars, yearly target
WARM_UP = max(LOOKBACKS) + 1  # bars before all rules have their history
HOLD = "buy_and_hold"


def list_rules(close: FloatArray, periods_per_year: float) -> dict[str, FloatArray]:
    """Target weights of every rule, and of holding from the start.

    Parameters
    ----------
    close : array of shape (n_bars, n_assets)

    Returns
    -------
    dict of name to array of that shape
        nan where a target does not change: drift is not traded back.
    """
    found = {HOLD: bar_rules.hold_from_start(close)}
    for side, allow_short in (("flat", False), ("short", True)):
        for fast, slow in AVERAGES:
            weights = bar_rules.cross_averages(close, fast, slow, allow_short=allow_short)
            found[f"averages {fast}/{slow}, long or {side}"] = weights
        for bars in LOOKBACKS:
            weights = bar_rules.follow_momentum(close, bars, allow_short=allow_short)
            found[f"momentum {bars}, long or {side}"] = weights
            weights = bar_rules.break_out(close, bars, allow_short=allow_short)
            found[f"breakout {bars}, long or {side}"] = weights
        for bars in RSI:
            weights = bar_rules.revert_rsi(close, bars, allow_short=allow_short)
            found[f"RSI {bars}, long or {side}"] = weights
    for bars, goal in VOLATILITIES:
        weights = bar_rules.target_volatility(close, bars, goal, periods_per_year)
        found[f"volatility {goal:.0%} over {bars}, long or flat"] = weights
    return {name: bar_rules.change_only(weights) for name, weights in found.items()}


def stack_rules(rules: dict[str, FloatArray]) -> FloatArray:
    """The targets as `engine.run_backtest` takes them, shape (n_bars, n_rules, n_assets)."""
    return np.stack([*rules.values()], axis=1)


def family_of(rule: str) -> str:
    """What a rule of this grid belongs to in a figure."""
    return rule if rule == HOLD else f"rule, {rule.rsplit(', ', 1)[1]}"
