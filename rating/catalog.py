"""
The catalog: who the customers are, what is metered, what it costs, and which credits were granted.

A fold over the control log. Entries are immutable values that are only ever added or superseded,
and whatever can change carries the instant from which it holds, so that a look-up by event time
finds the same answer on a replay. A published plan version never changes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final, NamedTuple, assert_never
from zlib import crc32

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from rating.entitlements import Entitlement, MeteredEntitlement
from rating.meters import Feature, Meter
from rating.moves import CardPart, is_fee, stretch_at
from rating.periods import CADENCE_MAX, Cadence, Period, add_duration, period_at
from rating.prices import Free, Pricing

NEVER: Final = datetime.max.replace(tzinfo=UTC)

KEY_GROUPS = 64
"""How many key groups customers are spread over. Public: recovery and the ledger know it, so it never changes."""

ALWAYS: Final = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
"""From when to when something holds that never changed."""


def key_group(customer_id: str) -> int:
    """The key group that owns all state of a customer, 0 to 63."""
    return crc32(customer_id.encode()) % KEY_GROUPS


class SettlementMode(StrEnum):
    """What happens to usage that credits do not cover."""

    CREDIT_ONLY = "credit_only"
    CREDIT_THEN_INVOICE = "credit_then_invoice"


class RateCard(Struct, frozen=True):
    """The price of one feature within a phase; without a feature it is a flat fee of the plan itself."""

    key: str
    feature_key: str | None
    pricing: Pricing
    name: str = ""
    cadence: str | None = None
    """ISO 8601; None: the plan's."""
    entitlement: Entitlement | None = None
    once: bool = False
    """Whether it is a fee that is due once, whatever the cadence: its one period is the whole phase."""


class Phase(Struct, frozen=True):
    """A stretch of a plan. `duration` is ISO 8601; None for the last phase, which has no end."""

    key: str
    rate_cards: tuple[RateCard, ...]
    duration: str | None = None
    name: str = ""


class PlanVersion(Struct, frozen=True, tag="plan", tag_field="kind"):
    """A published version of a plan."""

    key: str
    version: int
    currency: str
    cadence: str
    phases: tuple[Phase, ...]
    settlement_mode: SettlementMode = SettlementMode.CREDIT_THEN_INVOICE
    prorate: bool = False
    name: str = ""


class MeterSet(Struct, frozen=True, tag="meter", tag_field="kind"):
    """A meter came to be."""

    meter: Meter


class FeatureSet(Struct, frozen=True, tag="feature", tag_field="kind"):
    """A feature came to be."""

    feature: Feature


class Customer(Struct, frozen=True, tag="customer", tag_field="kind"):
    """A customer as it stands from now on; a later record with the same id supersedes it."""

    id: str
    key: str
    name: str
    currency: str
    subjects: tuple[str, ...] = ()
    """The subjects whose usage is this customer's. The key itself always is one."""
    block_when_exhausted: bool = False
    """Block under `credit_then_invoice` too when no credit is left."""
    low_balance_thresholds: tuple[Decimal, ...] = ()
    """Live balances at or below which a signal is raised, in the customer's currency."""
    currency_open: bool = False
    """Whether nobody has chosen the currency: the first subscription or grant does."""
    recorded_at: datetime | None = None
    """When this record was made: subjects that it takes or lets go change hands then. None: an old record."""
    deleted_at: datetime | None = None
    """From here on the customer is no more, and has no subjects, its key included."""

    def names(self) -> tuple[str, ...]:
        """The subjects that are the customer's as of this record, its key being one."""
        return () if self.deleted_at is not None else (self.key, *self.subjects)


class VersionMove(Struct, frozen=True):
    """From `at` on the subscription is on another version of its plan."""

    at: datetime
    plan_version: int
    recorded_at: datetime


