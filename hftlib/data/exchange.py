"""Candles of crypto-asset exchanges, through ccxt (extra `[sources]`).

A span is asked for page by page, each from behind the last candle that came:
some exchanges give fewer than they are asked for. Every page is kept on disk,
so a download that was broken off goes on where it stopped. Candles are stamped
with their start, UTC; one that is not over is left out. ccxt reads a broken
answer as a page without candles, which would leave a silent hole: the answer
itself is looked at.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from functools import cache, partial
from pathlib import Path
from typing import Any

import pandas as pd

from hftlib.data.bars import FIELDS, PRICES, RawBars
from hftlib.data.service import (
    AttemptError,
    Patience,
    Service,
    ServiceError,
    import_extra,
    parse_retry_after,
)

PAGE = 500  # candles, where ccxt does not know the exchange's limit
TIMEOUT_MS = 20_000
DAY_MS = 86_400_000
PATIENCE = Patience(interval_s=0.0)  # ccxt keeps each exchange's own pace

Candles = list[list[float]]


@dataclass(frozen=True)
class ExchangeRequest:
    """Candles of one symbol from `start` to `end`, both days (UTC) included.

    Attributes
    ----------
    exchange : str
        ccxt's name of it, such as "binance".
    symbol : str
        ccxt's name, such as "BTC/USDT".
    interval : str
        The exchange's, such as "1h".
    name : str or None
        The symbol's name in our data, if another.
    """

    exchange: str
    symbol: str
    start: date
    end: date
    interval: str = "1h"
    name: str | None = None


def read_exchanges(
    requests: Sequence[ExchangeRequest],
    folder: Path,
    *,
    session: Any = None,
    patience: Patience = PATIENCE,
    now: pd.Timestamp | None = None,
) -> list[RawBars]:
    """One `RawBars` a request.

    Parameters
    ----------
    folder : path
        Of the answers; one that is there is not asked for again.
    session : requests session or None
        Goes to the network; None takes ccxt's own.
    now : timezone-aware timestamp or None
        None takes the clock's.

    Raises
    ------
    ServiceError
        If ccxt is absent, or knows no such exchange, symbol or interval, or the
        exchange does not answer, or has no candles in the span.
    """
    now = pd.Timestamp.now("UTC") if now is None else now
    # one of each, so that an exchange's pace and list of markets serve all its requests
    connect = cache(lambda name: _connect(name, session))
    serve = cache(lambda name: Service(name, folder, patience))
    return [
        _read(request, connect(request.exchange), serve(request.exchange), now)
        for request in requests
    ]


def _read(request: ExchangeRequest, exchange: Any, service: Service, now: pd.Timestamp) -> RawBars:
    asked: dict[str, str | int] = {"symbol": request.symbol, "interval": request.interval}
    span = {"start": str(request.start), "end": str(request.end)}
    if request.end < request.start:
        raise service.error(asked | span, "the end is before the start; swap them.")
    if request.interval not in (exchange.timeframes or {}):
        known = ", ".join(exchange.timeframes or {}) or "none"
        raise service.error(asked | span, f"intervals of {request.exchange} are {known}.")
    step = exchange.parse_timeframe(request.interval) * 1_000
    limit = _page_size(exchange)
    now_ms = int(now.timestamp() * 1_000)
    since = _milliseconds(request.start)
    stop = _milliseconds(request.end) + DAY_MS
    end = min(stop, now_ms - step + 1)  # a candle that is not over stays out
    candles: Candles = []
    while since < end:
        # not cut at now, which would be a page of its own at each reading
        page_end = min(since + limit * step, stop)
        page = {**asked, "since": since, "until": page_end, "limit": limit}
        is_final = page_end <= now_ms - now_ms % DAY_MS
        ask = partial(_ask, exchange, page, service, end)
        rows: Candles = json.loads(service.ask(page, ask, is_final=is_final))
        candles += [row for row in rows if since <= row[0] < min(page_end, end)]
        last = int(rows[-1][0]) if rows else -1
        if last >= page_end:  # the exchange's first candle, long after the start
            since = last
        elif last >= since:
            since = last + min(step, DAY_MS)  # months differ in length
        else:
            since = page_end
    if not candles:
        raise service.error(asked | span, "there are no candles in that span; choose another.")
    return RawBars(request.name or request.symbol, service.name, _as_text(candles), "exchange")


def _connect(name: str, session: Any) -> Any:
    ccxt = import_extra("ccxt")
    if name not in ccxt.exchanges:
        near = get_close_matches(name, ccxt.exchanges, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ServiceError(f"exchange: ccxt knows no exchange {name!r}{hint}")
    options: dict[str, Any] = {"enableRateLimit": True, "timeout": TIMEOUT_MS}
    if session is not None:
        options["session"] = session
    exchange = getattr(ccxt, name)(options)
    if not exchange.has["fetchOHLCV"]:
        raise ServiceError(f"exchange: {name} gives no candles; choose another exchange")
    return exchange


def _page_size(exchange: Any) -> int:
    known = ((exchange.features or {}).get("spot") or {}).get("fetchOHLCV") or {}
    return int(known.get("limit") or PAGE)


def _ask(exchange: Any, page: dict[str, Any], service: Service, end: int) -> str:
    """Candles before `until` and `end` as JSON, by time; if there are none, the next one."""
    ccxt = import_extra("ccxt")
    exchange.last_response_headers = None  # else those of the answer before a broken line
    fetch: Callable[..., Candles] = exchange.fetch_ohlcv
    try:
        candles = fetch(page["symbol"], page["interval"], page["since"], page["limit"])
    except ccxt.NetworkError as error:
        headers = exchange.last_response_headers or {}
        reason = " ".join(str(error).split())[:200]
        cause = f" ({type(error.__cause__).__name__})" if error.__cause__ is not None else ""
        raise AttemptError(
            f"{reason}{cause}", parse_retry_after(headers.get("Retry-After"))
        ) from None
    except ccxt.BaseError as error:
        raise service.error(page, f"{_shorten(error)}.") from None
    if not candles:
        text = str(exchange.last_http_response or "")
        try:
            json.loads(text)
        except ValueError:
            raise AttemptError(f"the answer is no JSON but begins {text[:60]!r}") from None
    candles = sorted(row for row in candles if row[0] < end)
    return json.dumps([row for row in candles if row[0] < page["until"]] or candles[:1])


def _shorten(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _as_text(candles: Candles) -> pd.DataFrame:
    table = pd.DataFrame(candles, columns=list(FIELDS))
    table["ts"] = table["ts"].astype("int64").astype("str")
    for name in (*PRICES, "volume"):
        numbers = pd.to_numeric(table[name])
        table[name] = ["" if pd.isna(number) else repr(float(number)) for number in numbers]
    table = table.astype(dict.fromkeys(FIELDS, "str"))
    return table.assign(line=range(2, len(table) + 2))


def _milliseconds(day: date) -> int:
    return int(pd.Timestamp(day, tz="UTC").timestamp() * 1_000)
