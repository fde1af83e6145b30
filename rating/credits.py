"""
SETTLE: burns credit grants in order, keeps what is uncovered, decides access.

State is kept per customer, in one currency; all amounts are exact decimals.

Burn order (OpenMeter's): lower priority first; at equal priority a grant restricted to features before
an unrestricted one; then earlier expiry, none last; then the older grant. A correction gives back in
reverse order of collection: first what is uncovered, then the grant that paid last. A grant pays only
for usage at or after its effective instant and before its expiry; under `credit_only` it also repays
what was used beyond the balance.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from msgspec import Struct, field

from rating.catalog import Catalog, Customer, Grant, SettlementMode
from rating.money import ZERO, plain
from rating.rows import BalanceRow
from rating.usage import MeterState, Slice, cut_slices


class Access(StrEnum):
    """May this customer go on?"""

    ALLOWED = "allowed"
    BLOCKED = "blocked"


NO_CREDIT_AVAILABLE = "no_credit_available"
"""The reason, in OpenMeter's word, that goes with a blocked access."""


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


class LiveGrant:
    """A grant that still has something to pay with."""

    __slots__ = ("grant", "remaining")

    def __init__(self, grant: Grant, remaining: Decimal) -> None:
        self.grant = grant
        self.remaining = remaining


class Account:
    """A customer at work: the state, and what follows from it together with the catalog and the instant."""

    def __init__(self, state: AccountState) -> None:
        self.state = state
        self.meters: dict[tuple[str, str, datetime], MeterState] = {
            (meter.subscription_id, meter.card_key, meter.period_start): meter for meter in state.meters
        }
        self.customer: Customer | None = None
        self.mode: SettlementMode | None = None
        self.live_grants: list[LiveGrant] = []
        self.boundaries: list[datetime] = []
        self.passed = 0
        """How many boundaries time has passed."""
        self.limits: tuple[Decimal, ...] = ()
        self.funded = self.settled = self.pending = self.consumed = self.expired = self.voided = ZERO
        self.restricted = False
        self.headroom: Decimal | None = ZERO
        """A lower bound of what can be spent before access or a threshold could change; None: nothing can change."""
        self.dirty = False
        self.shown: tuple[object, ...] | None = None
        """What was last sent out of access and thresholds."""
        self.next_due: datetime | None = None
        self.packed: bytes | None = None

    @property
    def revision(self) -> int:
        """
        How many distinct inputs the account has folded: events, control records, and what time alone did.

        All rows of a customer carry it. Each part is absolute, so a replay counts the same.
        """
        state = self.state
        return state.events + state.records + state.transitions + self.passed

    def read_catalog(self, catalog: Catalog, now: datetime) -> None:
        """Take over what the catalog says of the customer and its grants at an instant. Safe to repeat."""
        state = self.state
        customer_id = state.customer_id
        self.customer = catalog.customers.get(customer_id)
        state.records = catalog.records_of[customer_id]
        subscription = catalog.subscription_at(customer_id, now)
        self.mode = subscription.settlement_mode if subscription is not None else None
        boundaries: set[datetime] = set()
        self.live_grants = []
        self.restricted = False
        self.funded = self.settled = self.pending = self.consumed = self.expired = self.voided = ZERO
        for grant in catalog.grants_of(customer_id):
            consumed = state.consumed.get(grant.id, ZERO)
            remaining = grant.amount - consumed
            self.funded += grant.amount
            self.consumed += consumed
            boundaries.add(grant.effective_at)
            if grant.expires_at is not None:
                boundaries.add(grant.expires_at)
            if grant.voided_at is not None:
                self.voided += remaining
                continue
            if grant.expires_at is not None and grant.expires_at <= now:
                self.expired += remaining
            elif grant.effective_at > now:
                self.pending += remaining
            else:
                self.settled += remaining
                self.restricted = self.restricted or bool(grant.features)
            if remaining > 0:
                self.live_grants.append(LiveGrant(grant, remaining))
        known = self.boundaries
        self.boundaries = sorted(boundaries)
        self.passed = bisect_right(self.boundaries, now)
        if self.customer is not None and self.funded:
            self.limits = (*sorted(self.customer.low_balance_thresholds, reverse=True), ZERO)
        for boundary in boundaries.difference(known):
            for meter in state.meters:
                cut_slices(meter, boundary)

    def settle_slice(self, meter: MeterState, part: Slice, catalog: Catalog, now: datetime) -> None:
        """Charge what a slice costs now over what it cost before, or give back what it costs less."""
        change = part.amount - part.settled
        self.state.charged += change
        part.settled = part.amount
        if change > 0:
            self._collect(meter, part, change, now)
        elif change < 0:
            self._give_back(meter, part, -change, catalog, now)

    def _collect(self, meter: MeterState, part: Slice, amount: Decimal, now: datetime) -> None:
        used_at = part.start
        for live in self.live_grants:
            grant = live.grant
            if (
                grant.effective_at <= used_at
                and (grant.expires_at is None or used_at < grant.expires_at)
                and grant.pays_for(meter.feature_key)
            ):
                amount -= self._pay(meter, part, live, amount, now)
                if not amount:
                    return
        part.uncovered += amount
        meter.uncovered += amount
        self.state.uncovered += amount
        if meter.repays:
            self.state.overage += amount

    def _pay(self, meter: MeterState, part: Slice, live: LiveGrant, amount: Decimal, now: datetime) -> Decimal:
        """Let a grant pay up to an amount. Returns what it paid."""
        taken = min(amount, live.remaining)
        if not taken:
            return taken
        grant = live.grant
        live.remaining -= taken
        consumed = self.state.consumed
        consumed[grant.id] = consumed.get(grant.id, ZERO) + taken
        part.paid[grant.id] = part.paid.get(grant.id, ZERO) + taken
        meter.paid[grant.id] = meter.paid.get(grant.id, ZERO) + taken
        self.consumed += taken
        if grant.expires_at is not None and grant.expires_at <= now:
            self.expired -= taken
        elif grant.effective_at > now:
            self.pending -= taken
        else:
            self.settled -= taken
        return taken

    def _give_back(self, meter: MeterState, part: Slice, amount: Decimal, catalog: Catalog, now: datetime) -> None:
        freed = min(amount, meter.uncovered)
        if freed:
            amount -= freed
            part.uncovered -= freed
            meter.uncovered -= freed
            self.state.uncovered -= freed
            if meter.repays:
                self.state.overage -= freed
        for grant_id in reversed(list(meter.paid)):
            if not amount:
                break
            returned = min(amount, meter.paid[grant_id])
            amount -= returned
            part.paid[grant_id] = part.paid.get(grant_id, ZERO) - returned
            meter.paid[grant_id] -= returned
            self.state.consumed[grant_id] -= returned
        assert not amount, f"meter {meter.card_key} gave back {amount} more than it was charged"
        self.read_catalog(catalog, now)

    def repay_overage(self, now: datetime) -> list[MeterState]:
        """Let grants that are active now pay what was used beyond the balance. Returns the meters it touched."""
        touched: list[MeterState] = []
        for live in self.live_grants:
            grant = live.grant
            if grant.effective_at > now or (grant.expires_at is not None and grant.expires_at <= now):
                continue
            for meter in self.state.meters:
                if meter.repays and meter.uncovered > 0 and grant.pays_for(meter.feature_key):
                    paid = self._pay(meter, meter.slices[-1], live, meter.uncovered, now)
                    if paid:
                        self._cover(meter, meter.slices[-1], paid)
                        touched.append(meter)
        return touched

    def cover_backdated(self, now: datetime) -> list[MeterState]:
        """
        Let a grant that became known after usage it may pay for cover what is uncovered since its effective instant.

        Exact where a slice starts at or after that instant, or the whole period does.
        """
        touched: list[MeterState] = []
        for live in self.live_grants:
            grant = live.grant
            for meter in self.state.meters:
                if not meter.uncovered or not grant.pays_for(meter.feature_key):
                    continue
                for part in meter.slices:
                    eligible = grant.effective_at <= part.start and (
                        grant.expires_at is None or part.start < grant.expires_at
                    )
                    owed = min(part.uncovered, meter.uncovered)
                    if eligible and owed > 0 and (paid := self._pay(meter, part, live, owed, now)):
                        self._cover(meter, part, paid)
                        touched.append(meter)
        return touched

    def _cover(self, meter: MeterState, part: Slice, paid: Decimal) -> None:
        part.uncovered -= paid
        meter.uncovered -= paid
        self.state.uncovered -= paid
        if meter.repays:
            self.state.overage -= paid

    def available_for(self, feature_key: str | None, now: datetime) -> Decimal:
        """What is left that may pay for a feature now, less what is owed."""
        left = sum(
            (
                live.remaining
                for live in self.live_grants
                if live.grant.effective_at <= now
                and (live.grant.expires_at is None or now < live.grant.expires_at)
                and live.grant.pays_for(feature_key)
            ),
            ZERO,
        )
        return left - self.state.overage

    def balance(self, now: datetime) -> BalanceRow | None:
        """The account as others see it, and the headroom that follows. None for a customer not in the catalog."""
        customer = self.customer
        if customer is None:
            return None
        state = self.state
        live = self.settled - state.overage
        blocks = self.mode is SettlementMode.CREDIT_ONLY or (self.mode is not None and customer.block_when_exhausted)
        blocked = blocks and live <= 0
        shut: list[str] = []
        nearest = live
        if blocks and not blocked and self.restricted:
            for feature_key in sorted({m.feature_key for m in state.meters if m.feature_key is not None}):
                left = self.available_for(feature_key, now)
                if left <= 0:
                    shut.append(feature_key)
                else:
                    nearest = min(nearest, left)
        level, threshold = 0, ""
        for limit in self.limits:
            if live > limit:
                nearest = min(nearest, live - limit)
                break
            level, threshold = level + 1, plain(limit)
        decided = live <= 0 or (not blocks and not self.funded)
        self.headroom = None if decided else nearest
        return BalanceRow(
            customer_id=state.customer_id,
            customer_key=customer.key,
            currency=customer.currency,
            funded=self.funded,
            settled=self.settled,
            live=live,
            pending=self.pending,
            overage=state.overage,
            consumed=self.consumed,
            expired=self.expired,
            voided=self.voided,
            uncovered=state.uncovered,
            charged=state.charged,
            access=Access.BLOCKED if blocked else Access.ALLOWED,
            reason=NO_CREDIT_AVAILABLE if blocked else "",
            level=level,
            threshold=threshold,
            blocked_features=tuple(shut),
            revision=self.revision,
            as_of=now,
        )
