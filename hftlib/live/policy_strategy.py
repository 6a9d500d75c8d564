"""A served policy as a strategy of paper trading: bars go to the service, target weights come back.

Each symbol is traded with an equal share of the account, within which the policy sees what
`TradingEnv` showed it in training: what it holds and the exposure of that share. The service is
asked once for all symbols that closed a bar; bars since the last question go along, so that a
service whose streams are empty, as after the activation of another model, is sent all of them.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from hftlib.live.client import ServiceError
from hftlib.live.protocols import Bar
from hftlib.live.strategy import AccountView
from hftlib.live.ticks import Moment

N_KEPT = 100_000  # decisions
MAX_BARS = 10_000  # of one request
BUSY = (0, 429, 503, 504)  # 0 is no answer, as while the service ends or is started anew
PAUSES_S = (0.2, 1.0, 5.0)

Answer = TypeVar("Answer")


class PolicyService(Protocol):
    """What is asked; `client.ServiceClient` is one."""

    def predict(self, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """An answer for each item, as `answers.SymbolAnswer`."""

    def symbols(self) -> list[dict[str, Any]]:
        """Symbols of the model with the length and end of their streams."""


class Decided(NamedTuple):
    """One answer: `ts_ns` is the start of its bar, `seconds` what the question took."""

    ts_ns: int
    symbol: str
    action: float
    uncertainty: float | None
    confidence: float | None
    exposure: float
    model: str
    seconds: float


class PolicyStrategy:
    """Targets of a served model.

    Parameters
    ----------
    service : PolicyService
    symbols : sequence of str
        That are traded; the model must know them.
    max_weight : float
        Of the rules that the model was trained under: action 1 is this share.

    Attributes
    ----------
    decisions : deque of Decided, oldest first
    """

    def __init__(
        self, service: PolicyService, symbols: Sequence[str], max_weight: float = 1.0
    ) -> None:
        self._service, self._symbols, self._max_weight = service, tuple(symbols), max_weight
        self._bars: dict[str, list[Bar]] = {symbol: [] for symbol in symbols}
        self.decisions: deque[Decided] = deque(maxlen=N_KEPT)

    def observe(self, moment: Moment) -> None:
        """Keep the bars that ended."""
        for tick in moment.ticks:
            if tick.bar is not None:
                self._bars[tick.symbol].append(tick.bar)

    def decide(self, moment: Moment, account: AccountView) -> dict[str, float]:
        """Target weights of the symbols whose bar ended and whose history is long enough.

        Raises
        ------
        ValueError
            If the model does not know a symbol, or the service has bars that were not seen here.
        ServiceError
            If the service refuses, or is busy or gone for longer than `PAUSES_S`.
        """
        closed = {tick.symbol: tick.price for tick in moment.ticks if tick.bar is not None}
        if not closed:
            return {}
        self._send_missing(closed)
        n = len(self._symbols)
        items: list[dict[str, Any]] = []
        for symbol, price in closed.items():
            units = account.units.get(symbol, 0.0)
            exposure = n * units * price / account.equity if account.equity > 0 else 0.0
            account_now = {"position": float(np.sign(units)), "exposure": exposure}
            items.append({"symbol": symbol, "bars": self._bars[symbol][-1:], **account_now})
        start = time.perf_counter()
        answers = self._ask(partial(self._service.predict, items))
        seconds = time.perf_counter() - start
        targets = {}
        for item, answer in zip(items, answers, strict=True):
            if answer["action"] is None:
                continue
            symbol = str(answer["symbol"])
            targets[symbol] = answer["action"] * self._max_weight / n
            self.decisions.append(
                Decided(
                    int(answer["ts_ns"]),
                    symbol,
                    float(answer["action"]),
                    answer["uncertainty"],
                    answer["confidence"],
                    float(item["exposure"]),
                    f"{answer['model']['name']} {answer['model']['version']}",
                    seconds,
                )
            )
        return targets

    def _send_missing(self, symbols: Mapping[str, float]) -> None:
        """Bring the service's streams up to the bar before the newest one."""
        streams = {str(entry["symbol"]): entry for entry in self._ask(self._service.symbols)}
        for symbol in symbols:
            if symbol not in streams:
                raise ValueError(
                    f"the served model does not know {symbol}; it knows {', '.join(streams)}"
                )
            own, n_rows = self._bars[symbol], int(streams[symbol]["n_rows"])
            last = streams[symbol]["last_ts_ns"]
            if n_rows > len(own) or (n_rows and own[n_rows - 1].ts_ns != last):
                raise ValueError(
                    f"the service's stream of {symbol} has {n_rows} bars up to {last}, which are "
                    "not those of this feed; activate the model again to begin with empty streams"
                )
            for first in range(n_rows, len(own) - 1, MAX_BARS):
                bars = own[first : min(first + MAX_BARS, len(own) - 1)]
                self._ask(partial(self._service.predict, [{"symbol": symbol, "bars": bars}]))

    def _ask(self, question: Callable[[], Answer]) -> Answer:
        """The answer; a service that is busy is asked again, which changes nothing for it."""
        for pause_s in PAUSES_S:
            try:
                return question()
            except ServiceError as error:
                if error.status not in BUSY:
                    raise
                time.sleep(pause_s)
        return question()
