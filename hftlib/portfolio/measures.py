"""Performance measures of return or equity series.

Time runs along axis 0: an array of shape (n,) gives a number, one of shape
(n, k) gives k of them. The number of periods a year is always the caller's:
no measure assumes 252. Returns are simple returns of one period.

Source: Sharpe (1994), Journal of Portfolio Management 21(1).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
NANOSECONDS_PER_YEAR = 365.25 * 86_400e9


def periods_per_year(ts: npt.NDArray[np.int64]) -> float:
    """Mean number of bars a year (365.25 days) on a clock of nanoseconds, shape (n,)."""
    return (len(ts) - 1) * NANOSECONDS_PER_YEAR / (int(ts[-1]) - int(ts[0]))


def simple_returns(equity: npt.ArrayLike) -> FloatArray:
    """Returns of an equity curve; shape (n, …) gives (n - 1, …)."""
    values = _floats(equity)
    return values[1:] / values[:-1] - 1.0


def total_return(returns: npt.ArrayLike) -> Any:
    """Compounded growth over the whole series; 0.1 is 10 %."""
    return np.prod(1.0 + _floats(returns), axis=0) - 1.0


def annual_return(returns: npt.ArrayLike, periods_per_year: float) -> Any:
    """Compounded growth a year; -1 after a total loss."""
    growth = np.maximum(1.0 + total_return(returns), 0.0)
    return growth ** (periods_per_year / len(_floats(returns))) - 1.0


def sharpe(returns: npt.ArrayLike, periods_per_year: float, risk_free: float = 0.0) -> Any:
    """Annualised mean excess return over its standard deviation (ddof 1).

    nan where the returns do not vary: an account that never trades has none.
    `risk_free` is per period.
    """
    excess = _floats(returns) - risk_free
    sd = np.std(excess, axis=0, ddof=1)
    return np.mean(excess, axis=0) / np.where(sd > 1e-15, sd, np.nan) * periods_per_year**0.5


def drawdown(equity: npt.ArrayLike) -> FloatArray:
    """Loss from the running peak as a share of it, shape of `equity`, 0 at a peak."""
    values = _floats(equity)
    return 1.0 - values / np.maximum.accumulate(values, axis=0)


def max_drawdown(equity: npt.ArrayLike) -> Any:
    """Largest `drawdown`; 0.2 is a loss of 20 % from a peak."""
    return np.max(drawdown(equity), axis=0)


def _floats(values: npt.ArrayLike) -> FloatArray:
    return np.asarray(values, dtype=np.float64)
