"""The manifests for Kubernetes: what its schemas allow, and what Tollway knows."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import kubernetes_validate
import pytest
import yaml

from config.settings import load_settings
from tests.deploy.files import KUBERNETES, ROOT, check_command, check_settings, compose, manifest, manifests, rescale

ADDRESSES = {
    "TOLLWAY_REDIS_URL": "redis://valkey:6379/0",
    "TOLLWAY_POSTGRES_DSN": "postgresql://tollway@postgres/tollway",
}
"""What the secret has."""
WORKLOADS = (("StatefulSet", "tollway-engine"), ("Deployment", "tollway-api"))


@pytest.mark.parametrize(
    "found", [*manifests(), *rescale()], ids=lambda found: f"{found['kind']}: {found['metadata']['name']}"
)
def test_the_schemas_accept_each_object(found: dict[str, Any]) -> None:
    """Of the newest version that the validator knows, and nothing that they don't know."""
    kubernetes_validate.validate(found, kubernetes_validate.latest_version(), strict=True)


def test_all_files_are_applied() -> None:
    """The kustomization lists each."""
    kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    (labels,) = kustomization["labels"]
    assert labels["includeSelectors"], "pods of other applications are not meant"
    listed = kustomization["resources"]
    assert sorted([*listed, "kustomization.yaml"]) == sorted(path.name for path in KUBERNETES.glob("*.yaml"))


def container(kind: str, name: str) -> dict[str, Any]:
    """The one container of a workload."""
    (found,) = manifest(kind, name)["spec"]["template"]["spec"]["containers"]
    return dict(found)


def test_settings_and_commands_exist() -> None:
    """So that no part stops at its start."""
    data = manifest("ConfigMap", "tollway-settings")["data"]
    check_settings({name: value for name, value in data.items() if name != "ADDRESSES"} | ADDRESSES)
    for workload in WORKLOADS:
        check_command(container(*workload)["args"])


def test_kubernetes_sets_no_variables_of_its_own() -> None:
    """For a service `tollway-api` it would set TOLLWAY_API_PORT, and others that are no settings and stop the start."""
    for workload in WORKLOADS:
        assert manifest(*workload)["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_each_process_has_an_address() -> None:
    """As many as there are replicas, by the names that the service gives them, at the port that peers may call."""
    engine, data = manifest("StatefulSet", "tollway-engine"), manifest("ConfigMap", "tollway-settings")["data"]
    service = manifest("Service", "tollway-engine")
    name, size = engine["metadata"]["name"], engine["spec"]["replicas"]
    assert engine["spec"]["serviceName"] == service["metadata"]["name"]
    (port,) = (found["port"] for found in service["spec"]["ports"] if found["name"] == "peers")
    wanted = [f"{name}-{number}.{service['metadata']['name']}:{port}" for number in range(size)]
    assert data["ADDRESSES"].split(",") == wanted
    assert size <= load_settings({}).recovery_partitions


def test_a_process_waits_until_all_names_are_known() -> None:
    """One that can't find its own name would end, and be started again ever later."""
    (names,) = manifest("StatefulSet", "tollway-engine")["spec"]["template"]["spec"]["initContainers"]
    command = [sys.executable, *names["command"][1:], *names["args"]]
    subprocess.run(command, env={"ADDRESSES": "localhost:2101,127.0.0.1:2101"}, check=True, timeout=20)
    with subprocess.Popen(command, env={"ADDRESSES": "nobody.invalid:2101"}, stdout=subprocess.PIPE) as waiting:
        try:
            assert waiting.stdout is not None
            assert waiting.stdout.readline().startswith(b"nobody.invalid: ")
            assert waiting.poll() is None
        finally:
            waiting.kill()


def test_two_releases_never_run_in_one_cluster() -> None:
    """New pods are made when the old ones were ended, and all at once."""
    found = manifest("StatefulSet", "tollway-engine")["spec"]
    assert found["updateStrategy"] == {"type": "OnDelete"}
    assert found["podManagementPolicy"] == "Parallel"


def test_moving_has_the_volumes_of_all_processes() -> None:
    """By the names that the StatefulSet gives them; the image and the user are the dataflow's."""
    engine = manifest("StatefulSet", "tollway-engine")["spec"]
    (claims,) = engine["volumeClaimTemplates"]
    settings, volume, job = rescale()
    size = int(settings["data"]["PROCESSES"])
    names = [f"{claims['metadata']['name']}-tollway-engine-{number}" for number in range(size)]
    pod = job["spec"]["template"]["spec"]
    mounted = [found["persistentVolumeClaim"]["claimName"] for found in pod["volumes"][1:]]
    assert mounted == names
    assert [found["mountPath"] for found in pod["containers"][0]["volumeMounts"][1:]] == [
        f"/homes/{number}" for number in range(size)
    ]
    assert (volume["metadata"]["name"], volume["spec"]) == (names[-1], claims["spec"])
    assert pod["containers"][0]["image"] == container("StatefulSet", "tollway-engine")["image"]
    assert pod["securityContext"] == engine["template"]["spec"]["securityContext"]


def test_ports_agree() -> None:
    """What listens, what is probed, and what may be called."""
    data = manifest("ConfigMap", "tollway-settings")["data"]
    ports = {port["name"]: port["containerPort"] for port in container("StatefulSet", "tollway-engine")["ports"]}
    assert str(ports["metrics"]) == data["TOLLWAY_METRICS_PORT"]
    (http,) = container("Deployment", "tollway-api")["ports"]
    assert str(http["containerPort"]) == data["TOLLWAY_API_PORT"]
    allowed = {
        port["port"]
        for name in ("tollway-engine", "tollway-api")
        for rule in manifest("NetworkPolicy", name)["spec"]["ingress"]
        for port in rule["ports"]
    }
    assert allowed == {*ports.values(), http["containerPort"]}


def test_nothing_runs_as_root_or_writes_outside_its_volumes() -> None:
    """And the image is the one that compose builds."""
    for workload in WORKLOADS:
        assert manifest(*workload)["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"] is True
        found = container(*workload)
        assert found["securityContext"]["readOnlyRootFilesystem"] is True
        assert found["image"] == compose()["engine"]["image"]


def test_prometheus_finds_the_pods() -> None:
    """By the labels and the ports that they have."""
    config = yaml.safe_load((ROOT / "config" / "prometheus" / "kubernetes.yml").read_text())
    for job, workload in zip(config["scrape_configs"], WORKLOADS, strict=True):
        (found,) = job["kubernetes_sd_configs"][0]["selectors"]
        kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
        (name, value), *_ = kustomization["labels"][0]["pairs"].items()
        assert found["label"] == f"{name}={value}"
        component, port = job["relabel_configs"][0]["regex"].split(";")
        labels = manifest(*workload)["spec"]["template"]["metadata"]["labels"]
        assert labels["app.kubernetes.io/component"] == component
        assert port in [one["name"] for one in container(*workload)["ports"]]
