"""The registry of served models: versions are only ever added, one of them is the champion.

`data/served` belongs to the service and not to the pipeline: what is rebuilt changes nothing that
is served. A version is named after its model and a hash of all that decides its answers, so that
the same content is registered once. `champion.json` names the version that is served, since when
and by which decision, with those before it. Every file is written whole: after a crash at any
instruction the old champion or the new one is served.

`python -m hftlib.live.models` lists the registered models; with a name it makes that one the
champion, without a contest.
"""

import argparse
import fcntl
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, JsonValue, ValidationError

from hftlib.live.artefact import (
    FORECASTER,
    MANIFEST,
    POLICY,
    ArtefactError,
    check_name,
    list_artefacts,
)
from hftlib.live.book_artefact import load_either
from hftlib.live.book_manifest import BookManifest
from hftlib.live.logs import log_event
from hftlib.live.manifest import Manifest, Name, describe_faults
from hftlib.paths import Paths, project_root, replace_folder, write_json

POINTER, LOCK = "champion.json", ".lock"
FIRST_CHOICE = "ensemble"
ANSWERS = {"files", "policy", "scaler", "forecaster", "zscore_bars", "regimes", "symbols", "rules"}
ANSWERS |= {"role", "market"}  # of agents of the book
CHOOSE = "choose one with `python -m hftlib.live.models NAME`"


class Reign(BaseModel):
    """One version as champion: since when, and by which decision."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Name
    since: AwareDatetime
    decision: dict[str, JsonValue]


class Champion(Reign):
    """The version that is served, and those before it, the oldest first."""

    history: tuple[Reign, ...]

    @property
    def reigns(self) -> tuple[Reign, ...]:
        """All, this one last."""
        return (*self.history, Reign(name=self.name, since=self.since, decision=self.decision))


def name_version(manifest: Manifest | BookManifest) -> str:
    """Name of a model with 8 digits of the hash of all that decides its answers."""
    return f"{manifest.name}-{hashlib.sha256(_list_answers(manifest)).hexdigest()[:8]}"


def register(exported: Path, name: str, served: Path) -> str:
    """Copy the artefact `exported / name` into the registry, under the name that is returned.

    One that is registered already stays as it is.

    Raises
    ------
    ArtefactError
        As `load_either`, of the exported one or of a registered one of that name.
    """
    artefact = load_either(exported, name)
    registered = name_version(artefact.manifest)
    check_name(registered)
    if not (served / registered).exists():
        with replace_folder(served / registered) as folder:
            (folder / POLICY).write_bytes(artefact.policy)
            if artefact.forecaster is not None:
                (folder / FORECASTER).write_bytes(artefact.forecaster)
            about = artefact.manifest.model_dump(mode="json") | {"name": registered}
            write_json(folder / MANIFEST, about)
    found = load_either(served, registered)
    if _list_answers(found.manifest) != _list_answers(artefact.manifest):
        raise ArtefactError(f"{served / registered} holds another model; move it away")
    return registered


def read_champion(served: Path) -> Champion | None:
    """The champion, its artefact checked; None if there has never been one.

    Raises
    ------
    ArtefactError
        If the pointer cannot be read, or its model is gone or broken; it says what to do.
    """
    champion = _read_pointer(served)
    if champion is not None:
        try:
            load_either(served, champion.name)
        except ArtefactError as fault:
            raise ArtefactError(
                f"{served / POINTER} names {champion.name}, which cannot be served: {fault}. "
                f"Restore its folder, or {CHOOSE}"
            ) from None
    return champion


def set_champion(served: Path, name: str, decision: Mapping[str, Any]) -> None:
    """Make a registered model the champion; nothing is written if it is.

    Parameters
    ----------
    decision : mapping
        Why, for JSON: as `Decision.to_dict`, or `explain` of what was no contest.

    Raises
    ------
    ArtefactError
        If the model cannot be loaded, or there is a pointer that cannot be read.
    """
    load_either(served, name)
    before = _read_pointer(served)
    if before is not None and before.name == name:
        return
    champion = Champion(
        name=name,
        since=datetime.now(UTC).replace(microsecond=0),
        decision=dict(decision),
        history=() if before is None else before.reigns,
    )
    write_json(served / POINTER, champion.model_dump(mode="json"))


def explain(text: str) -> dict[str, Any]:
    """A decision without a contest."""
    return {"reasons": [{"name": "no contest", "is_met": True, "text": text}]}


def found_registry(exported: Path, served: Path) -> str:
    """Register all that is exported and make the ensemble, or else the first, the champion.

    Returns its name, "" if nothing is exported. Raises `ArtefactError` as `register`.
    """
    names = list_artefacts(exported)
    if not names:
        return ""
    registered = {name: register(exported, name, served) for name in names}
    champion = registered.get(FIRST_CHOICE, registered[names[0]])
    set_champion(served, champion, explain("the registry was empty"))
    log_event("registered", models=[*registered.values()], champion=champion)
    return champion


def choose_model(exported: Path, served: Path) -> str:
    """The model a service begins with; an empty registry takes in what is exported.

    Returns
    -------
    str
        The champion; without one the first registered model; "" if there is none either.

    Raises
    ------
    ArtefactError
        As `read_champion` and `found_registry`.
    """
    champion = read_champion(served)
    if champion is not None:
        return champion.name
    names = list_artefacts(served)
    if names or not list_artefacts(exported):
        return names[0] if names else ""
    with lock_registry(served):
        return found_registry(exported, served)


@contextmanager
def lock_registry(served: Path) -> Iterator[None]:
    """Keep others from changing the registry; the lock dies with its process.

    Raises
    ------
    ArtefactError
        If another process holds it.
    """
    served.mkdir(parents=True, exist_ok=True)
    with (served / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ArtefactError(
                f"{served}: another process retrains or chooses a model; wait until it is done, "
                "or stop it"
            ) from None
        yield


def _list_answers(manifest: Manifest | BookManifest) -> bytes:
    return json.dumps(manifest.model_dump(mode="json", include=ANSWERS), sort_keys=True).encode()


def _read_pointer(served: Path) -> Champion | None:
    """The champion as written; whether there is such a model is not checked."""
    path = served / POINTER
    if not path.exists():
        return None
    try:
        return Champion.model_validate_json(path.read_bytes())
    except ValidationError as fault:
        raise ArtefactError(
            f"{path} names no champion ({describe_faults(fault.errors())}); restore it, or move it "
            f"away and {CHOOSE}"
        ) from None


def main(arguments: list[str] | None = None) -> int:
    """List the registered models, or make one the champion."""
    parser = argparse.ArgumentParser(prog="python -m hftlib.live.models", description=main.__doc__)
    parser.add_argument("name", nargs="?", help="the model to serve from the next start on")
    name = parser.parse_args(arguments).name
    served = Paths(project_root()).served
    try:
        if name is not None:
            with lock_registry(served):
                set_champion(served, name, explain("chosen by hand"))
        champion = _read_pointer(served)
    except ArtefactError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    for one in list_artefacts(served):
        is_champion = champion is not None and champion.name == one
        sys.stdout.write(f"{'*' if is_champion else ' '} {one}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
