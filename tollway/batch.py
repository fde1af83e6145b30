"""
Rates a file in one go, in memory: a catalog and events in, charges, credits and balances out.

The very functions of the dataflow (decode, attribute, RATE, SETTLE over key groups), without a server. Each event
counts as received at its own time, and time passes between the events as it does in the engine: grants come and go,
fees come due, periods close. So the order of the file does not matter at all. Billing periods that are over at
`as_of` are closed, so that their minimums count.
"""

from __future__ import annotations

import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from itertools import count, pairwise
from typing import Any, BinaryIO

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from xxhash import xxh64_intdigest

from dataflows.messages import RawBatch, Segment, instant, microseconds, segments
from dataflows.route import Router
from rating.catalog import Catalog, Grant, Record, Subscription
from rating.events import BYTE_ORDER_MARK, time_of
from rating.group import KeyGroup
from rating.money import ZERO
from rating.outcome import BalanceRow, ChargeRow, MismatchRow, Outcome
from rating.refusals import Parked, Rejected
from rating.time_rules import TimeRules
from tollway.invoicing.lines import Billed, PeriodStanding, differences
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
            PeriodStanding(charge, *priced_by(self.catalog, charge), Billed({}), before.get(key_of(charge)))
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
    result = BatchResult(Catalog(), as_of)
    for entry_id, record in enumerate(records, 1):
        if isinstance(record, Subscription):
            # All that the catalog says is known from the beginning.
            record = replace(record, recorded_at=min(record.recorded_at, record.active_from))
        elif isinstance(record, Grant):
            record = replace(record, created_at=min(record.created_at, record.effective_at))
        result.catalog.apply(entry_id, record)
    with _Lines(events, as_of, progress) as lines:
        result.read = len(lines)
        run = _Run(result, as_of, window_seconds)
        run.begin(lines.first_time())
        for at, line in lines.in_time():
            run.take(at, line)
        run.end()
    # No event may end nowhere: what was read is counted by itself, not as the sum of the ends.
    assert result.read == sum(result.ended.values()), f"{result.read} lines were read, and ended as {result.ended}"
    return result


class _Identified(Struct, gc=False):
    subject: str = ""
    source: str = ""
    id: str = ""


_decode_identity = msgspec.json.Decoder(_Identified).decode


def _identity(line: bytes) -> int:
    try:
        found = _decode_identity(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return xxh64_intdigest(line.strip(b" \t\r"))
    return xxh64_intdigest(f"{found.subject}\0{found.source}\0{found.id}".encode(errors="surrogatepass"))


class _Lines:
    """
    The lines of a file in the order of their events' times, whatever order they are in.

    Kept of each is its time, a fingerprint of what identifies it, and where it is: by these they are ordered. Of events
    with one id the first in the file is the first received, whatever their times: none comes before it. What has no
    time of before `as_of` comes last.
    """

    def __init__(self, events: BinaryIO, as_of: datetime, progress: Callable[[int], None]) -> None:
        self._last = microseconds(as_of)
        self._times = array("q")
        self._prints = array("Q")
        self._offsets = array("Q")
        self._lengths = array("L")
        # A pipe can be read only once.
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        begins = True
        offset = 0
        while chunk := events.read(CHUNK_BYTES):
            chunk += events.readline()
            progress(len(chunk))
            if begins:
                chunk, begins = chunk.removeprefix(BYTE_ORDER_MARK), False
            self._file.write(chunk)
            for line in chunk.split(b"\n"):
                if line.strip(b" \t\r"):
                    self._add(line, offset)
                offset += len(line) + 1
            offset -= 1

    def _add(self, line: bytes, offset: int) -> None:
        at = time_of(line)
        self._times.append(self._last if at is None else min(microseconds(at), self._last))
        self._prints.append(_identity(line))
        self._offsets.append(offset)
        self._lengths.append(len(line))

    def __len__(self) -> int:
        return len(self._times)

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_failure: object) -> None:
        self._file.close()

    def first_time(self) -> datetime | None:
        """The earliest time of an event."""
        return instant(min(self._times)) if self._times else None

    def in_time(self) -> Iterator[tuple[int, bytes]]:
        """Each line with its time, in microseconds since the epoch."""
        times, prints = self._times, self._prints
        by_print = sorted(range(len(times)), key=prints.__getitem__)
        for one, next_one in pairwise(by_print):
            if prints[one] == prints[next_one] and times[next_one] < times[one]:
                times[next_one] = times[one]
        # The sort is stable, and events with one id are in the order of the file.
        for number in sorted(by_print, key=times.__getitem__):
            self._file.seek(self._offsets[number])
            yield times[number], self._file.read(self._lengths[number])


