"""
Accounts that were set aside, since the engine failed at their data; and their events, which wait.

No customer's data ends the rating of others. An account is kept as it was before what failed, without lanes and routes,
until the catalog says something else of it. What failed is a defect, and is alerted.
"""

from __future__ import annotations

from traceback import extract_tb

from rating.outcome import Outcome
from rating.refusals import RejectCode, Rejected
from rating.snapshots import Waiting

HELD_BYTES_MAX = 4 * 1024 * 1024
"""At most this many bytes of events wait in a key group for customers that were set aside."""


class Aside:
    """The customers of a key group that were set aside."""

    def __init__(self) -> None:
        self.causes: dict[str, str] = {}
        """By customer, how the engine failed."""
        self._held: dict[str, list[Waiting]] = {}
        self._held_bytes = 0

    def add(self, customer_id: str, failure: Exception) -> None:
        """Set a customer aside. Of the failure only its kind and place are kept: a message may repeat data."""
        where = "; ".join(f"{frame.name}:{frame.lineno}" for frame in extract_tb(failure.__traceback__)[-3:])
        self.causes[customer_id] = f"{type(failure).__name__} in {where}"

    def discard(self, customer_id: str) -> None:
        """Let a customer go on. Its events still wait."""
        self.causes.pop(customer_id, None)

    def hold(self, customer_id: str, event: Waiting, out: Outcome) -> None:
        """Let an event wait for its customer; beyond `HELD_BYTES_MAX` of them it is a dead letter."""
        if self._held_bytes + len(event.line) > HELD_BYTES_MAX:
            message = "the customer is set aside, since the engine failed at its data: send the event again then"
            out.reject(Rejected(RejectCode.FAILED, message, "$", event.line))
            return
        self._held_bytes += len(event.line)
        self._held.setdefault(customer_id, []).append(event)

    def release(self, customer_id: str) -> list[Waiting]:
        """Give back the events that waited for a customer."""
        events = self._held.pop(customer_id, [])
        self._held_bytes -= sum(len(event.line) for event in events)
        return events

    def held(self) -> list[Waiting]:
        """All events that wait."""
        return [event for events in self._held.values() for event in events]
