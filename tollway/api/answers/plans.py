"""Plans."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import UNSET

from rating.catalog import SettlementMode
from tollway.api.answers.prices import Price, PriceV3
from tollway.api.answers.shared import Answer, Optional
from tollway.api.wire import Json, Metadata
from tollway.openmeter.shapes import Amount
from tollway.openmeter.subscription_views import ProRating


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
