"""Subjects that change hands, and ids that several customers have: router and key groups against plain sets."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from dataflows.messages import RawBatch, Segment, microseconds, segments
from dataflows.route import Router
from rating.catalog import Catalog, Customer, Record, SettlementMode, key_group
from rating.events import EventDecoder
from rating.group import KeyGroup
from rating.meters import Aggregation
from rating.outcome import ChargeRow, MismatchRow, Outcome
from rating.placing import metered_fields, place
from rating.refusals import Parked, Rejected
from rating.time_rules import TimeRules
from tests.simulation.settling import DAY, HOUR, card, customer, event, metered, plan, subscription
from tests.world import START, line

MINUTE = timedelta(minutes=1)
RULES = TimeRules(lane_check_events=1)


def alike(count: int, group: int) -> list[str]:
    """Ids of customers of one key group."""
    found = (f"customer-{number}" for number in range(100_000) if key_group(f"customer-{number}") == group)
    return [next(found) for _ in range(count)]


TOGETHER = alike(3, 7)
APART = [*alike(1, 8), *alike(1, 9)]
CUSTOMERS = [*TOGETHER, *APART]


class Engine:
    """Router and key groups over a log: what they rated, however often they went back to a snapshot."""

    def __init__(self, catalog: Catalog, rules: TimeRules = RULES) -> None:
        self.catalog = catalog
        self.rules = rules
        self.router = Router(self)
        self.groups: dict[int, KeyGroup] = {}
        self.segments: dict[tuple[int, int], bytes] = {}
        self.charges: dict[tuple[Any, ...], ChargeRow] = {}
        self.ended: Counter[str] = Counter()
        self.parked: list[Parked] = []
        self.mismatches: list[MismatchRow] = []
        self.now = START
        self.position = 0
        self.saved: tuple[dict[int, bytes], dict[tuple[Any, ...], ChargeRow], int] = ({}, {}, 0)

    @property
    def version(self) -> int:
        return self.catalog.version

    def catch_up_to(self, _head: int) -> None:
        """The catalog is what it is."""

    def group(self, number: int, snapshot: bytes | None = None) -> KeyGroup:
        if number not in self.groups:
            group = self.groups[number] = KeyGroup(
                number,
                self.catalog,
                self.rules,
                snapshot,
                lambda _, numbers: [self.segments[number, segment] for segment in numbers],
            )
            out = Outcome()
            group.resume(self.now, out)
            self.take(out)
        return self.groups[number]

    def read(self, log: list[Segment], now: datetime) -> None:
        """Read on to the end of the log."""
        self.now = now
        while self.position < len(log):
            for key, message in self.router.route(RawBatch(0, [log[self.position]])):
                for received_at, blob, framed, meter, _ in segments(message):
                    out = Outcome()
                    self.group(int(key)).fold(blob, received_at, now, out, framed, meter)
                    self.take(out)
            self.position += 1

    def reconcile(self, concerned: set[str]) -> None:
        """The key groups take over what the catalog says now."""
        for customer_id in sorted(concerned):
            out = Outcome()
            self.group(key_group(customer_id)).reconcile([customer_id], self.now, out)
            self.take(out)

    def beat(self) -> None:
        for group in self.groups.values():
            out = Outcome()
            group.beat(self.now, out)
            self.take(out)

    def take(self, out: Outcome) -> None:
        for row in out.charges:
            known = self.charges.get(row[:5])
            assert known is None or known.revision <= row.revision
            self.charges[row[:5]] = row
        for seen in out.seen:
            self.segments[seen.key_group, seen.segment] = seen.ids
        for (end, _), count in out.ended.items():
            self.ended[end] += count
        self.parked += out.parked
        self.mismatches += out.mismatches

    def save(self) -> None:
        self.beat()
        snapshots = {number: group.snapshot() for number, group in self.groups.items()}
        self.saved = (snapshots, dict(self.charges), self.position)

    def crash(self) -> None:
        """Go on from what was saved; what was written since is taken back."""
        snapshots, charges, self.position = self.saved
        self.charges = dict(charges)
        self.groups = {}
        for number, snapshot in snapshots.items():
            self.group(number, snapshot)

    def used(self) -> dict[str, Decimal]:
        """What was charged for by customer, at a price of 1."""
        self.beat()
        found: dict[str, Decimal] = defaultdict(Decimal)
        for row in self.charges.values():
            assert row.quantity == row.amount
            found[row.customer_id] += row.quantity
        return {customer_id: quantity for customer_id, quantity in found.items() if quantity}


def catalog_of(*records: Record) -> Catalog:
    catalog = Catalog()
    for record in records:
        catalog.apply(catalog.version + 1, record)
    return catalog


def subscribed(customer_id: str) -> Record:
    mode = SettlementMode.CREDIT_THEN_INVOICE
    return subscription(mode, START - 9 * DAY, name=f"s-{customer_id}", customer_id=customer_id)


def owning(customer_id: str, *subjects: str, at: datetime = START) -> Customer:
    return customer(subjects, customer_id, key=f"key-{customer_id}", recorded_at=at)


def base(*records: Record) -> list[Record]:
    """Events of `a` gather in lanes; those of `b`, whose texts are counted once, never do."""
    features = [*metered("a"), *metered("b", Aggregation.UNIQUE_COUNT)]
    return [*features, plan(card("a"), card("b")), *map(subscribed, CUSTOMERS), *records]


def segment(received: datetime, *events: dict[str, Any]) -> Segment:
    return Segment(microseconds(received), b"\n".join(map(line, events)))


# -- one id of several customers ------------------------------------------------------------------


@pytest.mark.parametrize("customers", [TOGETHER, APART, CUSTOMERS])
def test_one_id_of_several_customers_is_an_event_of_each(customers: list[str]) -> None:
    """In one key group as in several: each is rated once, again is a duplicate, and other content of each is kept."""
    engine = Engine(catalog_of(*base(*map(owning, customers))))
    sent = [event("shared", "a", 10, START, f"key-{customer_id}") for customer_id in customers]
    changed = [found | {"data": {"n": 11}} for found in sent]
    log = [segment(START + HOUR, *sent, *sent), segment(START + HOUR, *reversed(sent), *changed)]
    engine.read(log, START + HOUR)
    engine.save()
    engine.crash()
    log += log
    engine.read(log, START + HOUR)
    assert engine.used() == dict.fromkeys(customers, Decimal(10))
    count = len(customers)
    assert engine.ended == {"rated": count, "duplicate": (1 + 2) * count + 4 * count}
    assert len({found.raw for found in engine.mismatches}) == count


def test_customers_who_count_their_ids_from_one_gather_in_lanes_all_the_same() -> None:
    """Ids of one source that only the customer tells apart, over sealed segments and a restart."""
    engine = Engine(catalog_of(*base(*map(owning, TOGETHER))), TimeRules())
    log = []
    for number in range(2500):
        events = (event(str(number), "a", 1, START, f"key-{customer_id}") for customer_id in TOGETHER)
        log.append(segment(START + HOUR, *events))
    engine.read(log, START + HOUR)
    assert len(engine.segments) > 2
    engine.save()
    engine.crash()
    engine.read(log * 2, START + HOUR)
    assert engine.used() == dict.fromkeys(TOGETHER, Decimal(2500))
    assert engine.ended == {"rated": 7500, "duplicate": 7500}


def test_the_usage_of_one_meter_that_is_driven_again_has_an_identity_of_its_own() -> None:
    """Twice it is one of itself, and a duplicate of an event that was counted for that meter; for each customer."""
    sent = [event("shared", "a", 10, START, f"key-{customer_id}") for customer_id in TOGETHER[:2]]
    blob = b"\n".join(map(line, sent))
    received = microseconds(START + HOUR)
    whole, part = Segment(received, blob), Segment(received, blob, "a")
    for log, ended in (([part, part], {"rated": 2, "duplicate": 2}), ([whole, part], {"rated": 2, "duplicate": 2})):
        engine = Engine(catalog_of(*base(*map(owning, TOGETHER[:2]))))
        engine.read(log, START + HOUR)
        assert engine.used() == dict.fromkeys(TOGETHER[:2], Decimal(10))
        assert engine.ended == ended


def test_an_event_that_was_parked_or_rejected_is_not_remembered() -> None:
    """Its id is free: what comes later under it is rated."""
    engine = Engine(catalog_of(*base(owning(TOGETHER[0], "s"))))
    broken = event("1", "a", -1, START, "s")
    ahead = event("2", "a", 1, START + DAY, "s")
    unknown = event("3", "a", 1, START, "nobody")
    log = [segment(START + HOUR, broken, ahead, unknown)]
    good = [event(name, "a", 5, START, "s") for name in "123"]
    log.append(segment(START + HOUR, *good))
    engine.read(log, START + HOUR)
    assert engine.used() == {TOGETHER[0]: Decimal(15)}
    assert engine.ended == {"rejected": 2, "parked": 1, "rated": 3}


def test_ids_in_snapshots_of_before_are_duplicates_for_every_customer() -> None:
    """A snapshot without customers' numbers goes on: what it has rated is not charged again."""
    engine = Engine(catalog_of(*base(*map(owning, TOGETHER[:2]))))
    first = event("old", "a", 10, START, f"key-{TOGETHER[0]}")
    log = [segment(START + HOUR, first)]
    engine.read(log, START + HOUR)
    group = engine.groups[7]
    for prints in group.seen._prints.values():
        prints.update({event_id: found & 0xFFFFFFFF for event_id, found in prints.items()})
    for account in group.accounts.values():
        account.state.number = 0
        account.packed = None
    engine.save()
    engine.crash()
    assert sorted(account.state.number for account in engine.groups[7].accounts.values())[:2] == [1, 2]
    second = first | {"subject": f"key-{TOGETHER[1]}"}
    engine.read([*log, segment(START + HOUR, first, second, second | {"id": "new"})], START + HOUR)
    assert engine.used() == {TOGETHER[0]: Decimal(10), TOGETHER[1]: Decimal(10)}
    assert engine.ended == {"rated": 2, "duplicate": 2}


