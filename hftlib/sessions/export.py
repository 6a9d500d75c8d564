"""Transitions in formats that other libraries read: one `.npz` file, or Minari.

Both are written in portions, so a dataset may be larger than memory, and whole or
not at all. Feature 8 is as the dataset shows it, 0 by default.

Source: Minari's dataset format, https://minari.farama.org.
"""

import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import gymnasium
import numpy as np
import numpy.typing as npt

from hftlib.paths import replace_file
from hftlib.sessions.dataset import DatasetError, TransitionDataset
from hftlib.sessions.observation import FEATURE_COUNT
from hftlib.sessions.vocabulary import ADJUSTMENTS, CHOICES, N_ADJUSTMENTS

PORTION: Final = 65_536  # transitions copied at a time


def export_npz(dataset: TransitionDataset, path: Path) -> None:
    """Write one file for `numpy.load`.

    Arrays: those of `dataset.Batch`, and `game_ids`, the game of each
    transition as a position in `game_names`: split by it, never by rows.
    """
    columns: dict[str, npt.NDArray[Any]] = {
        "actions": dataset.actions,
        "rewards": dataset.column("rewards"),
        "terminated": dataset.column("terminated"),
        "truncated": dataset.column("truncated"),
        "game_ids": dataset.game_ids,
        "game_names": np.array(dataset.game_names, dtype=np.str_),
    }
    with (
        replace_file(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        for name, values in columns.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, values, allow_pickle=False)
        for name in ("observations", "next_observations"):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                shape = (len(dataset), FEATURE_COUNT)
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                for start in range(0, len(dataset), PORTION):
                    rows = np.arange(start, min(start + PORTION, len(dataset)))
                    file.write(getattr(dataset.batch(rows), name).tobytes())


def export_minari(dataset: TransitionDataset, dataset_id: str, *, description: str) -> None:
    """Write a Minari dataset, one episode for each game of a session.

    Observations are `Box(36)`, actions `MultiDiscrete([4, 9])`. The options of
    an episode name its game_id and session_id: split by the first. It lies in
    the folder that `MINARI_DATASETS_PATH` names, by default `~/.minari/datasets`.

    Parameters
    ----------
    dataset_id : str
        Such as `crash/simulated-v0`: a namespace, a name and a version.
    description : str
        For whoever loads it: where the play comes from, and its units.

    Raises
    ------
    ImportError
        If Minari is not installed.
    DatasetError
        If the dataset is empty.
    ValueError
        If there is a dataset of this name, or the name is none.
    """
    try:
        import minari
        from minari.data_collector import EpisodeBuffer
        from minari.storage import get_dataset_path
    except ImportError as error:
        raise ImportError(
            "Minari is not installed; install it with pip install 'hftlib[minari]'"
        ) from error
    if not len(dataset):
        raise DatasetError(f"nothing to write to {dataset_id}: the dataset has no transitions")
    folder = get_dataset_path(dataset_id)
    if folder.exists():
        raise ValueError(f"{folder} exists; delete it, or give {dataset_id} another version")
    try:
        minari.create_dataset_from_buffers(
            dataset_id,
            (EpisodeBuffer(**episode) for episode in _episodes(dataset)),
            observation_space=gymnasium.spaces.Box(-np.inf, np.inf, (FEATURE_COUNT,), np.float32),
            action_space=gymnasium.spaces.MultiDiscrete([len(CHOICES), len(ADJUSTMENTS)]),
            description=description,
            data_format="arrow",
        )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _episodes(dataset: TransitionDataset) -> Iterator[dict[str, Any]]:
    """Arguments of an `EpisodeBuffer` for each game: observations have a row more than actions."""
    game = dataset.column("game")
    edges = np.flatnonzero(np.diff(game, prepend=-1, append=-1))
    names = dataset.games[["game_id", "session_id"]].to_dict("records")
    for start, stop, options in zip(edges[:-1], edges[1:], names, strict=True):
        steps = dataset.batch(np.arange(start, stop))
        yield {
            "observations": np.vstack([steps.observations, steps.next_observations[-1:]]),
            "actions": np.column_stack(np.divmod(steps.actions, N_ADJUSTMENTS)),
            "rewards": steps.rewards,
            "terminations": steps.terminated,
            "truncations": steps.truncated,
            "options": options,
        }
