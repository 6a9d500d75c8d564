"""Files import only from their own layer or from layers to the left."""

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

LAYERS = (
    "core",
    "market",
    "data",
    "sessions",
    "features",
    "portfolio",
    "envs",
    "models",
    "agents",
    "evaluation",
    "live",
)
FILES = sorted((ROOT / "hftlib").rglob("*.py"))


def layer_of(module: str) -> str:
    """Layer of a dotted name below hftlib; top-level files are core."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in LAYERS else "core"


def imports(tree: ast.AST) -> set[str]:
    """Dotted names below hftlib that a tree imports, `from hftlib import x` as `hftlib.x`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("hftlib")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "hftlib":
            inside = node.module.count(".")
            if inside < 2 and (ROOT / node.module.replace(".", "/")).is_dir():
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
            else:
                found.add(node.module)
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.relative_to(ROOT).as_posix())
def test_imports_point_leftwards_only(file: Path):
    module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    mine = LAYERS.index(layer_of(module))
    for target in imports(ast.parse(file.read_text())):
        assert LAYERS.index(layer_of(target)) <= mine, f"{module} imports {target}"


def test_the_check_sees_an_import_to_the_right():
    found = imports(ast.parse("from hftlib.envs import TradingEnv\nfrom hftlib import plots"))
    assert found == {"hftlib.envs.TradingEnv", "hftlib.plots"}
    assert layer_of("hftlib.envs.TradingEnv") == "envs"
    assert layer_of("hftlib.plots") == "core"


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.relative_to(ROOT).as_posix())
def test_modules_are_short(file: Path):
    assert len(file.read_text().splitlines()) <= 400