# -- subjects that move ---------------------------------------------------------------------------


@pytest.mark.parametrize("other", [TOGETHER[1], APART[0]])
def test_a_subject_that_moves_takes_only_its_later_usage_along(other: str) -> None:
    """By the time of use, whenever it arrives; what was sent before and comes again is a duplicate."""
    one, moved_at = TOGETHER[0], START + 90 * MINUTE
    engine = Engine(catalog_of(*base(owning(one, "s"), owning(other))))
    before = [event(f"before-{number}", "a", 1, START + number * MINUTE, "s") for number in range(90)]
    log = [segment(moved_at, *before)]
    engine.read(log, moved_at)
    for record in (owning(one, at=moved_at), owning(other, "s", at=moved_at)):
        engine.catalog.apply(engine.catalog.version + 1, record)
    engine.reconcile({one, other})
    after = [event(f"after-{number}", "a", 1, moved_at + number * MINUTE, "s") for number in range(30)]
    late = [event(f"late-{number}", "a", 1, START + number * MINUTE, "s") for number in range(90)]
    mixed = [found for pair in zip(late, after * 3, strict=True) for found in pair]
    log.append(segment(START + DAY, *mixed, *before))
    engine.read(log, START + DAY)
    assert engine.used() == {one: Decimal(180), other: Decimal(30)}
    assert engine.ended == {"rated": 210, "duplicate": 60 + 90}
    again = Engine(engine.catalog)
    again.read(log, START + DAY)
    assert again.used() == engine.used()


