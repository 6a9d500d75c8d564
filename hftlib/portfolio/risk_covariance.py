"""Covariance of one bar's returns as known at each close, for the limit on the value at risk.

Squares and products of simple returns, without a mean, with weights that fall by a factor each
bar and sum to 1: nothing is needed before the first bar, and every matrix is one.

Source: J.P. Morgan/Reuters (1996), RiskMetrics: technical document, 4th edition, section 5.2,
for the estimator and its daily decay of .94.
"""

import numpy as np
import numpy.typing as npt

from hftlib.compute import compile_kernel
from hftlib.portfolio.risk_state import RiskError

FloatArray = npt.NDArray[np.float64]
DECAY = 0.94  # weight of a bar as a share of that of the next
MIN_RETURNS = 10  # a deviation from so many normal returns has a standard error of 22 %


def decayed_covariances(
    close: FloatArray, decay: float = DECAY, min_returns: int = MIN_RETURNS
) -> FloatArray:
    """Covariance of one bar's simple returns at each close; row t knows the closes up to t only.

    Parameters
    ----------
    close : array of shape (n_bars, n_assets)
        Positive.
    decay : float
        (0, 1); the weights of the last bars have the mean age `decay` / (1 - `decay`).
    min_returns : int
        Rows that have seen fewer are nan.

    Returns
    -------
    array of shape (n_bars, n_assets, n_assets)

    Raises
    ------
    RiskError
        If the decay or the least number of returns is out of range.
    """
    check_decay(decay)
    if min_returns < 1:
        raise RiskError(f"min_returns is {min_returns}; expected at least 1")
    prices = np.ascontiguousarray(close, dtype=np.float64)
    n_bars, n_assets = prices.shape
    out = np.full((n_bars, n_assets, n_assets), np.nan)
    _weigh_products(prices, decay, min_returns, np.zeros((n_assets, n_assets)), out)
    return out


def check_decay(decay: float) -> None:
    """Refuse a decay that is not above 0 and below 1 with a `RiskError`."""
    if not 0 < decay < 1:
        raise RiskError(f"decay is {decay}; expected above 0 and below 1")


@compile_kernel
def _weigh_products(
    close: FloatArray, decay: float, min_returns: int, products: FloatArray, out: FloatArray
) -> None:
    total = 0.0
    n_assets = close.shape[1]
    for t in range(1, close.shape[0]):
        total = decay * total + 1.0
        for a in range(n_assets):
            one = close[t, a] / close[t - 1, a] - 1.0
            for b in range(a + 1):
                other = close[t, b] / close[t - 1, b] - 1.0
                products[a, b] = decay * products[a, b] + one * other
                if t >= min_returns:
                    out[t, a, b] = out[t, b, a] = products[a, b] / total
