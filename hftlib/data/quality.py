"""What is known of a symbol's bars beyond the rows that were refused.

Gaps, volumes of zero, repeated prices and an early end are facts about a
source, not faults of a row: they are counted, and flagged where they pass a
limit, because later stages must know of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hftlib.data.bars import PRICES, RawBars, SourceError

# ISO 8601 with an offset, and with any or none
OFFSET = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}.*?(Z|[+-]\d{2}(?::?\d{2})?)$"
DATE = r"\d{4}-\d{2}-\d{2}(?:\D.*)?"
SUMMER_AND_WINTER = 2  # offsets of one place

QUALITY = (
    "symbol",
    "source",
    "first",
    "last",
    "interval",
    "rows",
    "quarantined",
    "duplicates",
    "holes",
    "gaps",
    "longest_gap",
    "longest_constant",
    "zero_volume",
    "missing_volume",
    "stale_open_share",
    "offsets",
    "ends_early_by",
    "flags",
)


@dataclass(frozen=True)
class QualityLimits:
    """Beyond these a symbol is flagged.

    Attributes
    ----------
    max_gap_bars : float
        A longer step, in median intervals, is a gap.
    min_bars : int
        Fewer bars are too little history.
    max_constant_bars : int
        A longer run of bars with equal open, high, low and close is constant.
    max_stale_share : float
        A larger share of opens that repeat the close before is stale.
    max_lag_bars : float
        A series whose last bar is more intervals behind its source's is delisted.
    """

    max_gap_bars: float = 5.0
    min_bars: int = 250
    max_constant_bars: int = 10
    max_stale_share: float = 0.05
    max_lag_bars: float = 20.0


def refuse_mixed_stamps(raw: Sequence[RawBars]) -> None:
    """Refuse a file in which some stamps have an offset and others have none.

    Stamps of different offsets name instants and are converted; one without an
    offset is taken as UTC, which its neighbours show to be a guess.

    Raises
    ------
    SourceError
        Names one line of each kind.
    """
    files: dict[str, list[pd.DataFrame]] = {}
    for part in raw:
        files.setdefault(part.source, []).append(part.frame)
    for source, frames in files.items():
        table = pd.concat(frames)
        stamp = table["ts"].str.strip()
        is_aware = stamp.str.fullmatch(OFFSET)
        is_naive = stamp.str.fullmatch(DATE) & ~is_aware
        if is_aware.any() and is_naive.any():
            aware, naive = (
                f"{row['ts'].strip()!r} in line {row['line']}"
                for row in (table[is_aware].iloc[0], table[is_naive].iloc[0])
            )
            raise SourceError(
                f"{source}: mixed time zones: {aware} names an instant, {naive} has no offset; "
                "write the offset into every stamp, or into none if all are UTC"
            )


def count_offsets(parts: Sequence[RawBars]) -> int:
    """Different UTC offsets among the stamps that have one; two where clocks change in summer."""
    stamps = pd.concat([raw.frame["ts"] for raw in parts]).str.strip()
    return int(stamps.str.extract(OFFSET)[0].nunique())


def describe_symbol(
    symbol: str,
    bars: pd.DataFrame,
    refused: pd.DataFrame,
    refused_times: pd.Series,
    n_offsets: int,
    limits: QualityLimits,
) -> dict[str, object]:
    """The symbol's row of the quality table, less what needs the others.

    Parameters
    ----------
    bars : frame as `schema.BARS`
        One symbol, in time order, at least one row.
    refused : frame as `schema.QUARANTINE`
        Its refused rows.
    refused_times : series, timezone-aware, NaT where unreadable
        When those are, row by row.
    n_offsets : int
        As from `count_offsets`.
    """
    steps = bars["ts"].diff().dropna()
    interval = steps.median()
    is_inside = refused_times.between(bars["ts"].iloc[0], bars["ts"].iloc[-1])
    is_nan = refused["reason"].str.endswith("is not a number")
    return {
        "symbol": symbol,
        "source": ", ".join(bars["source"].unique()),
        "first": bars["ts"].iloc[0],
        "last": bars["ts"].iloc[-1],
        "interval": interval,
        "rows": len(bars),
        "quarantined": len(refused),
        "duplicates": int((refused["reason"] == "duplicate time").sum()),
        "holes": int((is_nan.to_numpy() & is_inside.to_numpy()).sum()),
        "gaps": int((steps > limits.max_gap_bars * interval).sum()),
        "longest_gap": steps.max(),
        "longest_constant": _longest_constant(bars),
        "zero_volume": int((bars["volume"] == 0).sum()),
        "missing_volume": int(bars["volume"].isna().sum()),
        "stale_open_share": float((bars["open"] == bars["close"].shift()).mean()),
        "offsets": n_offsets,
    }


def finish_table(
    rows: Sequence[dict[str, object]], groups: Sequence[str], limits: QualityLimits
) -> pd.DataFrame:
    """The quality table: how early each symbol ends among its like, and its flags.

    Parameters
    ----------
    rows : sequence of dict
        As from `describe_symbol`.
    groups : sequence of str
        Of each row, the source within which ends are compared.
    """
    table = pd.DataFrame(list(rows), columns=list(QUALITY))
    latest = table["last"].groupby(np.array(groups, dtype=object)).transform("max")
    table["ends_early_by"] = latest - table["last"]
    n_late = table["ends_early_by"] / table["interval"]  # nan with a single bar
    raised = {
        "too little history": table["rows"] < limits.min_bars,
        "delisted": n_late > limits.max_lag_bars,
        "constant prices": table["longest_constant"] > limits.max_constant_bars,
        "nan inside": table["holes"] > 0,
        "duplicates": table["duplicates"] > 0,
        "gaps": table["gaps"] > 0,
        "zero volume": table["zero_volume"] > 0,
        "missing volume": table["missing_volume"] > 0,
        "stale opens": table["stale_open_share"] > limits.max_stale_share,
        "mixed time zones": table["offsets"] > SUMMER_AND_WINTER,
    }
    marks = pd.DataFrame(raised)
    table["flags"] = [", ".join(marks.columns[row]) for row in marks.to_numpy(dtype=bool)]
    return table.set_index("symbol")


def _longest_constant(bars: pd.DataFrame) -> int:
    """Length of the longest run of bars that all have one and the same price."""
    prices = bars[list(PRICES)].to_numpy()
    is_flat = prices.min(axis=1) == prices.max(axis=1)
    goes_on = np.append(False, is_flat[1:] & is_flat[:-1] & (prices[1:, 0] == prices[:-1, 0]))
    run = np.cumsum(~goes_on)
    return int(np.bincount(run[is_flat]).max()) if is_flat.any() else 0
