"""Artefacts of agents of the order book: as `artefact`, with a manifest of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hftlib.envs.roles import Executor
from hftlib.envs.rules import MarketSettings
from hftlib.live.artefact import Artefact, load_artefact
from hftlib.live.artefact_files import (
    POLICY,
    is_book_agent,
    read_artefact,
    write_files,
)
from hftlib.live.book_manifest import BOOK_AGENT, BookManifest
from hftlib.live.manifest import FORMAT


@dataclass(frozen=True)
class BookArtefact:
    """A manifest and the graph whose hash it names; there is never a forecaster."""

    manifest: BookManifest
    policy: bytes
    forecaster: None = None

    def describe(self) -> dict[str, Any]:
        """What a table of artefacts says of it."""
        about, role = self.manifest, self.manifest.build_role()
        return {
            "version": about.version,
            "members": f"{about.n_seeds} x {about.algo}",
            "features": len(about.observation),
            "window": about.build_market().episode_steps,
            "action": f"{-role.parent_lots} to {role.parent_lots}",
            "KiB": round(sum(file.bytes for file in about.files.values()) / 1024),
            "sha256 of the policy": about.files[POLICY].sha256[:12],
        }


def write_book_artefact(
    root: Path,
    name: str,
    *,
    version: str,
    policy: Path,
    algo: str,
    n_seeds: int,
    role: Executor,
    market: MarketSettings,
    symbols: Sequence[str],
    git_revision: str,
    params: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> BookArtefact:
    """Write the folder `root / name`, in the place of one that is there, and load it.

    Parameters
    ----------
    policy : file of `export_actors`
    role, market : that the agent was trained with
    params, metrics : values for JSON, none of them nan

    Raises
    ------
    ArtefactError
        If the name is no name, or a value does not fit the manifest.
    """
    about = {
        "format": FORMAT,
        "name": name,
        "version": version,
        "kind": BOOK_AGENT,
        "algo": algo,
        "n_seeds": n_seeds,
        "agent": role.kind,
        "observation": role.observation_names,
        "role": asdict(role),
        "market": asdict(market),
        "symbols": tuple(symbols),
        "git_revision": git_revision,
        "params": dict(params or {}),
        "metrics": dict(metrics or {}),
    }
    write_files(root, name, about, {POLICY: policy}, BookManifest)
    return load_book_artefact(root, name)


def load_book_artefact(root: Path, name: str) -> BookArtefact:
    """The artefact of a name, checked as by `load_artefact`; `ArtefactError` if a check fails."""
    manifest, graphs = read_artefact(root, name, BookManifest)
    return BookArtefact(manifest, graphs[POLICY])


def load_either(root: Path, name: str) -> Artefact | BookArtefact:
    """The artefact of a name, whichever its kind; `ArtefactError` if a check fails."""
    return (
        load_book_artefact(root, name) if is_book_agent(root, name) else load_artefact(root, name)
    )
