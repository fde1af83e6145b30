"""Waiting in tests: for a condition and not for a time, so that a slow machine is no failure and a fast one no wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE_SECONDS = 120.0
"""So long may take what has to come; where all of the machine is busy, a second's work takes many."""


def wait_for(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until a condition holds; the longer that takes, the more seldom it is looked, so that others can work."""
    started = time.monotonic()
    while not condition():
        waited = time.monotonic() - started
        assert waited < seconds, f"waited {seconds} s for {what}"
        time.sleep(min(0.01 + waited / 20, 0.1))
