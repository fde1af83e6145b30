"""
Entitlements: what a rate card gives of its feature, besides its price.

    metered   so much usage in each billing period, and whether more is refused (a soft limit only tells)
    static    a configuration, handed on as it is
    boolean   the feature itself

The core only counts the usage of metered ones. The gate compares it with the limit.
"""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct


class MeteredEntitlement(Struct, frozen=True, tag="metered"):
    """Usage up to a limit in each billing period."""

    limit: Decimal | None = None
    """In the meter's unit; None: usage is only counted."""
    is_soft: bool = False
    """More may be used."""


class StaticEntitlement(Struct, frozen=True, tag="static"):
    """A configuration."""

    config: str
    """JSON."""


class BooleanEntitlement(Struct, frozen=True, tag="boolean"):
    """The feature may be used."""


Entitlement = MeteredEntitlement | StaticEntitlement | BooleanEntitlement
