"""Trained policies as artefacts: what is refused, what was seen, equal bytes of equal inputs."""

from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from hftlib.agents.ensemble import DEFAULT_WEIGHTS
from hftlib.data.folds import walk_forward
from hftlib.live.artefact import ArtefactError, list_artefacts, load_artefact
from hftlib.live.export import ENSEMBLE, export_run, find_seen_until, read_forecaster
from hftlib.live.parity import compare_policies, draw_observations
from hftlib.live.predictor import Predictor
from hftlib.paths import read_json, write_json
from tests.live_cases import DAY_NS
from tests.served_cases import (
    CHANNELS,
    FORECAST_WINDOW,
    REGIME,
    RULES,
    SYMBOLS,
    ZSCORE_BARS,
    draw_weights,
    make_case,
)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return make_case(tmp_path_factory.mktemp("export") / "served")


@pytest.fixture(scope="module")
def run(case, tmp_path_factory):
    """What stages 40 and 41 leave: policies, their manifests, the forecaster's folder."""
    folder = tmp_path_factory.mktemp("forecaster")
    about = case.artefact.manifest.forecaster
    (folder / "forecaster.onnx").write_bytes(case.artefact.forecaster)
    write_json(folder / "manifest.json", {"channels": about.channels, "window": about.window})
    design = case.seeds[0][1]
    sac = replace(design, algo="sac")
    trained = {"ppo": case.seeds, "sac": [(draw_weights(sac, 5), sac)]}
    write_json(
        folder / "about.json",
        {
            "rules": asdict(RULES),
            "scaler": case.artefact.manifest.scaler.build().to_dict(),
            "forecast_scaler": about.scaler.build().to_dict(),
        },
    )
    manifests = dict.fromkeys(trained, read_json(folder / "about.json"))
    return folder, trained, manifests


def export(run, root, **changes):
    folder, trained, manifests = run
    settings = {
        "rules": RULES,
        "symbols": SYMBOLS,
        "forecaster": folder,
        "zscore_bars": ZSCORE_BARS,
        "regimes": dict.fromkeys([*SYMBOLS, "CCC"], REGIME),
        "git_revision": "0" * 40,
        "params": {"seen_until": "2010-07-01"},
        "metrics": {"ppo": [0.1, 0.2], "sac": [0.3]},
    } | changes
    manifests = settings.pop("manifests", manifests)
    return export_run(root, settings.pop("trained", trained), manifests, **settings)


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    root = tmp_path_factory.mktemp("exported") / "models"
    return root, export(run, root)


def test_each_algorithm_and_their_ensemble_are_exported(exported):
    root, artefacts = exported
    assert list_artefacts(root) == sorted(artefacts) == [ENSEMBLE, "ppo", "sac"]
    about = artefacts[ENSEMBLE].manifest
    total = DEFAULT_WEIGHTS["ppo"] + DEFAULT_WEIGHTS["sac"]
    shares = dict(zip(about.policy.algos, about.policy.shares, strict=True))
    assert shares == pytest.approx({a: DEFAULT_WEIGHTS[a] / total for a in ("ppo", "sac")})
    assert artefacts["ppo"].manifest.policy.n_seeds == (2,)
    assert dict(artefacts["sac"].manifest.metrics) == {"sac": [0.3]}
    for name, artefact in artefacts.items():
        assert load_artefact(root, name) == artefact
        assert artefact.manifest.symbols == SYMBOLS


def test_equal_inputs_give_equal_bytes(run, exported, tmp_path):
    root, _ = exported
    export(run, tmp_path / "again")
    for path in sorted(root.rglob("*.*")):
        again = tmp_path / "again" / path.relative_to(root)
        assert again.read_bytes() == path.read_bytes(), path.name


def test_other_weights_are_another_version(run, exported, tmp_path):
    _, trained, _ = run
    weights, design = trained["sac"][0]
    name = next(name for name in weights if name.startswith("actor.mu"))
    changed = {**weights, name: weights[name] + np.float32(1e-3)}
    other = export(run, tmp_path / "other", trained={**trained, "sac": [(changed, design)]})
    versions = {n: a.manifest.version for n, a in exported[1].items()}
    found = {n: a.manifest.version for n, a in other.items()}
    assert found["ppo"] == versions["ppo"]
    assert found["sac"] != versions["sac"] and found[ENSEMBLE] != versions[ENSEMBLE]


def test_the_exported_policy_is_the_trained_one(case, run, exported):
    from hftlib.agents.online_policy import LearntPolicy

    predictor = Predictor(exported[1]["sac"])
    drawn = draw_observations(case.panel, RULES.window_bars, 200, np.random.default_rng(0))
    found = compare_policies(predictor, LearntPolicy(*run[1]["sac"][0]), drawn)
    assert found["largest"] < 1e-5  # sums in float32 in another order, as in test_policy_export
    assert found["range"] > 0.1


