"""
While another history is read from the log, what is visible stays as it is.

Its first rows are older than what gates have seen, and the log may lead to the same again. Told at once, a customer
whom usage in the log blocks would be let through for as long as reading takes, and be signalled twice for nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Mapping
from datetime import UTC, datetime
from typing import Generic, TypeVar

SETTLE_SECONDS = 2.0
"""What was read last is priced on a beat, at most so much later."""
POLL_SECONDS = 0.05

Row = TypeVar("Row")


class CatchingUp:
    """
    Whether rows are held back in this process, until its sources have read what the log had when it began.

    Of other processes nothing is known: in a cluster each lets go of its rows when it has caught up itself.
    """

    def __init__(self) -> None:
        self._holds = False
        self._behind: set[Hashable] = set()
        self._passed_at: float | None = None
        self._keeping: list[HeldRows[object]] = []
        self.began_us = 0
        """When reading began, in microseconds since the epoch: what was received later is new."""

    def hold(self) -> None:
        """Hold rows back from now on."""
        self._holds = True
        self.began_us = int(datetime.now(UTC).timestamp() * 1_000_000)

    def opened(self, partition: Hashable) -> None:
        """A partition of a source begins."""
        self._behind.add(partition)

    def passed(self, partition: Hashable) -> None:
        """A partition has read what there was."""
        if partition in self._behind:
            self._behind.discard(partition)
            self._passed_at = time.monotonic()

    def holds(self, *, ended: bool = False) -> bool:
        """
        Whether rows are still held back. Once they are not, they never are again.

        Args:
            ended: The flow ended, so that all it read is priced.
        """
        if not self._holds or self._behind:
            return self._holds
        if self._passed_at is None:
            self._passed_at = time.monotonic()  # as long as no source was opened yet
        self._holds = not ended and time.monotonic() - self._passed_at < SETTLE_SECONDS
        return self._holds

    def is_over(self) -> bool:
        """Whether all that was held back has been let go."""
        return not self.holds() and all(held.is_over for held in self._keeping)

    def keep(self, let_go: Callable[[list[Row]], None]) -> HeldRows[Row]:
        """A place for rows, whose newest are given to `let_go` in the end."""
        held = HeldRows(self, let_go)
        self._keeping.append(held)  # type: ignore[arg-type]
        return held


class HeldRows(Generic[Row]):
    """
    The newest row of each key, for as long as rows are held back.

    They are let go by a thread: the flow may be at rest by then. What is let go comes before what is put later.
    """

    def __init__(self, catching_up: CatchingUp, let_go: Callable[[list[Row]], None]) -> None:
        self._catching_up = catching_up
        self._let_go = let_go
        self._rows: dict[Hashable, Row] = {}
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        self._closed = threading.Event()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        if not catching_up.holds():
            self._over.set()
        else:
            self._thread = threading.Thread(target=self._wait, name="held", daemon=True)
            self._thread.start()

    @property
    def is_over(self) -> bool:
        """Whether rows need not be kept any more."""
        return self._over.is_set()

    def take(self, rows: Mapping[Hashable, Row]) -> bool:
        """Keep rows if they have to wait. Returns whether they do. Raises what letting go of them raised."""
        if self._over.is_set():
            return False
        with self._lock:
            self.check()
            if self._over.is_set():
                return False
            self._rows |= rows
            return True

    def check(self) -> None:
        """Raise what letting go raised."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """The flow ended: let go if it has caught up; else what is visible stays, and the next start tells it."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
        if not self._catching_up.holds(ended=True):
            self._release()
        self.check()

    def _wait(self) -> None:
        while not self._closed.wait(POLL_SECONDS):
            if not self._catching_up.holds():
                self._release()
                return

    def _release(self) -> None:
        with self._lock:
            if self._over.is_set() or self._failure is not None:
                return
            try:
                self._let_go([*self._rows.values()])
            except BaseException as failure:
                self._failure = failure
                return
            self._rows.clear()
            self._over.set()
