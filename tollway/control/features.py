"""Features: what is sold. The usage that a feature stands for, a meter and filters on it, never changes."""

from __future__ import annotations

from msgspec.structs import replace

from config.limits import FEATURE_FILTERS, FILTER_TEXT_LENGTH, FILTER_TEXTS
from rating.catalog import FeatureSet
from rating.meters import Feature, MeterError, check_filters
from tollway.control.checks import check_count, check_described, check_length, check_storable
from tollway.control.errors import ControlCode, ControlError, from_meter_error
from tollway.control.transaction import Transaction

_IMMUTABLE = ("meter_key", "filters", "others")


def put_feature(changes: Transaction, feature: Feature) -> Feature:
    """Make a feature, or change its name. The usage it stands for never changes."""
    check_described(feature.name, "name")
    for dimension, texts in feature.filters.items():
        for text in texts:
            check_storable(text, f"filters.{dimension}")
    if feature.meter_key is not None:
        try:
            check_filters(feature, changes.meter(feature.meter_key, "meter_key"))
        except MeterError as error:
            raise from_meter_error(error) from error
    known = changes.find_feature(feature.key)
    if known is not None and _sets(known.filters) == _sets(feature.filters):
        feature = replace(feature, filters=known.filters)
    if known == feature:
        return known
    if known is None:
        _check_filters(feature)
    else:
        for field in _IMMUTABLE:
            if getattr(known, field) != getattr(feature, field):
                named = field.removesuffix("_key")
                what = f"expected what feature `{feature.key}` has, since a feature's {named} can't change"
                hint = "make a new feature, and a plan version with a rate card for it"
                raise ControlError(ControlCode.IMMUTABLE, what, field, hint)
    changes.record(FeatureSet(feature))
    return feature


def _check_filters(feature: Feature) -> None:
    check_count(len(feature.filters), "filters", FEATURE_FILTERS)
    for dimension, texts in feature.filters.items():
        check_count(len(texts), f"filters.{dimension}", FILTER_TEXTS)
        for text in texts:
            check_length(text, f"filters.{dimension}", FILTER_TEXT_LENGTH)


def _sets(filters: dict[str, tuple[str, ...]]) -> dict[str, set[str]]:
    """Filters without the order in which their texts were written."""
    return {dimension: set(texts) for dimension, texts in filters.items()}
