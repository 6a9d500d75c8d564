"""Which kind of market is it? Trend, volatility and momentum regimes, and the hidden states.

Regimes by rule come as a number and as a sign; those of the hidden Markov
model (`features.markov`) need a model of the symbol, and stay out of a table
made without one.

Source: Lo and MacKinlay (1988), Review of Financial Studies 1(1), for the
variance ratio; Kaufman (1995) for the efficiency of a trend.
"""

import numpy as np

from hftlib.features.feature import BarSeries, Feature, FloatArray, lagged_difference
from hftlib.features.markov import RegimeModel, States
from hftlib.features.rolling import (
    rolling_deviation,
    rolling_mean,
    rolling_rank,
    rolling_sum,
    time_correlation,
)

R = "regime"


def _volatility_20(bars: BarSeries) -> FloatArray:
    return rolling_deviation(bars.step, 20)


def _volatility_60(bars: BarSeries) -> FloatArray:
    return rolling_deviation(bars.step, 60)


def _volatility_rank(bars: BarSeries) -> FloatArray:
    return rolling_rank(bars.shared(_volatility_20), 100)


def _momentum(bars: BarSeries) -> FloatArray:
    return lagged_difference(bars.log_close, 60) / (bars.shared(_volatility_60) * np.sqrt(60))


def _trend(bars: BarSeries) -> FloatArray:
    short, long = rolling_mean(bars.close, 20), rolling_mean(bars.close, 100)
    rises = (bars.close > short) & (short > long)
    falls = (bars.close < short) & (short < long)
    return rises.astype(np.float64) - falls


def _efficiency(bars: BarSeries) -> FloatArray:
    return lagged_difference(bars.log_close, 20) / rolling_sum(np.abs(bars.step), 20)


def _slope(bars: BarSeries) -> FloatArray:
    return time_correlation(bars.log_close, 60)


def _third(rank: FloatArray) -> FloatArray:
    """-1, 0 or 1: the lower, middle or upper third."""
    return (rank > 2 / 3).astype(np.float64) - (rank < 1 / 3)


def _volatility_ratio(bars: BarSeries) -> FloatArray:
    return rolling_deviation(bars.step, 5) / bars.shared(_volatility_60) - 1


def _variance_ratio(bars: BarSeries) -> FloatArray:
    long = rolling_deviation(lagged_difference(bars.log_close, 5), 60)
    return long**2 / (5 * bars.shared(_volatility_60) ** 2) - 1


def _momentum_sign(bars: BarSeries) -> FloatArray:
    score = bars.shared(_momentum)
    return (score > 1).astype(np.float64) - (score < -1)


FEATURES = (
    Feature(
        "trend_regime",
        R,
        "1: close > SMA20 > SMA100; -1: the reverse",
        "20, 100",
        "sign",
        99,
        _trend,
    ),
    Feature(
        "trend_efficiency_20", R, "return_20 / sum of |return_1|", "20", "[-1, 1]", 20, _efficiency
    ),
    Feature("trend_line_60", R, "correlation of ln(close) with time", "60", "[-1, 1]", 59, _slope),
    Feature(
        "volatility_rank_100",
        R,
        "rank of volatility_20 among its last 100",
        "20, 100",
        "[0, 1]",
        119,
        lambda b: b.shared(_volatility_rank),
    ),
    Feature(
        "volatility_regime",
        R,
        "lower, middle or upper third of volatility_rank_100",
        "20, 100",
        "sign",
        119,
        lambda b: _third(b.shared(_volatility_rank)),
    ),
    Feature(
        "volatility_ratio",
        R,
        "volatility of 5 bars / of 60 - 1",
        "5, 60",
        "ratio - 1",
        60,
        _volatility_ratio,
    ),
    Feature(
        "momentum_score_60",
        R,
        "return_60 / (volatility of 60 bars x root of 60)",
        "60",
        "score",
        60,
        lambda b: b.shared(_momentum),
    ),
    Feature(
        "momentum_regime",
        R,
        "sign of momentum_score_60 beyond 1 in size, else 0",
        "60",
        "sign",
        60,
        _momentum_sign,
    ),
    Feature(
        "variance_ratio_60",
        R,
        "variance of 5-bar returns / 5 x that of one-bar returns - 1",
        "5, 60",
        "ratio - 1",
        64,
        _variance_ratio,
    ),
)


def _model(bars: BarSeries) -> RegimeModel:
    if bars.regime is None:
        raise ValueError("a feature of the hidden states needs a model; pass one to BarSeries")
    return bars.regime


def _states(bars: BarSeries) -> States:
    return _model(bars).filter(bars.step)


def _turbulent(bars: BarSeries) -> FloatArray:
    return bars.shared(_states).filtered[:, -1]


def _expected(bars: BarSeries) -> FloatArray:
    """Mean of the next return over the predicted states, each state's own sum in order."""
    predicted = bars.shared(_states).predicted
    out = np.zeros(len(bars))
    for k, mean in enumerate(_model(bars).means):
        out += predicted[:, k] * mean
    return out


def _foreseen(bars: BarSeries) -> FloatArray:
    """Standard deviation of the next return over the predicted states."""
    predicted, mean = bars.shared(_states).predicted, bars.shared(_expected)
    out = np.zeros(len(bars))
    pairs = zip(_model(bars).means, _model(bars).variances, strict=True)
    for k, (centre, variance) in enumerate(pairs):
        out += predicted[:, k] * (variance + (centre - mean) ** 2)
    return np.sqrt(out)


HIDDEN_FEATURES = (
    Feature(
        "hmm_turbulent",
        R,
        "filtered probability of the state of largest variance",
        "all",
        "[0, 1]",
        1,
        _turbulent,
    ),
    Feature(
        "hmm_shift",
        R,
        "change of hmm_turbulent since the bar before",
        "all",
        "[-1, 1]",
        2,
        lambda b: lagged_difference(_turbulent(b), 1),
    ),
    Feature(
        "hmm_mean",
        R,
        "mean of the next return by the predicted states",
        "all",
        "log return",
        1,
        lambda b: b.shared(_expected),
    ),
    Feature(
        "hmm_volatility",
        R,
        "standard deviation of the next return by the predicted states",
        "all",
        "log return per bar",
        1,
        _foreseen,
    ),
    Feature(
        "hmm_surprise",
        R,
        "-ln of the density of the return, given those before",
        "all",
        "nats",
        1,
        lambda b: -b.shared(_states).log_density,
    ),
)
