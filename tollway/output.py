"""
Standard output and error whose ends are told apart from all other failures.

A reader may have seen enough (`tollway charges acme | head -1`), or a disk be full. That is no failure of a server or a
file, and no defect: `OutputFailed` is no `OSError`, so that nothing on the way takes it for one. What can't be written
to standard error is dropped: a dataflow does not end since nobody reads its messages any more.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any


class OutputFailed(Exception):
    """Standard output takes no more. `closed`: its reader is gone."""

    def __init__(self, failure: OSError) -> None:
        super().__init__(failure.strerror)
        self.closed = failure.errno == errno.EPIPE


class _Output(io.FileIO):
    """Raises once, and drops what comes after that."""

    failed = False

    def write(self, data: Any) -> int:
        if not self.failed:
            try:
                return super().write(data)
            except OSError as failure:
                self.failed = True
                raise OutputFailed(failure) from failure
        return len(data)


class _Messages(io.FileIO):
    """Drops what can't be written."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def guard() -> None:
    """Put such streams in place of `sys.stdout` and `sys.stderr`, also where they were closed from the start."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Else the next file that is opened would be taken for it. Nothing can be written to this one.
            os.open(os.devnull, os.O_RDONLY)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout = _stream(_Output(1, "w", closefd=False), sys.stdout)
    sys.stderr = messages_to(2, sys.stderr)


def messages_to(descriptor: int, before: Any = None) -> io.TextIOWrapper:
    """A stream of messages to a descriptor, which stays open."""
    return _stream(_Messages(descriptor, "w", closefd=False), before)


def _stream(raw: io.FileIO, before: Any) -> io.TextIOWrapper:
    encoding, errors = (before.encoding, before.errors) if before is not None else ("utf-8", "backslashreplace")
    by_line = raw.isatty() or isinstance(raw, _Messages)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=by_line)
