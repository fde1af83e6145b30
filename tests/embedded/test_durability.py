"""A server that may lose what it confirmed is not taken for one that keeps it, and nothing is started on it unasked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
import redis

from sinks.redis.durability import Durability, read_durability
from tests.conftest import Stores
from tests.waiting import PATIENCE_SECONDS
from tests.world import line

EVENT = {"specversion": "1.0", "id": "1", "source": "test", "type": "call", "subject": "acme"}
FAULTS = {
    "appendonly": ("no", "its append-only file is off"),
    "appendfsync": ("everysec", "`appendfsync` is `everysec`"),
    "maxmemory-policy": ("allkeys-lru", "`maxmemory-policy` is `allkeys-lru`"),
}


@contextmanager
def configured(stores: Stores, name: str, value: str) -> Iterator[None]:
    """The server with something of its configuration as it should not be."""
    with redis.Redis.from_url(stores.redis_url, decode_responses=True) as client:
        before = cast(Any, client.config_get(name))[name]
        client.config_set(name, value)
        try:
            yield
        finally:
            client.config_set(name, before)


def tollway(stores: Stores, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command on the stores."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("TOLLWAY_")}
    variables |= {
        "TOLLWAY_HOME": str(stores.settings.home),
        "TOLLWAY_REDIS_URL": stores.redis_url,
        "TOLLWAY_POSTGRES_DSN": stores.postgres_dsn,
        "TOLLWAY_API_PORT": "0",
        **environment,
    }
    command = [sys.executable, "-m", "tollway", *arguments]
    given = line(EVENT).decode()
    return subprocess.run(
        command, env=variables, input=given, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
    )


@pytest.mark.parametrize("name", FAULTS)
def test_nothing_starts_on_a_server_that_may_lose_events(stores: Stores, name: str) -> None:
    """`ingest`, `run`, `up` and `api` say what is wrong and what to do, and end with the code of a server."""
    value, said = FAULTS[name]
    with configured(stores, name, value):
        for command in (["ingest", "-"], ["run", "--drain"], ["up", "--drain"], ["run", "--processes", "1"], ["api"]):
            ended = tollway(stores, *command)
            assert ended.returncode == 3, (command, ended.stderr)
            told = " ".join(ended.stderr.split())
            assert said in told
            assert "TOLLWAY_LOG_DURABILITY" in told
        found = json.loads(tollway(stores, "doctor", "--json").stdout)
        (check,) = [one for one in found if one["check"] == "event log durability"]
        assert not check["ok"]
        assert said in check["found"]
    assert tollway(stores, "ingest", "-").returncode == 0


def test_the_setting_says_where_less_will_do(stores: Stores) -> None:
    """`everysec` takes such a server and no worse one, without a word; `warn` takes any and tells."""
    with configured(stores, "appendfsync", "everysec"):
        for setting, warned in (("everysec", False), ("warn", True)):
            ended = tollway(stores, "ingest", "-", TOLLWAY_LOG_DURABILITY=setting)
            assert ended.returncode == 0, ended.stderr
            assert ("WARNING: the event log's Redis may lose events" in ended.stderr) is warned
        found = json.loads(tollway(stores, "doctor", "--json", TOLLWAY_LOG_DURABILITY="everysec").stdout)
        assert [one["ok"] for one in found if one["check"] == "event log durability"] == [True]
    with configured(stores, "maxmemory-policy", "allkeys-lru"):
        assert tollway(stores, "ingest", "-", TOLLWAY_LOG_DURABILITY="everysec").returncode == 3
        assert tollway(stores, "ingest", "-", TOLLWAY_LOG_DURABILITY="warn").returncode == 0


def test_the_embedded_server_keeps_what_it_confirms(stores: Stores) -> None:
    """As `doctor` says, by all three."""
    with redis.Redis.from_url(stores.redis_url, decode_responses=True) as client:
        found = read_durability(client)
    assert found == Durability("yes", "always", "noeviction")
    assert found.faults() == found.untold == ()


def test_what_a_server_does_not_tell_is_asked_another_way(stores: Stores) -> None:
    """A user without `CONFIG`: the append-only file and the policy are in `INFO`; the rest is taken at its word."""
    with redis.Redis.from_url(stores.redis_url, decode_responses=True) as client:
        client.execute_command("ACL", "SETUSER", "plain", "on", ">secret", "+@all", "-config", "~*")
        try:
            address = f"redis://plain:secret@{stores.redis_url.partition('@')[2]}"
            with (
                configured(stores, "appendonly", "no"),
                redis.Redis.from_url(address, decode_responses=True) as asking,
            ):
                found = read_durability(asking)
        finally:
            client.execute_command("ACL", "DELUSER", "plain")
    assert found == Durability("no", None, "noeviction")
    assert found.untold == ("appendfsync",)
    assert "append-only file is off" in found.faults()[0]
