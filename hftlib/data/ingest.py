"""From raw bars to clean ones: check every row, quarantine, merge, sort.

A row that fails a check leaves the data and enters the quarantine with its
file, line and the first reason. What condemns no row, such as a gap, is
counted in the quality table, see `data.quality`.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.data.bars import PRICES, RawBars, SourceError
from hftlib.data.quality import (
    QualityLimits,
    count_offsets,
    describe_symbol,
    finish_table,
    refuse_mixed_stamps,
)
from hftlib.schema import BARS, QUARANTINE, UTC, empty, validate

PRICE_TOLERANCE = 1e-9  # relative; scaling by an adjusted close rounds in the last digit
EARLIEST, LATEST = (limit.tz_localize("UTC") for limit in (pd.Timestamp.min, pd.Timestamp.max))
EPOCH_UNITS = {10: "s", 13: "ms", 16: "us", 19: "ns"}


@dataclass(frozen=True)
class Ingested:
    """`bars` and `quarantine` as in `schema`; `quality` has one row a symbol."""

    bars: pd.DataFrame
    quarantine: pd.DataFrame
    quality: pd.DataFrame


def ingest_bars(
    raw: Sequence[RawBars],
    *,
    as_of: pd.Timestamp,
    limits: QualityLimits = QualityLimits(),  # noqa: B008 (frozen)
) -> Ingested:
    """Check and merge bars of all sources.

    Parameters
    ----------
    raw : sequence of RawBars
        As from `sources.gather_bars`. Several files of the user's folder may
        continue one symbol; otherwise a symbol has one source, since a series
        must not cross the seam between two.
    as_of : timezone-aware timestamp
        Rows later than this are in the future and are quarantined.
    limits : QualityLimits
        Beyond these a symbol is flagged in the quality table.

    Raises
    ------
    SourceError
        If two sources bring one symbol, no row of a symbol is good, or a file
        has stamps with an offset and others without.
    """
    by_symbol: dict[str, list[RawBars]] = {}
    for part in raw:
        first = by_symbol.setdefault(part.symbol, [part])[0]
        if first is not part:
            if {first.origin, part.origin} != {"folder"}:
                raise SourceError(
                    f"{part.source}: symbol {part.symbol} already comes from {first.source}; "
                    "give the symbol or the file another name"
                )
            by_symbol[part.symbol].append(part)
    refuse_mixed_stamps(raw)
    clean, refused, quality, groups = [], [], [], []
    for symbol, parts in sorted(by_symbol.items()):
        bars, bad, bad_times = _check_symbol(symbol, parts, as_of)
        if bars.empty:
            reasons = ", ".join(sorted(set(bad["reason"])))
            raise SourceError(f"{parts[0].source}: no good row for {symbol}; reasons: {reasons}")
        clean.append(bars)
        refused.append(bad)
        n_offsets = count_offsets(parts)
        quality.append(describe_symbol(symbol, bars, bad, bad_times, n_offsets, limits))
        first = parts[0]
        groups.append(first.source if first.origin == "packaged" else first.origin)
    bars = pd.concat(clean, ignore_index=True) if clean else empty(BARS)
    bad = pd.concat(refused, ignore_index=True) if refused else empty(QUARANTINE)
    table = finish_table(quality, groups, limits)
    return Ingested(validate(bars, BARS), validate(bad, QUARANTINE), table)


def check_symbols(wanted: Sequence[str], known: Sequence[str]) -> None:
    """Refuse a symbol that there are no bars of.

    Raises
    ------
    SourceError
        Names the symbol and the nearest known one.
    """
    for symbol in wanted:
        if symbol not in known:
            near = get_close_matches(symbol, known, n=1, cutoff=0.5)
            remedy = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise SourceError(f"datasets.symbols: there are no bars of {symbol!r}; {remedy}")


def parse_times(text: pd.Series) -> pd.Series:
    """ISO 8601 or epoch stamps (s, ms, us, ns by their length) as UTC; NaT where neither.

    A stamp without an offset is taken as UTC. A national format such as
    1/4/1999 is refused, because it cannot be told from its mirror.
    """
    text = text.str.strip()
    times = pd.to_datetime(text, utc=True, format="ISO8601", errors="coerce")
    times = times.where(times.between(EARLIEST, LATEST)).astype(UTC)
    is_epoch = text.str.fullmatch(r"\d{10}|\d{13}|\d{16}|\d{19}")
    for digits, unit in EPOCH_UNITS.items():
        of_unit = is_epoch & (text.str.len() == digits)
        if of_unit.any():
            stamps = pd.to_numeric(text[of_unit]).astype("uint64")
            stamps = stamps.where(stamps < 2**63).astype("Int64")
            times[of_unit] = pd.to_datetime(stamps, unit=unit, utc=True).astype(UTC)
    return times


def _check_symbol(
    symbol: str, parts: list[RawBars], as_of: pd.Timestamp
) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series]:
    """Good bars in time order, the refused rows, and the times of those, of one symbol."""
    frames = [_in_time_order(raw) for raw in parts]
    table = pd.concat(frames, ignore_index=True)
    reason = pd.Series("", index=table.index)

    def refuse(rows: "pd.Series[bool]", why: str) -> None:
        reason[rows & (reason == "")] = why

    numbers = {name: pd.to_numeric(table[name], errors="coerce") for name in (*PRICES, "volume")}
    prices = pd.DataFrame({name: numbers[name] for name in PRICES}).astype("float64")
    blank = table["volume"].str.strip().str.lower().isin(["", "nan", "none", "<na>"])
    refuse(table["time"].isna(), "time is neither ISO 8601 nor an epoch")
    refuse(table["time"] > as_of, "time is in the future")
    for name in PRICES:
        refuse(~np.isfinite(prices[name]), f"{name} is not a number")
        refuse(prices[name] <= 0, f"{name} is not positive")
    top, bottom = prices["high"] * (1 + PRICE_TOLERANCE), prices["low"] * (1 - PRICE_TOLERANCE)
    refuse(top < bottom, "high is below low")
    for name in ("open", "close"):
        refuse((prices[name] > top) | (prices[name] < bottom), f"{name} is outside [low, high]")
    refuse(~blank & ~np.isfinite(numbers["volume"]), "volume is not a number")
    refuse(numbers["volume"] < 0, "volume is negative")
    refuse(table["misplaced"], "time is out of order")
    good = table[reason == ""]
    refuse(good["time"].duplicated().reindex(table.index, fill_value=False), "duplicate time")

    keep = reason == ""
    bars = pd.DataFrame(
        {
            "symbol": symbol,
            "source": table["source"],
            "ts": table["time"],
            **{name: prices[name] for name in PRICES},
            "volume": numbers["volume"].astype("float64"),
            "is_synthetic": parts[0].origin == "synthetic",
        }
    )[keep]
    bars = bars.sort_values("ts", kind="stable").reset_index(drop=True)
    bars[["symbol", "source"]] = bars[["symbol", "source"]].astype("str")
    refused = table.assign(symbol=symbol, reason=reason)[~keep][QUARANTINE.names]
    texts = [name for name in QUARANTINE.names if name != "line"]
    refused[texts] = refused[texts].astype("str")
    return bars, refused.astype({"line": "int64"}), table.loc[~keep, "time"]


def _in_time_order(raw: RawBars) -> pd.DataFrame:
    """Add parsed times; flip a newest-first file; mark the fewest rows that break the order."""
    table = raw.frame.assign(source=raw.source, time=parse_times(raw.frame["ts"]))
    steps = table["time"].dropna().diff().dropna()
    if len(steps) and (steps < pd.Timedelta(0)).mean() > 0.5:
        table = table.iloc[::-1].reset_index(drop=True)
    misplaced = pd.Series(False, index=table.index)
    times = table["time"].dropna()
    if not times.is_monotonic_increasing:
        misplaced[times.index] = ~longest_rise(times.astype("int64").tolist())
    return table.assign(misplaced=misplaced)


def longest_rise(values: list[int]) -> npt.NDArray[np.bool_]:
    """Members of a longest non-decreasing subsequence, by patience sorting.

    One wrong stamp, early or late, thus condemns itself and not its neighbours.
    """
    ends: list[int] = []  # smallest last value of a subsequence of each length
    last: list[int] = []  # its position
    before = [-1] * len(values)
    for i, value in enumerate(values):
        length = bisect_right(ends, value)
        before[i] = last[length - 1] if length else -1
        ends[length : length + 1] = [value]
        last[length : length + 1] = [i]
    member = np.zeros(len(values), dtype=bool)
    i = last[-1] if last else -1
    while i >= 0:
        member[i] = True
        i = before[i]
    return member
