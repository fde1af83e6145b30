"""
The control plane: the only writer of the catalog tables and of the control log.

Amounts are exact decimals in the customer's currency, instants are aware and in UTC. A change is its catalog
rows and its entries in the control log in one transaction, or nothing at all. All changes queue at one
advisory lock, so that entry ids become visible in order: a reader that saw entry 7 will never find a 6 later.
Reads do not queue.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from threading import Lock, RLock, get_ident
from typing import Any, Final, LiteralString, TypeVar

import psycopg
import redis
from msgspec import Struct
from msgspec.structs import replace
from redis.backoff import NoBackoff
from redis.retry import Retry
from ulid import ULID

from rating.catalog import (
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
    decode_record,
    encode_record,
    key_group,
)
from rating.events import ATTRIBUTE_LENGTH_MAX
from rating.meters import Feature, Meter, MeterError, check_filters
from rating.money import ZERO, is_within_bounds, plain
from rating.periods import Cadence, CadenceError, add_duration
from rating.prices import Flat, Free
from sinks.event_log import CONTROL_HEAD

CHANNEL: Final = "tollway_control"
"""PostgreSQL notifies here, with the newest entry id, when the control log grew."""

PRIORITY_MAX: Final = 1000

PHASES_MAX: Final = 50
"""With durations of at most 100 years, and instants up to `YEAR_MAX`, a plan ends while there are dates."""

YEAR_MIN: Final = 1970
YEAR_MAX: Final = 2999

_LOCK: Final = 0x746F6C6C
_HEAD_UPWARDS: Final = """
-- The head only ever rises, in whatever order the writers come by.
if tonumber(ARGV[1]) > tonumber(redis.call('get', KEYS[1]) or '0') then
  redis.call('set', KEYS[1], ARGV[1])
end
"""
_ID: Final = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_SLUG: Final = re.compile(r"(?=.{1,64}$)[a-z0-9]+(?:_[a-z0-9]+)*")
_CUSTOMER_KEY: Final = re.compile(r"[^\s/{}\x00-\x1f\x7f\ud800-\udfff]{1,256}")
_CURRENCY: Final = re.compile(r"[A-Z][A-Z0-9_]{2,23}")
_UNSTORABLE: Final = re.compile(r"[\x00\ud800-\udfff]")

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class ControlCode(StrEnum):
    """Why the catalog was not changed, or had no answer."""

    NOT_FOUND = "not_found"
    INVALID = "invalid"
    CONFLICT = "conflict"
    """It contradicts what is there: a subject of another customer, another currency, an expired grant."""
    IMMUTABLE = "immutable"
    """What was metered so far would no longer be what it was."""
    KEY_REUSED = "key_reused"
    """The key was given to a grant with other content."""


class ControlError(Exception):
    """
    A change that cannot be made as asked, or something asked for that is not there.

    Attributes:
        code: Which of the few kinds of trouble it is.
        what: What was expected, and what was found.
        path: The field, as in `subjects[0]`, or as in `$.customers[2].subjects[0]` where it came from a file.
        hint: What to do instead.
        line: The line of the file, where there is one.
    """

    def __init__(self, code: ControlCode, what: str, path: str, hint: str, line: int | None = None) -> None:
        self.code = code
        self.what = what
        self.path = path
        self.hint = hint
        self.line = line
        super().__init__(f"{self.message}\nhint: {hint}")

    @property
    def message(self) -> str:
        """Where, what was expected there, and what was found."""
        return f"`{self.path}`{'' if self.line is None else f' (line {self.line})'}: {self.what}"


class PlanDraft(Struct, frozen=True, kw_only=True):
    """A plan as it is to be published."""

    key: str
    cadence: str
    phases: tuple[Phase, ...]
    currency: str = "USD"
    settlement_mode: SettlementMode = SettlementMode.CREDIT_THEN_INVOICE
    prorate: bool = False
    name: str = ""


class SubscriptionDraft(Struct, frozen=True, kw_only=True):
    """
    A subscription to be.

    The key names a place of the customer's: the subscription that has it is the one meant, and a new one
    takes the key over.
    """

    plan: str
    version: int | None = None
    """None: the newest when it starts; a version published later does not move it."""
    active_from: datetime | None = None
    """None: now."""
    anchor: datetime | None = None
    """Where a billing period starts; None: where the subscription does."""
    settlement_mode: SettlementMode | None = None
    """None: the plan's."""
    key: str | None = None


class GrantDraft(Struct, frozen=True, kw_only=True):
    """A grant to be. The key makes it safe to repeat: the same customer and key again is the same grant."""

    amount: Decimal
    currency: str | None = None
    """None: the customer's, which it has to be."""
    priority: int = 10
    features: tuple[str, ...] = ()
    effective_at: datetime | None = None
    """None: now."""
    expires_at: datetime | None = None
    expires_after: str | None = None
    """ISO 8601, from the effective instant on; instead of `expires_at`."""
    key: str | None = None
    name: str = ""


class CustomerDraft(Struct, frozen=True, kw_only=True):
    """A customer as it is to be, with a subscription and grants to set it up in one go."""

    key: str
    name: str = ""
    currency: str = "USD"
    subjects: tuple[str, ...] = ()
    block_when_exhausted: bool = False
    low_balance_thresholds: tuple[Decimal, ...] = ()
    subscription: SubscriptionDraft | None = None
    grants: tuple[GrantDraft, ...] = ()


def utc_now() -> datetime:
    """The instant it is."""
    return datetime.now(UTC)


def new_id(at: datetime, *_parts: str) -> str:
    """A ULID. Those of one process rise, also within a millisecond: the older of two grants sorts first."""
    return str(ULID.from_datetime(at))


