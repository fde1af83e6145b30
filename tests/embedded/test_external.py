"""Servers that are named in the settings are used as given, and never named with a password."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from config.settings import Settings
from tests.conftest import Stores
from tollway.embedded import Endpoints, ServerError, servers, status


def test_named_servers_are_used_as_given(stores: Stores) -> None:
    """With both servers named nothing is started, and no folder is made."""
    home = stores.settings.home / "home"
    settings = Settings(home=home, redis_url=stores.redis_url, postgres_dsn=stores.postgres_dsn)
    with servers(settings) as endpoints:
        assert endpoints == Endpoints(stores.redis_url, stores.postgres_dsn, frozenset())
    assert not home.exists()


def test_only_what_is_not_named_is_started(stores: Stores) -> None:
    """With PostgreSQL named, Valkey alone is started."""
    home = stores.settings.home / "home"
    with servers(Settings(home=home, postgres_dsn=stores.postgres_dsn)) as endpoints:
        assert endpoints.postgres_dsn == stores.postgres_dsn
        assert endpoints.embedded == {"redis"}
        assert [server.state for server in status(home).servers] == ["running", "stopped"]


@pytest.mark.parametrize(
    ("redis_url", "reason"),
    [
        ("redis://:hunter2@127.0.0.1:1/0", "the connection was refused"),
        ("redis://:hunter2@no-such-host.invalid/0", "its host name is not known"),
        ("unix://:hunter2@/nowhere/redis.sock", "its socket does not exist"),
        ("redis://:hunt/er2@127.0.0.1", "the address could not be used"),
    ],
)
def test_a_redis_that_can_not_be_reached_is_told_without_its_address(
    tmp_path: Path, redis_url: str, reason: str
) -> None:
    """The message says which setting and why, not what is in it, and so does the traceback."""
    with pytest.raises(ServerError) as caught, servers(Settings(home=tmp_path, redis_url=redis_url)):
        pytest.fail("there is no such server")
    assert str(caught.value).startswith(f"Can't use the Redis of `TOLLWAY_REDIS_URL`: {reason}\nhint: ")
    assert "er2" not in "".join(traceback.format_exception(caught.value, limit=0))


@pytest.mark.parametrize(
    ("postgres_dsn", "reason"),
    [
        ("postgresql://u:hunter2@127.0.0.1:1/x", "the connection was refused"),
        ("host=127.0.0.1 port=1 password=hunter2", "the connection was refused"),
        ("postgresql://u:hunter2@no-such-host.invalid/x", "its host name is not known"),
        ("postgresql://u:hunt/er2@127.0.0.1/x", "its host name is not known"),  # it is read as `u`
        ("host=127.0.0.1 password=hunt er2", "the address could not be used"),
    ],
)
def test_a_postgresql_that_can_not_be_reached_is_told_without_its_address(
    tmp_path: Path, postgres_dsn: str, reason: str
) -> None:
    """The message says which setting and why, not what is in it, and so does the traceback."""
    with pytest.raises(ServerError) as caught, servers(Settings(home=tmp_path, postgres_dsn=postgres_dsn)):
        pytest.fail("there is no such server")
    assert str(caught.value).startswith(f"Can't use the PostgreSQL of `TOLLWAY_POSTGRES_DSN`: {reason}\nhint: ")
    assert "er2" not in "".join(traceback.format_exception(caught.value, limit=0))


def test_a_wrong_password_is_told_as_that(stores: Stores) -> None:
    """The reason a server gives is passed on in our words."""
    wrong = stores.postgres_dsn.replace("password=", "password=wrong")
    with pytest.raises(ServerError, match="did not accept the user and the password"):
        servers(Settings(redis_url=stores.redis_url, postgres_dsn=wrong)).__enter__()
    wrong = stores.redis_url.replace("redis://:", "redis://:wrong")
    with pytest.raises(ServerError, match="did not accept the user and the password"):
        servers(Settings(redis_url=wrong, postgres_dsn=stores.postgres_dsn)).__enter__()
