"""One loaded model with the streams of its symbols: items of requests in, views and rows out.

Everything here runs on one worker thread (`batching`), so nothing is locked. A
request is checked as a whole before any of its bars goes on a stream: one that
the streams cannot continue with changes none. What only the model finds wrong is
found later; a client may then correct its request and send all of it again.
`arms` puts requests together.
"""

import contextlib
import math
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np

from hftlib.live.faults import FieldFault, ServiceFault
from hftlib.live.frames import bar_frame, book_frame, show_ts
from hftlib.live.outcomes import ModelRow, Seen, split_rows
from hftlib.live.protocols import Bar, FloatArray, Predictor
from hftlib.live.requests import SymbolBody, refuse_fields
from hftlib.live.streams import Streams

DAY_NS = 86_400 * 10**9


def warm_up(predictor: Predictor) -> None:
    """Let a predictor of bars observe once, so that what is compiled at first use is ready.

    On invented bars; what it says of them is of no interest.
    """
    card = predictor.card
    if card.takes != "bars":
        return
    with contextlib.suppress(Exception):  # a model that fails says so when it is asked
        state = predictor.open_state(card.symbols[0])
        for k in range(card.min_rows + 1):
            close = 100.0 + 5.0 * math.sin(k)
            state.push(Bar(k * DAY_NS, close, close + 1.0, close - 1.0, close, 1000.0 + k % 7))
        state.observe(0.0, 0.0)


