"""Fits the hidden Markov model of `features.markov` to training returns, through `statsmodels`.

In a module of its own because `statsmodels` is slow to import and nothing that
applies a fitted model needs it.
"""

import warnings

import numpy as np
from statsmodels.tools.sm_exceptions import ConvergenceWarning, EstimationWarning
from statsmodels.tsa.regime_switching.markov_regression import MarkovRegression

from hftlib.features.feature import FloatArray
from hftlib.features.markov import RegimeError, RegimeModel

MIN_RETURNS = 250  # below, the rare state rests on a handful of bars
EM_ITERATIONS = 100
PERCENT = 100.0  # the fit's scale: variances of fractions are too small for its tolerances
SWITCHING = ("exog", "variance")


def fit_regimes(returns: FloatArray, n_states: int, symbol: str) -> RegimeModel:
    """Fit by maximum likelihood, from starting values that depend on the data alone.

    Parameters
    ----------
    returns : array of shape (n_returns,)
        Log returns of *training* bars; later ones would leak. nan are left out.
    n_states : int
        Two, as a rule: with more, a state tends to settle on a single crash.
    symbol : str
        Named in errors.

    Raises
    ------
    RegimeError
        If there are fewer than `MIN_RETURNS`, if they do not vary, or if the
        likelihood has no maximum that the search finds.
    """
    known = PERCENT * returns[np.isfinite(returns)]
    if len(known) < MIN_RETURNS:
        raise RegimeError(
            f"{symbol}: {len(known)} training returns, expected at least {MIN_RETURNS} to fit "
            "regimes; move train_end or leave the symbol out"
        )
    if known.std() == 0:
        raise RegimeError(f"{symbol}: training returns do not vary; leave the symbol out")
    model = MarkovRegression(known, n_states, switching_variance=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimationWarning)  # a probability rounded beyond 1
        warnings.simplefilter("ignore", ConvergenceWarning)  # judged below
        found = model.fit(
            _start(model, known, n_states), em_iter=EM_ITERATIONS, cov_type="none", disp=False
        )
    if not found.mle_retvals["converged"] or not np.isfinite(found.params).all():
        raise RegimeError(
            f"{symbol}: the fit of {n_states} states to {len(known)} returns did not converge; "
            "use fewer states or more training rows"
        )
    shift, spread = (np.asarray(found.params[model.parameters[name]]) for name in SWITCHING)
    order = np.argsort(spread, kind="stable")
    leave = found.regime_transition[:, :, 0].T[np.ix_(order, order)]
    leave = np.clip(leave, 0.0, 1.0)
    return RegimeModel(
        tuple((shift[order] / PERCENT).tolist()),
        tuple((spread[order] / PERCENT**2).tolist()),
        tuple(tuple(row) for row in (leave / leave.sum(axis=1, keepdims=True)).tolist()),
        len(known),
    )


def _start(model: MarkovRegression, known: FloatArray, n_states: int) -> FloatArray:
    """States that last 20 bars, equal means, and variances four times apart around the sample's."""
    start = np.array(model.start_params, dtype=np.float64)
    stay = np.full((n_states, n_states), 0.05 / (n_states - 1))
    np.fill_diagonal(stay, 0.95)
    start[model.parameters["regime_transition"]] = stay[:, :-1].T.ravel()
    start[model.parameters["exog"]] = known.mean()
    start[model.parameters["variance"]] = known.var() * 4.0 ** (
        np.arange(n_states) - (n_states - 1) / 2
    )
    return start
