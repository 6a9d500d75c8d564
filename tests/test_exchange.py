"""Candles of an exchange, as a server on loopback gives them, become bars or clear errors."""

import json
import time
from datetime import date

import pandas as pd
import pytest
import requests

from hftlib.data.exchange import ExchangeRequest, read_exchanges
from hftlib.data.ingest import ingest_bars
from hftlib.data.service import Patience, ServiceError
from tests.loopback import Answer, serve

ccxt = pytest.importorskip("ccxt", reason="ccxt is not installed (extra [sources])")

HOUR_MS = 3_600_000
START_MS = 1_577_836_800_000  # 2020-01-01 00:00 UTC
NOW = pd.Timestamp("2024-06-03 18:20", tz="UTC")
QUICK = Patience(n_attempts=3, first_wait_s=0.001, longest_wait_s=2, interval_s=0)
# 100 days of hours: 2,400 candles, three pages of Binance's 1,000
REQUEST = ExchangeRequest("binance", "BTC/USDT", date(2020, 1, 1), date(2020, 4, 9))
MARKET = {
    "symbol": "BTCUSDT",
    "status": "TRADING",
    "baseAsset": "BTC",
    "baseAssetPrecision": 8,
    "quoteAsset": "USDT",
    "quotePrecision": 8,
    "quoteAssetPrecision": 8,
    "orderTypes": ["LIMIT", "MARKET"],
    "isSpotTradingAllowed": True,
    "isMarginTradingAllowed": True,
    "filters": [
        {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1e6", "tickSize": "0.01"},
        {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000", "stepSize": "0.00001"},
    ],
    "permissions": ["SPOT"],
}


def kline(ts: int) -> list:
    """One row of api/v3/klines: texts, and columns that no bar has."""
    price = 7_000 + (ts - START_MS) // HOUR_MS
    texts = [f"{price}.24", f"{price + 9}.25", f"{price - 9}.46", f"{price}.02", "511.81490100"]
    return [ts, *texts, ts + HOUR_MS - 1, "3675856.41", 7_640, "226.15", "1624508.96", "0"]


def klines(query: dict[str, str], first: int = START_MS, last: int = 2**62) -> Answer:
    """As Binance: from the first candle at or after `startTime`, at most `limit`."""
    since = max(int(query["startTime"]), first)
    stamps = range(-(-since // HOUR_MS) * HOUR_MS, min(last, 2**62), HOUR_MS)
    return Answer(json.dumps([kline(ts) for ts in stamps[: int(query["limit"])]]))


def serve_candles(*answers: Answer | None, **listing: int):
    """Each of `answers` is given to one page, None for the right one; then all pages are right."""
    left = list(answers)

    def reply(path: str, query: dict[str, str]) -> Answer:
        if path.endswith("/exchangeInfo"):
            symbols = [MARKET] if "/api/v3/" in path else []
            return Answer(json.dumps({"timezone": "UTC", "symbols": symbols}))
        given = left.pop(0) if left else None
        return klines(query, **listing) if given is None else given

    return serve(reply)


def read(loopback, folder, *wanted: ExchangeRequest, now=NOW, patience=QUICK):
    session = loopback.session_of(requests.Session)
    return read_exchanges(wanted or [REQUEST], folder, session=session, patience=patience, now=now)


def test_three_pages_become_one_series_without_a_seam(tmp_path):
    with serve_candles() as loopback:
        (raw,) = read(loopback, tmp_path)
    assert (raw.symbol, raw.source, raw.origin) == ("BTC/USDT", "binance", "exchange")
    result = ingest_bars([raw], as_of=NOW)
    assert (len(result.bars), len(result.quarantine)) == (2_400, 0)
    assert result.bars["ts"].iloc[[0, -1]].tolist() == [
        pd.Timestamp("2020-01-01 00:00Z"),
        pd.Timestamp("2020-04-09 23:00Z"),
    ]
    assert (result.bars["ts"].diff().dropna() == pd.Timedelta("1h")).all()
    first = result.bars.loc[0, ["open", "high", "low", "close", "volume"]].tolist()
    assert first == [7000.24, 7009.25, 6991.46, 7000.02, 511.814901]
    pages = loopback.asked_for("/api/v3/klines")
    assert [(int(page["startTime"]) - START_MS) // HOUR_MS for page in pages] == [0, 1_000, 2_000]
    assert {page["limit"] for page in pages} == {"1000"}


def test_what_was_fetched_is_not_asked_for_again(tmp_path):
    with serve_candles() as loopback:
        first = read(loopback, tmp_path)
        asked = len(loopback.asked)
        read(loopback, tmp_path)
        assert len(loopback.asked) == asked, "not even for the list of markets"
    offline = read(loopback, tmp_path)
    pd.testing.assert_frame_equal(offline[0].frame, first[0].frame)


def test_two_requests_share_the_list_of_markets(tmp_path):
    later = ExchangeRequest("binance", "BTC/USDT", date(2021, 1, 1), date(2021, 1, 2), name="BTC21")
    with serve_candles() as loopback:
        raw = read(loopback, tmp_path, REQUEST, later)
        assert len(loopback.asked_for("/api/v3/exchangeInfo")) == 1
    assert [(part.symbol, len(part.frame)) for part in raw] == [("BTC/USDT", 2_400), ("BTC21", 48)]


def test_a_download_that_broke_off_goes_on_where_it_stopped(tmp_path):
    outage = [None, *[Answer("oops", 502)] * 3]
    with serve_candles(*outage) as loopback:
        with pytest.raises(ServiceError, match="at 3 attempts"):
            read(loopback, tmp_path)
        before = len(loopback.asked_for("klines"))
        (raw,) = read(loopback, tmp_path)
        assert len(loopback.asked_for("klines")) - before == 2
    assert len(raw.frame) == 2_400


def test_a_listing_after_the_start_is_found_without_empty_pages(tmp_path):
    listed = START_MS + 1_500 * HOUR_MS
    with serve_candles(first=listed) as loopback:
        (raw,) = read(loopback, tmp_path)
        starts = [int(page["startTime"]) for page in loopback.asked_for("klines")]
    assert len(raw.frame) == 900
    assert starts == [START_MS, listed]


def test_a_delisted_symbol_ends_early_and_empty_pages_do_not_stop_the_rest(tmp_path):
    with serve_candles(last=START_MS + 30 * HOUR_MS) as loopback:
        (raw,) = read(loopback, tmp_path)
        assert len(loopback.asked_for("klines")) == 4, "one behind the last candle"
    assert len(raw.frame) == 30


def test_an_exchange_that_gives_fewer_than_asked_leaves_no_hole(tmp_path):
    def reply(path: str, query: dict[str, str]) -> Answer:
        if path.endswith("/exchangeInfo"):
            symbols = [MARKET] if "/api/v3/" in path else []
            return Answer(json.dumps({"timezone": "UTC", "symbols": symbols}))
        return klines(query | {"limit": "300"})

    with serve(reply) as loopback:
        (raw,) = read(loopback, tmp_path)
        assert len(loopback.asked_for("klines")) == 8
    assert (raw.frame["ts"].astype("int64").diff().dropna() == HOUR_MS).all()
    assert len(raw.frame) == 2_400


def test_a_span_that_is_not_over_is_asked_for_once_within_the_age_allowed(tmp_path):
    today = ExchangeRequest("binance", "BTC/USDT", date(2024, 6, 3), date(2024, 6, 3))
    with serve_candles() as loopback:
        first = read(loopback, tmp_path, today)
        (again,) = read(loopback, tmp_path, today, now=NOW + pd.Timedelta("5min"))
        assert len(loopback.asked_for("klines")) == 1
    pd.testing.assert_frame_equal(again.frame, first[0].frame)


def test_a_candle_that_ran_when_it_was_asked_for_is_asked_for_again_when_it_is_over(tmp_path):
    today = ExchangeRequest("binance", "BTC/USDT", date(2024, 6, 3), date(2024, 6, 3))
    with serve_candles() as loopback:
        read(loopback, tmp_path, today)
        (raw,) = read(loopback, tmp_path, today, now=NOW + pd.Timedelta("50min"))
        pages = loopback.asked_for("klines")
    assert len(raw.frame) == 19
    assert int(pages[-1]["startTime"]) == int(pd.Timestamp("2024-06-03T18Z").timestamp()) * 1_000


def test_the_candle_that_is_not_over_is_left_out_and_asked_for_later(tmp_path):
    today = ExchangeRequest("binance", "BTC/USDT", date(2024, 6, 3), date(2024, 6, 3))
    patience = Patience(n_attempts=1, interval_s=0, max_age_s=0)
    with serve_candles() as loopback:
        (raw,) = read(loopback, tmp_path, today, patience=patience)
        stamps = pd.to_datetime(raw.frame["ts"].astype("int64"), unit="ms", utc=True)
        assert stamps.iloc[[0, -1]].dt.hour.tolist() == [0, 17], "it is 18:20"
        later = NOW + pd.Timedelta("2h")
        (raw,) = read(loopback, tmp_path, today, now=later, patience=patience)
    assert len(raw.frame) == 20


def test_a_longer_span_does_not_take_a_shorter_one_s_page(tmp_path):
    short = ExchangeRequest("binance", "BTC/USDT", date(2024, 6, 1), date(2024, 6, 2))
    long = ExchangeRequest("binance", "BTC/USDT", date(2024, 6, 1), date(2024, 6, 4))
    with serve_candles(last=int(NOW.timestamp() * 1_000)) as loopback:
        assert len(read(loopback, tmp_path, short)[0].frame) == 48
    with serve_candles() as loopback:
        (raw,) = read(loopback, tmp_path, long, now=NOW + pd.Timedelta("1D"))
    assert len(raw.frame) == 3 * 24 + 18, "up to 17:00 of the fourth day"


def test_refused_for_haste_it_waits_as_long_as_it_is_told(tmp_path):
    text = '{"code":-1003,"msg":"Too many requests."}'
    with serve_candles(Answer(text, 429, {"Retry-After": "1"})) as loopback:
        start = time.monotonic()
        (raw,) = read(loopback, tmp_path)
    assert len(raw.frame) == 2_400
    assert time.monotonic() - start >= 1, "the backoff alone is a thousandth of that"


def test_an_exchange_that_wants_too_long_a_wait_is_given_up_at_once(tmp_path):
    with serve_candles(Answer("{}", 429, {"Retry-After": "600"})) as loopback:
        with pytest.raises(ServiceError, match="wants a wait of 600 s; try later"):
            read(loopback, tmp_path)
        assert len(loopback.asked_for("klines")) == 1


@pytest.mark.parametrize("text", ['[[1577836800000,"7195', "<html>maintenance</html>", ""])
def test_a_broken_answer_is_no_empty_page(tmp_path, text):
    with serve_candles(Answer(text)) as loopback:
        assert len(read(loopback, tmp_path)[0].frame) == 2_400
    message = "the answer is no JSON but begins"
    broken = [Answer(text)] * 3
    with serve_candles(*broken) as loopback, pytest.raises(ServiceError, match=message):
        read(loopback, tmp_path / "other")


def test_an_exchange_that_fails_for_good_says_so(tmp_path):
    message = "binance, asked for symbol BTC/USDT, interval 1h, since 1577836800000, .* 500 "
    outage = [Answer("oops", 500)] * 3
    with serve_candles(*outage) as loopback, pytest.raises(ServiceError, match=message):
        read(loopback, tmp_path)
    assert not list(tmp_path.rglob("*.json"))


def test_nobody_at_the_other_end_is_said_with_what_to_do(tmp_path):
    with serve_candles() as loopback:
        pass
    with pytest.raises(ServiceError) as error:
        read(loopback, tmp_path)
    message = str(error.value)
    assert "binance, asked for symbol BTC/USDT" in message
    assert "(ConnectionError), at 3 attempts; is the network there?" in message
    assert "To go on without it, take the request out" in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"symbol": "NOPE/USDT"}, "binance does not have market symbol NOPE/USDT"),
        ({"exchange": "binence"}, "ccxt knows no exchange 'binence'; did you mean binance"),
        ({"interval": "7m"}, "intervals of binance are 1s, 1m, 3m"),
        ({"end": date(2019, 1, 1)}, "the end is before the start; swap them"),
    ],
)
def test_a_request_that_cannot_be_is_told_so_without_another_try(tmp_path, changes, message):
    request = ExchangeRequest(**{**vars(REQUEST), **changes})
    with serve_candles() as loopback, pytest.raises(ServiceError, match=message):
        read(loopback, tmp_path, request)
    assert loopback.asked_for("klines") == []


def test_a_span_without_candles_is_told_as_that(tmp_path):
    message = "no candles in that span; choose another"
    with serve_candles(last=START_MS) as loopback, pytest.raises(ServiceError, match=message):
        read(loopback, tmp_path)
