"""Runs, strips and renders notebooks: `python -m hftlib.notebook run|strip|render`.

One runner for DVC stages and for people: it fixes kernel, working directory
and environment, checks the parameters, prints progress, and leaves either a
finished HTML report or a message with the partial notebook, never half a report.
"""

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from hftlib.paths import project_root, replace_folder

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
KEPT_CELL_KEYS = ("attachments", "cell_type", "id", "source")


class NotebookError(Exception):
    """A notebook that cannot be run, or that failed; the message is for the terminal."""


def strip(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook without outputs, counts and editor metadata; tags and cell ids stay.

    Stripping a stripped notebook changes nothing, whichever editor saved it.
    """
    cells = []
    for cell in notebook["cells"]:
        tags = cell.get("metadata", {}).get("tags")
        kept = {key: cell[key] for key in KEPT_CELL_KEYS if key in cell}
        if isinstance(kept["source"], str):
            kept["source"] = kept["source"].splitlines(keepends=True)
        kept["metadata"] = {"tags": tags} if tags else {}
        if cell["cell_type"] == "code":
            kept |= {"execution_count": None, "outputs": []}
        cells.append(kept)
    return {
        "cells": cells,
        "metadata": {"kernelspec": KERNEL},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def strip_file(source: Path, target: Path) -> bool:
    """Write the stripped form of `source` to `target`; True if `target` changed."""
    text = dump(strip(read_notebook(source)))
    if target.exists() and target.read_text() == text:
        return False
    target.write_text(text)
    return True


def read_notebook(path: Path) -> dict[str, Any]:
    """The notebook as saved.

    Raises
    ------
    NotebookError
        If the file is no JSON or has no list of cells.
    """
    try:
        notebook = json.loads(path.read_text())
        cells = notebook["cells"]
        if not all({"cell_type", "source"} <= cell.keys() for cell in cells):
            raise ValueError("a cell without cell_type or source")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotebookError(
            f"{path}: not a notebook ({error}); restore it with `git checkout {path}`"
        ) from None
    return {"metadata": {}, **notebook}


def strip_folder(source: Path, target: Path) -> None:
    """Replace `target` by stripped copies of all notebooks of `source`."""
    with replace_folder(target) as temporary:
        for notebook in sorted(source.glob("*.ipynb")):
            strip_file(notebook, temporary / notebook.name)


def dump(notebook: dict[str, Any]) -> str:
    """The canonical text of a notebook."""
    return json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def run(name: str, values: dict[str, Any]) -> Path:
    """Execute `reports/source/<name>.ipynb` with `values`; returns the report's path.

    Raises
    ------
    NotebookError
        If the notebook is unknown, a parameter is missing or undeclared, or a
        cell fails: the message names notebook, cell, error and partial copy.
    """
    from hftlib import report

    root = project_root()
    source = root / f"reports/source/{name}.ipynb"
    if not source.is_file():
        known = ", ".join(sorted(path.stem for path in (root / "notebooks").glob("*.ipynb")))
        raise NotebookError(
            f"{source.relative_to(root)} does not exist; run `dvc repro source` first. "
            f"Notebooks: {known}"
        )
    label = "_".join([name, *map(str, values.values())])
    notebook = read_notebook(source)
    _check_parameters(name, notebook, values)
    partial = root / f"reports/failed/{label}.ipynb"
    partial.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    executed = _execute(source, partial, values, root, label)
    page = root / f"reports/{label}.html"
    report.write_report(executed, page, name=name, values=values, root=root)
    partial.unlink(missing_ok=True)
    _say(f"{label}: done in {time.monotonic() - started:.0f} s, {page.relative_to(root)}")
    return page


def _check_parameters(name: str, notebook: dict[str, Any], values: dict[str, Any]) -> None:
    """Parameters given must be those that the cell tagged `parameters` assigns."""
    declared = []
    for cell in notebook["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            lines = [line.split("=")[0] for line in cell["source"] if "=" in line]
            declared += [line.split(":")[0].strip() for line in lines if not line.startswith("#")]
    for kind, names in (
        ("missing", [key for key in declared if key not in values]),
        ("undeclared", [key for key in values if key not in declared]),
    ):
        if names:
            raise NotebookError(
                f"{name}: {kind} parameter {', '.join(names)}; its `parameters` cell declares "
                f"{', '.join(declared) or 'none'}. Pass them as name=value"
            )


def _execute(
    source: Path, partial: Path, values: dict[str, Any], root: Path, label: str
) -> dict[str, Any]:
    """Run through Papermill in a kernel of this interpreter, in the project's root."""
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]  # 1.7 s to import
    import papermill
    from jupyter_client.manager import AsyncKernelManager
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    from hftlib.compute import DETERMINISTIC_ENVIRONMENT

    os.environ.update(DETERMINISTIC_ENVIRONMENT)
    with tempfile.TemporaryDirectory(prefix="hftlib-") as sockets:

        class Kernel(AsyncKernelManager):
            """This interpreter's kernel over private sockets: no port to collide on."""

            def __init__(self, **kwargs: Any) -> None:
                super().__init__(**kwargs, transport="ipc", ip=f"{sockets}/kernel")
                assert self.kernel_spec is not None, "ipykernel is a dependency"
                self.kernel_spec.argv[0] = sys.executable

        try:
            node = papermill.execute_notebook(
                str(source),
                str(partial),
                parameters=values,
                kernel_name=KERNEL["name"],
                cwd=str(root),
                progress_bar=False,
                log_output=False,
                stdout_file=sys.stdout,
                stderr_file=sys.stderr,
                kernel_manager_class=Kernel,
                on_cell_start=_progress(label, json.loads(source.read_text())["cells"]),
            )
        except PapermillExecutionError as error:
            number = _cell_number(partial, error.cell_index)
            raise NotebookError(
                f"{label} failed in cell {number}: {error.ename}: {error.evalue}\n"
                f"partial notebook: {partial.relative_to(root)}"
            ) from None
        except DeadKernelError:
            raise NotebookError(
                f"{label}: its kernel died, perhaps for lack of memory\n"
                f"partial notebook: {partial.relative_to(root)}"
            ) from None
    result: dict[str, Any] = json.loads(json.dumps(node))
    return result


