"""Rules of thumb on bars as target weights, for backtests and controls.

Each takes closes of shape (n_bars, n_assets) and gives weights of that shape: row t
knows the closes up to t, and an asset that is fully wanted gets 1 / n_assets of the
equity. Before a window is full the weight is 0. Weights are those of
`evaluation.engine.run_backtest`; nan leaves a position alone.

Source: Brock, Lakonishok & LeBaron (1992), Journal of Finance 47(5), for averages and
breakouts; Moskowitz, Ooi & Pedersen (2012), Journal of Financial Economics 104(2), for
momentum and the volatility target; Wilder (1978), New concepts in technical trading
systems, for the RSI.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from hftlib.features.rolling import (
    rolling_deviation,
    rolling_maximum,
    rolling_mean,
    rolling_minimum,
    wilder_mean,
)

FloatArray = npt.NDArray[np.float64]


def hold_from_start(close: FloatArray) -> FloatArray:
    """Buy equal shares at the first open, then leave them alone."""
    weights = np.full_like(close, np.nan)
    weights[0] = 1.0
    return _share(weights)


def cross_averages(
    close: FloatArray, fast_bars: int, slow_bars: int, *, allow_short: bool = False
) -> FloatArray:
    """Long while the mean of `fast_bars` closes is above that of `slow_bars`; else flat or short.

    Raises
    ------
    ValueError
        If `fast_bars` is not at least 1 and below `slow_bars`.
    """
    if not 1 <= fast_bars < slow_bars:
        raise ValueError(
            f"fast_bars is {fast_bars}, slow_bars {slow_bars}; expected 1 or more, fast below slow"
        )
    fast = _each(lambda x: rolling_mean(x, fast_bars), close)
    slow = _each(lambda x: rolling_mean(x, slow_bars), close)
    return _share(_take_side(fast - slow, allow_short))


def follow_momentum(
    close: FloatArray, lookback_bars: int, *, allow_short: bool = False
) -> FloatArray:
    """Long after a rise over `lookback_bars`; after a fall flat or short."""
    _check("lookback_bars", lookback_bars, 1)
    change = np.full_like(close, np.nan)
    change[lookback_bars:] = close[lookback_bars:] - close[:-lookback_bars]
    return _share(_take_side(change, allow_short))


def break_out(close: FloatArray, window_bars: int, *, allow_short: bool = False) -> FloatArray:
    """Long from the highest close of `window_bars` until the lowest; from there flat or short."""
    _check("window_bars", window_bars, 2)
    high = _each(lambda x: rolling_maximum(x, window_bars), close)
    low = _each(lambda x: rolling_minimum(x, window_bars), close)
    fallen = -1.0 if allow_short else 0.0
    marks = np.where(close >= high, 1.0, np.where(close <= low, fallen, np.nan))
    marks[(high == low) | np.isnan(high)] = np.nan  # nothing moved, or the window is not full
    return _share(_keep(marks))


def revert_rsi(
    close: FloatArray,
    window_bars: int,
    *,
    lower: float = 30.0,
    upper: float = 70.0,
    allow_short: bool = False,
) -> FloatArray:
    """Long from an RSI below `lower` until it is above 50; short, if allowed, from `upper`.

    Raises
    ------
    ValueError
        If not 0 < `lower` < 50 < `upper` < 100.
    """
    if not 0 < lower < 50 < upper < 100:
        raise ValueError(f"lower is {lower}, upper {upper}; expected 0 < lower < 50 < upper < 100")
    rsi = _each(lambda x: relative_strength(x, window_bars), close)
    longs = np.where(rsi < lower, 1.0, np.where(rsi > 50, 0.0, np.nan))
    shorts = np.where(rsi > upper, -1.0, np.where(rsi < 50, 0.0, np.nan))
    return _share(_keep(longs) + (_keep(shorts) if allow_short else 0.0))


def target_volatility(
    close: FloatArray,
    window_bars: int,
    volatility: float,
    periods_per_year: float,
    *,
    max_weight: float = 1.0,
) -> FloatArray:
    """Long, as much as gives the yearly `volatility` at that of the last `window_bars` returns.

    At most `max_weight`, which is also the weight where nothing moved.

    Raises
    ------
    ValueError
        If `window_bars` is below 2, or `volatility` or `max_weight` is not above 0.
    """
    _check("window_bars", window_bars, 2)
    for name, value in (("volatility", volatility), ("max_weight", max_weight)):
        if not 0 < value < np.inf:
            raise ValueError(f"{name} is {value}; expected above 0")
    returns = np.full_like(close, np.nan)
    returns[1:] = close[1:] / close[:-1] - 1
    deviation = _each(lambda x: rolling_deviation(x, window_bars), returns)
    yearly = deviation * periods_per_year**0.5
    with np.errstate(divide="ignore"):
        weights = np.minimum(volatility / yearly, max_weight)
    return _share(np.nan_to_num(weights))


def relative_strength(close: FloatArray, window_bars: int) -> FloatArray:
    """Wilder's RSI of one asset, 0 to 100; nan until the window is full and if nothing moved."""
    _check("window_bars", window_bars, 1)
    change = np.diff(close, prepend=np.nan)
    rises, falls = (wilder_mean(np.maximum(x, 0.0), window_bars) for x in (change, -change))
    total = rises + falls
    return 100 * rises / np.where(total > 0, total, np.nan)


def change_only(weights: FloatArray) -> FloatArray:
    """nan where a target is that of the row before: drift is not traded back, as with signals."""
    same = np.zeros(weights.shape, dtype=np.bool_)
    same[1:] = weights[1:] == weights[:-1]
    return np.where(same, np.nan, weights)


def _each(function: Callable[[FloatArray], FloatArray], columns: FloatArray) -> FloatArray:
    return np.column_stack([function(column) for column in columns.T])


def _take_side(lead: FloatArray, allow_short: bool) -> FloatArray:
    """1 above 0, below it 0 or -1; 0 where it is 0 or nan."""
    sides = np.nan_to_num(np.sign(lead))
    return sides if allow_short else np.maximum(sides, 0.0)


def _keep(marks: FloatArray) -> FloatArray:
    """Each row the last mark that is not nan; 0 before the first."""
    seen = np.where(np.isnan(marks), 0, np.arange(len(marks))[:, None])
    return np.nan_to_num(np.take_along_axis(marks, np.maximum.accumulate(seen), axis=0))


def _share(weights: FloatArray) -> FloatArray:
    return weights / weights.shape[1]


def _check(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} is {value}; expected at least {least}")
