"""What would another policy have earned in recorded games?

Importance sampling reweighs what happened by how much more likely the other policy was to act
so: no model, but after a hundred ticks almost all weight is on few games, which
`effective_episodes` tells. Fitted Q evaluation learns the other policy's action values: small
variance, and the bias of its features. They err in different ways, so look at both.

Rows are steps, those of one episode together and in order. Intervals come from resampling
games, since all episodes of one game share its prices. Those of importance sampling are too
short where weights have heavy tails: in a process of two states, with 200 episodes, of nominal
95 % intervals 90 % covered the truth where 163 were effective, 81 % where 101 were.

Source: Precup, Sutton & Singh (2000), Eligibility traces for off-policy policy evaluation,
ICML 17 (weighted and per-decision importance sampling); Thomas (2015), Safe reinforcement
learning, thesis, Amherst (the consistent weighted per-decision estimator); Le, Voloshin & Yue
(2019), Batch policy learning under constraints, arXiv 1903.08738 (fitted Q evaluation); Hao et
al. (2021), Bootstrapping fitted Q-evaluation for off-policy inference, ICML 38.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hftlib.compute import derive_rng
from hftlib.evaluation.statistics import Estimate
from hftlib.sessions.dataset import Batch

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

BLOCK = 64  # ticks of all episodes, or episodes, that are worked on at once
Target = Callable[[npt.NDArray[np.float32]], FloatArray]
Basis = Callable[[npt.NDArray[np.float32], FloatArray], FloatArray]


@dataclass(frozen=True)
class WeightedEstimate:
    """Mean return of an episode under the other policy, in the unit of the rewards.

    effective_episodes : float
        (sum of weights)² / sum of squared weights: of so many episodes of equal weight the mean
        would be as uncertain. Per decision, the mean of it over the recorded steps, discounted
        as rewards are: late ticks rest on fewer.
    """

    value: Estimate
    effective_episodes: float
    n_episodes: int
    n_games: int


@dataclass(frozen=True)
class FittedEstimate:
    """Mean return of an episode under the other policy, in the unit of the rewards.

    curve : array of shape (n_iterations,)
        The value after each iteration. Where it does not level off, `value` means nothing: more
        iterations, a smaller discount or another basis. Bootstrap samples that grow beyond all
        bounds are left out of the interval, which is then too short.
    """

    value: Estimate
    curve: FloatArray
    n_episodes: int
    n_games: int


def importance_ratios(target: npt.ArrayLike, behaviour: npt.ArrayLike) -> FloatArray:
    """How much more likely the other policy is to act so.

    Parameters
    ----------
    target, behaviour : arrays of one shape, (n_steps,) or (n_steps, n_actions)
        Chances under the other policy and under the one that was recorded.

    Returns
    -------
    array of that shape
        0 where both chances are 0.

    Raises
    ------
    ValueError
        If the shapes differ, a chance is outside [0, 1], or the other policy does what the
        recorded one never does: no weight can make up for that.
    """
    wanted, had = np.asarray(target, dtype=np.float64), np.asarray(behaviour, dtype=np.float64)
    if wanted.shape != had.shape:
        raise ValueError(f"chances have shapes {wanted.shape} and {had.shape}; expected one shape")
    for name, chances in (("target", wanted), ("behaviour", had)):
        is_bad = ~((chances >= 0) & (chances <= 1 + 1e-9))
        if is_bad.any():
            at = tuple(map(int, np.argwhere(is_bad)[0]))
            raise ValueError(f"{name} chance {chances[at]} at {at}; expected one in [0, 1]")
    is_missing = (wanted > 0) & (had == 0)
    if is_missing.any():
        at = tuple(map(int, np.argwhere(is_missing)[0]))
        raise ValueError(
            f"the target acts with chance {wanted[at]:.3g} at {at} where the behaviour never does, "
            f"and so in {is_missing.sum()} of {is_missing.size} entries; evaluate a policy within "
            "the recorded actions, or use estimate_fitted"
        )
    return np.divide(wanted, had, out=np.zeros_like(wanted), where=had > 0)


def estimate_weighted(
    ratios: FloatArray,
    rewards: npt.ArrayLike,
    episodes: npt.NDArray[Any],
    *,
    games: npt.NDArray[Any] | None = None,
    is_per_decision: bool = True,
    gamma: float = 1.0,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> WeightedEstimate:
    """Weighted importance sampling: biased in small samples, consistent, and bounded.

    Parameters
    ----------
    ratios : array of shape (n_steps,)
        `importance_ratios` of the recorded actions.
    rewards : array of shape (n_steps,)
    episodes : array of shape (n_steps,)
        Number of the episode of each row; complete episodes, a truncated one lacks its end.
    games : array of shape (n_steps,), optional
        What is resampled; by default the episodes.
    is_per_decision : bool
        A reward is weighted by the ratios up to its own step rather than those of the whole
        episode. The weights of an ended episode stay as they were at its end.
    gamma : float
        Discount a step.

    Returns
    -------
    WeightedEstimate
        nan where no weight is positive at some step. Samples in which that happens are left out
        of the interval.

    Raises
    ------
    ValueError
        If an episode's rows are not together, or it lies in two games.
    """
    reward = np.asarray(rewards, dtype=np.float64)
    starts, lengths = _find_runs(episodes)
    counts, n_games = _draw_episodes(starts, lengths, games, n_bootstrap, seed)
    logs = _log_products(ratios, starts, lengths)
    age = np.arange(len(reward)) - starts.repeat(lengths)
    discounts: FloatArray = gamma ** age.astype(np.float64)
    if is_per_decision:
        values, effective = _weigh_decisions(logs, reward, discounts, starts, lengths, counts)
    else:
        returns = np.add.reduceat(reward * discounts, starts)
        weights = _scale_weights(logs[starts + lengths - 1])
        values = _divide(counts @ (weights * returns), counts @ weights)
        effective = float(_effective(weights))
    return WeightedEstimate(_interval(values, confidence), effective, len(starts), n_games)


def estimate_fitted(
    steps: Batch,
    episodes: npt.NDArray[Any],
    target: Target,
    basis: Basis,
    *,
    n_actions: int,
    games: npt.NDArray[Any] | None = None,
    gamma: float = 1.0,
    ridge: float = 1e-6,
    n_iterations: int = 1000,
    n_bootstrap: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
) -> FittedEstimate:
    """Fitted Q evaluation with a linear basis: regress reward and next value, again and again.

    A regression of this kind needs the basis' moments alone, which are added over games once:
    an iteration and a bootstrap sample then cost nothing that grows with the data.

    Parameters
    ----------
    steps : Batch
        Truncated steps bootstrap, terminated ones do not.
    episodes : array of shape (n_steps,)
    target : function from observations to chances of shape (n, n_actions)
        The other policy.
    basis : function from observations and chances of shape (n, n_actions) to shape (n, n_basis)
        Features of an action drawn with these chances, linear in them.
    games : array of shape (n_steps,), optional
        What is resampled; by default the episodes.
    gamma : float
        Discount a step.
    ridge : float
        Penalty on squared coefficients, times the number of steps.

    Returns
    -------
    FittedEstimate
        The value of the episodes' first observations.

    Raises
    ------
    ValueError
        If an episode's rows are not together, or it lies in two games.
    """
    starts, lengths = _find_runs(episodes)
    counts, n_games = _draw_episodes(starts, lengths, games, n_bootstrap, seed)
    first = steps.observations[starts]
    opening = basis(first, target(first))
    n_basis = opening.shape[1]
    sums = np.zeros((len(counts), n_basis * (2 * n_basis + 1)))
    block = []
    for k, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        block.append(_find_moments(steps, slice(start, start + length), target, basis, n_actions))
        if len(block) == BLOCK or k == len(starts) - 1:
            sums += counts[:, k + 1 - len(block) : k + 1] @ np.stack(block)
            block = []
    moments = sums.reshape(len(counts), n_basis, 2 * n_basis + 1)
    n_steps = counts @ lengths
    grams = moments[:, :, :n_basis] + (ridge * n_steps)[:, None, None] * np.eye(n_basis)
    fits = np.linalg.solve(grams, moments[:, :, n_basis:])
    onward, drift = gamma * fits[:, :, :n_basis], fits[:, :, n_basis:]
    opening = (counts @ opening) / counts.sum(axis=1, keepdims=True)
    theta, curve = np.zeros_like(drift), np.empty(n_iterations)
    with np.errstate(over="ignore", invalid="ignore"):  # the curve tells where they diverge
        for k in range(n_iterations):
            theta = drift + onward @ theta
            curve[k] = opening[0] @ theta[0, :, 0]
        values = (opening * theta[:, :, 0]).sum(axis=1)
    return FittedEstimate(_interval(values, confidence), curve, len(starts), n_games)


def _find_moments(
    steps: Batch, rows: slice, target: Target, basis: Basis, n_actions: int
) -> FloatArray:
    """Products of an episode's features with themselves, the next ones and the rewards, flat."""
    now = basis(steps.observations[rows], np.eye(n_actions)[steps.actions[rows]])
    seen = steps.next_observations[rows]
    later = basis(seen, target(seen)) * ~steps.terminated[rows, None]
    return (now.T @ np.hstack([now, later, steps.rewards[rows, None]])).ravel()


