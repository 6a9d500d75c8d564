"""Do the tests find nothing where there is nothing, and what they should where there is something?

Negative control: on prices that nobody can predict, a family of plain rules is
tried, and the tests judge the family as they would a researcher's. Positive control:
a position that knows a little of the next return is tested on many samples, and
the share found is compared with what the standard error of its Sharpe ratio promises.

Source: Bailey & López de Prado (2014), Journal of Portfolio Management 40(5), and
Holm (1979), Scandinavian Journal of Statistics 6(2), for what is controlled; Mertens
(2002) for the error behind the power; Bollerslev (1987), Review of Economics and
Statistics 69(3), for GARCH with Student's t.
"""

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from hftlib.compute import derive_rng
from hftlib.evaluation import plain_rules
from hftlib.evaluation.overfitting import cross_validate
from hftlib.evaluation.samples import FloatArray, TooFewError
from hftlib.evaluation.sharpe_tests import (
    deflated_sharpe,
    moments,
    probabilistic_sharpe,
    sharpe_error,
)

Law = Literal["gbm", "garch"]
VOLATILITY = 0.01  # of a bar's return, unconditional
ALPHA, BETA, FREEDOM = 0.08, 0.90, 5  # GARCH(1, 1) as of daily stock indices; Student's t
LARGEST = 0.5  # of a GARCH return; cut on both sides alike, so the mean stays 0
PATHS_AT_ONCE = 50
N_BLOCKS = 8  # of cross-validation, 70 splits a path
LEAST_BARS = 100


@dataclass(frozen=True)
class NegativeControl:
    """What tests at `level` find on paths without an edge; nothing should exceed `level` by luck.

    Attributes
    ----------
    law : str
    paths, bars, rules : int
        Bars are those that are judged.
    level : float
    share_significant : float
        Share of **paths** on which Holm's correction over the path's rules leaves at
        least one rule with a Sharpe ratio significantly above 0 (one-sided p of the
        probabilistic ratio): the family-wise error.
    share_dsr : float
        Share of **paths** whose best rule has a deflated Sharpe ratio above 1 - `level`, the
        trials being the path's rules.
    share_strategies : float
        Share of all **strategies** (path and rule) significant after that correction.
    share_uncorrected : float
        The same without a correction; near `level` if the single test is right.
    share_fooled : float
        Share of **paths** with at least one rule significant without a correction: how often
        a researcher who counts no trials would report a discovery.
    pbo : float
        Mean over paths of the probability of backtest overfitting; near .5.
    error : float
        Monte Carlo standard error of a share of paths whose true value is `level`.
    """

    law: str
    paths: int
    bars: int
    rules: int
    level: float
    share_significant: float
    share_dsr: float
    share_strategies: float
    share_uncorrected: float
    share_fooled: float
    pbo: float
    error: float

    def to_dict(self) -> dict[str, float | str]:
        """By name, for `reports/metrics/statistics.json`."""
        return asdict(self)


@dataclass(frozen=True)
class PositiveControl:
    """How often a planted edge is found.

    Attributes
    ----------
    sharpe : float
        True ratio per bar of the planted strategy.
    paths, bars, trials : int
    level : float
        Of the family; each of `trials` tests has its Bonferroni share.
    power, theory : float
        Share of samples in which the edge is significant, and the normal approximation of it,
        which is some .01 too high since the error is itself estimated.
    error : float
        Monte Carlo standard error of `power`.
    """

    sharpe: float
    paths: int
    bars: int
    trials: int
    level: float
    power: float
    theory: float
    error: float

    def to_dict(self) -> dict[str, float]:
        """By name, for `reports/metrics/statistics.json`."""
        return asdict(self)


def draw_martingale(law: Law, n_bars: int, n_paths: int, rng: np.random.Generator) -> FloatArray:
    """Simple returns of prices whose expected change is 0 whatever was seen before.

    Parameters
    ----------
    law : "gbm" or "garch"
        Geometric Brownian motion whose price has no drift; or GARCH(1, 1) with Student's t of 5
        degrees, clustered and fat-tailed. Both have a standard deviation of 1 % a bar.

    Returns
    -------
    array of shape (n_bars, n_paths)

    Raises
    ------
    ValueError
        If the law is another.
    """
    if law == "gbm":
        shock = rng.standard_normal((n_bars, n_paths))
        return np.expm1(VOLATILITY * shock - VOLATILITY**2 / 2)
    if law != "garch":
        raise ValueError(f"law is {law!r}; expected 'gbm' or 'garch'")
    shock = rng.standard_t(FREEDOM, (n_bars, n_paths)) * ((FREEDOM - 2) / FREEDOM) ** 0.5
    returns = np.empty((n_bars, n_paths))
    variance = np.full(n_paths, VOLATILITY**2)
    for t in range(n_bars):
        returns[t] = np.clip(np.sqrt(variance) * shock[t], -LARGEST, LARGEST)
        variance = VOLATILITY**2 * (1 - ALPHA - BETA) + ALPHA * returns[t] ** 2 + BETA * variance
    return returns


