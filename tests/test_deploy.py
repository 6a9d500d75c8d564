"""Files of the deployment: what the image holds, what is opened to whom, what is named exists.

No container engine is needed: the files are read. Schemas are a linter's matter, see
docs/operations.md; what is compared here is what no linter can know, the code.
"""

import ast
import json
import re
from fnmatch import fnmatch
from importlib.metadata import packages_distributions
from pathlib import Path
from sys import stdlib_module_names

import pytest
import yaml

from hftlib import __version__
from hftlib.compute import DETERMINISTIC_ENVIRONMENT
from hftlib.live.service import create_app
from hftlib.live.settings import TOKEN_FILE, ServiceSettings, variable_of
from tests.conftest import ROOT
from tests.live_cases import FakeStore
from tests.test_layers import imports

DEPLOY = ROOT / "deploy"
PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+\.\d+[\w.-]*")
VARIABLES = {variable_of(name) for name in ServiceSettings.__dataclass_fields__} | {TOKEN_FILE}
VARIABLES -= {variable_of("backtest_command")}
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
UID = 10001


def read_dockerfile() -> list[tuple[str, str]]:
    """Instructions and what they say, continued lines joined."""
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", text)
    found = [line.strip().partition(" ") for line in joined.splitlines() if line.strip()]
    return [(word, rest.strip()) for word, _, rest in found]


DOCKERFILE = read_dockerfile()
LAST_STAGE = DOCKERFILE[max(k for k, (word, _) in enumerate(DOCKERFILE) if word == "FROM") :]


def said(word: str) -> list[str]:
    """Arguments of an instruction in the last stage."""
    return [rest for instruction, rest in LAST_STAGE if instruction == word]


def test_the_image_begins_with_a_pinned_python_of_the_locked_minor_version():
    bases = [rest.split()[0] for word, rest in DOCKERFILE if word == "FROM"]
    assert len(bases) == 2
    assert len(set(bases)) == 1, "packages are installed by the Python that runs them"
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", bases[0])


def test_the_image_runs_as_a_user_without_rights_and_a_number():
    *_, last = (k for k, (word, _) in enumerate(LAST_STAGE) if word == "USER")
    assert LAST_STAGE[last] == ("USER", f"{UID}:{UID}")
    assert not {"RUN", "COPY"} & {word for word, _ in LAST_STAGE[last:]}


def test_commands_of_the_image_are_lists_without_a_shell():
    (command,) = said("CMD")
    assert json.loads(command) == ["python", "-m", "hftlib.live.service"]
    (check,) = said("HEALTHCHECK")
    python, flag, code = json.loads(check.partition("CMD ")[2])
    assert (python, flag) == ("python", "-c")
    compile(code, "healthcheck", "exec")
    assert "/health'" in code


def test_the_image_is_built_without_habits_that_go_wrong():
    words = {word for word, _ in DOCKERFILE}
    assert "ADD" not in words
    for word, rest in DOCKERFILE:
        assert not re.search(r"\bsudo\b|:latest\b|(curl|wget)[^|]*\|", rest), rest
        if word == "RUN" and "apt-get install" in rest:
            assert "rm -rf /var/lib/apt/lists" in rest
        if word == "RUN" and "pip install" in rest:
            assert "-c requirements.lock" in rest
    assert not any("TOKEN" in rest or "PASSWORD" in rest for _, rest in DOCKERFILE)


