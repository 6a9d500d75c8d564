"""Panels and alert rules ask for metrics and labels that the service exports."""

import json
import re

import pytest
import yaml

from hftlib.live.metrics_http import PAPER, Metrics
from tests.conftest import ROOT

DEPLOY = ROOT / "deploy"
BOARD = json.loads((DEPLOY / "grafana/dashboards/hftlib.json").read_text())
RULES = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"][0]["rules"]
PANELS = {
    f"{panel['title']}-{target['refId']}": target["expr"]
    for panel in BOARD["panels"]
    for target in panel["targets"]
}
QUERIES = PANELS | {rule["alert"]: rule["expr"] for rule in RULES}
OF_PROMETHEUS = {"job", "instance", "le"}


def exported() -> set[str]:
    """Names of all series, also of those without a value yet."""
    kinds = re.findall(r"^# TYPE (\w+) (\w+)$", Metrics().text().decode(), flags=re.M)
    found = {name for name, kind in kinds if kind != "histogram"}
    for name, kind in kinds:
        if kind == "histogram":
            found |= {f"{name}_{part}" for part in ("bucket", "sum", "count")}
    return found


def labels() -> set[str]:
    """Names of all labels."""
    collectors = vars(Metrics()).values()
    return {name for one in collectors for name in getattr(one, "_labelnames", ())}


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_names_what_is_exported(name):
    query = QUERIES[name]
    asked = set(re.findall(r"\bhftlib_\w+", query))
    assert asked or query.startswith("up{"), query
    assert asked <= exported()
    used = set(re.findall(r"(\w+)\s*(?:=~|!=|=(?!=))\s*\"", query))
    for grouped in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", query):
        used |= {label.strip() for label in grouped.split(",")}
    assert used <= labels() | OF_PROMETHEUS


@pytest.mark.parametrize("name", QUERIES)
def test_brackets_of_a_query_are_balanced(name):
    opened = []
    for character in re.sub(r'"[^"]*"', "", QUERIES[name]):
        if character in "([{":
            opened.append(character)
        elif character in ")]}":
            assert opened, QUERIES[name]
            assert opened.pop() + character in ("()", "[]", "{}")
    assert not opened


def test_every_metric_is_shown_somewhere():
    """But for those that the client library adds by itself."""
    families = set(re.findall(r"^# TYPE (\w+) ", Metrics().text().decode(), flags=re.M))
    shown = " ".join(PANELS.values())
    for name in families:
        assert name.endswith("_created") or name in shown, name
    assert all(f"hftlib_{name}" in families for name in PAPER)


def test_a_counter_is_never_shown_without_its_rate():
    kinds = re.findall(r"^# TYPE (\w+) (\w+)$", Metrics().text().decode(), flags=re.M)
    for name, kind in kinds:
        for query in PANELS.values():
            if kind == "counter" and name in query:
                assert re.search(rf"(rate|increase)\({name}", query), query


def test_alerts_say_what_happened_and_what_to_do():
    for rule in RULES:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"].keys() == {"summary", "action"}
    about = {"ServiceDown", "NoModel", "SlowPredictions", "RequestsRefused", "PaperHalted"}
    assert about <= {rule["alert"] for rule in RULES}


def test_the_bound_of_the_latency_alert_is_a_bucket_s():
    """Within a bucket a quantile is a guess; at its edge it is exact."""
    from hftlib.live.metrics_http import LATENCY_S

    (bound,) = (float(r["expr"].split()[-1]) for r in RULES if r["alert"] == "SlowPredictions")
    assert bound in LATENCY_S


def test_panels_do_not_overlap_and_know_their_source():
    taken = set()
    source = yaml.safe_load(
        (DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text()
    )["datasources"][0]
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
        assert panel["description"]
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])


def test_grafana_finds_its_dashboard_and_prometheus():
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    mounts = {v["target"]: v["source"] for v in services["grafana"]["volumes"]}
    provider = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/hftlib.yaml").read_text())
    folder = provider["providers"][0]["options"]["path"]
    assert (DEPLOY / mounts[folder] / "hftlib.json").is_file()
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{folder}/hftlib.json"
    source = yaml.safe_load(
        (DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text()
    )["datasources"][0]
    host, port = re.fullmatch(r"http://(\w+):(\d+)", source["url"]).groups()
    assert services[host]["ports"] == [f"127.0.0.1:{port}:{port}"]
