"""The control plane with a method for each change and each read, as tests write them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from threading import local
from typing import Any, LiteralString

from config.limits import CUSTOMERS_AT_ONCE
from rating.catalog import Customer, FeatureSet, Grant, MeterSet, Phase, PlanVersion, SettlementMode, Subscription
from rating.meters import Feature, Meter
from sinks.postgres.connecting import connect
from tollway.control import Changes, ControlPlane, CustomerDraft, GrantDraft, MoveTiming, PlanDraft, SubscriptionDraft
from tollway.control.checks import check_count
from tollway.control.errors import within
from tollway.control.transaction import Transaction, decode, utc_now


class Plane(ControlPlane):
    """
    Each change is a transaction of its own, unless it is made inside `changing` or `batch`.

    Reads see what there is; within a transaction of their thread, what there is with its changes.
    """

    def __init__(self, postgres_dsn: str, redis_url: str, now: Callable[[], datetime] = utc_now) -> None:
        super().__init__(postgres_dsn, redis_url, now)
        self._dsn = postgres_dsn
        self._now = now
        self._mine = local()

    def __enter__(self) -> Plane:
        return self

    @contextmanager
    def changing(self) -> Iterator[Changes]:
        with super().changing() as changes:
            before, self._mine.changes = getattr(self._mine, "changes", None), changes
            try:
                yield changes
            finally:
                self._mine.changes = before

    @contextmanager
    def _reading(self) -> Iterator[Transaction]:
        changes: Changes | None = getattr(self._mine, "changes", None)
        if changes is not None:
            if changes.records or changes.keys_taken:
                changes.flush()
            yield changes
            return
        with connect(self._dsn, autocommit=True) as connection:
            yield Transaction(connection, self._now)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Let all changes of this thread take effect together, or none of them; others wait meanwhile."""
        with self.changing():
            yield

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

    def delete_customer(self, customer: str) -> Customer:
        """Delete a customer without a subscription, from now on; its ledger stays, and so do its id and key."""
        with self.changing() as changes:
            return changes.delete_customer(customer)

    def bulk_customers(self, drafts: Iterable[CustomerDraft]) -> list[Customer]:
        """Set up many customers, each with its subscription and grants, in one transaction."""
        drafts = list(drafts)
        check_count(len(drafts), "customers", CUSTOMERS_AT_ONCE)
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

    def change_subscription(
        self, subscription_id: str, plan: str, at: datetime | None = None, *, anchor: datetime | None = None
    ) -> Subscription:
        """Have a subscription to a plan follow one, at an instant, None for now; the billing anchor stays."""
        draft = SubscriptionDraft(plan=plan, active_from=at, anchor=anchor)
        with self.changing() as changes:
            return changes.change_subscription(subscription_id, draft)

    def cancel_subscription(self, subscription_id: str, at: datetime | None = None) -> Subscription:
        """End a subscription at an instant, None for now; before its start, it never comes to be."""
        with self.changing() as changes:
            return changes.cancel_subscription(subscription_id, at)

    def move_subscription(
        self, subscription_id: str, version: int | None = None, at: datetime | MoveTiming | None = None
    ) -> Subscription:
        """Have a subscription be on another version of its plan, None for the newest, from an instant on."""
        with self.changing() as changes:
            return changes.move_subscription(subscription_id, version, at)

    def withdraw_moves(self, subscription_id: str) -> Subscription:
        """Have a subscription stay on its version: the moves that are planned are never made."""
        with self.changing() as changes:
            return changes.withdraw_moves(subscription_id)

    def restore_subscription(self, subscription_id: str) -> Subscription:
        """Take back the end that a subscription is to have; what was planned to follow it never comes to be."""
        with self.changing() as changes:
            return changes.restore_subscription(subscription_id)

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
            rows = _rows(view, "select body::text from meters order by key")
        return [decode(body, MeterSet).meter for (body,) in rows]

    def list_features(self) -> list[Feature]:
        """All features, by key."""
        with self._reading() as view:
            rows = _rows(view, "select body::text from features order by key")
        return [decode(body, FeatureSet).feature for (body,) in rows]

    def list_plans(self) -> list[PlanVersion]:
        """All published versions of all plans, by key and version."""
        with self._reading() as view:
            rows = _rows(view, "select body::text from plans order by key, version")
        return [decode(body, PlanVersion) for (body,) in rows]

    def count_customers(self) -> int:
        """How many customers there are."""
        with self._reading() as view:
            return int(_rows(view, "select count(*) from customers")[0][0])

    def list_customers(self, limit: int | None = None, offset: int = 0) -> list[Customer]:
        """Customers in the order of their ids, which is that of their making."""
        with self._reading() as view:
            rows = _rows(view, "select body::text from customers order by id limit %s offset %s", limit, offset)
        return [decode(body, Customer) for (body,) in rows]

    def list_subscriptions(self, customer: str) -> list[Subscription]:
        """All subscriptions a customer ever had, in the order of their start."""
        with self._reading() as view:
            found = view.subscriptions(view.customer(customer).id).values()
        return sorted(found, key=lambda subscription: (subscription.active_from, subscription.id))

    def list_grants(self, customer: str) -> list[Grant]:
        """All grants a customer ever got, in burn order."""
        with self._reading() as view:
            customer_id = view.customer(customer).id
            rows = _rows(view, "select body::text from grants where customer_id = %s", customer_id)
        return sorted((decode(body, Grant) for (body,) in rows), key=Grant.burn_order)

    def head(self) -> int:
        """The id of the newest entry of the control log, 0 if it is empty."""
        with self._reading() as view:
            return int(_rows(view, "select coalesce(max(id), 0) from control_log")[0][0])


def _rows(view: Transaction, query: LiteralString, *values: object) -> list[tuple[Any, ...]]:
    assert view.connection is not None
    return view.connection.execute(query, values).fetchall()
