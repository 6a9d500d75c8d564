"""Writing the event store: rows of one recording into Parquet files that are whole or absent.

`<root>/events_parquet/doc_type=<t>/date=YYYY-MM-DD/<YYYYmmdd_HHMMSS_ffffff>_<uuid8>.parquet`

Rows wait in a buffer; a flush writes one file for each document type and day
under a temporary name, brings it to the disk and renames it. A process that
dies loses the buffer and leaves no half of a file. A file is named after its
first row's time and its place in the recording, not after the wall clock, so
that the same recording gives the same files.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hftlib.sessions.event_rows import (
    COLUMNS,
    DAY_NS,
    SCHEMA,
    check_columns,
    check_row,
    parse_time,
    parse_times,
)

EVENTS: Final = "events_parquet"
ROW_GROUP: Final = 65_536  # rows; what a reader decodes or skips at once
UNIQUE = ("seq", "ts", "raw_json")  # a dictionary of their values would hold nearly every row
REPEATED = [name for name in COLUMNS if name not in UNIQUE]
EARLIEST: Final = -(2**63)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class EventWriter:
    """Buffered writer of one session; a context manager that flushes when left, also by an error.

    Writers of different sessions may share a root. A session written again
    with the same rows and flushes replaces its files by equal ones.

    Parameters
    ----------
    root : Path
        Folder that holds `events_parquet`.
    session_id : str
        Recording client; every row must name it.
    max_events : int
        Rows after which the buffer is flushed.
    max_seconds : float
        Age of the oldest buffered row, seconds, at which a write flushes. A
        buffer that nothing is written to waits for the next write or `close`.
    clock : callable
        Seconds, rising.
    """

    def __init__(
        self,
        root: Path,
        session_id: str,
        *,
        max_events: int = 100,
        max_seconds: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not session_id:
            raise ValueError("session_id is empty; name the recording")
        if max_events < 1 or not max_seconds > 0:
            raise ValueError(
                f"max_events={max_events}, max_seconds={max_seconds}: expected at least one row "
                "and a positive number of seconds"
            )
        self.session_id = session_id
        self._folder = Path(root) / EVENTS
        self._max_events, self._max_seconds, self._clock = max_events, max_seconds, clock
        self._rows: list[dict[str, Any]] = []  # from `write`, in order
        self._tables: list[pa.Table] = []  # older than `_rows`
        self._n_waiting = 0
        self._waiting_since = 0.0
        self._n_files = 0
        self._last_name_ns: dict[str, int] = {}  # by document type
        self._is_closed = False

    def write(self, row: Mapping[str, Any]) -> None:
        """Add one row; columns it lacks are null, numbers in decimal columns become text.

        Raises
        ------
        RowError
            If a column is unknown, missing or of a wrong type, `ts` is not as
            `event_rows.iso_time` writes it, or a word is not in the vocabulary.
            Nothing of the row is kept.
        OSError
            If a flush that is due fails; the row waits with the others.
        """
        self._refuse_closed()
        self._rows.append(check_row(row, self.session_id))
        self._count(1)

    def write_columns(self, columns: Mapping[str, Sequence[Any] | pa.Array]) -> None:
        """Add many rows of one or several document types; columns not given are null.

        Parameters
        ----------
        columns : mapping from a column's name to n values

        Raises
        ------
        RowError
            As `write`, with the row's number; or if the lengths differ. Nothing
            of these rows is kept.
        """
        self._refuse_closed()
        table = check_columns(columns, self.session_id)
        self._gather_rows()
        self._tables.append(table)
        self._count(len(table))

    def flush(self) -> None:
        """Write what waits. After an error what is not on disk still waits."""
        self._gather_rows()
        if self._tables:
            self._tables = list(_split(pa.concat_tables(self._tables)))
        while self._tables:
            self._write_file(self._tables[0])
            self._n_waiting -= len(self._tables.pop(0))

    def close(self) -> None:
        """Flush; the writer takes no more rows."""
        self.flush()
        self._is_closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise ValueError(f"session {self.session_id}: the writer is closed; open a new one")

    def _count(self, n: int) -> None:
        now = self._clock()
        if not self._n_waiting:
            self._waiting_since = now
        self._n_waiting += n
        if self._n_waiting >= self._max_events or now - self._waiting_since >= self._max_seconds:
            self.flush()

    def _gather_rows(self) -> None:
        if self._rows:
            columns = {name: [row.get(name) for row in self._rows] for name in COLUMNS}
            self._tables.append(pa.table(columns, schema=SCHEMA))
            self._rows = []

    def _write_file(self, part: pa.Table) -> None:
        """Write rows of one document type and day."""
        doc_type, stamp = str(part["doc_type"][0]), str(part["ts"][0])
        # A clock set back must not put a later file before an earlier one.
        name_ns = max(parse_time(stamp), self._last_name_ns.get(doc_type, EARLIEST) + 1000)
        place = hashlib.sha256(f"{self.session_id}/{self._n_files}".encode()).hexdigest()[:8]
        folder = self._folder / f"doc_type={doc_type}" / f"date={stamp[:10]}"
        folder.mkdir(parents=True, exist_ok=True)
        while _is_of_another_session(path := folder / _name(name_ns, place), self.session_id):
            name_ns += 1000
        _write_whole(part, path)
        self._last_name_ns[doc_type] = name_ns
        self._n_files += 1


def _split(table: pa.Table) -> Iterator[pa.Table]:
    """Rows of one document type and day each, in order; types in order of appearance."""
    kinds = pc.unique(table["doc_type"]).to_pylist()
    for kind in kinds:
        part = table.filter(pc.equal(table["doc_type"], kind)) if len(kinds) > 1 else table
        days = parse_times(part["ts"]) // DAY_NS
        edges = [0, *(np.flatnonzero(np.diff(days)) + 1).tolist(), len(part)]
        for start, stop in pairwise(edges):
            yield part.slice(start, stop - start)


def _name(ns: int, place: str) -> str:
    return f"{EPOCH + timedelta(microseconds=ns // 1000):%Y%m%d_%H%M%S_%f}_{place}.parquet"


def _is_of_another_session(path: Path, session_id: str) -> bool:
    """Eight digits are few for ten thousand sessions that begin at the same moment."""
    try:
        with pq.ParquetFile(path) as file:
            batch = next(file.iter_batches(1, columns=["session_id"]))
        return str(batch["session_id"][0]) != session_id
    except (OSError, pa.ArrowException):
        return False  # none there, or damaged


def _write_whole(part: pa.Table, path: Path) -> None:
    """`paths.replace_file` names its temporaries `*.parquet`, which other tools' globs match."""
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("wb") as stream:
            pq.write_table(
                part,
                stream,
                row_group_size=ROW_GROUP,
                compression="zstd",
                use_dictionary=REPEATED,
                write_statistics=REPEATED,
                write_page_checksum=True,
            )
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
