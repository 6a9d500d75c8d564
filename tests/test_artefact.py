import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from hftlib.agents.policy_export import export_policies
from hftlib.features.scaling import RobustScaler
from hftlib.live.artefact import (
    ArtefactError,
    list_artefacts,
    load_artefact,
    write_artefact,
)
from hftlib.live.artefact_files import FILES, describe_file
from tests.served_cases import DESIGN, RULES, draw_weights, make_case

NAME = "two-seeds"


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return make_case(tmp_path_factory.mktemp("artefacts") / "served")


@pytest.fixture
def root(case, tmp_path) -> Path:
    """A copy that may be damaged."""
    shutil.copytree(case.root, tmp_path / "served")
    return tmp_path / "served"


def edit(root: Path, change, name: str = NAME) -> None:
    """Pass the manifest through `change`."""
    path = root / name / "manifest.json"
    about = json.loads(path.read_text())
    change(about)
    path.write_text(json.dumps(about))


def put(root: Path, file: str, content: bytes) -> None:
    """Another file in the place of one, and its hash in the manifest: a change that hashes hide."""
    (root / NAME / file).write_bytes(content)
    edit(root, lambda about: about["files"].update({file: describe_file(content)}))


def refuses(root: Path, message: str, name: str = NAME) -> None:
    with pytest.raises(ArtefactError, match=message):
        load_artefact(root, name)


# What is written is what is read


def test_what_was_written_is_loaded(case):
    again = load_artefact(case.root, NAME)
    assert again == case.artefact
    about = again.manifest
    assert (about.name, about.version, about.kind) == (NAME, "1.0", "single_agent")
    assert about.policy.feature_names == case.panel.feature_names
    assert (about.policy.low, about.policy.high) == (-1.0, 1.0)
    assert about.metrics == {"sharpe": [0.1, -0.2]}
    assert about.rules["costs"] == [1.0, 2.0, 1.0, 0.0]
    assert about.n_inputs == RULES.window_bars * len(case.panel.feature_names) + 2
    assert sorted(file.name for file in (case.root / NAME).iterdir()) == sorted(FILES)


def test_equal_models_give_equal_bytes(case, tmp_path):
    make_case(tmp_path / "served")
    for file in FILES:
        written = (tmp_path / "served" / NAME / file).read_bytes()
        assert written == (case.root / NAME / file).read_bytes(), file


def test_only_folders_with_a_manifest_and_a_name_are_listed(root):
    (root / "empty").mkdir()
    shutil.copytree(root / NAME, root / ".hidden")
    shutil.copytree(root / NAME, root / "another")
    (root / "link").symlink_to(root / NAME)
    assert list_artefacts(root) == ["another", NAME]
    assert list_artefacts(root / "none") == []


# Names and paths


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../served", "a/b", "/etc", "a\\b", ".hidden", "-rf", "Upper", "a b", "x\n",
     "x\0", "x" * 65, "é", "%2e%2e"],
)  # fmt: skip
def test_a_name_that_could_be_a_path_is_refused(root, name):
    refuses(root, "is no name of an artefact; expected 1 to 64 of a-z", name)


@given(st.text(max_size=80))
@settings(max_examples=200)
def test_no_text_leads_out_of_the_root(text):
    with pytest.raises(ArtefactError):
        load_artefact(Path("/nowhere"), text)


def test_an_unknown_name_is_answered_with_those_there_are(root):
    refuses(root, r"unknown is no folder; artefacts here: two-seeds\. Write it", "unknown")


def test_a_linked_folder_is_refused(root):
    (root.parent / "elsewhere").mkdir()
    shutil.move(root / NAME, root.parent / "elsewhere" / NAME)
    (root / NAME).symlink_to(root.parent / "elsewhere" / NAME)
    refuses(root, "two-seeds is a link")


@pytest.mark.parametrize("file", FILES)
def test_a_linked_file_is_refused_wherever_it_leads(root, file):
    original = (root / NAME / file).rename(root.parent / file)
    (root / NAME / file).symlink_to(original)
    refuses(root, rf"{file} is a link or no file; put a copy")


def test_a_root_that_is_a_link_is_followed(root):
    (root.parent / "current").symlink_to(root)
    assert load_artefact(root.parent / "current", NAME).manifest.name == NAME


