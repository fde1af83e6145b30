"""Prices, as v1 and as v3 write them."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import UNSET

from tollway.api.answers.shared import Answer, Optional
from tollway.openmeter.shapes import Amount


class _Price(Answer, frozen=True, tag_field="type"):
    pass


class FlatPrice(_Price, frozen=True, tag="flat"):
    """An amount once per billing period, whatever is used."""

    amount: Amount
    payment_term: Optional[Literal["in_advance", "in_arrears"] | None] = UNSET


class _UsagePrice(_Price, frozen=True):
    minimum_amount: Optional[Amount | None] = UNSET
    maximum_amount: Optional[Amount | None] = UNSET


class UnitPrice(_UsagePrice, frozen=True, kw_only=True, tag="unit"):
    """Each unit costs the same."""

    amount: Amount


class TierAmount(Answer, frozen=True):
    """A price within a tier: of each unit, or once."""

    type: Literal["flat", "unit"]
    amount: Amount


class Tier(Answer, frozen=True):
    """Units above the tier below, up to and including an amount; the last one has no end."""

    up_to_amount: Optional[Amount | None] = UNSET
    unit_price: Optional[TierAmount | None] = UNSET
    flat_price: Optional[TierAmount | None] = UNSET


class TieredPrice(_UsagePrice, frozen=True, kw_only=True, tag="tiered"):
    """Graduated: each unit costs what its tier says; volume: all cost what the last tier that was reached says."""

    mode: Literal["graduated", "volume"]
    tiers: list[Tier]


class PackagePrice(_UsagePrice, frozen=True, kw_only=True, tag="package"):
    """An amount for each package that was begun."""

    amount: Amount
    quantity_per_package: Amount


class DynamicPrice(_UsagePrice, frozen=True, tag="dynamic"):
    """What is used is an amount of money already; it is multiplied."""

    multiplier: Optional[Amount] = UNSET


Price: TypeAlias = FlatPrice | UnitPrice | TieredPrice | PackagePrice | DynamicPrice


class FreePrice(_Price, frozen=True, tag="free"):
    """Costs nothing."""


class GraduatedPrice(_Price, frozen=True, tag="graduated"):
    """Each unit costs what the tier it falls in says."""

    tiers: list[Tier]


class VolumePrice(_Price, frozen=True, tag="volume"):
    """All units cost what the last tier that was reached says."""

    tiers: list[Tier]


PriceV3: TypeAlias = FreePrice | FlatPrice | UnitPrice | GraduatedPrice | VolumePrice | PackagePrice | DynamicPrice
