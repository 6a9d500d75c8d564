"""Several algorithms and seeds trained side by side on the same recorded games."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.agents.offline import TrainedOffline, train_offline
from hftlib.agents.offline_learner import OfflineSettings
from hftlib.compute import derive_seed, map_parallel
from hftlib.lineage import hash_path
from hftlib.sessions.dataset import TransitionDataset


@dataclass(frozen=True)
class _Training:
    """One training, in a form that goes to another process."""

    folder: Path
    games: npt.NDArray[np.int64]
    settings: OfflineSettings
    seed: int
    scratch: Path
    fingerprint: str

    def run(self) -> TrainedOffline:
        source = TransitionDataset.open(self.folder).take_games(self.games)
        return train_offline(
            source,
            self.settings,
            self.seed,
            scratch=self.scratch,
            fingerprint=self.fingerprint,
        )


def train_algorithms(
    folder: Path,
    games: npt.NDArray[np.int64],
    settings: Mapping[str, OfflineSettings],
    *,
    n_seeds: int,
    seed: int,
    scratch: Path,
) -> dict[str, list[TrainedOffline]]:
    """Train every algorithm with every seed, in parallel; stopped trainings go on.

    Parameters
    ----------
    folder : Path
        Of a dataset that `conversion.write_transitions` wrote.
    games : int array
        Codes of the games to learn from, as in `TransitionDataset.game_ids`.
    settings : mapping of algorithm to its settings
    n_seeds : int
        Trainings of each algorithm; seed k is the same for all.
    scratch : folder of checkpoints

    Returns
    -------
    dict of lists of length n_seeds

    Raises
    ------
    ValueError
        If `n_seeds` is below 1.
    """
    if n_seeds < 1:
        raise ValueError(f"n_seeds={n_seeds}; expected at least 1")
    # which games, not how many: others of the same number must not go on from these weights
    chosen = hashlib.md5(np.unique(games).astype(np.int64).tobytes(), usedforsecurity=False)
    fingerprint = f"{hash_path(folder)}, games {chosen.hexdigest()}"
    seeds = [derive_seed(seed, "offline", k) for k in range(n_seeds)]
    trainings = [
        _Training(folder, games, own, one, scratch, fingerprint)
        for own in settings.values()
        for one in seeds
    ]
    done = iter(map_parallel(_Training.run, trainings, "trainings"))
    return {algo: [next(done) for _ in seeds] for algo in settings}


def curve_frame(trained: Mapping[str, list[TrainedOffline]]) -> pd.DataFrame:
    """Points of all curves: algo, seed (a number from 0), step, measure, value."""
    points = [
        (algo, number, *point)
        for algo, members in trained.items()
        for number, member in enumerate(members)
        for point in member.curve
    ]
    return pd.DataFrame(points, columns=["algo", "seed", "step", "measure", "value"])
