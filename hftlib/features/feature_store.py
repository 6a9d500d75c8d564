"""Features as they were known at a time: one store for training and for serving.

`<root>/symbol=.../year=.../part.parquet`, the year being that of the bar, and `store.json`,
which holds the names of the features. A row is a bar's features and `known_at`, the time from
which anybody could have had them: the close of the bar, or later where the bar came late. A
correction is one more row of the same bar, known later; nothing is ever overwritten. So a
question about any time in the past has one answer, whatever was written since.

Values are kept as float64 to the last bit: the store computes nothing, and training and serving
read what `indicators.compute_features` or `stream.FeatureStream` gave. A file is written
whole and replaced; writers take turns by a lock, readers need none. A write so costs as
much as a year of its symbol: bars of minutes are better written a day at a time.
"""

import contextlib
import difflib
import fcntl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hftlib.features.feature_rows import (
    FORMAT,
    KEYS,
    META,
    FeatureStoreError,
    check_rows,
    check_time,
    find_new_versions,
    read_names,
)
from hftlib.paths import replace_file, write_json

FILE, LOCK = "part.parquet", ".lock"
GROUP = 1_024  # rows; the newest bars are read without the rest of the year


class FeatureStore:
    """Versioned rows of features, asked for by time.

    Parameters
    ----------
    root : Path
        Folder; made by the first write.
    names : sequence of str, optional
        Features, in order. Needed for a new store; for another it must agree.

    Raises
    ------
    FeatureStoreError
        If there is no store and no names, or the names are others.
    """

    def __init__(self, root: Path, names: Sequence[str] | None = None):
        self.root = root
        known = read_names(root)
        if known is None and names is None:
            raise FeatureStoreError(f"{root} holds no {META}; name the features of a new store")
        self.names: tuple[str, ...] = tuple(known if names is None else names)  # type: ignore[arg-type]
        if known is not None and self.names != tuple(known):
            differ = sorted(set(known) ^ set(self.names)) or ["their order"]
            raise FeatureStoreError(
                f"{root} holds other features: {', '.join(differ)} differ; a new set needs a new "
                "folder"
            )
        if len(set(self.names)) != len(self.names) or set(self.names) & set(KEYS):
            raise FeatureStoreError(f"names {self.names} repeat, or are among {', '.join(KEYS)}")
        self._schema = pa.schema(
            [("ts", pa.timestamp("ns", "UTC")), ("known_at", pa.timestamp("ns", "UTC"))]
            + [(name, pa.float64()) for name in self.names]
        )

    @property
    def symbols(self) -> list[str]:
        """Symbols with any row, sorted."""
        folders = {file.parents[1].name for file in self.root.glob(f"symbol=*/year=*/{FILE}")}
        return sorted(unquote(name.split("=", 1)[1]) for name in folders)

    def write(self, rows: pd.DataFrame) -> int:
        """Add rows, in any order, of any symbols.

        Parameters
        ----------
        rows : frame with columns symbol, ts, known_at (UTC) and the features
            nan is a value, as in a feature's warm-up. A row that is stored already, or repeats the
            newest version of its bar, is passed over: a write may be repeated.

        Returns
        -------
        int
            Rows added.

        Raises
        ------
        FeatureStoreError
            If a column or symbol is missing, a time is missing or has no zone, a value is infinite,
            `known_at` is not after `ts`, or a version would be known before one that is
            stored. Nothing is written then.
        """
        frame = check_rows(rows, self.names)
        self.root.mkdir(parents=True, exist_ok=True)
        with self._hold():
            files = []
            keys = [frame["symbol"], frame["ts"].dt.year]
            for (symbol, year), part in frame.groupby(keys, sort=True):
                file = self._file(str(symbol), int(year))
                before = self._read(file) if file.exists() else part.iloc[:0]
                added = find_new_versions(str(symbol), before, part, self.names)
                if len(added):
                    whole = added if not len(before) else pd.concat([before, added])
                    files.append((file, whole.sort_values(["ts", "known_at"]), len(added)))
            if read_names(self.root) is None:
                write_json(self.root / META, {"format": FORMAT, "names": list(self.names)})
            for file, whole, _ in files:
                with replace_file(file) as temporary:
                    pq.write_table(self._to_table(whole), temporary, row_group_size=GROUP)
        return sum(n_added for _, _, n_added in files)

    def get(self, symbols: Sequence[str], as_of: pd.Timestamp, *, n_bars: int = 1) -> pd.DataFrame:
        """What was known of the newest bars of each symbol at a time.

        Parameters
        ----------
        as_of : timestamp with time zone
            Rows known later do not exist; one known at this very time does.
        n_bars : int
            Bars of each symbol, fewer where it had fewer.

        Returns
        -------
        frame with columns symbol, ts, known_at and the features
            Of each bar the newest version then known; symbols in the order asked for, bars in
            time order. A bar that came late is missing until it is known.

        Raises
        ------
        FeatureStoreError
            If a symbol is unknown or none of its bars was known by then, or an argument is wrong.
        """
        if n_bars < 1:
            raise FeatureStoreError(f"n_bars={n_bars}; expected at least 1")
        return self._collect(symbols, as_of, "newest", n_bars)

    def history(
        self,
        symbols: Sequence[str],
        as_of: pd.Timestamp,
        *,
        version: Literal["first", "newest"] = "first",
    ) -> pd.DataFrame:
        """All bars that were known at a time, for training.

        Parameters
        ----------
        version : "first" or "newest"
            Of each bar the row that a policy was served when it was first known, or the newest
            known at `as_of`. Training on corrections that came after the decision teaches
            a policy from values that it will not be shown.

        Returns
        -------
        frame as from `get`

        Raises
        ------
        FeatureStoreError
            As `get`; or if the version is another.
        """
        if version not in ("first", "newest"):
            raise FeatureStoreError(f"version is {version!r}; expected 'first' or 'newest'")
        return self._collect(symbols, as_of, version, None)

    def _collect(
        self, symbols: Sequence[str], as_of: pd.Timestamp, version: str, n_bars: int | None
    ) -> pd.DataFrame:
        limit = check_time(as_of, "as_of")
        if not len(symbols):
            raise FeatureStoreError("no symbol was asked for; name at least one")
        parts = [self._known(symbol, limit, version, n_bars) for symbol in symbols]
        return pd.concat(parts, ignore_index=True)[[*KEYS, *self.names]]

    def _known(
        self, symbol: str, limit: pd.Timestamp, version: str, n_bars: int | None
    ) -> pd.DataFrame:
        """Rows of one symbol known at `limit`, the newest years first until there are enough."""
        folder = self.root / f"symbol={quote(symbol, safe='')}"
        years = sorted(
            (int(f.parent.name[5:]) for f in folder.glob(f"year=*/{FILE}")), reverse=True
        )
        if not years:
            close = difflib.get_close_matches(symbol, self.symbols, n=1)
            remedy = f"did you mean {close[0]}?" if close else f"it has {', '.join(self.symbols)}"
            raise FeatureStoreError(f"{self.root} has no {symbol}; {remedy}")
        parts: list[pd.DataFrame] = []
        seen: set[pd.Timestamp] = set()
        files = (self._file(symbol, year) for year in years if year <= limit.year)
        for group in (group for file in files for group in self._read_backwards(file)):
            parts.insert(0, group[group["known_at"] <= limit])
            seen.update(parts[0]["ts"])
            if n_bars is not None and len(seen) > n_bars:  # one more: it may begin a group earlier
                break
        rows = pd.concat(parts) if parts else pd.DataFrame({"ts": []})
        rows = rows.drop_duplicates("ts", keep="first" if version == "first" else "last")
        if not len(rows):
            raise FeatureStoreError(
                f"nothing of {symbol} was known at {limit}; ask for a later time, or write its "
                "features first"
            )
        return (rows if n_bars is None else rows[-n_bars:]).assign(symbol=symbol)

    def _read(self, file: Path) -> pd.DataFrame:
        return pd.concat(list(self._read_backwards(file))[::-1])

    def _read_backwards(self, file: Path) -> Iterator[pd.DataFrame]:
        """Row groups of a file, the latest bars first."""
        try:
            with pq.ParquetFile(file) as parquet:
                for group in range(parquet.num_row_groups - 1, -1, -1):
                    yield parquet.read_row_group(group).cast(self._schema).to_pandas()
        except (OSError, ValueError) as error:
            cause = str(error).splitlines()[0]
            raise FeatureStoreError(f"{file}: cannot be read ({cause}); write it again") from None

    def _to_table(self, rows: pd.DataFrame) -> pa.Table:
        times = [pa.array(rows[x].astype("int64").to_numpy()) for x in ("ts", "known_at")]
        values = [pa.array(rows[name].to_numpy()) for name in self.names]
        zoned = [x.view(pa.timestamp("ns", "UTC")) for x in times]
        return pa.Table.from_arrays([*zoned, *values], schema=self._schema)

    def _file(self, symbol: str, year: int) -> Path:
        return self.root / f"symbol={quote(symbol, safe='')}" / f"year={year}" / FILE

    @contextlib.contextmanager
    def _hold(self) -> Iterator[None]:
        with (self.root / LOCK).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
