"""Parquet partitions: one file for each source, symbol and session.

`<root>/source=.../symbol=.../session=.../part.parquet`, one table a root
(messages and snapshots have a root each). Names are percent-encoded, so
`BTC/USDT` is one folder. `pyarrow.dataset.dataset(root, partitioning=HIVE)`
opens only the files and row groups that a filter can match. The three columns
also stand in the files: each is a whole table of its schema by itself.

Files are written whole, and equal tables give equal bytes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from hftlib.paths import replace_file
from hftlib.schema import Schema, validate

FILE = "part.parquet"
STRING = pa.string()  # as pyarrow infers from a folder's name; pandas' own would not merge with it
# Given, not inferred: a symbol such as 600519 would be read as a number.
HIVE = ds.partitioning(
    pa.schema([("source", STRING), ("symbol", STRING), ("session", STRING)]), flavor="hive"
)
ROW_GROUP = 65_536  # rows; small enough for a filter on ts to skip most of a day


class PartitionError(ValueError):
    """A table that is not one session, or a partition that cannot be read."""


class Partition(NamedTuple):
    """What one file holds."""

    source: str
    symbol: str
    session: str

    def path(self, root: Path) -> Path:
        """The partition's file below `root`."""
        parts = (f"{key}={quote(value, safe='')}" for key, value in self._asdict().items())
        return root.joinpath(*parts, FILE)


def write_partition(root: Path, frame: pd.DataFrame, schema: Schema) -> Path:
    """Write one session; a failure leaves what was there before.

    Parameters
    ----------
    root : Path
        Folder of this table's partitions.
    frame : table as `schema`, with columns source, symbol, session and ts
        Rows of one source, symbol and session in time order.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    SchemaError
        If the table departs from the schema.
    PartitionError
        If it has no rows, more than one session, or a time that goes back.
    """
    keys = validate(frame, schema)[list(Partition._fields)].drop_duplicates()
    if len(keys) != 1:
        raise PartitionError(
            f"{schema.name}: expected rows of one source, symbol and session, received "
            f"{len(keys)}; write one session at a time"
        )
    partition = Partition(*keys.iloc[0])
    if not all(partition):
        raise PartitionError(f"{schema.name}: an empty name in {partition}; name it")
    ts = frame["ts"].to_numpy()
    if (ts[1:] < ts[:-1]).any():
        row = int(np.argmax(ts[1:] < ts[:-1])) + 1
        raise PartitionError(f"{schema.name}: ts goes back in row {row}; sort the rows by time")
    file = partition.path(root)
    types = [(c.name, STRING if c.dtype == "str" else c.dtype) for c in schema.columns]
    table = pa.Table.from_pandas(frame, pa.schema(types), preserve_index=False)
    with replace_file(file) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=ROW_GROUP)
    return file


def read_partition(root: Path, partition: Partition) -> pd.DataFrame:
    """The table that `write_partition` was given.

    Raises
    ------
    PartitionError
        If there is none, or the file is damaged.
    """
    file = partition.path(root)
    try:
        return pq.ParquetFile(file).read().to_pandas()
    except FileNotFoundError:
        known = ", ".join("/".join(found) for found in list_partitions(root))
        raise PartitionError(
            f"no partition {'/'.join(partition)} in {root}; it has: {known or 'none'}"
        ) from None
    except (OSError, pa.ArrowInvalid) as error:
        cause = str(error).splitlines()[0]
        raise PartitionError(f"{file}: cannot be read ({cause}); write it again") from None


def list_partitions(root: Path) -> list[Partition]:
    """Partitions below `root`, sorted by source, symbol and session."""
    found = []
    for file in root.glob(f"source=*/symbol=*/session=*/{FILE}"):
        folders = file.relative_to(root).parts[:-1]
        found.append(Partition(*(unquote(folder.split("=", 1)[1]) for folder in folders)))
    return sorted(found)


def iter_partitions(root: Path) -> Iterator[tuple[Partition, pd.DataFrame]]:
    """Partitions and their tables in the order of `list_partitions`, one in memory at a time."""
    for partition in list_partitions(root):
        yield partition, read_partition(root, partition)


class Partitions:
    """Tables below a root, one session at a time, as often as asked.

    Each iteration reads the files anew, those that were there at first, so
    that code which needs several passes holds one table at a time.
    """

    def __init__(self, root: Path):
        self._root, self._partitions = root, list_partitions(root)

    def __len__(self) -> int:
        return len(self._partitions)

    def __iter__(self) -> Iterator[pd.DataFrame]:
        return (read_partition(self._root, partition) for partition in self._partitions)
