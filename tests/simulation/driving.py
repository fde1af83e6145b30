"""
Drives the engine through a whole history, as `dataflows/rate.py` does: cuts, beats, crashes and all.

Time is simulated. What the ledger would hold is kept by commit, so that a crash takes back what was not committed.
"""

from __future__ import annotations

import io
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from dataflows.messages import RawBatch, Segment, microseconds, segments
from dataflows.route import Router
from rating.catalog import (
    Catalog,
    Customer,
    FeatureSet,
    Grant,
    MeterSet,
    Phase,
    PlanVersion,
    RateCard,
    Record,
    SettlementMode,
    Subscription,
    key_group,
)
from rating.dedup import Reread, was_read_again
from rating.entitlements import MeteredEntitlement
from rating.group import KeyGroup
from rating.meters import Aggregation, Feature, Meter
from rating.outcome import BalanceRow, ChargeRow, Outcome
from rating.prices import (
    Discounts,
    Dynamic,
    Flat,
    Graduated,
    Operation,
    Package,
    PaymentTerm,
    Price,
    Pricing,
    Rounding,
    Tier,
    Unit,
    UnitConversion,
    Volume,
)
from rating.refusals import ParkCode, Parked
from rating.time_rules import TimeRules
from tests.simulation.plain import TICK, Arrival, Entry, History, Plain
from tests.world import line
from tollway.batch import BatchResult, rate_file

WAITS = {ParkCode.UNKNOWN_SUBJECT, ParkCode.NO_SUBSCRIPTION, ParkCode.NO_FEATURE, ParkCode.UNPRICED}


# -- from plain data to records -----------------------------------------------------------------


def record_of(entry: Entry) -> Record:
    """The control record of an entry."""
    body = entry.body
    match entry.kind:
        case "meter":
            field = body["field"]
            dimensions = {"kind": "$.kind", "zone": "$.zone"}
            path = None if field is None else f"$.{field}"
            return MeterSet(Meter(body["key"], body["event_type"], Aggregation(body["aggregation"]), path, dimensions))
        case "feature":
            filters = {name: tuple(allowed) for name, allowed in body["filters"].items()}
            return FeatureSet(Feature(body["key"], "", body["meter"], filters, body["others"]))
        case "plan":
            phases = tuple(
                Phase(f"phase{number}", tuple(map(_card, phase["cards"])), phase["duration"])
                for number, phase in enumerate(body["phases"])
            )
            return PlanVersion(body["key"], body["version"], "USD", body["cadence"], phases, prorate=body["prorate"])
        case "customer":
            deleted_at = entry.at if body.get("deleted") else None
            return Customer(
                body["id"],
                body["key"],
                body["id"],
                "USD",
                tuple(body["subjects"]),
                block_when_exhausted=body["block"],
                low_balance_thresholds=tuple(map(Decimal, body["thresholds"])),
                recorded_at=entry.at,
                deleted_at=deleted_at,
            )
        case "subscription":
            return Subscription(
                body["id"],
                body["customer"],
                body["plan"],
                body["version"],
                body["from"],
                body["anchor"],
                body["recorded"],
                body["to"],
                SettlementMode(body["mode"]),
            )
    assert entry.kind == "grant"
    return Grant(
        body["id"],
        body["customer"],
        Decimal(body["amount"]),
        "USD",
        body["from"],
        body["created"],
        body["priority"],
        tuple(body["features"]),
        body["to"],
        body["voided"],
    )


def _card(card: Plain) -> RateCard:
    discounts = Discounts(_decimal(card.get("percentage")), _decimal(card.get("free")))
    conversion = None
    if card.get("conversion"):
        found = card["conversion"]
        conversion = UnitConversion(
            Operation(found["operation"]), Decimal(found["factor"]), Rounding(found["rounding"]), found["precision"]
        )
    return RateCard(
        card["key"],
        card["feature"],
        Pricing(_price(card["price"]), "USD", conversion, discounts),
        cadence=card.get("cadence"),
        entitlement=MeteredEntitlement(Decimal(5)) if card.get("metered") else None,
        once=card.get("once", False),
    )


