"""Histories of a model's symbols on the service: which bars may follow, and what each holds.

A request whose answer was lost can be sent again: bars of the newest request of a stream that
come once more unchanged are passed over.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from hftlib.live.faults import FieldFault, ServiceFault
from hftlib.live.frames import show_ts
from hftlib.live.protocols import Bar, SymbolState


class Stream:
    """History of one symbol.

    Attributes
    ----------
    n_rows : int
        Bars taken in.
    last : Bar or None
    sent : dict of int to Bar
        Bars of the newest request by their start.
    """

    def __init__(self, state: SymbolState) -> None:
        self.state = state
        self.n_rows = 0
        self.last: Bar | None = None
        self.sent: dict[int, Bar] = {}

    @property
    def last_ts_ns(self) -> int:
        """Start of the newest bar, 0 before the first."""
        return 0 if self.last is None else self.last.ts_ns

    def push(self, bars: Sequence[Bar]) -> None:
        """Take in the bars of one request; `ModelError` at one that the model refuses."""
        n_known = sum(not self._is_new(bar) for bar in bars)
        sent = {bar.ts_ns: bar for bar in bars[:n_known]}
        for bar in bars[n_known:]:
            self.state.push(bar)
            sent[bar.ts_ns] = bar
            self.sent = sent
            self.last = bar
            self.n_rows += 1

    def check(self, symbol: str, bars: Sequence[Bar], field: str) -> None:
        """Refuse bars that cannot follow.

        Raises
        ------
        ServiceFault
            409 at a bar that is not later than the last, and not one of the newest request.
        """
        for k, bar in enumerate(bars):
            if self._is_new(bar):
                return
            known = self.sent.get(bar.ts_ns)
            if known is not None and _equal(bar, known):
                continue
            end = show_ts(self.last_ts_ns)
            said = f"the stream of {symbol} ends at {end}, received a bar of {show_ts(bar.ts_ns)}"
            said += "" if known is None else " with other values"
            raise ServiceFault(
                409,
                "out_of_order" if known is None else "changed_bar",
                said,
                "send bars that are later; those of the last request may be sent again unchanged",
                [FieldFault(f"{field}[{k}].ts", f"must be later than {end}")],
            )

    def _is_new(self, bar: Bar) -> bool:
        return self.last is None or bar.ts_ns > self.last.ts_ns


class Streams:
    """Those of one model; `open_state` makes an empty history of a symbol."""

    def __init__(self, open_state: Callable[[str], SymbolState]) -> None:
        self._open_state = open_state
        self._by_symbol: dict[str, Stream] = {}

    def find(self, symbol: str) -> Stream | None:
        """The stream, None before its first bar."""
        stream = self._by_symbol.get(symbol)
        return None if stream is None or stream.last is None else stream

    def __getitem__(self, symbol: str) -> Stream:
        """A stream that has begun."""
        return self._by_symbol[symbol]

    def push(self, symbol: str, bars: Sequence[Bar]) -> None:
        """Take in bars; `ModelError` at one that the model refuses, those before it stay."""
        if symbol not in self._by_symbol:
            self._by_symbol[symbol] = Stream(self._open_state(symbol))
        self._by_symbol[symbol].push(bars)

    def describe(self, symbols: Sequence[str]) -> list[dict[str, Any]]:
        """As `answers.SymbolStatus`, also of symbols without a bar."""
        found = []
        for symbol in symbols:
            stream = self.find(symbol)
            n_rows, last = (0, None) if stream is None else (stream.n_rows, stream.last)
            last_ts_ns = None if last is None else last.ts_ns
            found.append({"symbol": symbol, "n_rows": n_rows, "last_ts_ns": last_ts_ns})
        return found


def _equal(a: Bar, b: Bar) -> bool:
    return all(x == y or (math.isnan(x) and math.isnan(y)) for x, y in zip(a, b, strict=True))
