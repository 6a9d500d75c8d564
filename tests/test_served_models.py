"""The registry of served models: what is added stays, and one of them is the champion."""

import json
import shutil
import urllib.request

import pytest

from hftlib.live import models, service
from hftlib.live.artefact import ArtefactError, list_artefacts, load_artefact
from hftlib.live.manifest import Manifest
from hftlib.paths import Paths
from tests.retrain_cases import run_service, write_holder

WHY = models.explain("a test")


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    root = tmp_path_factory.mktemp("exports") / "exported"
    for name, share in (("ensemble", 0.5), ("ppo", 1.0), ("alpha", -1.0)):
        write_holder(root, name, share)
    return root


@pytest.fixture
def exported(exports, tmp_path):
    """A copy that may be changed."""
    shutil.copytree(exports, tmp_path / "exported")
    return tmp_path / "exported"


@pytest.fixture
def served(tmp_path):
    return tmp_path / "served"


def edit(path, change):
    about = json.loads(path.read_text())
    change(about)
    path.write_text(json.dumps(about))


# Registering


def test_a_registered_model_is_the_exported_one_under_its_version_s_name(exported, served):
    name = models.register(exported, "ppo", served)
    assert name.startswith("ppo-") and len(name) == len("ppo-") + 8
    found, origin = load_artefact(served, name), load_artefact(exported, "ppo")
    assert found.policy == origin.policy
    assert found.manifest.model_copy(update={"name": "ppo"}) == origin.manifest
    assert list_artefacts(served) == [name]


def test_equal_content_is_registered_once(exported, served):
    name = models.register(exported, "ppo", served)
    before = {file: file.stat().st_mtime_ns for file in (served / name).iterdir()}
    edit(exported / "ppo/manifest.json", lambda a: a.update(version="2", git_revision="f" * 40))
    assert models.register(exported, "ppo", served) == name
    assert {file: file.stat().st_mtime_ns for file in (served / name).iterdir()} == before


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a["scaler"]["median"].__setitem__(0, 1.0),
        lambda a: a["rules"].update(max_weight=0.5),
        lambda a: a.update(symbols=["AAA"]),
        lambda a: a["policy"].update(low=-0.5),
        lambda a: a.update(name="other"),
    ],
)
def test_whatever_decides_an_answer_makes_another_version(exported, served, change):
    """The same graph behind another scaler is another model."""
    about = load_artefact(exported, "ppo").manifest
    values = about.model_dump(mode="json")
    change(values)
    other = Manifest.model_validate_json(json.dumps(values))
    assert models.name_version(other) != models.name_version(about)


def test_a_broken_export_is_not_registered(exported, served):
    (exported / "ppo/policy.onnx").write_bytes(b"half")
    with pytest.raises(ArtefactError, match=r"policy\.onnx is not the file that was written"):
        models.register(exported, "ppo", served)
    assert list_artefacts(served) == []


def test_a_name_without_room_for_a_version_leaves_nothing(exported, served):
    write_holder(exported, "x" * 60, 1.0)
    with pytest.raises(ArtefactError, match="1 to 64"):
        models.register(exported, "x" * 60, served)
    assert not served.exists()


def test_a_version_with_another_s_content_is_found_out(exported, served):
    name = models.register(exported, "ppo", served)
    edit(served / name / "manifest.json", lambda a: a["scaler"]["median"].__setitem__(0, 9.0))
    with pytest.raises(ArtefactError, match=f"{name} holds another model; move it away"):
        models.register(exported, "ppo", served)


# The champion


def test_the_champion_is_what_was_set_last_and_the_others_are_remembered(exported, served):
    assert models.read_champion(served) is None
    names = [models.register(exported, name, served) for name in ("ppo", "alpha", "ensemble")]
    for k, name in enumerate(names):
        models.set_champion(served, name, {"step": k})
    found = models.read_champion(served)
    assert (found.name, found.decision) == (names[2], {"step": 2})
    assert [(one.name, one.decision["step"]) for one in found.reigns] == [
        (name, k) for k, name in enumerate(names)
    ]
    models.set_champion(served, names[0], {"step": 3})
    assert [one.name for one in models.read_champion(served).reigns] == [*names, names[0]]


def test_the_champion_made_champion_again_changes_nothing(exported, served):
    name = models.register(exported, "ppo", served)
    models.set_champion(served, name, WHY)
    before = (served / models.POINTER).read_bytes()
    models.set_champion(served, name, {"why": "again"})
    assert (served / models.POINTER).read_bytes() == before


def test_only_a_model_that_loads_becomes_champion(exported, served):
    old, new = (models.register(exported, name, served) for name in ("ppo", "alpha"))
    models.set_champion(served, old, WHY)
    (served / new / "policy.onnx").write_bytes(b"half")
    for name in (new, "nothing-00000000", "../exported/ppo"):
        with pytest.raises(ArtefactError):
            models.set_champion(served, name, WHY)
    assert models.read_champion(served).name == old


