"""Chronological splits with purge and embargo.

Named splits follow each other in time; each but the last has a last day, and
the last, `test`, takes all later rows. Rows whose label would reach over a
boundary are purged before it; rows just after it are embargoed. A series that
ends before a boundary, or starts after it, loses nothing to it.

Source: López de Prado (2018), Advances in Financial Machine Learning, ch. 7.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

LAST = "test"
SESSION = ["symbol", "source", "session"]
LISTED_DAYS = 12  # an error names each day of the data up to this many, then first and last


class SplitError(ValueError):
    """A split that would hold no rows, or rows that cannot be split."""


def split_by_date(
    ts: pd.Series, ends: Mapping[str, date], *, purge_bars: int, embargo_bars: int
) -> dict[str, npt.NDArray[np.int64]]:
    """Row numbers of each split of one symbol.

    Parameters
    ----------
    ts : series of shape (n_bars,), timezone-aware, increasing
        Bar times.
    ends : mapping of str to date
        Last day (UTC) of each split but the last, `test`, in time order.
    purge_bars : int
        Rows dropped before each boundary; at least the label horizon, or
        labels look across it.
    embargo_bars : int
        Rows dropped after each boundary.

    Returns
    -------
    dict of arrays
        Keys those of `ends`, then `test`; ascending positions in `ts`.

    Raises
    ------
    SplitError
        If a split is empty; the message names the dates that the data has.
    """
    days: npt.NDArray[Any] = ts.dt.date.to_numpy()
    n_bars = len(days)
    counts = {name: int((days <= end).sum()) for name, end in ends.items()}
    bounds = _bounds(counts, n_bars, purge_bars, embargo_bars)
    for name, (start, stop) in bounds.items():
        if stop <= start:
            limits = [*_limits(ends), f"purge_bars={purge_bars}", f"embargo_bars={embargo_bars}"]
            raise SplitError(
                f"split {name} is empty: {', '.join(limits)}, but the {n_bars} bars run "
                f"from {days[0]} to {days[-1]}; move the dates inside that range"
                if n_bars
                else f"split {name} is empty: there are no bars"
            )
    return {name: np.arange(start, stop) for name, (start, stop) in bounds.items()}


def split_frame(
    table: pd.DataFrame,
    symbols: Sequence[str],
    ends: Mapping[str, date],
    *,
    is_control: bool = False,
    **margins: int,
) -> dict[str, pd.DataFrame]:
    """Cut rows of several symbols, each by `split_by_date`.

    Synthetic rows may only train: a symbol that has any lies in the first split
    alone, and loses `purge_bars` rows at its end as the real symbols do there,
    so that it keeps their clock.

    Parameters
    ----------
    table : frame with columns symbol, ts, is_synthetic and any others
        Each symbol in time order.
    symbols : sequence of str
        Which to keep, and their order.
    is_control : bool
        All of the table is a control with a known answer: synthetic rows are
        cut like real ones.
    ends, **margins
        The other arguments of `split_by_date`.

    Returns
    -------
    dict of frames
        Keys those of `ends`, then `test`; rows of one symbol lie together.

    Raises
    ------
    SplitError
        If a symbol is unknown, one of its splits is empty, or it has synthetic
        rows after the first split.
    """
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in [*ends, LAST]}
    for symbol in symbols:
        rows = table[table["symbol"] == symbol]
        if rows.empty:
            known = ", ".join(sorted(table["symbol"].unique()))
            raise SplitError(f"symbol {symbol} is not in the data; known: {known}")
        if rows["is_synthetic"].any() and not is_control:
            name, end = next(iter(ends.items()))
            parts[name].append(_training_rows(rows, symbol, end, margins["purge_bars"]))
            continue
        try:
            cut = split_by_date(rows["ts"], ends, **margins)
        except SplitError as error:
            raise SplitError(f"{symbol}: {error}") from None
        for name, positions in cut.items():
            parts[name].append(rows.iloc[positions])
    for name, frames in parts.items():
        if not frames:
            raise SplitError(
                f"split {name} is empty: every symbol of {', '.join(symbols)} is synthetic, and "
                "synthetic rows may only train; name a real one"
            )
    return {name: pd.concat(frames, ignore_index=True) for name, frames in parts.items()}


def _training_rows(rows: pd.DataFrame, symbol: str, end: date, purge_bars: int) -> pd.DataFrame:
    """Rows of a synthetic symbol, or an error if one of them lies after `end`."""
    after = rows[rows["ts"].dt.date > end]
    if len(after):
        raise SplitError(
            f"{symbol} is synthetic and has {len(after)} rows after {end}, the first on "
            f"{after['ts'].iloc[0].date()}; synthetic rows may only train: end it by then"
        )
    return rows.iloc[: max(len(rows) - purge_bars, 0)]


def session_edges(snapshots: pd.DataFrame) -> npt.NDArray[np.int64]:
    """First row of each session, and the number of rows, shape (n_sessions + 1,).

    A session is a run of rows of equal symbol, source and session.
    """
    changes = np.zeros(len(snapshots), dtype=bool)
    for name in SESSION:
        column = snapshots[name]
        changes |= (column != column.shift()).to_numpy(dtype=bool)
    return np.append(np.flatnonzero(changes), len(snapshots))


def list_sessions(snapshots: pd.DataFrame) -> pd.DataFrame:
    """One row a session, in the order of the rows: symbol, source, session, n_rows."""
    edges = session_edges(snapshots)
    table = snapshots[SESSION].iloc[edges[:-1]].reset_index(drop=True)
    return table.assign(n_rows=np.diff(edges))


def split_sessions(
    sessions: pd.DataFrame, ends: Mapping[str, date], *, purge_rows: int, embargo_rows: int
) -> pd.DataFrame:
    """Put each session of a book into a split and say which of its rows count.

    Purge and embargo run over the rows of one symbol and source, through as
    many sessions as they need.

    Parameters
    ----------
    sessions : frame as from `list_sessions`
        In any order, each session once.
    ends : mapping of str to date
        Last session of each split but the last, `test`, in time order.
    purge_rows, embargo_rows : int
        Snapshots dropped before and after each boundary.

    Returns
    -------
    frame
        `sessions` with columns split, start and stop: rows start to stop - 1
        of the session belong to the split; none where start equals stop.

    Raises
    ------
    SplitError
        If a session comes twice or is not a day, or a split has no rows in
        all series together; the message names the days that the data has.
    """
    twice = sessions[sessions.duplicated(SESSION)]
    if len(twice):
        symbol, source, session = twice[SESSION].iloc[0]
        raise SplitError(
            f"session {session} of {symbol} from {source} comes twice; keep the rows of a session "
            "together, in one frame"
        )
    parts = []
    for _, series in sessions.groupby(["symbol", "source"], sort=False):
        series = series.sort_values("session")
        days = [_day(session) for session in series["session"]]
        n_rows = series["n_rows"].to_numpy()
        last = np.cumsum(n_rows)
        counts = {
            name: int(n_rows[[day <= end for day in days]].sum()) for name, end in ends.items()
        }
        bounds = _bounds(counts, int(last[-1]), purge_rows, embargo_rows)
        names = [next((name for name, end in ends.items() if day <= end), LAST) for day in days]
        limits = np.array([bounds[name] for name in names])
        inside = np.clip(limits - (last - n_rows)[:, None], 0, n_rows[:, None])
        stop = np.maximum(inside[:, 0], inside[:, 1])
        parts.append(series.assign(split=names, start=inside[:, 0], stop=stop))
    if not parts:
        raise SplitError("split train is empty: there are no sessions")
    plan = pd.concat(parts).loc[sessions.index]
    kept = (plan["stop"] - plan["start"]).groupby(plan["split"]).sum()
    for name in [*ends, LAST]:
        if kept.get(name, 0) == 0:
            limits_ = [*_limits(ends), f"purge_rows={purge_rows}", f"embargo_rows={embargo_rows}"]
            raise SplitError(
                f"split {name} is empty: {', '.join(limits_)}, but the {len(plan)} sessions are of "
                f"{_name_days(plan['session'])}; move the dates among those"
            )
    return plan


def _bounds(
    counts: Mapping[str, int], n_rows: int, purge: int, embargo: int
) -> dict[str, tuple[int, int]]:
    """First row and one past the last row of each split; `counts` are rows before its end."""
    edges = [0, *counts.values(), n_rows]
    return {
        name: (
            start + embargo if 0 < start < n_rows else start,
            stop - purge if 0 < stop < n_rows else stop,
        )
        for name, start, stop in zip([*counts, LAST], edges[:-1], edges[1:], strict=True)
    }


def _limits(ends: Mapping[str, date]) -> list[str]:
    return [f"{name}_end={end}" for name, end in ends.items()]


def _day(session: str) -> date:
    try:
        return date.fromisoformat(session)
    except ValueError:
        raise SplitError(f"session {session!r} is not a day; name it YYYY-MM-DD") from None


def _name_days(sessions: pd.Series) -> str:
    days = sorted(sessions.unique())
    return ", ".join(days) if len(days) <= LISTED_DAYS else f"{days[0]} to {days[-1]}"