def _find_runs(episodes: npt.NDArray[Any]) -> tuple[IntArray, IntArray]:
    """Where each episode begins, and how many rows it has."""
    if not len(episodes):
        raise ValueError("there are no steps; give those of recorded games")
    is_first = np.ones(len(episodes), dtype=bool)
    is_first[1:] = episodes[1:] != episodes[:-1]
    starts = np.flatnonzero(is_first)
    names, n_runs = np.unique(episodes[starts], return_counts=True)
    if (n_runs > 1).any():
        raise ValueError(
            f"the rows of episode {names[n_runs > 1][0]} are not together; sort them by episode "
            "and step"
        )
    return starts, np.diff(starts, append=len(episodes))


def _draw_episodes(
    starts: IntArray,
    lengths: IntArray,
    games: npt.NDArray[Any] | None,
    n_bootstrap: int,
    seed: int,
) -> tuple[FloatArray, int]:
    """How often each episode is in each sample, shape (1 + n_bootstrap, n_episodes).

    The first sample is the data themselves. The second value is the number of games.
    """
    if games is None:
        group = np.arange(len(starts))
    else:
        if (games != games[starts].repeat(lengths)).any():
            row = int(np.argmax(games != games[starts].repeat(lengths)))
            raise ValueError(f"the episode of row {row} lies in two games; number episodes anew")
        group = np.unique(games[starts], return_inverse=True)[1]
    n = int(group.max()) + 1
    rng = derive_rng(seed, "offpolicy", "bootstrap")
    drawn = rng.multinomial(n, np.full(n, 1 / n), size=n_bootstrap)
    return np.concatenate([np.ones((1, n)), drawn])[:, group], n


