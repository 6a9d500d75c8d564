"""Reading the event store in batches of bounded size, with every oddity counted.

Only the files of the document type that is asked for are opened, and only row
groups whose statistics can match the filters are decoded. A damaged file costs
itself, never the run; `EventReader.report` says what was left out, and where.
"""

import glob
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as fs
import pyarrow.parquet as pq

from hftlib.sessions.event_rows import (
    COLUMNS,
    REQUIRED,
    SCHEMA,
    VERSION_KEY,
    IntArray,
    holds,
    is_time,
    parse_times,
)
from hftlib.sessions.store import EVENTS
from hftlib.sessions.vocabulary import DOC_TYPES, KNOWN_EVENTS, SCHEMA_VERSION, WS_EVENT

BoolArray = npt.NDArray[np.bool_]

BATCH_BYTES: Final = 2**26  # a batch holds fewer rows where they are long
READ_BYTES: Final = 2**20
DOC_TYPE_KEY = re.compile(r"doc_type=([^/]*)/")
DATE_KEY = re.compile(r"date=\d{4}-\d{2}-\d{2}/")
FORMAT = ds.ParquetFileFormat()
KNOWN_NAMES = pa.array(sorted(KNOWN_EVENTS))


@dataclass
class Fault:
    """What is odd in a file: how many rows it touches, and the first, counted from 0."""

    n_rows: int = 0
    first_row: int | None = None


@dataclass
class ReadReport:
    """What was met since the reader was opened.

    n_files, n_rows : int, files opened; rows decoded, before the filters
    n_taken : int, rows handed out
    n_passed_over : int, rows of row groups that the statistics ruled out
    faults : by (file, what is odd)
    unknown_events : rows by an event name that is not in the vocabulary, of the rows
        decoded, before the filters; `faults` says in which file and from which row on.
        What the statistics rule out is not looked into
    """

    n_files: int = 0
    n_rows: int = 0
    n_taken: int = 0
    n_passed_over: int = 0
    faults: dict[tuple[str, str], Fault] = field(default_factory=dict)
    unknown_events: Counter[str] = field(default_factory=Counter)

    def note(self, file: str, kind: str, n_rows: int = 0, first_row: int | None = None) -> None:
        """Count a fault; repeats add their rows."""
        fault = self.faults.setdefault((file, kind), Fault(first_row=first_row))
        fault.n_rows += n_rows
        if first_row is not None and fault.first_row is not None:
            fault.first_row = min(fault.first_row, first_row)

    def describe(self) -> list[str]:
        """Faults, one a line, sorted by file."""
        lines = []
        for (file, kind), fault in sorted(self.faults.items()):
            rows = f": {fault.n_rows} rows, first {fault.first_row}" if fault.n_rows else ""
            lines.append(f"{file}: {kind}{rows}")
        return lines


@dataclass(frozen=True)
class EventBatch:
    """Rows of one file, in its order.

    table : record batch of the columns asked for, as `event_rows.SCHEMA`
    file : str, path below the reader's folder
    first_row : int, number in the file of the batch's first row, counted from 0
    rows : numbers of all rows, shape (n,); None if they follow one another
    """

    table: pa.RecordBatch
    file: str
    first_row: int
    rows: IntArray | None = None

    def row_number(self, index: int) -> int:
        """Number in the file of the batch's row `index`."""
        return self.first_row + index if self.rows is None else int(self.rows[index])


class _Query(NamedTuple):
    doc_type: str
    columns: tuple[str, ...]
    wanted: dict[str, pa.Array]  # values by filtered column
    batch_rows: int

    @property
    def needed(self) -> list[str]:
        """Columns to decode."""
        known = ["event_name"] if self.doc_type == WS_EVENT else []
        return list(dict.fromkeys(["doc_type", *known, *self.wanted, *self.columns]))

    @property
    def required(self) -> list[str]:
        """Columns asked for that a row cannot be without."""
        return [name for name in self.columns if name in (*REQUIRED, "raw_json")]

    def filter(self, present: Sequence[str]) -> ds.Expression:
        """What a row group's statistics must allow for."""
        allowed = ds.scalar(True)
        for name, values in self.wanted.items():
            if name in present:
                allowed = allowed & ds.field(name).isin(values)
        return allowed


