"""Self-contained HTML: reports of executed notebooks, and the index page.

A page carries its style, its pictures and one plotly.js; a content-security
policy forbids any remote load. Nothing that is added here depends on the time of the run, so
that the same notebook, executed, gives the same bytes.
"""

import html
import itertools
import json
import platform
import re
from collections.abc import Mapping
from functools import reduce
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from hftlib.lineage import fill_matrix, find_stage, hash_path, revision
from hftlib.paths import replace_file

TEMPLATES = Path(__file__).parent / "templates"
PLOTLY = "application/vnd.plotly.v1+json"
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; worker-src blob:"
)


def write_report(
    notebook: dict[str, Any], page: Path, *, name: str, values: Mapping[str, Any], root: Path
) -> None:
    """Render an executed notebook as one HTML file that opens offline."""
    import nbformat
    from nbconvert import HTMLExporter

    node = nbformat.from_dict(_prepare(notebook))
    exporter = HTMLExporter(
        template_name="report",
        extra_template_basedirs=[str(TEMPLATES)],
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
    )
    body, _ = exporter.from_notebook_node(node)
    prose = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "markdown"]
    title = next((text.splitlines()[0].lstrip("# ") for text in prose if text.strip()), name)
    note = provenance(name, values, root)
    write_page(page, title, f'<nav><a href="index.html">all reports</a></nav>{body}{note}')


def write_page(page: Path, title: str, body: str) -> None:
    """Write `body` into the house page; plotly.js comes along where a figure needs it."""
    from plotly.offline import get_plotlyjs

    script = f"<script>{get_plotlyjs()}</script>" if "Plotly.newPlot" in body else ""
    template = (TEMPLATES / "report/page.html").read_text()
    style = (TEMPLATES / "report/page.css").read_text()
    parts = {"title": html.escape(title), "policy": POLICY, "style": style, "script": script}
    for key, part in parts.items():
        template = template.replace("{{ " + key + " }}", part)
    with replace_file(page) as temporary:
        temporary.write_text(template.replace("{{ body }}", body))


def write_index(
    page: Path,
    *,
    title: str,
    abstract: str,
    tables: Mapping[str, pd.DataFrame],
    figures: Mapping[str, tuple[Any, str]],
    root: Path,
) -> None:
    """The supervisor's door: abstract, how to read it, the reports, tables, figures, provenance.

    Parameters
    ----------
    abstract : str
        Paragraphs as HTML.
    tables : mapping of heading to frame
        The first stands above the list of reports, the others below it.
    figures : mapping of name to (Plotly figure, caption)
    """
    first, *others = (
        f"<section id='{_anchor(heading)}'><h2>{html.escape(heading)}</h2>"
        f"{frame.to_html(border=0)}</section>"
        for heading, frame in tables.items()
    )
    drawn = "".join(
        figure_html(json.loads(figure.to_json(engine="json")), name) + f"<p>{caption}</p>"
        for name, (figure, caption) in figures.items()
    )
    rows = "".join(
        f'<tr><td><a href="{page.name}">{html.escape(page.stem)}</a></td>'
        f"<td>{html.escape(question)}</td></tr>"
        for page, question in list_reports(root)
    )
    top, *rest = tables
    headings = ["How to read it", top, "Reports", *rest, "Figures", "Provenance"]
    links = " · ".join(f'<a href="#{_anchor(name)}">{html.escape(name)}</a>' for name in headings)
    body = (
        f"<h1>{html.escape(title)}</h1><nav>{links}</nav>{abstract}"
        f"{(TEMPLATES / 'report/reading.html').read_text()}{first}"
        f"<section id='reports'><h2>Reports</h2><table class='text_cell_render'>{rows}</table>"
        f"</section>{''.join(others)}<section id='figures'><h2>Figures</h2>{drawn}</section>"
        f"{_whole_provenance(root)}"
    )
    write_page(page, title, body)


def _anchor(heading: str) -> str:
    return re.sub(r"\W+", "-", heading.lower()).strip("-")


def _whole_provenance(root: Path) -> str:
    """What all reports were made from: code revision, parameters, versions of the libraries."""
    rows = {
        "code": revision(root, ["hftlib", "notebooks", "dvc.yaml"]),
        "params.yaml": hash_path(root / "params.yaml"),
        "requirements.lock": hash_path(root / "requirements.lock"),
        "Python": ".".join(platform.python_version_tuple()[:2]),
    }
    rows |= {name: metadata.version(name) for name in ("numpy", "pandas", "torch", "dvc")}
    table = "".join(
        f"<tr><td>{html.escape(key)}</td><td>{html.escape(value)}</td></tr>"
        for key, value in rows.items()
    )
    note = (
        "When this page was made: last commit that touched code, notebooks or stages; MD5 of "
        "files. Each report ends with the hashes of what it read; <code>dvc.lock</code> has those "
        "of all."
    )
    return (
        "<section id='provenance' class='provenance'><h2>Provenance</h2>"
        f"<p>{note}</p><table>{table}</table></section>"
    )