@pytest.mark.parametrize("feature", ["a", "b"])
@pytest.mark.parametrize("other", [TOGETHER[1], APART[0]])
def test_usage_ahead_of_its_arrival_is_whose_the_subject_was_when_it_arrived(other: str, feature: str) -> None:
    """Who would have the subject at the time of use was not known then; a replay that knows it finds the same."""
    one, moved_at = TOGETHER[0], START + 10 * MINUTE
    engine = Engine(catalog_of(*base(owning(one, "s"), owning(other))))

    def usage(count: int, name: str) -> list[dict[str, Any]]:
        names = [f"{name}-{number}" for number in range(count)]
        return [event(name, feature, 1 if feature == "a" else name, moved_at + MINUTE, "s") for name in names]

    log = [segment(moved_at - MINUTE, *usage(3, "ahead"))]
    engine.read(log, moved_at)
    for record in (owning(one, at=moved_at), owning(other, "s", at=moved_at)):
        engine.catalog.apply(engine.catalog.version + 1, record)
    engine.reconcile({one, other})
    log.append(segment(moved_at + MINUTE, *usage(5, "then")))
    log.append(segment(moved_at - MINUTE, *usage(2, "too")))
    engine.read(log, moved_at + MINUTE)
    again = Engine(engine.catalog)
    again.read(log, moved_at + MINUTE)
    assert engine.used() == again.used() == {one: Decimal(5), other: Decimal(5)}