class ServedModel:
    """A predictor and its streams.

    Parameters
    ----------
    predictor : Predictor
    clock : callable
        Nanoseconds since 1970.
    max_ahead_s, max_age_s : float
        As `ServiceSettings`.
    """

    def __init__(
        self,
        predictor: Predictor,
        clock: Callable[[], int],
        max_ahead_s: float = 5.0,
        max_age_s: float = 0.0,
    ) -> None:
        self.card = predictor.card
        self._predictor = predictor
        self._known = frozenset(self.card.symbols)
        self._streams = Streams(predictor.open_state)
        self._clock = clock
        self._max_ahead_ns = int(max_ahead_s * 1e9)
        self._max_age_ns = int(max_age_s * 1e9)

    def list_streams(self) -> list[dict[str, Any]]:
        """Every symbol of the model with the length and end of its stream."""
        return self._streams.describe(self.card.symbols)

    def check(self, items: Sequence[SymbolBody], min_rows: Sequence[int]) -> None:
        """Refuse what the streams or the model cannot take; changes nothing.

        Parameters
        ----------
        items : sequence of SymbolBody
            Of one request.
        min_rows : sequence of int
            Of the model that will answer each item.

        Raises
        ------
        ServiceFault
            404, 409 or 422, with the field.
        """
        now = self._clock()
        streamed: set[str] = set()
        for number, item in enumerate(items):
            where = f"items[{number}]."
            field = where + item.field
            if item.symbol not in self._known:
                raise self._unknown(item.symbol, where + "symbol")
            if not item.rows:
                self._check_begun(item.symbol, field, min_rows[number])
                continue
            takes = "book" if item.snapshots else "bars"
            if takes != self.card.takes:
                wanted = "snapshots" if self.card.takes == "book" else "bars or window"
                raise ServiceFault(
                    409,
                    "wrong_input",
                    f"model {self.card.name} takes {wanted}, received {item.field}",
                    "send what `/model/info` names under takes, or activate another model",
                    [FieldFault(field, f"expected {wanted}")],
                )
            self._check_state(item, where)
            self._check_times(item, field, now)
            if item.bars:
                if item.symbol in streamed:
                    fault = FieldFault(where + "symbol", "is twice in the request", item.symbol)
                    raise refuse_fields([fault])
                streamed.add(item.symbol)
                stream = self._streams.find(item.symbol)
                if stream is not None:
                    stream.check(item.symbol, item.to_bars(), field)
            elif len(item.rows) < min_rows[number]:
                expected = f"expected at least {min_rows[number]} rows"
                raise refuse_fields([FieldFault(field, expected, str(len(item.rows)))])

    def push(self, number: int, item: SymbolBody) -> None:
        """Put the newest bars of an item that was checked on its stream.

        Raises
        ------
        ServiceFault
            422 at a bar that the model refuses; those before it stay.
        """
        try:
            self._streams.push(item.symbol, item.to_bars())
        except ValueError as error:
            raise _refused(number, item, error) from error

    def view(self, number: int, item: SymbolBody) -> Seen:
        """What the model sees of an item that was checked and pushed.

        Raises
        ------
        ServiceFault
            422 if the model can make no observation of it.
        """
        try:
            if item.window or item.snapshots:
                frame = book_frame(item) if item.snapshots else bar_frame(item)
                view = self._predictor.observe(frame, item.position, item.exposure)
                return Seen(item.symbol, item.rows[-1].ts, len(item.rows), view)
            stream = self._streams[item.symbol]
            newest = stream.state.observe(item.position, item.exposure)
            return Seen(item.symbol, stream.last_ts_ns, stream.n_rows, newest)
        except ValueError as error:
            raise _refused(number, item, error) from error

    def predict(self, observations: Sequence[FloatArray]) -> list[ModelRow]:
        """The model's answers, in the order of the observations; none for none.

        Raises
        ------
        ServiceFault
            503 if it fails, or gives an action that is not finite.
        """
        if not observations:
            return []
        try:
            rows = split_rows(self._predictor.predict(np.stack(observations)), len(observations))
        except ValueError as error:
            raise self._broken(str(error)) from error
        if not all(math.isfinite(row.action) for row in rows):
            raise self._broken("it gave an action that is not finite")
        return rows

    def _check_state(self, item: SymbolBody, where: str) -> None:
        """Refuse an own order that the model does not read, and one that it lacks."""
        wanted = ", ".join(self.card.state)
        if wanted and item.state is None:
            said = f"expected {wanted}: model {self.card.name} works an order of your own"
            raise refuse_fields([FieldFault(where + "state", said)])
        if item.state is not None and not wanted:
            said = f"model {self.card.name} reads no order of your own; leave it out"
            raise refuse_fields([FieldFault(where + "state", said)])

    def _check_times(self, item: SymbolBody, field: str, now: int) -> None:
        times = [row.ts for row in item.rows]
        for k in range(1, len(times)):
            if not times[k] > times[k - 1]:
                message = "must be later than the row before"
                raise refuse_fields([FieldFault(f"{field}[{k}].ts", message, show_ts(times[k]))])
        newest = f"{field}[{len(times) - 1}].ts"
        if times[-1] > now + self._max_ahead_ns:
            message = f"lies in the future; this clock says {show_ts(now)}"
            raise refuse_fields([FieldFault(newest, message, show_ts(times[-1]))])
        if self._max_age_ns and times[-1] < now - self._max_age_ns:
            limit = f"is stale: older than {self._max_age_ns / 1e9:g} s"
            raise refuse_fields([FieldFault(newest, limit, show_ts(times[-1]))])

    def _check_begun(self, symbol: str, field: str, min_rows: int) -> None:
        if self._streams.find(symbol) is None:
            raise ServiceFault(
                409,
                "empty_stream",
                f"the stream of {symbol} has no bars, as after every activation",
                f"send at least {min_rows} of them, or a window",
                [FieldFault(field, f"expected at least {min_rows} bars, as the stream is empty")],
            )

    def _unknown(self, symbol: str, field: str) -> ServiceFault:
        close = get_close_matches(symbol, self._known, n=1)
        remedy = f"did you mean {close[0]}?" if close else "`/symbols` lists those that it knows"
        message = f"model {self.card.name} does not know symbol {symbol!r}"
        fields = [FieldFault(field, "expected a symbol of the model", symbol)]
        return ServiceFault(404, "unknown_symbol", message, remedy, fields)

    def _broken(self, why: str) -> ServiceFault:
        message = f"model {self.card.name} failed: {why}"
        return ServiceFault(503, "model_failed", message, "activate another model; see the log")


def _refused(number: int, item: SymbolBody, error: ValueError) -> ServiceFault:
    return refuse_fields([FieldFault(f"items[{number}].{item.field}", str(error))])