def _price(price: Plain) -> Price:
    limits: Any = {
        "minimum_amount": _decimal(price.get("minimum")),
        "maximum_amount": _decimal(price.get("maximum")),
    }
    match price["type"]:
        case "flat":
            term = PaymentTerm.IN_ARREARS if price.get("arrears") else PaymentTerm.IN_ADVANCE
            return Flat(Decimal(price["amount"]), term)
        case "dynamic":
            return Dynamic(multiplier=Decimal(price["amount"]), **limits)
        case "unit":
            return Unit(amount=Decimal(price["amount"]), **limits)
        case "package":
            return Package(amount=Decimal(price["amount"]), quantity_per_package=Decimal(price["size"]), **limits)
    tiers = tuple(Tier(_decimal(t["up_to"]), _decimal(t["unit"]), _decimal(t["flat"])) for t in price["tiers"])
    return Graduated(tiers=tiers, **limits) if price["type"] == "graduated" else Volume(tiers=tiers, **limits)


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def line_of(arrival: Arrival) -> bytes:
    """The bytes of an event."""
    event = arrival.event
    body = {name: value for name, value in event.items() if name != "time"}
    if event["time"] is not None:
        body["time"] = event["time"].isoformat()
    return line({"specversion": "1.0", **body})


# -- what is told -------------------------------------------------------------------------------


@dataclass
class Rows:
    """The ledger: the newest row of each key, and in which commit it came."""

    charges: dict[tuple[Any, ...], tuple[int, ChargeRow]] = field(default_factory=dict)
    balances: dict[str, tuple[int, BalanceRow]] = field(default_factory=dict)
    before: list[tuple[int, ChargeRow]] = field(default_factory=list)
    """Rows that were replaced by rows of windows that had left the state."""
    commit: int = 1

    def take(self, out: Outcome) -> None:
        """Take rows in; one gives way only to a revision that is not smaller."""
        for row in out.charges:
            self._put(self.charges, row[:5], row)
        for balance in out.balances:
            self._put(self.balances, balance.customer_id, balance)

    def _put(self, table: dict[Any, Any], key: Any, row: Any) -> None:
        known = table.get(key)
        if known is None or known[1].revision <= row.revision:
            if known is not None and isinstance(row, ChargeRow) and row.was_left and known[0] < self.commit:
                self.before.append(known)
            table[key] = (self.commit, row)

    def rewind(self, commit: int) -> None:
        """Take back what came after a commit."""
        self.charges = {key: row for key, row in self.charges.items() if row[0] <= commit}
        self.balances = {key: row for key, row in self.balances.items() if row[0] <= commit}
        self.before = [found for found in self.before if found[0] <= commit]
        for found in sorted(self.before, key=lambda found: -found[0]):
            self.charges.setdefault(found[1][:5], found)
        self.commit = commit + 1


class Logged(NamedTuple):
    """An entry of the event log."""

    received: datetime
    blob: bytes
    meter: str = ""
    read_version: int | None = None
    """Of what is driven again: the entry of the control log that had been seen when it was read, and had to wait."""


@dataclass
class Saved:
    """A snapshot of everything: the key groups, the offset in the log, and the commit of the ledger."""

    groups: dict[str, bytes]
    offset: int
    commit: int


class View:
    """The catalog as the process sees it, behind a control log."""

    def __init__(self) -> None:
        self.catalog = Catalog()
        self.log: list[Record] = []
        self.changed: set[str] = set()

    @property
    def version(self) -> int:
        return self.catalog.version

    def catch_up_to(self, head: int) -> None:
        """See at least the entry `head`."""
        while self.catalog.version < head:
            customer = self.catalog.apply(self.catalog.version + 1, self.log[self.catalog.version])
            if customer is not None:
                self.changed.add(customer)

    def refresh(self) -> bool:
        """Catch up. Returns whether anything was new."""
        before = self.catalog.version
        self.catch_up_to(len(self.log))
        return self.catalog.version != before


