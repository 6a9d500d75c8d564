"""Weights of many assets from a window of their returns, through skfolio.

Every method takes simple returns of shape (n_bars, n_assets), on tz-aware UTC
time, and `Constraints`, and gives an `Allocation`: weights in the order of the
columns, and notes on anything that was adjusted. It gives weights that obey the
constraints or raises an `AllocationError` that says why it cannot: no method
falls back on another by itself, `rebalancing.rebalance` does and records it.

The same returns give the same bytes, whatever the order of the columns; nothing is
drawn at random. Means and covariances are per bar and of the window alone.

Source: Markowitz (1952), Journal of Finance 7(1); Rockafellar & Uryasev (2000),
Journal of Risk 2(3), for CVaR; Maillard, Roncalli & Teiletche (2010), Journal of
Portfolio Management 36(4), for risk parity; López de Prado (2016), Journal of Portfolio
Management 42(4), for HRP.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from skfolio import RiskMeasure
from skfolio.optimization import HierarchicalRiskParity, ObjectiveFunction, RiskBudgeting
from skfolio.prior import EmpiricalPrior

from hftlib.portfolio.asset_frames import AllocationError
from hftlib.portfolio.constraints import Constraints
from hftlib.portfolio.limits import SOLVER_PARAMS
from hftlib.portfolio.moments import Covariance, build_prior, covariance_estimator
from hftlib.portfolio.optimisation import (
    Allocation,
    adjust,
    deliver,
    fit,
    maximise_ratio,
    mean_variance,
    optimise,
    prepare,
    require_budget,
)

LONG_ONLY = Constraints()


Allocator = Callable[[pd.DataFrame, pd.Series | None], Allocation]


def equal_weight(
    returns: pd.DataFrame, constraints: Constraints = LONG_ONLY, previous: pd.Series | None = None
) -> Allocation:
    """The same weight for all; the nearest weights (least squares) where limits forbid that.

    Raises
    ------
    AllocationError
        If the frame is faulty, or the limits are infeasible.
    """
    _, limits = prepare(returns, constraints, previous, must_vary=False)
    n = len(limits.assets)
    return adjust(returns, limits, np.full(n, require_budget(limits, "equal_weight") / n))


def minimum_variance(
    returns: pd.DataFrame,
    constraints: Constraints = LONG_ONLY,
    previous: pd.Series | None = None,
    *,
    covariance: Covariance = "ledoit_wolf",
) -> Allocation:
    """The weights with the least variance.

    Raises
    ------
    AllocationError
        If the frame is faulty, an asset does not vary, the covariance is singular, or the
        limits are infeasible.
    """
    ordered, limits = prepare(returns, constraints, previous)
    prior = build_prior(ordered, covariance)
    return optimise(returns, ordered, limits, prior, "minimum_variance")


def maximum_sharpe(
    returns: pd.DataFrame,
    constraints: Constraints = LONG_ONLY,
    previous: pd.Series | None = None,
    *,
    risk_free: float = 0.0,
    covariance: Covariance = "ledoit_wolf",
) -> Allocation:
    """The weights with the largest mean over `risk_free` (per bar) by standard deviation.

    Raises
    ------
    AllocationError
        As `minimum_variance`, and `NoExcessReturnError` if no weights within the limits
        have a mean above `risk_free`.
    """
    ordered, limits = prepare(returns, constraints, previous)
    prior = build_prior(ordered, covariance)
    return maximise_ratio(returns, ordered, limits, prior, risk_free, "maximum_sharpe")


def mean_cvar(
    returns: pd.DataFrame,
    constraints: Constraints = LONG_ONLY,
    previous: pd.Series | None = None,
    *,
    level: float = 0.95,
    aversion: float = 1.0,
) -> Allocation:
    """The weights with the largest mean less `aversion` times the expected shortfall.

    The shortfall (CVaR) is the mean loss of the worst share 1 - `level` of the rows.
    `aversion` = 0 is the largest mean; a large one the least shortfall.

    Raises
    ------
    AllocationError
        If the frame is faulty, an asset does not vary, `level` or `aversion` is out of
        range, or the limits are infeasible.
    """
    if not 0 < level < 1:
        raise AllocationError(f"level is {level}; expected a share between 0 and 1, such as .95")
    if not 0 <= aversion < np.inf:
        raise AllocationError(f"aversion is {aversion}; expected a finite number from 0")
    ordered, limits = prepare(returns, constraints, previous)
    return optimise(
        returns,
        ordered,
        limits,
        EmpiricalPrior(),
        "mean_cvar",
        objective_function=ObjectiveFunction.MAXIMIZE_UTILITY,
        risk_measure=RiskMeasure.CVAR,
        cvar_beta=level,
        risk_aversion=aversion,
    )


def risk_parity(
    returns: pd.DataFrame,
    constraints: Constraints = LONG_ONLY,
    previous: pd.Series | None = None,
    *,
    covariance: Covariance = "ledoit_wolf",
) -> Allocation:
    """Long weights that each carry the same share of the variance, as far as limits let them.

    Raises
    ------
    AllocationError
        As `minimum_variance`, and if a lower bound is negative.
    """
    ordered, limits = prepare(returns, constraints, previous)
    if (limits.lower < 0).any():
        raise AllocationError("risk_parity holds long weights only; expected lower bounds from 0")
    budget = require_budget(limits, "risk_parity")
    unit = limits.scale(1.0 / budget)  # skfolio's risk budgets are of weights that sum to 1
    model = RiskBudgeting(
        prior_estimator=build_prior(ordered, covariance),
        scale_objective=1.0 / mean_variance(ordered),
        solver_params=SOLVER_PARAMS,
        **unit.to_skfolio(),
    )
    weights, notes = fit(model, ordered, unit)
    return deliver(returns, limits, weights * budget, notes)


def hierarchical_risk_parity(
    returns: pd.DataFrame,
    constraints: Constraints = LONG_ONLY,
    previous: pd.Series | None = None,
    *,
    covariance: Covariance = "ledoit_wolf",
) -> Allocation:
    """Weights by recursive bisection of a tree of correlated assets (Ward linkage).

    No matrix is inverted, so a singular covariance is no obstacle. Where the limits
    forbid these weights, the nearest ones (least squares) are given, with a note.

    Raises
    ------
    AllocationError
        If the frame is faulty, an asset does not vary, or the limits are infeasible.
    """
    ordered, limits = prepare(returns, constraints, previous)
    budget = require_budget(limits, "hierarchical_risk_parity")
    if len(limits.assets) == 1:
        return adjust(returns, limits, np.array([budget]))
    prior = EmpiricalPrior(covariance_estimator=covariance_estimator(covariance))
    weights, notes = fit(HierarchicalRiskParity(prior_estimator=prior), ordered, limits)
    return adjust(returns, limits, weights * budget, notes)
