"""
Moves: a subscription goes over to another version of its plan, within a billing period too.

The subscription stays the same, and with it its anchor, its periods, its phase and what was used of tiers and free
units. A price by usage that stays the same goes on as if there had been no move. One that changes cuts its period in
two: usage before the move keeps the old price, usage from it on has the new one, at the tier and with the free units
that the period has reached. A move whose instant is taken back cuts it, too, for a price that was new with it: what
waited before is a part of its own, and what was counted from there on goes on from it. A fee belongs to the period that
it is due for, so it goes by the version that is in force where that begins. A move that holds from the start of a
period gives all of it the new version's prices.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from rating.prices import Flat

if TYPE_CHECKING:
    from rating.catalog import PlanVersion, RateCard


class CardPart(NamedTuple):
    """The part of a billing period in which one version of the plan is in force, and its rate card, if it has it."""

    start: datetime
    end: datetime
    plan: PlanVersion | None
    card: RateCard | None
    begins: bool = False
    """Whether usage of the card was first counted from here on, and from an earlier part only since."""


class PriceStretch(NamedTuple):
    """The part of a billing period in which a rate card has one price."""

    start: datetime
    end: datetime
    plan: PlanVersion
    card: RateCard
    counted_from: datetime
    """Where the period has the card first: from here on its usage counts for tiers."""
    counted_to: datetime
    """Where the period has it last."""


def stretch_at(parts: Sequence[CardPart], at: datetime) -> PriceStretch | None:
    """The stretch of one price that an instant falls in; None where no version in force then has the card."""
    place = next(place for place, part in enumerate(parts) if at < part.end)
    if parts[place].card is None:
        return None
    first = last = place
    while first > 0 and _goes_on(parts[first - 1], parts[first]):
        first -= 1
    while last + 1 < len(parts) and _goes_on(parts[last], parts[last + 1]):
        last += 1
    plan, card = parts[first].plan, parts[first].card
    assert plan is not None
    assert card is not None
    carrying = [part for part in parts if part.card is not None]
    return PriceStretch(parts[first].start, parts[last].end, plan, card, carrying[0].start, carrying[-1].end)


def _goes_on(before: CardPart, after: CardPart) -> bool:
    """Whether a price goes on from one version to the next: it is the same, or a fee, which is due until it ends."""
    if before.card is None or after.card is None or after.begins:
        return False
    return before.card.pricing == after.card.pricing or (is_fee(before.card) and is_fee(after.card))


def is_fee(card: RateCard) -> bool:
    """Whether the card's price is due without any usage, once for each period."""
    return isinstance(card.pricing.price, Flat)
