"""Notebooks are stripped, short and mostly prose."""

import ast
import json
from pathlib import Path

import pytest

from hftlib.notebook import dump, strip
from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def cells(request) -> list[dict]:
    return json.loads(request.param.read_text())["cells"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_notebooks_are_stripped(path: Path):
    assert path.read_text() == dump(strip(json.loads(path.read_text())))


def test_notebooks_keep_to_their_budget(cells):
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(cells) <= 45
    assert 1 - len(code) / len(cells) >= 0.45
    assert max(len(cell["source"]) for cell in code) <= 25


def test_notebooks_define_no_class_and_only_short_functions(cells):
    for cell in cells:
        if cell["cell_type"] == "code":
            for node in ast.walk(ast.parse("".join(cell["source"]))):
                assert not isinstance(node, ast.ClassDef)
                if isinstance(node, ast.FunctionDef):
                    assert node.end_lineno - node.lineno < 8


def test_notebooks_have_the_house_s_parts(cells):
    first = "".join(cells[0]["source"])
    assert first.startswith("# ")
    assert "\n> " in first
    assert "| Reads | Writes | Parameters |" in first
    assert sum("writes" in cell["metadata"].get("tags", []) for cell in cells) == 1
    assert any("".join(cell["source"]).startswith("## What we found") for cell in cells)