def _log_products(ratios: FloatArray, starts: IntArray, lengths: IntArray) -> FloatArray:
    """Logarithm of the product of the ratios so far in the episode, shape (n_steps,)."""

    def add_up(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        total = np.cumsum(values)
        return total - (total - values)[starts].repeat(lengths)

    is_zero = np.asarray(ratios) == 0
    logs = add_up(np.log(np.where(is_zero, 1.0, ratios)))
    return np.where(add_up(is_zero.astype(np.int64)) > 0, -np.inf, logs)


def _weigh_decisions(
    logs: FloatArray,
    rewards: FloatArray,
    discounts: FloatArray,
    starts: IntArray,
    lengths: IntArray,
    counts: FloatArray,
) -> tuple[FloatArray, float]:
    """Per-decision values of all samples, and the mean effective number of episodes."""
    values, effective = np.zeros(len(counts)), 0.0
    for tick in range(0, int(lengths.max()), BLOCK):
        ticks = np.arange(tick, min(tick + BLOCK, lengths.max()))
        rows = starts[:, None] + np.minimum(ticks, lengths[:, None] - 1)
        worth = np.where(ticks < lengths[:, None], discounts[rows], 0.0)
        weights = _scale_weights(logs[rows])
        paid = counts @ (weights * worth * rewards[rows])
        values += _divide(paid, counts @ weights).sum(axis=1)
        effective += float((_effective(weights) * worth.sum(axis=0)).sum())
    return values, effective / float(discounts.sum())


def _scale_weights(logs: FloatArray) -> FloatArray:
    """Weights over the largest of their column; all 0 where none is positive."""
    largest = logs.max(axis=0)
    return np.exp(logs - np.where(np.isfinite(largest), largest, 0.0))


def _effective(weights: FloatArray) -> FloatArray:
    """(sum of weights)² / sum of squared weights of each column; 0 where all are 0."""
    squares = np.square(weights).sum(axis=0)
    return np.square(weights.sum(axis=0)) / np.where(squares > 0, squares, 1.0)


def _divide(sums: FloatArray, weights: FloatArray) -> FloatArray:
    return sums / np.where(weights > 0, weights, np.nan)


def _interval(values: FloatArray, confidence: float) -> Estimate:
    """The first value, and the central interval of the others as far as they are finite."""
    samples = values[1:][np.isfinite(values[1:])]
    if not len(samples):
        return Estimate(float(values[0]), np.nan, np.nan)
    tail = (1 - confidence) / 2
    low, high = np.quantile(samples, (tail, 1 - tail))
    return Estimate(float(values[0]), float(low), float(high))
