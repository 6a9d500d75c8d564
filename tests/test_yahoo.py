"""Yahoo's chart answers, as a server on loopback gives them, become bars or clear errors."""

import json
import time
from datetime import date

import pandas as pd
import pytest

from hftlib.data.ingest import ingest_bars
from hftlib.data.service import Patience, ServiceError
from hftlib.data.yahoo import YahooRequest, read_yahoo
from tests.loopback import Answer, serve

pytest.importorskip("yfinance", reason="yfinance is not installed (extra [sources])")
curl = pytest.importorskip("curl_cffi.requests", reason="curl_cffi is not installed")

NOW = pd.Timestamp("2024-06-03 18:00", tz="UTC")
QUICK = Patience(n_attempts=3, first_wait_s=0.001, longest_wait_s=1, interval_s=0)
REQUEST = YahooRequest("AAPL", date(2020, 1, 2), date(2020, 1, 9))
# Open of the sessions of 1 to 10 January 2020 in New York, but the holiday and the weekend.
STAMPS = [1577975400 + 86_400 * day for day in (0, 1, 4, 5, 6, 7, 8)]


def chart(stamps=STAMPS, *, zone="America/New_York", has_adjusted=True, **quote) -> str:
    """An answer of v8/finance/chart; a row's close is 100 plus its number."""
    close = [100.0 + row for row in range(len(stamps))]
    columns = {
        "open": [c - 0.5 for c in close],
        "high": [c + 1 for c in close],
        "low": [c - 1 for c in close],
        "close": close,
        "volume": [1_000 * (row + 1) for row in range(len(stamps))],
        **quote,
    }
    indicators = {"quote": [columns if stamps else {}]}
    if has_adjusted and stamps:
        indicators["adjclose"] = [
            {"adjclose": [None if c is None else c / 2 for c in columns["close"]]}
        ]
    meta = {
        "currency": "USD",
        "symbol": "AAPL",
        "exchangeName": "NMS",
        "instrumentType": "EQUITY",
        "gmtoffset": -18_000,
        "timezone": "EST",
        "exchangeTimezoneName": zone,
        "priceHint": 2,
        "dataGranularity": "1d",
        "range": "",
        "validRanges": ["1d", "5d", "1mo", "max"],
    }
    result = {"meta": meta, "indicators": indicators}
    if stamps:
        result["timestamp"] = list(stamps)
    return json.dumps({"chart": {"result": [result], "error": None}})


def failure(code: str, description: str) -> str:
    error = {"code": code, "description": description}
    return json.dumps({"chart": {"result": None, "error": error}})


def serve_charts(*answers: Answer):
    """The last answer is repeated; crumbs and cookies are given as the service gives them."""
    left = list(answers)

    def reply(path: str, query: dict[str, str]) -> Answer:
        if path.endswith("/getcrumb"):
            return Answer("Dqk9.crumb")
        if "/v8/finance/chart/" not in path:
            return Answer("", 404 if "fc.yahoo" in path else 200)
        return left.pop(0) if len(left) > 1 else left[0]

    return serve(reply)


def read(loopback, folder, *requests: YahooRequest, now=NOW, patience=QUICK):
    session = loopback.session_of(curl.Session, impersonate="chrome")
    return read_yahoo(requests or [REQUEST], folder, session=session, patience=patience, now=now)


def test_a_chart_becomes_adjusted_bars_of_the_days_asked_for(tmp_path):
    with serve_charts(Answer(chart())) as loopback:
        (raw,) = read(loopback, tmp_path)
    assert (raw.symbol, raw.source, raw.origin) == ("AAPL", "yahoo", "yahoo")
    assert raw.frame["ts"].tolist() == [f"2020-01-{day:02d}" for day in (2, 3, 6, 7, 8, 9)], (
        "10 January is after the end"
    )
    assert raw.frame["close"].astype(float).tolist() == [50 + row / 2 for row in range(6)]
    assert raw.frame["high"].astype(float).tolist() == pytest.approx(
        [(101 + row) / 2 for row in range(6)]
    )
    result = ingest_bars([raw], as_of=NOW)
    assert (len(result.bars), len(result.quarantine)) == (6, 0)
    assert not result.bars["is_synthetic"].any()
    (query,) = loopback.asked_for("/v8/finance/chart/AAPL")
    assert query["interval"] == "1d"
    assert int(query["period1"]) <= STAMPS[0] and int(query["period2"]) > STAMPS[-2]


