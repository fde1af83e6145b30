"""One customer to settle: its records, its events, and what a key group tells of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

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
from rating.group import KeyGroup
from rating.meters import Aggregation, Feature, Meter
from rating.money import ZERO
from rating.outcome import BalanceRow, ChargeRow, Outcome
from rating.prices import Pricing, Unit
from rating.time_rules import TimeRules
from tests.world import START, line

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
ID = "customer"
NUMBER = key_group(ID)


def unit(amount: str = "1") -> Pricing:
    """A price by the unit."""
    return Pricing(Unit(amount=Decimal(amount)), "USD")


def card(feature: str | None, pricing: Pricing | None = None, key: str = "", cadence: str | None = None) -> RateCard:
    """A rate card, named like its feature."""
    return RateCard(key or feature or "fee", feature, pricing or unit(), cadence=cadence)


def metered(feature: str, aggregation: Aggregation = Aggregation.SUM) -> list[Record]:
    """A feature with a meter of its own: events of its name, with the field `n`."""
    path = None if aggregation is Aggregation.COUNT else "$.n"
    return [
        MeterSet(Meter(key=feature, event_type=feature, aggregation=aggregation, value_property=path)),
        FeatureSet(Feature(key=feature, meter_key=feature)),
    ]


def plan(*cards: RateCard, key: str = "plan", prorate: bool = False, phases: tuple[Phase, ...] = ()) -> PlanVersion:
    """A monthly plan."""
    return PlanVersion(key, 1, "USD", "P1M", phases or (Phase("only", cards),), prorate=prorate)


def subscription(
    mode: SettlementMode = SettlementMode.CREDIT_ONLY,
    start: datetime = START,
    end: datetime | None = None,
    name: str = "s1",
    plan_key: str = "plan",
    anchor: datetime | None = None,
    customer_id: str = ID,
) -> Subscription:
    """The customer's subscription, recorded when it starts."""
    return Subscription(name, customer_id, plan_key, 1, start, anchor or start, start, end, mode)


def customer(subjects: tuple[str, ...] = (), customer_id: str = ID, key: str = "c", **more: Any) -> Customer:
    """A customer in dollars."""
    return Customer(customer_id, key, key, "USD", subjects, **more)


def grant(
    name: str,
    amount: str | int | Decimal,
    start: datetime = START,
    end: datetime | None = None,
    features: Sequence[str] = (),
    priority: int = 10,
    voided: datetime | None = None,
    customer_id: str = ID,
) -> Grant:
    """A grant, created when it takes effect."""
    return Grant(
        name, customer_id, Decimal(amount), "USD", start, start, priority, tuple(features), end, voided_at=voided
    )


def event(name: str, feature: str, amount: object, at: datetime, subject: str = "c") -> dict[str, Any]:
    """Usage of a feature."""
    return {
        "specversion": "1.0",
        "id": name,
        "source": "test",
        "subject": subject,
        "type": feature,
        "time": at.isoformat(),
        "data": {"n": amount},
    }


