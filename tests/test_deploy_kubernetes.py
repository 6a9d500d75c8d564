"""Manifests: what they name exists, in them or in the code, and a pod has no rights to spare."""

import re

import pytest
import yaml

from hftlib import __version__
from hftlib.live.service import create_app
from hftlib.live.settings import TOKEN_FILE, ServiceSettings
from tests.conftest import ROOT
from tests.live_cases import FakeStore
from tests.test_deploy import SERVICES, UID, VARIABLES

FOLDER = ROOT / "deploy/kubernetes"
LISTED = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
MANIFESTS = [m for name in LISTED for m in yaml.safe_load_all((FOLDER / name).read_text())]


def find(kind, name="hftlib"):
    """The manifest of a kind and name."""
    (found,) = (m for m in MANIFESTS if m["kind"] == kind and m["metadata"]["name"] == name)
    return found


DEPLOYMENT = find("Deployment")["spec"]
POD = DEPLOYMENT["template"]["spec"]
(CONTAINER,) = POD["containers"]
SETTINGS = find("ConfigMap")["data"]
ENVIRONMENT = {entry["name"]: entry for entry in CONTAINER["env"]}
(PORT,) = CONTAINER["ports"]


def test_every_file_is_listed_and_of_a_kind_that_every_cluster_has():
    assert {path.name for path in FOLDER.iterdir()} == {*LISTED, "kustomization.yaml"}
    kinds = {manifest["kind"] for manifest in MANIFESTS}
    assert kinds == {
        "ConfigMap",
        "Deployment",
        "NetworkPolicy",
        "PersistentVolumeClaim",
        "Service",
    }, "neither a Secret with its value nor a kind that must be installed first"
    assert not any("namespace" in manifest["metadata"] for manifest in MANIFESTS)


def test_selectors_find_the_pod():
    labels = DEPLOYMENT["template"]["metadata"]["labels"]
    policy = find("NetworkPolicy")["spec"]
    for selector in (
        DEPLOYMENT["selector"]["matchLabels"],
        find("Service")["spec"]["selector"],
        policy["podSelector"]["matchLabels"],
    ):
        assert selector
        assert selector.items() <= labels.items()


def test_one_process_writes_the_state():
    assert DEPLOYMENT["replicas"] == 1
    assert DEPLOYMENT["strategy"] == {"type": "Recreate"}
    for manifest in MANIFESTS:
        if manifest["kind"] == "PersistentVolumeClaim":
            assert manifest["spec"]["accessModes"] == ["ReadWriteOnce"]


def test_the_pod_has_no_rights_to_spare():
    confined = CONTAINER["securityContext"]
    assert confined == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    outer = POD["securityContext"]
    assert outer["runAsNonRoot"] is True
    assert outer["runAsUser"] == outer["runAsGroup"] == outer["fsGroup"] == UID
    assert outer["seccompProfile"] == {"type": "RuntimeDefault"}
    assert POD["automountServiceAccountToken"] is False
    assert POD["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & POD.keys()
    assert {"requests", "limits"} == CONTAINER["resources"].keys()


def test_the_image_is_that_of_compose():
    assert CONTAINER["image"] == SERVICES["hftlib"]["image"] == f"hftlib:{__version__}"


def test_variables_are_settings_and_refer_to_earlier_ones():
    assert SETTINGS.keys() <= VARIABLES
    assert CONTAINER["envFrom"] == [{"configMapRef": {"name": "hftlib"}}]
    seen = set()
    for name, entry in ENVIRONMENT.items():
        referred = set(re.findall(r"\$\((\w+)\)", entry.get("value", "")))
        assert referred <= seen, f"{name} names a variable that is not set above it"
        seen.add(name)
    helpers = {name for name, entry in ENVIRONMENT.items() if "valueFrom" in entry}
    assert ENVIRONMENT.keys() - helpers <= VARIABLES
    values = {k: v for k, v in SETTINGS.items() if k != TOKEN_FILE}
    settings = ServiceSettings.from_environment(values | {"HFTLIB_TOKEN": "x" * 16})
    assert settings.host == "0.0.0.0"


def test_probes_and_scrapes_are_answered():
    """Kubelet and Prometheus address the pod by its number, which must be a served host."""
    paths = create_app(FakeStore()).openapi()["paths"]
    probes = {name: CONTAINER[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness")}
    probes["readiness"] = CONTAINER["readinessProbe"]["httpGet"]
    for probe in probes.values():
        assert probe["port"] == PORT["name"]
        assert "get" in paths[probe["path"]]
    assert (probes["liveness"]["path"], probes["readiness"]["path"]) == ("/health", "/ready")
    assert "$(POD_IP)" in ENVIRONMENT["HFTLIB_HOSTS"]["value"].split(",")
    assert find("Service")["metadata"]["name"] in ENVIRONMENT["HFTLIB_HOSTS"]["value"].split(",")
    notes = DEPLOYMENT["template"]["metadata"]["annotations"]
    assert notes["prometheus.io/path"] in paths
    assert notes["prometheus.io/port"] == SETTINGS["PORT"]


def test_ports_agree():
    (outer,) = find("Service")["spec"]["ports"]
    ((rule,),) = ([p for p in i["ports"]] for i in find("NetworkPolicy")["spec"]["ingress"])
    assert str(PORT["containerPort"]) == SETTINGS["PORT"]
    assert outer["targetPort"] == PORT["name"]
    assert rule["port"] == PORT["containerPort"]
    assert find("Service")["spec"]["type"] == "ClusterIP"
    assert find("NetworkPolicy")["spec"]["egress"] == []


@pytest.mark.parametrize("mount", CONTAINER["volumeMounts"], ids=lambda mount: mount["name"])
def test_what_is_mounted_exists(mount):
    (volume,) = (v for v in POD["volumes"] if v["name"] == mount["name"])
    if "persistentVolumeClaim" in volume:
        find("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])
        is_state = volume["name"] == "paper"
        assert mount.get("readOnly", False) is not is_state
    elif "secret" in volume:
        assert SETTINGS[TOKEN_FILE] == f"{mount['mountPath']}/token"
        assert mount["readOnly"] is True
        page = (ROOT / "docs/operations.md").read_text()
        assert f"create secret generic {volume['secret']['secretName']} " in page
    else:
        assert volume["emptyDir"]["sizeLimit"]


def test_paths_are_the_same_as_in_compose():
    mounted = [m["mountPath"] for m in CONTAINER["volumeMounts"] if "/srv/" in m["mountPath"]]
    for volume in SERVICES["hftlib"]["volumes"]:
        (place,) = (path for path in mounted if f"{volume['target']}/".startswith(f"{path}/"))
        mount = next(m for m in CONTAINER["volumeMounts"] if m["mountPath"] == place)
        assert mount.get("readOnly", False) is volume.get("read_only", False)