class Subscription(Struct, frozen=True, tag="subscription", tag_field="kind"):
    """A customer on a plan from `active_from` up to, not including, `active_to`."""

    id: str
    customer_id: str
    plan_key: str
    plan_version: int
    """The version that it began on; `moves` has those that followed."""
    active_from: datetime
    anchor: datetime
    recorded_at: datetime
    active_to: datetime | None = None
    settlement_mode: SettlementMode = SettlementMode.CREDIT_THEN_INVOICE
    moves: tuple[VersionMove, ...] = ()
    """
    Moves to other versions of the plan, as they were recorded; from its instant on, the last recorded one holds.

    One with an earlier instant than one that held takes that one's instant back; one that is planned is withdrawn by
    another one at its instant, to the version that holds until then.
    """
    end_recorded_at: datetime | None = None
    """When its end became known; None where it has none, or since before that was recorded."""

    @property
    def changed_at(self) -> datetime:
        """When something of it became known last."""
        known = [self.recorded_at, *(move.recorded_at for move in self.moves)]
        return max(known if self.end_recorded_at is None else [*known, self.end_recorded_at])

    def known_at(self, instant: datetime) -> Subscription | None:
        """
        The subscription as it was known at an instant: without the end and the moves that were recorded later.

        A move as of an instant that had passed is there all the same: it holds for usage that came before it.
        """
        if self.recorded_at > instant:
            return None
        if self.changed_at <= instant:
            return self
        is_ended = self.end_recorded_at is None or self.end_recorded_at <= instant
        return replace(
            self,
            active_to=self.active_to if is_ended else None,
            moves=tuple(move for move in self.moves if move.recorded_at <= instant or move.at < move.recorded_at),
        )

    @property
    def last_version(self) -> int:
        """The version of the plan that it is on, or will be when all moves that are planned have been made."""
        return self.versions[-1]

    @property
    def versions(self) -> tuple[int, ...]:
        """The versions of the plan that it is ever on, as they follow each other; one may come again."""
        return (self.plan_version, *(move.plan_version for move in self.moves))

    @property
    def holding_moves(self) -> tuple[VersionMove, ...]:
        """The moves that no later one replaced, in rising order."""
        if len(self.moves) < 2:
            return self.moves
        held: list[VersionMove] = []
        for move in reversed(self.moves):
            if not held or move.at < held[-1].at:
                held.append(move)
        return tuple(reversed(held))

    @property
    def steps(self) -> tuple[VersionMove, ...]:
        """Of the moves that hold those to another version, in rising order: one that was withdrawn leads to none."""
        found: list[VersionMove] = []
        for move in self.holding_moves:
            if move.plan_version != (found[-1].plan_version if found else self.plan_version):
                found.append(move)
        return tuple(found)

    def planned_moves(self, now: datetime) -> tuple[VersionMove, ...]:
        """The moves to another version that are to come after an instant."""
        return tuple(
            move for move in self.steps if move.at > now and (self.active_to is None or move.at < self.active_to)
        )

    @property
    def moves_taken_back(self) -> list[int]:
        """The places of the moves that held when a later one took their instants back, or replaced them there."""
        return [
            place
            for place, one in enumerate(self.moves)
            if any(after.at <= one.at <= after.recorded_at for after in self.moves[place + 1 :])
        ]

    def version_at(self, at: datetime) -> int:
        """The version of the plan that is in force at an instant."""
        version = self.plan_version
        for move in self.moves:
            if move.at <= at:
                version = move.plan_version
        return version

    def version_span(self, at: datetime) -> Period:
        """From when to when the version that is in force at an instant holds."""
        instants = [move.at for move in self.holding_moves]
        place = bisect_right(instants, at)
        return Period(instants[place - 1] if place else ALWAYS[0], instants[place] if place < len(instants) else NEVER)


