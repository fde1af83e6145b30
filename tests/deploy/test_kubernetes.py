"""The manifests for Kubernetes: what its schemas allow, and what Tollway knows."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest
import yaml

from config.settings import load_settings
from tests.deploy.files import KUBERNETES, ROOT, check_command, check_settings, compose, manifest, manifests

ADDRESSES = {
    "TOLLWAY_REDIS_URL": "redis://valkey:6379/0",
    "TOLLWAY_POSTGRES_DSN": "postgresql://tollway@postgres/tollway",
}
"""What the secret has."""
WORKLOADS = (("StatefulSet", "tollway-engine"), ("Deployment", "tollway-api"))


@pytest.mark.parametrize("found", list(manifests()), ids=lambda found: f"{found['kind']}: {found['metadata']['name']}")
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
