"""OHLCV bar sources: prices that installed packages carry, and the user's files.

Every reader returns *raw* tables: text as it stands in the file with its line
number, so that `data.ingest` can judge each row and say where it stands.

| source | symbols | interval | clock | prices |
|---|---|---|---|---|
| `arch` (NCSA) | SP500, NASDAQ | daily 1999-2018 | New York days, 00:00 UTC | index levels |
| `bokeh_sampledata` (BSD-3) | AAPL, GOOG, IBM, MSFT | daily 2000-2013 | the same | adjusted close |
| `gym-anytrading` (MIT) | EURUSD | hourly 2017 | taken as UTC; the file names none | ask side |
| files in `data/raw/bars/` | any | any | offset in the stamp, else UTC | as they are |
"""

import importlib.util
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
import pyarrow as pa

PRICES = ("open", "high", "low", "close")
FIELDS = ("ts", *PRICES, "volume")
ALIASES = {
    "timestamp": "ts",
    "datetime": "ts",
    "date": "ts",
    "time": "ts",
    "adj close": "adjusted",
    "adj_close": "adjusted",
    "ticker": "symbol",
}
UNREADABLE = (
    pd.errors.ParserError,
    pd.errors.ParserWarning,  # a row with more fields than the header
    pa.ArrowInvalid,
    zlib.error,
    OSError,
    EOFError,
    UnicodeDecodeError,
)
SUFFIXES = (".csv", ".csv.gz", ".parquet")

Origin = Literal["packaged", "folder", "yahoo", "exchange", "synthetic"]


class SourceError(ValueError):
    """A file that is no table of bars at all."""


@dataclass(frozen=True)
class RawBars:
    """One symbol of one file, or of one answer, before any check.

    `frame` has the columns of `FIELDS`, still text, and `line`.
    """

    symbol: str
    source: str
    frame: pd.DataFrame
    origin: Origin = "folder"


def read_packaged() -> list[RawBars]:
    """Bars that came with the install: six daily series and one hourly."""
    arch, bokeh = _package_folder("arch"), _package_folder("bokeh_sampledata")
    anytrading = _package_folder("gym_anytrading")
    raw = []
    for symbol in ("SP500", "NASDAQ"):
        name = symbol.lower()
        table = _read_table(arch / f"data/{name}/{name}.csv.gz")
        raw += _split(_iso(table, "%m/%d/%Y"), "arch", symbol, "packaged")
    for symbol in ("AAPL", "GOOG", "IBM", "MSFT"):
        table = _read_table(bokeh / f"_data/{symbol}.csv")
        raw += _split(_adjust(table), "bokeh_sampledata", symbol, "packaged")
    table = _read_table(anytrading / "datasets/data/FOREX_EURUSD_1H_ASK.csv")
    euro = _iso(table, "%d.%m.%Y %H:%M:%S.%f")
    raw += _split(euro, "gym_anytrading", "EURUSD", "packaged")
    return raw


def read_folder(folder: Path) -> list[RawBars]:
    """Every CSV and Parquet file below `folder`, in the order of their names.

    A file has a header naming the time (`ts`, `timestamp`, `datetime`, `date`
    or `time`), `open, high, low, close`, and perhaps `volume` and `symbol`;
    case and order do not matter. Without `symbol` the file's name is it.

    Raises
    ------
    SourceError
        If a file lacks a column, has no rows or cannot be read.
    """
    files = sorted(f for f in folder.rglob("*") if f.name.lower().endswith(SUFFIXES))
    raw = []
    for file in files:
        raw += _split(_read_table(file), file.relative_to(folder).as_posix(), _stem(file))
    return raw


def _stem(file: Path) -> str:
    suffix = next(suffix for suffix in SUFFIXES if file.name.lower().endswith(suffix))
    return file.name[: -len(suffix)].upper()


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SourceError(f"package {package} is not installed; run `make setup`")
    return Path(spec.origin).parent


def _read_table(file: Path) -> pd.DataFrame:
    """The file as text, columns by their house names, with each row's `line`."""
    try:
        if file.suffix.lower() == ".parquet":
            table = pd.read_parquet(file).reset_index()
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)
                table = pd.read_csv(
                    file, dtype=str, keep_default_na=False, skip_blank_lines=False, index_col=False
                )
    except pd.errors.EmptyDataError:
        raise SourceError(f"{file.name}: the file is empty; expected a header and rows") from None
    except UNREADABLE as error:
        cause = str(error).splitlines()[0]
        raise SourceError(f"{file.name}: cannot be read ({cause}); save it again") from None
    names = [str(name).strip().lower() for name in table.columns]
    table.columns = pd.Index([ALIASES.get(name, name) for name in names])
    double = [name for name in FIELDS if list(table.columns).count(name) > 1]
    if double:
        raise SourceError(
            f"{file.name}: more than one column for {', '.join(double)} among {', '.join(names)}; "
            "keep one"
        )
    needed = ("ts", *PRICES)
    missing = [name for name in needed if name not in table.columns]
    if missing:
        raise SourceError(
            f"{file.name}: no column {', '.join(missing)}; expected {', '.join(needed)} "
            f"[, volume, symbol], received {', '.join(names)}"
        )
    if table.empty:
        raise SourceError(f"{file.name}: a header but no rows; add rows or remove the file")
    if "volume" not in table.columns:
        table["volume"] = ""
    table["line"] = range(2, len(table) + 2)
    return table


def _split(
    table: pd.DataFrame, source: str, symbol: str, origin: Origin = "folder"
) -> list[RawBars]:
    """One `RawBars` a symbol."""
    columns = [*FIELDS, "line"]
    if "symbol" not in table.columns:
        groups = [(symbol, table)]
    else:
        groups = [
            (str(name), group)
            for name, group in table.groupby(table["symbol"].fillna(""), sort=True)
        ]
    raw = []
    for name, group in groups:
        frame = group[columns].reset_index(drop=True)
        frame[list(FIELDS)] = frame[list(FIELDS)].astype("str").fillna("")
        raw.append(RawBars(name.strip() or symbol, source, frame, origin))
    return raw


def _iso(table: pd.DataFrame, pattern: str) -> pd.DataFrame:
    """Rewrite a national date format, known for this one file, as ISO 8601."""
    table["ts"] = pd.to_datetime(table["ts"], format=pattern).astype(str)
    return table


def _adjust(table: pd.DataFrame) -> pd.DataFrame:
    """Scale the prices of a row by its adjusted over its raw close (splits, dividends)."""
    ratio = table["adjusted"].astype(float) / table["close"].astype(float)
    for name in PRICES:
        table[name] = (table[name].astype(float) * ratio).astype(str)
    return table
