"""
Whether what gates see is what the ledger says, customer by customer.

Both are written while the dataflow runs, and not at the same instant. So whoever differs is looked at again until it
agrees, or stands still and differs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from itertools import islice
from typing import Any

import psycopg
import redis
from msgspec import Struct
from psycopg.rows import dict_row

from sinks.kafka.access import AccessRow
from sinks.postgres.statements import statement
from sinks.redis.history import UNKNOWN_CUSTOMER, visible
from sinks.redis.keys import balance_key

SAMPLE = 1000
"""So many customers are looked at, unless all are asked for."""
CHUNK = 500
LOOKS = 5
"""So often whoever differs is looked at again."""
PAUSE_SECONDS = 0.3

_NUMBERS = ("settled", "live", "pending", "overage")
_FIELDS = ("generation", "revision", "access", "blocked_features", "level", *_NUMBERS)

Connection = psycopg.Connection[Any]
Said = dict[str, Any]
"""What a store says of a customer, by the fields of the balance."""


class Agreement(Struct, frozen=True):
    """What was found."""

    looked_at: int
    of: int
    """How many customers the ledger has a balance of."""
    differing: list[str]
    """A line for each customer that differs and stands still."""
    unknown: list[str]
    """Keys of those that gates know, and the ledger does not."""


def compare(
    connection: Connection,
    client: redis.Redis,
    generation: int,
    *,
    everybody: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Agreement:
    """
    Compare balances in Redis with the ledger.

    Args:
        connection: To the ledger, in autocommit.
        client: Of the Redis, giving bytes.
        generation: The ledger's, in which everybody should have been told.
        everybody: Whether to look at all customers rather than at a random part of them.
        progress: Told from time to time how many customers of how many were looked at.
    """
    (of,) = connection.execute(statement("number_of_balances")).fetchall()[0]
    percent = 100.0 if everybody or of <= SAMPLE else 100.0 * SAMPLE / of
    done = 0
    apart: dict[str, tuple[Said, Said | None]] = {}
    told = _ledger(connection, generation, percent=percent)
    while rows := list(islice(told, CHUNK)):
        shown = _redis(client, [key for _, key, _ in rows])
        apart |= {
            customer_id: (said, seen) for (customer_id, _, said), seen in zip(rows, shown, strict=True) if said != seen
        }
        done += len(rows)
        progress(done, of)
    differing: list[str] = []
    for look in range(LOOKS):
        if not apart:
            break
        time.sleep(PAUSE_SECONDS)
        before, apart, differing = apart, {}, []
        rows = list(_ledger(connection, generation, ids=[*before]))
        for (customer_id, key, said), seen in zip(rows, _redis(client, [key for _, key, _ in rows]), strict=True):
            if said != seen:
                apart[customer_id] = said, seen
                if look and before[customer_id] == (said, seen):
                    differing.append(_line(key, said, seen, "Redis"))
    return Agreement(done, of, differing, list(_unknown(connection, client, None if everybody else SAMPLE)))


def compare_topic(connection: Connection, rows: dict[str, AccessRow], generation: int) -> list[str]:
    """A line for each customer whose newest row in the topic of access is not what the ledger says."""
    lines = []
    for _, key, said in _ledger(connection, generation):
        row = rows.get(key)
        seen = None
        if row is not None:
            seen = {"generation": row.generation, "revision": row.revision, "access": row.access}
            seen["live"] = Decimal(row.live)
        wanted = {name: said[name] for name in ("generation", "revision", "access", "live")}
        if seen != wanted:
            lines.append(_line(key, wanted, seen, "the topic"))
    return lines


def _ledger(
    connection: Connection, generation: int, *, percent: float = 100.0, ids: list[str] | None = None
) -> Iterator[tuple[str, str, Said]]:
    """Id, key and balance of customers."""
    with connection.transaction(), connection.cursor("told", row_factory=dict_row) as cursor:
        for row in cursor.execute(statement("told_balances"), {"percent": percent, "ids": ids}):
            said: Said = {name: row[name] for name in _FIELDS[1:]}
            yield row["customer_id"], row["customer_key"], {"generation": generation, **said}


def _redis(client: redis.Redis, keys: list[str]) -> list[Said | None]:
    """The balances that Redis shows; None where it has none."""
    pipeline = client.pipeline(transaction=False)
    for key in keys:
        pipeline.hmget(balance_key(key), _FIELDS)
    return [_said(values) for values in pipeline.execute()]


def _said(values: list[bytes | None]) -> Said | None:
    texts = [value.decode() if value is not None else None for value in values]
    found: Said = dict(zip(_FIELDS, texts, strict=True))
    if found["revision"] is None:
        return None
    for name in ("generation", "revision", "level"):
        found[name] = int(found[name] or 0)
    for name in _NUMBERS:
        found[name] = Decimal(found[name] or 0)
    return found


def _line(key: str, said: Said, seen: Said | None, where: str) -> str:
    if seen is None:
        return f"{key} is not in {where}"
    parts = [f"{name} {seen[name]} in {where}, {said[name]} in the ledger" for name in said if seen[name] != said[name]]
    return f"{key}: {'; '.join(parts)}"


def _unknown(connection: Connection, client: redis.Redis, limit: int | None) -> Iterator[str]:
    """Keys of customers that Redis lets go on, and that the ledger does not know."""
    looked_at = 0
    for chunk in visible(client):
        known = {
            customer_id
            for (customer_id,) in connection.execute(
                statement("known_customers", column="id"), ([seen.customer_id for seen in chunk],)
            )
        }
        strangers = [seen.customer_key for seen in chunk if seen.customer_id not in known]
        reasons: Iterable[Any] = [client.hget(balance_key(key), "reason") for key in strangers]
        yield from (key for key, reason in zip(strangers, reasons, strict=True) if reason != UNKNOWN_CUSTOMER.encode())
        looked_at += len(chunk)
        if limit is not None and looked_at >= limit:
            return
