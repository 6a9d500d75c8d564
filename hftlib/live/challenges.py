"""The journal of contests between champion and challengers, and the level each is held to.

Whoever trains often enough and looks each time finds a winner. So every contest is written down, in
a folder that outlives results, and the k-th that a champion stands, on whatever bars, is held to
level / (k (k + 1)): these add up to the level, however many follow, where a division by k would
not. So the chance of ever promoting a challenger that is no better, while one champion reigns, is
at most the level. The same contest again is no further look, and gets the same answer. A champion
that comes back goes on where its count stood.

Source: Robertson, Wason & Ramdas (2023), Online multiple hypothesis testing, Statistical Science
38(4), for spending a level on tests that arrive one by one.
"""

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from hftlib.evaluation.champion import Decision, decide_champion

FILE = "challenges.jsonl"
LEAST_REPLICATIONS = 9_999


class Challenge(NamedTuple):
    """One contest: registered names, times of the first and last return in ISO format, UTC."""

    champion: str
    challenger: str
    first: str
    last: str


def judge(
    champion: pd.Series,
    challenger: pd.Series,
    names: tuple[str, str],
    folder: Path,
    *,
    seen_until: pd.Timestamp,
    level: float,
    seed: int,
) -> tuple[Decision, int]:
    """The decision, written down, and the how-manieth contest of this champion it is.

    Parameters
    ----------
    champion, challenger : series of simple returns, times (UTC) as index
    names : tuple of str
        Their registered names, in that order.
    folder : Path
        Of the journal, `FILE`.

    Raises
    ------
    ValueError
        As `decide_champion`; if a line of the journal is no contest.
    """
    first, last = (champion.index[k].isoformat() for k in (0, -1))
    this = Challenge(*names, first, last)
    rank = rank_challenge(read_challenges(folder), this)
    share = level / (rank * (rank + 1))
    found = decide_champion(
        champion,
        challenger,
        seen_until=seen_until,
        n_bootstrap=max(LEAST_REPLICATIONS, round(2 / share)),
        seed=seed,
        n_challengers=rank,
        level=level / (rank + 1),
    )
    said = found.to_dict()
    line = this._asdict() | {key: said[key] for key in ("n_bars", "promote", "p_value", "level")}
    _append(folder, {"judged": datetime.now(UTC).isoformat(timespec="seconds")} | line)
    return found, rank


def rank_challenge(past: Sequence[Challenge], this: Challenge) -> int:
    """The place of a contest among the different ones of its champion, 1 for the first."""
    stood = [one for one in past if one.champion == this.champion]
    return list(dict.fromkeys([*stood, this])).index(this) + 1


def read_challenges(folder: Path) -> list[Challenge]:
    """All contests of the journal, oldest first.

    Raises
    ------
    ValueError
        If a line is no contest; it says which.
    """
    log = folder / FILE
    found = []
    for number, line in enumerate(log.read_text().splitlines() if log.exists() else [], 1):
        try:
            row = json.loads(line)
            found.append(Challenge(*(str(row[name]) for name in Challenge._fields)))
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                f"{log}, line {number} is no contest: {line[:60]!r}; mend or remove the line"
            ) from None
    return found


def _append(folder: Path, row: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, (json.dumps(row, allow_nan=False) + "\n").encode())
    finally:
        os.close(descriptor)
