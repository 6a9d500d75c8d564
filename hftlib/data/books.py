"""Order books of every source: check each row, quarantine, merge, sort, write by session.

A session is one symbol's day from one source; nothing is ever mixed across
symbols, sources or days. A row that fails a check leaves the data and enters
the quarantine with its place and reason. What is left out is counted: for
every session, rows in = rows out + duplicates + superseded + quarantined.

Where several files bring one session, they may continue each other or hold
the same rows over the time that they share. The outcome does not depend on
the order of the sessions, and ingesting what was ingested changes no byte.
Sessions are read, checked and written one after the other.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from hftlib.data.book_rows import (
    NAMES,
    REFUSED,
    BooksError,
    IntArray,
    check_messages,
    check_snapshots,
    check_times,
    find_repeats,
    find_superseded,
    order_by_time,
    to_frame,
    to_values,
)
from hftlib.data.lobster_rows import Rows
from hftlib.data.partitions import Partition, list_partitions, read_partition, write_partition
from hftlib.market.tape import EXECUTE, EXECUTE_HIDDEN
from hftlib.paths import replace_folder
from hftlib.schema import MESSAGES, Schema, SchemaError, empty, snapshots, validate

DAY_NS = 86_400_000_000_000
SNAPSHOTS, TABLES = "snapshots", ("snapshots", "messages")
QUALITY = (
    *NAMES,
    "rows",
    "messages",
    "trades",
    "first",
    "last",
    "gaps",
    "longest_gap_s",
    "median_spread_ticks",
    "mean_best_lots",
    "late",
    "duplicates",
    "superseded",
    "quarantined",
    "refused_lines",
)


@dataclass(frozen=True)
class BookSession:
    """One symbol's day as one file or run tells it.

    symbol, source, session : str, as in every row; session is the UTC date, YYYY-MM-DD
    snapshots : table as `schema.snapshots(levels)`; may be empty where there are messages
    messages : table as `schema.MESSAGES`; None where the source has none
    origin : str, file or run, named in errors and in the quarantine
    refused_lines : int, lines that the file's reader refused
    """

    symbol: str
    source: str
    session: str
    snapshots: pd.DataFrame
    messages: pd.DataFrame | None
    origin: str
    refused_lines: int = 0

    @property
    def key(self) -> Partition:
        """The partition that the session becomes."""
        return Partition(self.source, self.symbol, self.session)

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Those of the two tables that have rows, by name."""
        both = zip(TABLES, (self.snapshots, self.messages), strict=True)
        return {name: table for name, table in both if table is not None and len(table)}


class IngestedBooks(NamedTuple):
    """What became of the sessions; the rows themselves are on disk.

    quality : table with the columns `QUALITY`, one row a session
        rows, messages : kept of each table; trades are messages of type 4 or 5;
        first, last : of either table; gaps : steps between snapshots longer
        than so many median steps; median_spread_ticks, mean_best_lots : over
        snapshots with both sides, nan where there is none; late : rows that
        stood behind a later one and were sorted in; duplicates : rows left out
        as said twice; superseded : snapshots left out since another of the
        same time, which differs, came after
    quarantine : table as `book_rows.REFUSED`
    """

    quality: pd.DataFrame
    quarantine: pd.DataFrame


def ingest_books(
    sessions: Iterable[BookSession],
    folder: Path,
    *,
    levels: int,
    as_of: pd.Timestamp,
    max_gap_rows: float,
) -> IngestedBooks:
    """Check and merge sessions, and write them as partitions.

    `traded_qty` is left as the source counted it, since the source's snapshot
    before, also where that one was refused.

    Parameters
    ----------
    sessions : iterable of BookSession
        Gone through once.
    folder : Path
        `snapshots/` and `messages/` below it are as `data.partitions` writes
        them. Replaced as a whole, or left as it was if anything fails.
    levels : int
        Prices a side in every table of snapshots.
    as_of : timezone-aware timestamp
        Rows later than this are in the future and are quarantined.
    max_gap_rows : float
        Steps longer than this many median steps count as gaps.

    Raises
    ------
    SchemaError
        If a table departs from its schema.
    BooksError
        If there is no session, a table has rows but no good one, rows belong
        to another session, or two files share a time but not its rows.
    """
    schemas = dict(zip(TABLES, (snapshots(levels), MESSAGES), strict=True))
    accounts: dict[Partition, _Account] = {}
    quarantine = [empty(REFUSED)]
    with replace_folder(folder) as temporary:
        for part in sessions:
            account = accounts.setdefault(part.key, _Account())
            quarantine += account.take(part, schemas, temporary, as_of.value, max_gap_rows)
        if not accounts:
            raise BooksError(f"no session to ingest; {folder} is left as it was")
    quality = pd.DataFrame(
        [account.summary(key) for key, account in sorted(accounts.items())], columns=QUALITY
    )
    refused = pd.concat(quarantine).sort_values(REFUSED.names, ignore_index=True)
    return IngestedBooks(quality, validate(refused, REFUSED))


