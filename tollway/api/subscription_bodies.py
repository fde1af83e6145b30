"""Subscriptions as they are asked for, in v1's form and in v3's."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from rating.catalog import SettlementMode
from tollway.api.wire import Metadata, Text


class PlanReference(Struct, rename="camel", kw_only=True):
    """A version of a plan; without a version, the newest."""

    key: str
    version: int | None = None


class SubscriptionCreate(Struct, rename="camel", kw_only=True):
    """A subscription of a customer, named by id or by key, to a plan."""

    plan: PlanReference
    customer_id: str | None = None
    customer_key: str | None = None
    name: Text | None = None
    description: Text | None = None
    metadata: Metadata | None = None
    timing: str | None = None
    """`immediate`, `next_billing_cycle`, or an instant in RFC 3339."""
    billing_anchor: datetime | None = None
    settlement_mode: SettlementMode | None = None


class SubscriptionCancel(Struct, rename="camel", kw_only=True):
    """When a subscription is to end; now, if that is not said."""

    timing: str | None = None


class SubscriptionChange(Struct, rename="camel", kw_only=True):
    """The plan that follows, and from when on."""

    timing: str
    plan: PlanReference
    name: Text | None = None
    description: Text | None = None
    metadata: Metadata | None = None
    billing_anchor: datetime | None = None
    settlement_mode: SettlementMode | None = None


class SubscriptionMigrate(Struct, rename="camel", kw_only=True):
    """The version of its plan that a subscription is to be on, and from when on; the newest, and now."""

    target_version: int | None = None
    timing: str | None = None
    """`immediate`, `this_billing_cycle`, `next_billing_cycle`, or an instant in RFC 3339."""
    starting_phase: str | None = None
    billing_anchor: datetime | None = None


class SubscriptionMove(Struct, kw_only=True, forbid_unknown_fields=True):
    """The version of its plan that a subscription is to be on, and from when on; the newest, and now."""

    version: int | None = None
    at: str | None = None
    """`immediate`, `this_billing_cycle`, `next_billing_cycle`, or an instant in RFC 3339."""


class CustomerReferenceV3(Struct, kw_only=True, forbid_unknown_fields=True):
    """A customer, by id or by key."""

    id: str | None = None
    key: str | None = None


class PlanReferenceV3(Struct, kw_only=True, forbid_unknown_fields=True):
    """A version of a plan; without a version, the newest."""

    key: str | None = None
    id: str | None = None
    version: int | None = None


class SubscriptionCreateV3(Struct, kw_only=True, forbid_unknown_fields=True):
    """A subscription of a customer to a plan."""

    plan: PlanReferenceV3
    customer: CustomerReferenceV3 | None = None
    customer_id: str | None = None
    customer_key: str | None = None
    name: Text | None = None
    labels: Metadata | None = None
    timing: str | None = None
    billing_anchor: datetime | None = None
    settlement_mode: SettlementMode | None = None


class SubscriptionCancelV3(Struct, kw_only=True, forbid_unknown_fields=True):
    """When a subscription is to end; now, if that is not said."""

    timing: str | None = None


class SubscriptionChangeV3(Struct, kw_only=True, forbid_unknown_fields=True):
    """The plan that follows, and from when on."""

    timing: str
    plan: PlanReferenceV3
    name: Text | None = None
    labels: Metadata | None = None
    billing_anchor: datetime | None = None
    settlement_mode: SettlementMode | None = None
