"""
Logs that do not grow with the rate of what they tell of.

The same line at the same level is written so many times in a stretch of time; what comes beyond that is counted, and
the count is written with the first line of the next stretch. So nobody can fill a disk by asking again and again for
what fails, and none is lost of what is rare.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Lock
from typing import Final

from msgspec import Struct

ALIKE_MAX: Final = 5
STRETCH_SECONDS: Final = 10.0
KINDS_MAX: Final = 1000
"""So many kinds of lines are told apart; where there are more, all are forgotten and counted anew."""


class _Kind(Struct):
    """Lines that are alike, within a stretch."""

    since: float
    written: int = 0
    left_out: int = 0


class FewAlike(logging.Filter):
    """
    Lets few lines pass that are alike: of one logger, level and kind of failure, with one text before anything is put
    into it.

    Args:
        now: A clock, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._kinds: dict[tuple[object, ...], _Kind] = {}
        self._lock = Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is written; one that is the first after others were left out says how many."""
        now = self._now()
        with self._lock:
            if len(self._kinds) >= KINDS_MAX:
                self._kinds.clear()
            kind = self._kinds.setdefault(_alike(record), _Kind(now))
            left_out = 0
            if now - kind.since >= STRETCH_SECONDS:
                left_out = kind.left_out
                kind.since, kind.written, kind.left_out = now, 0, 0
            if kind.written >= ALIKE_MAX:
                kind.left_out += 1
                return False
            kind.written += 1
        if left_out:
            record.msg = f"{record.getMessage()} ({left_out} more like this since were left out)"
            record.args = ()
        return True


def _alike(record: logging.LogRecord) -> tuple[object, ...]:
    failure = record.exc_info[0] if record.exc_info else None
    return record.name, record.levelno, str(record.msg), failure


def keep_few_alike() -> None:
    """Let few lines that are alike pass all handlers of this process."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(FewAlike())