def test_a_renamed_folder_is_refused(root):
    (root / NAME).rename(root / "other")
    refuses(root, "other calls itself two-seeds", "other")


# Files


@pytest.mark.parametrize("file", ["model.pkl", "seed_0.npz", "policy.pt", "x.pickle", "setup.py"])
def test_a_file_that_may_run_code_is_refused_unread(root, file):
    (root / NAME / file).write_bytes(pickle.dumps({"weights": [1.0]}))
    refuses(root, rf"{file} is not part of an artefact and may run code when read; remove it")


def test_a_pickle_is_never_unpickled(root):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(root / "sprung"),)

    put(root, "policy.onnx", pickle.dumps(Trap()))
    refuses(root, r"policy\.onnx: it is no ONNX graph")
    assert not (root / "sprung").exists()


def test_other_files_folders_and_pipes_are_refused(root):
    (root / NAME / "notes.txt").write_text("hello")
    refuses(root, r"notes\.txt is not part of an artefact; remove it\. Expected manifest\.json")
    (root / NAME / "notes.txt").unlink()
    (root / NAME / "inner").mkdir()
    refuses(root, "inner is a link or no file")
    (root / NAME / "inner").rmdir()
    (root / NAME / "policy.onnx").unlink()
    os.mkfifo(root / NAME / "policy.onnx")
    refuses(root, r"policy\.onnx is a link or no file")


@pytest.mark.parametrize("file", ["policy.onnx", "forecaster.onnx"])
def test_a_missing_graph_is_named(root, file):
    (root / NAME / file).unlink()
    refuses(root, r"holds \['[a-z]*\.onnx'\], its manifest names .*write it anew")


def test_a_missing_manifest_is_named(root):
    (root / NAME / "manifest.json").unlink()
    refuses(root, r"has no manifest\.json")


def test_a_forecaster_that_the_manifest_does_not_describe_is_refused(root):
    edit(root, lambda about: about["files"].pop("forecaster.onnx"))
    refuses(root, r"its manifest names \['policy\.onnx'\]")


@given(st.data())
@settings(max_examples=30)
def test_any_damage_to_a_graph_is_found(case, data):
    """Through the files' hashes: a bit turned, or the end cut off."""
    file = case.root / NAME / data.draw(st.sampled_from(FILES[1:]))
    content = file.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    damaged = bytearray(content[: at if data.draw(st.booleans()) else len(content)])
    if len(damaged) == len(content):
        damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        file.write_bytes(damaged)
        refuses(case.root, rf"{file.name} is not the file that was written.*sha256.*restore a copy")
    finally:
        file.write_bytes(content)


def test_another_hash_is_refused(root):
    edit(root, lambda about: about["files"]["policy.onnx"].update(sha256="0" * 64))
    refuses(root, r"the manifest says \d+, 000000000000")


# Manifests


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.update(format=2), "is of format 2, this code reads 1; write it anew"),
        (lambda a: a.pop("format"), "is of format None"),
        (lambda a: a.update(shell="rm"), "shell: Extra inputs are not permitted"),
        (lambda a: a.pop("scaler"), "scaler: Field required"),
        (lambda a: a.update(name="../x"), "name: String should match"),
        (lambda a: a.update(zscore_bars="20"), "zscore_bars: Input should be a valid integer"),
        (lambda a: a.update(zscore_bars=None), "zscore_bars is None, features among open_z"),
        (lambda a: a["scaler"]["iqr"].__setitem__(0, 0.0), r"scaler\.iqr\.0: .* greater than 0"),
        (lambda a: a["scaler"]["median"].__setitem__(0, np.nan), "NaN is no JSON"),
        (lambda a: a["scaler"]["median"].pop(), "names, .* medians"),
        (lambda a: a["policy"].update(low=2.0), r"bounds of the action are 2\.0 to 1\.0"),
        (lambda a: a["policy"]["algos"].append("sac"), "expected one of each"),
        (lambda a: a["policy"]["feature_names"].pop(), r"features are not the .*forecast_known"),
        (lambda a: a["policy"]["feature_names"].reverse(), "none, but their order"),
        (lambda a: a["forecaster"]["scaler"]["names"].reverse(), "forecasts' scaler is of"),
        (lambda a: a["files"]["policy.onnx"].update(sha256="x"), r"files\.policy\.onnx\.sha256"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(root, change, message):
    edit(root, change)
    refuses(root, message)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '"x"', "[" * 100_000, "\xff", '{"a": NaN}']
)
def test_what_is_no_manifest_is_refused(root, text):
    (root / NAME / "manifest.json").write_bytes(text.encode("latin1"))
    refuses(root, r"manifest\.json cannot be read")


