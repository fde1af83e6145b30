"""
Rates a file in one go, in memory: a catalog and events in, charges, credits and balances out.

The very functions of the dataflow (decode, attribute, RATE, SETTLE over key groups), without a server. All
windows stay open and all ids are remembered, so the order of the file does not matter at all. Billing
periods that are over at `as_of` are closed, so that their minimums count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, BinaryIO

from dataflows.messages import RawBatch, microseconds, segments
from dataflows.route import Router
from rating.catalog import Catalog, Record
from rating.group import KeyGroup, Rules
from rating.outcome import Parked, Rejected
from rating.rows import BalanceRow, ChargeRow, MismatchRow, Outcome

CHUNK_BYTES = 1 << 20
FOREVER = timedelta(days=365 * 1000)


class BatchResult:
    """What a file came to: the newest row of each key, and the events that ended otherwise."""

    def __init__(self) -> None:
        self.read = 0
        self.ended: Counter[tuple[str, str]] = Counter()
        self.charges: dict[tuple[Any, ...], ChargeRow] = {}
        self.balances: dict[str, BalanceRow] = {}
        self.rejected: list[Rejected] = []
        self.parked: list[Parked] = []
        self.mismatches: list[MismatchRow] = []

    def take(self, out: Outcome) -> None:
        """Keep what an outcome says."""
        self.charges.update((row[:5], row) for row in out.charges)
        self.balances.update((row.customer_id, row) for row in out.balances)
        self.rejected += out.rejected
        self.parked += out.parked
        self.mismatches += out.mismatches
        self.ended.update(out.ended)


class _Still:
    """A catalog that stands still, as the router reads it."""

    version = 0

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog

    def catch_up_to(self, head: int) -> None:
        """There is nothing to catch up with."""


def rate_file(
    records: Iterable[Record],
    events: BinaryIO,
    as_of: datetime,
    window_seconds: int = 3600,
    progress: Callable[[int], None] = lambda _bytes: None,
) -> BatchResult:
    """
    Rate a JSONL file of CloudEvents.

    Args:
        records: The catalog, as control records in order.
        events: One CloudEvent a line.
        as_of: The present instant: grants are effective or expired, and periods over, as of it.
        window_seconds: Length of a charge window.
        progress: Called with the number of bytes of each chunk.
    """
    catalog = Catalog()
    for entry_id, record in enumerate(records, 1):
        catalog.apply(entry_id, record)
    rules = Rules(
        window_seconds=window_seconds,
        late_windows=1 << 30,
        dedup_horizon=FOREVER,
        grace=FOREVER,
        keep_closed=FOREVER,
    )
    router = Router(_Still(catalog))
    groups: dict[str, KeyGroup] = {}
    result = BatchResult()

    def group_of(key: str) -> KeyGroup:
        group = groups.get(key)
        if group is None:
            group = groups[key] = KeyGroup(int(key), catalog, rules)
            _take(result, lambda out: group.resume(as_of, out))
        return group

    for number, members in enumerate(catalog.customer_ids_by_group):
        if members:
            group_of(f"{number:02}")
    received_us = microseconds(as_of)
    while chunk := events.read(CHUNK_BYTES):
        chunk += events.readline()
        for key, message in router.route(RawBatch(0, [(received_us, chunk)])):
            for received_at, blob in segments(message):
                _take(result, lambda out, g=group_of(key), b=blob, at=received_at: g.fold(b, at, as_of, out))  # type: ignore[misc]
        progress(len(chunk))
    for group in groups.values():
        _take(result, lambda out, g=group: g.price_dirty(as_of, out))  # type: ignore[misc]
        _take(result, lambda out, g=group: g.close_ended(as_of, out))  # type: ignore[misc]
    result.read = sum(result.ended.values())
    return result


def _take(result: BatchResult, step: Callable[[Outcome], None]) -> None:
    out = Outcome()
    step(out)
    result.take(out)
