"""What a learnt policy would have earned in recorded games, by two estimators.

Importance sampling needs players whose chances are known (`sessions.players`); fitted Q
evaluation takes the games of all. A policy does not see an open side bet, and may bet less than
the game takes: a choice that the game would have refused counts as waiting, as it would have
been, with both estimators.

The value is that of games as these players met them: with the cash and the bet that they
brought from the game before, and with their latency. `session_play` begins every game anew,
and executes a fixed number of ticks later.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.agents.offline_policy import OfflinePolicy
from hftlib.evaluation.offpolicy import (
    FittedEstimate,
    WeightedEstimate,
    estimate_fitted,
    estimate_weighted,
    importance_ratios,
)
from hftlib.evaluation.session_basis import SessionBasis
from hftlib.sessions.dataset import Batch, TransitionDataset
from hftlib.sessions.observation import FEATURE_COUNT
from hftlib.sessions.players import PLAYERS, propensities
from hftlib.sessions.vocabulary import CHOICES, N_ACTIONS, N_ADJUSTMENTS, WAIT

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

RANDOM = tuple(name for name, each in PLAYERS.items() if each.is_random)


def refuse_invalid(chances: FloatArray, allowed: BoolArray) -> FloatArray:
    """Move the chance of what the game would refuse to waiting with the same adjustment.

    Parameters
    ----------
    chances, allowed : arrays of shape (n, 36)

    Returns
    -------
    array of that shape; rows keep their sums.
    """
    kept = np.where(allowed, chances, 0.0).reshape(-1, len(CHOICES), N_ADJUSTMENTS)
    lost = np.where(allowed, 0.0, chances).reshape(-1, len(CHOICES), N_ADJUSTMENTS)
    kept[:, WAIT] += lost.sum(axis=1)
    return kept.reshape(-1, N_ACTIONS)


def find_chances(
    policy: OfflinePolicy, observations: Float32Array, stake_open: BoolArray
) -> FloatArray:
    """Chances of what the policy's actions come to, shape (n, 36), see `refuse_invalid`.

    Parameters
    ----------
    observations : array of shape (n, 36)
    stake_open : array of shape (n,)
        Whether a side bet is open, which the policy does not see.
    """
    # all that a screen allows has a positive chance with each random player
    allowed = propensities(RANDOM[0], observations, stake_open) > 0
    return refuse_invalid(policy.probabilities(observations), allowed)


def take_whole_games(dataset: TransitionDataset) -> TransitionDataset:
    """Games that were recorded exactly and to the rug.

    Raises
    ------
    ValueError
        If there is none.
    """
    codes = dataset.game_ids
    is_usable = dataset.column("is_exact") & ~dataset.column("truncated")
    whole = np.setdiff1d(codes[is_usable], codes[~is_usable])
    if not len(whole):
        raise ValueError(
            f"none of {len(np.unique(codes))} games was recorded exactly and to the rug; record "
            "more sessions"
        )
    return dataset.take_games(whole)


def take_random_players(
    dataset: TransitionDataset, players: Mapping[str, str]
) -> TransitionDataset:
    """Games that only players with known chances were recorded in.

    Parameters
    ----------
    players : mapping of session id to the player's name

    Raises
    ------
    ValueError
        If a session's player is not known, or there is no such game.
    """
    names = dataset.games["session_id"].map(players)
    is_unknown = ~names.isin(PLAYERS.keys())
    if is_unknown.any():
        session = dataset.games["session_id"][is_unknown].iloc[0]
        raise ValueError(
            f"session {session} is of player {names[is_unknown].iloc[0]}; expected one of "
            f"{', '.join(PLAYERS)}"
        )
    codes = dataset.game_ids
    is_random = np.isin(dataset.column("game"), names.index[names.isin(RANDOM)])
    chosen = np.setdiff1d(codes[is_random], codes[~is_random])
    if not len(chosen):
        raise ValueError(
            f"no game of a random player among {len(np.unique(codes))}; record more sessions of "
            f"{', '.join(RANDOM)}"
        )
    return dataset.take_games(chosen)


def weigh_recorded(
    policy: OfflinePolicy,
    dataset: TransitionDataset,
    players: Mapping[str, str],
    *,
    gamma: float,
    n_bootstrap: int,
    confidence: float,
    seed: int,
) -> WeightedEstimate:
    """Importance sampling of the policy, drawing its actions, SOL a game.

    Parameters
    ----------
    dataset : TransitionDataset
        Whole games of random players.
    gamma : float
        Discount a tick.

    Raises
    ------
    ValueError
        If a game is truncated, or of a player without known chances.
    """
    steps, stakes = _read_whole(dataset)
    episodes = dataset.column("game")
    names = dataset.games["session_id"].map(players).reindex(episodes).to_numpy()
    behaviour = np.zeros((len(steps.actions), N_ACTIONS))
    for name in pd.unique(names):
        rows = names == name
        behaviour[rows] = propensities(name, steps.observations[rows], stakes[rows])
    taken = np.arange(len(steps.actions)), steps.actions
    target = find_chances(policy, steps.observations, stakes)
    return estimate_weighted(
        importance_ratios(target[taken], behaviour[taken]),
        steps.rewards,
        episodes,
        games=dataset.game_ids,
        gamma=gamma,
        n_bootstrap=n_bootstrap,
        confidence=confidence,
        seed=seed,
    )


def fit_recorded(
    policy: OfflinePolicy,
    dataset: TransitionDataset,
    *,
    gamma: float,
    n_bootstrap: int,
    confidence: float,
    seed: int,
) -> FittedEstimate:
    """Fitted Q evaluation of the policy, drawing its actions, SOL a game.

    Parameters
    ----------
    dataset : TransitionDataset
        Whole games of any players.
    gamma : float
        Discount a tick.

    Raises
    ------
    ValueError
        If a game is truncated.
    """
    steps, stakes = _read_whole(dataset)
    basis = SessionBasis.fit(steps.observations)
    later = np.append(stakes[1:], False)  # nothing is asked about what follows a rug
    return estimate_fitted(
        steps._replace(
            observations=_append(steps.observations, stakes),
            next_observations=_append(steps.next_observations, later),
        ),
        dataset.column("game"),
        lambda seen: find_chances(policy, *_take_apart(seen)),
        lambda seen, chances: basis(*_take_apart(seen), chances),
        n_actions=N_ACTIONS,
        games=dataset.game_ids,
        gamma=gamma,
        n_bootstrap=n_bootstrap,
        confidence=confidence,
        seed=seed,
    )


def _read_whole(dataset: TransitionDataset) -> tuple[Batch, BoolArray]:
    """All steps, and whether a side bet is open at each."""
    steps = dataset.batch(np.arange(len(dataset)))
    if steps.truncated.any():
        raise ValueError(
            f"{steps.truncated.sum()} games end with their capture; choose with take_whole_games"
        )
    return steps, dataset.column("stake_open")


def _append(observations: Float32Array, stake_open: BoolArray) -> Float32Array:
    """Observations with a column more, shape (n, 37)."""
    return np.column_stack([observations, stake_open.astype(np.float32)])


def _take_apart(seen: Float32Array) -> tuple[Float32Array, BoolArray]:
    """Observations of shape (n, 36) and the column that `_append` added."""
    return seen[:, :FEATURE_COUNT], seen[:, FEATURE_COUNT] > 0
