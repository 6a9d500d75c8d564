"""Training by fold: reproducible, resumable, and blind to the future."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hftlib.data.folds import Fold
from hftlib.features.scaling import RobustScaler
from hftlib.models import forecast_folds, forecast_training
from hftlib.models.examples import TERMS, Examples
from hftlib.models.forecast_folds import build_ensemble
from hftlib.models.forecast_training import train_member
from hftlib.models.volatility import RIVALS, forecast_rivals
from hftlib.schema import FORECASTS, validate
from tests.forecast_cases import (
    SETTINGS,
    SYMBOLS,
    TINY,
    WINDOW,
    make_bars,
    make_examples,
    make_features,
    make_folds,
    scramble_after,
)


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch):
    """The results do not depend on the processes; starting them takes seconds."""
    monkeypatch.setattr(
        forecast_folds, "map_parallel", lambda task, items, label: [task(item) for item in items]
    )


def assert_same(one, other) -> None:
    assert one.weights.keys() == other.weights.keys()
    for name, values in one.weights.items():
        np.testing.assert_array_equal(values, other.weights[name], err_msg=name)
    assert one.curve == other.curve
    assert one.best_epoch == other.best_epoch


def run_folds(examples: Examples, settings=TINY, n_members: int = 2):
    folds = make_folds()
    members = forecast_folds.train_folds(examples, folds, settings, n_members=n_members, seed=3)
    return folds, members, forecast_folds.forecast_folds(examples, folds, members, 0.9)


def test_the_same_arguments_give_the_same_weights_and_another_seed_others():
    examples, fold = make_examples(), make_folds()[0]
    one, same, other = (train_member(examples, fold, SETTINGS, seed) for seed in (1, 1, 2))
    assert_same(one, same)
    assert any(not np.array_equal(v, other.weights[k]) for k, v in one.weights.items())


def test_global_generators_neither_matter_nor_move():
    examples, fold = make_examples(), make_folds()[0]
    one = train_member(examples, fold, TINY, 1)
    torch.manual_seed(123)
    state = torch.get_rng_state()
    assert_same(one, train_member(examples, fold, TINY, 1))
    assert torch.equal(state, torch.get_rng_state())


def test_a_stopped_training_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    examples, fold = make_examples(), make_folds()[0]
    through = train_member(examples, fold, SETTINGS, 1)
    original, calls = forecast_training._Run.train_epoch, []

    def stop_in_the_second(run):
        calls.append(run.epoch)
        if len(calls) == 2:
            raise KeyboardInterrupt
        original(run)

    monkeypatch.setattr(forecast_training._Run, "train_epoch", stop_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        train_member(examples, fold, SETTINGS, 1, scratch=tmp_path)
    resumed = train_member(examples, fold, SETTINGS, 1, scratch=tmp_path)
    assert calls == [0, 1, 1, 2], "the first epoch is not trained again"
    assert_same(through, resumed)


def test_a_checkpoint_of_other_data_fold_or_settings_is_not_taken(tmp_path):
    examples, folds = make_examples(), make_folds()
    for fold, settings, data in (
        (folds[0], TINY, examples),
        (folds[1], TINY, examples),
        (folds[0], replace(TINY, dropout=0.1), examples),
        (folds[0], TINY, examples.shuffled(np.random.default_rng(0))),
    ):
        n_before = len(list(tmp_path.iterdir()))
        train_member(data, fold, settings, 1, scratch=tmp_path)
        assert len(list(tmp_path.iterdir())) == n_before + 1


def test_divergence_names_the_step_and_the_last_good_checkpoint(tmp_path):
    examples, fold = make_examples(), make_folds()[0]
    first = replace(SETTINGS, max_epochs=1)
    train_member(examples, fold, first, 1, scratch=tmp_path)
    wild = replace(SETTINGS, learning_rate=1e30, max_gradient=1e30)
    with pytest.raises(FloatingPointError, match=r"loss \S+, gradient \S+ at step \d+ \(epoch 1\)"):
        train_member(examples, fold, wild, 1)
    with pytest.raises(FloatingPointError, match="Last good checkpoint: none yet"):
        train_member(examples, fold, wild, 1, scratch=tmp_path)
    broken = replace(examples, values=examples.values.copy())
    original, count = forecast_training._Run.train_epoch, []

    def poison_the_second(run):
        count.append(1)
        if len(count) == 2:
            broken.values[:] = np.nan
        original(run)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forecast_training._Run, "train_epoch", poison_the_second)
        with pytest.raises(FloatingPointError, match=r"epoch 2\).*checkpoint: .*\.pt") as error:
            train_member(broken, fold, SETTINGS, 1, scratch=tmp_path)
    file = str(error.value).rsplit(": ", 1)[1]
    assert torch.load(file, weights_only=True)["epoch"][0] == 1


def test_it_keeps_the_epoch_with_the_smallest_validation_loss():
    examples, fold = make_examples(), make_folds()[0]
    member = train_member(examples, fold, replace(SETTINGS, max_epochs=6, patience=6), 1)
    losses = {point.epoch: point.loss for point in member.curve if point.split == "validation"}
    assert member.best_epoch == min(losses, key=losses.get)
    assert list(losses) == list(range(7))


def test_it_stops_once_patience_runs_out():
    examples, fold = make_examples(), make_folds()[0]
    # steps so large that no epoch improves on the linear skip
    settings = replace(SETTINGS, learning_rate=0.3, max_epochs=30, patience=2)
    member = train_member(examples.shuffled(np.random.default_rng(0)), fold, settings, 1)
    assert member.curve[-1].epoch == member.best_epoch + 2 < 30


def test_training_finds_what_the_linear_skip_cannot():
    examples = make_examples(make_bars(1_500))
    planted = replace(examples, outcomes=examples.outcomes.copy())
    planted.outcomes[:, 0] = np.abs(examples.values[:, TERMS.index("return_over_sd_1")])
    fold = Fold(0, (0, 1_200), (1_210, 1_490), (1_495, 1_500))
    settings = replace(SETTINGS, filters=(16, 16), dropout=0.0, learning_rate=5e-3, max_epochs=6)
    member = train_member(planted, fold, settings, 1)
    mse = [point.mse for point in member.curve if point.split == "validation"]
    assert min(mse) < 0.6 * mse[0]


def test_scaling_is_fitted_on_training_rows_alone():
    examples, fold = make_examples(), make_folds()[0]
    member = train_member(examples, fold, TINY, 1)
    rows = examples.rows_until(fold.train[1])
    scaler = RobustScaler.fit(examples.values[rows], examples.channels)
    np.testing.assert_allclose(member.weights["centre"], scaler.median, rtol=1e-6)
    np.testing.assert_allclose(member.weights["width"], scaler.iqr, rtol=1e-6)


def test_every_row_after_the_first_test_day_has_one_forecast():
    examples = make_examples()
    folds, _, made = run_folds(examples)
    validate(made.table, FORECASTS)
    assert not made.table.duplicated(["symbol", "ts"]).any()
    assert made.rows.tolist() == [*range(240, 400), *range(640, 800)]
    assert made.table["symbol"].tolist() == ["AAA"] * 160 + ["BBB"] * 160
    for fold in folds:
        mine = made.table["fold"] == fold.number
        assert set(examples.time[made.rows[mine]]) == set(range(*fold.test))
    for name in ("log_variance", "next_return"):
        low, mean, high = (made.table[f"{name}_{k}"] for k in ("low", "mean", "high"))
        assert ((low < mean) & (mean < high)).all()
    assert made.attention.shape == (320, 3)


def test_scrambling_the_future_changes_no_forecast_made_before_it():
    """With bars of days after 310 replaced: fold 0 is trained and tested before, fold 1 partly."""
    examples = make_examples()
    scrambled = make_examples(scramble_after(make_bars(), 310))
    (_, one, made), (_, other, changed) = run_folds(examples), run_folds(scrambled)
    for a, b in zip(one[0], other[0], strict=True):
        assert_same(a, b)
    past = examples.time[made.rows] <= 310
    before, after = made.table[past], changed.table[past]
    assert (before["fold"] == 0).any()
    assert before.drop(columns="fold").equals(after.drop(columns="fold"))
    assert not made.table[~past].equals(changed.table[~past])


@pytest.mark.slow
def test_forecasts_say_the_same_in_one_process_as_in_several(monkeypatch):
    examples = make_examples()
    _, here, _ = run_folds(examples, n_members=1)
    monkeypatch.undo()
    _, there, _ = run_folds(examples, n_members=1)
    for one, other in zip(here, there, strict=True):
        assert_same(one[0], other[0])


def test_members_and_folds_have_seeds_of_their_own():
    _, members, _ = run_folds(make_examples())
    seeds = [member.seed for ensemble in members for member in ensemble]
    assert len(set(seeds)) == 4


def test_margins_come_from_validation_and_from_days_forecast_before_it():
    examples = make_examples()
    folds = make_folds(n_folds=3)
    members = forecast_folds.train_folds(examples, folds, TINY, n_members=1, seed=3)
    made = forecast_folds.forecast_folds(examples, folds, members, 0.9)

    def score(fold: int, ends: np.ndarray) -> np.ndarray:
        network = build_ensemble(members[fold])
        outputs = forecast_training.forecast_windows(network, examples, ends)
        error = np.abs(examples.outcomes[ends, 0] - outputs.variance_mean.numpy())
        return error / outputs.variance_sd.numpy()

    scores = [score(2, examples.between(folds[2].validation, is_known=True))]
    before = folds[0].test[0], folds[2].validation[0]
    assert before[1] <= folds[0].test[1], "so that fold 0 alone forecast these days"
    scores.append(score(0, examples.between(before, is_known=True)))
    every = np.concatenate(scores)
    assert len(every) > len(scores[0]) > 0
    margin = made.margins[2]["log_variance"]
    assert 0.9 <= (every <= margin * (1 + 1e-6)).mean() <= 0.9 + 2 / len(every)


def test_a_fold_without_windows_is_refused_with_its_number():
    examples, fold = make_examples(), make_folds()[0]
    with pytest.raises(ValueError, match="fold 0 has no training window"):
        train_member(examples, fold._replace(train=(0, 20)), TINY, 1)
    with pytest.raises(ValueError, match="fold 0 has no validation window"):
        train_member(examples, fold._replace(validation=(5, 9)), TINY, 1)


def test_forecasts_need_no_more_columns_than_there_are():
    bars = make_bars()
    features = make_features(bars)
    for extra in (features[["symbol", "ts"]], features.assign(constant=1.0)):
        examples = Examples.from_frames(bars, extra, SYMBOLS, WINDOW)
        assert np.isfinite(run_folds(examples, n_members=1)[2].table["log_variance_mean"]).all()


@pytest.mark.parametrize("name", RIVALS)
def test_rivals_forecast_out_of_fold_too(name):
    examples, scrambled = make_examples(), make_examples(scramble_after(make_bars(), 310))
    folds = make_folds()
    one, other = (forecast_rivals(each, folds)[name] for each in (examples, scrambled))
    assert np.isfinite(one).tolist() == (examples.time >= 240).tolist()
    past = (examples.time >= 240) & (examples.time <= 310)
    np.testing.assert_array_equal(one[past], other[past])
