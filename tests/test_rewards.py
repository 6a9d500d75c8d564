"""Each reward by numbers worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from hftlib.envs import RewardSettings, TradingEnv, TradingRules
from hftlib.envs.rewards import (
    KINDS,
    called_for,
    differential_sharpe,
    followed,
    moments,
)
from hftlib.portfolio.costs import Costs
from tests.conftest import make_panel

FREE = Costs(0.0, 0.0, 0.0)
FIRST = {"segment": 0}


def play(closes, settings, weights, costs=FREE, **columns):
    """Rewards and terms of target weights over given closes; each bar opens at the last close."""
    panel = make_panel(n_symbols=1)
    close = np.full(len(panel.ts), 100.0)
    close[5 : 5 + len(closes)] = closes
    panel = replace(panel, open=np.concatenate([[100.0], close[:-1]]), close=close, **columns)
    env = TradingEnv(
        panel,
        TradingRules(
            costs, 5, allow_short=True, action_kind="continuous", ruin_fraction=0.0, reward=settings
        ),
    )
    env.reset(options=FIRST)
    steps = [env.step(np.array([w], np.float32)) for w in weights]
    return [step[1] for step in steps], [step[4]["reward_terms"] for step in steps]


def column(values):
    """A column of the panel whose row 4, the first observed, has the first value."""
    full = np.full(400, np.nan)
    full[4 : 4 + len(values)] = values
    return full


def test_moments_are_those_of_the_first_values():
    mean, deviation, downside = moments(np.array([0.03, -0.01, 0.01, 9.9]), 3)
    assert mean == pytest.approx(0.01)
    # deviations .02, -.02, 0; below zero only -.01
    assert deviation == pytest.approx(np.sqrt(0.0008 / 3))
    assert downside == pytest.approx(np.sqrt(0.0001 / 3))


def test_differential_sharpe_is_moody_and_saffells_formula():
    # A = .01, B = .0005, R = .03: dA = .02, dB = .0004
    # (.0005 * .02 - .01 * .0004 / 2) / (.0005 - .0001)^1.5 = 8e-6 / 8e-6
    assert differential_sharpe(0.01, 0.0005, 0.03, 1e-3) == pytest.approx(1.0)


def test_differential_sharpe_is_the_derivative_of_the_sharpe_ratio():
    mean, square, growth, rate = 0.002, 0.0004, -0.013, 1e-7

    def sharpe(a, b):
        return a / np.sqrt(b - a * a)

    after = sharpe(mean + rate * (growth - mean), square + rate * (growth**2 - square))
    slope = (after - sharpe(mean, square)) / rate
    assert differential_sharpe(mean, square, growth, 1e-6) == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize(
    ("forecast", "uncertainty", "position"),
    [(0.001, 0.02, 0.5), (-0.001, 0.02, -0.5), (0.01, 0.02, 1.0), (-0.1, 0.0, -1.0), (0, 0, 0)],
)
def test_a_position_is_sized_by_forecast_over_uncertainty(forecast, uncertainty, position):
    assert called_for(float(forecast), float(uncertainty), 0.1) == pytest.approx(position)


@pytest.mark.parametrize(
    ("forecast", "realised", "position", "value"),
    [
        (0.01, 2.0, 0.5, 0.5),
        (0.01, -2.0, 0.5, -0.5),
        (-0.01, -2.0, -0.5, 0.5),
        (0.01, 2.0, -0.5, 0.0),
        (0.01, 0.0, 0.5, 0.0),
        (0.01, 2.0, 1.7, 1.0),
    ],
)
def test_following_a_right_forecast_pays_and_a_wrong_one_costs(forecast, realised, position, value):
    assert followed(forecast, realised, position) == value


def test_simple_is_the_log_growth():
    rewards, terms = play([110.0, 99.0], RewardSettings(), [1, 1])
    assert rewards == pytest.approx([np.log(1.1), np.log(0.9)])
    assert terms == [{"growth": reward} for reward in rewards]


def test_risk_adjusted_is_return_less_costs_volatility_and_drawdown():
    settings = RewardSettings(
        "risk_adjusted", cost_weight=3.0, volatility_weight=0.5, drawdown_weight=0.2
    )
    rewards, terms = play([110.0, 99.0], settings, [1, 1], Costs(100.0, 0.0, 0.0))
    # 10,000 buy 10,000 / 101 units at 100 and 1 %: at 110 they are worth 11,000 / 1.01
    net, gross = np.log(1.1 / 1.01), np.log(1.1 / 1.01 + 0.01 / 1.01)
    assert terms[0] == pytest.approx(
        {"return": gross, "costs": 3 * (net - gross), "volatility": 0.0, "drawdown": 0.0}
    )
    low = np.log(0.9)
    assert terms[1] == pytest.approx(
        {
            "return": low,
            "costs": 0.0,
            "volatility": -0.5 * (net - low) / 2,
            "drawdown": -0.2 * 0.1,
        }
    )
    assert rewards == pytest.approx([sum(term.values()) for term in terms])


def test_risk_adjusted_without_weights_is_simple():
    closes, weights, costs = [110.0, 99.0, 120.0], [1, -0.5, 0.2], Costs(10.0, 20.0, 5.0)
    plain = play(closes, RewardSettings(), weights, costs)[0]
    assert play(closes, RewardSettings("risk_adjusted"), weights, costs)[0] == pytest.approx(plain)


def test_sharpe_and_sortino_are_ratios_over_the_last_bars():
    closes = 100 * np.exp(np.cumsum([0.02, -0.01, 0.03]))
    sharpe, _ = play(closes, RewardSettings("sharpe", window_bars=2), [1, 1, 1])
    # of (.02), (.02, -.01) and (-.01, .03); a single bar has deviation 0, so the floor .001, and
    # fills half the window
    assert sharpe == pytest.approx([20.0 / 2, 0.005 / 0.015, 0.01 / 0.02])
    sortino, _ = play(closes, RewardSettings("sortino", window_bars=2), [1, 1, 1])
    downside = 0.01 / np.sqrt(2)
    assert sortino == pytest.approx([20.0 / 2, 0.005 / downside, 0.01 / downside])


@pytest.mark.parametrize("kind", ["sharpe", "sortino"])
def test_a_ratio_counts_by_how_full_its_window_is(kind):
    closes = 100 * np.exp(np.cumsum(np.full(6, 0.002)))
    rewards, _ = play(closes, RewardSettings(kind, window_bars=4, volatility_floor=0.01), [1] * 6)
    # the mean stays .002 and the deviation below the floor: .2 with a full window
    assert rewards == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.2, 0.2])


def test_differential_sharpe_forgets_at_its_rate():
    closes = 100 * np.exp(np.cumsum([0.02, 0.01]))
    settings = RewardSettings("differential_sharpe", adaptation_rate=0.5, volatility_floor=1e-3)
    rewards, _ = play(closes, settings, [1, 1])
    # A = B = 0 before the first bar; then A = .01, B = .0002: dA = 0, dB = -.0001
    # D = (0 + .01 * .0001 / 2) / .0001^1.5
    assert rewards == pytest.approx([0.0, 5e-7 / 1e-6])


def test_hybrid_adds_accuracy_and_sizing():
    settings = RewardSettings("hybrid", accuracy_weight=0.5, sizing_weight=0.1, full_ratio=0.1)
    forecast = column([0.001, -0.002, np.nan])
    uncertainty = column([0.02, 0.01, 0.01])
    rewards, terms = play(
        [110.0, 121.0, 121.0], settings, [0.25, 0.25, 0.25], forecast=forecast,
        uncertainty=uncertainty,
    )  # fmt: skip
    # called for .5, held .25, and the price rose: right
    assert terms[0] == pytest.approx(
        {"growth": np.log(1.025), "accuracy": 0.5 * 0.25, "sizing": -0.1 * 0.25**2}
    )
    # called for -1, held .25 against it: nothing for the accuracy
    assert terms[1]["accuracy"] == 0.0
    assert terms[1]["sizing"] == pytest.approx(-0.1 * 1.25**2)
    assert (terms[2]["accuracy"], terms[2]["sizing"]) == (0.0, 0.0)
    assert rewards == pytest.approx([sum(term.values()) for term in terms])


def test_hybrid_needs_forecasts(panel):
    rules = TradingRules(FREE, 5, reward=RewardSettings("hybrid"))
    with pytest.raises(ValueError, match="needs forecasts"):
        TradingEnv(panel, rules)


@pytest.mark.parametrize("kind", KINDS)
def test_an_episode_starts_without_memory(kind):
    panel = make_panel(n_symbols=1)
    panel = replace(panel, forecast=panel.close * 0 + 0.01, uncertainty=panel.close * 0 + 0.1)
    rules = TradingRules(FREE, 5, action_kind="continuous", reward=RewardSettings(kind, 3))
    env = TradingEnv(panel, rules)
    rewards = []
    for _ in range(2):
        env.reset(options=FIRST)
        rewards.append([env.step(np.ones(1, np.float32))[1] for _ in range(8)])
    assert rewards[0] == rewards[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "profit"}, "kind is 'profit'; expected one of simple, risk_adjusted"),
        ({"window_bars": 0}, "window_bars is 0"),
        ({"drawdown_weight": -1.0}, "drawdown_weight is -1.0"),
        ({"adaptation_rate": 0.0}, "adaptation_rate is 0.0"),
        ({"volatility_floor": 0.0}, "volatility_floor is 0.0"),
        ({"full_ratio": np.nan}, "full_ratio is nan"),
    ],
)
def test_impossible_settings_are_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        RewardSettings(**change)
