"""Sentiment of the user's own score file, as it was known when a bar began.

The `ts` of a bar is its start, and the table does not say when it ends. So a
score counts for the first bar that *starts* at or after its publication: one
published during a bar is first seen by the next. Before a symbol's first score
its features are nan; without a file there are no such columns at all.

Files: CSV or Parquet below one folder with columns symbol, ts (publication)
and score, a number of any scale. Stamps are ISO 8601, all with an offset or
all without; without, they are taken as UTC.
"""

import difflib
import re
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from hftlib.compute import compile_kernel
from hftlib.data.bars import SUFFIXES
from hftlib.features.feature import BarSeries, Feature, FloatArray, lagged_difference

COLUMNS = ("symbol", "ts", "score")
HALF_LIFE_BARS = 5.0
HAS_OFFSET = re.compile(r"[0-9:](?:Z|[+-][0-9]{2}:?[0-9]{2})$", re.IGNORECASE)
S = "sentiment"


class SentimentError(ValueError):
    """A score file that cannot be used; names the file and the line."""


def read_sentiment(folder: Path, symbols: Collection[str]) -> pd.DataFrame | None:
    """Every score file below `folder`, in time order; None if there is no such file.

    Parameters
    ----------
    symbols : collection of str
        Those that there are bars of.

    Returns
    -------
    frame with columns symbol, ts (datetime64[ns, UTC]) and score (float64), or None

    Raises
    ------
    SentimentError
        If a file lacks a column or rows, mixes stamps with and without offset,
        or holds a stamp or score that cannot be read, a symbol without bars, or
        two scores of one symbol at one time.
    """
    files = sorted(f for f in folder.rglob("*") if f.name.lower().endswith(SUFFIXES))
    if not files:
        return None
    table = pd.concat([_read(file, symbols) for file in files], ignore_index=True)
    table = table.sort_values(["ts", "symbol"], kind="stable", ignore_index=True)
    twice = table[table.duplicated(["symbol", "ts"])]
    if len(twice):
        first = twice.iloc[0]
        raise SentimentError(
            f"{folder.name}: two scores of {first['symbol']} at {first['ts']}; keep one"
        )
    return table


def _read(file: Path, symbols: Collection[str]) -> pd.DataFrame:
    try:
        if file.suffix.lower() == ".parquet":
            raw = pd.read_parquet(file).reset_index()
        else:
            raw = pd.read_csv(file, dtype=str, keep_default_na=False, skip_blank_lines=False)
            raw = raw.fillna("")  # of a line with too few fields
            raw = raw[(raw != "").any(axis=1)]  # blank lines leave, and shift no other's number
    except (OSError, ValueError, pd.errors.ParserError) as fault:
        cause = (str(fault).splitlines() or ["empty"])[0]
        raise SentimentError(f"{file.name}: cannot be read ({cause}); save it again") from None
    raw.columns = pd.Index([str(name).strip().lower() for name in raw.columns])
    missing = [name for name in COLUMNS if name not in raw.columns]
    if missing:
        received = ", ".join(raw.columns)
        raise SentimentError(
            f"{file.name}: no column {', '.join(missing)}; expected {', '.join(COLUMNS)}, "
            f"received {received}"
        )
    if raw.empty:
        raise SentimentError(f"{file.name}: a header but no rows; add rows or remove the file")
    symbol = raw["symbol"].astype(str).str.strip()
    unknown = ~symbol.isin(list(symbols))
    if unknown.any():
        line = int(np.argmax(unknown))
        name = symbol.iloc[line]
        close = difflib.get_close_matches(name, list(symbols), n=1)
        known = ", ".join(sorted(symbols))
        remedy = f"did you mean {close[0]}?" if close else f"there are bars of {known}"
        place = _place(file, raw.index[line])
        raise SentimentError(f"{place}: no bars of symbol {name!r}; {remedy}")
    score = pd.to_numeric(raw["score"], errors="coerce").astype(np.float64)
    _refuse(file, raw["score"], ~np.isfinite(score), "score", "a finite number")
    return pd.DataFrame({"symbol": symbol, "ts": _stamps(file, raw["ts"]), "score": score})


def _stamps(file: Path, column: pd.Series) -> pd.Series:
    """Publication times in UTC."""
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        _refuse(file, column, column.isna(), "ts", "a time")
        return column.dt.tz_convert("UTC").dt.as_unit("ns")
    text = column.astype(str).str.strip()
    if pd.api.types.is_datetime64_dtype(column):
        text = text.where(column.notna(), "")
    has_offset = text.str.contains(HAS_OFFSET)
    stamps = pd.to_datetime(text, format="ISO8601", utc=True, errors="coerce")
    _refuse(file, column, stamps.isna(), "ts", "an ISO 8601 time")
    if has_offset.nunique() > 1:
        odd = int(np.argmax(has_offset != has_offset.iloc[0]))
        kinds = ("with", "without") if has_offset.iloc[0] else ("without", "with")
        raise SentimentError(
            f"{_place(file, column.index[odd])}: ts {text.iloc[odd]} stands {kinds[1]} an offset, "
            f"the lines before {kinds[0]}; write all of them in one way"
        )
    return stamps.dt.as_unit("ns")


def _refuse(file: Path, raw: pd.Series, is_bad: pd.Series, name: str, expected: str) -> None:
    if is_bad.any():
        line = int(np.argmax(is_bad))
        raise SentimentError(
            f"{_place(file, raw.index[line])}: {name} is {str(raw.iloc[line])!r}, "
            f"expected {expected}; correct or remove the line"
        )


def _place(file: Path, row: int) -> str:
    """A CSV's header is line 1; a Parquet table has rows only."""
    if file.suffix.lower() == ".parquet":
        return f"{file.name}, row {row}"
    return f"{file.name}, line {row + 2}"


def _known(bars: BarSeries) -> tuple[FloatArray, FloatArray]:
    """The newest score at each bar's start, and bars since the first that saw it."""
    score, age = np.full(len(bars), np.nan), np.full(len(bars), np.nan)
    if bars.scores is not None and len(bars.scores):
        published = bars.scores["ts"].astype("int64").to_numpy()
        newest = np.searchsorted(published, bars.ts, side="right") - 1
        values = bars.scores["score"].to_numpy(dtype=np.float64)
        score = np.where(newest >= 0, values[newest], np.nan)
        _count(newest, age)
    return score, age


@compile_kernel
def _count(newest: np.ndarray, age: FloatArray) -> None:
    for t in range(len(newest)):
        if newest[t] >= 0:
            is_new = t == 0 or newest[t] != newest[t - 1]
            age[t] = 0.0 if is_new else age[t - 1] + 1


FEATURES = (
    Feature(
        "sentiment",
        S,
        "newest score published by the bar's start",
        "-",
        "score",
        0,
        lambda b: b.shared(_known)[0],
    ),
    Feature(
        "sentiment_decayed",
        S,
        "sentiment, halved every 5 bars of its age",
        "-",
        "score",
        0,
        lambda b: b.shared(_known)[0] * 0.5 ** (b.shared(_known)[1] / HALF_LIFE_BARS),
    ),
    Feature(
        "sentiment_age",
        S,
        "ln(1 + bars since that score was first known)",
        "-",
        "log bars",
        0,
        lambda b: np.log1p(b.shared(_known)[1]),
    ),
    Feature(
        "sentiment_change_5",
        S,
        "sentiment less that of 5 bars before",
        "5",
        "score",
        5,
        lambda b: lagged_difference(b.shared(_known)[0], 5),
    ),
)