class Changes:
    """
    The catalog as one transaction sees it: what it read, and on top of that what it is going to write.

    Operations check first and record last, so that one that raises leaves no trace. Without a connection it
    is an empty catalog in memory, which is how a file is checked, and read as records, without any database.
    """

    def __init__(
        self,
        connection: psycopg.Connection[Any] | None,
        now: Callable[[], datetime] = utc_now,
        identify: Callable[..., str] = new_id,
    ) -> None:
        self.records: list[Record] = []
        """What is to be written, in order."""
        self.now = now
        self._connection = connection
        self._identify = identify
        self._meters: dict[str, Meter | None] = {}
        self._features: dict[str, Feature | None] = {}
        self._plans: dict[str, list[PlanVersion]] = {}
        self._customers: dict[str, Customer] = {}
        self._id_by_key: dict[str, str | None] = {}
        self._id_by_subject: dict[str, str | None] = {}
        self._subscriptions: dict[str, dict[str, Subscription]] = {}
        self._subscription_keys: dict[tuple[str, str], str] = {}
        self._grants: dict[str, Grant] = {}
        self._grant_ids: dict[tuple[str, str], str | None] = {}
        self._created: set[str] = set()
        """Customers that are new, of whom there is nothing to look up."""
        self._claimed: dict[str, str] = {}
        self._released: set[str] = set()
        self._keys_given_up: set[str] = set()

    # -- what there is --------------------------------------------------------------------------

    def rows(self, query: LiteralString, *values: object) -> list[tuple[Any, ...]]:
        """The rows of a query; none where there is no database, or for a text that it could not hold."""
        unstorable = (isinstance(value, str) and _UNSTORABLE.search(value) for value in values)
        if self._connection is None or any(unstorable):
            return []
        return self._connection.execute(query, values).fetchall()

    def find_meter(self, key: str) -> Meter | None:
        """The meter of a key, if there is one."""
        if key not in self._meters:
            found = self.rows("select body::text from meters where key = %s", key)
            self._meters[key] = _decode(found[0][0], MeterSet).meter if found else None
        return self._meters[key]

    def find_feature(self, key: str) -> Feature | None:
        """The feature of a key, if there is one."""
        if key not in self._features:
            found = self.rows("select body::text from features where key = %s", key)
            self._features[key] = _decode(found[0][0], FeatureSet).feature if found else None
        return self._features[key]

    def plan_versions(self, key: str) -> list[PlanVersion]:
        """The published versions of a plan, the newest last."""
        if key not in self._plans:
            found = self.rows("select body::text from plans where key = %s order by version", key)
            self._plans[key] = [_decode(body, PlanVersion) for (body,) in found]
        return self._plans[key]

    def find_customer(self, key_or_id: str) -> Customer | None:
        """The customer with an id, or else with a key, if there is one."""
        if key_or_id not in self._customers and _ID.fullmatch(key_or_id):
            for (body,) in self.rows("select body::text from customers where id = %s", key_or_id):
                self._customers[key_or_id] = _decode(body, Customer)
        return self._customers.get(key_or_id) or self.find_customer_by_key(key_or_id)

    def find_customer_by_key(self, key: str) -> Customer | None:
        """The customer of a key, if there is one."""
        if key not in self._id_by_key:
            self._id_by_key[key] = None
            for customer_id, body in self.rows("select id, body::text from customers where key = %s", key):
                self._id_by_key[key] = customer_id
                self._customers.setdefault(customer_id, _decode(body, Customer))
        customer_id = self._id_by_key[key]
        return None if customer_id is None else self._customers[customer_id]

    def meter(self, key: str, path: str = "key") -> Meter:
        """The meter of a key. Raises `ControlError` if there is none."""
        return _found(self.find_meter(key), "meter", key, path)

    def feature(self, key: str, path: str = "key") -> Feature:
        """The feature of a key. Raises `ControlError` if there is none."""
        return _found(self.find_feature(key), "feature", key, path)

    def plan(self, key: str, version: int | None = None, path: str = "key") -> PlanVersion:
        """A version of a plan, None for the newest. Raises `ControlError` if there is none."""
        versions = self.plan_versions(key)
        newest = _found(versions[-1] if versions else None, "plan", key, path)
        if version is None:
            return newest
        for plan in versions:
            if plan.version == version:
                return plan
        what = f"plan `{key}` has no version {version}"
        hint = f"its newest is {newest.version}; leave the version out for that"
        raise ControlError(ControlCode.NOT_FOUND, what, _sibling(path, "version"), hint)

    def customer(self, key_or_id: str, path: str = "customer") -> Customer:
        """The customer with an id or key. Raises `ControlError` if there is none."""
        return _found(self.find_customer(key_or_id), "customer", key_or_id, path)

    def subscription(self, subscription_id: str) -> Subscription:
        """The subscription of an id. Raises `ControlError` if there is none."""
        found = self.rows("select customer_id from subscriptions where id = %s", subscription_id)
        for (customer_id,) in found:
            self.subscriptions(customer_id)
        known = (held[subscription_id] for held in self._subscriptions.values() if subscription_id in held)
        return _found(next(known, None), "subscription", subscription_id, "id")

    def subscriptions(self, customer_id: str) -> dict[str, Subscription]:
        """All subscriptions a customer ever had, by id."""
        if customer_id not in self._subscriptions:
            self._subscriptions[customer_id] = {}
            self._load_subscriptions([customer_id])
        return self._subscriptions[customer_id]

    def subscription_by_key(self, customer_id: str, key: str) -> Subscription | None:
        """The subscription that has a key of the customer's, if one has."""
        held = self.subscriptions(customer_id)
        subscription_id = self._subscription_keys.get((customer_id, key))
        return None if subscription_id is None else held[subscription_id]

    def find_grant(self, grant_id: str) -> Grant:
        """The grant of an id. Raises `ControlError` if there is none."""
        if grant_id not in self._grants:
            for (body,) in self.rows("select body::text from grants where id = %s", grant_id):
                self._grants[grant_id] = _decode(body, Grant)
        return _found(self._grants.get(grant_id), "grant", grant_id, "id")

    def grant_by_key(self, customer_id: str, key: str) -> Grant | None:
        """The grant that has a key of the customer's, if one has."""
        place = customer_id, key
        if place not in self._grant_ids:
            self._grant_ids[place] = None
            if customer_id not in self._created:
                self._load_grants(
                    self.rows("select body::text from grants where customer_id = %s and key = %s", customer_id, key)
                )
        grant_id = self._grant_ids[place]
        return None if grant_id is None else self._grants[grant_id]

    def prefetch(self, drafts: Collection[CustomerDraft]) -> None:
        """Read what setting up many customers has to look up, in a few queries instead of some for each."""
        keys = [draft.key for draft in drafts if draft.key not in self._id_by_key]
        subjects = {subject for draft in drafts for subject in (draft.key, *draft.subjects)}
        unknown = [subject for subject in subjects if subject not in self._id_by_subject]
        self._id_by_key.update(dict.fromkeys(keys))
        self._id_by_subject.update(dict.fromkeys(unknown))
        found = self.rows("select id, key, body::text from customers where key = any(%s)", keys)
        for customer_id, key, body in found:
            self._customers[customer_id] = _decode(body, Customer)
            self._id_by_key[key] = customer_id
        self._id_by_subject.update(
            self.rows("select subject, customer_id from customer_subjects where subject = any(%s)", unknown)
        )
        ids = [customer_id for customer_id, _, _ in found if customer_id not in self._subscriptions]
        self._subscriptions.update({customer_id: {} for customer_id in ids})
        self._load_subscriptions(ids)
        places = {
            (customer_id, grant.key)
            for draft in drafts
            if (customer_id := self._id_by_key[draft.key]) is not None
            for grant in draft.grants
            if grant.key is not None
        }.difference(self._grant_ids)
        self._grant_ids.update(dict.fromkeys(places))
        owners = list({customer_id for customer_id, _ in places})
        self._load_grants(
            self.rows("select body::text from grants where customer_id = any(%s) and key is not null", owners)
        )

    def _load_subscriptions(self, customer_ids: list[str]) -> None:
        if self._created.issuperset(customer_ids):
            return
        query: LiteralString = (
            "select customer_id, key, body::text from subscriptions where customer_id = any(%s) order by id"
        )
        for customer_id, key, body in self.rows(query, customer_ids):
            subscription = _decode(body, Subscription)
            self._subscriptions[customer_id][subscription.id] = subscription
            if key is not None:
                self._subscription_keys[customer_id, key] = subscription.id

    def _load_grants(self, found: list[tuple[Any, ...]]) -> None:
        for (body,) in found:
            grant = _decode(body, Grant)
            grant = self._grants.setdefault(grant.id, grant)
            if grant.key is not None:
                self._grant_ids[grant.customer_id, grant.key] = grant.id

    # -- what shall be --------------------------------------------------------------------------

    def put_meter(self, meter: Meter) -> Meter:
        """Make a meter, or change its name and description. What it counts never changes."""
        _check_text(meter.event_type, "event_type", ATTRIBUTE_LENGTH_MAX)
        _check_storable(meter.name, "name")
        _check_storable(meter.description, "description")
        known = self.find_meter(meter.key)
        if known == meter:
            return known
        if known is not None:
            for field in ("event_type", "aggregation", "value_property", "group_by"):
                if getattr(known, field) != getattr(meter, field):
                    what = f"expected what meter `{meter.key}` has, since a meter's {field} can't change"
                    hint = "make a new meter, and a feature that uses it"
                    raise ControlError(ControlCode.IMMUTABLE, what, field, hint)
        self._meters[meter.key] = meter
        self.records.append(MeterSet(meter))
        return meter

    def put_feature(self, feature: Feature) -> Feature:
        """Make a feature, or change its name. The usage it stands for never changes."""
        _check_storable(feature.name, "name")
        for dimension, texts in feature.filters.items():
            for text in texts:
                _check_storable(text, f"filters.{dimension}")
        if feature.meter_key is not None:
            try:
                check_filters(feature, self.meter(feature.meter_key, "meter_key"))
            except MeterError as error:
                raise from_meter_error(error) from error
        known = self.find_feature(feature.key)
        if known is not None and _sets(known.filters) == _sets(feature.filters):
            feature = replace(feature, filters=known.filters)
        if known == feature:
            return known
        if known is not None:
            for field in ("meter_key", "filters"):
                if getattr(known, field) != getattr(feature, field):
                    named = field.removesuffix("_key")
                    what = f"expected what feature `{feature.key}` has, since a feature's {named} can't change"
                    hint = "make a new feature, and a plan version with a rate card for it"
                    raise ControlError(ControlCode.IMMUTABLE, what, field, hint)
        self._features[feature.key] = feature
        self.records.append(FeatureSet(feature))
        return feature

    def publish_plan(self, draft: PlanDraft) -> PlanVersion:
        """Publish a plan as its next version, unless its newest one has the same content already."""
        self._check_plan(draft)
        versions = self.plan_versions(draft.key)
        plan = PlanVersion(
            key=draft.key,
            version=versions[-1].version + 1 if versions else 1,
            currency=draft.currency,
            cadence=draft.cadence,
            phases=draft.phases,
            settlement_mode=draft.settlement_mode,
            prorate=draft.prorate,
            name=draft.name,
        )
        if versions and replace(versions[-1], version=plan.version) == plan:
            return versions[-1]
        versions.append(plan)
        self.records.append(plan)
        return plan

    def _check_plan(self, draft: PlanDraft) -> None:
        _check_slug(draft.key, "key")
        _check_currency(draft.currency, "currency")
        _check_duration(draft.cadence, "cadence")
        _check_storable(draft.name, "name")
        if not draft.phases:
            raise _invalid("phases", "at least one phase", "none", "add a phase, or rate cards")
        if len(draft.phases) > PHASES_MAX:
            raise _invalid("phases", f"at most {PHASES_MAX}", str(len(draft.phases)), "lengthen or drop some")
        _check_unique([phase.key for phase in draft.phases], "phases", "key")
        for index, phase in enumerate(draft.phases):
            path = f"phases[{index}]"
            _check_slug(phase.key, f"{path}.key")
            _check_storable(phase.name, f"{path}.name")
            if phase.duration is not None:
                _check_duration(phase.duration, f"{path}.duration")
            elif index < len(draft.phases) - 1:
                hint = "only the last phase has no end; write an ISO 8601 duration such as P1M"
                raise _invalid(f"{path}.duration", "a duration, since a phase follows", "none", hint)
            _check_unique([card.key for card in phase.rate_cards], f"{path}.rate_cards", "key")
            features = [card.feature_key for card in phase.rate_cards]
            _check_unique(features, f"{path}.rate_cards", "feature_key")
            for position, card in enumerate(phase.rate_cards):
                self._check_rate_card(card, draft, f"{path}.rate_cards[{position}]")

    def _check_rate_card(self, card: RateCard, draft: PlanDraft, path: str) -> None:
        _check_slug(card.key, f"{path}.key")
        _check_storable(card.name, f"{path}.name")
        if card.cadence is not None:
            _check_duration(card.cadence, f"{path}.cadence")
        if card.pricing.currency != draft.currency:
            hint = "all rate cards are in the currency of their plan"
            got = f"`{card.pricing.currency}`"
            raise _invalid(f"{path}.pricing.currency", f"`{draft.currency}`, the plan's", got, hint)
        feature = None
        if card.feature_key is not None:
            feature = self.feature(card.feature_key, f"{path}.feature_key")
        if isinstance(card.pricing.price, Flat | Free):
            for field, given in (
                ("unit_config", card.pricing.conversion),
                ("discounts.usage", card.pricing.discounts.usage),
            ):
                if given is not None:
                    hint = "remove it, or choose a price by usage"
                    raise _invalid(f"{path}.{field}", "none, since the price has no units", "one", hint)
            return
        if feature is None:
            hint = "name the feature whose usage it prices, or make the price flat"
            raise _invalid(f"{path}.feature_key", "a feature, since the price is by usage", "none", hint)
        if feature.meter_key is None:
            hint = "give it a meter, under a new key, or make the price flat"
            expected = "a feature with a meter, since the price is by usage"
            raise _invalid(f"{path}.feature_key", expected, f"`{feature.key}` without one", hint)

    def put_customer(self, draft: CustomerDraft) -> Customer:
        """Make the customer of a key, or change it to be as the draft says; then subscribe it, and grant."""
        customer = self._put_customer(draft)
        if draft.subscription is not None:
            with within("subscription"):
                self.subscribe(customer, draft.subscription)
        for index, grant in enumerate(draft.grants):
            with within(f"grants[{index}]"):
                self.grant(customer, grant)
        return customer

    def _put_customer(self, draft: CustomerDraft) -> Customer:
        thresholds = _check_customer(draft)
        known = self.find_customer_by_key(draft.key)
        subjects = tuple(dict.fromkeys(draft.subjects))
        for index, subject in enumerate((draft.key, *subjects)):
            self._check_subject(subject, known, "key" if not index else f"subjects[{index - 1}]")
        if known is not None and known.currency != draft.currency and self._has_dealings(known.id):
            what = f"expected `{known.currency}`, got `{draft.currency}`: there are subscriptions or grants"
            hint = "keep the currency, or make a customer with a key of its own for the other one"
            raise ControlError(ControlCode.CONFLICT, what, "currency", hint)
        customer = Customer(
            id=self._identify(self.now(), "customer", draft.key) if known is None else known.id,
            key=draft.key,
            name=draft.name or draft.key,
            currency=draft.currency,
            subjects=subjects,
            block_when_exhausted=draft.block_when_exhausted,
            low_balance_thresholds=thresholds,
        )
        if customer == known:
            return known
        if known is None:
            self._created.add(customer.id)
        else:
            for subject in set(known.subjects).difference((customer.key, *subjects)):
                self._id_by_subject[subject] = None
                self._claimed.pop(subject, None)
                self._released.add(subject)
        for subject in (customer.key, *subjects):
            if self._id_by_subject[subject] is None:
                self._id_by_subject[subject] = self._claimed[subject] = customer.id
        self._customers[customer.id] = customer
        self._id_by_key[customer.key] = customer.id
        self.records.append(customer)
        return customer

    def _check_subject(self, subject: str, customer: Customer | None, path: str) -> None:
        if subject not in self._id_by_subject:
            found = self.rows("select customer_id from customer_subjects where subject = %s", subject)
            self._id_by_subject[subject] = found[0][0] if found else None
        owner_id = self._id_by_subject[subject]
        if owner_id is not None and (customer is None or owner_id != customer.id):
            owner = self.customer(owner_id)
            what = f"expected a subject that is free, got `{subject}`, which customer `{owner.key}` has"
            hint = f"remove it from `{owner.key}` first, or choose another; a customer's key is a subject too"
            raise ControlError(ControlCode.CONFLICT, what, path, hint)

    def _has_dealings(self, customer_id: str) -> bool:
        if self.subscriptions(customer_id) or any(grant.customer_id == customer_id for grant in self._grants.values()):
            return True
        return bool(self.rows("select from grants where customer_id = %s limit 1", customer_id))

    def subscribe(self, customer: Customer | str, draft: SubscriptionDraft) -> Subscription:
        """
        Subscribe a customer to a plan; the subscription it has ends where the new one starts.

        A draft whose key has a subscription with the same terms changes nothing: that one is returned.
        """
        if isinstance(customer, str):
            customer = self.customer(customer)
        known = self.same_subscription(customer, draft)
        if known is not None:
            return known
        plan = self.plan(draft.plan, draft.version, "plan")
        now = _instant(self.now(), "now")
        start = now if draft.active_from is None else _instant(draft.active_from, "active_from")
        anchor = start if draft.anchor is None else _instant(draft.anchor, "anchor")
        if plan.currency != customer.currency:
            what = f"expected a plan in `{customer.currency}`, the customer's currency, got `{plan.currency}`"
            hint = "choose another plan, or publish this one in the customer's currency under another key"
            raise ControlError(ControlCode.CONFLICT, what, "plan", hint)
        held = self.subscriptions(customer.id)
        ended = []
        for other in held.values():
            if other.active_to is not None and other.active_to <= max(start, other.active_from):
                continue
            if other.active_from > start or (other.active_from == start and start < now):
                what = (
                    f"expected a start after {_text(other.active_from)}, that of subscription `{other.id}`,"
                    f" got {_text(start)}"
                )
                hint = "start later, or cancel that subscription first"
                raise ControlError(ControlCode.CONFLICT, what, "active_from", hint)
            ended.append(replace(other, active_to=start))
        subscription = Subscription(
            id=self._identify(now, "subscription", customer.id, draft.key or "", _text(start)),
            customer_id=customer.id,
            plan_key=plan.key,
            plan_version=plan.version,
            active_from=start,
            anchor=anchor,
            recorded_at=now,
            settlement_mode=draft.settlement_mode or plan.settlement_mode,
        )
        for changed in (*ended, subscription):
            held[changed.id] = changed
            self.records.append(changed)
        if draft.key is not None:
            place = customer.id, draft.key
            if place in self._subscription_keys:
                self._keys_given_up.add(self._subscription_keys[place])
            self._subscription_keys[place] = subscription.id
        return subscription

    def same_subscription(self, customer: Customer, draft: SubscriptionDraft) -> Subscription | None:
        """The subscription that has the draft's key, if it goes on and all the draft says holds of it."""
        self.plan(draft.plan, draft.version, "plan")
        if draft.key is None:
            return None
        _check_text(draft.key, "key", 256)
        held = self.subscription_by_key(customer.id, draft.key)
        if held is None or held.plan_key != draft.plan:
            return None
        if held.active_to is not None and held.active_to <= self.now():
            return None
        plan = self.plan(held.plan_key, held.plan_version, "plan")
        wanted = replace(
            held,
            plan_version=draft.version or held.plan_version,
            active_from=draft.active_from or held.active_from,
            anchor=draft.anchor or held.anchor,
            settlement_mode=draft.settlement_mode or plan.settlement_mode,
        )
        return held if held == wanted else None

    def cancel_subscription(self, subscription_id: str, at: datetime | None = None) -> Subscription:
        """End a subscription at an instant, None for now; before its start, it never comes to be."""
        subscription = self.subscription(subscription_id)
        end = max(_instant(at or self.now(), "at"), subscription.active_from)
        if subscription.active_to is not None and subscription.active_to <= end:
            if subscription.active_to == end:
                return subscription
            what = f"expected an instant up to {_text(subscription.active_to)}, when it ends, got {_text(end)}"
            raise ControlError(ControlCode.CONFLICT, what, "at", "subscribe the customer anew")
        ended = replace(subscription, active_to=end)
        self.subscriptions(ended.customer_id)[ended.id] = ended
        self.records.append(ended)
        return ended

    def grant(self, customer: Customer | str, draft: GrantDraft) -> Grant:
        """
        Grant prepaid credits.

        If the customer has a grant of this key and the same content, that one is returned. An effective
        instant that both left to the moment is the same.
        """
        if isinstance(customer, str):
            customer = self.customer(customer)
        effective = None if draft.effective_at is None else _instant(draft.effective_at, "effective_at")
        self._check_grant(customer, draft)
        now = _instant(self.now(), "now")
        known = None
        if draft.key is not None:
            _check_text(draft.key, "key", 256)
            known = self.grant_by_key(customer.id, draft.key)
        features = draft.features
        if known is not None and set(known.features) == set(features):
            features = known.features
        created_at = now if known is None else known.created_at
        starts = effective or created_at
        grant = Grant(
            id=self._identify(now, "grant", customer.id, draft.key or "") if known is None else known.id,
            customer_id=customer.id,
            amount=draft.amount,
            currency=customer.currency,
            effective_at=starts,
            created_at=created_at,
            priority=draft.priority,
            features=features,
            expires_at=_expiry(draft, starts),
            voided_at=None if known is None else known.voided_at,
            key=draft.key,
            name=draft.name,
        )
        if known is None:
            self._grants[grant.id] = grant
            if grant.key is not None:
                self._grant_ids[customer.id, grant.key] = grant.id
            self.records.append(grant)
            return grant
        for field in ("amount", "priority", "features", "effective_at", "expires_at", "name"):
            if getattr(grant, field) != getattr(known, field):
                what = f"expected the {field} that grant `{draft.key}` was made with, got another"
                hint = "use a key of its own for a new grant; to correct one, void it and grant anew"
                raise ControlError(ControlCode.KEY_REUSED, what, field, hint)
        return known

    def _check_grant(self, customer: Customer, draft: GrantDraft) -> None:
        if not isinstance(draft.amount, Decimal) or not is_within_bounds(draft.amount) or draft.amount <= 0:
            hint = "write how much is granted, as a decimal"
            raise _invalid("amount", "a decimal above 0", _number(draft.amount), hint)
        if draft.currency is not None and draft.currency != customer.currency:
            what = f"expected `{customer.currency}`, the customer's currency, got `{draft.currency}`"
            raise ControlError(ControlCode.CONFLICT, what, "currency", "leave it out, or grant in that currency")
        if not 1 <= draft.priority <= PRIORITY_MAX:
            hint = "lower burns first; 10 is usual"
            raise _invalid("priority", f"an integer of 1 to {PRIORITY_MAX}", str(draft.priority), hint)
        _check_storable(draft.name, "name")
        _check_unique(draft.features, "features", None)
        for index, key in enumerate(draft.features):
            self.feature(key, f"features[{index}]")

    def void_grant(self, grant_id: str) -> Grant:
        """Take back what is left of a grant, from now on. Voiding it again changes nothing."""
        grant = self.find_grant(grant_id)
        if grant.voided_at is not None:
            return grant
        now = _instant(self.now(), "now")
        if grant.expires_at is not None and grant.expires_at <= now:
            what = f"expected a grant with something left, got one that expired at {_text(grant.expires_at)}"
            raise ControlError(ControlCode.CONFLICT, what, "id", "there is nothing to void")
        paid = self.rows(
            "select coalesce(sum(amount), 0) from credit_entries where customer_id = %s and grant_id = %s",
            grant.customer_id,
            grant.id,
        )
        if paid and paid[0][0] >= grant.amount:
            what = "expected a grant with something left, got one that is used up"
            raise ControlError(ControlCode.CONFLICT, what, "id", "there is nothing to void")
        voided = replace(grant, voided_at=now)
        self._grants[grant.id] = voided
        self.records.append(voided)
        return voided

    # -- writing --------------------------------------------------------------------------------

    def flush(self) -> int:
        """Write what is recorded. Returns the id of the newest entry of the control log, 0 if it is empty."""
        assert self._connection is not None
        with self._connection.cursor() as cursor:
            if self.records:
                self._write(cursor)
            newest = cursor.execute("select coalesce(max(id), 0) from control_log").fetchone()
            assert newest is not None
            if self.records:
                cursor.execute("select pg_notify(%s, %s)", (CHANNEL, str(newest[0])))
        self.records = []
        self._claimed = {}
        self._released = set()
        self._keys_given_up = set()
        return int(newest[0])

    def _write(self, cursor: psycopg.Cursor[Any]) -> None:
        rows: dict[str, dict[object, tuple[object, ...]]] = {table: {} for table in _UPSERTS}
        keys = {subscription_id: key for (_, key), subscription_id in self._subscription_keys.items()}
        with cursor.copy("copy control_log (kind, key_group, customer_id, body) from stdin") as copy:
            for record in self.records:
                body = encode_record(record).decode()
                customer_id = _concerns(record)
                group = None if customer_id is None else key_group(customer_id)
                copy.write_row((record.__struct_config__.tag, group, customer_id, body))
                match record:
                    case MeterSet(meter):
                        rows["meters"][meter.key] = (meter.key, body)
                    case FeatureSet(feature):
                        rows["features"][feature.key] = (feature.key, body)
                    case PlanVersion():
                        rows["plans"][record.key, record.version] = (record.key, record.version, body)
                    case Customer():
                        rows["customers"][record.id] = (record.id, record.key, body)
                    case Subscription():
                        key = keys.get(record.id)
                        rows["subscriptions"][record.id] = (record.id, record.customer_id, key, body)
                    case Grant():
                        rows["grants"][record.id] = (record.id, record.customer_id, record.key, body)
        if self._released:
            # A subject is let go before another customer takes it.
            cursor.execute("delete from customer_subjects where subject = any(%s)", (list(self._released),))
        rows["customer_subjects"] = {claim[0]: claim for claim in self._claimed.items()}
        if self._keys_given_up:
            query = "update subscriptions set key = null where id = any(%s)"
            cursor.execute(query, (list(self._keys_given_up),))
        for table, statement in _UPSERTS.items():
            if rows[table]:
                cursor.execute(statement, [list(column) for column in zip(*rows[table].values(), strict=True)])


