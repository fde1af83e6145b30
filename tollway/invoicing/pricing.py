"""What priced a charge: the rate card, and its pricing for the charge's period."""

from __future__ import annotations

import msgspec

from rating.catalog import Catalog, RateCard, Subscription
from rating.charge import prorated
from rating.prices import Flat, Free, Pricing
from tollway.ledger_reads import Charge


def priced_by(catalog: Catalog, charge: Charge) -> tuple[RateCard, Pricing]:
    """
    The rate card of a charge, and its pricing: a flat price and a minimum are prorated to the service period.

    The card always has a name for people: its own, or that of its feature, or else its key.
    """
    subscription = catalog.subscriptions[charge.customer_id][charge.subscription_id]
    placement = catalog.placement(subscription, charge.card_key, charge.period_start)
    if placement is None:
        # A move that holds from the period's start took the card away: what it was charged is given back.
        card = _last_card(catalog, subscription, charge.card_key)
        return _named(catalog, card), msgspec.structs.replace(card.pricing, price=Free())
    pricing = placement.card.pricing
    service, full = (charge.period_start, charge.period_end), (charge.full_start, charge.full_end)
    if charge.period_end <= charge.period_start:
        # The subscription had ended before: the period never was.
        pricing = msgspec.structs.replace(pricing, price=Free())
    elif placement.plan.prorate and not placement.card.once:
        if not isinstance(pricing.price, Flat):
            # A minimum is that of all parts of a period together.
            service = placement.counted.start, placement.counted.end
        pricing = prorated(pricing, service, full)
    return _named(catalog, placement.card), pricing


def _named(catalog: Catalog, card: RateCard) -> RateCard:
    if card.name:
        return card
    feature = catalog.features.get(card.feature_key or "")
    return msgspec.structs.replace(card, name=(feature.name if feature else "") or card.key)


def _last_card(catalog: Catalog, subscription: Subscription, key: str) -> RateCard:
    """The rate card of a key in the last version of the subscription's plan that has it."""
    cards = (c for plan in catalog.versions_of(subscription) for phase in plan.phases for c in phase.rate_cards)
    return [card for card in cards if card.key == key][-1]