def _progress(label: str, cells: list[dict[str, Any]]) -> Callable[..., None]:
    """A hook that prints a line whenever another tenth of the cells is done."""
    printed = -1

    def on_cell_start(cell: Any, cell_index: int, **_: Any) -> None:
        nonlocal printed
        tenth = 10 * cell_index // len(cells)
        if tenth > printed:
            printed = tenth
            before = ["".join(c["source"]) for c in cells[: cell_index + 1]]
            titles = [text for text in before if text.startswith("#")]
            title = titles[-1].splitlines()[0].lstrip("# ") if titles else ""
            _say(f"{label}: {10 * tenth:3d} %  {title}")

    return on_cell_start


def _cell_number(partial: Path, index: int) -> int:
    """Number (from 1) in the author's notebook of cell `index` of the executed one."""
    cells = json.loads(partial.read_text())["cells"]
    added = ("injected-parameters", "papermill-error-cell-tag")
    own = [c for c in cells[:index] if not set(added) & set(c["metadata"].get("tags", []))]
    return len(own) + 1


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def _parse_values(pairs: Sequence[str]) -> dict[str, Any]:
    values = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise NotebookError(f"{pair!r} is no parameter; expected name=value, e.g. algo=ppo")
        values[name] = yaml.safe_load(value)
    return values


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 0 on success, 1 on failure, 130 when interrupted."""
    parser = argparse.ArgumentParser(prog="python -m hftlib.notebook", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run", help="execute a notebook and write its HTML report")
    runner.add_argument("name", help="e.g. 41_single_agent")
    runner.add_argument("values", nargs="*", help="its parameters, e.g. algo=ppo")
    stripper = commands.add_parser(
        "strip", help="strip a folder into another, files in place, or a pipe (-)"
    )
    stripper.add_argument("paths", nargs="+", type=Path, help="SOURCE TARGET, FILE … or -")
    renderer = commands.add_parser("render", help="write the HTML of an executed notebook")
    renderer.add_argument("notebook", type=Path)
    renderer.add_argument("page", type=Path)
    given = parser.parse_args(arguments)
    try:
        if given.command == "run":
            run(given.name, _parse_values(given.values))
        elif given.command == "strip":
            _strip_paths(given.paths)
        else:
            from hftlib import report

            notebook = read_notebook(given.notebook)
            report.write_report(
                notebook, given.page, name=given.notebook.stem, values={}, root=project_root()
            )
    except KeyboardInterrupt:
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # it reports the cell's end again
        print("interrupted; run it again to go on from the last checkpoints", file=sys.stderr)  # noqa: T201
        return 130
    except (NotebookError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _strip_paths(paths: list[Path]) -> None:
    if paths == [Path("-")]:  # git's clean filter
        sys.stdout.write(dump(strip(json.load(sys.stdin))))
    elif len(paths) == 2 and paths[0].is_dir():
        strip_folder(*paths)
    else:
        for path in paths:
            if strip_file(path, path):
                _say(f"stripped {path}")


if __name__ == "__main__":
    sys.exit(main())
