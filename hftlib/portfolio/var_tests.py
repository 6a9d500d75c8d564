"""Does a value at risk hold what it promises? Tests of how often it is exceeded and when.

An exception is a bar whose loss is larger than the forecast. With confidence `level` they
should come in a share p = 1 - `level` of the bars (unconditional coverage), and no more often
after another exception than else (independence); conditional coverage is both.

All three are likelihood ratios, chi-squared in large samples: with few expected exceptions
the p-values are rough.

Source: Kupiec (1995), Journal of Derivatives 3(2); Christoffersen (1998), International
Economic Review 39(4).
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.special import xlogy

MIN_ROWS = 2  # one pair of neighbours


class VarTestError(ValueError):
    """Forecasts that cannot be tested."""


class RatioTest(NamedTuple):
    """A likelihood ratio and its p-value; both nan where `reason` says why there is none."""

    statistic: float
    p_value: float
    reason: str = ""


class Transitions(NamedTuple):
    """Pairs of neighbouring bars: `n01` is no exception followed by one."""

    n00: int
    n01: int
    n10: int
    n11: int


class VarBacktest(NamedTuple):
    """Counts and tests of one series of forecasts."""

    level: float
    n_bars: int
    n_exceptions: int
    n_expected: float
    transitions: Transitions
    unconditional: RatioTest
    independence: RatioTest
    conditional: RatioTest

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; statistics and p-values that are not defined are None."""
        tests = ("unconditional", "independence", "conditional")
        plain = {name: value for name, value in self._asdict().items() if name not in tests}
        plain["transitions"] = self.transitions._asdict()
        for name in tests:
            plain[name] = {
                key: None if isinstance(value, float) and np.isnan(value) else value
                for key, value in getattr(self, name)._asdict().items()
            }
        return plain


def find_exceptions(returns: npt.ArrayLike, value_at_risk: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Bars whose loss is larger than forecast; bars without a forecast (nan) are left out.

    Parameters
    ----------
    returns, value_at_risk : arrays of shape (n_bars,)
        The forecast of row t is for the return of row t, a positive share.

    Returns
    -------
    array of shape (n_bars with a forecast,)

    Raises
    ------
    VarTestError
        If the shapes differ or a forecast bar has no finite return.
    """
    made, forecast = (np.asarray(x, dtype=np.float64) for x in (returns, value_at_risk))
    if made.shape != forecast.shape or made.ndim != 1:
        raise VarTestError(
            f"returns have the shape {made.shape} and forecasts {forecast.shape}; "
            "expected one dimension and the same length"
        )
    known = ~np.isnan(forecast)
    bad = np.flatnonzero(known & ~np.isfinite(made))
    if len(bad):
        raise VarTestError(f"the return of row {bad[0]} is {made[bad[0]]}; expected a number")
    return made[known] < -forecast[known]


def kupiec_test(n_exceptions: int, n_bars: int, level: float) -> RatioTest:
    """Whether exceptions come in a share 1 - `level` of the bars, chi-squared with 1 degree.

    Defined for no exception and for exceptions only, too.

    Raises
    ------
    VarTestError
        If there are no bars, more exceptions than bars, or `level` is no share.
    """
    _check_level(level)
    if not 0 <= n_exceptions <= n_bars or n_bars < 1:
        raise VarTestError(
            f"{n_exceptions} exceptions in {n_bars} bars; expected 0 to n_bars, at least 1 bar"
        )
    n_quiet = n_bars - n_exceptions
    promised = xlogy(n_quiet, level) + xlogy(n_exceptions, 1.0 - level)
    return _ratio(_log_likelihood(n_quiet, n_exceptions) - promised, 1)


def independence_test(transitions: Transitions) -> RatioTest:
    """Whether an exception is as likely after another as else, chi-squared with 1 degree.

    nan where no bar follows an exception, or none follows a quiet bar.
    """
    n00, n01, n10, n11 = transitions
    if n10 + n11 == 0:
        return RatioTest(np.nan, np.nan, "no bar follows an exception")
    if n00 + n01 == 0:
        return RatioTest(np.nan, np.nan, "every bar follows an exception")
    apart = _log_likelihood(n00, n01) + _log_likelihood(n10, n11)
    return _ratio(apart - _log_likelihood(n00 + n10, n01 + n11), 1)


def conditional_test(transitions: Transitions, level: float) -> RatioTest:
    """Coverage and independence at once, chi-squared with 2 degrees.

    The sum of both ratios over the bars that follow another; nan where the second is.
    """
    independent = independence_test(transitions)
    if independent.reason:
        return independent
    n00, n01, n10, n11 = transitions
    covered = kupiec_test(n01 + n11, n00 + n01 + n10 + n11, level)
    return _ratio((independent.statistic + covered.statistic) / 2, 2)


def count_transitions(exceptions: npt.ArrayLike) -> Transitions:
    """Pairs of neighbours in a series of booleans, shape (n_bars,)."""
    hits = np.asarray(exceptions, dtype=np.int64)
    counts = np.bincount(2 * hits[:-1] + hits[1:], minlength=4)
    return Transitions(*(int(n) for n in counts))


def backtest_var(returns: npt.ArrayLike, value_at_risk: npt.ArrayLike, level: float) -> VarBacktest:
    """Count the exceptions of one series of forecasts and run the three tests.

    Parameters
    ----------
    returns, value_at_risk : arrays of shape (n_bars,)
        As for `find_exceptions`.
    level : float
        Confidence of the forecasts, (0, 1).

    Raises
    ------
    VarTestError
        If fewer than two bars have a forecast, the shapes differ or `level` is no share.
    """
    _check_level(level)
    hits = find_exceptions(returns, value_at_risk)
    if len(hits) < MIN_ROWS:
        raise VarTestError(
            f"{len(hits)} bars have a forecast; expected at least {MIN_ROWS}: shorten the window "
            "of the model or give more returns"
        )
    pairs = count_transitions(hits)
    n_exceptions = int(hits.sum())
    return VarBacktest(
        level=level,
        n_bars=len(hits),
        n_exceptions=n_exceptions,
        n_expected=len(hits) * (1.0 - level),
        transitions=pairs,
        unconditional=kupiec_test(n_exceptions, len(hits), level),
        independence=independence_test(pairs),
        conditional=conditional_test(pairs, level),
    )


def _log_likelihood(n_quiet: int, n_exceptions: int) -> float:
    """The largest that any constant probability gives; 0 log 0 is 0."""
    n = max(n_quiet + n_exceptions, 1)
    return float(xlogy(n_quiet, n_quiet / n) + xlogy(n_exceptions, n_exceptions / n))


def _ratio(gain: float, degrees: int) -> RatioTest:
    statistic = max(0.0, 2.0 * float(gain))  # rounding can leave -1e-15
    return RatioTest(statistic, float(stats.chi2.sf(statistic, degrees)))


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise VarTestError(f"level is {level}; expected a share between 0 and 1, such as .95")
