from dataclasses import replace
from datetime import date
from decimal import Decimal

import numpy as np

from hftlib.data.feeds import recording_frames
from hftlib.evaluation.engine import run_backtest
from hftlib.evaluation.prices import Prices
from hftlib.live.clock import AcceleratedClock
from hftlib.live.feeds import Recording, read_quotes, run_paper
from hftlib.live.store import read_table
from hftlib.live.target_orders import SizingRules
from hftlib.market.presets import record_abides
from hftlib.portfolio.costs import Costs
from hftlib.portfolio.risk import RiskLimits
from tests.conftest import make_bars
from tests.paper_cases import FINE, NO_LIMITS, close_engine, open_engine, trade_bars, whole_targets

SYMBOLS = ("AAA", "BBB")


def prices_of(bars):
    def column(name):
        return bars.pivot(index="ts", columns="symbol", values=name).to_numpy()

    ts = bars["ts"].drop_duplicates().astype("int64").to_numpy()
    return Prices(SYMBOLS, ts, column("open"), column("close"), column("volume"))


def test_decisions_and_fills_in_units_are_those_of_the_backtest(tmp_path):
    bars = make_bars(40, SYMBOLS)
    targets = whole_targets(40, 2)
    engine = trade_bars(tmp_path, bars, targets, cash=Decimal(100_000))
    assert engine.halted == ""
    backtest = run_backtest(
        prices_of(bars), targets, Costs(2.0, 4.0, 0.0), kind="units", initial_cash=100_000.0
    )
    parents = read_table(tmp_path / "paper.db", "parents")
    asked = parents["quantity"].astype(float).to_numpy()
    table = backtest.fill_table()
    np.testing.assert_array_equal(asked, table["quantity"].to_numpy())
    assert list(parents["symbol"]) == list(table["symbol"])
    fills = read_table(tmp_path / "paper.db", "fills")
    np.testing.assert_array_equal(fills["quantity"].astype(float), asked)
    np.testing.assert_allclose(
        fills["price"].astype(float), table["price"], rtol=0, atol=FINE.tick_size
    )
    marks = read_table(tmp_path / "paper.db", "marks")
    closes = marks.loc[marks["kind"] == "close", "equity"].astype(float).to_numpy()
    np.testing.assert_allclose(closes, backtest.equity[:, 0], rtol=1e-6)


def test_weights_within_limits_are_traded_as_in_the_backtest(tmp_path):
    bars = make_bars(40, SYMBOLS)
    rng = np.random.default_rng(3)
    targets = rng.uniform(-0.8, 0.8, (40, 2))
    targets[rng.random(targets.shape) < 0.3] = np.nan
    limits = RiskLimits(
        **vars(NO_LIMITS) | {"max_position": 0.5, "max_leverage": 0.7, "stop_loss": 0.03}
    )
    costs = Costs(2.0, 4.0, 0.0)
    engine = trade_bars(
        tmp_path, bars, targets, cash=Decimal(100_000), limits=limits,
        sizing=SizingRules("weights", costs),
    )  # fmt: skip
    assert engine.halted == ""
    backtest = run_backtest(prices_of(bars), targets, costs, initial_cash=100_000.0, risk=limits)
    events = backtest.event_table()
    parents = read_table(tmp_path / "paper.db", "parents")
    assert list(parents["symbol"]) == list(events["symbol"])
    assert list(parents["purpose"] == "exit") == list(events["action"] == "exit")
    # a tick of .0001 at a price of 50 is 2e-6 of the notional; 40 bars trade some 20 times equity
    asked = parents["quantity"].astype(float)
    np.testing.assert_allclose(asked, events["asked"], rtol=0, atol=0.05)
    checks = read_table(tmp_path / "paper.db", "checks")
    assert set(checks["action"]) == {"accept", "shrink", "reject"} & set(events["action"]) | {
        "accept"
    }
    sent = checks.groupby("parent_id", sort=False)["allowed"].sum()
    assert len(sent) == len(parents)
    marks = read_table(tmp_path / "paper.db", "marks")
    closes = marks.loc[marks["kind"] == "close", "equity"].astype(float).to_numpy()
    np.testing.assert_allclose(closes, backtest.equity[:, 0], rtol=5e-5)


def test_a_simulated_book_is_traded_level_by_level(tmp_path):
    recording = next(
        iter(record_abides([date(2024, 1, 2)], [5], minutes=2, snapshot_ms=1000, levels=5))
    )
    table, _ = recording_frames(recording, symbol="AAA", source="abides", session="2024-01-02")
    moments = read_quotes(table, levels=5, tick_size=0.01, lot_size=1.0)
    rules = replace(FINE, tick_size=0.01, lot_size=1.0, latency_ns=10**6)
    venues = {"half": replace(rules, share=0.5), "rest": replace(rules, share=0.5)}
    targets = np.where(np.arange(len(moments)) % 10 < 5, 40.0, -40.0)[:, None]
    engine = open_engine(tmp_path, ("AAA",), targets, venues=venues, cash=Decimal(10_000_000))
    run_paper(engine, Recording(moments), AcceleratedClock())
    assert engine.halted == ""
    fills = read_table(tmp_path / "paper.db", "fills")
    assert set(fills["venue"]) == {"half", "rest"}
    best = {m.ts_ns: (m.ticks[0].bids[0][0], m.ticks[0].asks[0][0]) for m in moments}
    for row in fills.itertuples():
        bid, ask = best[row.ts_ns - 10**6]
        price = float(row.price)
        assert price >= ask - 1e-9 if float(row.quantity) > 0 else price <= bid + 1e-9
    close_engine(engine)
