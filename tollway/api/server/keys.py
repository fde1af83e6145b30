"""
API keys: made once, kept as digests, checked in memory.

A key is `tw_<id>_<secret>`. The id is public, and is what people list and revoke by; the secret is 32 random bytes, so
that one round of SHA-256 is digest enough. PostgreSQL's `api_keys` is the record, and Redis has a copy of the valid
ones, so that a process that starts while PostgreSQL is away can still tell who may ask the gate:

    tollway:api:keys    a JSON document: id, role and digest of each valid key

`KeyRing` keeps them in a process, at most `POLL_SECONDS` and one look behind the record.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from threading import Event, Thread
from typing import Any, Final

import msgspec
import psycopg
import redis
from msgspec import Struct
from psycopg.rows import class_row

from sinks.postgres.statements import statement
from sinks.redis.keys import API_KEYS

PREFIX: Final = "tw"
ID_BYTES: Final = 5
SECRET_BYTES: Final = 32
NAME_CHARACTERS_MAX: Final = 100

POLL_SECONDS: Final = 0.25
COPY_SECONDS: Final = 5.0
"""So often the copy in Redis is compared, and made again where it differs or is gone."""

CLOSE_SECONDS: Final = 2.0

_log = logging.getLogger(__name__)


class Role(StrEnum):
    """What a key may do; `tollway.api.server.roles` has the requests of each."""

    INGEST = "ingest"
    READ = "read"
    ADMIN = "admin"


class NoSuchKey(LookupError):
    """A key that is not there. What was asked for is not repeated: it may be a whole key by mistake."""

    def __init__(self) -> None:
        super().__init__("there is no API key with this id\nhint: `tollway key list` shows the ids")


class ApiKey(Struct, frozen=True, kw_only=True):
    """A key as it may be shown: all of it but the secret."""

    id: str
    name: str
    role: Role
    created_at: datetime
    revoked_at: datetime | None = None


class ValidKey(Struct, frozen=True, array_like=True):
    """A key that opens, as it is kept in memory and in Redis."""

    id: str
    role: Role
    digest: bytes

    def __repr__(self) -> str:
        return f"ValidKey(id={self.id!r}, role={self.role!r})"


Connection = psycopg.Connection[Any]


def create_key(connection: Connection, client: redis.Redis, role: Role, name: str) -> tuple[ApiKey, str]:
    """
    Make a key.

    Returns:
        The key as it may be shown, and the whole of it: this is the only time that anybody sees it.
    """
    key_id, secret = _letters(ID_BYTES), _letters(SECRET_BYTES)
    with connection.cursor(row_factory=class_row(ApiKey)) as cursor:
        made = cursor.execute(statement("insert_key"), (key_id, name, str(role), _digest(secret))).fetchone()
    assert made is not None, "the row that was inserted is returned"
    copy_keys(client, read_valid(connection))
    return made, f"{PREFIX}_{key_id}_{secret}"


def list_keys(connection: Connection) -> list[ApiKey]:
    """All keys that there ever were, the oldest first."""
    with connection.cursor(row_factory=class_row(ApiKey)) as cursor:
        return cursor.execute(statement("keys_in_order")).fetchall()


def revoke_key(connection: Connection, client: redis.Redis, key_id: str) -> ApiKey:
    """
    Let a key open nothing any more; one that was revoked stays revoked since then.

    Args:
        connection: To the record, in autocommit.
        client: For the copy.
        key_id: The id, or the key's visible part with the prefix.

    Raises:
        NoSuchKey: There is none.
    """
    with connection.cursor(row_factory=class_row(ApiKey)) as cursor:
        revoked = cursor.execute(statement("revoke_key"), (key_id.removeprefix(f"{PREFIX}_"),)).fetchone()
    if revoked is None:
        raise NoSuchKey
    copy_keys(client, read_valid(connection))
    return revoked


def read_valid(connection: Connection) -> dict[str, ValidKey]:
    """The keys that open, from the record, by id."""
    rows = connection.execute(statement("valid_keys"))
    return {key_id: ValidKey(key_id, Role(role), bytes(digest)) for key_id, role, digest in rows}


def copy_keys(client: redis.Redis, keys: dict[str, ValidKey]) -> None:
    """Put the keys that open into Redis."""
    client.set(API_KEYS, msgspec.json.encode(list(keys.values())))


def read_copy(client: redis.Redis) -> dict[str, ValidKey] | None:
    """The keys that Redis has; None where it has no copy."""
    found: Any = client.get(API_KEYS)
    if found is None:
        return None
    return {key.id: key for key in msgspec.json.decode(found, type=list[ValidKey])}


class KeyRing:
    """
    The keys that open, in this process.

    Args:
        connect: Opens a connection to the record.
        client: For the copy.
    """

    def __init__(self, connect: Callable[[], Connection], client: redis.Redis) -> None:
        self._connect = connect
        self._client = client
        self._connection: Connection | None = None
        self._keys: dict[str, ValidKey] | None = None
        self._seen: tuple[int, int] | None = None
        self._copied_at = 0.0
        self._ended = Event()
        self._thread: Thread | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether the keys are known; they are not as long as neither store could be asked."""
        return self._keys is not None

    def role_of(self, text: str) -> Role | None:
        """The role of a whole key; None where it opens nothing."""
        prefix, _, rest = text.partition("_")
        key_id, _, secret = rest.partition("_")
        found = (self._keys or {}).get(key_id)
        # The digest is compared for an unknown id too, so that the time says nothing about which ids there are.
        expected = found.digest if found else _NO_DIGEST
        matches = hmac.compare_digest(_digest(secret), expected)
        return found.role if found and matches and prefix == PREFIX else None

    def start(self) -> None:
        """Follow the record until `close`; if a store answers, the keys are known when this returns."""
        with suppress(psycopg.Error, redis.RedisError):
            self.refresh()
        self._thread = Thread(target=self._follow, name="keys", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop following."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS)
        if self._connection is not None:
            self._connection.close()

    def _follow(self) -> None:
        away = False
        while not self._ended.is_set():
            try:
                self.refresh()
                away = False
            except (psycopg.Error, redis.RedisError) as error:
                if not away:
                    _log.warning("API keys are as they were, while a store is away: %s", type(error).__name__)
                away = True
            except Exception:
                _log.exception("the API keys could not be read")
            self._ended.wait(POLL_SECONDS)

    def refresh(self) -> None:
        """Look whether keys were made or revoked. Raises `psycopg.Error` or `redis.RedisError`."""
        # (1) A process that knows nothing yet takes the copy, which is quick and may be all there is.
        if self._keys is None:
            self._keys = self._copy_or_none()
        # (2) The record decides.
        connection = self._connected()
        (counted,) = connection.execute(statement("number_of_keys")).fetchall()
        if counted != self._seen:
            self._keys = read_valid(connection)
            self._seen = counted
            self._copied_at = 0.0
        # (3) The copy is put right.
        if time.monotonic() - self._copied_at >= COPY_SECONDS:
            self._keys = read_valid(connection)
            if read_copy(self._client) != self._keys:
                copy_keys(self._client, self._keys)
            self._copied_at = time.monotonic()

    def _copy_or_none(self) -> dict[str, ValidKey] | None:
        try:
            return read_copy(self._client)
        except redis.RedisError:
            return None

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        return self._connection


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()


def _letters(size: int) -> str:
    """Random bytes as lower-case letters and digits, which a double click selects as one word."""
    return base64.b32encode(secrets.token_bytes(size)).decode().rstrip("=").lower()


_NO_DIGEST: Final = bytes(32)
