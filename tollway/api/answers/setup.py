"""Meters, features and customers."""

from __future__ import annotations

from datetime import datetime

from msgspec import UNSET

from rating.meters import Aggregation
from tollway.api.answers.shared import Amount, Answer, Optional
from tollway.api.wire import Json, Metadata


class Meter(Answer, frozen=True):
    """What is read from the events of one type, and how it adds up."""

    id: str
    slug: str
    name: str
    event_type: str
    aggregation: Aggregation
    group_by: dict[str, str]
    created_at: datetime
    updated_at: datetime
    description: Optional[str] = UNSET
    value_property: Optional[str] = UNSET
    metadata: Optional[Metadata] = UNSET


class MeterV3(Answer, frozen=True):
    """What is read from the events of one type, and how it adds up."""

    id: str
    key: str
    slug: str
    name: str
    event_type: str
    aggregation: Aggregation
    dimensions: dict[str, str]
    group_by: dict[str, str]
    created_at: datetime
    updated_at: datetime
    description: Optional[str] = UNSET
    value_property: Optional[str] = UNSET
    labels: Optional[Metadata] = UNSET


class Feature(Answer, frozen=True):
    """What is sold, as all usage of a meter or a part of it."""

    id: str
    key: str
    name: str
    created_at: datetime
    updated_at: datetime
    meter_slug: Optional[str] = UNSET
    meter_group_by_filters: Optional[dict[str, str]] = UNSET
    advanced_meter_group_by_filters: Optional[dict[str, Json]] = UNSET
    others: Optional[bool] = UNSET
    metadata: Optional[Metadata] = UNSET


class FeatureMeter(Answer, frozen=True):
    """The meter of a feature, and which of its usage counts."""

    key: str
    filters: Optional[dict[str, Json]] = UNSET


class FeatureV3(Answer, frozen=True):
    """What is sold, as all usage of a meter or a part of it."""

    id: str
    key: str
    name: str
    created_at: datetime
    updated_at: datetime
    meter: Optional[FeatureMeter] = UNSET
    meter_slug: Optional[str] = UNSET
    meter_group_by_filters: Optional[dict[str, str]] = UNSET
    others: Optional[bool] = UNSET
    labels: Optional[Metadata] = UNSET


class Attribution(Answer, frozen=True):
    """The subjects whose usage is the customer's, besides its key."""

    subject_keys: list[str]


class _Customer(Answer, frozen=True):
    id: str
    key: str
    name: str
    currency: str
    usage_attribution: Attribution
    block_when_exhausted: bool
    low_balance_thresholds: list[Amount]
    created_at: datetime
    updated_at: datetime
    current_subscription_id: Optional[str] = UNSET
    description: Optional[str] = UNSET
    deleted_at: Optional[datetime] = UNSET
    primary_email: Optional[str] = UNSET
    billing_address: Optional[Json] = UNSET


class Customer(_Customer, frozen=True):
    """A customer."""

    metadata: Optional[Metadata] = UNSET


class CustomerV3(_Customer, frozen=True):
    """A customer."""

    labels: Optional[Metadata] = UNSET
