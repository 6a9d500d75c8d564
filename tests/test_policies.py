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
