"""Rivals of the forecaster: what is known to forecast tomorrow's log variance.

Each is fitted on the rows of a fold that are known before its test span, of one
symbol alone, and forecasts the rows it is asked for. They need no validation,
so they are fitted on that span too: an advantage over the networks.

| name | forecast of the next bar's log variance |
|---|---|
| last | today's |
| ewma | exponentially weighted mean of all so far, decay `DECAY` |
| har | least squares on the means over 1, 5 and 22 bars (Corsi 2009) |
| har_leverage | the same with the returns of these spans (Corsi & Renò 2012) |
| linear | ridge regression on every channel of the newest row |
| gjr_garch | GJR-GARCH(1, 1, 1) of returns (Glosten et al. 1993), through `arch` |
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from arch import arch_model

from hftlib.data.folds import Fold
from hftlib.features.scaling import RobustScaler
from hftlib.features.targets import HAR_DAYS
from hftlib.models.examples import Examples, FloatArray, IntArray

DECAY = 0.94  # of RiskMetrics (1996)
RIDGE = 0.01  # penalty on each scaled coefficient, as a share of the number of rows
PERCENT = 100.0  # `arch` wants returns near one


def _last(examples: Examples, train: IntArray, rows: IntArray) -> FloatArray:
    return examples.terms[rows, 0]


def _ewma(examples: Examples, train: IntArray, rows: IntArray) -> FloatArray:
    mine = np.flatnonzero(examples.symbol == examples.symbol[rows[0]])
    past = pd.Series(examples.terms[mine, 0]).ewm(alpha=1 - DECAY, adjust=False).mean()
    return past.to_numpy()[rows - mine[0]]


def _har(examples: Examples, train: IntArray, rows: IntArray) -> FloatArray:
    n_terms = len(HAR_DAYS)
    return _regress(
        examples.terms[train, :n_terms], examples.outcomes[train, 0], examples.terms[rows, :n_terms]
    )


def _har_leverage(examples: Examples, train: IntArray, rows: IntArray) -> FloatArray:
    return _regress(examples.terms[train], examples.outcomes[train, 0], examples.terms[rows])


def _linear(examples: Examples, train: IntArray, rows: IntArray) -> FloatArray:
    scaler = RobustScaler.fit(examples.values[train], examples.channels, allow_ties=True)
    seen, asked = (
        scaler.transform(examples.values[some]).astype(np.float64) for some in (train, rows)
    )
    return _regress(seen, examples.outcomes[train, 0], asked, RIDGE)


def _gjr_garch(examples: Examples, train: IntArray, rows: IntArray) -> FloatArray:
    """Parameters from training rows; then the recursion runs on, and a line maps it to targets."""
    mine = np.flatnonzero(examples.symbol == examples.symbol[rows[0]])
    first = mine[0]
    returns = PERCENT * examples.outcomes[mine[:-1], 1]  # entry t - 1 is bar t's own return
    returns = np.where(np.isfinite(returns), returns, 0.0)
    n_known = int(train[-1] - first)
    model = arch_model(returns, p=1, o=1, q=1)
    fitted = model.fit(last_obs=n_known, disp="off", show_warning=False)
    ahead = model.forecast(fitted.params, horizon=1, start=0, reindex=False)
    log_ahead = np.log(ahead.variance.to_numpy()[:, 0])  # entry t - 1 forecasts bar t + 1
    seen, asked = (log_ahead[some - first - 1, None] for some in (train, rows))
    return _regress(seen, examples.outcomes[train, 0], asked)


RIVALS: dict[str, Callable[[Examples, IntArray, IntArray], FloatArray]] = {
    "last": _last,
    "ewma": _ewma,
    "har": _har,
    "har_leverage": _har_leverage,
    "linear": _linear,
    "gjr_garch": _gjr_garch,
}


def forecast_rivals(examples: Examples, folds: list[Fold]) -> dict[str, FloatArray]:
    """Forecasts of every rival out of fold.

    Parameters
    ----------
    examples : Examples
    folds : list of Fold

    Returns
    -------
    dict of arrays of shape (n_rows,)
        By name as in `RIVALS`, forecasts of the next bar's log variance; nan on rows that are in
        no test span or end no window.

    Raises
    ------
    ValueError
        If a fold has too few known rows of a symbol that it tests.
    """
    forecasts = {name: np.full(len(examples.values), np.nan) for name in RIVALS}
    for fold in folds:
        known = examples.between(fold.known, is_known=True)
        tested = examples.between(fold.test, is_known=False)
        for number in np.unique(examples.symbol[tested]):
            train, rows = (some[examples.symbol[some] == number] for some in (known, tested))
            if len(train) <= len(examples.channels):
                raise ValueError(
                    f"{examples.symbols[number]} has {len(train)} windows before the test span of "
                    f"fold {fold.number}, fewer than its {len(examples.channels)} channels; start "
                    "the tests later or leave the symbol out"
                )
            for name, forecast in RIVALS.items():
                forecasts[name][rows] = forecast(examples, train, rows)
    return forecasts


def _regress(
    inputs: FloatArray, outcomes: FloatArray, asked: FloatArray, ridge: float = 0.0
) -> FloatArray:
    """Least squares with an intercept, which the penalty spares."""
    centre, level = inputs.mean(axis=0), outcomes.mean()
    design = inputs - centre
    gram = design.T @ design + ridge * len(design) * np.eye(design.shape[1])
    coefficients = np.linalg.lstsq(gram, design.T @ (outcomes - level))[0]
    return level + (asked - centre) @ coefficients
