"""`dvc.yaml` declares exactly what each notebook reads, writes and imports."""

import ast
import json
import re
from functools import cache
from pathlib import Path

import pytest
import yaml

from hftlib.config import Params
from hftlib.paths import Paths
from tests.conftest import ROOT
from tests.test_layers import imports, layer_of

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
RUNS = {name: stage for name, stage in STAGES.items() if name != "source"}
# values of these are tracked as params; results are the same on each of the backends
UNTRACKED = {
    "hftlib.backends",
    "hftlib.config",
    "hftlib.evaluation_sections",
    "hftlib.forecast_sections",
    "hftlib.market_sections",
    "hftlib.portfolio_sections",
    "hftlib.sections",
    "hftlib.session_sections",
    "hftlib.trading_sections",
}
MATRIX = "${item.algo}"
# what the property `Params.trading_rules` reads
TRADING_RULES = {
    "costs",
    "trading",
    "trading_limits",
    "trading_financing",
    "trading_reward",
    "risk_limits",
}
NO_DATA = ("root", "scratch", "tracking")  # the last is a record, which no stage reads


def notebook(stage: dict) -> str:
    return re.search(r"run (\w+)", stage["cmd"])[1]


def cells(name: str) -> list[dict]:
    found = json.loads((ROOT / f"notebooks/{name}.ipynb").read_text())["cells"]
    return [cell for cell in found if cell["cell_type"] == "code"]


def code(name: str, *, writes: bool | None = None) -> str:
    """Code of a notebook; only the cell tagged `writes`, or only the others, if asked."""
    chosen = [
        "".join(cell["source"])
        for cell in cells(name)
        if writes is None or ("writes" in cell["metadata"].get("tags", [])) is writes
    ]
    return "\n".join(chosen)


def paths_in(text: str) -> set[str]:
    """Files named through `paths`, relative to the root, with algo as `dvc.yaml` writes it."""
    paths, found, tree = Paths(ROOT), set(), ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("paths."):
            argument = node.args[0]
            if isinstance(argument, ast.Constant):
                name = argument.value
            else:  # algo, or f"learning_{algo}"
                name = ast.unparse(argument).lstrip("f").strip("'\"").replace("{algo}", "algo")
                name = name.replace("algo", MATRIX)
            found.add(getattr(paths, node.func.attr)(name))
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "paths":
            target = getattr(paths, node.attr)
            if not callable(target) and node.attr not in NO_DATA:
                found.add(target)
    return {path.relative_to(ROOT).as_posix() for path in found}


def declared(stage: dict, kind: str) -> set[str]:
    """Paths of a section of a stage; outputs with options are one-key mappings."""
    return {entry if isinstance(entry, str) else next(iter(entry)) for entry in stage.get(kind, [])}


@cache
def closure(module: str) -> frozenset[str]:
    """A module of hftlib and all that it imports, as far as it goes."""
    found: set[str] = set()
    todo = [module]
    while todo:
        name = todo.pop()
        file = _file(name)
        if file is None or name in found:
            continue
        found.add(name)
        todo += imports(ast.parse(file.read_text()))
    return frozenset(found)


def _file(module: str) -> Path | None:
    """The file of a dotted name; for an object in a package, the package's own."""
    for name in (module, module.rpartition(".")[0]):
        base = ROOT / name.replace(".", "/")
        if base.with_suffix(".py").is_file():
            return base.with_suffix(".py")
        if (base / "__init__.py").is_file():
            return base / "__init__.py"
    return None


def expected_code(name: str) -> set[str]:
    """Layers and core files that a notebook depends on."""
    modules = set().union(*(closure(m) for m in imports(ast.parse(code(name)))))
    expected = set()
    for module in modules - UNTRACKED:
        layer = layer_of(module)
        if layer != "core":
            expected.add(f"hftlib/{layer}")
        elif (ROOT / module.replace(".", "/")).with_suffix(".py").is_file():
            expected.add(module.replace(".", "/") + ".py")
    # a layer is tracked as a folder, so what its other files import counts too
    for layer in [path for path in expected if "." not in path]:
        for file in sorted((ROOT / layer).glob("*.py")):
            for module in closure(".".join(file.relative_to(ROOT).with_suffix("").parts)):
                if layer_of(module) != "core":
                    expected.add(f"hftlib/{layer_of(module)}")
                elif module not in UNTRACKED and _file(module).stem != "__init__":
                    expected.add(module.replace(".", "/") + ".py")
    if "hftlib/report.py" in expected:
        expected.add("hftlib/templates")  # read as files
    return expected


