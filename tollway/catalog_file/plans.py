"""
The plans of a catalog file: prices as the API's v1 has them, in a file's spelling.

A plan of one phase may leave the phase out, and have rate cards of its own. A tier's price is one number in a
file, where v1 has an object.
"""

from __future__ import annotations

from typing import Final

from rating.catalog import Phase, RateCard, SettlementMode
from rating.fields import PriceError, unexpected
from rating.prices import Pricing, conversion_from_v1, discounts_from_v1, price_from_v1
from tollway.catalog_file.fields import (
    as_fields,
    as_list,
    take_mode,
    take_text,
    take_text_or_none,
    take_truth,
    with_integer,
)
from tollway.control import PlanDraft

DEFAULT_PHASE_KEY: Final = "default"
ONCE: Final = "once"
"""The cadence of a fee that is due once."""
"""The key of the one phase of a plan that has rate cards of its own."""

_TIER_PRICES: Final = ("unit_price", "flat_price", "unitPrice", "flatPrice")


def read_plan(value: object, path: str, bare_plans: set[str]) -> PlanDraft:
    """A plan. The path of one that has rate cards in place of phases is added to `bare_plans`."""
    fields = as_fields(value, path)
    key = take_text(fields, "key")
    name = take_text_or_none(fields, "name") or ""
    currency = take_text_or_none(fields, "currency") or "USD"
    cadence = take_text(fields, "cadence")
    mode = take_mode(fields) or SettlementMode.CREDIT_THEN_INVOICE
    prorate = take_truth(fields, "prorate")
    cards, cards_path = fields.take("rate_cards")
    phases_value, phases_path = fields.take("phases")
    fields.end()
    if cards is not None and phases_value is not None:
        hint = "put the rate cards into a phase, or leave the phases out"
        raise PriceError("expected one of `rate_cards` and `phases`, got both", path, hint)
    if phases_value is None:
        bare_plans.add(path)
        phases: tuple[Phase, ...] = (Phase(DEFAULT_PHASE_KEY, _rate_cards(cards, cards_path, currency)),)
    else:
        phases = tuple(
            _phase(item, f"{phases_path}[{index}]", currency)
            for index, item in enumerate(as_list(phases_value, phases_path))
        )
    return PlanDraft(
        key=key,
        name=name,
        currency=currency,
        cadence=cadence,
        phases=phases,
        settlement_mode=mode,
        prorate=prorate,
    )


def _phase(value: object, path: str, currency: str) -> Phase:
    fields = as_fields(value, path)
    key = take_text(fields, "key")
    name = take_text_or_none(fields, "name") or ""
    duration = take_text_or_none(fields, "duration")
    cards, cards_path = fields.take("rate_cards")
    fields.end()
    return Phase(key, _rate_cards(cards, cards_path, currency), duration, name)


def _rate_cards(value: object, path: str, currency: str) -> tuple[RateCard, ...]:
    items = as_list(value, path)
    return tuple(_rate_card(item, f"{path}[{index}]", currency) for index, item in enumerate(items))


def _rate_card(value: object, path: str, currency: str) -> RateCard:
    fields = as_fields(value, path)
    feature = take_text_or_none(fields, "feature")
    key = take_text_or_none(fields, "key") or feature
    name = take_text_or_none(fields, "name") or ""
    cadence = take_text_or_none(fields, "cadence")
    once = cadence == ONCE
    price_value, price_path = fields.take("price")
    discounts_value, discounts_path = fields.take("discounts")
    conversion_value, conversion_path = fields.take("unit_config")
    fields.end()
    if key is None:
        hint = "name the feature it prices, or give a fee of the plan itself a key"
        raise PriceError("expected a `feature` or a `key`, got neither", path, hint)
    if price_value is None:
        raise unexpected(price_path, "a price", None, "write {type: free} if it costs nothing")
    price = price_from_v1(_with_tier_prices(price_value), price_path)
    discounts = discounts_from_v1(discounts_value, discounts_path)
    conversion = conversion_from_v1(with_integer(conversion_value, "precision"), conversion_path)
    pricing = Pricing(price, currency, conversion, discounts)
    return RateCard(key, feature, pricing, name, None if once else cadence, once=once)


def _with_tier_prices(value: object) -> object:
    """The price with the parts of its tiers as the core reads them: `unit_price: 0.01` is an object there."""
    if not isinstance(value, dict) or not isinstance(tiers := value.get("tiers"), list):
        return value
    return value | {
        "tiers": [
            {
                name: {"amount": part} if name in _TIER_PRICES and isinstance(part, str) else part
                for name, part in tier.items()
            }
            if isinstance(tier, dict)
            else tier
            for tier in tiers
        ]
    }
