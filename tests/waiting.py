"""
Waiting in tests: for a condition and not for a time, so that a slow machine is no failure and a fast one no wait.

Nothing else in the tests sleeps. Where it is the passing of time that counts, `let_pass` says why.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE_SECONDS = 120.0
"""So long may take what has to come; where all of the machine is busy, a second's work takes many."""


def wait_for(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until a condition holds; the longer that takes, the more seldom it is looked, so that others can work."""
    read_until(condition, bool, lambda _: what, seconds)


def read_until(
    read: Callable[[], T],
    wanted: Callable[[T], Any],
    what: Callable[[T], str],
    seconds: float = PATIENCE_SECONDS,
) -> T:
    """Read again until it is as wanted. Returns what was read; else says what was waited for, given the last of it."""
    started = time.monotonic()
    while not wanted(found := read()):
        waited = time.monotonic() - started
        assert waited < seconds, f"waited {seconds} s for {what(found)}"
        time.sleep(min(0.01 + waited / 20, 0.1))
    return found


def let_pass(seconds: float, why: str) -> None:
    """Let time pass where that is what a test is about, or where any moment is right; `why` says which."""
    assert why
    time.sleep(seconds)
