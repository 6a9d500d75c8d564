"""Measured games against what theory says of them.

The games may be simulated or captured: some not seen from their start or to
their end, some ticks missed. What a game's own moves depend on is only its
past, so sums over ticks are martingales, and their standard errors follow from
the law; windows that overlap share a rug, so theirs are clustered by game.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from hftlib.compute import compile_kernel
from hftlib.sessions.game import RUG_CHANCE, BoolArray, FloatArray, Games, IntArray
from hftlib.sessions.theory import (
    change_moments,
    holding_values,
    sidebet_chance,
    sidebet_value,
)
from hftlib.sessions.vocabulary import SIDEBET_PAYOUT, SIDEBET_TICKS

HOLDS = (1, 40, 100, 200)  # ticks
AGES = (0, 25, 50, 100, 200, 400, 800)  # edges of bands, ticks; the last band is open


@dataclass(frozen=True)
class Answer:
    """One known quantity as a sample of games shows it.

    standard_error : float
        Of `value`; nan, like `value`, where the games say nothing.
    """

    name: str
    theory: float
    value: float
    standard_error: float

    @property
    def within_3(self) -> bool:
        """Whether the value is within three standard errors of the theory."""
        return abs(self.value - self.theory) <= 3 * self.standard_error


@dataclass(frozen=True)
class HazardByAge:
    """Rugs per tick in bands of age, arrays of shape (n_bands,).

    edges : array of shape (n_bands + 1,)
        A band holds the ages edges[k] <= age < edges[k + 1], in ticks survived.
    n_rugs, n_ticks : rugs, and ticks at which a game could have rugged
    hazard : nan in a band that no game reached
    standard_error : as it is if the hazard is flat
    p_value : of the chi-square test of a flat hazard with `n_bands - 1` degrees of
        freedom; bands that no game reached do not count
    """

    edges: FloatArray
    n_rugs: IntArray
    n_ticks: IntArray
    hazard: FloatArray
    standard_error: FloatArray
    chi_square: float
    p_value: float


def check_answers(
    games: Games, holds: Sequence[int] = HOLDS, ages: Sequence[int] = AGES
) -> list[Answer]:
    """Hazard, tick changes, holding, side bets and hazard by age, each beside its theory.

    Parameters
    ----------
    games : Games
    holds : ticks to hold tokens bought at tick 0
    ages : lower edges of the bands of age

    Raises
    ------
    ValueError
        If there is no game, a hold is below 1 tick, or `ages` does not rise from 0.
    """
    if not len(games):
        raise ValueError("no games to check; play_games or Games.from_lists give some")
    if min(holds, default=1) < 1:
        raise ValueError(f"holds {tuple(holds)}: expected ticks of at least 1")
    seen = games.first_tick, games.last_tick, games.is_complete
    bands = [f"hazard, ages {low}-{high - 1}" for low, high in pairwise(ages)]
    chance, error = sidebet_wins(*seen)
    worth = holding_values(max(holds, default=0)).tolist()
    return [
        *_check_hazard(hazard_by_age(*seen, (0,)), ["hazard per tick"]),
        *_check_changes(games),
        *(Answer(f"holding {h} ticks", worth[h], *held_value(games, h)) for h in holds),
        Answer("side bet, chance", sidebet_chance(), chance, error),
        Answer(
            "side bet, value", sidebet_value(), SIDEBET_PAYOUT * chance - 1, SIDEBET_PAYOUT * error
        ),
        *_check_hazard(hazard_by_age(*seen, ages), [*bands, f"hazard, ages {ages[-1]}+"]),
    ]


def tabulate_answers(answers: Sequence[Answer]) -> pd.DataFrame:
    """One row an answer: name, theory, value, standard_error, within_3."""
    return pd.DataFrame([asdict(answer) | {"within_3": answer.within_3} for answer in answers])


def hazard_by_age(
    first_tick: npt.ArrayLike,
    last_tick: npt.ArrayLike,
    is_complete: npt.ArrayLike,
    ages: Sequence[int] = AGES,
) -> HazardByAge:
    """Rugs per tick at risk in bands of age.

    A game is at risk at the ages from the first tick seen to the one before its
    last: an incomplete one counts as alive at its last tick and not after, one
    joined late not before its first.

    Parameters
    ----------
    first_tick, last_tick, is_complete : arrays of shape (n_games,)
        As of `Games`.
    ages : lower edges of the bands, rising from 0; the last band is open.

    Raises
    ------
    ValueError
        If `ages` does not rise from 0.
    """
    if not len(ages) or ages[0] != 0 or np.any(np.diff(ages) <= 0):
        raise ValueError(f"ages {tuple(ages)}: expected lower edges that rise from 0")
    first, last = np.asarray(first_tick)[:, None], np.asarray(last_tick)[:, None]
    edges = np.array([*ages, np.inf])
    low, high = edges[:-1], edges[1:]
    at_risk = np.minimum(last, high) - np.maximum(first, low)
    n_ticks = np.maximum(at_risk, 0).sum(0).astype(np.int64)
    is_rug = np.asarray(is_complete)[:, None] & (low <= last - 1) & (last - 1 < high)
    n_rugs = (is_rug & (first < last)).sum(0)
    flat = n_rugs.sum() / max(n_ticks.sum(), 1)
    seen = n_ticks > 0
    hazard = np.divide(n_rugs, n_ticks, out=np.full(len(low), np.nan), where=seen)
    variance = flat * (1 - flat)
    error = np.sqrt(np.divide(variance, n_ticks, out=np.full(len(low), np.nan), where=seen))
    chi_square = float((((hazard - flat)[seen] / error[seen]) ** 2).sum()) if variance else 0.0
    return HazardByAge(
        edges=edges,
        n_rugs=n_rugs,
        n_ticks=n_ticks,
        hazard=hazard,
        standard_error=error,
        chi_square=chi_square,
        p_value=float(stats.chi2.sf(chi_square, seen.sum() - 1)) if seen.sum() > 1 else 1.0,
    )


def sidebet_wins(
    first_tick: IntArray, last_tick: IntArray, is_complete: BoolArray
) -> tuple[float, float]:
    """Share of side bets won if one is placed at every tick, and its standard error.

    Bets that the end of a capture leaves open count as long as they were seen
    (Kaplan and Meier 1958, over the ages of the bets): leaving them out would
    favour games that rugged. Bets of one game share its rug: the error is that of sums
    over games of each one's influence on the logarithm of the share lost.
    """
    n_bets = np.asarray(last_tick - first_tick)
    lost, influence = 1.0, np.zeros(len(n_bets))
    for age in range(1, SIDEBET_TICKS + 1):
        open_bets = np.maximum(n_bets - age + 1, 0)
        won = is_complete & (open_bets > 0)  # one bet of each game wins at each age
        total = open_bets.sum()
        if total == won.sum():  # none is left open
            return (1.0 if total else np.nan), np.nan
        share = won.sum() / total
        lost *= 1 - share
        influence += (won - share * open_bets) / (total - won.sum())
    return 1 - lost, float(lost * np.sqrt((influence**2).sum()))


def held_value(games: Games, n_ticks: int) -> tuple[float, float]:
    """Mean gain of 1 SOL of tokens bought at tick 0 and held `n_ticks`, and its standard error.

    One window a game, of those seen from their start. Games whose end was not
    seen are made up for by the others: each outcome is weighted by the inverse
    of the chance of being seen so long (Robins and Rotnitzky 1992); likewise
    prices missed at `n_ticks` by those that were seen. nan if no price was seen
    there, unless every game had rugged.
    """
    starts = games.first_tick == 0
    last, complete = games.last_tick[starts], games.is_complete[starts]
    begin = games.offsets[:-1][starts]
    is_rugged = complete & (last <= n_ticks)
    is_alive = last >= n_ticks + complete  # a complete game's last tick is its rug
    place = np.minimum(begin + n_ticks, begin + last)
    price = games.prices[place]
    is_priced = is_alive & ~np.isnan(price)
    if not len(last) or not (is_priced.any() or is_rugged.all()):
        return np.nan, np.nan
    weight = np.where(is_rugged, 1 / _chance_seen(last, complete, last), 0.0)
    if is_priced.any():
        seen_alive = 1 / _chance_seen(last, complete, np.array([n_ticks]))[0]
        weight[is_priced] = seen_alive * is_alive.sum() / is_priced.sum()
    outcome = np.where(weight > 0, weight * price, 0.0)
    return float(outcome.mean() - 1), float(outcome.std() / np.sqrt(len(outcome)))


def _chance_seen(last: IntArray, complete: BoolArray, ticks: IntArray) -> FloatArray:
    """Chance that a capture goes on to each of `ticks`, were it not for the rug."""
    ended, n_ended = np.unique(last[~complete], return_counts=True)
    # at tick t the games alive, and those that end there unseen, might have ended unseen
    n_alive = len(last) - np.searchsorted(np.sort(last), ended) - _count(last[complete], ended)
    chance = np.concatenate([[1.0], np.cumprod(1 - n_ended / n_alive)])
    return chance[np.searchsorted(ended, ticks)]


def _count(values: IntArray, wanted: IntArray) -> IntArray:
    """How often each of `wanted` is among the values."""
    ordered = np.sort(values)
    return np.searchsorted(ordered, wanted, "right") - np.searchsorted(ordered, wanted)


def _check_hazard(measured: HazardByAge, names: Sequence[str]) -> list[Answer]:
    """The hazard of each band, with the error that theory gives it."""
    reached = np.where(measured.n_ticks > 0, measured.n_ticks, np.nan)
    errors = np.sqrt(RUG_CHANCE * (1 - RUG_CHANCE) / reached)
    rows = zip(names, measured.hazard.tolist(), errors.tolist(), strict=True)
    return [Answer(name, RUG_CHANCE, value, error) for name, value, error in rows]


def _check_changes(games: Games) -> list[Answer]:
    """Mean and standard deviation of the tick changes, at the prices that were met.

    The law's moments depend on the price before the tick; theory is their mean
    over the sample's ticks. So are the errors: of a sample they would miss what
    god candles do, one tick in 100,000 and an eighth of the variance.
    """
    n_pairs, total, square, mean, variance, spread = _sum_changes(
        games.prices, games.offsets, games.is_complete
    )
    n = float(n_pairs) or math.nan
    sd = math.sqrt(variance / n)
    return [
        Answer("tick change, mean", mean / n, total / n, math.sqrt(variance) / n),
        Answer("tick change, sd", sd, math.sqrt(square / n), math.sqrt(spread) / n / (2 * sd)),
    ]


@compile_kernel
def _sum_changes(
    prices: FloatArray, offsets: IntArray, is_complete: BoolArray
) -> tuple[int, float, float, float, float, float]:
    """Sums over pairs of ticks seen while alive.

    Their number; of the changes X and of (X - E X)^2; by the law, of E X, of the
    variance of X and of that of (X - E X)^2.
    """
    n, total, square, mean, variance, spread = 0, 0.0, 0.0, 0.0, 0.0, 0.0
    for game in range(len(is_complete)):
        for at in range(offsets[game] + 1, offsets[game + 1] - is_complete[game]):
            before, after = prices[at - 1], prices[at]
            if not (before > 0.0 and after >= 0.0):  # one of them was not seen
                continue
            change = after / before - 1.0
            m1, m2, m3, m4 = change_moments(before)
            n += 1
            total += change
            square += (change - m1) ** 2
            mean += m1
            var = m2 - m1**2
            variance += var
            spread += m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4 - var**2
    return n, total, square, mean, variance, spread
