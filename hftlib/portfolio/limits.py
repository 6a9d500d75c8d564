"""Limits on weights as arrays: what breaks them, whether they can be met, the nearest within.

All limits are linear in the weights and their absolute values, so that a linear
programme tells whether any weights obey them all, and which of them contradict each
other if none do.

Source: Chinneck & Dravnieks (1991), Locating minimal infeasible constraint sets
in linear programs, ORSA Journal on Computing 3(2), for the deletion filter.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import cvxpy as cp
import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog

from hftlib.portfolio.asset_frames import AllocationError

FloatArray = npt.NDArray[np.float64]
TOLERANCE = 1e-6  # of a weight or a sum of weights; the solvers reach 1e-8 and better
# For objectives near 1. skfolio's own, 1e-9 of a daily variance, leave weights off by 1e-4.
SOLVER_PARAMS = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}


class InfeasibleConstraintsError(AllocationError):
    """No weights obey all limits; `conflict` names a smallest set that contradicts itself."""

    def __init__(self, conflict: tuple[str, ...]) -> None:
        self.conflict = conflict
        super().__init__(
            f"no weights obey all of: {'; '.join(conflict)}. Any one of these left out, the "
            "others can be met: relax one"
        )


class SolverFailedError(AllocationError):
    """The optimiser gave up although weights within the limits exist."""


@dataclass(frozen=True)
class Limits:
    """`Constraints` as arrays over assets: bounds (n,), sector rows (k, n) and caps (k,)."""

    assets: tuple[str, ...]
    lower: FloatArray
    upper: FloatArray
    budget: float | None
    sector_names: tuple[str, ...]
    sector_rows: FloatArray
    sector_caps: FloatArray
    leverage: float | None
    turnover: float | None
    previous: FloatArray

    def scale(self, factor: float) -> "Limits":
        """The limits on `factor` times the weights."""

        def scaled(value: float | None) -> float | None:
            return None if value is None else value * factor

        return replace(
            self,
            lower=self.lower * factor,
            upper=self.upper * factor,
            budget=scaled(self.budget),
            sector_caps=self.sector_caps * factor,
            leverage=scaled(self.leverage),
            turnover=scaled(self.turnover),
            previous=self.previous * factor,
        )

    def broken_by(self, weights: FloatArray, tolerance: float = TOLERANCE) -> list[str]:
        """Which limits `weights` of shape (n,) break by more than `tolerance`, in words."""
        broken = []
        for name, excess in (
            ("below its lower bound", self.lower - weights),
            ("above its upper bound", weights - self.upper),
        ):
            for k in np.flatnonzero(excess > tolerance):
                broken.append(f"weight of {self.assets[k]}, {weights[k]:.6g}, is {name}")
        if self.budget is not None and abs(weights.sum() - self.budget) > tolerance:
            broken.append(f"weights sum to {weights.sum():.9g}, expected {self.budget:g}")
        for name, row, cap in zip(
            self.sector_names, self.sector_rows, self.sector_caps, strict=True
        ):
            if abs(row @ weights) > cap + tolerance:
                broken.append(f"sector {name} has {row @ weights:.6g}, its cap is {cap:g}")
        for name, limit, total in (
            ("leverage", self.leverage, np.abs(weights).sum()),
            ("turnover", self.turnover, np.abs(weights - self.previous).sum()),
        ):
            if limit is not None and total > limit + tolerance:
                broken.append(f"{name} is {total:.6g}, its limit {limit:g}")
        return broken

    def to_skfolio(self) -> dict[str, Any]:
        """Arguments of skfolio's convex optimisations; `budget` is not among them.

        Ratios and risk budgets are optimised over a multiple of the weights, whose sum
        is that multiple of the budget: limits on absolute values are written in it.
        """

        def limit_absolute(w: cp.Variable) -> list[Any]:
            unit = 1.0 if self.budget is None else cp.sum(w) / self.budget
            found = []
            if self.leverage is not None:
                found.append(cp.norm1(w) <= self.leverage * unit)
            if self.turnover is not None:
                found.append(cp.norm1(w - self.previous * unit) <= self.turnover * unit)
            return found

        arguments: dict[str, Any] = {"min_weights": self.lower, "max_weights": self.upper}
        if len(self.sector_caps):
            arguments["left_inequality"] = np.concatenate([self.sector_rows, -self.sector_rows])
            arguments["right_inequality"] = np.concatenate([self.sector_caps, self.sector_caps])
        if self.leverage is not None or self.turnover is not None:
            arguments["add_constraints"] = limit_absolute
        return arguments

    def conflict(self) -> tuple[str, ...]:
        """A smallest set of limits that no weights obey, in words; empty if some obey all."""
        kept = dict(self._rows())
        if self._best(kept, np.zeros(len(self.assets))) is not None:
            return ()
        for name in list(kept):
            rest = {other: rows for other, rows in kept.items() if other != name}
            if self._best(rest, np.zeros(len(self.assets))) is None:
                kept = rest
        return tuple(kept)

    def largest(self, slope: FloatArray) -> float:
        """Largest `slope @ weights` that the limits allow, shape (n,).

        Raises
        ------
        InfeasibleConstraintsError
            If no weights obey the limits.
        """
        best = self._best(dict(self._rows()), slope)
        if best is None:
            raise InfeasibleConstraintsError(self.conflict())
        return best

    def nearest(self, target: FloatArray) -> FloatArray:
        """The weights within the limits with the least sum of squares to `target`, shape (n,).

        Raises
        ------
        InfeasibleConstraintsError
            If no weights obey the limits.
        """
        found = self.conflict()
        if found:
            raise InfeasibleConstraintsError(found)
        w = cp.Variable(len(self.assets))
        rules = [w >= self.lower, w <= self.upper]
        if self.budget is not None:
            rules.append(cp.sum(w) == self.budget)
        if len(self.sector_caps):
            rules.append(cp.abs(self.sector_rows @ w) <= self.sector_caps)
        if self.leverage is not None:
            rules.append(cp.norm1(w) <= self.leverage)
        if self.turnover is not None:
            rules.append(cp.norm1(w - self.previous) <= self.turnover)
        problem = cp.Problem(cp.Minimize(cp.sum_squares(w - target)), rules)
        problem.solve(solver=cp.CLARABEL, **SOLVER_PARAMS)
        if w.value is None:
            raise SolverFailedError(
                f"no nearest weights were found although the limits can be met: {problem.status}"
            )
        return np.asarray(w.value, dtype=np.float64)

    def _rows(self) -> list[tuple[str, tuple[FloatArray, FloatArray]]]:
        """Each limit as rows (A, b) of A x <= b, x = (weights, |weights|, |changes|)."""
        n = len(self.assets)
        eye, none, one = np.eye(n), np.zeros((n, n)), np.ones((1, n))
        zero = np.zeros((1, n))
        rows: list[tuple[str, tuple[FloatArray, FloatArray]]] = [
            ("lower bounds of the weights", (np.hstack([-eye, none, none]), -self.lower)),
            ("upper bounds of the weights", (np.hstack([eye, none, none]), self.upper)),
        ]
        if self.budget is not None:
            both = np.vstack([np.hstack([one, zero, zero]), np.hstack([-one, zero, zero])])
            limit = np.array([self.budget, -self.budget])
            rows.append((f"sum of the weights, {self.budget:g}", (both, limit)))
        for name, row, cap in zip(
            self.sector_names, self.sector_rows, self.sector_caps, strict=True
        ):
            both = np.vstack([np.hstack([s * row, np.zeros(2 * n)]) for s in (1.0, -1.0)])
            rows.append((f"cap of sector {name}, {cap:g}", (both, np.array([cap, cap]))))
        if self.leverage is not None:
            limit = np.array([self.leverage])
            rows.append((f"leverage, {self.leverage:g}", (np.hstack([zero, one, zero]), limit)))
        if self.turnover is not None:
            limit = np.array([self.turnover])
            rows.append((f"turnover, {self.turnover:g}", (np.hstack([zero, zero, one]), limit)))
        return rows

    def _best(
        self, rows: Mapping[str, tuple[FloatArray, FloatArray]], slope: FloatArray
    ) -> float | None:
        """Largest `slope @ weights` under `rows`; None if no weights obey them."""
        n = len(self.assets)
        eye, none, zero = np.eye(n), np.zeros((n, n)), np.zeros(n)
        parts = [  # |w| >= ±w, |w - previous| >= ±(w - previous)
            (np.hstack([eye, -eye, none]), zero),
            (np.hstack([-eye, -eye, none]), zero),
            (np.hstack([eye, none, -eye]), self.previous),
            (np.hstack([-eye, none, -eye]), -self.previous),
            *rows.values(),
        ]
        found = linprog(
            np.concatenate([-slope, np.zeros(2 * n)]),
            A_ub=np.vstack([a for a, _ in parts]),
            b_ub=np.concatenate([b for _, b in parts]),
            bounds=(None, None),
        )
        if found.status not in (0, 2, 3):
            raise SolverFailedError(f"linear programme of the limits: {found.message}")
        if found.status == 2:  # infeasible; 3 is unbounded
            return None
        return np.inf if found.status == 3 else -float(found.fun)
