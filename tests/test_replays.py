"""Rollouts walked again: one equity, the same trades, and rules beside agents."""

from dataclasses import replace

import numpy as np
import pytest

from hftlib.agents.baselines import BuyAndHold, RandomTrader
from hftlib.agents.policy import play
from hftlib.envs.trading_rules import Financing
from hftlib.evaluation.replays import (
    audit,
    fill_table,
    replay,
    summarise_replays,
    trade_table,
)
from tests.conftest import make_panel
from tests.test_engine import rich_panel

YEAR = 252.0


class Wander:
    """Random target weights, the same for each copy of a seed."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def act(self, observations):
        return self.rng.uniform(-1, 1, (len(observations), 1))


@pytest.fixture
def weighted(rules):
    return replace(
        rules, action_kind="continuous", financing=Financing(50.0, 300.0), min_trade_weight=0.02
    )


def test_both_accounts_end_with_the_same_equity(weighted):
    panel = rich_panel()
    strategies = {"wander": [play(Wander(seed), panel, weighted) for seed in range(3)]}
    replays = replay(strategies, panel, weighted, n_members=3)
    assert audit(replays, strategies) < 1e-12
    assert all(len(part.fills) > 100 for part in replays["wander"])


def test_an_account_that_ended_early_is_closed_and_agrees_until_then(weighted):
    panel = rich_panel()
    close, open_ = panel.close.copy(), panel.open.copy()
    close[100:], open_[100:] = close[100:] / 20, open_[100:] / 20  # a fall of 95 %
    fallen = replace(panel, close=close, open=open_)
    strategies = {"hold": [play(Long(), fallen, weighted)]}
    assert (strategies["hold"][0].row[:, 0, 0] < 0).any()
    replays = replay(strategies, fallen, weighted, n_members=1)
    assert audit(replays, strategies) < 1e-12
    first = trade_table(replays).query("symbol == 'S0'")
    assert not first["is_open"].any()


class Long:
    def act(self, observations):
        return np.ones((len(observations), 1))


def test_an_account_that_is_not_the_rollouts_is_seen(weighted):
    panel = rich_panel()
    strategies = {"wander": [play(Wander(0), panel, weighted)]}
    dearer = replace(weighted, costs=weighted.costs._replace(fee_bps=1.1))
    assert audit(replay(strategies, panel, dearer, n_members=1), strategies) > 1e-5


def test_holding_is_one_open_trade_and_one_fill_a_symbol(rules):
    panel = make_panel()
    strategies = {"hold": [play(BuyAndHold(), panel, rules)]}
    replays = replay(strategies, panel, rules, n_members=1)
    fills, trades = fill_table(replays), trade_table(replays)
    assert list(fills["symbol"]) == list(trades["symbol"]) == ["S0", "S1"]
    assert trades["is_open"].all() and trades["exit_ts"].isna().all()
    assert np.isnan(summarise_replays(replays, YEAR).loc["hold", "win_rate"])


def test_fills_and_trades_account_for_all_that_was_earned(rules):
    panel = make_panel()
    trader = RandomTrader(0.3, True, np.random.default_rng(0))
    rollout = play(trader, panel, rules, 4)
    replays = replay({"random": [rollout]}, panel, rules, n_members=2)
    trades = trade_table(replays)
    assert set(trades["member"]) == {0, 1}
    for member in (0, 1):
        for k, symbol in enumerate(panel.symbols):
            own = trades[(trades["member"] == member) & (trades["symbol"] == symbol)]
            earned = rollout.equity[-1, member, k] - rollout.equity[0, member, k]
            assert own["profit"].sum() == pytest.approx(earned, abs=1e-6)
    fills = fill_table(replays)
    paid = fills[["fee", "slippage", "impact"]].sum(axis=1).sum()
    assert paid == pytest.approx(rollout.paid[:, :2].sum(), rel=1e-9)


def test_pooled_statistics_of_trades(rules):
    panel = make_panel()
    trader = RandomTrader(0.3, True, np.random.default_rng(0))
    replays = replay({"random": [play(trader, panel, rules, 3)]}, panel, rules, n_members=3)
    row = summarise_replays(replays, YEAR).loc["random"]
    closed = trade_table(replays).query("not is_open")
    assert row["trades"] == len(closed) / 6
    profit = closed["profit"]
    assert row["win_rate"] == pytest.approx((profit > 0).sum() / (profit != 0).sum())
    assert row["profit_factor"] == pytest.approx(
        profit[profit > 0].sum() / -profit[profit < 0].sum()
    )
    entries = closed["quantity"] * closed["entry_price"]
    assert row["expectancy"] == pytest.approx(profit.sum() / entries.sum())
    assert np.isnan(row["capacity"])  # no impact was charged
    assert np.isnan(summarise_replays(replays, YEAR, min_trades=10**6).loc["random", "win_rate"])


def test_capacity_needs_impact_and_is_in_multiples_of_the_cash(rules):
    panel = rich_panel()
    strategies = {"hold": [play(BuyAndHold(), panel, rules)]}
    charged = replay(strategies, panel, rules, n_members=1, impact_bps=100.0)
    richer = replace(rules, initial_cash=10 * rules.initial_cash)
    same = replay(
        {"hold": [play(BuyAndHold(), panel, richer)]}, panel, richer, n_members=1, impact_bps=100.0
    )
    one, ten = (summarise_replays(part, YEAR).loc["hold", "capacity"] for part in (charged, same))
    assert one > 0
    assert ten == pytest.approx(one / 10, rel=0.05)


def test_one_account_of_all_symbols_is_refused(rules):
    panel = make_panel()
    portfolio = replace(rules, is_portfolio=True, action_kind="continuous")
    rollout = play(Two(), panel, portfolio)
    with pytest.raises(ValueError, match="expected one account a symbol"):
        replay({"both": [rollout]}, panel, portfolio, n_members=1)


class Two:
    def act(self, observations):
        return np.full((len(observations), 2), 0.2)