class Grant(Struct, frozen=True, tag="grant", tag_field="kind"):
    """Prepaid credits: `amount` > 0 in the customer's currency, payable from `effective_at` up to `expires_at`."""

    id: str
    customer_id: str
    amount: Decimal
    currency: str
    effective_at: datetime
    created_at: datetime
    priority: int = 10
    features: tuple[str, ...] = ()
    """The features it may pay for; empty: any charge."""
    expires_at: datetime | None = None
    voided_at: datetime | None = None
    key: str | None = None
    name: str = ""

    @property
    def ends_at(self) -> datetime | None:
        """From here on it pays no more: its expiry, or the instant it was voided; None: never."""
        if self.expires_at is None or self.voided_at is None:
            return self.expires_at or self.voided_at
        return min(self.expires_at, self.voided_at)

    def burn_order(self) -> tuple[Any, ...]:
        """
        Sorts grants into the order in which they are used up: see `rating.wallet`.

        The older grant is the one that was created first, also where a later one was backdated.
        """
        expires = (1,) if self.expires_at is None else (0, self.expires_at)
        return (self.priority, not self.features, expires, self.created_at, self.effective_at, self.id)

    def pays_for(self, feature_key: str | None) -> bool:
        """Whether the grant may pay for a charge of this feature (None: a fee of the plan itself)."""
        return not self.features or feature_key in self.features


Record = MeterSet | FeatureSet | PlanVersion | Customer | Subscription | Grant

_encoder = msgspec.json.Encoder(decimal_format="string")
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


def encode_record(record: Record) -> bytes:
    """A control record as the JSON that the control log keeps."""
    return _encoder.encode(record)


def decode_record(body: bytes | str) -> Record:
    """The inverse of `encode_record`. Raises `msgspec.ValidationError` for anything else."""
    return _decoder.decode(body)


class Placement(Struct, frozen=True):
    """Where usage of a customer at an instant belongs: which card prices it, in which billing period."""

    subscription: Subscription
    plan: PlanVersion
    card: RateCard
    period: Period
    full_period: Period
    """The cadence's whole period; `period` is shorter where the subscription or its phase starts or ends inside."""
    counted: Period
    """Where usage counts for tiers: more than `period` where a move within changes the price."""
    ends: datetime
    """Where the billing period is over, with all its parts, also where a move has taken the card away before."""

    @property
    def goes_on(self) -> bool:
        """Whether tiers and free units go on from an earlier part of the period, which had another price."""
        return self.counted.start < self.period.start


class Ownership(NamedTuple):
    """From an instant on a subject is a customer's, or nobody's."""

    since: datetime
    customer_id: str | None


