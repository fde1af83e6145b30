"""
Servers that run elsewhere: used as given, after one look whether they can be reached.

What is told about a failure is one of a few fixed phrases. The client libraries' own messages, and so the
chained cause, may hold pieces of an address that was mistyped, and with them of its password.
"""

from __future__ import annotations

import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from sinks.postgres.connecting import connect
from sinks.postgres.statements import statement
from tollway.embedded.server import ServerError

CONNECT_SECONDS = 5

PHRASES = {
    "refused": "the connection was refused",
    "no such file": "its socket does not exist",
    "timeout": "it did not answer in time",
    "timed out": "it did not answer in time",
    "name or service not known": "its host name is not known",
    "resolve host": "its host name is not known",
    "name resolution": "its host name is not known",
    "no password supplied": "it asks for a password",
    "authentication": "it did not accept the user and the password",
    "username-password": "it did not accept the user and the password",
    "pg_hba": "it does not admit this user from here",
    "does not exist": "the user or the database does not exist",
    "ssl": "no encrypted connection could be agreed on",
    "loading": "it is still loading its data",
    "starting up": "it is still starting up",
    "too many": "it has no connection left",
}


def check_redis(url: str) -> None:
    """Raise `ServerError` if the Redis of the settings can't be used."""
    try:
        client = redis.Redis.from_url(
            url,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=CONNECT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            client.ping()
        finally:
            client.close()
    except (redis.RedisError, ValueError, TypeError) as error:
        raise _unreachable("Redis", "TOLLWAY_REDIS_URL", error) from None


def check_postgres(dsn: str) -> None:
    """Raise `ServerError` if the PostgreSQL of the settings can't be used."""
    try:
        with connect(dsn, connect_timeout=CONNECT_SECONDS) as connection:
            connection.execute(statement("is_alive"))
    except (psycopg.Error, ValueError) as error:
        raise _unreachable("PostgreSQL", "TOLLWAY_POSTGRES_DSN", error) from None


def _unreachable(name: str, env: str, error: Exception) -> ServerError:
    text = str(error).lower()
    reasons = (phrase for words, phrase in PHRASES.items() if words in text)
    reason = next(reasons, "the address could not be used")
    return ServerError(
        f"Can't use the {name} of `{env}`: {reason}\n"
        f"hint: correct `{env}`, or leave it out and a {name} is started in the home folder"
    )
