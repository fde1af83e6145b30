"""What people wrote on things: descriptions, metadata, labels. Kept beside the catalog, in the same transaction."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec
import psycopg

from config.limits import DESCRIPTION_LENGTH, METADATA_ENTRIES, METADATA_KEY_LENGTH, METADATA_VALUE_LENGTH, NAME_LENGTH
from rating.catalog import Record, decode_record
from sinks.postgres.statements import statement
from tollway.control.changes import Changes
from tollway.control.checks import check_count, check_length
from tollway.storable import is_storable

_TABLES: Final = {
    "meter": ("meters", "key"),
    "feature": ("features", "key"),
    "customer": ("customers", "id"),
    "subscription": ("subscriptions", "id"),
    "grant": ("grants", "id"),
}
"""By kind the table of the things, and the column by which they are noted."""


class Noted(NamedTuple):
    """A thing of the catalog, when it was made and changed, and what people wrote on it."""

    record: Record
    created_at: datetime
    updated_at: datetime
    notes: dict[str, Any]


def read(
    connection: psycopg.Connection[Any], kind: str, which: str, *values: Any, filters: str = "true"
) -> list[Noted]:
    """Things of a kind with what was written on them: those that a statement of `sql/control/notes.sql` asks for."""
    if any(isinstance(value, str) and not is_storable(value) for value in values):
        return []
    table, ref = _TABLES[kind]
    condition = statement(which, filters=filters).decode()
    query = statement("noted", table=table, kind=kind, ref=ref, condition=condition)
    return [
        Noted(
            decode_record(body),
            created_at.astimezone(UTC),
            (updated_at or created_at).astimezone(UTC),
            msgspec.json.decode(notes) if notes else {},
        )
        for _, body, created_at, notes, updated_at in connection.execute(query, values)
    ]


def write(changes: Changes, kind: str, ref: str, notes: Mapping[str, Any]) -> None:
    """Write on a thing; what was written before is replaced. Raises `ControlError` where it is too much."""
    check(notes)
    changes.rows(
        "write_note",
        kind,
        ref,
        msgspec.json.encode({name: value for name, value in notes.items() if value is not None}).decode(),
    )


def check(notes: Mapping[str, Any]) -> None:
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