_UPSERTS: Final[dict[str, LiteralString]] = {
    "meters": "insert into meters (key, body) select key, body::jsonb"
    " from unnest(%s::text[], %s::text[]) as new (key, body)"
    " on conflict (key) do update set body = excluded.body",
    "features": "insert into features (key, body) select key, body::jsonb"
    " from unnest(%s::text[], %s::text[]) as new (key, body)"
    " on conflict (key) do update set body = excluded.body",
    "plans": "insert into plans (key, version, body) select key, version, body::jsonb"
    " from unnest(%s::text[], %s::integer[], %s::text[]) as new (key, version, body)",
    "customers": "insert into customers (id, key, body) select id, key, body::jsonb"
    " from unnest(%s::text[], %s::text[], %s::text[]) as new (id, key, body)"
    " on conflict (id) do update set body = excluded.body",
    "customer_subjects": "insert into customer_subjects (subject, customer_id)"
    " select * from unnest(%s::text[], %s::text[])",
    "subscriptions": "insert into subscriptions (id, customer_id, key, body)"
    " select id, customer_id, key, body::jsonb"
    " from unnest(%s::text[], %s::text[], %s::text[], %s::text[]) as new (id, customer_id, key, body)"
    " on conflict (id) do update set body = excluded.body",
    "grants": "insert into grants (id, customer_id, key, body)"
    " select id, customer_id, key, body::jsonb"
    " from unnest(%s::text[], %s::text[], %s::text[], %s::text[]) as new (id, customer_id, key, body)"
    " on conflict (id) do update set body = excluded.body",
}
"""By table, in the order in which they refer to each other: a statement that takes an array per column."""


