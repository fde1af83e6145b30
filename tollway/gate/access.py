"""
A copy of each customer's access, which one thread keeps up and any number of threads read.

Reading takes no lock: an entry is immutable and is replaced as a whole.
"""

from __future__ import annotations

import math
import threading
import time

from msgspec import Struct

WONDERED_MAX = 10_000


class Access(Struct, frozen=True):
    """
    What is known of a customer. Of two, the one with the greater generation holds, then that with the greater revision.
    """

    allowed: bool
    reason: str
    blocked_features: frozenset[str]
    live: str
    """The balance as of then, in the customer's currency, in plain notation."""
    revision: int
    as_of: str
    generation: int = 0
    """Greater after the ledger was restored or rebuilt: its revisions began again from an older state."""


class AccessCopy:
    """All customers by key, and when the copy was last known to be complete."""

    def __init__(self) -> None:
        self.known: dict[str, Access] = {}
        self.ready = threading.Event()
        """Set once everybody was read."""
        self._fresh_at = -math.inf
        self._wondered: set[str] = set()

    @property
    def stale_seconds(self) -> float:
        """Since when the copy was last known to be complete; infinite where it never was."""
        return time.monotonic() - self._fresh_at

    def learn(self, customer: str, access: Access) -> None:
        """Take a customer's access over, unless a newer one is known."""
        before = self.known.get(customer)
        if before is None or (access.generation, access.revision) >= (before.generation, before.revision):
            self.known[customer] = access

    def forget(self, customer: str) -> None:
        """A customer is gone."""
        self.known.pop(customer, None)

    def complete(self, at: float) -> None:
        """The copy was complete at an instant of the monotonic clock."""
        self._fresh_at = at
        self.ready.set()

    def wonder(self, customer: str) -> None:
        """Somebody asked for a customer that is not known: it may be new."""
        if len(self._wondered) < WONDERED_MAX:
            self._wondered.add(customer)

    def take_wondered(self) -> list[str]:
        """Who was asked for in vain since this was last called."""
        if not self._wondered:
            return []
        wondered, self._wondered = self._wondered, set()
        return list(wondered)
