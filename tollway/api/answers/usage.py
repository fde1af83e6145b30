"""Events, usage, access, and what is shown to those who run Tollway."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct

from tollway.api.answers.shared import Answer, Number, Optional
from tollway.api.wire import Json
from tollway.openmeter.customers import Attribution
from tollway.openmeter.shapes import Amount, CursorMeta


class Event(Struct, frozen=True, kw_only=True):
    """A CloudEvent 1.0. Source and id say which event it is: the same ones again are charged once."""

    id: Annotated[str, Meta(min_length=1, max_length=1024)]
    source: Annotated[str, Meta(min_length=1, max_length=1024)]
    specversion: Literal["1.0"]
    type: Annotated[str, Meta(min_length=1, max_length=1024)]
    subject: Annotated[str, Meta(min_length=1, max_length=1024)]
    time: Optional[datetime | None] = UNSET
    data: Optional[Json | None] = UNSET


class UsageRow(Answer, frozen=True):
    """What was used in a window."""

    value: Number
    window_start: datetime
    window_end: datetime
    subject: str | None
    group_by: dict[str, str]
    customer_id: Optional[str] = UNSET


class Usage(Answer, frozen=True, rename={"from_": "from"}):
    """What a meter counted."""

    data: list[UsageRow]
    from_: Optional[datetime] = UNSET
    to: Optional[datetime] = UNSET
    window_size: Optional[str] = UNSET


class AccessReason(Answer, frozen=True):
    """Why not."""

    code: Literal["usage_limit_reached", "feature_unavailable", "feature_not_found", "no_credit_available"]
    message: str


class FeatureAccess(Answer, frozen=True):
    """Whether a feature may be used."""

    has_access: bool
    reason: Optional[AccessReason] = UNSET


class SeenCustomer(Answer, frozen=True):
    """A customer as the gate knows it."""

    id: str
    key: str
    name: str
    currency: str
    usage_attribution: Attribution
    created_at: datetime


class CustomerAccess(Answer, frozen=True):
    """What a customer may use, and by which of the names that were asked for it was found."""

    matched: list[str]
    customer: SeenCustomer
    features: dict[str, FeatureAccess]
    updated_at: datetime


class AccessError(Answer, frozen=True):
    """A name that is no customer's."""

    code: str
    message: str
    customer: str


class AccessAnswer(Answer, frozen=True):
    """By customer and feature, whether it may go on."""

    data: list[CustomerAccess]
    errors: list[AccessError]
    meta: CursorMeta


class EntitlementValue(Answer, frozen=True):
    """
    Whether a feature may be used.

    Where the plan meters it: usage, balance and overage in the meter's unit. Where it gives a configuration, that.
    Otherwise the credit that is left, and what is short.
    """

    has_access: bool
    balance: Optional[Number] = UNSET
    overage: Optional[Number] = UNSET
    usage: Optional[Number] = UNSET
    total_available_grant_amount: Optional[Number] = UNSET
    config: Optional[str] = UNSET


class Entitlements(Answer, frozen=True):
    """The same by feature."""

    entitlements: dict[str, EntitlementValue]


class AccountBalance(Answer, frozen=True):
    """What is left, in one currency."""

    currency: str
    live: Amount
    settled: Amount
    pending: Amount
    overage: Amount


class Account(Answer, frozen=True):
    """Balance, access and its reason, of one revision."""

    customer: SeenCustomer
    access: Literal["allowed", "blocked"]
    blocked_features: list[str]
    features: list[str]
    balance: AccountBalance
    revision: int
    retrieved_at: datetime
    reason: Optional[str] = UNSET
    as_of: Optional[datetime] = UNSET
    staleness_seconds: Optional[float] = UNSET


class Health(Answer, frozen=True):
    """The process runs."""

    status: Literal["ok"]


class Readiness(Answer, frozen=True):
    """Which stores answer."""

    status: Literal["ok", "unavailable"]
    checks: dict[str, Literal["ok", "unavailable"]]


class SignalledCustomer(Answer, frozen=True):
    """A customer by its id and key."""

    id: str
    key: str


class Signal(Answer, frozen=True):
    """A change of access, or a threshold that was passed."""

    id: str
    customer: SignalledCustomer
    sequence: int
    kind: str
    live: Amount
    revision: int
    raised_at: datetime
    feature_key: Optional[str] = UNSET
    reason: Optional[str] = UNSET


class ParkedEvent(Answer, frozen=True):
    """An event that waits; or, where it names a meter, what of a rated event does."""

    source: str
    id: str
    reason: str
    message: str
    subject: str
    event_time: datetime
    received_at: datetime
    control_version: int
    parked_at: datetime
    raw: str
    type: Optional[str] = UNSET
    customer_id: Optional[str] = UNSET
    meter: Optional[str] = UNSET
    dimensions: Optional[dict[str, str]] = UNSET
    quantity: Optional[Amount] = UNSET


class ParkedCounts(Answer, frozen=True):
    """How many wait in all, and by reason."""

    total: int
    by_reason: dict[str, int]


class ParkedEvents(Answer, frozen=True):
    """The newest events that wait, and how many there are."""

    data: list[ParkedEvent]
    meta: ParkedCounts


class UnpricedUsage(Answer, frozen=True):
    """Usage of one meter with the same dimensions that no feature prices."""

    meter: str
    dimensions: dict[str, str]
    events: int
    since: datetime
    until: datetime
    customer_count: int
    customers: list[str]
    """The keys of the first of them."""
    quantity: Optional[Amount] = UNSET
    """Where it simply adds up."""


class HasMore(Answer, frozen=True):
    """Whether there are more than were asked for."""

    has_more: bool


class Unpriced(Answer, frozen=True):
    """Usage that no price covers."""

    data: list[UnpricedUsage]
    meta: HasMore


class DeadLetter(Answer, frozen=True):
    """An event that will never be rated, or not for one meter."""

    digest: str
    reason: str
    message: str
    path: str
    recorded_at: datetime
    raw: str
    meter: Optional[str] = UNSET
    """The meter that it has no value for, where the rest of it was rated."""
