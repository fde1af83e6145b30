"""The meters and features of a catalog file."""

from __future__ import annotations

from rating.meters import Aggregation, Feature, Meter, read_filters
from tollway.catalog_file.fields import as_fields, as_text, take_entries, take_text, take_text_or_none, take_truth
from tollway.catalog_file.places import meter_errors_at


def read_meter(value: object, path: str) -> Meter:
    """A meter. Raises `PriceError`, as all that is read does."""
    fields = as_fields(value, path)
    key = take_text(fields, "key")
    event_type = take_text(fields, "event_type")
    aggregation = Aggregation(fields.choice("aggregation", tuple(Aggregation)))
    value_property = take_text_or_none(fields, "value_property")
    group_by = {name: as_text(text, where) for name, text, where in take_entries(fields, "group_by")}
    name = take_text_or_none(fields, "name") or ""
    description = take_text_or_none(fields, "description") or ""
    fields.end()
    with meter_errors_at(path):
        return Meter(key, event_type, aggregation, value_property, group_by, name, description)


def read_feature(value: object, path: str) -> Feature:
    """A feature, whose filters may name one text or a list of them."""
    fields = as_fields(value, path)
    key = take_text(fields, "key")
    name = take_text_or_none(fields, "name") or ""
    meter = take_text_or_none(fields, "meter")
    filters: dict[str, list[str]] = {}
    for dimension, allowed, where in take_entries(fields, "filters"):
        several = allowed if isinstance(allowed, list) else [allowed]
        filters[dimension] = [
            # An event's true matches the text "true".
            str(text).lower() if isinstance(text, bool) else as_text(text, where)
            for text in several
        ]
    others = take_truth(fields, "others")
    fields.end()
    with meter_errors_at(path):
        return Feature(key, name, meter, read_filters(filters), others)
