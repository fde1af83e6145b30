"""
What each operation answers, for the description of the API.

Handlers build their answers as plain objects; these structs say what is in them. They are in snake_case, as v3 has it;
v1's form of a struct has the same fields in camelCase. The tests hold answers against them, and a field that is not
named here fails.
"""

from __future__ import annotations

from typing import Any

from tollway.api.answers.shared import DataOf
from tollway.api.answers.usage import (
    AccessAnswer,
    Account,
    DeadLetter,
    Entitlements,
    EntitlementValue,
    Health,
    ParkedEvents,
    Readiness,
    Signal,
    Unpriced,
    Usage,
)

ANSWERS: dict[str, Any] = {
    "ingest_v1": None,
    "ingest_v3": None,
    "query_meter": Usage,
    "query_access": AccessAnswer,
    "entitlement_value": EntitlementValue,
    "customer_access": Entitlements,
    "account": Account,
    "healthz": Health,
    "readyz": Readiness,
    "metrics": str,
    "list_customer_signals": DataOf[Signal],
    "list_parked_events": ParkedEvents,
    "list_unpriced_usage": Unpriced,
    "list_dead_letters": DataOf[DeadLetter],
}
"""By the name of the handler, which is the operation's id; None where there is no body, `str` where it is text."""
