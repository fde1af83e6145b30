"""Real servers for the tests: one home for each worker, an empty state for each test that asks."""

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
from tests.repeats import repeats
from tollway.embedded import Endpoints, servers

# The same examples each time, so that a change is all that can break a test; `make explore` looks for new ones.
settings.register_profile("repeatable", derandomize=True, max_examples=repeats(100))
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


WORKERS_PER_CORE = 2
"""Most tests that start processes wait for them half of the time."""

SHARED = {"own_broker": "kafka", "bootstrap": "kafka", "live_runs": "cases"}
"""By fixture: what is made once for all tests that use it, in whichever module."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """So many workers share the tests with `-n auto`."""
    return WORKERS_PER_CORE * (os.cpu_count() or 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is made for several tests is made once: where workers share the tests, those stay with one of them."""
    for item in items:
        if (group := _group(item)) is not None:
            item.add_marker(pytest.mark.xdist_group(group))


def _group(item: pytest.Item) -> str | None:
    """The tests of a module that share a fixture, and those of all modules that share what takes long to start."""
    fixtures = item._fixtureinfo if isinstance(item, pytest.Function) else None  # no public name has them
    if fixtures is None:
        return None
    for name, group in SHARED.items():
        if name in fixtures.names_closure:
            return group
    scopes = {found[-1].scope for found in fixtures.name2fixturedefs.values() if found}
    return item.nodeid.partition("::")[0] if "module" in scopes else None


@pytest.fixture(scope="session")
def servers_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    """The servers that all tests of a worker share."""
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
