from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from hftlib.agents.ensemble import Ensemble, FixedWeights
from hftlib.agents.online_policy import LearntPolicy, save_policy
from hftlib.agents.policy_export import export_policies, read_trained
from hftlib.paths import write_json
from tests.served_cases import DESIGN, draw_observations, draw_weights

# Sums of some ten terms in float32, in another order: a few 1e-7. The contract allows 1e-5.
TOLERANCE = 1e-5


def run(path, observations):
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return session.run(["action", "spread"], {"observation": observations})


def train(algo="ppo", seed=0, **changes):
    design = replace(DESIGN, algo=algo, **changes)
    return draw_weights(design, seed), design


def constant(value):
    """A PPO policy whose mean is always `value`."""
    weights, design = train()
    weights = {name: np.zeros_like(array) for name, array in weights.items()}
    weights["action_net.bias"][:] = value
    return weights, design


@pytest.mark.parametrize("extractor", ["mlp", "lstm", "attention"])
@pytest.mark.parametrize("algo", ["ppo", "sac", "td3"])
def test_graph_and_torch_agree_on_a_thousand_observations(tmp_path, algo, extractor):
    trained = train(algo, extractor=extractor)
    export_policies(tmp_path / "policy.onnx", {algo: [trained]})
    observations = draw_observations(trained[1])
    action, spread = run(tmp_path / "policy.onnx", observations)
    expected = LearntPolicy(*trained).act(observations)
    assert expected.std() > 0.05  # else agreement would mean little
    np.testing.assert_allclose(action, expected, rtol=0, atol=TOLERANCE)
    np.testing.assert_array_equal(spread, 0.0)


