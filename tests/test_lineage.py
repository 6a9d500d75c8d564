import json
import subprocess

import pytest

from hftlib.lineage import describe_lineage, hash_path


@pytest.fixture
def project(tmp_path):
    stage = {"cmd": "run 41_demo algo=${item.algo}", "deps": ["data/in", "code/${item.algo}.py"]}
    (tmp_path / "dvc.yaml").write_text(json.dumps({"stages": {"demo": stage}}))
    (tmp_path / "data/in").mkdir(parents=True)
    (tmp_path / "data/in/x.csv").write_text("1\n")
    (tmp_path / "code").mkdir()
    (tmp_path / "code/ppo.py").write_text("pass\n")
    return tmp_path


def test_lineage_holds_the_hash_of_every_dependency_as_it_is_now(project):
    before = describe_lineage("41_demo", {"algo": "ppo"}, project)
    assert before["dvc.code/ppo.py"] == hash_path(project / "code/ppo.py")
    assert set(before) == {"git", "dvc.data/in", "dvc.code/ppo.py"}
    (project / "data/in/x.csv").write_text("2\n")
    after = describe_lineage("41_demo", {"algo": "ppo"}, project)
    assert {key for key in before if before[key] != after[key]} == {"dvc.data/in"}
    assert describe_lineage("41_demo", {"algo": "sac"}, project)["dvc.code/sac.py"] == "absent"


def test_lineage_names_the_revision_and_says_when_the_code_has_changed_since(project):
    assert describe_lineage("41_demo", {"algo": "ppo"}, project)["git"] == "not under git"
    me = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "."], [*me, "commit", "-qm", "first"]):
        subprocess.run(["git", "-C", str(project), *command], check=True)
    clean = describe_lineage("41_demo", {"algo": "ppo"}, project)["git"]
    assert " of 2" in clean
    (project / "code/ppo.py").write_text("raise\n")
    dirty = describe_lineage("41_demo", {"algo": "ppo"}, project)["git"]
    assert dirty == f"{clean}, with uncommitted changes"


def test_an_unknown_notebook_has_no_lineage(project):
    with pytest.raises(ValueError, match=r"dvc\.yaml has no stage that runs 42_other"):
        describe_lineage("42_other", {}, project)
