"""The stores that the API works with: opened when they are first needed, so that it starts while they are away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Lock
from typing import Any, TypeAlias
from urllib.parse import urlencode

import psycopg
import redis
import redis.asyncio
from litestar.di import NamedDependency
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from config.api import ApiSettings
from sinks.event_log import EventLog
from sinks.postgres.pool import Pool
from tollway.api.server.keys import KeyRing
from tollway.api.server.pressure import Pressure, check_memory
from tollway.control import Changes, ControlPlane
from tollway.control.transaction import DEFAULT_MAX_AHEAD
from tollway.gate.projection import GateReader, Projector
from tollway.openmeter.problems import Problem
from tollway.openmeter.stores import ApiStores

CONNECT_SECONDS = 2
ANSWER_SECONDS = 5
AGAIN = (redis.ConnectionError,)
"""Tried once more, over a new connection; what was sent and got no answer in time is not, it may have been done."""

LOOK_SECONDS = 0.5
"""So often it is looked whether the event log's server takes events, while some come."""


class ServerStores(ApiStores):
    """
    Redis, PostgreSQL and the event log, shared by all requests of a process.

    Args:
        redis_url: Redis or Valkey.
        postgres_dsn: A migrated database.
        partitions: Of the event log, where there is none yet.
        settings: The limits count.
        with_keys: Whether requests need an API key.
        hosts: The names by which requests may call the API; None: any.
    """

    def __init__(
        self,
        redis_url: str,
        postgres_dsn: str,
        partitions: int,
        settings: ApiSettings | None = None,
        *,
        with_keys: bool = False,
        hosts: frozenset[str] | None = None,
        max_ahead: timedelta = DEFAULT_MAX_AHEAD,
    ) -> None:
        self.settings = settings or ApiSettings()
        self.hosts = hosts
        self._redis_url = _impatient(redis_url)
        self._partitions = partitions
        self._log: EventLog | None = None
        self._log_lock = Lock()
        self._looked_at = 0.0
        self._refusal: Exception | None = None
        self.pressure = Pressure(self.settings.ingest_requests_max, self.settings.ingest_bytes_max)
        self.pool = Pool(postgres_dsn, answer_seconds=self.settings.timeout_seconds)
        self.plane = ControlPlane(postgres_dsn, redis_url, max_ahead=max_ahead)
        self.redis = redis.Redis.from_url(self._redis_url, protocol=3, retry=Retry(NoBackoff(), 1, AGAIN))
        self._async = redis.asyncio.Redis.from_url(self._redis_url, protocol=3, retry=AsyncRetry(NoBackoff(), 1, AGAIN))
        self.gate = GateReader(self._async)
        self.projector = Projector(self.pool, self.redis)
        self.keys = KeyRing(self.pool.connect, self.redis) if with_keys else None

    def append(self, lines: list[bytes]) -> None:
        """
        Append events to the log. Returns when they are durable.

        Raises:
            Problem: The log is nearly full.
            redis.RedisError: The log did not take them.
        """
        with self._log_lock:
            self._look()
            if self._log is None:
                self._log = EventLog(self._redis_url, self._partitions, retry=Retry(NoBackoff(), 1, AGAIN))
        try:
            self._log.append(lines)
        except (redis.ConnectionError, redis.TimeoutError) as error:
            self._refusal, self._looked_at = error, time.monotonic()
            raise

    def _look(self) -> None:
        """
        Look whether the log takes events; who comes soon after is told the same.

        So while its server hangs, one waits until that is known, and not each who comes.
        """
        if time.monotonic() - self._looked_at >= LOOK_SECONDS:
            try:
                check_memory(self.redis, self.settings.log_memory_percent)
                self._refusal = None
            except (Problem, redis.RedisError) as error:
                self._refusal = error
            self._looked_at = time.monotonic()
        if self._refusal is not None:
            raise self._refusal.with_traceback(None)

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection to the ledger, in autocommit."""
        with self.pool.connection() as connection:
            yield connection

    @contextmanager
    def changing(self) -> Iterator[Changes]:
        """One transaction of the control plane; when it is through, the gate knows."""
        with self.plane.changing() as changes:
            yield changes
        self.projector.tell()

    def start(self) -> None:
        """Begin to follow the control log, and the keys."""
        self.projector.start()
        if self.keys is not None:
            self.keys.start()

    def close(self) -> None:
        """End the connections."""
        self.projector.close()
        if self.keys is not None:
            self.keys.close()
        self.plane.close()
        self.pool.close()
        self.redis.close()
        if self._log is not None:
            self._log.close()

    async def aclose(self) -> None:
        """End the connections of the event loop."""
        await self._async.aclose()


AllStores: TypeAlias = NamedDependency[ServerStores]
"""All of the stores, as a handler asks for them that is not an operation of OpenMeter's."""


def _impatient(url: str) -> str:
    """A request does not wait for long, so that its answer says soon enough that Redis is away."""
    options = urlencode({"socket_connect_timeout": CONNECT_SECONDS, "socket_timeout": ANSWER_SECONDS})
    return url if "socket_timeout" in url else f"{url}{'&' if '?' in url else '?'}{options}"