class World:
    """A key group, its catalog, and the newest row of each key that it told."""

    def __init__(self, *records: Record, rules: TimeRules | None = None, number: int = NUMBER) -> None:
        self.catalog = Catalog()
        self.rules = rules or TimeRules()
        self.number = number
        self.now = START
        self.out = Outcome()
        self.outs: list[Outcome] = []
        self.segments: dict[int, bytes] = {}
        self.charges: dict[tuple[Any, ...], ChargeRow] = {}
        self.balances: dict[str, BalanceRow] = {}
        self.ended: dict[tuple[str, str], int] = {}
        self.group = self._open(None)
        self.apply(*records)

    def _open(self, snapshot: bytes | None) -> KeyGroup:
        return KeyGroup(
            self.number,
            self.catalog,
            self.rules,
            snapshot,
            lambda _, numbers: [self.segments[n] for n in numbers],
            load_windows=lambda customer_id, key: [
                row for row in self.charges.values() if row[:4] == (customer_id, *key)
            ],
        )

    def record(self, *records: Record) -> set[str]:
        """Let the catalog grow, unknown to the key group yet."""
        concerned = {self.catalog.apply(self.catalog.version + 1, record) for record in records}
        return {found for found in concerned if found is not None and key_group(found) == self.number}

    def apply(self, *records: Record) -> None:
        """Let the catalog grow, and the key group take it over."""
        self._do(lambda out: self.group.reconcile(sorted(self.record(*records)), self.now, out))
        self.epochs()

    def fold(self, *events: dict[str, Any], received: datetime | None = None, is_back: bool = False) -> Outcome:
        """A batch of events, without a beat; of such that waited, and are driven again, `is_back`."""
        blob = b"\n".join(map(line, events))
        return self._do(lambda out: self.group.fold(blob, received or self.now, self.now, out, is_back=is_back))

    def use(self, *events: dict[str, Any], received: datetime | None = None, is_back: bool = False) -> Outcome:
        """A batch of events, and a beat."""
        self.fold(*events, received=received, is_back=is_back)
        return self.beat()

    def beat(self, now: datetime | None = None) -> Outcome:
        """Let time pass up to an instant, with a beat at every instant that is due, and one at the end."""
        target = max(now or self.now, self.now)
        beats = 0
        while (due := self.group.calendar.next_due()) is not None and due <= target:
            self.now = max(self.now, due)
            self._do(lambda out: self.group.beat(self.now, out))
            self.epochs()
            beats += 1
            assert beats < 1000, "time does not get on"
        self.now = target
        self._do(lambda out: self.group.beat(self.now, out))
        return self.epochs()

    def epochs(self) -> Outcome:
        """Let epochs end until nothing waits for one."""
        for _ in range(4):
            if not self.group.is_waiting:
                break
            self.group.snapshot()
            self._do(lambda out: self.group.beat(self.now, out))
        else:
            raise AssertionError("something waits for ever")
        return self.out

    def late_beat(self) -> Outcome:
        """A single beat, whatever came due before it."""
        return self._do(lambda out: self.group.beat(self.now, out))

    def restart(self) -> None:
        """Go on from a snapshot."""
        self.group = self._open(self.group.snapshot())
        self._do(lambda out: self.group.resume(self.now, out))

    def _do(self, work: Any) -> Outcome:
        self.out = out = Outcome()
        self.outs.append(out)
        work(out)
        for charge in out.charges:
            known = self.charges.get(charge[:5])
            assert known is None or known.revision <= charge.revision, "a revision went back"
            assert known is None or known.revision < charge.revision or known == charge, (known, charge)
            assert sum(charge.paid.values(), ZERO) == charge.credits
            assert charge.credits + charge.uncovered == charge.amount
            self.charges[charge[:5]] = charge
        for balance in out.balances:
            before = self.balances.get(balance.customer_id)
            assert before is None or before.revision <= balance.revision, "a revision went back"
            if before is not None and before.revision == balance.revision:
                assert before[:-1] == balance[:-1], "one revision, two balances"
            self.balances[balance.customer_id] = balance
        for row in out.seen:
            self.segments[row.segment] = row.ids
        for end, count in out.ended.items():
            self.ended[end] = self.ended.get(end, 0) + count
        return out

    @property
    def balance(self) -> BalanceRow:
        """The customer's balance, after a look at what must hold of it."""
        found = self.balances[ID]
        check(found, [row for row in self.charges.values() if row.customer_id == ID])
        return found

    def paid(self) -> dict[str, Decimal]:
        """What each grant paid in all."""
        found: dict[str, Decimal] = {}
        for row in self.charges.values():
            for name, amount in row.paid.items():
                found[name] = found.get(name, ZERO) + amount
        return {name: amount for name, amount in found.items() if amount}

    def by_feature(self) -> dict[str | None, tuple[Decimal, Decimal, Decimal]]:
        """What each feature used, cost, and left uncovered."""
        found: dict[str | None, tuple[Decimal, Decimal, Decimal]] = {}
        for row in self.charges.values():
            quantity, amount, uncovered = found.get(row.feature_key, (ZERO, ZERO, ZERO))
            found[row.feature_key] = quantity + row.quantity, amount + row.amount, uncovered + row.uncovered
        return found


def check(balance: BalanceRow, charges: Iterable[ChargeRow]) -> None:
    """Conservation, and the gate."""
    charges = list(charges)
    assert balance.charged == sum((row.amount for row in charges), ZERO)
    assert balance.consumed == sum((row.credits for row in charges), ZERO)
    assert balance.uncovered == sum((row.uncovered for row in charges), ZERO)
    assert balance.charged == balance.consumed + balance.uncovered
    parts = balance.settled + balance.pending + balance.consumed + balance.expired + balance.voided
    assert balance.funded == parts
    assert min(balance.settled, balance.pending, balance.consumed, balance.expired, balance.voided) >= 0
    assert min(balance.uncovered, balance.overage) >= 0
    assert balance.live == balance.settled - balance.overage
    assert balance.access == "allowed" or balance.live <= 0
