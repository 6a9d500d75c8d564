"""One optimisation through skfolio: limits in, checked weights or a named error out.

What `allocation`, `views` and `kelly` share. Objectives are scaled to be near 1, for
the solver's tolerances are absolute. Columns are renamed and put in the order of their
names first, so the same returns give the same bytes whatever the order of the columns.
"""

import warnings
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from skfolio import RiskMeasure
from skfolio.exceptions import OptimizationError
from skfolio.optimization import MeanRisk, ObjectiveFunction

from hftlib.portfolio.asset_frames import AllocationError, check_returns
from hftlib.portfolio.constraints import Constraints, WeightError, bind_constraints
from hftlib.portfolio.limits import (
    SOLVER_PARAMS,
    InfeasibleConstraintsError,
    Limits,
    SolverFailedError,
)
from hftlib.portfolio.moments import anonymous

FloatArray = npt.NDArray[np.float64]


class NoExcessReturnError(AllocationError):
    """No weights within the limits have a mean above the riskless rate."""


class Allocation(NamedTuple):
    """`weights` indexed by asset, shares of equity; `notes` on what was adjusted."""

    weights: pd.Series
    notes: tuple[str, ...] = ()


def prepare(
    returns: pd.DataFrame,
    constraints: Constraints,
    previous: pd.Series | None,
    must_vary: bool = True,
) -> tuple[pd.DataFrame, Limits]:
    """Checked returns with assets in the order of their names, and the limits in that order."""
    ordered = check_returns(returns, must_vary)[sorted(returns.columns)]
    return ordered, bind_constraints(constraints, list(ordered.columns), previous)


def maximise_ratio(
    returns: pd.DataFrame,
    ordered: pd.DataFrame,
    limits: Limits,
    prior: Any,
    risk_free: float,
    method: str,
) -> Allocation:
    """Largest Sharpe ratio under the moments of `prior`; shared with `views`."""
    budget = require_budget(limits, method)
    means = prior.fit(anonymous(ordered)).return_distribution_.mu
    best = limits.largest(means - risk_free / budget)
    if best <= 1e-12 * np.abs(means).max():
        raise NoExcessReturnError(
            f"the best mean return within the limits is {best + risk_free:.3g} per bar; expected "
            f"more than risk_free={risk_free:g}: no Sharpe ratio is positive, choose another "
            "method for this window"
        )
    return optimise(
        returns,
        ordered,
        limits,
        prior,
        method,
        objective_function=ObjectiveFunction.MAXIMIZE_RATIO,
        risk_free_rate=risk_free / budget,  # the weights are solved for at a budget of 1
    )


def optimise_utility(
    returns: pd.DataFrame, ordered: pd.DataFrame, limits: Limits, prior: Any, aversion: float
) -> Allocation:
    """Largest mean less `aversion` times the variance, the sum free if the budget is None."""
    model = MeanRisk(
        objective_function=ObjectiveFunction.MAXIMIZE_UTILITY,
        risk_aversion=aversion,
        budget=limits.budget,
        prior_estimator=prior,
        scale_objective=1.0 / mean_variance(ordered),
        solver_params=SOLVER_PARAMS,
        **limits.to_skfolio(),
    )
    weights, notes = fit(model, ordered, limits)
    return deliver(returns, limits, weights, notes)


def optimise(
    returns: pd.DataFrame,
    ordered: pd.DataFrame,
    limits: Limits,
    prior: Any,
    method: str,
    **objective: Any,
) -> Allocation:
    """Fit skfolio's `MeanRisk` to weights that sum to 1 and scale them to the budget.

    For objectives that a common factor of the weights does not change.
    """
    budget = require_budget(limits, method)
    unit = limits.scale(1.0 / budget)
    scale = mean_variance(ordered)
    if objective.get("risk_measure") is RiskMeasure.CVAR:
        scale **= 0.5
    model = MeanRisk(
        prior_estimator=prior,
        scale_objective=1.0 / scale,
        solver_params=SOLVER_PARAMS,
        **objective,
        **unit.to_skfolio(),
    )
    weights, notes = fit(model, ordered, unit)
    return deliver(returns, limits, weights * budget, notes)


def fit(model: Any, ordered: pd.DataFrame, limits: Limits) -> tuple[FloatArray, tuple[str, ...]]:
    """Weights of skfolio's `model`, and its warnings as notes.

    Raises
    ------
    InfeasibleConstraintsError
        If no weights obey the limits; it names those that contradict each other.
    SolverFailedError
        If some do.
    """
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            weights = model.fit(anonymous(ordered)).weights_
    except OptimizationError as error:
        conflict = limits.conflict()
        if conflict:
            raise InfeasibleConstraintsError(conflict) from error
        raise SolverFailedError(
            f"{type(model).__name__} found no weights over {len(ordered)} rows although the "
            f"limits can be met: {error}"
        ) from error
    notes = (str(w.message).split(". ")[0] for w in caught if w.category is UserWarning)
    return np.asarray(weights, dtype=np.float64), tuple(dict.fromkeys(notes))


def adjust(
    returns: pd.DataFrame, limits: Limits, target: FloatArray, notes: tuple[str, ...] = ()
) -> Allocation:
    """`target` where the limits allow it, else the nearest weights within them, and a note."""
    broken = limits.broken_by(target)
    if broken:
        target = limits.nearest(target)
        notes = (*notes, f"moved to the nearest weights within the limits: {'; '.join(broken)}")
    return deliver(returns, limits, target, notes)


def deliver(
    returns: pd.DataFrame, limits: Limits, weights: FloatArray, notes: tuple[str, ...] = ()
) -> Allocation:
    """Weights in the order of the frame's columns, checked against the limits.

    Raises
    ------
    WeightError
        If they break a limit by more than 1e-6.
    """
    broken = limits.broken_by(weights)
    if broken:
        raise WeightError(f"the optimiser's weights are off: {'; '.join(broken)}")
    clipped = np.clip(weights, limits.lower, limits.upper)
    series = pd.Series(clipped, index=list(limits.assets), name="weight", dtype="float64")
    return Allocation(series.reindex(returns.columns), notes)


def require_budget(limits: Limits, method: str) -> float:
    """What the weights have to sum to.

    Raises
    ------
    AllocationError
        If the limits leave it free.
    """
    if limits.budget is None:
        raise AllocationError(f"budget is None; {method} needs the sum of the weights, such as 1")
    return limits.budget


def mean_variance(ordered: pd.DataFrame) -> float:
    """Scale of the objectives: solvers stop at absolute gaps, meant for numbers near 1."""
    return float(np.var(ordered.to_numpy(), axis=0).mean())