def read_params(name: str) -> set[str]:
    """Sections, or single keys, of the parameters that a notebook reads."""
    text = code(name)
    used = set()
    for node in ast.walk(ast.parse(text)):
        match = (
            re.fullmatch(r"params\.(\w+)\.(\w+)", ast.unparse(node))
            if isinstance(node, ast.Attribute)
            else None
        )
        if match and match[2] in Params.model_fields[match[1]].annotation.model_fields:
            used.add(f"{match[1]}.{match[2]}")
    whole = re.findall(r"[=:] params\.(\w+)(?=[,}]|$)|params\.(\w+)\.model_dump", text, flags=re.M)
    sections = {a or b for a, b in whole} - {"paths"}
    if "params.trading_rules" in text:
        sections |= TRADING_RULES
    return sections | {key for key in used if key.split(".")[0] not in sections}


def covers(entries: set[str], key: str) -> bool:
    return key in entries or key.split(".")[0] in entries


@pytest.mark.parametrize("name", RUNS)
def test_a_stage_is_named_like_its_notebook(name):
    assert notebook(RUNS[name]).split("_", 1)[1] == name
    assert f"reports/source/{notebook(RUNS[name])}.ipynb" in declared(RUNS[name], "deps") or (
        "reports/source" in declared(RUNS[name], "deps")
    )


def test_every_notebook_has_a_stage():
    have = {notebook(stage) for stage in RUNS.values()}
    assert have == {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}


@pytest.mark.parametrize("name", RUNS)
def test_code_dependencies_are_what_the_notebook_imports(name):
    stage = RUNS[name]
    have = {path for path in declared(stage, "deps") if path.startswith("hftlib")}
    assert have == expected_code(notebook(stage))


@pytest.mark.parametrize("name", RUNS)
def test_data_dependencies_are_what_the_notebook_reads(name):
    stage = RUNS[name]
    have = {
        path
        for path in declared(stage, "deps")
        if not path.startswith(("hftlib", "reports/source"))
    }
    own = set().union(*(declared(stage, kind) for kind in ("outs", "metrics", "plots")))
    assert have == paths_in(code(notebook(stage), writes=False)) - own


@pytest.mark.parametrize("name", RUNS)
def test_outputs_are_what_the_notebook_writes(name):
    stage = RUNS[name]
    have = set().union(*(declared(stage, kind) for kind in ("outs", "metrics", "plots")))
    pages = {
        path for path in have if re.fullmatch(r"reports/\d\w+(_\$\{item\.algo\})?\.html", path)
    }
    assert len(pages) == 1
    written = paths_in(code(notebook(stage), writes=True)) - declared(stage, "deps")
    assert have - pages == written


@pytest.mark.parametrize("name", RUNS)
def test_params_are_what_the_notebook_reads(name):
    stage = RUNS[name]
    have, used = set(stage.get("params", [])), read_params(notebook(stage))
    if MATRIX in have:  # a section for each algorithm
        have = have - {MATRIX} | set(stage["matrix"]["algo"])
    for key in used:
        assert covers(have, key), f"{key} is read but not declared"
    for key in have:
        assert any(u == key or u.startswith(f"{key}.") for u in used), f"{key} is never read"


@pytest.mark.parametrize("name", RUNS)
def test_another_backend_makes_no_stage_stale(name):
    stage = RUNS[name]
    assert "hftlib/backends.py" not in declared(stage, "deps")
    assert not any(key.split(".")[0] == "compute" for key in stage.get("params", []))
    assert "params.compute" not in code(notebook(stage))


@pytest.mark.parametrize("name", RUNS)
def test_a_stage_depends_on_lower_numbers_only(name):
    stage = RUNS[name]
    number = int(notebook(stage)[:2])
    for other in RUNS.values():
        outs = set().union(*(declared(other, kind) for kind in ("outs", "metrics", "plots")))
        algos = other.get("matrix", {}).get("algo", [""])
        outs = {path.replace(MATRIX, algo) for path in outs for algo in algos}
        if outs & declared(stage, "deps"):
            assert int(notebook(other)[:2]) < number


@pytest.mark.parametrize("name", RUNS)
def test_outputs_persist_so_that_a_failure_leaves_the_earlier_ones(name):
    for kind in ("outs", "metrics", "plots"):
        for entry in RUNS[name].get(kind, []):
            assert not isinstance(entry, str), entry
            assert next(iter(entry.values()))["persist"] is True


@pytest.mark.parametrize("name", RUNS)
def test_each_params_section_belongs_to_a_notebook_or_is_shared(name):
    shared = {"base", "compute", "ppo", "sac", "td3", "mappo", "maddpg", *TRADING_RULES}
    shared |= {"market", "market_risk", "market_reward"}
    shared |= {"maker", "executor", "taker"}
    without = {"source", "export"}  # they have no settings of their own
    assert set(Params.model_fields) == shared | {stage for stage in RUNS if stage not in without}
