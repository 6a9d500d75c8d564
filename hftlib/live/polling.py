"""Moments of services that are asked at intervals: exchanges and Yahoo, by the clients of data."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from hftlib.data.exchange import PATIENCE as EXCHANGE_PATIENCE
from hftlib.data.exchange import ExchangeRequest, read_exchanges
from hftlib.data.ingest import ingest_bars
from hftlib.data.service import Patience
from hftlib.data.yahoo import YahooRequest, read_yahoo
from hftlib.live.feeds import group_bars
from hftlib.live.ticks import FeedError, Moment, Tick
from hftlib.schema import BARS, validate


class PolledBars:
    """The newest bars of a service, asked for at intervals: each becomes a quote at its close.

    A time of which a known symbol has no bar yet waits for the next call, and no longer. What
    comes later still is late: it is shown to the strategy before newer bars, and not traded.

    Parameters
    ----------
    fetch : callable
        Takes the clock's nanoseconds and returns `schema.BARS` that are over. A `ValueError`, as
        those of the sources and of the schema, or an `OSError` is a call that failed.
    bar_ns, every_ns : int
        Length of a bar; between two calls.
    start_ns : int
        Of the first call.
    n_failures : int
        Calls in a row that may fail before the feed is dead.
    """

    def __init__(
        self,
        fetch: Callable[[int], pd.DataFrame],
        *,
        bar_ns: int,
        every_ns: int,
        start_ns: int,
        n_failures: int = 3,
    ) -> None:
        self._fetch, self._bar_ns, self._every_ns = fetch, bar_ns, every_ns
        self._next_ns, self._last_ns, self._waited_ns = start_ns, 0, -1
        self._shown: dict[str, int] = {}  # start of the newest bar of each symbol
        self._ends: dict[str, int] = {}  # and of the newest that the service has had
        self._allowed, self._failed = n_failures, 0

    def next_ns(self) -> int:
        """Time of the next call."""
        return self._next_ns

    def poll(self, now_ns: int) -> list[Moment]:
        """Bars that have closed since the last call, each symbol's once and in order."""
        self._next_ns = now_ns + self._every_ns
        try:
            bars = validate(self._fetch(now_ns), BARS)
        except (ValueError, OSError) as error:  # of the sources and of the schema
            self._failed += 1
            if self._failed >= self._allowed:
                raise FeedError(
                    f"{self._failed} calls in a row failed; the last: {error}"
                ) from error
            return []
        self._failed = 0
        groups = group_bars(bars)
        known = {symbol: bar.ts_ns for found in groups.values() for symbol, bar in found}
        self._ends = self._ends | known
        moments = []
        for ts_ns, found in groups.items():
            fresh = [(s, bar) for s, bar in found if ts_ns > self._shown.get(s, -1)]
            if not fresh:
                continue
            end_ns = ts_ns + self._bar_ns
            is_late = end_ns <= self._last_ns
            if not is_late and min(self._ends.values()) < ts_ns and ts_ns > self._waited_ns:
                self._waited_ns = max(groups)  # a symbol is missing: once, for one call
                break
            self._shown |= dict.fromkeys((symbol for symbol, _ in fresh), ts_ns)
            ticks = tuple(Tick(symbol, bar.close, bar.volume, bar=bar) for symbol, bar in fresh)
            moments.append(Moment(end_ns, "late" if is_late else "quote", ticks))
            self._last_ns = max(self._last_ns, end_ns)
        return moments


def fetch_from_services(
    requests: Sequence[ExchangeRequest | YahooRequest],
    folder: Path,
    *,
    max_age_s: float,
    session: Any = None,
) -> Callable[[int], pd.DataFrame]:
    """What `PolledBars` calls: bars of an exchange or of Yahoo through the clients of `data`.

    Needs the extra `[sources]`. Each call asks from a request's `start` to the day of the clock;
    an answer younger than `max_age_s` is not asked for again.
    """

    def fetch(now_ns: int) -> pd.DataFrame:
        now = pd.Timestamp(now_ns, tz="UTC")
        asked = [replace(request, end=now.date()) for request in requests]
        raw = []
        candles = [r for r in asked if isinstance(r, ExchangeRequest)]
        charts = [r for r in asked if isinstance(r, YahooRequest)]
        if candles:
            patience = replace(EXCHANGE_PATIENCE, max_age_s=max_age_s)
            raw += read_exchanges(candles, folder, session=session, patience=patience, now=now)
        if charts:
            patience = Patience(max_age_s=max_age_s)
            raw += read_yahoo(charts, folder, session=session, patience=patience, now=now)
        return ingest_bars(raw, as_of=now).bars

    return fetch
