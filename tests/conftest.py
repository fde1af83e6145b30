"""Real servers for the tests: one home for the whole session, an empty state for each test that asks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import settings
from msgspec import Struct

import rating.intake
from config.settings import Settings
from tests.databases import Databases
from tollway.embedded import Endpoints, servers

# The same examples each time, so that a change is all that can break a test; `make explore` looks for new ones.
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("explore")
settings.load_profile("repeatable")

# Each fold by a lane is checked against the slow way, here and in the processes that tests start.
rating.intake.LANE_CHECK_EVENTS = 1
os.environ["TOLLWAY_LANE_CHECK_EVENTS"] = "1"


class Stores(Struct, frozen=True):
    """An empty Valkey and a migrated, empty database. The settings name them and a home of the test's own."""

    redis_url: str
    postgres_dsn: str
    settings: Settings


@pytest.fixture(scope="session")
def servers_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    """The servers that all tests of the session share."""
    home = tmp_path_factory.mktemp("home")
    with servers(Settings(home=home)) as endpoints:
        yield endpoints
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def databases(servers_session: Endpoints) -> Databases:
    """Databases on the shared server."""
    return Databases(servers_session.postgres_dsn)


@pytest.fixture
def stores(servers_session: Endpoints, databases: Databases, tmp_path: Path) -> Iterator[Stores]:
    """Stores with nothing in them. After the test, whatever is still connected to the database is cut off."""
    with redis.Redis.from_url(servers_session.redis_url) as client:
        client.flushall()
        client.function_flush()
    with databases.lent() as dsn:
        yield Stores(
            redis_url=servers_session.redis_url,
            postgres_dsn=dsn,
            settings=Settings(home=tmp_path, redis_url=servers_session.redis_url, postgres_dsn=dsn),
        )