class ControlPlane:
    """
    Changes and reads the catalog; safe to share between threads.

    A method that returns has changed the catalog durably, and whatever is sent afterwards is rated with the
    change in view. Raises `ControlError` for what cannot be, and `psycopg.Error` where PostgreSQL is away.
    """

    def __init__(self, postgres_dsn: str, redis_url: str, now: Callable[[], datetime] = utc_now) -> None:
        self._dsn = postgres_dsn
        self._now = now
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=2, socket_connect_timeout=2, retry=Retry(NoBackoff(), 1)
        )
        self._writer: psycopg.Connection[Any] | None = None
        self._writer_lock = RLock()
        self._reader: psycopg.Connection[Any] | None = None
        self._reader_lock = Lock()
        self._changes: Changes | None = None
        self._changing_thread: int | None = None

    def __enter__(self) -> ControlPlane:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connections."""
        for connection in (self._writer, self._reader):
            if connection is not None:
                connection.close()
        self._redis.close()

    @contextmanager
    def changing(self) -> Iterator[Changes]:
        """
        One transaction. What is called on the result, or on the plane by this thread, takes effect together.

        Any exception undoes all of it. Within a transaction, this joins it.
        """
        with self._writer_lock:
            if self._changes is not None:
                yield self._changes
                return
            self._writer = connection = self._connected(self._writer)
            try:
                with connection.transaction():
                    # (1) Queue up before any entry gets its id, so that ids become visible in order.
                    connection.execute("select pg_advisory_xact_lock(%s)", (_LOCK,))
                    # (2) Check against what is there, and record what shall be.
                    self._changes = changes = Changes(connection, self._now)
                    self._changing_thread = get_ident()
                    yield changes
                    # (3) Write the log, the catalog rows and the notice.
                    head = changes.flush()
                # (4) All of it is committed.
            finally:
                self._changes = self._changing_thread = None
        # (5) Events sent after this returns find the head raised. It is raised even where nothing had to be
        #     written, since the one who wrote that may not have come this far yet.
        self._raise_head(head)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Let all changes of this thread take effect together, or none of them; others wait meanwhile."""
        with self.changing():
            yield

    def _raise_head(self, head: int) -> None:
        try:
            self._redis.eval(_HEAD_UPWARDS, 1, CONTROL_HEAD, str(head))
        except redis.RedisError as error:
            # What is committed stays committed: the log is polled as well, only a little later.
            _log.warning("Redis did not take the control head %d: %s", head, type(error).__name__)

    def _connected(self, connection: psycopg.Connection[Any] | None) -> psycopg.Connection[Any]:
        if connection is not None and not connection.closed:
            try:
                connection.execute("select 1")
            except psycopg.OperationalError:
                connection.close()
            else:
                return connection
        return psycopg.connect(self._dsn, autocommit=True, application_name="tollway-control")

    @contextmanager
    def _reading(self) -> Iterator[Changes]:
        if self._changing_thread == get_ident():
            assert self._changes is not None
            if self._changes.records:
                self._changes.flush()
            yield self._changes
            return
        with self._reader_lock:
            self._reader = self._connected(self._reader)
            yield Changes(self._reader, self._now)

    # -- changes --------------------------------------------------------------------------------

    def put_meter(self, meter: Meter) -> Meter:
        """Make a meter, or change its name and description. What it counts never changes."""
        with self.changing() as changes:
            return changes.put_meter(meter)

    def put_feature(self, feature: Feature) -> Feature:
        """Make a feature, or change its name. The usage it stands for never changes."""
        with self.changing() as changes:
            return changes.put_feature(feature)

    def publish_plan(
        self,
        key: str,
        *,
        cadence: str,
        phases: tuple[Phase, ...],
        currency: str = "USD",
        settlement_mode: SettlementMode = SettlementMode.CREDIT_THEN_INVOICE,
        prorate: bool = False,
        name: str = "",
    ) -> PlanVersion:
        """Publish a plan as its next version, unless its newest one has the same content already."""
        draft = PlanDraft(
            key=key,
            cadence=cadence,
            phases=phases,
            currency=currency,
            settlement_mode=settlement_mode,
            prorate=prorate,
            name=name,
        )
        with self.changing() as changes:
            return changes.publish_plan(draft)

    def put_customer(
        self,
        key: str,
        *,
        name: str = "",
        currency: str = "USD",
        subjects: tuple[str, ...] = (),
        block_when_exhausted: bool = False,
        low_balance_thresholds: tuple[Decimal, ...] = (),
    ) -> Customer:
        """Make the customer of a key, or change it to be just as said here, defaults included."""
        draft = CustomerDraft(
            key=key,
            name=name,
            currency=currency,
            subjects=subjects,
            block_when_exhausted=block_when_exhausted,
            low_balance_thresholds=low_balance_thresholds,
        )
        with self.changing() as changes:
            return changes.put_customer(draft)

    def bulk_customers(self, drafts: Iterable[CustomerDraft]) -> list[Customer]:
        """Set up many customers, each with its subscription and grants, in one transaction."""
        drafts = list(drafts)
        with self.changing() as changes:
            changes.prefetch(drafts)
            customers = []
            for index, draft in enumerate(drafts):
                with within(f"[{index}]"):
                    customers.append(changes.put_customer(draft))
            return customers

    def subscribe(
        self,
        customer: str,
        plan: str,
        *,
        version: int | None = None,
        active_from: datetime | None = None,
        anchor: datetime | None = None,
        settlement_mode: SettlementMode | None = None,
        key: str | None = None,
    ) -> Subscription:
        """Subscribe a customer to a plan; the subscription it has ends where the new one starts."""
        draft = SubscriptionDraft(
            plan=plan,
            version=version,
            active_from=active_from,
            anchor=anchor,
            settlement_mode=settlement_mode,
            key=key,
        )
        with self.changing() as changes:
            return changes.subscribe(customer, draft)

    def cancel_subscription(self, subscription_id: str, at: datetime | None = None) -> Subscription:
        """End a subscription at an instant, None for now; before its start, it never comes to be."""
        with self.changing() as changes:
            return changes.cancel_subscription(subscription_id, at)

    def grant(
        self,
        customer: str,
        amount: Decimal,
        *,
        currency: str | None = None,
        priority: int = 10,
        features: tuple[str, ...] = (),
        effective_at: datetime | None = None,
        expires_at: datetime | None = None,
        expires_after: str | None = None,
        key: str | None = None,
        name: str = "",
    ) -> Grant:
        """Grant prepaid credits; the same customer, key and content again return the grant there is."""
        draft = GrantDraft(
            amount=amount,
            currency=currency,
            priority=priority,
            features=features,
            effective_at=effective_at,
            expires_at=expires_at,
            expires_after=expires_after,
            key=key,
            name=name,
        )
        with self.changing() as changes:
            return changes.grant(customer, draft)

    def void_grant(self, grant_id: str) -> Grant:
        """Take back what is left of a grant, from now on. Voiding it again changes nothing."""
        with self.changing() as changes:
            return changes.void_grant(grant_id)

    # -- reads ----------------------------------------------------------------------------------

    def meter(self, key: str) -> Meter:
        """The meter of a key. Raises `ControlError` if there is none, as do the other reads of one thing."""
        with self._reading() as view:
            return view.meter(key)

    def feature(self, key: str) -> Feature:
        """The feature of a key."""
        with self._reading() as view:
            return view.feature(key)

    def plan(self, key: str, version: int | None = None) -> PlanVersion:
        """A version of a plan, None for the newest."""
        with self._reading() as view:
            return view.plan(key, version)

    def customer(self, key_or_id: str) -> Customer:
        """The customer with an id, or else with a key."""
        with self._reading() as view:
            return view.customer(key_or_id)

    def subscription(self, subscription_id: str) -> Subscription:
        """The subscription of an id."""
        with self._reading() as view:
            return view.subscription(subscription_id)

    def find_grant(self, grant_id: str) -> Grant:
        """The grant of an id."""
        with self._reading() as view:
            return view.find_grant(grant_id)

    def list_meters(self) -> list[Meter]:
        """All meters, by key."""
        with self._reading() as view:
            rows = view.rows("select body::text from meters order by key")
        return [_decode(body, MeterSet).meter for (body,) in rows]

    def list_features(self) -> list[Feature]:
        """All features, by key."""
        with self._reading() as view:
            rows = view.rows("select body::text from features order by key")
        return [_decode(body, FeatureSet).feature for (body,) in rows]

    def list_plans(self) -> list[PlanVersion]:
        """All published versions of all plans, by key and version."""
        with self._reading() as view:
            rows = view.rows("select body::text from plans order by key, version")
        return [_decode(body, PlanVersion) for (body,) in rows]

    def count_customers(self) -> int:
        """How many customers there are."""
        with self._reading() as view:
            return int(view.rows("select count(*) from customers")[0][0])

    def list_customers(self, limit: int | None = None, offset: int = 0) -> list[Customer]:
        """Customers in the order of their ids, which is that of their making."""
        with self._reading() as view:
            rows = view.rows("select body::text from customers order by id limit %s offset %s", limit, offset)
        return [_decode(body, Customer) for (body,) in rows]

    def list_subscriptions(self, customer: str) -> list[Subscription]:
        """All subscriptions a customer ever had, in the order of their start."""
        with self._reading() as view:
            found = view.subscriptions(view.customer(customer).id).values()
        return sorted(found, key=lambda subscription: (subscription.active_from, subscription.id))

    def list_grants(self, customer: str) -> list[Grant]:
        """All grants a customer ever got, in burn order."""
        with self._reading() as view:
            customer_id = view.customer(customer).id
            rows = view.rows("select body::text from grants where customer_id = %s", customer_id)
        return sorted((_decode(body, Grant) for (body,) in rows), key=Grant.burn_order)

    def head(self) -> int:
        """The id of the newest entry of the control log, 0 if it is empty."""
        with self._reading() as view:
            return int(view.rows("select coalesce(max(id), 0) from control_log")[0][0])


