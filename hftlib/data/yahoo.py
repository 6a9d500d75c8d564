"""Bars of Yahoo's chart service, through yfinance (extra `[sources]`).

The service is asked through yfinance's connection, which brings a browser's
handshake, cookies and crumb. Its answer is read here and not by
`Ticker.history`, which gives one and the same empty table for a delisted
symbol, an outage and a span without bars, and writes 0 for a volume that is
missing.

Daily bars are stamped with their day at the exchange, 00:00 UTC, as the
packaged ones are; intraday bars with their start. Prices are scaled by the
adjusted close. An adjustment reaches back from the day of asking, so that a
symbol is one request: spans asked for on two days do not fit together. A bar
that is not over, and today's daily bar, are left out.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from hftlib.data.bars import FIELDS, PRICES, RawBars
from hftlib.data.service import (
    AttemptError,
    Patience,
    Service,
    import_extra,
    parse_retry_after,
)

CHART = "https://query2.finance.yahoo.com/v8/finance/chart/"
INTERVALS = {"1m": 60, "2m": 120, "5m": 300, "15m": 900, "1h": 3_600, "1d": 86_400}  # seconds
TIMEOUT_S = 20
TRY_AGAIN = (429, 500, 502, 503, 504)

Get = Callable[[str, dict[str, str | int]], Any]


@dataclass(frozen=True)
class YahooRequest:
    """Bars of one symbol from `start` to `end`, both days included.

    Attributes
    ----------
    symbol : str
        Yahoo's name.
    interval : str
        One of `INTERVALS`.
    name : str or None
        The symbol's name in our data, if another.
    """

    symbol: str
    start: date
    end: date
    interval: str = "1d"
    name: str | None = None


def read_yahoo(
    requests: Sequence[YahooRequest],
    folder: Path,
    *,
    session: Any = None,
    patience: Patience = Patience(),  # noqa: B008 (frozen)
    now: pd.Timestamp | None = None,
) -> list[RawBars]:
    """One `RawBars` a request.

    Parameters
    ----------
    folder : path
        Of the answers; one that is there is not asked for again.
    session : curl_cffi session or None
        Goes to the network; None opens yfinance's usual one when needed.
    now : timezone-aware timestamp or None
        None takes the clock's.

    Raises
    ------
    ServiceError
        If yfinance is absent, or the service does not answer, or knows no such
        symbol, or has no bars in the span.
    """
    service = Service("yahoo", folder, patience)
    now = pd.Timestamp.now("UTC") if now is None else now
    connect = cache(lambda: _open(service, session))  # only if an answer is not on disk
    return [_read(request, service, connect, now) for request in requests]


def _read(
    request: YahooRequest, service: Service, connect: Callable[[], Get], now: pd.Timestamp
) -> RawBars:
    asked = _words(request, service)
    text = service.ask(
        asked,
        lambda: _ask(connect(), asked, request, service),
        is_final=request.end < now.tz_convert("UTC").date(),
    )
    table = _read_chart(json.loads(text)["chart"]["result"][0], request, now)
    if table.empty:
        raise service.error(asked, "there are no bars in that span; choose another.")
    return RawBars(request.name or request.symbol, service.name, table, "yahoo")


def _words(request: YahooRequest, service: Service) -> dict[str, str]:
    asked = {
        "symbol": request.symbol,
        "interval": request.interval,
        "start": str(request.start),
        "end": str(request.end),
    }
    if request.interval not in INTERVALS:
        raise service.error(asked, f"intervals are {', '.join(INTERVALS)}.")
    if not request.symbol.strip():
        raise service.error(asked, "the symbol is empty; name one.")
    if request.end < request.start:
        raise service.error(asked, "the end is before the start; swap them.")
    return asked


def _open(service: Service, session: Any) -> Get:
    """yfinance's `get`; refused, it raises an `AttemptError` with the wait that is wished for."""
    cookies = service.folder / "cookies"
    cookies.mkdir(parents=True, exist_ok=True)
    import_extra("yfinance").set_tz_cache_location(str(cookies))  # else in the user's home
    if session is None:
        session = import_extra("curl_cffi.requests").Session(impersonate="chrome")
    ask, headers = session.request, {}

    def request(*args: Any, **kwargs: Any) -> Any:
        answer = ask(*args, **kwargs)
        headers["Retry-After"] = answer.headers.get("Retry-After")
        return answer

    session.request = request  # yfinance's error has lost the header
    connection = import_extra("yfinance.data").YfData(session=session)
    refused = import_extra("yfinance.exceptions").YFRateLimitError

    def get(url: str, params: dict[str, str | int]) -> Any:
        try:
            return connection.get(url, params=params, timeout=TIMEOUT_S)
        except refused:
            wait_s = parse_retry_after(headers.get("Retry-After"))
            raise AttemptError("too many requests (429)", wait_s) from None
        except OSError as error:  # curl's errors are its children
            raise AttemptError(f"no answer ({str(error).split('See http')[0].strip()})") from None

    return get


