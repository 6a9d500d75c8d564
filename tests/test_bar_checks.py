"""The checks of the bar environment pass on it, and notice a look into the future."""

from dataclasses import replace

import numpy as np

from hftlib.envs import bar_checks
from hftlib.envs.bar_checks import check_trading, tabulate_rewards
from hftlib.envs.checks import has_passed
from hftlib.envs.rewards import TERMS


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


def test_rewards_are_tabulated_term_by_term(panel, rules):
    advised = replace(panel, forecast=panel.close * 0 + 0.01, uncertainty=panel.close * 0 + 0.1)
    table = tabulate_rewards(advised, rules, seed=1)
    assert list(table.index) == [(kind, term) for kind, terms in TERMS.items() for term in terms]
    growth = table.loc[("simple", "growth")]
    assert table.loc[("hybrid", "growth"), ["mean", "sd"]].equals(growth[["mean", "sd"]])
    whole = table.loc["risk_adjusted", "mean"]
    np.testing.assert_allclose(whole["return"] + whole["costs"], growth["mean"], rtol=1e-9)
    assert (table["gap"] < 1e-15).all()