@contextmanager
def within(prefix: str) -> Iterator[None]:
    """Put a prefix to the path of a `ControlError` that is raised inside, as in `grants[0]`."""
    try:
        yield
    except ControlError as error:
        raise ControlError(error.code, error.what, f"{prefix}.{error.path}", error.hint, error.line) from error


def from_meter_error(error: MeterError) -> ControlError:
    """What a meter or feature says of itself, as an error of the control plane."""
    what = error.message.removeprefix(f"`{error.path}`: ")
    return ControlError(ControlCode.INVALID, what, error.path, error.hint)


_R = TypeVar("_R", bound=Struct)


def _decode(body: str, kind: type[_R]) -> _R:
    record = decode_record(body)
    assert isinstance(record, kind), f"expected a {kind.__name__} in the catalog"
    return record


def _concerns(record: Record) -> str | None:
    match record:
        case Customer():
            return record.id
        case Subscription() | Grant():
            return record.customer_id
        case _:
            return None


def _found(thing: _T | None, kind: str, name: str, path: str) -> _T:
    if thing is None:
        what = f"there is no {kind} `{name[:256]}`"
        hint = f"make it first, or correct the {'id' if path == 'id' else 'key'}"
        raise ControlError(ControlCode.NOT_FOUND, what, path, hint)
    return thing


