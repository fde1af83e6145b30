"""
A real Prometheus for tests: the programs on the path, else those of Debian's package, unpacked into a cache folder.

Nothing is installed. Later runs use the cache again.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from msgspec import Struct

from tests.waiting import wait_for

PROGRAMS = ("prometheus", "promtool")
FETCH_SECONDS = 120.0


class PrometheusUnavailable(Exception):
    """No Prometheus can be had here; the message says why."""


def programs() -> Path:
    """
    The folder that has `prometheus` and `promtool`.

    Raises:
        PrometheusUnavailable: They are not on the path, and there is no `apt-get`, or it could not get them.
    """
    found = [shutil.which(name) for name in PROGRAMS]
    if found[0] and found[1] and Path(found[0]).parent == Path(found[1]).parent:
        return Path(found[0]).parent
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise PrometheusUnavailable(f"neither Prometheus nor `{program}`, to get it, is on the path")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tollway-tests"
    cache.mkdir(parents=True, exist_ok=True)
    target = cache / "prometheus"
    with (cache / "prometheus.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            _fetch(target)
    return target / "usr" / "bin"


def _fetch(target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        folder = Path(name)
        _run("apt-get", "download", "prometheus", folder=folder)
        (package,) = folder.glob("prometheus_*.deb")
        _run("dpkg-deb", "-x", str(package), str(folder / "unpacked"), folder=folder)
        (folder / "unpacked").rename(target)


def _run(*command: str, folder: Path) -> None:
    try:
        ended = subprocess.run(command, cwd=folder, capture_output=True, timeout=FETCH_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise PrometheusUnavailable(f"`{' '.join(command[:2])}` took longer than {FETCH_SECONDS:.0f} s") from None
    if ended.returncode:
        said = ended.stderr.decode(errors="replace").strip().splitlines()
        raise PrometheusUnavailable(f"`{' '.join(command)}` failed: {said[-1] if said else 'no reason'}")


class Prometheus(Struct, frozen=True):
    """A running Prometheus."""

    client: httpx.Client

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression comes to now; one that it can't read fails the test."""
        answer = self.client.get("/api/v1/query", params={"query": expression})
        found = answer.json()
        assert answer.status_code == 200, f"{expression}\n{found.get('error')}"
        assert found["data"]["resultType"] in ("vector", "scalar"), expression
        result = found["data"]["result"]
        return result if found["data"]["resultType"] == "vector" else [{"metric": {}, "value": result}]

    def values(self, expression: str) -> list[float]:
        """Only the numbers."""
        return [float(series["value"][1]) for series in self.ask(expression)]

    def get(self, path: str) -> Any:
        """What it says of itself."""
        return self.client.get(path).json()["data"]


@contextmanager
def prometheus(binaries: Path, config: Path, folder: Path, port: int) -> Iterator[Prometheus]:
    """Run it on a configuration, with its data in a folder."""
    log = folder / "prometheus.log"
    command = [
        str(binaries / "prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
    started = Prometheus(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10, trust_env=False))
    try:
        wait_for(lambda: _ready(started) or process.poll() is not None, "Prometheus")
        assert process.poll() is None, log.read_text()
        yield started
    finally:
        started.client.close()
        process.terminate()
        process.wait()


def _ready(found: Prometheus) -> bool:
    try:
        return found.client.get("/-/ready").status_code == 200
    except httpx.TransportError:
        return False
