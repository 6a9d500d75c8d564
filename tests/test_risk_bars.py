"""Limits of an account on bars: closed forms."""

import math
from dataclasses import replace

import numpy as np
import pytest

from hftlib.envs import TradingEnv
from hftlib.evaluation.engine import Prices, run_backtest
from tests.risk_walk import FREE, HOUR, OPEN_ALL, draw_panel, make_rules


def flat_prices(opens, closes):
    n = len(opens)
    return Prices(("A",), np.arange(n) * 24 * HOUR, np.c_[opens].astype(float), np.c_[closes])


def test_a_purchase_is_shrunk_to_the_limit_of_a_position_at_the_open_of_its_fill():
    prices = flat_prices([100.0, 80.0, 90.0], [100.0, 90.0, 90.0])
    limits = replace(OPEN_ALL, max_position=0.25)
    result = run_backtest(prices, np.full((3, 1), 1.0), FREE, risk=limits)
    assert result.units[1, 0, 0] == pytest.approx(2_500 / 80, rel=1e-12)
    # 31.25 units gained 312.50 at 90, and are now above a quarter: nothing is sold or bought
    assert result.equity[:, 0].tolist() == pytest.approx([10_000, 10_312.5, 10_312.5])
    table = result.event_table()
    assert table[["action", "limit"]].to_numpy().tolist() == [
        ["shrink", "max_position"],
        ["reject", "max_position"],
    ]
    assert table["asked"][0] == pytest.approx(125.0)
    assert table["allowed"].tolist() == pytest.approx([31.25, 0.0])
    assert len(result.fills) == 1


def test_a_stop_loss_closes_at_the_next_open_and_a_later_bar_may_open_again():
    closes = [100.0, 100.0, 94.9, 94.9, 94.9]
    prices = flat_prices([100.0, 100.0, 100.0, 96.0, 95.0], closes)
    limits = replace(OPEN_ALL, stop_loss=0.05)
    result = run_backtest(prices, np.ones((5, 1)), FREE, risk=limits)
    assert result.units[:, 0, 0].tolist() == pytest.approx([0, 100, 100, 0, 9_600 / 95])
    table = result.event_table()
    assert table["action"].tolist() == ["accept", "exit", "accept"]
    assert table["limit"].tolist() == ["", "stop_loss", ""]
    assert table["allowed"].tolist() == pytest.approx([100, -100, 9_600 / 95])


def test_a_short_takes_its_profit_even_within_the_band_that_is_not_traded():
    prices = flat_prices([100.0, 100.0, 84.0, 84.0], [100.0, 84.0, 84.0, 84.0])
    limits = replace(OPEN_ALL, take_profit=0.15)
    targets = [[-0.05], [-0.05], [np.nan], [np.nan]]
    result = run_backtest(prices, targets, FREE, min_trade_weight=0.02, risk=limits)
    assert result.units[:, 0, 0].tolist() == [0, -5, 0, 0]
    assert result.event_table()["limit"].tolist() == ["", "take_profit"]


def test_a_day_of_utc_has_its_own_trades_and_volume():
    n = 12  # bars of eight hours
    ones = np.ones((n, 1))
    prices = Prices(("A",), np.arange(n) * 8 * HOUR, 100 * ones, 100 * ones)
    targets = np.arange(1.0, 1.0 + n)[:, None]
    limits = replace(OPEN_ALL, max_daily_trades=1)
    result = run_backtest(prices, targets, FREE, kind="units", risk=limits)
    table = result.event_table()
    days = table["ts"].dt.floor("D")
    assert (table["action"] == "accept").groupby(days).sum().tolist() == [1, 1, 1, 1]
    assert set(table["limit"]) == {"", "max_daily_trades"}
    volume = replace(OPEN_ALL, max_daily_volume=0.02)  # 200 of 10,000: two units a day
    result = run_backtest(prices, targets, FREE, kind="units", risk=volume)
    traded = np.abs(np.diff(result.units[:, 0, 0])).cumsum()
    assert traded[[1, 4, 7, 10]].tolist() == pytest.approx([2, 4, 6, 8])


def test_a_loss_of_the_day_ends_opening_until_the_next_day():
    opens = np.array([100, 100, 90, 90, 90, 90.0])
    prices = Prices(("A",), np.arange(6) * 12 * HOUR, opens[:, None], opens[:, None])
    limits = replace(OPEN_ALL, max_daily_loss=0.03)
    targets = np.array([50.0, 60, 70, 80, 90, 100])[:, None]
    result = run_backtest(prices, targets, FREE, kind="units", risk=limits)
    # row 2 opens the second day 5 % below the close before; the third day starts level
    assert result.units[:, 0, 0].tolist() == [0, 50, 50, 50, 80, 90]
    assert result.event_table()["limit"].tolist() == [
        "",
        "max_daily_loss",
        "max_daily_loss",
        "",
        "",
    ]


def test_nothing_is_opened_before_ten_returns_are_known_and_then_up_to_the_value_at_risk():
    rng = np.random.default_rng(0)
    close = 100 * np.exp(rng.normal(0, 0.02, (40, 1)).cumsum(axis=0))
    prices = Prices(("A",), np.arange(40) * 24 * HOUR, close, close)
    limits = replace(OPEN_ALL, max_var=0.01)
    targets = np.full((40, 1), 1.0)
    result = run_backtest(prices, targets, FREE, risk=limits)
    held = np.flatnonzero(result.units[:, 0, 0])
    assert held[0] == 11
    assert result.event_table()["limit"][:10].tolist() == ["max_var"] * 10
    returns = close[1:11, 0] / close[:10, 0] - 1
    weights = 0.94 ** np.arange(10)[::-1]
    deviation = math.sqrt(weights @ returns**2 / weights.sum())
    first = result.units[11, 0, 0] * close[11, 0] / 10_000
    assert first * deviation * 1.6448536 == pytest.approx(0.01, rel=1e-6)


def test_a_sector_of_one_symbol_binds_that_symbol_only():
    panel = draw_panel(0)
    limits = replace(OPEN_ALL, max_sector=0.1, max_position=0.4)
    rules = make_rules(limits, FREE, is_portfolio=False, sectors={"S1": "energy"})
    env = TradingEnv(panel, rules)
    for k, share in enumerate((0.4, 0.1, 0.4)):
        env.reset(options={"segment": k})
        *_, info = env.step(np.ones(1, np.float32))
        row = info["row"]
        value = env._accounts.units[0, 0] * panel.open[row]
        assert value == pytest.approx(share * 10_000)
        assert (info["n_cut"], info["n_exits"]) == (1, 0)
        assert info["refused"] == pytest.approx((1 - share) * 10_000)
