"""Performance measures of return, profit or equity series.

Time runs along axis 0: an array of shape (n,) gives a number, one of shape
(n, k) gives k of them. The number of periods a year is always the caller's:
no measure assumes 252, and 1 leaves a ratio per period. Returns are simple
returns of one period. Ratios of means and quantiles (`sharpe`, `sortino`,
`value_at_risk`, `expected_shortfall`, `tail_ratio`) take profits in currency
as well. A series that holds a nan has no measure: the result is nan.

Source: Sharpe (1994), Journal of Portfolio Management 21(1); Sortino & Price
(1994), Journal of Investing 3(3); Young (1991), Futures 20(1), for Calmar;
Acerbi & Tasche (2002), Journal of Banking & Finance 26(7), for the shortfall.
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
    # rounding lets a constant series vary by some 1e-16 of its size
    varies = sd > np.maximum(1e-15, 1e-12 * np.max(np.abs(excess), axis=0))
    return np.mean(excess, axis=0) / np.where(varies, sd, np.nan) * periods_per_year**0.5


def sortino(returns: npt.ArrayLike, periods_per_year: float, target: float = 0.0) -> Any:
    """Annualised mean excess over `target` by its downside deviation.

    The downside deviation is the root of the mean square of what falls short of
    `target` (per period), over all periods. nan where nothing falls short.
    """
    excess = _floats(returns) - target
    downside = np.sqrt(np.mean(np.minimum(excess, 0.0) ** 2, axis=0))
    return (
        np.mean(excess, axis=0) / np.where(downside > 0, downside, np.nan) * periods_per_year**0.5
    )


def volatility(returns: npt.ArrayLike, periods_per_year: float) -> Any:
    """Annualised standard deviation (ddof 1)."""
    return np.std(_floats(returns), axis=0, ddof=1) * periods_per_year**0.5


def win_rate(returns: npt.ArrayLike) -> Any:
    """Share of gains among the periods that gain or lose; nan where none does."""
    values = _floats(returns)
    decided = np.where(np.isnan(values), np.nan, values != 0)
    return _over(np.sum(values > 0, axis=0), np.sum(decided, axis=0))


def profit_factor(returns: npt.ArrayLike) -> Any:
    """Sum of the gains over that of the losses; nan without a loss."""
    values = _floats(returns)
    return _over(np.sum(np.maximum(values, 0.0), axis=0), -np.sum(np.minimum(values, 0.0), axis=0))


def evaluate_returns(returns: npt.ArrayLike, periods_per_year: float) -> dict[str, Any]:
    """The measures that every run is judged by, by name; the start counts in the drawdown."""
    growth = np.cumprod(1.0 + _floats(returns), axis=0)
    return {
        "sharpe": sharpe(returns, periods_per_year),
        "sortino": sortino(returns, periods_per_year),
        "max_drawdown": max_drawdown(np.concatenate([np.ones_like(growth[:1]), growth])),
        "win_rate": win_rate(returns),
        "profit_factor": profit_factor(returns),
        "total_return": total_return(returns),
        "volatility": volatility(returns, periods_per_year),
    }


def drawdown(equity: npt.ArrayLike) -> FloatArray:
    """Loss from the running peak as a share of it, shape of `equity`, 0 at a peak."""
    values = _floats(equity)
    return 1.0 - values / np.maximum.accumulate(values, axis=0)


def max_drawdown(equity: npt.ArrayLike) -> Any:
    """Largest `drawdown`; 0.2 is a loss of 20 % from a peak."""
    return np.max(drawdown(equity), axis=0)


def max_loss(equity: npt.ArrayLike) -> Any:
    """Largest fall from a running peak in the units of `equity`, for accounts that start at 0."""
    values = _floats(equity)
    return np.max(np.maximum.accumulate(values, axis=0) - values, axis=0)


def calmar(returns: npt.ArrayLike, periods_per_year: float) -> Any:
    """Annual return over the maximum drawdown, the start included; nan without a drawdown."""
    growth = np.cumprod(1.0 + _floats(returns), axis=0)
    return _over(
        annual_return(returns, periods_per_year),
        max_drawdown(np.concatenate([np.ones_like(growth[:1]), growth])),
    )


def profit_calmar(profits: npt.ArrayLike, periods_per_year: float) -> Any:
    """Mean profit a year over the `max_loss` of the summed profits; nan without a loss.

    The counterpart of `calmar` for profits in currency, which do not compound.
    """
    values = _floats(profits)
    total = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])
    return _over(np.mean(values, axis=0) * periods_per_year, max_loss(total))


def value_at_risk(returns: npt.ArrayLike, level: float) -> Any:
    """Historical value at risk: the loss that a share `level` of the periods does not exceed.

    With the n returns sorted upwards, minus the k-th, k = ceil(n * (1 - level)): no
    interpolation. In the units of `returns`, per period; negative if even that
    return is a gain.

    Raises
    ------
    ValueError
        If `level` is not between 0 and 1.
    """
    ordered, tail = _tail(returns, level)
    return -ordered[int(np.ceil(tail)) - 1]


def expected_shortfall(returns: npt.ArrayLike, level: float) -> Any:
    """Mean loss in the worst share 1 - `level` of the periods (CVaR), never below the VaR.

    Where n * (1 - level) is not whole, the last return counts in part.

    Raises
    ------
    ValueError
        If `level` is not between 0 and 1.
    """
    ordered, tail = _tail(returns, level)
    weights = np.clip(tail - np.arange(len(ordered)), 0.0, 1.0)
    return -np.tensordot(weights, ordered, axes=1) / tail


def tail_ratio(returns: npt.ArrayLike, level: float) -> Any:
    """Size of the quantile at `level` over that at 1 - `level`, linear between returns.

    Above 1 the gains of good periods are larger than the losses of equally rare bad ones;
    nan where the lower quantile is no loss.

    Raises
    ------
    ValueError
        If `level` is not above .5 and below 1.
    """
    if not 0.5 < level < 1:
        raise ValueError(f"level is {level}; expected above .5 and below 1, such as .95")
    high, low = np.quantile(_floats(returns), (level, 1.0 - level), axis=0)
    return _over(high, -low)


def _tail(returns: npt.ArrayLike, level: float) -> tuple[FloatArray, float]:
    """Returns sorted upwards, all nan where one is, and how many of them lie in the tail."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; expected a share between 0 and 1, such as .95")
    values = np.sort(_floats(returns), axis=0)
    values = np.where(np.isnan(values[-1]), np.nan, values)  # nan sorts last
    return values, round(len(values) * (1.0 - level), 9)  # 100 * (1 - .95) is 5.000000000000004


def _over(value: Any, positive: Any) -> Any:
    """The quotient; nan where the divisor is not above 0."""
    return value / np.where(np.asarray(positive) > 0, positive, np.nan)


def _floats(values: npt.ArrayLike) -> FloatArray:
    return np.asarray(values, dtype=np.float64)
