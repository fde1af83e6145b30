"""
SETTLE: burns credit grants in order, and keeps what is uncovered.

State is kept per customer, in one currency; all amounts are exact decimals.

Burn order (OpenMeter's): lower priority first; at equal priority a grant restricted to features before
an unrestricted one; then earlier expiry, none last; then the older grant. A correction gives back in the
reverse order: first what is uncovered, then to the last grant that paid for the meter, those that may pay
for usage of the time that is corrected before any other. It goes by the meter and not by the window, and
what only moves between windows stays paid for: so who paid does not depend on how the stream was cut. Where
the grant that gets it back had paid for another window, who paid for the corrected one takes that over. A
grant pays only for usage at or after its effective instant and before it expired or was voided; under
`credit_only` it also repays what was used beyond the balance. What was given back pays at once for what is
uncovered and may be paid with it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal

from msgspec import Struct, field

from rating.catalog import NEVER, Catalog, Customer, Grant, Placement, SettlementMode, Subscription
from rating.money import ZERO
from rating.periods import Period
from rating.usage import MeterKey, MeterState, Slice, book, cut_slices, move_payment, share, slice_at


class AccountState(Struct, array_like=True):
    """All that is remembered of a customer; definitions of grants and subscriptions are the catalog's."""

    customer_id: str
    records: int = 0
    """How many control records are reflected in what was last sent out."""
    consumed: dict[str, Decimal] = field(default_factory=dict)
    """What each grant has paid in all."""
    meters: list[MeterState] = field(default_factory=list)
    events: int = 0
    transitions: int = 0
    """Periods that time alone opened or closed."""
    charged: Decimal = ZERO
    uncovered: Decimal = ZERO
    overage: Decimal = ZERO
    """The part of `uncovered` that the next grant repays: usage under `credit_only`."""
    advanced_to: datetime | None = None
    """The instant up to which time has had its effect."""
    standing_through: dict[str, datetime] = field(default_factory=dict)
    """By subscription: the instant up to which its flat and standing charges are booked."""
    moves: dict[str, int] = field(default_factory=dict)
    """By subscription: how many of its moves have had their effect."""
    number: int = 0
    """Which of its key group's customers it is, from 1 on: whose the ids of events are. 0: in an old snapshot."""


class LiveGrant:
    """A grant that still has something to pay with, though perhaps only for usage of the past or the future."""

    __slots__ = ("effective_at", "ends_at", "grant", "remaining")

    def __init__(self, grant: Grant, remaining: Decimal) -> None:
        self.grant = grant
        self.remaining = remaining
        self.effective_at = grant.effective_at
        self.ends_at = grant.ends_at or NEVER


