"""
A home folder and the processes that share its servers.

Each process that uses a home is a member for as long as it holds a shared lock on `members`. Members come
and go under the lock `start`; the one who then gets `members` for itself was the last, and stops the servers.
The kernel takes a killed member off the list, and servers without members are picked up by the next one.

    <home>/start      held while servers are started or stopped
    <home>/members    shared by those who use them
    <home>/valkey/    password, port, log and data; `alive` is held by the server itself
    <home>/postgres/  the same
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from msgspec import Struct

from config.settings import Settings
from tollway.embedded import locks
from tollway.embedded.external import check_postgres, check_redis
from tollway.embedded.postgres import postgres, postgres_dsn
from tollway.embedded.server import Report, Server, ServerError, ServerStatus, ensure, stop
from tollway.embedded.server import status as server_status
from tollway.embedded.valkey import redis_url, valkey

LOCK_SECONDS = 120.0


class Endpoints(Struct, frozen=True):
    """Where the stores are. `embedded` names those that run in the home: `redis`, `postgres`."""

    redis_url: str
    postgres_dsn: str
    embedded: frozenset[str]

    def __repr__(self) -> str:
        return f"Endpoints(embedded={sorted(self.embedded)})"


class HomeStatus(Struct, frozen=True):
    """A home, whether any process uses it, and how its servers are."""

    home: Path
    in_use: bool
    servers: tuple[ServerStatus, ...]


def _quiet(line: str) -> None:
    pass


@contextmanager
def servers(settings: Settings, *, report: Report = _quiet) -> Iterator[Endpoints]:
    """
    The stores to work with: those of the settings, and embedded ones for what the settings leave out.

    Embedded servers are shared by all processes of the same home. The first one starts them, the last one
    stops them. A server that died meanwhile is started again, on its port, by the next process that comes.

    Args:
        settings: `home`, `redis_url` and `postgres_dsn` count.
        report: Is told in one line what is started and stopped.

    Raises:
        ServerError: A store can't be reached or started.
    """
    if settings.redis_url is not None:
        check_redis(settings.redis_url)
    if settings.postgres_dsn is not None:
        check_postgres(settings.postgres_dsn)
    home = settings.home.absolute()
    wanted: dict[str, Server] = {}
    if settings.redis_url is None:
        wanted["redis"] = valkey(home)
    if settings.postgres_dsn is None:
        wanted["postgres"] = postgres(home)
    with _membership(home, list(wanted.values()), report):
        yield Endpoints(
            redis_url=settings.redis_url or redis_url(valkey(home).folder),
            postgres_dsn=settings.postgres_dsn or postgres_dsn(postgres(home).folder),
            embedded=frozenset(wanted),
        )


def stop_servers(home: Path, *, force: bool = False) -> bool:
    """
    Stop the embedded servers of a home that nobody uses.

    Args:
        home: The folder; it need not exist.
        force: Stop them under the processes that use them, too.

    Returns:
        Whether any server ran.

    Raises:
        ServerError: Another process uses them, or one can't be stopped.
    """
    home = home.absolute()
    if not home.is_dir():
        return False
    with _start_lock(home):
        if _has_members(home) and not force:
            raise ServerError(f"The servers in `{home}` are in use by another process\nhint: stop that process first")
        ran = [stop(server) for server in _servers_of(home)]
        return any(ran)


def status(home: Path) -> HomeStatus:
    """How the embedded servers of a home are, without starting or stopping any."""
    home = home.absolute()
    return HomeStatus(home, _in_use(home), tuple(server_status(server) for server in _servers_of(home)))


@contextmanager
def _membership(home: Path, wanted: list[Server], report: Report) -> Iterator[None]:
    if not wanted:
        yield
        return
    _make(home)
    members = locks.open_lock(home / "members")
    try:
        with _start_lock(home):
            locks.share(members)
            try:
                for server in wanted:
                    ensure(server, report)
            except BaseException:
                _stop_if_last(home, members, report)
                raise
        try:
            yield
        finally:
            with _start_lock(home):
                _stop_if_last(home, members, report)
    finally:
        os.close(members)


def _stop_if_last(home: Path, members: int, report: Report) -> None:
    """Stop the servers unless another process is a member. The membership ends either way."""
    if locks.try_exclusive(members):
        for server in _servers_of(home):
            if stop(server):
                report(f"{server.name} stopped")


def _servers_of(home: Path) -> tuple[Server, Server]:
    return valkey(home), postgres(home)


def _in_use(home: Path) -> bool:
    if not (home / "members").exists():
        return False
    try:
        with locks.exclusive(home / "start", 0):
            return _has_members(home)
    except TimeoutError:
        return True


def _has_members(home: Path) -> bool:
    """Whether any process is a member. The start lock is held, so that asking disturbs nobody."""
    members = locks.open_lock(home / "members")
    try:
        return not locks.try_exclusive(members)
    finally:
        os.close(members)


def _make(home: Path) -> None:
    try:
        if not home.exists():
            home.mkdir(mode=0o700, parents=True)
            (home / ".gitignore").write_text("*\n")
        (home / "start").touch(mode=0o600)
    except OSError as error:
        raise ServerError(
            f"The home folder `{home}` can't be used: {error.strerror}\n"
            "hint: set `TOLLWAY_HOME` to a folder that you may write to"
        ) from error


@contextmanager
def _start_lock(home: Path) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(locks.exclusive(home / "start", LOCK_SECONDS))
        except TimeoutError:
            raise ServerError(
                f"Another process has been starting or stopping the servers in `{home}` for too long\n"
                "hint: end that process and try again"
            ) from None
        yield
