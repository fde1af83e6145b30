"""What people wrote on things: descriptions, metadata, labels. Kept beside the catalog, in the same transaction."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, LiteralString, NamedTuple

import msgspec

from config.limits import DESCRIPTION_LENGTH, METADATA_ENTRIES, METADATA_KEY_LENGTH, METADATA_VALUE_LENGTH, NAME_LENGTH
from rating.catalog import Record, decode_record
from tollway.api.wire import Json, compact
from tollway.control import Changes, check_count, check_length
from tollway.ledger_reads import Connection, is_storable

CUSTOMERS: Final[LiteralString] = (
    "from customers as found left join api_notes as notes on notes.kind = 'customer' and notes.ref = found.id"
)

_QUERIES: dict[str, LiteralString] = {
    "meter": "select key, found.body::text, created_at, notes.body::text, updated_at from meters as found"
    " left join api_notes as notes on notes.kind = 'meter' and notes.ref = found.key",
    "feature": "select key, found.body::text, created_at, notes.body::text, updated_at from features as found"
    " left join api_notes as notes on notes.kind = 'feature' and notes.ref = found.key",
    "customer": f"select key, found.body::text, created_at, notes.body::text, updated_at {CUSTOMERS}",
    "subscription": "select key, found.body::text, created_at, notes.body::text, updated_at from subscriptions as found"
    " left join api_notes as notes on notes.kind = 'subscription' and notes.ref = found.id",
    "grant": "select key, found.body::text, created_at, notes.body::text, updated_at from grants as found"
    " left join api_notes as notes on notes.kind = 'grant' and notes.ref = found.id",
}


class Noted(NamedTuple):
    """A thing of the catalog, when it was made and changed, and what people wrote on it."""

    record: Record
    created_at: datetime
    updated_at: datetime
    notes: Json


def read(connection: Connection, kind: str, condition: LiteralString = "", *values: Any) -> list[Noted]:
    """Things of a kind with what was written on them, those that a condition (`where … order by …`) asks for."""
    if any(isinstance(value, str) and not is_storable(value) for value in values):
        return []
    query: LiteralString = f"{_QUERIES[kind]} {condition}"
    return [
        Noted(
            decode_record(body),
            created_at.astimezone(UTC),
            (updated_at or created_at).astimezone(UTC),
            msgspec.json.decode(notes) if notes else {},
        )
        for _, body, created_at, notes, updated_at in connection.execute(query, values)
    ]


def write(changes: Changes, kind: str, ref: str, notes: Json) -> None:
    """Write on a thing; what was written before is replaced. Raises `ControlError` where it is too much."""
    check(notes)
    changes.rows(
        "insert into api_notes (kind, ref, body) values (%s, %s, %s::jsonb) on conflict (kind, ref)"
        " do update set body = excluded.body, updated_at = now() returning ref",
        kind,
        ref,
        msgspec.json.encode(compact(notes)).decode(),
    )


def check(notes: Json) -> None:
    """That what is to be written is not too much: texts, and mappings of texts. Raises `ControlError`."""
    for field, value in notes.items():
        match value:
            case str():
                check_length(value, field, NAME_LENGTH if field == "name" else DESCRIPTION_LENGTH)
            case dict():
                check_count(len(value), field, METADATA_ENTRIES)
                for name, entry in value.items():
                    check_length(name, f"{field}.{name[:64]}", METADATA_KEY_LENGTH)
                    check_length(str(entry), f"{field}.{name[:64]}", METADATA_VALUE_LENGTH)
