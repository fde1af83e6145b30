"""Measuring how long a key group's turns take, while everybody else of the process waits."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from dataflows.rate import RateLogic


class Turns:
    """Times every turn of the dataflow of this process from now on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds: list[float] = []
        for name in ("on_batch", "on_notify", "snapshot"):
            monkeypatch.setattr(RateLogic, name, self._timed(getattr(RateLogic, name)))

    def _timed(self, turn: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            started = time.thread_time()
            try:
                return turn(*args)
            finally:
                self.seconds.append(time.thread_time() - started)

        return timed

    @property
    def longest(self) -> float:
        """Seconds of work in the longest of them; what other processes of the machine took of it does not count."""
        return max(self.seconds)

    def __str__(self) -> str:
        found = sorted(self.seconds)
        middle, late = found[len(found) // 2], found[len(found) * 999 // 1000]
        return (
            f"{len(found)} turns: {middle * 1000:.1f} ms p50, {late * 1000:.1f} ms p99.9, {found[-1] * 1000:.1f} ms max"
        )


def say(text: str) -> None:
    """Tell how far a long run is: pytest shows it with `-s`."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
