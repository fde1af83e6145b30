"""Prices as they are shown: v3 has commitments beside a price, v1 within it."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from rating import prices as core
from rating.prices import Operation, PaymentTerm, Rounding, UnitConversion, conversion_to_v1, price_to_v1
from tollway.openmeter import codec
from tollway.openmeter.shapes import Amount, Tagged, View


class FreePrice(Tagged, frozen=True, tag="free"):
    """Costs nothing."""


class FlatPrice(Tagged, frozen=True, tag="flat"):
    """An amount once per billing period, whatever is used."""

    amount: Amount
    payment_term: PaymentTerm | None = None


class _UsagePrice(Tagged, frozen=True):
    minimum_amount: Amount | None = None
    maximum_amount: Amount | None = None


class UnitPrice(_UsagePrice, frozen=True, kw_only=True, tag="unit"):
    """Each unit costs the same."""

    amount: Amount


class TierAmount(View, frozen=True):
    """A price within a tier: of each unit, or once."""

    type: Literal["flat", "unit"]
    amount: Amount


class Tier(View, frozen=True):
    """Units above the tier below, up to and including an amount; the last one has no end."""

    unit_price: TierAmount | UnsetType | None = UNSET
    flat_price: TierAmount | UnsetType | None = UNSET
    up_to_amount: Amount | None = None


class TieredPrice(_UsagePrice, frozen=True, kw_only=True, tag="tiered"):
    """Graduated: each unit costs what its tier says; volume: all cost what the last tier that was reached says."""

    mode: Literal["graduated", "volume"]
    tiers: list[Tier]


class GraduatedPrice(Tagged, frozen=True, tag="graduated"):
    """Each unit costs what the tier it falls in says."""

    tiers: list[Tier]


class VolumePrice(Tagged, frozen=True, tag="volume"):
    """All units cost what the last tier that was reached says."""

    tiers: list[Tier]


class PackagePrice(_UsagePrice, frozen=True, kw_only=True, tag="package"):
    """An amount for each package that was begun."""

    amount: Amount
    quantity_per_package: Amount


class DynamicPrice(_UsagePrice, frozen=True, kw_only=True, tag="dynamic"):
    """What is used is an amount of money already; it is multiplied."""

    multiplier: Amount | None = None


PriceV1: TypeAlias = FlatPrice | UnitPrice | TieredPrice | PackagePrice | DynamicPrice
PriceV3: TypeAlias = FreePrice | FlatPrice | UnitPrice | GraduatedPrice | VolumePrice | PackagePrice | DynamicPrice


class Commitments(View, frozen=True):
    """What a rate card comes to at least and at most in a billing period."""

    minimum_amount: Amount | None = None
    maximum_amount: Amount | None = None


class UnitConfig(View, frozen=True):
    """From metered units to priced ones, as from bytes to gigabytes."""

    operation: Operation
    conversion_factor: Amount
    rounding: Rounding
    precision: int
    display_unit: str | None = None


def price_v1(price: core.Price) -> PriceV1 | None:
    """A price as v1 has it; what is free has none."""
    written = price_to_v1(price)
    return None if written is None else codec.of_v1(written, PriceV1)


def price_v3(price: core.Price) -> PriceV3:
    """A price as v3 has it."""
    written: dict[str, Any] = price_to_v1(price) or {"type": "free"}
    if written["type"] == "tiered":
        written["type"] = written.pop("mode")
    shown: PriceV3 = codec.of_v1(
        {name: value for name, value in written.items() if name not in ("minimumAmount", "maximumAmount")}, PriceV3
    )
    return shown


def commitments(price: core.Price) -> Commitments | None:
    """What v3 has beside a price; None where it has no limits."""
    limits = msgspec.convert(price_v1(price), Commitments | None, from_attributes=True)
    return None if limits == Commitments() else limits


def unit_config(conversion: UnitConversion | None) -> UnitConfig | None:
    """A conversion as it is shown."""
    written = conversion_to_v1(conversion)
    return None if written is None else codec.of_v1(written, UnitConfig)
