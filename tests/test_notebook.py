import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from hftlib import notebook, report
from hftlib.notebook import NotebookError, dump, strip
from tests.conftest import ROOT


def cell(kind: str, source: str, *tags: str) -> dict:
    """A cell as JupyterLab would save it after a run."""
    saved = {"cell_type": kind, "id": f"id{abs(hash(source)) % 10**6}", "source": source}
    saved["metadata"] = {"tags": list(tags), "scrolled": True}
    if kind == "code":
        output = {"output_type": "stream", "name": "stdout", "text": "old\n"}
        saved |= {"execution_count": 7, "outputs": [output]}
    return saved


def write_notebook(folder: Path, name: str, *cells: dict) -> None:
    """A project with one notebook, its snapshot and one stage."""
    body = {"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    for place in ("notebooks", "reports/source"):
        (folder / place).mkdir(parents=True, exist_ok=True)
        (folder / place / f"{name}.ipynb").write_text(dump(strip(body)))
    (folder / "params.yaml").write_text("base:\n  seed: 1\n")
    stage = {"cmd": f"python -m hftlib.notebook run {name}", "params": ["base"], "deps": []}
    (folder / "dvc.yaml").write_text(json.dumps({"stages": {"only": stage}}))


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


TITLE = cell("markdown", "# A title\n\n> What is it? With $\\alpha^2$.\n")


def test_stripping_removes_outputs_counts_and_metadata_but_keeps_tags_and_ids():
    before = cell("code", "x = 1", "parameters")
    after = strip({"cells": [before], "metadata": {"language_info": {"version": "3.11.7"}}})
    assert after["metadata"] == {"kernelspec": notebook.KERNEL}
    (only,) = after["cells"]
    assert only["outputs"] == []
    assert only["execution_count"] is None
    assert only["metadata"] == {"tags": ["parameters"]}
    assert only["id"] == before["id"]


def test_stripping_twice_is_stripping_once():
    body = {"cells": [TITLE, cell("code", "a = 1\nb = 2")], "metadata": {}}
    assert dump(strip(strip(body))) == dump(strip(body))


def test_files_are_stripped_in_place_and_pipes_to_the_output(project, monkeypatch, capsys):
    file, text = project / "a.ipynb", json.dumps({"cells": [cell("code", "1")], "metadata": {}})
    file.write_text(text)
    notebook.main(["strip", str(file)])
    assert capsys.readouterr().out == f"stripped {file}\n"
    notebook.main(["strip", str(file)])
    assert capsys.readouterr().out == "", "a stripped file is left alone"
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    notebook.main(["strip", "-"])
    assert capsys.readouterr().out == file.read_text()


def test_saving_outputs_leaves_git_clean_and_commits_none(tmp_path):
    """As set up by `make setup`: a filter of git strips what it stores."""
    git(tmp_path, "init", "-q")
    command = f"{sys.executable} -m hftlib.notebook strip -"
    git(tmp_path, "config", "filter.notebook.clean", command)
    write_notebook(tmp_path, "10_demo", TITLE, cell("code", "1"))
    shutil.copy(ROOT / ".gitattributes", tmp_path)
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "stripped")
    saved = {"cells": [TITLE, cell("code", "1")], "metadata": {"language_info": {}}}
    (tmp_path / "notebooks/10_demo.ipynb").write_text(json.dumps(saved))
    assert git(tmp_path, "diff") == ""
    git(tmp_path, "add", "-A")
    assert git(tmp_path, "status", "--porcelain") == ""


def test_a_file_that_is_no_notebook_is_named_and_earlier_copies_stay(project, capsys):
    write_notebook(project, "10_demo", TITLE)
    (project / "notebooks/20_broken.ipynb").write_text("{not json")
    assert notebook.main(["strip", "notebooks", "reports/source"]) == 1
    assert "20_broken.ipynb: not a notebook" in capsys.readouterr().err
    assert (project / "reports/source/10_demo.ipynb").exists()


