"""
Plans as they are sent and shown, in v1's form and in v3's, and as the control plane has them.

What cannot be charged is refused rather than ignored: a fee that is due only once, for one.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Struct, UnsetType

from rating.catalog import Phase, PlanVersion, RateCard, SettlementMode
from rating.periods import Cadence
from rating.prices import (
    Flat,
    Free,
    Pricing,
    conversion_from_v1,
    conversion_to_v1,
    discounts_from_v1,
    discounts_to_v1,
    price_from_v1,
    price_to_v1,
)
from tollway.api.entitlements import entitlement_from_v1, entitlement_to_v1
from tollway.api.features import find_feature
from tollway.api.problems import Problem, bad_request
from tollway.api.stores import ApiStores
from tollway.api.wire import (
    Json,
    Metadata,
    Text,
    camel,
    compact,
    instant,
    labelled,
    snake,
)
from tollway.control import PlanDraft


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


class TaggedReference(Struct, kw_only=True, forbid_unknown_fields=True):
    """A feature, by its id or its key."""

    id: str | None = None
    key: str | None = None


class CommitmentsV3(Struct, kw_only=True, forbid_unknown_fields=True):
    """What a rate card comes to at least and at most in a billing period."""

    minimum_amount: str | None = None
    maximum_amount: str | None = None


class RateCardCreateV3(Struct, kw_only=True, forbid_unknown_fields=True):
    """The price of a feature, or a fee."""

    key: str
    name: Text
    price: Json | None
    type: Literal["flat_fee", "usage_based"] | None = None
    description: Text | None = None
    labels: Metadata | None = None
    feature: TaggedReference | None = None
    feature_key: str | None = None
    billing_cadence: str | UnsetType | None = UNSET
    payment_term: Literal["in_advance", "in_arrears"] | None = None
    unit_config: Json | None = None
    commitments: CommitmentsV3 | None = None
    discounts: Json | None = None
    entitlement: Json | None = None
    entitlement_template: Json | None = None
    tax_config: Json | None = None


class PhaseCreateV3(Struct, kw_only=True, forbid_unknown_fields=True):
    """A stretch of a plan; only the last has no duration."""

    key: str
    name: Text
    rate_cards: list[RateCardCreateV3]
    description: Text | None = None
    labels: Metadata | None = None
    duration: str | None = None


class PlanCreateV3(Struct, kw_only=True, forbid_unknown_fields=True):
    """A plan."""

    key: str
    name: Text
    currency: str
    billing_cadence: str
    phases: list[PhaseCreateV3]
    description: Text | None = None
    labels: Metadata | None = None
    pro_rating_enabled: bool | None = None
    pro_rating_config: Json | None = None
    settlement_mode: SettlementMode = SettlementMode.CREDIT_THEN_INVOICE


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


# -- from a body to a plan that can be rated ----------------------------------------------------


def compiled(body: PlanCreate) -> PlanDraft:
    """A plan as the control plane publishes it. Raises `Problem`, `PriceError` or `CadenceError`."""
    return PlanDraft(
        key=body.key,
        cadence=body.billing_cadence,
        phases=tuple(
            Phase(
                key=phase.key,
                name=phase.name,
                duration=phase.duration,
                rate_cards=tuple(
                    _compiled_card(card, body, f"phases[{index}].rateCards[{position}]")
                    for position, card in enumerate(phase.rate_cards)
                ),
            )
            for index, phase in enumerate(body.phases)
        ),
        currency=body.currency,
        settlement_mode=body.settlement_mode,
        prorate=(body.pro_rating_config or ProRatingConfig()).enabled,
        name=body.name,
    )


def _compiled_card(card: RateCardCreate, plan: PlanCreate, path: str) -> RateCard:
    price = price_from_v1(card.price, f"$.{path}.price")
    if card.type == "flat_fee" and not isinstance(price, Flat | Free):
        raise bad_request(f"{path}.price", "expected a flat price, since the rate card is a flat fee")
    if card.billing_cadence is None and not isinstance(price, Free):
        raise bad_request(
            f"{path}.billingCadence",
            "expected how often it is due, as in P1M, got null: a fee that is due once can't be charged",
        )
    cadence = card.billing_cadence or None
    if cadence is not None:
        Cadence.parse(cadence)
    entitlement = entitlement_from_v1(
        card.entitlement_template, cadence or plan.billing_cadence, f"$.{path}.entitlementTemplate"
    )
    if entitlement is not None and card.feature_key is None:
        raise bad_request(f"{path}.featureKey", "expected a feature, since the rate card has an entitlement of it")
    return RateCard(
        key=card.key,
        name=card.name,
        feature_key=card.feature_key,
        cadence=cadence,
        pricing=Pricing(
            price=price,
            currency=plan.currency,
            conversion=conversion_from_v1(card.unit_config, f"$.{path}.unitConfig"),
            discounts=discounts_from_v1(card.discounts, f"$.{path}.discounts"),
        ),
        entitlement=entitlement,
    )


def as_body(plan: PlanVersion) -> PlanCreate:
    """A published plan in the form that it might have been sent in."""
    return PlanCreate(
        key=plan.key,
        name=plan.name or plan.key,
        currency=plan.currency,
        billing_cadence=plan.cadence,
        settlement_mode=plan.settlement_mode,
        pro_rating_config=ProRatingConfig(enabled=plan.prorate),
        phases=[
            PhaseCreate(
                key=phase.key,
                name=phase.name or phase.key,
                duration=phase.duration,
                rate_cards=[_card_body(card, plan) for card in phase.rate_cards],
            )
            for phase in plan.phases
        ],
    )


def _card_body(card: RateCard, plan: PlanVersion) -> RateCardCreate:
    return RateCardCreate(
        type="flat_fee" if isinstance(card.pricing.price, Flat) else "usage_based",
        key=card.key,
        name=card.name or card.key,
        feature_key=card.feature_key,
        billing_cadence=card.cadence or plan.cadence,
        price=price_to_v1(card.pricing.price),
        discounts=discounts_to_v1(card.pricing.discounts),
        unit_config=conversion_to_v1(card.pricing.conversion),
        entitlement_template=entitlement_to_v1(card.entitlement),
    )


# -- v3's form ----------------------------------------------------------------------------------


def from_v3(stores: ApiStores, body: PlanCreateV3) -> PlanCreate:
    """A plan as v1 sends it."""
    config = body.pro_rating_config
    if config is not None:
        prorating: ProRatingConfig | None = msgspec.convert(camel(config), ProRatingConfig)
    else:
        prorating = None if body.pro_rating_enabled is None else ProRatingConfig(enabled=body.pro_rating_enabled)
    return PlanCreate(
        key=body.key,
        name=body.name,
        description=body.description,
        metadata=body.labels,
        currency=body.currency,
        billing_cadence=body.billing_cadence,
        settlement_mode=body.settlement_mode,
        pro_rating_config=prorating,
        phases=[
            PhaseCreate(
                key=phase.key,
                name=phase.name,
                description=phase.description,
                metadata=phase.labels,
                duration=phase.duration,
                rate_cards=[
                    _card_from_v3(stores, card, f"phases[{index}].rate_cards[{position}]")
                    for position, card in enumerate(phase.rate_cards)
                ],
            )
            for index, phase in enumerate(body.phases)
        ],
    )


def _card_from_v3(stores: ApiStores, card: RateCardCreateV3, path: str) -> RateCardCreate:
    price = None if card.price is None or card.price.get("type") == "free" else dict(card.price)
    is_flat = price is None or price.get("type") == "flat"
    if price is not None:
        price |= compact(msgspec.to_builtins(card.commitments or CommitmentsV3()))
        if card.payment_term is not None:
            if not is_flat:
                raise bad_request(f"{path}.payment_term", "expected none: usage is always paid in arrears")
            price["payment_term"] = card.payment_term
    feature_key = card.feature_key
    if card.feature is not None:
        feature_key = card.feature.key
        if feature_key is None and card.feature.id is not None:
            try:
                feature_key = str(find_feature(stores, card.feature.id)["key"])
            except Problem as problem:
                raise bad_request(f"{path}.feature.id", problem.detail, "not_found") from problem
    return RateCardCreate(
        type=card.type or ("flat_fee" if is_flat and feature_key is None else "usage_based"),
        key=card.key,
        name=card.name,
        description=card.description,
        metadata=card.labels,
        feature_key=feature_key,
        billing_cadence=card.billing_cadence,
        price=price,
        discounts=card.discounts,
        unit_config=card.unit_config,
        entitlement_template=card.entitlement or card.entitlement_template,
        tax_config=card.tax_config,
    )


def price_v3(price: Json | None) -> Json:
    """A price, from v1's form to v3's; commitments are beside it there."""
    if price is None:
        return {"type": "free"}
    written: Json = snake(price)
    if written["type"] == "tiered":
        written["type"] = written.pop("mode")
    return {name: value for name, value in written.items() if name not in ("minimum_amount", "maximum_amount")}


# -- answers ------------------------------------------------------------------------------------


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


def body_v3(plan: StoredPlan) -> Json:
    """A plan as v3 shows it."""
    v1 = body_v1(plan)
    shown: Json = labelled(snake(v1))
    shown["phases"] = [
        labelled(phase) | {"rate_cards": [labelled(card) for card in phase["rate_cards"]]} for phase in shown["phases"]
    ]
    for phase, phase_v1 in zip(shown["phases"], v1["phases"], strict=True):
        for card, card_v1 in zip(phase["rate_cards"], phase_v1["rateCards"], strict=True):
            price = card_v1["price"] or {}
            card["price"] = price_v3(card_v1["price"])
            limits = {"minimum_amount": price.get("minimumAmount"), "maximum_amount": price.get("maximumAmount")}
            if compact(limits):
                card["commitments"] = compact(limits)
            if "feature_key" in card:
                card["feature"] = {"key": card["feature_key"]}
    return compact(shown)


def _without_none(value: Any) -> Any:
    match value:
        case dict():
            return {key: _without_none(item) for key, item in value.items() if item is not None}
        case list():
            return [_without_none(item) for item in value]
    return value