def _sibling(path: str, name: str) -> str:
    head, dot, _ = path.rpartition(".")
    return f"{head}{dot}{name}"


def _invalid(path: str, expected: str, got: str, hint: str) -> ControlError:
    return ControlError(ControlCode.INVALID, f"expected {expected}, got {got}", path, hint)


def _check_slug(text: str, path: str) -> None:
    if not _SLUG.fullmatch(text):
        hint = "write 1 to 64 lower-case letters and digits, with single underscores between, as in llm_tokens"
        raise _invalid(path, "a key", f"`{text[:64]}`", hint)


def _check_currency(text: str, path: str) -> None:
    if not _CURRENCY.fullmatch(text):
        hint = "write an ISO 4217 code such as USD, or one of your own in capitals, such as CREDITS"
        raise _invalid(path, "a currency code of 3 to 24 characters", f"`{text[:24]}`", hint)


def _check_text(text: str, path: str, length_max: int) -> None:
    if not 1 <= len(text) <= length_max:
        got = "an empty one" if not text else f"{len(text)} characters"
        raise _invalid(path, f"a text of 1 to {length_max} characters", got, "shorten it, or fill it in")
    _check_storable(text, path)


def _check_storable(text: str, path: str) -> None:
    if _UNSTORABLE.search(text):
        raise _invalid(path, "text", "a NUL or half a surrogate pair in it", "remove that character")


