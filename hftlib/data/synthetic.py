"""Bars drawn by a law: synthetic prices that are bars in every respect, and flagged as synthetic.

A bar's log return falls into a gap, from the close before to the open, and a
body, from open to close. Both are pieces of one Brownian path with the bar's
mean and volatility; jumps happen in the gap. High and low are the extremes of
the body's path: 16 steps between open and close, with the exact extreme of the
Brownian bridge within each. Nothing here uses a later bar for an earlier one.

Volume is mean * (1 - w + w shock^2) * lognormal noise of mean 1, so that volume
rises with the square of the bar's surprise, as in Clark (1973), A subordinated
stochastic process model, Econometrica 41. Its mean is `mean`, and its
covariance with shock^2 is 2 w mean.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hftlib.data.laws import FloatArray, Law
from hftlib.schema import BARS, UTC, validate

N_STEPS = 16  # of the path between open and close


@dataclass(frozen=True)
class VolumeLaw:
    """Traded units of a bar.

    Attributes
    ----------
    mean : float
        Units.
    surprise_weight : float in [0, 1]
        w above: the share of the mean that scales with the squared shock.
    noise : float
        Standard deviation of the noise's logarithm.
    """

    mean: float = 1e6
    surprise_weight: float = 0.3
    noise: float = 0.3


def draw_bars(
    law: Law,
    clock: pd.DatetimeIndex,
    rng: np.random.Generator,
    *,
    symbol: str,
    start_price: float = 100.0,
    gap_share: float = 0.2,
    volume: VolumeLaw = VolumeLaw(),
) -> pd.DataFrame:
    """Bars of one symbol.

    Parameters
    ----------
    law : Law
        Of the log returns from close to close.
    clock : index of shape (n_bars,), timezone-aware, increasing
        Bar times.
    symbol : str
        Their name; the source says the law's.
    start_price : float
        The close before the first bar.
    gap_share : float in [0, 1)
        Share of a bar's mean and variance that falls between two bars.
    volume : VolumeLaw

    Returns
    -------
    frame as `schema.BARS`
        Every row flagged as synthetic.

    Raises
    ------
    ValueError
        If `start_price` or `gap_share` is out of range.
    """
    if not start_price > 0:
        raise ValueError(f"start_price is {start_price}; a price must be positive")
    if not 0 <= gap_share < 1:
        raise ValueError(f"gap_share is {gap_share}; it must be at least 0 and below 1")
    n_bars = len(clock)
    draw = law.draw(n_bars, rng)
    spread = draw.volatility * (gap_share * (1 - gap_share)) ** 0.5
    gap_path = gap_share * draw.volatility * draw.shock + spread * rng.standard_normal(n_bars)
    gap = gap_share * draw.mean + gap_path + draw.jump
    body = (1 - gap_share) * draw.mean + draw.volatility * draw.shock - gap_path
    top, bottom = _draw_extremes(body, draw.volatility * (1 - gap_share) ** 0.5, rng)
    close = np.log(start_price) + np.cumsum(gap + body)
    first = close - body
    surprise = 1 + volume.surprise_weight * (draw.shock**2 - 1)
    noise = np.exp(volume.noise * rng.standard_normal(n_bars) - volume.noise**2 / 2)
    prices = {"open": np.exp(first), "close": np.exp(close)}
    # rounding must not put an extreme inside the body
    high = np.maximum(np.exp(first + top), np.maximum(prices["open"], prices["close"]))
    low = np.minimum(np.exp(first + bottom), np.minimum(prices["open"], prices["close"]))
    frame = pd.DataFrame(
        {
            "symbol": pd.Series([symbol] * n_bars, dtype="str"),
            "source": pd.Series([f"synthetic {law.name}"] * n_bars, dtype="str"),
            "ts": pd.Series(clock).astype(UTC),
            **prices,
            "high": high,
            "low": low,
            "volume": volume.mean * surprise * noise,
            "is_synthetic": True,
        }
    )[BARS.names]
    return validate(frame, BARS)


def _draw_extremes(
    body: FloatArray, volatility: FloatArray, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Highest and lowest point of Brownian paths from 0 to `body`, arrays of shape (n_bars,)."""
    n_bars = len(body)
    steps = rng.standard_normal((n_bars, N_STEPS)) * (volatility / N_STEPS**0.5)[:, None]
    steps += ((body - steps.sum(axis=1)) / N_STEPS)[:, None]
    after = np.cumsum(steps, axis=1)
    before = after - steps
    # of the bridge from a to b with variance v: (a + b ± sqrt((b - a)^2 - 2 v ln U)) / 2
    room = -2 * (volatility**2 / N_STEPS)[:, None]
    reach = steps**2 + room * np.log(1 - rng.random((2, n_bars, N_STEPS)))
    middle = before + after
    top = ((middle + np.sqrt(reach[0])) / 2).max(axis=1, initial=0.0)
    bottom = ((middle - np.sqrt(reach[1])) / 2).min(axis=1, initial=0.0)
    return top, bottom


def measure_shape(bars: pd.DataFrame) -> dict[str, float]:
    """What tells laws of returns apart, of one symbol's bars.

    Parameters
    ----------
    bars : frame as `schema.BARS`
        In time order, at least 23 rows.

    Returns
    -------
    dict of float
        volatility: standard deviation of the log returns; excess_kurtosis; the
        autocorrelation of their squares at 1 and at 20 bars; range_ratio: mean
        squared log range over squared volatility, 4 ln 2 = 2.77 for a path
        without gaps, drift and pauses.
    """
    returns = np.diff(np.log(bars["close"].to_numpy()))
    centred = returns - returns.mean()
    squares = centred**2
    excess = squares - squares.mean()
    log_range = np.log(bars["high"].to_numpy() / bars["low"].to_numpy())
    return {
        "volatility": float(returns.std()),
        "excess_kurtosis": float((squares**2).mean() / squares.mean() ** 2 - 3),
        "square_autocorrelation_1": float((excess[1:] * excess[:-1]).mean() / excess.var()),
        "square_autocorrelation_20": float((excess[20:] * excess[:-20]).mean() / excess.var()),
        "range_ratio": float((log_range**2).mean() / squares.mean()),
    }
