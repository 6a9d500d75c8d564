from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftlib.agents.ensemble import (
    DEFAULT_WEIGHTS,
    CertaintyWeights,
    Ensemble,
    FixedWeights,
    RollingWeights,
    paper_accounts,
    weigh_by_sharpe,
)
from hftlib.agents.policy import StatefulPolicy, play
from tests.conftest import make_panel


class Linear:
    """Target weights that depend on the newest bar."""

    def __init__(self, slope, offset=0.0):
        self.slope, self.offset = slope, offset

    def act(self, observations):
        return np.clip(self.slope * observations[:, -3:-2] + self.offset, -1, 1).astype(np.float32)


class Counting:
    """Chooses among whole numbers."""

    def act(self, observations):
        return np.zeros(len(observations), dtype=np.int64)


@pytest.fixture
def rules(rules):
    return replace(rules, action_kind="continuous")


OBSERVATIONS = np.random.default_rng(0).normal(size=(7, 17)).astype(np.float32)
MEMBERS = {
    "a": [Linear(0.5), Linear(0.6)],
    "b": [Linear(-0.3), Linear(0.2)],
    "c": [Linear(0.0, 0.1), Linear(0.0, 0.1)],
}


def weightings(panel, rules):
    paper = paper_accounts(MEMBERS, panel, rules)
    return {
        "fixed": FixedWeights([0.4, 0.3, 0.3]),
        "rolling": RollingWeights(paper, lookback_bars=20),
        "certainty": CertaintyWeights(),
    }


KINDS = ["fixed", "rolling", "certainty"]


def test_one_member_acts_as_it_would_alone():
    for weighting in (FixedWeights([3.0]), CertaintyWeights()):
        ensemble = Ensemble({"a": [Linear(0.5)]}, weighting)
        np.testing.assert_array_equal(ensemble.act(OBSERVATIONS), Linear(0.5).act(OBSERVATIONS))
        assert ensemble.disagreement.max() == 0


