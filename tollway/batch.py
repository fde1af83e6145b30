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
from itertools import count
from typing import Any, BinaryIO

from dataflows.messages import RawBatch, Segment, microseconds, segments
from dataflows.route import Router
from rating.catalog import Catalog, Record
from rating.events import BYTE_ORDER_MARK
from rating.group import KeyGroup
from rating.money import ZERO
from rating.outcome import Parked, Rejected
from rating.rows import BalanceRow, ChargeRow, MismatchRow, Outcome
from rating.rules import Rules
from tollway.invoicing.lines import Billed, Standing, differences
from tollway.invoicing.model import Invoice, InvoiceCustomer, InvoiceStatus, Totals
from tollway.invoicing.parts import before_parts, key_of
from tollway.invoicing.pricing import priced_by
from tollway.ledger_reads import Charge, ChargeStatus

CHUNK_BYTES = 1 << 20
FOREVER = timedelta(days=365 * 1000)


class BatchResult:
    """What a file came to: the newest row of each key, and the events that ended otherwise."""

    def __init__(self, catalog: Catalog, as_of: datetime) -> None:
        self.catalog = catalog
        self.as_of = as_of
        self.read = 0
        self.ended: Counter[tuple[str, str]] = Counter()
        self.charges: dict[tuple[Any, ...], ChargeRow] = {}
        self.balances: dict[str, BalanceRow] = {}
        self.rejected: list[Rejected] = []
        self.parked: list[Parked] = []
        self.mismatches: list[MismatchRow] = []

    def periods(self) -> list[Charge]:
        """What each rate card came to in each billing period: the sum of its windows."""
        found: dict[tuple[Any, ...], list[ChargeRow]] = {}
        for row in self.charges.values():
            found.setdefault(row[:4], []).append(row)
        return [_period(rows) for _, rows in sorted(found.items())]

    def invoices(self) -> list[Invoice]:
        """An invoice for each customer that was charged, of all its periods."""
        by_customer: dict[str, list[Charge]] = {}
        for charge in self.periods():
            by_customer.setdefault(charge.customer_id, []).append(charge)
        return [self._invoice(customer_id, charges) for customer_id, charges in by_customer.items()]

    def _invoice(self, customer_id: str, charges: list[Charge]) -> Invoice:
        customer = self.catalog.customers[customer_id]
        numbers = count(1)
        before = before_parts(self.catalog, charges)
        periods = [
            Standing(charge, *priced_by(self.catalog, charge), Billed({}), before.get(key_of(charge)))
            for charge in charges
        ]
        lines = differences(periods, (), lambda: f"{customer.key}-{next(numbers)}")
        return Invoice(
            id=f"rated-{customer.key}",
            number=f"RATED-{customer.key}",
            status=InvoiceStatus.GATHERING,
            customer=InvoiceCustomer(customer.id, customer.key, customer.name),
            currency=customer.currency,
            totals=Totals.sum(line.totals for line in lines),
            period_start=min((line.period_start for line in lines), default=None),
            period_end=max((line.period_end for line in lines), default=None),
            as_of=self.as_of,
            created_at=self.as_of,
            updated_at=self.as_of,
            issued_at=None,
            voided_at=None,
            lines=tuple(lines),
        )

    def take(self, out: Outcome) -> None:
        """Keep what an outcome says."""
        self.charges.update((row[:5], row) for row in out.charges)
        self.balances.update((row.customer_id, row) for row in out.balances)
        self.rejected += out.rejected
        self.parked += out.parked
        self.mismatches += out.mismatches
        self.ended.update(out.ended)


def _period(rows: list[ChargeRow]) -> Charge:
    newest = max(rows, key=lambda row: row.revision)
    closed = any(row.closed for row in rows)
    commitment = sum((row.commitment for row in rows), ZERO)
    return Charge(
        customer_id=newest.customer_id,
        subscription_id=newest.subscription_id,
        card_key=newest.card_key,
        feature_key=newest.feature_key,
        period_start=newest.period_start,
        period_end=newest.period_end,
        full_start=newest.full_start,
        full_end=newest.full_end,
        currency=newest.currency,
        settlement_mode=newest.settlement_mode,
        status=ChargeStatus.CLOSED if closed else ChargeStatus.ACTIVE,
        usage=sum((row.quantity for row in rows), ZERO),
        events=sum(row.events for row in rows),
        amount=sum((row.amount for row in rows), ZERO) - commitment,
        commitment=commitment,
        credits=sum((row.credits for row in rows), ZERO),
        uncovered=sum((row.uncovered for row in rows), ZERO),
        revision=newest.revision,
    )


class _Still:
    """A catalog that stands still, as the router reads it."""

    version: int = 0

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
    result = BatchResult(catalog, as_of)

    def group_of(key: str) -> KeyGroup:
        group = groups.get(key)
        if group is None:
            group = groups[key] = KeyGroup(int(key), catalog, rules)
            out = Outcome()
            group.resume(as_of, out)
            result.take(out)
        return group

    for number, members in enumerate(catalog.customer_ids_by_group):
        if members:
            group_of(f"{number:02}")
    received_us = microseconds(as_of)
    begins = True
    while chunk := events.read(CHUNK_BYTES):
        chunk += events.readline()
        size = len(chunk)
        if begins:
            chunk, begins = chunk.removeprefix(BYTE_ORDER_MARK), False
        result.read += sum(1 for line in chunk.split(b"\n") if line.strip(b" \t\r"))
        for key, message in router.route(RawBatch(0, [Segment(received_us, chunk)])):
            group = group_of(key)
            for received_at, blob, framed, meter, _ in segments(message):
                out = Outcome()
                group.fold(blob, received_at, as_of, out, framed, meter)
                result.take(out)
        progress(size)
    for group in groups.values():
        out = Outcome()
        group.price_dirty(as_of, out)
        group.close_ended(as_of, out)
        result.take(out)
    # No event may end nowhere: what was read is counted by itself, not as the sum of the ends.
    assert result.read == sum(result.ended.values()), f"{result.read} lines were read, and ended as {result.ended}"
    return result
