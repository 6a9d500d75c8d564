"""What the project says of itself is true."""

import json
import re
import shutil
import textwrap
import tomllib
from functools import reduce

import pytest
import yaml

from hftlib import __version__, images, plots
from hftlib.compute import DETERMINISTIC_ENVIRONMENT
from hftlib.lineage import hash_path
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def direct_dependencies() -> set[str]:
    extras = PROJECT["optional-dependencies"]
    return {*PROJECT["dependencies"], *extras["sources"], *extras["dev"]}


def test_conda_users_get_the_same_direct_dependencies():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(entry["pip"] for entry in environment if isinstance(entry, dict))
    assert set(pip) == direct_dependencies()


def test_the_lock_holds_every_direct_dependency_at_its_pin():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    locked = {line.split(";")[0].strip().lower().replace("_", "-") for line in lines}
    assert {name.lower().replace("_", "-") for name in direct_dependencies()} <= locked


def test_the_readme_lists_every_notebook_with_its_question():
    readme = (ROOT / "README.md").read_text()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert f"| `{path.stem}` |" in readme
    for stage in STAGES:
        assert stage == "source" or f"{stage}[" in readme, "a node of the figure"


def test_every_command_of_the_readme_exists():
    targets = re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), flags=re.M)
    for command in re.findall(r"make ([a-z]+)", (ROOT / "README.md").read_text()):
        assert command in targets


README_EXAMPLES = re.findall(
    r"^ *```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.M | re.S
)


@pytest.mark.parametrize("example", README_EXAMPLES, ids=range(len(README_EXAMPLES)))
def test_examples_of_the_readme_run(example):
    exec(textwrap.dedent(example), {"__name__": "example"})


def test_the_readme_has_examples():
    assert len(README_EXAMPLES) >= 2


def test_versions_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert __version__ == PROJECT["version"] == citation["version"]
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_ignore_patterns_that_name_folders_are_anchored():
    generated = {"__pycache__/", ".ipynb_checkpoints/"}
    lines = (ROOT / ".gitignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert {p for p in patterns if not p.startswith(("/", "!/"))} == generated


def test_published_metrics_tables_and_params_are_those_of_the_lock_file():
    lock = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"]
    assert {name.split("@")[0] for name in lock} == set(STAGES)
    text = (ROOT / "params.yaml").read_text()
    params = yaml.safe_load(re.sub(r"\b(\d)e-(\d)\b", r"\1.0e-\2", text))  # as DVC reads 3e-4
    tracked = ("reports/metrics/", "reports/tables")
    for stage in lock.values():
        for key, value in stage.get("params", {}).get("params.yaml", {}).items():
            assert reduce(dict.__getitem__, key.split("."), params) == value, key
        for out in stage["outs"]:
            if out["path"].startswith(tracked):
                assert hash_path(ROOT / out["path"]) == out["md5"], out["path"]


def test_the_makefile_exports_the_deterministic_environment():
    text = (ROOT / "Makefile").read_text()
    exported = dict(re.findall(r"^export ([A-Z_]+) := (\w+)$", text, flags=re.M))
    assert DETERMINISTIC_ENVIRONMENT.items() <= exported.items()


def test_a_strategy_without_a_colour_gets_the_same_one_always():
    assert plots.colour_of("mine") == plots.colour_of("mine") in plots.CYCLE
    assert plots.colour_of("ppo") == plots.COLOURS["ppo"]


@pytest.fixture
def figure():
    import plotly.graph_objects as go

    return go.Figure(go.Scatter(y=[1, 2]))


needs_chromium = pytest.mark.skipif(
    not (shutil.which("chromium") or shutil.which("google-chrome")),
    reason="SVG needs a Chromium, and there is none",
)


@needs_chromium
def test_svg_files_have_the_same_bytes_twice(figure, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        assert "written as SVG" in images.save_svgs({"f": figure}, tmp_path / name, 300, 200)
    assert (tmp_path / "one/f.svg").read_bytes() == (tmp_path / "two/f.svg").read_bytes()


@needs_chromium
def test_the_height_of_a_figure_s_own_goes_before_that_of_all(figure, tmp_path):
    import plotly.graph_objects as go

    tall = go.Figure(figure).update_layout(height=700)
    images.save_svgs({"tall": tall, "other": figure}, tmp_path, 300, 200)
    for name, height in (("tall", 700), ("other", 200)):
        assert f'width="300" height="{height}"' in (tmp_path / f"{name}.svg").read_text()


def test_without_a_browser_the_figures_are_left_out_with_a_word(figure, tmp_path, monkeypatch):
    monkeypatch.setenv("BROWSER_PATH", "/nowhere/chromium")
    said = images.save_svgs({"f": figure}, tmp_path, 300, 200)
    assert said.startswith("SVG files were left out")
    assert "Chrome" in said
    assert [path.name for path in tmp_path.iterdir()] == ["f.json"]
    assert json.loads((tmp_path / "f.json").read_text())["data"]


def test_a_browser_that_hangs_is_not_waited_for(figure, tmp_path, monkeypatch):
    mute = tmp_path / "chromium"
    mute.write_text("#!/bin/sh\nexec cat <&3 >/dev/null\n")  # reads its commands, never answers
    mute.chmod(0o755)
    monkeypatch.setenv("BROWSER_PATH", str(mute))
    (tmp_path / "figures").mkdir()
    said = images.save_svgs({"f": figure}, tmp_path / "figures", 300, 200, limit_s=4.0)
    assert said == "SVG files were left out, no usable Chromium: no answer within 4 s"
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["f.json"]


def test_thinned_traces_keep_both_ends_and_the_budget():
    import pandas as pd

    frame = pd.DataFrame({"x": range(123_457)})
    thin = plots.thin(frame)
    assert len(thin) <= plots.MAX_POINTS
    assert (thin["x"].iloc[0], thin["x"].iloc[-1]) == (0, 123_456)
    assert len(plots.thin(frame.head(10))) == 10