class Hands:
    """Who took which subject when, as a plain list."""

    def __init__(self) -> None:
        self.taken: dict[str, list[tuple[datetime, str | None]]] = defaultdict(list)

    def owner(self, subject: str, at: datetime) -> str | None:
        before = [owner for since, owner in self.taken[subject] if since <= at][-1:]
        after = [owner for since, owner in self.taken[subject] if since > at]
        return next((owner for owner in before + after if owner is not None), None)


SUBJECTS = ["s", "t", "u"]


def moves(chance: random.Random, hands: Hands, has: dict[str, set[str]], now: datetime) -> Iterator[Record]:
    """One change of hands: to somebody, or to nobody."""
    subject, taker = chance.choice(SUBJECTS), chance.choice([*CUSTOMERS, None])
    changed = [customer_id for customer_id in CUSTOMERS if subject in has[customer_id] and customer_id != taker]
    for customer_id in changed:
        has[customer_id].discard(subject)
    if taker is not None and subject not in has[taker]:
        has[taker].add(subject)
        changed.append(taker)
    hands.taken[subject].append((now, taker))
    chance.shuffle(changed)
    for customer_id in changed:
        yield owning(customer_id, *sorted(has[customer_id]), at=now)


@pytest.mark.parametrize("seed", range(60))
def test_any_moves_and_events_in_any_order_are_those_of_plain_sets(seed: int) -> None:
    """Late, early, repeated, parked and driven again, with crashes; read again from the start it is the same."""
    chance = random.Random(seed)
    hands, has = Hands(), {customer_id: set[str]() for customer_id in CUSTOMERS}
    engine = Engine(catalog_of(*base(*(owning(customer_id, at=START - 9 * DAY) for customer_id in CUSTOMERS))))
    log: list[Segment] = []
    used: list[tuple[str, str, datetime]] = []
    waiting: list[Parked] = []
    sent: list[dict[str, Any]] = []
    now = START
    for _ in range(60):
        now += chance.randrange(1, 40) * MINUTE
        engine.now = now
        match chance.choice(["events", "events", "events", "move", "save", "crash"]):
            case "move":
                records = [*moves(chance, hands, has, now)]
                for record in records:
                    engine.catalog.apply(engine.catalog.version + 1, record)
                engine.reconcile({record.id for record in records if isinstance(record, Customer)})
                for parked in [*waiting]:
                    if placed(engine.catalog, parked):
                        waiting.remove(parked)
                        log.append(Segment(microseconds(parked.received_at), parked.raw))
            case "save":
                engine.save()
            case "crash":
                engine.crash()
            case _:
                events = []
                for _ in range(chance.randrange(1, 12)):
                    at = now + chance.randrange(-600, 5) * MINUTE
                    name = str(chance.randrange(40))
                    feature, amount = ("a", 1) if name < "2" else ("b", name)
                    found = event(name, feature, amount, at, chance.choice(SUBJECTS))
                    if chance.random() < 0.1:
                        found["time"] = None
                    events.append(chance.choice(sent) if sent and chance.random() < 0.2 else found)
                sent += events
                log.append(segment(now, *events))
                for found in events:
                    at = now if found["time"] is None else datetime.fromisoformat(found["time"])
                    used.append((found["subject"], found["id"], min(at, now)))
        before = len(engine.parked)
        engine.read(log, now)
        waiting += [parked for parked in engine.parked[before:] if parked not in waiting]
    distinct = {(owner, event_id) for subject, event_id, at in used if (owner := hands.owner(subject, at)) is not None}
    expected = {owner: Decimal(count) for owner, count in Counter(owner for owner, _ in distinct).items()}
    assert engine.used() == expected
    again = Engine(engine.catalog)
    again.read(log, now)
    assert again.used() == expected


def placed(catalog: Catalog, parked: Parked) -> bool:
    found = EventDecoder(metered_fields(catalog)).decode(parked.raw)
    assert not isinstance(found, Rejected)
    return place(catalog, RULES, found, parked.time, parked.received_at).code is None
