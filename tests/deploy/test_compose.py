"""The compose file: all parts in containers, each told what it really knows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import Stores
from tests.deploy.files import COMPOSE, ROOT, SECRETS, check_command, check_settings, compose
from tests.engine_runs import query

OURS = [name for name, service in compose().items() if service["image"].startswith("tollway:")]


def checker() -> list[str] | None:
    """What checks a compose file on this machine."""
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    if shutil.which("docker"):
        found = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        return ["docker", "compose"] if found.returncode == 0 else None
    return None


def test_compose_accepts_the_file(tmp_path: Path) -> None:
    """With the passwords of an env file, and not without them."""
    command = checker()
    if command is None:
        pytest.skip("neither `docker compose` nor `docker-compose` is installed")
    secrets = tmp_path / "env"
    for text, code in (("".join(f"{name}={value}\n" for name, value in SECRETS.items()), 0), ("", 1)):
        secrets.write_text(text)
        ended = subprocess.run(
            [*command, "--env-file", str(secrets), "-f", str(COMPOSE), "config", "-q"], capture_output=True, check=False
        )
        assert min(ended.returncode, 1) == code, ended.stderr.decode()


def test_the_example_names_each_secret() -> None:
    """And has none."""
    lines = [line for line in (ROOT / ".env.example").read_text().splitlines() if line and not line.startswith("#")]
    assert sorted(lines) == sorted(f"{name}=" for name in SECRETS)
    assert set(re.findall(r"\$\{(\w+):", COMPOSE.read_text())) == set(SECRETS)


@pytest.mark.parametrize("name", OURS)
def test_each_part_gets_settings_and_a_command_that_exist(name: str) -> None:
    """So that none of them stops at its start."""
    service = compose()[name]
    check_settings(service["environment"])
    if "entrypoint" not in service:
        check_command(service["command"])


def test_prometheus_gets_a_key_once(stores: Stores, tmp_path: Path) -> None:
    """What the service `keys` runs makes a key that only reads, and leaves it alone when it runs again."""
    service = compose()["keys"]
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "TOLLWAY_HOME": str(tmp_path),
        "TOLLWAY_REDIS_URL": stores.redis_url,
        "TOLLWAY_POSTGRES_DSN": stores.postgres_dsn,
    }
    found = []
    for _ in range(2):
        subprocess.run([*service["entrypoint"], *service["command"]], cwd=tmp_path, env=environment, check=True)
        found.append((tmp_path / "prometheus").read_text())
    assert found[0] == found[1] != ""
    assert query(stores, "select name, role from api_keys") == [("prometheus", "read")]
    (mounted,) = (volume for volume in compose()["prometheus"]["volumes"] if volume.startswith("keys:"))
    assert f"{mounted.split(':')[1]}/prometheus\n" in (ROOT / "config" / "prometheus" / "prometheus.yml").read_text()


def test_prometheus_looks_where_metrics_are() -> None:
    """At the port of each process of the dataflow, and at the API's."""
    services = compose()
    engine, api = yaml.safe_load((ROOT / "config" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    first, size = int(services["engine"]["environment"]["TOLLWAY_METRICS_PORT"]), int(services["engine"]["command"][-1])
    assert engine["static_configs"][0]["targets"] == [f"engine:{first + number}" for number in range(size)]
    assert api["static_configs"][0]["targets"] == [f"api:{services['api']['environment']['TOLLWAY_API_PORT']}"]


def test_images_have_a_version() -> None:
    """What runs is not what was newest on the day."""
    for name, service in compose().items():
        _, _, tag = service["image"].partition(":")
        assert re.search(r"[0-9]+\.[0-9]+", tag), name


def test_what_is_mounted_is_there() -> None:
    """Files of this checkout, and volumes that are declared."""
    volumes = {volume.split(":")[0] for service in compose().values() for volume in service.get("volumes", [])}
    declared = COMPOSE.read_text().rpartition("\nvolumes:\n")[2]
    for volume in volumes:
        assert (ROOT / volume).is_dir() if volume.startswith(".") else f"  {volume}:\n" in declared, volume


def test_each_part_is_watched_and_bound_to_this_machine() -> None:
    """All but what runs once have a health check; no port is open to the network."""
    for name, service in compose().items():
        assert "healthcheck" in service or service["restart"] == "no", name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


def test_the_event_log_is_kept_safe() -> None:
    """What ingest answered for is on disk, and is not evicted when memory is short."""
    command = " ".join(compose()["valkey"]["command"])
    assert "--appendonly yes --appendfsync always --maxmemory-policy noeviction" in command


def test_the_image_copies_what_is_there() -> None:
    """Each folder is in the image's context, which leaves all else out."""
    context = (ROOT / ".dockerignore").read_text().splitlines()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    names = [name for line in copied for name in line.split()]
    assert len(names) > 5
    for name in names:
        assert (ROOT / name).exists()
        assert f"!{name}" in context


def test_the_image_installs_what_the_tests_ran_with() -> None:
    """Its lock has no development tools, and the versions of the other one; each by its hash."""
    everything, run = (
        dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))
        for name in ("requirements.lock", "requirements-run.lock")
    )
    assert run.items() <= everything.items()
    assert "pytest" not in run
    assert "bytewax" in run
    text = (ROOT / "requirements-run.lock").read_text()
    assert text.count("==") <= text.count("--hash=sha256:")
    assert "://" not in text