def is_let_through(path: str) -> bool:
    """Whether .dockerignore leaves a path in; the last pattern that matches decides."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    is_in = True
    for line in lines:
        pattern = line.removeprefix("!").removeprefix("**/")
        name = Path(path).name if "**/" in line else path
        if line and not line.startswith("#") and (fnmatch(name, pattern) or pattern == path):
            is_in = line.startswith("!")
    return is_in


def test_what_is_copied_exists_and_is_let_through():
    copied = [rest.split() for word, rest in DOCKERFILE if word == "COPY"]
    sources = [s for rest in copied if not rest[0].startswith("--from") for s in rest[:-1]]
    assert {"hftlib", "dvc.yaml", "requirements.lock"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert is_let_through(source), source
    for secret in (".git", "deploy/secrets/token", "data", "hftlib/__pycache__", "hftlib/x.pyc"):
        assert not is_let_through(secret), secret


def test_the_image_computes_with_the_same_code_paths_as_training():
    found = dict(re.findall(r"(\w+)=(\S+)", " ".join(said("ENV"))))
    assert DETERMINISTIC_ENVIRONMENT.items() <= found.items()
    assert found["HFTLIB_HOST"] == "0.0.0.0"
    assert said("EXPOSE") == [found["PORT"]]


def imported_at(tree: ast.AST, *, anywhere: bool) -> ast.Module:
    """Import statements of a module: outside of functions, or all but those for types."""
    found, left = [], [tree]
    while left:
        for node in ast.iter_child_nodes(left.pop()):
            if isinstance(node, ast.Import | ast.ImportFrom):
                found.append(node)
            is_inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            is_for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            if not is_for_types and (anywhere or not is_inside):
                left.append(node)
    return ast.Module(found, [])


def load_closure(*names: str) -> dict[str, ast.Module]:
    """Modules of ours that these load, with their imports.

    In `hftlib.live` imports within functions count too: the service loads models there.
    """
    found: dict[str, ast.Module] = {}
    left = list(names)
    while left:
        parts = left.pop().split(".")
        for k in range(1, len(parts) + 1):  # packages on the way are loaded too
            name, place = ".".join(parts[:k]), ROOT.joinpath(*parts[:k])
            file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
            if name not in found and file.is_file():  # or it is a name within a module
                anywhere = name.startswith("hftlib.live.")
                found[name] = imported_at(ast.parse(file.read_text()), anywhere=anywhere)
                left += imports(found[name])
    return found


def test_what_the_service_imports_is_in_the_image_and_nothing_else():
    closure = load_closure("hftlib.live.service", "hftlib.live.backtest_job")
    assert "hftlib.live.predictor" in closure
    packages = packages_distributions()
    needed = set()
    for module in closure.values():
        for node in module.body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
            tops = {name.partition(".")[0] for name in names} - stdlib_module_names - {"hftlib"}
            needed |= {packages[top][0].lower().replace("_", "-") for top in tops}
    assert "torch" not in needed
    lines = (DEPLOY / "requirements.txt").read_text().splitlines()
    listed = {line for line in lines if not line.startswith("#")}
    assert listed == needed | {"httptools", "uvloop", "websockets"}  # uvicorn loads these by itself
    locked = (ROOT / "requirements.lock").read_text().lower().replace("_", "-")
    for name in listed:
        assert re.search(rf"^{name}==", locked, flags=re.M), name


def test_images_are_pinned_and_ours_has_the_version_of_the_library():
    for name, service in SERVICES.items():
        assert PINNED.fullmatch(service["image"]), name
    assert SERVICES["hftlib"]["image"] == f"hftlib:{__version__}"
    assert f'image.version="{__version__}"' in said("LABEL")[0]
    (locked,) = re.findall(r"^mlflow==(.*)$", (ROOT / "requirements.lock").read_text(), flags=re.M)
    assert SERVICES["mlflow"]["image"].endswith(f":v{locked}"), "one database, one version"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_confined_and_looked_after(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert {"mem_limit", "pids_limit", "healthcheck"} <= service.keys()
    assert not {"privileged", "network_mode", "pid", "cap_add", "env_file"} & service.keys()
    for port in service["ports"]:
        host, outer, inner = port.split(":")
        assert host == "127.0.0.1"
        assert inner in str(service["healthcheck"]["test"]), "the port that is looked at"
        assert outer == inner


def test_what_compose_mounts_exists_or_is_declared():
    made_later = {"../data/served", "../data/market", "../data/datasets", "../mlruns"}
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            assert "docker.sock" not in volume["source"]
            if volume["type"] == "volume":
                assert volume["source"] in COMPOSE["volumes"], name
            else:
                assert volume["bind"]["create_host_path"] is False
                is_there = (DEPLOY / volume["source"]).exists()
                assert is_there or volume["source"] in made_later, volume["source"]
        assert set(service.get("secrets", [])) <= COMPOSE["secrets"].keys()
    for secret in COMPOSE["secrets"].values():
        assert Path(secret["file"]).parent == Path("secrets")
    assert (DEPLOY / "secrets/.gitignore").read_text().splitlines()[1:] == ["*", "!.gitignore"]


def test_compose_sets_only_what_the_service_reads_and_no_token():
    environment = SERVICES["hftlib"]["environment"]
    assert environment.keys() <= VARIABLES
    assert "HFTLIB_TOKEN" not in environment
    assert environment["HFTLIB_HOST"] == "0.0.0.0"
    secret = environment[TOKEN_FILE].rpartition("/")[2]
    assert secret in SERVICES["hftlib"]["secrets"]
    assert SERVICES["hftlib"]["ports"][0].endswith(f":{environment['PORT']}")
    settings = {k: v for k, v in environment.items() if "$" not in v and k != TOKEN_FILE}
    ServiceSettings.from_environment(settings | {"HFTLIB_TOKEN": "x" * 16})


def test_prometheus_asks_a_host_that_the_service_answers():
    scrape = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    (job,) = scrape["scrape_configs"]
    ((target,),) = [entry["targets"] for entry in job["static_configs"]]
    host, _, port = target.partition(":")
    environment = SERVICES["hftlib"]["environment"]
    assert host in SERVICES
    assert host in environment["HFTLIB_HOSTS"].split(",")
    assert port == environment["PORT"]
    assert job["metrics_path"] in create_app(FakeStore()).openapi()["paths"]
    mounted = {volume["target"] for volume in SERVICES["prometheus"]["volumes"]}
    assert set(scrape["rule_files"]) <= mounted
