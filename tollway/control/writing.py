"""
How a transaction is written: its entries in the control log, then its rows in the catalog tables.

All who write queue at one lock of the database, from before an entry gets its id until the entry is
committed, so that entry ids become visible in order.
"""

from __future__ import annotations

from typing import Any, Final

import psycopg

from rating.catalog import (
    Customer,
    FeatureSet,
    Grant,
    MeterSet,
    PlanVersion,
    Record,
    Subscription,
    encode_record,
    key_group,
)
from sinks.postgres.statements import statement
from tollway.control.transaction import Transaction

CHANNEL: Final = "tollway_control"
"""PostgreSQL notifies here, with the newest entry id, when the control log grew."""

CONTROL_LOCK: Final = 0x746F6C6C
"""The advisory lock that all changes queue at."""

Rows = dict[str, dict[object, tuple[object, ...]]]
"""By table and key: of a thing that changed twice, only the last row is written."""

_UPSERTS: Final = {
    "meters": "upsert_meters",
    "features": "upsert_features",
    "plans": "insert_plans",
    "customers": "upsert_customers",
    "customer_subjects": "insert_customer_subjects",
    "subscriptions": "upsert_subscriptions",
    "grants": "upsert_grants",
}
"""By table, in the order in which they refer to each other: a statement that takes an array per column."""


def queue_up(connection: psycopg.Connection[Any]) -> None:
    """Wait until no other transaction changes the catalog; none will until this one has ended."""
    connection.execute(statement("queue_up"), (CONTROL_LOCK,))


def write(changes: Transaction) -> int:
    """Write what is recorded. Returns the id of the newest entry of the control log, 0 if it is empty."""
    assert changes.connection is not None
    with changes.connection.cursor() as cursor:
        rows = _log(cursor, changes) if changes.records else {}
        _upsert(cursor, changes, rows)
        newest = cursor.execute(statement("newest_control_entry")).fetchone()
        assert newest is not None
        if changes.records:
            cursor.execute(statement("notify_control"), (CHANNEL, str(newest[0])))
    return int(newest[0])


def _log(cursor: psycopg.Cursor[Any], changes: Transaction) -> Rows:
    """Add the records to the control log. Returns the rows of the catalog that they come to."""
    rows: Rows = {table: {} for table in _UPSERTS}
    with cursor.copy(statement("copy_control_log")) as copy:
        for record in changes.records:
            body = encode_record(record).decode()
            customer_id = _concerns(record)
            group = None if customer_id is None else key_group(customer_id)
            copy.write_row((record.__struct_config__.tag, group, customer_id, body))
            match record:
                case MeterSet(meter):
                    rows["meters"][meter.key] = (meter.key, body)
                case FeatureSet(feature):
                    rows["features"][feature.key] = (feature.key, body)
                case PlanVersion():
                    rows["plans"][record.key, record.version] = (record.key, record.version, body)
                case Customer():
                    rows["customers"][record.id] = (record.id, record.key, body)
                case Subscription():
                    key = changes.key_of_subscription.get(record.id)
                    rows["subscriptions"][record.id] = (record.id, record.customer_id, key, body)
                case Grant():
                    rows["grants"][record.id] = (record.id, record.customer_id, record.key, body)
    rows["customer_subjects"] = {taken[0]: taken for taken in changes.subjects.taken.items()}
    return rows


def _upsert(cursor: psycopg.Cursor[Any], changes: Transaction, rows: Rows) -> None:
    # (1) A subject, and a subscription's key, is let go before another one takes it.
    if changes.subjects.released:
        released = list(changes.subjects.released)
        cursor.execute(statement("release_subjects"), (released,))
    if changes.keys_given_up:
        given_up = list(changes.keys_given_up)
        cursor.execute(statement("release_subscription_keys"), (given_up,))
    # (2) The rows, table by table: those that are referred to come first.
    for table, upsert in _UPSERTS.items():
        if rows.get(table):
            cursor.execute(statement(upsert), [list(column) for column in zip(*rows[table].values(), strict=True)])
    # (3) The keys of subscriptions that nothing else changed of. A key is not part of a record: no entry says so.
    taken = [item for item in changes.keys_taken.items() if item[0] not in rows.get("subscriptions", {})]
    if taken:
        ids, keys = (list(column) for column in zip(*taken, strict=True))
        cursor.execute(statement("take_subscription_keys"), (ids, keys))


def _concerns(record: Record) -> str | None:
    """The id of the customer whom a record concerns, None where it concerns all."""
    match record:
        case Customer():
            return record.id
        case Subscription() | Grant():
            return record.customer_id
        case _:
            return None