class _Run:
    """
    The key groups, as if each event had been received at its time: instants have their effect between the events.

    Usage can't come late, so periods close and leave as they do in the engine with its usual grace.
    """

    def __init__(self, result: BatchResult, as_of: datetime, window_seconds: int) -> None:
        self._result = result
        self._as_of = as_of
        self._rules = TimeRules(window_seconds=window_seconds, late_windows=1 << 30, dedup_horizon=FOREVER)
        self._router = Router(_Still(result.catalog))
        self._groups: dict[str, KeyGroup] = {}
        self._lines: list[bytes] = []
        self._bytes = self._at = 0
        self._due: int | None = None

    def begin(self, first: datetime | None) -> None:
        """Let time begin before all that the catalog and the events tell of."""
        catalog = self._result.catalog
        begins = [self._as_of, *([first] if first is not None else [])]
        for subscriptions in catalog.subscriptions.values():
            begins += [subscription.active_from for subscription in subscriptions.values()]
        for grants in catalog.grants.values():
            begins += [grant.effective_at for grant in grants.values()]
        self._at = microseconds(min(begins))
        for number, members in enumerate(catalog.customer_ids_by_group):
            if members:
                self._group(f"{number:02}")
        self._look()

    def take(self, at: int, line: bytes) -> None:
        """Rate an event, after the instants that passed before it."""
        if self._due is not None and self._due <= at:
            self._pass(at)
        self._at = at
        self._lines.append(line)
        self._bytes += len(line)
        if self._bytes >= CHUNK_BYTES:
            self._flush()

    def end(self) -> None:
        """Close the periods that are over, without waiting out their grace, and tell all as of the end."""
        self._pass(microseconds(self._as_of))
        self._flush()
        for group in self._groups.values():
            out = Outcome()
            group.beat(self._as_of, out)
            group.close_ended(self._as_of, out)
            group.reconcile(sorted(group.accounts), self._as_of, out)
            for customer_id, how in group.aside.items():
                raise RuntimeError(f"customer {customer_id} could not be rated: {how}")
            self._result.take(out)

    def _pass(self, until: int) -> None:
        """Let what is due up to an instant have its effect, after the events of before."""
        self._flush()
        while self._due is not None and self._due <= until:
            now = instant(self._due)
            for group in self._groups.values():
                due = group.calendar.next_due()
                if due is not None and due <= now:
                    out = Outcome()
                    group.calendar.read_through = now
                    group.calendar.epoch += 1
                    group.beat(now, out)
                    self._result.take(out)
            self._look()

    def _flush(self) -> None:
        """Rate the events that were taken."""
        if self._lines:
            batch = RawBatch(0, [Segment(self._at, b"\n".join(self._lines))])
            self._lines, self._bytes = [], 0
            for key, message in self._router.route(batch):
                group = self._group(key)
                for received_at, blob, framed, meter, _ in segments(message):
                    out = Outcome()
                    group.fold(blob, received_at, received_at, out, framed, meter)
                    self._result.take(out)
            self._look()

    def _look(self) -> None:
        """Find out when time alone moves something next."""
        found = [due for group in self._groups.values() if (due := group.calendar.next_due()) is not None]
        self._due = microseconds(min(found)) if found else None

    def _group(self, key: str) -> KeyGroup:
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = KeyGroup(int(key), self._result.catalog, self._rules)
            out = Outcome()
            group.resume(instant(self._at), out)
            self._result.take(out)
        return group
