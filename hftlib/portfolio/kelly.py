"""Kelly: the stakes under which wealth grows fastest in the long run.

Full Kelly assumes the means and variances to be known. With estimates it stakes too
much, at twice Kelly growth is gone, hence the fraction (half Kelly keeps three quarters
of the growth at half the risk) and the caps.

Source: Kelly (1956), Bell System Technical Journal 35(4); Thorp (2006), The Kelly
criterion in blackjack, sports betting and the stock market.
"""

import numpy as np
import pandas as pd

from hftlib.portfolio.asset_frames import AllocationError
from hftlib.portfolio.constraints import Constraints
from hftlib.portfolio.moments import Covariance, build_prior
from hftlib.portfolio.optimisation import Allocation, optimise_utility, prepare

NO_BORROWING = Constraints(budget=None, leverage=1.0)


def kelly_of_bet(
    win_probability: float, odds: float, fraction: float = 1.0, cap: float = 1.0
) -> float:
    """Share of wealth to stake on a bet that pays `odds` per unit staked or loses the stake.

    fraction · (p - (1 - p) / odds), at most `cap`; 0 where the bet has no edge.

    Raises
    ------
    AllocationError
        If a probability, the odds, the fraction or the cap is out of range.
    """
    if not 0 <= win_probability <= 1:
        raise AllocationError(f"win_probability is {win_probability}; expected a share in [0, 1]")
    if not 0 < odds < np.inf:
        raise AllocationError(f"odds are {odds}; expected the finite gain per unit, above 0")
    _check_fraction(fraction)
    if not 0 <= cap <= 1:
        raise AllocationError(f"cap is {cap}; expected a share of wealth in [0, 1]")
    edge = win_probability - (1.0 - win_probability) / odds
    return min(cap, fraction * max(0.0, edge))


def kelly_of_normal(mean: float, sd: float, fraction: float = 1.0, cap: float = np.inf) -> float:
    """Signed weight fraction · mean / sd² of one asset, at most `cap` in size.

    `mean` (over the riskless rate) and `sd` are of the returns of one bar; the formula is
    that of bars so short that a weighted return stays well above -1.

    Raises
    ------
    AllocationError
        If `sd` is not above 0, or the mean, fraction or cap is out of range.
    """
    if not 0 < sd < np.inf or not np.isfinite(mean):
        raise AllocationError(f"mean {mean}, sd {sd}; expected a finite mean and an sd above 0")
    _check_fraction(fraction)
    if not cap >= 0:
        raise AllocationError(f"cap is {cap}; expected the largest size of the weight, from 0")
    return float(np.clip(fraction * mean / sd**2, -cap, cap))


def kelly(
    returns: pd.DataFrame,
    constraints: Constraints = NO_BORROWING,
    previous: pd.Series | None = None,
    *,
    fraction: float = 1.0,
    covariance: Covariance = "ledoit_wolf",
) -> Allocation:
    """The weights that maximise mean - variance / (2 · fraction), per bar.

    Unbounded, that is fraction · Σ⁻¹ μ; bounds and `leverage` cap it. What the weights
    leave of equity is cash, unless `constraints.budget` says what they sum to.

    Raises
    ------
    AllocationError
        If the fraction is out of range, or as `minimum_variance`.
    """
    _check_fraction(fraction)
    ordered, limits = prepare(returns, constraints, previous)
    prior = build_prior(ordered, covariance)
    return optimise_utility(returns, ordered, limits, prior, 0.5 / fraction)


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction <= 1:
        raise AllocationError(f"fraction is {fraction}; expected above 0 and at most 1 (full)")
