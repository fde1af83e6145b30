"""Reading the files of a deployment."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from config.api import load_api_settings
from config.kafka import load_kafka
from config.settings import load_settings

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
KUBERNETES = ROOT / "deploy" / "kubernetes"
SECRETS = {"POSTGRES_PASSWORD": "one", "VALKEY_PASSWORD": "two", "GRAFANA_PASSWORD": "three"}


def compose() -> dict[str, Any]:
    """The services by name, with secrets put in."""
    text = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: SECRETS[found[1]], COMPOSE.read_text())
    return dict(yaml.safe_load(text)["services"])


def manifests() -> Iterator[dict[str, Any]]:
    """All objects for Kubernetes."""
    for path in sorted(KUBERNETES.glob("*.yaml")):
        yield from (found for found in yaml.safe_load_all(path.read_text()) if found["kind"] != "Kustomization")


def rescale() -> list[dict[str, Any]]:
    """The objects that move the recovery partitions."""
    return list(yaml.safe_load_all((KUBERNETES / "rescale" / "move.yaml").read_text()))


def manifest(kind: str, name: str) -> dict[str, Any]:
    """One object for Kubernetes."""
    (found,) = (one for one in manifests() if (one["kind"], one["metadata"]["name"]) == (kind, name))
    return found


def check_settings(variables: dict[str, str]) -> None:
    """Every variable is a setting, and its value one that the setting may have."""
    assert all(isinstance(value, str) for value in variables.values()), variables
    load_settings(variables)
    load_api_settings(variables)
    load_kafka(variables)


def check_command(arguments: list[str]) -> None:
    """The command line knows the command and its options."""
    ended = subprocess.run(
        [sys.executable, "-m", "tollway", *arguments, "--help"], cwd=ROOT, capture_output=True, check=False
    )
    assert ended.returncode == 0, ended.stderr.decode()
    told = ended.stdout.decode()
    assert all(option in told for option in arguments if option.startswith("--")), (arguments, told)
