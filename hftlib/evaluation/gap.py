"""The overfitting gap: how much better a strategy looks where it was made.

Train and test are different spans, so that their intervals are independent: each is
resampled in blocks by itself, and the gap is the difference.

Source: Politis & Romano (1994), JASA 89(428), through `arch`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from arch.bootstrap import StationaryBootstrap

from hftlib.evaluation.statistics import block_length
from hftlib.portfolio import measures

FloatArray = npt.NDArray[np.float64]
MEASURES: dict[str, Callable[[npt.ArrayLike, float], Any]] = {
    "annual_return": measures.annual_return,
    "sharpe": measures.sharpe,
    "sortino": measures.sortino,
    "volatility": measures.volatility,
}


def measure_gap(
    train: Mapping[str, FloatArray],
    test: Mapping[str, FloatArray],
    periods_per_year: float,
    *,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Measures in sample and out of sample, and their difference.

    Parameters
    ----------
    train, test : mapping of strategy to array of shape (n_bars,)
        Simple returns after costs; the spans may differ in length.
    confidence : float
        Mass of the central interval of the gap, (0, 1).

    Returns
    -------
    frame indexed by strategy and measure
        train, test, gap (train less test: above 0 flatters), low and high of the gap; nan where
        a measure is not defined, as for a strategy that did not trade.

    Raises
    ------
    ValueError
        If the strategies differ, or a span has fewer than 3 returns.
    """
    if set(train) != set(test):
        raise ValueError(
            f"train has {', '.join(train)}, test has {', '.join(test)}; give both the same"
        )
    rows = []
    tail = (1 - confidence) / 2
    for name in train:
        spans = [np.asarray(part[name], dtype=np.float64) for part in (train, test)]
        for span, values in zip(("train", "test"), spans, strict=True):
            if values.ndim != 1 or len(values) < 3:
                raise ValueError(
                    f"{span} of {name} has shape {values.shape}; expected at least 3 returns"
                )
        # a generator of its own, so that a strategy's interval does not depend on the others
        rng = np.random.default_rng(seed)
        draws = [_resample(values, n_bootstrap, rng) for values in spans]
        for measure, function in MEASURES.items():
            pair = [float(function(span, periods_per_year)) for span in spans]
            samples = [np.asarray(function(draw, periods_per_year)) for draw in draws]
            gaps = samples[0] - samples[1]
            gaps = gaps[np.isfinite(gaps)]
            known = len(gaps) > 0 and np.isfinite(pair).all()
            low, high = np.quantile(gaps, (tail, 1 - tail)) if known else (np.nan, np.nan)
            rows.append((name, measure, *pair, pair[0] - pair[1], low, high))
    columns = ["strategy", "measure", "train", "test", "gap", "low", "high"]
    return pd.DataFrame(rows, columns=columns).set_index(["strategy", "measure"])


def _resample(returns: FloatArray, n_bootstrap: int, rng: np.random.Generator) -> FloatArray:
    """Stationary bootstrap, shape (n_bars, n_bootstrap)."""
    bootstrap = StationaryBootstrap(block_length(returns), returns, seed=rng)
    return np.stack([data[0][0] for data in bootstrap.bootstrap(n_bootstrap)], axis=1)