@pytest.mark.parametrize(
    "text", ["{not json", "[]", "{}", '{"cells": 3}', '{"cells": [{}]}', "\xff"]
)
def test_what_is_no_notebook_is_named_when_rendered(project, capsys, text):
    (project / "dvc.yaml").write_text("stages: {}")
    (project / "mine.ipynb").write_text(text, encoding="latin-1")
    assert notebook.main(["render", "mine.ipynb", "mine.html"]) == 1
    assert "error: mine.ipynb: not a notebook (" in capsys.readouterr().err
    assert not (project / "mine.html").exists()


def test_a_run_writes_an_offline_report_and_prints_progress(project, capfd):
    write_notebook(
        project,
        "10_demo",
        TITLE,
        cell("code", 'algo = "none"', "parameters"),
        cell("code", "import os\nprint('hello', os.getcwd())\nf'ran {algo}'"),
        cell("code", "import plotly.graph_objects as go\nfrom hftlib import plots"),
        cell("code", "plots.use_house_style()\ngo.Figure(go.Scatter(y=[1, 2]))"),
    )
    assert notebook.main(["run", "10_demo", "algo=ppo"]) == 0
    said = capfd.readouterr().out
    assert f"hello {project}" in said
    assert re.search(r"10_demo_ppo: +80 %", said)
    page = (project / "reports/10_demo_ppo.html").read_text()
    assert "ran ppo" in page
    assert "Plotly.newPlot" in page
    assert "<math" in page
    assert "seed: 1" in page, "the report names its parameters"
    assert "not under git" in page
    loads = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(http[^"]+)', page)
    assert loads == []
    assert "default-src 'none'" in page
    assert not list((project / "reports/failed").iterdir())


def test_two_runs_give_the_same_bytes(project):
    write_notebook(project, "10_demo", TITLE, cell("code", "{'a': 1}"))
    pages = []
    for _ in range(2):
        notebook.main(["run", "10_demo"])
        pages.append((project / "reports/10_demo.html").read_bytes())
    assert pages[0] == pages[1]


def test_a_failing_cell_is_named_and_the_earlier_report_stays(project, capfd):
    write_notebook(
        project,
        "10_demo",
        TITLE,
        cell("code", 'algo = "none"', "parameters"),
        cell("code", "1 / 0"),
        cell("code", "print('never')"),
    )
    page = project / "reports/10_demo_ppo.html"
    page.write_text("earlier")
    assert notebook.main(["run", "10_demo", "algo=ppo"]) == 1
    said = capfd.readouterr()
    assert "10_demo_ppo failed in cell 3: ZeroDivisionError: division by zero" in said.err
    assert "partial notebook: reports/failed/10_demo_ppo.ipynb" in said.err
    assert "never" not in said.out
    assert page.read_text() == "earlier"
    assert "ZeroDivisionError" in (project / "reports/failed/10_demo_ppo.ipynb").read_text()


def test_an_interrupted_run_ends_with_what_to_do(project):
    write_notebook(
        project, "10_demo", TITLE, cell("code", "import time\nprint('asleep')\ntime.sleep(60)")
    )
    command = [sys.executable, "-m", "hftlib.notebook", "run", "10_demo"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # the job of a shell in the background ignores SIGINT, and so would its children
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, start_new_session=True, preexec_fn=heed, **pipes) as process:
        for line in process.stdout:
            if "asleep" in line:
                break
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C in a terminal does
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.endswith("interrupted; run it again to go on from the last checkpoints\n")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "missing parameter algo"),
        (["algo=ppo", "size=3"], "undeclared parameter size"),
        (["algo"], "expected name=value"),
    ],
)
def test_parameters_must_be_those_that_the_notebook_declares(project, capsys, values, message):
    write_notebook(project, "10_demo", TITLE, cell("code", 'algo = "none"', "parameters"))
    assert notebook.main(["run", "10_demo", *values]) == 1
    assert message in capsys.readouterr().err


