"""Plans and subscriptions."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import UNSET

from rating.catalog import SettlementMode
from tollway.api.answers.prices import Price, PriceV3
from tollway.api.answers.shared import Answer, Optional
from tollway.api.wire import Json, Metadata
from tollway.openmeter.shapes import Amount, Reference


class _RateCard(Answer, frozen=True):
    type: Literal["flat_fee", "usage_based"]
    key: str
    name: str
    billing_cadence: Optional[str | None] = UNSET
    description: Optional[str] = UNSET
    feature_key: Optional[str] = UNSET
    discounts: Optional[Json] = UNSET
    unit_config: Optional[Json] = UNSET
    entitlement_template: Optional[Json] = UNSET
    tax_config: Optional[Json] = UNSET


class RateCard(_RateCard, frozen=True, kw_only=True):
    """The price of a feature, or a fee; null is free."""

    price: Price | None
    metadata: Optional[Metadata] = UNSET


class Commitments(Answer, frozen=True):
    """What a rate card comes to at least and at most in a billing period."""

    minimum_amount: Optional[Amount] = UNSET
    maximum_amount: Optional[Amount] = UNSET


class FeatureKey(Answer, frozen=True):
    """A feature by its key."""

    key: str


class RateCardV3(_RateCard, frozen=True, kw_only=True):
    """The price of a feature, or a fee."""

    price: PriceV3
    commitments: Optional[Commitments] = UNSET
    feature: Optional[FeatureKey] = UNSET
    labels: Optional[Metadata] = UNSET


class Phase(Answer, frozen=True):
    """A stretch of a plan; only the last has no duration."""

    key: str
    name: str
    duration: str | None
    rate_cards: list[RateCard]
    description: Optional[str] = UNSET
    metadata: Optional[Metadata] = UNSET


class PhaseV3(Answer, frozen=True):
    """A stretch of a plan; only the last has no duration."""

    key: str
    name: str
    rate_cards: list[RateCardV3]
    duration: Optional[str | None] = UNSET
    description: Optional[str] = UNSET
    labels: Optional[Metadata] = UNSET


class ProRating(Answer, frozen=True):
    """Whether a fee is shortened to the part of the period that it is for."""

    enabled: bool
    mode: Literal["prorate_prices"]


class _Plan(Answer, frozen=True):
    id: str
    key: str
    version: int
    status: Literal["draft", "active", "archived"]
    name: str
    currency: str
    billing_cadence: str
    settlement_mode: SettlementMode
    pro_rating_config: ProRating
    alignment: Json
    validation_errors: list[Json]
    created_at: datetime
    updated_at: datetime
    effective_from: Optional[datetime] = UNSET
    description: Optional[str] = UNSET


class Plan(_Plan, frozen=True, kw_only=True):
    """A draft of a plan, or a version of it that was published and stays."""

    phases: list[Phase]
    metadata: Optional[Metadata] = UNSET


class PlanV3(_Plan, frozen=True, kw_only=True):
    """A draft of a plan, or a version of it that was published and stays."""

    phases: list[PhaseV3]
    labels: Optional[Metadata] = UNSET


class PlanVersionReference(Answer, frozen=True):
    """A version of a plan."""

    id: str
    key: str
    version: int


class Alignment(Answer, frozen=True):
    """Whether all that is billed of a subscription has one period. It has."""

    billables_must_align: bool


class _Subscription(Answer, frozen=True):
    id: str
    name: str
    status: Literal["scheduled", "active", "canceled", "inactive"]
    customer_id: str
    plan: PlanVersionReference
    currency: str
    active_from: datetime
    billing_anchor: datetime
    billing_cadence: str
    pro_rating_config: ProRating
    settlement_mode: SettlementMode
    alignment: Alignment
    created_at: datetime
    updated_at: datetime
    active_to: Optional[datetime] = UNSET
    description: Optional[str] = UNSET


class Subscription(_Subscription, frozen=True):
    """A customer on a version of a plan."""

    metadata: Optional[Metadata] = UNSET


class SubscriptionPhase(Answer, frozen=True):
    """A phase of the plan, with the instants at which it starts and ends."""

    id: str
    key: str
    name: str
    active_from: datetime
    items: list[Json]
    item_timelines: Json
    created_at: datetime
    updated_at: datetime
    active_to: Optional[datetime] = UNSET


class SubscriptionExpanded(Subscription, frozen=True, kw_only=True):
    """A customer on a version of a plan, with its phases."""

    phases: list[SubscriptionPhase]


class SubscriptionV3(_Subscription, frozen=True, kw_only=True):
    """A customer on a version of a plan."""

    customer: Reference
    labels: Optional[Metadata] = UNSET


class SubscriptionMove(Answer, frozen=True):
    """From `at` on the subscription is on a version of its plan, up to the next move."""

    version: int
    at: datetime
    recorded_at: datetime


class SubscriptionMoved(SubscriptionV3, frozen=True, kw_only=True):
    """A customer on a version of a plan, with all moves to other versions, made or planned."""

    moves: list[SubscriptionMove]
    warning: Optional[str] = UNSET
    """Usage of what is new with the version waits from before it holds; with the command that rates it."""


class SubscriptionChanged(Answer, frozen=True):
    """The subscription that ends, and the one that follows."""

    current: Subscription
    next: SubscriptionExpanded


class SubscriptionChangedV3(Answer, frozen=True):
    """The subscription that ends, and the one that follows."""

    current: SubscriptionV3
    next: SubscriptionV3
