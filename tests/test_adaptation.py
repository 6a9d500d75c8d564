from dataclasses import replace

import numpy as np
import pytest

from hftlib.agents.adaptation import AdaptationRules, adapt_agent, add_old_bars, split_new_bars
from hftlib.agents.online import train_agent
from hftlib.agents.online_settings import PPOSettings, SACSettings
from hftlib.data.panel import BarPanel
from hftlib.envs import TradingRules
from hftlib.portfolio.costs import Costs
from tests.conftest import make_panel

RULES = TradingRules(
    Costs(1.0, 2.0, 1.0),
    window_bars=1,
    episode_bars=50,
    allow_short=True,
    action_kind="continuous",
)
PPO = PPOSettings(
    total_steps=10_240,
    n_envs=32,
    n_steps=32,
    batch_size=256,
    n_epochs=4,
    learning_rate=1e-3,
    gamma=0.9,
    gae_lambda=0.9,
    clip_range=0.2,
    entropy_weight=0.0,
    reward_scale=100.0,
    hidden=(16,),
    n_evaluations=2,
)
LESSON = replace(PPO, learning_rate=3e-3)


def make_regime(sign, n_bars=400, seed=0) -> BarPanel:
    """Bars whose first feature, times `sign`, tells the return from the next open to the one after.

    `sign` is a number, or one for each bar.
    """
    panel = make_panel(n_bars=n_bars, seed=seed)
    signs = np.broadcast_to(sign, n_bars)
    for start, stop in panel.segments:
        opens = np.log(panel.open[start:stop])
        ahead = np.append(np.diff(opens)[1:], [0.0, 0.0])
        panel.features[start:stop, 0] = np.clip(signs * ahead / ahead.std(), -9, 9)
    return panel


@pytest.fixture(scope="module")
def agent():
    return train_agent(make_regime(1), make_regime(1, seed=1), RULES, PPO, seed=0)


def adapt(agent, new, settings=LESSON, limits=None, seed=0, **changes):
    arguments = {"old": make_regime(1), "rules": RULES} | changes
    return adapt_agent(
        agent.weights,
        agent.design,
        new,
        settings=settings,
        seed=seed,
        limits=limits,
        **arguments,
    )


def test_an_agent_follows_a_market_that_has_turned(agent):
    result = adapt(agent, make_regime(-1, seed=2), limits=AdaptationRules(old_share=0.0))
    assert result.is_kept
    assert result.before < -3, "what it knew is now wrong"
    assert result.after > 3
    assert (result.n_new_bars, result.n_old_bars, result.n_held_out) == (560, 0, 240)
    assert result.reason.startswith("kept: Sharpe ratio on 240 held-out bars -")


def test_an_agent_that_learnt_what_does_not_last_is_rolled_back(agent):
    misleading = make_regime(np.where(np.arange(400) < 280, -1, 1), seed=2)
    before = {name: values.tobytes() for name, values in agent.weights.items()}
    result = adapt(agent, misleading, limits=AdaptationRules(old_share=0.0))
    assert not result.is_kept
    assert result.after < -3 < 3 < result.before
    assert {name: values.tobytes() for name, values in result.weights.items()} == before
    assert result.reason.startswith("rolled back: Sharpe ratio")


def test_a_tolerance_wide_enough_keeps_any_result(agent):
    misleading = make_regime(np.where(np.arange(400) < 280, -1, 1), seed=2)
    limits = AdaptationRules(old_share=0.0, tolerance=1e6)
    result = adapt(agent, misleading, limits=limits)
    assert result.is_kept
    assert any((result.weights[k] != agent.weights[k]).any() for k in agent.weights)


def test_an_agent_whose_training_diverges_is_rolled_back(agent):
    result = adapt(agent, make_regime(1, seed=2), replace(LESSON, learning_rate=1e30))
    assert not result.is_kept
    assert np.isnan(result.after)
    assert "diverged" in result.reason
    assert result.weights is agent.weights


def test_old_bars_slow_the_forgetting(agent):
    """The more old bars, the better the agent still does on the old market."""
    turned, old = make_regime(-1, seed=2), make_regime(1, n_bars=2_000, seed=3)
    scores = []
    for share in (0.0, 0.9):
        limits = AdaptationRules(old_share=share, tolerance=1e6)
        result = adapt(agent, turned, limits=limits, old=old)
        held = _score(result.weights, agent, make_regime(1, seed=4))
        scores.append(held)
    assert scores[0] < 0 < scores[1]


def _score(weights, agent, panel):
    still = replace(PPO, total_steps=1, n_evaluations=2, learning_rate=1e-30)
    return train_agent(panel, panel, RULES, still, 0, start=weights).curve[0].sharpe


