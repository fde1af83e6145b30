"""
Rows as text for COPY, written in one go.

JSON and PostgreSQL's CSV are close: with `\\` as the escape, a row as a JSON array is a row of CSV once its
brackets are gone. Only what JSON escapes for control characters has to be put back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

OPTIONS: Final = r"(format csv, escape '\', null 'null')"
"""How COPY has to be told to read the text."""

_rows = msgspec.json.Encoder(decimal_format="string").encode_lines
_json = msgspec.json.Encoder(decimal_format="string").encode

_ESCAPE: Final = re.compile(rb'\\(?:(["\\])|u00(..)|(.))')
_CONTROL: Final = re.compile(rb"\\[bfnrtu]")
"""Finds every text with an escaped control character, and a few others."""
_CONTROLS: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def copy_text(rows: Iterable[Sequence[Any]]) -> bytes:
    """
    Rows for COPY with `OPTIONS`, a line each.

    Values are str (enumerations too), int, bool, Decimal, datetime or None; others go by `array_text`, `bytes_text`
    or `json_text`. No text may hold a NUL, which PostgreSQL could not store.
    """
    text = b"\n".join([row[1:-1] for row in _rows(rows).split(b"\n")])
    if _CONTROL.search(text):
        text = _ESCAPE.sub(_put_back, text)
    return text


def _put_back(escape: re.Match[bytes]) -> bytes:
    kept, code, letter = escape.groups()
    if kept:
        return escape[0]
    return bytes.fromhex(code.decode()) if code else _CONTROLS[letter]


def json_text(value: dict[str, Any]) -> str:
    """A value for a column of jsonb."""
    return _json(value).decode() if value else "{}"


def bytes_text(value: bytes) -> str:
    """A value for a column of bytea."""
    return "\\x" + value.hex()


def array_text(values: Iterable[str]) -> str:
    """A value for a one-dimensional array of texts."""
    quoted = ('"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values)
    return "{" + ",".join(quoted) + "}"
