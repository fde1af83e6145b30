"""`tollway up` serves the HTTP API beside the dataflow: as a process of its own that never outlives it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from tests.api.service import NO_TLS
from tests.e2e.command import ROOT, Home, wait_for
from tests.waiting import PATIENCE_SECONDS
from tollway.commands import serving

CATALOG = str(ROOT / "config" / "catalog" / "demo.yaml")
LISTENS = re.compile(r"The API listens on (http://127\.0\.0\.1:\d+);")
EVENT = {
    "specversion": "1.0",
    "id": "1",
    "source": "test",
    "type": "prompt",
    "subject": "acme-gateway",
    "data": {"input_tokens": 0, "output_tokens": 1_000_000},
}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home whose API listens on any free port."""
    return Home(tmp_path / "home", {"TOLLWAY_API_PORT": "0"})


@contextmanager
def up(home: Home) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`tollway up`, and where its API is."""
    with home.up("up") as process:
        found = LISTENS.search(home.log().read_text())
        assert found is not None, home.log().read_text()
        yield process, found[1]


def children(pid: int) -> list[int]:
    """The processes that a process started, and those that these did."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid:
            found += [int(path.parent.name), *children(int(path.parent.name))]
    return found


def of_the_api(pid: int) -> list[int]:
    """The processes of the API that `up` started."""
    named = [(child, Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")) for child in children(pid)]
    (api,) = (child for child, words in named if b"api" in words)
    return [api, *children(api)]


def runs(pid: int) -> bool:
    """Whether a process is there, and not just waiting to be counted."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", verify=NO_TLS).status_code == 200
    except httpx.TransportError:
        return False


def test_what_is_sent_over_http_is_rated_and_all_of_it_ends_together(home: Home) -> None:
    """The address is said before the dataflow runs; SIGTERM ends both with code 0 and leaves no process."""
    with up(home) as (process, url):
        home.ok("apply", CATALOG)
        assert httpx.post(f"{url}/api/v1/events", json=EVENT).status_code == 204

        def live() -> Decimal | None:
            answer = httpx.get(f"{url}/api/v3/tollway/customers/acme/account", verify=NO_TLS)
            return Decimal(answer.json()["balance"]["live"]) if answer.status_code == 200 else None

        wait_for(lambda: live() == 8, "the balance after 12 USD of usage")
        served = of_the_api(process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0
        assert not any(map(runs, served))
    log = home.log().read_text()
    assert "WARNING: the API asks for no key" in log
    assert log.index("The API stopped") < log.index("Stopped: everything read is in the ledger.")
    assert "Traceback" not in log


def test_the_api_ends_when_up_is_killed(home: Home) -> None:
    """SIGKILL lets `up` say nothing to anybody: the API notices, ends, and stops the servers it was the last to use."""
    with up(home) as (process, url):
        served = of_the_api(process.pid)
        process.kill()
        process.wait()
        wait_for(lambda: not answers(url), "the API to stop listening")
        wait_for(lambda: not any(map(runs, served)), "the end of the API's processes")
    wait_for(lambda: "No embedded server was running." in home.here("down").err, "the end of the servers")


def test_up_ends_and_says_why_when_the_api_dies(home: Home) -> None:
    """What was read is in the ledger; the exit code is that of a server that went away."""
    with up(home) as (process, _):
        os.kill(of_the_api(process.pid)[0], signal.SIGKILL)
        assert process.wait(PATIENCE_SECONDS) == 3
    log = home.log().read_text()
    assert "error: the HTTP API ended with code -9" in log
    assert "hint:" in log
    assert "Traceback" not in log


def test_a_worker_that_dies_is_started_again(home: Home) -> None:
    """The dataflow does not notice."""
    with up(home) as (process, url):
        api, *others = of_the_api(process.pid)
        workers = [pid for pid in others if b"--multiprocessing-fork" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not any(map(runs, workers)), "the end of the worker")
        wait_for(lambda: answers(url), "another worker")
        assert of_the_api(process.pid)[0] == api


def test_a_port_that_is_taken_stops_the_start_and_names_the_setting(tmp_path: Path) -> None:
    """Somebody else listens there, or another Tollway does: exit code 2; without the API it starts."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        home = Home(tmp_path / "home", {"TOLLWAY_API_PORT": str(taken.getsockname()[1])})
        refused = home.run("up")
        assert refused.code == 2
        assert "`TOLLWAY_API_PORT`" in refused.err
        assert "hint: name a free port" in refused.err
        assert not home.path.exists(), "it is looked at before any server is started"
        with home.up("up", "--no-api"):
            assert "The API listens" not in home.log().read_text()

    first = Home(tmp_path / "first", {"TOLLWAY_API_PORT": "0"})
    with up(first) as (_, url):
        second = Home(tmp_path / "second", {"TOLLWAY_API_PORT": url.rpartition(":")[2]})
        started = time.monotonic()
        assert second.run("up").code == 2
        assert time.monotonic() - started > serving.POLL_SECONDS
        assert answers(url)


def test_a_port_of_metrics_that_is_taken_stops_the_start_before_any_server(tmp_path: Path) -> None:
    """It is named, and no home is made."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        home = Home(tmp_path / "home", {"TOLLWAY_METRICS_PORT": str(taken.getsockname()[1])})
        refused = home.run("up", "--no-api")
    assert refused.code == 2
    assert "`TOLLWAY_METRICS_PORT`" in refused.err
    assert not home.path.exists()


def test_missing_keys_are_told_before_the_dataflow_starts(tmp_path: Path) -> None:
    """By `up` itself, as what has to be set right first, and not by the API's process that ends."""
    home = Home(tmp_path / "home", {"TOLLWAY_API_PORT": "0", "TOLLWAY_API_KEYS": "required"})
    refused = home.run("up")
    assert refused.code == 2
    assert "error: The API needs an API key" in refused.err
    assert "hint: make one with `tollway key create" in refused.err
    assert "HTTP API ended" not in refused.err


def test_a_bad_setting_of_the_api_stops_the_start_of_up(tmp_path: Path) -> None:
    """Before any server is started."""
    home = Home(tmp_path / "home", {"TOLLWAY_API_WORKERS": "0"})
    refused = home.run("up")
    assert refused.code == 2
    assert "`TOLLWAY_API_WORKERS`: expected `int` from 1 to 64, got `0`" in refused.err
    assert not home.path.exists()
