"""The operations page says what the code does: variables, codes, paths, the backup."""

import ast
import re
import sqlite3
from dataclasses import fields

import pytest

from hftlib.live.service import create_app
from hftlib.live.settings import TOKEN_FILE, ServiceSettings, variable_of
from hftlib.live.store import Store
from tests.conftest import ROOT
from tests.live_cases import FakeStore

PAGE = (ROOT / "docs/operations.md").read_text()
SOURCES = {path: path.read_text() for path in (ROOT / "hftlib/live").glob("*.py")}
FIELDS = {variable_of(f.name): f for f in fields(ServiceSettings) if f.name != "backtest_command"}


def rows_under(heading):
    """Cells of the first table below a heading."""
    lines = PAGE.split(f"\n## {heading}\n")[1].splitlines()
    first = next(k for k, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_the_table_of_variables_is_that_of_the_settings():
    table = {
        name.strip("`"): default.strip("`")
        for name, default, _ in rows_under("Environment variables")
    }
    assert table.keys() == FIELDS.keys() | {TOKEN_FILE}
    assert table.pop(TOKEN_FILE) == ""
    for name, text in table.items():
        found = getattr(ServiceSettings.from_environment({name: text}), FIELDS[name].name)
        assert found == FIELDS[name].default, name


def test_every_variable_in_the_text_is_one():
    named = set(re.findall(r"\bHFTLIB_[A-Z_]+\b", PAGE))
    assert named <= FIELDS.keys() | {TOKEN_FILE}


def codes():
    """Codes of all refusals in the sources, with their status where it is a number there."""
    found = set()
    for text in SOURCES.values():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ServiceFault":
                names = [n.value for n in ast.walk(node.args[1]) if isinstance(n, ast.Constant)]
                first = node.args[0]
                status = first.value if isinstance(first, ast.Constant) else None
                found |= {(name, status) for name in names if isinstance(name, str)}
    return found


def test_the_table_of_codes_is_that_of_the_sources():
    table = {name.strip("`"): status for name, status, *_ in rows_under("Troubleshooting")}
    assert table.keys() == {name for name, _ in codes()}
    for name, status in codes():
        assert status is None or str(status) in table[name], name


@pytest.mark.parametrize(
    "said",
    [
        "which cannot be read",
        "are both set",
        "no dvc.yaml in",
        "too slow",
        "too many clients",
        "origin not allowed",
        "host not served",
        "silent for",
        "another process trades on it",
        "paper.snapshot",
        "characters; expected at",
    ],
)
def test_what_the_table_of_symptoms_quotes_is_in_the_sources(said):
    text = "".join(SOURCES.values()) + (ROOT / "hftlib/paths.py").read_text()
    assert said in text
    assert said.partition(";")[0] in PAGE


def test_paths_of_the_page_are_routes():
    paths = set(create_app(FakeStore()).openapi()["paths"]) | {"/ws", "/openapi.json"}
    named = set(re.findall(r"`(/[a-z/]+(?:\.json)?)`", PAGE))
    named |= set(re.findall(r"http://127\.0\.0\.1:8000(/[a-z/]+)", PAGE))
    assert {"/model/activate", "/paper/halt", "/ready"} <= named
    assert named <= paths


def test_commands_of_the_page_exist():
    targets = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), flags=re.M))
    named = set(re.findall(r"`make ([a-z]+)", PAGE))
    assert {"repro", "retrain"} <= named <= targets


def test_files_of_the_page_exist():
    for name in re.findall(r"`((?:deploy|docs|tests)/[\w./*-]+)`", PAGE):
        is_made = name.startswith("deploy/secrets/")
        assert is_made or list(ROOT.glob(name.rstrip("/"))), name


def test_the_backup_is_whole_while_the_state_is_written(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)
    scope = {}
    exec(code, scope)
    store = Store(tmp_path / "paper.db")
    for k in range(50):
        store.add("alerts", ts_ns=k, name="a", text="b")
    assert (tmp_path / "paper.db-wal").stat().st_size > 0, "what a plain copy would lack"
    scope["back_up"](store.path, tmp_path / "copy.db")
    store.database.execute("VACUUM INTO ?", (str(tmp_path / "small.db"),))
    for name in ("copy.db", "small.db"):
        with sqlite3.connect(tmp_path / name) as copy:
            assert copy.execute("SELECT COUNT(*) FROM alerts").fetchone() == (50,)
        copy.close()
    store.close()
    Store(tmp_path / "copy.db").close()
