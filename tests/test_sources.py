"""One function gathers every kind of source, and the default kinds need no network."""

import socket
import sys
from datetime import date

import numpy as np
import pandas as pd
import pytest

from hftlib.data import sources
from hftlib.data.bars import FIELDS, RawBars, SourceError, read_packaged
from hftlib.data.exchange import ExchangeRequest
from hftlib.data.ingest import ingest_bars
from hftlib.data.laws import Garch
from hftlib.data.sources import Folder, Packaged, SyntheticRequest, gather_bars
from hftlib.data.synthetic import draw_bars
from hftlib.data.yahoo import YahooRequest
from tests.conftest import make_bars

AS_OF = pd.Timestamp("2025-01-01", tz="UTC")
SPAN = (date(2020, 1, 1), date(2020, 12, 31))
LAW = Garch(0.0, 1e-6, 0.1, 0.8)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "own").mkdir()
    make_bars(300, ("OWN",)).to_parquet(tmp_path / "own/own.parquet")
    return tmp_path / "own"


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_packaged_and_own_bars_come_in_order_without_a_network(tmp_path, folder, no_network):
    raw = gather_bars([Packaged(), Folder(folder)], cache=tmp_path / "cache")
    assert [part.symbol for part in raw] == [*(p.symbol for p in read_packaged()), "OWN"]
    assert {part.origin for part in raw} == {"packaged", "folder"}
    assert not (tmp_path / "cache").exists()


def test_every_kind_of_source_is_ingested_alike(tmp_path, folder, monkeypatch):
    def answer(requests, cache, origin):
        table = make_bars(300).assign(line=range(2, 302))[[*FIELDS, "line"]]
        frame = table.astype(dict.fromkeys(FIELDS, "str"))
        return [RawBars(request.symbol, origin, frame, origin) for request in requests]

    monkeypatch.setattr(sources, "read_yahoo", lambda r, c: answer(r, c, "yahoo"))
    monkeypatch.setattr(sources, "read_exchanges", lambda r, c: answer(r, c, "exchange"))
    every = [
        Packaged(),
        Folder(folder),
        YahooRequest("MSFT.Y", *SPAN),
        ExchangeRequest("binance", "BTC/USDT", *SPAN),
        SyntheticRequest("FAKE", LAW, date(2020, 1, 1), 300, seed=1),
    ]
    result = ingest_bars(gather_bars(every, cache=tmp_path), as_of=AS_OF)
    assert result.quarantine.empty
    assert {"SP500", "OWN", "MSFT.Y", "BTC/USDT", "FAKE"} <= set(result.quality.index)
    drawn = result.bars.loc[result.bars["is_synthetic"], "symbol"].unique()
    assert drawn.tolist() == ["FAKE"]


def test_the_cache_folder_reaches_the_clients(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(sources, "read_yahoo", lambda r, c: seen.append((r, c)) or [])
    monkeypatch.setattr(sources, "read_exchanges", lambda r, c: seen.append((r, c)) or [])
    one = YahooRequest("A", *SPAN)
    other = ExchangeRequest("kraken", "BTC/USD", *SPAN)
    assert gather_bars([one, one, other], cache=tmp_path) == []
    assert seen == [([one, one], tmp_path), ([other], tmp_path)], "one service is asked at once"


def test_drawn_bars_pass_through_text_without_losing_a_bit(tmp_path):
    request = SyntheticRequest("FAKE", LAW, date(2020, 1, 1), 500, seed=3, start_price=7.0)
    bars = ingest_bars(gather_bars([request], cache=tmp_path), as_of=AS_OF).bars
    clock = pd.date_range("2020-01-01", periods=500, tz="UTC", unit="ns")
    rng = np.random.default_rng(3)
    pd.testing.assert_frame_equal(
        bars, draw_bars(LAW, clock, rng, symbol="FAKE", start_price=7.0), check_exact=True
    )


def test_the_same_symbol_from_two_sources_is_refused(tmp_path, folder):
    request = SyntheticRequest("OWN", LAW, date(2020, 1, 1), 50, seed=1)
    raw = gather_bars([Folder(folder), request], cache=tmp_path)
    with pytest.raises(SourceError, match=r"symbol OWN already comes from own\.parquet"):
        ingest_bars(raw, as_of=AS_OF)


@pytest.mark.parametrize(
    ("package", "request_"),
    [("yfinance", YahooRequest("A", *SPAN)), ("ccxt", ExchangeRequest("binance", "A/B", *SPAN))],
)
def test_without_its_package_a_network_source_says_what_to_install(
    package, request_, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    message = rf'{package} is not installed \(.*\); pip install -e "\.\[sources\]"'
    with pytest.raises(SourceError, match=message):
        gather_bars([request_], cache=tmp_path)