class Engine:
    """
    The keyed step and all around it that matters to it.

    Args:
        history: What happens.
        chance: Decides on cuts, beats, snapshots and crashes.
        with_lanes: Whether usage may gather in lanes.
        is_calm: Whether it never stands still, never goes back to a snapshot, and reads all as it happens.
    """

    def __init__(self, history: History, chance: random.Random, with_lanes: bool = True, is_calm: bool = False) -> None:
        self.history = history
        self.chance = chance
        self.is_calm = is_calm
        self.rules = TimeRules(
            with_lanes=with_lanes,
            window_seconds=history.window,
            late_windows=history.late_windows,
            grace=history.grace,
            keep_closed=history.keep_closed,
            max_ahead=history.max_ahead,
            lane_check_events=1,
        )
        self.view = View()
        self.router = Router(self.view)
        self.groups: dict[str, KeyGroup] = {}
        self.started: set[str] = set()
        self.rows = Rows()
        self.log: list[Logged] = []
        self.rereads: tuple[Reread, ...] = ()
        self.offset = 0
        self.read_through = datetime.min.replace(tzinfo=UTC)
        """Up to here all that was received has been read, as far as the flow knows."""
        self.parked: dict[tuple[str, ...], Parked] = {}
        self.parked_at: dict[tuple[str, ...], int] = {}
        self.segments: dict[tuple[int, int], bytes] = {}
        self.now = min(entry.at for entry in history.entries) if history.entries else history.until
        self.saved = [self.save()]
        self._entries = list(history.entries)
        self._arrivals = list(history.arrivals)

    # -- the world

    def run(self, until: datetime) -> None:
        """Let all happen up to an instant, and read and tell it."""
        chance = self.chance
        while True:
            coming = [entry.at for entry in self._entries[:1]] + [arrival.received for arrival in self._arrivals[:1]]
            at = min((instant for instant in coming if instant <= until), default=None)
            if at is None:
                break
            stands_still = not self.is_calm and chance.random() < 0.1
            if not stands_still:
                # What was left in the log is read a moment later.
                self._read(all_of_it=True)
                self._let_time_pass(at - TICK)
            for _ in range(chance.choice([2, 5, 20]) if stands_still else 1):
                at = self._happen(until) or at
            if not self.is_calm and not stands_still and chance.random() < 0.3:
                # A little later, before what was recorded is read.
                self._let_time_pass(self._a_little_after(at, until))
            self.now = max(self.now, at)
            self.view.catch_up_to(len(self.view.log))
            if self.is_calm or chance.random() < 0.5:
                self._notice()
            if self.is_calm or chance.random() < 0.8:
                self._read(all_of_it=self.is_calm or chance.random() < 0.7)
            if chance.random() < 0.3:
                self.saved.append(self.save())
            if not self.is_calm and chance.random() < 0.05:
                self.crash(self.saved[-1])
        if self.is_calm or chance.random() < 0.9:
            self._let_time_pass(until)
        self.now = max(self.now, until)
        self.drain()

    def _a_little_after(self, at: datetime, until: datetime) -> datetime:
        """
        An instant at which what happened may not have been read yet, and before anything else happens.

        A grant is always read before: who pays for what is charged between its instant and then is not said.
        """
        coming = [entry.at for entry in self._entries[:1]] + [arrival.received for arrival in self._arrivals[:1]]
        last = [record for record in self.view.log[self.view.version :] if not isinstance(record, Subscription)]
        return at if last else min([at + timedelta(seconds=1), until, *(instant - TICK for instant in coming)])

    def _happen(self, until: datetime) -> datetime | None:
        """The next thing that happens to the logs: an entry, or some events at once."""
        entry = self._entries[0].at if self._entries else None
        arrival = self._arrivals[0].received if self._arrivals else None
        if entry is not None and entry <= until and (arrival is None or entry <= arrival):
            # A command is one instant: all its entries come in one transaction.
            while self._entries and self._entries[0].at == entry:
                self.view.log.append(record_of(self._entries.pop(0)))
            self._redrive()
            return entry
        if arrival is None or arrival > until:
            return None
        taken = [self._arrivals.pop(0)]
        while self._arrivals and self._arrivals[0].received == arrival:
            taken.append(self._arrivals.pop(0))
        self.log.append(Logged(arrival, b"\n".join(map(line_of, taken))))
        return arrival

    def _clock(self) -> datetime:
        """The present instant once the log has been read; before, the receipt of what was read last."""
        if self.offset == len(self.log):
            self.read_through = self.now
        return min(self.now, self.read_through)

    def _let_time_pass(self, until: datetime) -> None:
        """Beats at the instants that are due, and at once where something waits for one."""
        beats = 0
        if until > self.now and any(group.is_waiting for group in self.groups.values()):
            self._beat()
        while self.groups:
            due = min((d for g in self.groups.values() if (d := g.calendar.next_due()) is not None), default=None)
            if due is None or due > until or (self.offset < len(self.log) and due > self.read_through):
                break
            self.now = max(self.now, due)
            self._beat()
            beats += 1
            assert beats < 3000, "time does not get on"
        self.now = max(self.now, until)

    def drain(self) -> None:
        """Read all that is there, and beat."""
        for _ in range(10):
            self._read(all_of_it=True)
            self._beat()
            if self.offset == len(self.log) and self.view.version == len(self.view.log) and not self._redrive():
                return
        raise AssertionError("events are driven again for ever")

    def _redrive(self) -> bool:
        """What waits goes back to the log once the catalog has grown."""
        waiting = [
            key
            for key, found in self.parked.items()
            if found.code in WAITS and self.parked_at[key] < len(self.view.log)
        ]
        for key in waiting:
            found = self.parked.pop(key)
            self.log.append(Logged(found.received_at, found.raw, found.meter, self.parked_at.pop(key)))
        return bool(waiting)

    # -- the engine

    def _open(self, key: str, snapshot: bytes | None) -> KeyGroup:
        return KeyGroup(
            int(key),
            self.view.catalog,
            self.rules,
            snapshot,
            lambda number, numbers: [self.segments[number, n] for n in numbers],
            self.view.refresh,
            lambda customer_id, period: [
                row for key, (_, row) in self.rows.charges.items() if key[:4] == (customer_id, *period)
            ],
        )

    def _group(self, key: str, out: Outcome, now: datetime | None = None) -> KeyGroup:
        """A group that has taken over what changed."""
        now = now or self._clock()
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = self._open(key, None)
        changed = {name for name in self.view.changed if key_group(name) == group.number}
        self.view.changed -= changed
        if key not in self.started:
            self.started.add(key)
            group.resume(now, out)
        elif changed:
            group.reconcile(changed, now, out)
        return group

    def _read(self, all_of_it: bool) -> None:
        """Read the event log, all of it or a batch."""
        self.view.catch_up_to(len(self.view.log))
        if all_of_it:
            self._notice()
        end = len(self.log) if all_of_it else min(len(self.log), self.offset + self.chance.randrange(1, 6))
        while self.offset < end:
            size = min(self.chance.choice([1, 2, 5, 50]), end - self.offset)
            batch = [
                Segment(microseconds(at), blob, meter, read_version)
                for at, blob, meter, read_version in self.log[self.offset : self.offset + size]
            ]
            for key, message in self.router.route(RawBatch(self.view.version, batch)):
                out = Outcome(self.view.version)
                found = [*segments(message)]
                # All that its partition received before the first of them has been read.
                read_through = max(self.read_through, found[0][0])
                group = self._group(key, out, min(self.now, read_through))
                for received_at, blob, framed, meter, read_version in found:
                    if read_version is not None and was_read_again(self.rereads, received_at, read_version):
                        continue
                    ended = sum(out.ended.values()) + len(group._waiting)
                    group.fold(blob, received_at, self.now, out, framed, meter, read_version is not None)
                    ended = sum(out.ended.values()) + len(group._waiting) - ended
                    assert ended == blob.count(b"\n") + 1, "an event ended nowhere, or twice"
                    if read_version is None:
                        read_through = max(read_through, received_at)
                if self.chance.random() < 0.4:
                    group.beat(min(self.now, read_through), out)
                self._take(group, out)
            fresh = [at for at, _, _, version in self.log[self.offset : self.offset + size] if version is None]
            self.read_through = max([self.read_through, *fresh])
            self.offset += size

    def _notice(self) -> None:
        """Let every group take over what changed in the catalog."""
        numbers = {f"{key_group(name):02}" for name in self.view.changed}
        for key in sorted(numbers):
            out = Outcome(self.view.version)
            self._take(self._group(key, out), out)

    def _beat(self) -> None:
        for _ in range(10):
            for key in sorted(self.groups):
                out = Outcome(self.view.version)
                group = self._group(key, out)
                group.beat(self._clock(), out)
                self._take(group, out)
            if not any(group.is_waiting for group in self.groups.values()):
                return
            # What comes back from the ledger waits for an epoch to end.
            self.saved.append(self.save())
        raise AssertionError("something waits for ever")

    def _take(self, group: KeyGroup, out: Outcome) -> None:
        for seen in out.seen:
            self.segments[group.number, seen.segment] = seen.ids
        for parked in out.parked:
            key = (parked.customer or parked.subject, parked.source, parked.id, parked.meter)
            known = self.parked.get(key)
            if known is None or known.raw == parked.raw:
                # Of two contents of one identity the first received waits.
                self.parked[key] = parked
                self.parked_at[key] = out.catalog_version
        self.rows.take(out)

    def save(self) -> Saved:
        """A snapshot, and a commit of the ledger."""
        saved = Saved({key: group.snapshot() for key, group in self.groups.items()}, self.offset, self.rows.commit)
        self.rows.commit += 1
        return saved

    def crash(self, saved: Saved) -> None:
        """Go back to a snapshot: what came after is taken back, and read again."""
        self.rows.rewind(saved.commit)
        self.offset = saved.offset
        self.view.refresh()
        self.view.changed.clear()
        self.router = Router(self.view)
        # What the flow begins with.
        self.read_through = min(
            self.now, *(entry.received for entry in self.log[self.offset : self.offset + 1]), self.now
        )
        self.groups = {key: self._open(key, snapshot) for key, snapshot in saved.groups.items()}
        self.started = set()
        for key in sorted(self.groups):
            out = Outcome(self.view.version)
            self._take(self._group(key, out), out)
        self.view.changed = {name for name in self.view.catalog.customers if f"{key_group(name):02}" not in self.groups}
        self._notice()

    def rebuilt(self, saved: Saved | None, in_step: bool = False) -> Engine:
        """
        Another engine that reads the log anew, the catalog at its head.

        Args:
            saved: The snapshot that it goes on from; None: from the beginning.
            in_step: Whether time passes as the log tells of it; else all is read at its end.
        """
        again = Engine(self.history, self.chance, is_calm=True)
        again.view.log = list(self.view.log)
        again.log = list(self.log)
        again.segments = dict(self.segments)
        # Events that were received after all that the snapshot had read are read again.
        had_read = [entry.received for entry in self.log[: saved.offset if saved is not None else 0]]
        read_from = max(had_read, default=datetime.min.replace(tzinfo=UTC))
        again.rereads = (*self.rereads, Reread(read_from, len(again.view.log)))
        if saved is not None:
            again.parked, again.parked_at = dict(self.parked), dict(self.parked_at)
        again._entries, again._arrivals = [], []
        again.now = self.now
        if in_step and again.log:
            again.now = again.log[saved.offset if saved is not None and saved.offset < len(again.log) else 0][0]
        again.rows.charges, again.rows.balances = dict(self.rows.charges), dict(self.rows.balances)
        again.rows.before = list(self.rows.before)
        again.crash(saved or Saved({}, 0, 0))
        log = again.log
        while in_step and again.offset < len(log):
            again._let_time_pass(min(log[again.offset][0], self.now) - TICK)
            again.now = max(again.now, min(log[again.offset][0], self.now))
            again.log = log[: again.offset + 1]
            again._read(all_of_it=True)
        again.log = log
        again.now = self.now
        again.drain()
        return again

    def result(self) -> BatchResult:
        """What there is in the ledger."""
        found = BatchResult(self.view.catalog, self.now)
        found.charges = {key: row for key, (_, row) in self.rows.charges.items()}
        found.balances = {key: row for key, (_, row) in self.rows.balances.items()}
        return found


def file_of(history: History) -> BatchResult:
    """What `tollway rate` says of a history."""
    lines = b"\n".join(line_of(arrival) for arrival in history.arrivals)
    return rate_file(map(record_of, history.entries), io.BytesIO(lines), history.until, history.window)
