"""
Plans: published as versions that never change.

What is published can be charged: each rate card is in the plan's currency, and prices usage only of a feature
that has a meter. Publishing what the newest version says already makes no version.
"""

from __future__ import annotations

from msgspec.structs import replace

from config.limits import PHASE_RATE_CARDS, PLAN_PHASES, PRICE_TIERS
from rating.catalog import Phase, PlanVersion, RateCard
from rating.prices import Flat, Free, Graduated, Volume
from tollway.control.checks import (
    check_cadence,
    check_count,
    check_currency,
    check_described,
    check_duration,
    check_slug,
    check_unique,
)
from tollway.control.drafts import PlanDraft
from tollway.control.errors import invalid, within
from tollway.control.transaction import Transaction


def publish_plan(changes: Transaction, draft: PlanDraft) -> PlanVersion:
    """Publish a plan as its next version, unless its newest one has the same content already."""
    check_terms(draft)
    _check_features(changes, draft)
    versions = changes.plan_versions(draft.key)
    plan = version_of(draft, versions[-1].version + 1 if versions else 1)
    if versions and replace(versions[-1], version=plan.version) == plan:
        return versions[-1]
    changes.record(plan)
    return plan


def version_of(draft: PlanDraft, number: int) -> PlanVersion:
    """What a plan would be as a version."""
    return PlanVersion(
        key=draft.key,
        version=number,
        currency=draft.currency,
        cadence=draft.cadence,
        phases=draft.phases,
        settlement_mode=draft.settlement_mode,
        prorate=draft.prorate,
        name=draft.name,
    )


def check_terms(draft: PlanDraft) -> None:
    """Check all of a plan but its features, which may come to be later. Raises `ControlError` with the path."""
    check_slug(draft.key, "key")
    check_currency(draft.currency, "currency")
    check_cadence(draft.cadence, "cadence")
    check_described(draft.name, "name")
    if not draft.phases:
        raise invalid("phases", "at least one phase", "none", "add a phase, or rate cards")
    # With durations of at most 100 years, and instants up to `YEAR_MAX`, so many end while there are dates.
    check_count(len(draft.phases), "phases", PLAN_PHASES)
    check_unique([phase.key for phase in draft.phases], "phases", "key")
    for index, phase in enumerate(draft.phases):
        with within(f"phases[{index}]"):
            _check_phase(phase, is_last=index == len(draft.phases) - 1)
            for position, card in enumerate(phase.rate_cards):
                with within(f"rate_cards[{position}]"):
                    _check_rate_card(card, draft.currency)


def _check_phase(phase: Phase, *, is_last: bool) -> None:
    check_slug(phase.key, "key")
    check_described(phase.name, "name")
    if phase.duration is not None:
        check_duration(phase.duration, "duration")
    elif not is_last:
        hint = "only the last phase has no end; write an ISO 8601 duration such as P1M"
        raise invalid("duration", "a duration, since a phase follows", "none", hint)
    check_count(len(phase.rate_cards), "rate_cards", PHASE_RATE_CARDS)
    check_unique([card.key for card in phase.rate_cards], "rate_cards", "key")
    check_unique([card.feature_key for card in phase.rate_cards], "rate_cards", "feature_key")


def _check_rate_card(card: RateCard, currency: str) -> None:
    check_slug(card.key, "key")
    check_described(card.name, "name")
    if isinstance(card.pricing.price, Graduated | Volume):
        check_count(len(card.pricing.price.tiers), "price.tiers", PRICE_TIERS)
    if card.pricing.conversion is not None:
        check_described(card.pricing.conversion.display_unit or "", "unit_config.display_unit")
    if card.cadence is not None:
        check_cadence(card.cadence, "cadence")
    if card.pricing.currency != currency:
        hint = "all rate cards are in the currency of their plan"
        raise invalid("pricing.currency", f"`{currency}`, the plan's", f"`{card.pricing.currency}`", hint)
    if isinstance(card.pricing.price, Flat | Free):
        for field, given in (
            ("unit_config", card.pricing.conversion),
            ("discounts.usage", card.pricing.discounts.usage),
        ):
            if given is not None:
                raise invalid(
                    field, "none, since the price has no units", "one", "remove it, or choose a price by usage"
                )
    elif card.feature_key is None:
        hint = "name the feature whose usage it prices, or make the price flat"
        raise invalid("feature_key", "a feature, since the price is by usage", "none", hint)
    elif card.once:
        hint = "write an ISO 8601 duration such as P1M"
        raise invalid("cadence", "a duration, since the price is by usage", "once", hint)


def _check_features(changes: Transaction, draft: PlanDraft) -> None:
    for index, phase in enumerate(draft.phases):
        for position, card in enumerate(phase.rate_cards):
            if card.feature_key is None:
                continue
            with within(f"phases[{index}]"), within(f"rate_cards[{position}]"):
                feature = changes.feature(card.feature_key, "feature_key")
                if feature.meter_key is None and not isinstance(card.pricing.price, Flat | Free):
                    hint = "give it a meter, under a new key, or make the price flat"
                    expected = "a feature with a meter, since the price is by usage"
                    raise invalid("feature_key", expected, f"`{feature.key}` without one", hint)