class _File:
    """One file while it is read."""

    def __init__(self, path: Path, name: str, query: _Query, report: ReadReport) -> None:
        self._path, self._name, self._query, self._report = path, name, query, report
        self._folder = _folder_type(path)

    def batches(self) -> Iterator[EventBatch]:
        if self._folder is None:
            self._note("no doc_type folder")
        if not DATE_KEY.search(self._path.as_posix()):
            self._note("no date folder")
        fragment = FORMAT.make_fragment(str(self._path), filesystem=fs.LocalFileSystem())
        present = self._present(fragment.physical_schema)
        kept = fragment.subset(self._query.filter(present), SCHEMA).row_groups
        with pq.ParquetFile(
            self._path,
            metadata=fragment.metadata,
            pre_buffer=False,
            buffer_size=READ_BYTES,
            page_checksum_verification=True,
        ) as source:
            yield from self._decode(source, {group.id for group in kept}, present)

    def _note(self, kind: str, n_rows: int = 0, first_row: int | None = None) -> None:
        self._report.note(self._name, kind, n_rows, first_row)

    def _present(self, schema: pa.Schema) -> list[str]:
        """Needed columns that the file has in their type; the departures are counted."""
        version = (schema.metadata or {}).get(VERSION_KEY, SCHEMA_VERSION.encode()).decode()
        if version != SCHEMA_VERSION:
            self._note(f"schema {version}, this is {SCHEMA_VERSION}")
        for name in schema.names:
            if name not in COLUMNS:
                self._note(f"extra column {name}")
        present = []
        for name in self._query.needed:
            n_found = schema.names.count(name)
            if n_found != 1:
                self._note(f"column {name} stands {n_found} times")
            elif not holds(COLUMNS[name], schema.field(name).type):
                self._note(f"column {name} holds {schema.field(name).type}")
            else:
                present.append(name)
        return present

    def _decode(
        self, source: pq.ParquetFile, kept: set[int], present: list[str]
    ) -> Iterator[EventBatch]:
        first = 0
        for number in range(source.num_row_groups):
            group = source.metadata.row_group(number)
            if number in kept:
                n_read = 0
                n_rows = _rows_in_bytes(group, self._query.batch_rows)
                # More threads hold more memory back, and cost more than they save.
                for chunk in source.iter_batches(n_rows, [number], present, use_threads=False):
                    batch = self._select(chunk, first + n_read)
                    n_read += len(chunk)
                    if batch is not None:
                        yield batch
                if n_read != group.num_rows:  # a damaged count of values ends a column early
                    self._note(f"unreadable: {n_read} of {group.num_rows} rows")
            else:
                self._report.n_passed_over += group.num_rows
            first += group.num_rows

    def _select(self, chunk: pa.RecordBatch, first: int) -> EventBatch | None:
        """Rows of a decoded chunk that are whole and wanted; None if there are none."""
        query, n = self._query, len(chunk)
        self._report.n_rows += n
        arrays = {name: pa.nulls(n, COLUMNS[name]) for name in query.needed}
        for name in chunk.schema.names:
            arrays[name] = chunk[name].cast(COLUMNS[name])
        keep = self._whole_rows(arrays, first)
        for name, values in query.wanted.items():
            keep &= _claims(pc.is_in(arrays[name], values))
        if not keep.any():
            return None
        self._report.n_taken += int(keep.sum())
        schema = pa.schema([SCHEMA.field(name) for name in query.columns])
        table = pa.record_batch([arrays[name] for name in query.columns], schema=schema)
        if keep.all():
            return EventBatch(table, self._name, first)
        rows = first + np.flatnonzero(keep)
        return EventBatch(table.filter(pa.array(keep)), self._name, int(rows[0]), rows)

    def _whole_rows(self, arrays: dict[str, pa.Array], first: int) -> BoolArray:
        """Rows of the document type that lack nothing; the others are counted."""
        query = self._query
        keep = np.ones(len(arrays["doc_type"]), dtype=bool)

        def drop(wrong: BoolArray, kind: str) -> None:
            wrong &= keep
            if wrong.any():
                self._note(kind, int(wrong.sum()), first + int(wrong.argmax()))
            keep[wrong] = False

        if self._folder is None:
            keep &= _claims(pc.equal(arrays["doc_type"], query.doc_type))
        else:
            drop(
                _claims(pc.not_equal(arrays["doc_type"], self._folder)),
                "doc_type is not the folder's",
            )
            arrays["doc_type"] = arrays["doc_type"].fill_null(self._folder)
        for name in query.required:
            drop(_claims(arrays[name].is_null()), f"{name} is null")
        if "ts" in query.columns:
            try:
                parse_times(arrays["ts"].drop_null())
            except ValueError:
                wrong = [not is_time(text) for text in arrays["ts"].to_pylist()]
                drop(np.array(wrong), "ts is no time")
        if query.doc_type == WS_EVENT:
            is_unknown = keep & ~_claims(pc.is_in(arrays["event_name"], KNOWN_NAMES))
            if is_unknown.any():
                n, first_unknown = int(is_unknown.sum()), first + int(is_unknown.argmax())
                self._note("unknown event name", n, first_unknown)
                names = arrays["event_name"].filter(pa.array(is_unknown)).to_pylist()
                self._report.unknown_events.update(map(str, names))
        return keep


