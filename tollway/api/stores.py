"""The stores that the API works with: opened when they are first needed, so that it starts while they are away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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

from sinks.event_log import EventLog
from tollway.api.gate import Gate, Projector
from tollway.api.pool import Pool
from tollway.control import Changes, ControlPlane

CONNECT_SECONDS = 2
ANSWER_SECONDS = 5


class ApiStores:
    """
    Redis, PostgreSQL and the event log, shared by all requests of a process.

    Args:
        redis_url: Redis or Valkey.
        postgres_dsn: A migrated database.
        partitions: Of the event log, where there is none yet.
    """

    def __init__(self, redis_url: str, postgres_dsn: str, partitions: int) -> None:
        self._redis_url = _impatient(redis_url)
        self._partitions = partitions
        self._log: EventLog | None = None
        self._log_lock = Lock()
        self.pool = Pool(postgres_dsn)
        self.plane = ControlPlane(postgres_dsn, redis_url)
        self.redis = redis.Redis.from_url(self._redis_url, protocol=3, retry=Retry(NoBackoff(), 1))
        self._async = redis.asyncio.Redis.from_url(self._redis_url, protocol=3, retry=AsyncRetry(NoBackoff(), 1))
        self.gate = Gate(self._async)
        self.projector = Projector(self.pool, self.redis)

    def append(self, lines: list[bytes]) -> None:
        """Append events to the log. Returns when they are durable. Raises `redis.RedisError`."""
        with self._log_lock:
            if self._log is None:
                self._log = EventLog(self._redis_url, self._partitions)
        self._log.append(lines)

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
        """Begin to follow the control log."""
        self.projector.start()

    def close(self) -> None:
        """End the connections."""
        self.projector.close()
        self.plane.close()
        self.pool.close()
        self.redis.close()
        if self._log is not None:
            self._log.close()

    async def aclose(self) -> None:
        """End the connections of the event loop."""
        await self._async.aclose()


Stores: TypeAlias = NamedDependency[ApiStores]
"""The stores, as a handler asks for them."""


def _impatient(url: str) -> str:
    """A request does not wait for long, so that its answer says soon enough that Redis is away."""
    options = urlencode({"socket_connect_timeout": CONNECT_SECONDS, "socket_timeout": ANSWER_SECONDS})
    return url if "socket_timeout" in url else f"{url}{'&' if '?' in url else '?'}{options}"