def test_an_unknown_notebook_lists_the_known_ones(project):
    write_notebook(project, "10_demo", TITLE)
    with pytest.raises(NotebookError, match=r"99_other\.ipynb does not exist.*10_demo"):
        notebook.run("99_other", {})


def test_a_saved_notebook_can_be_rendered_without_running_it(project):
    write_notebook(project, "10_demo", TITLE)
    saved = {"cells": [TITLE, cell("code", "x")], "metadata": {}, "nbformat": 4}
    (project / "mine.ipynb").write_text(json.dumps(saved | {"nbformat_minor": 5}))
    assert notebook.main(["render", "mine.ipynb", "mine.html"]) == 0
    assert "<h1" in (project / "mine.html").read_text()


def test_provenance_shows_the_values_of_single_keys(project):
    write_notebook(project, "10_demo", TITLE)
    (project / "params.yaml").write_text("base: {seed: 5, other: 6}\n")
    stages = {"only": {"cmd": "run 10_demo", "params": ["base.seed"]}}
    (project / "dvc.yaml").write_text(json.dumps({"stages": stages}))
    assert "base.seed: 5" in report.provenance("10_demo", {}, project)


def test_provenance_of_a_matrix_shows_the_section_of_its_algorithm(project):
    write_notebook(project, "10_demo", TITLE)
    (project / "params.yaml").write_text("one: {rate: 5}\ntwo: {rate: 6}\n")
    stages = {"only": {"cmd": "run 10_demo", "params": ["${item.algo}"]}}
    (project / "dvc.yaml").write_text(json.dumps({"stages": stages}))
    page = report.provenance("10_demo", {"algo": "two"}, project)
    assert "rate: 6" in page
    assert "rate: 5" not in page


def test_prices_in_dollars_are_no_formulas():
    assert report._formulas("from $5 to $10 a day") == "from $5 to $10 a day"
    assert "<math" in report._formulas("where $x^2$ is")


def test_figures_cannot_break_out_of_their_script():
    figure = {"data": [{"name": "</script><b>"}], "layout": {}}
    text = report.figure_html(figure, "f")
    assert text.count("</script>") == 1


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run([*command, *arguments], check=True, capture_output=True, text=True)
    return done.stdout


def test_the_revision_is_the_last_commit_that_touched_the_stage(tmp_path):
    git(tmp_path, "init", "-q")
    for name in ("code.py", "params.yaml", "README.md"):
        (tmp_path / name).write_text("1")
        git(tmp_path, "add", name)
        git(tmp_path, "commit", "-qm", name)
    first = report.revision(tmp_path, ["code.py"])
    assert re.fullmatch(r"[0-9a-f]{7,} of \d{4}-\d\d-\d\d", first)
    (tmp_path / "README.md").write_text("2")
    git(tmp_path, "commit", "-qam", "prose")
    assert report.revision(tmp_path, ["code.py"]) == first
    (tmp_path / "code.py").write_text("2")
    assert report.revision(tmp_path, ["code.py"]) == f"{first}, with uncommitted changes"


def test_a_folder_below_another_repository_is_not_under_git(tmp_path):
    git(tmp_path, "init", "-q")
    inner = tmp_path / "export"
    inner.mkdir()
    assert report.revision(inner, []) == "not under git"


@pytest.mark.slow
@pytest.mark.parametrize("start", ["root", "notebooks"])
def test_each_notebook_opens_from_its_own_folder_or_the_root(start, tmp_path):
    """The first code cells (imports, params) run from both places, as in JupyterLab."""
    for name in ("notebooks", "hftlib", "params.yaml", "dvc.yaml"):
        source, target = ROOT / name, tmp_path / name
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    folder = tmp_path if start == "root" else tmp_path / "notebooks"
    lines = []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        code = next("".join(c["source"]) for c in cells if "load()" in "".join(c["source"]))
        lines.append(code.split("plots.use_house_style()")[0])
    script = "\n".join([*lines, "print(paths.root)"])
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, env=os.environ
    )
    assert done.stdout.strip() == str(tmp_path), done.stderr
