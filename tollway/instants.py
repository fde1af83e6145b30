"""Instants as people write them, on the command line and in catalog files: one way of reading them for all."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

import msgspec

HOW: Final = "write it as in 2026-03-01T12:00:00Z, or as 2026-03-01 for the start of that day in UTC"
"""What to do about a text that is no instant."""

_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def parse_instant(text: str) -> datetime | None:
    """An RFC 3339 instant with its offset, or a date for its start in UTC; None for any other text."""
    try:
        at = msgspec.convert(f"{text}T00:00:00Z" if _DATE.fullmatch(text) else text, datetime)
        return None if at.tzinfo is None else at.astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        return None
