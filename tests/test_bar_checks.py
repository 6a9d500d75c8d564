"""The checks of the bar environment pass on it, and notice a look into the future."""

from dataclasses import replace

import numpy as np
import pytest

from hftlib.envs import Limits, bar_checks
from hftlib.envs.bar_checks import check_trading, tabulate_rewards
from hftlib.envs.checks import has_passed
from hftlib.envs.rewards import TERMS


def with_forecasts(panel):
    flat = np.ones(len(panel.close))
    return replace(panel, forecast=flat * 0.01, uncertainty=flat * 0.1)


def test_every_check_passes(panel, rules):
    checks = check_trading(panel, rules, seed=1)
    assert has_passed(checks).all(), checks


@pytest.mark.parametrize("limits", [Limits(1, 0.25, 0.05), Limits(1, 0.0, 0.001)])
def test_every_check_passes_where_limits_end_episodes_early(panel, rules, limits):
    strict = replace(rules, limits=limits, ruin_fraction=0.99)
    checks = check_trading(panel, strict, seed=1)
    assert has_passed(checks).all(), checks
    table = tabulate_rewards(with_forecasts(panel), strict, seed=1)
    assert (table["gap"] < 1e-15).all()


def test_an_episode_of_another_length_is_a_difference(panel, rules, monkeypatch):
    honest = bar_checks._play_batch
    monkeypatch.setattr(bar_checks, "_play_batch", lambda *arguments: honest(*arguments)[:-1])
    checks = check_trading(panel, rules, seed=1)
    failed = checks.index[~has_passed(checks)]
    assert list(failed) == ["a copy alone and in the batch, difference"]


def test_a_feature_that_peeks_fails_the_check_of_causality(panel, rules, monkeypatch):
    honest = bar_checks.TradingEnv

    def peeking(panel, rules):
        features = np.roll(panel.features, -20, axis=0)
        return honest(replace(panel, features=features), rules)

    monkeypatch.setattr(bar_checks, "TradingEnv", peeking)
    checks = check_trading(panel, rules, seed=1)
    assert not has_passed(checks)["steps before the prices are scrambled, difference"]


def test_rewards_are_tabulated_term_by_term(panel, rules):
    table = tabulate_rewards(with_forecasts(panel), rules, seed=1)
    assert list(table.index) == [(kind, term) for kind, terms in TERMS.items() for term in terms]
    growth = table.loc[("simple", "growth")]
    assert table.loc[("hybrid", "growth"), ["mean", "sd"]].equals(growth[["mean", "sd"]])
    whole = table.loc["risk_adjusted", "mean"]
    np.testing.assert_allclose(whole["return"] + whole["costs"], growth["mean"], rtol=1e-9)
    assert (table["gap"] < 1e-15).all()
