"""A/B routing: which policy serves a key, and when the difference is beyond doubt.

A key (a client, an account, a symbol) always meets the same arm: each arm draws
an exponential time from a salted hash of the key, divided by its share, and the earliest wins. In
the long run arms serve their shares exactly, and when one share changes keys move to that
arm or from it, never between two others. Another salt is another, independent assignment.

Whoever looks at a fixed-sample p-value every day and stops at the first below 5 % is wrong
in far more than 5 % of trials. The sequential test here may be looked at after
every period: the chance that it ever errs is the level, however long it runs. It is a mixture
likelihood ratio of the t statistic, exact for independent normal differences of
unknown variance. What depends on its neighbours, or is skewed as with very unequal shares, is
first averaged in blocks.

Source: Thaler & Ravishankar (1998), IEEE/ACM Transactions on Networking 6(1), for the highest
random weight; Ville (1939); Robbins (1970), Annals of Mathematical Statistics 41(5); Johari et
al. (2022), Operations Research 70(3), for the mixture test in A/B trials; Gronau, Ly &
Wagenmakers (2020), The American Statistician 74(2), for the ratio of the t statistic.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

Verdict = Literal["better", "worse", "undecided"]


class RoutingError(ValueError):
    """Shares, keys or outcomes that cannot be routed or compared."""


@dataclass(frozen=True)
class Routing:
    """Arms and what share of the keys each serves.

    Attributes
    ----------
    shares : mapping of arm to number
        Positive, or 0 for an arm that serves nobody; they add up to 1.
    salt : str
        Names the trial. The same salt gives the same assignment on any machine.

    Raises
    ------
    RoutingError
        If the shares are not so, or the salt is empty.
    """

    shares: Mapping[str, float]
    salt: str

    def __post_init__(self) -> None:
        shares = dict(self.shares)
        total = sum(shares.values())
        if not shares or not all(x >= 0 for x in shares.values()) or not abs(total - 1) <= 1e-9:
            raise RoutingError(f"shares are {shares}; expected 0 or more each, 1 in sum")
        if not self.salt:
            raise RoutingError("the salt is empty; name the trial, so that the next differs")

    def assign(self, key: str) -> str:
        """The arm that serves a key, always the same.

        Raises
        ------
        RoutingError
            If the key is empty.
        """
        if not key:
            raise RoutingError("the key is empty; give what must always meet the same arm")
        served = [arm for arm, share in self.shares.items() if share > 0]
        return min(served, key=lambda arm: (self._time(arm, key) / self.shares[arm], arm))

    def _time(self, arm: str, key: str) -> float:
        """Exponential with mean 1, from a hash; lengths keep ("a", "bc") and ("ab", "c") apart."""
        text = "".join(f"{len(part)}:{part}" for part in (self.salt, arm, key))
        number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
        return float(-np.log((number + 0.5) / 2.0**64))


def difference_by_period(outcomes: pd.DataFrame, champion: str, challenger: str) -> pd.Series:
    """Mean outcome of the challenger's keys less that of the champion's, period by period.

    Keys of one period live in the same market: their common luck goes out in the difference, and
    what is left of their dependence stays within the period.

    Parameters
    ----------
    outcomes : frame with columns period, arm, value
        Such as a day, the arm and the return after costs of one key.

    Returns
    -------
    series indexed by period, sorted
        Periods in which one arm served nobody are left out.

    Raises
    ------
    RoutingError
        If a column is missing, a value is not finite, or an arm has no outcome.
    """
    missing = [name for name in ("period", "arm", "value") if name not in outcomes]
    if missing:
        raise RoutingError(f"outcomes have no {', '.join(missing)}; add the columns")
    bad = ~np.isfinite(outcomes["value"].to_numpy(dtype=np.float64))
    if bad.any():
        row = outcomes.iloc[int(np.argmax(bad))]
        raise RoutingError(
            f"the value of {row['arm']} in {row['period']} is {row['value']}; leave it out for "
            "all arms, or say what a failed answer costs"
        )
    means = outcomes.groupby(["period", "arm"])["value"].mean().unstack("arm")
    for arm in (champion, challenger):
        if arm not in means:
            raise RoutingError(f"no outcome of {arm!r}; there are {', '.join(map(str, means))}")
    return (means[challenger] - means[champion]).dropna().sort_index()


@dataclass(frozen=True)
class SequentialRule:
    """How differences are judged, fixed before the first is seen.

    Attributes
    ----------
    effect_size : float
        Mean difference over its standard deviation, per block, that the test should find
        soonest; it errs no more often whatever it is.
    level : float
        Chance that it ever calls equal arms different.
    block : int
        Periods averaged into one observation; at 1 they must be independent.

    Raises
    ------
    RoutingError
        If one is out of range.
    """

    effect_size: float = 0.2
    level: float = 0.05
    block: int = 1

    def __post_init__(self) -> None:
        if not (self.effect_size > 0 and 0 < self.level < 1 and self.block >= 1):
            raise RoutingError(
                f"effect_size={self.effect_size}, level={self.level}, block={self.block}; expected "
                "above 0, between 0 and 1, at least 1"
            )


class SequentialState(NamedTuple):
    """What the test knows; a plain tuple of numbers, so that it can be stored.

    Attributes
    ----------
    n : int
        Whole blocks.
    mean, squares : float
        Of the block means, and the sum of their squared deviations.
    pending, pending_sum : int, float
        Differences of the block that is not whole yet.
    p_value : float
        Valid at any time: never rises.
    low, high : float
        Of the mean difference, at confidence 1 - level at all times together.
    """

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0
    pending: int = 0
    pending_sum: float = 0.0
    p_value: float = 1.0
    low: float = -np.inf
    high: float = np.inf


def update_test(rule: SequentialRule, state: SequentialState, difference: float) -> SequentialState:
    """State after the difference of one more period.

    A trial is over at its verdict: what comes later changes nothing.

    Raises
    ------
    RoutingError
        If it is nan or infinite.
    """
    if not np.isfinite(difference):
        raise RoutingError(f"difference {difference} after {state.n} blocks; leave the period out")
    if verdict(rule, state) != "undecided":
        return state
    pending, total = state.pending + 1, state.pending_sum + float(difference)
    if pending < rule.block:
        return state._replace(pending=pending, pending_sum=total)
    value = total / rule.block
    n = state.n + 1
    mean = state.mean + (value - state.mean) / n
    squares = state.squares + (value - state.mean) * (value - mean)
    p, half = _judge(rule, n, mean, squares)
    return SequentialState(
        n,
        mean,
        squares,
        0,
        0.0,
        min(state.p_value, p),
        max(state.low, mean - half),
        min(state.high, mean + half),
    )


def verdict(rule: SequentialRule, state: SequentialState) -> Verdict:
    """Whether the challenger is better, worse, or neither is known yet."""
    if state.p_value > rule.level:
        return "undecided"
    return "better" if state.mean > 0 else "worse"


def _judge(rule: SequentialRule, n: int, mean: float, squares: float) -> tuple[float, float]:
    """P-value at n blocks, and half the width of the interval around their mean.

    The ratio of the t statistic's law with a normal effect (sd `effect_size`) to that with none:
    g^(-1/2) [(1 + r) / (1 + r / g)]^(n / 2), where g = 1 + n effect_size^2, r = t^2 / (n - 1).
    """
    if n < 2 or squares <= 0:
        return 1.0, float("inf")
    g = 1.0 + n * rule.effect_size**2
    r = n * mean**2 / squares
    log_ratio = 0.5 * n * (np.log1p(r) - np.log1p(r / g)) - 0.5 * np.log(g)
    # the same, solved for the r at which the ratio is 1 / level
    q = np.exp((np.log(g) - 2.0 * np.log(rule.level)) / n)
    half = np.sqrt((q - 1.0) / (1.0 - q / g) * squares / n) if q < g else np.inf
    return float(min(1.0, np.exp(-log_ratio))), float(half)
