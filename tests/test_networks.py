"""Networks, heads and the policies that are rebuilt from saved weights."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.distributions import (
    AffineTransform,
    Categorical,
    Independent,
    Normal,
    TanhTransform,
    TransformedDistribution,
)

from hftlib.agents.learnt import LearntActor
from hftlib.models.networks import (
    log_derivative_of_tanh,
    make_head,
    make_mlp,
    make_recurrent,
    rebuild_network,
)

BOX = spaces.Box(np.array([-1, 0, 2], np.float32), np.array([3, 0.5, 20], np.float32))
SPACES = [BOX, spaces.Discrete(4), spaces.MultiDiscrete([3, 3]), spaces.MultiDiscrete([2, 5, 3])]
SEEN = spaces.Box(-10, 10, (4,), np.float32)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=1):
    return torch.randn(shape, generator=generator(seed))


@pytest.mark.parametrize(("activation", "gain"), [("tanh", 5 / 3), ("relu", 2**0.5)])
def test_layers_start_orthogonal_with_the_gain_of_their_activation(activation, gain):
    network = make_mlp([6, 8, 8, 3], 0.01, generator(), activation=activation)
    weights = [m.weight.detach() for m in network if isinstance(m, torch.nn.Linear)]
    for weight, scale in zip(weights, (gain, gain, 0.01), strict=True):
        rows, columns = weight.shape
        gram = weight @ weight.T if rows <= columns else weight.T @ weight
        torch.testing.assert_close(gram, scale**2 * torch.eye(len(gram)), atol=1e-6, rtol=1e-5)
    assert all((m.bias == 0).all() for m in network if isinstance(m, torch.nn.Linear))


@pytest.mark.parametrize("make", [make_mlp, make_recurrent])
def test_weights_come_from_the_generator_alone(make):
    before = torch.get_rng_state()
    networks = (make([4, 8, 2], 1.0, generator(seed)) for seed in (3, 3, 4))
    one, two, other = (dict(network.named_parameters()) for network in networks)
    assert torch.equal(torch.get_rng_state(), before)
    for name, values in one.items():
        assert torch.equal(values, two[name])
        assert "bias" in name or not torch.equal(values, other[name])


def test_unrolling_a_memory_equals_stepping_through_it_with_resets():
    network = make_recurrent([3, 8, 2], 1.0, generator())
    inputs, hidden = normal(7, 5, 3), normal(5, 8)
    starts = torch.rand(7, 5, generator=generator(2)) < 0.3
    starts[0, 0] = True  # also right at the start, where the memory comes from outside
    outputs, memories = network.unroll(inputs, starts, hidden)
    for t in range(7):
        hidden = torch.where(starts[t, :, None], 0.0, hidden)
        output, hidden = network.step(inputs[t], hidden)
        torch.testing.assert_close(outputs[t], output)
        torch.testing.assert_close(memories[t], hidden)


def test_a_new_episode_knows_nothing_of_the_one_before():
    network = make_recurrent([3, 8, 2], 1.0, generator())
    inputs, starts = normal(6, 2, 3), torch.zeros(6, 2, dtype=torch.bool)
    starts[4, 0] = True
    changed = inputs.clone()
    changed[:4] += 1
    one, two = (network.unroll(x, starts, torch.zeros(2, 8))[0] for x in (inputs, changed))
    assert torch.equal(one[4:, 0], two[4:, 0])
    assert not torch.equal(one[4:, 1], two[4:, 1]), "the other copy goes on and remembers"


@pytest.mark.parametrize("make", [make_mlp, make_recurrent])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_network_is_rebuilt_from_its_state_dict(make, activation):
    network = make([3, 8, 6, 2], 1.0, generator(), activation=activation)
    arrays = {name: values.numpy() for name, values in network.state_dict().items()}
    inputs, hidden = normal(5, 3), normal(5, network.hidden_size)
    expected, got = (x.step(inputs, hidden) for x in (network, rebuild_network(arrays)))
    assert torch.equal(expected[0], got[0])
    assert torch.equal(expected[1], got[1])


def test_wrong_networks_are_refused():
    with pytest.raises(ValueError, match="sizes is \\[3\\]; expected inputs and outputs"):
        make_mlp([3], 1.0, generator())
    with pytest.raises(ValueError, match="activation is 'selu'; expected one of tanh, relu"):
        make_mlp([3, 4, 2], 1.0, generator(), activation="selu")
    with pytest.raises(ValueError, match="a recurrent network needs a hidden layer"):
        make_recurrent([3, 2], 1.0, generator())
    with pytest.raises(ValueError, match=r"the whole state dict .* got 0\.weight; save"):
        rebuild_network({"0.weight": np.zeros((2, 3), np.float32)})


def test_squashed_gaussian_has_the_density_of_torchs_transformed_normal():
    head = make_head(BOX)
    with torch.no_grad():
        head.log_std.copy_(torch.tensor([-1.0, 0.3, 0.0]))
    means = normal(50, 3)
    raw, log_prob = head.sample(means, generator())
    low, high = torch.tensor(BOX.low), torch.tensor(BOX.high)
    squash = [TanhTransform(), AffineTransform((low + high) / 2, (high - low) / 2)]
    expected = Independent(TransformedDistribution(Normal(means, head.log_std.exp()), squash), 1)
    # torch inverts tanh from float32 actions, which costs digits near the bounds
    torch.testing.assert_close(log_prob, expected.log_prob(head.to_actions(raw)), atol=1e-3, rtol=0)
    assert torch.equal(log_prob, head.log_prob(means, raw))


def test_squashed_gaussians_density_integrates_to_one_over_the_box():
    head = make_head(spaces.Box(-1, 3, (1,), np.float32))
    raw = torch.linspace(-12, 12, 200_001)[:, None]
    density = head.log_prob(torch.full_like(raw, 0.4), raw).exp().detach()
    actions = head.to_actions(raw)[:, 0]
    assert torch.trapezoid(density.double(), actions.double()) == pytest.approx(1, abs=1e-4)


def test_squashed_gaussians_entropy_is_right_on_average_and_grows_with_the_deviation():
    head = make_head(spaces.Box(-1, 3, (1,), np.float32))
    means = torch.zeros(400_000, 1)
    entropy = head.entropy(means, generator()).mean()
    raw = torch.linspace(-12, 12, 100_001)[:, None].double()
    log_density = head.log_prob(torch.zeros_like(raw), raw).detach()
    exact = -torch.trapezoid(log_density.exp() * log_density, head.to_actions(raw)[:, 0])
    assert entropy.item() == pytest.approx(exact.item(), abs=0.01)  # sd of the mean: .002
    with torch.no_grad():
        head.log_std -= 1.0  # a narrow normal: tanh hardly bends it
    entropy = head.entropy(means, generator()).mean()
    entropy.backward()
    assert head.log_std.grad.item() > 0.5


def test_log_derivative_of_tanh_keeps_its_digits_far_from_zero():
    x = torch.tensor([-30.0, -5.0, -0.1, 0.0, 0.1, 5.0, 30.0])
    exact = -2 * np.log(np.cosh(x.double().numpy()))
    np.testing.assert_allclose(log_derivative_of_tanh(x), exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("space", SPACES[1:])
def test_choices_have_the_log_probabilities_and_entropies_of_torchs(space):
    head = make_head(space)
    outputs = normal(60, head.n_outputs)
    raw, log_prob = head.sample(outputs, generator())
    counts = [space.n] if isinstance(space, spaces.Discrete) else space.nvec.tolist()
    each = [Categorical(logits=logits) for logits in outputs.split(counts, dim=1)]
    expected = sum(one.log_prob(raw[:, k]) for k, one in enumerate(each))
    torch.testing.assert_close(log_prob, expected)
    torch.testing.assert_close(head.log_prob(outputs, raw), expected)
    torch.testing.assert_close(head.entropy(outputs, generator()), sum(x.entropy() for x in each))
    best = torch.stack([one.probs.argmax(dim=1) for one in each], dim=1)
    assert torch.equal(head.mode(outputs), best)


def test_choices_are_drawn_as_often_as_their_probabilities_say():
    head = make_head(spaces.MultiDiscrete([2, 3]))
    logits = torch.tensor([0.0, 1.0, -1.0, 0.5, 1.0])
    raw, _ = head.sample(logits.repeat(40_000, 1), generator())
    for k, own in enumerate(logits.split([2, 3])):
        frequency = raw[:, k].bincount(minlength=len(own)) / len(raw)
        torch.testing.assert_close(frequency, own.softmax(0), atol=0.01, rtol=0)  # 4 sd


def test_wrong_action_spaces_are_refused():
    with pytest.raises(ValueError, match="one-dimensional Box with finite bounds"):
        make_head(spaces.Box(-np.inf, 1, (2,), np.float32))
    with pytest.raises(ValueError, match="count from 0"):
        make_head(spaces.Discrete(3, start=1))
    with pytest.raises(ValueError, match="expected a Box, Discrete or MultiDiscrete"):
        make_head(spaces.MultiBinary(3))


def make_weights(space, *, make=make_mlp, name="maker"):
    network = make([4, 8, make_head(space).n_outputs], 3.0, generator())
    return {f"{name}/actor/{k}": v.numpy() for k, v in network.state_dict().items()}


@pytest.mark.parametrize("make", [make_mlp, make_recurrent])
@pytest.mark.parametrize("space", SPACES)
def test_saved_actors_act_alike_and_within_their_space(space, make, tmp_path):
    weights = make_weights(space, make=make)
    np.savez(tmp_path / "a.npz", allow_pickle=False, **weights)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as data:
        saved = dict(data)
    one, two = (LearntActor.from_weights(w, "maker", SEEN, space) for w in (weights, saved))
    for actor in (one, two):
        actor.begin(50)
    for t in range(3):
        observations = normal(50, 4, seed=t).numpy()
        actions = one.act(observations)
        np.testing.assert_array_equal(actions, two.act(observations))
        assert actions.dtype == space.dtype
        assert all(space.contains(action) for action in actions)


def test_an_actor_takes_the_most_probable_action():
    weights = make_weights(BOX)
    network = rebuild_network({k.removeprefix("maker/actor/"): v for k, v in weights.items()})
    observations = normal(20, 4)
    expected = torch.tanh(network(observations)).detach().numpy()
    expected = BOX.low + (expected + 1) / 2 * (BOX.high - BOX.low)
    actions = LearntActor.from_weights(weights, "maker", SEEN, BOX).act(observations.numpy())
    np.testing.assert_allclose(actions, expected, rtol=1e-6)


def test_an_actor_with_a_memory_forgets_at_the_start_of_an_episode():
    weights = make_weights(BOX, make=make_recurrent)
    actor = LearntActor.from_weights(weights, "maker", SEEN, BOX)
    observations = normal(5, 4).numpy()
    actor.begin(5)
    first, second = actor.act(observations), actor.act(observations)
    assert not np.array_equal(first, second)
    actor.begin(5)
    np.testing.assert_array_equal(actor.act(observations), first)
    with pytest.raises(RuntimeError, match=r"remembers 5 episodes and got 3 .* call begin\(n\)"):
        actor.act(observations[:3])


def test_actors_that_do_not_fit_are_refused():
    weights = make_weights(BOX)
    with pytest.raises(ValueError, match="no actor 'taker' in the weights; they have maker"):
        LearntActor.from_weights(weights, "taker", SEEN, BOX)
    with pytest.raises(ValueError, match="4 inputs and 3 outputs, its spaces ask for 4 and 4"):
        LearntActor.from_weights(weights, "maker", SEEN, spaces.Discrete(4))