def test_equal_members_act_as_each_of_them():
    members = {name: [Linear(0.5)] for name in "abc"}
    ensemble = Ensemble(members, FixedWeights([0.2, 0.5, 0.3]))
    # a weighted mean of equal float32 numbers, to rounding
    np.testing.assert_allclose(ensemble.act(OBSERVATIONS), Linear(0.5).act(OBSERVATIONS), rtol=1e-6)
    assert ensemble.disagreement.max() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_shares_at_every_step(panel, rules, kind):
    ensemble = Ensemble(MEMBERS, weightings(panel, rules)[kind])
    play(ensemble, panel, rules)
    assert ensemble.weights.shape == (395, 2, 3)
    assert (ensemble.weights >= 0).all()
    np.testing.assert_allclose(ensemble.weights.sum(axis=2), 1, rtol=1e-12)
    assert ensemble.disagreement.shape == (395, 2, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_the_members_does_not_matter(panel, rules, kind):
    backwards = dict(reversed(MEMBERS.items()))
    one = weightings(panel, rules)[kind]
    two = {
        "fixed": FixedWeights([0.3, 0.3, 0.4]),
        "rolling": RollingWeights(paper_accounts(backwards, panel, rules), lookback_bars=20),
        "certainty": CertaintyWeights(),
    }[kind]
    rollouts = [play(Ensemble(m, w), panel, rules) for m, w in ((MEMBERS, one), (backwards, two))]
    # sums in another order
    np.testing.assert_allclose(rollouts[0].equity, rollouts[1].equity, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_future_does_not_change_past_weights(panel, rules, kind):
    known = 100  # bars
    changed = replace(panel, features=panel.features.copy(), close=panel.close.copy())
    rng = np.random.default_rng(5)
    for start, stop in panel.segments:
        changed.features[start + known : stop] = rng.uniform(-9, 9, (stop - start - known, 3))
        changed.close[start + known : stop] *= np.exp(rng.normal(0, 0.1, stop - start - known))
    seen = []
    for bars in (panel, changed):
        ensemble = Ensemble(MEMBERS, weightings(bars, rules)[kind])
        play(ensemble, bars, rules)
        seen.append(ensemble)
    # decision t sees bar t + 4, the last one of its window
    before = known - rules.window_bars + 1
    for name in ("weights", "disagreement"):
        one, two = (getattr(ensemble, name) for ensemble in seen)
        np.testing.assert_array_equal(one[:before], two[:before])
        if kind != "fixed" or name == "disagreement":
            assert (one[before:] != two[before:]).any()


def test_rolling_weights_follow_the_closed_form():
    returns = np.array([[0.01, -0.01], [0.03, 0.01], [0.02, 0.03]])  # (bars, members)
    equity = np.exp(np.concatenate([np.zeros((1, 2)), returns.cumsum(axis=0)]))[:, None, :]
    weights = RollingWeights(equity, lookback_bars=3, temperature=2.0)
    actions = np.zeros((2, 1, 1))
    np.testing.assert_array_equal(weights.weigh(2, actions, actions), [[0.5, 0.5]])
    # t-statistics: .02 / .01 * sqrt(3) and .01 / .02 * sqrt(3)
    scores = np.array([2.0, 0.5]) * 3**0.5 / 2.0
    expected = np.exp(scores) / np.exp(scores).sum()
    np.testing.assert_allclose(weights.weigh(3, actions, actions), [expected], rtol=1e-9)


def test_rolling_weights_find_the_member_that_earns(rules):
    panel = make_panel(seed=2)
    # from the open at which a decision trades to the next one
    ahead = np.append(np.diff(np.log(panel.open))[1:], [0.0, 0.0])
    panel = replace(panel, features=np.clip(ahead[:, None] * 50, -9, 9).repeat(3, 1).astype("f4"))
    members = {"knows": [Linear(1.0)], "errs": [Linear(-1.0)]}
    paper = paper_accounts(members, panel, rules)
    ensemble = Ensemble(members, RollingWeights(paper, lookback_bars=20))
    play(ensemble, panel, rules)
    assert ensemble.weights[20:, :, 0].min() > 0.5
    assert ensemble.weights[20:, :, 0].mean() > 0.95


def test_certainty_weights_are_inverse_variances():
    actions, variances = np.zeros((2, 1, 2)), np.array([[[0.0, 0.02]], [[0.03, 0.05]]])
    weights = CertaintyWeights(floor=0.1).weigh(0, actions, variances)
    np.testing.assert_allclose(weights, [[0.05 / 0.07, 0.02 / 0.07]], rtol=1e-12)


@given(st.lists(st.floats(-5, 5) | st.just(float("nan")), min_size=1, max_size=5))
def test_weights_by_sharpe_ratio_are_shares_in_its_order(values):
    sharpes = {f"m{k}": value for k, value in enumerate(values)}
    weights = weigh_by_sharpe(sharpes)
    assert min(weights.values()) >= 0
    assert sum(weights.values()) == pytest.approx(1)
    ranked = sorted(sharpes, key=lambda name: np.nan_to_num(sharpes[name]))
    found = [weights[name] for name in ranked]
    assert found == sorted(found)


def test_weights_by_sharpe_ratio_follow_the_closed_form():
    softmax = weigh_by_sharpe({"a": 0.0, "b": np.log(3.0) * 2}, temperature=2.0)
    assert softmax == pytest.approx({"a": 0.25, "b": 0.75})


def test_the_default_weights_are_shares():
    assert sum(DEFAULT_WEIGHTS.values()) == pytest.approx(1)


def test_an_ensemble_can_start_anew():
    ensemble = Ensemble(MEMBERS, CertaintyWeights())
    assert isinstance(ensemble, StatefulPolicy)
    ensemble.act(OBSERVATIONS)
    ensemble.begin(7)
    ensemble.act(OBSERVATIONS)
    assert len(ensemble.weights) == len(ensemble.disagreement) == 1


def test_disagreement_is_the_spread_between_members():
    ensemble = Ensemble({"a": [Linear(0.0, 0.2)], "b": [Linear(0.0, 0.6)]}, FixedWeights([1, 1]))
    np.testing.assert_allclose(ensemble.act(OBSERVATIONS), 0.4, rtol=1e-6)
    np.testing.assert_allclose(ensemble.disagreement, 0.2, rtol=1e-6)


def test_members_of_other_action_spaces_are_refused():
    with pytest.raises(ValueError, match=r"member a chooses among int64 numbers; .*continuous"):
        Ensemble({"a": [Counting()]}, FixedWeights([1.0])).act(OBSERVATIONS)


@pytest.mark.parametrize("weights", [[-1.0, 2.0], [0.0, 0.0], [np.nan, 1.0]])
def test_impossible_weights_are_refused(weights):
    with pytest.raises(ValueError, match="weights are"):
        FixedWeights(weights)


def test_as_many_weights_as_members_are_needed():
    with pytest.raises(ValueError, match="2 weights for 3 members"):
        Ensemble(MEMBERS, FixedWeights([0.5, 0.5])).act(OBSERVATIONS)
    with pytest.raises(ValueError, match=r"members are {'a': 0}"):
        Ensemble({"a": []}, FixedWeights([1.0]))


def test_paper_accounts_of_other_episodes_are_refused(panel, rules):
    weighting = RollingWeights(paper_accounts(MEMBERS, panel, rules), lookback_bars=20)
    with pytest.raises(ValueError, match="paper accounts of 2 episodes and 3 members"):
        Ensemble(MEMBERS, weighting).act(OBSERVATIONS)
    short = RollingWeights(weighting.paper_equity[:5], lookback_bars=3)
    ensemble = Ensemble(MEMBERS, short)
    for _ in range(5):
        ensemble.act(OBSERVATIONS[:2])
    with pytest.raises(ValueError, match="decision 5 needs paper accounts up to bar 5"):
        ensemble.act(OBSERVATIONS[:2])
