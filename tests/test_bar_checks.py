"""The checks of the bar environment pass on it, and notice a look into the future."""

from dataclasses import replace

import numpy as np

from hftlib.envs import bar_checks
from hftlib.envs.bar_checks import check_trading
from hftlib.envs.checks import has_passed


def test_every_check_passes(panel, rules):
    checks = check_trading(panel, rules, seed=1)
    assert has_passed(checks).all(), checks


def test_a_feature_that_peeks_fails_the_check_of_causality(panel, rules, monkeypatch):
    honest = bar_checks.TradingEnv

    def peeking(panel, rules):
        features = np.roll(panel.features, -20, axis=0)
        return honest(replace(panel, features=features), rules)

    monkeypatch.setattr(bar_checks, "TradingEnv", peeking)
    checks = check_trading(panel, rules, seed=1)
    assert not has_passed(checks)["steps before the prices are scrambled, difference"]
