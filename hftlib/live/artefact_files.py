"""The files of an artefact: read once, checked, and told by their hashes.

A name is a plain word, a path never leaves the root, a link is never followed, a file that
nobody expects is refused, and what is used are the very bytes that were hashed.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from hftlib.live.book_manifest import BOOK_AGENT, BookManifest
from hftlib.live.graphs import GraphError, check_graph
from hftlib.live.manifest import FORMAT, Manifest, describe_faults
from hftlib.live.protocols import NAME, ModelError
from hftlib.paths import replace_folder, write_json

MANIFEST, POLICY, FORECASTER = "manifest.json", "policy.onnx", "forecaster.onnx"
FILES = (MANIFEST, POLICY, FORECASTER)
RUNS_CODE = (".pt", ".pth", ".pkl", ".pickle", ".joblib", ".npz", ".npy", ".zip", ".py", ".so")
MAX_BYTES = 256 * 2**20  # of a file
KINDS = ("single_agent", "ensemble", BOOK_AGENT)
Graphs = dict[str, bytes]
Described = TypeVar("Described", Manifest, BookManifest)


class ArtefactError(ModelError):
    """An artefact that is not served: which, what is wrong with it, and what to do."""


def read_artefact(root: Path, name: str, kind: type[Described]) -> tuple[Described, Graphs]:
    """A manifest of that class and the graphs it names, checked as `load_artefact` says."""
    check_name(name)
    folder = root / name
    if folder.is_symlink() or not folder.is_dir():
        what = "is a link" if folder.is_symlink() else "is no folder"
        known = ", ".join(list_artefacts(root)) or "none"
        raise ArtefactError(
            f"{folder} {what}; artefacts here: {known}. Write it with write_artefact()"
        )
    if folder.resolve() != root.resolve() / name:
        raise ArtefactError(f"{folder} leads out of {root}; write it with write_artefact()")
    contents = {entry.name: _read_entry(entry) for entry in sorted(folder.iterdir())}
    if MANIFEST not in contents:
        raise ArtefactError(f"{folder} has no {MANIFEST}; write it anew with write_artefact()")
    manifest = read_manifest(contents.pop(MANIFEST), str(folder), kind)
    if manifest.name != name:
        raise ArtefactError(f"{folder} calls itself {manifest.name}; rename the folder to that")
    wanted = {POLICY} | ({FORECASTER} if manifest.has_forecaster else set())
    if not manifest.files.keys() == wanted == contents.keys():
        raise ArtefactError(
            f"{folder} holds {sorted(contents)}, its manifest names {sorted(manifest.files)}, "
            f"expected {sorted(wanted)}; write it anew with write_artefact()"
        )
    for file, content in contents.items():
        found, named = describe_file(content), manifest.files[file].model_dump()
        if found != named:
            raise ArtefactError(
                f"{folder / file} is not the file that was written: {found['bytes']} bytes, sha256 "
                f"{found['sha256'][:12]}; the manifest says {named['bytes']}, "
                f"{named['sha256'][:12]}. Write the artefact anew or restore a copy"
            )
        try:
            check_graph(content)
        except GraphError as fault:
            raise ArtefactError(f"{folder / file}: {fault}") from None
    return manifest, contents


def write_files(
    root: Path,
    name: str,
    about: Mapping[str, Any],
    sources: Mapping[str, Path],
    kind: type[Described],
) -> None:
    """Write the folder of an artefact in the place of one that is there, whole or not at all.

    Parameters
    ----------
    about : of the manifest, but for its `files`
    sources : graphs by their name in the artefact

    Raises
    ------
    ArtefactError
        If the name is no name, or what is said of it is no manifest of that class.
    """
    check_name(name)
    files = {file: describe_file(path.read_bytes()) for file, path in sources.items()}
    whole = {**about, "files": files}
    try:
        text = json.dumps(whole, allow_nan=False)
    except (TypeError, ValueError) as fault:
        raise ArtefactError(
            f"{name}: params or metrics are no JSON ({fault}); write None for nan"
        ) from None
    read_manifest(text.encode(), str(root / name), kind)
    with replace_folder(root / name) as folder:
        for file, path in sources.items():
            shutil.copyfile(path, folder / file)
        write_json(folder / MANIFEST, whole)


def list_artefacts(root: Path) -> list[str]:
    """Names of the folders of `root` that hold a manifest, sorted; nothing in them is checked."""
    if not root.is_dir():
        return []
    return sorted(
        entry.name
        for entry in root.iterdir()
        if re.fullmatch(NAME, entry.name)
        and not entry.is_symlink()
        and (entry / MANIFEST).is_file()
    )


def check_name(name: str) -> None:
    """Refuse, by an `ArtefactError`, a name that could be a path or an option."""
    if not re.fullmatch(NAME, name):
        raise ArtefactError(
            f"{name!r} is no name of an artefact; expected 1 to 64 of a-z, 0-9, '_', '.', '-', the "
            "first a letter or digit"
        )


def _read_entry(entry: Path) -> bytes:
    """The bytes of one file of an artefact; links, folders and unexpected files are refused."""
    if entry.is_symlink() or not entry.is_file():
        raise ArtefactError(f"{entry} is a link or no file; put a copy of the file there")
    if entry.name not in FILES:
        why = " and may run code when read" if entry.suffix in RUNS_CODE else ""
        raise ArtefactError(
            f"{entry} is not part of an artefact{why}; remove it. Expected {', '.join(FILES)}"
        )
    # no link put there since, and no pipe that never ends
    handle = os.open(entry, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ArtefactError(f"{entry} has more than {MAX_BYTES:,} bytes; a policy is far smaller")
    return content


def read_manifest(content: bytes, where: str, kind: type[Described]) -> Described:
    """The manifest of that class, from its bytes; `where` is for the error."""
    try:
        about = json.loads(content, parse_constant=_refuse_constant)
        version, found = about.get("format"), about.get("kind")
    except (ValueError, AttributeError, RecursionError) as fault:
        raise ArtefactError(
            f"{where}: {MANIFEST} cannot be read ({fault}); write it with write_artefact()"
        ) from None
    if version != FORMAT:
        raise ArtefactError(
            f"{where} is of format {version!r}, this code reads {FORMAT}; write it anew"
        )
    kinds = get_args(kind.model_fields["kind"].annotation)
    if found in KINDS and found not in kinds:
        raise ArtefactError(
            f"{where} is of kind {found!r}, expected {' or '.join(kinds)}; name a model of that "
            "kind, or load it with ArtefactStore, which takes either"
        )
    try:
        return kind.model_validate_json(content)
    except ValidationError as fault:
        raise ArtefactError(
            f"{where}: {describe_faults(fault.errors())}; write it anew with write_artefact()"
        ) from None


def is_book_agent(root: Path, name: str) -> bool:
    """Whether an artefact calls itself one; False too where it cannot be read."""
    check_name(name)
    try:
        about = json.loads(_read_entry(root / name / MANIFEST), parse_constant=_refuse_constant)
        return bool(about["kind"] == BOOK_AGENT)
    except (ArtefactError, OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def describe_file(content: bytes) -> dict[str, Any]:
    """What a manifest says of a file."""
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