class EventReader:
    """The store below a folder, or the Parquet files that a glob names.

    Files are read in the order of their names, which is that of time; names
    that begin with a dot or do not end in `.parquet` are left-overs of a writer
    that died, and are passed over. One reader may be asked several times; its
    report adds up.

    Parameters
    ----------
    source : Path or str
        Root of a store, any folder above Parquet files, one file, or a glob
        such as `root/**/date=2025-12-1*/*.parquet`.

    Raises
    ------
    FileNotFoundError
        If there is no Parquet file at all.
    """

    def __init__(self, source: Path | str) -> None:
        self._base, found = _find_files(str(source))
        self._files = sorted(found, key=lambda path: (path.name, path))
        if not self._files:
            raise FileNotFoundError(
                f"{source}: no Parquet file; expected a folder as EventWriter or import_capture "
                "fills it, or a glob such as root/**/*.parquet"
            )
        self.report = ReadReport()
        for path in self._files:
            doc_type = _folder_type(path)
            if doc_type is not None and doc_type not in DOC_TYPES:
                self.report.note(f"doc_type={doc_type}", "unknown document type")

    def batches(
        self,
        *,
        doc_type: str,
        event_names: Sequence[str] | None = None,
        columns: Sequence[str],
        session_ids: Sequence[str] | None = None,
        game_ids: Sequence[str] | None = None,
        batch_rows: int = 65_536,
    ) -> Iterator[EventBatch]:
        """Rows of one document type, at most `batch_rows` and about 64 MiB at a time.

        A row is left out, and counted, if it contradicts its folder's document
        type, if a required column or the `raw_json` asked for is null, or if
        `ts` is no time; so those asked for are whole in every batch.

        Parameters
        ----------
        doc_type : str
        event_names, session_ids, game_ids : sequence of str, optional
            Rows with one of these values; all rows if None.
        columns : sequence of str
            Columns of the batches, in this order; null where a file lacks one.
        batch_rows : int

        Raises
        ------
        ValueError
            If a name is not in the schema, or `batch_rows` is not positive.
        """
        if doc_type not in DOC_TYPES:
            raise ValueError(f"doc_type={doc_type!r}: expected one of {', '.join(DOC_TYPES)}")
        unknown = [name for name in columns if name not in COLUMNS]
        if unknown or not columns:
            raise ValueError(f"columns {unknown}: expected some of {', '.join(COLUMNS)}")
        if batch_rows < 1:
            raise ValueError(f"batch_rows={batch_rows}: expected at least 1")
        filters = {"event_name": event_names, "session_id": session_ids, "game_id": game_ids}
        wanted = {name: pa.array(v, pa.string()) for name, v in filters.items() if v is not None}
        return self._iterate(_Query(doc_type, tuple(columns), wanted, batch_rows))

    def _iterate(self, query: _Query) -> Iterator[EventBatch]:
        files = [path for path in self._files if _folder_type(path) in (None, query.doc_type)]
        if not files:
            self.report.note(f"doc_type={query.doc_type}", "no files")
        for path in files:
            name = path.relative_to(self._base).as_posix()
            self.report.n_files += 1
            try:
                yield from _File(path, name, query, self.report).batches()
            except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
                reason, _, _ = str(error).partition("\n")
                self.report.note(name, f"unreadable: {reason}")


def _find_files(source: str) -> tuple[Path, list[Path]]:
    """The folder above everything `source` names, and the Parquet files below it."""
    parts = Path(source).parts
    n_plain = next((k for k, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    base = Path(*parts[:n_plain])
    if n_plain < len(parts):
        found = list(base.glob("/".join(parts[n_plain:])))
    elif base.is_file():
        base, found = base.parent, [base]
    else:
        store = base / EVENTS
        found = list((store if store.is_dir() else base).rglob("*.parquet"))
    return base, [
        path
        for path in found
        if path.suffix == ".parquet" and not path.name.startswith(".") and path.is_file()
    ]


def _folder_type(path: Path) -> str | None:
    found = DOC_TYPE_KEY.search(path.as_posix())
    return None if found is None else found[1]


def _rows_in_bytes(group: Any, most: int) -> int:
    """Rows of a row group that fit into `BATCH_BYTES`, from 1 to `most`.

    Asked of the group as a whole: a damaged footer's columns end the process.
    """
    return max(1, min(most, BATCH_BYTES * group.num_rows // max(group.total_byte_size, 1)))


def _claims(values: pa.Array) -> BoolArray:
    """Booleans as numpy; null is false."""
    return np.asarray(values.fill_null(False).to_numpy(zero_copy_only=False), dtype=bool)
