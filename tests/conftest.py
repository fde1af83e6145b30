"""Real servers for the tests: one home for the whole session, an empty state for each test that asks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
import redis
from msgspec import Struct

from config.settings import Settings
from sinks.postgres.migrate import migrate
from tollway.embedded import Endpoints, servers

TEMPLATE = "template_migrated"
_numbers = count(1)


class Stores(Struct, frozen=True):
    """An empty Valkey and a migrated, empty database. The settings name them and a home of the test's own."""

    redis_url: str
    postgres_dsn: str
    settings: Settings


def _dsn_of(endpoints: Endpoints, database: str) -> str:
    return psycopg.conninfo.make_conninfo(endpoints.postgres_dsn, dbname=database)


@pytest.fixture(scope="session")
def servers_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    """The servers that all tests of the session share, with a migrated database to copy from."""
    home = tmp_path_factory.mktemp("home")
    with servers(Settings(home=home)) as endpoints:
        with psycopg.connect(endpoints.postgres_dsn, autocommit=True) as connection:
            connection.execute(f"create database {TEMPLATE}".encode())
        migrate(_dsn_of(endpoints, TEMPLATE))
        yield endpoints
    shutil.rmtree(home)


@pytest.fixture
def stores(servers_session: Endpoints, tmp_path: Path) -> Iterator[Stores]:
    """Stores with nothing in them. The database is dropped after the test, with what is still connected."""
    database = f"test_{next(_numbers)}"
    with redis.Redis.from_url(servers_session.redis_url) as client:
        client.flushall()
        client.function_flush()
    with psycopg.connect(servers_session.postgres_dsn, autocommit=True) as connection:
        connection.execute(f"create database {database} template {TEMPLATE}".encode())
        dsn = _dsn_of(servers_session, database)
        yield Stores(
            redis_url=servers_session.redis_url,
            postgres_dsn=dsn,
            settings=Settings(home=tmp_path, redis_url=servers_session.redis_url, postgres_dsn=dsn),
        )
        connection.execute(f"drop database {database} with (force)".encode())
