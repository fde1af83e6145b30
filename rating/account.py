"""
An account: all state of one customer, and what follows from it together with the catalog and an instant.

What a snapshot keeps is an `AccountState`; the rest is worked out again after a resume.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from msgspec import Struct, field

from rating.catalog import NEVER, Catalog, Customer, Placement, SettlementMode, Subscription
from rating.money import ZERO
from rating.periods import Period
from rating.usage import PeriodKey, Slice, UsagePeriod, cut_slices, slice_at
from rating.wallet import Wallet


class AccountState(Struct, array_like=True):
    """All that is remembered of a customer; definitions of grants and subscriptions are the catalog's."""

    customer_id: str
    records: int = 0
    """How many control records are reflected in what was last sent out."""
    consumed: dict[str, Decimal] = field(default_factory=dict)
    """What each grant has paid in all."""
    periods: list[UsagePeriod] = field(default_factory=list)
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


class Account:
    """A customer at work: the state, and what follows from it together with the catalog and the instant."""

    def __init__(self, state: AccountState) -> None:
        self.state = state
        self.periods: dict[PeriodKey, UsagePeriod] = {period.key: period for period in state.periods}
        self.continued: list[UsagePeriod] = [period for period in state.periods if period.counted_from is not None]
        """The later parts of billing periods that a move has cut: each begins at the tier that was reached before."""
        self.customer: Customer | None = None
        self.mode: SettlementMode | None = None
        self.wallet = Wallet(state.consumed)
        self.granted_next: datetime | None = None
        """When the next one was made that is in force from the past; where what passed is lived through again."""
        self.boundaries_passed = 0
        """How many boundaries of grants, and starts, ends and moves of subscriptions known ahead, have passed."""
        self.features: list[str] = []
        """What the plan has features for, where some credit is for some features only."""
        self.wanted: list[UsagePeriod] = []
        """Periods of which windows that left the state are to come back, since a grant may pay for them."""
        self.asked = 0
        """In how many epochs the ledger was asked for them, and did not have them all."""
        self.looked_for: dict[PeriodKey, tuple[datetime | None, datetime | None, frozenset[str]]] = {}
        """Of periods whose windows came back: what was still owed in which, and the grants that may not pay for it."""
        self.reopened_in: int | None = None
        """The epoch in which windows came back that are still held for a snapshot."""
        self.emitted_in: dict[PeriodKey, int] = {}
        """The epoch in which each closed period was last emitted: it leaves only after that."""
        self.coming: dict[PeriodKey, int] = {}
        """In which epoch periods that had left came back: usage of theirs waits for its end."""
        self.metered: frozenset[str] = frozenset()
        """The features with a metered entitlement, whose usage is told with the balance."""
        self.limits: tuple[Decimal, ...] = ()
        self.headroom: Decimal | None = ZERO
        """A lower bound of what can be spent before access or a threshold could change; None: nothing can change."""
        self.placements: dict[str | None, Placement] = {}
        """What `placements_at` found last."""
        self.placed_within = Period(NEVER, NEVER)
        """While which version of the plan is in force."""
        self.dirty = False
        self.last_published: tuple[object, ...] | None = None
        """Last published access, level and blocked features."""
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
        return state.events + state.records + state.transitions + self.boundaries_passed

    def add(self, period: UsagePeriod) -> None:
        """Add a usage period that was opened."""
        self.periods[period.key] = period
        self.state.periods.append(period)
        if period.counted_from is not None:
            self.continued.append(period)
        self.packed = None

    def remove(self, period: UsagePeriod) -> None:
        """Remove a usage period that leaves the state."""
        del self.periods[period.key]
        for known in (self.looked_for, self.emitted_in, self.coming):
            known.pop(period.key, None)
        self.state.periods = [*self.periods.values()]
        self.continued = [other for other in self.continued if other is not period]
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
        grants = [grant for grant in granted if grant not in later] if later else granted
        self.granted_next = min((grant.created_at for grant in later), default=None)
        records = catalog.records_of[customer_id] - len(later)
        has_new = state.records < records
        self.customer = catalog.customers.get(customer_id)
        state.records = records
        subscription = catalog.subscription_at(customer_id, now)
        self.mode = subscription.settlement_mode if subscription is not None else None
        self.metered = catalog.metered_features(customer_id)
        new_boundaries = self.wallet.take_over(grants, now)
        self.boundaries_passed = self.wallet.span_of(now) + sum(
            found.recorded_at < instant <= now
            for found in catalog.subscriptions.get(customer_id, {}).values()
            for instant in (found.active_from, found.active_to)
            if instant is not None
        )
        self.boundaries_passed += sum(
            move.recorded_at < move.at <= now
            for found in catalog.subscriptions.get(customer_id, {}).values()
            for move in found.moves
        )
        if known_before and has_new and self.revision <= revision_before:
            # A record took an instant back that had passed: what it says is new all the same.
            state.transitions += revision_before + 1 - self.revision
        self.features = []
        if self.wallet.restricted and subscription is not None:
            placements = catalog.placements_at(subscription, now)
            self.features = sorted({p.card.feature_key for p in placements if p.card.feature_key is not None})
        if self.customer is not None and self.wallet.funded:
            self.limits = (*sorted(self.customer.low_balance_thresholds, reverse=True), ZERO)
        for boundary in new_boundaries:
            for period in state.periods:
                cut_slices(period, boundary)

    def looked(self, period: UsagePeriod, now: datetime) -> None:
        """Remember which grants have something left, though windows that left the state are not paid for in full."""
        first, last = period.owed_from or period.period_start, period.owed_through or period.closed_through
        live_grants = self.wallet.live_grants
        left = frozenset(live.grant.id for live in live_grants if live.remaining and live.effective_at <= now)
        self.looked_for[period.key] = (first, last, left)

    def book_uncovered(self, period: UsagePeriod, part: Slice, change: Decimal) -> None:
        """Add to what is uncovered, or take off it."""
        part.uncovered += change
        period.uncovered += change
        self.state.uncovered += change
        if period.repays:
            self.state.overage += change

    def use(self, period: UsagePeriod, quantity: Decimal, at: datetime, window_seconds: int) -> Slice:
        """Count one event's usage in a period. Returns the slice it went to."""
        slices = period.slices
        part = slices[-1] if slices else None
        if part is None or not part.start <= at < part.end:
            part = slice_at(period, at, self.wallet.boundaries, window_seconds)
            if part.is_late:
                part.late_quantity += quantity
            if part is not period.slices[-1]:
                period.reprice_all = True
        part.quantity += quantity
        part.events += 1
        period.usage += quantity
        period.events += 1
        period.dirty = True
        return part

    def take(self, period: UsagePeriod, part: Slice, quantity: int | Decimal, events: int) -> None:
        """Count usage in a slice."""
        self.packed = None
        self.state.events += events
        part.quantity += quantity
        part.events += events
        period.usage += quantity
        period.events += events
        period.dirty = True
        if part is not period.slices[-1]:
            period.reprice_all = True