def test_a_network_shared_with_the_critic_is_exported_too(tmp_path):
    trained = train(shares_value_network=True)
    export_policies(tmp_path / "policy.onnx", {"ppo": [trained]})
    observations = draw_observations(trained[1])
    action, _ = run(tmp_path / "policy.onnx", observations)
    expected = LearntPolicy(*trained).act(observations)
    np.testing.assert_allclose(action, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("extractor", ["mlp", "lstm", "attention"])
def test_policies_of_two_assets_give_two_weights(tmp_path, extractor):
    shape = {"n_assets": 2, "n_account": 4, "low": (0.0, 0.0), "high": (1.0, 1.0)}
    trained = train("sac", extractor=extractor, **shape)
    graph = export_policies(tmp_path / "policy.onnx", {"sac": [trained]})
    observations = draw_observations(trained[1])
    action, _ = run(tmp_path / "policy.onnx", observations)
    expected = LearntPolicy(*trained).act(observations)
    assert (graph.n_assets, action.shape) == (2, (1000, 2))
    np.testing.assert_allclose(action, expected, rtol=0, atol=TOLERANCE)


def test_action_and_spread_of_two_constants_are_those_of_arithmetic(tmp_path):
    seeds = {"ppo": [constant(0.5), constant(-0.3)]}
    export_policies(tmp_path / "policy.onnx", seeds)
    action, spread = run(tmp_path / "policy.onnx", draw_observations(DESIGN, 3))
    np.testing.assert_allclose(action, 0.1, rtol=1e-6)
    np.testing.assert_allclose(spread, 0.4, rtol=1e-6)


def test_weights_count_algorithms_not_seeds(tmp_path):
    members = {"ppo": [constant(0.6), constant(0.6), constant(0.6)], "old": [constant(-0.2)]}
    graph = export_policies(tmp_path / "policy.onnx", members, {"ppo": 1.0, "old": 3.0})
    action, spread = run(tmp_path / "policy.onnx", draw_observations(DESIGN, 3))
    assert (graph.algos, graph.shares, graph.n_seeds) == (("ppo", "old"), (0.25, 0.75), (3, 1))
    np.testing.assert_allclose(action, 0.25 * 0.6 - 0.75 * 0.2, atol=1e-7)
    # a coin with chances 1/4 and 3/4 whose sides lie .8 apart
    np.testing.assert_allclose(spread, 0.8 * np.sqrt(0.25 * 0.75), rtol=1e-6)


def test_actions_never_leave_the_bounds(tmp_path):
    export_policies(tmp_path / "policy.onnx", {"ppo": [constant(7.0), constant(9.0)]})
    action, spread = run(tmp_path / "policy.onnx", draw_observations(DESIGN, 3))
    np.testing.assert_array_equal(action, 1.0)
    np.testing.assert_array_equal(spread, 0.0)  # both stand at the bound


def test_the_graph_is_the_ensemble_with_fixed_weights(tmp_path):
    members = {a: [train(a, seed) for seed in (1, 2)] for a in ("ppo", "sac", "td3")}
    weights = {"td3": 0.3, "sac": 0.4, "ppo": 0.3}
    export_policies(tmp_path / "policy.onnx", members, weights)
    observations = draw_observations(DESIGN)
    action, spread = run(tmp_path / "policy.onnx", observations)
    policies = {a: [LearntPolicy(*trained) for trained in each] for a, each in members.items()}
    ensemble = Ensemble(policies, FixedWeights([weights[a] for a in members]))
    ensemble.begin(len(observations))
    np.testing.assert_allclose(action, ensemble.act(observations), rtol=0, atol=TOLERANCE)
    each = np.stack([p.act(observations) for seeds in policies.values() for p in seeds])
    votes = np.repeat([weights[a] / 2 for a in members], 2)
    mean = np.average(each, axis=0, weights=votes)
    variance = np.average((each - mean) ** 2, axis=0, weights=votes)
    np.testing.assert_allclose(spread, np.sqrt(variance), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("extractor", ["mlp", "lstm", "attention"])
def test_an_observation_gets_the_same_bits_in_any_batch_of_two_or_more(tmp_path, extractor):
    """One row alone goes through another product, whose sums have another order."""
    members = {a: [train(a, s, extractor=extractor) for s in (1, 2)] for a in ("ppo", "td3")}
    export_policies(tmp_path / "policy.onnx", members)
    observations = draw_observations(DESIGN, 66)
    whole = run(tmp_path / "policy.onnx", observations)
    for n in (2, 3, 22):
        parts = [
            run(tmp_path / "policy.onnx", part) for part in observations.reshape(66 // n, n, -1)
        ]
        for in_parts, at_once in zip(zip(*parts, strict=True), whole, strict=True):
            np.testing.assert_array_equal(np.concatenate(in_parts), at_once)


def test_equal_members_give_equal_bytes(tmp_path):
    graphs = [
        export_policies(tmp_path / name, {"sac": [train("sac")], "ppo": [train()]}) for name in "ab"
    ]
    assert graphs[0] == graphs[1]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_seeds_are_read_in_their_order(tmp_path):
    for k in range(11):  # ten comes after nine
        save_policy(tmp_path / f"seed_{k}.npz", *constant(k))
    write_json(tmp_path / "manifest.json", {"seeds": list(range(11))})
    read = read_trained(tmp_path)
    assert [weights["action_net.bias"].item() for weights, _ in read] == list(range(11))
    (tmp_path / "seed_3.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"seed_3\.npz"):
        read_trained(tmp_path)


@pytest.mark.parametrize(
    ("members", "weights", "message"),
    [
        ({}, None, r"members are \{\}; expected at least one"),
        ({"ppo": []}, None, r"members are \{'ppo': 0\}"),
        ({"ppo": [train()]}, {"sac": 1.0}, r"weights are of \['sac'\], members of \['ppo'\]"),
        ({"ppo": [train()]}, {"ppo": -1.0}, "none negative"),
        ({"ppo": [train(), train(window_bars=5)]}, None, "window_bars of seed 1 of ppo is 5"),
        (
            {"ppo": [train()], "sac": [train("sac", feature_names=("f0", "f2", "f1"))]},
            None,
            "feature_names of seed 0 of sac",
        ),
        ({"ppo": [train()], "td3": [train("td3", low=(0.0,))]}, None, "low of seed 0 of td3"),
        (
            {"ppo": [train(action_kind="Discrete", choices=(3,), low=(), high=())]},
            None,
            r'seed 0 of ppo chooses among \(3,\).*action_kind="continuous"',
        ),
    ],
)
def test_members_that_cannot_be_one_graph_are_refused(tmp_path, members, weights, message):
    with pytest.raises(ValueError, match=message):
        export_policies(tmp_path / "policy.onnx", members, weights)
    assert not list(tmp_path.iterdir())
