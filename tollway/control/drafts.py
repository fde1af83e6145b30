"""
What is asked of the control plane: plans, customers, subscriptions and grants before they are checked.

A draft has no id and no instant of its own making. Where it leaves something to the moment (when a
subscription starts, say), the field is None, so that the same draft sent again means the same thing.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

from rating.catalog import Phase, SettlementMode


class PlanDraft(Struct, frozen=True, kw_only=True):
    """A plan as it is to be published."""

    key: str
    cadence: str
    phases: tuple[Phase, ...]
    currency: str = "USD"
    settlement_mode: SettlementMode = SettlementMode.CREDIT_THEN_INVOICE
    prorate: bool = False
    name: str = ""


class MoveTiming(StrEnum):
    """From when on a subscription is to be on another version of its plan, in words."""

    IMMEDIATE = "immediate"
    THIS_BILLING_CYCLE = "this_billing_cycle"
    """From the start of the billing period that is running, which is rated anew as a whole."""
    NEXT_BILLING_CYCLE = "next_billing_cycle"


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
    version_from: datetime | MoveTiming | None = None
    """Where a subscription to another version of the plan moves, from when on; None: now."""


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
    currency: str | None = "USD"
    """None: that of the first subscription or grant, and until then USD."""
    subjects: tuple[str, ...] = ()
    block_when_exhausted: bool = False
    low_balance_thresholds: tuple[Decimal, ...] = ()
    subscription: SubscriptionDraft | None = None
    grants: tuple[GrantDraft, ...] = ()
    left_as_is: frozenset[str] = frozenset()
    """Fields of which nothing is said: a customer that is there keeps what it has of them."""