def test_policies_of_other_rules_are_refused(run, tmp_path):
    other = replace(RULES, episode_bars=RULES.episode_bars + 1)
    with pytest.raises(ArtefactError, match=r"ppo was trained under other rules .* stage 41 anew"):
        export(run, tmp_path / "none", rules=other)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("part", ["scaler", "forecast_scaler"])
def test_policies_of_another_scaler_are_refused(run, tmp_path, part):
    manifests = dict(run[2])
    scaler = {**manifests["sac"][part]}
    scaler["median"] = [scaler["median"][0] + 1e-9, *scaler["median"][1:]]
    manifests["sac"] = {**manifests["sac"], part: scaler}
    with pytest.raises(ArtefactError, match=f"sac has another {part} than the others; run stage"):
        export(run, tmp_path / "none", manifests=manifests)
    assert not (tmp_path / "none").exists()


def test_the_forecaster_is_read_with_its_channels(case, run):
    served = read_forecaster(run[0], case.artefact.manifest.forecaster.scaler.build())
    assert served.window == FORECAST_WINDOW
    assert served.channels[-len(CHANNELS) :] == CHANNELS
    assert served.path.read_bytes() == case.artefact.forecaster


# What was seen


def clock_of(n_bars):
    return pd.date_range("2010-01-01", periods=n_bars, tz="UTC", unit="ns").asi8


def test_unseen_begins_where_a_fold_would_begin_to_test():
    clock = clock_of(200)
    (fold,) = walk_forward(200, 1, first_test=120, validation_bars=30, purge_bars=2, embargo_bars=5)
    last = [
        pd.Timestamp(clock[stop - 1]).date().isoformat() for _, stop in (fold.train, fold.known)
    ]
    until = find_seen_until(clock, last, 2 + 5)
    assert (clock > until.value).argmax() == fold.test[0]


def test_the_test_split_is_unseen_but_for_the_purge(case):
    """A split drops its purge before the boundary; here it counts as seen, after it."""
    clock = np.unique(case.bars["ts"].astype("int64").to_numpy())
    days = [case.bars["ts"].iloc[k].date().isoformat() for k in (150, 200)]  # of `served_cases`
    assert find_seen_until(clock, days, 5).value + DAY_NS == case.panel.ts.min()


def test_the_latest_day_counts_and_the_gap_is_of_bars():
    clock = clock_of(31)[[0, 1, 2, 3, 7, 8, 9, 10]]  # days 4 to 6 are no bars
    latest = find_seen_until(clock, ["2010-01-04", "2010-01-02"], 0)
    assert latest == pd.Timestamp("2010-01-04", tz="UTC")
    assert find_seen_until(clock, ["2010-01-04"], 2) == pd.Timestamp("2010-01-09", tz="UTC")
    assert find_seen_until(clock, ["2010-01-06"], 1) == pd.Timestamp("2010-01-08", tz="UTC")


def test_bars_of_the_last_day_are_seen_to_its_end():
    clock = pd.date_range("2010-01-01", periods=48, freq="h", tz="UTC", unit="ns").asi8
    assert find_seen_until(clock, ["2010-01-01"], 0) == pd.Timestamp("2010-01-01T23:00Z")


def test_where_all_bars_are_later_the_first_counts_as_seen():
    assert find_seen_until(clock_of(5), ["2009-01-01"], 0) == pd.Timestamp("2010-01-01", tz="UTC")


@pytest.mark.parametrize("gap", [5, 6, 100])
def test_where_no_bar_is_left_it_is_an_error(gap):
    with pytest.raises(ValueError, match=r"no bar is unseen: the last is of 2010-01-10, .* newer"):
        find_seen_until(clock_of(10), ["2010-01-05"], gap)
    assert find_seen_until(clock_of(10), ["2010-01-05"], 4) == pd.Timestamp("2010-01-09", tz="UTC")


# Of an artefact


def test_a_table_says_what_an_artefact_is(exported):
    root, artefacts = exported
    said = artefacts[ENSEMBLE].describe()
    shares = {a: DEFAULT_WEIGHTS[a] / 0.7 for a in ("ppo", "sac")}
    policy = root / ENSEMBLE / "policy.onnx"
    assert sorted(said["members"].split(", ")) == [
        f"1 x sac at {shares['sac']:.0%}",
        f"2 x ppo at {shares['ppo']:.0%}",
    ]
    assert said["version"] == said["sha256 of the policy"][:8]
    assert said["window"] == RULES.window_bars
    assert said["action"] == "-1 to 1"
    n_bytes = policy.stat().st_size + (root / ENSEMBLE / "forecaster.onnx").stat().st_size
    assert said["KiB"] == round(n_bytes / 1024)
