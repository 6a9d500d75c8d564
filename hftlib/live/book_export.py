"""What stage 42 has trained, as an artefact for the service: the executor of the teams."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hftlib.agents.actor_export import export_actors, read_team
from hftlib.agents.learnt import Weights
from hftlib.envs.roles import Executor
from hftlib.envs.rules import MarketSettings
from hftlib.live.artefact import POLICY, ArtefactError
from hftlib.live.book_artefact import BookArtefact, write_book_artefact
from hftlib.paths import read_json

AGENT = "executor"


def export_book_agent(
    root: Path,
    name: str,
    folder: Path,
    *,
    symbols: Sequence[str],
    git_revision: str,
    params: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> BookArtefact:
    """Write the executor of all seeds of a folder of teams as `root / name`.

    Parameters
    ----------
    root : folder of the artefacts
    folder : with manifest and seeds, as stage 42 leaves it
    symbols : that it is to answer for; books of the simulator, which the teams know, have none
    params, metrics : values for JSON

    Raises
    ------
    ArtefactError
        If a team has no executor, or two were trained in different markets.
    FileNotFoundError
        If the manifest or a seed's file is not there.
    """
    about = read_json(folder / "manifest.json")
    seeds, scenes = read_teams(folder)
    for k, scene in enumerate(scenes):
        if scene != scenes[0]:
            raise ArtefactError(f"seed {k} of {folder} was trained in another market; train anew")
    role, market = read_scene(scenes[0])
    with TemporaryDirectory() as scratch:
        policy = Path(scratch) / POLICY
        export_actors(policy, seeds, AGENT, role)
        return write_book_artefact(
            root,
            name,
            version=hashlib.sha256(policy.read_bytes()).hexdigest()[:8],
            policy=policy,
            algo=about["algo"],
            n_seeds=len(seeds),
            role=role,
            market=market,
            symbols=symbols,
            git_revision=git_revision,
            params=params,
            metrics=metrics,
        )


def read_teams(folder: Path) -> tuple[list[Weights], list[dict[str, Any]]]:
    """Weights of every seed of a folder, in the seeds' order, and what each was trained in."""
    n_seeds = len(read_json(folder / "manifest.json")["seeds"])
    teams = [read_team(folder / f"seed_{k}.npz") for k in range(n_seeds)]
    return [weights for weights, _ in teams], [scene for _, scene in teams]


def read_scene(scene: Mapping[str, Any]) -> tuple[Executor, MarketSettings]:
    """Executor and market out of a team's description of its scene."""
    fields = dict(scene["roles"].get(AGENT, {}))
    if fields.pop("kind", None) != Executor.kind:
        raise ArtefactError(f"the team has no {AGENT}; it has {', '.join(scene['roles'])}")
    return Executor(**fields), MarketSettings(**scene["market"])
