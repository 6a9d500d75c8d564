"""Checkpoints of the multi-agent learners: a training that was stopped goes on bit for bit.

A file is named after everything that the training depends on, so that another
configuration never finds it. One that is named by hand is compared with the
settings of the call before anything is taken from it.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from hftlib.agents.multiagent import MultiAgentEnv
from hftlib.compute import hash_sources
from hftlib.paths import replace_file


def name_checkpoint(
    scratch: Path, algo: str, env: MultiAgentEnv, settings: Any, seed: int, fingerprint: str
) -> Path:
    """The file for one training: a hash of its arguments and of the code of hftlib."""
    spaces = [str(space) for space in (*env.observation_spaces, *env.action_spaces)]
    about = [algo, env.n_envs, env.agents, env.state_size, spaces, asdict(settings), seed]
    about += [fingerprint, hash_sources(Path(__file__).parents[1]), torch.__version__]
    digest = hashlib.sha256(json.dumps(about).encode()).hexdigest()
    return scratch / f"{algo}-{digest[:16]}.pt"


def save_checkpoint(path: Path, settings: Any, state: dict[str, Any]) -> None:
    """Write `state` beside the settings; a reader sees the old file or the new one."""
    with replace_file(path) as temporary:
        torch.save({"settings": asdict(settings), "state": state}, temporary)


def load_checkpoint(path: Path, settings: Any, device: torch.device | str = "cpu") -> Any:
    """The state that `save_checkpoint` wrote. Only for files of one's own: it holds a pickle.

    Raises
    ------
    ValueError
        If it was written under other settings; names the first field that differs.
    """
    saved = torch.load(path, weights_only=False, map_location=device)
    theirs, ours = saved["settings"], asdict(settings)
    for field in sorted(theirs.keys() | ours.keys()):
        if theirs.get(field) != ours.get(field):
            raise ValueError(
                f"{path} was trained with {field}={theirs.get(field)!r}, not {ours.get(field)!r}; "
                f"set {field} back, or delete the file to train anew"
            )
    return saved["state"]
