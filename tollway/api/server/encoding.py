"""
Compressed bodies: `Content-Encoding: gzip` is read, any other coding is answered with 415.

What a body unpacks to is bounded as a body that is not compressed is, and is never unpacked beyond that: a small one
can't fill the memory.
"""

from __future__ import annotations

import zlib
from typing import Any, Final

from litestar import Request

from config.limits import Limit
from tollway.openmeter.problems import Invalid, Problem, too_large

GZIP: Final = "gzip"
_ALIASES: Final = frozenset({GZIP, "x-gzip"})
_PLAIN: Final = "identity"
_WITH_HEADER: Final = zlib.MAX_WBITS + 16


def encoding_of(request: Request[Any, Any, Any]) -> str | None:
    """
    How the body is compressed; None where it is not.

    Raises:
        Problem: By something that is not read here.
    """
    given = [part.strip().lower() for part in request.headers.get("content-encoding", "").split(",")]
    named = [part for part in given if part not in ("", _PLAIN)]
    if not named:
        return None
    if len(named) > 1 or named[0] not in _ALIASES:
        shown = ", ".join(named)[:80]
        raise Problem(415, f"`Content-Encoding`: expected `{GZIP}` or none, got `{shown}`", encodings=GZIP)
    return GZIP


class Unpacked:
    """
    What a gzip body holds, a piece at a time.

    Args:
        body: The body, of one gzip member or several.
        limit: What it may unpack to.
    """

    def __init__(self, body: bytes, limit: Limit) -> None:
        self._rest = body
        self._left = limit.number
        self._limit = limit
        self._member = zlib.decompressobj(_WITH_HEADER)

    def read(self, size: int) -> bytes:
        """
        The next piece, of at most so many bytes; empty at the end.

        Raises:
            Problem: 400, this is no gzip, or is cut off; 413, it holds more than it may.
        """
        while self._rest or not self._member.eof:
            if self._member.eof:
                self._member = zlib.decompressobj(_WITH_HEADER)
            given = self._rest
            try:
                part = self._member.decompress(given, min(size, self._left + 1))
            except zlib.error as error:
                raise _broken("expected gzip, as `Content-Encoding` says") from error
            self._rest = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            if len(part) > self._left:
                raise too_large(self._limit)
            if part:
                self._left -= len(part)
                return part
            if not self._rest and not self._member.eof:
                raise _broken("expected a whole gzip body, got one that is cut off")
        return b""


def unpacked(body: bytes, limit: Limit) -> bytes:
    """All that a gzip body holds. Raises `Problem`."""
    found = Unpacked(body, limit)
    parts: list[bytes] = []
    while part := found.read(limit.number):
        parts.append(part)
    return b"".join(parts)


def _broken(message: str) -> Problem:
    return Problem(400, message, Invalid("$", "malformed", message))
