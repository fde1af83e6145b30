"""
A writer on a thread of its own: keeps the newest row of each key, and writes them in batches.

Rows are absolute, so what is superseded before it was written need not be written. Under load the
writer rests in proportion to its last write, so that writing never takes more than a share of the
machine; at low load a row is written at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeVar

from sinks.metrics import sink_flush_seconds

Row = TypeVar("Row")

REST_FACTOR = 3.0
REST_SECONDS_MAX = 0.5


class WriterFailed(Exception):
    """The store did not take the rows. Raised where rows are handed over and at flush, with the cause chained."""


class CoalescingWriter(Generic[Row]):
    """
    Hands the newest row of each key to `write`, in the order in which keys were first put.

    `put` never blocks on the store; `flush` returns once everything put before it is durable, or raises
    `WriterFailed`. A failed write is not retried here: the process ends and resumes from its last epoch. `store` is
    how metrics name what is written to.
    """

    def __init__(self, name: str, store: str, write: Callable[[dict[Hashable, Row]], None]) -> None:
        self._write = write
        self._flush_seconds = sink_flush_seconds.labels(store)
        self._waiting: dict[Hashable, Row] = {}
        self._condition = threading.Condition()
        self._writing = False
        self._hurry = 0
        self._closed = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, rows: Mapping[Hashable, Row]) -> None:
        """Hand rows over by key; each replaces a row of the same key that is not written yet."""
        with self._condition:
            self._raise_failure()
            self._waiting.update(rows)
            self._condition.notify_all()

    def flush(self) -> None:
        """Return when all rows are in the store."""
        started = time.monotonic()
        with self._condition:
            self._hurry += 1
            self._condition.notify_all()
            while (self._waiting or self._writing) and self._failure is None:
                self._condition.wait()
            self._hurry -= 1
            self._raise_failure()
        self._flush_seconds.observe(time.monotonic() - started)

    def close(self) -> None:
        """Write what is left and end the thread."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        self._thread.join()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise WriterFailed(f"{self._thread.name}: {type(self._failure).__name__}") from self._failure

    def _run(self) -> None:
        rest = 0.0
        while True:
            with self._condition:
                while not self._waiting and not self._closed:
                    self._condition.wait()
                if rest and not self._hurry and not self._closed:
                    self._condition.wait_for(lambda: self._hurry or self._closed, timeout=rest)
                if not self._waiting:
                    return
                rows, self._waiting = self._waiting, {}
                self._writing = True
            started = time.monotonic()
            try:
                self._write(rows)
            except BaseException as failure:
                with self._condition:
                    self._failure = failure
                    self._writing = False
                    self._condition.notify_all()
                return
            rest = min(REST_FACTOR * (time.monotonic() - started), REST_SECONDS_MAX)
            if rest < 0.002:
                rest = 0.0
            with self._condition:
                self._writing = False
                self._condition.notify_all()
