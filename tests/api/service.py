"""The API as a process on a free port, and a client for it."""

from __future__ import annotations

import os
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from msgspec import Struct

from tests.conftest import Stores
from tests.waiting import PATIENCE_SECONDS, wait_for

LISTENS = re.compile(r"The API listens on (?:all addresses, port \d+ \(on this machine )?(http://127\.0\.0\.1:\d+)\)?;")
START = "from tollway.commands.api import api; api()"

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients of plain HTTP: without it each new one reads all certificates of the machine, which takes 30 ms."""


class Service(Struct, frozen=True):
    """A running API."""

    url: str
    process: subprocess.Popen[bytes]

    def call(self, method: str, path: str, body: Any = None, **parameters: str) -> httpx.Response:
        """A request with a JSON body, on a connection of its own."""
        url = f"{self.url}{path}"
        return httpx.request(method, url, json=body, params=parameters, timeout=PATIENCE_SECONDS, verify=NO_TLS)

    def get(self, path: str, **parameters: str) -> Any:
        """The JSON of an answer that has to be 200."""
        found = self.call("GET", path, **parameters)
        assert found.status_code == 200, found.text
        return found.json()

    def post(self, path: str, body: Any = None, code: int = 201) -> Any:
        """The JSON of an answer that has to have a code."""
        found = self.call("POST", path, body)
        assert found.status_code == code, found.text
        return found.json() if found.content else None


@contextmanager
def api_process(stores: Stores, **environment: str) -> Iterator[Service]:
    """
    The API as a process of its own, on any port; killed at the end if it still runs.

    A request has as long as a test has patience, so that no busy machine ends it; tests of the timeout set a short one.
    """
    variables = {name: value for name, value in os.environ.items() if not name.startswith("TOLLWAY_")}
    variables |= {
        "TOLLWAY_HOME": str(stores.settings.home),
        "TOLLWAY_REDIS_URL": stores.redis_url,
        "TOLLWAY_POSTGRES_DSN": stores.postgres_dsn,
        "TOLLWAY_API_PORT": "0",
        "TOLLWAY_API_TIMEOUT_SECONDS": str(int(PATIENCE_SECONDS)),
        "TOLLWAY_API_REST_SECONDS": str(int(PATIENCE_SECONDS)),
        **environment,
    }
    log = stores.settings.home / "api.log"
    with log.open("ab") as out:
        before = out.tell()
        process = subprocess.Popen([sys.executable, "-c", START], stdout=out, stderr=out, env=variables)

    def said() -> str:
        return log.read_bytes()[before:].decode()

    try:
        wait_for(lambda: LISTENS.search(said()) or process.poll() is not None, "the API")
        found = LISTENS.search(said())
        assert found is not None, said()
        service = Service(found[1], process)
        assert service.call("GET", "/healthz").status_code == 200
        yield service
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        assert "not foreseen" not in said(), said()
        assert "Traceback" not in said(), said()