def test_the_same_call_gives_the_same_weights(agent):
    one, two, other = (
        adapt(
            agent, make_regime(-1, seed=2), seed=seed, settings=replace(LESSON, total_steps=2_048)
        )
        for seed in (0, 0, 1)
    )
    assert one.after == two.after
    assert all(np.array_equal(one.weights[k], two.weights[k]) for k in one.weights)
    assert other.after != one.after


def test_off_policy_agents_can_be_adapted():
    settings = SACSettings(
        total_steps=640,
        n_envs=16,
        batch_size=32,
        learning_rate=1e-3,
        gamma=0.9,
        reward_scale=100.0,
        hidden=(16,),
        n_evaluations=2,
        tau=0.01,
        buffer_size=640,
        n_warmup_steps=64,
        steps_per_update=8,
    )
    agent = train_agent(make_regime(1), make_regime(1, seed=1), RULES, settings, seed=0)
    lesson = replace(settings, n_warmup_steps=0)
    limits = AdaptationRules(tolerance=1e6)
    result = adapt(agent, make_regime(-1, seed=2), lesson, limits)
    assert result.is_kept
    assert (result.weights["log_ent_coef"] != agent.weights["log_ent_coef"]).all()


def test_held_out_bars_are_the_last_of_every_symbol():
    panel = make_panel(n_bars=100, n_symbols=2)
    lesson, exam = split_new_bars(panel, 0.25, 5)
    assert lesson.segments.tolist() == [[0, 75], [75, 150]]
    assert exam.segments.tolist() == [[0, 25], [25, 50]]
    np.testing.assert_array_equal(exam.close[25:], panel.close[175:])
    np.testing.assert_array_equal(lesson.close[75:], panel.close[100:175])
    for k in range(2):
        assert lesson.ts[slice(*lesson.segments[k])].max() < exam.ts[slice(*exam.segments[k])].min()


def test_what_is_learnt_does_not_depend_on_the_held_out_bars(agent):
    settings = replace(LESSON, total_steps=2_048)
    limits = AdaptationRules(tolerance=1e6)
    new = make_regime(-1, seed=2)
    changed = replace(new, features=new.features.copy())
    for _, stop in new.segments:
        changed.features[stop - 120 : stop] = 0.0
    one, two = (adapt(agent, panel, settings, limits) for panel in (new, changed))
    assert one.before != two.before
    assert all(np.array_equal(one.weights[k], two.weights[k]) for k in one.weights)


def test_old_stretches_are_old_bars_of_one_symbol_each():
    lesson, old = make_panel(n_bars=50, seed=1), make_panel(n_bars=200, seed=2)
    volumes = np.arange(100.0), np.arange(400.0)
    lesson, old = (replace(p, volume=v) for p, v in zip((lesson, old), volumes, strict=True))
    mixed = add_old_bars(lesson, old, 90, 30, np.random.default_rng(0))
    assert mixed.symbols == ("S0", "S1", "old 0", "old 1", "old 2")
    np.testing.assert_array_equal(mixed.close[:100], lesson.close)
    for start, stop in mixed.segments[2:]:
        assert stop - start == 30
        [row] = np.flatnonzero(old.close == mixed.close[start])
        np.testing.assert_array_equal(mixed.close[start:stop], old.close[row : row + 30])
        np.testing.assert_array_equal(mixed.volume[start:stop], np.arange(row, row + 30))
        assert row // 200 == (row + 29) // 200, "it does not cross two symbols"


def test_too_few_bars_are_refused(agent):
    with pytest.raises(ValueError, match="S0 has 3 new bars; expected at least 4"):
        adapt(agent, make_regime(1, n_bars=3))
    with pytest.raises(ValueError, match="the longest symbol has 40 old bars; a stretch needs 63"):
        adapt(agent, make_regime(1), old=make_regime(1, n_bars=40))


def test_new_bars_of_other_features_are_refused(agent):
    renamed = replace(make_regime(1), feature_names=("f0", "f1", "rsi"))
    with pytest.raises(ValueError, match=r"the agent for the new bars .*missing here: f2"):
        adapt(agent, renamed)


def test_portfolios_and_impossible_rules_are_refused(agent):
    with pytest.raises(ValueError, match="that holds a portfolio cannot be adapted"):
        adapt(agent, make_regime(1), rules=replace(RULES, is_portfolio=True))
    with pytest.raises(ValueError, match=r"holdout_share is 1\.0; see AdaptationRules"):
        AdaptationRules(holdout_share=1.0)