def test_null_rows_are_quarantined_and_null_volumes_stay_missing(tmp_path):
    close = [100.0, None, *range(102, 107)]
    quote = {name: close for name in ("open", "high", "low", "close")}
    with serve_charts(Answer(chart(**quote, volume=[None] * 7))) as loopback:
        result = ingest_bars(read(loopback, tmp_path), as_of=NOW)
    assert result.quarantine[["line", "reason"]].values.tolist() == [[3, "open is not a number"]]
    assert len(result.bars) == 5 and result.bars["volume"].isna().all()
    assert result.quality.loc["AAPL", "flags"] == ("too little history, nan inside, missing volume")


def test_intraday_bars_keep_their_instant_and_are_not_adjusted(tmp_path):
    stamps = [1717421400 + 3_600 * k for k in range(6)]  # 3 June 2024 13:30 UTC and on
    request = YahooRequest("AAPL", date(2024, 6, 3), date(2024, 6, 3), "1h", name="APPLE")
    with serve_charts(Answer(chart(stamps, has_adjusted=False))) as loopback:
        (raw,) = read(loopback, tmp_path, request)
    assert raw.symbol == "APPLE"
    # it is 18:00: the bar of 17:30 is not over
    assert raw.frame["ts"].tolist() == [f"2024-06-03T{hour}:30:00Z" for hour in (13, 14, 15, 16)]
    assert raw.frame["close"].astype(float).tolist() == [100, 101, 102, 103]


def test_today_s_daily_bar_is_left_out(tmp_path):
    stamps = [1717162200, 1717421400]  # 31 May and 3 June 2024
    request = YahooRequest("AAPL", date(2024, 5, 31), date(2024, 6, 3))
    with serve_charts(Answer(chart(stamps))) as loopback:
        (raw,) = read(loopback, tmp_path, request)
    assert raw.frame["ts"].tolist() == ["2024-05-31"]


def test_the_day_is_that_of_the_exchange(tmp_path):
    # Sydney opens at 23:00 UTC of the day before.
    stamps = [int(pd.Timestamp(f"2020-01-{day:02d} 23:00Z").timestamp()) for day in (1, 2, 5)]
    with serve_charts(Answer(chart(stamps, zone="Australia/Sydney"))) as loopback:
        (raw,) = read(loopback, tmp_path)
    assert raw.frame["ts"].tolist() == ["2020-01-02", "2020-01-03", "2020-01-06"]
    (query,) = loopback.asked_for("/v8/")
    assert int(query["period1"]) <= stamps[0]


def test_a_span_that_is_over_is_asked_for_once(tmp_path):
    with serve_charts(Answer(chart())) as loopback:
        first = read(loopback, tmp_path)
        asked = len(loopback.asked)
        again = read(loopback, tmp_path)
        assert len(loopback.asked) == asked, "not even a cookie"
    offline = read(loopback, tmp_path)
    for raw in (again, offline):
        pd.testing.assert_frame_equal(raw[0].frame, first[0].frame)


def test_a_span_up_to_today_is_asked_for_again_when_it_is_old(tmp_path):
    request = YahooRequest("AAPL", date(2020, 1, 2), NOW.date())
    hasty = Patience(n_attempts=1, interval_s=0, max_age_s=0)
    with serve_charts(Answer(chart())) as loopback:
        for _ in range(2):
            read(loopback, tmp_path, request, patience=hasty)
        assert len(loopback.asked_for("/v8/")) == 2


def test_refused_for_haste_it_waits_as_long_as_it_is_told(tmp_path):
    busy = Answer("Too Many Requests", 429, {"Retry-After": "1"})
    with serve_charts(busy, busy, Answer(chart())) as loopback:
        start = time.monotonic()
        (raw,) = read(loopback, tmp_path)
    assert len(raw.frame) == 6
    assert time.monotonic() - start >= 1, "the backoff alone is a thousandth of that"


