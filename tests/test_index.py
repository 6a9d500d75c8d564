"""The front page: what is on it, that its links lead somewhere, that it is the same every time."""

import json
import re

import pandas as pd
import plotly.graph_objects as go
import pytest

from hftlib.report import write_index

DVC = """
stages:
  backtest:
    cmd: python -m hftlib.notebook run 51_backtest
  single_agent:
    matrix: {algo: [ppo, sac]}
    cmd: python -m hftlib.notebook run 41_single_agent algo=${item.algo}
"""


@pytest.fixture
def root(tmp_path):
    (tmp_path / "dvc.yaml").write_text(DVC)
    for name in ("params.yaml", "requirements.lock"):
        (tmp_path / name).write_text(name)
    folder = tmp_path / "reports/source"
    folder.mkdir(parents=True)
    for name in ("51_backtest", "41_single_agent"):
        cell = {"cell_type": "markdown", "source": [f"# {name}\n", "\n", f"> What of <{name}>?"]}
        (folder / f"{name}.ipynb").write_text(json.dumps({"cells": [cell]}))
    return tmp_path


def write(root):
    page = root / "reports/index.html"
    write_index(
        page,
        title="Results & more",
        abstract="<p>Nothing beats nothing.</p>",
        tables={"Headline": pd.DataFrame({"a": [1]}), "Order book": pd.DataFrame({"b": ["<x>"]})},
        figures={"equity": (go.Figure(), "A line.")},
        root=root,
    )
    return page.read_text()


def test_the_verdict_comes_first_and_every_report_has_its_question(root):
    page = write(root)
    places = ["Nothing beats nothing", "id='how-to-read-it'", "id='headline'", "id='reports'"]
    places += ["id='order-book'", "id='figures'", "A line.", "id='provenance'", "requirements.lock"]
    at = [page.index(place) for place in places]
    assert at == sorted(at)
    linked = re.findall(r'<td><a href="([^"]+)">.*?<td>(.*?)</td>', page)
    assert linked == [
        ("41_single_agent_ppo.html", "What of &lt;41_single_agent&gt;?"),
        ("41_single_agent_sac.html", "What of &lt;41_single_agent&gt;?"),
        ("51_backtest.html", "What of &lt;51_backtest&gt;?"),
    ]


def test_links_within_the_page_lead_somewhere(root):
    page = write(root)
    targets = re.findall(r'href="#([^"]+)"', page)
    assert len(targets) == 6
    assert all(f"id='{target}'" in page for target in targets)


def test_text_is_escaped_and_nothing_is_loaded_from_elsewhere(root):
    page = write(root)
    assert "<h1>Results &amp; more</h1>" in page
    assert "&lt;x&gt;" in page
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert not re.findall(r"""(?:src|href)=["']https?:""", own)


def test_the_same_results_give_the_same_bytes(root):
    assert write(root) == write(root)