class Catalog:
    """
    What the control log says up to entry `version`.

    One per process. `apply` is called with each record in the order of the log.
    """

    def __init__(self) -> None:
        self.version = 0
        self.global_version = 0
        self.meters: dict[str, Meter] = {}
        self.features: dict[str, Feature] = {}
        self.plans: dict[tuple[str, int], PlanVersion] = {}
        self.customers: dict[str, Customer] = {}
        self.customer_ids_by_group: tuple[set[str], ...] = tuple(set() for _ in range(KEY_GROUPS))
        self.customer_id_by_key: dict[str, str] = {}
        self.customer_id_by_subject: dict[str, str] = {}
        """Whose each subject is now."""
        self._owners: dict[str, list[Ownership]] = {}
        """Of each subject that ever changed hands: whose it was from when on; the first also had it all time before."""
        self.moved_subjects: list[str] = []
        """The subjects that changed hands, in order, once for each time."""
        self.subscriptions: dict[str, dict[str, Subscription]] = {}
        self.changed_at_by_group = [ALWAYS[0]] * KEY_GROUPS
        """By key group, when something of a customer's subscription became known last."""
        self.grants: dict[str, dict[str, Grant]] = {}
        self.records_of: Counter[str] = Counter()
        """How many entries concerned a customer: what the control log adds to its revision."""
        self._features_by_event_type: dict[str, tuple[tuple[Feature, Meter], ...]] | None = None

    def apply(self, entry_id: int, record: Record) -> str | None:
        """Fold one record in. Returns the id of the customer it concerns, or None where it concerns all."""
        assert entry_id > self.version, f"control entry {entry_id} came after {self.version}"
        self.version = entry_id
        match record:
            case MeterSet(meter):
                self.meters[meter.key] = meter
            case FeatureSet(feature):
                self.features[feature.key] = feature
            case PlanVersion():
                self.plans[record.key, record.version] = record
            case Customer():
                self._set_customer(record)
                return self._counted(record.id)
            case Subscription():
                self.subscriptions.setdefault(record.customer_id, {})[record.id] = record
                group = key_group(record.customer_id)
                self.changed_at_by_group[group] = max(self.changed_at_by_group[group], record.changed_at)
                return self._counted(record.customer_id)
            case Grant():
                self.grants.setdefault(record.customer_id, {})[record.id] = record
                return self._counted(record.customer_id)
            case _:
                assert_never(record)
        self.global_version = entry_id
        self._features_by_event_type = None
        return None

    def _counted(self, customer_id: str) -> str:
        self.records_of[customer_id] += 1
        return customer_id

    def _set_customer(self, customer: Customer) -> None:
        previous = self.customers.get(customer.id)
        names = customer.names()
        since = customer.deleted_at or customer.recorded_at
        for subject in () if previous is None else previous.names():
            if subject not in names and self.customer_id_by_subject.get(subject) == customer.id:
                self._hand_over(subject, None, since)
        self.customers[customer.id] = customer
        self.customer_ids_by_group[key_group(customer.id)].add(customer.id)
        self.customer_id_by_key[customer.key] = customer.id
        for subject in names:
            self._hand_over(subject, customer.id, since)

    def _hand_over(self, subject: str, customer_id: str | None, since: datetime | None) -> None:
        """
        Let a subject be a customer's from an instant on, or nobody's.

        Who first has it has it all time before, and a gap between two owners is the later one's. What an old record
        says, which has no instant, holds for all time.
        """
        before = self.customer_id_by_subject.get(subject)
        if before == customer_id:
            return
        if customer_id is None:
            del self.customer_id_by_subject[subject]
        else:
            self.customer_id_by_subject[subject] = customer_id
        owners = self._owners.pop(subject, None)
        if owners is not None or before is not None:
            self.moved_subjects.append(subject)
        if owners is None and before is not None:
            owners = [Ownership(ALWAYS[0], before)]
        if owners is None or since is None:
            return
        # Clocks may disagree: a later record never holds from an earlier instant on.
        since = max(since, owners[-1].since)
        if owners[-1].customer_id is None or owners[-1].since == since:
            since = owners.pop().since
        if not owners or owners[-1].customer_id != customer_id:
            owners.append(Ownership(since, customer_id))
        if len(owners) > 1:
            self._owners[subject] = owners

    def has_moved(self, subject: str) -> bool:
        """Whether it depends on the time whose a subject is."""
        return subject in self._owners

    def customer_id_at(self, subject: str, at: datetime) -> str | None:
        """The id of the customer whose a subject was at an instant, None where nobody had it."""
        owners = self._owners.get(subject)
        if owners is None:
            return self.customer_id_by_subject.get(subject)
        return next((found.customer_id for found in reversed(owners) if found.since <= at), None)

    def owner_of_usage(self, subject: str, at: datetime, received_at: datetime) -> str | None:
        """
        The id of the customer whose usage at an instant is; where it is ahead of its arrival, who had the subject then.

        Who will have the subject is not known yet when it arrives; so a replay, which does know, finds the same.
        """
        return self.customer_id_at(subject, min(at, received_at))

    def owned_span(self, subject: str, at: datetime) -> tuple[datetime, datetime]:
        """From when to when, its end not included, what `customer_id_at` says of an instant holds."""
        start, end = ALWAYS
        for found in reversed(self._owners.get(subject, ())):
            if found.since <= at:
                return found.since, end
            end = found.since
        return start, end

    def features_of(self, event_type: str) -> tuple[tuple[Feature, Meter], ...]:
        """The features that events of a type may count towards, each with its meter."""
        if self._features_by_event_type is None:
            found: dict[str, list[tuple[Feature, Meter]]] = {}
            for feature in self.features.values():
                meter = self.meters.get(feature.meter_key) if feature.meter_key else None
                if meter is not None:
                    found.setdefault(meter.event_type, []).append((feature, meter))
            self._features_by_event_type = {key: tuple(pairs) for key, pairs in found.items()}
        return self._features_by_event_type.get(event_type, ())

    def subscription_at(self, customer_id: str, at: datetime) -> Subscription | None:
        """The subscription in force at an instant; of several the one that started last."""
        return _in_force(self.subscriptions.get(customer_id, {}).values(), at)

    def subscription_of_usage(self, customer_id: str, at: datetime, received_at: datetime) -> Subscription | None:
        """
        The subscription that usage at an instant counts under.

        Where it is ahead of its arrival, that is the one in force by what was known then: an end, a change or a move
        that became known after does not concern it, so a replay finds the same. Where none was, any will do.
        """
        if at > received_at and received_at < self.changed_at_by_group[key_group(customer_id)]:
            held = self.subscriptions.get(customer_id, {}).values()
            known = _in_force((one for found in held if (one := found.known_at(received_at)) is not None), at)
            if known is not None:
                return known
        return self.subscription_at(customer_id, at)

    def placements_at(self, subscription: Subscription, at: datetime) -> Iterator[Placement]:
        """
        The rate cards in force under a subscription at an instant, each with its billing period.

        What it finds for a card depends on nothing but where the period begins, whichever instant within is asked for.
        """
        for plan, card, period, full in self._periods_at(subscription, at):
            if not any(period.start < move.at < period.end for move in subscription.moves):
                yield Placement(subscription, plan, card, period, full, period, period.end)
                continue
            placement = self._placement_through_moves(subscription, card, period, full, at)
            if placement is not None:
                yield placement

    def period_ends(self, subscription: Subscription, at: datetime) -> list[datetime]:
        """The ends of the billing periods at an instant, also of those in which a fee that is new is not due yet."""
        return [period.end for _, _, period, _ in self._periods_at(subscription, at)]

    def _periods_at(
        self, subscription: Subscription, at: datetime
    ) -> Iterator[tuple[PlanVersion, RateCard, Period, Period]]:
        """The rate cards in force at an instant, each with its billing period and its cadence's whole one."""
        found = self._phase_through_moves(subscription, at)
        if found is None:
            return
        plan, phase, start, end = found
        stops = [stop for stop in (end, subscription.active_to) if stop is not None]
        for card in phase.rate_cards:
            if card.once:
                full = Period(start, end or add_duration(start, CADENCE_MAX))
            else:
                full = period_at(subscription.anchor, Cadence.parse(card.cadence or plan.cadence), at)
            yield plan, card, Period(max(full.start, start), min(full.end, *stops) if stops else full.end), full

    def _placement_through_moves(
        self, subscription: Subscription, card: RateCard, whole: Period, full: Period, at: datetime
    ) -> Placement | None:
        """Where usage of a card belongs at an instant of a period within which the subscription moves."""
        parts = []
        start = whole.start
        begun = self._begun_with(subscription, card)
        while start < whole.end:
            later = (instant for instant in begun if start < instant)
            end = min(subscription.version_span(start).end, whole.end, *later)
            found = self.phase_at(subscription, start)
            plan, cards = (found[0], found[1].rate_cards) if found is not None else (None, ())
            same = (other for other in cards if (other.key, other.feature_key) == (card.key, card.feature_key))
            parts.append(CardPart(start, end, plan, next(same, None), start in begun))
            start = end
        stretch = stretch_at(parts, at)
        if stretch is None:
            return None
        priced = stretch.card
        if is_fee(priced) and stretch.start == whole.start:
            return Placement(subscription, stretch.plan, priced, whole, full, whole, whole.end)
        if is_fee(priced):
            # Its first period is the next one. Until then, the usage of its feature is only counted.
            if priced.feature_key is None:
                return None
            priced = replace(priced, pricing=Pricing(Free(), priced.pricing.currency))
        elif stretch.end < stretch.counted_to:
            # Of all parts of a period, the last has the minimum.
            priced = replace(priced, pricing=_without_minimum(priced.pricing))
        period, counted = Period(stretch.start, stretch.end), Period(stretch.counted_from, stretch.counted_to)
        return Placement(subscription, stretch.plan, priced, period, full, counted, whole.end)

    def _begun_with(self, subscription: Subscription, card: RateCard) -> list[datetime]:
        """
        The instants of moves that a part of a rate card's period began with, and that were taken back or replaced.

        Usage from there on was counted from there on: it stays a part of its own, which goes on from the one before.
        """
        begun = []
        for place in subscription.moves_taken_back:
            move = subscription.moves[place]
            earlier = tuple(other for other in subscription.moves[:place] if other.at < move.at)
            had, has = (
                _same_card(self.phase_at(replace(subscription, moves=moves), move.at), card)
                for moves in (earlier, (move,))
            )
            if has is None or (is_fee(has) and (had is None or is_fee(had)) and has.feature_key is None):
                continue
            if had is None or (had.pricing != has.pricing and not (is_fee(had) and is_fee(has))):
                begun.append(move.at)
        return begun

    def placement(self, subscription: Subscription, card_key: str, period_start: datetime) -> Placement | None:
        """The placement of a rate card whose period begins at an instant; None where no version then has the card."""
        found = self.placements_at(subscription, period_start)
        return next((placement for placement in found if placement.card.key == card_key), None)

    def phase_at(
        self, subscription: Subscription, at: datetime
    ) -> tuple[PlanVersion, Phase, datetime, datetime | None] | None:
        """The plan and its phase that a subscription is in at an instant, and from when to when."""
        plan = self.plans.get((subscription.plan_key, subscription.version_at(at)))
        start = subscription.active_from
        for phase in plan.phases if plan is not None else ():
            assert plan is not None
            end = add_duration(start, Cadence.parse(phase.duration)) if phase.duration else None
            if end is None or at < end:
                return plan, phase, start, end
            start = end
        return None

    def _phase_through_moves(
        self, subscription: Subscription, at: datetime
    ) -> tuple[PlanVersion, Phase, datetime, datetime | None] | None:
        """The same, where a phase ends as the version says that will be in force by then."""
        found = self.phase_at(subscription, at)
        if found is None:
            return None
        plan, phase, start, end = found
        for move in subscription.moves:
            if at < move.at and (end is None or move.at < end):
                following = self.phase_at(subscription, move.at)
                same = following is not None and following[2] == start
                end = following[3] if same and following is not None else move.at
        return plan, phase, start, end

    def versions_of(self, subscription: Subscription) -> list[PlanVersion]:
        """The versions of its plan that a subscription is ever on."""
        found = (self.plans.get((subscription.plan_key, number)) for number in dict.fromkeys(subscription.versions))
        return [plan for plan in found if plan is not None]

    def metered_features(self, customer_id: str) -> frozenset[str]:
        """The features of which a customer's plans give so much and no more, so that their usage is told."""
        found = set()
        for subscription in self.subscriptions.get(customer_id, {}).values():
            for plan in self.versions_of(subscription):
                for phase in plan.phases:
                    for card in phase.rate_cards:
                        if isinstance(card.entitlement, MeteredEntitlement) and card.feature_key is not None:
                            found.add(card.feature_key)
        return frozenset(found)

    def first_instant(self, customer_id: str) -> datetime | None:
        """The first instant at which a grant or a subscription of a customer begins, None without any."""
        instants = [grant.effective_at for grant in self.grants.get(customer_id, {}).values()]
        instants += [subscription.active_from for subscription in self.subscriptions.get(customer_id, {}).values()]
        return min(instants, default=None)

    def grants_of(self, customer_id: str) -> list[Grant]:
        """All grants a customer ever got, in burn order."""
        return sorted(self.grants.get(customer_id, {}).values(), key=Grant.burn_order)


def _without_minimum(pricing: Pricing) -> Pricing:
    if getattr(pricing.price, "minimum_amount", None) is None:
        return pricing
    return replace(pricing, price=replace(pricing.price, minimum_amount=None))


def _same_card(found: tuple[PlanVersion, Phase, datetime, datetime | None] | None, card: RateCard) -> RateCard | None:
    """The rate card of a phase that has the key and feature of another one, whatever its price."""
    cards = found[1].rate_cards if found is not None else ()
    return next((other for other in cards if (other.key, other.feature_key) == (card.key, card.feature_key)), None)


def _in_force(subscriptions: Iterable[Subscription], at: datetime) -> Subscription | None:
    current = [
        found
        for found in subscriptions
        if found.active_from <= at and (found.active_to is None or at < found.active_to)
    ]
    return max(current, key=lambda found: (found.active_from, found.id), default=None)