def test_refused_for_good_says_so(tmp_path):
    message = r"yahoo, asked for symbol AAPL, .*: too many requests \(429\), at 3 attempts"
    refusal = Answer("Too Many Requests", 429)
    with serve_charts(refusal) as loopback, pytest.raises(ServiceError, match=message):
        read(loopback, tmp_path)


def test_a_service_that_fails_for_good_says_so_and_leaves_no_answer(tmp_path):
    with serve_charts(Answer("oops", 500)) as loopback:
        with pytest.raises(ServiceError, match=r"the service failed \(500\), at 3 attempts"):
            read(loopback, tmp_path)
        assert len(loopback.asked_for("/v8/")) >= 3
    assert not list(tmp_path.rglob("*.json"))


def test_a_failure_that_passes_is_not_noticed(tmp_path):
    broken = Answer('{"chart": {"result": [{"meta"')
    with serve_charts(broken, Answer("<html>"), Answer(chart())) as loopback:
        assert len(read(loopback, tmp_path)[0].frame) == 6


@pytest.mark.parametrize("text", ["", "<html>maintenance</html>", "[]", '{"chart": {}}', "null"])
def test_an_answer_that_is_no_chart_is_quoted(tmp_path, text):
    with serve_charts(Answer(text)) as loopback, pytest.raises(ServiceError) as error:
        read(loopback, tmp_path)
    assert f"the answer (200) is no chart but begins {text!r}" in str(error.value)


def test_nobody_at_the_other_end_is_said_with_what_to_do(tmp_path):
    with serve_charts(Answer(chart())) as loopback:
        pass
    with pytest.raises(ServiceError) as error:
        read(loopback, tmp_path)
    message = str(error.value)
    assert "yahoo, asked for symbol AAPL, interval 1d, start 2020-01-02, end 2020-01-09:" in message
    assert "no answer (Failed to perform, curl: (7) Failed to connect" in message
    assert "is the network there? To go on without it, take the request out" in message


def test_a_delisted_symbol_is_told_in_the_service_s_words_without_another_try(tmp_path):
    gone = Answer(failure("Not Found", "No data found, symbol may be delisted"), 404)
    with serve_charts(gone) as loopback:
        with pytest.raises(ServiceError, match="No data found, symbol may be delisted"):
            read(loopback, tmp_path)
        # yfinance itself asks twice, with other cookies
        assert len(loopback.asked_for("/v8/")) <= 2


def test_a_symbol_is_quoted_in_the_address(tmp_path):
    request = YahooRequest("^GSPC", REQUEST.start, REQUEST.end, name="SP500Y")
    with serve_charts(Answer(chart())) as loopback:
        (raw,) = read(loopback, tmp_path, request)
    assert raw.symbol == "SP500Y"
    assert len(loopback.asked_for("/v8/finance/chart/%5EGSPC")) == 1


def test_a_span_without_bars_is_told_as_that(tmp_path):
    empty = Answer(chart([]))
    with serve_charts(empty) as loopback, pytest.raises(ServiceError, match="no bars in that span"):
        read(loopback, tmp_path)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (YahooRequest("", date(2020, 1, 1), date(2020, 1, 2)), "the symbol is empty; name one"),
        (YahooRequest("A", date(2020, 1, 2), date(2020, 1, 1)), "the end is before the start"),
        (YahooRequest("A", date(2020, 1, 1), date(2020, 1, 2), "1wk"), "intervals are 1m, 2m"),
    ],
)
def test_a_request_that_cannot_be_is_not_sent(tmp_path, request_, message):
    with serve_charts(Answer(chart())) as loopback:
        with pytest.raises(ServiceError, match=message):
            read(loopback, tmp_path, request_)
        assert loopback.asked == []


def test_nothing_is_written_outside_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with serve_charts(Answer(chart())) as loopback:
        read(loopback, tmp_path / "answers")
    assert not (tmp_path / "home").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["answers"]
