"""Rows of the feature store: what they must be, and which of them say something new."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from hftlib.features.feature import FloatArray
from hftlib.features.prefix import same_bits
from hftlib.paths import read_json
from hftlib.schema import UTC

KEYS = ["symbol", "ts", "known_at"]
META, FORMAT = "store.json", 1


class FeatureStoreError(ValueError):
    """Rows that the store cannot take, a question it cannot answer, or a folder it cannot read."""


def check_rows(rows: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Rows as the store keeps them: keys and features in order, times in UTC, float64.

    Raises
    ------
    FeatureStoreError
        If a column or a symbol is missing, a time is missing or has no zone, `known_at` is not
        after `ts`, or a value is infinite.
    """
    features = list(names)
    missing = [name for name in (*KEYS, *features) if name not in rows.columns]
    if missing:
        raise FeatureStoreError(f"the rows have no {', '.join(missing)}; add the columns")
    frame = rows[[*KEYS, *features]].reset_index(drop=True)
    nameless = frame["symbol"].isna() | (frame["symbol"] == "")
    if nameless.any():
        raise FeatureStoreError(f"{nameless.sum()} rows have no symbol; name it")
    for name in ("ts", "known_at"):
        if getattr(frame[name].dtype, "tz", None) is None or frame[name].isna().any():
            raise FeatureStoreError(
                f"{name} is {frame[name].dtype} with {frame[name].isna().sum()} missing; "
                "expected times with a zone, all present"
            )
        frame[name] = frame[name].astype(UTC)
    early = frame["known_at"] <= frame["ts"]
    if early.any():
        row = frame[early].iloc[0]
        raise FeatureStoreError(
            f"{row['symbol']}: the bar of {row['ts']} would be known at {row['known_at']}, "
            "before it closed; known_at is its close or later"
        )
    frame[features] = frame[features].astype(np.float64)
    infinite = np.isinf(frame[features].to_numpy())
    if infinite.any():
        row, column = np.argwhere(infinite)[0]
        raise FeatureStoreError(
            f"{frame['symbol'][row]} at {frame['ts'][row]}: {features[column]} is infinite; "
            "expected a number, or nan in its warm-up"
        )
    return frame


def find_new_versions(
    symbol: str, before: pd.DataFrame, part: pd.DataFrame, names: Sequence[str]
) -> pd.DataFrame:
    """Rows of `part` that say something new.

    Parameters
    ----------
    before, part : frames with columns ts, known_at and the features, one symbol
        `before` is sorted by ts and known_at, as stored.

    Returns
    -------
    frame of the same columns, sorted
        Without rows that repeat a stored one, or the newest version of their bar.

    Raises
    ------
    FeatureStoreError
        If a version of a bar would be known no later than another that is stored.
    """
    rows = part[["ts", "known_at", *names]].sort_values(["ts", "known_at"])
    stored = dict(_iter_versions(before, names))
    newest = dict(stored.keys())
    keep = []
    for position, (key, values) in enumerate(_iter_versions(rows, names)):
        ts, known_at = key
        if key in stored and same_bits(stored[key], values).all():
            continue
        last = newest.get(ts)
        if last is not None and known_at <= last:
            times = [pd.Timestamp(x, tz="UTC") for x in (ts, last, known_at)]
            raise FeatureStoreError(
                f"{symbol}: a version of the bar of {times[0]} known at {times[1]} is stored, so "
                f"another cannot be known at {times[2]}; a correction is known later"
            )
        if last is not None and same_bits(stored[ts, last], values).all():
            continue
        newest[ts], stored[key] = known_at, values
        keep.append(position)
    return rows.iloc[keep]


def check_time(value: pd.Timestamp, name: str) -> pd.Timestamp:
    """A time in UTC.

    Raises
    ------
    FeatureStoreError
        If it is missing or has no time zone.
    """
    if not isinstance(value, pd.Timestamp) or value is pd.NaT or value.tzinfo is None:
        raise FeatureStoreError(f"{name} is {value!r}; expected a timestamp with a time zone")
    return value.tz_convert("UTC")


def read_names(root: Path) -> list[str] | None:
    """Names of a store's features; None where there is no store.

    Raises
    ------
    FeatureStoreError
        If `store.json` cannot be read, or is of another format.
    """
    try:
        meta = read_json(root / META)
        if meta["format"] != FORMAT:
            raise FeatureStoreError(f"{root}: format {meta['format']}, expected {FORMAT}; rebuild")
        return list(meta["names"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, FeatureStoreError):
            raise
        raise FeatureStoreError(f"{root / META}: cannot be read ({error}); rebuild it") from None


def _iter_versions(
    rows: pd.DataFrame, names: Sequence[str]
) -> Iterator[tuple[tuple[int, int], FloatArray]]:
    """(ts, known_at) in nanoseconds and the values, row by row."""
    ts, known_at = (rows[name].astype("int64").tolist() for name in ("ts", "known_at"))
    values = rows[list(names)].to_numpy(dtype=np.float64)
    return zip(zip(ts, known_at, strict=True), values, strict=True)
