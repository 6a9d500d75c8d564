"""The forecaster's network, its start, its loss, its mixture and its files."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Bernoulli, Normal

from hftlib.models.calibration import fit_margin
from hftlib.models.examples import TERMS
from hftlib.models.export import ExportedForecaster, export_forecaster
from hftlib.models.forecaster import (
    STRIDE,
    Ensemble,
    Forecaster,
    Outputs,
    find_ages,
    find_loss,
    find_padding,
    load_forecaster,
    make_forecaster,
    mix_deviations,
    save_weights,
    start_from_data,
)

N_CHANNELS, WINDOW = 8, 20


def make_network(seed: int = 0, filters: tuple[int, ...] = (6, 7, 8)) -> Forecaster:
    """A network whose heads are not 0."""
    generator = torch.Generator().manual_seed(seed)
    network = make_forecaster(N_CHANNELS, filters, 5, generator)
    for layer in (network.head, network.skip):
        torch.nn.init.normal_(layer.weight, std=0.3, generator=generator)
    return network


def draw(n: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    windows = torch.randn(n, WINDOW, N_CHANNELS, generator=generator)
    return windows, torch.randn(n, len(TERMS), generator=generator)


def test_before_training_it_is_the_least_squares_fit_of_the_skip():
    rng = np.random.default_rng(0)
    terms = rng.normal(size=(300, len(TERMS)))
    variance = terms @ rng.normal(size=6) - 9 + rng.normal(size=300)
    outcomes = np.column_stack([variance, rng.normal(0, 0.01, 300)])
    network = make_forecaster(N_CHANNELS, (6, 7), 5, torch.Generator().manual_seed(0))
    start_from_data(network, np.zeros(N_CHANNELS), np.ones(N_CHANNELS), terms, outcomes)
    windows, _ = draw(300)
    with torch.no_grad():
        outputs = network(windows, torch.from_numpy(terms).float())
    design = np.column_stack([terms, np.ones(300)])
    fitted = design @ np.linalg.lstsq(design, outcomes[:, 0])[0]
    np.testing.assert_allclose(outputs.variance_mean, fitted, atol=1e-5)  # float32
    np.testing.assert_allclose(outputs.variance_sd, (outcomes[:, 0] - fitted).std(), rtol=1e-5)
    assert (outputs.return_mean == 0).all()
    assert (outputs.up_probability == 0.5).all()


@given(length=st.integers(1, 200))
def test_padding_lets_the_last_stride_end_at_the_newest_bar(length):
    padding = find_padding(length)
    assert 0 < padding <= 2 or length == 1
    assert (padding + length - 3) % STRIDE == 0


@pytest.mark.parametrize("window", [8, 9, 20, 32, 60])
def test_states_are_as_many_as_their_ages_and_the_newest_has_read_the_newest_bar(window):
    network = make_network()
    windows = torch.randn(1, window, N_CHANNELS, generator=torch.Generator().manual_seed(0))
    seen = []
    hook = network.lstm.register_forward_hook(lambda _, x, y: seen.append(x[0].detach()))
    changed = windows.clone()
    changed[:, -1] += 1
    with torch.no_grad():
        for values in (windows, changed):
            network(values, torch.zeros(1, len(TERMS)))
    hook.remove()
    ages = find_ages(window, 3)
    assert len(ages) == seen[0].shape[1]
    assert ages[-1] == 0
    moved = (seen[0] != seen[1]).any(dim=2)[0]
    assert moved[-1]
    assert not moved[:-1].any(), "older states have read older bars only"


def test_weights_of_attention_are_positive_and_sum_to_one():
    with torch.no_grad():
        attention = make_network()(*draw(40)).attention
    assert (attention > 0).all()
    torch.testing.assert_close(attention.sum(dim=1), torch.ones(40))


def test_a_forecast_does_not_depend_on_the_others_in_its_batch():
    network, (windows, terms) = make_network(), draw(16)
    with torch.no_grad():
        together, alone = network(windows, terms), network(windows[3:4], terms[3:4])
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one[3:4], other, atol=1e-6, rtol=1e-5)


def test_the_volatility_forecast_is_the_scale_of_returns():
    network, (windows, terms) = make_network(), draw(5)
    with torch.no_grad():
        before = network(windows, terms)
        network.skip.bias += 2 * np.log(3)  # a log variance of three times the volatility
        after = network(windows, terms)
    torch.testing.assert_close(after.return_sd, 3 * before.return_sd)
    torch.testing.assert_close(after.return_mean, 3 * before.return_mean)
    torch.testing.assert_close(after.variance_sd, before.variance_sd)


def test_the_loss_is_the_negative_log_likelihood_of_torch_s_distributions():
    with torch.no_grad():
        outputs = make_network()(*draw(30))
    outcomes = torch.randn(30, 2, generator=torch.Generator().manual_seed(5))
    density = [
        Normal(outputs.variance_mean, outputs.variance_sd).log_prob(outcomes[:, 0]),
        Normal(outputs.return_mean, outputs.return_sd).log_prob(outcomes[:, 1]),
        Bernoulli(outputs.up_probability).log_prob((outcomes[:, 1] > 0).float()),
    ]
    constant = np.log(2 * np.pi) / 2
    expected = -(density[0] + constant) - 0.3 * (density[1] + constant + density[2])
    torch.testing.assert_close(find_loss(outputs, outcomes, 0.3), expected.mean())


def test_an_ensemble_is_the_mixture_of_its_members():
    mean, sd = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [3.0]])
    # E[x^2] - E[x]^2 = (1 + 0 + 9 + 4) / 2 - 1
    assert mix_deviations(mean, sd).item() == pytest.approx(6**0.5)
    members, inputs = [make_network(seed) for seed in range(3)], draw(7)
    with torch.no_grad():
        each, mixed = [member(*inputs) for member in members], Ensemble(members)(*inputs)
    means = torch.stack([outputs.variance_mean for outputs in each])
    torch.testing.assert_close(mixed.variance_mean, means.mean(dim=0))
    assert (mixed.variance_sd**2 >= means.var(dim=0, correction=0)).all()
    torch.testing.assert_close(mixed.attention.sum(dim=1), torch.ones(7))


def test_equal_members_make_an_ensemble_of_one():
    inputs = draw(7)
    with torch.no_grad():
        one, same = make_network()(*inputs), Ensemble([make_network()] * 4)(*inputs)
    for a, b in zip(one, same, strict=True):
        torch.testing.assert_close(a, b)
    with pytest.raises(ValueError, match="no members"):
        Ensemble([])


def test_saved_weights_come_back_as_the_same_network_and_give_the_same_bytes(tmp_path):
    network, inputs = make_network(), draw(5)
    for name in ("one.npz", "two.npz"):
        save_weights(tmp_path / name, network.export_weights())
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    with torch.no_grad():
        found = load_forecaster(tmp_path / "one.npz")(*inputs)
        for a, b in zip(network(*inputs), found, strict=True):
            assert torch.equal(a, b)


def test_weights_of_something_else_are_refused_by_name():
    with pytest.raises(ValueError, match=r"whole state dict of a forecaster.*got 0\.weight"):
        Forecaster.from_weights({"0.weight": np.zeros((2, 2), np.float32)})


@pytest.mark.parametrize("n_members", [1, 3])
def test_the_exported_file_forecasts_as_torch_does_for_any_number_of_windows(tmp_path, n_members):
    network = Ensemble([make_network(seed) for seed in range(n_members)])
    path = tmp_path / "forecaster.onnx"
    export_forecaster(path, network, WINDOW)
    exported = ExportedForecaster(path)
    assert (exported.window, exported.n_channels) == (WINDOW, N_CHANNELS)
    for n in (1, 2, 33):
        windows, terms = draw(n, seed=n)
        with torch.no_grad():
            expected = network(windows, terms)
        found = exported.forecast(windows.numpy(), terms.numpy())
        for name in Outputs._fields:
            np.testing.assert_allclose(found[name], getattr(expected, name), atol=1e-5, rtol=0)


def test_equal_networks_export_to_equal_bytes(tmp_path):
    for name in ("one.onnx", "two.onnx"):
        export_forecaster(tmp_path / name, make_network(), WINDOW)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


def test_windows_of_other_features_are_refused_by_the_exported_forecaster(tmp_path):
    export_forecaster(tmp_path / "f.onnx", make_network(), WINDOW)
    with pytest.raises(ValueError, match=r"\(2, 20, 3\); expected \(n, 20, 8\)"):
        ExportedForecaster(tmp_path / "f.onnx").forecast(
            np.zeros((2, WINDOW, 3), np.float32), np.zeros((2, len(TERMS)), np.float32)
        )


def test_a_margin_is_the_score_of_its_rank_by_hand():
    # nine scores 1..9: ceil(10 * .8) = 8th smallest
    scores = np.array([3, 1, 2, 9, 8, 7, 4, 5, 6.0])
    assert fit_margin(scores, 0.8) == 8
    assert fit_margin(scores, 0.81) == 9


def test_margins_cover_new_outcomes_as_often_as_asked_whatever_the_density():
    rng = np.random.default_rng(0)
    hits = []
    for _ in range(400):
        sd = rng.uniform(0.5, 3, 150)
        outcome = sd * rng.standard_t(2, 150)  # heavy tails, far from the normal that is assumed
        width = fit_margin(np.abs(outcome[:100]) / sd[:100], 0.9)
        hits.append(np.abs(outcome[100:]) <= width * sd[100:])
    # exactly between .9 and .9 + 1 / 101; standard error of the mean .0017
    assert 0.895 < np.mean(hits) < 0.916


def test_too_few_outcomes_for_the_coverage_are_refused():
    with pytest.raises(ValueError, match=r"coverage 0.9 from 8 outcomes.*at most 0.889"):
        fit_margin(np.arange(8.0), 0.9)
    with pytest.raises(ValueError, match="a score is not finite"):
        fit_margin(np.array([1.0, np.nan] * 10), 0.9)
