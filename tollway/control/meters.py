"""Meters: what is counted. Once made, a meter counts the same for good; only how it is described may change."""

from __future__ import annotations

from config.limits import DESCRIPTION_LENGTH, METER_DIMENSIONS, PATH_LENGTH, PATH_STEPS
from rating.catalog import MeterSet
from rating.events import ATTRIBUTE_LENGTH_MAX
from rating.meters import Meter, path_steps
from tollway.control.checks import check_count, check_described, check_length, check_text
from tollway.control.errors import ControlCode, ControlError
from tollway.control.transaction import Transaction

_IMMUTABLE = ("event_type", "aggregation", "value_property", "group_by")


def put_meter(changes: Transaction, meter: Meter) -> Meter:
    """Make a meter, or change its name and description. What it counts never changes."""
    check_text(meter.event_type, "event_type", ATTRIBUTE_LENGTH_MAX)
    known = changes.find_meter(meter.key)
    if known == meter:
        return known
    check_described(meter.name, "name")
    check_described(meter.description, "description", DESCRIPTION_LENGTH)
    if known is not None:
        for field in _IMMUTABLE:
            if getattr(known, field) != getattr(meter, field):
                what = f"expected what meter `{meter.key}` has, since a meter's {field} can't change"
                hint = "make a new meter, and a feature that uses it"
                raise ControlError(ControlCode.IMMUTABLE, what, field, hint)
    else:
        _check_paths(meter)
    changes.record(MeterSet(meter))
    return meter


def _check_paths(meter: Meter) -> None:
    check_count(len(meter.group_by), "group_by", METER_DIMENSIONS)
    paths = {f"group_by.{dimension}": path for dimension, path in meter.group_by.items()}
    if meter.value_property is not None:
        paths["value_property"] = meter.value_property
    for field, path in paths.items():
        check_length(path, field, PATH_LENGTH)
        check_count(path_steps(path), field, PATH_STEPS)