def _ask(get: Get, asked: dict[str, str], request: YahooRequest, service: Service) -> str:
    """Text of an answer that holds a chart."""
    margin = timedelta(days=1)  # the exchange's day may begin before or end after that of UTC
    bounds = {"period1": request.start - margin, "period2": request.end + 2 * margin}
    params: dict[str, str | int] = {
        name: int(pd.Timestamp(day, tz="UTC").timestamp()) for name, day in bounds.items()
    }
    answer = get(CHART + quote(request.symbol, safe=""), {**params, "interval": request.interval})
    if answer.status_code in TRY_AGAIN:
        wait_s = parse_retry_after(answer.headers.get("Retry-After"))
        raise AttemptError(f"the service failed ({answer.status_code})", wait_s)
    text = str(answer.text)
    try:
        chart = json.loads(text)["chart"]
        failure = chart["error"]
        if failure is None:
            result = chart["result"][0]
            _ = result["meta"]["exchangeTimezoneName"], result["indicators"]["quote"][0]
    except (ValueError, KeyError, IndexError, TypeError):
        beginning = " ".join(text[:60].split())
        raise AttemptError(
            f"the answer ({answer.status_code}) is no chart but begins {beginning!r}"
        ) from None
    if failure is not None:
        raise service.error(asked, f"{failure.get('description') or failure.get('code')}.")
    return text


def _read_chart(chart: dict[str, Any], request: YahooRequest, now: pd.Timestamp) -> pd.DataFrame:
    """Bars of the span that are over, as text, with their row's number in the answer."""
    stamps = chart.get("timestamp") or []
    quotes = chart["indicators"]["quote"][0]
    columns = {name: quotes.get(name) or [None] * len(stamps) for name in (*PRICES, "volume")}
    table = pd.DataFrame(columns, dtype="float64")
    table["line"] = range(2, len(table) + 2)
    start = pd.to_datetime(pd.Series(stamps, dtype="int64"), unit="s", utc=True)
    if request.interval == "1d":
        zone = chart["meta"]["exchangeTimezoneName"]
        day = start.dt.tz_convert(zone).dt.date
        is_over = day < now.tz_convert(zone).date()
        table["ts"] = day.astype("str")
    else:
        day = start.dt.date
        is_over = start + pd.Timedelta(seconds=INTERVALS[request.interval]) <= now
        table["ts"] = start.dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    adjusted = (chart["indicators"].get("adjclose") or [{}])[0].get("adjclose")
    if adjusted is not None:
        ratio = pd.Series(adjusted, dtype="float64") / table["close"]
        table[list(PRICES)] = table[list(PRICES)].mul(ratio, axis=0)
    wanted = table[is_over & (day >= request.start) & (day <= request.end)]
    frame = wanted[[*FIELDS, "line"]].reset_index(drop=True)
    numbers = [*PRICES, "volume"]
    frame[numbers] = frame[numbers].map(lambda value: "" if pd.isna(value) else repr(float(value)))
    return frame.astype(dict.fromkeys(FIELDS, "str"))
