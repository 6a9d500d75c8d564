"""Manifest of a dataset folder: what it holds, from what and how it was made.

Every file with its hash; for each split its rows, symbols, span and synthetic
rows; for each symbol the source and the hash of the bars that entered; the
hashes of the input files and the settings. No clock and no revision of the
code: equal inputs and settings give equal bytes, and which code ran stands in
`dvc.lock` beside the same hashes.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hftlib.paths import read_json, write_json

MANIFEST = "manifest.json"
CHUNK = 1 << 20


class ManifestError(ValueError):
    """A folder that is not what its manifest says."""


def write_manifest(
    folder: Path,
    *,
    splits: Mapping[str, pd.DataFrame],
    bars: pd.DataFrame,
    inputs: Mapping[str, Path],
    settings: Mapping[str, Any],
) -> None:
    """Write `manifest.json` into a folder whose other files are complete.

    Parameters
    ----------
    splits : mapping of str to frame with columns symbol, ts, is_synthetic
        Rows of each split.
    bars : frame as `schema.BARS`
        From which they were cut; those of the splits' symbols are hashed.
    inputs : mapping of str to path
        Files and folders that were read, under the names to be written.
    settings : mapping
        What shaped the dataset; values that JSON has.

    Raises
    ------
    FileNotFoundError
        If an input is not there.
    """
    symbols = sorted(set().union(*(rows["symbol"] for rows in splits.values())))
    manifest = {
        "files": {file.name: _hash_file(file) for file in _files(folder)},
        "splits": {name: _describe(rows) for name, rows in splits.items()},
        "sources": {symbol: _trace(bars[bars["symbol"] == symbol]) for symbol in symbols},
        "inputs": {name: hash_input(path) for name, path in inputs.items()},
        "settings": dict(settings),
    }
    write_json(folder / MANIFEST, manifest)


def verify_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder, if every file is the one that it names.

    Raises
    ------
    ManifestError
        If there is no manifest; else names each file that differs, is missing
        or is not among those that were written.
    """
    try:
        manifest: dict[str, Any] = read_json(folder / MANIFEST)
        named = dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ManifestError(
            f"{folder}: {MANIFEST} cannot be read ({error}); make the dataset again"
        ) from None
    here = {file.name: file for file in _files(folder)}
    faults = [f"{name} is missing" for name in sorted(named.keys() - here.keys())]
    faults += [f"{name} is not in the manifest" for name in sorted(here.keys() - named.keys())]
    for name in sorted(named.keys() & here.keys()):
        found = _hash_file(here[name])
        if found != named[name]:
            faults.append(
                f"{name} differs ({found['bytes']} bytes, sha256 {str(found['sha256'])[:12]}; "
                f"the manifest says {named[name]['bytes']}, {named[name]['sha256'][:12]})"
            )
    if faults:
        raise ManifestError(f"{folder}: {'; '.join(faults)}; make the dataset again")
    return manifest


def hash_input(path: Path) -> str:
    """sha256 of a file, or of the names and hashes of all files below a folder."""
    if path.is_file():
        return str(_hash_file(path)["sha256"])
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is not there; run the stage that writes it first")
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        line = f"{file.relative_to(path).as_posix()} {_hash_file(file)['sha256']}\n"
        digest.update(line.encode())
    return digest.hexdigest()


def hash_bars(bars: pd.DataFrame) -> str:
    """sha256 of the values of bars, whatever their index, chunks or file format."""
    digest = hashlib.sha256()
    for name in bars.columns:
        column = bars[name]
        if column.dtype.kind == "M":
            content = column.astype("int64").to_numpy().tobytes()
        elif column.dtype.kind in "fib":
            content = np.ascontiguousarray(column.to_numpy()).tobytes()
        else:
            content = "\n".join(column.astype("str")).encode()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.is_file() and file.name != MANIFEST)


def _hash_file(file: Path) -> dict[str, str | int]:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return {"sha256": digest.hexdigest(), "bytes": file.stat().st_size}


def _describe(rows: pd.DataFrame) -> dict[str, Any]:
    return {
        "rows": len(rows),
        "synthetic_rows": int(rows["is_synthetic"].sum()),
        "symbols": [str(symbol) for symbol in rows["symbol"].unique()],
        "first": rows["ts"].min().isoformat(),
        "last": rows["ts"].max().isoformat(),
    }


def _trace(bars: pd.DataFrame) -> dict[str, Any]:
    return {
        "source": ", ".join(bars["source"].unique()),
        "is_synthetic": bool(bars["is_synthetic"].any()),
        "rows": len(bars),
        "sha256": hash_bars(bars),
    }
