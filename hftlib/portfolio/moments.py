"""Means and covariances of a window of returns, through skfolio's priors.

Ledoit and Wolf's shrinkage is the default: it has an inverse with more assets than
rows. A sample covariance without one is refused, never repaired.

Source: Ledoit & Wolf (2004), Journal of Multivariate Analysis 88(2).
"""

from typing import Any, Literal

import numpy as np
import pandas as pd
from skfolio.moments import EmpiricalCovariance, EmpiricalMu, LedoitWolf
from skfolio.prior import EmpiricalPrior

from hftlib.portfolio.asset_frames import AllocationError

Covariance = Literal["ledoit_wolf", "sample"]
MIN_EIGENVALUE = 1e-10  # of a correlation matrix, as a share of the largest


class SingularCovarianceError(AllocationError):
    """A covariance matrix that cannot be inverted: infinitely many weights are optimal."""


def build_prior(ordered: pd.DataFrame, covariance: Covariance, mu: Any = None) -> EmpiricalPrior:
    """skfolio's prior: moments of returns of shape (n_bars, n_assets), `mu` their sample mean.

    Raises
    ------
    SingularCovarianceError
        If the covariance matrix cannot be inverted.
    """
    estimator = covariance_estimator(covariance)
    matrix = covariance_estimator(covariance).fit(ordered).covariance_
    sd = np.sqrt(np.diag(matrix))
    correlation = matrix / np.outer(sd, sd)
    eigenvalues = np.linalg.eigvalsh(correlation)
    if eigenvalues[0] < MIN_EIGENVALUE * eigenvalues[-1]:
        rank = int((eigenvalues >= MIN_EIGENVALUE * eigenvalues[-1]).sum())
        off = np.abs(correlation - np.diag(np.diag(correlation)))
        i, j = np.unravel_index(off.argmax(), off.shape)
        raise SingularCovarianceError(
            f"{covariance} covariance of {len(sd)} assets over {len(ordered)} rows has rank "
            f"{rank}; expected {len(sd)}. The most alike are {ordered.columns[i]} and "
            f"{ordered.columns[j]}, correlation {correlation[i, j]:.6f}: use "
            "covariance='ledoit_wolf', more rows, or leave out assets that others make up"
        )
    return EmpiricalPrior(mu_estimator=mu or EmpiricalMu(), covariance_estimator=estimator)


def covariance_estimator(covariance: Covariance) -> Any:
    """Without skfolio's silent repair of matrices that are not positive definite."""
    if covariance == "ledoit_wolf":
        return LedoitWolf(nearest=False)
    if covariance == "sample":
        return EmpiricalCovariance(nearest=False)
    raise AllocationError(f"covariance is {covariance!r}; expected 'ledoit_wolf' or 'sample'")


def anonymous(ordered: pd.DataFrame) -> pd.DataFrame:
    """The frame with columns a0, a1, …: skfolio reads operators into names such as BTC/USD."""
    return ordered.set_axis([f"a{k}" for k in range(ordered.shape[1])], axis=1)