def _check_duration(text: str, path: str) -> None:
    try:
        Cadence.parse(text)
    except CadenceError as error:
        what = error.message.removeprefix("Bad duration: ")
        raise ControlError(ControlCode.INVALID, what, path, error.hint) from error


def _check_unique(values: Collection[str | None], path: str, field: str | None) -> None:
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value is None:
            continue
        if value in seen:
            where = f"{path}[{index}]" if field is None else f"{path}[{index}].{field}"
            raise _invalid(where, "each one once", f"`{value}` again", "remove or rename one of the two")
        seen.add(value)


def _check_customer(draft: CustomerDraft) -> tuple[Decimal, ...]:
    """Check what a customer says of itself. Returns its thresholds from high to low."""
    if not _CUSTOMER_KEY.fullmatch(draft.key):
        hint = "use 1 to 256 characters, without white space, slashes and braces, as in acme or org:42"
        raise _invalid("key", "a customer's key", f"`{draft.key[:64]!r}`", hint)
    _check_storable(draft.name, "name")
    _check_currency(draft.currency, "currency")
    for index, subject in enumerate(draft.subjects):
        _check_text(subject, f"subjects[{index}]", ATTRIBUTE_LENGTH_MAX)
    for index, threshold in enumerate(draft.low_balance_thresholds):
        if not isinstance(threshold, Decimal) or not is_within_bounds(threshold) or threshold <= 0:
            hint = "write a balance at which to signal; running out is signalled in any case"
            path = f"low_balance_thresholds[{index}]"
            raise _invalid(path, "a decimal above 0", _number(threshold), hint)
    return tuple(sorted(set(draft.low_balance_thresholds), reverse=True))


