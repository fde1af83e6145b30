"""Text that PostgreSQL can hold: without NUL, and without half a surrogate pair."""

from __future__ import annotations

import re
from typing import Final

_UNSTORABLE: Final = re.compile(r"[\x00\ud800-\udfff]")


def is_storable(text: str) -> bool:
    """Whether the database can hold a text, and so may have it."""
    return _UNSTORABLE.search(text) is None