def read_books(folder: Path) -> Iterator[BookSession]:
    """Sessions below a folder that `ingest_books` or a simulation wrote, in their order.

    Raises
    ------
    BooksError
        If there is none.
    """
    known = {table: set(list_partitions(folder / table)) for table in TABLES}
    keys = sorted(set().union(*known.values()))
    if not keys:
        raise BooksError(f"{folder} has no {' and no '.join(TABLES)}; write them first")
    for key in keys:
        tables = [
            read_partition(folder / table, key) if key in known[table] else None for table in TABLES
        ]
        book = tables[0] if tables[0] is not None else empty(snapshots(1))
        origin = "/".join((folder.name, *key))
        yield BookSession(key.symbol, key.source, key.session, book, tables[1], origin)


@dataclass
class _Account:
    """What is remembered of a session whose rows are on disk.

    spans : first and last time of the good rows of each file, by table
    """

    origins: list[str] = field(default_factory=list)
    spans: dict[str, list[tuple[int, int]]] = field(
        default_factory=lambda: {table: [] for table in TABLES}
    )
    counts: Counter[str] = field(default_factory=Counter)
    facts: dict[str, object] = field(default_factory=dict)

    def take(
        self,
        part: BookSession,
        schemas: dict[str, Schema],
        root: Path,
        as_of_ns: int,
        max_gap_rows: float,
    ) -> list[pd.DataFrame]:
        """Write the good rows of a file, merged with those of the files before.

        Returns
        -------
        list of tables as `book_rows.REFUSED`
        """
        if not part.tables:
            raise BooksError(f"{part.origin}: no row of {part.symbol} {part.session}; remove it")
        quarantine = []
        for table in part.tables:
            schema = schemas[table]
            values, refused = _clean(part, table, schema, as_of_ns, self.counts)
            quarantine.append(refused)
            values = self._merge(part, table, values, schema, root)
            frame = to_frame(values, schema, part.symbol, part.source, part.session)
            write_partition(root / table, frame, schema)
            self.facts |= _DESCRIBE[table](values, max_gap_rows)
        self.origins.append(part.origin)
        self.counts["refused_lines"] += part.refused_lines
        return quarantine

    def _merge(
        self, part: BookSession, table: str, fresh: IntArray, schema: Schema, root: Path
    ) -> IntArray:
        """Rows of the files before and of this one, which agrees with them or is refused."""
        first, last = int(fresh[0, 0]), int(fresh[-1, 0])
        spans = self.spans[table]
        if not spans:
            spans.append((first, last))
            return fresh
        known = to_values(read_partition(root / table, part.key), schema)
        is_new = np.ones(len(fresh), dtype=bool)
        for start, stop in spans:
            shared = max(first, start), min(last, stop)
            if shared[0] > shared[1]:
                continue
            before, here = (_between(values, *shared) for values in (known, fresh))
            if not np.array_equal(known[before], fresh[here]):
                begin, end = (pd.Timestamp(ts, tz="UTC") for ts in shared)
                raise BooksError(
                    f"{part.origin}: {table} of {part.symbol} {part.session} overlap with "
                    f"{', '.join(self.origins)} from {begin} to {end} but differ there; "
                    "keep one of the files, or cut one"
                )
            is_new[here] = False
        spans.append((first, last))
        self.counts["duplicates"] += int((~is_new).sum())
        return order_by_time(np.concatenate([known, fresh[is_new]]))[0]

    def summary(self, key: Partition) -> dict[str, object]:
        """The session's row of the quality table."""
        starts, stops = zip(*(s for spans in self.spans.values() for s in spans), strict=True)
        return {
            **_NOTHING,
            **{name: self.counts[name] for name in QUALITY[-5:]},
            **self.facts,
            **key._asdict(),
            "first": pd.Timestamp(min(starts), tz="UTC"),
            "last": pd.Timestamp(max(stops), tz="UTC"),
        }


