import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from hftlib.models.extractors import Perceptron, WindowAttention, WindowLSTM, encode_positions

BARS, FEATURES, ACCOUNT, WIDTH = 6, 3, 2, 16
SHAPE = {"window_bars": BARS, "n_assets": 1, "n_account": ACCOUNT, "width": WIDTH}
TIMED = [WindowLSTM, WindowAttention]


def make(kind, n_assets=1, seed=0):
    torch.manual_seed(seed)
    n_inputs = n_assets * BARS * FEATURES + ACCOUNT * n_assets
    space = spaces.Box(-10, 10, (n_inputs,), np.float32)
    if kind is Perceptron:
        return kind(space, (8, WIDTH))
    return kind(space, **(SHAPE | {"n_assets": n_assets, "n_account": ACCOUNT * n_assets}))


def draw(n=5, n_assets=1):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, n_assets * (BARS * FEATURES + ACCOUNT), generator=generator)


@pytest.mark.parametrize("kind", [Perceptron, *TIMED])
def test_outputs_have_the_width_that_the_next_layer_is_told(kind):
    extractor = make(kind)
    expected = WIDTH if kind is Perceptron else WIDTH + ACCOUNT
    assert extractor(draw()).shape == (5, extractor.features_dim) == (5, expected)


@pytest.mark.parametrize("kind", TIMED)
def test_the_account_passes_as_it_is(kind):
    observations = draw()
    torch.testing.assert_close(
        make(kind)(observations)[:, -ACCOUNT:], observations[:, -ACCOUNT:], rtol=0, atol=0
    )


@pytest.mark.parametrize("kind", TIMED)
def test_the_assets_of_a_portfolio_are_read_one_by_one_with_the_same_weights(kind):
    one, three = make(kind), make(kind, n_assets=3)
    three.load_state_dict(one.state_dict())
    observations = draw(n_assets=3)
    windows = observations[:, : 3 * BARS * FEATURES].reshape(-1, 3, BARS * FEATURES)
    apart = [
        one(torch.cat([windows[:, k], torch.zeros(5, ACCOUNT)], dim=1))[:, :WIDTH] for k in range(3)
    ]
    # float32 sums of some ten terms of order one
    torch.testing.assert_close(
        three(observations)[:, : 3 * WIDTH], torch.cat(apart, dim=1), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("kind", [Perceptron, *TIMED])
def test_every_weight_and_every_bar_gets_a_gradient(kind):
    extractor, observations = make(kind), draw().requires_grad_()
    extractor(observations).square().sum().backward()
    for name, parameter in extractor.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    window = observations.grad[:, : BARS * FEATURES].reshape(5, BARS, FEATURES)
    assert (window.abs().sum(dim=(0, 2)) > 0).all()


@pytest.mark.parametrize("kind", [Perceptron, *TIMED])
def test_the_seed_fixes_the_weights(kind):
    one, same, other = make(kind), make(kind), make(kind, seed=1)
    torch.testing.assert_close(one(draw()), same(draw()), rtol=0, atol=0)
    assert not torch.equal(one(draw()), other(draw()))


@pytest.mark.parametrize("kind", TIMED)
def test_the_order_of_the_bars_matters(kind):
    observations = draw()
    window = observations[:, : BARS * FEATURES].reshape(5, BARS, FEATURES)
    # the newest bar stays, so that only the places of the others tell
    swapped = window[:, [1, 0, *range(2, BARS)]].reshape(5, -1)
    shuffled = torch.cat([swapped, observations[:, -ACCOUNT:]], dim=1)
    extractor = make(kind)
    assert (extractor(observations) - extractor(shuffled)).abs().max() > 1e-3


def test_attention_without_places_could_not_tell_the_order():
    extractor = make(WindowAttention)
    extractor.positions.zero_()
    observations = draw()
    window = observations[:, : BARS * FEATURES].reshape(5, BARS, FEATURES)
    swapped = window[:, [1, 0, *range(2, BARS)]].reshape(5, -1)
    shuffled = torch.cat([swapped, observations[:, -ACCOUNT:]], dim=1)
    torch.testing.assert_close(extractor(observations), extractor(shuffled), rtol=1e-4, atol=1e-5)


def test_places_are_the_published_sines_and_cosines():
    places = encode_positions(4, 6)
    for t in range(4):
        for k in range(3):
            angle = t / 10_000 ** (2 * k / 6)
            assert places[t, 2 * k] == pytest.approx(math.sin(angle), abs=1e-6)
            assert places[t, 2 * k + 1] == pytest.approx(math.cos(angle), abs=1e-6)


def test_columns_that_are_no_whole_bars_are_refused():
    space = spaces.Box(-10, 10, (21,), np.float32)
    with pytest.raises(ValueError, match=r"21 columns, 2 of the account; the other 19 are no"):
        WindowLSTM(space, **SHAPE)


def test_a_width_that_the_heads_cannot_share_is_refused():
    with pytest.raises(ValueError, match=r"width is 12; expected a multiple of .* 8"):
        WindowAttention(spaces.Box(-10, 10, (20,), np.float32), **(SHAPE | {"width": 12}))
