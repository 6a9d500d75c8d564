"""The checks of the multi-agent market find nothing in it, and do find what is broken."""

import numpy as np
import pandas as pd
import pytest

from hftlib.envs import Executor, Maker, MarketSettings, MarketVecEnv, RiskLimits, Taker
from hftlib.envs.checks import check_market, has_passed, play_noise


def make_env(n_envs, risk=None, **settings):
    roles = {"maker": Maker(), "executor": Executor(), "taker": Taker()}
    market = MarketSettings(decision_ms=1000, episode_steps=40, maker_fee_bps=0.1, **settings)
    limits = RiskLimits(**{"max_position_value": 1e6, **(risk or {})})
    return MarketVecEnv(roles, n_envs, market=market, risk=limits)


def test_every_check_passes():
    checks = check_market(make_env, 4)
    assert has_passed(checks).all(), checks


@pytest.mark.parametrize("n_envs", [1, 4])
@pytest.mark.parametrize("max_drawdown", [1.0, 5.0, 50.0])
def test_every_check_passes_where_limits_end_agents(n_envs, max_drawdown):
    def make_tight(n_envs):
        return make_env(n_envs, {"max_drawdown": max_drawdown})

    history = play_noise(make_tight(n_envs), 39, seed=1)
    assert not history.alive[-1].all() and history.alive[0].any()
    checks = check_market(make_tight, n_envs)
    assert has_passed(checks).all(), checks


@pytest.mark.parametrize("expected", ["0", "not 0"])
def test_what_is_not_a_number_passes_no_check(expected):
    measured = [0.0, 1.0, np.nan, np.inf]
    checks = pd.DataFrame({"expected": expected, "measured": measured})
    assert has_passed(checks).tolist() == [expected == "0", expected != "0", False, False]


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("rewards", "rewards less their terms, currency"),
        ("nan", "steps after they change, difference"),
        ("observations", "two runs of one seed, difference"),
        ("equity", "equity less cash and inventory, currency"),
    ],
)
def test_a_broken_environment_fails_its_check(fault, check, monkeypatch):
    noise = np.random.default_rng(0)

    class Broken(MarketVecEnv):
        def step(self, actions):
            result = super().step(actions)
            if fault == "rewards":
                return result._replace(rewards=result.rewards + 0.01)
            if fault == "nan":
                return result._replace(rewards=result.rewards * np.nan)
            if fault == "observations":
                state = result.final_state + noise.normal(size=result.final_state.shape)
                return result._replace(final_state=state)
            return result

        def accounts(self):
            accounts = super().accounts()
            return accounts | {"equity": accounts["equity"] + 0.01 * (fault == "equity")}

    def make_broken(n_envs):
        env = make_env(n_envs)
        env.__class__ = Broken
        return env

    assert not has_passed(check_market(make_broken, 2))[check]


def test_the_actions_of_a_copy_depend_on_its_own_number_only():
    small, large = play_noise(make_env(1), 5, seed=7), play_noise(make_env(3), 5, seed=5)
    np.testing.assert_array_equal(small.seen[:, 0], large.seen[:, 2])
