"""Price action: returns, ranges and volatility; the shapes of candles are in `candles`.

Variances of a single bar from its four prices are far less noisy than a
squared return.

Sources: Parkinson (1980) and Garman and Klass (1980), Journal of Business 53;
Rogers and Satchell (1991), Annals of Applied Probability 1(4); Barndorff-Nielsen
and Shephard (2004), Journal of Financial Econometrics 2(1), for the jump share.
"""

import numpy as np

from hftlib.compute import compile_kernel
from hftlib.features.feature import BarSeries, Feature, FloatArray, lagged, lagged_difference
from hftlib.features.rolling import (
    rolling_autocorrelation,
    rolling_deviation,
    rolling_maximum,
    rolling_mean,
    rolling_skewness,
    rolling_sum,
)
from hftlib.features.targets import garman_klass

P = "price_action"
PER_BAR = "log return per bar"


def _overnight(bars: BarSeries) -> FloatArray:
    return np.log(bars.open / lagged(bars.close, 1))


def _range(bars: BarSeries) -> FloatArray:
    return np.log(bars.high / bars.low)


def _garman_klass(bars: BarSeries) -> FloatArray:
    return garman_klass(bars.open, bars.high, bars.low, bars.close)


def _rogers_satchell(bars: BarSeries) -> FloatArray:
    up, down = np.log(bars.high / bars.close), np.log(bars.low / bars.close)
    return up * np.log(bars.high / bars.open) + down * np.log(bars.low / bars.open)


def _jump_share(bars: BarSeries) -> FloatArray:
    size = np.abs(bars.step)
    smooth = np.pi / 2 * 20 / 19 * rolling_sum(size * lagged(size, 1), 19)
    total = rolling_sum(bars.step**2, 20)
    return np.maximum(1 - smooth / total, 0.0)


def _downside_share(bars: BarSeries) -> FloatArray:
    falls = np.minimum(bars.step, 0.0) ** 2
    return 2 * rolling_sum(falls, 20) / rolling_sum(bars.step**2, 20) - 1


def _run_length(bars: BarSeries) -> FloatArray:
    out = np.full(len(bars), np.nan)
    _runs(bars.step, out)
    return out


@compile_kernel
def _runs(step: FloatArray, out: FloatArray) -> None:
    run = 0.0
    for t in range(1, len(step)):
        sign = np.sign(step[t])
        run = run + sign if sign * run > 0 else sign
        out[t] = run


FEATURES = (
    *(
        Feature(
            f"return_{n}",
            P,
            f"ln(close / close_t-{n})",
            str(n),
            "log return",
            n,
            lambda b, n=n: lagged_difference(b.log_close, n),  # type: ignore[misc]
        )
        for n in (1, 5, 20, 60)
    ),
    Feature("overnight_return", P, "ln(open / close_t-1)", "1", "log return", 1, _overnight),
    Feature(
        "intraday_return",
        P,
        "ln(close / open)",
        "-",
        "log return",
        0,
        lambda b: np.log(b.close / b.open),
    ),
    Feature("range_1", P, "ln(high / low)", "-", "log return", 0, lambda b: b.shared(_range)),
    Feature(
        "range_ratio_20",
        P,
        "range_1 / its 20-bar mean - 1",
        "20",
        "ratio - 1",
        19,
        lambda b: b.shared(_range) / rolling_mean(b.shared(_range), 20) - 1,
    ),
    *(
        Feature(
            f"volatility_{n}",
            P,
            f"standard deviation of {n} one-bar log returns",
            str(n),
            PER_BAR,
            n,
            lambda b, n=n: rolling_deviation(b.step, n),  # type: ignore[misc]
        )
        for n in (5, 20)
    ),
    *(
        Feature(
            f"garman_klass_{n}",
            P,
            f"root of the {n}-bar mean of Garman and Klass's variance",
            str(n),
            PER_BAR,
            n - 1,
            lambda b, n=n: np.sqrt(  # type: ignore[misc]
                rolling_mean(b.shared(_garman_klass), n)
            ),
        )
        for n in (1, 5, 22)
    ),
    Feature(
        "parkinson_20",
        P,
        "root of the mean of ln(high / low)^2 / (4 ln 2)",
        "20",
        PER_BAR,
        19,
        lambda b: np.sqrt(rolling_mean(b.shared(_range) ** 2, 20) / (4 * np.log(2))),
    ),
    Feature(
        "rogers_satchell_20",
        P,
        "root of the mean of Rogers and Satchell's variance",
        "20",
        PER_BAR,
        19,
        lambda b: np.sqrt(np.maximum(rolling_mean(_rogers_satchell(b), 20), 0.0)),
    ),
    Feature(
        "overnight_volatility_20",
        P,
        "standard deviation of 20 overnight returns",
        "20",
        PER_BAR,
        20,
        lambda b: rolling_deviation(_overnight(b), 20),
    ),
    Feature(
        "downside_share_20",
        P,
        "2 x share of falls in the sum of squared returns - 1",
        "20",
        "[-1, 1]",
        20,
        _downside_share,
    ),
    Feature(
        "jump_share_20",
        P,
        "1 - bipower variation / realised variance, at least 0",
        "20",
        "[0, 1]",
        20,
        _jump_share,
    ),
    Feature(
        "skewness_60",
        P,
        "skewness of 60 one-bar log returns",
        "60",
        "score",
        60,
        lambda b: rolling_skewness(b.step, 60),
    ),
    Feature(
        "autocorrelation_60",
        P,
        "first autocorrelation of 60 one-bar log returns",
        "60",
        "[-1, 1]",
        60,
        lambda b: rolling_autocorrelation(b.step, 60),
    ),
    Feature(
        "drawdown_60",
        P,
        "ln(close / highest close of 60 bars)",
        "60",
        "log return",
        59,
        lambda b: np.log(b.close / rolling_maximum(b.close, 60)),
    ),
    Feature(
        "run_length",
        P,
        "bars in a row that closed higher (+) or lower (-)",
        "-",
        "bars",
        1,
        _run_length,
    ),
)
