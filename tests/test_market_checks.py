"""The checks of the multi-agent market find nothing in it, and do find what is broken."""

import numpy as np
import pytest

from hftlib.envs import Executor, Maker, MarketSettings, MarketVecEnv, RiskLimits, Taker
from hftlib.envs.checks import check_market, has_passed, play_noise


def make_env(n_envs, **settings):
    roles = {"maker": Maker(), "executor": Executor(), "taker": Taker()}
    market = MarketSettings(decision_ms=1000, episode_steps=40, maker_fee_bps=0.1, **settings)
    return MarketVecEnv(roles, n_envs, market=market, risk=RiskLimits(max_position_value=1e6))


def test_every_check_passes():
    checks = check_market(make_env, 4)
    assert has_passed(checks).all(), checks


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("rewards", "rewards less their terms, currency"),
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
