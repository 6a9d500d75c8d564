"""Served against trained: equal where they are, and a planted difference is found."""

from dataclasses import replace

import numpy as np
import pytest

from hftlib.agents.online_policy import LearntPolicy
from hftlib.envs import TradingEnv
from hftlib.live.parity import compare_panels, compare_policies, draw_observations, time_calls
from hftlib.live.predictor import Predictor
from tests.conftest import make_panel
from tests.retrain_cases import NAMES, write_holder
from tests.served_cases import DESIGN, RULES, SYMBOLS, WINDOW, draw_weights, make_case


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return make_case(tmp_path_factory.mktemp("parity") / "served")


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """A predictor of one random policy, and the policy."""
    artefact = write_holder(tmp_path_factory.mktemp("one") / "served", "one", 0.0, weights=3)
    design = replace(DESIGN, feature_names=NAMES, window_bars=WINDOW)
    return Predictor(artefact), LearntPolicy(draw_weights(design, 3), design)


@pytest.fixture
def drawn():
    return draw_observations(make_panel(60), WINDOW, 500, np.random.default_rng(1))


def test_drawn_observations_are_those_of_the_environment(case):
    """Every window of a drawn one is a window that `TradingEnv` shows."""
    env = TradingEnv(case.panel, RULES)
    shown = set()
    for segment in range(len(SYMBOLS)):
        observation, _ = env.reset(options={"segment": segment})
        is_over = False
        while not is_over:
            shown.add(observation[:-2].tobytes())
            observation, _, terminated, truncated, _ = env.step(np.zeros(1, np.float32))
            is_over = terminated or truncated
        shown.add(observation[:-2].tobytes())
    found = draw_observations(case.panel, WINDOW, 300, np.random.default_rng(0))
    assert found.dtype == np.float32 and found.shape == (300, observation.size)
    first = {row[:-2].tobytes() for row in found}
    assert len(first) > 50
    starts, stops = case.panel.segments[:, 0], case.panel.segments[:, 1]
    assert len(shown) >= (stops - starts - WINDOW).sum()  # all but the ends of the symbols
    assert len(first - shown) <= len(SYMBOLS)


def test_drawn_accounts_are_long_short_and_flat_with_a_sign_that_fits(drawn):
    position, exposure = drawn[:, -2], drawn[:, -1]
    assert set(position) == {-1.0, 0.0, 1.0}
    np.testing.assert_array_equal(np.sign(exposure), position)
    # a tenth is flat: 500 draws, four deviations
    assert np.mean(position == 0) == pytest.approx(0.1, abs=4 * np.sqrt(0.09 / 500))


def test_windows_do_not_reach_over_the_border_of_two_symbols():
    features = np.repeat([[1.0], [2.0]], 6, axis=0).astype(np.float32)
    panel = replace(make_panel(6), features=features, feature_names=("f0",))
    found = draw_observations(panel, 5, 100, np.random.default_rng(0))[:, :-2]
    assert (found == found[:, :1]).all() and set(found[:, 0]) == {1.0, 2.0}


def test_a_panel_shorter_than_a_window_is_an_error():
    with pytest.raises(ValueError, match="no symbol has 7 bars; pass a longer panel"):
        draw_observations(make_panel(6), 7, 1, np.random.default_rng(0))


def test_a_policy_and_its_graph_agree(single, drawn):
    found = compare_policies(*single, drawn)
    assert found["observations"] == 500
    assert found["largest"] < 1e-5  # sums in float32 in another order
    assert found["range"] > 0.1


def test_a_planted_difference_of_one_weight_is_found(single, drawn):
    predictor, policy = single
    weights = draw_weights(policy.design, 3)
    weights["action_net.bias"] = weights["action_net.bias"] + np.float32(0.01)
    found = compare_policies(predictor, LearntPolicy(weights, policy.design), drawn)
    # the mean moves by 0.01 wherever it is within the bounds
    assert found["largest"] == pytest.approx(0.01, abs=1e-5)


def test_a_policy_that_says_always_the_same_is_told(tmp_path, drawn):
    predictor = Predictor(write_holder(tmp_path / "served", "hold", 0.5))
    design = replace(DESIGN, feature_names=NAMES, window_bars=WINDOW)
    weights = draw_weights(design, 0)
    weights["action_net.weight"][:] = 0.0
    weights["action_net.bias"][:] = 0.5
    found = compare_policies(predictor, LearntPolicy(weights, design), drawn)
    assert found["range"] == 0.0 and found["largest"] == 0.0


@pytest.fixture(scope="module")
def served(case):
    own = case.bars[case.bars["symbol"] == "BBB"].reset_index(drop=True)
    return Predictor(case.artefact).panel(own, 60)


def test_features_of_the_dataset_and_of_the_predictor_are_equal(case, served):
    table = compare_panels(served, case.panel)
    assert table.index.tolist() == list(case.panel.feature_names)
    assert (table["rows"] == 60).all()
    assert (table["differing"] == 0).all() and (table["largest"] == 0).all()


def test_a_planted_difference_of_one_feature_is_found(case, served):
    features = served.features.copy()
    features[[5, 9], 2] += [0.25, -0.5]
    table = compare_panels(replace(served, features=features), case.panel)
    name = case.panel.feature_names[2]
    assert table.loc[name, "differing"] == 2
    assert table.loc[name, "largest"] == pytest.approx(0.5, abs=1e-6)
    assert (table.drop(index=name)["differing"] == 0).all()


def test_panels_of_other_features_or_other_bars_are_errors(case, served):
    names = (*served.feature_names[1:], served.feature_names[0])
    with pytest.raises(ValueError, match="expected the same"):
        compare_panels(replace(served, feature_names=names), case.panel)
    with pytest.raises(ValueError, match="no bar is in both"):
        compare_panels(replace(served, ts=served.ts + 1), case.panel)


def test_the_time_of_a_call_leaves_the_first_three_out():
    calls = []
    found = time_calls(lambda: calls.append(None), 20)
    assert len(calls) == 23
    assert 0 < found.p50 <= found.p99 < 1000
