"""Whose ledger is read: a customer by its id or its key, and when that was."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct

from rating.refusal import Refusal
from tollway.ledger_reads.statements import Connection, rows
from tollway.storable import is_storable

_SHOWN_LENGTH_MAX: Final = 256


class NotFound(Refusal, LookupError):
    """Something asked for by name that is not there."""

    def __init__(self, kind: str, name: str, hint: str) -> None:
        super().__init__(f"there is no {kind} `{name[:_SHOWN_LENGTH_MAX]}`", "", hint)


class CustomerHead(Struct, frozen=True):
    """Who is meant, and when that was read, by the database's clock."""

    id: str
    key: str
    name: str
    currency: str
    read_at: datetime


def find_customer(connection: Connection, customer: str) -> CustomerHead:
    """The customer with an id, or else with a key. Raises `NotFound`."""
    found = rows(connection, "find_customer", {"customer": customer}) if is_storable(customer) else []
    if not found:
        raise NotFound(
            "customer",
            customer,
            "name it by its id or key; `tollway customers`, and over HTTP `GET /api/v1/customers`, list them",
        )
    return msgspec.convert(found[0], CustomerHead)
