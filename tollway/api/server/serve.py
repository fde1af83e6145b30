"""
Serves the application by worker processes, until SIGTERM or SIGINT; requests under way are then finished.

This process only watches: it holds the port, starts the workers, and starts one again that died. A worker ends with
this process, however that ends: it waits on a pipe that only this process holds open. Workers are started anew rather
than forked, so that they hold none of this process's locks.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Final

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server import Server
from msgspec import Struct

from config.api import ApiSettings
from config.logs import keep_few_alike
from tollway.api.server.listen import Place, answers
from tollway.control.transaction import DEFAULT_MAX_AHEAD

if TYPE_CHECKING:
    from tollway.api.server.guard import GuardedApp

HEADER_BYTES_MAX: Final = 64 * 1024
BACKLOG: Final = 1024
CONNECTIONS_MAX: Final = 4096
"""Of a worker; who comes then waits in the backlog."""

LINGER_SECONDS: Final = 5
"""So much longer than a request may take a worker may take to end."""

POLL_SECONDS: Final = 0.02
FOLDER_OF_METRICS: Final = "PROMETHEUS_MULTIPROC_DIR"


class Work(Struct, frozen=True):
    """What a worker is told."""

    redis_url: str
    postgres_dsn: str
    partitions: int
    log_level: str
    with_keys: bool
    settings: ApiSettings
    hosts: frozenset[str] | None = None
    """The names by which it may be called; None: any."""
    max_ahead: timedelta = DEFAULT_MAX_AHEAD
    """How far ahead of its arrival usage may be."""

    def __repr__(self) -> str:
        return f"Work(with_keys={self.with_keys}, settings={self.settings})"


def serve(place: Place, work: Work, ready: Callable[[], None]) -> None:
    """
    Serve until SIGTERM or SIGINT.

    Args:
        place: Where to listen. The caller holds it.
        work: What to serve.
        ready: Is called, in another thread, once it listens.

    Raises:
        SystemExit: The workers died one after the other.
    """
    multiprocessing.set_start_method("spawn", force=True)
    server = Server(
        "tollway.api.server.app",
        address=place.host,
        port=place.port,
        interface=Interfaces.ASGI,
        workers=work.settings.workers,
        websockets=False,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(
            # Also how long a connection may rest before its first request, and between two.
            header_read_timeout=work.settings.rest_seconds * 1000,
            max_buffer_size=HEADER_BYTES_MAX,
        ),
        backlog=BACKLOG,
        backpressure=CONNECTIONS_MAX,
        respawn_failed_workers=True,
        workers_kill_timeout=work.settings.timeout_seconds + LINGER_SECONDS,
        log_level=LogLevels.error,
    )
    ended = Event()
    telling = Thread(target=_tell, args=(place, ready, ended), name="ready", daemon=True)
    telling.start()
    with tempfile.TemporaryDirectory(prefix="tollway-api-", ignore_cleanup_errors=True) as folder:
        if work.settings.workers > 1:
            # The workers read it as they import the client of Prometheus; this process has no metrics.
            os.environ[FOLDER_OF_METRICS] = folder
        try:
            server.serve(target_loader=partial(load, work), wrap_loader=False)
        finally:
            ended.set()
            telling.join()
            os.environ.pop(FOLDER_OF_METRICS, None)


def load(work: Work) -> GuardedApp:
    """The application of a worker, which calls this first."""
    Thread(target=_end_with_parent, args=(work,), name="parent", daemon=True).start()
    _allow_connections()
    logging.basicConfig(level=work.log_level.upper(), stream=sys.stderr)
    keep_few_alike()
    # Only now, and only in a worker: the metrics' folder is set.
    from tollway.api.server.app import create_app
    from tollway.api.server.stores import ServerStores
    from tollway.openmeter.threads import keep_turns_short

    stores = ServerStores(
        work.redis_url,
        work.postgres_dsn,
        work.partitions,
        work.settings,
        with_keys=work.with_keys,
        hosts=work.hosts,
        max_ahead=work.max_ahead,
    )
    app = create_app(stores)
    keep_turns_short()
    return app


def _tell(place: Place, ready: Callable[[], None], ended: Event) -> None:
    """Say so once somebody listens: that is a worker, since the port is held."""
    while not ended.wait(POLL_SECONDS):
        if answers(place):
            ready()
            return


def _end_with_parent(work: Work) -> None:
    parent: Any = multiprocessing.parent_process()
    assert parent is not None, "a worker is started by another process"
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    Event().wait(work.settings.timeout_seconds + LINGER_SECONDS)
    os._exit(1)


def _allow_connections() -> None:
    """Each connection is an open file, and many systems allow few of these unless asked."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CONNECTIONS_MAX
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )
