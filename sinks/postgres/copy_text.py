"""
Rows as PostgreSQL's COPY text, written in one go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

_json = msgspec.json.Encoder(decimal_format="string").encode
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def _text(value: str) -> str:
    return value if value.isprintable() and "\\" not in value else value.translate(_ESCAPES)


@lru_cache(maxsize=65_536)
def _instant(value: datetime) -> str:
    return value.isoformat()


def _object(value: dict[str, Any]) -> str:
    return _text(_json(value).decode()) if value else "{}"


def _array(values: list[str] | tuple[str, ...]) -> str:
    """A one-dimensional array of texts."""
    quoted = ('"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values)
    return _text("{" + ",".join(quoted) + "}")


_WRITERS: dict[type, Callable[[Any], str]] = {
    str: _text,
    int: str,
    bool: lambda value: "t" if value else "f",
    Decimal: str,
    datetime: _instant,
    type(None): lambda _value: "\\N",
    bytes: lambda value: "\\\\x" + value.hex(),
    dict: _object,
    list: _array,
    tuple: _array,
}


def copy_text(rows: Iterable[tuple[Any, ...]]) -> str:
    """
    Rows as COPY text, a line each.

    Values are str (enumerations too), int, bool, Decimal, datetime, None, bytes, a dict as jsonb, or texts as an array.
    """
    writers = _WRITERS
    lines = []
    for row in rows:
        lines.append("\t".join([writers.get(value.__class__, _text)(value) for value in row]))
    return "\n".join(lines) + "\n"
