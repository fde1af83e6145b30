"""Customers."""

from __future__ import annotations

from datetime import datetime

from msgspec import UNSET

from tollway.api.answers.shared import Amount, Answer, Optional
from tollway.api.wire import Json, Metadata


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
