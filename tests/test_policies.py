from dataclasses import replace

import numpy as np
import pytest

from hftlib.agents import baselines
from hftlib.agents.baselines import BuyAndHold, DoNothing, RandomTrader
from hftlib.agents.policy import play
from hftlib.envs import TradingEnv, TradingRules
from hftlib.portfolio.costs import Costs
from tests.conftest import make_panel

FREE = Costs(0.0, 0.0, 0.0)


def test_doing_nothing_keeps_the_cash(panel, rules):
    rollout = play(DoNothing(), panel, rules)
    assert (rollout.equity == rules.initial_cash).all()
    assert (rollout.turnover == 0).all()


def test_buy_and_hold_without_costs_earns_the_price_ratio(panel):
    rules = TradingRules(FREE, window_bars=5)
    rollout = play(BuyAndHold(), panel, rules)
    for k, (start, stop) in enumerate(panel.segments):
        ratio = panel.close[stop - 1] / panel.open[start + 5]
        assert rollout.equity[-1, 0, k] == pytest.approx(rules.initial_cash * ratio, rel=1e-12)


def test_total_equity_is_the_mean_of_equal_accounts(panel, rules):
    rollout = play(BuyAndHold(), panel, rules)
    np.testing.assert_allclose(
        rollout.total_equity, rollout.equity.mean(axis=2) / rules.initial_cash, rtol=1e-12
    )


def test_a_rollout_equals_the_single_environment(panel, rules):
    rng = np.random.default_rng(2)

    class Script:
        """The same script for each symbol."""

        moves = rng.integers(3, size=400)
        t = -1

        def act(self, observations):
            self.t += 1
            return np.full(len(observations), self.moves[self.t])

    rollout = play(Script(), panel, rules)
    for k in range(2):
        env = TradingEnv(panel, rules)
        env.reset(options={"segment": k})
        for t in range(1, len(rollout.row)):
            info = env.step(Script.moves[t - 1])[4]
            for name in ("row", "equity", "position", "traded", "paid"):
                assert getattr(rollout, name)[t, 0, k] == info[name]


def test_a_ruined_account_keeps_its_last_equity():
    panel = make_panel(n_symbols=1)
    close = panel.close.copy()
    close[50:] /= 1_000
    rollout = play(BuyAndHold(), replace(panel, close=close), TradingRules(FREE, window_bars=5))
    ruined = 50 - 4
    assert (rollout.equity[ruined:, 0, 0] == rollout.equity[ruined, 0, 0]).all()
    assert (rollout.row[ruined + 1 :, 0, 0] == -1).all()


@pytest.mark.parametrize("pace", [0.2, 1.0])
@pytest.mark.parametrize("allow_short", [True, False])
def test_random_trader_trades_as_often_as_asked(panel, rules, allow_short, pace):
    trader = RandomTrader(pace, allow_short, np.random.default_rng(0))
    rollout = play(trader, panel, replace(rules, allow_short=allow_short), n_copies=100)
    # 79,000 independent tosses: standard error .0015
    assert (rollout.traded[1:] > 0).mean() == pytest.approx(pace, abs=0.006)


def test_random_trader_refuses_a_pace_it_cannot_reach():
    with pytest.raises(ValueError, match=r"trades_per_bar is 1\.1; expected a share, 0 to 1"):
        RandomTrader(1.1, allow_short=False, rng=np.random.default_rng(0))


def test_every_baseline_is_a_policy_or_a_trajectory():
    for name in baselines.__all__:
        found = getattr(baselines, name)
        assert callable(found.act) if isinstance(found, type) else name.endswith("_trajectory")


@pytest.fixture
def weighted(rules):
    """The same rules with target weights; costs as they are."""
    return replace(rules, action_kind="continuous")


def space_of(panel, rules):
    return TradingEnv(panel, rules).action_space


def test_buy_and_hold_earns_the_same_in_both_kinds_of_action(panel, rules, weighted):
    moves = play(BuyAndHold(), panel, rules)
    weights = play(BuyAndHold(space_of(panel, weighted)), panel, weighted)
    np.testing.assert_allclose(moves.equity, weights.equity, rtol=1e-12)
    np.testing.assert_array_equal(moves.position, weights.position)


def test_random_trader_trades_as_often_with_weights(panel, weighted):
    space = space_of(panel, weighted)
    for band in (0.0, 0.5):  # a short at full weight drifts, and is brought back each bar
        rules = replace(weighted, min_trade_weight=band)
        trader = RandomTrader(0.2, True, np.random.default_rng(0), space)
        rollout = play(trader, panel, rules, n_copies=50)
        moved = (np.diff(rollout.position, axis=0) != 0).mean()
        assert moved == pytest.approx(0.2, abs=0.009)  # 39,500 tosses: standard error .002


def test_random_trader_refuses_a_portfolio(panel, weighted):
    space = space_of(panel, replace(weighted, is_portfolio=True))
    with pytest.raises(ValueError, match="expected that of one symbol"):
        RandomTrader(0.2, True, np.random.default_rng(0), space)


@pytest.mark.parametrize("kind", ["discrete", "continuous"])
def test_a_portfolio_is_walked_as_one_account(panel, rules, kind):
    whole = replace(rules, action_kind=kind, is_portfolio=True, max_weight=0.5)
    rollout = play(BuyAndHold(space_of(panel, whole)), panel, whole, n_copies=2)
    assert rollout.symbols == ("portfolio",)
    assert rollout.equity.shape == (396, 2, 1)
    if kind == "discrete":  # bought once, half in each
        starts = panel.segments[:, 0]
        growth = (panel.close[starts + 399] / panel.open[starts + 5]).mean()
        assert rollout.total_equity[-1, 0] == pytest.approx(growth, rel=5e-4)  # costs of 3 bp
    assert (rollout.exposure[1:] > 0.9).all()


@pytest.mark.parametrize("kind", ["discrete", "continuous"])
@pytest.mark.parametrize("is_portfolio", [False, True])
def test_doing_nothing_keeps_the_cash_in_every_mode(panel, rules, kind, is_portfolio):
    some = replace(rules, action_kind=kind, is_portfolio=is_portfolio)
    rollout = play(DoNothing(space_of(panel, some)), panel, some)
    assert (rollout.equity == some.initial_cash).all()
