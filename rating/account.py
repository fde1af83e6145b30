"""
An account: all state of one customer, and what follows from it together with the catalog and an instant.

What a snapshot keeps is an `AccountState`; the rest is worked out again after a resume.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from msgspec import Struct, field
from msgspec.structs import replace

from rating.catalog import NEVER, Catalog, Customer, Grant, Placement, SettlementMode, Subscription
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
    """A customer's state, and what follows from it together with the catalog and the instant."""

    def __init__(self, state: AccountState, packed: bytes | None = None) -> None:
        self.state = state
        self.periods: dict[PeriodKey, UsagePeriod] = {period.key: period for period in state.periods}
        self.continued: list[UsagePeriod] = [period for period in state.periods if period.counted_from is not None]
        """The later parts of billing periods that a move has cut: each begins at the tier that was reached before."""
        self.customer: Customer | None = None
        self.mode: SettlementMode | None = None
        self.wallet = Wallet(state.consumed)
        self.granted_next: datetime | None = None
        """When the next grant was made, or voided, that is not known of yet; None: all is known by now."""
        self.boundaries_passed = 0
        """How many boundaries of grants, and starts, ends and moves of subscriptions known ahead, have passed."""
        self.features: list[str] = []
        """The features of the plan, where some credit is restricted to features."""
        self.wanted: list[UsagePeriod] = []
        """Periods whose windows have left the state and are needed again: a grant may pay for them."""
        self.asked = 0
        """In how many epochs in a row the ledger was asked for them and did not have them all."""
        self.looked_for: dict[PeriodKey, tuple[datetime | None, datetime | None, frozenset[str]]] = {}
        """Periods whose windows came back: which are still owed, and the grants that may not pay for them."""
        self.reopened_in: int | None = -1 if any(period.reopened for period in state.periods) else None
        """The epoch in which windows came back; they are held until its snapshot was made."""
        self.emitted_in: dict[PeriodKey, int] = {}
        """The epoch in which each closed period was last emitted: it leaves only after that."""
        self.coming: dict[PeriodKey, int] = {}
        """The epoch in which periods that had left came back: their usage waits for its end."""
        self.metered: frozenset[str] = frozenset()
        """The features with a metered entitlement: their usage is emitted with the balance."""
        self.limits: tuple[Decimal, ...] = ()
        self.headroom: Decimal | None = ZERO
        """A lower bound of what can be spent before access or a threshold could change; None: nothing can change."""
        self.placements: dict[str | None, Placement] = {}
        """The last result of `placements_at`."""
        self.placed_within = Period(NEVER, NEVER)
        """The span of the plan version that it belongs to."""
        self.dirty = False
        self.last_published: tuple[object, ...] | None = None
        """Last published access, level and blocked features."""
        self.next_due: datetime | None = None
        self.packed = packed
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
        """Bring the account up to what the catalog says of its customer at an instant. Safe to repeat."""
        state = self.state
        customer_id = state.customer_id
        known_before, revision_before = self.customer is not None, self.revision
        # What was due before the customer was subscribed, from the past, came due with all that was granted by then.
        subscribed = (found.recorded_at for found in catalog.subscriptions.get(customer_id, {}).values())
        grants, to_come = grants_known(catalog.grants_of(customer_id), max(now, min(subscribed, default=now)))
        self.granted_next = min(to_come, default=None)
        # A snapshot of before may know of some that are still to come.
        records = max(state.records, catalog.records_of[customer_id] - len(to_come))
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

    # -- usage ----------------------------------------------------------------------------------

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

    def end_event(self, headroom: Decimal | None) -> None:
        """Count an event that was added to all its periods, and what it left of the headroom."""
        self.state.events += 1
        self.headroom = headroom

    def take(self, period: UsagePeriod, part: Slice, quantity: int | Decimal, events: int) -> None:
        """Count the usage of several events in a slice."""
        self.packed = None
        self.state.events += events
        part.quantity += quantity
        part.events += events
        period.usage += quantity
        period.events += events
        period.dirty = True
        if part is not period.slices[-1]:
            period.reprice_all = True

    def mark_dirty(self) -> bool:
        """Mark the account for the next beat. Returns whether it was not marked before."""
        is_new = not self.dirty
        self.dirty = True
        return is_new

    def clear_dirty(self) -> None:
        """Take the account off the next beat."""
        self.dirty = False

    def set_headroom(self, headroom: Decimal | None) -> None:
        """Set what can be spent before access or a threshold could change."""
        self.headroom = headroom

    # -- money ----------------------------------------------------------------------------------

    def begin_settle(self) -> None:
        """Begin to settle all that is dirty."""
        self.dirty = False
        self.packed = None

    def charge(self, change: Decimal) -> None:
        """Add to what was charged in all, or take off it."""
        self.state.charged += change

    def book_uncovered(self, period: UsagePeriod, part: Slice, change: Decimal) -> None:
        """Add to what is uncovered, or take off it."""
        part.uncovered += change
        period.uncovered += change
        self.state.uncovered += change
        if period.repays:
            self.state.overage += change

    def publish(self, standing: tuple[object, ...]) -> bool:
        """Note access, level and blocked features as published. Returns whether they differ from the last ones."""
        differs = standing != self.last_published
        self.last_published = standing
        return differs

    # -- time -----------------------------------------------------------------------------------

    def advance_to(self, now: datetime) -> None:
        """Note the instant up to which time has its effect."""
        self.state.advanced_to = now
        self.packed = None

    def set_due(self, due: datetime | None) -> None:
        """Set when time alone will move the account next."""
        self.next_due = due

    def note_transitions(self, count: int = 1) -> None:
        """Count what time alone did, or the ledger: the revision grows by it."""
        self.state.transitions += count
        self.packed = None

    def note_standing(self, subscription_id: str, through: datetime) -> None:
        """Note up to when the flat and standing charges of a subscription are booked."""
        self.state.standing_through[subscription_id] = through

    def note_moves(self, subscription_id: str, count: int) -> None:
        """Note how many moves of a subscription have had their effect."""
        self.state.moves[subscription_id] = count

    def continue_period(self, period: UsagePeriod, counted_from: datetime) -> None:
        """Let a period go on from the part of its billing period before it."""
        if period.counted_from is None:
            self.continued.append(period)
        period.counted_from = counted_from

    # -- windows that come back from the ledger, and snapshots ------------------------------------

    def want_windows(self, period: UsagePeriod) -> None:
        """Ask for the windows of a period that left the state: a grant may pay for them."""
        if not any(period is wanted for wanted in self.wanted):
            self.wanted.append(period)

    def keep_wanting(self, periods: list[UsagePeriod]) -> None:
        """Go on asking for the windows of some periods: the ledger did not have them all."""
        self.wanted = periods
        self.asked = self.asked + 1 if periods else 0

    def looked(self, period: UsagePeriod, now: datetime) -> None:
        """Remember which grants have something left, though windows that left the state are not paid for in full."""
        first, last = period.owed_from or period.period_start, period.owed_through or period.closed_through
        live_grants = self.wallet.live_grants
        left = frozenset(live.grant.id for live in live_grants if live.remaining and live.effective_at <= now)
        self.looked_for[period.key] = (first, last, left)

    def hold_returned(self, period: UsagePeriod, slices: list[Slice], epoch: int) -> None:
        """Hold the windows of a period that came back, until a snapshot was made after the epoch."""
        period.reopened = slices
        self.reopened_in = epoch
        self.packed = None

    def hold_again(self, epoch: int) -> None:
        """Hold the windows that had come back, if there are any, until a snapshot was made after the epoch."""
        if self.reopened_in is not None:
            self.reopened_in = epoch

    def open_returned(self, epoch: int) -> list[UsagePeriod]:
        """Open the windows that came back before an epoch, so that a snapshot holds them. Returns their periods."""
        if self.reopened_in is None or self.reopened_in >= epoch:
            return []
        self.reopened_in = None
        reopened = [period for period in self.state.periods if period.reopened]
        for period in reopened:
            period.slices = [*period.reopened, *period.slices]
            period.reopened = []
            period.owed_from = period.owed_through = None
        self.note_transitions(bool(reopened))
        return reopened

    def note_return(self, period: UsagePeriod, epoch: int) -> None:
        """Note that a period that had left came back in an epoch; it is emitted otherwise only after that."""
        self.coming[period.key] = epoch
        self.emitted_in[period.key] = epoch + 1

    def note_emitted(self, period: UsagePeriod, epoch: int) -> None:
        """Note in which epoch a closed period was last emitted."""
        self.emitted_in[period.key] = epoch

    def give_number(self, number: int) -> None:
        """Give the customer a number that no other of its key group ever had."""
        self.state.number = number
        self.packed = None

    def note_packed(self, packed: bytes) -> None:
        """Keep the state as it was packed for a snapshot."""
        self.packed = packed

    def note_change(self) -> None:
        """Note that more changes than what lanes gather: the next snapshot packs the account again."""
        self.packed = None


def grants_known(granted: Sequence[Grant], at: datetime) -> tuple[Sequence[Grant], list[datetime]]:
    """
    The grants as they were known at an instant: none that was made later, and none voided that was voided later.

    Usage that is ahead of its arrival is paid for by what was known as it arrived: a grant that is made before its time
    comes finds it charged already, and what a voided one has paid for it stays paid. A log that is read late, or again,
    has all of the catalog before its first line. So it meets each grant, and each void, at the instant of its making.

    Args:
        granted: As the catalog has them now, in burn order.
        at: The instant.

    Returns:
        Those that were known, in burn order, and the instants at which the rest was recorded.
    """
    to_come = [grant.created_at for grant in granted if grant.created_at > at]
    to_come += [grant.voided_at for grant in granted if grant.voided_at is not None and grant.voided_at > at]
    if not to_come:
        return granted, to_come
    known = [grant for grant in granted if grant.created_at <= at]
    return [_as_known(grant, at) for grant in known], to_come


def _as_known(grant: Grant, at: datetime) -> Grant:
    """A grant as it was known at an instant: what voids it may come later."""
    if grant.voided_at is None or grant.voided_at <= at:
        return grant
    return replace(grant, voided_at=None)