class Account:
    """A customer at work: the state, and what follows from it together with the catalog and the instant."""

    def __init__(self, state: AccountState) -> None:
        self.state = state
        self.meters: dict[MeterKey, MeterState] = {meter.key: meter for meter in state.meters}
        self.continued: list[MeterState] = [meter for meter in state.meters if meter.counted_from is not None]
        """The meters of periods that began at a tier which an earlier part of the period had reached."""
        self.customer: Customer | None = None
        self.mode: SettlementMode | None = None
        self.grants: list[Grant] = []
        """All that are known of, in burn order."""
        self.granted_next: datetime | None = None
        """When the next one was made that is in force from the past; where what passed is lived through again."""
        self.live_grants: list[LiveGrant] = []
        self.boundaries: list[datetime] = []
        """The instants at which a grant takes effect or ends, rising."""
        self.passed = 0
        """How many boundaries, and starts and ends of subscriptions known ahead, time has passed."""
        self.features: list[str] = []
        """What the plan has features for, where some credit is for some features only."""
        self.wanted: list[MeterState] = []
        """Periods of which windows that left the state are to come back, since a grant may pay for them."""
        self.asked = 0
        """In how many epochs the ledger was asked for them, and did not have them all."""
        self.looked_for: dict[MeterKey, tuple[datetime | None, datetime | None, frozenset[str]]] = {}
        """Of periods whose windows came back: what was still owed in which, and the grants that may not pay for it."""
        self.reopened_in: int | None = None
        """The epoch in which windows came back that are still held for a snapshot."""
        self.told_in: dict[MeterKey, int] = {}
        """In which epoch closed periods were last told: they leave only after it."""
        self.coming: dict[MeterKey, int] = {}
        """In which epoch periods that had left came back: usage of theirs waits for its end."""
        self.returned = False
        """Whether a grant got something back since what is uncovered was last looked at."""
        self.metered: frozenset[str] = frozenset()
        """The features with a metered entitlement, whose usage is told with the balance."""
        self.limits: tuple[Decimal, ...] = ()
        self.funded = self.settled = self.pending = self.consumed = self.expired = self.voided = ZERO
        self.restricted = False
        self.headroom: Decimal | None = ZERO
        """A lower bound of what can be spent before access or a threshold could change; None: nothing can change."""
        self.placements: dict[str | None, Placement] = {}
        """What `placements_at` found last."""
        self.placed_within = Period(NEVER, NEVER)
        """While which version of the plan is in force."""
        self.dirty = False
        self.shown: tuple[object, ...] | None = None
        """What was last sent out of access and thresholds."""
        self.next_due: datetime | None = None
        self.packed: bytes | None = None
        """The state as of the last snapshot; None where more has changed since than what is in the lanes."""

    @property
    def revision(self) -> int:
        """
        How many distinct inputs the account has folded: events, control records, and what time alone did.

        All rows of a customer carry it. Each part is absolute, so a replay counts the same.
        """
        state = self.state
        return state.events + state.records + state.transitions + self.passed

    def add(self, meter: MeterState) -> None:
        """A meter was opened."""
        self.meters[meter.key] = meter
        self.state.meters.append(meter)
        if meter.counted_from is not None:
            self.continued.append(meter)
        self.packed = None

    def remove(self, meter: MeterState) -> None:
        """A meter leaves the state."""
        del self.meters[meter.key]
        for known in (self.looked_for, self.told_in, self.coming):
            known.pop(meter.key, None)
        self.state.meters = [*self.meters.values()]
        self.continued = [other for other in self.continued if other is not meter]
        self.packed = None

    def placements_at(self, catalog: Catalog, subscription: Subscription, at: datetime) -> dict[str | None, Placement]:
        """By feature, where usage of the customer at an instant belongs under a subscription."""
        placements = self.placements
        known = next(iter(placements.values()), None)
        if (
            known is None
            or known.subscription is not subscription
            or not self.placed_within.start <= at < self.placed_within.end
            or not all(found.period.start <= at < found.period.end for found in placements.values())
        ):
            placements = {found.card.feature_key: found for found in catalog.placements_at(subscription, at)}
            self.placements = placements
            self.placed_within = subscription.version_span(at)
        return placements

    def read_catalog(self, catalog: Catalog, now: datetime) -> None:
        """Take over what the catalog says of the customer and its grants at an instant. Safe to repeat."""
        state = self.state
        customer_id = state.customer_id
        known_before, revision_before = self.customer is not None, self.revision
        granted = catalog.grants_of(customer_id)
        # A log that is read again meets a grant in force from the past when it was made, as it did the first time. What
        # was due before the customer was subscribed, from the past, came due with all that was granted by then.
        subscribed = (found.recorded_at for found in catalog.subscriptions.get(customer_id, {}).values())
        known_to = max(now, min(subscribed, default=now))
        later = [grant for grant in granted if grant.created_at > max(known_to, grant.effective_at)]
        self.grants = [grant for grant in granted if grant not in later] if later else granted
        self.granted_next = min((grant.created_at for grant in later), default=None)
        records = catalog.records_of[customer_id] - len(later)
        has_new = state.records < records
        self.customer = catalog.customers.get(customer_id)
        state.records = records
        subscription = catalog.subscription_at(customer_id, now)
        self.mode = subscription.settlement_mode if subscription is not None else None
        self.metered = catalog.metered_features(customer_id)
        boundaries = {grant.effective_at for grant in self.grants}
        boundaries.update(grant.ends_at for grant in self.grants if grant.ends_at is not None)
        known = self.boundaries
        self.boundaries = sorted(boundaries)
        self.passed = bisect_right(self.boundaries, now) + sum(
            found.recorded_at < instant <= now
            for found in catalog.subscriptions.get(customer_id, {}).values()
            for instant in (found.active_from, found.active_to)
            if instant is not None
        )
        self.passed += sum(
            move.recorded_at < move.at <= now
            for found in catalog.subscriptions.get(customer_id, {}).values()
            for move in found.moves
        )
        if known_before and has_new and self.revision <= revision_before:
            # A record took an instant back that had passed: what it says is new all the same.
            state.transitions += revision_before + 1 - self.revision
        self._weigh(now)
        self.features = []
        if self.restricted and subscription is not None:
            placements = catalog.placements_at(subscription, now)
            self.features = sorted({p.card.feature_key for p in placements if p.card.feature_key is not None})
        if self.customer is not None and self.funded:
            self.limits = (*sorted(self.customer.low_balance_thresholds, reverse=True), ZERO)
        for boundary in boundaries.difference(known):
            for meter in state.meters:
                cut_slices(meter, boundary)

    def _weigh(self, now: datetime) -> None:
        """Work out what each grant has left, and what all of them come to at an instant."""
        self.live_grants = []
        self.restricted = False
        self.funded = self.settled = self.pending = self.consumed = self.expired = self.voided = ZERO
        for grant in self.grants:
            consumed = self.state.consumed.get(grant.id, ZERO)
            remaining = grant.amount - consumed
            self.funded += grant.amount
            self.consumed += consumed
            self._add(grant, remaining, now)
            if remaining > 0:
                self.live_grants.append(LiveGrant(grant, remaining))
            if grant.features and grant.effective_at <= now < (grant.ends_at or NEVER):
                self.restricted = True

    def _add(self, grant: Grant, remaining: Decimal, now: datetime) -> None:
        """Count what a grant has left, or lost where it is negative, as what it is at an instant."""
        ends_at = grant.ends_at
        if ends_at is not None and ends_at <= now:
            if ends_at == grant.voided_at:
                self.voided += remaining
            else:
                self.expired += remaining
        elif grant.effective_at > now:
            self.pending += remaining
        else:
            self.settled += remaining

    def settle(self, meter: MeterState, parts: list[Slice], now: datetime) -> None:
        """
        Charge what slices cost now over what they cost before, or give back what they cost less.

        What moves between slices that the same grants may pay for moves with who paid it. Of the rest, what is given
        back comes first, so that it pays for what is collected.
        """
        changed = [part for part in parts if part.amount != part.settled]
        if len(changed) > 1:
            changed.sort(key=_given_back)
            self._move(changed)
            for part in changed:
                self._settle_slice(meter, part, now)
        for part in changed:
            self._settle_slice(meter, part, now)
            assert part.amount == part.settled, f"meter {meter.card_key} gave back more than it was charged"

    def _move(self, changed: list[Slice]) -> None:
        """
        Let what some slices cost less be paid for what others cost more, where no grant starts or ends between.

        In the order of `changed`: what costs more is paid by the first that still costs less. So each is passed once.
        """
        cheaper: dict[int, Iterator[Slice]] = {}
        paying: dict[int, Slice | None] = {}
        by_span: dict[int, list[Slice]] = {}
        for part in changed:
            if _change(part) < 0:
                by_span.setdefault(self._span(part), []).append(part)
        for span, parts in by_span.items():
            cheaper[span] = iter(parts)
            paying[span] = next(cheaper[span])
        for target in changed:
            if _change(target) <= 0:
                continue
            span = self._span(target)
            source = paying.get(span)
            while source is not None and (amount := min(_change(target), -_change(source))) > 0:
                source.settled -= amount
                target.settled += amount
                move_payment(source, target, amount)
                if not _change(source):
                    source = paying[span] = next(cheaper[span], None)

    def _settle_slice(self, meter: MeterState, part: Slice, now: datetime) -> None:
        change = part.amount - part.settled
        if not change:
            return
        if change > 0:
            self._collect(meter, part, change, now)
        else:
            change = -self._give_back(meter, part, -change, now)
        self.state.charged += change
        part.settled += change

    def _collect(self, meter: MeterState, part: Slice, amount: Decimal, now: datetime) -> None:
        used_at = part.start
        for live in self.live_grants:
            if live.effective_at <= used_at < live.ends_at and live.grant.pays_for(meter.feature_key):
                amount -= self._pay(meter, part, live, amount, now)
                if not amount:
                    return
        self._cover(meter, part, -amount)

    def _pay(self, meter: MeterState, part: Slice, live: LiveGrant, amount: Decimal, now: datetime) -> Decimal:
        """Let a grant pay up to an amount. Returns what it paid."""
        taken = min(amount, live.remaining)
        if not taken:
            return taken
        grant_id = live.grant.id
        live.remaining -= taken
        for paid in (self.state.consumed, part.paid, meter.paid):
            book(paid, grant_id, taken)
        self.consumed += taken
        self._add(live.grant, -taken, now)
        return taken

    def _give_back(self, meter: MeterState, part: Slice, amount: Decimal, now: datetime) -> Decimal:
        """Give back up to an amount, as far as the meter has been charged. Returns how much."""
        left = amount
        paid_by = [grant for grant in reversed(self.grants) if grant.id in meter.paid]
        payers = [grant.id for grant in paid_by if grant.id in part.paid or _may_pay(grant, part)]
        for payer in (None, *payers):
            if share(meter, payer) <= 0:
                continue
            for other in (part, *meter.slices):
                if share(other, payer) > 0:
                    taken = min(left, share(other, payer), share(meter, payer))
                    if other is not part:
                        taken = self._take_over(meter, part, other, taken)
                    left -= self._return(meter, other, payer, taken)
                    if not left:
                        break
            if not left:
                break
        # What is left was charged in windows that have left the state, or where a period became cheaper as a whole.
        for payer in (*payers, None, *(grant.id for grant in paid_by)):
            left -= self._return(meter, part, payer, min(left, share(meter, payer)))
        if self.returned:
            self._weigh(now)
        return amount - left

    def _take_over(self, meter: MeterState, part: Slice, other: Slice, amount: Decimal) -> Decimal:
        """Let grants that paid for a slice pay for another as well, where they may. Returns how much they can."""
        left = amount
        for grant in self.grants:
            taken = min(left, share(part, grant.id))
            if taken > 0 and _may_pay(grant, other):
                left -= taken
                book(part.paid, grant.id, -taken)
                book(other.paid, grant.id, taken)
        if left != amount:
            meter.rechain = True
        return amount - left

    def _return(self, meter: MeterState, part: Slice, payer: str | None, amount: Decimal) -> Decimal:
        """Give back to who paid for a meter, or take off what is uncovered. Returns how much."""
        if amount <= 0:
            return ZERO
        if payer is None:
            return self._cover(meter, part, amount)
        self.returned = True
        for paid in (self.state.consumed, part.paid, meter.paid):
            book(paid, payer, -amount)
        return amount

    def _span(self, part: Slice) -> int:
        """Slices with the same span may be paid for by the same grants."""
        return bisect_right(self.boundaries, part.start)

    def cover(self, now: datetime) -> list[MeterState]:
        """
        Let grants pay what is uncovered and may be paid with them. Returns the meters it touched.

        There is such where a grant became known after usage that it may pay for, where one got something back,
        and, under `credit_only`, where one was active at some instant since what was used beyond the balance. Where
        that may be in windows that left the state, these are `wanted`, and all waits for them: older usage comes first.
        """
        self.returned = False
        touched: list[MeterState] = []
        owing = [meter for meter in self.state.meters if meter.uncovered > 0]
        waits = False
        for live in self.live_grants:
            for meter in owing:
                waits = self._wants(meter, live, now) or waits
        if waits:
            return touched
        # As if somebody had looked all the time: by when each could first have paid, then in burn order.
        able = [
            (max(live.effective_at, part.start), place, number, part.start)
            for number, meter in enumerate(owing)
            for part in meter.slices
            if part.uncovered > 0
            for place, live in enumerate(self.live_grants)
            if live.grant.pays_for(meter.feature_key) and _may_repay(meter, live, part.start, now)
        ]
        for _, place, number, start in sorted(able):
            meter = owing[number]
            if self._repay(meter, self.live_grants[place], start, now) and not any(meter is one for one in touched):
                touched.append(meter)
        return touched

    def _repay(self, meter: MeterState, live: LiveGrant, start: datetime, now: datetime) -> Decimal:
        """Let a grant pay what is uncovered of a meter's slices that start at an instant. Returns what it paid."""
        paid = ZERO
        for part in meter.slices:
            # A window that made the period cheaper owes less than nothing: no grant pays for more than what is left.
            owed = min(part.uncovered, meter.uncovered)
            if part.start == start and owed > 0:
                paid += self._cover(meter, part, self._pay(meter, part, live, owed, now))
        return paid

    def _wants(self, meter: MeterState, live: LiveGrant, now: datetime) -> bool:
        """Whether windows of a meter that left the state are to come back, since a grant may pay for them."""
        if not live.remaining or not live.grant.pays_for(meter.feature_key):
            return False
        if any(meter is known for known in self.wanted) or meter.reopened:
            return True
        if meter.closed_through is None:
            return False
        if meter.uncovered <= sum((part.uncovered for part in meter.slices), ZERO):
            return False
        first, last = meter.owed_from or meter.period_start, meter.owed_through or meter.closed_through
        known = self.looked_for.get(meter.key)
        if known is not None and known[:2] == (first, last) and live.grant.id in known[2]:
            return False
        if not _may_repay(meter, live, first, now) and not (live.effective_at <= last and first < live.ends_at):
            return False
        self.wanted.append(meter)
        return True

    def looked(self, meter: MeterState, now: datetime) -> None:
        """Remember which grants have something left, though windows that left the state are not paid for in full."""
        first, last = meter.owed_from or meter.period_start, meter.owed_through or meter.closed_through
        left = frozenset(live.grant.id for live in self.live_grants if live.remaining and live.effective_at <= now)
        self.looked_for[meter.key] = (first, last, left)

    def _cover(self, meter: MeterState, part: Slice, paid: Decimal) -> Decimal:
        """Take what was paid, or given back, off what is uncovered; below zero: add to it."""
        part.uncovered -= paid
        meter.uncovered -= paid
        self.state.uncovered -= paid
        if meter.repays:
            self.state.overage -= paid
        return paid

    def use(self, meter: MeterState, quantity: Decimal, at: datetime, window_seconds: int) -> Slice:
        """Count one event's usage of a meter. Returns the slice it went to."""
        slices = meter.slices
        part = slices[-1] if slices else None
        if part is None or not part.start <= at < part.end:
            part = slice_at(meter, at, self.boundaries, window_seconds)
            if part.is_late:
                part.late_quantity += quantity
            if part is not meter.slices[-1]:
                meter.rechain = True
        part.quantity += quantity
        part.events += 1
        meter.usage += quantity
        meter.events += 1
        meter.dirty = True
        return part

    def take(self, meter: MeterState, part: Slice, quantity: int | Decimal, events: int) -> None:
        """Count usage in a slice."""
        self.packed = None
        self.state.events += events
        part.quantity += quantity
        part.events += events
        meter.usage += quantity
        meter.events += events
        meter.dirty = True
        if part is not meter.slices[-1]:
            meter.rechain = True


def _may_pay(grant: Grant, part: Slice) -> bool:
    return grant.effective_at <= part.start < (grant.ends_at or NEVER)


def _may_repay(meter: MeterState, live: LiveGrant, used_at: datetime, now: datetime) -> bool:
    """
    Whether a grant may pay for what was used at an instant, and is uncovered.

    Under `credit_only` it may where it was active at some instant from then up to now.
    """
    known = now if meter.repays and live.effective_at < live.ends_at else used_at
    return live.effective_at <= known and used_at < live.ends_at


def _change(part: Slice) -> Decimal:
    return part.amount - part.settled


def _given_back(part: Slice) -> Decimal:
    return min(_change(part), ZERO)
