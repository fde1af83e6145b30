"""
A plan as it is sent, and as it is rated: one into the other, and back.

What cannot be charged is refused rather than ignored: a fee that is due only once, for one.
"""

from __future__ import annotations

from typing import Literal

from msgspec.structs import asdict, replace

from rating.catalog import Phase, PlanVersion, RateCard, SettlementMode
from rating.entitlements import MeteredEntitlement
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
from tollway.control import PlanDraft, notes, within
from tollway.control.plans import check_terms
from tollway.openmeter.entitlements import entitlement_from_v1, entitlement_to_v1
from tollway.openmeter.features import find_feature
from tollway.openmeter.problems import Problem, bad_request
from tollway.openmeter.shapes import Body
from tollway.openmeter.stores import ApiStores
from tollway.openmeter.wire import Json, Metadata, Text

CardType = Literal["flat_fee", "usage_based"]


class ProRatingConfig(Body):
    """Whether a fee is shortened to the part of the period that it is for."""

    enabled: bool = True
    mode: Literal["prorate_prices"] = "prorate_prices"


class AlignmentCreate(Body):
    """Whether all that is billed of a subscription has one period. It has."""

    billables_must_align: bool = True


class TaggedReference(Body):
    """A feature, by its id or its key."""

    id: str | None = None
    key: str | None = None


class CommitmentsCreate(Body):
    """What a rate card comes to at least and at most in a billing period."""

    minimum_amount: str | None = None
    maximum_amount: str | None = None


class RateCardCreate(Body):
    """The price of a feature, or a fee."""

    key: str
    name: Text
    type: CardType | None = None
    price: Json | None = None
    commitments: CommitmentsCreate | None = None
    payment_term: Literal["in_advance", "in_arrears"] | None = None
    feature: TaggedReference | None = None
    feature_key: str | None = None
    billing_cadence: str | None = ""
    """Null: it is due once; left out: that of the plan."""
    description: Text | None = None
    labels: Metadata | None = None
    discounts: Json | None = None
    unit_config: Json | None = None
    entitlement: Json | None = None
    entitlement_template: Json | None = None
    tax_config: Json | None = None


class PhaseCreate(Body):
    """A stretch of a plan; only the last has no duration."""

    key: str
    name: Text
    rate_cards: list[RateCardCreate]
    description: Text | None = None
    labels: Metadata | None = None
    duration: str | None = None


class PlanBody(Body):
    """What of a draft may change."""

    name: Text
    billing_cadence: str
    phases: list[PhaseCreate]
    description: Text | None = None
    labels: Metadata | None = None
    alignment: AlignmentCreate | None = None
    pro_rating_config: ProRatingConfig | None = None
    settlement_mode: SettlementMode = SettlementMode.CREDIT_THEN_INVOICE


class PlanCreate(PlanBody, kw_only=True):
    """A plan."""

    key: str
    currency: str
    pro_rating_enabled: bool | None = None


def settled(stores: ApiStores, body: PlanCreate) -> PlanCreate:
    """A plan in the form in which it is kept: what has several spellings has v1's. Raises `Problem`."""
    enabled = body.pro_rating_enabled
    prorating = ProRatingConfig(enabled=enabled) if body.pro_rating_config is None and enabled is not None else None
    return replace(
        body,
        pro_rating_config=body.pro_rating_config or prorating,
        pro_rating_enabled=None,
        phases=[
            replace(
                phase,
                rate_cards=[
                    _settled_card(stores, card, f"phases[{index}].rate_cards[{position}]")
                    for position, card in enumerate(phase.rate_cards)
                ],
            )
            for index, phase in enumerate(body.phases)
        ],
    )


def _settled_card(stores: ApiStores, card: RateCardCreate, path: str) -> RateCardCreate:
    price = None if card.price is None or card.price.get("type") == "free" else dict(card.price)
    is_flat = price is None or price.get("type") == "flat"
    if price is not None:
        limits = card.commitments or CommitmentsCreate()
        price |= {name: limit for name, limit in asdict(limits).items() if limit is not None}
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
    return replace(
        card,
        type=card.type or ("flat_fee" if is_fee else "usage_based"),
        price=price,
        commitments=None,
        payment_term=None,
        feature=None,
        feature_key=feature_key,
        entitlement=None,
        entitlement_template=card.entitlement or card.entitlement_template,
    )


def compiled(body: PlanCreate) -> PlanDraft:
    """A plan as the control plane publishes it. Raises `Problem`, `PriceError`, `CadenceError` or `ControlError`."""
    draft = PlanDraft(
        key=body.key,
        cadence=body.billing_cadence,
        phases=tuple(
            Phase(
                key=phase.key,
                name=phase.name,
                duration=phase.duration,
                rate_cards=tuple(
                    compiled_card(card, body, f"phases[{index}].rate_cards[{position}]")
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
    check_terms(draft)
    _check_notes(body)
    return draft


def _check_notes(body: PlanCreate) -> None:
    """That not too much was written on a plan, its phases and its rate cards."""
    _check_noted(body)
    for index, phase in enumerate(body.phases):
        with within(f"phases[{index}]"):
            _check_noted(phase)
            for position, card in enumerate(phase.rate_cards):
                with within(f"rate_cards[{position}]"):
                    _check_noted(card)


def _check_noted(part: PlanCreate | PhaseCreate | RateCardCreate) -> None:
    notes.check({"description": part.description, "metadata": part.labels})


def compiled_card(card: RateCardCreate, plan: PlanCreate, path: str) -> RateCard:
    """A rate card as it is rated. Raises as `compiled`."""
    price = price_from_v1(card.price, f"$.{path}.price")
    if card.type == "flat_fee" and not isinstance(price, Flat | Free):
        raise bad_request(f"{path}.price", "expected a flat price, since the rate card is a flat fee")
    once = card.billing_cadence is None and not isinstance(price, Free)
    if once and card.type != "flat_fee":
        raise bad_request(
            f"{path}.billing_cadence", "expected how often it is due, as in P1M, got null, as only a flat fee may have"
        )
    cadence = card.billing_cadence or None
    if cadence is not None:
        Cadence.parse(cadence)
    entitlement = entitlement_from_v1(
        card.entitlement_template, cadence or plan.billing_cadence, f"$.{path}.entitlement_template"
    )
    if entitlement is not None and card.feature_key is None:
        raise bad_request(f"{path}.feature_key", "expected a feature, since the rate card has an entitlement of it")
    if once and isinstance(entitlement, MeteredEntitlement):
        raise bad_request(
            f"{path}.billing_cadence", "expected how often the entitlement is renewed, as in P1M, got null"
        )
    return RateCard(
        key=card.key,
        name=card.name,
        feature_key=card.feature_key,
        cadence=cadence,
        once=once,
        pricing=Pricing(
            price=price,
            currency=plan.currency,
            conversion=conversion_from_v1(card.unit_config, f"$.{path}.unit_config"),
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
        billing_cadence=None if card.once else card.cadence or plan.cadence,
        entitlement_template=entitlement_to_v1(card.entitlement),
        price=price_to_v1(card.pricing.price),
        discounts=discounts_to_v1(card.pricing.discounts),
        unit_config=conversion_to_v1(card.pricing.conversion),
    )
