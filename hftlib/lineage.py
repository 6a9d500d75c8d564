"""Where a result comes from: code revision, and hashes of what a stage depends on.

The hashes are DVC's, computed from the files as they are now: while a stage
runs, `dvc.lock` still holds those of the run before.
"""

import hashlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml


def describe_lineage(name: str, values: Mapping[str, Any], root: Path) -> dict[str, str]:
    """Revision and hash of every dependency of the stage that runs the notebook `name`.

    Parameters
    ----------
    name : str
        Of the notebook, such as `41_single_agent`.
    values : mapping
        Those of the stage's matrix.

    Returns
    -------
    dict
        `git` and, under `dvc.<path>`, the MD5 of each dependency as in `dvc.lock`; "absent" for
        one that does not exist.

    Raises
    ------
    ValueError
        If no stage runs that notebook.
    """
    stage = find_stage(name, root)
    if not stage:
        raise ValueError(
            f"{root / 'dvc.yaml'} has no stage that runs {name}; add it, or mend the name"
        )
    paths = [fill_matrix(path, values) for path in stage.get("deps", [])]
    code = [path for path in paths if not path.startswith(("data/", "reports/"))]
    found = {"git": revision(root, [*code, f"notebooks/{name}.ipynb"])}
    return found | {f"dvc.{path}": hash_path(root / path) for path in paths}


def find_stage(name: str, root: Path) -> dict[str, Any]:
    """The entry of `dvc.yaml` that runs the notebook `name`; empty if there is none."""
    stages = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    for stage in stages.values():
        if f"run {name}" in stage["cmd"]:
            found: dict[str, Any] = stage
            return found
    return {}


def fill_matrix(text: str, values: Mapping[str, Any]) -> str:
    """An entry of a stage with the values of its matrix put in."""
    for key, value in values.items():
        text = text.replace("${item." + key + "}", str(value))
    return text


def revision(root: Path, paths: Sequence[str]) -> str:
    """Last commit that touched `paths`, marked when they have changed since; no git is said so."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    top = git("rev-parse", "--show-toplevel")
    commit = git("log", "-1", "--format=%h of %cs", "--", *paths, "params.yaml")
    if top is None or Path(top).resolve() != root.resolve() or not commit:
        return "not under git"
    changed = git("status", "--porcelain", "--", *paths, "params.yaml")
    return f"{commit}, with uncommitted changes" if changed else commit


def hash_path(path: Path) -> str:
    """MD5 of a file or folder exactly as DVC computes it."""
    if not path.exists():
        return "absent"
    if path.is_file():
        return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    entries = [
        {"md5": hash_path(file), "relpath": file.relative_to(path).as_posix()}
        for file in sorted(path.rglob("*"), key=lambda file: file.relative_to(path).parts)
        if file.is_file() and "__pycache__" not in file.parts
    ]
    listing = json.dumps(entries, sort_keys=True).encode()
    return hashlib.md5(listing, usedforsecurity=False).hexdigest() + ".dir"