def _instant(at: datetime, path: str) -> datetime:
    if at.tzinfo is None:
        raise _invalid(path, "an instant with an offset", "one without", "write it as in 2026-03-01T12:00:00Z")
    if not YEAR_MIN <= at.year <= YEAR_MAX:
        raise _invalid(path, f"a year of {YEAR_MIN} to {YEAR_MAX}", str(at.year), "correct the year")
    return at.astimezone(UTC)


def _expiry(draft: GrantDraft, starts: datetime) -> datetime | None:
    if draft.expires_after is not None:
        if draft.expires_at is not None:
            hint = "remove one of the two"
            raise _invalid("expires_after", "one of `expires_at` and `expires_after`", "both", hint)
        _check_duration(draft.expires_after, "expires_after")
        return add_duration(starts, Cadence.parse(draft.expires_after))
    if draft.expires_at is None:
        return None
    expires = _instant(draft.expires_at, "expires_at")
    if expires <= starts:
        hint = "a grant pays from its effective instant up to its expiry: swap or correct them"
        raise _invalid("expires_at", f"an instant after {_text(starts)}, when it starts", _text(expires), hint)
    return expires


def _sets(filters: dict[str, tuple[str, ...]]) -> dict[str, set[str]]:
    return {dimension: set(texts) for dimension, texts in filters.items()}


def _number(value: object) -> str:
    if not isinstance(value, Decimal):
        return f"a {type(value).__name__}"
    if not value.is_finite():
        return str(value)
    return plain(value) if is_within_bounds(value) and value != ZERO else "0" if not value else "a very long number"


def _text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
