"""
The catalog as one transaction sees it: what it read, and on top of that what it is going to write.

A thing is read when it is first asked for, and what is recorded is seen from then on, before it is written.
Without a connection it is an empty catalog in memory, which is how a file is checked, and read as records,
without any database.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import psycopg
from msgspec import Struct
from ulid import ULID

from config.settings import Settings
from rating.catalog import Customer, FeatureSet, Grant, MeterSet, PlanVersion, Record, Subscription, decode_record
from rating.meters import Feature, Meter
from sinks.postgres.statements import statement
from tollway.control.drafts import CustomerDraft
from tollway.control.errors import ControlCode, ControlError, found
from tollway.control.subjects import SubjectOwners
from tollway.storable import is_storable

_ID: Final = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")

_R = TypeVar("_R", bound=Struct)


def utc_now() -> datetime:
    """The instant it is."""
    return datetime.now(UTC)


class RisingIds:
    """
    Makes ULIDs that rise, also those of one instant: of two grants of one transaction the first one sorts first.

    That others make ids meanwhile, of other instants, does not matter.
    """

    def __init__(self) -> None:
        self._last: ULID | None = None

    def __call__(self, at: datetime, *_parts: str) -> str:
        made = ULID.from_datetime(at)
        if self._last is not None and made <= self._last and made.milliseconds == self._last.milliseconds:
            made = ULID.from_int(int(self._last) + 1)
        self._last = made
        return str(made)


def decode(body: str, kind: type[_R]) -> _R:
    """The record of a row of the catalog, which is of the kind that the table holds."""
    record = decode_record(body)
    assert isinstance(record, kind), f"expected a {kind.__name__} in the catalog"
    return record


DEFAULT_MAX_AHEAD = timedelta(seconds=Settings().max_ahead_seconds)


class Transaction:
    """
    What there is, and what shall be.

    Args:
        connection: Is read on, in the transaction it is in; None for an empty catalog.
        now: Tells the instant it is. It is asked once: all that a transaction does, it does in one instant.
        identify: Makes an id, from an instant and what the thing is called; None for ids that rise.
    """

    def __init__(
        self,
        connection: psycopg.Connection[Any] | None,
        now: Callable[[], datetime] = utc_now,
        identify: Callable[..., str] | None = None,
    ) -> None:
        self.connection = connection
        self.identify = identify or RisingIds()
        self._clock = now
        self._now: datetime | None = None
        self.max_ahead = DEFAULT_MAX_AHEAD
        """How far ahead of its arrival usage may be, so that it may be counted under what is planned."""
        self.records: list[Record] = []
        """What is to be written, in order."""
        self.subjects = SubjectOwners(self.rows)
        self.subscription_keys: dict[tuple[str, str], str] = {}
        """The id of the subscription that has a key of a customer's, as far as they were read."""
        self.key_of_subscription: dict[str, str] = {}
        """The other way round."""
        self.keys_given_up: set[str] = set()
        """Ids of subscriptions whose key another one takes over."""
        self.keys_taken: dict[str, str] = {}
        """By the id of a subscription, the key that it takes over."""
        self._meters: dict[str, Meter | None] = {}
        self._features: dict[str, Feature | None] = {}
        self._plans: dict[str, list[PlanVersion]] = {}
        self._customers: dict[str, Customer] = {}
        self._customer_ids: dict[str, str | None] = {}
        self._created: set[str] = set()
        """Customers that are new, of whom there is nothing to look up."""
        self._subscriptions: dict[str, dict[str, Subscription]] = {}
        self._grants: dict[str, Grant] = {}
        self._grant_ids: dict[tuple[str, str], str | None] = {}

    def now(self) -> datetime:
        """The instant of this transaction, in UTC: that in which it was first asked for."""
        if self._now is None:
            self._now = self._clock().astimezone(UTC)
        return self._now

    def rows(self, name: str, *values: object) -> list[tuple[Any, ...]]:
        """What a statement finds: nothing without a database, or for a text that it could not hold."""
        if self.connection is None or any(isinstance(value, str) and not is_storable(value) for value in values):
            return []
        storable = [[*filter(is_storable, value)] if isinstance(value, list) else value for value in values]
        return self.connection.execute(statement(name), storable).fetchall()

    # -- one thing, or None ---------------------------------------------------------------------

    def find_meter(self, key: str) -> Meter | None:
        """The meter of a key, if there is one."""
        if key not in self._meters:
            rows = self.rows("meter_of_key", key)
            self._meters[key] = decode(rows[0][0], MeterSet).meter if rows else None
        return self._meters[key]

    def find_feature(self, key: str) -> Feature | None:
        """The feature of a key, if there is one."""
        if key not in self._features:
            rows = self.rows("feature_of_key", key)
            self._features[key] = decode(rows[0][0], FeatureSet).feature if rows else None
        return self._features[key]

    def find_customer(self, key_or_id: str) -> Customer | None:
        """The customer with an id, or else with a key, if there is one."""
        return self.find_customer_by_id(key_or_id) or self.find_customer_by_key(key_or_id)

    def find_customer_by_id(self, customer_id: str) -> Customer | None:
        """The customer of an id, if there is one. What does not look like an id is not looked for."""
        if customer_id not in self._customers and _ID.fullmatch(customer_id):
            for (body,) in self.rows("customer_of_id", customer_id):
                self._customers[customer_id] = decode(body, Customer)
        return self._customers.get(customer_id)

    def find_customer_by_key(self, key: str) -> Customer | None:
        """The customer of a key, if there is one."""
        if key not in self._customer_ids:
            self._customer_ids[key] = None
            for customer_id, body in self.rows("customer_of_key", key):
                self._customer_ids[key] = customer_id
                self._customers.setdefault(customer_id, decode(body, Customer))
        customer_id = self._customer_ids[key]
        return None if customer_id is None else self._customers[customer_id]

    def subscription_by_key(self, customer_id: str, key: str) -> Subscription | None:
        """The subscription that has a key of the customer's, if one has."""
        held = self.subscriptions(customer_id)
        subscription_id = self.subscription_keys.get((customer_id, key))
        return None if subscription_id is None else held[subscription_id]

    def grant_by_key(self, customer_id: str, key: str) -> Grant | None:
        """The grant that has a key of the customer's, if one has."""
        place = customer_id, key
        if place not in self._grant_ids:
            self._grant_ids[place] = None
            if customer_id not in self._created:
                self._load_grants(self.rows("grant_of_key", customer_id, key))
        grant_id = self._grant_ids[place]
        return None if grant_id is None else self._grants[grant_id]

    # -- one thing that has to be there ---------------------------------------------------------

    def meter(self, key: str, path: str = "key") -> Meter:
        """The meter of a key. Raises `ControlError` if there is none."""
        return found(self.find_meter(key), "meter", key, path)

    def feature(self, key: str, path: str = "key") -> Feature:
        """The feature of a key. Raises `ControlError` if there is none."""
        return found(self.find_feature(key), "feature", key, path)

    def plan(self, key: str, version: int | None = None, path: str = "key") -> PlanVersion:
        """A version of a plan, None for the newest. Raises `ControlError` if there is none."""
        versions = self.plan_versions(key)
        newest = found(versions[-1] if versions else None, "plan", key, path)
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
        return found(self.find_customer(key_or_id), "customer", key_or_id, path)

    def subscription(self, subscription_id: str) -> Subscription:
        """The subscription of an id. Raises `ControlError` if there is none."""
        for (customer_id,) in self.rows("customer_of_subscription", subscription_id):
            self.subscriptions(customer_id)
        known = (held[subscription_id] for held in self._subscriptions.values() if subscription_id in held)
        return found(next(known, None), "subscription", subscription_id, "id")

    def find_grant(self, grant_id: str) -> Grant:
        """The grant of an id. Raises `ControlError` if there is none."""
        if grant_id not in self._grants:
            for (body,) in self.rows("grant_of_id", grant_id):
                self._grants[grant_id] = decode(body, Grant)
        return found(self._grants.get(grant_id), "grant", grant_id, "id")

    # -- several --------------------------------------------------------------------------------

    def plan_versions(self, key: str) -> list[PlanVersion]:
        """The published versions of a plan, the newest last."""
        if key not in self._plans:
            rows = self.rows("versions_of_plan", key)
            self._plans[key] = [decode(body, PlanVersion) for (body,) in rows]
        return self._plans[key]

    def subscriptions(self, customer_id: str) -> dict[str, Subscription]:
        """All subscriptions a customer ever had, by id."""
        if customer_id not in self._subscriptions:
            self._load_subscriptions([customer_id])
        return self._subscriptions[customer_id]

    def has_dealings(self, customer_id: str) -> bool:
        """Whether a customer ever had a subscription or a grant."""
        if self.subscriptions(customer_id) or any(grant.customer_id == customer_id for grant in self._grants.values()):
            return True
        return bool(self.rows("has_grants", customer_id))

    def prefetch(self, drafts: Collection[CustomerDraft]) -> None:
        """Read what setting up many customers has to look up, in a few queries instead of some for each."""
        self.subjects.prefetch({subject for draft in drafts for subject in (draft.key, *draft.subjects)})
        keys = [draft.key for draft in drafts if draft.key not in self._customer_ids]
        self._customer_ids.update(dict.fromkeys(keys))
        rows = self.rows("customers_of_keys", keys)
        for customer_id, key, body in rows:
            self._customers[customer_id] = decode(body, Customer)
            self._customer_ids[key] = customer_id
        self._load_subscriptions([customer_id for customer_id, _, _ in rows if customer_id not in self._subscriptions])
        places = {
            (customer_id, grant.key)
            for draft in drafts
            if (customer_id := self._customer_ids[draft.key]) is not None
            for grant in draft.grants
            if grant.key is not None
        }.difference(self._grant_ids)
        self._grant_ids.update(dict.fromkeys(places))
        owners = list({customer_id for customer_id, _ in places})
        self._load_grants(self.rows("grants_with_keys", owners))

    def _load_subscriptions(self, customer_ids: list[str]) -> None:
        self._subscriptions.update({customer_id: {} for customer_id in customer_ids})
        if self._created.issuperset(customer_ids):
            return
        for customer_id, key, body in self.rows("subscriptions_of_customers", customer_ids):
            subscription = decode(body, Subscription)
            self._subscriptions[customer_id][subscription.id] = subscription
            if key is not None:
                self._keep_key(subscription, key)

    def _load_grants(self, rows: list[tuple[Any, ...]]) -> None:
        for (body,) in rows:
            grant = decode(body, Grant)
            self._keep_grant(self._grants.get(grant.id, grant))

    def _keep_grant(self, grant: Grant) -> None:
        self._grants[grant.id] = grant
        if grant.key is not None:
            self._grant_ids[grant.customer_id, grant.key] = grant.id

    # -- what shall be --------------------------------------------------------------------------

    def record(self, record: Record) -> None:
        """Have a record written, and see it from now on."""
        self.records.append(record)
        match record:
            case MeterSet(meter):
                self._meters[meter.key] = meter
            case FeatureSet(feature):
                self._features[feature.key] = feature
            case PlanVersion():
                self.plan_versions(record.key).append(record)
            case Customer():
                before = self._customers.get(record.id)
                if before is None:
                    self._created.add(record.id)
                self.subjects.change_hands(before, record)
                self._customers[record.id] = record
                self._customer_ids[record.key] = record.id
            case Subscription():
                self.subscriptions(record.customer_id)[record.id] = record
            case Grant():
                self._keep_grant(record)

    def give_key(self, key: str, subscription: Subscription) -> None:
        """Have a subscription take over a key of its customer's, from the one that has it."""
        place = subscription.customer_id, key
        former = self.subscription_keys.get(place)
        if former == subscription.id:
            return
        if former is not None:
            self.keys_given_up.add(former)
            self.keys_taken.pop(former, None)
            self.key_of_subscription.pop(former, None)
        had = self.key_of_subscription.pop(subscription.id, None)
        if had is not None:
            del self.subscription_keys[subscription.customer_id, had]
        self._keep_key(subscription, key)
        self.keys_taken[subscription.id] = key

    def _keep_key(self, subscription: Subscription, key: str) -> None:
        self.subscription_keys[subscription.customer_id, key] = subscription.id
        self.key_of_subscription[subscription.id] = key

    def forget_changes(self) -> None:
        """Begin anew with nothing to write; what was recorded is still seen."""
        self.records = []
        self.subjects.forget_changes()
        self.keys_given_up = set()
        self.keys_taken = {}


def _sibling(path: str, name: str) -> str:
    head, dot, _ = path.rpartition(".")
    return f"{head}{dot}{name}"