def list_reports(root: Path) -> list[tuple[Path, str]]:
    """Page and question of each report that the pipeline writes, in the order of their numbers."""
    stages = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    pages = []
    for stage in stages.values():
        match = re.search(r"notebook run (\w+)", stage["cmd"])
        if match is None:
            continue
        cells = json.loads((root / f"reports/source/{match[1]}.ipynb").read_text())["cells"]
        lines = "".join(cells[0]["source"]).splitlines()
        question = next(line for line in lines if line.startswith(">")).strip("> ").replace("`", "")
        matrix = stage.get("matrix", {})
        labels = ["_".join([match[1], *choice]) for choice in itertools.product(*matrix.values())]
        pages += [(root / f"reports/{label}.html", question) for label in labels]
    return sorted(pages)


def figure_html(figure: Mapping[str, Any], identity: str) -> str:
    """A div and the script that draws a Plotly figure (`figure.to_plotly_json()`) into it."""
    data = json.dumps([figure["data"], figure["layout"]], sort_keys=True).replace("</", "<\\/")
    height = figure["layout"].get("height", 420)
    return (
        f'<div id="{identity}" class="figure" style="height:{height}px"></div>'
        f"<script>(function(){{const f={data};"
        f'Plotly.newPlot("{identity}",f[0],f[1],{{responsive:true,displaylogo:false}})}})()'
        "</script>"
    )


def _prepare(notebook: dict[str, Any]) -> dict[str, Any]:
    """Drop what differs between runs; draw figures; write formulas as MathML."""
    cells = []
    for number, cell in enumerate(notebook["cells"]):
        cell = dict(cell, metadata={"tags": cell["metadata"].get("tags", [])}, id=f"c{number}")
        if "injected-parameters" in cell["metadata"]["tags"]:
            cell["source"] = "".join(cell["source"]).replace("# Parameters\n", "")
        if cell["cell_type"] == "markdown":
            cell["source"] = _formulas("".join(cell["source"]))
        else:
            cell["execution_count"] = None
            outputs = [out for out in cell["outputs"] if not _is_progress(out)]
            cell["outputs"] = [_draw(out, f"f{number}-{k}") for k, out in enumerate(outputs)]
        cells.append(cell)
    return {**notebook, "cells": cells, "metadata": {}}


def _is_progress(output: Mapping[str, Any]) -> bool:
    """What a cell prints goes to the terminal; a report shows values, figures and prose."""
    return output["output_type"] == "stream"


def _draw(output: dict[str, Any], identity: str) -> dict[str, Any]:
    output = {**output, "metadata": {}}
    if "execution_count" in output:
        output["execution_count"] = None
    figure = output.get("data", {}).get(PLOTLY)
    if figure is not None:
        output["data"] = {"text/html": figure_html(figure, identity)}
    return output


def _formulas(text: str) -> str:
    """Replace `$…$` and `$$…$$` by MathML, which browsers draw without a script."""
    from latex2mathml.converter import convert

    text = re.sub(
        r"\$\$(.+?)\$\$", lambda m: convert(m[1].strip(), display="block"), text, flags=re.S
    )
    # as in Pandoc: no space inside the dollars, no digit after them, so that $5 and $10 are money
    return re.sub(r"(?<![\\$\w])\$(?! )([^$\n]+?)(?<! )\$(?!\d)", lambda m: convert(m[1]), text)


def provenance(name: str, values: Mapping[str, Any], root: Path) -> str:
    """What the report was made from: code revision, parameters, hashes of its inputs."""
    stage = find_stage(name, root)
    code = [path for path in stage.get("deps", []) if not path.startswith(("data/", "reports/"))]
    rows = [("code", revision(root, [*code, f"notebooks/{name}.ipynb"]))]
    rows += [(key, str(value)) for key, value in values.items()]
    rows += [(path, hash_path(root / path)) for path in _inputs(stage, values)]
    table = "".join(
        f"<tr><td>{html.escape(key)}</td><td>{html.escape(value)}</td></tr>" for key, value in rows
    )
    params = yaml.safe_load((root / "params.yaml").read_text())
    keys = [fill_matrix(key, values) for key in stage.get("params", [])]
    used = {key: reduce(dict.__getitem__, key.split("."), params) for key in keys}
    text = html.escape(yaml.safe_dump(used, sort_keys=False)) if used else "none"
    return (
        '<section class="provenance"><h2>Provenance</h2>'
        "<p>Revision of the last commit that touched this stage's code; MD5 of each input as in "
        f"<code>dvc.lock</code>.</p><table>{table}</table>"
        f"<details><summary>Parameters</summary><pre>{text}</pre></details></section>"
    )


def _inputs(stage: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
    paths = [fill_matrix(path, values) for path in stage.get("deps", [])]
    return [path for path in paths if path.startswith(("data/", "reports/metrics"))]