def test_a_champion_that_is_gone_or_broken_says_what_to_do(exported, served):
    name, other = (models.register(exported, name, served) for name in ("ppo", "alpha"))
    models.set_champion(served, name, WHY)
    (served / name / "policy.onnx").write_bytes(b"half")
    remedy = r"Restore its folder, or choose one with `python -m hftlib\.live\.models NAME`"
    with pytest.raises(ArtefactError, match=f"names {name}, which cannot be served.*{remedy}"):
        models.read_champion(served)
    shutil.rmtree(served / name)
    with pytest.raises(ArtefactError, match=f"is no folder; artefacts here: {other}.*{remedy}"):
        models.read_champion(served)
    models.set_champion(served, other, WHY)  # the remedy helps
    assert models.read_champion(served).name == other


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"name": "ppo"}',
        '{"name": "../x", "since": 0, "decision": {}, "history": 1}',
    ],
)
def test_a_pointer_that_cannot_be_read_is_neither_trusted_nor_overwritten(exported, served, text):
    name = models.register(exported, "ppo", served)
    (served / models.POINTER).write_text(text)
    for act in (
        lambda: models.read_champion(served),
        lambda: models.set_champion(served, name, WHY),
        lambda: models.choose_model(exported, served),
    ):
        with pytest.raises(ArtefactError, match=r"champion\.json names no champion .*move it away"):
            act()
    assert (served / models.POINTER).read_text() == text


# What a service begins with


def test_an_empty_registry_takes_in_what_is_exported(exported, served):
    name = models.choose_model(exported, served)
    assert name.startswith("ensemble-") and len(list_artefacts(served)) == 3
    assert models.read_champion(served).name == name
    assert models.choose_model(exported, served) == name


def test_without_an_ensemble_the_first_is_champion(exported, served):
    shutil.rmtree(exported / "ensemble")
    assert models.choose_model(exported, served).startswith("alpha-")


def test_without_a_champion_the_first_registered_model_is_served(exported, served):
    models.register(exported, "ppo", served)
    assert models.choose_model(exported, served).startswith("ppo-")
    assert list_artefacts(served) == [models.choose_model(exported, served)]
    assert models.read_champion(served) is None


def test_nothing_exported_and_nothing_registered_is_no_model(tmp_path):
    assert models.choose_model(tmp_path / "exported", tmp_path / "served") == ""
    assert not (tmp_path / "served").exists()


def test_two_do_not_change_the_registry_at_once(exported, served):
    message = "another process retrains or chooses"
    with models.lock_registry(served), pytest.raises(ArtefactError, match=message):
        models.choose_model(exported, served)
    assert models.choose_model(exported, served)


# Programs


@pytest.fixture
def project(exports, tmp_path, monkeypatch):
    (tmp_path / "dvc.yaml").touch()
    paths = Paths(tmp_path)
    shutil.copytree(exports, paths.exported)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(service, "log_to_stderr", lambda: None)  # it would outlive the test
    return paths


def test_a_champion_is_chosen_by_hand(project, capsys):
    assert models.main([]) == 0 and capsys.readouterr().out == ""
    champion = models.choose_model(project.exported, project.served)
    other = next(name for name in list_artefacts(project.served) if name != champion)
    assert models.main([other]) == 0
    assert f"* {other}\n" in capsys.readouterr().out
    found = models.read_champion(project.served)
    assert (found.name, found.history[0].name) == (other, champion)
    assert models.main(["nothing"]) == 1
    assert "error: " in capsys.readouterr().err


def test_the_service_refuses_to_guess_at_a_broken_pointer(project, monkeypatch, capsys):
    project.served.mkdir()
    (project.served / models.POINTER).write_text("{")
    monkeypatch.setattr(service, "run", lambda *_: pytest.fail("it must not serve"))
    assert service.main() == 2
    assert "champion.json names no champion" in capsys.readouterr().err


def test_a_named_model_goes_before_the_champion(project, monkeypatch):
    models.choose_model(project.exported, project.served)
    other = next(name for name in list_artefacts(project.served) if "ppo" in name)
    seen = []
    monkeypatch.setattr(service, "run", lambda _, settings, *rest: seen.append(settings.model))
    monkeypatch.setenv("HFTLIB_MODEL", other)
    assert service.main() == 0
    monkeypatch.delenv("HFTLIB_MODEL")
    assert service.main() == 0
    assert seen == [other, models.read_champion(project.served).name]


def test_a_service_started_for_the_first_time_serves_the_ensemble(project):
    with (
        run_service() as events,
        urllib.request.urlopen(events["serving"]["address"] + "/models") as answer,
    ):
        found = json.load(answer)
    assert events["registered"]["champion"] == found["active"]
    assert found["active"].startswith("ensemble-") and len(found["models"]) == 3
