"""
A plan as it is sent, and as it is rated: one into the other, and back.

What cannot be charged is refused rather than ignored: a fee that is due only once, for one.
"""

from __future__ import annotations

from rating.catalog import Phase, PlanVersion, RateCard
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
from tollway.api import notes
from tollway.api.entitlements import entitlement_from_v1, entitlement_to_v1
from tollway.api.plan_bodies import PhaseCreate, PlanCreate, ProRatingConfig, RateCardCreate
from tollway.api.problems import bad_request
from tollway.control import PlanDraft, within
from tollway.control.plans import check_terms


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
    check_terms(draft)
    _check_notes(body)
    return draft


def _check_notes(body: PlanCreate) -> None:
    """That not too much was written on a plan, its phases and its rate cards."""
    notes.check({"description": body.description, "metadata": body.metadata})
    for index, phase in enumerate(body.phases):
        with within(f"phases[{index}]"):
            notes.check({"description": phase.description, "metadata": phase.metadata})
            for position, card in enumerate(phase.rate_cards):
                with within(f"rateCards[{position}]"):
                    notes.check({"description": card.description, "metadata": card.metadata})


def _compiled_card(card: RateCardCreate, plan: PlanCreate, path: str) -> RateCard:
    price = price_from_v1(card.price, f"$.{path}.price")
    if card.type == "flat_fee" and not isinstance(price, Flat | Free):
        raise bad_request(f"{path}.price", "expected a flat price, since the rate card is a flat fee")
    once = card.billing_cadence is None and not isinstance(price, Free)
    if once and card.type != "flat_fee":
        raise bad_request(
            f"{path}.billingCadence", "expected how often it is due, as in P1M, got null, as only a flat fee may have"
        )
    cadence = card.billing_cadence or None
    if cadence is not None:
        Cadence.parse(cadence)
    entitlement = entitlement_from_v1(
        card.entitlement_template, cadence or plan.billing_cadence, f"$.{path}.entitlementTemplate"
    )
    if entitlement is not None and card.feature_key is None:
        raise bad_request(f"{path}.featureKey", "expected a feature, since the rate card has an entitlement of it")
    if once and isinstance(entitlement, MeteredEntitlement):
        raise bad_request(
            f"{path}.billingCadence", "expected how often the entitlement is renewed, as in P1M, got null"
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
        billing_cadence=None if card.once else card.cadence or plan.cadence,
        price=price_to_v1(card.pricing.price),
        discounts=discounts_to_v1(card.pricing.discounts),
        unit_config=conversion_to_v1(card.pricing.conversion),
        entitlement_template=entitlement_to_v1(card.entitlement),
    )
