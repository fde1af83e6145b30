"""
Plans in v3's form: read into v1's, in which drafts are kept, and shown from it.

In v3, free is a type of price, commitments are beside the price, and a feature is referred to by an object.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from rating.catalog import SettlementMode
from tollway.api.plan_bodies import PhaseCreate, PlanCreate, ProRatingConfig, RateCardCreate, StoredPlan, body_v1
from tollway.api.problems import Problem, bad_request
from tollway.api.stores import ApiStores
from tollway.api.wire import Json, Metadata, Text, camel, compact, labelled, snake
from tollway.openmeter.features import find_feature


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
                feature_key = find_feature(stores, card.feature.id).key
            except Problem as problem:
                raise bad_request(f"{path}.feature.id", problem.detail, "not_found") from problem
    is_fee = is_flat and (feature_key is None or card.billing_cadence is None)
    return RateCardCreate(
        type=card.type or ("flat_fee" if is_fee else "usage_based"),
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
