"""Plans as they are sent, kept and shown, in v1's form."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Struct, UnsetType

from rating.catalog import SettlementMode
from rating.prices import price_from_v1, price_to_v1
from tollway.api.wire import Json, Metadata, Text, compact, instant


class ProRatingConfig(Struct, rename="camel", kw_only=True):
    """Whether a fee is shortened to the part of the period that it is for."""

    enabled: bool = True
    mode: Literal["prorate_prices"] = "prorate_prices"


class RateCardCreate(Struct, rename="camel", kw_only=True):
    """The price of a feature, or a fee."""

    type: Literal["flat_fee", "usage_based"]
    key: str
    name: Text
    description: Text | None = None
    metadata: Metadata | None = None
    feature_key: str | None = None
    billing_cadence: str | UnsetType | None = UNSET
    price: Json | None = None
    discounts: Json | None = None
    unit_config: Json | None = None
    entitlement_template: Json | None = None
    tax_config: Json | None = None


class PhaseCreate(Struct, rename="camel", kw_only=True):
    """A stretch of a plan; only the last has no duration."""

    key: str
    name: Text
    description: Text | None = None
    metadata: Metadata | None = None
    duration: str | None = None
    rate_cards: list[RateCardCreate]


class PlanBody(Struct, rename="camel", kw_only=True):
    """What of a draft may change."""

    name: Text
    billing_cadence: str
    phases: list[PhaseCreate]
    description: Text | None = None
    metadata: Metadata | None = None
    alignment: Json | None = None
    pro_rating_config: ProRatingConfig | None = None
    settlement_mode: SettlementMode = SettlementMode.CREDIT_THEN_INVOICE


class PlanCreate(PlanBody, rename="camel", kw_only=True):
    """A plan."""

    key: str
    currency: str


class StoredPlan(NamedTuple):
    """A plan in any state, with what it says."""

    id: str
    version: int
    body: PlanCreate
    created_at: datetime
    updated_at: datetime
    published_at: datetime | None
    is_newest: bool

    @property
    def status(self) -> str:
        """`draft`, `active`, or `archived` once a newer version is out."""
        if self.published_at is None:
            return "draft"
        return "active" if self.is_newest else "archived"


def body_v1(plan: StoredPlan) -> Json:
    """A plan as v1 shows it."""
    shown: Json = _without_none(msgspec.to_builtins(plan.body))
    for phase, given in zip(shown["phases"], plan.body.phases, strict=True):
        phase["duration"] = given.duration
        for card, sent in zip(phase["rateCards"], given.rate_cards, strict=True):
            card["price"] = None if sent.price is None else price_to_v1(price_from_v1(sent.price))
            card["billingCadence"] = (
                plan.body.billing_cadence if sent.billing_cadence is UNSET else sent.billing_cadence
            )
    shown |= {
        "id": plan.id,
        "version": plan.version,
        "status": plan.status,
        "alignment": plan.body.alignment or {"billablesMustAlign": True},
        "proRatingConfig": msgspec.to_builtins(plan.body.pro_rating_config or ProRatingConfig()),
        "createdAt": instant(plan.created_at),
        "updatedAt": instant(plan.updated_at),
        "effectiveFrom": instant(plan.published_at),
        "validationErrors": [],
    }
    return compact(shown)


def _without_none(value: Any) -> Any:
    match value:
        case dict():
            return {key: _without_none(item) for key, item in value.items() if item is not None}
        case list():
            return [_without_none(item) for item in value]
    return value
