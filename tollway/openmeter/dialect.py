"""
The two dialects of OpenMeter's API, and all that really differs between them.

Structs are written in v3's words. What is not said here is the same in both, but for v1's camelCase. A field is named
by itself, or as `Struct.field` where it is meant of one struct only. A user's own keys are keys of mappings, not fields
of structs: no dialect changes them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal

from litestar.handlers import BaseRouteHandler
from msgspec import Struct

from rating.meters import Aggregation

_WORD: Final = re.compile(r"_([a-z0-9])")


class Dialect(Struct, frozen=True, kw_only=True, eq=False):
    """
    How one version of the API writes what both say.

    Attributes:
        version: `v1` or `v3`.
        prefix: Of its paths.
        suffix: Of the names that the API's description has for derived structs.
        is_camel: Whether names are in camelCase.
        skips_unknown: Whether a field of a body that nobody knows is passed over, and not refused.
        names: What fields are called where that doesn't follow from the case.
        types: What fields hold where that is narrower than in the struct; one that can't be null is required.
        required: Fields that have to be sent, if as null.
        without: Fields that the dialect does not have.
    """

    version: str
    prefix: str
    suffix: str = ""
    is_camel: bool = False
    skips_unknown: bool = False
    names: Mapping[str, str] = {}
    types: Mapping[str, Any] = {}
    required: frozenset[str] = frozenset()
    without: frozenset[str] = frozenset()

    def names_itself(self, struct: str, field: str) -> bool:
        """Whether a field has a name of its own in this dialect."""
        return field in self.names or f"{struct}.{field}" in self.names

    def name_of(self, struct: str, field: str) -> str:
        """What a field of a struct is called."""
        own = self.names.get(f"{struct}.{field}") or self.names.get(field)
        if own is not None:
            return own
        return _WORD.sub(lambda found: found[1].upper(), field) if self.is_camel else field


V1: Final = Dialect(
    version="v1",
    prefix="/api/v1",
    suffix="V1",
    is_camel=True,
    skips_unknown=True,
    names={
        "labels": "metadata",
        "dimensions": "groupBy",
        "Meter.key": "slug",
        "MeterCreate.key": "slug",
        # It is v1's in form too: tiered in one type, with commitments in it, and null where it is free.
        "RateCard.price_v1": "price",
        # A configuration is JSON in a string.
        "StaticTemplate.config_v1": "config",
        "MeteredTemplate.limit": "issueAfterReset",
    },
    types={
        # v3 also takes the names of v1, and aggregations in lower case.
        "MeterCreate.key": str,
        "MeterCreate.aggregation": Aggregation,
        "PlanReference.key": str,
        # v3 tells a fee by its price.
        "RateCardCreate.type": Literal["flat_fee", "usage_based"],
    },
    without=frozenset(
        {
            # v1 refers to a meter by its slug alone.
            "FeatureCreate.meter",
            "Feature.meter",
            # v1 names a customer and a plan by fields of their own.
            "SubscriptionCreate.customer",
            "Subscription.customer",
            "SubscriptionExpanded.customer",
            "PlanReference.id",
            # v1 has all of these within the price, by a key, or by another name.
            "PlanCreate.pro_rating_enabled",
            "RateCardCreate.commitments",
            "RateCardCreate.payment_term",
            "RateCardCreate.feature",
            "RateCardCreate.entitlement",
            "RateCard.commitments",
            "RateCard.feature",
        }
    ),
)

V3: Final = Dialect(
    version="v3",
    prefix="/api/v3/openmeter",
    types={
        # v1 makes up a key for a customer that is created without one.
        "CustomerCreate.key": str,
    },
    required=frozenset({"RateCardCreate.price"}),
    without=frozenset(
        {
            # It is in the filters of the feature's meter.
            "Feature.advanced_meter_group_by_filters",
            # Only v1 writes descriptions on subscriptions, and shows their phases.
            "SubscriptionCreate.description",
            "SubscriptionChange.description",
            "SubscriptionExpanded.phases",
            "PlanCreate.alignment",
            "RateCard.price_v1",
            "StaticTemplate.config_v1",
            # Commitments are beside the price.
            *(
                f"{price}.{limit}"
                for price in ("UnitPrice", "PackagePrice", "DynamicPrice")
                for limit in ("minimum_amount", "maximum_amount")
            ),
        }
    ),
)

OPTION: Final = "dialect"
"""Under which a route keeps its dialect."""


def dialect_of(handler: BaseRouteHandler) -> Dialect | None:
    """The dialect of a route; None: the route is ours alone."""
    dialect: Dialect | None = handler.opt.get(OPTION)
    return dialect
