"""Checkpoints of the multi-agent learners: a training that was stopped goes on bit for bit.

A file is named after everything that the training depends on, so that another
configuration starts anew beside it. The same description is kept inside and
compared before anything is taken from a file.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from hftlib.agents.multiagent import MultiAgentEnv
from hftlib.compute import hash_sources
from hftlib.paths import replace_file


def describe_training(
    algo: str, env: MultiAgentEnv, settings: Any, seed: int, fingerprint: str
) -> dict[str, Any]:
    """All that one training depends on, by name: its arguments and the code of hftlib."""
    return {
        "algo": algo,
        "n_envs": env.n_envs,
        "agents": list(env.agents),
        "state_size": env.state_size,
        "observation_spaces": [str(space) for space in env.observation_spaces],
        "action_spaces": [str(space) for space in env.action_spaces],
        "settings": asdict(settings),
        "seed": seed,
        "fingerprint": fingerprint,
        "code": hash_sources(Path(__file__).parents[1]),
        "torch": torch.__version__,
    }


def name_checkpoint(scratch: Path, about: Mapping[str, Any]) -> Path:
    """The file for the training that `describe_training` describes."""
    digest = hashlib.sha256(json.dumps(about).encode()).hexdigest()
    return scratch / f"{about['algo']}-{digest[:16]}.pt"


def save_checkpoint(path: Path, about: Mapping[str, Any], state: dict[str, Any]) -> None:
    """Write `state` beside its description; a reader sees the old file or the new one."""
    with replace_file(path) as temporary:
        torch.save({"about": json.dumps(about), "state": state}, temporary)


def load_checkpoint(path: Path, about: Mapping[str, Any]) -> Any:
    """The state that `save_checkpoint` wrote. Only for files of one's own: it holds a pickle.

    Raises
    ------
    ValueError
        If it is of another training; names the first entry that differs.
    """
    saved = torch.load(path, weights_only=False, map_location="cpu")
    kept, now = json.loads(saved["about"]), json.loads(json.dumps(about))
    check_same(path, kept, now, "set it back, or delete the file to train anew")
    return saved["state"]


def check_same(path: Path, kept: Any, now: Any, remedy: str) -> None:
    """Refuse a file whose description, plain JSON, is not that of the call.

    Raises
    ------
    ValueError
        Names the file, the first entry that differs, both values and the remedy.
    """
    theirs, ours = dict(_flatten(kept)), dict(_flatten(now))
    for name in {**theirs, **ours}:
        has, wants = (entries.get(name, "absent") for entries in (theirs, ours))
        if has != wants:
            raise ValueError(f"{path} was trained with {name}={has!r}, not {wants!r}; {remedy}")


def _flatten(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Entries of nested mappings under dotted names."""
    if not isinstance(value, dict):
        yield name, value
        return
    for key, part in value.items():
        yield from _flatten(part, f"{name}.{key}" if name else key)
