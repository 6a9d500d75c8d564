"""Feeds from the services' clients, asked over loopback, and the clocks that pace them."""

import time
from datetime import date

import pandas as pd
import pytest
import requests

from hftlib.data.bars import SourceError
from hftlib.data.exchange import ExchangeRequest
from hftlib.data.ingest import ingest_bars
from hftlib.data.yahoo import YahooRequest
from hftlib.live.clock import AcceleratedClock, RealClock
from hftlib.live.polling import PolledBars, fetch_from_services
from hftlib.live.ticks import FeedError
from tests import test_exchange, test_yahoo
from tests.loopback import Answer

HOUR = 3600 * 10**9
START = pd.Timestamp("2020-01-01", tz="UTC").value
BITCOIN = ExchangeRequest("binance", "BTC/USDT", date(2020, 1, 1), date(2020, 1, 1))


def poll_exchange(loopback, folder):
    fetch = fetch_from_services(
        [BITCOIN], folder, max_age_s=0.0, session=loopback.session_of(requests.Session)
    )
    return PolledBars(fetch, bar_ns=HOUR, every_ns=HOUR, start_ns=START)


def test_polled_candles_come_when_they_are_over_each_once(tmp_path):
    with test_exchange.serve_candles() as loopback:
        feed = poll_exchange(loopback, tmp_path)
        first = feed.poll(START + 3 * HOUR + HOUR // 2)
        assert [m.ts_ns for m in first] == [START + k * HOUR for k in (1, 2, 3)]
        assert feed.next_ns() == START + 4 * HOUR + HOUR // 2
        assert feed.poll(START + 3 * HOUR + HOUR // 2 + 1) == []
        # over midnight: the request's end follows the clock
        (last,) = feed.poll(START + 25 * HOUR)[-1:]
    (tick,) = last.ticks
    assert (last.kind, last.ts_ns, tick.symbol) == ("quote", START + 25 * HOUR, "BTC/USDT")
    assert tick.bar == (START + 24 * HOUR, 7024.24, 7033.25, 7015.46, 7024.02, 511.814901)
    assert (tick.price, tick.volume) == (7024.02, 511.814901)


def test_an_answer_that_is_young_is_not_asked_for_again(tmp_path):
    with test_exchange.serve_candles() as loopback:
        session = loopback.session_of(requests.Session)
        fetch = fetch_from_services([BITCOIN], tmp_path, max_age_s=3600.0, session=session)
        bars = [fetch(START + 5 * HOUR) for _ in range(2)]
        assert bars[0].equals(bars[1]) and len(bars[0]) == 5
        assert len(loopback.asked_for("/api/v3/klines")) == 1


def test_a_service_that_refuses_is_a_dead_feed_after_three_calls(tmp_path):
    refusal = Answer('{"code": -1121, "msg": "Invalid symbol."}', status=400)
    with test_exchange.serve_candles(*[refusal] * 3) as loopback:
        feed = poll_exchange(loopback, tmp_path)
        assert feed.poll(START + HOUR) == feed.poll(START + 2 * HOUR) == []
        with pytest.raises(FeedError, match=r"3 calls in a row failed.*Invalid symbol"):
            feed.poll(START + 3 * HOUR)


def test_a_call_that_works_forgives_those_that_failed():
    answers = [SourceError("no"), SourceError("no"), None, SourceError("no"), SourceError("no")]

    def fetch(now_ns):
        trouble = answers.pop(0)
        if trouble is not None:
            raise trouble
        return ingest_bars([], as_of=pd.Timestamp(now_ns, tz="UTC")).bars

    feed = PolledBars(fetch, bar_ns=HOUR, every_ns=HOUR, start_ns=0)
    assert [feed.poll(k) for k in range(5)] == [[]] * 5


def test_charts_are_polled_as_candles_are(tmp_path):
    request = YahooRequest("AAPL", date(2020, 1, 2), date(2020, 1, 9))
    now = pd.Timestamp("2020-01-10 03:00", tz="UTC").value
    with test_yahoo.serve_charts(Answer(test_yahoo.chart())) as loopback:
        session = loopback.session_of(test_yahoo.curl.Session)
        fetch = fetch_from_services([request], tmp_path, max_age_s=0.0, session=session)
        bars = fetch(now)
    assert set(bars["symbol"]) == {"AAPL"} and bars["ts"].is_monotonic_increasing
    assert (bars["ts"] <= pd.Timestamp(now, tz="UTC")).all() and len(bars) >= 5


def test_the_clock_is_held_when_the_machine_steps_back(monkeypatch):
    clock, times = RealClock(), iter([100, 50, 99, 101])
    monkeypatch.setattr(time, "time_ns", lambda: next(times))
    assert [clock.now_ns() for _ in range(4)] == [100, 100, 100, 101]


def test_the_clock_of_the_wall_waits_until_its_time_and_not_for_the_past():
    clock = RealClock()
    goal = clock.now_ns() + 30_000_000
    clock.wait_until(goal)
    assert goal <= clock.now_ns() < goal + 10**9
    before = time.monotonic()
    clock.wait_until(goal - HOUR)
    assert time.monotonic() - before < 0.5


def test_a_recording_is_as_fast_as_asked_for():
    clock, before = AcceleratedClock(0, speed=100.0), time.monotonic()
    clock.wait_until(5 * 10**9)
    assert 0.05 <= time.monotonic() - before < 1.0
    assert clock.now_ns() == 5 * 10**9
    clock.wait_until(10**9)
    assert clock.now_ns() == 5 * 10**9
    with pytest.raises(ValueError, match="above 0"):
        AcceleratedClock(speed=0.0)
