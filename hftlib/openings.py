"""A log of every time that a report judged strategies on the test span, and which.

A span that nothing was chosen on is worth most the first time strategies are judged on it. Whoever
looks, changes something and looks again has made it a second validation span. This file
cannot prevent that, but it remembers: one line of JSON an opening, in this folder, kept when
results are rebuilt. No result depends on it.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pandas as pd

FILE = "openings.jsonl"
COLUMNS = ("opened", "stage", "first", "last", "strategies")


class Opened(NamedTuple):
    """What the log knows of one span."""

    times: int
    versions: int  # different sets of strategies
    first: str  # when it was first opened


def log_opening(
    folder: Path, *, stage: str, first: str, last: str, strategies: str
) -> pd.DataFrame:
    """Add a line to the log and return it all, oldest first, with `COLUMNS`.

    Parameters
    ----------
    folder : Path
        Of the log, `FILE`; that of other records which outlive results.
    first, last : str
        Days of the span, YYYY-MM-DD.
    strategies : str
        Hash of what was judged on it.

    Raises
    ------
    ValueError
        If a line of the log is no opening; it says which.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    values = (now, stage, first, last, strategies)
    line = json.dumps(dict(zip(COLUMNS, values, strict=True))) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, line.encode())  # one write: lines of two processes do not mix
    finally:
        os.close(descriptor)
    return read_openings(folder)


def read_openings(folder: Path) -> pd.DataFrame:
    """The log with `COLUMNS`; empty if there is none.

    Raises
    ------
    ValueError
        If a line is no opening.
    """
    rows = []
    log = folder / FILE
    lines = log.read_text().splitlines() if log.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            rows.append([row[name] for name in COLUMNS])
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                f"{log}, line {number} is no opening: {line[:60]!r}; mend or remove the line"
            ) from None
    return pd.DataFrame(rows, columns=[*COLUMNS], dtype="str")


def count_openings(openings: pd.DataFrame, first: str, last: str) -> Opened:
    """How often any day from `first` to `last` was opened, with how many sets of strategies.

    By days and not by contents: who changes a feature and looks again has looked twice.
    """
    own = openings[(openings["first"] <= last) & (openings["last"] >= first)]
    return Opened(len(own), own["strategies"].nunique(), "" if own.empty else own["opened"].iloc[0])
