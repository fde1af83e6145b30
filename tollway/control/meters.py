"""Meters: what is counted. Once made, a meter counts the same for good; only how it is described may change."""

from __future__ import annotations

from rating.catalog import MeterSet
from rating.events import ATTRIBUTE_LENGTH_MAX
from rating.meters import Meter
from tollway.control.checks import check_storable, check_text
from tollway.control.errors import ControlCode, ControlError
from tollway.control.transaction import Transaction

_IMMUTABLE = ("event_type", "aggregation", "value_property", "group_by")


def put_meter(changes: Transaction, meter: Meter) -> Meter:
    """Make a meter, or change its name and description. What it counts never changes."""
    check_text(meter.event_type, "event_type", ATTRIBUTE_LENGTH_MAX)
    check_storable(meter.name, "name")
    check_storable(meter.description, "description")
    known = changes.find_meter(meter.key)
    if known == meter:
        return known
    if known is not None:
        for field in _IMMUTABLE:
            if getattr(known, field) != getattr(meter, field):
                what = f"expected what meter `{meter.key}` has, since a meter's {field} can't change"
                hint = "make a new meter, and a feature that uses it"
                raise ControlError(ControlCode.IMMUTABLE, what, field, hint)
    changes.record(MeterSet(meter))
    return meter