def negative_control(
    *, law: Law, n_paths: int, n_bars: int, seed: int, level: float = 0.05
) -> NegativeControl:
    """Try the family of `plain_rules` on martingale paths, without costs, and test it on each.

    Costs are 0 because they would hide a test that finds too much. A path is a research
    project: its rules are the trials that are corrected for.

    Parameters
    ----------
    n_bars : int
        Judged on each path, after the rules' warm-up; at least 100.

    Raises
    ------
    TooFewError
        If there is no path, or there are fewer than 100 bars.
    ValueError
        If the law is unknown.
    """
    _check_size(n_paths, n_bars)
    rng = derive_rng(seed, "negative_control", law)
    n_rules = len(plain_rules.NAMES)
    significant, naive, dsr, pbo = [], [], [], []
    for first in range(0, n_paths, PATHS_AT_ONCE):
        size = min(PATHS_AT_ONCE, n_paths - first)
        moves = draw_martingale(law, n_bars + plain_rules.WARM_UP, size, rng)
        returns = plain_rules.play_rules(moves, rng)
        sharpe, skew, kurtosis = moments(returns)
        p_values = 1.0 - probabilistic_sharpe(sharpe, n_bars, skew, kurtosis)
        significant += list(reject_holm(p_values, level))
        naive += list(p_values < level)
        rows, best = np.arange(size), sharpe.argmax(axis=1)
        dsr += list(
            deflated_sharpe(
                sharpe[rows, best],
                n_bars,
                skew[rows, best],
                kurtosis[rows, best],
                n_trials=n_rules,
                variance=sharpe.var(axis=1, ddof=1),
            )
        )
        pbo += [cross_validate(returns[:, k], N_BLOCKS).probability for k in range(size)]
    found, alone = np.array(significant), np.array(naive)
    return NegativeControl(
        law,
        n_paths,
        n_bars,
        n_rules,
        level,
        float(found.any(axis=1).mean()),
        float((np.array(dsr) > 1.0 - level).mean()),
        float(found.mean()),
        float(alone.mean()),
        float(alone.any(axis=1).mean()),
        float(np.mean(pbo)),
        (level * (1.0 - level) / n_paths) ** 0.5,
    )


def reject_holm(p_values: FloatArray, level: float) -> npt.NDArray[np.bool_]:
    """Holm's rejections in each row of p-values, shape (n_paths, n_tests), bool of that shape.

    As `superiority.correct_p_values`, whose library collects garbage in every call: a third of a
    second for each path.
    """
    order = np.argsort(p_values, axis=1)
    n_tests = p_values.shape[1]
    passes = np.take_along_axis(p_values, order, axis=1) <= level / np.arange(n_tests, 0, -1)
    rejected = np.empty(p_values.shape, dtype=np.bool_)
    np.put_along_axis(rejected, order, np.logical_and.accumulate(passes, axis=1), axis=1)
    return rejected


def positive_control(
    information_coefficient: float,
    *,
    n_paths: int,
    n_bars: int,
    seed: int,
    n_trials: int = 1,
    level: float = 0.05,
) -> PositiveControl:
    """Plant a position of known correlation with the next return, and count how often it is found.

    Position and return are normal with correlation c. Their product, the strategy's return, has
    mean c, variance 1 + c^2, third cumulant 2c (3 + c^2) and fourth 6 (1 + 6c^2 + c^4), hence a
    true Sharpe ratio of c / sqrt(1 + c^2) a bar and the standard error that the theory takes.

    Parameters
    ----------
    information_coefficient : float
        c, (-1, 1); at 0 the power is the size of the test.
    n_trials : int
        Among which the planted one has to stand out.

    Raises
    ------
    TooFewError
        If there is no path, or there are fewer than 100 bars.
    ValueError
        If the coefficient is no correlation, or there is no trial.
    """
    _check_size(n_paths, n_bars)
    c = information_coefficient
    if not -1 < c < 1 or n_trials < 1:
        raise ValueError(
            f"information_coefficient={c} and n_trials={n_trials}; expected between -1 and 1, and "
            "at least 1"
        )
    rng = derive_rng(seed, "positive_control")
    alone = level / n_trials
    n_found = 0
    for first in range(0, n_paths, PATHS_AT_ONCE):
        shape = (n_bars, min(PATHS_AT_ONCE, n_paths - first))
        returns = rng.standard_normal(shape)
        position = c * returns + (1.0 - c * c) ** 0.5 * rng.standard_normal(shape)
        sharpe, skew, kurtosis = moments(position * returns)
        confidence = probabilistic_sharpe(sharpe, n_bars, skew, kurtosis)
        n_found += int((confidence > 1.0 - alone).sum())
    true = c / (1.0 + c * c) ** 0.5
    true_skew = 2.0 * c * (3.0 + c * c) / (1.0 + c * c) ** 1.5
    true_kurtosis = 3.0 + 6.0 * (1.0 + 6.0 * c * c + c**4) / (1.0 + c * c) ** 2
    error = float(sharpe_error(true, n_bars - 1, true_skew, true_kurtosis))
    theory = float(stats.norm.cdf(true / error - stats.norm.ppf(1.0 - alone)))
    power = n_found / n_paths
    return PositiveControl(
        true,
        n_paths,
        n_bars,
        n_trials,
        level,
        power,
        theory,
        (power * (1.0 - power) / n_paths) ** 0.5,
    )


def _check_size(n_paths: int, n_bars: int) -> None:
    if n_paths < 1 or n_bars < LEAST_BARS:
        raise TooFewError(
            f"control: {n_paths} paths of {n_bars} bars; expected at least 1 of {LEAST_BARS}"
        )
