"""Should a challenger take the champion's place? A decision and its reasons as a value.

Both are judged on the same bars, after both were made, and never on bars that either was
trained, tuned or chosen on: there the newer one wins by having looked. Promotion needs a
higher mean return, by a paired test in blocks at a level that the number of challengers on
this span divides, and a drawdown that is not much deeper. Where nothing can be told the
champion stays, and the decision says how large a difference the span could have shown.

Source: Politis & Romano (1994), JASA 89(428), for the bootstrap; Dunn (1961), JASA 56(293), for
the division of the level.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from hftlib.evaluation.samples import (
    ConstantError,
    FloatArray,
    SampleError,
    TooFewError,
    check_dates,
)
from hftlib.evaluation.superiority import LEAST_BARS, PairComparison, compare_pair
from hftlib.portfolio.measures import max_drawdown

POWER = 0.8


class SeenError(SampleError):
    """Bars that one of the two was made from."""


class Reason(NamedTuple):
    """One demand on the challenger.

    Attributes
    ----------
    name : "comparable", "return" or "drawdown"
    is_met : bool
    text : str
        With the numbers.
    """

    name: str
    is_met: bool
    text: str


@dataclass(frozen=True)
class Decision:
    """What a contest on an unseen span says.

    Attributes
    ----------
    promote : bool
        Whether every demand is met.
    reasons : tuple of Reason
    comparison : PairComparison or None
        Challenger less champion per bar; None where the two hardly differ.
    p_value : float
        One-sided, of a challenger that is no better; nan without a comparison.
    level : float
        That it was held against: the level asked for over the number of challengers.
    detectable : float
        Difference per bar that this span would have shown with probability .8; nan without a
        comparison.
    drawdowns : tuple of two floats
        Deepest loss from a peak, as a share of it: champion, challenger.
    n_bars : int
    first, last : timestamps
        Of the span.
    """

    promote: bool
    reasons: tuple[Reason, ...]
    comparison: PairComparison | None
    p_value: float
    level: float
    detectable: float
    drawdowns: tuple[float, float]
    n_bars: int
    first: pd.Timestamp
    last: pd.Timestamp

    def to_dict(self) -> dict[str, Any]:
        """For JSON: null for nan, times as text."""
        numbers = {"p_value": self.p_value, "detectable": self.detectable}
        return {
            "promote": self.promote,
            "reasons": [reason._asdict() for reason in self.reasons],
            "comparison": None if self.comparison is None else self.comparison.to_dict(),
            **{k: v if np.isfinite(v) else None for k, v in numbers.items()},
            "level": self.level,
            "drawdowns": list(self.drawdowns),
            "n_bars": self.n_bars,
            "first": self.first.isoformat(),
            "last": self.last.isoformat(),
        }


def decide_champion(
    champion: pd.Series,
    challenger: pd.Series,
    *,
    seen_until: pd.Timestamp,
    n_bootstrap: int,
    seed: int,
    n_challengers: int = 1,
    level: float = 0.05,
    max_drawdown_ratio: float = 1.25,
    n_least: int = LEAST_BARS,
) -> Decision:
    """Hold a challenger against the champion on a span that neither has seen.

    Parameters
    ----------
    champion, challenger : series with the same times (UTC) as index
        Simple returns after costs.
    seen_until : timestamp with time zone
        The last bar that either was trained, tuned or chosen on, its label and an embargo
        included.
    n_challengers : int
        That were held against any champion on this span, this one included: of many the best
        wins by luck. Where they arrive one by one, level / k for the k-th adds up to more than
        `level`; give a smaller one, as `live.challenges` does.
    level : float
        Chance of promoting a challenger that is no better.
    max_drawdown_ratio : float
        A challenger whose drawdown is deeper than the champion's by more than this is refused.
    n_least : int
        Bars on which the two must differ.

    Raises
    ------
    SeenError
        If a bar is not after `seen_until`.
    DatesDifferError, UndefinedError, TooFewError
        If the times differ, a return is not finite, or there are too few replications for the
        level.
    ValueError
        If another argument is out of range, or a return leaves no equity.
    """
    test = "champion against challenger"
    check_dates(challenger.index, champion.index, test=test)
    if not len(champion):
        raise TooFewError(f"{test}: no bars; give those after {seen_until}")
    if seen_until.tzinfo is None or champion.index.tz is None:
        raise ValueError(f"{test}: seen_until and the index need a time zone; bars are in UTC")
    is_seen = champion.index <= seen_until
    if is_seen.any():
        raise SeenError(
            f"{test}: {is_seen.sum()} of {len(is_seen)} bars are not after {seen_until}, until "
            f"which one of the two has seen, the first {champion.index[is_seen][0]}; leave them out"
        )
    if n_challengers < 1 or not 0 < level < 0.5 or max_drawdown_ratio < 1:
        raise ValueError(
            f"{test}: n_challengers={n_challengers}, level={level}, "
            f"max_drawdown_ratio={max_drawdown_ratio}; expected at least 1, in (0, .5), at least 1"
        )
    share = level / n_challengers
    if 0.5 / (1 + n_bootstrap) > share:
        raise TooFewError(
            f"{test}: {n_bootstrap} replications cannot show a p-value of {share:.2g}; use at "
            f"least {round(2 / share)}"
        )
    both = [x.to_numpy(dtype=np.float64) for x in (champion, challenger)]
    for name, returns in zip(("champion", "challenger"), both, strict=True):
        _check_equity(returns, name, champion.index)
    old, new = (float(max_drawdown(np.cumprod([1.0, *(1.0 + x)]))) for x in both)
    is_calm = new <= max_drawdown_ratio * old
    drawdown = Reason(
        "drawdown",
        is_calm,
        f"the challenger's deepest drawdown is {new:.2%}, the champion's {old:.2%}; "
        f"{'within' if is_calm else 'above'} {max_drawdown_ratio:g} times that",
    )
    found: PairComparison | None = None
    p_value = detectable = float("nan")
    try:
        found = compare_pair(
            challenger, champion, n_bootstrap=n_bootstrap, seed=seed, n_least=n_least
        )
    except (TooFewError, ConstantError) as error:
        first = Reason("comparable", False, str(error))
    else:
        half = found.p_value / 2
        p_value = half if found.difference.value > 0 else 1 - half
        error_of_mean = (found.difference.high - found.difference.low) / (2 * stats.norm.ppf(0.975))
        detectable = float(stats.norm.ppf(1 - share) + stats.norm.ppf(POWER)) * error_of_mean
        first = _judge_return(found, p_value, share, detectable)
    reasons = (first, drawdown)
    return Decision(
        all(reason.is_met for reason in reasons),
        reasons,
        found,
        p_value,
        share,
        detectable,
        (old, new),
        len(champion),
        champion.index[0],
        champion.index[-1],
    )


def _judge_return(found: PairComparison, p_value: float, share: float, detectable: float) -> Reason:
    gap = 1e4 * found.difference.value
    more = f"{abs(gap):.2f} bp a bar {'less' if gap < 0 else 'more'}"
    text = f"the challenger earns {more}, one-sided p {p_value:.3g}"
    if p_value <= share:
        return Reason("return", True, f"{text}, at most {share:.3g}")
    return Reason(
        "return",
        False,
        f"{text}, above {share:.3g}; {found.n} bars show {1e4 * detectable:.2f} bp four times in "
        "five",
    )


def _check_equity(returns: FloatArray, name: str, index: pd.Index) -> None:
    gone = np.flatnonzero(returns <= -1)
    if len(gone):
        raise ValueError(
            f"champion against challenger: the {name} loses {-returns[gone[0]]:.0%} at "
            f"{index[gone[0]]}; expected simple returns above -1"
        )