# Graphs


def test_a_graph_with_weights_in_another_file_is_refused(root):
    """Wherever they hide: a path in a graph would be read without a hash."""
    secret = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1])
    secret.data_location = TensorProto.EXTERNAL
    secret.external_data.add(key="location", value="../../../etc/passwd")
    shape = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    constant = helper.make_node("Constant", [], ["x"], value=secret)
    inner = helper.make_graph([constant], "inner", [], [shape])
    nested = helper.make_node("If", ["c"], ["x"], then_branch=inner, else_branch=inner)
    for nodes, initial in (([], [secret]), ([constant], []), ([nested], [])):
        graph = helper.make_graph(nodes, "g", [], [shape], initial)
        put(root, "policy.onnx", helper.make_model(graph).SerializeToString())
        refuses(root, r"policy\.onnx: it keeps weights in other files")


def test_a_plain_graph_passes_that_check(root):
    content = (root / NAME / "policy.onnx").read_bytes()
    put(root, "policy.onnx", onnx.load_model_from_string(content).SerializeToString())
    assert load_artefact(root, NAME)


# Writing


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """What `write_artefact` takes for a policy without forecasts and z-scores."""
    folder = tmp_path_factory.mktemp("plain")
    names = ("rsi_14", "return_1", "doji")
    design = replace(DESIGN, feature_names=names)
    seeds = [(draw_weights(design, 0), design)]
    return {
        "version": "1",
        "policy": folder / "policy.onnx",
        "graph": export_policies(folder / "policy.onnx", {"ppo": seeds}),
        "scaler": RobustScaler(names, (0.0,) * 3, (1.0,) * 3),
        "rules": RULES,
        "symbols": ("AAA",),
        "git_revision": "",
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rules": replace(RULES, is_portfolio=True)}, "trades a portfolio at once; train it with"),
        ({"rules": replace(RULES, shows_drawdown=True)}, "observes the drawdown too"),
        ({"rules": replace(RULES, window_bars=5)}, "reads 4 bars, the rules 5; pass the rules"),
        ({"scaler": RobustScaler(("doji",), (0.0,), (1.0,))}, "features are not the 1 that"),
        (
            {"scaler": RobustScaler(("rsi_14", "return_1", "sentiment"), (0.0,) * 3, (1.0,) * 3)},
            "sentiment need a feed of scores",
        ),
        (
            {"scaler": RobustScaler(("rsi_14", "return_1", "hmm_mean"), (0.0,) * 3, (1.0,) * 3)},
            "hmm_mean need a regime model of AAA; pass it",
        ),
        ({"zscore_bars": 20}, "zscore_bars is 20"),
        ({"symbols": ()}, "symbols: "),
        ({"metrics": {"sharpe": float("nan")}}, "params or metrics are no JSON .*None for nan"),
    ],
)
def test_what_cannot_be_served_is_not_written(tmp_path, plain, changes, message):
    with pytest.raises(ArtefactError, match=message):
        write_artefact(tmp_path, "plain", **(plain | changes))
    assert not list(tmp_path.iterdir())


def test_a_bad_name_is_not_written(tmp_path, plain):
    with pytest.raises(ArtefactError, match="is no name"):
        write_artefact(tmp_path / "in", "../out", **plain)
    assert not list(tmp_path.iterdir())


def test_a_new_version_takes_the_place_of_the_old_one(tmp_path, plain):
    write_artefact(tmp_path, "plain", **plain)
    written = write_artefact(tmp_path, "plain", **(plain | {"version": "2"}))
    assert (written.manifest.version, written.forecaster) == ("2", None)
    assert [entry.name for entry in tmp_path.iterdir()] == ["plain"]
    assert not (tmp_path / "plain" / "forecaster.onnx").exists()