def _clean(
    part: BookSession, table: str, schema: Schema, as_of_ns: int, counts: Counter[str]
) -> tuple[IntArray, pd.DataFrame]:
    """Good rows in time order, each once, and the refused ones."""
    frame = part.tables[table]
    try:
        values = to_values(frame, schema)
    except SchemaError as error:
        raise SchemaError(f"{part.origin}: {error}") from None
    names = {name: getattr(part, name) for name in NAMES}
    for name, value in names.items():
        if (frame[name] != value).any():
            found = ", ".join(sorted(map(str, frame[name].unique())))
            raise BooksError(
                f"{part.origin}: {table} of {name} {found} in the session of {name} {value}; "
                "give each session its own rows"
            )
    rows = Rows(part.origin, b"", values, np.full(len(values), "", dtype=object))
    check_times(rows, _day_ns(part), as_of_ns)
    (check_snapshots if table == SNAPSHOTS else check_messages)(rows)
    refused = _refused(rows, {**names, "table": table})
    if len(refused) == len(values):
        reasons = ", ".join(refused["reason"].value_counts().index)
        raise BooksError(
            f"{part.origin}: none of {len(values)} {table} of {part.symbol} {part.session} is "
            f"good; reasons: {reasons}"
        )
    if len(refused):
        values = values[rows.is_good]
    values, n_late = order_by_time(values)
    if table == SNAPSHOTS:
        is_repeat, is_superseded = find_superseded(values)
    else:
        is_repeat = find_repeats(values)
        is_superseded = np.zeros_like(is_repeat)
    counts["late"] += n_late
    counts["duplicates"] += int(is_repeat.sum())
    counts["superseded"] += int(is_superseded.sum())
    counts["quarantined"] += len(refused)
    gone = is_repeat | is_superseded
    return (values[~gone] if gone.any() else values), refused


def _refused(rows: Rows, names: dict[str, str]) -> pd.DataFrame:
    at = np.flatnonzero(~rows.is_good)
    table = {
        **names,
        "origin": rows.file,
        "row": at,
        "reason": rows.reason[at],
        "text": [",".join(map(str, row)) for row in rows.values[at].tolist()],
    }
    frame = pd.DataFrame(table, index=range(len(at)))
    return frame.astype({column.name: column.dtype for column in REFUSED.columns})[REFUSED.names]


def _day_ns(part: BookSession) -> tuple[int, int]:
    """First nanosecond of the session's day, and of the day after."""
    try:
        day = date.fromisoformat(part.session)
    except ValueError:
        day = None
    if day is None or str(day) != part.session:
        raise BooksError(f"{part.origin}: session {part.session!r} is not a day YYYY-MM-DD")
    start = (day - date(1970, 1, 1)).days * DAY_NS
    return start, start + DAY_NS


def _between(values: IntArray, first: int, last: int) -> slice:
    """Rows whose times are in [first, last]."""
    ts = values[:, 0]
    return slice(
        int(np.searchsorted(ts, first, side="left")), int(np.searchsorted(ts, last, side="right"))
    )


_NOTHING: dict[str, object] = {
    "rows": 0,
    "messages": 0,
    "trades": 0,
    "gaps": 0,
    "longest_gap_s": np.nan,
    "median_spread_ticks": np.nan,
    "mean_best_lots": np.nan,
}


def _describe_snapshots(values: IntArray, max_gap_rows: float) -> dict[str, object]:
    steps = np.diff(values[:, 0])
    both = values[(values[:, 1] > 0) & (values[:, 2] > 0), 1:5]
    return {
        "rows": len(values),
        "gaps": int((steps > max_gap_rows * np.median(steps)).sum()) if len(steps) else 0,
        "longest_gap_s": float(steps.max() / 1e9) if len(steps) else np.nan,
        "median_spread_ticks": float(np.median(both[:, 1] - both[:, 0])) if len(both) else np.nan,
        "mean_best_lots": float(both[:, 2:].mean()) if len(both) else np.nan,
    }


def _describe_messages(values: IntArray, _: float) -> dict[str, object]:
    is_trade = np.isin(values[:, 1], (EXECUTE, EXECUTE_HIDDEN))
    return {"messages": len(values), "trades": int(is_trade.sum())}


_DESCRIBE = {SNAPSHOTS: _describe_snapshots, "messages": _describe_messages}
