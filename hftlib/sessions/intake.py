"""The user's folder of captured play: what its files are, and what became of their lines."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from hftlib.data.depth_lines import LineError, read_lines
from hftlib.sessions.captures import import_capture
from hftlib.sessions.game import verify

CAPTURE_COLUMNS = ["lines", "events", "blank", "malformed", "lists", "lost", "duplicate_ticks"]
GAME_COLUMNS = ["file", "line", "game_id", "ticks", "is_fair", "faults"]


def list_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Captures and files of finished games below a folder, sorted by name.

    The first line tells: a record with `prices` is a game, anything else a capture.
    """
    captures: list[Path] = []
    games: list[Path] = []
    for path in sorted([*folder.rglob("*.jsonl"), *folder.rglob("*.jsonl.gz")]):
        record, _ = next(_read_records(path), ({}, None))
        (games if "prices" in record else captures).append(path)
    return captures, games


def import_captures(paths: list[Path], root: Path) -> pd.DataFrame:
    """Put captures into the store below `root`; a row says what became of each one's lines.

    Raises
    ------
    ValueError
        If two files would be one session, which the name up to its first dot says.
    """
    sessions: dict[str, Path] = {}
    for path in paths:
        other = sessions.setdefault(path.name.split(".")[0], path)
        if other != path:
            raise ValueError(f"{other} and {path} would replace each other; rename one of them")
    rows = [
        [
            report.n_lines,
            report.n_events,
            report.n_blank,
            len(report.malformed),
            report.n_lists,
            report.n_lost,
            report.n_duplicate_ticks,
        ]
        for report in (import_capture(path, root) for path in paths)
    ]
    return pd.DataFrame(rows, index=[path.name for path in paths], columns=CAPTURE_COLUMNS)


def verify_games(paths: list[Path]) -> pd.DataFrame:
    """Play finished games again from their seeds: a row a line, `faults` empty for a fair game."""
    rows: list[list[Any]] = []
    for path in paths:
        for number, (record, fault) in enumerate(_read_records(path), start=1):
            try:
                if fault is not None:
                    raise ValueError(fault)
                found = verify(record)
            except ValueError as error:
                rows.append([path.name, number, record.get("id"), None, False, str(error)])
            else:
                n_ticks = len(record["prices"]) - 1
                faults = "; ".join(found.faults)
                rows.append([path.name, number, found.game_id, n_ticks, found.is_fair, faults])
    return pd.DataFrame(rows, columns=GAME_COLUMNS)


def _read_records(path: Path) -> Iterator[tuple[dict[str, Any], str | None]]:
    """The object of each line, or an empty one and the fault."""
    try:
        for line in read_lines(path):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield {}, f"malformed JSON: {error}"
            else:
                yield (record, None) if isinstance(record, dict) else ({}, "expected an object")
    except LineError as error:
        yield {}, str(error)
